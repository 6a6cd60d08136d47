//! Names asked of a small server of the test's own, over UDP and TCP.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use host::ring_host::{DnsServers, Options, RingHost};
use host::{DnsError, Host, Mx};
use shard::{on_shard, options, settle};

/// Answers by name until the process ends; counts questions over TCP.
struct Server {
    at: SocketAddr,
    over_tcp: Arc<AtomicU64>,
}

enum Way {
    Udp,
    Tcp,
}

impl Server {
    fn start() -> Server {
        let (udp, tcp) = (0..100).find_map(|_| one_port()).unwrap();
        let at = udp.local_addr().unwrap();
        let over_tcp = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            let mut question = [0; 1500];
            loop {
                let (len, from) = udp.recv_from(&mut question).unwrap();
                if let Some(answer) = answer(&question[..len], &Way::Udp) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        let counter = over_tcp.clone();
        thread::spawn(move || {
            for socket in tcp.incoming() {
                let mut socket = socket.unwrap();
                let mut len = [0; 2];
                while socket.read_exact(&mut len).is_ok() {
                    let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
                    socket.read_exact(&mut question).unwrap();
                    counter.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(&question, &Way::Tcp).unwrap();
                    socket.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                    socket.write_all(&answer).unwrap();
                }
            }
        });
        Server { at, over_tcp }
    }

    fn options(&self) -> Options {
        let dns = DnsServers::List { servers: vec![self.at], timeout: Duration::from_secs(2), retries: 0 };
        Options { dns, ..options() }
    }
}

/// A port that is free for both.
fn one_port() -> Option<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
    Some((udp, tcp))
}

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const AAAA: u16 = 28;

/// A response: header bits, answers, and an SOA of this negative TTL.
struct Response {
    code: u8,
    truncated: bool,
    answers: Vec<(Vec<u8>, u16, u32, Vec<u8>)>,
    soa: Option<u32>,
}

fn plain(answers: Vec<(Vec<u8>, u16, u32, Vec<u8>)>) -> Option<Response> {
    Some(Response { code: 0, truncated: false, answers, soa: None })
}

fn failed(code: u8, soa: Option<u32>) -> Option<Response> {
    Some(Response { code, truncated: false, answers: Vec::new(), soa })
}

