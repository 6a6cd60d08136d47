//! The result of a run: for people as a table, for programs as JSON.

mod cost;
mod table;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::account::Account;
use crate::latency::Summary;
use crate::load::{self, Failure, Sent, Spread};
use crate::observe::Observed;
use crate::run::Moment;
use crate::sink::Received;
use crate::suite::Curve;
use crate::{Content, Tls, identity};
pub use cost::{Calls, Cost};

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
    /// Bytes per message, if all have the same.
    pub size: Option<usize>,
    pub content: String,
    pub transfer: String,
    pub tls: Tls,
    pub tls_resumption: bool,
    pub recipients: u16,
    pub domains: u32,
    pub spread: Spread,
    pub pipelining: load::Pipelining,
    pub threads: usize,
    pub rate: Option<f64>,
    pub ramp: Option<load::Ramp>,
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
    /// TLS handshakes of the load.
    pub handshakes: u64,
    /// Those among them that resumed an earlier session.
    pub resumed: u64,
    /// Most connections open at the sink at the same time.
    pub sink_connections_max: u64,
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
        observed: Observed,
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
            cost: Cost::new(sent, received, observed),
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
                _ => None,
            },
            content: config.content.to_string(),
            transfer: config.transfer.to_string(),
            tls: config.tls,
            tls_resumption: config.tls_resumption,
            recipients: config.recipients,
            domains: config.domains,
            spread: config.spread,
            pipelining: config.pipelining,
            threads: config.threads,
            rate: config.rate,
            ramp: config.ramp,
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
            handshakes: sent.progress.handshakes,
            resumed: sent.progress.resumed,
            sink_connections_max: received.progress.open_max,
        }
    }
}
