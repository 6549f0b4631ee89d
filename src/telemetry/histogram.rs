//! Latencies in log-linear buckets, written by one thread without locks and read by any.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of each doubling: a value is known to 1/32, about 3 %.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Microseconds beyond which nothing is told apart: 2^36, some 19 hours.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - STEP_BITS + 1) as usize) * STEPS as usize;

/// A histogram of microseconds. 8 KiB. Counts since the start of the process.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// What a histogram says, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    pub count: u64,
    pub sum: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `count` events of so many microseconds each. Only one thread may call it.
    pub fn record(&self, micros: u64, count: u64) {
        let add = |cell: &AtomicU64, value: u64| cell.store(cell.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
        add(&self.buckets[index(micros)], count);
        add(&self.sum, micros.wrapping_mul(count));
        if micros > self.max.load(Ordering::Relaxed) {
            self.max.store(micros, Ordering::Relaxed);
        }
    }

    /// A copy of the counts. Not one instant: a count that is being made may be in it or not.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

/// A histogram's counts at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    buckets: Vec<u64>,
    sum: u64,
    max: u64,
}

impl Snapshot {
    /// Its quantiles: the upper ends of their buckets, never above the largest value.
    pub fn quantiles(&self) -> Quantiles {
        let count = self.buckets.iter().sum();
        let at = |per_mille: u64| {
            // The rank of the wanted value, from 1.
            let rank = (u128::from(count) * u128::from(per_mille)).div_ceil(1_000).max(1) as u64;
            let mut seen = 0;
            for (place, bucket) in self.buckets.iter().enumerate() {
                seen += bucket;
                if seen >= rank {
                    return upper_end(place).min(self.max);
                }
            }
            0
        };
        Quantiles { count, sum: self.sum, p50: at(500), p99: at(990), p999: at(999), max: self.max }
    }

    /// Counts in coarse buckets that can be added up over shards and nodes: for each bound in microseconds, ascending, the values above the one
    /// before and at most this; values above the last bound are in the last place. Bounds fall on the edges of fine buckets if they are powers
    /// of two less one.
    pub fn coarse(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for (place, bucket) in self.buckets.iter().enumerate() {
            counts[bounds.partition_point(|bound| *bound < upper_end(place))] += bucket;
        }
        counts
    }
}

fn index(micros: u64) -> usize {
    let micros = micros.min((1 << VALUE_BITS) - 1);
    if micros < STEPS {
        return micros as usize;
    }
    // The value's highest bits, leading one included, are the place within its doubling.
    let shift = 63 - micros.leading_zeros() - STEP_BITS;
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((index - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for place in 0..BUCKETS - 1 {
            assert_eq!((index(upper_end(place)), index(upper_end(place) + 1)), (place, place + 1));
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantiles(), Quantiles::default());
        for micros in 1..=1_000 {
            histogram.record(micros, 1);
        }
        let quantiles = histogram.snapshot().quantiles();
        assert_eq!((quantiles.count, quantiles.sum, quantiles.max), (1_000, 500_500, 1_000));
        assert!((500..=516).contains(&quantiles.p50) && (990..=1_000).contains(&quantiles.p99), "{quantiles:?}");
        assert_eq!(histogram.snapshot().coarse(&[255, 511]), [255, 256, 489]);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_thirty_second_above_the_true_one(mut values in prop::collection::vec(0_u64..1 << 34, 1..200)) {
            let histogram = Histogram::default();
            for value in &values {
                histogram.record(*value, 1);
            }
            values.sort_unstable();
            let quantiles = histogram.snapshot().quantiles();
            for (found, per_mille) in [(quantiles.p50, 500), (quantiles.p99, 990), (quantiles.p999, 999)] {
                let truth = values[(values.len() * per_mille).div_ceil(1_000).max(1) - 1];
                prop_assert!(found >= truth && found <= truth + truth / 32, "{found} {truth}");
            }
        }
    }
}
