//! Recipients go where the most specific route says, and get the message to the letter.

use crate::client::Client;
use crate::next_hop::{Arrived, NextHop};
use crate::process::{Home, await_true};
use crate::traffic::{load, run, sink_at};
use bench::{load as rig_load, sink as rig_sink};

#[test]
fn a_message_is_split_among_next_hops_by_the_domains_of_its_recipients() {
    let (east, west) = (NextHop::start(), NextHop::start());
    let home = Home::new("split")
        .route("*", west.address)
        .route(".east.example", east.address)
        .route("west.east.example", west.address);
    let relay = home.start(2);
    let mut client = Client::greeted(home.smtp());
    let recipients =
        ["1@a.east.example", "2@west.east.example", "3@b.east.example", "4@east.example", "5@a.east.example"];
    client.deliver(
        "<jörg@client.example> SMTPUTF8",
        &recipients,
        "Subject: grüße\r\n\r\n...\r\n..a\r\né\r\n".as_bytes(),
    );
    client.quit();
    // Each destination is a transaction of its own, and domains on the same route are the same destination.
    await_true("all parts", || east.arrived().len() == 1 && west.arrived().len() == 1);
    let part = |hop: &NextHop| {
        let arrived = hop.arrived().remove(0);
        assert_eq!(arrived.original(), "Subject: grüße\r\n\r\n..\r\n.a\r\né\r\n".as_bytes());
        assert_eq!(arrived.mail, "<jörg@client.example> BODY=8BITMIME SMTPUTF8");
        arrived.recipients
    };
    assert_eq!(part(&east), ["1@a.east.example", "3@b.east.example", "5@a.east.example"]);
    assert_eq!(part(&west), ["2@west.east.example", "4@east.example"]);
    relay.await_rest();
    assert_eq!(relay.metric("recipients_delivered_total"), 5);
    relay.stop();
}

#[test]
fn a_load_with_several_recipients_per_message_is_split_among_two_next_hops() {
    let home = Home::new("parts");
    let hops = [home.at(2526), home.at(2527)];
    let home = home.route(".example", hops[0]).route("d3.example", hops[1]).route("d7.example", hops[1]);
    let sink = rig_sink::start(sink_at(&hops)).unwrap();
    let relay = home.start(2);
    let config = rig_load::Config { content: bench::Content::Varied, recipients: 5, ..load(&home, 400) };
    let (_, account) = run(config, &sink);
    assert_eq!(account.delivered, 2000);
    relay.await_rest();
    relay.stop();
    let lanes = sink.join().unwrap().lanes;
    assert_eq!(lanes.iter().map(|lane| lane.latency.count()).collect::<Vec<_>>(), [1600, 400]);
}

/// Content that must not change on its way, as it goes over the wire.
const WIRES: [&[u8]; 6] = [
    b"",
    b"\r\n",
    b"..\r\n",
    b"Subject: x\r\n\r\n...\r\n..two\r\n\r\n..\r\n",
    b"x\t\xff\x80\xc3\r\n",
    "Received: from é\r\n\tby x\r\nSubject: ünïcödé\r\n\r\n..日本\r\n".as_bytes(),
];

#[test]
fn content_arrives_to_the_letter() {
    let hop = NextHop::start();
    let home = Home::new("letter").route("*", hop.address);
    let relay = home.start(1);
    let long = [&b"a".repeat(998)[..], b"\r\n"].concat().repeat(2000);
    let mut client = Client::greeted(home.smtp());
    let mut expected = Vec::new();
    for (number, wire) in WIRES.into_iter().chain([&long[..]]).enumerate() {
        let recipient = format!("r{number}@d.example");
        client.deliver("<a@client.example>", &[&recipient], wire);
        let dotless =
            wire.split_inclusive(|&byte| byte == b'\n').map(|line| line.strip_prefix(b".").unwrap_or(line));
        expected.push((recipient, dotless.collect::<Vec<_>>().concat()));
    }
    client.quit();
    await_true("all messages", || hop.arrived().len() == expected.len());
    let mut arrived: Vec<(String, Vec<u8>)> = Vec::new();
    for Arrived { recipients, .. } in &hop.arrived() {
        assert_eq!(recipients.len(), 1);
    }
    arrived.extend(hop.arrived().iter().map(|one| (one.recipients[0].clone(), one.original().to_vec())));
    arrived.sort();
    assert!(
        arrived == expected,
        "{} messages were altered",
        arrived.iter().zip(&expected).filter(|(a, b)| a != b).count()
    );
    relay.await_rest();
    relay.stop();
}
