//! What a shard needs to know, parsed and checked: nothing here is a text that must be parsed again.
//! `config/mtad.toml` shows every key with its default.

use ipnet::IpNet;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use queue::Retry;
pub use smtp::send::{Chunking, EightBit};

/// The configuration of a relay, the same for all its shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Our name in greetings, EHLO, Received fields and reports.
    pub hostname: String,
    /// Where messages are kept.
    pub spool: Spool,
    /// Where mail comes in.
    pub listen: Vec<Listen>,
    /// Where mail goes that does not go where its MX records say; the most specific one counts.
    pub routes: Vec<Route>,
    /// When to try again.
    pub retry: Retry,
    /// What one message or session may take.
    pub reception: Reception,
    /// How next hops are spoken to.
    pub delivery: Delivery,
    /// Who logs in, and what happens to those who fail to.
    pub auth: Auth,
    /// What senders are told.
    pub bounce: Bounce,
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Spool {
    /// The directory that holds one directory per shard.
    pub path: PathBuf,
    /// Size of a log segment in bytes; a message must fit into one.
    pub segment_bytes: u64,
    /// Segments that each shard keeps ready for reuse.
    pub spares_max: usize,
    /// Start even on a file system that forgets at power loss (tmpfs).
    pub allow_volatile: bool,
    /// Bytes, of those of the spool's file system, that are to be free; below, new mail gets 452.
    pub free_bytes_min: u64,
    /// Inodes, likewise.
    pub free_inodes_min: u64,
    /// Percent of bytes and of inodes, likewise; the larger bound counts.
    pub free_percent_min: u8,
    /// Damaged segments that each log keeps for the operator; beyond, the oldest is removed.
    pub damaged_max: usize,
    /// Their bytes, likewise.
    pub damaged_bytes_max: u64,
    /// Deliveries that one shard keeps in its queue, 84 bytes for each message with one recipient; beyond, new mail
    /// gets 452. Transactions past DATA by then, failure reports, and what is recovered still get in.
    pub deliveries_max: usize,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Where to listen.
    pub address: SocketAddr,
    /// Clients that may send to anyone.
    pub relay_from: Vec<IpNet>,
    /// Domains that anyone may send to.
    pub relay_to: Vec<DomainPattern>,
    /// On which terms clients log in; `None` when they cannot. Who has logged in may send to anyone.
    pub auth: Option<auth::Terms>,
}

/// Who logs in, and what happens to those who fail to.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The file that says who may.
    pub users: Option<PathBuf>,
    /// Delays and lock-out, per shard.
    pub guard: auth::Bounds,
    /// Threads that check passwords, for all shards together.
    pub workers: usize,
    /// Passwords that may wait for one of them; beyond, 454.
    pub waiting_max: usize,
    /// How long a password that was right need not be checked again.
    pub verified_for: Duration,
    /// Such passwords that one shard remembers; beyond, the oldest is forgotten.
    pub verified_max: usize,
}

/// Which domains a route or a permission is for; in lower case, and with A-labels (RFC 5890) for what is not ASCII, so
/// that both forms of a name are the same domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// `example.com`: this domain only.
    Exact(String),
    /// `.example.com`: every domain below it, but not itself.
    Below(String),
    /// `*`: every domain.
    Any,
}

/// A static route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// For which domains.
    pub domain: DomainPattern,
    /// Next hops in the order in which they are tried; not empty.
    pub to: Vec<NextHop>,
}

/// One next hop of a static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// `192.0.2.1:25`.
    Address(SocketAddr),
    /// `relay.example.com:25`, whose addresses are looked up.
    Name(String, u16),
}

