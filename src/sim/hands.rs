//! A simulated shard's effects: fake sockets, fake lanes, a fake producer. Nothing happens by itself; the world moves it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;

use super::sabotage::Sabotage;
use crate::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LogEndQuestion, Offset, PartitionRef, PublishKey, ShardId, TopicIndex,
    TowardHomeBatch,
};
use crate::kafka::stall::{Renewals, Stall};
use crate::shard::{Assignment, Effects, ProduceRecord, ProduceStatus, ShardCounters, WriteStatus};

/// A bounded lane.
#[derive(Debug)]
pub struct FakeLane<T> {
    pub queue: VecDeque<T>,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
}

/// A client's socket: what the kernel holds for it.
#[derive(Debug)]
pub struct FakeSocket {
    pub buffer: Vec<u8>,
    pub capacity: usize,
    /// The shard waits for `Event::Writable`.
    pub wants_room: bool,
    pub closing: bool,
    /// The next write fails.
    pub broken: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SimHands {
    pub sockets: BTreeMap<ConnectionKey, FakeSocket>,
    pub toward_home: Vec<FakeLane<TowardHomeBatch>>,
    pub from_home: Vec<FakeLane<FromHomeBatch>>,
    /// Partitions that are read, and from where.
    pub reading: BTreeMap<PartitionRef, (Assignment, i64)>,
    pub log_ends: Vec<LogEndQuestion>,
    /// What Kafka said to such questions; the answers are on their way.
    pub log_ends_known: Vec<(LogEndQuestion, Option<Offset>)>,
    pub lookups: Vec<String>,
    pub produced: VecDeque<(PublishKey, ProduceRecord)>,
    pub producer_room: usize,
    pub acknowledged: u64,
    /// With the version of the map that the shard routed by.
    pub misfits: Vec<(TopicIndex, u64)>,
    pub sabotage: Option<Sabotage>,
    /// Batches until the sabotage strikes.
    pub fuse: u32,
    pub producer_was_full: bool,
    /// Sockets that may be read again.
    pub resumed: BTreeSet<ConnectionKey>,
    /// Partitions whose client gives nothing, without a word; `true`: only another client helps.
    pub deaf: BTreeMap<PartitionRef, bool>,
    pub stalls: BTreeMap<PartitionRef, Option<Stall>>,
    pub renewals: Renewals,
    /// Partitions that were assigned anew: the first thing that is read may be something from before.
    pub assigned_anew: BTreeSet<PartitionRef>,
    /// Since when the producer answers nothing.
    pub stuck_since_ms: Option<u64>,
    /// Partitions that had something to be read when Kafka's count of changes was `waiting_at`; `None`: that may have changed.
    pub waiting: Vec<PartitionRef>,
    pub waiting_at: Option<u64>,
    /// Sockets that the shard has asked to be closed.
    pub closing: usize,
    /// The shard has done something since its bounds were looked at.
    pub unchecked: bool,
}

impl<T: crate::handoff::Weigh> FakeLane<T> {
    pub fn new(messages_max: usize, bytes_max: usize) -> FakeLane<T> {
        FakeLane { queue: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    fn send(&mut self, message: T) -> Result<(), LaneFull<T>> {
        let weight = message.weight();
        if !self.queue.is_empty() && (self.queue.len() >= self.messages_max || self.bytes + weight > self.bytes_max) {
            return Err(LaneFull(message));
        }
        self.bytes += weight;
        self.queue.push_back(message);
        Ok(())
    }

    pub fn receive(&mut self) -> Option<T> {
        let message = self.queue.pop_front()?;
        self.bytes -= message.weight();
        Some(message)
    }
}

impl SimHands {
    /// Whether something is on its way to other shards.
    pub fn has_sent(&self) -> bool {
        self.toward_home.iter().any(|lane| !lane.queue.is_empty()) || self.from_home.iter().any(|lane| !lane.queue.is_empty())
    }

    fn spoil(&mut self, strike: impl FnOnce(Sabotage) -> bool) {
        let Some(sabotage) = self.sabotage else { return };
        if self.fuse > 0 {
            self.fuse -= 1;
        } else if strike(sabotage) && !sabotage.goes_on() {
            self.sabotage = None;
        }
    }
}

impl Effects for SimHands {
    fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        let Some(socket) = self.sockets.get_mut(&connection) else {
            return WriteStatus::Broken;
        };
        if socket.broken {
            return WriteStatus::Broken;
        }
        assert!(!socket.wants_room, "nothing is written before the socket takes bytes again");
        let mut written = 0;
        for slice in slices {
            let takes = slice.len().min(socket.capacity - socket.buffer.len());
            socket.buffer.extend_from_slice(&slice[..takes]);
            written += takes;
            if takes < slice.len() {
                socket.wants_room = true;
                return WriteStatus::Short(written);
            }
        }
        WriteStatus::Done
    }

    fn close(&mut self, connection: ConnectionKey) {
        if let Some(socket) = self.sockets.get_mut(&connection) {
            self.closing += usize::from(!socket.closing);
            socket.closing = true;
        }
    }

    fn resume_reading(&mut self, connection: ConnectionKey) {
        self.resumed.insert(connection);
    }

    fn send_toward_home(&mut self, to: ShardId, mut batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>> {
        self.spoil(|sabotage| sabotage.strike_toward_home(&mut batch));
        self.toward_home[to.index()].send(batch)
    }

    fn send_from_home(&mut self, to: ShardId, mut batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>> {
        self.spoil(|sabotage| sabotage.strike(&mut batch));
        self.from_home[to.index()].send(batch)
    }

    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        if self.produced.len() >= self.producer_room {
            self.producer_was_full = true;
            return ProduceStatus::Full;
        }
        self.produced.push_back((publish, record.clone()));
        ProduceStatus::Queued
    }

    fn assign(&mut self, assignment: Assignment) {
        let start = assignment.start.0;
        self.waiting_at = None;
        if self.deaf.get(&assignment.partition) == Some(&false) {
            self.deaf.remove(&assignment.partition);
        }
        self.stalls.remove(&assignment.partition);
        self.reading.insert(assignment.partition, (assignment, start));
    }

    fn unassign(&mut self, partition: PartitionRef) {
        self.waiting_at = None;
        self.deaf.remove(&partition);
        self.stalls.remove(&partition);
        self.reading.remove(&partition);
    }

    fn query_log_end(&mut self, question: LogEndQuestion) {
        self.log_ends.push(question);
    }

    fn lookup_topic(&mut self, topic: &str) {
        self.lookups.push(topic.to_owned());
    }

    fn acknowledge_map(&mut self, version: u64) {
        assert!(version > self.acknowledged, "versions grow");
        self.acknowledged = version;
    }

    fn report_misfit(&mut self, topic: TopicIndex) {
        self.misfits.push((topic, self.acknowledged));
    }

    fn partition_ready(&mut self, _partition: PartitionRef, _generation: Generation) {}

    fn publish_counters(&mut self, _counters: impl FnOnce() -> ShardCounters) {}
}
