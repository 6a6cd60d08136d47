//! The load straight against the sink: what the rig must see, and what it must not imagine.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use bench::account::{Account, Delivery};
use bench::identity::Alteration;
use bench::load::{self, Failure, LatencyFrom, Phase, Pipelining, Sent, Spread};
use bench::sink::{self, Behaviour, Listener, Plant, Received};
use bench::{Content, report, run};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn sink_with(behaviour: &str) -> sink::Config {
    let behaviour = if behaviour.is_empty() { Behaviour::default() } else { behaviour.parse().unwrap() };
    let listeners = vec![Listener { address: FREE_PORT, behaviour }];
    sink::Config { listeners, ..sink::Config::default() }
}

fn small_load() -> load::Config {
    load::Config {
        sessions: 10,
        messages: 1000,
        patience: Duration::from_secs(10),
        ..load::Config::default()
    }
}

/// Sends everything, stops the sink, and accounts.
fn drive(load: load::Config, sink: sink::Config) -> (Sent, Received, Account) {
    let sink = sink::start(sink).unwrap();
    let load = load::start(load::Config { target: sink.addresses()[0], ..load }).unwrap();
    let sent = load.join().unwrap();
    let received = sink.join().unwrap();
    let account = Account::new(&sent, &received.ledger, 10);
    (sent, received, account)
}

fn assert_all_arrived(sent: &Sent, account: &Account) {
    let asked = u64::from(sent.messages) * u64::from(sent.recipients);
    assert!(account.holds(false), "{account}");
    assert_eq!((account.acknowledged, account.delivered), (asked, asked), "{account}");
    assert_eq!((account.not_sent, account.in_doubt, account.foreign), (0, 0, 0), "{account}");
    assert!(sent.failures.is_empty(), "{:?}", sent.failures);
}

#[test]
fn every_way_to_send_is_accounted_for() {
    // One beside the other, because connections mostly wait.
    thread::scope(|scope| {
        for pipelining in [Pipelining::Off, Pipelining::Commands, Pipelining::Messages] {
            scope.spawn(move || send_in_every_way(pipelining));
        }
    });
}

fn send_in_every_way(pipelining: Pipelining) {
    for (recipients, domains, spread) in
        [(1, 1, Spread::RoundRobin), (3, 50, Spread::RoundRobin), (2, 50, Spread::Zipf(1.0))]
    {
        for messages_per_session in [0, 1, 7] {
            let load = load::Config {
                messages: 300,
                pipelining,
                recipients,
                domains,
                spread,
                messages_per_session,
                ..small_load()
            };
            let (sent, received, account) = drive(load, sink_with(""));
            assert_all_arrived(&sent, &account);
            assert_eq!(sent.latency.count(), 300);
            assert_eq!(received.latency.count(), 300 * u64::from(recipients));
            assert_eq!(received.domains.values().sum::<u64>(), 300 * u64::from(recipients));
            if matches!(spread, Spread::RoundRobin) {
                assert_eq!(received.domains.len(), domains as usize);
            }
            if messages_per_session > 0 {
                let needed = 300 / u64::from(messages_per_session);
                assert!(sent.progress.connections >= needed, "{:?}", sent.progress);
            } else {
                assert!(sent.progress.connections <= 10);
            }
        }
    }
}

#[test]
fn varied_and_large_messages_over_several_threads_arrive_intact() {
    let contents = [(Content::Varied, 600), (Content::Fixed(1_000_000), 20), (Content::Fixed(100), 1000)];
    for (content, messages) in contents {
        let load = load::Config { content, messages, threads: 2, sources: 3, ..small_load() };
        let (sent, received, account) = drive(load, sink::Config { threads: 2, ..sink_with("") });
        assert_all_arrived(&sent, &account);
        // How many were open at once is up to the scheduler when there are few messages.
        assert!((1..=10).contains(&received.progress.open_max), "{:?}", received.progress);
        assert!(sent.cpu > 0 && received.cpu > 0);
    }
}

#[test]
fn one_lost_message_is_found() {
    let sink = sink::Config { plant: Some(Plant::Lose(777)), ..sink_with("") };
    let (_, _, account) = drive(small_load(), sink);
    assert!(!account.holds(true));
    assert_eq!((account.missing, account.delivered), (1, 999));
    assert_eq!(account.missing_first, [Delivery { message: 777, recipient: 0 }]);
}

#[test]
fn one_repeated_message_is_found() {
    let sink = sink::Config { plant: Some(Plant::Repeat(0)), ..sink_with("") };
    let (_, _, account) = drive(load::Config { recipients: 2, ..small_load() }, sink);
    assert!(!account.holds(false) && account.holds(true));
    assert_eq!((account.missing, account.delivered, account.repeated), (0, 2000, 2));
    let both = [0, 1].map(|recipient| Delivery { message: 0, recipient });
    assert_eq!(account.repeated_first, both);
}

