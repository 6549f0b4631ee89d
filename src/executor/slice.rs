//! A slice of a turn: how long records are taken in before somebody is written to.
//!
//! A record that has been taken in is of no use to its client before the write, so writes come in between. But who is written to early shares no
//! write with what comes next, so only as many are written to as the records of the slice can be for: records with a client each are all written at
//! once, and a fan-out, which has thousands waiting, goes on gathering while those that have waited longest are written to.

use std::time::Duration;

/// Records are taken in for so long.
const SLICE: Duration = Duration::from_micros(50);
/// Bytes of records that a slice begins with, and what it may come to: a few records, and more than 50 us ever take in.
const BYTES_MIN: usize = 1 << 10;
const BYTES_MAX: usize = 64 << 10;
/// Writes for each record of a slice: its own client, and one that waited longer.
const WRITES_PER_RECORD: usize = 2;
/// And at least: about as long as the slice was.
const WRITES_MIN: usize = 8;

/// See the module's documentation. Times count from any instant.
#[derive(Debug)]
pub(super) struct Slice {
    began: Duration,
    records: usize,
    bytes: usize,
}

impl Default for Slice {
    fn default() -> Slice {
        Slice { began: Duration::ZERO, records: 0, bytes: BYTES_MIN }
    }
}

impl Slice {
    /// Nobody is waiting for a write that this slice is to blame for.
    pub fn begin(&mut self, now: Duration) {
        (self.began, self.records) = (now, 0);
    }

    /// Bytes of records that take about a slice.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many records (or messages) were taken in. If that is it: how many connections are to be written to.
    pub fn takes(&mut self, records: usize, now: Duration) -> Option<usize> {
        self.records += records;
        let took = now.saturating_sub(self.began);
        if took < SLICE {
            self.bytes = (self.bytes * 2).min(BYTES_MAX);
            return None;
        }
        if took > 2 * SLICE {
            self.bytes = (self.bytes / 2).max(BYTES_MIN);
        }
        Some(WRITES_MIN.max(WRITES_PER_RECORD * self.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_ends_after_its_time_and_the_next_takes_as_much_as_fits() {
        let mut slice = Slice::default();
        let us = Duration::from_micros;
        slice.begin(us(0));
        assert_eq!((slice.takes(4, us(10)), slice.bytes()), (None, 2 << 10));
        assert_eq!((slice.takes(60, us(60)), slice.bytes()), (Some(128), 2 << 10), "everybody's write");
        slice.begin(us(500));
        assert_eq!((slice.takes(1, us(900)), slice.bytes()), (Some(WRITES_MIN), 1 << 10), "a fan-out gathers");
        for _ in 0..100 {
            slice.begin(us(0));
            slice.takes(1, us(1));
        }
        assert_eq!(slice.bytes(), BYTES_MAX);
    }
}
