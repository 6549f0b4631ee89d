//! How long records and publishes stay in each stage of their way, as histograms.
//!
//! Nobody reads a clock for a record: the driver tells the core the time with each batch that it hands over (`ShardCore::set_clock`), and a write
//! reads it once for several (`writes_per_look`). Values are microseconds with two significant digits; a count is one of many that had the same.

use hdrhistogram::{Counter, Histogram};

/// Longer than that is counted as that: 10 minutes.
pub const MICROSECONDS_MAX: u64 = 600_000_000;
/// Significant digits: 1 % of a value.
const DIGITS: u8 = 2;
/// Writes between two looks at the clock, of some and of many: a write takes some 5 us, so a few and some hundreds of microseconds pass, of as long
/// a wait as all of them take. A look costs what a third of a write of a fan-out does in the core.
pub(super) const fn writes_per_look(writes: usize) -> usize {
    if writes > 256 { 64 } else { 8 }
}

/// A stage of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From a record's timestamp to the moment when its shard has it from Kafka: the oldest of a batch, counted for all of its records. By the wall
    /// clocks of who wrote it (or of the broker, with `message.timestamp.type=LogAppendTime`) and of this machine; what lies ahead counts as 0.
    Poll,
    /// From there to its home having dealt with it: the whole batch. Records that belong elsewhere count once more, when they have
    /// come through the lane.
    Home,
    /// From its home to the outboxes of another shard's clients, a lane message at a time. On the home's own shard that is part of `Home`.
    Outbox,
    /// From the first frame in an outbox to the write of everything in it, while the socket takes what it is given.
    Socket,
    /// From a publish being handed to Kafka's producer to Kafka's answer being here.
    Ack,
}

impl Stage {
    /// All of them, in their order, by their names.
    pub const ALL: [(Stage, &'static str); 5] =
        [(Stage::Poll, "poll"), (Stage::Home, "home"), (Stage::Outbox, "outbox"), (Stage::Socket, "socket"), (Stage::Ack, "ack")];
}

/// What one shard records until somebody takes it.
pub type ShardStages = Stages<u32>;

/// A histogram for each stage. 50 KiB at most with `u32`.
#[derive(Clone, Debug)]
pub struct Stages<T: Counter> {
    histograms: [Histogram<T>; Stage::ALL.len()],
    is_empty: bool,
}

impl<T: Counter> Default for Stages<T> {
    fn default() -> Self {
        // Each grows to what it is told: a few KiB as a rule.
        let histogram = |_| Histogram::new(DIGITS).expect("two digits are allowed");
        Stages { histograms: std::array::from_fn(histogram), is_empty: true }
    }
}

impl<T: Counter> Stages<T> {
    /// `count` were in a stage for so long.
    pub fn record(&mut self, stage: Stage, microseconds: u64, count: usize) {
        if count == 0 {
            return;
        }
        self.is_empty = false;
        let count = T::from_usize(count).unwrap_or_else(T::zero);
        // It grows, so nothing is out of its range.
        let _ = self.histograms[stage as usize].record_n(microseconds.min(MICROSECONDS_MAX), count);
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The histogram of a stage.
    pub fn of(&self, stage: Stage) -> &Histogram<T> {
        &self.histograms[stage as usize]
    }

    /// Adds what `other` has.
    pub fn add<U: Counter>(&mut self, other: &Stages<U>) {
        for (mine, others) in self.histograms.iter_mut().zip(&other.histograms) {
            for value in others.iter_recorded() {
                let count = T::from_u64(value.count_at_value().to_u64().unwrap_or_default()).unwrap_or_else(T::zero);
                let _ = mine.record_n(value.value_iterated_to().min(MICROSECONDS_MAX), count);
            }
        }
        self.is_empty &= other.is_empty;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for histogram in self.histograms.iter_mut().filter(|histogram| !histogram.is_empty()) {
            histogram.reset();
        }
        self.is_empty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shards_record_adds_up_to_one_percent() {
        let (mut shard, mut all) = (Stages::<u32>::default(), Stages::<u64>::default());
        assert!(shard.is_empty());
        for round in 0..3 {
            shard.record(Stage::Socket, 1_000 * (round + 1), 10);
            shard.record(Stage::Ack, MICROSECONDS_MAX * 2, 1);
            all.add(&shard);
            shard.clear();
        }
        assert!(shard.is_empty() && shard.of(Stage::Socket).is_empty());
        let socket = all.of(Stage::Socket);
        assert_eq!(socket.len(), 30);
        assert!((1_980..=2_020).contains(&socket.value_at_quantile(0.5)), "{}", socket.value_at_quantile(0.5));
        assert!(all.of(Stage::Ack).max() >= MICROSECONDS_MAX);
        assert!(all.of(Stage::Poll).is_empty());
    }
}
