//! The Kafka side without shards: this stands in for them, takes their letters, acknowledges maps, assigns what each owns and keeps what is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corespan::handoff::{Generation, MailboxReceiver, Offset, PartitionRef, PublishKey, Record, RecordBatch, ShardId, Wake, mailbox};
use corespan::kafka::{CorruptBatches, Properties, TopicChoice};
use corespan::kafka::{KafkaOptions, KafkaSide, NodeState, ShardBroker};
use corespan::shard::{Assignment, Broker as _, Letter, ProduceRecord, ProduceStatus, PublishFailure, PublishResult};
use corespan::subject::{PartitionerChoice, TopicSettings};
use corespan::subject::{Topic, TopicMap, ValueKind};
use slotmap::SlotMap;

use super::PATIENCE;

/// Options for `shards` shards on the topics; change what the test is about.
pub fn options(bootstrap: &str, shards: u16, topics: TopicChoice) -> KafkaOptions {
    let mut properties = Properties::default();
    properties.set("bootstrap.servers", bootstrap);
    KafkaOptions {
        shards,
        consumers_size: shards,
        consumer: properties.clone(),
        producer: properties,
        topics,
        metadata_interval: Duration::from_millis(200),
        recovery: None,
        producers_size: 1,
        null_key_partition: None,
        subject_bytes_max: 1024,
        corrupt_batches: CorruptBatches::Stop,
        topic: Box::new(|_| TopicSettings { partitioner: PartitionerChoice::Auto, value: ValueKind::Auto, snapshot: false }),
        reloads: 0,
        embedded: false,
    }
}

pub fn listed(topics: &[&str]) -> TopicChoice {
    TopicChoice::Listed(topics.iter().map(|topic| (*topic).to_owned()).collect())
}

