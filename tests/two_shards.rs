//! Two shards, real sockets, real lanes, and a Kafka of a few vectors: what clients see end to end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corespan::cores::Poll;
use corespan::executor::{self, ShardPlan};
use corespan::handoff::{
    self, Generation, LogEndQuestion, MailboxSender, Offset, PartitionRef, PublishKey, Record, RecordBatch, ShardId, TopicIndex, Wake,
};
use corespan::http::{Site, SiteSettings};
use corespan::lifecycle::{Desks, Shards};
use corespan::net::{self, NetSettings};
use corespan::shard::{Assignment, Broker, Letter, ProduceRecord, ProduceStatus, PublishFailure, PublishResult, ShardSettings};
use corespan::subject::Partitioner;
use corespan::subject::topic_map::{Partition, Topic, TopicMap, ValueKind};
use serde_json::json;

mod support;
use support::PATIENCE;
use support::client::{Client, Push};

const SHARDS: u16 = 2;
const PARTITIONS: u32 = 4;

/// The log of the one topic, and whom to wake when it grows.
struct Log {
    partitions: Mutex<Vec<Vec<Record>>>,
    wakes: Vec<Arc<Wake>>,
    acknowledged: AtomicU64,
}

impl Log {
    fn append(&self, key: &str, value: &[u8]) -> (u32, Offset) {
        let partition = Partitioner::Murmur2.partition(key.as_bytes(), PARTITIONS);
        let mut partitions = self.partitions.lock().expect("nobody panics with the log");
        let log = &mut partitions[partition as usize];
        let offset = Offset(log.len() as i64);
        log.push(Record {
            offset,
            timestamp_ms: 1_700_000_000_000,
            leader_epoch: 0,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value)),
            headers: Box::default(),
        });
        drop(partitions);
        self.wakes.iter().for_each(|wake| {
            wake.notify();
        });
        (partition, offset)
    }
}

/// A shard's side of that log.
struct Vectors {
    log: Arc<Log>,
    letters: MailboxSender<Letter>,
    assigned: Vec<(Assignment, i64)>,
}

impl Broker for Vectors {
    fn poll(&mut self, _bytes_max: usize) -> Option<RecordBatch> {
        let partitions = self.log.partitions.lock().expect("nobody panics with the log");
        for (assignment, next) in &mut self.assigned {
            let log = &partitions[assignment.partition.partition as usize];
            if (*next as usize) < log.len() {
                let records = log[*next as usize..].to_vec();
                *next = log.len() as i64;
                return Some(RecordBatch {
                    partition: assignment.partition,
                    generation: assignment.generation,
                    records,
                    next: Offset(*next),
                });
            }
        }
        None
    }
    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        let (key, value) = (record.key.clone().expect("the test has keys"), record.value.clone().expect("the test has values"));
        let (partition, offset) = self.log.append(std::str::from_utf8(&key).expect("keys are text"), &value);
        let (letters, result) = (self.letters.clone(), PublishResult::Stored { partition, offset });
        // From a thread of its own, as librdkafka would.
        std::thread::spawn(move || letters.post(Letter::Published { publish, result }).expect("the shard runs"));
        ProduceStatus::Queued
    }
    fn assign(&mut self, assignment: Assignment) {
        let start = assignment.start.0;
        self.assigned.push((assignment, start));
    }
    fn unassign(&mut self, partition: PartitionRef) {
        self.assigned.retain(|(assignment, _)| assignment.partition != partition);
    }
    fn query_log_end(&mut self, question: LogEndQuestion) {
        let end = self.log.partitions.lock().expect("nobody panics with the log")[question.partition.partition as usize].len() as i64;
        let letters = self.letters.clone();
        std::thread::spawn(move || letters.post(Letter::LogEnd { question, end: Some(Offset(end)) }).expect("the shard runs"));
    }
    fn lookup_topic(&mut self, topic: &str) {
        let (letters, topic) = (self.letters.clone(), topic.to_owned());
        std::thread::spawn(move || {
            letters.post(Letter::TopicFound { topic, partitions: Err(PublishFailure::NoSuchTopic) }).expect("the shard runs")
        });
    }
    fn acknowledge_map(&mut self, _version: u64) {
        self.log.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    fn report_misfit(&mut self, _topic: TopicIndex) {
        panic!("every key is where murmur2 puts it");
    }
    fn partition_ready(&mut self, _partition: PartitionRef, _generation: Generation) {}
}

struct Node {
    port: u16,
    log: Arc<Log>,
    shards: Option<Shards>,
}

