//! Idle connections: what each of them costs the server in memory.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::engine::{Driver, Ending, Engine, Flow, Turn};
use crate::load::loopback;
use crate::{clock, observe};

/// Connections that may be on their way to their EHLO reply at the same time.
const STARTING_MAX: u64 = 256;
/// Connections per source address: below the number of its ephemeral ports (28,232 by default).
const PER_SOURCE_MAX: usize = 20_000;

/// How many connections, where, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub target: SocketAddr,
    /// Connections, each of which stays at the point behind EHLO.
    pub connections: u64,
    /// Loopback addresses to connect from, at least as many as the ports demand.
    pub sources: usize,
    /// Processes of the server, to read their memory.
    pub pids: Vec<u32>,
    /// How long to hold the connections before the last reading.
    pub hold: Duration,
    /// How long to try to open them.
    pub patience: Duration,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Outcome {
    /// Connections that got their EHLO reply.
    pub ready: u64,
    /// Connections that could not be established or were closed by the server, at once or later.
    pub lost: u64,
    /// RSS of the server in bytes before the first connection.
    pub rss_before: u64,
    /// RSS in bytes when all were held.
    pub rss_after: u64,
    /// PSS in bytes before.
    pub pss_before: u64,
    /// PSS in bytes when all were held.
    pub pss_after: u64,
    /// RSS gained per connection in bytes.
    pub rss_per_connection: f64,
    /// CPU time in microseconds that the server used while it only held them.
    pub cpu_held: u64,
}

#[derive(Default)]
struct Shared {
    begun: AtomicU64,
    ready: AtomicU64,
    lost: AtomicU64,
    stop: AtomicBool,
}

/// Opens the connections, holds them, reads the memory, and closes them.
pub fn run(config: &Config) -> io::Result<Outcome> {
    let shared = Arc::new(Shared::default());
    let memory = |pids: &[u32]| -> io::Result<(observe::Reading, u64)> {
        Ok(if pids.is_empty() {
            Default::default()
        } else {
            (observe::read(pids)?, observe::proportional_memory(pids)?)
        })
    };
    let (before, pss_before) = memory(&config.pids)?;
    let engine =
        Engine::new(IdleDriver { config: config.clone(), shared: shared.clone() }, Vec::new(), None)?;
    let thread = thread::Builder::new().name("idle".into()).spawn(move || engine.run().map(drop))?;
    let deadline = clock::now() + clock::nanoseconds(config.patience);
    let settled = || shared.ready.load(Relaxed) + shared.lost.load(Relaxed) >= config.connections;
    while !settled() && clock::now() < deadline {
        clock::pause(Duration::from_millis(20));
    }
    let (start, _) = memory(&config.pids)?;
    clock::pause(config.hold);
    let (after, pss_after) = memory(&config.pids)?;
    let (ready, lost) = (shared.ready.load(Relaxed), shared.lost.load(Relaxed));
    shared.stop.store(true, Relaxed);
    thread.join().map_err(|_| io::Error::other("the thread of the idle connections panicked"))??;
    Ok(Outcome {
        ready,
        lost,
        rss_before: before.rss,
        rss_after: after.rss,
        pss_before,
        pss_after,
        rss_per_connection: after.rss.saturating_sub(before.rss) as f64 / ready.max(1) as f64,
        cpu_held: (after.user + after.system) - (start.user + start.system),
    })
}

/// How far a connection is.
enum Idler {
    Greeting,
    Ehlo,
    Held,
}

struct IdleDriver {
    config: Config,
    shared: Arc<Shared>,
}

impl Driver for IdleDriver {
    type Session = Idler;

    fn accepted(&mut self, _: usize, _: IpAddr, _: &mut Vec<u8>) -> (Idler, Flow) {
        unreachable!("idle connections have no listener")
    }

    fn input(&mut self, idler: &mut Idler, input: &[u8], out: &mut Vec<u8>) -> (usize, Flow) {
        // A last line has a space behind its code.
        let last = input.split_inclusive(|&byte| byte == b'\n').next_back().unwrap_or_default();
        if last.last() != Some(&b'\n') || last.get(3) != Some(&b' ') {
            return (0, Flow::Read);
        }
        if last[0] != b'2' {
            return (input.len(), Flow::Abort);
        }
        *idler = match idler {
            Idler::Greeting => {
                out.extend_from_slice(b"EHLO idle.example\r\n");
                Idler::Ehlo
            }
            Idler::Ehlo => {
                self.shared.ready.fetch_add(1, Relaxed);
                Idler::Held
            }
            Idler::Held => Idler::Held,
        };
        (input.len(), Flow::Read)
    }

    fn woken(&mut self, _: &mut Idler, _: &mut Vec<u8>) -> Flow {
        Flow::Read
    }

    fn closed(&mut self, idler: Idler, ending: Ending) {
        if ending != Ending::Stopped {
            self.shared.lost.fetch_add(1, Relaxed);
            if matches!(idler, Idler::Held) {
                self.shared.ready.fetch_sub(1, Relaxed);
            }
        }
    }

    fn turn(&mut self) -> Turn<Idler> {
        if self.shared.stop.load(Relaxed) {
            return Turn::End;
        }
        let begun = self.shared.begun.load(Relaxed);
        let settled = self.shared.ready.load(Relaxed) + self.shared.lost.load(Relaxed);
        if begun == self.config.connections || begun - settled.min(begun) >= STARTING_MAX {
            return Turn::Sleep;
        }
        self.shared.begun.store(begun + 1, Relaxed);
        let needed = (self.config.connections as usize).div_ceil(PER_SOURCE_MAX);
        let source = loopback(begun as usize % self.config.sources.max(needed));
        let target = self.config.target;
        let local = target.is_ipv4() && target.ip().is_loopback();
        Turn::Open(target, local.then_some(source), Idler::Greeting)
    }
}
