//! What sessions consist of: content, whole transactions in and out, the parsers.

use crate::meter::count;
use mail::{Address, Envelope, MessageId, Time, WallTime};
use smtp::command;
use smtp::data::Decoder;
use smtp::{receive, send};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

/// Times that a piece is done; the same number of times before, uncounted.
const ROUNDS: u64 = 200;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const WALL: WallTime = WallTime(1_795_566_960_000_000);
const NOW: Time = Time(1_000_000_000);
/// A line as it stands in most mail: 66 bytes.
const LINE: &[u8] = b"A line of text as it stands in most mail, neither short nor long.\r\n";
/// Bytes that come at once.
const CHUNK: usize = 16 << 10;

/// `bytes` of content as DATA carries it, the final dot included.
fn wire(line: &[u8], bytes: usize) -> Vec<u8> {
    let mut wire = line.repeat(bytes / line.len());
    wire.extend_from_slice(b".\r\n");
    wire
}

fn decode(wire: &[u8]) -> u64 {
    let once = || {
        let (mut decoder, mut content) = (Decoder::new(), Vec::new());
        wire.chunks(CHUNK).for_each(|chunk| assert_eq!(decoder.decode(chunk, &mut content), chunk.len()));
        assert!(decoder.is_complete());
        content
    };
    once();
    count(|| (0..ROUNDS).for_each(|_| drop(black_box(once()))));
    ROUNDS
}

/// 4 KiB of text.
pub fn decoder_4k() -> u64 {
    decode(&wire(LINE, 4 << 10))
}

/// 64 KiB of text in pieces of 16 KiB.
pub fn decoder_64k() -> u64 {
    decode(&wire(LINE, 64 << 10))
}

/// 4 KiB of short lines that all begin with a dot.
pub fn decoder_dots() -> u64 {
    decode(&wire(b"..list\r\n", 4 << 10))
}

/// A driver in memory that takes every message.
struct Server {
    session: receive::Session,
    out: Vec<u8>,
    stored: u64,
}

impl Server {
    fn new() -> Server {
        let profile = Rc::new(receive::Profile::new("mx.example.org"));
        let session = receive::Session::new(profile, CLIENT, NOW);
        let mut server = Server { session, out: Vec::new(), stored: 0 };
        server.run();
        server
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.session.feed(bytes, NOW);
        self.run();
    }

    fn run(&mut self) {
        loop {
            match self.session.step(NOW, &mut self.out) {
                receive::Step::Login(ticket) => {
                    ticket.answer(&mut self.session, auth::Answer::Denied, &mut self.out)
                }
                receive::Step::NeedBytes => return self.out.clear(),
                receive::Step::Ask(ticket) => ticket.answer(&mut self.session, Ok(()), &mut self.out),
                receive::Step::Begin(ticket) => {
                    ticket.answer(&mut self.session, Ok((MessageId(self.stored), WALL)), &mut self.out);
                }
                receive::Step::Store(ticket, incoming) => {
                    self.stored += 1;
                    drop(black_box(incoming));
                    ticket.answer(&mut self.session, Ok(()), &mut self.out);
                }
                receive::Step::Close(reason) => panic!("closed: {reason:?}"),
            }
        }
    }
}

/// Whole transactions of 4 KiB on one connection of a client that pipelines: commands in one chunk, content in one.
pub fn receive() -> u64 {
    let commands = b"MAIL FROM:<sender@from.example> SIZE=4087\r\nRCPT TO:<recipient@to.example>\r\nDATA\r\n";
    let header = b"From: <sender@from.example>\r\nTo: <recipient@to.example>\r\nSubject: a message\r\n\r\n";
    let content = [&header[..], &wire(LINE, 4 << 10)].concat();
    let mut server = Server::new();
    server.feed(b"EHLO client.example\r\n");
    let mut transactions = || {
        for _ in 0..ROUNDS {
            server.feed(commands);
            server.feed(&content);
        }
    };
    transactions();
    count(transactions);
    assert_eq!(server.stored, 2 * ROUNDS);
    ROUNDS
}

/// Whole transactions on one connection to a next hop with PIPELINING.
pub fn send() -> u64 {
    let mut session = send::Session::new(Rc::new(send::Profile::new("mx.example.org")), NOW);
    let mut out = Vec::new();
    session.feed(b"220 to.example ESMTP\r\n");
    assert_eq!(session.step(NOW, &mut out), send::Step::NeedBytes);
    session.feed(b"250-to.example\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n");
    assert_eq!(session.step(NOW, &mut out), send::Step::Ready);
    let envelope = Envelope {
        sender: Some(address("sender@from.example")),
        recipients: vec![address("recipient@to.example")],
        ..Envelope::default()
    };
    let envelope = Arc::new(envelope);
    let transaction = |_| send::Transaction {
        envelope: envelope.clone(),
        recipients: [0].into_iter().collect(),
        size: 4096,
        time_left: None,
    };
    let transactions: Vec<_> = (0..2 * ROUNDS).map(transaction).collect();
    let mut transactions = transactions.into_iter();
    let mut go =
        || transactions.by_ref().take(ROUNDS as usize).for_each(|t| transact(&mut session, t, &mut out));
    go();
    count(go);
    ROUNDS
}

fn transact(session: &mut send::Session, transaction: send::Transaction, out: &mut Vec<u8>) {
    out.clear();
    session.begin(transaction, NOW, out);
    assert_eq!(session.step(NOW, out), send::Step::NeedBytes);
    session.feed(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n");
    assert_eq!(session.step(NOW, out), send::Step::Content);
    session.content_sent(NOW);
    assert_eq!(session.step(NOW, out), send::Step::NeedBytes);
    session.feed(b"250 2.0.0 Ok: queued as 0123456789ABC\r\n");
    assert!(matches!(session.step(NOW, out), send::Step::Done(outcomes) if outcomes[0].is_final()));
    assert_eq!(session.step(NOW, out), send::Step::Ready);
}

fn address(text: &str) -> Address {
    Address::parse(text, false).expect("a mailbox")
}

/// Mailboxes of every form.
pub fn addresses() -> u64 {
    let texts = [
        "a@b.example",
        "first.last+tag@Mail.Example.COM",
        "recipient1234567890@department.organisation.example.org",
        "\"quoted local\"@example.net",
        "user@[192.0.2.1]",
    ];
    let all = || (0..ROUNDS).for_each(|_| texts.iter().for_each(|text| drop(black_box(address(text)))));
    all();
    count(all);
    ROUNDS * texts.len() as u64
}

/// The commands of a transaction, and some others.
pub fn commands() -> u64 {
    let lines: [&[u8]; 6] = [
        b"EHLO client.example",
        b"MAIL FROM:<sender@from.example> SIZE=4096 BODY=8BITMIME",
        b"RCPT TO:<recipient@to.example>",
        b"DATA",
        b"RSET",
        b"QUIT",
    ];
    let all = || {
        for line in lines.iter().cycle().take(lines.len() * ROUNDS as usize) {
            black_box(command::parse(black_box(line))).expect("a command");
        }
    };
    all();
    count(all);
    ROUNDS * lines.len() as u64
}
