//! What one shard of a simulated machine may ask of its world.

use crate::bell::SimBell;
use crate::conn::SimConn;
use crate::disk::Disk;
use crate::file::SimFile;
use crate::listener::SimListener;
use crate::network::Network;
use crate::random::Span;
use crate::world::{Core, Life};
use host::{AddressAnswer, DnsError, Host, MxAnswer, Planted, Room, WorkError};
use mail::{Time, WallTime};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

/// How long a piece of work takes on a worker thread, with its wait for one.
const WORK: Span = Span::millis(1, 200);

/// The host of one shard, for one life of its machine.
#[derive(Clone)]
pub struct SimHost {
    core: Rc<Core>,
    life: Life,
    shard: usize,
    bell: SimBell,
}

impl SimHost {
    pub(crate) fn new(core: Rc<Core>, life: Life, shard: usize, bell: SimBell) -> SimHost {
        SimHost { core, life, shard, bell }
    }

    fn disk(&self) -> Rc<Disk> {
        self.core.disk(self.life.machine)
    }

    fn expires(&self, at: Time) -> Time {
        self.core.to_machine(self.life, at)
    }

    fn error(&self, error: DnsError) -> DnsError {
        match error {
            DnsError::NoSuchDomain(until) => DnsError::NoSuchDomain(self.expires(until)),
            transient @ DnsError::Transient(_) => transient,
        }
    }
}

impl Host for SimHost {
    type Conn = SimConn;
    type Listener = SimListener;
    type File = SimFile;
    type Bell = SimBell;

    fn now(&self) -> Time {
        self.core.to_machine(self.life, self.core.timers.now())
    }

    fn wall(&self) -> WallTime {
        self.core.wall()
    }

    fn random(&self) -> u64 {
        self.core.streams.host.any()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if self.core.is_alive(self.life) {
            self.core.executor.spawn(self.life.machine, self.shard, Box::pin(task));
        } else {
            // What is dropped in a crash may try to start something, and so may that when it is dropped in turn.
            // A dead process runs nothing, not even destructors.
            std::mem::forget(task);
        }
    }

    async fn sleep_until(&self, at: Time) {
        self.core.timers.sleep_until(self.core.to_world(self.life, at)).await;
    }

    fn listen(&self, at: SocketAddr) -> io::Result<SimListener> {
        let backlog = self.core.network.listen(at, self.life)?;
        Ok(SimListener { core: self.core.clone(), backlog })
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>, deadline: Time) -> io::Result<SimConn> {
        let deadline = self.core.to_world(self.life, deadline);
        Network::connect(&self.core, self.life, to, from, deadline).await
    }

    async fn lookup_mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        match self.core.lookup_mx(domain).await {
            Ok((records, expires)) => Ok(MxAnswer { records, expires: self.expires(expires) }),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn lookup_addresses(&self, name: &str) -> Result<AddressAnswer, DnsError> {
        match self.core.lookup_addresses(name).await {
            Ok((addresses, expires)) => Ok(AddressAnswer { addresses, expires: self.expires(expires) }),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<SimFile> {
        self.core.create_zeroed(self.disk(), path, size).await
    }

    async fn open_write(&self, path: &Path) -> io::Result<SimFile> {
        self.core.open(self.disk(), path).await
    }

    async fn open_read(&self, path: &Path) -> io::Result<SimFile> {
        self.core.open(self.disk(), path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.core.rename(&self.disk(), from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.core.remove(&self.disk(), path).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.core.create_dir(&self.disk(), path).await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.core.list_dir(&self.disk(), path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.core.sync_dir(&self.disk(), path).await
    }

    /// The work is done at once, and its answer comes when a thread would have it.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        deadline: Time,
    ) -> Result<T, WorkError> {
        let random = &self.core.streams.work;
        let (takes, is_busy) = (random.span(WORK), random.hits(self.core.workers_busy));
        if is_busy {
            return Err(WorkError::Busy);
        }
        let end = self.now() + takes;
        if end >= deadline {
            self.sleep_until(deadline).await;
            return Err(WorkError::Late);
        }
        let answer = catch_unwind(AssertUnwindSafe(work)).map_err(|_| WorkError::Panicked);
        self.sleep_until(end).await;
        answer
    }

    fn room(&self, directory: &Path) -> Option<Room> {
        Some(self.disk().room(directory))
    }

    fn bell(&self) -> SimBell {
        self.bell.clone()
    }

    async fn rung(&self) {
        self.bell.rung(&self.core.timers, &self.core.streams.scheduling).await;
    }

    fn planted(&self, fault: Planted) -> bool {
        self.core.planted.borrow().contains(&fault)
    }
}
