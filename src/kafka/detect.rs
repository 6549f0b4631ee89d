//! Which partitioner a topic's producers use, judged by where their newest records are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset as KafkaOffset, TopicPartitionList};

use super::consumer::QuietContext;
use crate::subject::Partitioner;

/// Newest records of each partition that are looked at.
pub(super) const SAMPLE_RECORDS: i64 = 200;

/// Judges by `(key, partition)` of records of a topic with `partitions` partitions, which it may have had fewer of `earlier`: murmur2 if every key
/// fits (or there are none), else crc32 if every key fits, else none does. A `refuted` rule is not taken.
pub fn detect<'k>(
    keys: impl Iterator<Item = (&'k [u8], u32)> + Clone,
    partitions: u32,
    earlier: &[u32],
    refuted: &[Partitioner],
) -> Partitioner {
    let puts = |rule: Partitioner, key: &[u8], partition: u32| {
        rule.partition(key, partitions) == partition || earlier.iter().any(|count| rule.partition(key, *count) == partition)
    };
    let fits = |rule: Partitioner| keys.clone().all(|(key, partition)| puts(rule, key, partition));
    let rules = [Partitioner::Murmur2, Partitioner::Crc32].into_iter().filter(|rule| !refuted.contains(rule));
    rules.into_iter().find(|rule| fits(*rule)).unwrap_or(Partitioner::Any)
}

/// Reads the newest keys: for each `(topic, partition, low, high)` those from `high - SAMPLE_RECORDS` on. Gives what came within `patience`.
pub(super) fn newest_keys(
    consumer: &BaseConsumer<QuietContext>,
    partitions: &[(String, i32, i64, i64)],
    patience: Duration,
) -> HashMap<String, Vec<(Vec<u8>, u32)>> {
    let mut keys: HashMap<String, Vec<(Vec<u8>, u32)>> = HashMap::new();
    let mut list = TopicPartitionList::new();
    let mut open = 0;
    for (topic, partition, low, high) in partitions.iter().filter(|(_, _, low, high)| low < high) {
        if list.add_partition_offset(topic, *partition, KafkaOffset::Offset((*low).max(high - SAMPLE_RECORDS))).is_ok() {
            open += 1;
        }
    }
    if open == 0 || consumer.assign(&list).is_err() {
        return keys;
    }
    let deadline = Instant::now() + patience;
    while open > 0 && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                if let Some(key) = message.key() {
                    keys.entry(message.topic().to_owned()).or_default().push((key.to_vec(), message.partition() as u32));
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => tracing::debug!(%error, "reading newest keys"),
            None => {}
        }
    }
    let _ = consumer.unassign();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_fits_every_key_is_chosen() {
        let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
        let placed = |rule: Partitioner| keys.iter().map(move |key| (key.as_bytes(), rule.partition(key.as_bytes(), 7)));
        assert_eq!(detect(placed(Partitioner::Murmur2), 7, &[], &[]), Partitioner::Murmur2);
        assert_eq!(detect(placed(Partitioner::Crc32), 7, &[], &[]), Partitioner::Crc32);
        assert_eq!(detect(std::iter::empty(), 7, &[], &[]), Partitioner::Murmur2);
        assert_eq!(detect(keys.iter().enumerate().map(|(place, key)| (key.as_bytes(), place as u32 % 7)), 7, &[], &[]), Partitioner::Any);
    }

    #[test]
    fn a_rule_that_a_record_has_contradicted_is_not_taken_again_and_earlier_counts_explain_old_records() {
        let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
        let placed = |rule: Partitioner, count: u32| keys.iter().map(move |key| (key.as_bytes(), rule.partition(key.as_bytes(), count)));
        assert_eq!(detect(placed(Partitioner::Crc32, 7), 7, &[], &[Partitioner::Murmur2]), Partitioner::Crc32);
        assert_eq!(detect(placed(Partitioner::Murmur2, 7), 7, &[], &[Partitioner::Murmur2]), Partitioner::Any);
        let grown = || placed(Partitioner::Crc32, 3).chain(placed(Partitioner::Crc32, 7));
        assert_eq!(detect(grown(), 7, &[], &[]), Partitioner::Any);
        assert_eq!(detect(grown(), 7, &[3], &[]), Partitioner::Crc32);
    }
}
