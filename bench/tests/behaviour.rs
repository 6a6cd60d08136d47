//! What the sink was told to do wrong, seen from the other end of the connection.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bench::account::Account;
use bench::load::{self, Failure, Phase, Pipelining, Sent};
use bench::sink::{self, Behaviour, Listener, Received};
use bench::{Content, Tls, Transfer};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn config(behaviour: &str) -> sink::Config {
    let behaviour = if behaviour.is_empty() { Behaviour::default() } else { behaviour.parse().unwrap() };
    sink::Config { listeners: vec![Listener { address: FREE_PORT, behaviour }], ..sink::Config::default() }
}

fn drive(load: load::Config, sink: sink::Config) -> (Sent, Received, Account) {
    let sink = sink::start(sink).unwrap();
    let load = load::Config { target: sink.addresses()[0], patience: Duration::from_secs(20), ..load };
    let sent = load::start(load).unwrap().join().unwrap();
    let received = sink.join().unwrap();
    let account = Account::new(&sent, &received.ledger, 10);
    (sent, received, account)
}

fn failures(sent: &Sent, phase: Phase, code: u16) -> u64 {
    let found = sent.failures.iter().find(|(failure, _)| *failure == Failure { phase, code });
    found.map_or(0, |&(_, count)| count)
}

/// Plays all cases at once, because most of their time is waiting.
fn beside_each_other<C: Send, const N: usize>(cases: [C; N], play: impl Fn(C) + Sync) {
    thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(|| play(case)))));
}

/// A client that waits for every reply.
struct Client(TcpStream);

impl Client {
    fn connect(sink: &sink::Handle) -> Self {
        let stream = TcpStream::connect(sink.addresses()[0]).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self(stream);
        assert_eq!(client.code(), 220);
        client
    }

    /// The code of the next reply, 0 if the connection ends in its place.
    fn code(&mut self) -> u16 {
        let mut text = Vec::new();
        let mut byte = [0];
        while text.last() != Some(&b'\n') {
            if self.0.read(&mut byte).unwrap_or(0) == 0 {
                return 0;
            }
            text.push(byte[0]);
        }
        str::from_utf8(&text[..3]).unwrap().parse().unwrap()
    }

    fn say(&mut self, line: &str) -> u16 {
        self.0.write_all(line.as_bytes()).unwrap();
        self.0.write_all(b"\r\n").unwrap();
        self.code()
    }

    fn until_chunks(&mut self, parameters: &str) {
        assert_eq!(self.say(&format!("MAIL FROM:<s@x.example>{parameters}")), 250);
        assert_eq!(self.say("RCPT TO:<r0@d0.example>"), 250);
    }

    fn until_content(&mut self, parameters: &str) {
        self.until_chunks(parameters);
        assert_eq!(self.say("DATA"), 354);
    }

    /// How the connection ends: `Ok` in order, or with an error.
    fn end(&mut self) -> Result<(), ErrorKind> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map_err(|error| error.kind())?;
        assert_eq!(rest, b"");
        Ok(())
    }
}

/// Headers of a message as a load would number it.
fn stamped(sequence: u32) -> String {
    format!("X-Mtad-Bench: 00000001-{sequence:08x}-0001-{:016x}\r\n\r\n", 0)
}

#[test]
fn a_trickle_gives_byte_after_byte() {
    let sink = sink::start(config("trickle:20ms+delay:100ms")).unwrap();
    let mut stream = TcpStream::connect(sink.addresses()[0]).unwrap();
    let start = Instant::now();
    let mut piece = [0; 1000];
    let (mut text, mut pieces) = (Vec::new(), 0);
    while text.last() != Some(&b'\n') {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the sink closed");
        if pieces == 0 {
            assert!(start.elapsed() >= Duration::from_millis(99));
        }
        text.extend_from_slice(&piece[..count]);
        pieces += 1;
    }
    assert_eq!(text, b"220 sink.example ESMTP\r\n");
    assert!(start.elapsed() >= Duration::from_millis(100 + 20 * 22), "{:?}", start.elapsed());
    assert!(pieces >= 5, "{pieces} pieces");
    drop(sink.join().unwrap());

    for pipelining in [Pipelining::Off, Pipelining::Messages] {
        let load = load::Config { messages: 20, sessions: 10, pipelining, ..load::Config::default() };
        let (sent, _, account) = drive(load, config("trickle:1ms"));
        assert_eq!((account.delivered, account.lost, sent.failures.len()), (20, 0, 0), "{account}");
        assert!(sent.latency.quantile(0.0) >= 20_000, "{:?}", sent.latency.summary());
    }
}

#[test]
fn a_domain_may_trickle_alone() {
    let mut sink = config("");
    sink.domains = vec![("d1.example".into(), "trickle:5ms".parse().unwrap())];
    let load = load::Config { messages: 20, sessions: 20, domains: 2, ..load::Config::default() };
    let (_, received, account) = drive(load, sink);
    assert_eq!(account.delivered, 20);
    // The replies to RCPT and DATA have 46 bytes together.
    assert!(received.lanes[1].latency.quantile(0.0) >= 200_000);
    assert!(received.lanes[0].latency.quantile(0.5) < 200_000);
}

