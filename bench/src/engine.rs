//! The event loop under load, sink and idle connections: sockets and timers here, all protocol in a
//! [`Driver`].
//!
//! One engine runs on one thread. Input is handed over from a buffer that all connections share and output is
//! gathered in another, so an idle connection owns no buffer and a busy one costs one read and one write per
//! turn of its dialogue.

mod socket;
mod tls;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::clock;
use crate::sys::Alarm;
pub(crate) use socket::listen;
use socket::{connect, established, narrow, prepare_reset, send};
pub(crate) use tls::Security;
pub use tls::Tls;
use tls::{Channel, RECORD_BYTES_MAX, Unsealed};

/// Bytes taken by one read; a message of usual size arrives in one piece.
const INPUT_BYTES: usize = 256 * 1024;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Longest sleep, so that a request to stop is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);

const ALARM: Token = Token(usize::MAX - 1);
const FIRST_LISTENER: usize = 1 << 40;

/// What a driver wants next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More input.
    Read,
    /// Nothing, not even input, until this time ([`clock::now`]); then [`Driver::woken`].
    Wait(u64),
    /// Begin TLS behind all output; then [`Driver::secured`]. Input that is there already is a violation.
    Secure,
    /// Close when all output is sent.
    Finish,
    /// Close at once.
    Abort,
    /// Close at once with a reset (RST) in place of the orderly end.
    Reset,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The driver asked for it.
    Ours,
    /// The peer closed or reset.
    Theirs,
    /// It was never established.
    NotConnected,
    /// The whole engine ends.
    Stopped,
}

/// What the engine does before it sleeps.
pub(crate) enum Turn<S> {
    /// Connect a new session, from this address if one is given, and ask again.
    Open(SocketAddr, Option<IpAddr>, S),
    /// Nothing; ask again after the next events.
    Sleep,
    /// End the engine.
    End,
}

/// The protocol and the book-keeping of one engine.
pub(crate) trait Driver {
    /// What belongs to one connection.
    type Session;
    /// A connection from `client` came in on listener number `listener`.
    fn accepted(&mut self, listener: usize, client: IpAddr, out: &mut Vec<u8>) -> (Self::Session, Flow);
    /// A connection that a [`Turn::Open`] asked for is established.
    fn connected(&mut self, _session: &mut Self::Session) {}
    /// A TLS handshake ended; `resumed` if it took up an earlier session.
    fn secured(&mut self, _session: &mut Self::Session, _resumed: bool, _out: &mut Vec<u8>) {}
    /// How much to read at once if not all that there is; the receive buffer of the connection is then narrow
    /// from there on.
    fn piece(&self, _session: &Self::Session) -> Option<usize> {
        None
    }
    /// Takes what it can of `input` and says how much; the rest comes again with more behind it.
    fn input(&mut self, session: &mut Self::Session, input: &[u8], out: &mut Vec<u8>) -> (usize, Flow);
    /// The time of a [`Flow::Wait`] has come.
    fn woken(&mut self, session: &mut Self::Session, out: &mut Vec<u8>) -> Flow;
    /// The connection is gone.
    fn closed(&mut self, session: Self::Session, ending: Ending);
    /// Asked before each sleep.
    fn turn(&mut self) -> Turn<Self::Session>;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Connecting,
    Open,
    Waiting,
    Finishing,
}

struct Connection<S> {
    stream: TcpStream,
    session: S,
    channel: Option<Box<Channel>>,
    link: Link,
    /// Tells a timer of this connection from one of its predecessor in the same slot.
    serial: u64,
    /// Input not taken yet.
    carry: Vec<u8>,
    /// The carry waited behind a pause: it is due before anything that the socket still holds.
    carry_due: bool,
    /// Output that the socket did not take.
    unsent: Vec<u8>,
    /// The last event said that a read may succeed and none has come up short since.
    readable: bool,
    /// The peer sends no more: a short read is then not the end, a read of zero is.
    peer_done: bool,
}

