//! How much a slow reader may read by now: so many bytes a second, and no more than a second of them at once.

use std::time::{Duration, Instant};

/// The budget of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    bytes_per_second: u64,
    /// Bytes read up to `since` are paid for.
    since: Instant,
}

impl Budget {
    /// Nothing may be read yet.
    pub fn new(bytes_per_second: u64) -> Budget {
        Budget { bytes_per_second, since: Instant::now() }
    }

    /// Bytes that may be read by now. What was not read for a second is forfeit: a slow reader does not make up for quiet times.
    pub fn left(&mut self, now: Instant) -> usize {
        let second = Duration::from_secs(1);
        if now.saturating_duration_since(self.since) > second {
            self.since = now.checked_sub(second).unwrap_or(now);
        }
        (now.saturating_duration_since(self.since).as_secs_f64() * self.bytes_per_second as f64) as usize
    }

    /// So many were read.
    pub fn spend(&mut self, bytes: usize) {
        self.since += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_its_bytes_a_second_and_never_more_than_a_second_of_them() {
        let mut budget = Budget::new(1_000);
        let began = budget.since;
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        assert_eq!(budget.left(began), 0);
        assert_eq!(budget.left(after(250)), 250);
        budget.spend(200);
        assert_eq!(budget.left(after(250)), 50);
        assert_eq!(budget.left(after(60_000)), 1_000);
        budget.spend(1_000);
        assert_eq!(budget.left(after(60_000)), 0);
    }
}
