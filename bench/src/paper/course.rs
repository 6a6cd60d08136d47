//! The course of a run: messages accepted and delivered per second, over time.

use maud::{Markup, html};

use super::plot::{Axis, Frame, class, path, round, thinned};
use super::{drawn, scale};
use crate::number;
use crate::run::Moment;
use crate::suite::{Relay, Scenario};

/// Steps of one line; in a longer run a step covers more than one interval between moments.
const STEPS_MAX: usize = 60;

const FRAME: Frame = Frame { margin: 12.0 };

/// One round: whether it is the bold one, and its rates.
type Course = (bool, Vec<Stretch>);

/// The rates between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    accepted: f64,
    delivered: f64,
}

/// One chart for each relay that has a course. Each has scales of its own: how relays compare is seen in the bars,
/// here it is the shape that matters, which a far slower relay would not have on the scale of a fast one.
pub(super) fn charts(scenario: &Scenario) -> Vec<Markup> {
    let all = scenario.relays.iter().map(courses).enumerate();
    all.filter(|(_, courses)| !courses.is_empty())
        .map(|(relay, courses)| chart(scenario, relay, &courses))
        .collect()
}

fn chart(scenario: &Scenario, relay: usize, courses: &[Course]) -> Markup {
    let name = &scenario.relays[relay].name;
    let stretches = || courses.iter().flat_map(|(_, stretches)| stretches);
    let end = stretches().map(|stretch| stretch.to).fold(f64::MIN_POSITIVE, f64::max);
    let most = stretches().map(|stretch| stretch.accepted.max(stretch.delivered)).fold(0.0, f64::max);
    let (times, rates) = (scale::ticks(end, 5), scale::ticks(most, 4));
    let top = rates.last().copied().unwrap_or(1.0);
    // A run ends when it ends: only the ticks are round.
    let inside = times.iter().filter(|tick| **tick <= end * 1.001);
    let across = Axis {
        ticks: inside.map(|&tick| (tick / end, number::tick(tick))).collect(),
        title: "seconds".into(),
    };
    let up = Axis {
        ticks: rates.iter().map(|&tick| (tick / top, number::tick(tick))).collect(),
        title: "messages per second".into(),
    };
    let line = |stretches: &[Stretch], rate: fn(&Stretch) -> f64| {
        let corners =
            stretches.iter().flat_map(|stretch| [(stretch.from, rate(stretch)), (stretch.to, rate(stretch))]);
        path(&corners.map(|(time, rate)| (FRAME.x(time / end), FRAME.y(rate / top))).collect::<Vec<_>>())
    };
    let content = html! {
        (key())
        @for (bold, stretches) in courses {
            @let weight = if *bold { "line" } else { "thin" };
            path class={ (weight) " accepted " (class(relay)) } d=(line(stretches, |stretch| stretch.accepted)) {}
            path class={ (weight) " delivered " (class(relay)) } d=(line(stretches, |stretch| stretch.delivered)) {}
        }
    };
    let says = said(courses.last());
    html! {
        div.panel {
            p class={ "name " (class(relay)) } { (name) }
            (FRAME.chart(&format!("{}: course of {name}", scenario.name), &says, (&across, &up), content))
        }
    }
}

/// What the two kinds of line are, above the frame.
fn key() -> Markup {
    let (y, right) = (6.0, FRAME.x(1.0));
    html! {
        @for (word, left) in [("accepted", right - 168.0), ("delivered", right - 78.0)] {
            path class={ "line key " (word) } d=(path(&[(left, y), (left + 22.0, y)])) {}
            text.tick x=(round(left + 28.0)) y=(round(y + 4.0)) { (word) }
        }
    }
}

/// The bold one is the last, so that it lies on top.
fn courses(relay: &Relay) -> Vec<Course> {
    let courses = drawn(relay).into_iter().map(|(round, bold)| (bold, stretches(&round.timeline)));
    courses.filter(|(_, stretches)| !stretches.is_empty()).collect()
}

