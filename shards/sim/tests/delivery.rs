//! Where mail goes and when it is tried, in virtual time: each test is a small world with one point.

use host::{Host, Mx};
use mail::Time;
use shard::config::{Config, Delivery, DomainPattern, Listen, NextHop as Hop, Retry, Route, Spool};
use sim::dns::{Answer, DnsFaults};
use sim::relay::{address, boot};
use sim::{
    Chance, Client, DiskFaults, Journal, MachineId, NextHop, Options, Profile, Span, Submission, World,
    oracle, run,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(300);

fn config() -> Config {
    let relay_from = vec!["0.0.0.0/0".parse().expect("a network")];
    Config {
        spool: Spool { path: "/spool".into(), segment_bytes: 1 << 20, ..Spool::default() },
        listen: vec![Listen { address: address(), relay_from, relay_to: Vec::new(), auth: None }],
        retry: Retry {
            intervals: [2, 5, 10].map(Duration::from_secs).to_vec(),
            jitter_percent: 0,
            ..Retry::default()
        },
        ..Config::default()
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, last))
}

fn next_hop(name: &str, last: u8, profile: Profile) -> NextHop {
    NextHop::new(name, SocketAddr::new(ip(last), 25), profile)
}

fn message(token: u64, to: &str) -> Rc<Submission> {
    Rc::new(Submission::new(token, "s@senders.example", &[to.to_owned()], b"hello\r\n"))
}

/// Runs a relay of two shards in a calm world in which reports find their way.
fn in_world<F: Future<Output = ()> + 'static>(
    config: Config,
    program: impl FnOnce(World, Journal) -> F + 'static,
) {
    let report = run(Options::calm(7), move |world| async move {
        let (journal, machine) = (Journal::new(), world.add_machine());
        world.zone().add_domain("senders.example", &[ip(1)], TTL);
        next_hop("senders.example", 1, Profile::kind()).start(&world, &journal);
        boot(&world, machine, 2, &config, 64);
        world.sleep(Duration::from_secs(1)).await;
        program(world, journal).await;
    });
    report.result.expect("the world comes to its end");
}

async fn send(world: &World, journal: &Journal, messages: Vec<Rc<Submission>>) {
    Client::plain(address()).run(world, journal, messages).await;
}

/// When and where messages arrived.
fn arrivals(journal: &Journal) -> Vec<(String, Time)> {
    journal.records().deliveries.iter().map(|delivery| (delivery.next_hop.clone(), delivery.at)).collect()
}

#[test]
fn a_domain_that_does_not_exist_or_takes_no_mail_fails_at_once() {
    in_world(config(), |world, journal| async move {
        world.zone().set_mx("gone.example", [Answer::NoSuchDomain]);
        let null = Mx { preference: 0, name: String::new() };
        world.zone().set_mx("null.example", [Answer::Found(vec![null], TTL)]);
        send(&world, &journal, vec![message(1, "a@gone.example"), message(2, "b@null.example")]).await;
        world.sleep(Duration::from_secs(2)).await;
        let records = journal.records();
        let text = |n: usize| String::from_utf8_lossy(&records.deliveries[n].content).into_owned();
        assert_eq!(records.deliveries.len(), 2, "a report for each");
        let both = text(0) + &text(1);
        assert!(both.contains("Status: 5.1.2") && both.contains("does not exist"), "{both}");
        assert!(both.contains("Status: 5.1.10") && both.contains("null MX"), "{both}");
    });
}

#[test]
fn a_domain_without_mx_is_its_own_mail_exchanger() {
    in_world(config(), |world, journal| async move {
        world.zone().set_mx("plain.example", [Answer::Found(Vec::new(), TTL)]);
        world.zone().set_addresses("plain.example", [Answer::Found(vec![ip(2)], TTL)]);
        next_hop("plain", 2, Profile::kind()).start(&world, &journal);
        send(&world, &journal, vec![message(1, "a@plain.example")]).await;
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(arrivals(&journal).len(), 1);
        assert_eq!(arrivals(&journal)[0].0, "plain");
    });
}

