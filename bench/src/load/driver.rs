//! Keeps the clients of one thread going: who connects, when, and when it is over.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Shared;
use super::books::Books;
use super::client::Client;
use crate::clock::{self, MILLISECOND};
use crate::engine::{Driver, Ending, Flow, Turn};
use crate::sys;

/// Pause before connecting again after a connection that failed, in nanoseconds.
const BACKOFF: u64 = 100 * MILLISECOND;
/// Time for messages under way once the load is told to stop, in nanoseconds.
const GRACE: u64 = 2000 * MILLISECOND;
/// How often CPU time is read and patience checked, in nanoseconds.
const CHECK_INTERVAL: u64 = 50 * MILLISECOND;

pub(super) struct LoadDriver {
    books: Books,
    /// When each session that is not connected may connect.
    closed: VecDeque<u64>,
    live: usize,
    /// Connections begun so far, for the rotation of source addresses.
    begun: usize,
    checked: u64,
    /// When the load must end though messages are under way.
    deadline: Option<u64>,
}

impl LoadDriver {
    /// The driver of thread number `index`, with its share of the sessions.
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        let threads = shared.tallies.len();
        let sessions = shared.config.sessions;
        let share = sessions / threads + usize::from(index < sessions % threads);
        Self {
            books: Books::new(shared, index),
            closed: std::iter::repeat_n(0, share).collect(),
            live: 0,
            begun: index,
            checked: 0,
            deadline: None,
        }
    }

    fn check(&mut self, now: u64) {
        self.checked = now;
        let shared = &self.books.shared;
        self.books.tally().cpu.store(sys::thread_cpu(), Relaxed);
        let idle = now.saturating_sub(shared.last_acknowledged());
        if idle > clock::nanoseconds(shared.config.patience) && !shared.stop.swap(true, Relaxed) {
            shared.stalled.store(true, Relaxed);
        }
        // Once every message has its answer, nobody waits for servers that let connections wait for a greeting.
        if shared.stop.load(Relaxed) || shared.answered() >= u64::from(shared.config.messages) {
            self.deadline.get_or_insert(now + GRACE);
        }
    }

    fn source(&mut self) -> Option<IpAddr> {
        let sources = usize::from(self.books.shared.config.sources);
        self.begun += 1;
        (sources > 0).then(|| loopback(self.begun % sources))
    }
}

/// 127.0.0.1 and up.
pub(crate) fn loopback(index: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, (index / 250) as u8, (index % 250 + 1) as u8).into()
}

impl Driver for LoadDriver {
    type Session = Client;

    fn accepted(&mut self, _: usize, _: IpAddr, _: &mut Vec<u8>) -> (Client, Flow) {
        unreachable!("a load has no listeners")
    }

    fn connected(&mut self, _: &mut Client) {
        self.books.tally().connections.fetch_add(1, Relaxed);
    }

    fn secured(&mut self, client: &mut Client, resumed: bool, out: &mut Vec<u8>) {
        self.books.tally().handshakes.fetch_add(1, Relaxed);
        self.books.tally().resumed.fetch_add(resumed.into(), Relaxed);
        client.secured(&self.books, out);
    }

    fn input(&mut self, client: &mut Client, input: &[u8], out: &mut Vec<u8>) -> (usize, Flow) {
        client.input(input, &mut self.books, out)
    }

    fn woken(&mut self, client: &mut Client, out: &mut Vec<u8>) -> Flow {
        client.woken(&mut self.books, out)
    }

    fn closed(&mut self, client: Client, ending: Ending) {
        let orderly = client.closed(ending, &mut self.books);
        self.live -= 1;
        self.books.tally().open.store(self.live as u64, Relaxed);
        if orderly {
            self.closed.push_front(0);
        } else {
            self.closed.push_back(clock::now() + BACKOFF);
        }
    }

    fn turn(&mut self) -> Turn<Client> {
        let now = clock::now();
        if now > self.checked + CHECK_INTERVAL {
            self.check(now);
        }
        let more = self.books.any_left();
        if (self.live == 0 && !more) || self.deadline.is_some_and(|deadline| now > deadline) {
            self.books.tally().cpu.store(sys::thread_cpu(), Relaxed);
            return Turn::End;
        }
        if !more || self.closed.front().is_none_or(|&time| time > now) {
            return Turn::Sleep;
        }
        self.closed.pop_front();
        self.live += 1;
        self.books.tally().open.store(self.live as u64, Relaxed);
        let client = Client::new(&self.books);
        let target = self.books.shared.config.target;
        Turn::Open(target, self.source(), client)
    }
}
