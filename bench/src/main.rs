//! `mtad-bench`: drives an SMTP relay and accounts for every message.

mod arguments;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use bench::adapter::Adapter;
use bench::difference::{self, Difference};
use bench::medians::medians;
use bench::paper::paper;
use bench::scenario::{self, Scenario};
use bench::series::{self, News, Plan};
use bench::suite::Suite;
use bench::{book, idle, load, observe, queued, run, search, sink, sys, undo};
use clap::Parser;
use serde::Serialize;

use arguments::{
    AccountArguments, Arguments, Command, CompareArguments, IdleArguments, LoadAlone, ReportArguments,
    RunArguments, SearchArguments, SinkAlone, SuiteArguments, TargetArguments,
};

/// The status for wrong arguments and for trouble with the machine.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let done = sys::raise_open_files().and_then(|_| match Arguments::parse().command {
        Command::Run(arguments) => run_all(*arguments),
        Command::Load(arguments) => run_load(arguments),
        Command::Sink(arguments) => run_sink(arguments),
        Command::Account(arguments) => run_account(arguments),
        Command::Search(arguments) => run_search(*arguments),
        Command::Idle(arguments) => run_idle(arguments),
        Command::Report(arguments) => report(arguments),
        Command::Compare(arguments) => compare(arguments),
        Command::Suite(arguments) => run_suite(arguments),
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mtad-bench: {error}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn run_all(arguments: RunArguments) -> io::Result<u8> {
    let config = run_config(&arguments)?;
    let mut before = (0.0, 0, 0);
    let report = run::run(config, |moment| {
        let seconds = (moment.seconds - before.0).max(0.001);
        eprintln!(
            "{:6.1} s  accepted {:9} ({:7.0}/s)  delivered {:9} ({:7.0}/s)  p99 {:8.3} ms  end to end {:8.3} ms  errors {}",
            moment.seconds,
            moment.accepted,
            (moment.accepted - before.1) as f64 / seconds,
            moment.delivered,
            (moment.delivered.saturating_sub(before.2)) as f64 / seconds,
            moment.accept_p99 as f64 / 1000.0,
            moment.end_to_end_p99 as f64 / 1000.0,
            moment.errors
        );
        before = (moment.seconds, moment.accepted, moment.delivered);
    })?;
    print!("{report}");
    if let Some(path) = arguments.json {
        write_json(&path, &report)?;
    }
    Ok(report.exit_code())
}

fn run_config(arguments: &RunArguments) -> io::Result<run::Config> {
    Ok(run::Config {
        load: arguments.load.config(),
        sink: arguments.sink.config(),
        pids: pids(&arguments.target)?,
        cgroup: arguments.cgroup.clone(),
        device_of: arguments.device_of.clone(),
        count_calls: arguments.count_syscalls,
        quiet: arguments.quiet,
        repeats_allowed: arguments.account.allow_repeats,
        queue_command: arguments.account.queue_command.clone(),
        listed: arguments.account.list,
        ..run::Config::default()
    })
}

/// The status is 0 if some rate was good, 1 if conservation broke, 3 if no rate was good.
fn run_search(arguments: SearchArguments) -> io::Result<u8> {
    if arguments.run.load.rate.is_some() || arguments.run.load.ramp.is_some() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a search sets the rate itself"));
    }
    let config = search::Config {
        run: run_config(&arguments.run)?,
        from: arguments.from,
        step: arguments.step,
        lead: search::LEAD,
        p99: arguments.p99,
        judged: arguments.judged,
        resolution: arguments.resolution,
    };
    let outcome = search::run(&config, |step| {
        eprintln!(
            "{:9.0}/s asked {:9.0}/s achieved  {:7} messages  p50 {:8.3} ms  p99 {:8.3} ms  max {:8.3} ms  failures {}  {}",
            step.rate,
            step.achieved,
            step.messages,
            step.p50 as f64 / 1000.0,
            step.p99 as f64 / 1000.0,
            step.max as f64 / 1000.0,
            step.failures,
            if step.good { "good" } else { "bad" }
        );
    })?;
    serde_json::to_writer_pretty(io::stdout().lock(), &outcome)?;
    println!();
    if let Some(path) = arguments.run.json {
        write_json(&path, &outcome)?;
    }
    Ok(match outcome.sustained {
        _ if !outcome.conserved => 1,
        Some(_) => 0,
        None => 3,
    })
}

fn run_load(arguments: LoadAlone) -> io::Result<u8> {
    let load = load::start(arguments.load.config())?;
    let sent = load.join()?;
    if let Some(path) = arguments.ledger {
        book::write(&path, &book::Side::Load(sent.promises()))?;
    }
    let seconds = (sent.time.1 - sent.time.0) as f64 / 1e9;
    let accepted = sent.progress.accepted;
    println!(
        "accepted     {accepted} messages in {seconds:.3} s, {:.0}/s, over {} connections; refused {}, in doubt {}",
        accepted as f64 / seconds.max(1e-9),
        sent.progress.connections,
        sent.progress.refused,
        sent.progress.in_doubt
    );
    if sent.progress.handshakes > 0 {
        println!(
            "TLS          {} handshakes, {} of them resumed",
            sent.progress.handshakes, sent.progress.resumed
        );
    }
    let latency = sent.latency.summary();
    println!(
        "latency (us) p50 {} p90 {} p99 {} p99.9 {} max {}",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    );
    println!("CPU/message  {:.1} us", sent.cpu as f64 / 1000.0 / accepted.max(1) as f64);
    for (failure, count) in &sent.failures {
        println!("failure      {count} x code {} at {:?}", failure.code, failure.phase);
    }
    Ok(if sent.stalled { 3 } else { 0 })
}

