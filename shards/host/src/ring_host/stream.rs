//! Streams as the ring sees them. A stream stays in its slot until the kernel is done with it, which may be long
//! after its owner has dropped it.
//!
//! ```text
//!            arm                 enough is queued, or the owner is gone
//! Idle ------------> Armed -------------------------------------------> Cancelling
//!  ^ ^                 | |  last completion                                  |
//!  | +-----------------+ +--> Starved (no buffer) -- buffers free --> Armed  |
//!  +-------------------------------------------------------------------------+
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use io_uring::{opcode, types};
use mail::Time;

use super::core::{Core, Due, Shared, now};
use super::pool::GROUP;
use super::ring::Completion;
use super::slots::Key;
use super::timers::TimerId;
use super::token::{Kind, Token};

/// Pieces queued for a reader that does not come, before the receive is stopped until they are read. What is on
/// its way already still arrives, so this is a soft bound.
const QUEUE_MAX: usize = 8;
/// Most bytes of one send entry; more goes out in several.
const SEND_BYTES_MAX: usize = 1 << 30;

/// A connected socket and what is under way on it.
pub(super) struct Stream {
    pub(super) socket: OwnedFd,
    receiving: Receiving,
    /// How receiving ended: a negated errno, or 0 for the end of the stream.
    end: Option<i32>,
    queue: VecDeque<Piece>,
    reader: Option<Reader>,
    sending: Sending,
    alarm: Option<TimerId>,
    owner: Owner,
}

enum Receiving {
    Idle,
    Armed,
    Cancelling,
    Starved,
}

enum Sending {
    Idle,
    Busy(Outgoing),
    Done(Payload, io::Result<()>),
}

enum Owner {
    Here,
    Gone,
}

/// Received bytes: in a buffer of the pool, or copied out of it when buffers ran short.
enum Piece {
    Lent { buffer: u16, len: u32 },
    Copied(Vec<u8>),
}

struct Reader {
    waker: Waker,
    deadline: Time,
}

/// A send under way; the slot owns its bytes until the last completion.
struct Outgoing {
    payload: Payload,
    sent: usize,
    waker: Option<Waker>,
    deadline: Time,
    late: bool,
}

/// What is sent.
pub(super) enum Payload {
    Vec(Vec<u8>),
    Bytes(Bytes),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Vec(bytes) => bytes,
            Payload::Bytes(bytes) => bytes,
        }
    }
}

/// Received bytes; give them back (drop) before waiting for anything else.
pub struct RingChunk(Loan);

enum Loan {
    Lent { shared: Rc<Shared>, buffer: u16, len: u32 },
    Copied(Vec<u8>),
}

impl std::ops::Deref for RingChunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: a completion handed the buffer over with `len` bytes, and only our drop gives it back.
            Loan::Lent { shared, buffer, len } => unsafe { shared.memory.filled(*buffer, *len) },
            Loan::Copied(bytes) => bytes,
        }
    }
}

impl Drop for RingChunk {
    fn drop(&mut self) {
        if let Loan::Lent { shared, buffer, .. } = &self.0
            && let Some(mut core) = shared.living_core()
        {
            core.give_buffer(*buffer);
        }
    }
}

impl Stream {
    fn new(socket: OwnedFd) -> Stream {
        Stream {
            socket,
            receiving: Receiving::Idle,
            end: None,
            queue: VecDeque::new(),
            reader: None,
            sending: Sending::Idle,
            alarm: None,
            owner: Owner::Here,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self.owner, Owner::Gone)
    }

    /// Whether there is something to read, or there never will be again.
    pub(super) fn is_readable(&self) -> bool {
        !self.queue.is_empty() || self.end.is_some()
    }

    /// Whether a receive is under way, so that what comes will be known without asking the socket.
    pub(super) fn is_armed(&self) -> bool {
        matches!(self.receiving, Receiving::Armed)
    }

    /// Whether the kernel still holds something of a send.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.sending, Sending::Busy(_))
    }

    /// The first deadline after `now` of a reader or a sender that waits.
    fn next_deadline(&self, now: Time) -> Option<Time> {
        let reader = self.reader.as_ref().map(|reader| reader.deadline);
        let sender = match &self.sending {
            Sending::Busy(outgoing) if !outgoing.late => Some(outgoing.deadline),
            _ => None,
        };
        reader.into_iter().chain(sender).filter(|at| *at > now).min()
    }
}

impl Core {
    /// Takes a socket over and starts to receive from it.
    pub(super) fn add_stream(&mut self, socket: OwnedFd) -> Key {
        let key = self.streams.insert(Stream::new(socket));
        self.arm(key);
        key
    }

    fn arm(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.receiving = Receiving::Armed;
        let entry = opcode::RecvMulti::new(types::Fd(stream.socket.as_raw_fd()), GROUP).build();
        // SAFETY: the pool outlives the ring, and the socket is closed only after the last completion.
        unsafe { self.ring.push(entry, Token::new(Kind::Receive, key)) };
    }

