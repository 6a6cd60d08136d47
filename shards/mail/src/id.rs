//! Message identities: unique in a spool over restarts, reshardings and shards.

use crate::WallTime;
use core::fmt;

/// A message's identity: 42 bits of milliseconds since 2020, 10 bits of shard, 12 bits of sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Crockford's base 32: no I, L, O or U, so that a person can read an identity aloud.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const EPOCH_2020_MS: u64 = 1_577_836_800_000;
const SHARD_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
/// Length of an identity in text.
const TEXT_LEN: usize = 13;

/// The largest number of shards that identities can tell apart.
pub const SHARDS_MAX: usize = 1 << SHARD_BITS;

impl MessageId {
    /// Reads what [`fmt::Display`] writes; lower case is accepted.
    pub fn parse(text: &str) -> Option<MessageId> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte.to_ascii_uppercase())? as u64;
            value = value.checked_mul(32)?.checked_add(digit)?;
        }
        Some(MessageId(value))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; TEXT_LEN];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = DIGITS[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hands out the identities of one shard, rising, whatever the wall clock does.
#[derive(Debug)]
pub struct IdSource {
    shard: u64,
    /// Milliseconds and sequence of the last identity, without the shard.
    last: u64,
}

impl IdSource {
    /// A source for `shard` (below [`SHARDS_MAX`]) that stays above every identity in `seen`.
    pub fn new(shard: usize, seen: Option<MessageId>) -> IdSource {
        assert!(shard < SHARDS_MAX, "shard number out of range");
        let last = seen.map_or(0, |MessageId(id)| {
            let ms = id >> (SHARD_BITS + SEQUENCE_BITS);
            let sequence = id & ((1 << SEQUENCE_BITS) - 1);
            (ms << SEQUENCE_BITS) | sequence
        });
        IdSource { shard: shard as u64, last }
    }

    /// The next identity. More than 4,096 in a millisecond borrow from the following ones.
    pub fn next(&mut self, now: WallTime) -> MessageId {
        let ms = (now.0 / 1000).saturating_sub(EPOCH_2020_MS);
        self.last = (self.last + 1).max(ms << SEQUENCE_BITS);
        let ms = self.last >> SEQUENCE_BITS;
        let sequence = self.last & ((1 << SEQUENCE_BITS) - 1);
        MessageId((ms << (SHARD_BITS + SEQUENCE_BITS)) | (self.shard << SEQUENCE_BITS) | sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const NOW: WallTime = WallTime(1_795_566_960_000_000);

    #[test]
    fn text_round_trips() {
        for value in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let id = MessageId(value);
            assert_eq!(MessageId::parse(&id.to_string()), Some(id));
            assert_eq!(MessageId::parse(&id.to_string().to_ascii_lowercase()), Some(id));
        }
        assert_eq!(MessageId::parse("ZZZZZZZZZZZZZ"), None);
        assert_eq!(MessageId::parse(""), None);
    }

    #[test]
    fn identities_rise_even_when_the_clock_falls() {
        let mut source = IdSource::new(3, None);
        let first = source.next(NOW);
        let mut last = first;
        for step in 0..10_000u64 {
            let id = source.next(WallTime(NOW.0 - step * 1000));
            assert!(id > last);
            last = id;
        }
        let mut restarted = IdSource::new(3, Some(last));
        assert!(restarted.next(WallTime(0)) > last);
    }

    #[test]
    fn shards_never_collide() {
        let (mut a, mut b) = (IdSource::new(0, None), IdSource::new(1, None));
        assert_ne!(a.next(NOW), b.next(NOW));
    }
}
