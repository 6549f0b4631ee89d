//! Which partitioner a topic's producers use, judged by where their newest records are.
//!
//! A rule that explains the newest keys but for a few is the rule: whoever may write to a topic could else take recovery from all of it with one
//! record. The subjects of those few are the shards' business (`shard::home::strays`).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::clients::QuietContext;
use super::raw::{ConsumerQueue, RawEvent};
use crate::limits::MISFITS_PER;
use crate::subject::Partitioner;
use crate::subject::name::record_key;

/// Newest records of each partition that are looked at, and of all partitions together: what is read in a second or two. Of very many partitions
/// fewer are looked at each, but not fewer than the minimum.
const SAMPLE_RECORDS: i64 = 1_000;
const SAMPLES_MAX: i64 = 400_000;
const SAMPLE_RECORDS_MIN: i64 = 200;

/// Bytes of keys and values that are looked at together: they are counted and not kept, but a broker has to send them.
const SAMPLE_BYTES_MAX: usize = 256 << 20;

/// Between two looks at a queue that was empty.
const POLL_PAUSE: Duration = Duration::from_millis(2);

const RULES: [Partitioner; 2] = [Partitioner::Murmur2, Partitioner::Crc32];

/// What the keys of a topic say of the rules.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    partitions: u32,
    /// Partition counts that the topic had before.
    earlier: Vec<u32>,
    keys: u64,
    /// How many of them each rule explains, in the order of `RULES`.
    explained: [u64; RULES.len()],
}

impl Sample {
    /// Of a topic with `partitions` partitions, which it may have had fewer of `earlier`.
    pub fn new(partitions: u32, earlier: &[u32]) -> Sample {
        Sample { partitions, earlier: earlier.to_vec(), keys: 0, explained: [0; RULES.len()] }
    }

