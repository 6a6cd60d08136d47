//! Names: what the scripted zone of a world answers.

use crate::random::{Chance, Span};
use crate::world::Core;
use host::{DnsError, Mx};
use mail::Time;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// How long a look-up waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long it holds that a name does not exist.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// How look-ups behave beyond what the zone says. The chances are drawn for each look-up.
#[derive(Clone, Copy, Debug)]
pub struct DnsFaults {
    /// How long an answer takes.
    pub latency: Span,
    /// The server fails (SERVFAIL).
    pub server_failure: Chance,
    /// No answer comes within [`PATIENCE`].
    pub silence: Chance,
}

impl DnsFaults {
    /// Look-ups that work.
    pub const NONE: DnsFaults = DnsFaults {
        latency: Span::micros(200, 20_000),
        server_failure: Chance::NEVER,
        silence: Chance::NEVER,
    };
}

/// What a look-up comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// The records (perhaps none), and how long they hold.
    Found(Vec<T>, Duration),
    /// The name does not exist (NXDOMAIN).
    NoSuchDomain,
    /// The server fails (SERVFAIL).
    ServerFailure,
    /// No answer comes within [`PATIENCE`].
    Silence,
}

/// Answers in order; the last one repeats.
type Script<T> = VecDeque<Answer<T>>;

/// All names of a world.
#[derive(Debug)]
pub struct Zone {
    exchangers: BTreeMap<String, Script<Mx>>,
    addresses: BTreeMap<String, Script<IpAddr>>,
    faults: DnsFaults,
    lookups: u64,
}

impl Zone {
    pub(crate) fn new(faults: DnsFaults) -> Zone {
        Zone { exchangers: BTreeMap::new(), addresses: BTreeMap::new(), faults, lookups: 0 }
    }

    /// How look-ups behave from now on.
    pub fn set_faults(&mut self, faults: DnsFaults) {
        self.faults = faults;
    }

    /// What the MX look-ups of `domain` come to, one after the other; the last answer repeats.
    pub fn set_mx(&mut self, domain: &str, answers: impl IntoIterator<Item = Answer<Mx>>) {
        self.exchangers.insert(domain.to_owned(), answers.into_iter().collect());
    }

    /// What the address look-ups of `name` come to, one after the other; the last answer repeats.
    pub fn set_addresses(&mut self, name: &str, answers: impl IntoIterator<Item = Answer<IpAddr>>) {
        self.addresses.insert(name.to_owned(), answers.into_iter().collect());
    }

    /// A domain with one mail exchanger at some addresses; both answers hold for `ttl`.
    pub fn add_domain(&mut self, domain: &str, addresses: &[IpAddr], ttl: Duration) {
        let name = format!("mx.{domain}");
        self.set_addresses(&name, [Answer::Found(addresses.to_vec(), ttl)]);
        self.set_mx(domain, [Answer::Found(vec![Mx { preference: 10, name }], ttl)]);
    }

    /// Look-ups so far.
    pub fn lookups(&self) -> u64 {
        self.lookups
    }
}

fn next<T: Clone>(scripts: &mut BTreeMap<String, Script<T>>, name: &str) -> Option<Answer<T>> {
    let script = scripts.get_mut(name)?;
    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
}

impl Core {
    pub(crate) async fn lookup_mx(&self, domain: &str) -> Result<(Vec<Mx>, Time), DnsError> {
        let answer = {
            let mut zone = self.zone.borrow_mut();
            let exists = zone.addresses.contains_key(domain);
            next(&mut zone.exchangers, domain).unwrap_or(if exists {
                Answer::Found(Vec::new(), NEGATIVE_TTL)
            } else {
                Answer::NoSuchDomain
            })
        };
        let (mut records, expires) = self.answer(answer).await?;
        records.sort();
        Ok((records, expires))
    }

    pub(crate) async fn lookup_addresses(&self, name: &str) -> Result<(Vec<IpAddr>, Time), DnsError> {
        let answer = {
            let mut zone = self.zone.borrow_mut();
            let exists = zone.exchangers.contains_key(name);
            next(&mut zone.addresses, name).unwrap_or(if exists {
                Answer::Found(Vec::new(), NEGATIVE_TTL)
            } else {
                Answer::NoSuchDomain
            })
        };
        self.answer(answer).await
    }

    async fn answer<T>(&self, answer: Answer<T>) -> Result<(Vec<T>, Time), DnsError> {
        let faults = {
            let mut zone = self.zone.borrow_mut();
            zone.lookups += 1;
            zone.faults
        };
        let random = &self.streams.dns;
        let latency = random.span(faults.latency);
        let answer = match (random.hits(faults.silence), random.hits(faults.server_failure)) {
            (true, _) => Answer::Silence,
            (false, true) => Answer::ServerFailure,
            (false, false) => answer,
        };
        self.timers.sleep(if matches!(answer, Answer::Silence) { PATIENCE } else { latency }).await;
        match answer {
            Answer::Found(records, ttl) => Ok((records, self.timers.now() + ttl)),
            Answer::NoSuchDomain => Err(DnsError::NoSuchDomain(self.timers.now() + NEGATIVE_TTL)),
            Answer::ServerFailure => Err(DnsError::Transient("SERVFAIL".to_owned())),
            Answer::Silence => Err(DnsError::Transient("no answer".to_owned())),
        }
    }
}
