//! What the sessions of one thread of a sink share, and their place in the event loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fastrand::Rng;

use super::session::{Recipient, Session};
use super::{Behaviour, Plant, Shared, Tally};
use crate::clock::{self, MILLISECOND};
use crate::engine::{Driver, Ending, Flow, Turn};
use crate::identity::{Arrival, examine};
use crate::sys;
use crate::transparency::unstuff;

/// Recipient domains counted apart; further ones are counted together.
const DOMAINS_MAX: usize = 1 << 16;
/// How often CPU time is read, in nanoseconds.
const CHECK_INTERVAL: u64 = 50 * MILLISECOND;
/// How often a connection to a paused sink looks whether it goes on, in nanoseconds.
const PAUSE_INTERVAL: u64 = 10 * MILLISECOND;

/// Where messages are taken, verified and counted.
pub(super) struct Desk {
    shared: Arc<Shared>,
    index: usize,
    rng: Rng,
    offers: Vec<u8>,
    /// Places in the list of domains, which starts with those that have a behaviour of their own.
    domains: HashMap<Box<[u8]>, usize>,
    /// For a name in lower case, and for a message without doubled dots.
    scratch: Vec<u8>,
}

impl Desk {
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        let bytes = shared.config.message_bytes_max;
        let offers = format!(
            "250-sink.example\r\n250-PIPELINING\r\n250-SIZE {bytes}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
             250 ENHANCEDSTATUSCODES\r\n"
        );
        let mut desk = Self {
            index,
            rng: Rng::with_seed(index as u64),
            offers: offers.into_bytes(),
            domains: HashMap::new(),
            scratch: Vec::new(),
            shared,
        };
        for (name, _) in &desk.shared.clone().config.domains {
            desk.domain(name.as_bytes());
        }
        desk
    }

    fn tally(&self) -> &Tally {
        &self.shared.tallies[self.index]
    }

    pub(super) fn offers(&self) -> &[u8] {
        &self.offers
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.shared.config.message_bytes_max
    }

    /// The place of a domain in the list.
    pub(super) fn domain(&mut self, name: &[u8]) -> usize {
        self.scratch.clear();
        self.scratch.extend(name.iter().map(u8::to_ascii_lowercase));
        if let Some(&place) = self.domains.get(self.scratch.as_slice()) {
            return place;
        }
        if self.domains.len() == DOMAINS_MAX {
            return DOMAINS_MAX;
        }
        let place = self.domains.len();
        let name = String::from_utf8_lossy(&self.scratch).into_owned();
        self.domains.insert(self.scratch.as_slice().into(), place);
        self.tally().with(|detail| {
            detail.domains.push((name, 0));
            if place + 1 == DOMAINS_MAX {
                detail.domains.push(("(others)".into(), 0));
            }
        });
        place
    }

    /// The lane of a domain that has a behaviour of its own.
    pub(super) fn lane(&self, domain: usize) -> Option<usize> {
        let config = &self.shared.config;
        (domain < config.domains.len()).then(|| config.listeners.len() + domain)
    }

    pub(super) fn behaviour(&self, lane: usize) -> &Behaviour {
        let config = &self.shared.config;
        match lane.checked_sub(config.listeners.len()) {
            None => &config.listeners[lane].behaviour,
            Some(domain) => &config.domains[domain].1,
        }
    }

    /// Whether something that happens in `percent` of all cases happens now; it counts as a refusal.
    pub(super) fn chance(&mut self, percent: f64) -> bool {
        let happens = percent > 0.0 && self.rng.f64() * 100.0 < percent;
        if happens {
            self.tally().refused.fetch_add(1, Relaxed);
        }
        happens
    }

    /// Verifies and counts a message.
    pub(super) fn take(&mut self, content: &[u8], stuffed: bool, recipients: &[Recipient]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let message = if stuffed {
            scratch.clear();
            unstuff(content, &mut scratch);
            scratch.as_slice()
        } else {
            content
        };
        self.count(self.arrival(message), recipients);
        self.scratch = scratch;
    }

    fn arrival(&self, message: &[u8]) -> Arrival {
        let arrival = examine(message);
        match (self.shared.config.plant, &arrival) {
            (Some(Plant::Alter(number)), Arrival::Intact(stamp)) if stamp.sequence == number => {
                let mut changed = message.to_vec();
                changed.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
                examine(&changed)
            }
            _ => arrival,
        }
    }

    fn count(&self, arrival: Arrival, recipients: &[Recipient]) {
        let now = clock::now();
        let numbers = || recipients.iter().map(|recipient| recipient.number);
        let plant = self.shared.config.plant;
        self.tally().with(|detail| {
            for recipient in recipients {
                detail.domains[recipient.domain].1 += 1;
            }
            match arrival {
                Arrival::Intact(stamp) => {
                    if plant != Some(Plant::Lose(stamp.sequence)) {
                        detail.ledger.deliver(&stamp, numbers());
                    }
                    if plant == Some(Plant::Repeat(stamp.sequence)) {
                        detail.ledger.deliver(&stamp, numbers());
                    }
                    for recipient in recipients {
                        detail.lanes[recipient.lane].record(now.saturating_sub(stamp.time));
                    }
                }
                Arrival::Altered(stamp, alteration) => detail.ledger.alter(stamp, alteration, numbers()),
                Arrival::Report(stamp, failed) => detail.ledger.report(&stamp, &failed),
                Arrival::Foreign => detail.ledger.foreign += 1,
            }
        });
        self.tally().messages.fetch_add(1, Relaxed);
        self.tally().last.store(now, Relaxed);
    }
}

