//! Times of the core's parts, by criterion: `cargo bench --bench core`. For ratios on one machine; what CI holds are the counts of `instructions.rs`.

mod support;

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use corespan::handoff::{Offset, Protocol, Variant, Wake, Weigh, lane};
use corespan::session::outbox::{Outbox, OutboxPool};
use corespan::session::{Publication, encode_push, next_command, wire};
use corespan::shard::{Event, ShardSettings};
use corespan::subject::ValueKind;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use support::{Shard, VALUE};

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Json, "json"), (Protocol::Protobuf, "protobuf")];

/// A subscribe of a client that comes back.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (protocol, name) in PROTOCOLS {
        let message = match protocol {
            Protocol::Json => {
                br#"{"id":2,"subscribe":{"channel":"/quotes/EURUSD","recover":true,"epoch":"AbCdEf","offset":12345}}"#.to_vec()
            }
            Protocol::Protobuf => {
                let (channel, epoch) = (Bytes::from_static(b"/quotes/EURUSD"), Bytes::from_static(b"AbCdEf"));
                let subscribe = wire::SubscribeRequest { channel, recover: true, epoch, offset: 12_345, ..Default::default() };
                wire::Command { id: 2, subscribe: Some(subscribe), ..Default::default() }.encode_length_delimited_to_vec()
            }
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let command = next_command(protocol, black_box(&message), &mut 0);
                assert!(matches!(command, Ok(Some(_))), "it is one command");
                command
            });
        });
    }
}

/// A push of 200 bytes.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let kinds = [("json", Protocol::Json, ValueKind::Json), ("json-binary", Protocol::Json, ValueKind::Binary)];
    for (name, protocol, kind) in kinds.into_iter().chain([("protobuf", Protocol::Protobuf, ValueKind::Json)]) {
        let variant = Variant { protocol, numeric: false };
        let publication =
            Publication { value: Some(VALUE), kind, offset: Some(Offset(12_345)), timestamp_ms: 1, tags: &[], oversize: false };
        group.bench_function(name, |bencher| bencher.iter(|| encode_push(variant, "/quotes/EURUSD", 0, black_box(&publication))));
    }
}

/// A hundred records of random subjects that are known and that nobody wants, as the home takes them.
fn home_table(criterion: &mut Criterion) {
    const RECORDS: usize = 100;
    let mut group = criterion.benchmark_group("home-table");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for subjects in [1_000, 1_000_000] {
        let settings = ShardSettings { cache_bytes_max: 4 << 30, cache_records_max: 2_000_000, ..ShardSettings::default() };
        let mut shard = Shard::new(ValueKind::Json, settings);
        for from in (0..subjects).step_by(1_000) {
            let batch = shard.batch((from..from + 1_000).map(|nth| format!("k{nth}")));
            shard.take(Event::Records(batch));
        }
        assert_eq!(shard.core.counters().subjects, subjects);
        let mut random = fastrand::Rng::with_seed(1);
        group.bench_function(BenchmarkId::from_parameter(subjects), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let batch = shard.batch((0..RECORDS).map(|_| format!("k{}", random.u64(..subjects))));
                    let begin = std::time::Instant::now();
                    shard.take(Event::Records(batch));
                    took += begin.elapsed();
                }
                took
            });
        });
    }
}

struct Letter(u64);

impl Weigh for Letter {
    fn weight(&self) -> usize {
        size_of_val(&self.0)
    }
}

/// A message into a lane and out of it, on one thread: what the lane costs, without what two cores' caches add.
fn lane_hop(criterion: &mut Criterion) {
    let (sender, receiver) = lane(1024, 1 << 20, Arc::new(Wake::new()), Arc::new(Wake::new()));
    criterion.bench_function("lane-hop", |bencher| {
        bencher.iter(|| {
            assert!(sender.try_send(Letter(black_box(7))).is_ok(), "there is room");
            receiver.try_receive().map(|letter| letter.0)
        });
    });
}

/// Frames that wait for a client are gathered for a write, and let go of.
fn outbox_flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox-flush");
    for frames in [1_usize, 16] {
        let (mut pool, mut outbox) = (OutboxPool::default(), Outbox::default());
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(BenchmarkId::from_parameter(frames), |bencher| {
            bencher.iter(|| {
                for nth in 0..frames {
                    outbox.push_own(&mut pool, Bytes::from_static(VALUE), Some(Offset(nth as i64)), None);
                }
                let mut slices = [IoSlice::new(&[]); 64];
                let (_, bytes) = outbox.gather(&pool, black_box(&mut slices), usize::MAX);
                outbox.advance(&mut pool, bytes);
                assert!(outbox.is_empty());
            });
        });
    }
}

/// A record from the home into the sockets of all who want its subject.
fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver");
    for subscribers in [1, 10_000] {
        let mut shard = Shard::new(ValueKind::Json, ShardSettings::default());
        for _ in 0..subscribers {
            shard.subscribe(Protocol::Json, "/quotes/k0");
        }
        group.throughput(Throughput::Elements(subscribers));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    let batch = shard.batch(std::iter::once("k0".to_owned()));
                    let begin = std::time::Instant::now();
                    shard.take(Event::Records(batch));
                    shard.flush();
                    took += begin.elapsed();
                }
                took
            });
        });
    }
}

criterion_group!(benches, decode, encode, home_table, lane_hop, outbox_flush, deliver);
criterion_main!(benches);
