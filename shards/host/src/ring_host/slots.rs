//! Numbered places for what is under way, with generations: a completion or a timer that comes late finds nothing
//! instead of finding the place's next tenant.

/// Names a tenant, not just its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    /// Only the low [`GENERATION_BITS`] are used, so that a key fits into a ring's user data.
    pub(super) generation: u32,
}

/// Bits of a generation; it wraps after 16 million tenants of one place.
pub(super) const GENERATION_BITS: u32 = 24;

/// Tenants by key. Grows with the number of simultaneous tenants, which descriptors and callers bound.
pub(super) struct Slots<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { places: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, tenant: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, tenant: None });
            u32::try_from(self.places.len() - 1).expect("descriptors are fewer than 2^32")
        });
        let place = &mut self.places[index as usize];
        place.tenant = Some(tenant);
        Key { index, generation: place.generation }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        place.tenant.as_mut().filter(|_| place.generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        place.generation = (place.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.free.push(key.index);
        Some(tenant)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let taken = self.places.iter().enumerate().filter(|(_, place)| place.tenant.is_some());
        taken.map(|(index, place)| Key { index: index as u32, generation: place.generation }).collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| place.tenant.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_key_does_not_find_the_next_tenant() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!((slots.len(), slots.keys()), (1, vec![second]));
    }

    #[test]
    fn generations_wrap_within_their_bits() {
        let mut slots = Slots::new();
        let key = slots.insert(0);
        slots.remove(key);
        slots.places[0].generation = (1 << GENERATION_BITS) - 1;
        let last = slots.insert(1);
        slots.remove(last);
        assert_eq!(slots.insert(2).generation, 0);
    }
}