#[test]
fn the_next_exchanger_is_tried_in_the_same_attempt() {
    in_world(config(), |world, journal| async move {
        let mx = |preference, name: &str| Mx { preference, name: name.into() };
        let three = vec![mx(10, "dead.two.example"), mx(20, "rude.two.example"), mx(30, "good.two.example")];
        world.zone().set_mx("two.example", [Answer::Found(three, TTL)]);
        for (name, last) in [("dead", 2), ("rude", 3), ("good", 4)] {
            world.zone().set_addresses(&format!("{name}.two.example"), [Answer::Found(vec![ip(last)], TTL)]);
        }
        let rude = Profile { says_421: Chance(1_000_000), ..Profile::kind() };
        next_hop("rude", 3, rude).start(&world, &journal);
        next_hop("good", 4, Profile::kind()).start(&world, &journal);
        let begun = world.now();
        send(&world, &journal, vec![message(1, "a@two.example")]).await;
        world.sleep(Duration::from_secs(100)).await;
        let arrived = arrivals(&journal);
        assert_eq!(arrived.len(), 1);
        assert!(arrived[0].0 == "good" && arrived[0].1.since(begun) < Duration::from_secs(2), "{arrived:?}");
    });
}

#[test]
fn a_name_server_that_fails_defers() {
    in_world(config(), |world, journal| async move {
        let found = Answer::Found(vec![Mx { preference: 10, name: "mx.late.example".into() }], TTL);
        world.zone().set_mx("late.example", [Answer::ServerFailure, Answer::Silence, found]);
        world.zone().set_addresses("mx.late.example", [Answer::Found(vec![ip(2)], TTL)]);
        next_hop("late", 2, Profile::kind()).start(&world, &journal);
        send(&world, &journal, vec![message(1, "a@late.example")]).await;
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(arrivals(&journal).len(), 1);
    });
}

#[test]
fn attempts_follow_the_schedule() {
    in_world(config(), |world, journal| async move {
        world.zone().add_domain("down.example", &[ip(2)], TTL);
        // Down for 14 s: attempts at 0, 2 and 7 s fail, the one at 17 s comes through.
        let outage = world.now()..world.now() + Duration::from_secs(14);
        next_hop("down", 2, Profile { outages: vec![outage], ..Profile::kind() }).start(&world, &journal);
        let begun = world.now();
        send(&world, &journal, vec![message(1, "a@down.example")]).await;
        world.sleep(Duration::from_secs(60)).await;
        let arrived = arrivals(&journal);
        let after = arrived[0].1.since(begun);
        assert!(
            arrived.len() == 1 && after > Duration::from_secs(17) && after < Duration::from_secs(18),
            "{after:?}"
        );
    });
}

#[test]
fn a_domain_is_asked_for_once_per_time_to_live() {
    in_world(config(), |world, journal| async move {
        world.zone().add_domain("often.example", &[ip(2)], TTL);
        next_hop("often", 2, Profile::kind()).start(&world, &journal);
        for token in 0..20 {
            send(&world, &journal, vec![message(token, "a@often.example")]).await;
            world.sleep(Duration::from_secs(12)).await;
        }
        assert_eq!(arrivals(&journal).len(), 20);
        assert_eq!(world.zone().lookups(), 2, "its MX and the address of that");
        world.sleep(TTL).await;
        send(&world, &journal, vec![message(20, "a@often.example")]).await;
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.zone().lookups(), 4);
    });
}

#[test]
fn what_expires_is_reported_within_its_age() {
    let short = Retry { max_age: Duration::from_secs(30), ..config().retry };
    in_world(Config { retry: short, ..config() }, |world, journal| async move {
        world.zone().add_domain("dead.example", &[ip(2)], TTL);
        let begun = world.now();
        send(&world, &journal, vec![message(1, "a@dead.example")]).await;
        world.sleep(Duration::from_secs(100)).await;
        let arrived = arrivals(&journal);
        let after = arrived[0].1.since(begun);
        assert!(arrived.len() == 1 && arrived[0].0 == "senders.example", "{arrived:?}");
        assert!(after > Duration::from_secs(25) && after < Duration::from_secs(45), "{after:?}");
        let text = String::from_utf8_lossy(&journal.records().deliveries[0].content).into_owned();
        assert!(text.contains("Status: 5.4.7") || text.contains("Status: 4.4.7"), "{text}");
    });
}

