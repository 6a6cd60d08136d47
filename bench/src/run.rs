//! A whole run in one process: sink, load, observation, account.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::load::{self, Sent};
use crate::observe::{Observer, Reading, Target};
use crate::report::Report;
use crate::{clock, queued, sink};

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
    /// Its control group, to observe too: a path, or a name below /sys/fs/cgroup.
    pub cgroup: Option<PathBuf>,
    /// A path on the device to observe, such as the target's queue.
    pub device_of: Option<PathBuf>,
    /// Whether the target's system calls are counted. Everything takes longer then.
    pub count_calls: bool,
    /// The run is over when nothing has arrived for this long.
    pub quiet: Duration,
    /// When everything has arrived, how long to wait for more of the same.
    pub linger: Duration,
    /// Whether a delivery may arrive twice, as after a crash.
    pub repeats_allowed: bool,
    /// A command for the shell that prints how many recipients are still in the target's queue, asked at the
    /// end.
    pub queue_command: Option<String>,
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
            cgroup: None,
            device_of: None,
            count_calls: false,
            quiet: Duration::from_secs(10),
            linger: Duration::from_millis(300),
            repeats_allowed: false,
            queue_command: None,
            listed: 20,
        }
    }
}

/// How often the target's queue is asked for while messages still arrive; the last answer is taken.
const QUEUE_TRIES_MAX: u32 = 10;

/// The figures at one moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// CPU of the target's processes since the moment before, in percent of one processor.
    #[serde(default)]
    pub target_cpu: Option<f64>,
    /// Resident memory of the target's processes in bytes.
    #[serde(default)]
    pub target_rss: Option<u64>,
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
    let observer = Observer::start(&config.target())?;
    let load = load::start(config.load.clone())?;
    let mut timeline = Timeline::start(&observer);
    while !load.progress().done {
        timeline.look(&load.progress(), &sink.progress(), &mut show);
        clock::pause(LOOK_INTERVAL);
    }
    let sent = load.join()?;
    between(&sent, &sink)?;
    let account =
        settle(&config, &sent, &sink, |progress| timeline.look(&sent.progress, progress, &mut show));
    let account = match &config.queue_command {
        Some(command) => ask_queue(command, &config, &sent, &sink)?,
        None => account,
    };
    timeline.add(&sent.progress, &sink.progress());
    let moments = timeline.moments;
    let observed = observer.finish()?;
    let addresses = sink.addresses().iter().map(ToString::to_string).collect();
    let received = sink.join()?;
    let both = (&sent, &received);
    Ok(Report::new(&config.load, addresses, both, account, observed, config.repeats_allowed, moments))
}

impl Config {
    fn target(&self) -> Target {
        Target {
            pids: self.pids.clone(),
            cgroup: self.cgroup.clone(),
            device_of: self.device_of.clone(),
            count_calls: self.count_calls,
        }
    }
}

/// Sends messages that do not count, to the same sink, so that connections which the target keeps stay good.
fn warm_up(config: &Config, sink: &sink::Handle) -> io::Result<()> {
    let load = load::Config {
        messages: config.warm_up,
        run: fastrand::u32(..),
        rate: None,
        ramp: None,
        ..config.load.clone()
    };
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

/// The account with what is still queued. A message that leaves the queue between the question and the
/// account would be counted twice or not at all, so both are repeated while anything arrives.
fn ask_queue(command: &str, config: &Config, sent: &Sent, sink: &sink::Handle) -> io::Result<Account> {
    let mut tries = 0;
    loop {
        let account = Account::new(sent, &sink.received().ledger, config.listed);
        let messages = sink.progress().messages;
        let queued = queued::ask(command)?;
        tries += 1;
        if sink.progress().messages == messages || tries == QUEUE_TRIES_MAX {
            return Ok(account.with_queued(queued));
        }
    }
}

struct Timeline<'a> {
    start: u64,
    observer: &'a Observer,
    /// The reading of the target for the moment before.
    before: Option<(u64, Reading)>,
    moments: Vec<Moment>,
}

impl<'a> Timeline<'a> {
    fn start(observer: &'a Observer) -> Self {
        Self { start: clock::now(), observer, before: observer.latest(), moments: Vec::new() }
    }

    fn look(&mut self, load: &load::Progress, sink: &sink::Progress, show: &mut impl FnMut(&Moment)) {
        let due = self.start + MOMENT_INTERVAL * (self.moments.len() as u64 + 1);
        if clock::now() >= due {
            show(self.add(load, sink));
        }
    }

    fn add(&mut self, load: &load::Progress, sink: &sink::Progress) -> &Moment {
        let latest = self.observer.latest();
        self.moments.push(Moment {
            seconds: (clock::now() - self.start) as f64 / 1e9,
            accepted: load.accepted,
            delivered: sink.delivered,
            errors: load.errors,
            accept_p99: load.p99,
            end_to_end_p99: sink.p99,
            target_cpu: self.before.zip(latest).and_then(|(before, latest)| cpu_percent(before, latest)),
            target_rss: latest.map(|(_, reading)| reading.rss),
        });
        self.before = latest;
        &self.moments[self.moments.len() - 1]
    }
}

/// `None` if both are the same reading.
fn cpu_percent(before: (u64, Reading), latest: (u64, Reading)) -> Option<f64> {
    let microseconds = latest.0.saturating_sub(before.0) as f64 / 1000.0;
    // It may fall when a process dies whose parent does not wait for it.
    let spent = latest.1.cpu().saturating_sub(before.1.cpu());
    (microseconds > 0.0).then(|| spent as f64 / microseconds * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_older_files_are_read() {
        let text =
            r#"{"seconds":1.0,"accepted":2,"delivered":3,"errors":4,"accept_p99":5,"end_to_end_p99":6}"#;
        let moment: Moment = serde_json::from_str(text).unwrap();
        assert_eq!((moment.accepted, moment.target_cpu, moment.target_rss), (2, None, None));
    }

    #[test]
    fn a_share_of_a_processor_needs_two_readings() {
        let reading = |user, system| Reading { user, system, ..Reading::default() };
        let percent = |before, latest| cpu_percent((1_000_000_000, before), (2_000_000_000, latest));
        assert_eq!(percent(reading(0, 0), reading(1_000_000, 500_000)), Some(150.0));
        assert_eq!(percent(reading(5, 5), reading(1, 1)), Some(0.0));
        assert_eq!(cpu_percent((7, reading(0, 0)), (7, reading(0, 0))), None);
    }
}
