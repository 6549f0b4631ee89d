//! What one client got, from any number of senders, each with numbers of its own.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use super::stamp::Stamp;
use crate::bench::account::Ledger;

/// The books of one client.
#[derive(Default)]
pub struct Books {
    /// One for each sender, by the hash of its name; there are few.
    ledgers: Vec<(u64, Ledger)>,
    /// Of ledgers that were closed.
    closed: Faults,
    received: u64,
}

/// What must not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub out_of_order: u64,
}

impl Faults {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self != Faults::default()
    }

    /// More of them.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
    }
}

impl Books {
    /// A record. Without a stamp it only counts. A sender that is new begins with 1, or if the client `joins` it, with whatever comes first.
    /// Gives the hash of the sender's name if it is new.
    pub fn record(&mut self, stamp: Option<&Stamp<'_>>, joins: bool) -> Option<u64> {
        self.received += 1;
        let stamp = stamp?;
        let from = FixedState::default().hash_one(stamp.from);
        let known = self.ledgers.iter().position(|(sender, _)| *sender == from);
        let place = known.unwrap_or_else(|| {
            self.ledgers.push((from, if joins { Ledger::joining(stamp.number) } else { Ledger::default() }));
            self.ledgers.len() - 1
        });
        self.ledgers[place].1.record(stamp.number);
        known.is_none().then_some(from)
    }

    /// The server has said that records may be missing now: what comes next joins anew, and what was wrong before stays wrong.
    pub fn close(&mut self) {
        self.closed = self.faults();
        self.ledgers.clear();
    }

    /// Records, stamped or not.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The hash of each sender's name, and its records since the books were closed last.
    pub fn senders(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ledgers.iter().map(|(sender, ledger)| (*sender, ledger.received()))
    }

    /// What is wrong by now. What is behind the last record has left no gap.
    pub fn faults(&self) -> Faults {
        let mut faults = self.closed;
        for (_, ledger) in &self.ledgers {
            faults.add(Faults { lost: ledger.lost(), doubled: ledger.doubled(), out_of_order: ledger.out_of_order() });
        }
        faults
    }

    /// How many were to come by the numbers: the last of each sender, and where nothing is numbered all that came.
    pub fn reached(&self) -> u64 {
        if self.ledgers.is_empty() { self.received } else { self.ledgers.iter().map(|(_, ledger)| ledger.last()).sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(joins: bool, records: &[(&str, u64)]) -> Books {
        let mut books = Books::default();
        for (from, number) in records {
            books.record(Some(&Stamp { due_us: 0, number: *number, from: from.as_bytes() }), joins);
        }
        books
    }

    #[test]
    fn each_sender_has_numbers_of_its_own() {
        let mixed = books(false, &[("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
        assert_eq!((mixed.faults(), mixed.reached(), mixed.received()), (Faults::default(), 4, 4));
        let wrong = books(false, &[("a", 2), ("b", 1), ("b", 1)]);
        assert_eq!(wrong.faults(), Faults { lost: 1, doubled: 1, out_of_order: 0 });
        assert!(!books(true, &[("a", 7), ("b", 9), ("a", 8)]).faults().any());
    }

    #[test]
    fn a_gap_that_the_server_has_told_of_is_none_and_what_was_wrong_before_stays() {
        let mut books = books(true, &[("a", 1), ("a", 3)]);
        books.close();
        books.record(Some(&Stamp { due_us: 0, number: 90, from: b"a" }), true);
        books.record(Some(&Stamp { due_us: 0, number: 90, from: b"a" }), true);
        assert_eq!((books.faults(), books.received()), (Faults { lost: 1, doubled: 1, out_of_order: 0 }, 4));
    }
}
