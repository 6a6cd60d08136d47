//! One end of a simulated connection.

use crate::executor::Event;
use crate::link::{Link, Side};
use crate::network::{Counted, Network};
use crate::world::{Core, Life};
use bytes::Bytes;
use mail::Time;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long an orderly close waits for the other end.
const LINGER: Duration = Duration::from_secs(1);

/// Received bytes.
#[derive(Debug)]
pub struct Chunk(Vec<u8>);

impl std::ops::Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// One end of a connection.
pub struct SimConn {
    core: Rc<Core>,
    life: Life,
    link: Rc<RefCell<Link>>,
    side: Side,
    local: SocketAddr,
    peer: SocketAddr,
    _counted: Option<Counted>,
}

impl SimConn {
    pub(crate) fn new(
        core: &Rc<Core>,
        life: Life,
        link: &Rc<RefCell<Link>>,
        side: Side,
        (local, peer): (SocketAddr, SocketAddr),
        counted: Option<Counted>,
    ) -> SimConn {
        SimConn { core: core.clone(), life, link: link.clone(), side, local, peer, _counted: counted }
    }

    /// Sends the end (FIN) and goes on reading.
    pub fn finish(&mut self) {
        self.link.borrow_mut().finish(self.side, self.core.timers.now());
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.link.borrow_mut().reset(self.core.timers.now(), &self.core.streams.network);
    }

    async fn send_all(&mut self, mut bytes: &[u8], deadline: Time) -> io::Result<()> {
        let (core, link) = (&self.core, &self.link);
        let deadline = core.to_world(self.life, deadline);
        while !bytes.is_empty() {
            self.find_reboot();
            let attempt = |now| link.borrow_mut().write(self.side, bytes, now, &core.streams.network);
            let register = |waker: &std::task::Waker| link.borrow_mut().wake_writer_of(self.side, waker);
            let sent = Network::wait(core, deadline, attempt, register).await?;
            core.executor.note(Event::Write, sent as u64, core.timers.now().0);
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// What is sent to a machine that is up again after a power failure is answered with a reset.
    fn find_reboot(&self) {
        let mut link = self.link.borrow_mut();
        if link.dead().is_some_and(|machine| self.core.is_up(machine)) {
            link.disown(self.core.timers.now(), &self.core.streams.network);
        }
    }
}

impl host::Conn for SimConn {
    type Chunk = Chunk;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn recv(&mut self, deadline: Time) -> io::Result<Option<Chunk>> {
        let (core, link) = (&self.core, &self.link);
        let deadline = core.to_world(self.life, deadline);
        let attempt = |now| link.borrow_mut().read(self.side, now, &core.streams.network);
        let register = |waker: &std::task::Waker| link.borrow_mut().wake_reader_of(self.side, waker);
        let bytes = Network::wait(core, deadline, attempt, register).await?;
        core.executor.note(Event::Read, bytes.as_ref().map_or(0, Vec::len) as u64, core.timers.now().0);
        Ok(bytes.map(Chunk))
    }

    async fn send(&mut self, buffer: &mut Vec<u8>, deadline: Time) -> io::Result<()> {
        let bytes = std::mem::take(buffer);
        let result = self.send_all(&bytes, deadline).await;
        *buffer = bytes;
        buffer.clear();
        result
    }

    async fn send_bytes(&mut self, bytes: Bytes, deadline: Time) -> io::Result<()> {
        self.send_all(&bytes, deadline).await
    }

    fn is_stale(&mut self) -> bool {
        self.link.borrow().is_stale(self.side, self.core.timers.now())
    }

    async fn close(mut self) {
        self.finish();
        let deadline = self.core.to_machine(self.life, self.core.timers.now() + LINGER);
        while let Ok(Some(_)) = self.recv(deadline).await {}
    }
}

impl Drop for SimConn {
    fn drop(&mut self) {
        let mut link = self.link.borrow_mut();
        match self.core.lost_power(self.life) {
            true => link.die(self.life.machine),
            false => link.leave(self.side, self.core.timers.now(), &self.core.streams.network),
        }
    }
}
