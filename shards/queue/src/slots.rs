//! A table that grows and shrinks by chunks: it never holds much more than it needs, whatever the count, and growing
//! moves nothing. Keys are small, stay valid until their value is removed, and are used again.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// Slots of a chunk: small enough that one partly used is nothing, large enough that its bookkeeping is.
const CHUNK: usize = 1024;
/// No slot.
const NONE: u16 = u16::MAX;

/// Values by key. Adding and removing take constant time.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with a vacant slot; the last one is filled first.
    roomy: Vec<u32>,
    len: usize,
    /// Chunks that hold memory.
    held: usize,
    /// Chunks that hold memory but no value: one is kept, so that a count that swings around the edge of a chunk does
    /// not keep the allocator busy.
    empty: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Vec<Slot<T>>,
    /// The first of the vacant slots below `slots.len()`.
    vacant: u16,
    live: u16,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: u16 },
    Used(T),
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { chunks: Vec::new(), roomy: Vec::new(), len: 0, held: 0, empty: 0 }
    }
}

impl<T> Slots<T> {
    /// Values in the table.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Slots that hold memory, used or not.
    pub(crate) fn held(&self) -> usize {
        self.held * CHUNK
    }

    /// Adds a value.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = self.roomy.last().copied().unwrap_or_else(|| self.add_chunk());
        let chunk = &mut self.chunks[number as usize];
        if chunk.live == 0 {
            match chunk.slots.capacity() {
                0 => self.held += 1,
                _ => self.empty -= 1,
            }
        }
        let offset = chunk.insert(value);
        if chunk.is_full() {
            self.roomy.pop();
        }
        self.len += 1;
        number * CHUNK as u32 + u32::from(offset)
    }

    fn add_chunk(&mut self) -> u32 {
        let number = self.chunks.len() as u32;
        assert!(number < u32::MAX / CHUNK as u32, "keys are used up");
        self.chunks.push(Chunk { slots: Vec::new(), vacant: NONE, live: 0 });
        self.roomy.push(number);
        number
    }

    /// Takes a value out. The key must be valid.
    pub(crate) fn remove(&mut self, key: u32) -> T {
        let (number, offset) = split(key);
        let chunk = &mut self.chunks[number];
        if chunk.is_full() {
            self.roomy.push(number as u32);
        }
        let value = chunk.remove(offset);
        self.len -= 1;
        if chunk.live == 0 && self.empty == 0 {
            self.empty = 1;
        } else if chunk.live == 0 {
            *chunk = Chunk { slots: Vec::new(), vacant: NONE, live: 0 };
            self.held -= 1;
        }
        value
    }

    pub(crate) fn get(&self, key: u32) -> Option<&T> {
        let (number, offset) = split(key);
        match self.chunks.get(number)?.slots.get(offset)? {
            Slot::Used(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let (number, offset) = split(key);
        match self.chunks.get_mut(number)?.slots.get_mut(offset)? {
            Slot::Used(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// The next slot to look at from `key` on, used or not: chunks without memory are stepped over in one go. `None`
    /// behind the last one.
    pub(crate) fn next_held(&self, key: u32) -> Option<u32> {
        let (number, offset) = split(key);
        if offset < self.chunks.get(number)?.slots.len() {
            return Some(key);
        }
        let next = self.chunks[number + 1..].iter().position(|chunk| !chunk.slots.is_empty())?;
        Some(((number + 1 + next) * CHUNK) as u32)
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;
    fn index(&self, key: u32) -> &T {
        self.get(key).expect("a key is valid until its value is removed")
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, key: u32) -> &mut T {
        self.get_mut(key).expect("a key is valid until its value is removed")
    }
}

impl<T> Chunk<T> {
    fn is_full(&self) -> bool {
        usize::from(self.live) == CHUNK
    }

    fn insert(&mut self, value: T) -> u16 {
        self.live += 1;
        if self.vacant == NONE {
            self.slots.reserve_exact(CHUNK - self.slots.len());
            self.slots.push(Slot::Used(value));
            return self.slots.len() as u16 - 1;
        }
        let offset = self.vacant;
        match core::mem::replace(&mut self.slots[usize::from(offset)], Slot::Used(value)) {
            Slot::Vacant { next } => self.vacant = next,
            Slot::Used(_) => unreachable!("the vacant slots are vacant"),
        }
        offset
    }

    fn remove(&mut self, offset: usize) -> T {
        let vacant = Slot::Vacant { next: self.vacant };
        match core::mem::replace(&mut self.slots[offset], vacant) {
            Slot::Used(value) => {
                self.vacant = offset as u16;
                self.live -= 1;
                value
            }
            Slot::Vacant { .. } => unreachable!("a key is valid until its value is removed"),
        }
    }
}

fn split(key: u32) -> (usize, usize) {
    (key as usize / CHUNK, key as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(slots: &Slots<u32>) -> Vec<u32> {
        let mut at = 0;
        let mut found = Vec::new();
        while let Some(key) = slots.next_held(at) {
            found.extend(slots.get(key).map(|_| key));
            at = key + 1;
        }
        found
    }

    fn insert(slots: &mut Slots<u32>, count: usize) {
        for value in 0..count {
            slots.insert(value as u32);
        }
    }

    #[test]
    fn keys_hold_until_their_value_goes_and_are_used_again() {
        let mut slots = Slots::default();
        let all: Vec<u32> = (0..5000).map(|value| slots.insert(value)).collect();
        assert_eq!(all, (0..5000).collect::<Vec<u32>>());
        for key in all.iter().filter(|key| *key % 3 == 0) {
            assert_eq!(slots.remove(*key), *key);
        }
        assert!(all.iter().all(|key| slots.get(*key).copied() == (key % 3 != 0).then_some(*key)));
        let held = slots.held();
        let again: Vec<u32> = (0..1667).map(|value| slots.insert(value)).collect();
        assert!(again.iter().all(|key| key % 3 == 0) && slots.held() == held);
        assert_eq!((slots.len(), keys(&slots)), (5000, all));
    }

    #[test]
    fn chunks_that_are_empty_are_given_back_but_for_one() {
        let mut slots = Slots::default();
        insert(&mut slots, 10 * CHUNK);
        assert_eq!(slots.held(), 10 * CHUNK);
        for key in 0..9 * CHUNK as u32 {
            slots.remove(key);
        }
        assert_eq!((slots.held(), slots.len()), (2 * CHUNK, CHUNK));
        assert_eq!(keys(&slots).len(), CHUNK);
        insert(&mut slots, 9 * CHUNK);
        assert_eq!((slots.held(), keys(&slots).len()), (10 * CHUNK, 10 * CHUNK));
    }
}
