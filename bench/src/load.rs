//! The load: SMTP clients that send numbered messages and remember which were acknowledged.

mod books;
mod client;
mod driver;
mod opening;
mod schedule;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bits::{Bits, SharedBits};
use crate::clock;
use crate::content::{Content, Templates, Transfer};
use crate::engine::{Engine, Security, Tls};
use crate::latency::Latencies;
use driver::LoadDriver;
pub(crate) use driver::loopback;
pub use opening::{Auth, Mechanism};
pub use schedule::Ramp;
use schedule::Schedule;

/// How far commands run ahead of their replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pipelining {
    /// Every command waits for the reply to the one before.
    Off,
    /// MAIL, all RCPT and DATA go out together (RFC 2920).
    #[default]
    Commands,
    /// Also the commands of the next message together with the content of this one, as RFC 2920 3.1 permits.
    /// With BDAT the same as `Commands`, with which the content goes out already.
    Messages,
}

/// How recipients are spread over domains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// One after the other.
    RoundRobin,
    /// The n-th domain with weight 1/n^exponent.
    Zipf(f64),
}

/// Where the latency of a message starts. It ends with the reply to its final dot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LatencyFrom {
    /// The first byte of MAIL; with a rate, the time at which it should have been sent.
    #[default]
    Mail,
    /// For the first message of a connection, the attempt to connect; otherwise MAIL.
    Connection,
}

/// What to send and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub target: SocketAddr,
    /// Marks all messages of this load; random by default.
    pub run: u32,
    /// Connections at the same time.
    pub sessions: usize,
    /// Messages in all.
    pub messages: u32,
    /// Messages per connection, after which it is closed and a new one opened; 0 for no limit.
    pub messages_per_session: u32,
    /// What they look like.
    pub content: Content,
    /// How their contents go over the wire. What the server does not offer ends the load with an error.
    pub transfer: Transfer,
    /// Whether and when connections are encrypted. Certificates are not verified.
    pub tls: Tls,
    /// Whether connections may take up earlier TLS sessions instead of full handshakes.
    pub tls_resumption: bool,
    /// Who to be, if the server wants to know.
    pub auth: Option<Auth>,
    /// Recipients per message, at least 1.
    pub recipients: u16,
    /// Number of recipient domains, `d0.SUFFIX` and so on; at least 1.
    pub domains: u32,
    /// How the recipients are spread over them.
    pub spread: Spread,
    /// What all recipient domains end in.
    pub domain_suffix: String,
    /// Envelope and header sender. Failure reports go there, so its domain should lead to the sink.
    pub sender: String,
    /// The name given in EHLO.
    pub helo: String,
    /// How far commands run ahead, if the server offers it.
    pub pipelining: Pipelining,
    /// Threads among which the sessions are divided.
    pub threads: usize,
    /// Number of loopback addresses to connect from (127.0.0.1 and up), for more connections than one has
    /// ports; 0 leaves the choice to the kernel.
    pub sources: u8,
    /// Messages per second on a fixed schedule, however slow the server is; `None` sends as fast as replies
    /// permit.
    pub rate: Option<f64>,
    /// The same with a rate that changes.
    pub ramp: Option<Ramp>,
    /// How long a schedule waits for connections to open before its first message. The load counts as started
    /// at the end of it.
    pub lead: Duration,
    /// How often a message is sent again after a 4xx.
    pub retries: u32,
    /// Where latency starts.
    pub latency_from: LatencyFrom,
    /// With no acknowledgement for this long the load gives up.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, 2525)),
            run: fastrand::u32(..),
            sessions: 100,
            messages: 100_000,
            messages_per_session: 0,
            content: Content::Fixed(4096),
            transfer: Transfer::default(),
            tls: Tls::default(),
            tls_resumption: false,
            auth: None,
            recipients: 1,
            domains: 1,
            spread: Spread::RoundRobin,
            domain_suffix: "example".into(),
            sender: "bench@sender.example".into(),
            helo: "load.example".into(),
            pipelining: Pipelining::default(),
            threads: 1,
            sources: 0,
            rate: None,
            ramp: None,
            lead: Duration::ZERO,
            retries: 0,
            latency_from: LatencyFrom::default(),
            patience: Duration::from_secs(60),
        }
    }
}

/// In which dialogue step something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Establishing the connection.
    Connect,
    /// The server's greeting.
    Greeting,
    /// EHLO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH and what belongs to it.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// A chunk that is not the last.
    Chunk,
    /// The reply to the message.
    Dot,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
    /// Between messages, unasked.
    Idle,
}

