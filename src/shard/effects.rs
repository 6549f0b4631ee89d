//! What a shard does to the world. The driver does it for real, the simulator in its own.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::counters::ShardCounters;
use super::stages::ShardStages;
use crate::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LogEndQuestion, Offset, PartitionRef, PublishKey, ShardId, TopicIndex,
    TowardHomeBatch,
};
use crate::shard::event::PublishFailure;

/// How often each topic has not, or perhaps not, what other topics of the same publish have.
pub type MissedPublishes = BTreeMap<Arc<str>, u64>;

/// The shard's hands. Nothing here blocks; everything that can be full says so.
pub trait Effects {
    /// Writes to the socket at once, as much as it takes. `slices` is never empty. After `Short`, the owner of the socket sends `Event::Writable`
    /// when it takes bytes again, and the shard writes nothing before that.
    fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus;
    /// Closes the socket once what was written is out; `Event::Closed` follows later, once.
    fn close(&mut self, connection: ConnectionKey);
    /// The socket may be read again: something that made `ShardCore::reads(connection)` false is over. May be called more often than needed.
    fn resume_reading(&mut self, connection: ConnectionKey);
    /// Sends to the home shard `to` (never to the shard itself).
    fn send_toward_home(&mut self, to: ShardId, batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>>;
    /// Sends from this home to the shard `to` (never to the shard itself).
    fn send_from_home(&mut self, to: ShardId, batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>>;
    /// Hands a record to the producer. After `Queued` exactly one `Event::Published` follows.
    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus;
    /// Starts reading a partition at a number; ends an older reading of the same partition. Batches carry this generation.
    fn assign(&mut self, assignment: Assignment);
    /// Stops reading a partition.
    fn unassign(&mut self, partition: PartitionRef);
    /// Asks for the last stable offset; one `Event::LogEnd` follows.
    fn query_log_end(&mut self, question: LogEndQuestion);
    /// Asks whether a topic that is not in the map exists; one `Event::TopicFound` follows.
    fn lookup_topic(&mut self, topic: &str);
    /// This shard routes by that version of the map from now on.
    fn acknowledge_map(&mut self, version: u64);
    /// A record of this topic is where its guessed partitioner does not put it: the topic must become `any`.
    fn report_misfit(&mut self, topic: TopicIndex);
    /// A partition of this shard has been read up to its `ready_at`.
    fn partition_ready(&mut self, partition: PartitionRef, generation: Generation);
    /// The counters, ten times a second, for who wants them.
    fn publish_counters(&mut self, counters: impl FnOnce() -> ShardCounters);
    /// What time it is, as `ShardCore::set_clock` has it.
    fn clock_us(&self) -> u64 {
        0
    }
    /// Takes what was recorded since the last time, ten times a second at most, and clears it.
    fn publish_stages(&mut self, stages: &mut ShardStages) {
        stages.clear();
    }
    /// How often each topic has not, or perhaps not, what others of the same publish have: all of it, whenever it has changed.
    fn publish_missed(&mut self, _missed: &MissedPublishes) {}
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStatus {
    /// All of it.
    Done,
    /// This many bytes, then the socket was full. `Event::Writable` follows.
    Short(usize),
    /// The socket is broken. `Event::Closed` follows.
    Broken,
}

/// A record to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRecord {
    pub topic: std::sync::Arc<str>,
    /// The partition that the topic's partitioner gives; `None` leaves it to the producer (null keys without `null.key.partition`).
    pub partition: Option<u32>,
    pub key: Option<Bytes>,
    /// `None` writes a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Bytes)>,
}

/// What the producer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceStatus {
    Queued,
    /// No room: stop reading from that socket, try again at the next tick.
    Full,
    /// Refused at once; no `Event::Published` follows.
    Refused(PublishFailure),
}

/// A partition to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub partition: PartitionRef,
    pub topic: std::sync::Arc<str>,
    pub generation: Generation,
    pub start: Offset,
}
