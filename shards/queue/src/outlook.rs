//! Destinations as the shard sees them that has something for them.

use crate::line::Line;
use crate::slots::Slots;
use alloc::sync::Arc;
use core::hash::Hasher;
use hashbrown::HashTable;

/// What one shard has for one destination.
#[derive(Debug)]
pub(crate) struct Outlook {
    pub(crate) name: Arc<str>,
    /// Ready first attempts, and ready retries.
    lines: [Line; 2],
    /// Which of the two an order was last taken from.
    last: bool,
    /// It stands in the turns of the destinations.
    pub(crate) in_turn: bool,
    /// Its position among the rests that are not over.
    pub(crate) rest: Option<u32>,
    pub(crate) out: u32,
    pub(crate) deliveries: u32,
}

impl Outlook {
    /// The line of what has had so many attempts.
    pub(crate) fn line(&mut self, attempts: u16) -> &mut Line {
        &mut self.lines[usize::from(attempts > 0)]
    }

    /// Whether something is ready.
    pub(crate) fn has_ready(&self) -> bool {
        self.lines.iter().any(|line| line.first().is_some())
    }

    /// Whether something may leave: it is ready, there is room in the window, and the destination does not rest.
    pub(crate) fn is_able(&self, window: u32) -> bool {
        self.rest.is_none() && self.out < window && self.has_ready()
    }

    /// Who leaves next: the oldest first attempt and the oldest retry in turn.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let first = |of: bool| self.lines[usize::from(of)].first();
        self.last = if first(!self.last).is_some() { !self.last } else { self.last };
        self.lines[usize::from(self.last)].first()
    }
}

/// All destinations that a shard has something for, by key and by name.
#[derive(Debug, Default)]
pub(crate) struct Outlooks {
    pub(crate) slots: Slots<Outlook>,
    names: HashTable<u32>,
}

impl Outlooks {
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.names.find(hash(name), |key| &*self.slots[*key].name == name).copied()
    }

    pub(crate) fn find_or_add(&mut self, name: &Arc<str>) -> u32 {
        if let Some(known) = self.find(name) {
            return known;
        }
        let key = self.slots.insert(Outlook {
            name: name.clone(),
            lines: [Line::default(); 2],
            last: true,
            in_turn: false,
            rest: None,
            out: 0,
            deliveries: 0,
        });
        self.names.insert_unique(hash(name), key, |key| hash(&self.slots[*key].name));
        key
    }

    pub(crate) fn remove(&mut self, key: u32) {
        let outlook = self.slots.remove(key);
        if let Ok(entry) = self.names.find_entry(hash(&outlook.name), |known| *known == key) {
            entry.remove();
        }
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = NameHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// FNV-1a with a final mix: the same in every run, so that a simulation can be repeated.
#[derive(Debug)]
pub struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> NameHasher {
        NameHasher(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        folded ^ (folded >> 29)
    }
}