/// The rates between moments. A moment that follows too soon, as the last one of a run may, would make a needle
/// out of a few messages: its stretch is joined to its neighbour.
fn stretches(timeline: &[Moment]) -> Vec<Stretch> {
    let mut known: Vec<&Moment> = Vec::new();
    let mut gaps = Vec::new();
    for moment in timeline.iter().filter(|moment| moment.seconds.is_finite()) {
        let before = known.last().map_or(0.0, |last| last.seconds);
        if moment.seconds > before {
            gaps.push(moment.seconds - before);
            known.push(moment);
        }
    }
    gaps.sort_by(f64::total_cmp);
    let Some(usual) = gaps.get(gaps.len() / 2) else { return Vec::new() };
    let mut bounds = vec![(0.0, 0, 0)];
    for (index, moment) in known.iter().enumerate() {
        let bound = (moment.seconds, moment.accepted, moment.delivered);
        let soon = moment.seconds - bounds[bounds.len() - 1].0 < usual / 2.0;
        match (soon, index + 1 == known.len()) {
            (true, false) => {}
            (true, true) if bounds.len() > 1 => *bounds.last_mut().expect("there are two") = bound,
            _ => bounds.push(bound),
        }
    }
    let bounds = thinned(&bounds, STEPS_MAX);
    let rate = |before: u64, after: u64, seconds: f64| after.saturating_sub(before) as f64 / seconds;
    bounds
        .windows(2)
        .map(|pair| Stretch {
            from: pair[0].0,
            to: pair[1].0,
            accepted: rate(pair[0].1, pair[1].1, pair[1].0 - pair[0].0),
            delivered: rate(pair[0].2, pair[1].2, pair[1].0 - pair[0].0),
        })
        .collect()
}

fn said(course: Option<&Course>) -> String {
    let Some((_, stretches)) = course else { return "No round counts.".into() };
    let most = |rate: fn(&Stretch) -> f64| number::plain(stretches.iter().map(rate).fold(0.0, f64::max));
    format!(
        "{} seconds; at most {} accepted and {} delivered per second.",
        number::plain(stretches.last().map_or(0.0, |stretch| stretch.to)),
        most(|stretch| stretch.accepted),
        most(|stretch| stretch.delivered)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: f64, accepted: u64, delivered: u64) -> Moment {
        Moment { seconds, accepted, delivered, ..Moment::default() }
    }

    #[test]
    fn rates_are_differences_of_counters() {
        let found = stretches(&[moment(1.0, 100, 50), moment(2.0, 300, 250), moment(4.0, 300, 300)]);
        let expected = [(0.0, 1.0, 100.0, 50.0), (1.0, 2.0, 200.0, 200.0), (2.0, 4.0, 0.0, 25.0)];
        let expected =
            expected.map(|(from, to, accepted, delivered)| Stretch { from, to, accepted, delivered });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_last_moment_that_follows_at_once_makes_no_needle() {
        let found = stretches(&[moment(1.0, 100, 100), moment(2.0, 200, 200), moment(2.01, 250, 250)]);
        assert_eq!(found.len(), 2);
        assert!((found[1].accepted - 150.0 / 1.01).abs() < 1e-9, "{found:?}");
        assert_eq!(stretches(&[moment(0.02, 10, 0)])[0].accepted, 500.0);
    }

    #[test]
    fn moments_that_make_no_sense_are_skipped() {
        let odd = [
            moment(f64::NAN, 1, 1),
            moment(-1.0, 5, 5),
            moment(1.0, 10, 10),
            moment(1.0, 20, 20),
            moment(2.0, 4, 4),
        ];
        let found = stretches(&odd);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].accepted, 0.0);
        assert_eq!(stretches(&[]), []);
        let many: Vec<_> =
            (1..100_000u32).map(|second| moment(f64::from(second), u64::from(second), 0)).collect();
        assert!(stretches(&many).len() <= STEPS_MAX + 1);
    }
}
