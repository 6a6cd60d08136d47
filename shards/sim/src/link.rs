//! One connection between two ends, without tasks: what is under way, what is lost, what each end sees when.

use crate::executor::MachineId;
use crate::random::{Chance, Stream};
use mail::Time;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::task::Waker;
use std::time::Duration;

/// How often a segment joins the one before it that is still under way.
const JOIN: Chance = Chance::percent(30);
/// The longest delay that one segment has beyond the latency of its connection, in nanoseconds.
const JITTER_NANOS_MAX: u64 = 100_000;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// What will happen to a connection, by the bytes that it has carried in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Whole,
    ResetAfter(u64),
    SilentAfter(u64),
}

/// What a connection is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// One way.
    pub(crate) latency: Duration,
    /// Nanoseconds per byte.
    pub(crate) byte_nanos: u64,
    /// Bytes that one direction holds before the sender waits; at least 1.
    pub(crate) room: usize,
    /// Data is cut anywhere, on its way and when read.
    pub(crate) choppy: bool,
    pub(crate) fate: Fate,
}

/// What an operation came to.
pub(crate) enum Step<T> {
    Done(T),
    /// Nothing before this time, unless the other end does something.
    Wait(Time),
}

#[derive(Debug)]
struct Segment {
    arrives: Time,
    bytes: Vec<u8>,
    read: usize,
}

/// One direction, named by the side that reads it.
#[derive(Debug, Default)]
struct Pipe {
    segments: VecDeque<Segment>,
    held: usize,
    last_arrival: Time,
    end: Option<Time>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Broken {
    at: Time,
    /// What had arrived unread is lost as well.
    purges: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    quality: Quality,
    pipes: [Pipe; 2],
    carried: u64,
    broken: Option<Broken>,
    silent: bool,
    /// The machine that lost its power with this end open.
    dead: Option<MachineId>,
}

impl Link {
    pub(crate) fn new(quality: Quality) -> Link {
        Link { quality, pipes: Default::default(), carried: 0, broken: None, silent: false, dead: None }
    }

    /// Sends as much of `bytes` (not empty) as there is room for.
    pub(crate) fn write(
        &mut self,
        side: Side,
        bytes: &[u8],
        now: Time,
        random: &Stream,
    ) -> Step<io::Result<usize>> {
        if self.is_broken(now) {
            return Step::Done(Err(ErrorKind::ConnectionReset.into()));
        }
        let room = self.quality.room.saturating_sub(self.pipes[side.other() as usize].held);
        if room == 0 {
            return Step::Wait(self.broken.map_or(Time::FAR, |broken| broken.at));
        }
        let len = cut(bytes.len().min(room), self.quality.choppy, random);
        self.push(side.other(), &bytes[..len], now, random);
        self.meet_fate(len, now, random);
        Step::Done(Ok(len))
    }

    fn push(&mut self, reader: Side, bytes: &[u8], now: Time, random: &Stream) {
        let Quality { latency, byte_nanos, choppy, .. } = self.quality;
        if self.pipes[reader as usize].reader_gone {
            self.break_at(now + latency * 2, random);
            return;
        }
        let travel =
            Duration::from_nanos(byte_nanos * bytes.len() as u64 + random.between(0, JITTER_NANOS_MAX));
        let pipe = &mut self.pipes[reader as usize];
        let arrives = if self.silent { Time::FAR } else { pipe.last_arrival.max(now + latency) + travel };
        pipe.held += bytes.len();
        pipe.last_arrival = arrives;
        match pipe.segments.back_mut() {
            Some(last) if last.arrives > now && !self.silent && !choppy && random.hits(JOIN) => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => pipe.segments.push_back(Segment { arrives, bytes: bytes.to_vec(), read: 0 }),
        }
        wake(&mut pipe.reader);
    }

    fn meet_fate(&mut self, len: usize, now: Time, random: &Stream) {
        let before = self.carried;
        self.carried += len as u64;
        match self.quality.fate {
            Fate::ResetAfter(bytes) if before < bytes && self.carried >= bytes => {
                let after =
                    Duration::from_nanos(random.between(0, 3 * self.quality.latency.as_nanos() as u64));
                self.break_at(now + after, random);
            }
            Fate::SilentAfter(bytes) if self.carried >= bytes => self.silent = true,
            _ => {}
        }
    }

