//! Peers that do nothing for a while: a paused sink, a server that greets nobody, clients that say next to
//! nothing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bench::sink::{self, Listener};
use bench::{Tls, drip, load};

fn sink_with(behaviour: &str) -> sink::Handle {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let behaviour = if behaviour.is_empty() { Default::default() } else { behaviour.parse().unwrap() };
    let listeners = vec![Listener { address, behaviour }];
    sink::start(sink::Config { listeners, ..sink::Config::default() }).unwrap()
}

/// The code of the next reply, or nothing within a moment.
fn code(stream: &mut TcpStream) -> Option<String> {
    let mut reply = [0; 512];
    let count = stream.read(&mut reply).ok()?;
    Some(String::from_utf8_lossy(&reply[..count.min(3)]).into_owned())
}

#[test]
fn a_paused_sink_answers_when_it_goes_on() {
    let sink = sink_with("");
    let connect = || {
        let stream = TcpStream::connect(sink.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    };
    let mut old = connect();
    assert_eq!(code(&mut old).unwrap(), "220");
    sink.pause();
    let mut new = connect();
    old.write_all(b"NOOP\r\n").unwrap();
    assert_eq!((code(&mut old), code(&mut new)), (None, None));
    sink.resume();
    assert_eq!((code(&mut old).unwrap(), code(&mut new).unwrap()), ("250".into(), "220".into()));
    new.write_all(b"NOOP\r\n").unwrap();
    assert_eq!(code(&mut new).unwrap(), "250");
}

#[test]
fn what_is_forgotten_does_not_count() {
    let sink = sink_with("");
    let send = |messages| {
        let target = sink.addresses()[0];
        let config = load::Config { target, messages, sessions: 3, domains: 2, ..load::Config::default() };
        load::start(config).unwrap().join().unwrap()
    };
    send(50);
    assert_eq!(sink.progress().delivered, 50);
    sink.forget();
    assert_eq!(sink.progress().messages, 0);
    let sent = send(30);
    let received = sink.join().unwrap();
    assert_eq!((received.progress.delivered, received.latency.count()), (30, 30));
    assert_eq!(received.domains.values().sum::<u64>(), 30);
    assert_eq!(received.ledger.runs.keys().collect::<Vec<_>>(), [&sent.run]);
}

#[test]
fn what_is_forgotten_is_judged_anew() {
    for behaviour in ["drop:20", "greylist:1h"] {
        let sink = sink_with(behaviour);
        let send = || {
            let target = sink.addresses()[0];
            let config =
                load::Config { target, messages: 100, run: 7, sessions: 20, ..load::Config::default() };
            let sent = load::start(config).unwrap().join().unwrap();
            (sent.in_doubt, sent.progress.refused, sink.progress().refused)
        };
        let first = send();
        assert!(first.2 > 0, "{behaviour}");
        sink.forget();
        assert_eq!(send(), first, "{behaviour}");
    }
}

#[test]
fn a_paused_sink_with_tls_and_a_pace_takes_everything_when_it_goes_on() {
    for tls in [Tls::Implicit, Tls::StartTls] {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = vec![Listener { address, behaviour: "delay:1ms+trickle:1ms".parse().unwrap() }];
        let sink = sink::start(sink::Config { listeners, tls, ..sink::Config::default() }).unwrap();
        sink.pause();
        let target = sink.addresses()[0];
        let config = load::Config { target, tls, messages: 10, sessions: 10, ..load::Config::default() };
        let load = load::start(config).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!((load.progress().accepted, sink.progress().messages), (0, 0));
        sink.resume();
        let sent = load.join().unwrap();
        assert_eq!((sent.progress.accepted, sink.progress().delivered), (10, 10), "{:?}", sent.failures);
    }
}

/// Greets and serves the first connection only, and keeps all others waiting.
fn serve_one(listener: &TcpListener) {
    let (first, _) = listener.accept().unwrap();
    let mut writer = first.try_clone().unwrap();
    writer.write_all(b"220 a\r\n").unwrap();
    let mut content = false;
    for line in BufReader::new(first).lines() {
        let Ok(line) = line else { return };
        let reply = match (content, line.as_str()) {
            (true, ".") => "250 ok\r\n",
            (true, _) => continue,
            (false, "DATA") => "354 go on\r\n",
            (false, "QUIT") => "221 bye\r\n",
            (false, _) => "250 ok\r\n",
        };
        content = reply.starts_with("354");
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_load_does_not_wait_for_greetings_that_nobody_needs() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        serve_one(&listener);
        thread::sleep(Duration::from_secs(60));
    });
    let start = Instant::now();
    let config = load::Config { target, messages: 5, sessions: 3, ..load::Config::default() };
    let sent = load::start(config).unwrap().join().unwrap();
    assert_eq!((sent.progress.accepted, sent.stalled), (5, false));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn slow_clients_hold_their_connections_and_come_back() {
    let drips = |sink: &sink::Handle| {
        let (opening, pause) = (Duration::from_millis(1), Duration::from_millis(5));
        let target = sink.addresses()[0];
        drip::start(drip::Config { target, connections: 5, opening, pause }).unwrap()
    };
    let patient = sink_with("");
    let handle = drips(&patient);
    await_true(|| patient.progress().open == 5);
    thread::sleep(Duration::from_millis(200));
    let outcome = handle.join().unwrap();
    assert_eq!((outcome.connected, outcome.ended), (5, 0));
    await_true(|| patient.progress().open == 0);

    let strict = sink_with("limit:2");
    let handle = drips(&strict);
    await_true(|| handle.outcome().connected > 10 && handle.outcome().ended > 5);
    handle.join().unwrap();
}

fn await_true(check: impl Fn() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not come true");
        thread::sleep(Duration::from_millis(5));
    }
}
