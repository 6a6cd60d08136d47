//! What changed between two series of runs, and whether it is more than noise.

mod noise;
mod table;

use crate::rounds::Spread;
use crate::suite::{Better, Figure, Relay, Scenario, Suite};

pub use noise::{CHANGE_MIN, FALSE_ALARMS, ROUNDS_MIN, beyond_noise};
pub use table::Table;

/// What changed from one series (`a`, before) to another (`b`, after).
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Entries of the card that differ.
    pub card: Vec<Entry>,
    /// Versions, durability modes and configurations of relays that differ.
    pub relays: Vec<Entry>,
    /// What is in one file only.
    pub missing: Vec<Missing>,
    /// Relays with more rounds that do not count than before.
    pub troubles: Vec<Trouble>,
    /// Every figure that both have: worse first, then better, each by size.
    pub changes: Vec<Change>,
}

/// A property that differs; `None` where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Before.
    pub a: Option<String>,
    /// After.
    pub b: Option<String>,
}

/// Something that only one file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whether it is the first file that has it.
    pub only_in_a: bool,
    /// Scenario, relay and figure, as far down as needed.
    pub path: Vec<String>,
}

/// A relay that had more trouble than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The scenario.
    pub scenario: String,
    /// The relay.
    pub relay: String,
    /// Rounds with trouble and rounds in all, before and after.
    pub rounds: [(usize, usize); 2],
    /// What the first of the rounds after says.
    pub says: String,
}

/// One figure of one relay in one scenario, before and after.
#[derive(Clone, Debug)]
pub struct Change {
    /// The scenario.
    pub scenario: String,
    /// The relay.
    pub relay: String,
    /// The figure; its value has no meaning here.
    pub figure: Figure,
    /// Over the rounds before; `None` if none counts.
    pub a: Option<Spread>,
    /// Over the rounds after.
    pub b: Option<Spread>,
    /// What it amounts to.
    pub verdict: Verdict,
    /// Whether version and configuration of the relay stayed the same.
    pub same_relay: bool,
}

/// What a change amounts to; the order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Beyond noise, in the bad direction.
    Worse,
    /// Beyond noise, in the good direction.
    Better,
    /// Beyond noise, and no direction is good.
    Changed,
    /// Noise explains it.
    Noise,
    /// Too few rounds count to tell.
    TooFew,
}

impl Difference {
    /// Compares `b` to `a`.
    pub fn new(a: &Suite, b: &Suite) -> Self {
        let mut difference = Self { card: card(a, b), ..Self::default() };
        let (both, missing) = matched(&a.scenarios, &b.scenarios, |scenario| &scenario.name);
        difference.miss(&[], missing);
        for (a, b) in both {
            let (relays, missing) = matched(&a.relays, &b.relays, |relay| &relay.name);
            difference.miss(&[&a.name], missing);
            for (before, after) in relays {
                difference.relay(a, before, after);
            }
        }
        difference.changes.sort_by(|one, other| {
            let size = |change: &Change| change.share().abs();
            one.verdict.cmp(&other.verdict).then(size(other).total_cmp(&size(one)))
        });
        difference
    }

    /// Whether anything got worse: a figure beyond noise, or more rounds that do not count.
    pub fn got_worse(&self) -> bool {
        !self.troubles.is_empty() || self.changes.iter().any(|change| change.verdict == Verdict::Worse)
    }

    /// The entries of the card that say that another machine or rig measured, or the same one set up otherwise.
    pub fn surroundings(&self) -> impl Iterator<Item = &Entry> {
        self.card.iter().filter(|entry| !varies(&entry.name))
    }

    fn relay(&mut self, scenario: &Scenario, a: &Relay, b: &Relay) {
        let before = self.relays.len();
        let properties = [
            ("version", &a.version, &b.version),
            ("durability", &a.durability, &b.durability),
            ("configuration", &a.configuration, &b.configuration),
        ];
        let differing = properties.iter().filter(|(_, before, after)| before != after);
        self.relays.extend(differing.map(|&(what, before, after)| Entry {
            name: format!("{} {}: {what}", scenario.name, a.name),
            a: Some(before.clone()),
            b: Some(after.clone()),
        }));
        let same_relay = self.relays.len() == before;
        self.troubles.extend(trouble(scenario, a, b));
        let (figures_a, figures_b) = (figures(a), figures(b));
        let (both, missing) = matched(&figures_a, &figures_b, |(named, _)| named);
        self.miss(&[&scenario.name, &a.name], missing);
        self.changes.extend(
            both.into_iter().map(|((_, figure), _)| Change::new(scenario, figure, (a, b), same_relay)),
        );
    }

