//! The committed bounds, and what a count beside its bound means.

use crate::callgrind::INSTRUCTIONS;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use toml::{Table, Value};

/// A count may be above its bound by this share of it.
const TOLERANCE: f64 = 0.03;
/// The same for instructions: a change in one function moves what the compiler makes of its neighbours.
const INSTRUCTION_TOLERANCE: f64 = 0.05;
/// The same for what depends on how many messages share a group of the log, and so on the order in which tasks run: any
/// change shuffles that order anew.
const GROUP_TOLERANCE: f64 = 0.15;
const OF_GROUPS: [&str; 2] = ["commits", "log_bytes"];
/// A count below this share of its bound asks for a lower one: otherwise what was won could be lost unseen.
pub const SLACK: f64 = 0.90;
/// The key of a tolerance that a piece has of its own.
const TOLERANCE_KEY: &str = "tolerance";

/// Counts for each unit, by name.
pub type Counts = BTreeMap<String, f64>;

/// The bounds of one piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// Bounds of its counts.
    pub counts: Counts,
    /// In place of the tolerance that counts have otherwise.
    pub tolerance: Option<f64>,
}

/// The bounds of all pieces, by name.
pub type Bounds = BTreeMap<String, Bound>;

/// What a count is beside its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Near it.
    Within,
    /// Above it, so many times.
    Exceeds(f64),
    /// Far below it, so many times.
    Fallen(f64),
    /// There is none.
    Unbound,
}

impl Bound {
    /// By which share a count may be above its bound.
    pub fn tolerance(&self, name: &str) -> f64 {
        let usual = match name {
            INSTRUCTIONS => INSTRUCTION_TOLERANCE,
            name if OF_GROUPS.contains(&name) => GROUP_TOLERANCE,
            _ => TOLERANCE,
        };
        self.tolerance.unwrap_or(usual)
    }

    /// Judges a count.
    pub fn judge(&self, name: &str, count: f64) -> Verdict {
        let Some(bound) = self.counts.get(name) else { return Verdict::Unbound };
        // Bounds are written down with three decimals: what is less than that is nothing.
        let count = (count * 1000.0).round() / 1000.0;
        match count / bound {
            _ if count == *bound => Verdict::Within,
            ratio if ratio > 1.0 + self.tolerance(name) => Verdict::Exceeds(ratio),
            ratio if ratio < SLACK => Verdict::Fallen(ratio),
            _ => Verdict::Within,
        }
    }
}

/// Reads bounds: a table for each piece.
pub fn parse(text: &str) -> Result<Bounds, String> {
    let tables: Table = text.parse().map_err(|error| format!("{error}"))?;
    tables.into_iter().map(|(piece, table)| Ok((piece.clone(), bound(&piece, table)?))).collect()
}

fn bound(piece: &str, table: Value) -> Result<Bound, String> {
    let Value::Table(table) = table else { return Err(format!("{piece} is no table")) };
    let mut bound = Bound::default();
    for (name, value) in table {
        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
        let number = number.filter(|number| *number >= 0.0).ok_or(format!("{piece}.{name} is no count"))?;
        match name.as_str() {
            TOLERANCE_KEY => bound.tolerance = Some(number),
            _ => drop(bound.counts.insert(name, number)),
        }
    }
    Ok(bound)
}

/// Writes bounds, so that [`parse`] reads the same.
pub fn format(bounds: &Bounds) -> String {
    let mut text = String::from(
        "# What each piece may cost, for each of its units. Written by `scripts/dev pieces bless`; see README.md.\n",
    );
    for (piece, bound) in bounds {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[{piece}]\n");
        let tolerance = bound.tolerance.iter().map(|tolerance| (TOLERANCE_KEY, *tolerance));
        for (name, number) in
            bound.counts.iter().map(|(name, number)| (name.as_str(), *number)).chain(tolerance)
        {
            let _ = writeln!(text, "{name} = {number}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[a]\nallocations = 2\ninstructions = 1000.5\nzero = 0\ntolerance = 0.1\n\n[b]\ninstructions = 7.25\ncommits = 100\nsends = 100\n";

    #[test]
    fn bounds_round_trip() {
        let bounds = parse(TEXT).expect("bounds");
        assert_eq!(bounds["a"].tolerance, Some(0.1));
        assert_eq!(bounds["b"].counts["instructions"], 7.25);
        assert_eq!(parse(&format(&bounds)), Ok(bounds));
    }

    #[test]
    fn what_is_no_bound_is_said() {
        for text in ["a = 1", "[a]\nx = \"1\"", "[a]\nx = -1", "[a]\nx = nan", "[a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_count_is_judged_from_both_sides() {
        let bounds = parse(TEXT).expect("bounds");
        let (a, b) = (&bounds["a"], &bounds["b"]);
        for count in [6.6, 7.25, 7.6] {
            assert_eq!(b.judge(INSTRUCTIONS, count), Verdict::Within);
        }
        assert!(matches!(b.judge(INSTRUCTIONS, 7.65), Verdict::Exceeds(_)));
        assert!(matches!(b.judge(INSTRUCTIONS, 6.5), Verdict::Fallen(_)));
        assert_eq!(b.judge("commits", 114.0), Verdict::Within);
        assert!(matches!(b.judge("commits", 116.0), Verdict::Exceeds(_)));
        assert_eq!(b.judge("sends", 102.0), Verdict::Within);
        assert!(matches!(b.judge("sends", 104.0), Verdict::Exceeds(_)));
        assert_eq!(a.judge(INSTRUCTIONS, 1100.0), Verdict::Within, "its own tolerance");
        assert!(matches!(a.judge("allocations", 3.0), Verdict::Exceeds(_)));
        assert_eq!(a.judge("zero", 0.0), Verdict::Within);
        assert!(matches!(a.judge("zero", 0.01), Verdict::Exceeds(_)));
        assert_eq!(a.judge("unheard_of", 1.0), Verdict::Unbound);
    }
}