/// Bounds of reception, each per shard unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Reception {
    /// Connections at once; beyond, the greeting is 421.
    pub connections_max: usize,
    /// Content of a message in bytes, announced with SIZE; beyond, 552.
    pub message_bytes_max: u64,
    /// Recipients of a message; beyond, 452.
    pub recipients_max: usize,
    /// Received fields of a message; beyond, it is in a loop: 554.
    pub hops_max: usize,
    /// Refused commands of a session; beyond, 421.
    pub errors_max: u32,
    /// Wait for a command (RFC 5321 section 4.5.3.2.7).
    pub command_timeout: Duration,
    /// Wait for the next piece of content (section 4.5.3.2.5).
    pub data_timeout: Duration,
    /// Memory for contents, in bytes, for each of three uses: coming in, where a content of more than 64 KiB then
    /// gets 452; stored and waiting for the first attempt, and travelling with an order, which are then read back
    /// from the spool.
    pub body_memory: usize,
}

/// How next hops are spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Connections to one destination, over all shards.
    pub connections_max: usize,
    /// Connections to all destinations together, per shard; beyond, destinations wait their turn.
    pub shard_connections_max: usize,
    /// Recipients in one transaction.
    pub recipients_max: usize,
    /// Transactions on one connection before it is closed.
    pub transactions_max: u32,
    /// Whether the commands of the next message may leave right behind the content of one, when the next hop offers
    /// PIPELINING and more mail waits than connections are open.
    pub pipeline_messages: bool,
    /// When content is sent with BDAT.
    pub chunking: Chunking,
    /// What becomes of 8-bit content where 8BITMIME is not offered.
    pub eight_bit: EightBit,
    /// How long a connection waits for another message.
    pub idle_timeout: Duration,
    /// Wait for a connection to be opened.
    pub connect_timeout: Duration,
    /// Wait for the greeting, and for each reply to EHLO, MAIL and RCPT (section 4.5.3.2).
    pub reply_timeout: Duration,
    /// Wait for the reply to DATA.
    pub data_timeout: Duration,
    /// Wait for the reply after end-of-data.
    pub final_timeout: Duration,
    /// Port of mail exchangers.
    pub port: u16,
}

/// What senders are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounce {
    /// Age at which a message is delayed, so that who wants to know is told when the next attempt is deferred.
    pub delay_after: Duration,
    /// Whether senders who did not say what they want to know are told of delays.
    pub delay_reports: bool,
    /// Largest content that comes back whole in a failure report when the sender asked for it (RET=FULL); of a larger
    /// one the header does.
    pub return_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            hostname: "localhost".into(),
            spool: Spool::default(),
            listen: vec![Listen {
                address: SocketAddr::from(([127, 0, 0, 1], 2525)),
                relay_from: vec![IpNet::from(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8))],
                relay_to: Vec::new(),
                auth: None,
            }],
            routes: Vec::new(),
            retry: Retry::default(),
            reception: Reception::default(),
            delivery: Delivery::default(),
            auth: Auth::default(),
            bounce: Bounce::default(),
        }
    }
}

impl Default for Spool {
    fn default() -> Spool {
        Spool {
            path: "spool".into(),
            segment_bytes: 64 << 20,
            spares_max: 4,
            allow_volatile: false,
            free_bytes_min: 256 << 20,
            free_inodes_min: 1000,
            free_percent_min: 2,
            damaged_max: 16,
            damaged_bytes_max: 1 << 30,
            deliveries_max: 10_000_000,
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            users: None,
            guard: auth::Bounds::default(),
            workers: 2,
            waiting_max: 64,
            verified_for: Duration::from_secs(300),
            verified_max: 4096,
        }
    }
}

impl Default for Bounce {
    fn default() -> Bounce {
        Bounce {
            delay_after: Duration::from_secs(4 * 3600),
            delay_reports: false,
            return_bytes_max: 256 << 10,
        }
    }
}

impl Default for Reception {
    fn default() -> Reception {
        Reception {
            connections_max: 10_000,
            message_bytes_max: 25 << 20,
            recipients_max: 1000,
            hops_max: 50,
            errors_max: 20,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            body_memory: 256 << 20,
        }
    }
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery {
            connections_max: 20,
            shard_connections_max: 5_000,
            recipients_max: 100,
            transactions_max: 1000,
            pipeline_messages: true,
            chunking: Chunking::default(),
            eight_bit: EightBit::default(),
            idle_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(120),
            final_timeout: Duration::from_secs(600),
            port: 25,
        }
    }
}

