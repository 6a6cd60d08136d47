//! A series of runs as one page: HTML that needs nothing else, neither network nor scripts.

mod bars;
mod course;
mod curves;
mod plot;
mod scale;
mod section;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::number;
use crate::rounds::Spread;
use crate::suite::{Relay, Round, Scenario, Suite};

const STYLE: &str = include_str!("paper/style.css");

/// Points of one line; longer ones are thinned evenly.
const POINTS_MAX: usize = 300;

/// Rounds of one relay that a chart draws; the first are, and the bold one.
const ROUNDS_DRAWN_MAX: usize = 20;

/// The page.
pub fn paper(suite: &Suite) -> String {
    let relays = relays(suite);
    let title = match relays.as_slice() {
        [] => "Mail relays, measured".into(),
        [only] => format!("{only}, measured"),
        [first, other] => format!("{first} beside {other}"),
        [first, others @ .., last] => format!("{first} beside {} and {last}", others.join(", ")),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="mtad-bench";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kind { "Benchmark of mail relays" }
                    h1 { (title) }
                    p.date { (span(suite)) }
                }
                main {
                    (glance(suite, &relays))
                    (reading(suite))
                    (card(suite))
                    (versions(suite, &relays))
                    @for (index, scenario) in suite.scenarios.iter().enumerate() {
                        (section::section(scenario, index))
                    }
                }
            }
        }
    };
    page.into_string().chars().map(visible).collect()
}

/// Control characters, and those that turn the direction of writing, come only from names in files; XML knows no
/// way to write most of them.
fn visible(letter: char) -> char {
    let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let strange = letter.is_control() && letter != '\n' || matches!(letter, '\u{fffe}' | '\u{ffff}');
    if turns || strange { '\u{fffd}' } else { letter }
}

/// The names of all relays, in the order in which they first appear.
fn relays(suite: &Suite) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for relay in suite.scenarios.iter().flat_map(|scenario| &scenario.relays) {
        if !names.contains(&relay.name.as_str()) {
            names.push(&relay.name);
        }
    }
    names
}

/// Date and size of the series.
fn span(suite: &Suite) -> String {
    let rounds = |relay: &Relay| relay.rounds.len();
    let most = suite.scenarios.iter().flat_map(|scenario| &scenario.relays).map(rounds).max().unwrap_or(0);
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let date = suite.card.iter().find(|(name, _)| name.to_lowercase().contains("date"));
    let date = date.map(|(_, date)| format!("{date} · ")).unwrap_or_default();
    format!("{date}{} · {}", count(suite.scenarios.len(), "scenario"), count(most, "round"))
}

/// The first figure of every scenario.
fn glance(suite: &Suite, relays: &[&str]) -> Markup {
    html! {
        section {
            h2 { "At a glance" }
            div.wide {
                table.glance {
                    thead { tr {
                        th scope="col" { "scenario" }
                        th scope="col" { "figure" }
                        @for (index, name) in relays.iter().enumerate() {
                            th.number scope="col" { span class={ "name " (plot::class(index)) } { (name) } }
                        }
                    } }
                    tbody {
                        @for (index, scenario) in suite.scenarios.iter().enumerate() { tr {
                            th scope="row" { a href={ "#s" (index) } { (scenario.name) } }
                            @let figure = scenario.figures().first().copied();
                            td.figure { @if let Some(figure) = figure { (figure.name) " " small { (number::unit(&figure.unit)) } } }
                            @for name in relays {
                                td.number { (glanced(scenario, name, figure.map(|figure| figure.name.as_str()))) }
                            }
                        } }
                    }
                }
            }
            p.note { "Medians; below them, the ratio to the first relay of the scenario." }
        }
    }
}

