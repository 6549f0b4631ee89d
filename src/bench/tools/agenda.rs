//! What is to be done to which connection, and when: the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something to do to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Begin,
    Subscribe,
    Cut,
}

/// All that is to be done. Times are microseconds since the Unix epoch.
#[derive(Default)]
pub struct Agenda(BinaryHeap<Reverse<(u64, usize, Deed)>>);

impl Agenda {
    /// Adds to it.
    pub fn put(&mut self, due_us: u64, number: usize, deed: Deed) {
        self.0.push(Reverse((due_us, number, deed)));
    }

    /// Takes the next that is due: when it was, for whom, what.
    pub fn due(&mut self, now_us: u64) -> Option<(u64, usize, Deed)> {
        self.0.peek().filter(|Reverse((due_us, ..))| *due_us <= now_us)?;
        self.0.pop().map(|Reverse(next)| next)
    }

    /// Microseconds until the next is due; none if nothing is to be done.
    pub fn wait_us(&self, now_us: u64) -> Option<u64> {
        self.0.peek().map(|Reverse((due_us, ..))| due_us.saturating_sub(now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_none_before_its_time() {
        let mut agenda = Agenda::default();
        agenda.put(20, 1, Deed::Cut);
        agenda.put(10, 2, Deed::Begin);
        assert_eq!((agenda.due(9), agenda.wait_us(9)), (None, Some(1)));
        assert_eq!(agenda.due(30), Some((10, 2, Deed::Begin)));
        assert_eq!(agenda.due(30), Some((20, 1, Deed::Cut)));
        assert_eq!((agenda.due(30), agenda.wait_us(30)), (None, None));
    }
}
