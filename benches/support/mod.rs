//! A shard with one topic of one partition and clients whose sockets take everything: what the benches measure.

use std::cell::Cell;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use corespan::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LogEndQuestion, Offset, PartitionRef, Protocol, PublishKey, Record, RecordBatch,
    ShardId, TopicIndex, TowardHomeBatch,
};
use corespan::session::wire;
use corespan::shard::{
    Assignment, Effects, Event, ProduceRecord, ProduceStatus, ShardCore, ShardCounters, ShardSettings, Stage, WriteStatus,
};
use corespan::subject::{Partition, Partitioner, Topic, TopicMap, ValueKind};
use prost::Message;
use slotmap::SlotMap;

const AT: PartitionRef = PartitionRef { topic: TopicIndex(0), partition: 0 };
pub const VALUE: &[u8] = br#"{"symbol":"EURUSD","bid":1.08421,"ask":1.08423,"volume":1250000,"time":"2026-01-01T00:00:00.000Z","venue":"XLON","flags":["fast","last"],"note":"two hundred bytes of a record, more or less, as feeds have them."}"#;

/// Takes everything, unless it is `full`.
pub struct Sink {
    pub bytes: u64,
    /// Looks at the clock.
    pub looks: Cell<u64>,
    pub full: bool,
    epoch: Instant,
}

impl Effects for Sink {
    fn write(&mut self, _connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        if self.full {
            return WriteStatus::Short(0);
        }
        self.bytes += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        WriteStatus::Done
    }
    fn close(&mut self, _connection: ConnectionKey) {}
    fn resume_reading(&mut self, _connection: ConnectionKey) {}
    fn send_toward_home(&mut self, _to: ShardId, _batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>> {
        Ok(())
    }
    fn send_from_home(&mut self, _to: ShardId, _batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>> {
        Ok(())
    }
    fn produce(&mut self, _publish: PublishKey, _record: &ProduceRecord) -> ProduceStatus {
        ProduceStatus::Queued
    }
    fn assign(&mut self, _assignment: Assignment) {}
    fn unassign(&mut self, _partition: PartitionRef) {}
    fn query_log_end(&mut self, _question: LogEndQuestion) {}
    fn lookup_topic(&mut self, _topic: &str) {}
    fn acknowledge_map(&mut self, _version: u64) {}
    fn report_misfit(&mut self, _topic: TopicIndex) {}
    fn partition_ready(&mut self, _partition: PartitionRef, _generation: Generation) {}
    fn publish_counters(&mut self, _counters: impl FnOnce() -> ShardCounters) {}
    fn clock_us(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.epoch.elapsed().as_micros() as u64
    }
}

/// The shard, its clients and its sink.
pub struct Shard {
    pub core: ShardCore,
    pub sink: Sink,
    pub keys: SlotMap<ConnectionKey, ()>,
    offset: i64,
}

impl Shard {
    pub fn new(value: ValueKind, settings: ShardSettings) -> Shard {
        let partition = Partition { owner: ShardId(0), generation: Generation(1), start: Offset(0), ready_at: Offset(0), leader_epoch: 0 };
        let topic = Topic {
            index: TopicIndex(0),
            name: Arc::from("quotes"),
            id: Arc::from("id"),
            partitions: vec![partition],
            earlier_counts: Vec::new(),
            partitioner: Partitioner::Murmur2,
            partitioner_is_guess: false,
            null_key_partition: None,
            compacted: false,
            value,
            snapshot: false,
        };
        let mut shard = Shard {
            core: ShardCore::new(ShardId(0), 1, settings),
            sink: Sink { bytes: 0, looks: Cell::new(0), full: false, epoch: Instant::now() },
            keys: SlotMap::with_key(),
            offset: 0,
        };
        let map = Arc::new(TopicMap::new(1, vec![Some(Arc::new(topic))], []));
        shard.core.handle(1, Event::Map(map), &mut shard.sink);
        shard.core.handle(1, Event::MapActive { version: 1 }, &mut shard.sink);
        shard
    }

    /// Opens a connection that is connected and subscribed.
    pub fn subscribe(&mut self, protocol: Protocol, subject: &str) {
        let connection = self.keys.insert(());
        self.core.handle(1, Event::Opened { connection, protocol }, &mut self.sink);
        let commands = match protocol {
            Protocol::Json => {
                format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{subject}\"}}}}").into_bytes()
            }
            Protocol::Protobuf => {
                let connect = wire::Command { id: 1, connect: Some(wire::ConnectRequest::default()), ..wire::Command::default() };
                let subscribe = wire::SubscribeRequest { channel: Bytes::copy_from_slice(subject.as_bytes()), ..Default::default() };
                let subscribe = wire::Command { id: 2, subscribe: Some(subscribe), ..wire::Command::default() };
                [connect, subscribe].map(|command| command.encode_length_delimited_to_vec()).concat()
            }
        };
        self.core.handle(1, Event::Received { connection, payload: &commands }, &mut self.sink);
        self.core.flush(1, &mut self.sink);
    }

    /// The next records of the partition, one for each key.
    pub fn batch(&mut self, keys: impl Iterator<Item = String>) -> RecordBatch {
        let records: Vec<Record> = keys
            .map(|key| {
                self.offset += 1;
                Record {
                    offset: Offset(self.offset),
                    timestamp_ms: 0,
                    leader_epoch: 0,
                    key: Some(Bytes::from(key)),
                    value: Some(Bytes::from_static(VALUE)),
                    headers: Box::default(),
                }
            })
            .collect();
        RecordBatch { partition: AT, generation: Generation(1), records, next: Offset(self.offset + 1) }
    }

    /// Takes an event as the driver does: with two looks at the clock and two stages recorded for a batch of records.
    pub fn take(&mut self, event: Event<'static>) {
        let Event::Records(batch) = event else {
            return self.core.handle(1, event, &mut self.sink);
        };
        let count = batch.records.len();
        let polled_us = self.sink.clock_us();
        self.core.set_clock(polled_us);
        self.core.stages().record(Stage::Poll, polled_us, count);
        self.core.handle(1, Event::Records(batch), &mut self.sink);
        let took_us = self.sink.clock_us() - polled_us;
        self.core.stages().record(Stage::Home, took_us, count);
    }

    /// Ends a turn, and those that follow, until everything is written.
    pub fn flush(&mut self) {
        while {
            self.core.flush(1, &mut self.sink);
            self.core.wants_flush()
        } {}
    }
}
