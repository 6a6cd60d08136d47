//! hickory's view of the shard. hickory asks for futures and sockets that may change threads; they never do, and
//! `SendWrapper` turns that promise into a check.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use hickory_resolver::net::runtime::{DnsTcpStream, DnsUdpSocket, RuntimeProvider, Spawn, Time as DnsTime};
use mail::Time;
use send_wrapper::SendWrapper;

use super::super::conn::RingConn;
use super::super::core::{Shared, now};
use super::super::stream::{Payload, RingChunk};
use super::super::{sleep_until, task};

/// How long a connection to a server may take when hickory does not say.
const CONNECT_MAX: Duration = Duration::from_secs(5);

thread_local! {
    /// hickory's timers are types, not values, so the shard of this thread is found here.
    static SHARD: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
}

/// Sockets, timers and tasks of one shard.
#[derive(Clone)]
pub(super) struct ShardRuntime(SendWrapper<Rc<Shared>>);

impl ShardRuntime {
    pub(super) fn new(shared: Rc<Shared>) -> ShardRuntime {
        SHARD.set(Some(shared.clone()));
        ShardRuntime(SendWrapper::new(shared))
    }
}

impl Spawn for ShardRuntime {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        task::spawn(&self.0, future);
    }
}

type Connecting<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for ShardRuntime {
    type Handle = ShardRuntime;
    type Timer = ShardTimer;
    type Udp = Datagrams;
    type Tcp = ByteStream;

    fn create_handle(&self) -> ShardRuntime {
        self.clone()
    }

    fn connect_tcp(
        &self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Connecting<ByteStream> {
        let shared = self.0.clone();
        Box::pin(SendWrapper::new(async move {
            let deadline = now() + limit.unwrap_or(CONNECT_MAX);
            let conn = RingConn::connect(&shared, to, from, deadline).await?;
            Ok(ByteStream(SendWrapper::new(Reading { conn, chunk: None })))
        }))
    }

    fn bind_udp(&self, from: SocketAddr, to: SocketAddr) -> Connecting<Datagrams> {
        let shared = self.0.clone();
        Box::pin(SendWrapper::new(async move {
            let conn = RingConn::connect_datagram(&shared, to, from)?;
            Ok(Datagrams { conn: SendWrapper::new(RefCell::new(conn)), server: to })
        }))
    }
}

/// Timers on the shard's ring.
pub(super) struct ShardTimer;

fn delay(length: Duration) -> impl Future<Output = ()> + Send {
    SendWrapper::new(async move {
        if let Some(shared) = SHARD.with_borrow(Clone::clone) {
            sleep_until(shared, now() + length).await;
        }
    })
}

#[async_trait]
impl DnsTime for ShardTimer {
    async fn delay_for(length: Duration) {
        delay(length).await;
    }

    async fn timeout<F: 'static + Future + Send>(length: Duration, future: F) -> io::Result<F::Output> {
        let (mut future, mut delay) = (Box::pin(future), Box::pin(delay(length)));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => delay.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }
}

/// A datagram socket that is connected to one server.
pub(super) struct Datagrams {
    conn: SendWrapper<RefCell<RingConn>>,
    server: SocketAddr,
}

impl DnsUdpSocket for Datagrams {
    type Time = ShardTimer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let received = ready!(self.conn.borrow_mut().poll_receive(cx, Time::FAR))?;
        let datagram = received.ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = datagram.len().min(into.len());
        into[..len].copy_from_slice(&datagram[..len]);
        Poll::Ready(Ok((len, self.server)))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, datagram: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        poll_write(&mut self.conn.borrow_mut(), cx, datagram)
    }
}

/// A connection to a server.
pub(super) struct ByteStream(SendWrapper<Reading>);

struct Reading {
    conn: RingConn,
    /// What is left of the last chunk: from this offset.
    chunk: Option<(RingChunk, usize)>,
}

impl DnsTcpStream for ByteStream {
    type Time = ShardTimer;
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Reading { conn, chunk } = &mut *self.0;
        let (received, start) = match chunk.take() {
            Some(left) => left,
            None => match ready!(conn.poll_receive(cx, Time::FAR))? {
                Some(received) => (received, 0),
                None => return Poll::Ready(Ok(0)),
            },
        };
        let len = (received.len() - start).min(into.len());
        into[..len].copy_from_slice(&received[start..start + len]);
        if start + len < received.len() {
            *chunk = Some((received, start + len));
        }
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_write(&mut self.0.conn, cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.conn.poll_sent(cx).map(|(_, result)| result)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Takes a copy when the one before has been sent.
fn poll_write(conn: &mut RingConn, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    ready!(conn.poll_sent(cx)).1?;
    conn.start_send(Payload::Vec(bytes.to_vec()), Time::FAR)?;
    Poll::Ready(Ok(bytes.len()))
}
