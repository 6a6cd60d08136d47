//! The result of a run: for people as a table, for programs as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::account::{Account, Delivery};
use crate::latency::Summary;
use crate::load::{self, Failure, Sent, Spread};
use crate::observe::Usage;
use crate::run::Moment;
use crate::sink::Received;
use crate::suite::Curve;
use crate::{Content, identity};

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked for.
    pub settings: Settings,
    /// What came of it.
    pub verdict: Verdict,
    /// Messages and deliveries per second.
    pub throughput: Throughput,
    /// Time to the acknowledgement in microseconds.
    pub acceptance: Summary,
    /// Time from the same start to the arrival at the sink in microseconds.
    pub end_to_end: Summary,
    /// Both in full, as "accept" and "end to end".
    pub curves: BTreeMap<String, Curve>,
    /// End-to-end time by listener and by domain with a behaviour of its own.
    pub lanes: Vec<LaneReport>,
    /// What each side cost.
    pub cost: Cost,
    /// Failures that the load met.
    pub failures: Vec<FailureReport>,
    /// Refusals and dropped messages that the sink was told to produce.
    pub sink_refusals: u64,
    /// Deliveries per recipient domain.
    pub domains: BTreeMap<String, u64>,
    /// The conservation of messages.
    pub account: Account,
    /// The first changed messages, as far as their stamps can be read.
    pub alterations: Vec<(Option<identity::Stamp>, identity::Alteration)>,
    /// Second by second.
    pub timeline: Vec<Moment>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every acknowledged delivery came out, unchanged and as often as allowed.
    Holds,
    /// Some did not.
    Broken,
    /// All did, but the load gave up before it had sent everything.
    Stalled,
}

/// The settings that figures depend on.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in load::Config")]
pub struct Settings {
    pub target: String,
    pub sinks: Vec<String>,
    pub run: u32,
    pub sessions: usize,
    pub messages: u32,
    pub messages_per_session: u32,
    /// Bytes per message; `None` for the varied mix.
    pub size: Option<usize>,
    pub recipients: u16,
    pub domains: u32,
    pub spread: Spread,
    pub pipelining: load::Pipelining,
    pub threads: usize,
    pub rate: Option<f64>,
    pub retries: u32,
    pub latency_from: load::LatencyFrom,
}

/// Rates over the time from the start of the load to the last acknowledgement or arrival.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    /// Messages acknowledged.
    pub accepted: u64,
    /// Seconds from the start to the last acknowledgement.
    pub accepted_seconds: f64,
    /// Messages acknowledged per second.
    pub accepted_per_second: f64,
    /// Deliveries that arrived for the first time.
    pub delivered: u64,
    /// Seconds from the start to the last arrival.
    pub delivered_seconds: f64,
    /// Deliveries per second.
    pub delivered_per_second: f64,
    /// Connections that the load opened.
    pub connections: u64,
    /// Most connections open at the sink at the same time.
    pub sink_connections_max: u64,
}

/// CPU time per acknowledged message, and the target's other needs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// CPU time of the load in microseconds per message.
    pub load_cpu: f64,
    /// CPU time of the sink in microseconds per message.
    pub sink_cpu: f64,
    /// CPU time of the target in microseconds per message, if it was observed.
    pub target_cpu: Option<f64>,
    /// Context switches of the target per message.
    pub target_switches: Option<f64>,
    /// Bytes that the target caused to be written to a device, per message.
    pub target_written: Option<f64>,
    /// All readings of the target.
    pub target: Option<Usage>,
}

/// One behaviour of the sink.
#[derive(Clone, Debug, Serialize)]
pub struct LaneReport {
    /// The listener's address or the domain.
    pub name: String,
    /// Most connections at the same time; 0 for a domain.
    pub connections_max: u64,
    /// End-to-end time of its deliveries in microseconds.
    pub end_to_end: Summary,
}

/// Failures of one kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FailureReport {
    /// What happened.
    #[serde(flatten)]
    pub failure: Failure,
    /// How often.
    pub count: u64,
}

