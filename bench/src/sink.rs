//! The sink: an SMTP server that verifies and counts what arrives, and misbehaves as it is told.

mod behaviour;
mod driver;
mod fate;
mod greylist;
mod ledger;
mod pace;
mod session;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

pub use behaviour::{Behaviour, Plant};
pub(crate) use ledger::DELIVERIES_MAX;
pub use ledger::{Ledger, RunReceipts};
pub use session::Credentials;

use crate::engine::{self, Engine, Security, Tls};
use crate::latency::Latencies;
use driver::SinkDriver;
use fate::Fates;
use greylist::Greylist;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The address; port 0 takes any free one.
    pub address: SocketAddr,
    /// What it does to all its connections.
    pub behaviour: Behaviour,
}

/// Where and how to receive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses, at least one.
    pub listeners: Vec<Listener>,
    /// Behaviour towards recipients of a domain, on top of the listener's.
    pub domains: Vec<(String, Behaviour)>,
    /// Threads, each of which serves all addresses.
    pub threads: usize,
    /// Largest message in bytes, offered as SIZE; a larger one is refused.
    pub message_bytes_max: usize,
    /// A fault of the sink itself.
    pub plant: Option<Plant>,
    /// Whether and when connections are encrypted, with a self-signed certificate made at the start.
    pub tls: Tls,
    /// Whether CHUNKING is offered; without it all clients use DATA.
    pub chunking: bool,
    /// Who may send; without it everybody.
    pub auth: Option<Credentials>,
}

impl Default for Config {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2526));
        Self {
            listeners: vec![Listener { address, behaviour: Behaviour::default() }],
            domains: Vec::new(),
            threads: 1,
            message_bytes_max: 128 * 1024 * 1024,
            plant: None,
            tls: Tls::default(),
            chunking: true,
            auth: None,
        }
    }
}

impl Config {
    fn greylists(&self) -> bool {
        let of_listeners = self.listeners.iter().map(|listener| &listener.behaviour);
        let mut all = of_listeners.chain(self.domains.iter().map(|(_, behaviour)| behaviour));
        all.any(|behaviour| !behaviour.greylist.is_zero())
    }
}

/// Figures while the sink runs; they only grow, except `open`.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Messages taken, whatever they were.
    pub messages: u64,
    /// First deliveries of intact messages of a load, per recipient.
    pub delivered: u64,
    /// Deliveries on top of the first.
    pub repeated: u64,
    /// Deliveries of changed messages, per recipient.
    pub altered: u64,
    /// Recipients that a failure report accounted for.
    pub reported: u64,
    /// Messages that no load made.
    pub foreign: u64,
    /// Commands or messages refused or dropped on purpose.
    pub refused: u64,
    /// TLS handshakes.
    pub handshakes: u64,
    /// Connections open now.
    pub open: u64,
    /// Most connections open at the same time.
    pub open_max: u64,
    /// Time from the start of a message's transaction to its arrival here, median in microseconds.
    pub p50: u64,
    /// The same at 99%.
    pub p99: u64,
    /// When the last message came ([`crate::clock::now`]); 0 before.
    pub last: u64,
}

/// Everything a sink knows at its end.
#[derive(Clone, Debug)]
pub struct Received {
    /// What arrived, by run and delivery.
    pub ledger: Ledger,
    /// The last figures.
    pub progress: Progress,
    /// End-to-end latency over all.
    pub latency: Latencies,
    /// Deliveries and end-to-end latency by behaviour, in the order of the configuration: listeners, then
    /// domains.
    pub lanes: Vec<Lane>,
    /// Deliveries per recipient domain.
    pub domains: HashMap<String, u64>,
    /// CPU time of the sink's threads in nanoseconds.
    pub cpu: u64,
}

/// What one behaviour saw.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The listener's address or the domain.
    pub name: String,
    /// Most connections open at the same time; 0 for a domain, which has none of its own.
    pub open_max: u64,
    /// End-to-end latency of its deliveries.
    pub latency: Latencies,
}

/// A running sink.
pub struct Handle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What the threads of a sink share.
struct Shared {
    config: Config,
    /// The addresses as bound.
    addresses: Vec<SocketAddr>,
    tallies: Vec<Tally>,
    /// Connections per listener: now, and the most there were.
    open: Vec<(AtomicU64, AtomicU64)>,
    fates: Fates,
    /// `None` if nobody greylists.
    greylist: Option<Greylist>,
    stop: AtomicBool,
    paused: AtomicBool,
    /// CPU time of the threads in nanoseconds that does not count.
    cpu_before: AtomicU64,
}

/// The figures of one thread.
#[derive(Default)]
#[repr(align(128))]
struct Tally {
    messages: AtomicU64,
    refused: AtomicU64,
    handshakes: AtomicU64,
    cpu: AtomicU64,
    last: AtomicU64,
    detail: Mutex<Detail>,
}

/// What does not fit an atomic. Its lock is taken by its own thread once per message, and by others only to
/// look.
#[derive(Clone, Default)]
struct Detail {
    ledger: Ledger,
    /// Per lane, listeners first.
    lanes: Vec<Latencies>,
    /// Recipient domains, in the order of the desk's list, and how many deliveries each had.
    domains: Vec<(String, u64)>,
}

