//! The bounds of the core under attack and under bursts: each of these was passed once. Memory is counted by the allocator, not by the core.

#[path = "rules/harness.rs"]
#[allow(dead_code, reason = "shared with the rules")]
mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use corespan::handoff::{Offset, PartitionRef, Record, RecordBatch, ShardId};
use corespan::shard::{Event, ShardSettings};
use corespan::subject::Topic;
use harness::{Client, Node, publications, record, topic};
use serde_json::json;

/// Counts what a thread has allocated and not given back; a test is one thread.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that ends counts no more.
    let _ = HELD.try_with(|held| held.set(change(held.get())));
}

#[expect(unsafe_code, reason = "a global allocator")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|held| held.wrapping_add(layout.size()));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|held| held.wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.get()
}

/// A node as its driver runs it, turn by turn.
trait Turns {
    fn turn(&mut self);
    fn consume_quietly(&mut self, topic: &Topic, records: Vec<Record>);
}

impl Turns for Node {
    /// One turn of every shard: what was said arrives, outboxes are written once.
    fn turn(&mut self) {
        for shard in 0..self.cores.len() {
            self.cores[shard].flush(self.now_ms, &mut self.hands[shard]);
            for (to, batch) in std::mem::take(&mut self.hands[shard].from_home) {
                if self.cores[to.index()].drains_from_home() {
                    self.handle(to.index(), Event::FromHome { from: ShardId(shard as u16), batch });
                    if self.cores[to.index()].is_crowded() {
                        self.cores[to.index()].flush(self.now_ms, &mut self.hands[to.index()]);
                    }
                } else {
                    self.hands[shard].from_home.push_back((to, batch));
                }
            }
            for (to, batch) in std::mem::take(&mut self.hands[shard].toward_home) {
                self.handle(to.index(), Event::TowardHome { from: ShardId(shard as u16), batch });
            }
        }
    }

