//! Mail beside a bad neighbour: the same run undisturbed and disturbed, one after the other.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Stage;
use super::stage::sink_at;
use crate::figures::{self, higher, lower, milliseconds};
use crate::report::Report;
use crate::sink::Behaviour;
use crate::suite::{Figure, Round};
use crate::{clock, drip, load, run, sink};

/// Where the domains of the neighbour lie; those of the mail that counts are beside it.
const NEIGHBOUR: &str = "neighbour.example";
/// Time that the neighbour takes for every reply.
const SLOWNESS: Duration = Duration::from_secs(10);
/// Slow clients, and how slow they are.
const DRIPS: u64 = 1000;
const DRIP_OPENING: Duration = Duration::from_millis(2);
const DRIP_PAUSE: Duration = Duration::from_millis(500);
/// Until as many of them as there will be are connected.
const DRIP_SETTLING: Duration = Duration::from_secs(3);

/// The neighbour's domains to the last next hop.
pub(super) fn routes(hops: &[SocketAddr]) -> Vec<(String, SocketAddr)> {
    hops.last().map(|&hop| (NEIGHBOUR.to_string(), hop)).into_iter().collect()
}

/// Half of the mail is for a neighbour who answers at once, then for one who does not.
pub(super) fn tarpit(stage: &Stage) -> io::Result<Round> {
    let undisturbed = beside(stage, Behaviour::default())?;
    let disturbed = beside(stage, Behaviour { delay: SLOWNESS, ..Behaviour::default() })?;
    Ok(pair(&undisturbed, &disturbed, Vec::new()))
}

fn beside(stage: &Stage, behaviour: Behaviour) -> io::Result<Report> {
    let relay = stage.start()?;
    let mut config = stage.config(&relay, stage.messages);
    let other = config.sink.listeners.split_off(1);
    let others: Vec<_> = other.iter().map(|listener| listener.address).collect();
    let slow = sink::start(sink_at(&others, &behaviour))?;
    let load = load::start(load::Config {
        messages: stage.messages,
        domain_suffix: NEIGHBOUR.into(),
        ..stage.load()
    })?;
    let report = run::run(config, |_| {});
    load.stop();
    // The neighbour's queue would take hours to drain.
    relay.kill()?;
    load.join()?;
    drop(slow);
    report
}

/// The mail alone, then beside a thousand clients that hold connections.
pub(super) fn drip(stage: &Stage) -> io::Result<Round> {
    let alone = stage.start()?;
    let undisturbed = run::run(stage.config(&alone, stage.messages), |_| {})?;
    drop(alone);
    let relay = stage.start()?;
    let drips = drip::start(drip::Config {
        target: stage.target(),
        connections: DRIPS,
        opening: DRIP_OPENING,
        pause: DRIP_PAUSE,
    })?;
    clock::pause(DRIP_SETTLING);
    let disturbed = run::run(stage.config(&relay, stage.messages), |_| {})?;
    let ended = drips.join()?.ended as f64;
    Ok(pair(&undisturbed, &disturbed, vec![figures::neutral("slow clients sent away", "connections", ended)]))
}

fn pair(undisturbed: &Report, disturbed: &Report, more: Vec<Figure>) -> Round {
    let rate = |report: &Report| report.throughput.delivered_per_second;
    let share = if rate(undisturbed) > 0.0 { rate(disturbed) / rate(undisturbed) } else { 0.0 };
    let mut figures = vec![
        higher("kept", "share", share),
        higher("delivered", "deliveries/s", rate(disturbed)),
        higher("delivered undisturbed", "deliveries/s", rate(undisturbed)),
        lower("accept p99", "ms", milliseconds(disturbed.acceptance.p99)),
        lower("accept p99 undisturbed", "ms", milliseconds(undisturbed.acceptance.p99)),
        lower("end to end p99", "ms", milliseconds(disturbed.end_to_end.p99)),
        lower("end to end p99 undisturbed", "ms", milliseconds(undisturbed.end_to_end.p99)),
    ];
    figures.extend(more);
    let mut round = figures::with(disturbed, figures);
    let before = figures::trouble(undisturbed);
    if !before.is_empty() {
        round.trouble = format!("undisturbed: {before}");
    }
    round
}