impl Tally {
    fn with<R>(&self, f: impl FnOnce(&mut Detail) -> R) -> R {
        f(&mut self.detail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Listens and starts threads to serve.
pub fn start(mut config: Config) -> io::Result<Handle> {
    if config.listeners.is_empty() || config.threads == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a sink needs an address and a thread"));
    }
    for (domain, behaviour) in &mut config.domains {
        if behaviour.is_of_listener() {
            let text = format!("limit and shut are for listeners, not for {domain}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        domain.make_ascii_lowercase();
    }
    let security = Security::server(config.tls)?;
    let threads = config.threads;
    let mut sockets: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        let listening = engine::listen(listener.address, threads).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listener.address))
        })?;
        addresses.push(listening[0].local_addr()?);
        sockets.iter_mut().zip(listening).for_each(|(sockets, socket)| sockets.push(socket));
    }
    let lanes = config.listeners.len() + config.domains.len();
    let tally = || {
        let detail = Detail { lanes: vec![Latencies::default(); lanes], ..Detail::default() };
        Tally { detail: Mutex::new(detail), ..Tally::default() }
    };
    let shared = Arc::new(Shared {
        tallies: (0..threads).map(|_| tally()).collect(),
        open: addresses.iter().map(|_| Default::default()).collect(),
        addresses,
        fates: Fates::new(lanes),
        greylist: config.greylists().then(Greylist::default),
        stop: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        cpu_before: AtomicU64::new(0),
        config,
    });
    let mut handle = Handle { shared, threads: Vec::new() };
    for (index, sockets) in sockets.into_iter().enumerate() {
        let engine = Engine::new(SinkDriver::new(handle.shared.clone(), index), sockets, security.clone())?;
        let thread = thread::Builder::new().name(format!("sink-{index}"));
        handle.threads.push(thread.spawn(move || engine.run().map(drop))?);
    }
    Ok(handle)
}

impl Handle {
    /// The addresses as bound, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Answers nothing, not even new connections, until [`Handle::resume`], as if the machine were stuck.
    pub fn pause(&self) {
        self.shared.paused.store(true, Relaxed);
    }

    /// Answers everything that waits.
    pub fn resume(&self) {
        self.shared.paused.store(false, Relaxed);
    }

    /// Counts from zero: what came so far was a warm-up.
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// The figures so far. With several threads a delivery repeated across two of them counts here as two
    /// first ones.
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// What arrived so far.
    pub fn received(&self) -> Received {
        self.shared.received()
    }

    /// Closes everything, soon.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    /// Stops, waits for the end, and returns what arrived.
    pub fn join(mut self) -> io::Result<Received> {
        self.stop();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a thread of the sink panicked"))??;
        }
        Ok(self.shared.received())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn forget(&self) {
        for tally in &self.tallies {
            tally.messages.store(0, Relaxed);
            tally.refused.store(0, Relaxed);
            tally.handshakes.store(0, Relaxed);
            tally.last.store(0, Relaxed);
            tally.with(|detail| {
                detail.ledger = Ledger::default();
                detail.lanes.fill(Latencies::default());
                detail.domains.iter_mut().for_each(|(_, count)| *count = 0);
            });
        }
        for (open, most) in &self.open {
            most.store(open.load(Relaxed), Relaxed);
        }
        self.fates.forget();
        if let Some(greylist) = &self.greylist {
            greylist.forget();
        }
        self.cpu_before.store(self.cpu(), Relaxed);
    }

    fn cpu(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.cpu.load(Relaxed)).sum()
    }

    fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        let mut latency = Latencies::default();
        for tally in &self.tallies {
            progress.messages += tally.messages.load(Relaxed);
            progress.refused += tally.refused.load(Relaxed);
            progress.handshakes += tally.handshakes.load(Relaxed);
            progress.last = progress.last.max(tally.last.load(Relaxed));
            tally.with(|detail| {
                detail.ledger.count_into(&mut progress);
                detail.lanes.iter().for_each(|lane| latency.add(lane));
            });
        }
        progress.open = self.open.iter().map(|(open, _)| open.load(Relaxed)).sum();
        progress.open_max = self.open.iter().map(|(_, most)| most.load(Relaxed)).sum();
        (progress.p50, progress.p99) = (latency.quantile(0.5), latency.quantile(0.99));
        progress
    }

    fn received(&self) -> Received {
        let mut ledger = Ledger::default();
        let mut lanes = self.lanes();
        let mut domains = HashMap::new();
        for tally in &self.tallies {
            tally.with(|detail| {
                ledger.absorb(&detail.ledger);
                lanes.iter_mut().zip(&detail.lanes).for_each(|(lane, more)| lane.latency.add(more));
                for (name, count) in &detail.domains {
                    *domains.entry(name.clone()).or_insert(0) += count;
                }
            });
        }
        let mut progress = Progress { delivered: 0, repeated: 0, altered: 0, ..self.progress() };
        (progress.reported, progress.foreign) = (0, 0);
        ledger.count_into(&mut progress);
        let mut latency = Latencies::default();
        lanes.iter().for_each(|lane| latency.add(&lane.latency));
        let cpu = self.cpu().saturating_sub(self.cpu_before.load(Relaxed));
        Received { ledger, progress, latency, lanes, domains, cpu }
    }

    fn lanes(&self) -> Vec<Lane> {
        let latency = Latencies::default();
        let of_listeners = self.addresses.iter().zip(&self.open).map(|(address, (_, most))| Lane {
            name: address.to_string(),
            open_max: most.load(Relaxed),
            latency: latency.clone(),
        });
        let of_domains = self.config.domains.iter().map(|(name, _)| Lane {
            name: name.clone(),
            open_max: 0,
            latency: latency.clone(),
        });
        of_listeners.chain(of_domains).collect()
    }
}
