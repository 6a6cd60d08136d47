//! What the relay writes itself: the trace field, and reports of failure.

use crate::meter::count;
use mail::bounce::{self, Action, Report, Told};
use mail::trace::{self, Received};
use mail::{Address, MessageId, Reply, WallTime};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

const ROUNDS: u64 = 200;
const WALL: WallTime = WallTime(1_795_566_960_000_000);

fn address(text: &str) -> Address {
    Address::parse(text, false).expect("a mailbox")
}

fn header() -> Vec<u8> {
    let received = "Received: from a.example ([192.0.2.9])\r\n\tby b.example with ESMTP id 1;\r\n\tWed, 25 Nov 2026 00:36:00 +0000\r\n";
    let rest = "From: <sender@from.example>\r\nTo: <recipient@to.example>\r\nSubject: a message\r\nMessage-ID: <1@from.example>\r\n\r\n";
    (received.repeat(4) + rest).into_bytes()
}

/// The `Received` field, and the count of those that are there already.
pub fn trace_fields() -> u64 {
    let (recipient, header) = (address("recipient@to.example"), header());
    let field = Received {
        helo: "client.example",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        hostname: "mx.example.org",
        protocol: "ESMTP",
        id: MessageId(1),
        recipient: Some(&recipient),
        at: WALL,
    };
    let all = || {
        for _ in 0..ROUNDS {
            drop(black_box(trace::received(black_box(&field))));
            assert_eq!(trace::hops(black_box(&header)), 4);
        }
    };
    all();
    count(all);
    ROUNDS
}

/// A report on two recipients.
pub fn reports() -> u64 {
    let (sender, header) = (address("sender@from.example"), header());
    let failure = |recipient, text| Told {
        recipient: address(recipient),
        original: None,
        reply: Reply::new(550, (5, 1, 1), text),
        next_hop: Some("mx.to.example".to_owned()),
    };
    let failures = [
        failure("a@to.example", "No such user here"),
        failure("b@to.example", "Mailbox is closed\nfor good"),
    ];
    let report = Report {
        hostname: "mx.example.org",
        id: MessageId(2),
        at: WALL,
        sender: &sender,
        original: MessageId(1),
        envelope_id: None,
        arrived: WALL,
        action: Action::Failed,
        recipients: &failures,
        message: &header,
        full: None,
        utf8: false,
    };
    let all = || (0..ROUNDS).for_each(|_| drop(black_box(bounce::report(black_box(&report)))));
    all();
    count(all);
    ROUNDS
}
