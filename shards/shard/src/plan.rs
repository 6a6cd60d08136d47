//! The way to a destination: which hosts, in which order (RFC 5321 section 5.1).

use crate::config::{Config, DomainPattern, NextHop};
use host::{AddressAnswer, DnsError, Host, Mx};
use mail::address::literal_address;
use mail::{Outcome, Reply, Time};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Hosts that are tried for one destination; further MX records are passed over.
pub const HOSTS_MAX: usize = 8;
/// Addresses that are tried for one destination.
pub const ENDPOINTS_MAX: usize = 16;
/// Domains whose destination's name is remembered.
const NAMES_MAX: usize = 4096;
/// How long an answer of the domain name system may be used at most.
const PLAN_AGE_MAX: Duration = Duration::from_secs(3600);

/// One address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's name, or its address where it has none.
    pub host: String,
    /// Where to connect.
    pub address: SocketAddr,
}

/// Where to connect for a destination, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Not empty.
    pub endpoints: Vec<Endpoint>,
    /// Not to be used any more after this.
    pub expires: Time,
}

/// There is no way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nowhere {
    /// What becomes of its mail: failed, or deferred when the way could not be found just now.
    pub outcome: Outcome,
    /// Until when this need not be asked again.
    pub until: Time,
}

/// Finds the destination of each recipient. A destination's name says all that is needed to reach it:
/// `to:HOP,HOP` or `mx:DOMAIN`.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<(DomainPattern, Arc<str>)>,
    /// Destinations of domains seen before; forgotten all at once when there are [`NAMES_MAX`] of them.
    known: RefCell<HashMap<Box<str>, Arc<str>>>,
}

impl Routes {
    /// The static routes of a configuration.
    pub fn new(config: &Config) -> Routes {
        let name = |to: &[NextHop]| {
            let hops: Vec<String> = to.iter().map(NextHop::to_string).collect();
            Arc::from(format!("to:{}", hops.join(",")))
        };
        let routes = config.routes.iter().map(|route| (route.domain.clone(), name(&route.to))).collect();
        Routes { routes, known: RefCell::default() }
    }

    /// The name of the destination for `domain` (in lower case): its most specific static route, else its MX.
    pub fn destination(&self, domain: &str) -> Arc<str> {
        if let Some(known) = self.known.borrow().get(domain) {
            return known.clone();
        }
        let name = self.find(domain);
        let mut known = self.known.borrow_mut();
        if known.len() == NAMES_MAX {
            known.clear();
        }
        known.insert(domain.into(), name.clone());
        name
    }

    fn find(&self, domain: &str) -> Arc<str> {
        let ranked = self.routes.iter().filter_map(|(pattern, name)| Some((pattern.rank(domain)?, name)));
        match ranked.max_by_key(|(rank, _)| *rank) {
            Some((_, name)) => name.clone(),
            None => Arc::from(format!("mx:{domain}")),
        }
    }
}

/// Works out the way to the destination `name`.
pub async fn make<H: Host>(host: &H, name: &str, config: &Config) -> Result<Plan, Nowhere> {
    let hops = match name.split_once(':') {
        Some(("to", list)) => list.split(',').filter_map(NextHop::parse).collect(),
        Some(("mx", domain)) => return via_mx(host, domain, config).await,
        _ => Vec::new(),
    };
    let mut builder = Builder::new(host);
    for hop in hops {
        match hop {
            NextHop::Address(address) => builder.push(address.ip().to_string(), address),
            NextHop::Name(name, port) => builder.look_up(&name, port).await,
        }
    }
    builder.finish(name)
}

async fn via_mx<H: Host>(host: &H, domain: &str, config: &Config) -> Result<Plan, Nowhere> {
    let port = config.delivery.port;
    let mut builder = Builder::new(host);
    if let Some(address) = literal_address(domain) {
        builder.push(domain.to_owned(), SocketAddr::new(address, port));
        return builder.finish(domain);
    }
    let Ok(ascii) = idna::domain_to_ascii(domain) else {
        let reply = Reply::new(550, (5, 1, 2), format!("{domain} is no domain name"));
        return Err(builder.nowhere(Outcome::Failed(reply)));
    };
    let answer = host.lookup_mx(&ascii).await.map_err(|error| no_answer(host, domain, &error))?;
    builder.expires = builder.expires.min(answer.expires);
    if is_null_mx(&answer.records) {
        // RFC 7505 section 4.1: the domain takes no mail.
        let reply = Reply::new(556, (5, 1, 10), format!("{domain} accepts no mail (null MX)"));
        return Err(builder.nowhere(Outcome::Failed(reply)));
    }
    if answer.records.is_empty() {
        // RFC 5321 section 5.1: without MX records the domain itself is its mail exchanger.
        builder.look_up(&ascii, port).await;
        return builder.finish(domain);
    }
    let Some(records) = before_us(answer.records, &config.hostname) else {
        let reply = Reply::new(554, (5, 4, 6), format!("mail for {domain} loops back to us"));
        return Err(builder.nowhere(Outcome::Failed(reply)));
    };
    for mx in shuffled(records, || host.random()).iter().take(HOSTS_MAX).filter(|mx| !mx.name.is_empty()) {
        builder.look_up(&mx.name, port).await;
    }
    builder.finish(domain)
}

