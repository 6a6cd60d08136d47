//! What is due when: an ordered map, so that the next deadline is always at hand for the ring's wait.
//!
//! An ordered map beats a wheel here, because connections keep one lazily moved entry each: insertions are rare,
//! exact order costs nothing more, and a cancelled entry is gone at once.

use std::collections::BTreeMap;

use mail::Time;

/// Entries of `T`, each due at a time.
pub(super) struct Timers<T> {
    due: BTreeMap<(Time, u64), T>,
    inserted: u64,
}

/// Names one entry until it expires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerId(Time, u64);

impl TimerId {
    /// When the entry is due.
    pub(super) fn at(self) -> Time {
        self.0
    }
}

impl<T> Timers<T> {
    pub(super) fn new() -> Timers<T> {
        Timers { due: BTreeMap::new(), inserted: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    pub(super) fn insert(&mut self, at: Time, entry: T) -> TimerId {
        self.inserted += 1;
        self.due.insert((at, self.inserted), entry);
        TimerId(at, self.inserted)
    }

    /// Removes an entry; one that has expired already is no error.
    pub(super) fn cancel(&mut self, id: TimerId) {
        self.due.remove(&(id.0, id.1));
    }

    /// When the first entry is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Takes the first entry that is due at `now`, in order of time, then of insertion.
    pub(super) fn expire(&mut self, now: Time) -> Option<T> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(timers: &mut Timers<u32>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.expire(Time(now))).collect()
    }

    #[test]
    fn entries_expire_in_order_of_time_then_of_insertion() {
        let mut timers = Timers::new();
        for (at, name) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            timers.insert(Time(at), name);
        }
        assert_eq!(timers.next(), Some(Time(10)));
        assert_eq!(expired(&mut timers, 9), []);
        assert_eq!(expired(&mut timers, 20), [2, 4, 3]);
        assert_eq!(expired(&mut timers, u64::MAX), [1]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_cancelled_entry_never_expires_and_cancelling_twice_is_harmless() {
        let mut timers = Timers::new();
        let first = timers.insert(Time(10), 1);
        let second = timers.insert(Time(10), 2);
        timers.cancel(first);
        timers.cancel(first);
        assert_eq!(expired(&mut timers, 10), [2]);
        timers.cancel(second);
        assert_eq!(timers.len(), 0);
    }
}