/// A kind of failure: a reply code, or 0 for a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Failure {
    /// Where it happened.
    pub phase: Phase,
    /// The reply code, 0 if the connection was lost or not established.
    pub code: u16,
}

/// Figures while the load runs; they only grow, except `open`.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Messages acknowledged.
    pub accepted: u64,
    /// Recipients of acknowledged messages.
    pub accepted_recipients: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Messages whose connection broke between the final dot and its reply.
    pub in_doubt: u64,
    /// Failures of any kind, those that were retried included.
    pub errors: u64,
    /// Connections established so far.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// TLS handshakes so far.
    pub handshakes: u64,
    /// Those among them that resumed an earlier session.
    pub resumed: u64,
    /// Latency of acknowledgement so far, median in microseconds.
    pub p50: u64,
    /// The same at 99%.
    pub p99: u64,
    /// Whether all threads have ended.
    pub done: bool,
}

/// What a finished load knows.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The mark of its messages.
    pub run: u32,
    /// How many messages it was to send.
    pub messages: u32,
    /// Recipients per message. Recipient k of message s is number `s * recipients + k` in the sets below.
    pub recipients: u16,
    /// Deliveries that the server took responsibility for.
    pub acknowledged: Bits,
    /// Deliveries that it may have, because the connection broke before it could say.
    pub in_doubt: Bits,
    /// The last figures.
    pub progress: Progress,
    /// Time to acknowledgement.
    pub latency: Latencies,
    /// Failures by kind.
    pub failures: Vec<(Failure, u64)>,
    /// CPU time of the load's threads in nanoseconds.
    pub cpu: u64,
    /// When the load started, and the last acknowledgement ([`clock::now`]).
    pub time: (u64, u64),
    /// The load gave up because nothing was acknowledged any more.
    pub stalled: bool,
}

/// What an account needs to know of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promises {
    /// The mark of its messages.
    pub run: u32,
    /// How many messages it was to send.
    pub messages: u32,
    /// Recipients per message. Recipient k of message s is number `s * recipients + k` in the sets below.
    pub recipients: u16,
    /// Deliveries that the server took responsibility for.
    pub acknowledged: Bits,
    /// Deliveries that it may have.
    pub in_doubt: Bits,
}

impl Promises {
    /// Whether the sets name only deliveries that there can be.
    pub(crate) fn is_sound(&self) -> bool {
        let asked = u64::from(self.messages) * u64::from(self.recipients);
        self.recipients > 0 && self.acknowledged.end() <= asked && self.in_doubt.end() <= asked
    }
}

impl Sent {
    /// The part of it that an account needs.
    pub fn promises(&self) -> Promises {
        Promises {
            run: self.run,
            messages: self.messages,
            recipients: self.recipients,
            acknowledged: self.acknowledged.clone(),
            in_doubt: self.in_doubt.clone(),
        }
    }
}

/// A running load.
pub struct Handle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What the threads of a load share.
struct Shared {
    config: Config,
    schedule: Option<Schedule>,
    /// What each thread's books take a copy of.
    templates: Templates,
    /// Why the load cannot go on.
    trouble: OnceLock<String>,
    /// The next message number to give out.
    next: AtomicU64,
    acknowledged: SharedBits,
    in_doubt: SharedBits,
    tallies: Vec<Tally>,
    stop: AtomicBool,
    stalled: AtomicBool,
    started: u64,
}

/// The figures of one thread.
#[derive(Default)]
#[repr(align(128))]
struct Tally {
    accepted: AtomicU64,
    accepted_recipients: AtomicU64,
    refused: AtomicU64,
    in_doubt: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    handshakes: AtomicU64,
    resumed: AtomicU64,
    cpu: AtomicU64,
    /// When the last acknowledgement came; 0 before.
    last: AtomicU64,
    detail: Mutex<Detail>,
}

/// What does not fit an atomic. Its lock is taken by its own thread once per message, and by others only to
/// look.
#[derive(Default)]
struct Detail {
    latency: Latencies,
    failures: BTreeMap<Failure, u64>,
}

