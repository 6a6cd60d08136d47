//! One scenario: its table and its charts.

use maud::{Markup, html};

use super::{bars, course, cross, curves, plot};
use crate::number;
use crate::rounds::Spread;
use crate::suite::{Better, Figure, Relay, Scenario};

/// Charts of one kind in a scenario; further ones are left to the table.
const CHARTS_MAX: usize = 6;

/// Figures in one chart of bars; further ones are left to the table.
const BARS_MAX: usize = 4;

pub(super) fn section(scenario: &Scenario, index: usize) -> Markup {
    let figures = scenario.figures();
    html! {
        section.scenario id={ "s" (index) } {
            h2 { (scenario.name) }
            p { (scenario.shows) }
            @if scenario.relays.is_empty() {
                p.note { "No relay ran in it." }
            } @else {
                (table(scenario, &figures))
                (troubles(scenario))
                (charts(scenario, &figures))
            }
        }
    }
}

fn table(scenario: &Scenario, figures: &[&Figure]) -> Markup {
    let first = scenario.relays.first().map_or("", |relay| relay.name.as_str());
    html! {
        div.wide { table.figures {
            caption { "Figures of " (scenario.name) }
            thead { tr {
                th scope="col" { "figure" }
                th scope="col" { "relay" }
                th.number scope="col" { "median" }
                th.number scope="col" { "min to max" }
                th.number scope="col" { "ratio to " (first) }
                th.rounds scope="col" { "rounds, from 0" }
            } }
            @for figure in figures {
                tbody {
                    @for (index, relay) in scenario.relays.iter().enumerate() { tr {
                        @if index == 0 {
                            th.figure scope="rowgroup" rowspan=(scenario.relays.len()) {
                                (figure.name)
                                small { (number::unit(&figure.unit)) (direction(figure.better)) }
                            }
                        }
                        (row(scenario, index, relay, figure))
                    } }
                }
            }
        } }
    }
}

fn row(scenario: &Scenario, index: usize, relay: &Relay, figure: &Figure) -> Markup {
    let spread = Spread::of(relay.values(&figure.name));
    let ratio = Spread::of(scenario.ratios(relay, &figure.name));
    html! {
        th scope="row" {
            span class={ "name " (plot::class(index)) } { (relay.name) }
            @if relay.rounds.iter().any(|round| !round.counts()) { " " (cross()) }
        }
        @match spread {
            Some(spread) => {
                td.number.median { (number::plain(spread.median)) }
                td.number.range { (number::plain(spread.least)) " to " (number::plain(spread.most)) }
            }
            None => {
                td.number { "–" }
                td.number.range { @if relay.rounds.iter().all(|round| !round.counts()) { "no round counts" } @else { "not measured" } }
            }
        }
        td.number.ratio {
            @match ratio {
                _ if index == 0 => { @if spread.is_some() { "1" } span.range {} }
                Some(ratio) => {
                    (number::ratio(ratio.median)) " "
                    span.range { (number::ratio(ratio.least)) " to " (number::ratio(ratio.most)) }
                }
                None => { "–" span.range {} }
            }
        }
        td.rounds { (bars::strip(scenario, index, &figure.name)) }
    }
}

fn direction(better: Better) -> &'static str {
    match better {
        Better::Higher => ", more is better",
        Better::Lower => ", less is better",
        Better::Neither => "",
    }
}

/// Why rounds do not count.
fn troubles(scenario: &Scenario) -> Markup {
    let rounds =
        scenario.relays.iter().flat_map(|relay| relay.rounds.iter().enumerate().map(move |it| (relay, it)));
    let troubled: Vec<_> = rounds.filter(|(_, (_, round))| !round.counts()).collect();
    html! {
        @if !troubled.is_empty() {
            ul.trouble {
                @for (relay, (index, round)) in troubled {
                    li { (cross()) " " strong { (relay.name) ", round " (index + 1) } " does not count: " (round.trouble) }
                }
            }
        }
    }
}

fn charts(scenario: &Scenario, figures: &[&Figure]) -> Markup {
    let courses = course::charts(scenario);
    html! {
        @let (rates, costs) = barred(figures);
        @if !rates.is_empty() || !costs.is_empty() {
            figure {
                div.charts {
                    @for (unit, figures) in &rates { (bars::bars(scenario, figures, unit)) }
                    @for (unit, figures) in &costs { (bars::bars(scenario, figures, unit)) }
                }
                figcaption {
                    (caption(&rates, &costs)) " Bars are medians; whiskers reach from the least to the most round."
                }
            }
        }
        @let names = names(scenario);
        @if !names.is_empty() {
            figure {
                div.charts { @for name in &names { (curves::chart(scenario, name)) } }
                figcaption {
                    "Latency: the share of messages that took no longer. Both axes are logarithmic, the share \
                     towards 100%, so that the slowest messages are seen."
                }
            }
        }
        @if !courses.is_empty() {
            figure {
                div.charts { @for chart in &courses { (chart) } }
                figcaption {
                    "Course of the runs, each relay on scales of its own: messages accepted (solid) and delivered (dashed) \
                     per second. Where the dashed line stays below, a backlog grows."
                }
            }
        }
    }
}

type Units<'a> = Vec<(&'a str, Vec<&'a Figure>)>;

fn caption(rates: &Units, costs: &Units) -> &'static str {
    match (rates.is_empty(), costs.is_empty()) {
        (false, false) => "Throughput, and processor time per message.",
        (false, true) => "Throughput.",
        _ => "Processor time per message.",
    }
}

/// The figures that are drawn as bars: rates, and what processor time they cost. Those of one unit share a scale.
fn barred<'a>(figures: &[&'a Figure]) -> (Units<'a>, Units<'a>) {
    let rates = figures.iter().filter(|figure| figure.unit.ends_with("/s"));
    // Neither good nor bad is the processor time of the rig itself.
    let costs = figures
        .iter()
        .filter(|figure| figure.name.to_lowercase().contains("cpu") && figure.better != Better::Neither);
    (by_unit(rates.copied()), by_unit(costs.copied()))
}

fn by_unit<'a>(figures: impl Iterator<Item = &'a Figure>) -> Units<'a> {
    let mut units: Units = Vec::new();
    for figure in figures {
        let unit = scale_of(&figure.unit);
        match units.iter().position(|(other, _)| *other == unit) {
            Some(place) if units[place].1.len() < BARS_MAX => units[place].1.push(figure),
            None if units.len() < CHARTS_MAX => units.push((unit, vec![figure])),
            _ => {}
        }
    }
    units
}

/// Messages and deliveries per second belong side by side.
fn scale_of(unit: &str) -> &str {
    if matches!(unit, "messages/s" | "deliveries/s") { "per second" } else { unit }
}

/// The names of the curves of all rounds that count.
fn names(scenario: &Scenario) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let rounds = scenario.relays.iter().flat_map(|relay| &relay.rounds).filter(|round| round.counts());
    for (name, _) in rounds.flat_map(|round| &round.curves).filter(|(_, curve)| curve.len() > 1) {
        if !names.contains(&name.as_str()) && names.len() < CHARTS_MAX {
            names.push(name);
        }
    }
    names
}
