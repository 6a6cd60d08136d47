//! The real host: one glommio executor per core for tasks only, and beside it one io_uring of the shard's own for
//! sockets, files, timers and bells.
//!
//! * `core` is what is under way and the turn that moves it; `pump` is the task that turns it.
//! * `stream`, `listener` and `operation` are what the ring works on, each in a slot that keeps descriptors and
//!   memory until the kernel's last completion; `conn` and `file` are what tasks hold, and may drop at any moment.
//! * `workers` are threads for what takes long.
//! * `pool` lends receive buffers; `timers`, `slots` and `token` are plain data.
//! * Invariant: nothing that a shard waits for hangs on glommio's reactor.
//! * Invariant: no error of the ring panics; the last one ends the shard with that error.

mod bell;
mod conn;
mod core;
mod file;
mod listener;
mod operation;
mod pool;
mod probe;
mod pump;
mod resolver;
mod ring;
mod room;
mod slots;
mod stats;
mod stream;
mod task;
mod timers;
mod token;
mod workers;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use mail::{Time, WallTime};

use self::core::{Due, Shared, now};
use self::pool::Memory;
use self::resolver::Resolver;
use self::timers::TimerId;
use crate::{AddressAnswer, DnsError, Host, MxAnswer, Room, WorkError};

pub use self::bell::RingBell;
pub use self::conn::RingConn;
pub use self::file::RingFile;
pub use self::listener::RingListener;
pub use self::probe::{Finding, probe};
pub use self::resolver::DnsServers;
pub use self::stats::HostStats;
pub use self::stream::RingChunk;
pub use self::workers::Workers;

/// Memory that glommio pins for each of its three rings, in bytes; nothing of ours uses it.
const EXECUTOR_IO_BYTES: usize = 64 << 10;
/// Depth of glommio's rings.
const EXECUTOR_RING_DEPTH: usize = 512;
/// How long tasks run before glommio looks at its own rings, where only the heartbeat waits. Below 10 ms glommio is
/// prone to fall asleep with work to do; above, looking rarely costs nothing.
const EXECUTOR_PREEMPT: Duration = Duration::from_millis(100);

/// How a shard is run.
#[derive(Clone)]
pub struct Options {
    /// The CPU to be pinned to; unpinned when absent.
    pub cpu: Option<usize>,
    /// Name of the thread.
    pub name: String,
    /// Receive buffers, shared by all connections of the shard; a power of two from 16 to 32768, rounded up. When
    /// none is left, receiving pauses until some are back (counted in [`HostStats::enobufs`]).
    pub buffers: u16,
    /// Bytes of one receive buffer, from 512 to 1 MiB.
    pub buffer_bytes: usize,
    /// Who answers questions about names.
    pub dns: DnsServers,
    /// The bell by which others wake this shard; one of its own when absent.
    pub bell: Option<RingBell>,
    /// Threads for long work; without any, all such work is refused.
    pub workers: Option<Workers>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cpu: None,
            name: "shard".to_owned(),
            buffers: 1024,
            buffer_bytes: 8 << 10,
            dns: DnsServers::System,
            bell: None,
            workers: None,
        }
    }
}

/// Starts a shard on a thread of its own. The thread ends when `shard_main` has, after whatever is under way has been
/// cancelled; tasks that still wait then never go on. It ends with an error when the ring is of no use any more: then
/// the spool's state is unknown to the shard, and whoever joins should end the process.
///
/// # Errors
/// When the thread, the ring ([`probe`] tells why) or the executor cannot be made.
pub fn start<F, Fut>(options: Options, shard_main: F) -> io::Result<JoinHandle<io::Result<()>>>
where
    F: FnOnce(RingHost) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (started, starting) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(options.name.clone());
    let thread = thread.spawn(move || match prepare(options) {
        Ok((executor, host)) => {
            // Whoever started the shard waits for this.
            let _ = started.send(Ok(()));
            run(&executor, host, shard_main)
        }
        Err(error) => {
            let _ = started.send(Err(error));
            Ok(())
        }
    })?;
    match starting.recv() {
        Ok(outcome) => outcome.map(|()| thread),
        Err(_) => Err(io::Error::other("the shard's thread panicked while it started")),
    }
}

/// Makes the ring first: where there is none it fails with an error, and glommio with a panic.
fn prepare(options: Options) -> io::Result<(LocalExecutor, RingHost)> {
    let bell = options.bell.map_or_else(RingBell::new, Ok)?;
    let shared = Rc::new(Shared::new(Memory::new(options.buffers, options.buffer_bytes), bell)?);
    let placement = options.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(EXECUTOR_PREEMPT)
        .make()
        .map_err(io::Error::from)?;
    let resolver = Rc::new(Resolver::new(&shared, &options.dns));
    let random = Rc::new(Cell::new(RandomState::new().hash_one(now().0)));
    Ok((executor, RingHost { shared, resolver, random, workers: options.workers, rooms: Rc::default() }))
}

