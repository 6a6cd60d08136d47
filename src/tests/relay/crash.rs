//! kill -9 under load: what was acknowledged is there after the restart, whatever the number of shards.

use crate::process::Home;
use crate::traffic::{assert_at_least_once, await_accepted, load, settle, sink_with};
use bench::Content;
use bench::load::{self, Sent};
use std::time::Duration;

/// Acknowledgements before each kill.
const ACCEPTED_MIN: u64 = 300;

#[test]
fn nothing_acknowledged_is_lost_by_three_kills_with_other_numbers_of_shards() {
    // Some recipients wait for a retry at any time, so that every kill finds a queue.
    let moody: Vec<_> = (0..5).map(|number| format!("d{number}.example")).collect();
    let moody: Vec<_> = moody.iter().map(|name| (name.as_str(), "temp:10")).collect();
    let sink = sink_with(&moody);
    let home = Home::new("kill").route("*", sink.addresses()[0]);
    let rounds: Vec<Sent> = [2, 1, 3].map(|shards| round(&home, shards)).into();
    let relay = home.start(2);
    for sent in &rounds {
        assert_at_least_once(&settle(sent, &sink));
    }
    relay.await_rest();
    assert!(relay.metric("recipients_delivered_total") > 0, "the last kill left nothing to deliver");
    relay.stop();
    let relay = home.start(1);
    relay.await_rest();
    assert_eq!(relay.metric("recipients_delivered_total"), 0, "something was left after all");
    relay.stop();
    let received = sink.join().unwrap();
    assert_eq!((received.ledger.altered, received.ledger.foreign), (0, 0));
}

/// Starts, loads, kills.
fn round(home: &Home, shards: usize) -> Sent {
    let relay = home.start(shards);
    let config = load::Config { content: Content::Varied, recipients: 2, ..load(home, 1_000_000) };
    let load = load::start(config).unwrap();
    await_accepted(&load, ACCEPTED_MIN);
    std::thread::sleep(Duration::from_millis(300));
    relay.kill();
    load.stop();
    load.join().unwrap()
}
