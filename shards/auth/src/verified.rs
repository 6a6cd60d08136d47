//! Passwords that were right a moment ago, so that a client that logs in for every message costs a hash, and not tens
//! of milliseconds, each time.

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use mail::Time;

/// Fingerprints ([`crate::Users::fingerprint`]) of passwords that were right, each for a time, and no more than a bound:
/// the oldest is forgotten first.
#[derive(Debug)]
pub struct Verified {
    known: BTreeSet<[u8; 32]>,
    /// In the order in which they expire.
    order: VecDeque<(Time, [u8; 32])>,
    lives: Duration,
    count_max: usize,
}

impl Verified {
    /// Nothing yet; later at most `count_max`, each for as long as `lives`.
    pub fn new(lives: Duration, count_max: usize) -> Verified {
        Verified { known: BTreeSet::new(), order: VecDeque::new(), lives, count_max }
    }

    /// Whether it was right.
    pub fn contains(&mut self, fingerprint: &[u8; 32], now: Time) -> bool {
        while self.order.front().is_some_and(|(expires, _)| *expires <= now) {
            self.forget_oldest();
        }
        self.known.contains(fingerprint)
    }

    /// Remembers that it is right.
    pub fn insert(&mut self, fingerprint: [u8; 32], now: Time) {
        if self.count_max == 0 || !self.known.insert(fingerprint) {
            return;
        }
        if self.order.len() == self.count_max {
            self.forget_oldest();
        }
        self.order.push_back((now + self.lives, fingerprint));
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.order.pop_front() {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_for_a_time_and_within_a_bound() {
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        let mut verified = Verified::new(Duration::from_secs(10), 2);
        verified.insert([1; 32], at(0));
        verified.insert([1; 32], at(5));
        assert!(verified.contains(&[1; 32], at(9)) && !verified.contains(&[2; 32], at(9)));
        assert!(!verified.contains(&[1; 32], at(10)) && verified.is_empty());
        (1..=3).for_each(|n| verified.insert([n; 32], at(20)));
        assert_eq!([1, 2, 3].map(|n| verified.contains(&[n; 32], at(21))), [false, true, true]);
        assert_eq!((verified.len(), verified.known.len()), (2, 2));
    }
}