    /// The next bytes for `side`, or `None` at the end.
    pub(crate) fn read(
        &mut self,
        side: Side,
        now: Time,
        random: &Stream,
    ) -> Step<io::Result<Option<Vec<u8>>>> {
        let broken = self.broken.filter(|broken| broken.at <= now);
        // Whatever had arrived before a reset can still be read, unless the reset took it along.
        let readable = match broken {
            Some(Broken { purges: true, .. }) => None,
            Some(broken) => Some(broken.at),
            None => Some(now),
        };
        let choppy = self.quality.choppy;
        let pipe = &mut self.pipes[side as usize];
        let next = pipe.segments.front().map(|segment| segment.arrives).or(pipe.end);
        if let (Some(next), Some(until)) = (next, readable)
            && next <= until
        {
            return Step::Done(Ok(pipe.take(choppy, random)));
        }
        if broken.is_some() {
            return Step::Done(Err(ErrorKind::ConnectionReset.into()));
        }
        let breaks = self.broken.map_or(Time::FAR, |broken| broken.at);
        Step::Wait(next.unwrap_or(Time::FAR).min(breaks))
    }

    /// Says that `side` sends no more.
    pub(crate) fn finish(&mut self, side: Side, now: Time) {
        let arrives = if self.silent { Time::FAR } else { now + self.quality.latency };
        let pipe = &mut self.pipes[side.other() as usize];
        if pipe.end.is_none() {
            pipe.end = Some(pipe.last_arrival.max(arrives));
            wake(&mut pipe.reader);
        }
    }

    /// Closes `side` at once: in order when all that came was read, else with a reset, as TCP does.
    pub(crate) fn leave(&mut self, side: Side, now: Time, random: &Stream) {
        let pipe = &mut self.pipes[side as usize];
        pipe.reader_gone = true;
        let unread = pipe.segments.front().map(|segment| segment.arrives);
        pipe.segments.clear();
        pipe.held = 0;
        wake(&mut pipe.writer);
        self.finish(side, now);
        if let Some(arrives) = unread.filter(|arrives| *arrives != Time::FAR) {
            self.break_at(arrives.max(now) + self.quality.latency, random);
        }
    }

    /// Resets the connection now; the other end learns of it a latency later.
    pub(crate) fn reset(&mut self, now: Time, random: &Stream) {
        if !self.silent {
            self.break_at(now + self.quality.latency, random);
        }
    }

    /// `side` is gone with its machine, and nothing tells the other end.
    pub(crate) fn die(&mut self, machine: MachineId) {
        self.silent = true;
        self.dead = Some(machine);
    }

    /// The machine that died with one end of this open.
    pub(crate) fn dead(&self) -> Option<MachineId> {
        self.dead
    }

    /// The machine that had died is up again, and knows nothing of this connection.
    pub(crate) fn disown(&mut self, now: Time, random: &Stream) {
        self.dead = None;
        self.break_at(now + self.quality.latency * 2, random);
    }

    /// Whether `side` would see data, the end or an error now.
    pub(crate) fn is_stale(&self, side: Side, now: Time) -> bool {
        let pipe = &self.pipes[side as usize];
        let next = pipe.segments.front().map(|segment| segment.arrives).or(pipe.end);
        self.is_broken(now) || next.is_some_and(|next| next <= now)
    }

    pub(crate) fn wake_reader_of(&mut self, side: Side, waker: &Waker) {
        self.pipes[side as usize].reader = Some(waker.clone());
    }

    pub(crate) fn wake_writer_of(&mut self, side: Side, waker: &Waker) {
        self.pipes[side.other() as usize].writer = Some(waker.clone());
    }

    fn is_broken(&self, now: Time) -> bool {
        self.broken.is_some_and(|broken| broken.at <= now)
    }

