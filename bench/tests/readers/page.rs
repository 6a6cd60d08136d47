//! The page.

use bench::paper::paper;
use bench::run::Moment;
use bench::suite::{Better, Figure, Relay, Round, Scenario, Suite};
use fastrand::Rng;
use roxmltree::{Document, Node, ParsingOptions};

use crate::sample;

/// Reads the page as XML, whose parser forgives nothing, and hands it to `look`. Only `meta` and `br` have no end.
fn read(page: &str, look: impl FnOnce(&Document)) {
    let mut text = page.replace("<br>", "<br/>");
    let mut from = 0;
    while let Some(place) = text[from..].find("<meta") {
        let end = from + place + text[from + place..].find('>').unwrap();
        text.insert(end, '/');
        from = end;
    }
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    match Document::parse_with_options(&text, options) {
        Ok(document) => look(&document),
        Err(error) => panic!("{error}"),
    }
}

fn named<'a>(document: &'a Document, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(name))
}

fn words(node: Node) -> String {
    node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect()
}

fn figure(name: &str, unit: &str, value: f64) -> Figure {
    Figure { name: name.into(), unit: unit.into(), better: Better::Higher, value }
}

/// One scenario, two relays, these values of one figure.
fn small(values: [&[f64]; 2]) -> Suite {
    let round =
        |&value: &f64| Round { figures: vec![figure("delivered", "messages/s", value)], ..Round::default() };
    let relay = |name: &str, values: &[f64]| Relay {
        name: name.into(),
        rounds: values.iter().map(round).collect(),
        ..Relay::default()
    };
    let relays = vec![relay("first", values[0]), relay("second", values[1])];
    let scenario = Scenario { name: "only".into(), relays, ..Scenario::default() };
    Suite { scenarios: vec![scenario], ..Suite::default() }
}

/// The cells of the table of figures, row by row.
fn rows(document: &Document) -> Vec<Vec<String>> {
    let table = named(document, "table").find(|table| table.attribute("class") == Some("figures")).unwrap();
    let rows = table.descendants().filter(|node| node.has_tag_name("tr")).skip(1);
    rows.map(|row| row.children().filter(Node::is_element).map(words).collect()).collect()
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    let suite = sample::suite(1, 4, 5, 0.03);
    let page = paper(&suite);
    for foreign in ["http:", "https:", "<script", "@import", "url(", "<link", "<img", " src=", "javascript:"]
    {
        assert!(!page.contains(foreign), "{foreign}");
    }
    read(&page, |document| {
        let count = |name: &str| named(document, name).count();
        assert_eq!(count("h2"), 4 + suite.scenarios.len());
        // Two charts of bars, two of latency, one course for each relay.
        let charts = named(document, "svg").filter(|svg| svg.attribute("role") == Some("img")).count();
        assert_eq!(charts, suite.scenarios.len() * (2 + 2 + 4));
        assert_eq!((count("title"), count("desc")), (charts + 1, charts));
        for head in named(document, "th") {
            assert!(head.has_attribute("scope"), "{:?}", words(head));
        }
        for link in named(document, "a") {
            let place = link.attribute("href").unwrap().strip_prefix('#').unwrap();
            assert!(document.descendants().any(|node| node.attribute("id") == Some(place)), "{place}");
        }
        let text = words(document.root_element());
        for (name, value) in &suite.card {
            assert!(text.contains(name) && text.contains(value), "{name}");
        }
        for relay in &suite.scenarios[0].relays {
            for property in [&relay.version, &relay.durability, &relay.configuration] {
                assert!(text.contains(property), "{property}");
            }
        }
    });
}

#[test]
fn figures_are_medians_with_ranges_and_ratios_of_pairs() {
    let suite = small([&[1000.0, 2000.0, 3000.0], &[500.0, 500.0, 600.0]]);
    read(&paper(&suite), |document| {
        let rows = rows(document);
        assert_eq!(
            rows[0],
            ["deliveredmessages/s, more is better", "first", "2,000", "1,000 to 3,000", "1", ""]
        );
        // The ratio of the medians would be the same 0.25, their range 0.17 to 0.60.
        assert_eq!(rows[1], ["second", "500", "500 to 600", "0.25 0.20 to 0.50", ""]);
    });
}

