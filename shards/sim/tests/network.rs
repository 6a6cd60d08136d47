//! An echo program over the faulty network, and name look-ups.

use host::{Conn, DnsError, Host, Listener};
use mail::Time;
use sim::dns::{Answer, PATIENCE};
use sim::{Chance, Crash, NetworkFaults, Options, SimConn, Span, World, run};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn server() -> SocketAddr {
    "10.9.0.1:7".parse().expect("an address")
}

async fn echo(mut conn: SimConn, far: Time) {
    while let Ok(Some(chunk)) = conn.recv(far).await {
        if conn.send(&mut chunk.to_vec(), far).await.is_err() {
            return;
        }
    }
    conn.close().await;
}

/// Boots a machine that echoes on all its shards; counts what each accepted.
fn boot_echo(world: &World, shards: usize) -> Rc<RefCell<Vec<usize>>> {
    let accepted = Rc::new(RefCell::new(vec![0; shards]));
    let machine = world.add_machine();
    for (shard, host) in world.boot(machine, shards).into_iter().enumerate() {
        let accepted = accepted.clone();
        host.clone().spawn(async move {
            let mut listener = host.listen(server()).expect("shards share the address");
            loop {
                if let Ok(conn) = listener.accept().await {
                    accepted.borrow_mut()[shard] += 1;
                    host.spawn(echo(conn, host.now() + 10 * MINUTE));
                }
            }
        });
    }
    accepted
}

/// What became of one message of `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Echoed,
    Failed(ErrorKind),
}

