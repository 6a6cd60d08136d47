//! Everything acknowledged comes out or is reported, while the relay and its next hop live.

use crate::process::Home;
use crate::traffic::{self, load, run, settle, sink, sink_with};
use bench::load::{self, Pipelining};
use bench::sink as rig_sink;
use std::time::{Duration, Instant};

/// More than the relay's grace time and what it takes to end, on a crowded machine.
const STOP_MAX: Duration = Duration::from_secs(45);

#[test]
fn two_shards_carry_a_load_to_fifty_domains() {
    let sink = sink();
    let home = Home::new("carry").route("*", sink.addresses()[0]);
    let relay = home.start(2);
    let config =
        load::Config { sessions: 50, domains: 50, pipelining: Pipelining::Messages, ..load(&home, 5000) };
    let (_, account) = run(config, &sink);
    assert_eq!((account.acknowledged, account.delivered), (5000, 5000));
    relay.await_metric("recipients_delivered_total", 5000);
    assert_eq!(relay.metric("messages_accepted_total"), 5000);
    relay.await_rest();
    relay.stop();
    assert_eq!(sink.join().unwrap().domains.len(), 50);
}

#[test]
fn a_next_hop_that_comes_up_late_gets_everything() {
    let home = Home::new("late");
    let hop = home.at(2526);
    let home = home.route("*", hop);
    let relay = home.start(2);
    let sent = load::start(load(&home, 1000)).unwrap().join().unwrap();
    assert_eq!(sent.acknowledged.count(), 1000);
    // The destination rests between two attempts, so a second of them shows that it is tried again.
    crate::process::await_true("two attempts in vain", || relay.metric("connections_failed_total") >= 2);
    assert_eq!(relay.metric("recipients_delivered_total"), 0);
    let sink = rig_sink::start(traffic::sink_at(&[hop])).unwrap();
    traffic::assert_once(&settle(&sent, &sink));
    relay.await_rest();
    relay.stop();
}

#[test]
fn refused_recipients_are_reported_and_others_are_not() {
    let sink = sink_with(&[("d0.example", "perm:100"), ("d1.example", "perm:30"), ("d2.example", "temp:10")]);
    let home = Home::new("reports").route("*", sink.addresses()[0]);
    let relay = home.start(2);
    let config = load::Config { recipients: 3, ..load(&home, 1000) };
    let (_, account) = run(config, &sink);
    assert_eq!(account.delivered + account.reported, 3000, "{account:?}");
    // A tenth of the recipients is of each domain.
    assert!((301..600).contains(&account.reported), "{account:?}");
    relay.await_rest();
    assert_eq!(relay.metric("recipients_failed_total"), account.reported);
    assert!(relay.metric("recipients_deferred_total") > 0);
    assert!(relay.metric("bounces_sent_total") > 0);
    relay.stop();
    assert_eq!(sink.join().unwrap().progress.reported, account.reported);
}

#[test]
fn a_stop_under_load_is_orderly() {
    let sink = sink();
    let home = Home::new("stop").route("*", sink.addresses()[0]);
    let relay = home.start(2);
    let load = load::start(load(&home, 1_000_000)).unwrap();
    traffic::await_accepted(&load, 500);
    let begun = Instant::now();
    relay.terminate();
    load.stop();
    let sent = load.join().unwrap();
    assert_eq!(relay.wait().code(), Some(0));
    assert!(begun.elapsed() < STOP_MAX, "{:?}", begun.elapsed());
    // What the stop left in the queue is delivered by the next start, and nothing is delivered by both.
    let relay = home.start(1);
    let account = settle(&sent, &sink);
    traffic::assert_once(&account);
    assert_eq!(account.in_doubt, 0, "a message was neither acknowledged nor refused");
    relay.await_rest();
    relay.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_next_hop_that_is_slow() {
    let sink = sink_with(&[("d0.example", "delay:60s")]);
    let home = Home::new("slow").route("d0.example", sink.addresses()[0]);
    let relay = home.start(2);
    let sent = load::start(load::Config { domains: 1, ..load(&home, 10) }).unwrap().join().unwrap();
    assert_eq!(sent.acknowledged.count(), 10);
    let begun = Instant::now();
    relay.stop();
    assert!(begun.elapsed() < STOP_MAX, "{:?}", begun.elapsed());
}
