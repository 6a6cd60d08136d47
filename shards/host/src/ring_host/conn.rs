//! Connections as tasks see them.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use io_uring::{opcode, types};
use mail::Time;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::core::{Shared, now};
use super::listener::address;
use super::operation::{Ending, Held};
use super::slots::Key;
use super::stream::{Payload, RingChunk};
use crate::Conn;

/// How long an orderly close reads and discards what is still under way.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A stream connection, or a connected datagram socket, of which each chunk is then one datagram.
pub struct RingConn {
    shared: Rc<Shared>,
    key: Key,
    peer: SocketAddr,
    local: OnceCell<SocketAddr>,
}

impl RingConn {
    /// Takes a connected socket over.
    pub(super) fn new(shared: &Rc<Shared>, socket: OwnedFd, peer: SocketAddr) -> RingConn {
        let key = shared.core().add_stream(socket);
        RingConn { shared: shared.clone(), key, peer, local: OnceCell::new() }
    }

    /// Connects a stream to `to`, from `from` when given (port 0: chosen by the kernel); `TimedOut` at `deadline`.
    pub(super) async fn connect(
        shared: &Rc<Shared>,
        to: SocketAddr,
        from: Option<SocketAddr>,
        deadline: Time,
    ) -> io::Result<RingConn> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            bind_late(&socket)?;
            socket.bind(&from.into())?;
        }
        let target = Box::new(SockAddr::from(to));
        let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), target.as_ptr().cast(), target.len());
        let held = Held::Connect(socket.into(), target);
        // SAFETY: `held` owns the socket and, boxed, the address.
        let finished = unsafe { Ending::start(shared, held, entry.build(), None, deadline) }.await;
        let [connected, _] = finished.results;
        connected?;
        match finished.held {
            Held::Connect(socket, _) => Ok(RingConn::new(shared, socket, to)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A datagram socket that hears only from `to`.
    pub(super) fn connect_datagram(
        shared: &Rc<Shared>,
        to: SocketAddr,
        from: SocketAddr,
    ) -> io::Result<RingConn> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(RingConn::new(shared, socket.into(), to))
    }

    /// As [`Conn::recv`], for adapters that poll.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Time,
    ) -> Poll<io::Result<Option<RingChunk>>> {
        self.shared.core().poll_receive(self.key, cx, deadline, &self.shared)
    }

    pub(super) fn start_send(&mut self, payload: Payload, deadline: Time) -> io::Result<()> {
        self.shared.core().start_send(self.key, payload, deadline)
    }

    /// Ready when no send is under way, with what was sent since this was ready last.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<(Option<Payload>, io::Result<()>)> {
        self.shared.core().poll_sent(self.key, cx)
    }

    /// Asks the socket itself whether there is anything to read or it has ended.
    fn has_input(&self) -> bool {
        let mut core = self.shared.core();
        let Some(stream) = core.streams.get_mut(self.key) else { return true };
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match SockRef::from(&stream.socket).recv_with_flags(&mut byte, flags) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Says that no more will come; false when something is still being sent or the peer has gone.
    fn finish(&self) -> bool {
        let mut core = self.shared.core();
        let Some(stream) = core.streams.get_mut(self.key) else { return false };
        !stream.is_sending() && SockRef::from(&stream.socket).shutdown(Shutdown::Write).is_ok()
    }
}

impl Conn for RingConn {
    type Chunk = RingChunk;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        *self.local.get_or_init(|| {
            let mut core = self.shared.core();
            let stream = core.streams.get_mut(self.key);
            let asked =
                stream.and_then(|stream| SockRef::from(&stream.socket).local_addr().and_then(address).ok());
            asked.unwrap_or(SocketAddr::new(IpAddr::from([0; 4]), 0))
        })
    }

    async fn recv(&mut self, deadline: Time) -> io::Result<Option<RingChunk>> {
        poll_fn(|cx| self.poll_receive(cx, deadline)).await
    }

    async fn send(&mut self, buffer: &mut Vec<u8>, deadline: Time) -> io::Result<()> {
        self.start_send(Payload::Vec(std::mem::take(buffer)), deadline)?;
        let (payload, result) = poll_fn(|cx| self.poll_sent(cx)).await;
        if let Some(Payload::Vec(sent)) = payload {
            *buffer = sent;
            buffer.clear();
        }
        result
    }

    async fn send_bytes(&mut self, bytes: Bytes, deadline: Time) -> io::Result<()> {
        self.start_send(Payload::Bytes(bytes), deadline)?;
        poll_fn(|cx| self.poll_sent(cx)).await.1
    }

    fn is_stale(&mut self) -> bool {
        self.shared.glance();
        let known = self.shared.core().streams.get_mut(self.key).is_none_or(|stream| stream.is_readable());
        let told = self.shared.core().streams.get_mut(self.key).is_some_and(|stream| stream.is_armed());
        known || !told && self.has_input()
    }

    async fn close(mut self) {
        if !self.finish() {
            return;
        }
        let deadline = now() + CLOSE_MAX;
        while now() < deadline && matches!(self.recv(deadline).await, Ok(Some(_))) {}
    }
}

impl Drop for RingConn {
    fn drop(&mut self) {
        if let Some(mut core) = self.shared.living_core() {
            core.abandon_stream(self.key);
        }
    }
}

/// Lets the kernel choose the port when it knows the destination, so that one source address has 64k ports per
/// destination instead of 64k in all.
fn bind_late(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    // SAFETY: the option is an int, and `on` is one for the length of the call.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), len) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