impl Report {
    pub(crate) fn new(
        config: &load::Config,
        sinks: Vec<String>,
        (sent, received): (&Sent, &Received),
        account: Account,
        target: Option<Usage>,
        repeats_allowed: bool,
        timeline: Vec<Moment>,
    ) -> Self {
        let lanes = received.lanes.iter().map(|lane| LaneReport {
            name: lane.name.clone(),
            connections_max: lane.open_max,
            end_to_end: lane.latency.summary(),
        });
        let failures = sent.failures.iter().map(|&(failure, count)| FailureReport { failure, count });
        Self {
            settings: Settings::new(config, sinks),
            verdict: match account.holds(repeats_allowed) {
                false => Verdict::Broken,
                true if sent.stalled => Verdict::Stalled,
                true => Verdict::Holds,
            },
            throughput: Throughput::new(sent, received),
            acceptance: sent.latency.summary(),
            end_to_end: received.latency.summary(),
            curves: [("accept", &sent.latency), ("end to end", &received.latency)]
                .map(|(name, latency)| (name.to_string(), latency.curve()))
                .into(),
            lanes: lanes.collect(),
            cost: Cost::new(sent, received, target),
            failures: failures.collect(),
            sink_refusals: received.progress.refused,
            domains: received.domains.clone().into_iter().collect(),
            account,
            alterations: received.ledger.alterations.clone(),
            timeline,
        }
    }

    /// The status for the shell: 0 if conservation holds, 1 if it is broken, 3 if the load gave up.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Holds => 0,
            Verdict::Broken => 1,
            Verdict::Stalled => 3,
        }
    }
}

impl Settings {
    fn new(config: &load::Config, sinks: Vec<String>) -> Self {
        Self {
            target: config.target.to_string(),
            sinks,
            run: config.run,
            sessions: config.sessions,
            messages: config.messages,
            messages_per_session: config.messages_per_session,
            size: match config.content {
                Content::Fixed(bytes) => Some(bytes),
                Content::Varied => None,
            },
            recipients: config.recipients,
            domains: config.domains,
            spread: config.spread,
            pipelining: config.pipelining,
            threads: config.threads,
            rate: config.rate,
            retries: config.retries,
            latency_from: config.latency_from,
        }
    }
}

impl Throughput {
    fn new(sent: &Sent, received: &Received) -> Self {
        let (start, last) = sent.time;
        let seconds = |end: u64| end.saturating_sub(start) as f64 / 1e9;
        let per_second = |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let (accepted, delivered) = (sent.progress.accepted, received.progress.delivered);
        let (accepted_seconds, delivered_seconds) = (seconds(last), seconds(received.progress.last));
        Self {
            accepted,
            accepted_seconds,
            accepted_per_second: per_second(accepted, accepted_seconds),
            delivered,
            delivered_seconds,
            delivered_per_second: per_second(delivered, delivered_seconds),
            connections: sent.progress.connections,
            sink_connections_max: received.progress.open_max,
        }
    }
}

impl Cost {
    fn new(sent: &Sent, received: &Received, target: Option<Usage>) -> Self {
        let messages = sent.progress.accepted.max(1) as f64;
        let spent = target.map(|usage| usage.spent);
        Self {
            load_cpu: sent.cpu as f64 / 1000.0 / messages,
            sink_cpu: received.cpu as f64 / 1000.0 / messages,
            target_cpu: spent.map(|spent| (spent.user + spent.system) as f64 / messages),
            target_switches: spent.map(|spent| (spent.voluntary + spent.involuntary) as f64 / messages),
            target_written: spent.map(|spent| spent.written as f64 / messages),
            target,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_settings(f)?;
        self.write_throughput(f)?;
        self.write_latencies(f)?;
        self.write_cost(f)?;
        for FailureReport { failure, count } in &self.failures {
            let what = match failure.code {
                0 => "connection lost".into(),
                code => format!("reply {code}"),
            };
            writeln!(f, "failure      {count} x {what} at {:?}", failure.phase)?;
        }
        if self.sink_refusals > 0 {
            writeln!(f, "sink         refused or dropped {} times, as configured", self.sink_refusals)?;
        }
        write!(f, "{}", self.account)?;
        let verdict = match self.verdict {
            Verdict::Holds => "conservation holds",
            Verdict::Broken => "CONSERVATION IS BROKEN",
            Verdict::Stalled => "the load gave up: nothing was acknowledged any more",
        };
        writeln!(f, "verdict      {verdict}")
    }
}

impl Report {
    fn write_settings(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Settings { sessions, messages, recipients, domains, pipelining, .. } = &self.settings;
        let size = self.settings.size.map_or("varied".into(), |bytes| format!("{bytes} bytes"));
        write!(
            f,
            "load         {messages} messages, {size}, {sessions} sessions, {recipients} recipients, \
             {domains} domains, pipelining {pipelining:?}"
        )?;
        if let Some(rate) = self.settings.rate {
            write!(f, ", {rate} per second by schedule")?;
        }
        writeln!(
            f,
            "\nrun          {:08x} to {}, sink {}",
            self.settings.run,
            self.settings.target,
            self.settings.sinks.join(" ")
        )
    }