    /// A key, and where it was found.
    pub fn add(&mut self, key: &[u8], partition: u32) {
        self.keys += 1;
        for (rule, explained) in RULES.iter().zip(&mut self.explained) {
            let puts = |count: u32| rule.partition(key, count) == partition;
            *explained += u64::from(puts(self.partitions) || self.earlier.iter().any(|count| puts(*count)));
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// How many keys a rule does not explain, and of how many.
    pub fn misfits(&self, rule: Partitioner) -> (u64, u64) {
        let explained = RULES.iter().position(|other| *other == rule).map_or(0, |place| self.explained[place]);
        (self.keys - explained, self.keys)
    }

    /// At least 99 of 100 are where it puts them; of fewer than 100, all.
    fn fits(&self, rule: Partitioner) -> bool {
        let (misfits, keys) = self.misfits(rule);
        misfits * MISFITS_PER <= keys
    }

    /// The rule that fits and explains more, murmur2 if they are equal (or there is no key); a `refuted` one is not taken; else none.
    pub fn rule(&self, refuted: &[Partitioner]) -> Partitioner {
        let rules = RULES.into_iter().filter(|rule| !refuted.contains(rule) && self.fits(*rule));
        rules.min_by_key(|rule| self.misfits(*rule).0).unwrap_or(Partitioner::Any)
    }

    /// What a topic follows that has followed `current` so far: that, if it still fits, or if there are too few keys to say that none does.
    pub fn next_rule(&self, current: Partitioner, refuted: &[Partitioner]) -> Partitioner {
        if self.fits(current) {
            return current;
        }
        let refuted: Vec<Partitioner> = refuted.iter().copied().chain([current]).collect();
        match self.rule(&refuted) {
            Partitioner::Any if self.keys < MISFITS_PER => current,
            rule => rule,
        }
    }
}

/// Partitions whose newest records are still to be read. The end of one is said again whenever it has grown and been read again: it counts once.
#[derive(Debug, Default)]
struct Unread(HashSet<(String, i32)>);

impl Unread {
    fn begins(&mut self, topic: &str, partition: i32) {
        self.0.insert((topic.to_owned(), partition));
    }

    fn ends(&mut self, topic: String, partition: i32) {
        self.0.remove(&(topic, partition));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the newest keys of `(topic, partition, low, high)`s into the samples of their topics, without those of no subject. What does not come within
/// `patience` is not looked at.
pub(super) fn read_newest(
    consumer: &BaseConsumer<QuietContext>,
    partitions: &[(String, i32, i64, i64)],
    subject_bytes_max: usize,
    patience: Duration,
    samples: &mut HashMap<String, Sample>,
) {
    let mut list = TopicPartitionList::new();
    let mut unread = Unread::default();
    let each = (SAMPLES_MAX / partitions.len().max(1) as i64).clamp(SAMPLE_RECORDS_MIN, SAMPLE_RECORDS);
    for (topic, partition, low, high) in partitions.iter().filter(|(_, _, low, high)| low < high) {
        if list.add_partition_offset(topic, *partition, KafkaOffset::Offset((*low).max(high - each))).is_ok() {
            unread.begins(topic, *partition);
        }
    }
    if unread.is_empty() || consumer.assign(&list).is_err() {
        return;
    }
    let deadline = Instant::now() + patience;
    let mut queue = ConsumerQueue::of(consumer.client().native_ptr());
    let mut bytes = 0;
    while !unread.is_empty() && bytes < SAMPLE_BYTES_MAX && Instant::now() < deadline {
        let mut place = None;
        let event = queue.poll(|topic, partition| {
            place = std::str::from_utf8(topic).ok().map(|topic| (topic.to_owned(), partition));
            true
        });
        match event {
            Some(RawEvent::Record { record }) => {
                bytes += record.weight();
                if let (Some((topic, partition)), Some(key)) = (place, &record.key)
                    && let Some(sample) = samples.get_mut(&topic)
                    && record_key(topic.len(), key, subject_bytes_max).is_ok()
                {
                    sample.add(key, partition as u32);
                }
            }
            Some(RawEvent::EndOfPartition { topic, partition, .. }) => unread.ends(topic, partition),
            Some(RawEvent::Error { text, .. }) => tracing::debug!(error = text, "reading newest keys"),
            Some(RawEvent::Log { .. } | RawEvent::Other) => {}
            None => std::thread::sleep(POLL_PAUSE),
        }
    }
    let _ = consumer.unassign();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_said_again_counts_once() {
        let mut unread = Unread::default();
        unread.begins("t", 0);
        unread.begins("t", 1);
        for _ in 0..3 {
            unread.ends("t".to_owned(), 0);
        }
        assert!(!unread.is_empty(), "partition 1 is still to be read");
        unread.ends("t".to_owned(), 1);
        assert!(unread.is_empty());
    }

    fn keys(count: u32) -> Vec<String> {
        (0..count).map(|number| format!("key-{number}")).collect()
    }

    /// A sample of keys as a rule places them in `now` partitions.
    fn placed(rule: Partitioner, count: u32) -> Sample {
        let mut sample = Sample::new(7, &[]);
        keys(count).iter().for_each(|key| sample.add(key.as_bytes(), rule.partition(key.as_bytes(), 7)));
        sample
    }

    fn add_misplaced(sample: &mut Sample, count: u32) {
        for key in keys(count) {
            let taken = RULES.map(|rule| rule.partition(key.as_bytes(), 7));
            let wrong = (0..7).find(|partition| !taken.contains(partition)).unwrap();
            sample.add(key.as_bytes(), wrong);
        }
    }

    #[test]
    fn the_rule_that_fits_is_chosen() {
        assert_eq!(placed(Partitioner::Murmur2, 100).rule(&[]), Partitioner::Murmur2);
        assert_eq!(placed(Partitioner::Crc32, 100).rule(&[]), Partitioner::Crc32);
        assert_eq!(Sample::new(7, &[]).rule(&[]), Partitioner::Murmur2);
        let mut chaos = Sample::new(7, &[]);
        add_misplaced(&mut chaos, 100);
        assert_eq!(chaos.rule(&[]), Partitioner::Any);
    }

    #[test]
    fn a_few_odd_records_take_no_rule_away() {
        for rule in RULES {
            let mut sample = placed(rule, 1_980);
            add_misplaced(&mut sample, 20);
            assert_eq!(sample.rule(&[]), rule, "99 of 100");
            assert_eq!(sample.next_rule(rule, &[]), rule);
            add_misplaced(&mut sample, 1);
            assert_eq!(sample.rule(&[]), Partitioner::Any, "fewer");
            assert_eq!(sample.next_rule(rule, &[]), Partitioner::Any);
        }
        let mut few = placed(Partitioner::Murmur2, 20);
        add_misplaced(&mut few, 1);
        assert_eq!(few.rule(&[]), Partitioner::Any, "of few, every one counts");
        assert_eq!(
            few.next_rule(Partitioner::Murmur2, &[]),
            Partitioner::Murmur2,
            "a rule that is followed already is not given up for so few"
        );
        assert_eq!(placed(Partitioner::Crc32, 20).next_rule(Partitioner::Murmur2, &[]), Partitioner::Crc32);
    }

    #[test]
    fn a_refuted_rule_is_not_taken_again_and_earlier_counts_explain_old_records() {
        assert_eq!(placed(Partitioner::Crc32, 100).rule(&[Partitioner::Murmur2]), Partitioner::Crc32);
        assert_eq!(placed(Partitioner::Murmur2, 100).rule(&[Partitioner::Murmur2]), Partitioner::Any);
        let grown = |earlier: &[u32]| {
            let mut sample = Sample::new(7, earlier);
            for key in keys(100) {
                for count in [3, 7] {
                    sample.add(key.as_bytes(), Partitioner::Crc32.partition(key.as_bytes(), count));
                }
            }
            sample.rule(&[])
        };
        assert_eq!(grown(&[]), Partitioner::Any);
        assert_eq!(grown(&[3]), Partitioner::Crc32);
    }
}
