//! Extensions of SMTP, load against sink: TLS, AUTH, BDAT; and contents of many sizes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use bench::account::Account;
use bench::load::{self, Auth, Mechanism, Pipelining, Sent};
use bench::sink::{self, Behaviour, Credentials, Listener, Received};
use bench::{Content, Tls, Transfer};

mod wire;
use wire::talk;

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn sink_with(behaviour: &str) -> sink::Config {
    let behaviour = if behaviour.is_empty() { Behaviour::default() } else { behaviour.parse().unwrap() };
    sink::Config { listeners: vec![Listener { address: FREE_PORT, behaviour }], ..sink::Config::default() }
}

fn small_load() -> load::Config {
    let patience = Duration::from_secs(10);
    load::Config { sessions: 10, messages: 300, patience, ..load::Config::default() }
}

fn drive(load: load::Config, sink: sink::Config) -> (Sent, Received, Account) {
    let sink = sink::start(sink).unwrap();
    let sent = load::start(load::Config { target: sink.addresses()[0], ..load }).unwrap().join().unwrap();
    let received = sink.join().unwrap();
    let account = Account::new(&sent, &received.ledger, 10);
    (sent, received, account)
}

fn assert_all_arrived(sent: &Sent, account: &Account) {
    let asked = u64::from(sent.messages) * u64::from(sent.recipients);
    assert!(account.holds(false), "{account} {:?}", sent.failures);
    assert_eq!((account.delivered, account.in_doubt), (asked, 0), "{account} {:?}", sent.failures);
    assert!(sent.failures.is_empty(), "{:?}", sent.failures);
}

fn error_of(load: load::Config, sink: sink::Config) -> std::io::Error {
    let sink = sink::start(sink).unwrap();
    let load = load::start(load::Config { target: sink.addresses()[0], ..load }).unwrap();
    load.join().unwrap_err()
}

#[test]
fn chunks_arrive_as_one_message() {
    // One beside the other, because connections mostly wait.
    thread::scope(|scope| {
        for chunk in [usize::MAX, 5000, 1000, 100] {
            scope.spawn(move || send_in_chunks(chunk));
        }
    });
}

fn send_in_chunks(chunk: usize) {
    for pipelining in [Pipelining::Off, Pipelining::Commands, Pipelining::Messages] {
        for content in [Content::Fixed(4096), Content::Varied, Content::Fixed(1)] {
            let transfer = Transfer::Bdat(chunk);
            let load =
                load::Config { transfer, pipelining, content, recipients: 2, domains: 3, ..small_load() };
            let (sent, received, account) = drive(load, sink_with(""));
            assert_all_arrived(&sent, &account);
            assert_eq!((received.progress.messages, sent.latency.count()), (300, 300));
        }
    }
}

#[test]
fn a_large_message_arrives_in_one_chunk() {
    let load = load::Config {
        transfer: Transfer::Bdat(usize::MAX),
        content: Content::Fixed(3_000_000),
        messages: 20,
        ..small_load()
    };
    let (sent, _, account) = drive(load, sink_with(""));
    assert_all_arrived(&sent, &account);
}

#[test]
fn refused_recipients_cost_only_themselves_with_chunks() {
    for pipelining in [Pipelining::Off, Pipelining::Commands] {
        for chunk in [usize::MAX, 1500] {
            let load = load::Config {
                transfer: Transfer::Bdat(chunk),
                pipelining,
                recipients: 2,
                retries: 5,
                ..small_load()
            };
            let (sent, received, account) = drive(load, sink_with("temp:30+perm:10"));
            assert!(account.holds(false), "{account}");
            assert_eq!(account.in_doubt, 0);
            assert!(account.delivered > 200 && account.delivered < 600, "{account}");
            assert_eq!(account.delivered, account.acknowledged);
            assert!(sent.progress.refused > 0 && received.progress.refused > 100);
            assert!(sent.failures.iter().all(|(failure, _)| failure.code >= 450), "{:?}", sent.failures);
        }
    }
}