    /// The next piece, the end (`None`), or `TimedOut` at `deadline`.
    pub(super) fn poll_receive(
        &mut self,
        key: Key,
        cx: &mut Context<'_>,
        deadline: Time,
        shared: &Rc<Shared>,
    ) -> Poll<io::Result<Option<RingChunk>>> {
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready(Ok(None)) };
        match stream.queue.pop_front() {
            Some(Piece::Lent { buffer, len }) => {
                let shared = shared.clone();
                return Poll::Ready(Ok(Some(RingChunk(Loan::Lent { shared, buffer, len }))));
            }
            Some(Piece::Copied(bytes)) => return Poll::Ready(Ok(Some(RingChunk(Loan::Copied(bytes))))),
            None => {}
        }
        match stream.end {
            Some(0) => return Poll::Ready(Ok(None)),
            Some(error) => return Poll::Ready(Err(io::Error::from_raw_os_error(-error))),
            None if deadline != Time::FAR && now() >= deadline => {
                stream.reader = None;
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            None => {}
        }
        stream.reader = Some(Reader { waker: cx.waker().clone(), deadline });
        if matches!(stream.receiving, Receiving::Idle) {
            self.arm(key);
        }
        self.set_alarm(key, deadline);
        Poll::Pending
    }

    /// A completion of the multishot receive. Every completion with a buffer owns it, whatever its result.
    pub(super) fn on_received(&mut self, key: Key, completion: Completion) {
        let result = completion.result;
        if completion.buffer().is_some() {
            self.pool.taken();
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        match completion.buffer() {
            Some(buffer) if result > 0 && !stream.is_gone() => {
                stream.queue.push_back(Piece::Lent { buffer, len: result as u32 });
            }
            Some(buffer) => self.give_buffer(buffer),
            None => {}
        }
        if completion.more() {
            self.limit_queue(key);
        } else {
            self.on_receive_ended(key, result);
        }
        self.serve_reader(key);
    }

    /// Wakes the reader when there is something for it, and otherwise sees to it that there will be.
    fn serve_reader(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.is_readable() {
            let reader = stream.reader.take();
            self.wake(reader.map(|reader| reader.waker));
        } else if stream.reader.is_some() && matches!(stream.receiving, Receiving::Idle) {
            self.arm(key);
        }
    }

    /// A multishot receive knows no back-pressure, so it is stopped when its reader does not keep up.
    fn limit_queue(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.queue.len() >= QUEUE_MAX && stream.is_armed() {
            stream.receiving = Receiving::Cancelling;
            self.ring.cancel(Token::new(Kind::Receive, key));
        }
    }

    fn on_receive_ended(&mut self, key: Key, result: i32) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let ended = std::mem::replace(&mut stream.receiving, Receiving::Idle);
        if stream.is_gone() {
            return self.retire_stream(key);
        }
        match -result {
            libc::ENOBUFS => {
                stream.receiving = Receiving::Starved;
                self.counters.enobufs += 1;
                self.starved.push_back(key);
                self.spill();
                self.feed_starved();
            }
            libc::ECANCELED if matches!(ended, Receiving::Cancelling) => {}
            0.. => stream.end = Some(result),
            _ => {}
        }
    }

    /// Frees the buffers that wait for readers by copying what they hold, so that readers that do not come (their
    /// sessions wait for a disk, a name, a tarpit) cannot keep the pool from the others.
    fn spill(&mut self) {
        if self.pool.is_refreshed() {
            return;
        }
        let Core { streams, pool, counters, .. } = self;
        for piece in streams.iter_mut().flat_map(|stream| stream.queue.iter_mut()) {
            if let Piece::Lent { buffer, len } = *piece {
                // SAFETY: the piece owns the buffer, which holds `len` bytes, and is replaced by the copy.
                *piece = Piece::Copied(unsafe { pool.copy(buffer, len) });
                pool.give(buffer);
                counters.spilled += 1;
            }
        }
    }

    /// Hands a buffer back, and lets starved receives go on when there are enough again.
    fn give_buffer(&mut self, buffer: u16) {
        self.pool.give(buffer);
        self.feed_starved();
    }

    fn feed_starved(&mut self) {
        if self.starved.is_empty() || !self.pool.is_refreshed() {
            return;
        }
        for key in std::mem::take(&mut self.starved) {
            if self.streams.get_mut(key).is_some_and(|stream| matches!(stream.receiving, Receiving::Starved))
            {
                self.arm(key);
            }
        }
    }

