//! Sets of small numbers, one bit each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A set that grows with its largest member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
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
        assert_eq!(bits.count(), 4);
    }
}