fn run_sink(arguments: SinkAlone) -> io::Result<u8> {
    let farewell = sys::Farewell::expect()?;
    let sink = sink::start(arguments.sink.config())?;
    let addresses: Vec<_> = sink.addresses().iter().map(ToString::to_string).collect();
    eprintln!("listening on {} until SIGINT or SIGTERM", addresses.join(" "));
    farewell.wait()?;
    let received = sink.join()?;
    if let Some(path) = arguments.ledger {
        book::write(&path, &book::Side::Sink(received.ledger.clone()))?;
    }
    let progress = &received.progress;
    println!(
        "messages {}: delivered {}, repeated {}, altered {}, reported {}, foreign {}; refused {}; connections at most {}",
        progress.messages,
        progress.delivered,
        progress.repeated,
        progress.altered,
        progress.reported,
        progress.foreign,
        progress.refused,
        progress.open_max
    );
    if progress.messages > 0 {
        println!("CPU/message  {:.1} us", received.cpu as f64 / 1000.0 / progress.messages as f64);
    }
    Ok(0)
}

fn run_account(arguments: AccountArguments) -> io::Result<u8> {
    let terms = &arguments.terms;
    let queued = terms.queue_command.as_deref().map(queued::ask).transpose()?;
    let audit = book::audit(&arguments.books, queued, terms.list)?;
    print!("{audit}");
    if let Some(path) = arguments.json {
        write_json(&path, &audit)?;
    }
    Ok(u8::from(!audit.total.holds(terms.allow_repeats)))
}

fn run_idle(arguments: IdleArguments) -> io::Result<u8> {
    let config = idle::Config {
        target: arguments.target,
        connections: arguments.connections,
        sources: arguments.sources,
        pids: pids(&arguments.observed)?,
        hold: arguments.hold,
        patience: arguments.patience,
    };
    let outcome = idle::run(&config)?;
    println!(
        "idle         {} connections held, {} lost; RSS {} -> {} bytes, {:.0} per connection; PSS {} -> {}; CPU while held {} us",
        outcome.ready,
        outcome.lost,
        outcome.rss_before,
        outcome.rss_after,
        outcome.rss_per_connection,
        outcome.pss_before,
        outcome.pss_after,
        outcome.cpu_held
    );
    if let Some(path) = arguments.json {
        write_json(&path, &outcome)?;
    }
    Ok(u8::from(outcome.ready < arguments.connections))
}

fn report(arguments: ReportArguments) -> io::Result<u8> {
    let page = paper(&Suite::read(&arguments.suite)?);
    match arguments.output {
        Some(path) => std::fs::write(&path, page)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?,
        None => io::stdout().write_all(page.as_bytes())?,
    }
    Ok(0)
}

fn compare(arguments: CompareArguments) -> io::Result<u8> {
    let (before, after) = (Suite::read(&arguments.before)?, Suite::read(&arguments.after)?);
    let difference = Difference::new(&before, &after);
    let table = difference::Table { difference: &difference, all: arguments.all };
    // Not print!, which panics when the reader of a pipe has gone.
    io::stdout().write_all(table.to_string().as_bytes())?;
    Ok(u8::from(difference.got_worse()))
}

fn run_suite(arguments: SuiteArguments) -> io::Result<u8> {
    if arguments.list {
        for scenario in scenario::all() {
            println!("{}\n    {}", scenario.name, scenario.shows);
        }
        return Ok(0);
    }
    undo::upon_signals()?;
    let plan = Plan {
        scenarios: scenarios(&arguments.scenarios)?,
        adapters: adapters(&arguments)?,
        rounds: arguments.rounds,
        messages: arguments.messages.unwrap_or_default(),
        seconds: arguments.seconds,
        directory: arguments.directory.unwrap_or_default(),
    };
    let suite = series::run(&plan, |news| match (news, &arguments.json) {
        (News::Text(text), _) => {
            eprintln!("{text}");
            Ok(())
        }
        (News::Round(suite), Some(path)) => write_json(path, suite),
        (News::Round(_), None) => Ok(()),
    })?;
    print!("{}", medians(&suite));
    let relays = suite.scenarios.iter().flat_map(|scenario| &scenario.relays);
    let mut rounds = relays.flat_map(|relay| &relay.rounds);
    Ok(u8::from(rounds.any(|round| !round.trouble.is_empty())))
}

fn scenarios(names: &[String]) -> io::Result<Vec<Scenario>> {
    let mut all = scenario::all();
    let known: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let text = format!("no scenario is named {unknown}; there are {}", known.join(" "));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    all.retain(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name));
    Ok(all)
}

/// The adapters that can be used here; the others are named with the reason.
fn adapters(arguments: &SuiteArguments) -> io::Result<Vec<Adapter>> {
    let mut found = Vec::new();
    for name in &arguments.relays {
        let adapter = Adapter::find(name, &arguments.adapters)?;
        match adapter.description.available {
            true => found.push(adapter),
            false => eprintln!("{name} is left out: {}", adapter.description.reason),
        }
    }
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no relay is left"));
    }
    Ok(found)
}

fn pids(target: &TargetArguments) -> io::Result<Vec<u32>> {
    let mut pids = target.pid.clone();
    for name in &target.process {
        let found = observe::named(name)?;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no process is named {name}")));
        }
        pids.extend(found);
    }
    Ok(pids)
}

fn write_json(path: &std::path::Path, value: &impl Serialize) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.flush()
}
