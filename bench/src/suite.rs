//! What a series of runs found: named scenarios, several relays, several rounds, in one file.
//!
//! [`Suite`] is what scenarios write and what the report and the comparison read, as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::run::Moment;

/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 256 << 20;

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
    /// The value. JSON has no infinity and no "not a number": both are written as null, which is read as the latter
    /// and counts as not measured.
    #[serde(deserialize_with = "number_or_null")]
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

impl Suite {
    /// Reads a file; errors name it and the place in it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let error = |kind, text: String| io::Error::new(kind, format!("{}: {text}", path.display()));
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|cause| error(cause.kind(), cause.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(error(io::ErrorKind::InvalidData, format!("more than {FILE_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(&bytes)
            .map_err(|cause| error(io::ErrorKind::InvalidData, format!("not a series of runs: {cause}")))
    }
}

fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
