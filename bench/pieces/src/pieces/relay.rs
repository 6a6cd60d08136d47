//! Whole relays: two shards on the simulator's network and disk, and only what they do themselves is counted.

use crate::meter;
use crate::metered::Metered;
use crate::pieces::peer::{Answer, Peer};
use host::Host;
use shard::Links;
use shard::config::{Config, Delivery, Listen, Retry, Spool};
use sim::relay::address;
use sim::{Client, Journal, Options, Span, Submission, World, run};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(3600);
const SHARDS: usize = 2;
const CLIENTS: u64 = 10;
/// Domains of the recipients of a load.
const DOMAINS: u64 = 4;
/// Connections to each of them, few enough that the warm-up opens all.
const CONNECTIONS: usize = 2;
const FROM: &str = "sender@from.example";
/// Messages before those that count, for buffers to grow and connections to open.
const WARM_UP: u64 = 200;
/// When what was deferred is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// How clients behave, and what next hops answer.
#[derive(Clone, Copy)]
struct Load {
    pipelines: bool,
    per_connection: usize,
    messages: u64,
    answer: Answer,
}

const PERSISTENT: Load =
    Load { pipelines: true, per_connection: usize::MAX, messages: 1_000, answer: Answer::Taken };

/// Messages of 4 KiB from persistent connections that pipeline.
pub fn persistent() -> u64 {
    relay(PERSISTENT)
}

/// The same, a connection for each message and a reply awaited for each command.
pub fn connections() -> u64 {
    relay(Load { pipelines: false, per_connection: 1, messages: 500, ..PERSISTENT })
}

/// The same as the first, but the first attempt of each is put off; for the second it is read back from the spool.
pub fn deferred() -> u64 {
    relay(Load { messages: 500, answer: Answer::Deferred, ..PERSISTENT })
}

/// The same as the first, but each message fails, and its sender gets a report.
pub fn refused() -> u64 {
    relay(Load { messages: 500, answer: Answer::Refused, ..PERSISTENT })
}

fn config() -> Config {
    let relay_from = vec!["0.0.0.0/0".parse().expect("a network")];
    Config {
        spool: Spool { path: "/spool".into(), segment_bytes: 4 << 20, ..Spool::default() },
        listen: vec![Listen { address: address(), relay_from, relay_to: Vec::new(), auth: None }],
        retry: Retry { intervals: vec![RETRY], jitter_percent: 0, ..Retry::default() },
        delivery: Delivery { connections_max: CONNECTIONS, idle_timeout: TTL, ..Delivery::default() },
        ..Config::default()
    }
}

fn boot(world: &World) {
    let machine = world.add_machine();
    let hosts: Vec<_> = world.boot(machine, SHARDS).into_iter().map(Metered).collect();
    let links = Links::new(hosts.iter().map(Host::bell).collect());
    for (number, host) in hosts.into_iter().enumerate() {
        let links = links.clone();
        host.clone().spawn(async move {
            shard::run(host, Rc::new(config()), links, number).await.expect("the disk is whole");
        });
    }
}

fn domain(number: u64) -> String {
    format!("d{number}.example")
}

fn start_peer(world: &World, name: &str, number: u64) -> Peer {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1 + number as u8));
    world.zone().add_domain(name, &[ip], TTL);
    Peer::start(world, SocketAddr::new(ip, 25))
}

async fn send(world: &World, load: Load, tokens: Range<u64>) {
    let client = Client {
        pipelines: load.pipelines,
        per_connection: load.per_connection,
        pause: Span::millis(0, 1),
        ..Client::plain(address())
    };
    let body = b"A line of text as it stands in most mail, neither short nor long.\r\n".repeat(61);
    for number in 0..CLIENTS {
        let mine = tokens.clone().filter(|token| token % CLIENTS == number);
        let to = |token: u64| [format!("recipient{token}@{}", domain(token / CLIENTS % DOMAINS))];
        let mail = mine.map(|token| Rc::new(Submission::new(token, FROM, &to(token), &body)));
        let (mail, client, world) = (mail.collect(), client.clone(), world.clone());
        let outside = world.outside().clone();
        outside.spawn(async move { client.run(&world, &Journal::new(), mail).await });
    }
    world.sleep(Duration::from_secs(2)).await;
}

fn relay(load: Load) -> u64 {
    let report = run(Options::calm(7), move |world| async move {
        let sender = start_peer(&world, "from.example", DOMAINS);
        let peers: Vec<_> = (0..DOMAINS).map(|number| start_peer(&world, &domain(number), number)).collect();
        boot(&world);
        world.sleep(Duration::from_secs(1)).await;
        send(&world, load, 0..WARM_UP).await;
        peers.iter().for_each(|peer| peer.set_answer(load.answer));
        meter::arm(true);
        send(&world, load, WARM_UP..WARM_UP + load.messages).await;
        if load.answer == Answer::Deferred {
            world.sleep(RETRY).await;
        }
        meter::arm(false);
        let arrived = peers.iter().map(Peer::taken).sum::<u64>();
        let (mail, reports) = match load.answer {
            Answer::Taken | Answer::Deferred => (load.messages, 0),
            Answer::Refused => (0, load.messages),
        };
        assert_eq!(
            (arrived, sender.taken()),
            (WARM_UP + mail, reports),
            "each arrives once, or its report does"
        );
    });
    report.result.expect("the world comes to its end");
    load.messages
}
