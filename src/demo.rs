//! Shows the relay at work: a load, the relay on its defaults, a sink as next hop, and an account of every message.

use crate::arguments::Shards;
use crate::configuration::Settings;
use crate::cores::CoreMap;
use crate::relay::Relay;
use bench::account::Account;
use bench::sink::{Behaviour, Listener};
use bench::{Content, clock, load, sink};
use shard::config::{Config, DomainPattern, NextHop, Retry, Route};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two lines of figures.
const LINE: Duration = Duration::from_millis(500);
/// Nothing moved for this long: the demo ends and says what is missing.
const SILENCE_NS: u64 = 20_000_000_000;
/// One recipient domain whose sink refuses some recipients for good and some for now, to show reports and retries.
const MOODY: &str = "d0.example";

/// How the demo runs.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages to send.
    #[arg(long, default_value_t = 100_000)]
    messages: u32,
    /// Sessions that send them.
    #[arg(long, default_value_t = 100)]
    sessions: usize,
    /// Recipient domains.
    #[arg(long, default_value_t = 50)]
    domains: u32,
    /// Number of shards.
    #[arg(long, default_value = "auto", value_name = "auto|N")]
    shards: Shards,
    /// Where to keep the spool; removed at the end.
    #[arg(long, default_value = "spool-demo")]
    spool: PathBuf,
}

/// Runs the demo; an error when a message is unaccounted for.
pub fn run(arguments: Arguments) -> Result<(), String> {
    let moody = Behaviour { temporary_percent: 2.0, permanent_percent: 0.5, ..Behaviour::default() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sink = sink::start(sink::Config {
        listeners: vec![Listener { address, behaviour: Behaviour::default() }],
        domains: vec![(MOODY.into(), moody)],
        ..sink::Config::default()
    });
    let sink = sink.map_err(|error| format!("the sink cannot start: {error}"))?;
    let config = config(&arguments.spool, sink.addresses()[0])?;
    let target = config.listen[0].address;
    crate::doctor::raise_open_files();
    crate::doctor::needs(&config).map_err(|reasons| reasons.join("\nmtad: "))?;
    let cores = CoreMap::new(arguments.shards, &crate::cores::look()).cpus();
    let messages = arguments.messages;
    println!(
        "{messages} messages of 1 to 64 KiB over {} sessions to {} domains, {} shards at {target},\n\
         every message synced to {} before its 250; {MOODY} refuses 0.5% of its recipients for good and 2% for now.\n",
        arguments.sessions,
        arguments.domains,
        cores.len(),
        config.spool.path.display()
    );
    let relay = Relay::start(config, &cores, None, None)?;
    let load = load::start(load::Config {
        target,
        sessions: arguments.sessions,
        messages,
        content: Content::Varied,
        domains: arguments.domains,
        ..load::Config::default()
    });
    let load = load.map_err(|error| format!("the load cannot start: {error}"))?;
    let begun = clock::now();
    watch(&relay, &load, &sink, messages);
    let seconds = (clock::now() - begun) as f64 / 1e9;
    let sent = load.join().map_err(|error| format!("the load failed: {error}"))?;
    relay.stop(Duration::from_secs(10))?;
    let received = sink.join().map_err(|error| format!("the sink failed: {error}"))?;
    std::fs::remove_dir_all(&arguments.spool).map_err(|error| format!("the spool stays behind: {error}"))?;
    summarise(&Account::new(&sent, &received.ledger, 10), &sent, &received, seconds)
}

/// The defaults, but for a free port, the sink as next hop, a spool of its own, and retries that do not take minutes.
fn config(spool: &Path, sink: SocketAddr) -> Result<Config, String> {
    if spool.exists() {
        return Err(format!("{} exists; remove it, or name another place with --spool", spool.display()));
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let mut config = Settings::default().relay;
    config.listen[0].address = free.map_err(|error| format!("no free port: {error}"))?;
    config.spool.path = spool.to_owned();
    config.routes = vec![Route { domain: DomainPattern::Any, to: vec![NextHop::Address(sink)] }];
    config.retry = Retry { intervals: vec![Duration::from_secs(1)], ..Retry::default() };
    Ok(config)
}

/// Prints figures until every acknowledged message is accounted for, or nothing moves any more.
fn watch(relay: &Relay, load: &load::Handle, sink: &sink::Handle, messages: u32) {
    println!("   time     in/s  durable/s  delivered/s   backlog  accept p50/p99 ms  end to end p50/p99 ms");
    let snapshots = relay.snapshots();
    let durable = || {
        snapshots()
            .iter()
            .flat_map(|s| s.counters.clone())
            .filter(|c| c.0 == "messages_accepted")
            .map(|c| c.2)
            .sum()
    };
    let begun = clock::now();
    let mut last = (0u64, 0u64, 0u64, begun);
    let mut moved = begun;
    loop {
        std::thread::sleep(LINE);
        let (sent, got, stored): (_, _, u64) = (load.progress(), sink.progress(), durable());
        let arrived = got.delivered + got.reported;
        let now = clock::now();
        let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 * 1e9 / (now - last.3) as f64;
        println!(
            "{:6.1} s {:8.0} {:10.0} {:12.0} {:9} {:9.1} /{:7.1} {:13.1} /{:7.1}",
            (now - begun) as f64 / 1e9,
            rate(sent.accepted, last.0),
            rate(stored, last.1),
            rate(arrived, last.2),
            sent.accepted_recipients.saturating_sub(arrived),
            sent.p50 as f64 / 1e3,
            sent.p99 as f64 / 1e3,
            got.p50 as f64 / 1e3,
            got.p99 as f64 / 1e3,
        );
        if (sent.accepted, arrived) != (last.0, last.2) {
            moved = now;
        }
        last = (sent.accepted, stored, arrived, now);
        let complete = sent.done
            && arrived >= sent.accepted_recipients
            && sent.accepted + sent.refused >= u64::from(messages);
        if complete || now - moved > SILENCE_NS {
            return;
        }
    }
}

fn summarise(
    account: &Account,
    sent: &load::Sent,
    received: &sink::Received,
    seconds: f64,
) -> Result<(), String> {
    println!("\n{} acknowledged in {seconds:.1} s, each on disk first; of these", account.acknowledged);
    println!("  {:9} delivered once, content unchanged", account.delivered);
    println!("  {:9} failed, reported to the sender", account.reported);
    println!("  {:9} delivered more than once", account.repeated);
    println!("  {:9} altered", account.altered);
    println!("  {:9} missing", account.missing);
    println!("  {:9} refused by the relay", sent.progress.refused);
    println!("the sink refused {} recipients on purpose", received.progress.refused);
    if account.holds(false) {
        println!("every message is accounted for");
        return Ok(());
    }
    Err("messages are unaccounted for".into())
}