impl DomainPattern {
    /// Parses `example.com`, `.example.com` or `*`.
    pub fn parse(text: &str) -> Option<DomainPattern> {
        let lower = text.to_lowercase();
        match lower.strip_prefix('.') {
            _ if lower == "*" => Some(DomainPattern::Any),
            Some(below) if mail::address::is_domain(below) => {
                Some(DomainPattern::Below(with_a_labels(below)?.into_owned()))
            }
            None if mail::address::is_domain(&lower) => {
                Some(DomainPattern::Exact(with_a_labels(&lower)?.into_owned()))
            }
            _ => None,
        }
    }

    /// How specific the pattern is for `domain` (in lower case); `None` when it does not match.
    pub fn rank(&self, domain: &str) -> Option<usize> {
        let domain = &*with_a_labels(domain)?;
        match self {
            DomainPattern::Exact(exact) => (exact == domain).then_some(usize::MAX),
            DomainPattern::Below(below) => {
                let is_below = domain
                    .strip_suffix(below.as_str())
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
                is_below.then_some(below.len())
            }
            DomainPattern::Any => Some(0),
        }
    }
}

/// `domain` as DNS knows it; `None` when DNS cannot.
fn with_a_labels(domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() {
        Some(Cow::Borrowed(domain))
    } else {
        idna::domain_to_ascii(domain).ok().map(Cow::Owned)
    }
}

impl NextHop {
    /// Parses `192.0.2.1:25`, `[2001:db8::1]:25`, `name:25`; the port may be left out and is then 25.
    pub fn parse(text: &str) -> Option<NextHop> {
        if let Ok(address) = text.parse() {
            return Some(NextHop::Address(address));
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(NextHop::Address(SocketAddr::new(address, 25)));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, 25),
        };
        mail::address::is_domain(name).then(|| NextHop::Name(name.to_lowercase(), port))
    }
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NextHop::Address(address) => write!(f, "{address}"),
            NextHop::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_ranks_highest() {
        let rank = |pattern: &str, domain: &str| DomainPattern::parse(pattern).expect(pattern).rank(domain);
        assert!(rank("a.example.com", "a.example.com") > rank(".example.com", "a.example.com"));
        assert!(rank(".example.com", "a.example.com") > rank(".com", "a.example.com"));
        assert!(rank(".com", "a.example.com") > rank("*", "a.example.com"));
        for (pattern, domain) in
            [("example.com", "a.example.com"), (".example.com", "example.com"), (".ample.com", "example.com")]
        {
            assert_eq!(rank(pattern, domain), None, "{pattern} {domain}");
        }
        assert_eq!(DomainPattern::parse("a..b"), None);
        for (pattern, domain) in [
            ("B\u{fc}cher.example", "b\u{fc}cher.example"),
            ("xn--bcher-kva.example", "b\u{fc}cher.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            (".b\u{fc}cher.example", "mx.b\u{fc}cher.example"),
        ] {
            assert!(rank(pattern, domain).is_some(), "{pattern} {domain}");
        }
    }

    #[test]
    fn next_hops_are_addresses_or_names() {
        let name = |name: &str, port| Some(NextHop::Name(name.into(), port));
        assert_eq!(
            NextHop::parse("127.0.0.1:2526"),
            Some(NextHop::Address(SocketAddr::from(([127, 0, 0, 1], 2526))))
        );
        assert_eq!(NextHop::parse("[::1]:26").map(|hop| hop.to_string()), Some("[::1]:26".into()));
        assert_eq!(NextHop::parse("[::1]").map(|hop| hop.to_string()), Some("[::1]:25".into()));
        assert_eq!(NextHop::parse("Relay.Example.com"), name("relay.example.com", 25));
        assert_eq!(NextHop::parse("relay:587"), name("relay", 587));
        for bad in ["", "a b", "a:70000", ":25", "a..b"] {
            assert_eq!(NextHop::parse(bad), None, "{bad}");
        }
    }
}
