//! Ordinary rounds: mail in, mail out; and connections that do nothing.

use std::io;
use std::time::Duration;

use super::Stage;
use crate::figures::{self, higher, lower};
use crate::suite::Round;
use crate::{idle, run};

/// Connections to hold.
const IDLE_CONNECTIONS: u64 = 10_000;
/// How long they are held while CPU time is read.
const HOLD: Duration = Duration::from_secs(5);
/// How long to try to open them.
const OPENING: Duration = Duration::from_secs(20);
/// Loopback addresses that they come from.
const SOURCES: usize = 4;

pub(super) fn play(stage: &Stage) -> io::Result<Round> {
    let relay = stage.start()?;
    let report = run::run(stage.config(&relay, stage.messages), |_| {})?;
    let mut round = figures::round(&report, stage.scenario.figures);
    if report.account.missing > 0 {
        // What the relay still has is not lost, but it did not come either.
        round.trouble.push_str(&format!("; the relay says that it has {} queued", relay.queued()?));
    }
    Ok(round)
}

pub(super) fn idle(stage: &Stage) -> io::Result<Round> {
    let relay = stage.start()?;
    let outcome = idle::run(&idle::Config {
        target: stage.target(),
        connections: IDLE_CONNECTIONS,
        sources: SOURCES,
        pids: relay.pids.clone(),
        hold: HOLD,
        patience: OPENING,
    })?;
    let gained = outcome.pss_after.saturating_sub(outcome.pss_before) as f64;
    let milliseconds = outcome.cpu_held as f64 / 1000.0;
    Ok(Round {
        figures: vec![
            higher("held", "connections", outcome.ready as f64),
            lower("PSS", "bytes/connection", gained / outcome.ready.max(1) as f64),
            lower("CPU while held", "ms/s", milliseconds / HOLD.as_secs_f64()),
        ],
        trouble: if outcome.ready == 0 { "no connection was greeted".into() } else { String::new() },
        ..Round::default()
    })
}