pub fn matching(pattern: &str) -> TopicChoice {
    TopicChoice::Matching(regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern"))
}

pub fn record(topic: &str, partition: Option<u32>, key: &str, value: &str) -> ProduceRecord {
    ProduceRecord {
        topic: Arc::from(topic),
        partition,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

pub struct Side {
    pub side: KafkaSide,
    pub brokers: Vec<ShardBroker>,
    pub wakes: Vec<Arc<Wake>>,
    mailboxes: Vec<MailboxReceiver<Letter>>,
    /// Shards that acknowledge maps; the others are slow.
    pub acknowledging: Vec<bool>,
    pub map: Arc<TopicMap>,
    pub active: u64,
    assigned: HashMap<PartitionRef, Generation>,
    reported_ready: HashMap<PartitionRef, Generation>,
    /// Everything that was read, with the shard that read it.
    pub batches: Vec<(ShardId, RecordBatch)>,
    keys: SlotMap<PublishKey, ()>,
    /// Every answer to a publish.
    pub answers: Vec<(ShardId, PublishKey, PublishResult)>,
    pub topics_found: Vec<(String, Result<u32, PublishFailure>)>,
    pub log_ends: Vec<(PartitionRef, Option<Offset>)>,
}

impl Side {
    pub fn start(options: KafkaOptions) -> Side {
        let shards = options.shards as usize;
        let wakes: Vec<Arc<Wake>> = (0..shards).map(|_| Arc::new(Wake::new())).collect();
        let (letters, mailboxes): (Vec<_>, Vec<_>) = wakes.iter().map(|wake| mailbox(1 << 17, wake.clone())).unzip();
        let (side, brokers) = KafkaSide::start(options, &letters, &wakes).expect("the clients are made");
        Side {
            side,
            brokers,
            wakes,
            mailboxes,
            acknowledging: vec![true; shards],
            map: Arc::default(),
            active: 0,
            assigned: HashMap::new(),
            reported_ready: HashMap::new(),
            batches: Vec::new(),
            keys: SlotMap::with_key(),
            answers: Vec::new(),
            topics_found: Vec::new(),
            log_ends: Vec::new(),
        }
    }

    /// Starts and waits until everything has been read up to where it stood.
    pub fn start_ready(options: KafkaOptions) -> Side {
        let mut side = Side::start(options);
        side.until("the side is ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
        side
    }

    /// One turn of all shards.
    pub fn turn(&mut self) {
        for place in 0..self.brokers.len() {
            let shard = ShardId(place as u16);
            while let Some(letter) = self.mailboxes[place].try_receive() {
                self.take(shard, letter);
            }
            while let Some(batch) = self.brokers[place].poll(1 << 20) {
                let at = batch.partition;
                let ready_at = self.map.at(at.topic).and_then(|topic| topic.partitions.get(at.partition as usize)).map(|own| own.ready_at);
                if ready_at.is_some_and(|ready_at| batch.next >= ready_at)
                    && self.reported_ready.insert(at, batch.generation) != Some(batch.generation)
                {
                    self.brokers[place].partition_ready(at, batch.generation);
                }
                self.batches.push((shard, batch));
            }
        }
    }

    fn take(&mut self, shard: ShardId, letter: Letter) {
        let place = shard.index();
        match letter {
            Letter::Map(map) => {
                let version = map.version;
                self.map = map;
                if self.acknowledging[place] {
                    self.brokers[place].acknowledge_map(version);
                }
            }
            Letter::MapActive { version } => {
                self.active = version;
                for topic in self.map.clone().topics() {
                    for (number, partition) in topic.partitions.iter().enumerate().filter(|(_, partition)| partition.owner == shard) {
                        let at = PartitionRef { topic: topic.index, partition: number as u32 };
                        if partition.generation.0 == 0 || self.assigned.insert(at, partition.generation) == Some(partition.generation) {
                            continue;
                        }
                        self.brokers[place].assign(Assignment {
                            partition: at,
                            topic: topic.name.clone(),
                            generation: partition.generation,
                            start: partition.start,
                        });
                        if partition.start >= partition.ready_at
                            && self.reported_ready.insert(at, partition.generation) != Some(partition.generation)
                        {
                            self.brokers[place].partition_ready(at, partition.generation);
                        }
                    }
                }
            }
            Letter::Published { publish, result } => self.answers.push((shard, publish, result)),
            Letter::TopicFound { topic, partitions } => self.topics_found.push((topic, partitions)),
            Letter::LogEnd { question, end } => self.log_ends.push((question.partition, end)),
            Letter::LogStart { .. } | Letter::Settings(_) | Letter::Entitlement(_) | Letter::Drain { .. } | Letter::Stop => {}
        }
    }

    /// Takes turns until there is an answer; panics with `what` after [`PATIENCE`].
    pub fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Side) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if let Some(value) = condition(self) {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; state {:?}, map {:?}",
                self.side.metadata.state(),
                self.map
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn topic(&self, name: &str) -> Arc<Topic> {
        self.map.topic(name).unwrap_or_else(|| panic!("{name} is in the map")).clone()
    }

    pub fn at(&self, topic: &str, partition: u32) -> PartitionRef {
        PartitionRef { topic: self.topic(topic).index, partition }
    }

    /// What was read of a partition, in order.
    pub fn records(&self, at: PartitionRef) -> Vec<Record> {
        self.batches.iter().filter(|(_, batch)| batch.partition == at).flat_map(|(_, batch)| batch.records.clone()).collect()
    }

    /// How far a partition has been read.
    pub fn next(&self, at: PartitionRef) -> Option<Offset> {
        self.batches.iter().rev().find(|(_, batch)| batch.partition == at).map(|(_, batch)| batch.next)
    }

    /// Publishes on a shard; the key of the publish and what the producer said.
    pub fn publish(&mut self, shard: u16, record: &ProduceRecord) -> (PublishKey, ProduceStatus) {
        let key = self.keys.insert(());
        (key, self.brokers[shard as usize].produce(key, record))
    }

    /// Publishes, and the answer.
    pub fn publish_answered(&mut self, record: &ProduceRecord) -> PublishResult {
        let (key, status) = self.publish(0, record);
        assert_eq!(status, ProduceStatus::Queued);
        self.answer(key)
    }

    /// Publishes as soon as a producer takes it: its class may have to be made, or the topic's settings to be read. The answer.
    pub fn publish_when_taken(&mut self, record: &ProduceRecord) -> PublishResult {
        let key = self.until("the producer takes it", |side| {
            let (key, status) = side.publish(0, record);
            (status == ProduceStatus::Queued).then_some(key)
        });
        self.answer(key)
    }

    pub fn answer(&mut self, key: PublishKey) -> PublishResult {
        self.until("the publish is answered", |side| side.answers.iter().find(|(_, other, _)| *other == key).map(|(_, _, result)| *result))
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.side.metadata.stop();
    }
}
