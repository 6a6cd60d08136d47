//! Clients that hold connections for as long as they are let, saying next to nothing: NOOP, byte by byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::engine::{Driver, Ending, Engine, Flow, Turn};
use crate::load::loopback;

/// Said over and over. Nothing waits for a reply to it.
const WORDS: &[u8] = b"NOOP\r\n";
/// The first loopback address to connect from, so that the ports of the load's remain free.
const FIRST_SOURCE: usize = 10;
/// Connections per source address.
const PER_SOURCE: u64 = 1000;

/// How many, and how slow.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub target: SocketAddr,
    /// Connections; one that ends is opened again.
    pub connections: u64,
    /// Time between two new connections.
    pub opening: Duration,
    /// Time between two bytes on a connection.
    pub pause: Duration,
}

/// What the clients came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Connections established, those that ended included.
    pub connected: u64,
    /// Connections that the server ended or refused.
    pub ended: u64,
}

/// Clients that run.
pub struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicU64,
    ended: AtomicU64,
    stop: AtomicBool,
}

/// Starts the clients on a thread of their own.
pub fn start(config: Config) -> io::Result<Handle> {
    let shared = Arc::new(Shared::default());
    let driver = DripDriver { config, shared: shared.clone(), live: 0, begun: 0, next: 0 };
    let engine = Engine::new(driver, Vec::new(), None)?;
    let thread = thread::Builder::new().name("drip".into()).spawn(move || engine.run().map(drop))?;
    Ok(Handle { shared, thread: Some(thread) })
}

impl Handle {
    /// What they came to so far.
    pub fn outcome(&self) -> Outcome {
        Outcome { connected: self.shared.connected.load(Relaxed), ended: self.shared.ended.load(Relaxed) }
    }

    /// Closes all connections and waits until that is done.
    pub fn join(mut self) -> io::Result<Outcome> {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("the thread of slow clients panicked"))??;
        }
        Ok(self.outcome())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

struct DripDriver {
    config: Config,
    shared: Arc<Shared>,
    live: u64,
    begun: u64,
    /// When the next connection may be opened.
    next: u64,
}

/// How many bytes a connection has said.
struct Drip(usize);

impl DripDriver {
    fn pause(&self) -> Flow {
        Flow::Wait(clock::now() + clock::nanoseconds(self.config.pause))
    }
}

impl Driver for DripDriver {
    type Session = Drip;

    fn accepted(&mut self, _: usize, _: IpAddr, _: &mut Vec<u8>) -> (Drip, Flow) {
        unreachable!("slow clients have no listener")
    }

    fn connected(&mut self, _: &mut Drip) {
        self.shared.connected.fetch_add(1, Relaxed);
    }

    fn input(&mut self, _: &mut Drip, input: &[u8], _: &mut Vec<u8>) -> (usize, Flow) {
        (input.len(), self.pause())
    }

    fn woken(&mut self, drip: &mut Drip, out: &mut Vec<u8>) -> Flow {
        out.push(WORDS[drip.0 % WORDS.len()]);
        drip.0 += 1;
        // At the end of a line its reply is read, and with it the end of the connection is seen.
        if drip.0.is_multiple_of(WORDS.len()) { Flow::Read } else { self.pause() }
    }

    fn closed(&mut self, _: Drip, ending: Ending) {
        self.live -= 1;
        if ending != Ending::Stopped {
            self.shared.ended.fetch_add(1, Relaxed);
        }
    }

    fn turn(&mut self) -> Turn<Drip> {
        if self.shared.stop.load(Relaxed) {
            return Turn::End;
        }
        let now = clock::now();
        if self.live == self.config.connections || now < self.next {
            return Turn::Sleep;
        }
        self.next = now + clock::nanoseconds(self.config.opening);
        self.live += 1;
        self.begun += 1;
        let target = self.config.target;
        let place = FIRST_SOURCE + (self.begun / PER_SOURCE % 100) as usize;
        let local = target.is_ipv4() && target.ip().is_loopback();
        Turn::Open(target, local.then(|| loopback(place)), Drip(0))
    }
}