#[test]
fn a_busy_destination_is_spread_and_its_limit_holds() {
    let hop = SocketAddr::new(ip(2), 25);
    let route = Route { domain: DomainPattern::Any, to: vec![Hop::Address(hop)] };
    let delivery = Delivery { connections_max: 4, ..Delivery::default() };
    in_world(Config { routes: vec![route], delivery, ..config() }, move |world, journal| async move {
        let meter = world.network().meter(&[hop.ip()]);
        next_hop("smarthost", 2, Profile { tarpits: Chance(50_000), ..Profile::kind() })
            .start(&world, &journal);
        let batches =
            (0..20u64).map(|client| (0..40).map(|n| message(client * 100 + n, "a@any.example")).collect());
        for batch in batches.collect::<Vec<Vec<_>>>() {
            let (world, journal) = (world.clone(), journal.clone());
            let client = Client { per_connection: 40, pipelines: true, ..Client::plain(address()) };
            world.outside().clone().spawn(async move { client.run(&world, &journal, batch).await });
        }
        world.sleep(Duration::from_secs(3600)).await;
        assert_eq!(arrivals(&journal).len(), 800);
        assert_eq!(meter.most(), 4, "all that are allowed, and no more");
    });
}

#[test]
fn a_next_hop_that_loses_commands_behind_a_content_is_not_sent_any_again() {
    let hop = SocketAddr::new(ip(2), 25);
    let route = Route { domain: DomainPattern::Any, to: vec![Hop::Address(hop)] };
    let delivery = Delivery { connections_max: 2, ..Delivery::default() };
    in_world(Config { routes: vec![route], delivery, ..config() }, move |world, journal| async move {
        let forgetful = Profile { forgets: true, tarpits: Chance(500_000), ..Profile::kind() };
        next_hop("forgetful", 2, forgetful).start(&world, &journal);
        for client in 0..10u64 {
            let batch = (0..10).map(|n| message(client * 10 + n, "a@any.example")).collect();
            let (world, journal) = (world.clone(), journal.clone());
            world.outside().clone().spawn(async move { send(&world, &journal, batch).await });
        }
        world.sleep(Duration::from_secs(3600)).await;
        let arrived = arrivals(&journal);
        assert_eq!((arrived.len(), oracle::check(&journal.records(), &[])), (100, vec![]));
        let last = arrived.iter().map(|(_, at)| *at).max().expect("something arrived");
        let reply_timeout = Delivery::default().reply_timeout;
        assert!(last > Time(0) + reply_timeout, "it was tried: {last:?}");
        assert!(last < Time(0) + 3 * reply_timeout, "and not again and again: {last:?}");
    });
}

/// Ten clients that try again for minutes.
async fn send_patiently(world: &World, journal: &Journal) {
    for client in 0..10u64 {
        let batch = (0..10).map(|n| message(client * 10 + n, "a@any.example")).collect();
        let patient = Client { attempts: 60, pause: Span::millis(1_000, 3_000), ..Client::plain(address()) };
        let (world, journal) = (world.clone(), journal.clone());
        world.outside().clone().spawn(async move { patient.run(&world, &journal, batch).await });
    }
    world.sleep(Duration::from_secs(60)).await;
}