fn glanced(scenario: &Scenario, relay: &str, figure: Option<&str>) -> Markup {
    let found = scenario.relays.iter().position(|other| other.name == relay).zip(figure);
    let Some((index, figure)) = found else { return html! { "–" } };
    let relay = &scenario.relays[index];
    let ratio = Spread::of(scenario.ratios(relay, figure)).filter(|_| index > 0);
    html! {
        (Spread::of(relay.values(figure)).map_or("–".into(), |spread| number::plain(spread.median)))
        @if let Some(ratio) = ratio { br; small { "× " (number::ratio(ratio.median)) } }
    }
}

fn reading(suite: &Suite) -> Markup {
    let troubled =
        suite.scenarios.iter().flat_map(|scenario| &scenario.relays).flat_map(|relay| &relay.rounds);
    let troubled = troubled.filter(|round| !round.counts()).count();
    html! {
        section.reading {
            h2 { "How to read it" }
            p {
                "A figure is the median over the rounds, with the least and the most beside it. The relays took turns \
                 within each round. A ratio is therefore taken round by round, between runs that stood next to each \
                 other, so that slow changes of the machine cancel out; shown is the median of these ratios with the \
                 least and the most. In the charts each thin line is a round, and the bold one is the round in the \
                 middle by the first figure of the table."
            }
            @if troubled > 0 {
                p.trouble {
                    (cross()) " " (troubled) (if troubled == 1 { " round does" } else { " rounds do" })
                    " not count: a message was lost or altered, or the relay stalled or died. They are marked, \
                     explained below the tables, and left out of all medians, ratios and charts."
                }
            }
        }
    }
}

/// The mark of a round that does not count.
fn cross() -> Markup {
    html! { span.mark { "✕" } }
}

fn card(suite: &Suite) -> Markup {
    html! {
        section {
            h2 { "The machine" }
            @if suite.card.is_empty() {
                p { "The file says nothing about it: its figures stand for themselves only." }
            } @else {
                table.card { tbody {
                    @for (name, value) in &suite.card { tr { th scope="row" { (name) } td { (value) } } }
                } }
            }
        }
    }
}

/// Each relay's version, durability and configuration; several rows if they differ between scenarios.
fn versions(suite: &Suite, relays: &[&str]) -> Markup {
    let mut rows: Vec<(&Relay, Vec<&str>)> = Vec::new();
    for scenario in &suite.scenarios {
        for relay in &scenario.relays {
            let same = |other: &Relay| {
                (&other.name, &other.version) == (&relay.name, &relay.version)
                    && (&other.durability, &other.configuration) == (&relay.durability, &relay.configuration)
            };
            match rows.iter_mut().find(|(other, _)| same(other)) {
                Some((_, scenarios)) => scenarios.push(&scenario.name),
                None => rows.push((relay, vec![&scenario.name])),
            }
        }
    }
    let place = |name: &str| relays.iter().position(|other| *other == name).unwrap_or(relays.len());
    rows.sort_by_key(|(relay, _)| place(&relay.name));
    html! {
        section {
            h2 { "The relays" }
            div.wide { table.versions {
                thead { tr {
                    @for head in ["relay", "version", "a positive reply means", "configuration", "in"] { th scope="col" { (head) } }
                } }
                tbody {
                    @for (relay, scenarios) in &rows { tr {
                        th scope="row" { span class={ "name " (plot::class(place(&relay.name))) } { (relay.name) } }
                        td { (relay.version) }
                        td { (relay.durability) }
                        td { code { (relay.configuration) } }
                        td { @if scenarios.len() == suite.scenarios.len() { "all scenarios" } @else { (scenarios.join(", ")) } }
                    } }
                }
            } }
        }
    }
}

/// The rounds of a relay that charts draw, and whether bold; the bold one is the last.
fn drawn(relay: &Relay) -> Vec<(&Round, bool)> {
    let Some(middle) = relay.middle() else { return Vec::new() };
    let others = relay.rounds.iter().enumerate().filter(|(index, round)| *index != middle && round.counts());
    let others = others.map(|(_, round)| (round, false)).take(ROUNDS_DRAWN_MAX);
    others.chain([(&relay.rounds[middle], true)]).collect()
}
