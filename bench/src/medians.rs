//! A suite as text for the terminal: the median of each figure, relay beside relay.

use std::fmt::Write;

use crate::series::rounded;
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
    let good = |relay: &Relay| relay.rounds.iter().find(|round| round.trouble.is_empty()).cloned();
    let figures = scenario.relays.iter().find_map(good).map(|round| round.figures).unwrap_or_default();
    for figure in &figures {
        put(text, format_args!("  {:<40}", format!("{} ({})", figure.name, figure.unit)));
        let middles: Vec<_> = scenario.relays.iter().map(|relay| middle(relay, &figure.name)).collect();
        for value in &middles {
            put(text, format_args!("{:>16}", value.map_or("-".into(), rounded)));
        }
        for value in middles.iter().skip(1) {
            let ratio =
                middles[0].zip(*value).filter(|(first, _)| *first != 0.0).map(|(first, value)| value / first);
            put(text, format_args!("   {:>8}", ratio.map_or("-".into(), rounded)));
        }
        text.push('\n');
    }
    for relay in &scenario.relays {
        for (index, round) in relay.rounds.iter().enumerate().filter(|(_, round)| !round.trouble.is_empty()) {
            put(text, format_args!("  {}, round {}: {}\n", relay.name, index + 1, round.trouble));
        }
    }
}

/// The median of a figure over the rounds that count.
fn middle(relay: &Relay, name: &str) -> Option<f64> {
    let good = relay.rounds.iter().filter(|round| round.trouble.is_empty());
    let mut values: Vec<_> = good
        .flat_map(|round| &round.figures)
        .filter(|figure| figure.name == name)
        .map(|figure| figure.value)
        .collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
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
        assert_eq!(middle(&first, "delivered"), Some(20.0));
        assert_eq!(middle(&second, "delivered"), Some(50.0));
        assert_eq!(middle(&second, "accepted"), None);
        let scenario = Scenario { name: "s".into(), shows: String::new(), relays: vec![first, second] };
        let text = medians(&Suite { card: [].into(), scenarios: vec![scenario] });
        let row = text.lines().find(|line| line.contains("delivered (deliveries/s)")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>()[2..], ["20.0", "50.0", "2.50"]);
        assert!(text.contains("a, round 2: lost"), "{text}");
    }
}
