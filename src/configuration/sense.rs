//! What must hold between values, and what is allowed but probably not meant.

use super::finding::{Findings, Problem};
use super::parse::Listener;
use super::section::Keyed;
use ipnet::IpNet;
use shard::config::{Config, DomainPattern, NextHop, Route};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Room in a segment for what is stored with a content: envelope, our own header fields, whole blocks.
pub const SEGMENT_MARGIN_BYTES: u64 = 1 << 20;
/// Recipients whose addresses (at most 320 bytes each) surely fit into [`SEGMENT_MARGIN_BYTES`].
const RECIPIENTS_MAX: usize = 3000;
/// A block of a segment in bytes: synced writes cover whole ones.
const BLOCK_BYTES: u64 = 4096;

/// Checks the listeners against each other and the address of the metrics.
pub fn check_listeners(listeners: &[Keyed<Listener>], metrics: Option<SocketAddr>, findings: &Findings<'_>) {
    if listeners.is_empty() && !findings.has_errors_below("listen") {
        let advice = "write [[listen]] and an address below it";
        findings.error("listen", Problem::new("is empty, so that no mail could come in", advice));
    }
    let mut seen = Vec::new();
    for Keyed { key, value } in listeners {
        let address = value.listen.address;
        let key_of_address = format!("{key}.address");
        if seen.contains(&address) {
            let advice = "remove one of the two listeners";
            findings.error(&key_of_address, Problem::new(format!("{address} is listened at twice"), advice));
        }
        if metrics == Some(address) {
            let advice = "write another port for one of the two";
            findings.error(
                &key_of_address,
                Problem::new(format!("{address} is the address of the metrics"), advice),
            );
        }
        seen.push(address);
        check_permissions(key, value, findings);
    }
}

fn check_permissions(key: &str, listener: &Listener, findings: &Findings<'_>) {
    let listen = &listener.listen;
    let everybody = is_everybody(&listen.relay_from);
    let everywhere = listen.relay_to.contains(&DomainPattern::Any);
    match (everybody || everywhere, listener.allow_open_relay) {
        (true, false) => {
            let list = if everybody { "relay_from" } else { "relay_to" };
            let what = "lets everybody send to everywhere (an open relay, soon abused)";
            let advice = format!("narrow {list}, or add allow_open_relay = true to this listener");
            findings.error(&format!("{key}.{list}"), Problem::new(what, advice));
        }
        (false, true) => {
            let what = "is set although this listener is no open relay";
            let problem = Problem::new(what, "remove it, so that a later slip is still noticed");
            findings.warn(&format!("{key}.allow_open_relay"), problem);
        }
        _ => {}
    }
    let refuses_all = listen.relay_from.is_empty() && listen.relay_to.is_empty() && listen.auth.is_none();
    if refuses_all && !findings.has_errors_below(key) {
        let advice = "name clients in relay_from or domains in relay_to";
        findings.warn(key, Problem::new("refuses every recipient", advice));
    }
}

/// Whether the networks together hold every address of a family.
fn is_everybody(networks: &[IpNet]) -> bool {
    IpNet::aggregate(&networks.to_vec()).iter().any(|network| network.prefix_len() == 0)
}

/// Checks the next hops of one route, whose `to` is `key`.
pub fn check_hops(key: &str, hops: &[Keyed<NextHop>], findings: &Findings<'_>) {
    if hops.is_empty() && !findings.has_errors_below(key) {
        let advice = "write at least one next hop, such as [\"192.0.2.1:25\"]";
        findings.error(key, Problem::new("is empty", advice));
    }
    for (index, hop) in hops.iter().enumerate() {
        if hops[..index].iter().any(|earlier| earlier.value == hop.value) {
            let problem =
                Problem::new(format!("{} stands twice in this route", hop.value), "remove one of them");
            findings.error(&hop.key, problem);
        }
    }
}

/// Checks the routes against each other and the listeners.
pub fn check_routes(routes: &[Keyed<Route>], listeners: &[Keyed<Listener>], findings: &Findings<'_>) {
    let mut seen = BTreeSet::new();
    for Keyed { key, value: route } in routes {
        let key_of_domain = format!("{key}.domain");
        let domain = pattern_text(&route.domain);
        if !seen.insert(domain.clone()) {
            let what =
                format!("there is a route for {domain:?} already, so that this one can never be reached");
            findings.error(&key_of_domain, Problem::new(what, "put all next hops into one route"));
        } else if !listeners.iter().any(|l| may_take(&l.value, &route.domain)) {
            let what = "can never be reached, because no listener takes mail for it";
            let advice = format!("add {domain:?} to relay_to of a listener, or remove the route");
            findings.warn(&key_of_domain, Problem::new(what, advice));
        }
        let ours = |hop: &&NextHop| listeners.iter().any(|l| is_same(hop, l.value.listen.address));
        if let Some(hop) = route.to.iter().find(ours) {
            let what = format!("{hop} is a listener of this relay, so that mail would go in circles");
            findings.error(&format!("{key}.to"), Problem::new(what, "name the next relay"));
        }
    }
}

/// A domain pattern as it is written.
pub fn pattern_text(pattern: &DomainPattern) -> String {
    match pattern {
        DomainPattern::Exact(domain) => domain.clone(),
        DomainPattern::Below(domain) => format!(".{domain}"),
        DomainPattern::Any => "*".into(),
    }
}

fn may_take(listener: &Listener, domain: &DomainPattern) -> bool {
    let listen = &listener.listen;
    !listen.relay_from.is_empty()
        || listen.auth.is_some()
        || listen.relay_to.iter().any(|permitted| overlap(permitted, domain))
}

