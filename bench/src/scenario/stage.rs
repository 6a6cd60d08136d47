//! Where one round takes place: a relay, ports, a directory and a number of messages.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Scenario;
use crate::adapter::{Adapter, Relay, Setup};
use crate::sink::{Behaviour, Listener};
use crate::{load, run, sink};

/// Messages before those that count, so that processes run and memory has been used.
pub(crate) const WARM_UP: u32 = 200;
/// Nothing arriving for this long ends a run.
const QUIET: Duration = Duration::from_secs(30);
/// No acknowledgement for this long is a stall.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports below those from which connections get theirs, by default.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Where a round takes place.
pub(crate) struct Stage<'series> {
    pub(crate) scenario: &'series Scenario,
    pub(crate) adapter: &'series Adapter,
    /// On the disk under test.
    directory: &'series Path,
    /// Where the relay listens, and a port that it may use otherwise.
    ports: (u16, u16),
    pub(crate) hops: Vec<SocketAddr>,
    /// Messages that count.
    pub(crate) messages: u32,
    /// The hash of the configuration of the relay started last.
    configuration: RefCell<String>,
}

impl<'series> Stage<'series> {
    pub(crate) fn new(
        scenario: &'series Scenario,
        adapter: &'series Adapter,
        directory: &'series Path,
        messages: u32,
    ) -> io::Result<Self> {
        let ([listening, spare, sink], _held) = free_ports()?;
        let address = |hop| SocketAddr::new(hop_address(hop), sink);
        Ok(Self {
            scenario,
            adapter,
            directory,
            ports: (listening, spare),
            hops: (0..scenario.hops).map(address).collect(),
            messages,
            configuration: RefCell::default(),
        })
    }

    /// Where the relay listens.
    pub(crate) fn target(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.0))
    }

    /// The hash of the configuration that the relay ran with.
    pub(crate) fn configuration(&self) -> String {
        self.configuration.borrow().clone()
    }

    /// Starts the relay in a fresh directory.
    pub(crate) fn start(&self) -> io::Result<Relay> {
        let scenario = self.scenario;
        let relay = self.adapter.start(Setup {
            directory: self.fresh_directory(),
            port: self.ports.0,
            spare_port: self.ports.1,
            next_hop: self.hops[0],
            routes: self.routes(),
            sessions: scenario.load.sessions,
            connections: scenario.connections,
            retry: scenario.retry,
        })?;
        self.configuration.borrow_mut().clone_from(&relay.configuration);
        Ok(relay)
    }

    /// A run with this relay, with a warm-up.
    pub(crate) fn config(&self, relay: &Relay, messages: u32) -> run::Config {
        let behaviour = &self.scenario.behaviour;
        run::Config {
            load: load::Config { patience: PATIENCE, messages, ..self.load() },
            sink: sink_at(&self.hops, behaviour),
            warm_up: WARM_UP,
            pids: relay.pids.clone(),
            quiet: QUIET,
            ..run::Config::default()
        }
    }

    /// The scenario's load on this relay, under a mark of its own.
    pub(crate) fn load(&self) -> load::Config {
        load::Config { target: self.target(), run: fastrand::u32(..), ..self.scenario.load.clone() }
    }

    fn fresh_directory(&self) -> PathBuf {
        let mark = fastrand::u32(..);
        self.directory.join(format!("{}-{}-{mark:08x}", self.adapter.description.name, self.scenario.name))
    }

    /// Domains in turn to the next hops; none if there is one for all.
    fn routes(&self) -> Vec<(String, SocketAddr)> {
        if self.hops.len() == 1 {
            return Vec::new();
        }
        if let super::Kind::Tarpit = self.scenario.kind {
            return super::neighbour::routes(&self.hops);
        }
        let load = &self.scenario.load;
        let hop = |domain: u32| self.hops[domain as usize % self.hops.len()];
        let route = |domain| (format!("d{domain}.{}", load.domain_suffix), hop(domain));
        (0..load.domains).map(route).collect()
    }
}

/// A sink on these addresses, all alike. Without CHUNKING all relays send in the same way.
pub(crate) fn sink_at(hops: &[SocketAddr], behaviour: &Behaviour) -> sink::Config {
    let listener = |&address| Listener { address, behaviour: behaviour.clone() };
    let listeners = hops.iter().map(listener).collect();
    sink::Config { listeners, chunking: false, ..sink::Config::default() }
}

/// The first next hop is where everybody expects it, the others are beside it.
fn hop_address(hop: u32) -> IpAddr {
    match hop {
        0 => Ipv4Addr::LOCALHOST,
        _ => Ipv4Addr::new(127, 1, (hop / 250) as u8, (hop % 250 + 1) as u8),
    }
    .into()
}

/// Three ports of 127.0.0.1 that nobody uses, and the sockets that show it.
fn free_ports() -> io::Result<([u16; 3], [TcpListener; 3])> {
    let mut found = Vec::new();
    for _ in 0..1000 {
        let port = fastrand::u16(PORTS);
        if let Ok(socket) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            found.push((port, socket));
        }
        if let Ok([one, two, three]) =
            <[_; 3]>::try_from(std::mem::take(&mut found)).map_err(|few| found = few)
        {
            return Ok(([one.0, two.0, three.0], [one.1, two.1, three.1]));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port found"))
}
