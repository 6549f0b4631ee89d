//! The records that are remembered of one subject, oldest first. The newest is kept in place: most subjects have one, and whoever looks at a subject
//! looks at that.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Recent<T> {
    older: VecDeque<T>,
    /// There is none only if there is no record at all.
    newest: Option<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Recent { older: VecDeque::new(), newest: None }
    }
}

impl<T> Recent<T> {
    pub fn len(&self) -> usize {
        self.older.len() + usize::from(self.newest.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// Bytes that it has taken beside itself.
    pub fn heap_bytes(&self) -> usize {
        self.older.capacity() * size_of::<T>()
    }

    pub fn push(&mut self, record: T) {
        if let Some(before) = self.newest.replace(record) {
            self.older.push_back(before);
        }
    }

    pub fn pop_first(&mut self) -> Option<T> {
        let first = self.older.pop_front().or_else(|| self.newest.take());
        // A burst leaves no memory behind.
        let capacity = self.older.capacity();
        if self.older.is_empty() || capacity > 64 && self.older.len() < capacity / 4 {
            self.older.shrink_to(2 * self.older.len());
        }
        first
    }

    pub fn first(&self) -> Option<&T> {
        self.older.front().or(self.newest.as_ref())
    }

    pub fn newest(&self) -> Option<&T> {
        self.newest.as_ref()
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        if index == self.older.len() { self.newest.as_ref() } else { self.older.get(index) }
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index == self.older.len() { self.newest.as_mut() } else { self.older.get_mut(index) }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        (0..self.len()).map(|index| &self[index])
    }

    /// Index of the first record of which `is_before` is false; it is true of all before that.
    pub fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        let place = self.older.partition_point(&mut is_before);
        place + usize::from(place == self.older.len() && self.newest.as_ref().is_some_and(is_before))
    }
}

impl<T> Index<usize> for Recent<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index below the length")
    }
}

impl<T> IndexMut<usize> for Recent<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("an index below the length")
    }
}
