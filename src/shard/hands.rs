//! The effects of a shard for real: its sockets, its lanes, its Kafka side and its place in the telemetry.

use std::io::IoSlice;

use super::counters::ShardCounters;
use super::effects::{Assignment, Effects, ProduceRecord, ProduceStatus, WriteStatus};
use crate::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LaneReceiver, LaneSender, LogEndQuestion, PartitionRef, PublishKey, RecordBatch,
    ShardId, TopicIndex, TowardHomeBatch, Wake, lane,
};
use crate::net::Sockets;
use std::sync::Arc;

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

/// Messages in one lane: a few turns' worth, for a message is what one turn had to say. The bound in bytes is the one that counts.
const LANE_MESSAGES_MAX: usize = 256;

/// One shard's ends of all lanes; its own place in each list is empty.
#[derive(Debug, Default)]
pub struct LaneEnds {
    pub(super) toward_home_to: Vec<Option<LaneSender<TowardHomeBatch>>>,
    pub(super) from_home_to: Vec<Option<LaneSender<FromHomeBatch>>>,
    pub(super) toward_home_of: Vec<Option<LaneReceiver<TowardHomeBatch>>>,
    pub(super) from_home_of: Vec<Option<LaneReceiver<FromHomeBatch>>>,
}

/// Makes the lanes between all shards, each of at most `bytes_max` bytes: two for each ordered pair. `wakes` are the shards' own, in their order.
pub fn lanes(wakes: &[Arc<Wake>], bytes_max: usize) -> Vec<LaneEnds> {
    let mut ends: Vec<LaneEnds> = wakes.iter().map(|_| LaneEnds::default()).collect();
    for from in 0..wakes.len() {
        for to in 0..wakes.len() {
            let (toward_home, from_home) = if from == to {
                ((None, None), (None, None))
            } else {
                let (sender, receiver) = lane(LANE_MESSAGES_MAX, bytes_max, wakes[to].clone(), wakes[from].clone());
                let toward_home = (Some(sender), Some(receiver));
                let (sender, receiver) = lane(LANE_MESSAGES_MAX, bytes_max, wakes[to].clone(), wakes[from].clone());
                (toward_home, (Some(sender), Some(receiver)))
            };
            ends[from].toward_home_to.push(toward_home.0);
            ends[to].toward_home_of.push(toward_home.1);
            ends[from].from_home_to.push(from_home.0);
            ends[to].from_home_of.push(from_home.1);
        }
    }
    ends
}

/// See the module's documentation.
pub(super) struct Hands<B> {
    pub(super) sockets: Sockets,
    pub(super) lanes: LaneEnds,
    pub(super) broker: B,
    pub(super) store_counters: Box<dyn FnMut(&ShardCounters)>,
}

impl<B: Broker> Effects for Hands<B> {
    fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        self.sockets.write(connection, slices)
    }

    fn close(&mut self, connection: ConnectionKey) {
        self.sockets.close(connection);
    }

    fn resume_reading(&mut self, connection: ConnectionKey) {
        self.sockets.resume(connection);
    }

    fn send_toward_home(&mut self, to: ShardId, batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>> {
        self.lanes.toward_home_to[to.index()].as_ref().expect("a shard sends itself nothing").try_send(batch)
    }

    fn send_from_home(&mut self, to: ShardId, batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>> {
        self.lanes.from_home_to[to.index()].as_ref().expect("a shard sends itself nothing").try_send(batch)
    }

    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        self.broker.produce(publish, record)
    }

    fn assign(&mut self, assignment: Assignment) {
        self.broker.assign(assignment);
    }

    fn unassign(&mut self, partition: PartitionRef) {
        self.broker.unassign(partition);
    }

    fn query_log_end(&mut self, question: LogEndQuestion) {
        self.broker.query_log_end(question);
    }

    fn lookup_topic(&mut self, topic: &str) {
        self.broker.lookup_topic(topic);
    }

    fn acknowledge_map(&mut self, version: u64) {
        self.broker.acknowledge_map(version);
    }

    fn report_misfit(&mut self, topic: TopicIndex) {
        self.broker.report_misfit(topic);
    }

    fn partition_ready(&mut self, partition: PartitionRef, generation: Generation) {
        self.broker.partition_ready(partition, generation);
    }

    fn publish_counters(&mut self, counters: &ShardCounters) {
        let refused = self.sockets.refused();
        (self.store_counters)(&ShardCounters {
            inbound_bytes: self.sockets.inbound_bytes() as u64,
            inbound_refused: refused.inbound,
            connections_refused: refused.connections,
            requests_expired: refused.requests,
            heads_refused: refused.heads,
            ..counters.clone()
        });
    }
}