impl Node {
    fn start() -> Node {
        let cpus: Vec<usize> =
            core_affinity::get_core_ids().expect("the CPUs of this process can be read").iter().map(|cpu| cpu.id).collect();
        let settings = NetSettings::default();
        let listening = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), SHARDS.into(), &settings).expect("a loopback port can be had");
        let desks = Desks::new(SHARDS, 1_000);
        let log = Arc::new(Log {
            partitions: Mutex::new(vec![Vec::new(); PARTITIONS as usize]),
            wakes: desks.wakes(),
            acknowledged: AtomicU64::new(0),
        });
        let letters = desks.letters();
        let mut lanes = handoff::lanes(&desks.wakes(), 1 << 20).into_iter();
        let mut listeners = listening.listeners.into_iter();
        let epoch = Instant::now();
        let shards = Shards::start(desks, |id, desk| {
            executor::spawn(ShardPlan {
                id,
                shards: SHARDS,
                cpu: cpus[id.index() % cpus.len()],
                poll: Poll::Park,
                settings: ShardSettings::default(),
                entitlement: corespan::entitlement::Entitlement::None,
                net: settings.clone(),
                site: Site::new(&SiteSettings { demo: false, allowed_origins: Vec::new() }),
                listeners: vec![listeners.next().expect("one for each shard").into()],
                lanes: lanes.next().expect("one for each shard"),
                mailbox: desk.mailbox,
                wake: desk.wake,
                pulse: desk.pulse,
                drained: desk.drained,
                broker: Vectors { log: log.clone(), letters: letters[id.index()].clone(), assigned: Vec::new() },
                store_counters: Box::new(|_| {}),
                store_missed: Box::new(|_| {}),
                store_stages: Box::new(|stages| stages.clear()),
                epoch,
            })
        })
        .expect("shards can be started here");
        let partition = |number: u32| Partition {
            owner: ShardId((number % u32::from(SHARDS)) as u16),
            generation: Generation(1),
            start: Offset(0),
            ready_at: Offset(0),
            leader_epoch: 0,
        };
        let topic = Topic {
            index: TopicIndex(0),
            name: "vehicles".into(),
            id: "id".into(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            earlier_counts: Vec::new(),
            partitioner: Partitioner::Murmur2,
            partitioner_is_guess: true,
            null_key_partition: None,
            compacted: false,
            value: ValueKind::Auto,
            snapshot: false,
        };
        let map = Arc::new(TopicMap::new(1, vec![Some(Arc::new(topic))], []));
        for letters in &letters {
            letters.post(Letter::Map(map.clone())).expect("the shard runs");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while log.acknowledged.load(Ordering::SeqCst) != u64::from(SHARDS) {
            assert!(Instant::now() < deadline, "both shards acknowledge the map");
            std::thread::yield_now();
        }
        for letters in &letters {
            letters.post(Letter::MapActive { version: 1 }).expect("the shard runs");
        }
        Node { port: listening.address.port(), log, shards: Some(shards) }
    }

    fn drain(&mut self) {
        let shards = self.shards.take().expect("drained once");
        assert!(shards.drain(Duration::from_millis(100), Duration::from_secs(10)), "the drain comes to its end");
        assert!(shards.stop(PATIENCE));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.take() {
            assert!(shards.stop(PATIENCE));
        }
    }
}

#[test]
fn every_client_gets_every_record_of_its_subject_in_order_whatever_shard_it_is_on() {
    const RECORDS: usize = 200;
    let mut node = Node::start();
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(node.port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let subscribed = client.subscribe(&format!("/vehicles/{}", number % 4)).expect("the topic is served");
        assert!(subscribed.recoverable);
    }
    for record in 0..RECORDS {
        for key in 0..4 {
            node.log.append(&key.to_string(), record.to_string().as_bytes());
        }
    }
    for client in &mut clients {
        assert_eq!(client.next_values(RECORDS), (0..RECORDS).map(|record| json!(record)).collect::<Vec<_>>());
    }
    node.drain();
}

#[test]
fn a_publish_is_acknowledged_and_comes_back_as_a_record() {
    let node = Node::start();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(node.port)).collect();
    for client in &mut clients {
        client.subscribe("/vehicles/7").expect("the topic is served");
    }
    for number in 0..clients.len() {
        clients[number].publish("/vehicles/7", &json!({"from": number}).to_string()).expect("Kafka takes it");
        for client in &mut clients {
            assert_eq!(client.next_values(1), [json!({"from": number})]);
        }
    }
}

#[test]
fn a_client_that_comes_back_recovers_what_it_missed() {
    let node = Node::start();
    let mut client = Client::connect(node.port);
    let subscribed = client.subscribe("/vehicles/3").expect("the topic is served");
    node.log.append("3", b"1");
    let seen = client.next_publication().offset;
    drop(client);
    for value in 2..50 {
        node.log.append("3", value.to_string().as_bytes());
    }
    let mut client = Client::connect(node.port);
    let recovered = client.recover("/vehicles/3", &subscribed.epoch, seen).expect("the topic is served");
    assert!(recovered.recovered);
    let values: Vec<_> = recovered.publications.iter().map(|publication| publication.data.clone()).collect();
    assert_eq!(values, (2..50).map(|value| json!(value)).collect::<Vec<_>>());
}

#[test]
fn a_client_that_does_not_read_catches_up_and_delays_nobody() {
    const RECORDS: usize = 3_000;
    let node = Node::start();
    let (mut slow, mut quick) = (Client::connect(node.port), Client::connect(node.port));
    for client in [&mut slow, &mut quick] {
        client.subscribe("/vehicles/5").expect("the topic is served");
    }
    slow.pause();
    // About 12 MB: more than the outbox and both socket buffers hold, less than the cache does; a thousand records stay in it.
    let filler = "x".repeat(4_000);
    for part in 0..3 {
        for record in 0..RECORDS / 3 {
            node.log.append("5", json!({"n": part * RECORDS / 3 + record, "filler": filler}).to_string().as_bytes());
        }
        for record in 0..RECORDS / 3 {
            assert_eq!(quick.next_publication().data["n"], json!(part * RECORDS / 3 + record));
        }
        if part == 0 {
            // While memory still has all of it.
            slow.resume();
            for record in 0..RECORDS / 3 {
                assert_eq!(slow.next_publication().data["n"], json!(record));
            }
            slow.pause();
        }
    }
    slow.resume();
    // In order and without a gap, to the end or to the word that memory does not reach back that far.
    let mut expected = RECORDS / 3;
    while expected < RECORDS {
        match slow.next_push(PATIENCE).expect("the end or the word comes") {
            Push::Publication { publication, .. } => {
                assert_eq!(publication.data["n"], json!(expected));
                expected += 1;
            }
            Push::Unsubscribe { code, .. } => {
                assert_eq!(code, 2500);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}