fn run<F, Fut>(executor: &LocalExecutor, host: RingHost, shard_main: F) -> io::Result<()>
where
    F: FnOnce(RingHost) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let shared = host.shared.clone();
    let outcome = executor.run(async move {
        let shared = host.shared.clone();
        let pumped = shared.clone();
        glommio::spawn_local(async move { pumped.fail(pump::pump(pumped.clone()).await) }).detach();
        glommio::spawn_local(pump::heartbeat()).detach();
        let mut main = pin!(shard_main(host));
        poll_fn(|cx| {
            shared.polls.set(shared.polls.get() + 1);
            let poll = match shared.failure(cx) {
                Some(error) => Poll::Ready(Err(error)),
                None => main.as_mut().poll(cx).map(Ok),
            };
            shared.has_ended.set(poll.is_ready());
            poll
        })
        .await
    });
    if let Err(error) = &outcome {
        tracing::error!(%error, "the ring has failed; the shard ends");
    }
    shared.end();
    outcome
}

/// One shard's access to the world.
#[derive(Clone)]
pub struct RingHost {
    shared: Rc<Shared>,
    resolver: Rc<Resolver>,
    random: Rc<Cell<u64>>,
    workers: Option<Workers>,
    rooms: Rc<room::Rooms>,
}

impl RingHost {
    /// Counters and levels at this moment.
    pub fn stats(&self) -> HostStats {
        HostStats::read(&self.shared)
    }
}

impl Host for RingHost {
    type Conn = RingConn;
    type Listener = RingListener;
    type File = RingFile;
    type Bell = RingBell;

    fn now(&self) -> Time {
        self.shared.now()
    }

    fn wall(&self) -> WallTime {
        self.shared.wall()
    }

    /// SplitMix64, seeded from the system's randomness.
    fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        task::spawn(&self.shared, task);
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> {
        sleep_until(self.shared.clone(), at)
    }

    fn listen(&self, at: SocketAddr) -> io::Result<RingListener> {
        RingListener::bind(&self.shared, at)
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>, deadline: Time) -> io::Result<RingConn> {
        RingConn::connect(&self.shared, to, from.map(|from| SocketAddr::new(from, 0)), deadline).await
    }

    async fn lookup_mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        self.resolver.mx(domain).await
    }

    async fn lookup_addresses(&self, name: &str) -> Result<AddressAnswer, DnsError> {
        self.resolver.addresses(name).await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<RingFile> {
        RingFile::create_zeroed(&self.shared, path, size).await
    }

    async fn open_write(&self, path: &Path) -> io::Result<RingFile> {
        RingFile::open_write(&self.shared, path).await
    }

    async fn open_read(&self, path: &Path) -> io::Result<RingFile> {
        RingFile::open_read(&self.shared, path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        file::rename(&self.shared, from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        file::remove(&self.shared, path).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        file::create_dir(&self.shared, path).await
    }

    /// Blocks the shard while it reads, because there is no io_uring operation for it: for start-up only.
    async fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let mut names = names.filter_map(io::Result::transpose).collect::<io::Result<Vec<String>>>()?;
        names.sort();
        Ok(names)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        file::sync_dir(&self.shared, path).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        deadline: Time,
    ) -> Result<T, WorkError> {
        let workers = self.workers.as_ref().ok_or(WorkError::Busy)?;
        workers::work(self.shared.clone(), workers, work, deadline).await
    }

    fn room(&self, directory: &Path) -> Option<Room> {
        self.rooms.of(directory)
    }

    fn bell(&self) -> RingBell {
        self.shared.bell.clone()
    }

    fn rung(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            if self.shared.take_rung() {
                return Poll::Ready(());
            }
            self.shared.core().bell_waiter = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.stats().counters()
    }

    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.stats().gauges()
    }
}

/// Takes its timer along when it is dropped.
struct Asleep {
    shared: Rc<Shared>,
    timer: Option<TimerId>,
}

impl Asleep {
    fn cancel(&mut self) {
        if let Some(timer) = self.timer.take()
            && let Some(mut core) = self.shared.living_core()
        {
            core.timers.cancel(timer);
        }
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Waits until `at`.
async fn sleep_until(shared: Rc<Shared>, at: Time) {
    let mut asleep = Asleep { shared, timer: None };
    poll_fn(|cx| {
        if asleep.shared.now() >= at {
            return Poll::Ready(());
        }
        asleep.cancel();
        asleep.timer = Some(asleep.shared.core().timers.insert(at, Due::Sleep(cx.waker().clone())));
        Poll::Pending
    })
    .await;
}
