//! Either end of the rig against a peer that is spelled out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use bench::account::Account;
use bench::load::{self, Failure, Phase, Pipelining, Sent};
use bench::sink::{self, Behaviour, Listener};
use bench::{Content, idle};

mod wire;
use wire::talk;

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn start_sink() -> sink::Handle {
    let listeners = vec![Listener { address: FREE_PORT, behaviour: Behaviour::default() }];
    sink::start(sink::Config { listeners, message_bytes_max: 100_000, ..sink::Config::default() }).unwrap()
}

#[test]
fn the_sink_keeps_the_order_of_smtp() {
    let sink = start_sink();
    let input = b"EHLO a\r\nRCPT TO:<x@y>\r\nDATA\r\nMAIL FROM:a\r\nMAIL FROM:<a@b> SIZE=100001\r\n\
        MAIL FROM:<a@b> SIZE=100000\r\nMAIL FROM:<a@b>\r\nDATA\r\nrcpt to:<x@y> NOTIFY=NEVER\r\nRCPT x\r\n\
        DATA\r\n..\r\nDATA\r\n.\r\nRSET\r\nNOOP\r\n\0\xff\r\n\r\nVRFY x\r\nQUIT\r\n";
    let expected = "220 250 503 503 501 552 250 503 503 250 501 354 250 250 250 500 500 250 221";
    for piece in [1, 2, 7, 1000] {
        assert_eq!(talk(&sink, input, piece), expected, "pieces of {piece}");
    }
    let received = sink.join().unwrap();
    assert_eq!((received.progress.messages, received.progress.foreign, received.progress.open), (4, 4, 0));
    assert_eq!(received.domains["y"], 4);
}

#[test]
fn the_sink_bounds_lines_and_messages() {
    let sink = start_sink();
    assert_eq!(talk(&sink, &[b'x'; 4097], 4097), "220 500");
    let endless = [b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n".as_slice(), &[b'\n'; 100_001]].concat();
    assert_eq!(talk(&sink, &endless, endless.len()), "220 250 250 354 552");
    assert_eq!(sink.join().unwrap().progress.messages, 0);
}

/// The stamp line of a message that a load sent to a server made by hand, and the load's result.
fn stamp_of_one_message() -> (String, Sent) {
    let listener = TcpListener::bind(FREE_PORT).unwrap();
    let config = load::Config {
        target: listener.local_addr().unwrap(),
        sessions: 1,
        messages: 1,
        recipients: 3,
        content: Content::Fixed(600),
        ..load::Config::default()
    };
    let load = load::start(config).unwrap();
    let mut lines = serve(&listener, &[], usize::MAX);
    lines.retain(|line| line.starts_with("X-Mtad-Bench: "));
    (lines.remove(0), load.join().unwrap())
}

/// Serves one connection that ends with QUIT or after `replies_max` replies, one byte per packet; returns the
/// lines that came. `answers` are given instead of the usual ones to the commands that start so.
fn serve(listener: &TcpListener, answers: &[(&str, &str)], replies_max: usize) -> Vec<String> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    let mut content = false;
    let mut line = "greeting".to_string();
    for _ in 0..replies_max {
        let usual = match line.get(..4).unwrap_or_default() {
            "gree" => "220-hello\r\n220 there\r\n",
            "EHLO" => "250-me\r\n250-pipelining\r\n250 SIZE 1000000\r\n",
            "DATA" => "354 go on\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "250 ok\r\n",
        };
        let given = answers.iter().find(|(start, _)| line.starts_with(start));
        let reply = given.map_or(usual, |(_, reply)| reply);
        for byte in reply.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        content = reply.starts_with("354");
        loop {
            let quit = line == "QUIT";
            line.clear();
            if quit || input.read_line(&mut line).unwrap_or(0) == 0 {
                return lines;
            }
            line.truncate(line.trim_end().len());
            lines.push(line.clone());
            if !content || line == "." {
                break;
            }
        }
    }
    assert!(!content || line == ".");
    lines
}

#[test]
fn replies_may_come_byte_by_byte_and_in_several_lines() {
    let (stamp, sent) = stamp_of_one_message();
    assert_eq!(stamp.len(), "X-Mtad-Bench: ".len() + 39);
    assert_eq!((sent.progress.accepted, sent.progress.accepted_recipients), (1, 3));
    assert!(sent.failures.is_empty());
}

#[test]
fn a_failure_report_accounts_for_its_recipient() {
    let (stamp, sent) = stamp_of_one_message();
    let sink = start_sink();
    let report = format!(
        "MAIL FROM:<>\r\nRCPT TO:<bench@sender.example>\r\nDATA\r\nContent-Type: multipart/report; boundary=x\r\n\r\n\
         --x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; me\r\n\r\n\
         Final-Recipient: rfc822; r1@d1.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
         --x\r\nContent-Type: text/rfc822-headers\r\n\r\n{stamp}\r\n\r\n--x--\r\n.\r\nQUIT\r\n"
    );
    assert_eq!(talk(&sink, report.as_bytes(), report.len()), "220 250 250 354 250 221");
    let received = sink.join().unwrap();
    let account = Account::new(&sent, &received.ledger, 10);
    assert_eq!((account.acknowledged, account.reported, account.missing), (3, 1, 2), "{account}");
    assert_eq!(account.missing_first.iter().map(|delivery| delivery.recipient).collect::<Vec<_>>(), [0, 2]);
    assert_eq!((account.delivered, account.foreign), (0, 0));
}

