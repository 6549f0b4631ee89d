//! Which subject a hash may be of. Many small tables in place of a large one: a table that grows places all of its entries anew, and each of them
//! means a look at its subject.

use hashbrown::HashTable;

use super::slots::HomeKey;

/// With sixteen million subjects each has as many as are placed anew in some 2 ms.
const PARTS: usize = 1 << 10;
/// Up to so many subjects one table is enough.
const ONE_MAX: usize = 4_096;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Names {
    parts: Box<[HashTable<HomeKey>]>,
    len: usize,
}

impl Default for Names {
    fn default() -> Self {
        Names { parts: Box::new([HashTable::new()]), len: 0 }
    }
}

impl Names {
    /// Subjects in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The subject of this hash of which `is` is true.
    pub fn find(&self, hash: u64, is: impl FnMut(&HomeKey) -> bool) -> Option<HomeKey> {
        self.parts[self.part(hash)].find(hash, is).copied()
    }

    /// Enters a subject that is not in it. `hash_of` gives the hashes of others.
    pub fn insert(&mut self, hash: u64, key: HomeKey, hash_of: impl Fn(&HomeKey) -> u64) {
        if self.len == ONE_MAX && self.parts.len() == 1 {
            let all = std::mem::take(&mut self.parts[0]);
            self.parts = (0..PARTS).map(|_| HashTable::new()).collect();
            for other in all {
                let hash = hash_of(&other);
                let part = self.part(hash);
                self.parts[part].insert_unique(hash, other, &hash_of);
            }
        }
        let part = self.part(hash);
        self.parts[part].insert_unique(hash, key, hash_of);
        self.len += 1;
    }

    /// Takes a subject out.
    pub fn remove(&mut self, hash: u64, key: HomeKey) {
        let part = self.part(hash);
        if let Ok(entry) = self.parts[part].find_entry(hash, |other| *other == key) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// By bits that a table itself does not look at: it takes the lowest for the place, and the highest for a first comparison.
    fn part(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.parts.len() - 1)
    }
}