#[test]
fn a_connection_that_breaks_behind_chunks_leaves_a_doubt() {
    let load = load::Config { transfer: Transfer::Bdat(1000), ..small_load() };
    let (sent, _, account) = drive(load, sink_with("drop:10"));
    assert!(account.holds(false), "{account}");
    assert!(sent.progress.in_doubt > 5 && account.in_doubt_delivered == 0, "{account}");
    assert_eq!(account.delivered + sent.progress.in_doubt, 300, "{account}");
}

#[test]
fn every_kind_of_tls_carries_every_message() {
    for tls in [Tls::StartTls, Tls::Implicit] {
        for (messages_per_session, transfer) in [(0, Transfer::Data), (7, Transfer::Bdat(900))] {
            let load = load::Config { tls, transfer, messages_per_session, ..small_load() };
            let (sent, received, account) = drive(load, sink::Config { tls, ..sink_with("") });
            assert_all_arrived(&sent, &account);
            assert_eq!(sent.progress.handshakes, sent.progress.connections);
            assert_eq!(received.progress.handshakes, sent.progress.connections);
            assert_eq!(sent.progress.resumed, 0);
        }
        // More than socket buffers and TLS records hold, over several threads.
        let content = Content::Fixed(2_000_000);
        let load = load::Config { tls, content, messages: 20, threads: 2, ..small_load() };
        let (sent, _, account) = drive(load, sink::Config { tls, threads: 2, ..sink_with("") });
        assert_all_arrived(&sent, &account);
        // A sink that takes its time also before its greeting and before the handshake.
        let load = load::Config { tls, messages: 10, ..small_load() };
        let (sent, _, account) = drive(load, sink::Config { tls, ..sink_with("delay:5ms") });
        assert_all_arrived(&sent, &account);
    }
}

#[test]
fn sessions_are_resumed_if_asked_for() {
    let tls = Tls::StartTls;
    let load = load::Config {
        tls,
        tls_resumption: true,
        sessions: 2,
        messages: 50,
        messages_per_session: 1,
        ..small_load()
    };
    let (sent, _, account) = drive(load, sink::Config { tls, ..sink_with("") });
    assert_all_arrived(&sent, &account);
    // The other session may have connected once more before the last message was taken.
    assert!((50..=51).contains(&sent.progress.handshakes), "{:?}", sent.progress);
    assert!(sent.progress.resumed >= 45, "{:?}", sent.progress);
}

#[test]
fn what_the_server_does_not_offer_is_an_error() {
    let load = load::Config { tls: Tls::StartTls, ..small_load() };
    let error = error_of(load, sink_with(""));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    let error = error_of(load::Config { auth: auth(Mechanism::Plain, "p"), ..small_load() }, sink_with(""));
    assert!(error.to_string().contains("AUTH PLAIN"), "{error}");
    let load = load::Config { transfer: Transfer::Bdat(1000), ..small_load() };
    let error = error_of(load, sink::Config { chunking: false, ..sink_with("") });
    assert!(error.to_string().contains("CHUNKING"), "{error}");
}

#[test]
fn a_failed_handshake_is_a_failure_and_no_crash() {
    // Either side expects what the other does not do.
    for (ours, theirs) in [(Tls::Implicit, Tls::Off), (Tls::Off, Tls::Implicit)] {
        let patience = Duration::from_millis(300);
        let load = load::Config { tls: ours, patience, messages: 5, ..small_load() };
        let (sent, received, account) = drive(load, sink::Config { tls: theirs, ..sink_with("") });
        assert!(sent.stalled && account.holds(false), "{account}");
        assert_eq!((sent.progress.accepted, sent.progress.in_doubt, received.progress.messages), (0, 0, 0));
        assert!(sent.progress.handshakes + received.progress.handshakes == 0);
    }
}

fn auth(mechanism: Mechanism, password: &str) -> Option<Auth> {
    Some(Auth { mechanism, user: "ann".into(), password: password.into() })
}

fn guarded_sink() -> sink::Config {
    let credentials = Credentials { user: "ann".into(), password: "s:cret ü".into() };
    sink::Config { auth: Some(credentials), ..sink_with("") }
}

