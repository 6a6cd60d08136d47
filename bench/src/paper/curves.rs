//! Distributions of latencies: what share of the messages took no longer than how long.

use maud::{Markup, html};

use super::plot::{Axis, Frame, Label, class, path, thinned};
use super::{POINTS_MAX, drawn, scale};
use crate::number;
use crate::suite::{Curve, Relay, Scenario};

/// Room for the names of the relays.
const FRAME: Frame = Frame { margin: 78.0 };

/// As many nines as the axis has at most; what lies beyond is not drawn.
const NINES_MAX: f64 = 7.0;

/// The ticks of the share, by powers of ten of 1/(1 - share).
const SHARES: [(f64, &str); 9] = [
    (0.0, "0%"),
    (std::f64::consts::LOG10_2, "50%"),
    (1.0, "90%"),
    (2.0, "99%"),
    (3.0, "99.9%"),
    (4.0, "99.99%"),
    (5.0, "99.999%"),
    (6.0, "6 nines"),
    (7.0, "7 nines"),
];

/// One curve for each round of each relay, by the curve's name.
pub(super) fn chart(scenario: &Scenario, name: &str) -> Markup {
    let all: Vec<Vec<Line>> = scenario.relays.iter().map(|relay| lines(relay, name)).collect();
    let points = || all.iter().flatten().flat_map(|line| line.points.iter().copied());
    let nines = points().map(|(nines, _)| nines).fold(1.0, f64::max);
    let least = points().map(|(_, latency)| latency).fold(f64::INFINITY, f64::min);
    let most = points().map(|(_, latency)| latency).fold(0.0, f64::max);
    let (from, to, ticks) = scale::decades(least, most);
    let level = |latency: f64| (latency / from).log10() / (to / from).log10();
    let place = |&(share, latency): &(f64, f64)| (FRAME.x(share / nines), FRAME.y(level(latency)));
    let across = Axis {
        ticks: shares(nines).map(|(share, text)| (share / nines, text.into())).collect(),
        title: "share of messages".into(),
    };
    let up = Axis {
        ticks: ticks.iter().map(|&tick| (level(tick), number::latency(tick))).collect(),
        title: format!("{name}, at most"),
    };
    let mut labels = Vec::new();
    let mut paths = Vec::new();
    for (relay, lines) in all.iter().enumerate() {
        for line in lines {
            let places: Vec<_> = line.points.iter().map(place).collect();
            paths.push((line.bold, relay, path(&places)));
            labels.extend(places.last().filter(|_| line.bold).map(|&(x, y)| Label {
                x,
                y,
                text: scenario.relays[relay].name.clone(),
                class: class(relay),
            }));
        }
    }
    paths.sort_by_key(|(bold, ..)| *bold);
    let content = html! {
        @for (bold, relay, data) in &paths {
            path class={ (if *bold { "line " } else { "thin " }) (class(*relay)) } d=(data) {}
        }
        (FRAME.labels(labels))
    };
    FRAME.chart(&format!("{}: {name} latency", scenario.name), &said(scenario, name), (&across, &up), content)
}

/// One round of one relay.
struct Line {
    bold: bool,
    /// Powers of ten of 1/(1 - share), and the latency.
    points: Vec<(f64, f64)>,
}

fn lines(relay: &Relay, name: &str) -> Vec<Line> {
    let rounds = drawn(relay).into_iter();
    let lines = rounds.filter_map(|(round, bold)| Some(Line { bold, points: line(round.curves.get(name)?) }));
    lines.filter(|line| line.points.len() > 1).collect()
}

/// A share of 1 has no place on the axis: the longest latency is a matter for the table.
fn line(curve: &Curve) -> Vec<(f64, f64)> {
    let known = curve.iter().filter(|(share, _)| (0.0..1.0).contains(share));
    let points = known.map(|&(share, latency)| (-(1.0 - share).log10() + 0.0, latency.max(1) as f64));
    let mut points: Vec<_> = points.filter(|(nines, _)| *nines <= NINES_MAX).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    thinned(&points, POINTS_MAX)
}

/// Ticks up to the end of the axis, without those whose words would touch the next.
fn shares(nines: f64) -> impl Iterator<Item = (f64, &'static str)> {
    let crowded = nines > 3.5;
    SHARES.into_iter().filter(move |(place, text)| *place <= nines + 0.001 && !(crowded && *text == "0%"))
}

fn said(scenario: &Scenario, name: &str) -> String {
    let at = |curve: &Curve, share: f64| {
        curve
            .iter()
            .find(|(point, _)| *point >= share)
            .map_or("unknown".into(), |&(_, value)| number::latency(value as f64))
    };
    let one = |relay: &Relay| {
        let curve = relay.rounds.get(relay.middle()?)?.curves.get(name)?;
        Some(format!("{}: 50% within {}, 99% within {}.", relay.name, at(curve, 0.5), at(curve, 0.99)))
    };
    scenario.relays.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_becomes_points_by_nines() {
        let points =
            line(&vec![(0.0, 0), (0.9, 100), (0.99, 900), (1.0, 5000), (f64::NAN, 1), (-3.0, 1), (2.0, 1)]);
        let rounded: Vec<_> =
            points.iter().map(|(nines, latency)| ((nines * 1e6).round() / 1e6, *latency)).collect();
        assert_eq!(rounded, [(0.0, 1.0), (1.0, 100.0), (2.0, 900.0)]);
        assert!(points[0].0.is_sign_positive());
    }

    #[test]
    fn no_more_points_than_can_be_seen() {
        let curve = (0..100_000).map(|index| (f64::from(index) / 100_000.0, 7)).collect();
        assert!(line(&curve).len() <= POINTS_MAX + 1);
    }
}
