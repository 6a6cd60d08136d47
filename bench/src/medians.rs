//! A suite as text for the terminal: the median of each figure, relay beside relay.

use std::fmt::Write;

use crate::number;
use crate::rounds::Spread;
use crate::suite::{Relay, Scenario, Suite};

/// One table per scenario. Rounds in trouble do not count and are listed below it.
pub fn medians(suite: &Suite) -> String {
    let mut text = String::new();
    for (name, value) in &suite.card {
        put(&mut text, format_args!("{name:<22}{value}\n"));
    }
    let relays = suite.scenarios.first().map_or(&[][..], |scenario| &scenario.relays);
    for Relay { name, version, durability, .. } in relays {
        put(&mut text, format_args!("{name:<22}{version}, {durability}\n"));
    }
    for scenario in &suite.scenarios {
        table(scenario, &mut text);
    }
    text
}

fn table(scenario: &Scenario, text: &mut String) {
    put(text, format_args!("\n{:<42}", scenario.name));
    for relay in &scenario.relays {
        put(text, format_args!("{:>16}", relay.name));
    }
    let ratios = scenario.relays.len() > 1;
    put(text, format_args!("{}\n", if ratios { "   ratio to the first" } else { "" }));
    for figure in scenario.figures() {
        put(text, format_args!("  {:<40}", format!("{} ({})", figure.name, figure.unit)));
        for relay in &scenario.relays {
            let spread = Spread::of(relay.values(&figure.name));
            put(
                text,
                format_args!("{:>16}", spread.map_or("-".into(), |spread| number::plain(spread.median))),
            );
        }
        for relay in scenario.relays.iter().skip(1) {
            let spread = Spread::of(scenario.ratios(relay, &figure.name));
            put(
                text,
                format_args!("   {:>8}", spread.map_or("-".into(), |spread| number::ratio(spread.median))),
            );
        }
        text.push('\n');
    }
    for relay in &scenario.relays {
        for (index, round) in relay.rounds.iter().enumerate().filter(|(_, round)| !round.counts()) {
            put(text, format_args!("  {}, round {}: {}\n", relay.name, index + 1, round.trouble));
        }
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::higher;
    use crate::suite::Round;

    fn relay(name: &str, values: &[(f64, &str)]) -> Relay {
        let round = |&(value, trouble): &(f64, &str)| Round {
            figures: vec![higher("delivered", "deliveries/s", value)],
            trouble: trouble.into(),
            ..Round::default()
        };
        Relay { name: name.into(), rounds: values.iter().map(round).collect(), ..Relay::default() }
    }

    #[test]
    fn rounds_in_trouble_do_not_count() {
        let first = relay("a", &[(10.0, ""), (99.0, "lost"), (30.0, ""), (20.0, "")]);
        let second = relay("b", &[(40.0, ""), (60.0, "")]);
        let scenario = Scenario { name: "s".into(), shows: String::new(), relays: vec![first, second] };
        let text = medians(&Suite { card: [].into(), scenarios: vec![scenario] });
        let row = text.lines().find(|line| line.contains("delivered (deliveries/s)")).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>()[2..],
            ["20", "50", "4.00"],
            "only the first rounds make a pair"
        );
        assert!(text.contains("a, round 2: lost"), "{text}");
    }
}