#[test]
fn a_round_with_trouble_is_seen_and_does_not_count() {
    let mut suite = small([&[100.0, 100.0, 100.0], &[50.0, 60.0, 9.0]]);
    suite.scenarios[0].relays[1].rounds[2].trouble = "two messages are missing".into();
    read(&paper(&suite), |document| {
        assert_eq!(rows(document)[1][..4], ["second ✕", "55", "50 to 60", "0.55 0.50 to 0.60"]);
        let crosses = named(document, "path").filter(|path| path.attribute("class") == Some("cross"));
        assert_eq!(crosses.count(), 1);
        let text = words(document.root_element());
        assert!(text.contains("second, round 3 does not count: two messages are missing"), "{text}");
        assert!(text.contains("1 round does not count"), "{text}");
    });
    suite.scenarios[0].relays[0].rounds.iter_mut().for_each(|round| round.trouble = "died".into());
    read(&paper(&suite), |document| {
        assert_eq!(rows(document)[0][1..5], ["first ✕", "–", "no round counts", ""]);
        assert_eq!(rows(document)[1][3], "–");
    });
}

#[test]
fn names_from_files_stay_text() {
    let evil = "</title></svg><script>alert(1)</script>\"'&amp;\u{0}\u{1b}[2J\u{202e}";
    let mut suite = sample::suite(2, 2, 3, 0.03);
    suite.card.insert(evil.into(), evil.into());
    for scenario in &mut suite.scenarios {
        (scenario.name, scenario.shows) = (evil.into(), evil.into());
        for relay in &mut scenario.relays {
            for text in [&mut relay.name, &mut relay.version, &mut relay.durability, &mut relay.configuration]
            {
                *text = evil.into();
            }
            relay.rounds[2].trouble = evil.into();
            for round in &mut relay.rounds {
                round.curves = std::mem::take(&mut round.curves)
                    .into_values()
                    .map(|curve| (evil.into(), curve))
                    .collect();
                round.figures[0].name = evil.into();
                round.figures[1].unit = format!("{evil}/s");
            }
        }
    }
    let page = paper(&suite);
    assert!(!page.contains("<script") && !page.contains(['\u{0}', '\u{1b}', '\u{202e}']));
    read(&page, |document| {
        let title = named(document, "title").next().map(words).unwrap();
        assert!(title.starts_with("</title></svg><script>alert(1)</script>\"'&amp;"), "{title}");
    });
}

#[test]
fn values_that_make_no_sense_do_not_break_the_drawing() {
    let wild = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -1.0,
        0.0,
        1e-320,
        f64::MIN_POSITIVE,
        1e300,
        f64::MAX,
        5.0,
    ];
    let mut random = Rng::with_seed(5);
    for _ in 0..30 {
        let mut suite = sample::suite(random.u64(..), random.usize(0..4), random.usize(0..4), 0.1);
        let rounds = suite.scenarios.iter_mut().flat_map(|it| &mut it.relays).flat_map(|it| &mut it.rounds);
        for round in rounds {
            round.figures.iter_mut().for_each(|figure| figure.value = wild[random.usize(..wild.len())]);
            round.figures.truncate(random.usize(..9));
            for point in round.curves.values_mut().flatten() {
                *point = (wild[random.usize(..wild.len())], random.u64(..));
            }
            let odd = |random: &mut Rng| Moment {
                seconds: wild[random.usize(..wild.len())],
                accepted: random.u64(..),
                delivered: random.u64(..),
                ..Moment::default()
            };
            round.timeline.extend((0..3).map(|_| odd(&mut random)));
        }
        let page = paper(&suite);
        read(&page, |document| {
            let drawn =
                document.descendants().filter(|node| node.ancestors().any(|it| it.has_tag_name("svg")));
            for attribute in drawn.flat_map(|node| node.attributes()) {
                let value = attribute.value();
                assert!(!value.contains("NaN") && !value.contains("inf"), "{}={value}", attribute.name());
                if let Ok(number) = value.parse::<f64>() {
                    assert!(number.abs() < 10_000.0, "{}={value}", attribute.name());
                    assert!(attribute.name() != "width" || number >= 0.0, "width={value}");
                }
            }
        });
    }
}

#[test]
fn a_page_stays_small_whatever_the_rounds_hold() {
    let mut suite = sample::suite(3, 1, 200, 0.02);
    suite.scenarios.truncate(1);
    let curve = (0..2000u32).map(|step| (f64::from(step) / 2000.0, u64::from(step))).collect::<Vec<_>>();
    for round in &mut suite.scenarios[0].relays[0].rounds {
        round.curves.insert("accept".into(), curve.clone());
    }
    assert!(paper(&suite).len() < 600_000, "{}", paper(&suite).len());
}

#[test]
fn an_empty_series_is_a_page_too() {
    let empty = [
        Suite::default(),
        Suite { scenarios: vec![Scenario::default()], ..Suite::default() },
        small([&[], &[]]),
        small([&[f64::NAN], &[1.0]]),
    ];
    for suite in empty {
        read(&paper(&suite), |document| assert_eq!(named(document, "h1").count(), 1));
    }
}
