//! Listening sockets with one multishot accept each.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, types};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::conn::RingConn;
use super::core::{Core, Shared};
use super::ring::Completion;
use super::slots::Key;
use super::token::{Kind, Token};
use crate::Listener;

/// Connections that the kernel completes before it refuses more (SYN cookies, then silence).
const BACKLOG: i32 = 4096;
/// Accepted connections that wait for [`Listener::accept`]; beyond it they wait in the kernel's backlog.
const ACCEPTED_MAX: usize = 256;

/// A listening socket and what it has yielded.
pub(super) struct Accepting {
    socket: OwnedFd,
    state: State,
    accepted: VecDeque<OwnedFd>,
    /// A negated errno that nobody has been told yet.
    error: Option<i32>,
    waiter: Option<Waker>,
}

enum State {
    /// No accept is under way.
    Idle,
    Armed,
    /// To be stopped, because enough is queued.
    Cancelling,
    /// To be stopped for good, because the owner has dropped it.
    Closing,
}

/// A listening socket.
pub struct RingListener {
    shared: Rc<Shared>,
    key: Key,
    local: SocketAddr,
}

impl RingListener {
    /// Listens with SO_REUSEPORT and SO_REUSEADDR; connections inherit TCP_NODELAY.
    pub(super) fn bind(shared: &Rc<Shared>, at: SocketAddr) -> io::Result<RingListener> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        if at.is_ipv6() {
            // Otherwise [::] would take the port from 0.0.0.0, which is configured by itself.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        let local = address(socket.local_addr()?)?;
        let key = shared.core().add_listener(socket.into());
        Ok(RingListener { shared: shared.clone(), key, local })
    }
}

impl Listener for RingListener {
    type Conn = RingConn;

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&mut self) -> io::Result<RingConn> {
        loop {
            let socket = std::future::poll_fn(|cx| self.shared.core().poll_accept(self.key, cx)).await?;
            // Who has gone already has no address any more, and is not worth a session.
            if let Ok(peer) = SockRef::from(&socket).peer_addr().and_then(address) {
                return Ok(RingConn::new(&self.shared, socket, peer));
            }
        }
    }
}

impl Drop for RingListener {
    fn drop(&mut self) {
        if let Some(mut core) = self.shared.living_core() {
            core.abandon_listener(self.key);
        }
    }
}

/// An IP address and port.
pub(super) fn address(of: SockAddr) -> io::Result<SocketAddr> {
    of.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Core {
    fn add_listener(&mut self, socket: OwnedFd) -> Key {
        let (accepted, error, waiter) = (VecDeque::new(), None, None);
        let key = self.listeners.insert(Accepting { socket, state: State::Idle, accepted, error, waiter });
        self.arm_accept(key);
        key
    }

    fn arm_accept(&mut self, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        listener.state = State::Armed;
        let entry =
            opcode::AcceptMulti::new(types::Fd(listener.socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: the entry names no memory, and the socket is closed only after the last completion.
        unsafe { self.ring.push(entry.build(), Token::new(Kind::Accept, key)) };
    }

    /// The next connection or error. After an error the accept is started again only by the next call, so that an
    /// error that lasts (no descriptors) does not spin.
    fn poll_accept(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let Some(listener) = self.listeners.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(socket) = listener.accepted.pop_front() {
            return Poll::Ready(Ok(socket));
        }
        if let Some(error) = listener.error.take() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(-error)));
        }
        listener.waiter = Some(cx.waker().clone());
        if matches!(listener.state, State::Idle) {
            self.arm_accept(key);
        }
        Poll::Pending
    }

    pub(super) fn on_accepted(&mut self, key: Key, completion: Completion) {
        // SAFETY: an accept hands a new descriptor over, and nobody else knows it.
        let socket = (completion.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(completion.result) });
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if matches!(listener.state, State::Closing) {
            if !completion.more() {
                self.retire_listener(key);
            }
            return;
        }
        match socket {
            Some(socket) => listener.accepted.push_back(socket),
            None if completion.result == -libc::ECANCELED && matches!(listener.state, State::Cancelling) => {}
            None => listener.error = Some(completion.result),
        }
        let full = listener.accepted.len() >= ACCEPTED_MAX;
        let rearm = !completion.more() && !full && listener.error.is_none();
        if !completion.more() {
            listener.state = State::Idle;
        } else if full && matches!(listener.state, State::Armed) {
            listener.state = State::Cancelling;
            self.ring.cancel(Token::new(Kind::Accept, key));
        }
        if rearm {
            self.arm_accept(key);
        }
        let waiter = self.listeners.get_mut(key).and_then(|listener| {
            let wanted = !listener.accepted.is_empty() || listener.error.is_some();
            listener.waiter.take_if(|_| wanted)
        });
        self.wake(waiter);
    }

    /// Stops listening: closes what nobody has taken; the last completion closes the socket.
    pub(super) fn abandon_listener(&mut self, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        listener.waiter = None;
        let accepted = std::mem::take(&mut listener.accepted);
        let state = std::mem::replace(&mut listener.state, State::Closing);
        accepted.into_iter().for_each(|socket| self.close(socket));
        match state {
            State::Idle => self.retire_listener(key),
            State::Armed => self.ring.cancel(Token::new(Kind::Accept, key)),
            State::Cancelling | State::Closing => {}
        }
    }

    fn retire_listener(&mut self, key: Key) {
        if let Some(listener) = self.listeners.remove(key) {
            self.close(listener.socket);
        }
    }
}
