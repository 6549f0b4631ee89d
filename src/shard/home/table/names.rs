//! Which subject a hash may be of. Many small tables in place of a large one: a table that grows places all of its entries anew, and each of them
//! means a look at its subject.

use hashbrown::HashTable;

use super::slots::HomeKey;

/// With sixteen million subjects each has as many as are placed anew in some 2 ms. 32 KiB for all of them while they are empty.
const PARTS: usize = 1 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Names {
    parts: Box<[HashTable<HomeKey>]>,
    len: usize,
}

impl Default for Names {
    fn default() -> Self {
        Names { parts: (0..PARTS).map(|_| HashTable::new()).collect(), len: 0 }
    }
}

impl Names {
    /// Subjects in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The subject of this hash of which `is` is true.
    pub fn find(&self, hash: u64, is: impl FnMut(&HomeKey) -> bool) -> Option<HomeKey> {
        self.parts[part(hash)].find(hash, is).copied()
    }

    /// Enters a subject that is not in it. `hash_of` gives the hashes of others.
    pub fn insert(&mut self, hash: u64, key: HomeKey, hash_of: impl Fn(&HomeKey) -> u64) {
        self.parts[part(hash)].insert_unique(hash, key, hash_of);
        self.len += 1;
    }

    /// Takes a subject out.
    pub fn remove(&mut self, hash: u64, key: HomeKey) {
        if let Ok(entry) = self.parts[part(hash)].find_entry(hash, |other| *other == key) {
            entry.remove();
            self.len -= 1;
        }
    }
}

/// By bits that a table itself does not look at: it takes the lowest for the place, and the highest for a first comparison.
fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}