/// Whether some domain matches both patterns.
fn overlap(one: &DomainPattern, other: &DomainPattern) -> bool {
    use DomainPattern::{Any, Below, Exact};
    match (one, other) {
        (Any, _) | (_, Any) => true,
        (Exact(domain), pattern) | (pattern, Exact(domain)) => pattern.rank(domain).is_some(),
        (Below(one), Below(other)) => {
            one == other || one.ends_with(&format!(".{other}")) || other.ends_with(&format!(".{one}"))
        }
    }
}

fn is_same(hop: &NextHop, listener: SocketAddr) -> bool {
    let NextHop::Address(hop) = hop else { return false };
    let every_address =
        listener.ip().is_unspecified() && hop.ip().is_loopback() && hop.port() == listener.port();
    *hop == listener || every_address
}

/// Checks sizes and times against each other.
pub fn check_bounds(relay: &Config, findings: &Findings<'_>) {
    let (spool, reception, retry) = (&relay.spool, &relay.reception, &relay.retry);
    if !spool.segment_bytes.is_multiple_of(BLOCK_BYTES) {
        let rounded = spool.segment_bytes.next_multiple_of(BLOCK_BYTES);
        let problem = Problem::new("is not a whole number of 4 KiB blocks", format!("write {rounded}"));
        findings.error("spool.segment_bytes", problem);
    }
    let fits_max = spool.segment_bytes.saturating_sub(SEGMENT_MARGIN_BYTES);
    if reception.message_bytes_max > fits_max {
        let key = given("reception.message_bytes_max", "spool.segment_bytes", findings);
        let what = format!(
            "a message of {} bytes and 1 MiB for its envelope do not fit into a segment of {} bytes",
            reception.message_bytes_max, spool.segment_bytes
        );
        let advice = "lower reception.message_bytes_max or raise spool.segment_bytes";
        findings.error(key, Problem::new(what, advice));
    }
    if (reception.body_memory as u64) < reception.message_bytes_max {
        let key = given("reception.body_memory", "reception.message_bytes_max", findings);
        let what =
            "contents as large as message_bytes_max do not fit into body_memory and would never be taken";
        findings.error(key, Problem::new(what, "raise body_memory or lower message_bytes_max"));
    }
    if reception.recipients_max > RECIPIENTS_MAX {
        let what = "the addresses of so many recipients may not fit into a segment";
        findings
            .error("reception.recipients_max", Problem::new(what, format!("write at most {RECIPIENTS_MAX}")));
    }
    if retry.intervals.first().is_some_and(|first| *first >= retry.max_age) {
        let key = given("retry.max_age", "retry.intervals", findings);
        let what = "max_age is over before the first interval, so that nothing is tried twice";
        findings.warn(key, Problem::new(what, "raise max_age or shorten the first interval"));
    }
}

/// The first key when it stands in the file, otherwise the second: a finding belongs to what was written.
fn given<'k>(first: &'k str, second: &'k str, findings: &Findings<'_>) -> &'k str {
    if findings.is_given(first) { first } else { second }
}

/// Checks that clients that log in can be somebody.
pub fn check_auth(relay: &Config, findings: &Findings<'_>) {
    let listens = relay.listen.iter().position(|listen| listen.auth.is_some());
    if let (Some(index), None) = (listens, &relay.auth.users) {
        let advice = "add [auth] with users = \"/etc/mtad/users.toml\", and users by mtad user add";
        let problem = Problem::new("lets clients log in, but there are no users", advice);
        findings.error(&format!("listen[{index}].auth"), problem);
    }
    if relay.auth.guard.delay > relay.auth.guard.delay_max {
        let key = given("auth.failure_delay", "auth.failure_delay_max", findings);
        let what = "failure_delay is longer than failure_delay_max";
        findings.error(key, Problem::new(what, "lower failure_delay or raise failure_delay_max"));
    }
}

/// Checks what the outside sees: the name, and where the spool is.
pub fn check_names(relay: &Config, findings: &Findings<'_>) {
    if !relay.hostname.contains('.') {
        let what =
            format!("{:?} is not fully qualified, and many servers refuse such a name", relay.hostname);
        let advice = "write hostname = \"mail.example.com\" with the name of this machine in DNS";
        findings.warn("hostname", Problem::new(what, advice));
    }
    if relay.spool.path.is_relative() {
        let what = format!("{:?} depends on the directory that mtad is started in", relay.spool.path);
        findings.warn("spool.path", Problem::new(what, "write an absolute path"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_hold_everybody_are_found_in_pieces_too() {
        let everybody = |networks: &[&str]| {
            is_everybody(&networks.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        };
        assert!(everybody(&["0.0.0.0/0"]) && everybody(&["10.0.0.0/8", "::/0"]));
        assert!(everybody(&["0.0.0.0/1", "128.0.0.0/1"]));
        assert!(!everybody(&["0.0.0.0/1", "128.0.0.0/2"]) && !everybody(&[]));
    }

    #[test]
    fn patterns_overlap_when_some_domain_matches_both() {
        let overlap = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| DomainPattern::parse(text).unwrap());
            assert_eq!(overlap(&one, &other), super::overlap(&other, &one));
            super::overlap(&one, &other)
        };
        for (one, other) in [("*", ".a.b"), ("a.b", "a.b"), ("x.a.b", ".a.b"), (".x.a.b", ".a.b")] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [("a.b", ".a.b"), ("a.b", "c.b"), (".a.b", ".xa.b")] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }
}
