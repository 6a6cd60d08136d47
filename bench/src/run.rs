//! A whole run in one process: sink, load, observation, account.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::clock;
use crate::load::{self, Sent};
use crate::observe::Watch;
use crate::report::Report;
use crate::sink;

/// Time between two looks at the figures.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Time between two moments of the timeline, in nanoseconds.
const MOMENT_INTERVAL: u64 = 1_000_000_000;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to send.
    pub load: load::Config,
    /// Where to receive it.
    pub sink: sink::Config,
    /// Messages that are sent before those that count.
    pub warm_up: u32,
    /// Whether the sink is paused when the load begins; somebody else lets it go on.
    pub paused: bool,
    /// Processes of the target, to observe.
    pub pids: Vec<u32>,
    /// The run is over when nothing has arrived for this long.
    pub quiet: Duration,
    /// When everything has arrived, how long to wait for more of the same.
    pub linger: Duration,
    /// Whether a delivery may arrive twice, as after a crash.
    pub repeats_allowed: bool,
    /// How many deliveries of each kind of trouble to list.
    pub listed: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            load: load::Config::default(),
            sink: sink::Config::default(),
            warm_up: 0,
            paused: false,
            pids: Vec::new(),
            quiet: Duration::from_secs(10),
            linger: Duration::from_millis(300),
            repeats_allowed: false,
            listed: 20,
        }
    }
}

/// The figures at one moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since the start.
    pub seconds: f64,
    /// Messages acknowledged so far.
    pub accepted: u64,
    /// Deliveries that arrived so far.
    pub delivered: u64,
    /// Failures of the load so far.
    pub errors: u64,
    /// Acceptance latency so far at 99% in microseconds.
    pub accept_p99: u64,
    /// End-to-end latency so far at 99% in microseconds.
    pub end_to_end_p99: u64,
}

/// Runs it all; `show` gets a moment every second.
pub fn run(config: Config, show: impl FnMut(&Moment)) -> io::Result<Report> {
    run_in_two(config, show, |_, _| Ok(()))
}

/// The same, with something to do when all is sent and before the rest is awaited.
pub(crate) fn run_in_two(
    config: Config,
    mut show: impl FnMut(&Moment),
    between: impl FnOnce(&Sent, &sink::Handle) -> io::Result<()>,
) -> io::Result<Report> {
    let sink = sink::start(config.sink.clone())?;
    if config.warm_up > 0 {
        warm_up(&config, &sink)?;
    }
    if config.paused {
        sink.pause();
    }
    let watch = (!config.pids.is_empty()).then(|| Watch::start(config.pids.clone())).transpose()?;
    let load = load::start(config.load.clone())?;
    let mut timeline = Timeline { start: clock::now(), moments: Vec::new() };
    while !load.progress().done {
        timeline.look(&load.progress(), &sink.progress(), &mut show);
        clock::pause(LOOK_INTERVAL);
    }
    let sent = load.join()?;
    between(&sent, &sink)?;
    let account =
        settle(&config, &sent, &sink, |progress| timeline.look(&sent.progress, progress, &mut show));
    timeline.add(&sent.progress, &sink.progress());
    let usage = watch.map(Watch::finish).transpose()?;
    let addresses = sink.addresses().iter().map(ToString::to_string).collect();
    let received = sink.join()?;
    let moments = timeline.moments;
    let both = (&sent, &received);
    Ok(Report::new(&config.load, addresses, both, account, usage, config.repeats_allowed, moments))
}

/// Sends messages that do not count, to the same sink, so that connections which the target keeps stay good.
fn warm_up(config: &Config, sink: &sink::Handle) -> io::Result<()> {
    let load =
        load::Config { messages: config.warm_up, run: fastrand::u32(..), rate: None, ..config.load.clone() };
    let sent = load::start(load)?.join()?;
    settle(config, &sent, sink, |_| {});
    sink.forget();
    Ok(())
}

/// Waits until everything has arrived, or nothing more does, and draws up the account.
fn settle(
    config: &Config,
    sent: &Sent,
    sink: &sink::Handle,
    mut look: impl FnMut(&sink::Progress),
) -> Account {
    let (quiet, linger) = (clock::nanoseconds(config.quiet), clock::nanoseconds(config.linger));
    let end_of_load = clock::now();
    let acknowledged = sent.acknowledged.count();
    loop {
        let progress = sink.progress();
        look(&progress);
        let silence = clock::now() - progress.last.max(end_of_load);
        let complete = progress.delivered + progress.reported + progress.altered >= acknowledged;
        if silence > quiet || (complete && silence > linger) {
            let account = Account::new(sent, &sink.received().ledger, config.listed);
            if silence > quiet || account.missing == 0 {
                return account;
            }
        }
        clock::pause(LOOK_INTERVAL);
    }
}

struct Timeline {
    start: u64,
    moments: Vec<Moment>,
}

impl Timeline {
    fn look(&mut self, load: &load::Progress, sink: &sink::Progress, show: &mut impl FnMut(&Moment)) {
        let due = self.start + MOMENT_INTERVAL * (self.moments.len() as u64 + 1);
        if clock::now() >= due {
            show(self.add(load, sink));
        }
    }

    fn add(&mut self, load: &load::Progress, sink: &sink::Progress) -> &Moment {
        let seconds = (clock::now() - self.start) as f64 / 1e9;
        self.moments.push(Moment {
            seconds,
            accepted: load.accepted,
            delivered: sink.delivered,
            errors: load.errors,
            accept_p99: load.p99,
            end_to_end_p99: sink.p99,
        });
        &self.moments[self.moments.len() - 1]
    }
}
