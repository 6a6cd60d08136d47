//! A second [`::host::Host`]: seeded scheduling, virtual time, and a network, a disk and names that fail on purpose.
//!
//! A *world* is one run: some *machines* (processes that crash as a whole, each with a disk that survives) and the
//! *outside* (scripted clients and next hops). Everything in it is drawn from one seed, so a seed that fails once
//! fails always. Afterwards the [`oracle`] compares what the outside saw with what the relay promises.
//!
//! ```text
//! run ── World ── boot(machine) ─▶ SimHost per shard ─▶ the program under test
//!          │
//!          └──── outside() ─▶ Client, NextHop ─▶ Journal ─▶ oracle::check
//! ```
//! Invariant: nothing here reads a clock, a file, a socket or a random source of the real machine.
#![forbid(unsafe_code)]

mod bell;
mod conn;
mod disk;
mod executor;
mod file;
mod host;
mod image;
mod journal;
mod lines;
mod link;
mod listener;
mod names;
mod network;
mod next_hop;
mod random;
mod timers;
mod world;

pub mod client;
pub mod dns;
pub mod oracle;
pub mod relay;
pub mod swarm;

pub use crate::host::SimHost;
pub use bell::SimBell;
pub use client::{Client, Submission};
pub use conn::{Chunk, SimConn};
pub use disk::{Disk, DiskFaults};
pub use dns::Zone;
pub use executor::{Failure, MachineId};
pub use file::SimFile;
pub use journal::{Delivery, Journal, Sent};
pub use lines::Lines;
pub use listener::SimListener;
pub use network::{Meter, Network, NetworkFaults};
pub use next_hop::{NextHop, Profile};
pub use random::{Chance, Span, Stream, Streams};
pub use swarm::Swarm;
pub use world::{Crash, Options, Report, World, run};