    /// Records of the one partition of a topic, in one turn.
    fn consume_quietly(&mut self, topic: &Topic, records: Vec<Record>) {
        let next = records.last().map_or(Offset(0), |record| record.offset.next());
        let partition = PartitionRef { topic: topic.index, partition: 0 };
        let generation = topic.partitions[0].generation;
        self.handle(topic.partitions[0].owner.index(), Event::Records(RecordBatch { partition, generation, records, next }));
        self.turn();
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Records of about a kilobyte, of one key (or none), on one partition.
fn records(first: i64, count: i64, key: Option<&str>) -> Vec<Record> {
    (first..first + count).map(|offset| record(offset, key, Some(&format!("{{\"n\":{offset},\"pad\":\"{}\"}}", "x".repeat(980))))).collect()
}

/// A burst that waits in Kafka, partition by partition, and clients that take so many bytes in a millisecond. As the driver does it: the shard gets parts
/// as long as it takes them, and time passes. Until all is read and the clients have everything.
fn burst(node: &mut Node, topic: &Topic, mut logs: Vec<Vec<Record>>, clients: &[Client], bytes_per_ms: usize) {
    for client in clients {
        node.set_room(*client, bytes_per_ms);
    }
    let mut quiet = 0;
    for _ in 0..60_000 {
        for (partition, log) in logs.iter_mut().enumerate() {
            let shard = topic.partitions[partition].owner.index();
            let mut turn = 256 * KIB;
            while !log.is_empty() && turn > 0 && node.cores[shard].polls_kafka() {
                let part = node.cores[shard].part_bytes().min(turn);
                let mut bytes = 0;
                let count = log.iter().take_while(|record| (bytes, bytes += record.weight()).0 < part).count();
                turn -= part;
                let records: Vec<_> = log.drain(..count).collect();
                let next = records.last().map_or(Offset(0), |record| record.offset.next());
                let partition = PartitionRef { topic: topic.index, partition: partition as u32 };
                let generation = topic.partitions[partition.partition as usize].generation;
                node.handle(shard, Event::Records(RecordBatch { partition, generation, records, next }));
                node.turn();
            }
        }
        node.turn();
        node.now_ms += 1;
        if node.now_ms.is_multiple_of(10) {
            for shard in 0..node.cores.len() {
                node.handle(shard, Event::Tick);
            }
        }
        for client in clients {
            node.set_room(*client, bytes_per_ms);
            node.handle(client.shard, Event::Writable { connection: client.key });
        }
        quiet = if logs.iter().all(Vec::is_empty) { quiet + 1 } else { 0 };
        if quiet > 2_000 {
            break;
        }
    }
    assert!(logs.iter().all(Vec::is_empty), "the burst is read");
    for client in clients {
        node.drain_socket(*client, usize::MAX);
    }
    node.pass(200);
}

#[test]
fn a_burst_of_one_subject_reaches_a_client_that_reads_and_nobody_is_parked() {
    for count in [3_000, 5_000] {
        let topic = topic(0, "v", 1, 2);
        let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
        // One beside its home, one on another shard.
        let clients = [node.connect(0), node.connect(1)];
        clients.iter().for_each(|client| drop(node.subscribe(*client, "/v/k")));
        burst(&mut node, &topic, vec![records(0, count, Some("k"))], &clients, 50 * KIB);
        for client in clients {
            let pushes = node.pushes(client);
            assert_eq!(pushes.len(), count as usize);
            assert!(pushes.iter().enumerate().all(|(place, (offset, _))| *offset == place as u64 + 1));
        }
        let parked: u64 = node.cores.iter_mut().map(|core| core.counters().subscriptions_parked).sum();
        let waited: u64 = node.cores.iter_mut().map(|core| core.counters().intake_waited_ms).sum();
        assert!(parked == 0 && waited > 0, "parked {parked}, waited {waited} ms");
    }
}

#[test]
fn a_burst_that_outruns_a_client_parks_it_and_is_there_when_it_comes_to_it() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let client = node.connect(0);
    node.subscribe(client, "/v/k");
    burst(&mut node, &topic, vec![records(0, 20_000, Some("k"))], &[client], 20 * KIB);
    let pushes = node.pushes(client);
    assert_eq!(pushes.len(), 20_000);
    assert!(pushes.iter().enumerate().all(|(place, (offset, _))| *offset == place as u64 + 1));
    let counters = node.cores[0].counters().clone();
    assert!(counters.subscriptions_parked > 0 && counters.subscriptions_lost == 0, "{counters:?}");
}

#[test]
fn a_burst_without_keys_reaches_a_client_that_reads() {
    let topic = topic(0, "v", 4, 2);
    let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
    let client = node.connect(1);
    node.subscribe(client, "/v");
    let logs = (0..4).map(|_| records(0, 375, None)).collect();
    burst(&mut node, &topic, logs, &[client], 50 * KIB);
    assert_eq!(node.pushes(client).len(), 1_500);
    assert_eq!(node.cores[1].counters().subscriptions_lost, 0);
}

#[test]
fn small_outboxes_hold_a_fan_out_to_thousands_who_read() {
    for key in [Some("k"), None] {
        let topic = topic(0, "v", 1 + u32::from(key.is_none()), 1);
        let settings = ShardSettings { outbox_bytes_max: 128 * KIB, outboxes_bytes_max: MIB, ..ShardSettings::default() };
        let mut node = Node::serving(1, settings, vec![topic.clone()]);
        let clients: Vec<Client> = (0..2_000).map(|_| node.connect(0)).collect();
        let channel = if key.is_some() { "/v/k" } else { "/v" };
        clients.iter().for_each(|client| drop(node.subscribe(*client, channel)));
        burst(&mut node, &topic, vec![records(0, 100, key)], &clients, 50 * KIB);
        for client in &clients {
            assert_eq!(node.pushes(*client).len(), 100);
        }
        let counters = node.cores[0].counters().clone();
        assert_eq!((counters.subscriptions_parked, counters.subscriptions_lost), (0, 0), "{counters:?}");
    }
}

#[test]
fn a_thousand_slow_readers_hold_up_nobody_for_more_than_a_tenth_of_the_time() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let slow: Vec<Client> = (0..1_000).map(|_| node.connect(0)).collect();
    let fast = node.connect(0);
    slow.iter().chain([&fast]).for_each(|client| drop(node.subscribe(*client, "/v/k")));
    for client in &slow {
        node.set_room(*client, 100);
    }
    let (began_ms, mut offset, mut refused) = (node.now_ms, 0, 0);
    while node.now_ms < began_ms + 3_000 {
        // Each takes a little, all the time: none of them is stuck.
        for client in &slow {
            node.set_room(*client, 100);
            node.handle(0, Event::Writable { connection: client.key });
        }
        if node.cores[0].polls_kafka() {
            node.handle(
                0,
                Event::Records(RecordBatch {
                    partition: PartitionRef { topic: topic.index, partition: 0 },
                    generation: topic.partitions[0].generation,
                    records: records(offset, 20, Some("k")),
                    next: Offset(offset + 20),
                }),
            );
            offset += 20;
        } else {
            refused += 1;
        }
        node.turn();
        node.now_ms += 5;
        if node.now_ms % 10 < 5 {
            node.handle(0, Event::Tick);
        }
    }
    assert!(refused <= 70, "{refused} of 600 turns waited");
    assert_eq!(node.pushes(fast).len(), offset as usize);
    assert!(node.cores[0].counters().intake_waited_ms <= 400);
}

