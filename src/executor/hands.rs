//! The effects of a shard for real: its sockets, its lanes, its Kafka side and its place in the telemetry.

use std::io::IoSlice;
use std::time::Instant;

use crate::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneEnds, LaneFull, LogEndQuestion, PartitionRef, PublishKey, ShardId, TopicIndex,
    TowardHomeBatch,
};
use crate::net::Sockets;
use crate::shard::{Assignment, Broker, Effects, MissedPublishes, ProduceRecord, ProduceStatus, ShardCounters, ShardStages, WriteStatus};

/// See the module's documentation.
pub(super) struct Hands<B> {
    pub(super) sockets: Sockets,
    pub(super) lanes: LaneEnds,
    pub(super) broker: B,
    pub(super) store_counters: Box<dyn FnMut(&ShardCounters)>,
    pub(super) store_missed: Box<dyn FnMut(&MissedPublishes)>,
    pub(super) store_stages: Box<dyn FnMut(&mut ShardStages)>,
    /// The clocks of all shards count from here.
    pub(super) epoch: Instant,
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

    fn clock_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    fn publish_stages(&mut self, stages: &mut ShardStages) {
        (self.store_stages)(stages);
    }

    fn publish_missed(&mut self, missed: &MissedPublishes) {
        (self.store_missed)(missed);
    }

    fn publish_counters(&mut self, counters: impl FnOnce() -> ShardCounters) {
        let refused = self.sockets.refused();
        (self.store_counters)(&ShardCounters {
            inbound_bytes: self.sockets.inbound_bytes() as u64,
            inbound_refused: refused.inbound,
            connections_refused: refused.connections,
            requests_expired: refused.requests,
            heads_refused: refused.heads,
            handshakes_refused: refused.handshakes,
            handshakes_waited: self.sockets.handshakes_waited(),
            encrypted_bytes: self.sockets.tail_bytes() as u64,
            ..counters()
        });
    }
}