#[test]
fn one_altered_byte_is_found() {
    let sink = sink::Config { plant: Some(Plant::Alter(999)), ..sink_with("") };
    let (_, received, account) = drive(small_load(), sink);
    assert!(!account.holds(true));
    assert_eq!((account.missing, account.delivered, account.altered), (0, 999, 1));
    assert_eq!(account.altered_first, [Delivery { message: 999, recipient: 0 }]);
    let [(Some(stamp), Alteration::Body)] = received.ledger.alterations[..] else {
        panic!("{:?}", received.ledger.alterations)
    };
    assert_eq!(stamp.sequence, 999);
}

#[test]
fn a_tarpit_takes_its_time_for_every_reply() {
    // Five replies with a delay before each: greeting, EHLO, MAIL, RCPT, DATA, and the one to the content is
    // a sixth.
    for (pipelining, replies) in [(Pipelining::Off, 6), (Pipelining::Commands, 6)] {
        let load = load::Config {
            sessions: 5,
            messages: 5,
            pipelining,
            latency_from: LatencyFrom::Connection,
            ..small_load()
        };
        let start = Instant::now();
        let (sent, _, account) = drive(load, sink_with("delay:50ms"));
        let least = Duration::from_millis(50 * replies);
        assert_all_arrived(&sent, &account);
        assert!(
            u128::from(sent.latency.quantile(0.0)) + 1000 >= least.as_micros(),
            "{:?}",
            sent.latency.summary()
        );
        assert!(start.elapsed() < least * 4, "the delays of different connections overlap");
    }
}

#[test]
fn a_slow_domain_does_not_slow_the_others() {
    let mut sink = sink_with("");
    sink.domains = vec![("D1.example".into(), "delay:100ms".parse().unwrap())];
    let load = load::Config { sessions: 40, messages: 40, domains: 4, ..small_load() };
    let (sent, received, account) = drive(load, sink);
    assert_all_arrived(&sent, &account);
    let [fast, slow] = &received.lanes[..] else { panic!("{:?}", received.lanes) };
    assert_eq!((fast.latency.count(), slow.latency.count()), (30, 10));
    // RCPT and DATA are delayed before the content comes, the reply to it after.
    assert!(slow.latency.quantile(0.0) >= 199_000, "{:?}", slow.latency.summary());
    assert!(fast.latency.quantile(0.5) < 100_000, "{:?}", fast.latency.summary());
}

#[test]
fn refusals_are_counted_and_retried() {
    let count = |sent: &Sent, phase, code| {
        let found = sent.failures.iter().find(|(failure, _)| *failure == Failure { phase, code });
        found.map_or(0, |&(_, count)| count)
    };
    for pipelining in [Pipelining::Off, Pipelining::Commands, Pipelining::Messages] {
        let load = load::Config { pipelining, messages: 1000, ..small_load() };
        let (sent, received, account) = drive(load.clone(), sink_with("temp:20+perm:10"));
        assert!(account.holds(false), "{account}");
        let (temporary, permanent) = (count(&sent, Phase::Rcpt, 451), count(&sent, Phase::Rcpt, 550));
        assert!((140..260).contains(&temporary) && (40..125).contains(&permanent), "{temporary} {permanent}");
        assert_eq!(account.not_sent, temporary + permanent);
        assert_eq!(sent.progress.refused, temporary + permanent);
        assert_eq!(received.progress.refused, temporary + permanent);
        assert_eq!(sent.progress.errors, temporary + permanent, "{:?}", sent.failures);

        let (sent, _, account) = drive(load::Config { retries: 50, ..load }, sink_with("temp:20"));
        assert!(account.holds(false));
        assert_eq!((account.delivered, sent.progress.refused), (1000, 0));
        assert!(count(&sent, Phase::Rcpt, 451) > 140);
    }
}

#[test]
fn recipients_are_refused_one_by_one() {
    let load = load::Config { recipients: 4, messages: 500, ..small_load() };
    let (sent, _, account) = drive(load, sink_with("perm:30"));
    assert!(account.holds(false), "{account}");
    assert_eq!(account.acknowledged + account.not_sent, 2000);
    assert_eq!(account.delivered, sent.progress.accepted_recipients);
    assert!((450..750).contains(&account.not_sent), "{account}");
}

#[test]
fn a_drop_after_the_final_dot_leaves_doubt_and_no_loss() {
    let load = load::Config { sessions: 50, pipelining: Pipelining::Messages, ..small_load() };
    let (sent, received, account) = drive(load, sink_with("drop:10"));
    assert!(account.holds(false), "{account}");
    assert!((50..170).contains(&account.in_doubt), "{account}");
    assert_eq!(account.in_doubt, received.progress.refused);
    assert_eq!((account.in_doubt_delivered, account.not_sent), (0, 0));
    assert_eq!(account.delivered + account.in_doubt, 1000);
    assert_eq!(sent.progress.in_doubt, account.in_doubt);
}