#[test]
fn parking_a_client_with_a_thousand_subscriptions_walks_its_outbox_once() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let client = node.connect(0);
    for key in 0..1_000 {
        node.subscribe(client, &format!("/v/k{key}"));
    }
    node.frames(client);
    node.set_room(client, 0);
    // Small records fill the outbox with thousands of frames of all subscriptions.
    let mut offset = 0;
    let mut slowest = std::time::Duration::ZERO;
    while node.cores[0].counters().subscriptions_parked == 0 {
        let records: Vec<_> =
            (offset..offset + 100).map(|offset| record(offset, Some(&format!("k{}", offset % 1_000)), Some("\"small\""))).collect();
        offset += 100;
        node.consume_quietly(&topic, records);
        assert!(offset < 100_000);
    }
    let began = std::time::Instant::now();
    for _ in 0..10 {
        let records: Vec<_> =
            (offset..offset + 1_000).map(|offset| record(offset, Some(&format!("k{}", offset % 1_000)), Some("\"small\""))).collect();
        offset += 1_000;
        let began = std::time::Instant::now();
        node.consume_quietly(&topic, records);
        slowest = slowest.max(began.elapsed());
    }
    // A walk of the outbox for each subscription took seconds.
    assert!(began.elapsed().as_millis() < 2_000, "{slowest:?}");
    assert_eq!(node.cores[0].counters().subscriptions_lost, 0);
}

#[test]
fn reading_evicts_nothing() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { cache_bytes_max: 4 * MIB, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic.clone()]);
    let burst: Vec<_> = (0..2_000).map(|offset| record(offset, Some(&format!("k{}", offset % 500)), Some(&"x".repeat(1_000)))).collect();
    node.consume(&topic, 0, burst);
    let counters = node.cores[0].counters().clone();
    assert_eq!(counters.cache_evicted, 0, "{} bytes", counters.cache_bytes);
    let probe = node.connect(0);
    let epoch = node.subscribe(probe, "/v/other")["subscribe"]["epoch"].as_str().unwrap().to_owned();
    for wave in 0..2 {
        for key in 0..500 {
            let client = node.connect(0);
            let reply = node.recover(client, &format!("/v/k{key}"), &epoch, 0);
            assert_eq!(reply["subscribe"]["recovered"], true, "wave {wave}, key {key}");
            assert_eq!(publications(&reply["subscribe"]).len(), 4);
            node.leave(client);
        }
        node.pass(200);
    }
    let counters = node.cores[0].counters().clone();
    assert_eq!(counters.cache_evicted, 0);
    assert!(counters.cache_encoded_bytes > 0 && counters.cache_encoded_bytes <= (4 * MIB / 8) as u64);
    assert!(counters.cache_bytes <= (4 * MIB) as u64);
    node.cores[0].check();
}

#[test]
fn a_cache_takes_what_it_counts() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { cache_bytes_max: 16 * MIB, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic.clone()]);
    let before = held();
    for first in (0..200_000).step_by(1_000) {
        let burst =
            (first..first + 1_000).map(|offset| record(offset, Some(&format!("k{}", offset % 300)), Some(&"x".repeat(100)))).collect();
        node.consume(&topic, 0, burst);
    }
    let (took, counted) = (held() - before, node.cores[0].counters().cache_bytes as usize);
    assert!(counted > 15 * MIB && counted <= 16 * MIB, "{counted}");
    assert!(took <= counted + counted / 10, "{took} bytes are held, {counted} are counted");
    assert!(took >= counted / 2, "{took} bytes are held, {counted} are counted");
}