fn answer(question: &[u8], way: &Way) -> Option<Vec<u8>> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    let response = respond(&text(&question[12..end]), &question[12..end], kind, way)?;
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81 | if response.truncated { 2 } else { 0 }, 0x80 | response.code, 0, 1, 0]);
    bytes.extend([response.answers.len() as u8, 0, u8::from(response.soa.is_some()), 0, 0]);
    bytes.extend_from_slice(&question[12..end + 4]);
    for (owner, kind, ttl, data) in &response.answers {
        bytes.extend_from_slice(owner);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
    }
    if let Some(ttl) = response.soa {
        let mut data = [name("ns.test"), name("root.test")].concat();
        [1, 2, 3, 4, ttl].iter().for_each(|number: &u32| data.extend(number.to_be_bytes()));
        bytes.extend(name("test"));
        bytes.extend(SOA.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    Some(bytes)
}

fn respond(asked: &str, owner: &[u8], kind: u16, way: &Way) -> Option<Response> {
    let owner = owner.to_vec();
    let mx = |preference: u16, to: &str| [preference.to_be_bytes().to_vec(), name(to)].concat();
    let many = || {
        (0..60).map(|number| (owner.clone(), MX, 300, mx(number, &format!("mx{number}.big.test")))).collect()
    };
    match (asked, kind, way) {
        ("two.test", MX, _) => {
            plain(vec![(owner.clone(), MX, 300, mx(20, "b.test")), (owner, MX, 100, mx(10, "a.test"))])
        }
        ("null.test", MX, _) => plain(vec![(owner, MX, 300, mx(0, ""))]),
        ("alias.test", MX, _) => {
            plain(vec![(owner, CNAME, 7, name("two.test")), (name("two.test"), MX, 300, mx(10, "a.test"))])
        }
        ("bare.test", MX, _) => failed(0, Some(30)),
        ("gone.test", _, _) => failed(3, Some(30)),
        ("gone-for-long.test", _, _) => failed(3, Some(1_000_000)),
        ("broken.test", _, _) => failed(2, None),
        ("refused.test", _, _) => failed(5, None),
        ("silent.test", _, _) => None,
        ("big.test", MX, Way::Udp) => {
            Some(Response { code: 0, truncated: true, answers: Vec::new(), soa: None })
        }
        ("big.test", MX, Way::Tcp) => plain(many()),
        ("host.test", A, _) => plain(vec![(owner, A, 60, vec![127, 0, 0, 7])]),
        ("host.test", AAAA, _) => plain(vec![(owner, AAAA, 90, [vec![0; 15], vec![7]].concat())]),
        ("four.test", A, _) => plain(vec![(owner, A, 60, vec![127, 0, 0, 4])]),
        ("four.test", AAAA, _) => failed(2, None),
        ("forever.test", A, _) => plain(vec![(owner, A, u32::MAX >> 1, vec![127, 0, 0, 1])]),
        ("forever.test", AAAA, _) => plain(vec![(owner, AAAA, u32::MAX >> 1, vec![0; 16])]),
        _ => failed(0, Some(30)),
    }
}

/// A name on the wire.
fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The text of a name on the wire.
fn text(mut name: &[u8]) -> String {
    let mut labels = Vec::new();
    while name[0] != 0 {
        let (label, rest) = name[1..].split_at(name[0].into());
        labels.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
        name = rest;
    }
    labels.join(".")
}

fn seconds_left(host: &RingHost, expires: mail::Time) -> u64 {
    expires.since(host.now()).as_secs_f64().ceil() as u64
}

#[test]
fn mail_exchangers_come_sorted_with_the_shortest_ttl() {
    on_shard(Server::start().options(), |host| async move {
        let found = host.lookup_mx("two.test").await.unwrap();
        let mx = |preference, name: &str| Mx { preference, name: name.to_owned() };
        assert_eq!(found.records, [mx(10, "a.test"), mx(20, "b.test")]);
        assert!((90..=100).contains(&seconds_left(&host, found.expires)));
        // An alias bounds the whole, and a last dot changes nothing.
        let found = host.lookup_mx("alias.test.").await.unwrap();
        assert_eq!(found.records, [mx(10, "a.test")]);
        assert!((1..=7).contains(&seconds_left(&host, found.expires)));
        assert_eq!(host.lookup_mx("null.test").await.unwrap().records, [mx(0, "")]);
        let stats = settle(&host, |stats| stats.connections == 0).await;
        assert_eq!((stats.connections, stats.buffers_available), (0, stats.buffers));
    });
}

#[test]
fn what_does_not_exist_is_told_from_what_has_no_records_and_from_failure() {
    on_shard(Server::start().options(), |host| async move {
        let bare = host.lookup_mx("bare.test").await.unwrap();
        assert!(bare.records.is_empty() && (20..=30).contains(&seconds_left(&host, bare.expires)));
        for (gone, most) in [("gone.test", 30), ("gone-for-long.test", 3600)] {
            let Err(DnsError::NoSuchDomain(until)) = host.lookup_mx(gone).await else { panic!("{gone}") };
            assert!((most - 10..=most).contains(&seconds_left(&host, until)));
            assert!(matches!(host.lookup_addresses(gone).await, Err(DnsError::NoSuchDomain(_))));
        }
        for failing in ["broken.test", "refused.test"] {
            let failure = host.lookup_mx(failing).await;
            assert!(
                matches!(&failure, Err(DnsError::Transient(text)) if text.contains(failing)),
                "{failure:?}"
            );
            assert!(matches!(host.lookup_addresses(failing).await, Err(DnsError::Transient(_))));
        }
        let long = "a".repeat(64) + ".test";
        for impossible in ["double..dot.test", &long] {
            assert!(
                matches!(host.lookup_mx(impossible).await, Err(DnsError::NoSuchDomain(_))),
                "{impossible}"
            );
        }
    });
}

#[test]
fn silence_ends_in_a_time_out_that_is_transient() {
    on_shard(Server::start().options(), |host| async move {
        let before = host.now();
        let silence = host.lookup_mx("silent.test").await;
        assert!(matches!(silence, Err(DnsError::Transient(_))), "{silence:?}");
        let waited = host.now().since(before);
        assert!(waited > Duration::from_secs(1) && waited < Duration::from_secs(20), "{waited:?}");
        assert_eq!(host.lookup_mx("two.test").await.unwrap().records.len(), 2);
    });
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = Server::start();
    let over_tcp = server.over_tcp.clone();
    on_shard(server.options(), |host| async move {
        let found = host.lookup_mx("big.test").await.unwrap();
        assert_eq!(found.records.len(), 60);
        assert_eq!(found.records[59].name, "mx59.big.test");
    });
    assert!(over_tcp.load(Ordering::SeqCst) > 0);
}

#[test]
fn addresses_of_both_kinds_are_found_and_one_kind_is_enough() {
    on_shard(Server::start().options(), |host| async move {
        let found = host.lookup_addresses("host.test").await.unwrap();
        let texts: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["::7", "127.0.0.7"]);
        assert!((50..=60).contains(&seconds_left(&host, found.expires)));
        let found = host.lookup_addresses("four.test").await.unwrap();
        assert_eq!(found.addresses, ["127.0.0.4".parse::<std::net::IpAddr>().unwrap()]);
        let found = host.lookup_addresses("forever.test").await.unwrap();
        assert!(seconds_left(&host, found.expires) <= 86_400);
        assert!(host.lookup_addresses("empty.test").await.unwrap().addresses.is_empty());
    });
}

#[test]
fn without_servers_every_question_fails_for_now() {
    on_shard(options(), |host| async move {
        assert!(matches!(host.lookup_mx("two.test").await, Err(DnsError::Transient(_))));
    });
}

#[test]
fn a_thousand_questions_at_once_are_answered_and_leave_nothing_open() {
    on_shard(Server::start().options(), |host| async move {
        let answered = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..10 {
            for number in 0..100 {
                let (asker, answered) = (host.clone(), answered.clone());
                host.spawn(async move {
                    let found = asker.lookup_mx(&format!("name{number}.test")).await;
                    assert!(found.unwrap().records.is_empty());
                    answered.set(answered.get() + 1);
                });
            }
            settle(&host, |_| answered.get() % 100 == 0 && answered.get() > 0).await;
        }
        settle(&host, |_| answered.get() == 1000).await;
        assert_eq!(answered.get(), 1000);
        let stats = settle(&host, |stats| stats.connections == 0 && stats.timers == 0).await;
        assert_eq!((stats.connections, stats.panics, stats.buffers_available), (0, 0, stats.buffers));
    });
}
