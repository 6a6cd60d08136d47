//! Figures of a round, under the names and units that all scenarios share.

use crate::latency::Summary;
use crate::report::{Report, Verdict};
use crate::suite::{Better, Figure, Round};

/// A figure for which more is better.
pub(crate) fn higher(name: &str, unit: &str, value: f64) -> Figure {
    figure(name, unit, Better::Higher, value)
}

/// A figure for which less is better.
pub(crate) fn lower(name: &str, unit: &str, value: f64) -> Figure {
    figure(name, unit, Better::Lower, value)
}

/// A figure for information.
pub(crate) fn neutral(name: &str, unit: &str, value: f64) -> Figure {
    figure(name, unit, Better::Neither, value)
}

fn figure(name: &str, unit: &str, better: Better, value: f64) -> Figure {
    Figure { name: name.into(), unit: unit.into(), better, value }
}

/// Bytes as MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Microseconds as milliseconds.
pub(crate) fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// A round with the figures of a run that have these names, in this order.
pub(crate) fn round(report: &Report, names: &[&str]) -> Round {
    let mut all = figures(report);
    let place = |name: &str| names.iter().position(|wanted| *wanted == name);
    all.retain(|figure| place(&figure.name).is_some());
    all.sort_by_key(|figure| place(&figure.name));
    with(report, all)
}

/// A round with figures of its own, and all else from a run.
pub(crate) fn with(report: &Report, figures: Vec<Figure>) -> Round {
    Round {
        figures,
        curves: report.curves.clone(),
        timeline: report.timeline.clone(),
        trouble: trouble(report),
    }
}

/// Everything that a run has to say; what was not observed is absent.
fn figures(report: &Report) -> Vec<Figure> {
    let throughput = &report.throughput;
    let cost = &report.cost;
    let mut figures = vec![
        higher("delivered", "deliveries/s", throughput.delivered_per_second),
        higher("accepted", "messages/s", throughput.accepted_per_second),
    ];
    let mut latency = |what: &str, summary: &Summary| {
        for (share, value) in [("p50", summary.p50), ("p99", summary.p99)] {
            figures.push(lower(&format!("{what} {share}"), "ms", milliseconds(value)));
        }
    };
    latency("accept", &report.acceptance);
    latency("end to end", &report.end_to_end);
    if let (Some(cpu), Some(usage)) = (cost.target_cpu, &cost.target) {
        figures.push(lower("CPU", "us/message", cpu));
        figures.push(lower("PSS", "MiB", mebibytes(usage.pss)));
        figures.push(lower("switches", "per message", cost.target_switches.unwrap_or(0.0)));
        figures.push(lower("written", "bytes/message", cost.target_written.unwrap_or(0.0)));
    }
    figures.push(neutral("CPU of the load", "us/message", cost.load_cpu));
    figures.push(neutral("CPU of the sink", "us/message", cost.sink_cpu));
    figures.push(neutral("messages", "messages", throughput.accepted as f64));
    figures
}

/// Why a run does not count; empty if it does.
pub(crate) fn trouble(report: &Report) -> String {
    let account = &report.account;
    match report.verdict {
        Verdict::Holds if account.acknowledged == 0 => "nothing was accepted".into(),
        Verdict::Holds => String::new(),
        Verdict::Stalled => "the relay stopped accepting".into(),
        Verdict::Broken => format!(
            "conservation is broken: {} missing, {} altered, {} repeated, {} unexpected of {}",
            account.missing, account.altered, account.repeated, account.unexpected, account.acknowledged
        ),
    }
}