/// As the consumer gives them: key and value in one piece of memory.
fn one_each(first: i64, count: i64) -> Vec<Record> {
    let one = |offset: i64| {
        let mut bytes = BytesMut::with_capacity(120);
        bytes.extend_from_slice(format!("subject-{offset:012}").as_bytes());
        let key = bytes.split().freeze();
        bytes.resize(100, b'1');
        Record { key: Some(key), value: Some(bytes.freeze()), ..record(offset, None, None) }
    };
    (first..first + count).map(one).collect()
}

#[test]
fn a_million_subjects_come_without_a_large_allocation_and_take_four_hundred_bytes_each_beside_their_own() {
    const SUBJECTS: i64 = 1_000_000;
    // In the record, which has room for 120 bytes, and in the subject's name.
    const THEIR_OWN: usize = 120 + "/cars/subject-".len() + 12;
    let cars = topic(0, "cars", 1, 1);
    let settings = ShardSettings { cache_bytes_max: 2 << 30, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![cars.clone()]);
    let before = held();
    LARGEST.set(0);
    for first in (0..SUBJECTS).step_by(1_000) {
        node.consume_quietly(&cars, one_each(first, 1_000));
    }
    let each = (held() - before) / SUBJECTS as usize;
    assert_eq!(node.cores[0].counters().subjects, SUBJECTS as u64);
    assert!(each <= THEIR_OWN + 400, "{each} bytes, {THEIR_OWN} of them the subject's own");
    // Whoever moves a table of a million stops the shard for as long.
    assert!(LARGEST.get() <= 512 * KIB, "{} bytes at once", LARGEST.get());
    println!("{each} bytes for each of {SUBJECTS} subjects, {THEIR_OWN} of them its own");
}

#[test]
fn an_epoch_that_is_none_of_ours_is_not_kept() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let client = node.connect(0);
    let epoch = "e".repeat(900_000);
    let before = held();
    let ids: Vec<u32> = (0..200)
        .map(|key| node.send(client, json!({"subscribe": {"channel": format!("/v/{key}"), "recover": true, "epoch": epoch, "offset": 5}})))
        .collect();
    node.settle();
    let took = held().saturating_sub(before);
    assert!(took < 2 * MIB, "{took} bytes");
    for id in ids {
        let reply = node.reply(client, id).expect("nonsense is answered at once");
        assert_ne!(reply["subscribe"]["recovered"], true);
    }
}

#[test]
fn clients_that_ping_and_never_read_cost_little_and_leave_nothing() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    let before = held();
    let clients: Vec<Client> = (0..5).map(|_| node.connect(0)).collect();
    for client in &clients {
        node.set_room(*client, 0);
    }
    for round in 0..20_000 {
        for client in &clients {
            for _ in 0..10 {
                node.handle(client.shard, Event::PingReceived { connection: client.key, payload: b"" });
            }
        }
        if round % 100 == 0 {
            node.turn();
        }
    }
    node.settle();
    let took = held().saturating_sub(before);
    assert!(took < MIB, "{took} bytes for five");
    for client in clients {
        // Who reads again has a pong for his newest ping, and one that was on its way.
        node.drain_socket(client, usize::MAX);
        let pongs = node.frames(client).iter().filter(|frame| frame["opcode"] == 10).count();
        assert!((1..=2).contains(&pongs), "{pongs} pongs");
        node.leave(client);
    }
    let left = held().saturating_sub(before);
    assert!(left < 64 * KIB, "{left} bytes are left");
}

#[test]
fn commands_of_a_client_that_never_reads_are_bounded_by_what_their_answers_take() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    let client = node.connect(0);
    node.set_room(client, 0);
    let before = held();
    let mut taken = 0;
    while node.cores[0].reads(client.key) {
        node.send(client, json!({"presence": {"channel": "/v/k"}}));
        taken += 1;
        node.turn();
        assert!(taken < 100_000);
    }
    let took = held() - before;
    assert!(took < 4 * MIB, "{took} bytes for an outbox of 2 MiB");
    node.leave(client);
    node.pass(200);
    let left = held().saturating_sub(before);
    assert!(left < 512 * KIB, "{left} bytes are left");
}

