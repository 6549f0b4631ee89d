//! What a delivery costs the core, in instructions: `valgrind --tool=callgrind --toggle-collect='*::measured'` counts what happens in `measured`, and
//! nothing of the kernel, of the clock or of the machine's mood is in it. `scripts/instructions.sh` runs it and compares with `benches/instructions.txt`.
//!
//! By itself it prints how often memory was allocated in `measured`, which no optimisation level changes much.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use corespan::allocator::Allocator;
use corespan::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LogEndQuestion, Offset, PartitionRef, Protocol, PublishKey, Record, RecordBatch,
    ShardId, TopicIndex, TowardHomeBatch,
};
use corespan::shard::{Assignment, Effects, Event, ProduceRecord, ProduceStatus, ShardCore, ShardCounters, ShardSettings, WriteStatus};
use corespan::subject::{Partition, Partitioner, Topic, TopicMap, ValueKind};
use slotmap::SlotMap;

/// Counts allocations of the whole process; one thread runs.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: as the allocator below, which does everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { Allocator.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { Allocator.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { Allocator.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Takes everything.
#[derive(Default)]
struct Sink {
    bytes: u64,
    writes: u64,
}

impl Effects for Sink {
    fn write(&mut self, _connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        self.writes += 1;
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
}

/// A shard with one topic of one partition.
struct Bench {
    core: ShardCore,
    sink: Sink,
    keys: SlotMap<ConnectionKey, ()>,
    offset: i64,
}

const AT: PartitionRef = PartitionRef { topic: TopicIndex(0), partition: 0 };
const VALUE: &[u8] = br#"{"symbol":"EURUSD","bid":1.08421,"ask":1.08423,"volume":1250000,"time":"2026-01-01T00:00:00.000Z","venue":"XLON","flags":["fast","last"],"note":"two hundred bytes of a record, more or less, as feeds have them."}"#;

impl Bench {
    fn new() -> Bench {
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
            value: ValueKind::Json,
            snapshot: false,
        };
        let mut bench = Bench {
            core: ShardCore::new(ShardId(0), 1, ShardSettings::default()),
            sink: Sink::default(),
            keys: SlotMap::with_key(),
            offset: 0,
        };
        let map = Arc::new(TopicMap::new(1, vec![Some(Arc::new(topic))], []));
        bench.core.handle(1, Event::Map(map), &mut bench.sink);
        bench.core.handle(1, Event::MapActive { version: 1 }, &mut bench.sink);
        bench
    }

    fn subscribe(&mut self, protocol: Protocol, subject: &str) {
        let connection = self.keys.insert(());
        self.core.handle(1, Event::Opened { connection, protocol }, &mut self.sink);
        let commands = format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":\"{subject}\"}}}}");
        self.core.handle(1, Event::Received { connection, payload: commands.as_bytes() }, &mut self.sink);
        self.core.flush(1, &mut self.sink);
    }

    fn batch(&mut self, keys: impl Iterator<Item = String>) -> RecordBatch {
        let records: Vec<Record> = keys
            .map(|key| {
                self.offset += 1;
                let (key, value) = (Bytes::from(key), Bytes::from_static(VALUE));
                Record {
                    offset: Offset(self.offset),
                    timestamp_ms: 0,
                    leader_epoch: 0,
                    key: Some(key),
                    value: Some(value),
                    headers: Box::default(),
                }
            })
            .collect();
        RecordBatch { partition: AT, generation: Generation(1), records, next: Offset(self.offset + 1) }
    }
}

/// What is counted: a turn.
#[inline(never)]
fn measured(bench: &mut Bench, batch: RecordBatch) {
    bench.core.handle(1, Event::Records(batch), &mut bench.sink);
    while {
        bench.core.flush(1, &mut bench.sink);
        bench.core.wants_flush()
    } {}
    black_box(&bench.sink.bytes);
}

fn main() {
    let case = std::env::args().nth(1).unwrap_or_default();
    let mut bench = Bench::new();
    // Clients, the keys of a batch, and deliveries of a batch.
    let (clients, keys): (usize, Vec<String>) = match case.as_str() {
        "unique" => (1_000, (0..100).map(|nth| format!("k{}", nth * 7)).collect()),
        "fan-out" => (1_000, vec!["k0".to_owned()]),
        "nobody" => (0, (0..100).map(|nth| format!("k{nth}")).collect()),
        "coalesced" => (1, (0..100).map(|_| "k0".to_owned()).collect()),
        // cargo runs benches with its own arguments.
        _ => return println!("instructions unique | fan-out | nobody | coalesced"),
    };
    for client in 0..clients {
        let subject = if case == "fan-out" { "/quotes/k0".to_owned() } else { format!("/quotes/k{client}") };
        bench.subscribe(Protocol::Json, &subject);
    }
    const WARM: usize = 300;
    const ROUNDS: usize = 20;
    let mut counted = (0, 0, 0);
    for round in 0..WARM + ROUNDS {
        let batch = bench.batch(keys.iter().cloned());
        let deliveries = bench.core.counters().deliveries;
        let before = (ALLOCATIONS.load(Ordering::Relaxed), bench.sink.writes);
        if round < WARM {
            warm(&mut bench, batch);
        } else {
            measured(&mut bench, batch);
            counted.0 += ALLOCATIONS.load(Ordering::Relaxed) - before.0;
            counted.1 += bench.core.counters().deliveries - deliveries;
            counted.2 += bench.sink.writes - before.1;
        }
    }
    println!("case={case} records={} deliveries={} writes={} allocations={}", keys.len() * ROUNDS, counted.1, counted.2, counted.0);
}

/// As `measured`, not counted.
#[inline(never)]
fn warm(bench: &mut Bench, batch: RecordBatch) {
    bench.core.handle(1, Event::Records(batch), &mut bench.sink);
    while {
        bench.core.flush(1, &mut bench.sink);
        bench.core.wants_flush()
    } {}
}
