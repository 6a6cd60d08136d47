//! Randomness: one stream per concern, so that a draw added in one place does not reshuffle the others.

use std::cell::RefCell;
use std::time::Duration;

/// How likely something is, in parts of a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(pub u32);

impl Chance {
    /// It does not happen.
    pub const NEVER: Chance = Chance(0);
    /// It always happens.
    pub const ALWAYS: Chance = Chance(1_000_000);

    /// So many in a hundred.
    pub const fn percent(percent: u32) -> Chance {
        Chance(percent * 10_000)
    }
}

/// A duration drawn evenly between two others, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest.
    pub low: Duration,
    /// The longest; not below `low`.
    pub high: Duration,
}

impl Span {
    /// Between two numbers of microseconds.
    pub const fn micros(low: u64, high: u64) -> Span {
        Span { low: Duration::from_micros(low), high: Duration::from_micros(high) }
    }

    /// Between two numbers of milliseconds.
    pub const fn millis(low: u64, high: u64) -> Span {
        Span { low: Duration::from_millis(low), high: Duration::from_millis(high) }
    }
}

/// One stream of random numbers.
#[derive(Debug)]
pub struct Stream(RefCell<fastrand::Rng>);

impl Stream {
    /// The stream that `salt` names among those of `seed`.
    pub fn new(seed: u64, salt: &str) -> Stream {
        let mut mixed = fastrand::Rng::with_seed(salt.bytes().fold(seed, |h, b| mix(h, u64::from(b))));
        Stream(RefCell::new(mixed.fork()))
    }

    /// Any number.
    pub fn any(&self) -> u64 {
        self.0.borrow_mut().u64(..)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&self, bound: usize) -> usize {
        self.0.borrow_mut().usize(..bound)
    }

    /// A number between two others, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.0.borrow_mut().u64(low..=high)
    }

    /// True or false.
    pub fn coin(&self) -> bool {
        self.0.borrow_mut().bool()
    }

    /// Whether it happens this time. Draws even when it never does, so that switching one fault off leaves
    /// the others where they were.
    pub fn hits(&self, chance: Chance) -> bool {
        self.0.borrow_mut().u32(..1_000_000) < chance.0
    }

    /// A duration in `span`.
    pub fn span(&self, span: Span) -> Duration {
        Duration::from_nanos(self.between(nanos(span.low), nanos(span.high)))
    }

    /// One of `items`, of which there is at least one.
    pub fn one_of<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Brings `items` into any order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        self.0.borrow_mut().shuffle(items);
    }
}

/// The streams of a world.
#[derive(Debug)]
pub struct Streams {
    /// Which task runs next, and how long it runs.
    pub scheduling: Stream,
    /// Latencies and faults of connections.
    pub network: Stream,
    /// Latencies and faults of disks.
    pub disk: Stream,
    /// Latencies and faults of name look-ups.
    pub dns: Stream,
    /// How long worker threads take, and whether they are busy.
    pub work: Stream,
    /// What the program under test draws.
    pub host: Stream,
    /// What clients, next hops and the world's own program draw.
    pub workload: Stream,
}

impl Streams {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Streams {
        let stream = |salt| Stream::new(seed, salt);
        Streams {
            scheduling: stream("scheduling"),
            network: stream("network"),
            disk: stream("disk"),
            dns: stream("dns"),
            work: stream("work"),
            host: stream("host"),
            workload: stream("workload"),
        }
    }
}

/// One word of an FNV-1a hash.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let (a, b) = (Streams::new(7), Streams::new(7));
        let first = a.disk.any();
        assert_eq!(first, b.disk.any());
        assert_ne!(first, b.network.any());
        assert_ne!(first, Streams::new(8).disk.any());
    }

    #[test]
    fn chances_hold_about_what_they_say() {
        let stream = Stream::new(1, "test");
        let hits = (0..10_000).filter(|_| stream.hits(Chance::percent(25))).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| stream.hits(Chance::ALWAYS) && !stream.hits(Chance::NEVER)));
    }
}