#[test]
fn a_publish_that_waits_for_word_of_its_topic_is_read_once() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    let clients: Vec<Client> = (0..64).map(|_| node.connect(0)).collect();
    let value = "x".repeat(900_000);
    let before = held();
    let ids: Vec<(Client, u32)> =
        clients.iter().map(|client| (*client, node.send(*client, json!({"publish": {"channel": "/other/k", "data": value}})))).collect();
    node.settle();
    // The value once for each: the text that it came in is not kept beside it.
    let took = held() - before;
    assert!(took < 64 * 1_100_000, "{took} bytes");
    let began = std::time::Instant::now();
    node.pass(2_000);
    // 200 ticks: each parsed 64 times 900 KB.
    assert!(began.elapsed().as_millis() < 2_000, "{:?}", began.elapsed());
    assert_eq!(node.hands[0].lookups, ["other"]);
    node.handle(0, Event::TopicFound { topic: "other", partitions: Ok(3) });
    node.settle();
    assert_eq!(node.hands[0].produced.len(), 64);
    assert!(ids.iter().all(|(client, id)| node.reply(*client, *id).is_none()));
}

#[test]
fn a_lost_answer_about_the_end_of_a_log_is_asked_for_again() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    let client = node.connect(0);
    let epoch = node.subscribe(client, "/v/other")["subscribe"]["epoch"].as_str().unwrap().to_owned();
    let id = node.send(client, json!({"subscribe": {"channel": "/v/k", "recover": true, "epoch": epoch, "offset": 9}}));
    node.settle();
    assert_eq!(node.hands[0].ends_asked.len(), 1);
    node.pass(1_200);
    assert_eq!(node.hands[0].ends_asked.len(), 2);
    let question = node.hands[0].ends_asked[1];
    node.handle(0, Event::LogEnd { question, end: Some(Offset(3)) });
    node.settle();
    let reply = node.reply(client, id).expect("a position beyond the end is answered at once");
    assert_eq!(reply["subscribe"]["was_recovering"], true);
}

#[test]
fn subscriptions_are_bounded_in_bytes_and_one_more_is_told_so() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { subscriptions_bytes_max: MIB, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic]);
    let before = held();
    let (mut clients, mut granted) = (Vec::new(), 0);
    let refused = 'clients: loop {
        let client = node.connect(0);
        clients.push(client);
        for key in 0..100 {
            let reply = node.subscribe(client, &format!("/v/{}-{key}", clients.len()));
            if reply["error"].is_object() {
                break 'clients reply;
            }
            granted += 1;
        }
        assert!(granted < 10_000);
    };
    assert_eq!(refused["error"]["code"], 106);
    assert!(refused["error"]["message"].as_str().unwrap().contains("client.subscriptions.shard.bytes.max"));
    let counters = node.cores[0].counters().clone();
    assert!(granted > 500 && counters.subscriptions_refused == 1, "{granted} were granted: {counters:?}");
    // At home they take as much again.
    let took = held() - before;
    assert!(took < 3 * MIB, "{took} bytes for {granted}, {} are counted", counters.subscriptions_bytes);
    for client in clients {
        node.leave(client);
    }
    assert_eq!(node.cores[0].counters().subscriptions_bytes, 0);
}

#[test]
fn a_message_that_fills_a_turns_bytes_goes_on_without_waiting_for_anything() {
    let topic = topic(0, "v", 4, 2);
    let mut node = Node::serving(2, ShardSettings { subject_bytes_max: 1_024, ..ShardSettings::default() }, vec![topic]);
    let client = node.connect(0);
    let channel = |number: usize| format!("/v/{number}/{}", "s".repeat(900));
    let mut message = String::new();
    for number in 0..1_000 {
        message += &format!("{}\n", json!({"id": 10_000 + number, "subscribe": {"channel": channel(number)}}));
    }
    node.handle(0, Event::Received { connection: client.key, payload: message.as_bytes() });
    node.settle();
    let granted =
        (0..1_000).filter(|number| node.reply(client, 10_000 + number).is_some_and(|reply| reply["subscribe"].is_object())).count();
    assert_eq!(granted, 1_000);
}
