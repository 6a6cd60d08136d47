//! How slowly a connection is served: pauses before replies, replies byte by byte, contents read at a rate.

use std::time::Duration;

use super::Behaviour;
use crate::clock;

/// Pieces per second in which a content is read at a rate.
const PIECES_PER_SECOND: u64 = 10;

/// The slowness of a connection: the listener's, made worse by the domains of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Pause before a reply.
    pub(super) delay: Duration,
    /// Pause between two bytes of a reply.
    pub(super) trickle: Duration,
    /// Bytes of content read per second; 0 for as fast as they come.
    read_rate: u64,
}

impl Pace {
    pub(super) fn of(behaviour: &Behaviour) -> Self {
        Self { delay: behaviour.delay, trickle: behaviour.trickle, read_rate: behaviour.read_rate }
    }

    /// The slower of both in every respect.
    pub(super) fn slowed(self, behaviour: &Behaviour) -> Self {
        let read_rate = match (self.read_rate, behaviour.read_rate) {
            (0, rate) | (rate, 0) => rate,
            (one, other) => one.min(other),
        };
        Self {
            delay: self.delay.max(behaviour.delay),
            trickle: self.trickle.max(behaviour.trickle),
            read_rate,
        }
    }

    /// How much of a content to read at once; `None` for all that there is.
    pub(super) fn piece(&self) -> Option<usize> {
        let bytes = usize::try_from(self.read_rate.div_ceil(PIECES_PER_SECOND)).unwrap_or(usize::MAX);
        (self.read_rate > 0).then_some(bytes)
    }

    /// Until when to rest because of the bytes of content that came since the last rest; `paid` is how many
    /// had come by then.
    pub(super) fn rest(&self, bytes: usize, paid: &mut usize) -> Option<u64> {
        let fresh = bytes.saturating_sub(*paid) as u64;
        if self.read_rate == 0 || fresh == 0 {
            return None;
        }
        *paid = bytes;
        let pause = u128::from(fresh) * 1_000_000_000 / u128::from(self.read_rate);
        Some(clock::now().saturating_add(u64::try_from(pause).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_side_sets_the_pace() {
        let behaviour = |text: &str| text.parse::<Behaviour>().unwrap();
        let plain = Pace::of(&Behaviour::default());
        assert_eq!((plain.piece(), plain.rest(1000, &mut 0)), (None, None));
        let slow = plain.slowed(&behaviour("delay:1s+slow-read:5000/s"));
        let both = slow.slowed(&behaviour("trickle:2ms+slow-read:995/s"));
        assert_eq!((both.delay, both.trickle), (Duration::from_secs(1), Duration::from_millis(2)));
        assert_eq!((slow.piece(), both.piece()), (Some(500), Some(100)));
        assert_eq!(both.slowed(&behaviour("slow-read:5000/s")), both);
    }

    #[test]
    fn every_byte_is_paid_for_once() {
        let pace = Pace::of(&"slow-read:1000/s".parse().unwrap());
        let (mut paid, now) = (0, clock::now());
        let until = pace.rest(100, &mut paid).unwrap();
        assert!((100_000_000..2_000_000_000).contains(&(until - now)), "{}", until - now);
        assert_eq!((pace.rest(100, &mut paid), paid), (None, 100));
        assert!(pace.rest(101, &mut paid).is_some());
    }
}