#[test]
fn the_right_user_may_send() {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        for tls in [Tls::Off, Tls::StartTls] {
            let load = load::Config {
                auth: auth(mechanism, "s:cret ü"),
                tls,
                messages_per_session: 10,
                ..small_load()
            };
            let (sent, _, account) = drive(load, sink::Config { tls, ..guarded_sink() });
            assert_all_arrived(&sent, &account);
        }
        let load = load::Config { auth: auth(mechanism, "wrong"), ..small_load() };
        let error = error_of(load, guarded_sink());
        assert!(error.to_string().contains("535"), "{error}");
    }
    let (sent, received, _) = drive(small_load(), guarded_sink());
    assert_eq!((sent.progress.refused, received.progress.messages), (300, 0));
    assert!(sent.failures.iter().all(|(failure, _)| failure.code == 530), "{:?}", sent.failures);
}

#[test]
fn the_sink_keeps_the_order_of_chunks_and_credentials() {
    let sink = sink::start(guarded_sink()).unwrap();
    let input = b"EHLO a\r\nMAIL FROM:<a@b>\r\nAUTH CRAM-MD5\r\nAUTH PLAIN ?\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN AGFubgB4\r\n\
        auth login\r\nYW5u\r\neA==\r\nAUTH LOGIN YW5u\r\nczpjcmV0IMO8\r\nAUTH PLAIN AGFubgBzOmNyZXQgw7w=\r\n\
        BDAT 6\r\nQUIT\r\nBDAT\r\nMAIL FROM:<a@b>\r\nBDAT 2 LAST\r\nx\nMAIL FROM:<a@b>\r\nRCPT TO:<r@d>\r\n\
        BDAT 3\r\nabcDATA\r\nMAIL FROM:<a@b>\r\nBDAT 4\r\nd\r\n.BDAT 0 LAST\r\nBDAT 0 LAST\r\nMAIL FROM:<a@b>\r\n\
        RCPT TO:<r@d>\r\nBDAT 2\r\n\r\nRSET\r\nSTARTTLS\r\nQUIT\r\n";
    let expected = "220 250 530 504 501 334 501 535 334 334 535 334 235 503 503 501 250 503 250 250 250 503 503 250 250 503 250 250 250 250 500 221";
    for piece in [1, 3, 1000] {
        assert_eq!(talk(&sink, input, piece), expected, "pieces of {piece}");
    }
    assert_eq!(
        talk(&sink, b"AUTH PLAIN AGFubgBzOmNyZXQgw7w=\r\nBDAT 999999999999 LAST\r\n", 1000),
        "220 235 552"
    );
    assert_eq!(sink.join().unwrap().progress.messages, 3);
}

#[test]
fn nothing_may_be_smuggled_in_front_of_tls() {
    let sink = sink::start(sink::Config { tls: Tls::StartTls, ..sink_with("") }).unwrap();
    let input = b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nRCPT TO:<r@d>\r\nBDAT 0 LAST\r\nQUIT\r\n";
    assert_eq!(talk(&sink, input, 1000), "220 250 220");
    assert_eq!(sink.join().unwrap().progress.messages, 0);
}

#[test]
fn contents_of_all_kinds_arrive_intact() {
    let directory = std::env::temp_dir().join(format!("mtad-bench-load-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("1.eml"), "From: a\nSubject: one\n\nbody\n.\n..\nend").unwrap();
    std::fs::write(directory.join("2.eml"), b"Bcc: x\nSubject: \xc3\xa9\n\n\xff\r\r\n".as_slice()).unwrap();
    for content in
        ["1k..64k".parse().unwrap(), "1k:7,20k:2,300k:1".parse().unwrap(), Content::Eml(directory.clone())]
    {
        for transfer in [Transfer::Data, Transfer::Bdat(1000)] {
            let load = load::Config { content: content.clone(), transfer, threads: 2, ..small_load() };
            let (sent, _, account) = drive(load, sink_with(""));
            assert_all_arrived(&sent, &account);
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let gone = load::Config { content: Content::Eml(directory), ..small_load() };
    assert!(load::start(gone).is_err());
}
