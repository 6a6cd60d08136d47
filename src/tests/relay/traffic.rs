//! The rig's load and sink around a relay.

use crate::process::Home;
use bench::account::Account;
use bench::load::{self, Sent};
use bench::sink::{self, Behaviour, Listener};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Nothing has moved for this long: what is missing will not come.
const SILENCE: Duration = Duration::from_secs(15);
/// How long repeats may take to show.
const LINGER: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(20);

/// A sink on any free port.
pub fn sink() -> sink::Handle {
    sink_with(&[])
}

/// A sink that treats some recipient domains in its own way.
pub fn sink_with(domains: &[(&str, &str)]) -> sink::Handle {
    let domains = domains.iter().map(|(name, behaviour)| (name.to_string(), behaviour.parse().unwrap()));
    let domains = domains.collect();
    sink::start(sink::Config { domains, ..sink_at(&[SocketAddr::from(([127, 0, 0, 1], 0))]) }).unwrap()
}

/// The configuration of a sink that listens at these addresses and does what it should.
pub fn sink_at(addresses: &[SocketAddr]) -> sink::Config {
    let listeners = addresses.iter().map(|&address| Listener { address, behaviour: Behaviour::default() });
    sink::Config { listeners: listeners.collect(), ..sink::Config::default() }
}

/// A load on the relay of `home` with what most tests want: `messages` of 4 KiB, pipelined.
pub fn load(home: &Home, messages: u32) -> load::Config {
    load::Config {
        target: home.smtp(),
        sessions: 20,
        messages,
        domains: 10,
        patience: Duration::from_secs(10),
        ..load::Config::default()
    }
}

/// Waits until `count` messages of a running load are acknowledged.
pub fn await_accepted(load: &load::Handle, count: u64) {
    crate::process::await_true("acknowledged messages", || load.progress().accepted >= count);
}

/// Waits until everything acknowledged is accounted for, or nothing more comes, and accounts.
pub fn settle(sent: &Sent, sink: &sink::Handle) -> Account {
    let mut moved = (Instant::now(), 0);
    loop {
        let progress = sink.progress();
        if progress.last != moved.1 {
            moved = (Instant::now(), progress.last);
        }
        let account = Account::new(sent, &sink.received().ledger, 10);
        if account.missing == 0 || moved.0.elapsed() > SILENCE {
            std::thread::sleep(LINGER);
            return Account::new(sent, &sink.received().ledger, 10);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends it all through to the sink; every message is accepted and accounted for, unchanged and once.
pub fn run(config: load::Config, sink: &sink::Handle) -> (Sent, Account) {
    let sent = load::start(config).unwrap().join().unwrap();
    let account = settle(&sent, sink);
    assert_once(&account);
    assert_eq!((account.not_sent, account.in_doubt, account.foreign), (0, 0, 0), "{account:?}");
    assert!(sent.failures.is_empty(), "{:?}", sent.failures);
    (sent, account)
}

/// Nothing acknowledged is missing, altered or repeated.
pub fn assert_once(account: &Account) {
    assert!(account.holds(false) && account.acknowledged > 0, "{account:?}");
}

/// Nothing acknowledged is missing or altered.
pub fn assert_at_least_once(account: &Account) {
    assert!(account.holds(true) && account.acknowledged > 0, "{account:?}");
}
