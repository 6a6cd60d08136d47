//! What is due when: a heap that grows and shrinks by chunks and tells where each entry stands, so that one can be
//! taken out of its middle and none is ever stale.

use alloc::vec::Vec;
use mail::Time;

/// Entries of a chunk.
const CHUNK: usize = 4096;
/// Children of a node: a shallow heap touches fewer entries far apart.
const FAN: usize = 4;
/// Where the first one stands. From here on the children of a node, at `FAN * (position - 2)`, are always in one chunk.
const ROOT: usize = 3;

/// A key and when it is due; of those that are due together the lowest key is first. Twelve bytes, not sixteen.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(4))]
struct Entry {
    due: u64,
    key: u32,
}

impl Entry {
    fn order(self) -> u128 {
        u128::from(self.due) << 32 | u128::from(self.key)
    }
}

/// Keys by due time. `moved(key, position)` is called for every entry that takes another position.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// All but the last are full; below [`ROOT`] the first one holds nothing of use.
    chunks: Vec<Vec<Entry>>,
    /// Behind the last position.
    end: usize,
}

impl Timers {
    /// The first one: when, and which.
    pub(crate) fn first(&self) -> Option<(Time, u32)> {
        let Entry { due, key } = *self.chunks.first()?.get(ROOT)?;
        Some((Time(due), key))
    }

    /// When the entry at `position` is due.
    pub(crate) fn due(&self, position: u32) -> Time {
        Time(self.entry(position as usize).due)
    }

    /// Adds a key that is not in it.
    pub(crate) fn push(&mut self, due: Time, key: u32, mut moved: impl FnMut(u32, u32)) {
        if self.end == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if self.end == 0 {
            self.chunks[0].resize(ROOT, Entry::default());
            self.end = ROOT;
        }
        let entry = Entry { due: due.0, key };
        self.chunks[self.end / CHUNK].push(entry);
        self.end += 1;
        self.rise(self.end - 1, entry, &mut moved);
    }

    /// Takes the entry at `position` out.
    pub(crate) fn remove(&mut self, position: u32, mut moved: impl FnMut(u32, u32)) {
        let position = position as usize;
        assert!((ROOT..self.end).contains(&position), "only what waits is taken out");
        self.end -= 1;
        let last = self.chunks[self.end / CHUNK].pop().expect("all chunks but the last are full");
        // An empty chunk is kept until the one before it is empty too.
        self.chunks.truncate(self.end.div_ceil(CHUNK) + 1);
        if position == self.end {
            return;
        }
        if position > ROOT && last.order() < self.entry(parent(position)).order() {
            self.rise(position, last, &mut moved);
        } else {
            self.sink(position, last, &mut moved);
        }
    }

    fn entry(&self, at: usize) -> Entry {
        self.chunks[at / CHUNK][at % CHUNK]
    }

    fn put(&mut self, at: usize, entry: Entry, moved: &mut impl FnMut(u32, u32)) {
        self.chunks[at / CHUNK][at % CHUNK] = entry;
        moved(entry.key, at as u32);
    }

    fn rise(&mut self, mut at: usize, entry: Entry, moved: &mut impl FnMut(u32, u32)) {
        while at > ROOT {
            let above = self.entry(parent(at));
            if above.order() <= entry.order() {
                break;
            }
            self.put(at, above, moved);
            at = parent(at);
        }
        self.put(at, entry, moved);
    }

    fn sink(&mut self, mut at: usize, entry: Entry, moved: &mut impl FnMut(u32, u32)) {
        while let Some((child, below)) = self.first_child(at) {
            if entry.order() <= below.order() {
                break;
            }
            self.put(at, below, moved);
            at = child;
        }
        self.put(at, entry, moved);
    }

    fn first_child(&self, at: usize) -> Option<(usize, Entry)> {
        let from = FAN * (at - 2);
        let children = self.chunks.get(from / CHUNK)?.get(from % CHUNK..)?;
        let mut children = children.iter().take(FAN).enumerate();
        let mut first = children.next()?;
        for child in children {
            if child.1.order() < first.1.order() {
                first = child;
            }
        }
        Some((from + first.0, *first.1))
    }
}

fn parent(at: usize) -> usize {
    at / FAN + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};

    /// A heap and what it should hold, with the position of each key.
    #[derive(Default)]
    struct Pair {
        timers: Timers,
        positions: BTreeMap<u32, u32>,
        model: BTreeSet<(u64, u32)>,
    }

    impl Pair {
        fn push(&mut self, due: u64, key: u32) {
            self.model.insert((due, key));
            let positions = &mut self.positions;
            self.timers.push(Time(due), key, |key, at| *positions.entry(key).or_default() = at);
        }

        fn remove(&mut self, key: u32) {
            let position = self.positions.remove(&key).expect("it is in the heap");
            let due = self.timers.due(position).0;
            assert!(self.model.remove(&(due, key)));
            let positions = &mut self.positions;
            self.timers.remove(position, |key, at| *positions.entry(key).or_default() = at);
        }

        fn check(&self) {
            assert_eq!(self.timers.first(), self.model.first().map(|(due, key)| (Time(*due), *key)));
        }
    }

    #[test]
    fn first_is_first_whatever_comes_and_goes() {
        let mut pair = Pair::default();
        let mut random = 1u64;
        for step in 0..60_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let grows = step < 30_000;
            if pair.model.is_empty() || (random >> 60 < 11) == grows {
                pair.push((random >> 33) % 5000, step);
            } else if random >> 59 & 1 == 0 {
                pair.remove(pair.model.first().expect("not empty").1);
            } else {
                let from = (random >> 33) as u32 % step;
                let key = pair.positions.range(from..).next().or(pair.positions.iter().next());
                pair.remove(*key.expect("not empty").0);
            }
            pair.check();
        }
        while let Some((_, key)) = pair.timers.first() {
            pair.remove(key);
            pair.check();
        }
        assert!(pair.model.is_empty() && pair.timers.chunks.len() <= 2);
    }

    #[test]
    fn an_entry_takes_twelve_bytes() {
        assert_eq!(size_of::<Entry>(), 12);
    }
}
