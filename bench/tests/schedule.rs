//! Loads on a schedule: what a stall costs, how a rate grows, and the search for the highest one.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bench::load::{self, Ramp};
use bench::report::Verdict;
use bench::search::{self, Judged};
use bench::sink::{self, Behaviour, Listener};
use bench::{Content, run};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Whoever writes holds up every reply of the server.
type Gate = Arc<RwLock<()>>;

fn serve(stream: TcpStream, gate: &Gate) -> std::io::Result<()> {
    let mut output = stream.try_clone()?;
    output.write_all(b"220 hello\r\n")?;
    let mut content = false;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        content &= line != ".";
        if content {
            continue;
        }
        drop(gate.read().unwrap());
        content = line == "DATA";
        output.write_all(if content { b"354 go on\r\n" } else { b"250 ok\r\n" })?;
    }
    Ok(())
}

fn server() -> (SocketAddr, Gate) {
    let listener = TcpListener::bind(FREE_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Gate::default();
    let shared = gate.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let gate = shared.clone();
            thread::spawn(move || serve(stream, &gate));
        }
    });
    (address, gate)
}

#[test]
fn a_stall_shows_in_every_message_that_was_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(500);
    let (target, gate) = server();
    // 400 messages are due during the stall, and only 5 connections could be waiting for a reply.
    let config = load::Config {
        target,
        sessions: 5,
        messages: 1600,
        rate: Some(800.0),
        content: Content::Fixed(600),
        ..load::Config::default()
    };
    let load = load::start(config).unwrap();
    thread::sleep(Duration::from_millis(700));
    let closed = gate.write().unwrap();
    thread::sleep(STALL);
    drop(closed);
    let sent = load.join().unwrap();
    assert_eq!(sent.progress.accepted, 1600, "{:?}", sent.failures);
    let milliseconds = |share: f64| sent.latency.quantile(share) / 1000;
    // A quarter of all was due during the stall, and waited for half of it on average.
    assert!(milliseconds(1.0) >= 490, "{:?}", sent.latency.summary());
    assert!(milliseconds(0.99) >= 450, "{:?}", sent.latency.summary());
    assert!(milliseconds(0.90) >= 250, "{:?}", sent.latency.summary());
    assert!(milliseconds(0.85) >= 150, "{:?}", sent.latency.summary());
    assert!(milliseconds(0.5) <= 100, "{:?}", sent.latency.summary());
}

#[test]
fn a_ramp_takes_the_time_that_it_should() {
    let sink = sink::start(sink::Config {
        listeners: vec![Listener { address: FREE_PORT, behaviour: Behaviour::default() }],
        ..sink::Config::default()
    })
    .unwrap();
    // The area below the ramp: 500 messages in the first second, and 500 in half a second at its end.
    let ramp = Some(Ramp { from: 0.0, to: 1000.0, seconds: 1.0 });
    let config =
        load::Config { target: sink.addresses()[0], ramp, messages: 1000, ..load::Config::default() };
    let start = Instant::now();
    let load = load::start(config.clone()).unwrap();
    thread::sleep(Duration::from_millis(500));
    let early = load.progress().accepted;
    let sent = load.join().unwrap();
    assert_eq!(sent.progress.accepted, 1000);
    assert!(start.elapsed() >= Duration::from_millis(1490), "{:?}", start.elapsed());
    assert!(early <= 250, "{early} messages in the first half second");
    assert!(load::start(load::Config { rate: Some(1.0), ..config }).is_err());
}

fn search_config() -> search::Config {
    let probe = TcpListener::bind(FREE_PORT).unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let listeners = vec![Listener { address, behaviour: Behaviour::default() }];
    search::Config {
        run: run::Config {
            load: load::Config { target: address, sessions: 4, messages: 3000, ..load::Config::default() },
            sink: sink::Config { listeners, ..sink::Config::default() },
            linger: Duration::from_millis(50),
            ..run::Config::default()
        },
        from: 200.0,
        step: Duration::from_millis(500),
        lead: Duration::from_millis(100),
        p99: Duration::from_millis(500),
        judged: Judged::Acceptance,
        resolution: 0.3,
    }
}

/// Searches by this latency and checks what is found.
fn find_what_a_slow_server_sustains(judged: Judged) {
    // Three replies of 5 ms for a message over each of 4 connections: 267 messages per second.
    let mut config = search::Config { judged, ..search_config() };
    config.run.sink.listeners[0].behaviour.delay = Duration::from_millis(5);
    let mut shown = 0;
    let outcome = search::run(&config, |_| shown += 1).unwrap();
    assert_eq!(shown, outcome.steps.len());
    assert!(outcome.conserved, "{outcome:?}");
    let sustained = outcome.sustained.unwrap();
    assert!((100.0..=300.0).contains(&sustained), "{outcome:?}");
    assert!(outcome.exceeded.unwrap() <= sustained * 1.3, "{outcome:?}");
    assert!(outcome.steps.iter().any(|step| !step.good && step.achieved < step.rate));
}

#[test]
fn a_rate_that_a_slow_server_sustains_is_found() {
    // One beside the other, because a step is mostly waiting.
    thread::scope(|scope| {
        scope.spawn(|| find_what_a_slow_server_sustains(Judged::Acceptance));
        scope.spawn(|| find_what_a_slow_server_sustains(Judged::EndToEnd));
    });
}

#[test]
fn a_search_gives_up_where_no_rate_is_good() {
    let mut config = search_config();
    config.run.load.messages = 10;
    config.run.sink.listeners[0].behaviour.delay = Duration::from_millis(5);
    config.from = 4000.0;
    config.p99 = Duration::from_millis(1);
    let outcome = search::run(&config, |_| {}).unwrap();
    assert_eq!((outcome.sustained, outcome.steps.len()), (None, 7), "{outcome:?}");
}

#[test]
fn a_search_ends_where_mail_is_lost() {
    let mut config = search_config();
    config.run.load.messages = 20;
    config.run.sink.plant = Some(sink::Plant::Lose(3));
    config.run.quiet = Duration::from_millis(300);
    let outcome = search::run(&config, |_| {}).unwrap();
    assert!(!outcome.conserved && outcome.steps.len() == 1, "{outcome:?}");
    assert_eq!(outcome.steps[0].verdict, Verdict::Broken);
}

#[test]
fn the_command_prints_a_line_per_step_and_json() {
    let port = TcpListener::bind(FREE_PORT).unwrap().local_addr().unwrap().to_string();
    let command = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtad-bench"));
        command.args(["search", "--target", &port, "--sink", &port, "--sessions", "4", "--messages", "50"]);
        command.args(["--from", "2000", "--step", "250ms", "--p99", "10s", "--resolution", "1"]);
        command.args(more).output().unwrap()
    };
    let output = command(&["--sink", &format!("{port}=delay:20ms")]);
    assert_eq!(output.status.code(), Some(2), "the same port twice: {output:?}");
    let output = command(&["--rate", "5"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = command(&["--size", "1k..4k", "--pipelining", "off"]);
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = outcome["steps"].as_array().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), steps.len());
    let sustained = outcome["sustained"].as_f64();
    assert_eq!(output.status.code(), Some(if sustained.is_some() { 0 } else { 3 }));
}
