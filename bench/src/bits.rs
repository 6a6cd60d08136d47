//! Sets of small numbers, one bit each.

use std::fmt::{self, Formatter};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::sink::DELIVERIES_MAX;

/// A set that grows with its largest member.
#[derive(Clone, Debug, Default, Eq)]
pub struct Bits {
    words: Vec<u64>,
}

/// Two sets are equal if their members are, whatever room they have.
impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        let used = |bits: &Self| bits.end().div_ceil(64) as usize;
        self.words[..used(self)] == other.words[..used(other)]
    }
}

impl Bits {
    /// Adds a member; false if it was one already.
    pub fn insert(&mut self, index: u64) -> bool {
        let (word, bit) = place(index);
        if word >= self.words.len() {
            self.words.resize((word + 1).max(self.words.len() * 2), 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    /// Whether it is a member.
    pub fn contains(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// The number behind the largest member; 0 if there is none.
    pub fn end(&self) -> u64 {
        let last = self.words.iter().rposition(|&word| word != 0);
        last.map_or(0, |at| at as u64 * 64 + 64 - u64::from(self.words[at].leading_zeros()))
    }

    /// How many members.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| index as u64 * 64 + bit)
        })
    }

    /// The members of this set for which `f` of their word in this and the other sets leaves a bit.
    pub(crate) fn combine<const N: usize>(
        &self,
        others: [&Bits; N],
        f: impl Fn(u64, [u64; N]) -> u64,
    ) -> Bits {
        let words = self.words.iter().enumerate();
        let words = words
            .map(|(index, &word)| f(word, others.map(|bits| bits.words.get(index).copied().unwrap_or(0))));
        Bits { words: words.collect() }
    }

    /// Adds all members of `other` and returns those that were members already.
    pub(crate) fn absorb(&mut self, other: &Bits) -> Bits {
        let common = self.combine([other], |mine, [theirs]| mine & theirs);
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
        common
    }
}

/// As ranges, `[[0,654320],[654322,999999]]`, both ends included: books have few gaps, and people can read
/// them.
impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Ranges { members: self.iter().peekable() })
    }
}

struct Ranges<I: Iterator<Item = u64>> {
    members: std::iter::Peekable<I>,
}

impl<I: Iterator<Item = u64>> Iterator for Ranges<I> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let first = self.members.next()?;
        let mut last = first;
        while self.members.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        Some((first, last))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RangesVisitor)
    }
}

struct RangesVisitor;

impl<'de> Visitor<'de> for RangesVisitor {
    type Value = Bits;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "ascending ranges of numbers below {DELIVERIES_MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut ranges: A) -> Result<Bits, A::Error> {
        let mut bits = Bits::default();
        let mut next = 0;
        while let Some((first, last)) = ranges.next_element::<(u64, u64)>()? {
            // The bound keeps a damaged file from asking for all memory.
            if first < next || last < first || last >= DELIVERIES_MAX {
                return Err(A::Error::custom(format!("the range {first} to {last} is out of order")));
            }
            for member in first..=last {
                bits.insert(member);
            }
            next = last + 1;
        }
        Ok(bits)
    }
}

/// A set of fixed capacity that several threads add to.
pub(crate) struct SharedBits {
    words: Box<[AtomicU64]>,
}

impl SharedBits {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { words: (0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn insert(&self, index: u64) {
        let (word, bit) = place(index);
        self.words[word].fetch_or(bit, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Bits {
        Bits { words: self.words.iter().map(|word| word.load(Relaxed)).collect() }
    }
}

fn place(index: u64) -> (usize, u64) {
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut bits = Bits::default();
        assert!(bits.insert(3) && bits.insert(64) && bits.insert(1000));
        assert!(!bits.insert(64));
        assert_eq!(bits.iter().collect::<Vec<_>>(), [3, 64, 1000]);
        assert!(bits.contains(1000) && !bits.contains(1001) && !bits.contains(1 << 40));
        let mut others = Bits::default();
        others.insert(64);
        others.insert(5000);
        let common = bits.absorb(&others);
        assert_eq!(common.iter().collect::<Vec<_>>(), [64]);
        assert_eq!((bits.count(), bits.end()), (4, 5001));
        assert_eq!(Bits::default().end(), 0);
    }
    #[test]
    fn a_set_is_written_as_ranges_and_read_again() {
        let mut bits = Bits::default();
        assert_eq!(serde_json::to_string(&bits).unwrap(), "[]");
        for member in [0, 1, 63, 64, 65, 200] {
            bits.insert(member);
        }
        let text = serde_json::to_string(&bits).unwrap();
        assert_eq!(text, "[[0,1],[63,65],[200,200]]");
        assert_eq!(serde_json::from_str::<Bits>(&text).unwrap(), bits);
        bits.insert(0);
        assert_ne!(serde_json::from_str::<Bits>("[[0,1],[63,65]]").unwrap(), bits);
        for wrong in
            ["[[1,0]]", "[[5,6],[6,7]]", "[[5,6],[0,1]]", "[[0,99999999999]]", "[[0]]", "{}", "[[0,-1]]"]
        {
            assert!(serde_json::from_str::<Bits>(wrong).is_err(), "{wrong}");
        }
    }
}
