//! A simulated node: some shards with their lanes, and the metadata reader that gives them maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fastrand::Rng;
use slotmap::SlotMap;

use super::hands::{FakeLane, SimHands};
use super::kafka::FakeKafka;
use super::sabotage::Sabotage;
use crate::handoff::{ConnectionKey, Generation, Offset, ShardId, TopicIndex};
use crate::shard::{Event, ShardCore, ShardSettings};
use crate::subject::{Partition, Partitioner, Topic, TopicMap, ValueKind};

/// A topic as the node's metadata reader knows it.
#[derive(Clone, Debug)]
struct Known {
    index: u32,
    id: Arc<str>,
    partitions: Vec<Partition>,
    generation: u32,
    any: bool,
    guess: bool,
    compacted: bool,
}

/// See the module's documentation.
pub struct Node {
    pub cores: Vec<ShardCore>,
    pub hands: Vec<SimHands>,
    pub sockets: SlotMap<ConnectionKey, usize>,
    known: BTreeMap<String, Known>,
    indexes: HashMap<String, u32>,
    /// Which life of its topic a generation reads.
    lives: HashMap<(TopicIndex, Generation), Arc<str>>,
    version: u64,
    map: Arc<TopicMap>,
    /// Shards that have not been given the newest map.
    to_tell: Vec<usize>,
    /// Shards that have not been told that it is active.
    to_activate: Vec<usize>,
    /// Reads from the log's beginning when it starts.
    recovery_on_start: bool,
    pub null_key_partition: Option<u32>,
    snapshot: bool,
}

impl Node {
    pub fn new(random: &mut Rng, settings: &ShardSettings, sabotage: Option<Sabotage>) -> Node {
        let shards = random.u16(1..5);
        let (messages_max, bytes_max) = (random.usize(1..8), random.usize(2_000..60_000));
        let hands = |_| SimHands {
            sockets: BTreeMap::new(),
            toward_home: (0..shards).map(|_| FakeLane::new(messages_max, bytes_max)).collect(),
            from_home: (0..shards).map(|_| FakeLane::new(messages_max, bytes_max)).collect(),
            reading: BTreeMap::new(),
            log_ends: Vec::new(),
            lookups: Vec::new(),
            produced: Default::default(),
            producer_room: 8,
            acknowledged: 0,
            misfits: Vec::new(),
            sabotage,
            fuse: 0,
            producer_was_full: false,
            resumed: 0,
        };
        let mut hands: Vec<SimHands> = (0..shards).map(hands).collect();
        for hand in &mut hands {
            hand.fuse = random.u32(0..10);
        }
        Node {
            cores: (0..shards).map(|shard| ShardCore::new(ShardId(shard), shards, settings.clone())).collect(),
            hands,
            sockets: SlotMap::with_key(),
            known: BTreeMap::new(),
            indexes: HashMap::new(),
            lives: HashMap::new(),
            version: 0,
            map: Arc::default(),
            to_tell: Vec::new(),
            to_activate: Vec::new(),
            recovery_on_start: random.bool(),
            null_key_partition: settings.null_key_partition,
            snapshot: random.u8(0..4) == 0,
        }
    }

    pub fn handle(&mut self, now_ms: u64, shard: usize, event: Event<'_>) {
        self.cores[shard].handle(now_ms, event, &mut self.hands[shard]);
    }

    pub fn flush(&mut self, now_ms: u64, shard: usize) {
        self.cores[shard].flush(now_ms, &mut self.hands[shard]);
    }

    /// The life of its topic that a generation reads.
    pub fn life_read(&self, topic: TopicIndex, generation: Generation) -> Option<&str> {
        self.lives.get(&(topic, generation)).map(|id| &**id)
    }

    /// Whether a map is on its way to the shards.
    pub fn map_is_under_way(&self) -> bool {
        !self.to_tell.is_empty() || !self.to_activate.is_empty() || self.hands.iter().any(|hands| hands.acknowledged < self.version)
    }