pub(super) struct SinkDriver {
    desk: Desk,
    checked: u64,
}

impl SinkDriver {
    /// The driver of thread number `index`.
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self { desk: Desk::new(shared, index), checked: 0 }
    }

    /// What a connection does while the sink is paused.
    fn paused(&self) -> Option<Flow> {
        let paused = self.desk.shared.paused.load(Relaxed);
        paused.then(|| Flow::Wait(clock::now() + PAUSE_INTERVAL))
    }
}

impl Driver for SinkDriver {
    type Session = Session;

    fn accepted(&mut self, listener: usize, out: &mut Vec<u8>) -> (Session, Flow) {
        let (open, most) = &self.desk.shared.open[listener];
        let now = open.fetch_add(1, Relaxed) + 1;
        let limit = self.desk.behaviour(listener).connections_max;
        let full = limit != 0 && now > limit;
        if full {
            self.desk.tally().refused.fetch_add(1, Relaxed);
        } else {
            most.fetch_max(now, Relaxed);
        }
        if let Some(flow) = self.paused() {
            return (Session::waiting(listener, &self.desk), flow);
        }
        Session::new(listener, full, &self.desk, out)
    }

    fn input(&mut self, session: &mut Session, input: &[u8], out: &mut Vec<u8>) -> (usize, Flow) {
        match self.paused() {
            Some(flow) => (0, flow),
            None => session.input(input, &mut self.desk, out),
        }
    }

    fn woken(&mut self, session: &mut Session, out: &mut Vec<u8>) -> Flow {
        self.paused().unwrap_or_else(|| session.woken(&self.desk, out))
    }

    fn closed(&mut self, session: Session, _: Ending) {
        self.desk.shared.open[session.listener].0.fetch_sub(1, Relaxed);
    }

    fn turn(&mut self) -> Turn<Session> {
        let now = clock::now();
        let stop = self.desk.shared.stop.load(Relaxed);
        if stop || now > self.checked + CHECK_INTERVAL {
            self.checked = now;
            self.desk.tally().cpu.store(sys::thread_cpu(), Relaxed);
        }
        if stop { Turn::End } else { Turn::Sleep }
    }
}
