//! A series of rounds: scenario by scenario, and within each the relays take turns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::adapter::Adapter;
use crate::card;
use crate::run;
use crate::scenario::{Kind, Scenario, Stage};
use crate::suite::{self, Round, Suite};

/// Messages of the first attempt to find out how fast a relay is.
const PROBE: u32 = 200;
/// Each further attempt has this many times as many.
const PROBE_GROWTH: u32 = 5;
/// An attempt that lasted this long is believed.
const PROBE_SECONDS: f64 = 1.0;
/// Messages of a round, however slow or fast the relay is: fewer say nothing, more fill the disk.
const MESSAGES: std::ops::RangeInclusive<u32> = 200..=2_000_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order.
    pub scenarios: Vec<Scenario>,
    /// The relays; ratios are to the first.
    pub adapters: Vec<Adapter>,
    /// Rounds of each scenario.
    pub rounds: u32,
    /// Messages per round for a relay by its name, or for all others.
    pub messages: Messages,
    /// How long a round should last where the number of messages is not given.
    pub seconds: f64,
    /// On the disk under test.
    pub directory: PathBuf,
}

/// How many messages a round has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// For relays that are not named.
    pub all: Option<u32>,
    /// For these.
    pub named: BTreeMap<String, u32>,
}

impl Messages {
    fn of(&self, relay: &str) -> Option<u32> {
        self.named.get(relay).copied().or(self.all)
    }
}

impl std::str::FromStr for Messages {
    type Err = String;

    /// Parses `5000`, `mtad=100000,postfix=5000`, or both mixed.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut messages = Self::default();
        for part in text.split(',') {
            let (name, count) =
                part.split_once('=').map_or((None, part), |(name, count)| (Some(name), count));
            let count = count.parse().ok().filter(|&count| count > 0);
            let count = count.ok_or(format!("{part:?} is neither MESSAGES nor RELAY=MESSAGES"))?;
            match name {
                Some(name) => drop(messages.named.insert(name.into(), count)),
                None => messages.all = Some(count),
            }
        }
        Ok(messages)
    }
}

/// What happens, for people who wait.
pub enum News<'suite> {
    /// Something to read.
    Text(String),
    /// Another round is over, so that what there is can be kept.
    Round(&'suite Suite),
}

/// Plays all rounds. A round that fails is one in trouble, and the others are played all the same.
pub fn run(plan: &Plan, mut tell: impl FnMut(News) -> io::Result<()>) -> io::Result<Suite> {
    fs::create_dir_all(&plan.directory)?;
    let plan = Plan { directory: fs::canonicalize(&plan.directory)?, ..plan.clone() };
    let mut suite = Suite { card: card::card(&plan.directory)?, scenarios: Vec::new() };
    for scenario in &plan.scenarios {
        tell(News::Text(format!("{}: {}", scenario.name, scenario.shows)))?;
        suite.scenarios.push(suite::Scenario {
            name: scenario.name.into(),
            shows: scenario.shows.into(),
            relays: plan.adapters.iter().map(entry).collect(),
        });
        let place = suite.scenarios.len() - 1;
        let mut counts = Vec::new();
        for adapter in &plan.adapters {
            counts.push(count(&plan, scenario, adapter));
        }
        for number in 0..plan.rounds {
            for index in order(plan.adapters.len(), number) {
                let adapter = &plan.adapters[index];
                let played =
                    counts[index].clone().and_then(|messages| play(&plan, scenario, adapter, messages));
                let relay = &mut suite.scenarios[place].relays[index];
                let round =
                    played.unwrap_or_else(|trouble| (Round { trouble, ..Round::default() }, String::new()));
                tell(News::Text(line(number + 1, &relay.name, &round.0)))?;
                if !round.1.is_empty() {
                    relay.configuration = round.1;
                }
                relay.rounds.push(round.0);
                tell(News::Round(&suite))?;
            }
        }
    }
    Ok(suite)
}

fn entry(adapter: &Adapter) -> suite::Relay {
    let description = adapter.description.clone();
    suite::Relay {
        name: description.name,
        version: description.version,
        durability: description.durability,
        configuration: String::new(),
        rounds: Vec::new(),
    }
}

