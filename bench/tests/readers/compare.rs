//! The comparison of two series.

use bench::difference::{Difference, Table, Verdict};
use bench::suite::{Better, Suite};

use crate::sample;

fn shown(difference: &Difference, all: bool) -> String {
    Table { difference, all }.to_string()
}

/// Multiplies one figure of the first relay in all scenarios.
fn scale(suite: &mut Suite, figure: &str, factor: f64) {
    for scenario in &mut suite.scenarios {
        let figures = scenario.relays[0].rounds.iter_mut().flat_map(|round| &mut round.figures);
        figures.filter(|other| other.name == figure).for_each(|figure| figure.value *= factor);
    }
}

fn found(difference: &Difference, verdict: Verdict) -> Vec<(&str, &str)> {
    let changes = difference.changes.iter().filter(|change| change.verdict == verdict);
    changes.map(|change| (change.relay.as_str(), change.figure.name.as_str())).collect()
}

#[test]
fn the_same_distribution_rarely_raises_an_alarm() {
    let (mut alarms, mut compared) = (0, 0);
    for seed in 0..60 {
        let (a, b) = (sample::suite(seed, 3, 5, 0.04), sample::suite(1000 + seed, 3, 5, 0.04));
        let difference = Difference::new(&a, &b);
        compared += difference.changes.len();
        alarms += difference.changes.iter().filter(|change| change.verdict != Verdict::Noise).count();
    }
    assert_eq!(compared, 60 * 3 * 3 * 8);
    assert!((alarms as f64) < compared as f64 * 0.005, "{alarms} of {compared}");
}

#[test]
fn a_series_does_not_differ_from_itself() {
    let suite = sample::suite(9, 4, 6, 0.1);
    let difference = Difference::new(&suite, &suite);
    assert!(!difference.got_worse());
    let text = shown(&difference, false);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("96 figures compared: 0 changed beyond noise"), "{text}");
    assert_eq!(shown(&difference, true).lines().count(), 98);
}

#[test]
fn a_change_of_ten_percent_is_found_with_its_direction() {
    let a = sample::suite(11, 2, 5, 0.02);
    let mut b = sample::suite(12, 2, 5, 0.02);
    scale(&mut b, "delivered", 0.88);
    scale(&mut b, "CPU per message", 0.8);
    scale(&mut b, "connections to the sink", 2.0);
    let difference = Difference::new(&a, &b);
    assert_eq!(found(&difference, Verdict::Worse), [("mtad", "delivered"); 3]);
    assert_eq!(found(&difference, Verdict::Better), [("mtad", "CPU per message"); 3]);
    assert_eq!(found(&difference, Verdict::Changed), [("mtad", "connections to the sink"); 3]);
    assert!(difference.got_worse());
    let first = difference.changes.iter().take(3).map(|change| change.share());
    assert!(first.clone().all(|share| (-0.16..-0.08).contains(&share)), "{:?}", first.collect::<Vec<_>>());

    let text = shown(&difference, false);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[1].starts_with("worse") && lines[4].starts_with("better") && lines[7].starts_with("changed"),
        "{text}"
    );
    // The other way round it is the processor time that got worse.
    let back = Difference::new(&b, &a);
    assert_eq!(found(&back, Verdict::Worse), [("mtad", "CPU per message"); 3]);
}

#[test]
fn only_getting_better_is_not_getting_worse() {
    let a = sample::suite(13, 1, 5, 0.01);
    let mut b = a.clone();
    scale(&mut b, "delivered", 1.2);
    let difference = Difference::new(&a, &b);
    assert_eq!(found(&difference, Verdict::Better).len(), 3);
    assert!(!difference.got_worse());
}

#[test]
fn three_rounds_are_too_few() {
    let a = sample::suite(14, 1, 3, 0.02);
    let mut b = a.clone();
    scale(&mut b, "delivered", 0.5);
    let difference = Difference::new(&a, &b);
    assert!(difference.changes.iter().all(|change| change.verdict == Verdict::TooFew));
    assert!(!difference.got_worse());
    let text = shown(&difference, false);
    assert!(text.contains("24 figures have too few rounds to tell"), "{text}");
    assert!(shown(&difference, true).contains("too few rounds"), "{text}");
}

#[test]
fn what_is_in_one_file_only_is_listed() {
    let a = sample::suite(15, 2, 4, 0.02);
    let mut b = a.clone();
    b.scenarios.remove(0);
    b.scenarios[0].relays.remove(1);
    b.scenarios[1].name = "new".into();
    let mut figures = b.scenarios[0].relays[0].rounds.iter_mut().map(|round| &mut round.figures[0]);
    figures.by_ref().for_each(|figure| figure.unit = "messages/min".into());
    let text = shown(&Difference::new(&a, &b), false);
    for line in [
        "only before: steady\n",
        "only before: uneven\n",
        "only after: new\n",
        "only before: one-each / postfix\n",
        "only before: one-each / mtad / delivered (messages/s)\n",
        "only after: one-each / mtad / delivered (messages/min)\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn other_machines_and_versions_are_told() {
    let a = sample::suite(16, 1, 4, 0.02);
    let mut b = a.clone();
    b.card.insert("date".into(), "another day".into());
    b.card.insert("device sync latency".into(), "2.0 ms".into());
    assert!(!shown(&Difference::new(&a, &b), false).contains("NOT MEASURED ALIKE"));
    b.card.insert("kernel".into(), "Linux 7.0".into());
    b.card.remove("memory");
    b.scenarios[0].relays[0].version = "0.2.0".into();
    let text = shown(&Difference::new(&a, &b), false);
    for line in [
        "card: kernel: Linux 6.12.9 -> Linux 7.0\n",
        "card: memory: 7.8 GiB -> (nothing)\n",
        "NOT MEASURED ALIKE (kernel, memory)",
        "relay: steady mtad: version: 0.1.0 -> 0.2.0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn more_rounds_with_trouble_are_worse() {
    let mut a = sample::suite(17, 2, 5, 0.02);
    let mut b = a.clone();
    b.scenarios[1].relays[1].rounds[4].trouble = "1 missing\u{1b}[31m".into();
    let difference = Difference::new(&a, &b);
    assert!(difference.got_worse());
    let text = shown(&difference, false);
    assert!(
        text.contains("worse: one-each / postfix: rounds with trouble: 0 of 5 -> 1 of 5: 1 missing"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    a.scenarios[1].relays[1].rounds[0].trouble = "1 missing".into();
    assert!(!Difference::new(&a, &b).got_worse());
}

#[test]
fn changes_of_relays_that_stayed_the_same_point_at_the_machine() {
    let a = sample::suite(18, 2, 5, 0.02);
    let mut b = a.clone();
    for scenario in &mut b.scenarios {
        scenario.relays[0].version = "0.2.0".into();
        for figure in scenario.relays.iter_mut().flat_map(|it| &mut it.rounds).flat_map(|it| &mut it.figures)
        {
            figure.value *= if figure.better == Better::Higher { 0.8 } else { 1.0 };
        }
    }
    let text = shown(&Difference::new(&a, &b), false);
    assert!(text.contains("6 of them belong to relays that are the same in both"), "{text}");
}