fn load_against(pipelining: Pipelining, serve: impl FnOnce(TcpListener) + Send + 'static) -> Sent {
    let listener = TcpListener::bind(FREE_PORT).unwrap();
    let config = load::Config {
        target: listener.local_addr().unwrap(),
        sessions: 1,
        messages: 2,
        pipelining,
        patience: Duration::from_secs(5),
        ..load::Config::default()
    };
    let server = thread::spawn(move || serve(listener));
    let sent = load::start(config).unwrap().join().unwrap();
    server.join().unwrap();
    sent
}

fn failure(sent: &Sent, phase: Phase, code: u16) -> u64 {
    let found = sent.failures.iter().find(|(failure, _)| *failure == Failure { phase, code });
    found.map_or(0, |(_, count)| *count)
}

#[test]
fn a_refused_mail_counts_once_and_the_connection_goes_on() {
    for pipelining in [Pipelining::Off, Pipelining::Commands] {
        let answers = [("MAIL", "550 no\r\n"), ("RCPT", "503 no\r\n"), ("DATA", "503 no\r\n")];
        let sent = load_against(pipelining, move |listener| {
            let lines = serve(&listener, &answers, usize::MAX);
            assert_eq!(lines.iter().filter(|line| line.starts_with("MAIL")).count(), 2);
        });
        assert_eq!((sent.progress.refused, sent.progress.errors), (2, 2), "{:?}", sent.failures);
        assert_eq!(failure(&sent, Phase::Mail, 550), 2);
    }
}

#[test]
fn no_recipient_but_go_on_gets_an_empty_content() {
    let answers = [("RCPT", "550 no\r\n"), (".", "554 no recipients\r\n")];
    let sent = load_against(Pipelining::Commands, move |listener| {
        let lines = serve(&listener, &answers, usize::MAX);
        assert!(!lines.iter().any(|line| line.starts_with("Subject")), "{lines:?}");
    });
    assert_eq!((sent.progress.refused, sent.progress.accepted), (2, 0));
}

#[test]
fn a_connection_lost_before_the_dot_costs_nothing_and_after_it_is_in_doubt() {
    // Greeting, EHLO, MAIL, RCPT: then it breaks, and the message is sent again.
    let sent = load_against(Pipelining::Off, |listener| {
        serve(&listener, &[], 4);
        serve(&listener, &[], usize::MAX);
    });
    assert_eq!((sent.progress.accepted, sent.progress.in_doubt), (2, 0));
    assert_eq!(sent.failures.iter().map(|(_, count)| count).sum::<u64>(), 1, "{:?}", sent.failures);
    // After DATA's reply the content is read, and then it breaks.
    let sent = load_against(Pipelining::Off, |listener| {
        serve(&listener, &[], 5);
        serve(&listener, &[], usize::MAX);
    });
    assert_eq!((sent.progress.accepted, sent.progress.in_doubt), (1, 1));
    assert_eq!(failure(&sent, Phase::Dot, 0), 1);
    assert_eq!(sent.in_doubt.count(), 1);
}

#[test]
fn a_server_that_talks_nonsense_ends_the_load_in_good_order() {
    let listener = TcpListener::bind(FREE_PORT).unwrap();
    let config = load::Config {
        target: listener.local_addr().unwrap(),
        sessions: 3,
        messages: 5,
        patience: Duration::from_millis(600),
        ..load::Config::default()
    };
    let load = load::start(config).unwrap();
    listener.set_nonblocking(true).unwrap();
    let nonsense: [&[u8]; 4] =
        [b"\r\n\r\n\r\n", b"\0\xff 99\r\n", b"250 what\r\n250 is\r\n250 this\r\n", &[b'2'; 10_000]];
    let mut turn = nonsense.iter().cycle();
    while !load.progress().done {
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(turn.next().unwrap());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let sent = load.join().unwrap();
    assert!(sent.stalled && sent.progress.accepted == 0 && sent.progress.errors > 3);
}

#[test]
fn idle_connections_are_held_and_counted() {
    let sink = start_sink();
    let config = idle::Config {
        target: sink.addresses()[0],
        connections: 300,
        sources: 3,
        pids: vec![std::process::id()],
        hold: Duration::from_millis(200),
        patience: Duration::from_secs(10),
    };
    let outcome = idle::run(&config).unwrap();
    assert_eq!((outcome.ready, outcome.lost), (300, 0));
    assert_eq!(sink.progress().open_max, 300);
    assert!(outcome.rss_after > 0 && outcome.pss_after > 0);
}