#[test]
fn a_connection_is_shut_after_some_messages() {
    let sink = sink::start(config("shut:2")).unwrap();
    let mut client = Client::connect(&sink);
    for _ in 0..2 {
        client.until_content("");
        assert_eq!(client.say("hello\r\n."), 250);
    }
    assert_eq!(client.say("RSET"), 250);
    assert_eq!(client.say("MAIL FROM:<s@x.example>"), 421);
    assert_eq!(client.end(), Ok(()));
    assert_eq!(sink.join().unwrap().progress.messages, 2);

    let ways = [
        (Pipelining::Off, Transfer::Data),
        (Pipelining::Commands, Transfer::Data),
        (Pipelining::Commands, Transfer::Bdat(1000)),
        (Pipelining::Messages, Transfer::Data),
    ];
    beside_each_other(ways, |(pipelining, transfer)| {
        let load =
            load::Config { messages: 30, sessions: 1, pipelining, transfer, ..load::Config::default() };
        let (sent, received, account) = drive(load, config("shut:7"));
        assert_eq!((account.delivered, account.lost, account.repeated), (30, 0, 0), "{account}");
        assert_eq!((sent.progress.connections, received.progress.refused), (5, 4));
        assert_eq!(failures(&sent, Phase::Mail, 421), 4, "{:?}", sent.failures);
    });
}

#[test]
fn a_content_is_cut_in_its_middle() {
    let sink = sink::start(config("cut:100")).unwrap();
    for chunked in [false, true] {
        let mut client = Client::connect(&sink);
        if chunked {
            client.until_chunks(" SIZE=2000");
            client.0.write_all(b"BDAT 2000 LAST\r\n").unwrap();
        } else {
            client.until_content(" SIZE=2000");
        }
        client.0.write_all(stamped(u32::from(chunked)).as_bytes()).unwrap();
        client.0.write_all(&[b'x'; 500]).unwrap();
        client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert_eq!(client.end(), Err(ErrorKind::WouldBlock), "less than half of it has come");
        client.0.write_all(&[b'x'; 500]).unwrap();
        client.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(client.end(), Ok(()));
    }
    // A stranger's message is cut at its end at the latest.
    let mut client = Client::connect(&sink);
    client.until_content("");
    assert_eq!(client.say("hello\r\n."), 0);
    let progress = sink.join().unwrap().progress;
    assert_eq!((progress.messages, progress.refused), (0, 3));
}

#[test]
fn what_is_cut_dropped_or_reset_does_not_count_as_taken() {
    let (data, bdat, chunks) = (Transfer::Data, Transfer::Bdat(usize::MAX), Transfer::Bdat(300));
    let ways = [
        ("cut:20", 300_000, data, Tls::Off),
        ("cut:20", 1000, data, Tls::Off),
        ("cut:20", 1000, data, Tls::Implicit),
        ("cut:20", 1000, bdat, Tls::Off),
        ("cut:20", 1000, chunks, Tls::StartTls),
        ("drop:20", 1000, data, Tls::Off),
        ("drop:20", 1000, chunks, Tls::Off),
        ("reset:20", 1000, data, Tls::Off),
        ("reset:20", 1000, bdat, Tls::StartTls),
    ];
    beside_each_other(ways, |(behaviour, size, transfer, tls)| {
        let config = |behaviour| sink::Config { tls, ..config(behaviour) };
        let load = || load::Config {
            messages: 200,
            sessions: 20,
            content: Content::Fixed(size),
            transfer,
            tls,
            threads: 2,
            ..load::Config::default()
        };
        let (sent, received, account) = drive(load(), config(behaviour));
        assert!(account.holds(false), "{behaviour}: {account}");
        assert!((20..65).contains(&account.in_doubt), "{behaviour}: {account}");
        assert_eq!(account.in_doubt_delivered, 0, "{behaviour}: {account}");
        assert_eq!(account.delivered + account.in_doubt, 200, "{behaviour}: {account}");
        assert_eq!(received.progress.refused, account.in_doubt);
        let (again, ..) = drive(load(), sink::Config { threads: 2, ..config(behaviour) });
        assert_eq!(again.in_doubt, sent.in_doubt, "{behaviour} hits the same messages in every run");
    });
}

#[test]
fn a_drop_is_an_orderly_end_and_a_reset_is_not() {
    for (behaviour, end) in [("drop:100", Ok(())), ("reset:100", Err(ErrorKind::ConnectionReset))] {
        let sink = sink::start(config(behaviour)).unwrap();
        let mut client = Client::connect(&sink);
        client.until_content("");
        client.0.write_all(b"hello\r\n.\r\n").unwrap();
        assert_eq!(client.end(), end, "{behaviour}");
        let mut client = Client::connect(&sink);
        client.until_chunks("");
        assert_eq!(client.say("BDAT 6\r\nhell"), 250, "the first chunk is in order");
        client.0.write_all(b"BDAT 3 LAST\r\no\r\n").unwrap();
        assert_eq!(client.end(), end, "{behaviour} behind chunks");
        assert_eq!(sink.join().unwrap().progress.messages, 0);
    }
}

