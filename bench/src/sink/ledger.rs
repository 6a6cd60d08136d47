//! What arrived, in a bit per delivery.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::bits::Bits;
use crate::identity::{Alteration, Stamp};

/// Runs told apart; messages of further ones count as foreign.
const RUNS_MAX: usize = 64;
/// Deliveries per run told apart (two sets of 128 MiB at worst); messages beyond count as foreign.
pub(crate) const DELIVERIES_MAX: u64 = 1 << 30;
/// Repeated deliveries remembered one by one; further ones are only counted.
const REPEATS_MAX: usize = 1 << 20;
/// Alterations remembered one by one; further ones are only counted.
const ALTERATIONS_MAX: usize = 1 << 10;

/// The receipts of all runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// By the run's mark.
    pub runs: HashMap<u32, RunReceipts>,
    /// Messages that no load made, or that could not be told apart any more.
    pub foreign: u64,
    /// Changed messages, the first ones, as far as their stamp can be read.
    pub alterations: Vec<(Option<Stamp>, Alteration)>,
    /// Deliveries of changed messages.
    pub altered: u64,
}

/// The receipts of one run. Recipient k of message s is number `s * recipients + k`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReceipts {
    /// Recipients per message.
    pub recipients: u16,
    /// Deliveries of intact messages.
    pub delivered: Bits,
    /// Deliveries of changed messages.
    pub altered: Bits,
    /// Recipients that a failure report accounts for.
    pub reported: Bits,
    /// Deliveries of intact messages on top of the first, one entry for each, as far as they fit.
    pub repeats: Vec<u64>,
    /// How many there were.
    pub repeated: u64,
}

impl Ledger {
    /// Counts an intact message for these recipients.
    pub(crate) fn deliver(&mut self, stamp: &Stamp, recipients: impl Iterator<Item = Option<u16>>) {
        let Some(run) = self.run(stamp) else {
            self.foreign += 1;
            return;
        };
        let mut strange = false;
        for recipient in recipients {
            match recipient.and_then(|number| delivery(stamp, number)) {
                Some(delivery) if run.delivered.insert(delivery) => {}
                Some(delivery) => run.repeat(delivery),
                None => strange = true,
            }
        }
        self.foreign += u64::from(strange);
    }

    /// Counts a changed message for these recipients.
    pub(super) fn alter(
        &mut self,
        stamp: Option<Stamp>,
        alteration: Alteration,
        recipients: impl Iterator<Item = Option<u16>>,
    ) {
        if self.alterations.len() < ALTERATIONS_MAX {
            self.alterations.push((stamp, alteration));
        }
        let mut count = 0;
        for recipient in recipients {
            count += 1;
            // A stamp that was changed itself may name a run that never was.
            if let Some((stamp, number)) = stamp.zip(recipient)
                && let Some(run) = self.runs.get_mut(&stamp.run)
                && let Some(delivery) = delivery(&stamp, number)
            {
                run.altered.insert(delivery);
            }
        }
        self.altered += count.max(1);
    }

    /// Counts a failure report about these recipients.
    pub(super) fn report(&mut self, stamp: &Stamp, failed: &[u16]) {
        let Some(run) = self.run(stamp) else {
            self.foreign += 1;
            return;
        };
        for delivery in failed.iter().filter_map(|&number| delivery(stamp, number)) {
            run.reported.insert(delivery);
        }
    }

    fn run(&mut self, stamp: &Stamp) -> Option<&mut RunReceipts> {
        if !self.runs.contains_key(&stamp.run) && self.runs.len() >= RUNS_MAX {
            return None;
        }
        let fresh = RunReceipts { recipients: stamp.recipients, ..RunReceipts::default() };
        let run = self.runs.entry(stamp.run).or_insert(fresh);
        (run.recipients == stamp.recipients).then_some(run)
    }

    /// Adds what another thread or sink received.
    pub(crate) fn absorb(&mut self, other: &Ledger) {
        self.foreign += other.foreign;
        self.altered += other.altered;
        let room = ALTERATIONS_MAX.saturating_sub(self.alterations.len());
        self.alterations.extend(other.alterations.iter().take(room));
        for (&mark, theirs) in &other.runs {
            match self.runs.entry(mark) {
                std::collections::hash_map::Entry::Vacant(entry) => drop(entry.insert(theirs.clone())),
                std::collections::hash_map::Entry::Occupied(mut entry) => entry.get_mut().absorb(theirs),
            }
        }
    }

    pub(super) fn count_into(&self, progress: &mut Progress) {
        progress.foreign += self.foreign;
        progress.altered += self.altered;
        for run in self.runs.values() {
            progress.delivered += run.delivered.count();
            progress.repeated += run.repeated;
            progress.reported += run.reported.count();
        }
    }
}

impl RunReceipts {
    fn repeat(&mut self, delivery: u64) {
        self.repeated += 1;
        if self.repeats.len() < REPEATS_MAX {
            self.repeats.push(delivery);
        }
    }

    fn absorb(&mut self, other: &RunReceipts) {
        for common in self.delivered.absorb(&other.delivered).iter() {
            self.repeat(common);
        }
        self.altered.absorb(&other.altered);
        self.reported.absorb(&other.reported);
        self.repeated += other.repeated;
        let room = REPEATS_MAX.saturating_sub(self.repeats.len());
        self.repeats.extend(other.repeats.iter().take(room));
    }
}

fn delivery(stamp: &Stamp, recipient: u16) -> Option<u64> {
    let number = u64::from(stamp.sequence) * u64::from(stamp.recipients) + u64::from(recipient);
    (recipient < stamp.recipients && number < DELIVERIES_MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u32) -> Stamp {
        Stamp { run: 5, sequence, recipients: 2, time: 0 }
    }

    #[test]
    fn a_delivery_seen_by_two_threads_is_a_repeat() {
        let both = || [Some(0), Some(1)].into_iter();
        let mut one = Ledger::default();
        one.deliver(&stamp(0), both());
        one.deliver(&stamp(1), both());
        one.deliver(&stamp(1), [Some(1)].into_iter());
        let mut other = Ledger::default();
        other.deliver(&stamp(0), [Some(1)].into_iter());
        other.deliver(&stamp(2), [None, Some(7)].into_iter());
        one.absorb(&other);
        let run = &one.runs[&5];
        assert_eq!((run.delivered.count(), run.repeated), (4, 2));
        assert_eq!(run.repeats, [3, 1]);
        assert_eq!(one.foreign, 1);
    }

    #[test]
    fn a_stamp_out_of_bounds_costs_no_memory() {
        let mut ledger = Ledger::default();
        let wild = Stamp { run: 5, sequence: u32::MAX, recipients: u16::MAX, time: 0 };
        ledger.deliver(&wild, [Some(0)].into_iter());
        assert_eq!((ledger.foreign, ledger.runs[&5].delivered.count()), (1, 0));
    }
}
