//! A difference on the terminal.

use std::fmt::{self, Display, Formatter};

use super::{Change, Difference, Entry, FALSE_ALARMS, ROUNDS_MIN, Verdict};
use crate::number;

/// Shows a difference.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// What is shown.
    pub difference: &'a Difference,
    /// Whether figures within noise are shown, too.
    pub all: bool,
}

/// The columns that hold words stand to the left, those of numbers to the right.
const WORDS: usize = 5;
const HEAD: [&str; 8] = ["", "scenario", "relay", "figure", "unit", "before", "after", "change"];

impl Display for Table<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.around(out)?;
        self.figures(out)?;
        self.summary(out)
    }
}

impl Table<'_> {
    fn around(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let difference = self.difference;
        for (what, entries) in [("card", &difference.card), ("relay", &difference.relays)] {
            for Entry { name, a, b } in entries {
                let [a, b] = [a, b].map(|value| clean(value.as_deref().unwrap_or("(nothing)")));
                writeln!(out, "{what}: {}: {a} -> {b}", clean(name))?;
            }
        }
        let unlike: Vec<_> = difference.surroundings().map(|entry| clean(&entry.name)).collect();
        if !unlike.is_empty() {
            let names = unlike.join(", ");
            writeln!(
                out,
                "NOT MEASURED ALIKE ({names}): what changed may be the machine or the rig, not the relay"
            )?;
        }
        for missing in &difference.missing {
            let file = if missing.only_in_a { "before" } else { "after" };
            writeln!(out, "only {file}: {}", clean(&missing.path.join(" / ")))?;
        }
        for trouble in &difference.troubles {
            let [(a, of_a), (b, of_b)] = trouble.rounds;
            let place = clean(&format!("{} / {}", trouble.scenario, trouble.relay));
            let says = clean(&trouble.says);
            writeln!(out, "worse: {place}: rounds with trouble: {a} of {of_a} -> {b} of {of_b}: {says}")?;
        }
        Ok(())
    }

    fn figures(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let shown = self.difference.changes.iter().filter(|change| self.all || beyond(change));
        let rows: Vec<[String; 8]> = shown.map(row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = [HEAD.map(String::from)].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        for row in &rows {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                if column < WORDS { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    fn summary(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let changes = &self.difference.changes;
        let count = |wanted: &dyn Fn(&Change) -> bool| changes.iter().filter(|change| wanted(change)).count();
        let few = count(&|change| change.verdict == Verdict::TooFew);
        let told = changes.len() - few;
        let chance = (told as f64 * FALSE_ALARMS).ceil();
        let (worse, better) = (
            count(&|change| change.verdict == Verdict::Worse),
            count(&|change| change.verdict == Verdict::Better),
        );
        let found = count(&beyond);
        writeln!(
            out,
            "{told} figures compared: {found} changed beyond noise, {worse} worse, {better} better (chance alone: at most {chance:.0} or so)"
        )?;
        if few > 0 {
            writeln!(
                out,
                "{few} figures have too few rounds to tell: at least {ROUNDS_MIN} must count on either side"
            )?;
        }
        let same = count(&|change| beyond(change) && change.same_relay);
        if same > 0 && same < found {
            writeln!(
                out,
                "{same} of them belong to relays that are the same in both: the machine may have changed"
            )?;
        }
        Ok(())
    }
}

fn beyond(change: &Change) -> bool {
    matches!(change.verdict, Verdict::Worse | Verdict::Better | Verdict::Changed)
}

fn row(change: &Change) -> [String; 8] {
    let median =
        |spread: Option<crate::rounds::Spread>| spread.map_or("–".into(), |it| number::plain(it.median));
    let verdict = match change.verdict {
        Verdict::Worse => "worse",
        Verdict::Better => "better",
        Verdict::Changed => "changed",
        Verdict::Noise => "noise",
        Verdict::TooFew => "too few rounds",
    };
    [
        verdict.into(),
        clean(&change.scenario),
        clean(&change.relay),
        clean(&change.figure.name),
        clean(&change.figure.unit),
        median(change.a),
        median(change.b),
        if change.a.is_some() && change.b.is_some() { number::percent(change.share()) } else { "–".into() },
    ]
}

/// Names come from files: control characters would speak to the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