    /// One reading of the cluster by the metadata reader. Waits while a map is under way.
    pub fn read_metadata(&mut self, random: &mut Rng, kafka: &FakeKafka) {
        if self.map_is_under_way() {
            return;
        }
        let shards = self.cores.len() as u32;
        let first = self.version == 0;
        let mut changed = first;
        for hands in &mut self.hands {
            for index in hands.misfits.drain(..) {
                for known in self.known.values_mut().filter(|known| known.index == index.0 && !known.any) {
                    known.any = true;
                    changed = true;
                }
            }
        }
        let gone: Vec<String> = self.known.keys().filter(|name| kafka.topic(name).is_none()).cloned().collect();
        for name in gone {
            self.known.remove(&name);
            changed = true;
        }
        for topic in kafka.topics.iter().filter(|topic| topic.exists) {
            let life = topic.life();
            let next_index = self.indexes.len() as u32;
            let index = *self.indexes.entry(topic.name.to_string()).or_insert(next_index);
            let owner = |partition: u32| ShardId(((index + partition) % shards) as u16);
            let old = self.known.get(&*topic.name);
            let same = old.is_some_and(|old| old.id == life.id);
            let generation = match old {
                Some(old) if same => old.generation,
                Some(old) => old.generation + 1,
                // A topic that came back: its name had generations before.
                None => self.version as u32 + 1,
            };
            let mut partitions = if same { old.map(|old| old.partitions.clone()).unwrap_or_default() } else { Vec::new() };
            if partitions.len() == life.logs.len() {
                continue;
            }
            for number in partitions.len()..life.logs.len() {
                let log = &life.logs[number];
                let start = if first && !self.recovery_on_start {
                    log.end
                } else if first {
                    log.end - log.end.min(random.i64(0..30))
                } else {
                    0
                };
                partitions.push(Partition {
                    owner: owner(number as u32),
                    generation: Generation(generation),
                    start: Offset(start),
                    ready_at: Offset(log.end),
                    leader_epoch: 0,
                });
            }
            let known = Known {
                index,
                id: life.id.clone(),
                partitions,
                generation,
                any: life.rule == Partitioner::Any || (same && old.is_some_and(|old| old.any)),
                guess: old.map_or(random.bool(), |old| old.guess),
                compacted: false,
            };
            self.lives.insert((TopicIndex(index), Generation(generation)), life.id.clone());
            self.known.insert(topic.name.to_string(), known);
            changed = true;
        }
        if changed {
            self.publish(kafka);
        }
    }

    fn publish(&mut self, kafka: &FakeKafka) {
        self.version += 1;
        let mut topics = vec![None; self.indexes.len()];
        for (name, known) in &self.known {
            let life = kafka.topic(name).map(|topic| topic.life());
            let rule = life.map_or(Partitioner::Murmur2, |life| life.rule);
            let counts = life.map(|life| life.earlier_counts.clone()).unwrap_or_default();
            topics[known.index as usize] = Some(Arc::new(Topic {
                index: TopicIndex(known.index),
                name: Arc::from(name.as_str()),
                id: known.id.clone(),
                partitioner: if known.any { Partitioner::Any } else { rule },
                partitioner_is_guess: known.guess && known.partitions.len() > 1,
                null_key_partition: self.null_key_partition.filter(|partition| (*partition as usize) < known.partitions.len()),
                partitions: known.partitions.clone(),
                earlier_counts: counts,
                compacted: known.compacted,
                value: ValueKind::Auto,
                snapshot: self.snapshot,
            }));
        }
        self.map = Arc::new(TopicMap::new(self.version, topics, HashMap::new()));
        self.to_tell = (0..self.cores.len()).collect();
    }

    /// Gives the newest map, or the word that it is active, to one more shard.
    pub fn spread_map(&mut self, random: &mut Rng, now_ms: u64) {
        if !self.to_tell.is_empty() {
            let shard = self.to_tell.swap_remove(random.usize(0..self.to_tell.len()));
            self.handle(now_ms, shard, Event::Map(self.map.clone()));
            if self.to_tell.is_empty() {
                assert!(self.hands.iter().all(|hands| hands.acknowledged == self.version), "rule 1: every shard acknowledges the map");
                self.to_activate = (0..self.cores.len()).collect();
            }
        } else if !self.to_activate.is_empty() {
            let shard = self.to_activate.swap_remove(random.usize(0..self.to_activate.len()));
            self.handle(now_ms, shard, Event::MapActive { version: self.version });
        }
    }
}