impl Tally {
    fn with<R>(&self, f: impl FnOnce(&mut Detail) -> R) -> R {
        f(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts a load on threads of its own.
pub fn start(config: Config) -> io::Result<Handle> {
    if config.recipients == 0 || config.domains == 0 || config.sessions == 0 || config.threads == 0 {
        let text = "recipients, domains, sessions and threads must not be zero";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
    let schedule = Schedule::new(config.rate, config.ramp).map_err(invalid)?;
    let security = Security::client(config.tls, config.target.ip(), config.tls_resumption)?;
    let threads = config.threads.min(config.sessions);
    let deliveries = u64::from(config.messages) * u64::from(config.recipients);
    let shared = Arc::new(Shared {
        schedule,
        templates: Templates::new(&config.content, config.transfer, &config.sender)?,
        trouble: OnceLock::new(),
        next: AtomicU64::new(0),
        acknowledged: SharedBits::new(deliveries),
        in_doubt: SharedBits::new(deliveries),
        tallies: (0..threads).map(|_| Tally::default()).collect(),
        stop: AtomicBool::new(false),
        stalled: AtomicBool::new(false),
        started: clock::now() + if schedule.is_some() { clock::nanoseconds(config.lead) } else { 0 },
        config,
    });
    let mut handle = Handle { shared, threads: Vec::new() };
    for index in 0..threads {
        let engine =
            Engine::new(LoadDriver::new(handle.shared.clone(), index), Vec::new(), security.clone())?;
        let thread = thread::Builder::new().name(format!("load-{index}"));
        handle.threads.push(thread.spawn(move || engine.run().map(drop))?);
    }
    Ok(handle)
}

impl Handle {
    /// The figures so far.
    pub fn progress(&self) -> Progress {
        self.shared.progress(self.threads.iter().all(JoinHandle::is_finished))
    }

    /// Takes no new messages; those under way are finished within two seconds.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    /// Waits for the end of the load. An error if the server lacks what the load needs.
    pub fn join(mut self) -> io::Result<Sent> {
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a thread of the load panicked"))??;
        }
        match self.shared.trouble.get() {
            Some(text) => Err(io::Error::new(io::ErrorKind::Unsupported, text.clone())),
            None => Ok(self.shared.sent()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Ends the load, because what it needs is not to be had.
    fn give_up(&self, why: String) {
        // Only the first reason is kept; others are the same from other connections.
        let _ = self.trouble.set(why);
        self.stop.store(true, Relaxed);
    }

    /// The time of the last acknowledgement, or of the start before there is one.
    fn last_acknowledged(&self) -> u64 {
        let last = self.tallies.iter().map(|tally| tally.last.load(Relaxed)).max();
        last.unwrap_or(0).max(self.started)
    }

    /// Messages that are accepted, refused for good or in doubt.
    fn answered(&self) -> u64 {
        let of = |tally: &Tally| {
            [&tally.accepted, &tally.refused, &tally.in_doubt]
                .map(|count| count.load(Relaxed))
                .iter()
                .sum::<u64>()
        };
        self.tallies.iter().map(of).sum()
    }

    fn progress(&self, done: bool) -> Progress {
        let mut progress = Progress { done, ..Progress::default() };
        let mut latency = Latencies::default();
        for tally in &self.tallies {
            progress.accepted += tally.accepted.load(Relaxed);
            progress.accepted_recipients += tally.accepted_recipients.load(Relaxed);
            progress.refused += tally.refused.load(Relaxed);
            progress.in_doubt += tally.in_doubt.load(Relaxed);
            progress.connections += tally.connections.load(Relaxed);
            progress.open += tally.open.load(Relaxed);
            progress.handshakes += tally.handshakes.load(Relaxed);
            progress.resumed += tally.resumed.load(Relaxed);
            tally.with(|detail| {
                latency.add(&detail.latency);
                progress.errors += detail.failures.values().sum::<u64>();
            });
        }
        (progress.p50, progress.p99) = (latency.quantile(0.5), latency.quantile(0.99));
        progress
    }

    fn sent(&self) -> Sent {
        let mut latency = Latencies::default();
        let mut failures = BTreeMap::new();
        for tally in &self.tallies {
            tally.with(|detail| {
                latency.add(&detail.latency);
                for (&failure, &count) in &detail.failures {
                    *failures.entry(failure).or_insert(0) += count;
                }
            });
        }
        Sent {
            run: self.config.run,
            messages: self.config.messages,
            recipients: self.config.recipients,
            acknowledged: self.acknowledged.snapshot(),
            in_doubt: self.in_doubt.snapshot(),
            progress: self.progress(true),
            latency,
            failures: failures.into_iter().collect(),
            cpu: self.tallies.iter().map(|tally| tally.cpu.load(Relaxed)).sum(),
            time: (self.started, self.last_acknowledged()),
            stalled: self.stalled.load(Relaxed),
        }
    }
}
