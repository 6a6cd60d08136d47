//! A host for tests: one thread, virtual time, a seeded order of tasks, and a disk that can lose power.

mod disk;

pub(crate) use disk::Disk;

use bytes::Bytes;
use disk::DiskFile;
use host::{AddressAnswer, Bell, Conn, DnsError, Host, Listener, MxAnswer, Planted, WorkError};
use mail::{Time, WallTime};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Clone)]
pub(crate) struct TestHost(Rc<World>);

struct World {
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Arc<Mutex<Vec<usize>>>,
    timers: RefCell<BTreeMap<(Time, u64), Waker>>,
    now: Cell<Time>,
    random: RefCell<fastrand::Rng>,
    disk: Rc<Disk>,
    planted: Cell<Option<Planted>>,
}

struct TaskWaker {
    task: usize,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap();
        if !ready.contains(&self.task) {
            ready.push(self.task);
        }
    }
}

impl TestHost {
    pub fn new(seed: u64, disk: Disk) -> TestHost {
        TestHost(Rc::new(World {
            tasks: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            now: Cell::new(Time(1)),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            disk: Rc::new(disk),
            planted: Cell::new(None),
        }))
    }

    pub fn disk(&self) -> &Disk {
        &self.0.disk
    }

    pub fn plant(&self, fault: Planted) {
        self.0.planted.set(Some(fault));
    }

    pub fn chance(&self, percent: u32) -> bool {
        self.0.random.borrow_mut().u32(0..100) < percent
    }

    pub fn below(&self, end: usize) -> usize {
        self.0.random.borrow_mut().usize(0..end)
    }

    /// Runs until `main` is done. `None` when the power goes off or nothing can happen any more.
    pub fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Option<T> {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.spawn(async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            let done = result.borrow_mut().take();
            if done.is_some() || self.0.disk.is_off() {
                return done;
            }
            if !self.poll_one() && !self.advance() {
                return None;
            }
        }
    }

    /// Lets virtual time pass.
    pub fn pass(&self, milliseconds: u64) {
        let (host, at) = (self.clone(), self.now() + std::time::Duration::from_millis(milliseconds));
        self.run(async move { host.sleep_until(at).await });
    }

    fn poll_one(&self) -> bool {
        let task = {
            let mut ready = self.0.ready.lock().unwrap();
            if ready.is_empty() {
                return false;
            }
            let at = self.below(ready.len());
            ready.swap_remove(at)
        };
        let Some(mut future) = self.0.tasks.borrow_mut()[task].take() else { return true };
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.0.ready) }));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.tasks.borrow_mut()[task] = Some(future);
        }
        true
    }

    fn advance(&self) -> bool {
        let Some(((at, _), waker)) = self.0.timers.borrow_mut().pop_first() else { return false };
        self.0.now.set(self.0.now.get().max(at));
        waker.wake();
        true
    }
}

impl Host for TestHost {
    type Conn = Never;
    type Listener = Never;
    type File = DiskFile;
    type Bell = NoBell;

    fn now(&self) -> Time {
        self.0.now.get()
    }

    fn wall(&self) -> WallTime {
        WallTime(1_795_566_960_000_000 + self.0.now.get().0 / 1000)
    }

    fn random(&self) -> u64 {
        self.0.random.borrow_mut().u64(..)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        self.0.ready.lock().unwrap().push(tasks.len());
        tasks.push(Some(Box::pin(task)));
    }

    async fn sleep_until(&self, at: Time) {
        let mut key = None;
        poll_fn(|context| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            let key = *key.get_or_insert_with(|| (at, self.random()));
            self.0.timers.borrow_mut().insert(key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<DiskFile> {
        Disk::create_zeroed(self, path, size).await
    }

    async fn open_write(&self, path: &Path) -> io::Result<DiskFile> {
        Disk::open(self, path).await
    }

    async fn open_read(&self, path: &Path) -> io::Result<DiskFile> {
        Disk::open(self, path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk::rename(self, from, to).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        Disk::remove(self, path).await
    }

    async fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.0.disk.list(path))
    }

    async fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Disk::sync_dir(self).await
    }

    fn planted(&self, fault: Planted) -> bool {
        self.0.planted.get() == Some(fault)
    }

    fn listen(&self, _at: SocketAddr) -> io::Result<Never> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _to: SocketAddr, _from: Option<IpAddr>, _deadline: Time) -> io::Result<Never> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn lookup_mx(&self, _domain: &str) -> Result<MxAnswer, DnsError> {
        Err(DnsError::NoSuchDomain(Time(0)))
    }

    async fn lookup_addresses(&self, _name: &str) -> Result<AddressAnswer, DnsError> {
        Err(DnsError::NoSuchDomain(Time(0)))
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        _: Time,
    ) -> Result<T, WorkError> {
        Ok(work())
    }

    fn bell(&self) -> NoBell {
        NoBell
    }

    async fn rung(&self) {
        std::future::pending().await
    }
}

/// A connection or listener, of which there are none.
pub(crate) enum Never {}

impl Conn for Never {
    type Chunk = Vec<u8>;

    fn peer(&self) -> SocketAddr {
        match *self {}
    }

    fn local(&self) -> SocketAddr {
        match *self {}
    }

    async fn recv(&mut self, _deadline: Time) -> io::Result<Option<Vec<u8>>> {
        match *self {}
    }

    async fn send(&mut self, _buffer: &mut Vec<u8>, _deadline: Time) -> io::Result<()> {
        match *self {}
    }

    async fn send_bytes(&mut self, _bytes: Bytes, _deadline: Time) -> io::Result<()> {
        match *self {}
    }

    fn is_stale(&mut self) -> bool {
        match *self {}
    }

    async fn close(self) {
        match self {}
    }
}

impl Listener for Never {
    type Conn = Never;

    fn local(&self) -> SocketAddr {
        match *self {}
    }

    async fn accept(&mut self) -> io::Result<Never> {
        match *self {}
    }
}

#[derive(Clone)]
pub(crate) struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}