    fn break_at(&mut self, at: Time, random: &Stream) {
        let purges = random.coin();
        if self.broken.is_none_or(|broken| broken.at > at) {
            self.broken = Some(Broken { at, purges });
        }
        for pipe in &mut self.pipes {
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }
}

impl Pipe {
    /// Reads from the first segment, which is there, or finds the end.
    fn take(&mut self, choppy: bool, random: &Stream) -> Option<Vec<u8>> {
        let segment = self.segments.front_mut()?;
        let left = segment.bytes.len() - segment.read;
        let len = cut(left, choppy, random);
        let whole = segment.read == 0 && len == left;
        let bytes = match whole {
            true => std::mem::take(&mut segment.bytes),
            false => segment.bytes[segment.read..segment.read + len].to_vec(),
        };
        segment.read += len;
        if len == left {
            self.segments.pop_front();
        }
        self.held -= len;
        wake(&mut self.writer);
        Some(bytes)
    }
}

/// How much of `len` bytes goes in one piece. Half of the pieces are whole, or long data would take for ever.
fn cut(len: usize, choppy: bool, random: &Stream) -> usize {
    if choppy && random.coin() { random.between(1, len as u64) as usize } else { len }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn link(fate: Fate, choppy: bool) -> Link {
        let latency = Duration::from_millis(1);
        Link::new(Quality { latency, byte_nanos: 0, room: 10, choppy, fate })
    }

    fn write(link: &mut Link, side: Side, bytes: &[u8], at: u64) -> Option<io::Result<usize>> {
        match link.write(side, bytes, Time(at), &Stream::new(at, "w")) {
            Step::Done(result) => Some(result),
            Step::Wait(_) => None,
        }
    }

    fn read(link: &mut Link, side: Side, at: u64) -> Option<io::Result<Option<Vec<u8>>>> {
        match link.read(side, Time(at), &Stream::new(at, "r")) {
            Step::Done(result) => Some(result),
            Step::Wait(_) => None,
        }
    }

    #[test]
    fn bytes_arrive_in_order_after_the_latency_whatever_the_cuts() {
        for seed in 0..200 {
            let random = Stream::new(seed, "cuts");
            let mut link = link(Fate::Whole, true);
            let (mut sent, mut got, mut now) = (0, Vec::new(), 0);
            while got.len() < 100 {
                now += random.between(0, 2 * MS);
                if sent < 100 && random.coin() {
                    let rest: Vec<u8> = (sent as u8..100).collect();
                    if let Step::Done(Ok(len)) = link.write(Side::Client, &rest, Time(now), &random) {
                        sent += len;
                    }
                } else if let Step::Done(Ok(Some(bytes))) = link.read(Side::Server, Time(now), &random) {
                    got.extend(bytes);
                }
                assert!(sent - got.len() <= 10, "a direction holds no more than its room");
            }
            assert_eq!(got, (0..100).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn a_full_direction_makes_the_sender_wait() {
        let mut link = link(Fate::Whole, false);
        assert_eq!(write(&mut link, Side::Client, &[0; 30], 0).expect("room").expect("up"), 10);
        assert!(write(&mut link, Side::Client, &[0; 20], 0).is_none());
        assert!(read(&mut link, Side::Server, MS - 1).is_none());
        assert_eq!(read(&mut link, Side::Server, 2 * MS).expect("due").expect("up").expect("data").len(), 10);
        assert!(write(&mut link, Side::Client, &[0; 20], 2 * MS).is_some());
    }

    #[test]
    fn an_end_comes_after_the_data() {
        let mut link = link(Fate::Whole, false);
        write(&mut link, Side::Server, b"bye", 0);
        link.leave(Side::Server, Time(1), &Stream::new(0, "l"));
        assert_eq!(read(&mut link, Side::Client, 3 * MS).expect("due").expect("up"), Some(b"bye".to_vec()));
        assert_eq!(read(&mut link, Side::Client, 3 * MS).expect("due").expect("up"), None);
        assert!(write(&mut link, Side::Client, b"x", 4 * MS).expect("room").is_ok());
        assert!(write(&mut link, Side::Client, b"x", 9 * MS).expect("now it knows").is_err());
    }

    #[test]
    fn leaving_with_unread_data_resets() {
        let mut link = link(Fate::Whole, false);
        write(&mut link, Side::Client, b"more", 0);
        link.leave(Side::Server, Time(2 * MS), &Stream::new(0, "l"));
        assert!(write(&mut link, Side::Client, b"x", 4 * MS).expect("room").is_err());
    }

    #[test]
    fn a_reset_or_silence_strikes_at_its_byte() {
        let mut reset = link(Fate::ResetAfter(4), false);
        write(&mut reset, Side::Client, b"abc", 0);
        assert!(write(&mut reset, Side::Client, b"d", 1).expect("room").is_ok());
        assert!(write(&mut reset, Side::Client, b"e", 10 * MS).expect("room").is_err());
        let mut silent = link(Fate::SilentAfter(4), false);
        write(&mut silent, Side::Client, b"abcd", 0);
        write(&mut silent, Side::Client, b"ef", 1);
        assert_eq!(
            read(&mut silent, Side::Server, 5 * MS).expect("due").expect("up"),
            Some(b"abcd".to_vec())
        );
        assert!(read(&mut silent, Side::Server, 3_600_000 * MS).is_none());
    }
}
