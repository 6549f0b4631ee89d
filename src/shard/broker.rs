//! The Kafka side of a shard, as the driver uses it.

use super::effects::{Assignment, ProduceRecord, ProduceStatus};
use crate::handoff::{Generation, LogEndQuestion, PartitionRef, PublishKey, RecordBatch, TopicIndex};

/// The Kafka side of a shard: its consumer, the producers, the metadata reader. Never blocks.
pub trait Broker: Send + 'static {
    /// The next batch that waits, at most about `bytes_max` bytes of keys and values. A batch without records still moves `next`.
    fn poll(&mut self, bytes_max: usize) -> Option<RecordBatch>;
    /// See `Effects`.
    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus;
    /// See `Effects`.
    fn assign(&mut self, assignment: Assignment);
    /// See `Effects`.
    fn unassign(&mut self, partition: PartitionRef);
    /// See `Effects`.
    fn query_log_end(&mut self, question: LogEndQuestion);
    /// See `Effects`.
    fn lookup_topic(&mut self, topic: &str);
    /// See `Effects`.
    fn acknowledge_map(&mut self, version: u64);
    /// See `Effects`.
    fn report_misfit(&mut self, topic: TopicIndex);
    /// See `Effects`.
    fn partition_ready(&mut self, partition: PartitionRef, generation: Generation);
}
