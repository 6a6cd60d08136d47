//! The one seam to the outside world.
//!
//! A shard reaches time, tasks, sockets, files, names and other shards only through [`Host`]. There are two
//! implementations: [`ring_host`], a glommio executor per core with a ring of its own, and the simulator's.
//!
//! Rules that both keep:
//! * Everything is local to one shard and one thread, but for [`Bell`].
//! * A time-out is an argument (`deadline`), never a dropped future: a future that owns an operation under way
//!   is polled to its end.
//! * Buffers are owned by the operation while it lasts, as io_uring demands.
#![deny(clippy::unwrap_used)]

pub mod buffer;
pub mod dns;
#[cfg(feature = "ring")]
pub mod ring_host;
pub mod room;

pub use buffer::AlignedBuf;
pub use dns::{AddressAnswer, DnsError, Mx, MxAnswer};
pub use room::Room;

use bytes::Bytes;
use mail::{Time, WallTime};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Faults that the simulator plants to prove that its oracles see; see [`Host::planted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The spool answers an append before the sync that covers it.
    AckBeforeSync,
    /// An outcome is forgotten instead of recorded.
    OutcomeLost,
    /// A delivery order is dropped when the peer's queue is full.
    OrderDropped,
    /// The spool's committer panics when it has written a group.
    CommitterPanics,
}

/// Why [`Host::work`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkError {
    /// Too much work waits already: try again later.
    Busy,
    /// The deadline has passed.
    Late,
    /// The work panicked.
    Panicked,
}

/// What one shard may ask of the world.
#[allow(async_fn_in_trait, reason = "a shard's futures never leave its thread")]
pub trait Host: Clone + 'static {
    /// A stream connection.
    type Conn: Conn;
    /// A listening socket.
    type Listener: Listener<Conn = Self::Conn>;
    /// An open file.
    type File: File;
    /// Wakes a shard from another thread.
    type Bell: Bell;

    /// The monotonic clock. It may stand still until the task that asks waits for something.
    fn now(&self) -> Time;
    /// The wall clock, likewise.
    fn wall(&self) -> WallTime;
    /// Randomness, good enough for jitter and choice, not for secrets.
    fn random(&self) -> u64;
    /// Starts a task that lives until it ends by itself. A panic in it is counted, logged and contained.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Waits until `at`, within a few milliseconds.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()>;

    /// Listens at `at`, sharing the address with the other shards (SO_REUSEPORT).
    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener>;
    /// Connects to `to`, from `from` when given; `TimedOut` at `deadline`.
    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>, deadline: Time) -> io::Result<Self::Conn>;
    /// The mail exchangers of `domain` (ASCII), sorted by preference; an empty set means that there is no MX.
    async fn lookup_mx(&self, domain: &str) -> Result<MxAnswer, DnsError>;
    /// The addresses of `name` (ASCII), IPv6 and IPv4.
    async fn lookup_addresses(&self, name: &str) -> Result<AddressAnswer, DnsError>;

    /// Creates `path` with `size` bytes of zeros that are really on disk, so that later synced writes into it
    /// need no journal commit; replaces what was there. The directory entry is durable when this returns.
    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<Self::File>;
    /// Opens an existing file for writing in place and reading.
    async fn open_write(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading only; any shard may do so with any shard's file.
    async fn open_read(&self, path: &Path) -> io::Result<Self::File>;
    /// Renames within one directory, replacing `to`. Durable after [`Host::sync_dir`].
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Host::sync_dir`].
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents; durable when this returns. No error when it is there already.
    async fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted; `NotFound` when there is no such directory.
    async fn list_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes renames and removals in `path` durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The room on the file system of `directory` as it was a moment ago, without waiting; `None` while it is not known.
    fn room(&self, _directory: &Path) -> Option<Room> {
        None
    }

    /// Has `work`, which may take long, done on another thread. It is skipped if it has not begun by `deadline`, and
    /// its answer is dropped if it comes later.
    ///
    /// # Errors
    /// [`WorkError`] says why there is no answer.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        deadline: Time,
    ) -> Result<T, WorkError>;

    /// The bell of this shard, to be handed to the others.
    fn bell(&self) -> Self::Bell;
    /// Waits until the bell has been rung since this last returned. One task per shard may wait.
    fn rung(&self) -> impl Future<Output = ()>;

    /// What the host counts: name, help, value; only ever growing.
    fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }

    /// How the host is now: name, help, value.
    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }

    /// Whether a fault is planted. Always false outside the simulator, and compiled away there.
    #[inline(always)]
    fn planted(&self, _fault: Planted) -> bool {
        false
    }
}

/// A stream connection. Dropping it closes it at once, whatever is under way.
#[allow(async_fn_in_trait, reason = "a shard's futures never leave its thread")]
pub trait Conn: 'static {
    /// Received bytes; on loan from a bounded pool of the shard, so drop it before waiting for anything else.
    type Chunk: std::ops::Deref<Target = [u8]>;

    /// The other end.
    fn peer(&self) -> SocketAddr;
    /// This end.
    fn local(&self) -> SocketAddr;
    /// The next bytes, at least one; `None` once the peer has closed its half. `TimedOut` at `deadline`, after
    /// which the connection can still be used.
    async fn recv(&mut self, deadline: Time) -> io::Result<Option<Self::Chunk>>;
    /// Sends all of `buffer` and leaves it empty, with room kept for reuse. `TimedOut` at `deadline`; after any
    /// error only dropping the connection is allowed.
    async fn send(&mut self, buffer: &mut Vec<u8>, deadline: Time) -> io::Result<()>;
    /// Sends all of `bytes` without copying them. Errors as for [`Conn::send`].
    async fn send_bytes(&mut self, bytes: Bytes, deadline: Time) -> io::Result<()>;
    /// Whether the peer has closed or sent something although it was not asked; asked before reuse, never waits.
    fn is_stale(&mut self) -> bool;
    /// Closes in order: says that no more will come (FIN), then reads and discards what is still under way for at
    /// most a second, so that the last reply is not lost to a reset.
    async fn close(self);
}

/// A listening socket. Dropping it stops listening.
#[allow(async_fn_in_trait, reason = "a shard's futures never leave its thread")]
pub trait Listener: 'static {
    /// The connections that it yields.
    type Conn: Conn;

    /// The address, with the real port where 0 was asked.
    fn local(&self) -> SocketAddr;
    /// The next connection. On an error (out of descriptors, say) wait a moment before asking again.
    async fn accept(&mut self) -> io::Result<Self::Conn>;
}

/// An open file, written only in whole blocks at block boundaries.
#[allow(async_fn_in_trait, reason = "a shard's futures never leave its thread")]
pub trait File: 'static {
    /// Bytes in the file when it was opened or created.
    fn size(&self) -> u64;
    /// Writes all of `buffer` at `offset` and syncs (write, then fdatasync). Only after `Ok` is it durable; after
    /// an error nothing is known of the range, and the file must not be written again. The buffer comes back.
    async fn write_synced(&self, buffer: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf);
    /// Reads exactly `len` bytes at `offset`; `UnexpectedEof` past the end.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// Wakes the task that waits in [`Host::rung`], from any thread; costs a write to memory while that shard is awake.
pub trait Bell: Clone + Send + Sync + 'static {
    /// Rings it. Rings while none waits are remembered as one.
    fn ring(&self);
}
