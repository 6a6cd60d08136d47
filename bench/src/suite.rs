//! What a series of runs found: named scenarios, several relays, several rounds, in one file.
//!
//! [`Suite`] is what scenarios write and what the report and the comparison read, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::run::Moment;

/// A series of runs on one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// What the figures depend on, by name: kernel, processor, file system, ...
    pub card: BTreeMap<String, String>,
    /// In the order in which they ran.
    pub scenarios: Vec<Scenario>,
}

/// One scenario and what every relay made of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The word for the command line.
    pub name: String,
    /// A paragraph on what it shows.
    pub shows: String,
    /// One for each relay, in the order in which they ran within a round. Ratios are to the first.
    pub relays: Vec<Relay>,
}

/// One relay in one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// The adapter's name.
    pub name: String,
    /// The version that it reported.
    pub version: String,
    /// What its positive reply to a message promises: synced to disk, written, in memory.
    pub durability: String,
    /// A hash of the configuration that it ran with.
    pub configuration: String,
    /// Round by round; rounds of different relays were interleaved.
    pub rounds: Vec<Round>,
}

/// One relay in one scenario, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What was measured, in the order in which it is shown. All rounds of a scenario have the same names, but a
    /// round in trouble may have none.
    pub figures: Vec<Figure>,
    /// Latencies by name ("accept", "end to end").
    pub curves: BTreeMap<String, Curve>,
    /// The course of the run.
    pub timeline: Vec<Moment>,
    /// Why the round does not count: conservation broken, the relay stalled or died. Empty if it does.
    pub trouble: String,
}

/// One measured value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, such as "delivered".
    pub name: String,
    /// The unit, such as "messages/s", "us" or "MiB".
    pub unit: String,
    /// Which direction is good.
    pub better: Better,
    /// The value.
    pub value: f64,
}

/// Which direction of a figure is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it is shown for information.
    #[default]
    Neither,
}

/// A distribution of latencies: at each share from 0 to 1, the microseconds below which it stays.
pub type Curve = Vec<(f64, u64)>;