    fn miss(&mut self, path: &[&String], missing: Vec<(bool, &String)>) {
        self.missing.extend(missing.into_iter().map(|(only_in_a, name)| Missing {
            only_in_a,
            path: path.iter().copied().chain([name]).cloned().collect(),
        }));
    }
}

impl Change {
    fn new(scenario: &Scenario, figure: &Figure, (a, b): (&Relay, &Relay), same_relay: bool) -> Self {
        let (values_a, values_b) = (a.values(&figure.name), b.values(&figure.name));
        let mut change = Self {
            scenario: scenario.name.clone(),
            relay: a.name.clone(),
            figure: figure.clone(),
            a: Spread::of(values_a.iter().copied()),
            b: Spread::of(values_b.iter().copied()),
            verdict: Verdict::Noise,
            same_relay,
        };
        let more = change.share() > 0.0;
        change.verdict = match (beyond_noise(&values_a, &values_b), figure.better) {
            (None, _) => Verdict::TooFew,
            (Some(false), _) => Verdict::Noise,
            (Some(true), Better::Neither) => Verdict::Changed,
            (Some(true), better) if (better == Better::Higher) == more => Verdict::Better,
            (Some(true), _) => Verdict::Worse,
        };
        change
    }

    /// The change of the median as a share of what it was, infinite if that was 0.
    pub fn share(&self) -> f64 {
        match (self.a, self.b) {
            (Some(a), Some(b)) if a.median != b.median => (b.median - a.median) / a.median.abs(),
            _ => 0.0,
        }
    }
}

fn card(a: &Suite, b: &Suite) -> Vec<Entry> {
    let added = b.card.keys().filter(|name| !a.card.contains_key(*name));
    let names = a.card.keys().chain(added);
    let entries = names.map(|name| Entry {
        name: name.clone(),
        a: a.card.get(name).cloned(),
        b: b.card.get(name).cloned(),
    });
    entries.filter(|entry| entry.a != entry.b).collect()
}

/// Entries of the card that are times or measurements differ between two series on one machine, too.
fn varies(name: &str) -> bool {
    let name = name.to_lowercase();
    ["date", "time", "latency", "load", "rounds", "sync"].iter().any(|word| name.contains(word))
}

fn trouble(scenario: &Scenario, a: &Relay, b: &Relay) -> Option<Trouble> {
    let count = |relay: &Relay| relay.rounds.iter().filter(|round| !round.counts()).count();
    let first = b.rounds.iter().find(|round| !round.counts())?;
    (count(b) > count(a)).then(|| Trouble {
        scenario: scenario.name.clone(),
        relay: a.name.clone(),
        rounds: [(count(a), a.rounds.len()), (count(b), b.rounds.len())],
        says: first.trouble.clone(),
    })
}

/// The figures of a relay by name and unit, since a value in another unit cannot be compared.
fn figures(relay: &Relay) -> Vec<(String, &Figure)> {
    let mut found: Vec<(String, &Figure)> = Vec::new();
    for figure in relay.rounds.iter().flat_map(|round| &round.figures) {
        if !found.iter().any(|(_, other)| other.name == figure.name) {
            found.push((format!("{} ({})", figure.name, figure.unit), figure));
        }
    }
    found
}

/// Pairs of the same name, and what only one side has: its name, and true if that side is `a`.
type Matched<'a, T> = (Vec<(&'a T, &'a T)>, Vec<(bool, &'a String)>);

/// Finds what belongs together, in the order of `a`.
fn matched<'a, T>(a: &'a [T], b: &'a [T], name: impl for<'b> Fn(&'b T) -> &'b String) -> Matched<'a, T> {
    let find = |list: &'a [T], wanted: &T| list.iter().find(|other| name(other) == name(wanted));
    let both = a.iter().filter_map(|one| Some((one, find(b, one)?))).collect();
    let only_a = a.iter().filter(|one| find(b, one).is_none()).map(|one| (true, one));
    let only_b = b.iter().filter(|one| find(a, one).is_none()).map(|one| (false, one));
    (both, only_a.chain(only_b).map(|(only_in_a, one)| (only_in_a, name(one))).collect())
}
