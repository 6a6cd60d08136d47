//! When to try again.

use alloc::vec::Vec;
use core::time::Duration;

/// The longest rest of a destination.
pub const REST_MAX: Duration = Duration::from_secs(60);

/// The schedule of attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first, second, ... failed attempt; the last one repeats. Not empty.
    pub intervals: Vec<Duration>,
    /// Age from acceptance at which a recipient that still waits has failed.
    pub max_age: Duration,
    /// How far a wait is moved at random, either way, in percent of it (0 to 50), so that what failed together
    /// does not come back together.
    pub jitter_percent: u8,
}

impl Default for Retry {
    fn default() -> Retry {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        Retry {
            intervals: [1, 5, 15, 30, 60, 120, 240].map(minutes).to_vec(),
            max_age: Duration::from_secs(5 * 24 * 3600),
            jitter_percent: 10,
        }
    }
}

impl Retry {
    /// The wait after `attempts` (at least 1) failed attempts.
    pub fn wait(&self, attempts: u16, random: u64) -> Duration {
        let interval = self.interval(attempts);
        let reach = interval.as_nanos() as u64 / 100 * u64::from(self.jitter_percent.min(50));
        let moved =
            (interval.as_nanos() as u64).saturating_sub(reach).saturating_add(random % (2 * reach + 1));
        Duration::from_nanos(moved)
    }

    /// The longest wait that there can be.
    pub fn longest(&self) -> Duration {
        self.intervals.iter().max().map_or(Duration::ZERO, |longest| *longest * 3 / 2)
    }

    /// How long a destination rests that took no connection: half of the first wait, so that it never holds up a
    /// message whose time has come, and not longer than [`REST_MAX`], so that it is soon seen to be back.
    pub fn rest(&self) -> Duration {
        (self.interval(1) / 2).min(REST_MAX)
    }

    fn interval(&self, attempts: u16) -> Duration {
        let step = usize::from(attempts.max(1) - 1).min(self.intervals.len() - 1);
        self.intervals[step]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_come_in_order_and_the_last_repeats() {
        let seconds = Duration::from_secs;
        let retry = Retry {
            intervals: alloc::vec![seconds(2), seconds(5), seconds(10)],
            jitter_percent: 0,
            ..Retry::default()
        };
        let waits: Vec<Duration> = [0, 1, 2, 3, 4, u16::MAX].iter().map(|n| retry.wait(*n, 77)).collect();
        assert_eq!(waits, [2, 2, 5, 10, 10, 10].map(seconds));
        assert_eq!(retry.rest(), Duration::from_secs(1));
        let slow = Retry { intervals: alloc::vec![seconds(3600)], ..Retry::default() };
        assert_eq!(slow.rest(), REST_MAX);
    }

    #[test]
    fn jitter_stays_within_its_percentage_and_reaches_both_ends() {
        let retry = Retry { intervals: alloc::vec![Duration::from_secs(100)], ..Retry::default() };
        assert_eq!(retry.wait(1, 0), Duration::from_secs(90));
        assert_eq!(retry.wait(1, 20_000_000_000), Duration::from_secs(110));
        for random in 0..1000u64 {
            let wait = retry.wait(1, random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!((90..=110).contains(&wait.as_secs()));
        }
    }
}