/// The mail exchangers that are preferred to us; all of them if we are none. `None`: we are the best one, so there is
/// nowhere to go (RFC 5321 section 5.1).
fn before_us(mut records: Vec<Mx>, hostname: &str) -> Option<Vec<Mx>> {
    let is_us = |mx: &&Mx| mx.name.eq_ignore_ascii_case(hostname);
    if let Some(ours) = records.iter().filter(is_us).map(|mx| mx.preference).min() {
        records.retain(|mx| mx.preference < ours);
    }
    (!records.is_empty()).then_some(records)
}

fn is_null_mx(records: &[Mx]) -> bool {
    matches!(records, [only] if only.name.is_empty())
}

/// Equal preferences in random order, so that load spreads over them.
fn shuffled(mut records: Vec<Mx>, mut random: impl FnMut() -> u64) -> Vec<Mx> {
    records.sort_by_cached_key(|mx| (mx.preference, random()));
    records
}

fn no_answer<H: Host>(host: &H, name: &str, error: &DnsError) -> Nowhere {
    match error {
        DnsError::NoSuchDomain(until) => {
            let reply = Reply::new(550, (5, 1, 2), format!("{name} does not exist"));
            Nowhere { outcome: Outcome::Failed(reply), until: *until }
        }
        DnsError::Transient(what) => {
            let reply = Reply::new(451, (4, 4, 3), format!("name service for {name}: {what}"));
            Nowhere { outcome: Outcome::Deferred(reply), until: host.now() }
        }
    }
}

/// Gathers endpoints, and remembers why a name gave none.
struct Builder<'a, H> {
    host: &'a H,
    endpoints: Vec<Endpoint>,
    expires: Time,
    failure: Option<Nowhere>,
}

impl<H: Host> Builder<'_, H> {
    fn new(host: &H) -> Builder<'_, H> {
        Builder { host, endpoints: Vec::new(), expires: host.now() + PLAN_AGE_MAX, failure: None }
    }

    fn push(&mut self, host: String, address: SocketAddr) {
        if self.endpoints.len() < ENDPOINTS_MAX {
            self.endpoints.push(Endpoint { host, address });
        }
    }

    async fn look_up(&mut self, name: &str, port: u16) {
        match self.host.lookup_addresses(name).await {
            Ok(AddressAnswer { addresses, expires }) => {
                self.expires = self.expires.min(expires);
                addresses.iter().for_each(|ip| self.push(name.to_owned(), SocketAddr::new(*ip, port)));
            }
            // A transient failure of one name outweighs the absence of another: nothing is given up too early.
            Err(error) => {
                let failure = no_answer(self.host, name, &error);
                let known = self.failure.take().filter(|known| !known.outcome.is_final());
                self.failure = Some(known.unwrap_or(failure));
            }
        }
    }

    fn nowhere(&self, outcome: Outcome) -> Nowhere {
        Nowhere { outcome, until: self.expires }
    }

    fn finish(mut self, name: &str) -> Result<Plan, Nowhere> {
        if !self.endpoints.is_empty() {
            return Ok(Plan { endpoints: self.endpoints, expires: self.expires });
        }
        let reply = || Reply::new(550, (5, 4, 4), format!("no host of {name} has an address"));
        Err(self.failure.take().unwrap_or_else(|| self.nowhere(Outcome::Failed(reply()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Route;

    #[test]
    fn the_most_specific_route_wins_and_the_rest_goes_by_mx() {
        let route = |domain: &str, to: &str| Route {
            domain: DomainPattern::parse(domain).expect(domain),
            to: to.split(' ').filter_map(NextHop::parse).collect(),
        };
        let routes = vec![
            route(".example.com", "127.0.0.1:1"),
            route("a.example.com", "127.0.0.1:2 relay.example.net:26"),
            route("b.org", "127.0.0.1:1"),
        ];
        let found = Routes::new(&Config { routes, ..Config::default() });
        assert_eq!(&*found.destination("x.example.com"), "to:127.0.0.1:1");
        assert_eq!(&*found.destination("a.example.com"), "to:127.0.0.1:2,relay.example.net:26");
        assert_eq!(&*found.destination("example.com"), "mx:example.com");
        assert_eq!(
            found.destination("b.org"),
            found.destination("y.example.com"),
            "same hops, same destination"
        );
    }

    #[test]
    fn shuffling_keeps_preferences() {
        let mx = |preference, name: &str| Mx { preference, name: name.into() };
        let mut seed = 7u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed
        };
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let order = shuffled(vec![mx(20, "c"), mx(10, "a"), mx(10, "b")], &mut random);
            assert_eq!(order[2].name, "c");
            firsts.insert(order[0].name.clone());
        }
        assert_eq!(firsts.len(), 2);
        let names =
            |records: Option<Vec<Mx>>| records.map(|r| r.into_iter().map(|mx| mx.name).collect::<String>());
        let all = || vec![mx(10, "a"), mx(20, "us"), mx(20, "b"), mx(30, "c")];
        assert_eq!(names(before_us(all(), "US")), Some("a".into()));
        assert_eq!(names(before_us(all(), "them")), Some("ausbc".into()));
        assert_eq!(before_us(all(), "a"), None);
        assert!(is_null_mx(&[mx(0, "")]) && !is_null_mx(&[mx(0, ""), mx(5, "a")]));
    }
}
