//! What the sessions of one thread of a sink share, and their place in the event loop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::fate::{Blow, attempt};
use super::session::{Credentials, Recipient, Session};
use super::{Behaviour, Config, Plant, Shared, Tally, greylist};
use crate::clock::{self, MILLISECOND};
use crate::engine::{Driver, Ending, Flow, Tls, Turn};
use crate::identity::{Arrival, Stamp, examine};
use crate::sys;
use crate::transparency::unstuff;

/// Recipient domains counted apart; further ones are counted together.
const DOMAINS_MAX: usize = 1 << 16;
/// Bytes in which the stamp of a message is looked for to decide its fate.
const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// How often CPU time is read, in nanoseconds.
const CHECK_INTERVAL: u64 = 50 * MILLISECOND;
/// How often a connection to a paused sink looks whether it goes on, in nanoseconds.
const PAUSE_INTERVAL: u64 = 10 * MILLISECOND;

/// Where messages are taken, verified and counted.
pub(super) struct Desk {
    shared: Arc<Shared>,
    index: usize,
    /// The answer to EHLO, without and with TLS.
    offers: [Vec<u8>; 2],
    /// Places in the list of domains, which starts with those that have a behaviour of their own.
    domains: HashMap<Box<[u8]>, usize>,
    /// For a name in lower case, and for a message without doubled dots.
    scratch: Vec<u8>,
}

impl Desk {
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        let mut desk = Self {
            index,
            offers: [false, true].map(|secured| offers(&shared.config, secured)),
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

    pub(super) fn offers(&self, secured: bool) -> &[u8] {
        &self.offers[usize::from(secured)]
    }

    /// Whether STARTTLS is a command.
    pub(super) fn offers_tls(&self) -> bool {
        self.shared.config.tls == Tls::StartTls
    }

    /// Whether BDAT is a command.
    pub(super) fn offers_chunking(&self) -> bool {
        self.shared.config.chunking
    }

    /// Who may send, if not everybody.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.shared.config.auth.as_ref()
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

    /// Counts something refused or dropped on purpose.
    pub(super) fn count_refusal(&self) {
        self.tally().refused.fetch_add(1, Relaxed);
    }

    /// Whether the next recipient of this lane is struck.
    pub(super) fn strikes_next(&self, blow: Blow, lane: usize) -> bool {
        let struck = self.shared.fates.strikes_next(blow, lane, self.percent(blow, lane));
        if struck {
            self.count_refusal();
        }
        struck
    }

    /// Whether a message is struck, by the highest share among its recipients' lanes and the listener's.
    /// `None` if it is too early to say: its stamp has not come yet and more of it will.
    pub(super) fn strikes_content(
        &self,
        blow: Blow,
        content: &[u8],
        whole: bool,
        recipients: &[Recipient],
        listener: usize,
    ) -> Option<bool> {
        let lanes = recipients.iter().map(|recipient| recipient.lane).chain([listener]);
        let percent = lanes.map(|lane| self.percent(blow, lane)).fold(0.0, f64::max);
        if percent <= 0.0 {
            return Some(false);
        }
        let first = recipients.first().and_then(|recipient| recipient.number);
        let struck = match Stamp::find(&content[..content.len().min(HEADERS_BYTES_MAX)]) {
            Some(stamp) => self.shared.fates.strikes(blow, attempt(&stamp, first), percent),
            None if whole || content.len() >= HEADERS_BYTES_MAX => {
                self.shared.fates.strikes_next(blow, listener, percent)
            }
            None => return None,
        };
        if struck {
            self.count_refusal();
        }
        Some(struck)
    }

    fn percent(&self, blow: Blow, lane: usize) -> f64 {
        let behaviour = self.behaviour(lane);
        match blow {
            Blow::Temporary => behaviour.temporary_percent,
            Blow::Permanent => behaviour.permanent_percent,
            Blow::Cut => behaviour.cut_percent,
            Blow::Drop => behaviour.drop_percent,
            Blow::Reset => behaviour.reset_percent,
        }
    }

    /// What the greylist knows a client and its sender by; 0 without one.
    pub(super) fn origin(&self, client: IpAddr, sender: &[u8]) -> u64 {
        self.shared.greylist.as_ref().map_or(0, |_| greylist::origin(client, sender))
    }

    /// Whether a recipient has to come again because it is new; the longest wait of these lanes applies.
    pub(super) fn is_grey(&self, origin: u64, recipient: &[u8], lanes: [usize; 2]) -> bool {
        let Some(greylist) = &self.shared.greylist else { return false };
        let wait = lanes.map(|lane| self.behaviour(lane).greylist).into_iter().max().unwrap_or_default();
        let grey = !wait.is_zero() && greylist.refuses(origin, recipient, wait);
        if grey {
            self.count_refusal();
        }
        grey
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

/// The answer to EHLO.
fn offers(config: &Config, secured: bool) -> Vec<u8> {
    let tls = if config.tls == Tls::StartTls && !secured { "250-STARTTLS\r\n" } else { "" };
    let auth = if config.auth.is_some() { "250-AUTH PLAIN LOGIN\r\n" } else { "" };
    let chunking = if config.chunking { "250-CHUNKING\r\n" } else { "" };
    let bytes = config.message_bytes_max;
    format!(
        "250-sink.example\r\n250-PIPELINING\r\n250-SIZE {bytes}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
         {chunking}{tls}{auth}250 ENHANCEDSTATUSCODES\r\n"
    )
    .into_bytes()
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

    fn accepted(&mut self, listener: usize, client: IpAddr, out: &mut Vec<u8>) -> (Session, Flow) {
        let (open, most) = &self.desk.shared.open[listener];
        let now = open.fetch_add(1, Relaxed) + 1;
        let limit = self.desk.behaviour(listener).connections_max;
        let full = limit != 0 && now > limit;
        if full {
            self.desk.tally().refused.fetch_add(1, Relaxed);
        } else {
            most.fetch_max(now, Relaxed);
        }
        let mut session = Session::new(listener, client, full, &self.desk);
        let flow = self.paused().unwrap_or_else(|| session.greet(&self.desk, out));
        (session, flow)
    }

    fn piece(&self, session: &Session) -> Option<usize> {
        session.piece()
    }

    fn secured(&mut self, session: &mut Session, _: bool, _: &mut Vec<u8>) {
        self.desk.tally().handshakes.fetch_add(1, Relaxed);
        session.secured();
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
