//! Subjects by keys that nobody else ever has, in pieces: however many there are, a new one never moves the others. A `Vec` that grows past a million
//! of them would stop its shard for a tenth of a second.

use std::ops::{Index, IndexMut};

/// Subjects of a piece: some 300 KiB.
const PIECE: usize = 1 << 10;

/// A subject that lives on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HomeKey {
    place: u32,
    /// How often the place was given before.
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Slots<T> {
    pieces: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { pieces: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, value: T) -> HomeKey {
        self.len += 1;
        if let Some(place) = self.free.pop() {
            let slot = &mut self.pieces[place as usize / PIECE][place as usize % PIECE];
            slot.value = Some(value);
            return HomeKey { place, generation: slot.generation };
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let whole = (self.pieces.len() - 1) * PIECE;
        let piece = self.pieces.last_mut().expect("pushed above");
        piece.push(Slot { generation: 0, value: Some(value) });
        HomeKey { place: (whole + piece.len() - 1) as u32, generation: 0 }
    }

    pub fn remove(&mut self, key: HomeKey) -> Option<T> {
        let slot = self.pieces.get_mut(key.place as usize / PIECE)?.get_mut(key.place as usize % PIECE)?;
        let value = if slot.generation == key.generation { slot.value.take() } else { None }?;
        // After 2^32 subjects in one place an old key would be taken for a new one: at a million a second that is an hour of nothing else.
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.place);
        self.len -= 1;
        Some(value)
    }

    pub fn get(&self, key: HomeKey) -> Option<&T> {
        let slot = self.pieces.get(key.place as usize / PIECE)?.get(key.place as usize % PIECE)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, key: HomeKey) -> Option<&mut T> {
        let slot = self.pieces.get_mut(key.place as usize / PIECE)?.get_mut(key.place as usize % PIECE)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub fn iter(&self) -> impl Iterator<Item = (HomeKey, &T)> {
        self.pieces
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(place, slot)| Some((HomeKey { place: place as u32, generation: slot.generation }, slot.value.as_ref()?)))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    pub fn keys(&self) -> impl Iterator<Item = HomeKey> {
        self.iter().map(|(key, _)| key)
    }
}

impl<T> Index<HomeKey> for Slots<T> {
    type Output = T;

    fn index(&self, key: HomeKey) -> &T {
        self.get(key).expect("a subject that is known")
    }
}

impl<T> IndexMut<HomeKey> for Slots<T> {
    fn index_mut(&mut self, key: HomeKey) -> &mut T {
        self.get_mut(key).expect("a subject that is known")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_nobody_elses_and_nothing_moves() {
        let mut slots = Slots::default();
        let keys: Vec<HomeKey> = (0..3 * PIECE).map(|number| slots.insert(number)).collect();
        let first: *const usize = &slots[keys[0]];
        assert_eq!(slots.remove(keys[5]), Some(5));
        assert_eq!((slots.remove(keys[5]), slots.get(keys[5]), slots.len()), (None, None, 3 * PIECE - 1));
        let again = slots.insert(7_777);
        assert_ne!(again, keys[5]);
        assert_eq!((slots.get(keys[5]), slots[again], slots.len()), (None, 7_777, 3 * PIECE));
        slots[again] = 8_888;
        assert_eq!(slots.values().filter(|value| **value == 8_888).count(), 1);
        assert_eq!(slots.keys().count(), 3 * PIECE);
        assert!(std::ptr::eq(first, &slots[keys[0]]));
    }
}