#[test]
fn a_later_attempt_may_succeed() {
    let sink = sink::start(config("drop:20+reset:20+cut:20")).unwrap();
    let mut attempts = 0;
    for sequence in 0..20 {
        loop {
            attempts += 1;
            let mut client = Client::connect(&sink);
            client.until_content("");
            if client.say(&format!("{}hello\r\n.", stamped(sequence))) == 250 {
                break;
            }
        }
    }
    assert!((30..60).contains(&attempts), "{attempts}");
    let progress = sink.join().unwrap().progress;
    assert_eq!((progress.messages, progress.refused), (20, attempts - 20));
}

#[test]
fn a_domain_may_be_hit_alone() {
    let mut sink = config("");
    sink.domains = vec![("d1.example".into(), "reset:100".parse().unwrap())];
    let load = load::Config { messages: 40, sessions: 5, domains: 4, ..load::Config::default() };
    let (sent, _, account) = drive(load, sink);
    assert!(account.holds(false), "{account}");
    assert_eq!(sent.in_doubt.iter().collect::<Vec<_>>(), (1..40).step_by(4).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_takes_its_time_and_fills_the_sockets() {
    let sink = sink::start(config("slow-read:20000/s")).unwrap();
    let start = Instant::now();
    let mut client = Client::connect(&sink);
    client.until_content("");
    assert!(start.elapsed() < Duration::from_millis(300), "commands are not slow");
    assert_eq!(client.say(&format!("{}\r\n.", "x".repeat(10_000))), 250);
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    client.until_chunks("");
    assert_eq!(client.say(&format!("BDAT 5000\r\n{}", "x".repeat(4998))), 250);
    assert_eq!(client.say(&format!("BDAT 5000 LAST\r\n{}", "x".repeat(4998))), 250);
    assert!(start.elapsed() >= Duration::from_millis(1000), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(4000), "{:?}", start.elapsed());

    client.until_content("");
    client.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    while written < 32_000_000 {
        match client.0.write(&[b'x'; 100_000]) {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(written < 16_000_000, "the client could write {written} bytes");
    assert_eq!(sink.join().unwrap().progress.messages, 2);
}

#[test]
fn slow_contents_arrive_intact_over_several_connections() {
    let ways = [
        (Transfer::Data, Tls::Off),
        (Transfer::Bdat(usize::MAX), Tls::Off),
        (Transfer::Bdat(7000), Tls::Implicit),
        (Transfer::Data, Tls::StartTls),
    ];
    beside_each_other(ways, |(transfer, tls)| {
        let load = load::Config {
            messages: 30,
            sessions: 10,
            content: Content::Fixed(20_000),
            pipelining: Pipelining::Messages,
            transfer,
            tls,
            ..load::Config::default()
        };
        let start = Instant::now();
        let (sent, _, account) = drive(load, sink::Config { tls, ..config("slow-read:100000/s") });
        assert_eq!((account.delivered, sent.failures.len()), (30, 0), "{account}");
        assert!(
            start.elapsed() >= Duration::from_millis(3 * 200) && start.elapsed() < Duration::from_secs(4)
        );
    });
}

#[test]
fn a_greylist_lets_nobody_in_at_once() {
    let mut sink = config("");
    sink.domains = vec![("d0.example".into(), "greylist:400ms".parse().unwrap())];
    let sink = sink::start(sink).unwrap();
    let attempt = |sender: &str, recipient: &str| {
        let mut client = Client::connect(&sink);
        assert_eq!(client.say(&format!("MAIL FROM:<{sender}>")), 250);
        client.say(&format!("RCPT TO:<{recipient}>"))
    };
    let start = Instant::now();
    assert_eq!(attempt("a@x", "r0@d0.example"), 451);
    assert_eq!(attempt("a@x", "r0@d0.example"), 451);
    assert_eq!(attempt("a@x", "r0@d1.example"), 250);
    assert!(start.elapsed() < Duration::from_millis(400), "this machine is too slow to tell");
    thread::sleep(Duration::from_millis(401));
    assert_eq!(attempt("a@x", "R0@D0.example"), 250);
    assert_eq!(attempt("b@x", "r0@d0.example"), 451);
    assert_eq!(attempt("a@x", "r1@d0.example"), 451);
    assert_eq!(sink.join().unwrap().progress.refused, 4);

    let load = load::Config { messages: 50, sessions: 2, retries: u32::MAX, ..load::Config::default() };
    let (sent, received, account) = drive(load, config("greylist:100ms"));
    assert_eq!((account.delivered, account.lost), (50, 0), "{account}");
    assert!(sent.time.1 - sent.time.0 >= 100_000_000);
    assert_eq!(failures(&sent, Phase::Rcpt, 451), received.progress.refused);
}

#[test]
fn only_a_listener_has_limits_for_connections() {
    for behaviour in ["limit:1", "shut:1"] {
        let domains = vec![("d0.example".into(), behaviour.parse().unwrap())];
        assert!(sink::start(sink::Config { domains, ..config("") }).is_err());
    }
}