#[test]
fn connections_above_the_limit_are_turned_away() {
    let load = load::Config { sessions: 10, messages: 200, messages_per_session: 5, ..small_load() };
    let (sent, received, account) = drive(load, sink_with("limit:3"));
    assert_eq!((account.delivered, account.missing), (200, 0));
    assert_eq!(received.progress.open_max, 3);
    assert!(
        sent.failures.iter().any(|(failure, _)| *failure == Failure { phase: Phase::Greeting, code: 421 })
    );
}

#[test]
fn a_schedule_is_kept() {
    let load = load::Config { messages: 500, rate: Some(1000.0), ..small_load() };
    let start = Instant::now();
    let (sent, _, account) = drive(load, sink_with(""));
    assert_all_arrived(&sent, &account);
    assert!(start.elapsed() >= Duration::from_millis(499));
    assert!(start.elapsed() < Duration::from_secs(3));
    // One session that needs 6 x 20 ms for its first message and 4 x 20 for the others cannot keep up with 50
    // per second, and the schedule counts that wait as latency.
    let load = load::Config { sessions: 1, messages: 10, rate: Some(50.0), ..small_load() };
    let (sent, _, _) = drive(load, sink_with("delay:20ms"));
    assert!(sent.latency.quantile(1.0) > 400_000, "{:?}", sent.latency.summary());
}

#[test]
fn a_load_without_a_server_gives_up() {
    let target = std::net::TcpListener::bind(FREE_PORT).unwrap().local_addr().unwrap();
    let load = load::Config { target, patience: Duration::from_millis(300), ..small_load() };
    let sent = load::start(load).unwrap().join().unwrap();
    assert!(sent.stalled);
    assert_eq!(sent.progress.accepted, 0);
    assert!(sent.failures.iter().any(|(failure, _)| failure.phase == Phase::Connect), "{:?}", sent.failures);
}

#[test]
fn a_load_can_be_stopped() {
    let sink = sink::start(sink_with("delay:10ms")).unwrap();
    let target = sink.addresses()[0];
    let load = load::start(load::Config { target, messages: 1_000_000, ..small_load() }).unwrap();
    while load.progress().accepted < 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let progress = load.progress();
    assert!(!progress.done && progress.open == 10 && progress.p99 >= progress.p50);
    load.stop();
    let sent = load.join().unwrap();
    let received = sink.join().unwrap();
    let account = Account::new(&sent, &received.ledger, 10);
    assert!(account.holds(false), "{account}");
    assert!(account.delivered >= 20 && account.not_sent > 900_000);
}

#[test]
fn a_port_in_use_is_an_error() {
    let sink = sink::start(sink_with("")).unwrap();
    let listeners = vec![Listener { address: sink.addresses()[0], behaviour: Behaviour::default() }];
    for threads in [1, 2] {
        let config = sink::Config { listeners: listeners.clone(), threads, ..sink::Config::default() };
        assert!(sink::start(config).is_err());
    }
}

#[test]
fn a_run_reports() {
    // The sink is also the target: what arrives at it is what was sent to it.
    let probe = std::net::TcpListener::bind(FREE_PORT).unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let config = |plant| run::Config {
        load: load::Config { target: address, ..small_load() },
        sink: sink::Config {
            listeners: vec![Listener { address, behaviour: Behaviour::default() }],
            plant,
            ..sink::Config::default()
        },
        pids: vec![std::process::id()],
        quiet: Duration::from_millis(500),
        ..run::Config::default()
    };
    let report = run::run(config(None), |_| {}).unwrap();
    assert_eq!((report.verdict, report.exit_code()), (report::Verdict::Holds, 0));
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(json["account"]["delivered"], 1000);
    assert_eq!(json["verdict"], "holds");
    assert!(json["throughput"]["accepted_per_second"].as_f64().unwrap() > 0.0);
    assert!(json["acceptance"]["p999"].as_u64().unwrap() > 0);
    for name in ["accept", "end to end"] {
        let curve = json["curves"][name].as_array().unwrap();
        assert!(curve.len() > 30, "{name}: {curve:?}");
    }
    assert!(report.to_string().contains("conservation holds"), "{report}");

    let report = run::run(config(Some(Plant::Lose(5))), |_| {}).unwrap();
    assert_eq!((report.verdict, report.exit_code()), (report::Verdict::Broken, 1));
    assert!(report.to_string().contains("missing    1: message/recipient 5/0"), "{report}");
}