#[test]
fn a_failing_log_costs_only_its_shard_and_heals() {
    in_world(config(), |world, journal| async move {
        world.zone().add_domain("any.example", &[ip(2)], TTL);
        next_hop("any", 2, Profile::kind()).start(&world, &journal);
        let disk = world.disk(MachineId(1));
        let broken = DiskFaults { write_error: Chance(1_000_000), ..DiskFaults::NONE };
        let begun = world.now();
        disk.set_faults_under("/spool/shard-0".as_ref(), broken);
        send_patiently(&world, &journal).await;
        let meanwhile = arrivals(&journal).len();
        assert_eq!(meanwhile, 100, "the other shard takes and delivers it all");
        disk.set_faults_under("/spool/shard-0".as_ref(), DiskFaults::NONE);
        journal.excuse(begun..=world.now());
        world.sleep(Duration::from_secs(600)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
        assert_eq!(arrivals(&journal).len(), 100);
    });
}

#[test]
fn a_full_disk_refuses_mail_and_takes_it_again_when_relieved() {
    // Nothing is to be kept free, so that the log itself meets the end of the disk.
    let spool = Spool { free_bytes_min: 0, free_percent_min: 0, ..config().spool };
    in_world(Config { spool, ..config() }, |world, journal| async move {
        world.zone().add_domain("any.example", &[ip(2)], TTL);
        next_hop("any", 2, Profile::kind()).start(&world, &journal);
        let disk = world.disk(MachineId(1));
        disk.set_capacity(disk.used());
        world.zone().set_faults(DnsFaults { server_failure: Chance(1_000_000), ..DnsFaults::NONE });
        let big: Vec<u8> = b"0123456789012345678901234567890123456789\r\n".repeat(2_000);
        let fill =
            |token| Rc::new(Submission::new(token, "s@senders.example", &["a@any.example".into()], &big));
        send(&world, &journal, (0..80).map(fill).collect()).await;
        let acknowledged = journal.records().sent.values().filter(|sent| !sent.owed.is_empty()).count();
        assert!((1..80).contains(&acknowledged), "some fit, then no more: {acknowledged}");
        world.zone().set_faults(DnsFaults::NONE);
        disk.set_capacity(u64::MAX);
        world.sleep(Duration::from_secs(600)).await;
        send(&world, &journal, vec![message(1_000, "a@any.example")]).await;
        world.sleep(Duration::from_secs(10)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
        assert_eq!(arrivals(&journal).len(), acknowledged + 1);
    });
}

#[test]
fn a_full_queue_refuses_mail_and_takes_it_again_when_relieved() {
    let spool = Spool { deliveries_max: 5, ..config().spool };
    in_world(Config { spool, ..config() }, |world, journal| async move {
        world.zone().add_domain("any.example", &[ip(2)], TTL);
        next_hop("any", 2, Profile::kind()).start(&world, &journal);
        world.zone().set_faults(DnsFaults { server_failure: Chance(1_000_000), ..DnsFaults::NONE });
        send(&world, &journal, (0..40).map(|token| message(token, "a@any.example")).collect()).await;
        let acknowledged = journal.records().sent.values().filter(|sent| !sent.owed.is_empty()).count();
        assert!((5..=10).contains(&acknowledged), "five for each of two shards: {acknowledged}");
        world.zone().set_faults(DnsFaults::NONE);
        world.sleep(Duration::from_secs(600)).await;
        send(&world, &journal, vec![message(1_000, "a@any.example")]).await;
        world.sleep(Duration::from_secs(10)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
        assert_eq!(arrivals(&journal).len(), acknowledged + 1);
    });
}

#[test]
fn a_next_hop_that_refuses_most_connections_is_served_over_the_others() {
    in_world(config(), |world, journal| async move {
        world.zone().add_domain("shy.example", &[ip(2)], TTL);
        let shy = Profile { says_421: Chance(300_000), ..Profile::kind() };
        next_hop("shy", 2, shy).start(&world, &journal);
        let batch = (0..200).map(|n| message(n, "a@shy.example")).collect();
        let client = Client { per_connection: 200, pipelines: true, ..Client::plain(address()) };
        client.run(&world, &journal, batch).await;
        world.sleep(Duration::from_secs(3_000)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
    });
}

#[test]
fn connections_of_a_shard_have_a_bound_over_all_destinations() {
    let delivery =
        Delivery { shard_connections_max: 2, idle_timeout: Duration::from_secs(1), ..Delivery::default() };
    in_world(Config { delivery, ..config() }, |world, journal| async move {
        let all: Vec<IpAddr> = (10..40).map(ip).collect();
        let meter = world.network().meter(&all);
        for (number, address) in (10..40).zip(&all) {
            let name = format!("d{number}.example");
            world.zone().add_domain(&name, &[*address], TTL);
            next_hop(&name, number, Profile::kind()).start(&world, &journal);
        }
        let batch = (0..300u64).map(|n| message(n, &format!("a@d{}.example", 10 + n % 30))).collect();
        send(&world, &journal, batch).await;
        world.sleep(Duration::from_secs(600)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
        assert!((2..=4).contains(&meter.most()), "two for each of two shards: {}", meter.most());
    });
}

#[test]
fn mail_that_only_we_exchange_fails_instead_of_circling() {
    let hostname = "relay.example".to_owned();
    in_world(Config { hostname, ..config() }, |world, journal| async move {
        let us = Mx { preference: 10, name: "Relay.Example".into() };
        let other = Mx { preference: 20, name: "mx.other.example".into() };
        world.zone().set_mx("circle.example", [Answer::Found(vec![us, other], TTL)]);
        send(&world, &journal, vec![message(1, "a@circle.example")]).await;
        world.sleep(Duration::from_secs(2)).await;
        let records = journal.records();
        assert_eq!(records.deliveries.len(), 1);
        assert!(String::from_utf8_lossy(&records.deliveries[0].content).contains("Status: 5.4.6"));
    });
}

#[test]
fn a_damaged_record_costs_only_its_message() {
    let short = Retry { max_age: Duration::from_secs(30), ..config().retry };
    in_world(Config { retry: short, ..config() }, |world, journal| async move {
        world.zone().add_domain("dead.example", &[ip(2)], TTL);
        send(&world, &journal, vec![message(1, "a@dead.example"), message(2, "b@dead.example")]).await;
        let disk = world.disk(MachineId(1));
        let token = b"X-Token: 0000000000000001";
        let mut flips = 0;
        for log in ["/spool/shard-0", "/spool/shard-1"].map(std::path::Path::new) {
            for path in disk.names_in(log).iter().map(|name| log.join(name)) {
                let bytes = disk.peek(&path).unwrap_or_default();
                if let Some(at) = bytes.windows(token.len()).position(|window| window == token) {
                    disk.flip_bit(&path, at, 0);
                    flips += 1;
                }
            }
        }
        assert_eq!(flips, 1);
        world.sleep(Duration::from_secs(600)).await;
        let records = journal.records();
        assert_eq!(records.deliveries.len(), 1, "one is reported, the damaged one cannot be");
        assert!(String::from_utf8_lossy(&records.deliveries[0].content).contains("b@dead.example"));
    });
}

#[test]
fn domains_without_a_way_beside_a_crowd_disturb_nobody() {
    let delivery =
        Delivery { shard_connections_max: 2, idle_timeout: Duration::from_secs(1), ..Delivery::default() };
    in_world(Config { delivery, ..config() }, |world, journal| async move {
        let mut batch = Vec::new();
        for number in 10..50u8 {
            let name = format!("d{number}.example");
            if number % 2 == 0 {
                world.zone().add_domain(&name, &[ip(number)], TTL);
                next_hop(&name, number, Profile { tarpits: Chance(200_000), ..Profile::kind() })
                    .start(&world, &journal);
            } else {
                world.zone().set_mx(&name, [Answer::NoSuchDomain]);
            }
        }
        for token in 0..4_000u64 {
            batch.push(message(token, &format!("a@d{}.example", 10 + token % 40)));
        }
        let client = Client { per_connection: 4_000, pipelines: true, ..Client::plain(address()) };
        client.run(&world, &journal, batch).await;
        world.sleep(Duration::from_secs(20_000)).await;
        assert_eq!(oracle::check(&journal.records(), &[]), []);
    });
}