async fn ask(world: &World, len: usize) -> Fate {
    let sent: Vec<u8> = (0..len).map(|_| world.workload().any() as u8).collect();
    let deadline = world.now() + MINUTE;
    let talk = async {
        let mut conn = world.outside().connect(server(), None, deadline).await?;
        let (mut got, mut next) = (Vec::new(), 0);
        while got.len() < len {
            if next < len {
                let piece = (len - next).min(50);
                conn.send(&mut sent[next..next + piece].to_vec(), deadline).await?;
                next += piece;
            }
            if let Some(chunk) = conn.recv(deadline).await? {
                got.extend_from_slice(&chunk);
            } else {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        assert_eq!(got, sent, "what arrives is what was sent");
        std::io::Result::Ok(())
    };
    match talk.await {
        Ok(()) => Fate::Echoed,
        Err(error) => Fate::Failed(error.kind()),
    }
}

fn faulty() -> NetworkFaults {
    NetworkFaults {
        slow: Chance::percent(20),
        reset: Chance::percent(20),
        silence: Chance::percent(10),
        fatal_bytes: 1_000,
        refused: Chance::percent(10),
        unreachable: Chance::percent(10),
        choppy: Chance::percent(50),
        accept_error: Chance::percent(5),
        ..NetworkFaults::NONE
    }
}

#[test]
fn an_echo_comes_back_whole_or_fails_in_a_known_way_and_replays() {
    let mut fates = Vec::new();
    for seed in 0..100 {
        let world = || {
            run(Options { network: faulty(), ..Options::calm(seed) }, |world| async move {
                boot_echo(&world, 2);
                world.sleep(Duration::from_millis(1)).await;
                let mut fates = Vec::new();
                for _ in 0..10 {
                    fates.push(ask(&world, 500).await);
                }
                fates
            })
        };
        let (first, second) = (world(), world());
        assert_eq!(first.trace, second.trace);
        fates.extend(first.result.expect("no failure"));
    }
    let mut kinds = fates.clone();
    kinds.sort();
    kinds.dedup();
    let expected = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::TimedOut];
    for kind in expected {
        assert!(kinds.contains(&Fate::Failed(kind)), "{kind:?} never happened");
    }
    let echoed = fates.iter().filter(|fate| **fate == Fate::Echoed).count();
    assert!((300..900).contains(&echoed), "{echoed} of 1000 were echoed");
}

#[test]
fn a_good_network_echoes_all_and_shards_share() {
    let report = run(Options::calm(4), |world| async move {
        let accepted = boot_echo(&world, 4);
        world.sleep(Duration::from_millis(1)).await;
        for _ in 0..100 {
            assert_eq!(ask(&world, 1_000).await, Fate::Echoed);
        }
        accepted.take()
    });
    let accepted = report.result.expect("no failure");
    assert_eq!(accepted.iter().sum::<usize>(), 100);
    assert!(accepted.iter().all(|count| *count > 5), "{accepted:?}");
}

#[test]
fn without_a_listener_connections_are_refused_and_cut_off_ones_time_out() {
    let report = run(Options::calm(4), |world| async move {
        let refused = ask(&world, 1).await;
        boot_echo(&world, 1);
        world.sleep(Duration::from_millis(1)).await;
        world.network().cut_off(server().ip(), true);
        let began = world.now();
        let cut_off = ask(&world, 1).await;
        assert!(world.now().since(began) >= MINUTE);
        world.network().cut_off(server().ip(), false);
        (refused, cut_off, ask(&world, 1).await)
    });
    let failed = |kind| Fate::Failed(kind);
    assert_eq!(
        report.result,
        Ok((failed(ErrorKind::ConnectionRefused), failed(ErrorKind::TimedOut), Fate::Echoed))
    );
}

#[test]
fn a_sender_waits_for_a_reader_that_does_not_read() {
    let network = NetworkFaults { room: 1_000, ..NetworkFaults::NONE };
    let report = run(Options { network, ..Options::calm(4) }, |world| async move {
        let host = world.outside().clone();
        let mut listener = host.listen(server()).expect("free");
        let connecting = host.connect(server(), None, Time::FAR);
        let mut client = connecting.await.expect("a listener");
        let mut accepted = listener.accept().await.expect("a connection");
        let fits = client.send(&mut vec![0; 1_000], world.now() + MINUTE).await;
        let waits = client.send(&mut vec![0; 1], world.now() + MINUTE).await;
        let first = accepted.recv(world.now() + MINUTE).await;
        assert_eq!(first.expect("up").expect("data").len(), 1_000);
        let silent = accepted.recv(world.now() + MINUTE).await;
        assert_eq!(silent.err().map(|error| error.kind()), Some(ErrorKind::TimedOut));
        let goes_on = client.send(&mut vec![0; 1], world.now() + MINUTE).await;
        (fits.is_ok(), waits.err().map(|error| error.kind()), goes_on.is_ok())
    });
    assert_eq!(report.result, Ok((true, Some(ErrorKind::TimedOut), true)));
}

/// What the client of a machine that crashes reads: after the crash, and after it sent something once the machine
/// was up again.
fn after_crash(crash: Crash) -> (Option<ErrorKind>, Option<ErrorKind>) {
    let report = run(Options::calm(8), |world| async move {
        let machine = world.add_machine();
        let host = world.boot(machine, 1).remove(0);
        host.clone().spawn(async move {
            let mut listener = host.listen(server()).expect("free");
            let conn = listener.accept().await.expect("a connection");
            host.sleep_until(Time::FAR).await;
            drop(conn);
        });
        world.sleep(Duration::from_millis(1)).await;
        let mut conn = world.outside().connect(server(), None, Time::FAR).await.expect("a listener");
        world.sleep(Duration::from_millis(1)).await;
        world.crash(machine, crash);
        let kind = |result: std::io::Result<_>| match result {
            Ok(Some(_)) => panic!("nothing was sent"),
            Ok(None) => None,
            Err(error) => Some(std::io::Error::kind(&error)),
        };
        let crashed = kind(conn.recv(world.now() + MINUTE).await);
        world.boot(machine, 1);
        let _ = conn.send(&mut b"hello".to_vec(), world.now() + MINUTE).await;
        (crashed, kind(conn.recv(world.now() + MINUTE).await))
    });
    report.result.expect("no failure")
}

#[test]
fn a_dead_process_closes_its_connections_and_a_power_failure_tells_nobody() {
    let (crashed, _) = after_crash(Crash::Process);
    assert_eq!(crashed, None);
    let (crashed, rebooted) = after_crash(Crash::Power);
    assert_eq!((crashed, rebooted), (Some(ErrorKind::TimedOut), Some(ErrorKind::ConnectionReset)));
}

#[test]
fn a_closed_or_talking_peer_makes_a_connection_stale() {
    let report = run(Options::calm(8), |world| async move {
        let host = world.outside().clone();
        let mut listener = host.listen(server()).expect("free");
        let mut conns = Vec::new();
        for _ in 0..3 {
            let client = host.connect(server(), None, Time::FAR).await.expect("a listener");
            conns.push((client, listener.accept().await.expect("a connection")));
        }
        let [(mut idle, kept), (mut closed, closing), (mut spoken, mut speaking)] =
            <[_; 3]>::try_from(conns).ok().expect("three connections");
        drop(closing);
        speaking.send(&mut b"421 bye".to_vec(), Time::FAR).await.expect("room");
        world.sleep(Duration::from_millis(10)).await;
        let stale = (idle.is_stale(), closed.is_stale(), spoken.is_stale());
        drop(kept);
        stale
    });
    assert_eq!(report.result, Ok((false, true, true)));
}

#[test]
fn a_meter_counts_what_is_open_and_being_opened() {
    let network = NetworkFaults { latency: Span::millis(10, 10), ..NetworkFaults::NONE };
    let report = run(Options { network, ..Options::calm(8) }, |world| async move {
        boot_echo(&world, 1);
        let meter = world.network().meter(&[server().ip()]);
        for _ in 0..5 {
            let world = world.clone();
            world.outside().clone().spawn(async move {
                ask(&world, 10).await;
            });
        }
        world.sleep(Duration::from_millis(5)).await;
        let opening = meter.open();
        world.sleep(MINUTE).await;
        (opening, meter.open(), meter.most())
    });
    assert_eq!(report.result, Ok((5, 0, 5)));
}

#[test]
fn the_zone_answers_as_it_was_told() {
    let report = run(Options::calm(8), |world| async move {
        let (address, ttl) = (server().ip(), Duration::from_secs(300));
        world.zone().add_domain("good.example", &[address], ttl);
        world.zone().set_addresses("host.example", [Answer::Found(vec![address], ttl)]);
        let script =
            [Answer::ServerFailure, Answer::Silence, Answer::Found(vec![address], ttl), Answer::NoSuchDomain];
        world.zone().set_addresses("moody.example", script);
        let machine = world.add_machine();
        let host = world.boot(machine, 1).remove(0);
        let mx = host.lookup_mx("good.example").await.expect("an answer");
        assert_eq!(mx.records[0].name, "mx.good.example");
        assert!((Duration::from_secs(299)..=ttl).contains(&mx.expires.since(host.now())));
        assert_eq!(host.lookup_addresses("mx.good.example").await.expect("an answer").addresses, [address]);
        assert_eq!(host.lookup_mx("host.example").await.expect("it exists").records, []);
        assert!(matches!(host.lookup_mx("no.example").await, Err(DnsError::NoSuchDomain(_))));
        let mut moods = Vec::new();
        for _ in 0..5 {
            let asked = host.now();
            let answer = host.lookup_addresses("moody.example").await;
            moods.push((
                answer.map(|answer| answer.addresses.len()).is_ok(),
                host.now().since(asked) >= PATIENCE,
            ));
        }
        moods
    });
    let expected = vec![(false, false), (false, true), (true, false), (false, false), (false, false)];
    assert_eq!(report.result, Ok(expected));
}
