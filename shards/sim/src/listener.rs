//! Listening sockets.

use crate::conn::SimConn;
use crate::link::Step;
use crate::network::Network;
use crate::world::{Core, Life};
use mail::Time;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;

/// Connections that nobody has accepted yet.
pub(crate) struct Backlog {
    pub(crate) at: SocketAddr,
    pub(crate) life: Life,
    waiting: RefCell<VecDeque<SimConn>>,
    acceptor: RefCell<Option<Waker>>,
}

impl Backlog {
    pub(crate) fn new(at: SocketAddr, life: Life) -> Backlog {
        Backlog { at, life, waiting: RefCell::default(), acceptor: RefCell::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn push(&self, conn: SimConn) {
        self.waiting.borrow_mut().push_back(conn);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.wake();
        }
    }
}

/// A listening socket.
pub struct SimListener {
    pub(crate) core: Rc<Core>,
    pub(crate) backlog: Rc<Backlog>,
}

impl SimListener {
    /// The next connection, or `TimedOut` at `deadline` (in the time of the world).
    pub async fn accept_until(&mut self, deadline: Time) -> io::Result<SimConn> {
        let backlog = &self.backlog;
        let next = |_| match backlog.waiting.borrow_mut().pop_front() {
            Some(conn) => Step::Done(Ok(conn)),
            None => Step::Wait(Time::FAR),
        };
        let register = |waker: &Waker| *backlog.acceptor.borrow_mut() = Some(waker.clone());
        let conn = Network::wait(&self.core, deadline, next, register).await?;
        match self.core.streams.network.hits(self.core.network.faults().accept_error) {
            // The connection is lost with the error, as when it was reset before it was accepted.
            true => Err(io::Error::other("simulated: no descriptor left")),
            false => Ok(conn),
        }
    }
}

impl host::Listener for SimListener {
    type Conn = SimConn;

    fn local(&self) -> SocketAddr {
        self.backlog.at
    }

    async fn accept(&mut self) -> io::Result<SimConn> {
        self.accept_until(Time::FAR).await
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.core.network.close_listener(&self.backlog);
        let abandoned = self.backlog.waiting.take();
        drop(abandoned);
    }
}
