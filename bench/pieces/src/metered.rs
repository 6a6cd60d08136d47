//! A host within a host: what the relay does by itself is counted, what it asks of the host is not.

use crate::meter::{Count, counted, uncounted};
use bytes::Bytes;
use host::{
    AddressAnswer, AlignedBuf, Bell, Conn, DnsError, File, Host, Listener, MxAnswer, Planted, WorkError,
};
use mail::{Time, WallTime};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Counts what runs on top of `H`.
#[derive(Clone)]
pub struct Metered<H>(pub H);

/// A part of the host; dropping it is the host's business too.
pub struct Part<T>(Option<T>);

impl<T> Part<T> {
    fn new(part: T) -> Part<T> {
        Part(Some(part))
    }

    fn get(&self) -> &T {
        self.0.as_ref().expect("taken only when it is consumed")
    }

    fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only when it is consumed")
    }
}

impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        uncounted(|| self.0.take());
    }
}

impl<T: std::ops::Deref<Target = [u8]>> std::ops::Deref for Part<T> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.get()
    }
}

/// A future of the host's.
struct Within<F>(Part<Pin<Box<F>>>);

impl<F: Future> Future for Within<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        uncounted(|| self.0.get_mut().as_mut().poll(cx))
    }
}

fn within<F: Future>(begin: impl FnOnce() -> F) -> Within<F> {
    uncounted(|| Within(Part::new(Box::pin(begin()))))
}

impl<H: Host> Host for Metered<H> {
    type Conn = Part<H::Conn>;
    type Listener = Part<H::Listener>;
    type File = Part<H::File>;
    type Bell = MeteredBell<H::Bell>;

    fn now(&self) -> Time {
        uncounted(|| self.0.now())
    }

    fn wall(&self) -> WallTime {
        uncounted(|| self.0.wall())
    }

    fn random(&self) -> u64 {
        uncounted(|| self.0.random())
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        uncounted(|| {
            self.0.spawn(async move {
                let mut task = pin!(task);
                poll_fn(|cx| counted(|| task.as_mut().poll(cx))).await;
            });
        });
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> {
        within(|| self.0.sleep_until(at))
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener> {
        uncounted(|| self.0.listen(at)).map(Part::new)
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>, deadline: Time) -> io::Result<Self::Conn> {
        within(|| self.0.connect(to, from, deadline)).await.map(Part::new)
    }

    async fn lookup_mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        within(|| self.0.lookup_mx(domain)).await
    }

    async fn lookup_addresses(&self, name: &str) -> Result<AddressAnswer, DnsError> {
        within(|| self.0.lookup_addresses(name)).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        deadline: Time,
    ) -> Result<T, WorkError> {
        within(|| self.0.work(work, deadline)).await
    }

    async fn create_zeroed(&self, path: &Path, size: u64) -> io::Result<Self::File> {
        within(|| self.0.create_zeroed(path, size)).await.map(Part::new)
    }

    async fn open_write(&self, path: &Path) -> io::Result<Self::File> {
        within(|| self.0.open_write(path)).await.map(Part::new)
    }

    async fn open_read(&self, path: &Path) -> io::Result<Self::File> {
        within(|| self.0.open_read(path)).await.map(Part::new)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        within(|| self.0.rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        within(|| self.0.remove(path)).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        within(|| self.0.create_dir(path)).await
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        within(|| self.0.list_dir(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        within(|| self.0.sync_dir(path)).await
    }

    fn bell(&self) -> Self::Bell {
        MeteredBell(self.0.bell())
    }

    fn rung(&self) -> impl Future<Output = ()> {
        within(|| self.0.rung())
    }

    fn planted(&self, _fault: Planted) -> bool {
        false
    }
}

impl<C: Conn> Conn for Part<C> {
    type Chunk = Part<C::Chunk>;

    fn peer(&self) -> SocketAddr {
        uncounted(|| self.get().peer())
    }

    fn local(&self) -> SocketAddr {
        uncounted(|| self.get().local())
    }

    async fn recv(&mut self, deadline: Time) -> io::Result<Option<Self::Chunk>> {
        let received = within(|| self.get_mut().recv(deadline)).await?;
        Count::Receives.add(u64::from(received.is_some()));
        Ok(received.map(Part::new))
    }

    async fn send(&mut self, buffer: &mut Vec<u8>, deadline: Time) -> io::Result<()> {
        Count::Sends.add(1);
        within(|| self.get_mut().send(buffer, deadline)).await
    }

    async fn send_bytes(&mut self, bytes: Bytes, deadline: Time) -> io::Result<()> {
        Count::Sends.add(1);
        within(|| self.get_mut().send_bytes(bytes, deadline)).await
    }

    fn is_stale(&mut self) -> bool {
        uncounted(|| self.get_mut().is_stale())
    }

    async fn close(mut self) {
        let conn = self.0.take().expect("closed once");
        within(|| conn.close()).await;
    }
}

impl<L: Listener> Listener for Part<L> {
    type Conn = Part<L::Conn>;

    fn local(&self) -> SocketAddr {
        uncounted(|| self.get().local())
    }

    async fn accept(&mut self) -> io::Result<Self::Conn> {
        within(|| self.get_mut().accept()).await.map(Part::new)
    }
}

impl<F: File> File for Part<F> {
    fn size(&self) -> u64 {
        self.get().size()
    }

    async fn write_synced(&self, buffer: AlignedBuf, offset: u64) -> (io::Result<()>, AlignedBuf) {
        Count::Commits.add(1);
        Count::LogBytes.add(buffer.len() as u64);
        within(|| self.get().write_synced(buffer, offset)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        within(|| self.get().read_at(offset, len)).await
    }
}

/// The bell of a metered host.
#[derive(Clone)]
pub struct MeteredBell<B>(B);

impl<B: Bell> Bell for MeteredBell<B> {
    fn ring(&self) {
        uncounted(|| self.0.ring());
    }
}
