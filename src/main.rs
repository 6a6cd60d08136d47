//! mtad: a durable, thread-per-core mail relay.
//!
//! This crate is the only one that knows that there are several cores. It reads the arguments and the
//! configuration, looks at the machine, and starts the shards; all that a shard does is in `shards/`.
#![allow(clippy::disallowed_methods, reason = "these rules are for what runs on a shard")]

mod arguments;
mod check;
mod configuration;
mod cores;
mod demo;
mod doctor;
mod log;
mod metrics;
mod relay;
mod signals;
mod users;

use arguments::{Arguments, Command, Run};
use clap::Parser;
use configuration::{Finding, Settings};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments { command, run } = Arguments::parse();
    let done = match command {
        None => run_relay(&run),
        Some(Command::Check { file }) => explain(&file),
        Some(Command::Doctor { config }) => examine(config.as_deref()),
        Some(Command::User { command }) => look_after_users(command),
        Some(Command::Demo(arguments)) => demo::run(arguments).map_err(Failure::Running),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Why the program ends early.
enum Failure {
    /// What was done failed, for this reason.
    Running(String),
    /// It did what it should, and the answer is no.
    Negative,
    /// The configuration is wrong, which has been told.
    Configuration,
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Failure::Running(reason) => {
                say(io::stderr(), &format!("mtad: {reason}\n"));
                ExitCode::from(1)
            }
            Failure::Negative => ExitCode::from(1),
            Failure::Configuration => ExitCode::from(2),
        }
    }
}

fn run_relay(run: &Run) -> Result<(), Failure> {
    // Before any thread starts, for the threads inherit the mask.
    let signals = signals::Signals::block().map_err(|error| Failure::Running(format!("signals: {error}")))?;
    let (settings, warnings) = load(run.config.as_deref())?;
    let (users, user_warnings) = open_users(&settings)?;
    let log = log::Settings {
        format: run.log.unwrap_or(settings.log.format),
        level: run.log_level.unwrap_or(settings.log.level),
    };
    let _flushed_at_the_end = log::start(log).map_err(Failure::Running)?;
    for warning in warnings.iter().chain(&user_warnings) {
        tracing::warn!("{warning}");
    }
    doctor::raise_open_files();
    doctor::needs(&settings.relay).map_err(|reasons| Failure::Running(reasons.join("\nmtad: ")))?;
    let map = cores::CoreMap::new(run.shards, &cores::look());
    say(io::stdout(), &format!("{map}\n"));
    let options = relay::Options { cores: map.cpus(), metrics: settings.metrics, signals, users };
    relay::run(settings.relay, options).map_err(Failure::Running)
}

fn explain(file: &Path) -> Result<(), Failure> {
    let (settings, warnings) = load(Some(file))?;
    tell(&warnings);
    tell(&open_users(&settings)?.1);
    say(io::stdout(), &check::explain(&settings));
    Ok(())
}

fn examine(file: Option<&Path>) -> Result<(), Failure> {
    let (settings, warnings) = load(file)?;
    tell(&warnings);
    // As the relay does, so that what is seen is what it would have.
    doctor::raise_open_files();
    let (table, is_fit) = doctor::report(&doctor::examine(&settings));
    say(io::stdout(), &table);
    if is_fit { Ok(()) } else { Err(Failure::Negative) }
}

/// Loads the configuration, and tells what is wrong with it.
fn load(file: Option<&Path>) -> Result<(Settings, Vec<Finding>), Failure> {
    configuration::load(file).map_err(|findings| {
        tell(&findings);
        Failure::Configuration
    })
}

/// Opens the file of users, if there is to be one, and tells what is wrong with it.
fn open_users(settings: &Settings) -> Result<(Option<users::Source>, Vec<Finding>), Failure> {
    let Some(file) = &settings.relay.auth.users else { return Ok((None, Vec::new())) };
    let (source, warnings) = users::Source::open(file).map_err(|findings| {
        tell(&findings);
        Failure::Configuration
    })?;
    Ok((Some(source), warnings))
}

fn look_after_users(command: users::Command) -> Result<(), Failure> {
    say(io::stdout(), &users::run(command).map_err(Failure::Running)?);
    Ok(())
}

fn tell(findings: &[Finding]) {
    for finding in findings {
        say(io::stderr(), &format!("{finding}\n"));
    }
}

/// Prints to a stream that nobody may be reading any more (`mtad check FILE | head -1`), which is no reason to fail
/// and even less to panic.
fn say(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}