/// The relays in the order of this round: forth and back, so that none always follows the same one.
fn order(relays: usize, round: u32) -> Vec<usize> {
    let forth = 0..relays;
    if round.is_multiple_of(2) { forth.collect() } else { forth.rev().collect() }
}

/// How many messages a round of this relay has, tried out if nobody said.
fn count(plan: &Plan, scenario: &Scenario, adapter: &Adapter) -> Result<u32, String> {
    match plan.messages.of(&adapter.description.name) {
        Some(messages) => Ok(messages),
        None if scenario.kind == Kind::Idle => Ok(0),
        None => calibrate(plan, scenario, adapter)
            .map_err(|error| format!("while finding out how fast it is: {error}")),
    }
}

fn calibrate(plan: &Plan, scenario: &Scenario, adapter: &Adapter) -> io::Result<u32> {
    let stage = Stage::new(scenario, adapter, &plan.directory, 0)?;
    let mut messages = PROBE;
    loop {
        // A fresh one each time, because a relay remembers that its next hop was gone between two attempts.
        let relay = stage.start()?;
        let report = run::run(stage.config(&relay, messages), |_| {})?;
        let seconds = report.throughput.delivered_seconds;
        if seconds >= PROBE_SECONDS || messages.saturating_mul(PROBE_GROWTH) > *MESSAGES.end() {
            return Ok(scaled(messages, seconds, plan.seconds));
        }
        messages *= PROBE_GROWTH;
    }
}

/// As many messages as would last so many seconds, if `messages` lasted `took`.
fn scaled(messages: u32, took: f64, seconds: f64) -> u32 {
    let count = f64::from(messages) / took.max(1e-3) * seconds;
    (count as u32).clamp(*MESSAGES.start(), *MESSAGES.end())
}

/// One round, and the hash of the configuration that the relay ran with.
fn play(
    plan: &Plan,
    scenario: &Scenario,
    adapter: &Adapter,
    messages: u32,
) -> Result<(Round, String), String> {
    let stage =
        Stage::new(scenario, adapter, &plan.directory, messages).map_err(|error| error.to_string())?;
    let round = scenario.play(&stage).map_err(|error| error.to_string())?;
    Ok((round, stage.configuration()))
}

fn line(number: u32, relay: &str, round: &Round) -> String {
    let mut line = format!("  round {number} {relay:<10}");
    for figure in &round.figures {
        line.push_str(&format!("  {} {} {}", figure.name, rounded(figure.value), figure.unit));
    }
    if !round.trouble.is_empty() {
        line.push_str(&format!("  TROUBLE: {}", round.trouble));
    }
    line
}

/// A value with about three digits.
pub(crate) fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_take_turns() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
        assert_eq!(order(3, 2), [0, 1, 2]);
        assert_eq!(order(1, 5), [0]);
    }

    #[test]
    fn numbers_of_messages_are_read() {
        let messages: Messages = "mtad=100000,500,postfix=5000".parse().unwrap();
        assert_eq!(
            ["mtad", "postfix", "exim"].map(|relay| messages.of(relay)),
            [Some(100_000), Some(5000), Some(500)]
        );
        assert_eq!(Messages::default().of("mtad"), None);
        for wrong in ["", "mtad", "mtad=", "mtad=0", "mtad=x", "1,,2", "-1"] {
            assert!(wrong.parse::<Messages>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_round_lasts_as_long_as_wanted_within_bounds() {
        assert_eq!(scaled(1000, 2.0, 10.0), 5000);
        assert_eq!(scaled(200, 400.0, 10.0), *MESSAGES.start());
        assert_eq!(scaled(1_000_000, 0.0, 60.0), *MESSAGES.end());
    }

    #[test]
    fn values_are_told_with_three_digits() {
        assert_eq!(
            [12345.6, 45.67, 3.456, 0.1234, 0.0].map(rounded),
            ["12346", "45.7", "3.46", "0.123", "0.00"]
        );
    }
}