    /// Starts to send; an error when a send is under way.
    pub(super) fn start_send(&mut self, key: Key, payload: Payload, deadline: Time) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(key) else { return Err(io::ErrorKind::NotConnected.into()) };
        if stream.is_sending() {
            return Err(io::Error::other("an earlier send was abandoned"));
        }
        if payload.bytes().is_empty() {
            stream.sending = Sending::Done(payload, Ok(()));
            return Ok(());
        }
        stream.sending = Sending::Busy(Outgoing { payload, sent: 0, waker: None, deadline, late: false });
        self.push_send(key);
        Ok(())
    }

    fn push_send(&mut self, key: Key) {
        let Some(Stream { socket, sending: Sending::Busy(outgoing), .. }) = self.streams.get_mut(key) else {
            return;
        };
        let left = &outgoing.payload.bytes()[outgoing.sent..];
        let len = left.len().min(SEND_BYTES_MAX) as u32;
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), left.as_ptr(), len);
        let entry = entry.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build();
        // SAFETY: the slot owns the bytes, which do not move with it, and the socket, until the last completion.
        unsafe { self.ring.push(entry, Token::new(Kind::Send, key)) };
    }

    /// The end of the send that was started last, with its bytes.
    pub(super) fn poll_sent(
        &mut self,
        key: Key,
        cx: &mut Context<'_>,
    ) -> Poll<(Option<Payload>, io::Result<()>)> {
        let Some(stream) = self.streams.get_mut(key) else { return Poll::Ready((None, Ok(()))) };
        match std::mem::replace(&mut stream.sending, Sending::Idle) {
            Sending::Idle => Poll::Ready((None, Ok(()))),
            Sending::Done(payload, result) => Poll::Ready((Some(payload), result)),
            Sending::Busy(mut outgoing) => {
                outgoing.waker = Some(cx.waker().clone());
                let deadline = outgoing.deadline;
                stream.sending = Sending::Busy(outgoing);
                self.set_alarm(key, deadline);
                Poll::Pending
            }
        }
    }

    pub(super) fn on_sent(&mut self, key: Key, result: i32) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Sending::Busy(mut outgoing) = std::mem::replace(&mut stream.sending, Sending::Idle) else {
            return;
        };
        if stream.is_gone() {
            return self.retire_stream(key);
        }
        outgoing.sent += usize::try_from(result).unwrap_or(0);
        let all = outgoing.sent == outgoing.payload.bytes().len();
        let outcome = match -result {
            _ if all => Ok(()),
            _ if outgoing.late => Err(io::ErrorKind::TimedOut.into()),
            0 => Err(io::ErrorKind::WriteZero.into()),
            libc::EINTR | ..0 => {
                stream.sending = Sending::Busy(outgoing);
                return self.push_send(key);
            }
            error => Err(io::Error::from_raw_os_error(error)),
        };
        let waker = outgoing.waker.take();
        stream.sending = Sending::Done(outgoing.payload, outcome);
        self.wake(waker);
    }

    /// Makes sure that the stream is looked at by `deadline`. One entry per stream, moved only when it is too
    /// late: deadlines mostly grow, so most receives touch no timer.
    fn set_alarm(&mut self, key: Key, deadline: Time) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if deadline == Time::FAR || stream.alarm.is_some_and(|alarm| alarm.at() <= deadline) {
            return;
        }
        if let Some(later) = stream.alarm.take() {
            self.timers.cancel(later);
        }
        stream.alarm = Some(self.timers.insert(deadline, Due::Stream(key)));
    }

    /// The alarm of a stream: wakes a late reader, cancels a late send, and is set again for whoever else waits.
    pub(super) fn on_stream_due(&mut self, key: Key, now: Time) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.alarm = None;
        let reader = stream.reader.take_if(|reader| reader.deadline <= now);
        let late = match &mut stream.sending {
            Sending::Busy(outgoing) if !outgoing.late && outgoing.deadline <= now => {
                outgoing.late = true;
                true
            }
            _ => false,
        };
        let next = stream.next_deadline(now);
        self.wake(reader.map(|reader| reader.waker));
        if late {
            self.ring.cancel(Token::new(Kind::Send, key));
        }
        if let Some(at) = next {
            self.set_alarm(key, at);
        }
    }

    /// Lets go of a stream: cancels what is under way; the last completion closes it.
    pub(super) fn abandon_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.owner = Owner::Gone;
        stream.reader = None;
        if let Some(alarm) = stream.alarm.take() {
            self.timers.cancel(alarm);
        }
        if let Sending::Busy(outgoing) = &mut stream.sending {
            outgoing.waker = None;
            self.ring.cancel(Token::new(Kind::Send, key));
        }
        if stream.is_armed() {
            stream.receiving = Receiving::Cancelling;
            self.ring.cancel(Token::new(Kind::Receive, key));
        }
        for piece in std::mem::take(&mut stream.queue) {
            if let Piece::Lent { buffer, .. } = piece {
                self.give_buffer(buffer);
            }
        }
        self.retire_stream(key);
    }

    /// Frees the slot of an abandoned stream once the kernel holds nothing of it any more.
    fn retire_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if matches!(stream.receiving, Receiving::Idle | Receiving::Starved)
            && !stream.is_sending()
            && let Some(stream) = self.streams.remove(key)
        {
            self.close(stream.socket);
        }
    }
}
