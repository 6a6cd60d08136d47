//! Bars of medians with whiskers from the least to the most, and the dots of single rounds.

use maud::{Markup, html};

use super::plot::{WIDTH, class, round, short};
use super::scale;
use crate::number;
use crate::rounds::Spread;
use crate::suite::{Figure, Scenario};

const LEFT: f64 = 84.0;
/// What is kept free for the value behind the longest bar.
const RIGHT: f64 = 62.0;
const ROW: f64 = 19.0;
const HEAD: f64 = 28.0;
const AXIS: f64 = 34.0;
const THICKNESS: f64 = 10.0;

/// Width and height of the dots of a row in the table.
const STRIP: (f64, f64) = (116.0, 14.0);

/// Figures of one unit as bars on one scale.
pub(super) fn bars(scenario: &Scenario, figures: &[&Figure], unit: &str) -> Markup {
    let rows = scenario.relays.len() as f64 * ROW + HEAD;
    let most =
        figures.iter().flat_map(|figure| spreads(scenario, figure)).flatten().map(|spread| spread.most);
    let ticks = scale::ticks(most.fold(0.0, f64::max), 3);
    let end = ticks.last().copied().unwrap_or(1.0);
    let x = |value: f64| LEFT + (value / end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let floor = rows * figures.len() as f64;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (floor + AXIS) } role="img" {
            title { (scenario.name) ": " (names(figures)) }
            desc { (said(scenario, figures)) }
            @for tick in &ticks {
                line.grid x1=(round(x(*tick))) x2=(round(x(*tick))) y1="22" y2=(floor + 3.0) {}
                text.tick.mid x=(round(x(*tick))) y=(floor + 16.0) { (number::tick(*tick)) }
            }
            line.axis x1=(LEFT) x2=(LEFT) y1="22" y2=(floor + 3.0) {}
            text.unit.mid x=(round(x(end / 2.0))) y=(floor + 30.0) { (number::unit(unit)) }
            @for (index, figure) in figures.iter().enumerate() {
                @let top = rows * index as f64;
                text.head x="0" y=(top + 16.0) {
                    (figure.name)
                    @if figure.unit != unit { tspan.unit { " " (figure.unit) } }
                }
                @for (relay, spread) in spreads(scenario, figure).into_iter().enumerate() {
                    @let middle = top + HEAD + ROW * (relay as f64 + 0.4);
                    text class={ "label end " (class(relay)) } x=(LEFT - 8.0) y=(round(middle + 4.0)) { (short(&scenario.relays[relay].name)) }
                    @match spread {
                        Some(spread) => (bar(spread, &class(relay), middle, x)),
                        None => text.tick x=(LEFT + 6.0) y=(round(middle + 4.0)) { "no round counts" },
                    }
                }
            }
        }
    }
}

fn bar(spread: Spread, class: &str, middle: f64, x: impl Fn(f64) -> f64) -> Markup {
    let (least, most) = (x(spread.least), x(spread.most));
    let whisker = format!(
        "M{0} {1}H{2}M{0} {3}V{4}M{2} {3}V{4}",
        round(least),
        round(middle),
        round(most),
        round(middle - 4.0),
        round(middle + 4.0)
    );
    html! {
        rect class={ "bar " (class) } x=(LEFT) width=(round(x(spread.median) - LEFT)) y=(round(middle - THICKNESS / 2.0)) height=(THICKNESS) {}
        path.halo d=(whisker) {}
        path.whisker d=(whisker) {}
        text.value x=(round(most + 6.0)) y=(round(middle + 4.0)) { (number::plain(spread.median)) }
    }
}

/// A row of the table: each round a dot on a scale from 0 that all relays share, a cross if it does not count.
pub(super) fn strip(scenario: &Scenario, relay: usize, figure: &str) -> Markup {
    let values = |relay: usize| {
        let rounds = scenario.relays[relay].rounds.iter();
        rounds.filter_map(|round| Some((round.value(figure)?, round.counts())))
    };
    let most = (0..scenario.relays.len()).flat_map(values).map(|(value, _)| value).fold(0.0, f64::max);
    let (width, height) = STRIP;
    let x = |value: f64| round(6.0 + (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * (width - 12.0));
    html! {
        svg.strip viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) aria-hidden="true" {
            line.grid x1="6" x2=(width - 6.0) y1=(height / 2.0) y2=(height / 2.0) {}
            line.mark x1="6" x2="6" y1="3" y2=(height - 3.0) {}
            @for (value, counts) in values(relay) {
                @if counts {
                    circle class={ "dot " (class(relay)) } cx=(x(value)) cy=(height / 2.0) r="3" {}
                } @else {
                    @let left = x(value) - 3.0;
                    path.cross d={ "M" (left) " 4l6 6m0 -6l-6 6" } {}
                }
            }
        }
    }
}

fn spreads(scenario: &Scenario, figure: &Figure) -> Vec<Option<Spread>> {
    scenario.relays.iter().map(|relay| Spread::of(relay.values(&figure.name))).collect()
}

fn names(figures: &[&Figure]) -> String {
    figures.iter().map(|figure| figure.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn said(scenario: &Scenario, figures: &[&Figure]) -> String {
    let one = |figure: &&Figure| {
        let values = scenario.relays.iter().zip(spreads(scenario, figure)).map(|(relay, spread)| {
            let median = spread.map_or("no round counts".into(), |spread| number::plain(spread.median));
            format!("{} {median}", relay.name)
        });
        format!("{} in {}: {}.", figure.name, figure.unit, values.collect::<Vec<_>>().join(", "))
    };
    figures.iter().map(one).collect::<Vec<_>>().join(" ")
}