    fn write_throughput(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let throughput = &self.throughput;
        writeln!(
            f,
            "accepted     {:>9} messages   in {:8.3} s  {:9.0}/s  over {} connections",
            throughput.accepted,
            throughput.accepted_seconds,
            throughput.accepted_per_second,
            throughput.connections
        )?;
        writeln!(
            f,
            "delivered    {:>9} deliveries in {:8.3} s  {:9.0}/s  at most {} connections",
            throughput.delivered,
            throughput.delivered_seconds,
            throughput.delivered_per_second,
            throughput.sink_connections_max
        )
    }

    fn write_latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "latency (ms) {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "p99.9", "max")?;
        let mut line = |name: &str, summary: &Summary| {
            let [p50, p90, p99, p999, max] =
                [summary.p50, summary.p90, summary.p99, summary.p999, summary.max]
                    .map(|value| value as f64 / 1000.0);
            writeln!(f, "  {name:<10} {p50:9.3} {p90:9.3} {p99:9.3} {p999:9.3} {max:9.3}")
        };
        line("accept", &self.acceptance)?;
        line("end to end", &self.end_to_end)?;
        if self.lanes.len() > 1 {
            for lane in &self.lanes {
                line(&lane.name, &lane.end_to_end)?;
            }
        }
        Ok(())
    }

    fn write_cost(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cost = &self.cost;
        write!(f, "CPU/message  load {:.1} us, sink {:.1} us", cost.load_cpu, cost.sink_cpu)?;
        if let (Some(cpu), Some(target)) = (cost.target_cpu, &cost.target) {
            let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
            write!(f, ", target {cpu:.1} us")?;
            write!(
                f,
                "\ntarget       {} processes, RSS {:.1} MiB (max {:.1}), PSS {:.1} MiB, {:.2} context switches and {:.0} bytes written per message",
                target.spent.processes,
                mib(target.spent.rss),
                mib(target.rss_max),
                mib(target.pss),
                cost.target_switches.unwrap_or(0.0),
                cost.target_written.unwrap_or(0.0)
            )?;
        }
        writeln!(f)
    }
}

impl Display for Account {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "account      {} acknowledged = {} delivered + {} reported as failed + {} missing + {} only altered",
            self.acknowledged,
            self.delivered,
            self.reported,
            self.missing,
            self.acknowledged - self.delivered - self.reported - self.missing
        )?;
        if self.in_doubt + self.not_sent + self.foreign > 0 {
            writeln!(
                f,
                "             {} in doubt ({} arrived), {} not sent or refused, {} foreign messages",
                self.in_doubt, self.in_doubt_delivered, self.not_sent, self.foreign
            )?;
        }
        let mut trouble = |name: &str, count: u64, first: &[Delivery]| {
            if count == 0 {
                return Ok(());
            }
            let first: Vec<_> =
                first.iter().map(|delivery| format!("{}/{}", delivery.message, delivery.recipient)).collect();
            writeln!(f, "  {name:<10} {count}: message/recipient {}", first.join(" "))
        };
        trouble("missing", self.missing, &self.missing_first)?;
        trouble("altered", self.altered, &self.altered_first)?;
        trouble("repeated", self.repeated, &self.repeated_first)?;
        trouble("unexpected", self.unexpected, &self.unexpected_first)
    }
}