/// Sockets, timers and the buffers that all connections share.
pub(crate) struct Engine<D: Driver> {
    driver: D,
    poll: Poll,
    listeners: Vec<TcpListener>,
    security: Option<Security>,
    connections: Slab<Connection<D::Session>>,
    timers: BinaryHeap<Reverse<(u64, usize, u64)>>,
    alarm: Alarm,
    /// When the alarm will fire; `u64::MAX` if it will not.
    armed: u64,
    serial: u64,
    /// Connections wait that could not be accepted.
    starved: bool,
    input: Box<[u8]>,
    out: Vec<u8>,
    /// With TLS: what was read, and what is to be written.
    cipher: Box<[u8]>,
    sealed: Vec<u8>,
}

enum Advance {
    Again,
    Parked,
    Closed(Ending),
}

impl<D: Driver> Engine<D> {
    pub(crate) fn new(
        driver: D,
        mut listeners: Vec<TcpListener>,
        security: Option<Security>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(FIRST_LISTENER + index), Interest::READABLE)?;
        }
        let alarm = Alarm::new()?;
        poll.registry().register(&mut SourceFd(&alarm.descriptor()), ALARM, Interest::READABLE)?;
        let room = INPUT_BYTES + RECORD_BYTES_MAX;
        let cipher = if security.is_some() { vec![0; room] } else { Vec::new() };
        Ok(Self {
            driver,
            poll,
            listeners,
            security,
            connections: Slab::new(),
            timers: BinaryHeap::new(),
            alarm,
            armed: u64::MAX,
            serial: 0,
            starved: false,
            input: vec![0; room].into_boxed_slice(),
            out: Vec::with_capacity(INPUT_BYTES),
            cipher: cipher.into_boxed_slice(),
            sealed: Vec::new(),
        })
    }

    /// Runs until the driver ends it, and gives the driver back.
    pub(crate) fn run(mut self) -> io::Result<D> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            loop {
                match self.driver.turn() {
                    Turn::Open(target, source, session) => self.open(target, source, session),
                    Turn::Sleep => break,
                    Turn::End => return Ok(self.end()),
                }
            }
            self.set_alarm()?;
            match self.poll.poll(&mut events, Some(SLEEP_MAX)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.take(event);
            }
            self.fire();
            if mem::take(&mut self.starved) {
                (0..self.listeners.len()).for_each(|index| self.accept(index));
            }
        }
    }

    fn end(mut self) -> D {
        for connection in self.connections.drain() {
            self.driver.closed(connection.session, Ending::Stopped);
        }
        self.driver
    }

    fn set_alarm(&mut self) -> io::Result<()> {
        if let Some(&Reverse((due, ..))) = self.timers.peek()
            && due < self.armed
        {
            self.alarm.set(due.saturating_sub(clock::now()))?;
            self.armed = due;
        }
        Ok(())
    }

    fn fire(&mut self) {
        if self.timers.is_empty() {
            return;
        }
        let now = clock::now();
        if self.armed <= now {
            self.armed = u64::MAX;
        }
        while let Some(&Reverse((due, key, serial))) = self.timers.peek() {
            if due > now {
                return;
            }
            self.timers.pop();
            self.wake(key, serial);
        }
    }

    fn wake(&mut self, key: usize, serial: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.serial != serial || connection.link != Link::Waiting {
            return;
        }
        connection.link = Link::Open;
        connection.carry_due = !connection.carry.is_empty();
        let flow = self.driver.woken(&mut connection.session, &mut self.out);
        let advance = self.settle(key, flow);
        self.go_on(key, advance);
    }

    fn take(&mut self, event: &Event) {
        let key = event.token().0;
        match event.token() {
            ALARM => {}
            Token(index) if index >= FIRST_LISTENER => self.accept(index - FIRST_LISTENER),
            _ => {
                let Some(connection) = self.connections.get_mut(key) else { return };
                connection.readable |= event.is_readable() || event.is_read_closed();
                connection.peer_done |= event.is_read_closed();
                let broken = event.is_error() || (event.is_read_closed() && event.is_write_closed());
                if broken && connection.link == Link::Waiting {
                    return self.close(key, Ending::Theirs);
                }
                self.go_on(key, Advance::Again);
            }
        }
    }

    fn accept(&mut self, index: usize) {
        loop {
            match self.listeners[index].accept() {
                Ok((stream, client)) => self.welcome(index, client.ip(), stream),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // Out of descriptors, most likely: no event will tell when there are some again.
                    _ => {
                        self.starved = true;
                        return;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, index: usize, client: IpAddr, stream: TcpStream) {
        let (session, flow) = self.driver.accepted(index, client, &mut self.out);
        match self.insert(stream, session, Link::Open) {
            Some(key) => {
                let advance = self.settle(key, flow);
                self.go_on(key, advance);
            }
            None => self.out.clear(),
        }
    }

    fn open(&mut self, target: SocketAddr, source: Option<IpAddr>, session: D::Session) {
        match connect(target, source) {
            Ok(stream) => drop(self.insert(stream, session, Link::Connecting)),
            Err(_) => self.driver.closed(session, Ending::NotConnected),
        }
    }

    fn insert(&mut self, mut stream: TcpStream, session: D::Session, link: Link) -> Option<usize> {
        self.serial += 1;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, Token(key), interest).is_err() {
            self.driver.closed(session, Ending::NotConnected);
            return None;
        }
        entry.insert(Connection {
            stream,
            session,
            channel: None,
            link,
            serial: self.serial,
            carry: Vec::new(),
            carry_due: false,
            unsent: Vec::new(),
            readable: false,
            peer_done: false,
        });
        if self.security.as_ref().is_some_and(|security| security.implicit) && self.secure(key).is_err() {
            let connection = self.connections.remove(key);
            self.driver.closed(connection.session, Ending::NotConnected);
            return None;
        }
        Some(key)
    }

    fn go_on(&mut self, key: usize, mut advance: Advance) {
        loop {
            match advance {
                Advance::Again => advance = self.advance(key),
                Advance::Parked => return,
                Advance::Closed(ending) => return self.close(key, ending),
            }
        }
    }

    fn close(&mut self, key: usize, ending: Ending) {
        self.out.clear();
        let connection = self.connections.remove(key);
        self.driver.closed(connection.session, ending);
    }

    /// One step of a connection: flush, then read and feed.
    fn advance(&mut self, key: usize) -> Advance {
        let Some(connection) = self.connections.get_mut(key) else { return Advance::Parked };
        if connection.link == Link::Connecting {
            match established(&connection.stream) {
                Ok(true) => {
                    connection.link = Link::Open;
                    self.driver.connected(&mut connection.session);
                    // What an implicit handshake starts with.
                    if connection.channel.is_some() {
                        return self.settle(key, Flow::Read);
                    }
                }
                Ok(false) => return Advance::Parked,
                Err(_) => return Advance::Closed(Ending::NotConnected),
            }
        }
        if !connection.unsent.is_empty() {
            return self.settle(key, Flow::Read);
        }
        match connection.link {
            Link::Finishing => return Advance::Closed(Ending::Ours),
            Link::Waiting => return Advance::Parked,
            Link::Connecting | Link::Open => {}
        }
        if mem::take(&mut connection.carry_due) {
            return self.feed(key, 0);
        }
        if !connection.readable {
            return Advance::Parked;
        }
        let room = match self.driver.piece(&connection.session) {
            Some(bytes) => {
                narrow(&connection.stream);
                bytes.clamp(1, INPUT_BYTES)
            }
            None => INPUT_BYTES,
        };
        match connection.stream.read(&mut self.input[..room]) {
            Ok(0) => Advance::Closed(Ending::Theirs),
            Ok(count) => {
                // With edge-triggered events a short read means that the socket is empty.
                connection.readable = count == room || connection.peer_done;
                if connection.channel.is_some() { self.unseal(key, count) } else { self.feed(key, count) }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    connection.readable = false;
                    Advance::Parked
                }
                ErrorKind::Interrupted => Advance::Again,
                _ => Advance::Closed(Ending::Theirs),
            },
        }
    }

    /// Gives a connection a channel.
    fn secure(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let security = self.security.as_ref().ok_or(ErrorKind::Unsupported)?;
        // Commands sent ahead in clear would be taken for protected ones (RFC 3207 6).
        if !connection.carry.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        connection.channel = Some(Box::new(security.channel()?));
        Ok(())
    }

    /// Decrypts the first `fresh` bytes of the shared buffer and hands on what comes out.
    fn unseal(&mut self, key: usize, fresh: usize) -> Advance {
        let Some(connection) = self.connections.get_mut(key) else { return Advance::Parked };
        let Some(channel) = &mut connection.channel else { return Advance::Parked };
        mem::swap(&mut self.input, &mut self.cipher);
        match channel.unseal(&self.cipher[..fresh], &mut self.input) {
            Ok(Unsealed { bytes: 0, ended: true, .. }) => Advance::Closed(Ending::Theirs),
            Ok(Unsealed { bytes, secured, .. }) => {
                if let Some(resumed) = secured {
                    self.driver.secured(&mut connection.session, resumed, &mut self.out);
                }
                self.feed(key, bytes)
            }
            Err(_) => {
                // The connection is lost anyhow; the alert is a courtesy.
                let _ = connection.send(&[], &mut self.sealed);
                Advance::Closed(Ending::Theirs)
            }
        }
    }

    /// Hands the first `fresh` bytes of the shared buffer to the driver, behind what it left before.
    fn feed(&mut self, key: usize, fresh: usize) -> Advance {
        let Some(connection) = self.connections.get_mut(key) else { return Advance::Parked };
        let fresh = &self.input[..fresh];
        let flow = if connection.carry.is_empty() {
            let (used, flow) = self.driver.input(&mut connection.session, fresh, &mut self.out);
            connection.carry.extend_from_slice(&fresh[used..]);
            flow
        } else {
            connection.carry.extend_from_slice(fresh);
            let (used, flow) = self.driver.input(&mut connection.session, &connection.carry, &mut self.out);
            connection.carry.drain(..used);
            flow
        };
        if connection.carry.is_empty() && connection.carry.capacity() > INPUT_BYTES {
            connection.carry = Vec::new();
        }
        self.settle(key, flow)
    }

    /// Sends what the driver wrote and puts its wish into effect.
    fn settle(&mut self, key: usize, flow: Flow) -> Advance {
        let Some(connection) = self.connections.get_mut(key) else { return Advance::Parked };
        match flow {
            Flow::Abort => return Advance::Closed(Ending::Ours),
            Flow::Reset => {
                prepare_reset(&connection.stream);
                return Advance::Closed(Ending::Ours);
            }
            Flow::Finish => connection.link = Link::Finishing,
            Flow::Secure => return self.start_tls(key),
            Flow::Wait(until) => {
                connection.link = Link::Waiting;
                self.timers.push(Reverse((until, key, connection.serial)));
            }
            Flow::Read => {}
        }
        let mut sent = connection.send(&self.out, &mut self.sealed);
        self.out.clear();
        if flow == Flow::Finish
            && let Some(channel) = &mut connection.channel
            && sent.is_ok()
        {
            channel.finish();
            sent = connection.send(&[], &mut self.sealed);
        }
        match sent {
            Ok(true) => Advance::Again,
            Ok(false) => Advance::Parked,
            Err(_) => Advance::Closed(Ending::Theirs),
        }
    }

    /// Sends the last output in clear, and then what the handshake starts with.
    fn start_tls(&mut self, key: usize) -> Advance {
        let Some(connection) = self.connections.get_mut(key) else { return Advance::Parked };
        let sent = connection.send(&self.out, &mut self.sealed);
        self.out.clear();
        if sent.is_err() {
            return Advance::Closed(Ending::Theirs);
        }
        match self.secure(key) {
            Ok(()) => self.settle(key, Flow::Read),
            Err(_) => Advance::Closed(Ending::Ours),
        }
    }
}

impl<S> Connection<S> {
    /// Sends `out`, encrypted if there is a channel. True if nothing is left.
    fn send(&mut self, out: &[u8], sealed: &mut Vec<u8>) -> io::Result<bool> {
        let Some(channel) = &mut self.channel else { return send(&mut self.stream, &mut self.unsent, out) };
        sealed.clear();
        channel.seal(out, sealed)?;
        send(&mut self.stream, &mut self.unsent, sealed)
    }
}
