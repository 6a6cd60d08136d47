//! Which recipients and messages a share in percent hits: pseudo-random, but the same in every run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use fastrand::Rng;

use crate::identity::{Stamp, hash};

/// Deliveries whose attempts are counted; a further one is spared, because it could be hit for ever.
const DELIVERIES_MAX: usize = 1 << 20;

/// What may happen to a recipient or to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// A recipient refused with 451.
    Temporary,
    /// A recipient refused with 550.
    Permanent,
    /// The connection closed in the middle of the content.
    Cut,
    /// The connection closed behind the content.
    Drop,
    /// The connection reset behind the content.
    Reset,
}

/// One attempt to deliver a message: run, number, and its first recipient, since a relay may split it.
pub(super) type Attempt = (u32, u32, u16);

/// What all threads of a sink know about earlier verdicts.
pub(super) struct Fates {
    /// Recipients and messages without a stamp that were judged, by lane and [`Blow`].
    judged: Vec<[AtomicU64; 5]>,
    /// How often each delivery was hit.
    hits: Mutex<HashMap<Attempt, u32>>,
}

impl Fates {
    pub(super) fn new(lanes: usize) -> Self {
        Self { judged: (0..lanes).map(|_| Default::default()).collect(), hits: Mutex::default() }
    }

    /// Judges as if nobody had been judged yet.
    pub(super) fn forget(&self) {
        self.judged.iter().flatten().for_each(|count| count.store(0, Relaxed));
        self.hits.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The verdict on something that cannot be known again: the n-th of its lane has always the same.
    pub(super) fn strikes_next(&self, blow: Blow, lane: usize, percent: f64) -> bool {
        percent > 0.0 && {
            let turn = self.judged[lane][blow as usize].fetch_add(1, Relaxed);
            draw(blow, lane as u64, turn) < percent
        }
    }

    /// The verdict on a message of a load: it depends on the number of the message and on how often this
    /// delivery was hit before, so that an attempt may succeed where the one before did not.
    pub(super) fn strikes(&self, blow: Blow, attempt: Attempt, percent: f64) -> bool {
        if percent <= 0.0 {
            return false;
        }
        let (_, sequence, recipient) = attempt;
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let before = hits.get(&attempt).copied();
        if before.is_none() && hits.len() >= DELIVERIES_MAX {
            return false;
        }
        let message = u64::from(sequence) << 16 | u64::from(recipient);
        let hit = draw(blow, message, before.unwrap_or(0).into()) < percent;
        if hit {
            *hits.entry(attempt).or_insert(0) += 1;
        }
        hit
    }
}

/// The attempt that a message with this stamp and these recipients is.
pub(super) fn attempt(stamp: &Stamp, recipient: Option<u16>) -> Attempt {
    (stamp.run, stamp.sequence, recipient.unwrap_or(u16::MAX))
}

/// A number from 0 to 100.
fn draw(blow: Blow, subject: u64, turn: u64) -> f64 {
    let mut text = [0; 24];
    text[..8].copy_from_slice(&(blow as u64).to_le_bytes());
    text[8..16].copy_from_slice(&subject.to_le_bytes());
    text[16..].copy_from_slice(&turn.to_le_bytes());
    Rng::with_seed(hash(&text)).f64() * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_repeat_from_run_to_run_and_differ_between_attempts() {
        let verdicts = |run: u32| -> Vec<bool> {
            let fates = Fates::new(1);
            (0..2000).map(|number| fates.strikes(Blow::Drop, (run, number % 1000, 0), 20.0)).collect()
        };
        let first = verdicts(1);
        assert_eq!(first, verdicts(2));
        let hit = first[..1000].iter().filter(|hit| **hit).count();
        assert!((150..250).contains(&hit), "{hit}");
        // Who was spared is spared again, as long as nothing else has hit it.
        let again = (0..1000).filter(|&number| first[number] && first[1000 + number]).count();
        assert!(again < hit / 2, "{again} of {hit}");
        assert!((0..1000).all(|number| first[number] || !first[1000 + number]));
    }

    #[test]
    fn shares_of_all_and_none_are_exact() {
        let fates = Fates::new(2);
        for number in 0..1000 {
            assert!(fates.strikes(Blow::Cut, (1, number, 0), 100.0));
            assert!(!fates.strikes(Blow::Cut, (1, number, 0), 0.0));
            assert!(fates.strikes_next(Blow::Temporary, 1, 100.0));
        }
        assert_eq!(fates.judged[1][Blow::Temporary as usize].load(Relaxed), 1000);
    }

    #[test]
    fn a_full_table_spares() {
        let fates = Fates::new(1);
        fates.hits.lock().unwrap().extend((0..DELIVERIES_MAX as u32).map(|number| ((0, number, 0), 1)));
        assert!(!fates.strikes(Blow::Drop, (1, 1, 1), 100.0));
        assert!(fates.strikes(Blow::Drop, (0, 1, 0), 100.0));
    }
}
