//! A simulated node: some shards with their lanes, and the metadata reader that gives them maps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use hashbrown::HashMap;
use slotmap::SlotMap;

use super::hands::{FakeLane, SimHands};
use super::kafka::{FakeKafka, Incarnation, Log, LogRecord};
use super::names::Rule;
use super::sabotage::Sabotage;
use crate::handoff::{ConnectionKey, Generation, Offset, PartitionRef, RecordBatch, ShardId, TopicIndex};
use crate::kafka::stall::{self, Renewals, Verdict};
use crate::shard::{Event, ShardCore, ShardSettings};
use crate::subject::{Partition, Topic, TopicMap, ValueKind};

/// A topic as the node's metadata reader knows it.
#[derive(Clone, Debug)]
struct Known {
    index: u32,
    id: Arc<str>,
    partitions: Vec<Partition>,
    generation: u32,
    /// The rule that this node follows; not always the producers'.
    rule: Rule,
    /// The first map with it.
    rule_since: u64,
    refuted: Vec<Rule>,
    guess: bool,
    compacted: bool,
}

/// When a command was said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub now_ms: u64,
    /// The version of the newest map.
    pub version: u64,
    /// Some shards did not have it, or did not know that all have it.
    pub maps_move: bool,
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
    /// Which era of its log a generation of a partition has read last.
    eras: HashMap<(PartitionRef, Generation), usize>,
    /// How far partitions have been read, by life of their topic: where reading began, and the next offset.
    read: BTreeMap<(Arc<str>, usize), (i64, i64)>,
    /// Lives of topics whose rule was a wrong one here, or has changed, or that have none.
    doubted: BTreeSet<Arc<str>>,
    /// From where on every shard has read each partition under the rule and the partition counts that hold now, by life of its topic.
    ruled_from: BTreeMap<(Arc<str>, usize), i64>,
    /// Topics whose rule or partition count changes with the map that is under way.
    ruling: BTreeSet<Arc<str>>,
    /// Commands that were open when their clients left: what they asked for may be held on.
    pub open_left: usize,
    /// The most commands that were open at a time, those of clients that left included.
    pub open_most: usize,
    /// Rules that were replaced by another one.
    pub rules_replaced: u32,
    /// Elections that the node has noticed, by life and partition: the first era that it reads knowingly, and the last leader epoch before it.
    noticed: BTreeMap<(Arc<str>, usize), (usize, i32)>,
    /// The leader epoch that positions given now carry, by life and partition.
    leader_epochs: BTreeMap<(Arc<str>, usize), i32>,
    /// Readings whose position is not in its log any more.
    out_of_range: Vec<(PartitionRef, Generation)>,
    /// The shape of the cluster when it was read last.
    shape: Option<u64>,
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
    /// Of so many shards, or of some.
    pub fn new(random: &mut Rng, settings: &ShardSettings, sabotage: Option<Sabotage>, shards: Option<u16>) -> Node {
        let shards = shards.unwrap_or_else(|| random.u16(1..5));
        let (messages_max, bytes_max) = (random.usize(1..8), random.usize(2_000..60_000));
        let hands = |_| SimHands {
            sockets: BTreeMap::new(),
            toward_home: (0..shards).map(|_| FakeLane::new(messages_max, bytes_max)).collect(),
            from_home: (0..shards).map(|_| FakeLane::new(messages_max, bytes_max)).collect(),
            reading: BTreeMap::new(),
            log_ends: Vec::new(),
            log_ends_known: Vec::new(),
            lookups: Vec::new(),
            produced: Default::default(),
            producer_room: 8,
            acknowledged: 0,
            misfits: Vec::new(),
            sabotage,
            fuse: 0,
            producer_was_full: false,
            resumed: BTreeSet::new(),
            deaf: BTreeMap::new(),
            stalls: BTreeMap::new(),
            renewals: Renewals::new(),
            assigned_anew: BTreeSet::new(),
            stuck_since_ms: None,
            waiting: Vec::new(),
            waiting_at: None,
            closing: 0,
            unchecked: true,
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
            eras: HashMap::new(),
            read: BTreeMap::new(),
            doubted: BTreeSet::new(),
            ruled_from: BTreeMap::new(),
            ruling: BTreeSet::new(),
            open_left: 0,
            open_most: 0,
            rules_replaced: 0,
            noticed: BTreeMap::new(),
            leader_epochs: BTreeMap::new(),
            out_of_range: Vec::new(),
            shape: None,
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
        self.hands[shard].unchecked = true;
        self.cores[shard].handle(now_ms, event, &mut self.hands[shard]);
    }

    pub fn flush(&mut self, now_ms: u64, shard: usize) {
        self.hands[shard].unchecked = true;
        self.cores[shard].flush(now_ms, &mut self.hands[shard]);
    }

    pub fn flush_part(&mut self, now_ms: u64, shard: usize, writes_max: usize) {
        self.hands[shard].unchecked = true;
        self.cores[shard].flush_part(now_ms, writes_max, &mut self.hands[shard]);
    }

    /// How far each partition of a life of a topic has been read.
    pub fn read_by_partition(&self, id: &str) -> BTreeMap<usize, i64> {
        self.read.iter().filter(|((life, _), _)| **life == *id).map(|((_, partition), (_, next))| (*partition, *next)).collect()
    }

    /// Whether the node had another rule for a life of a topic than its producers, or has changed it: then it forgot some of what it knew.
    pub fn is_doubted(&self, id: &str) -> bool {
        self.doubted.contains(id)
    }

    /// The first era of a log that the node knew not to be the one before when it gave a position of the leader epoch `given`, if it can tell that
    /// `asked` is the leader epoch of a position from before.
    pub fn noticed(&self, id: &str, partition: usize, given: i32, asked: i32) -> usize {
        let noticed = self.noticed.get(&(Arc::from(id), partition));
        noticed.filter(|(_, before)| given > *before && asked <= *before).map_or(0, |(era, _)| *era)
    }

    /// Now, as far as it explains what becomes of a command.
    pub fn moment(&self, now_ms: u64) -> Moment {
        Moment { now_ms, version: self.version, maps_move: self.map_is_under_way() }
    }

    /// The version of the newest map.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A record of a key that this node has read where nothing explains it: from then on the key's subject has no positions here.
    pub fn stray<'k>(&self, life: &'k Incarnation, name: &str, key: &[u8]) -> Option<&'k LogRecord> {
        let topic = self.map.topic(name).filter(|topic| topic.id == life.id)?;
        let rule = self.known.get(name)?.rule;
        let count = topic.partitions.len() as u32;
        let home = rule.partition(key, count) as usize;
        let whole = |log: &Log| log.eras.len() == 1 && log.now().start == 0;
        let elsewhere = life.logs.iter().enumerate().filter(|(partition, log)| {
            let explained = topic.earlier_counts.iter().any(|count| rule.partition(key, *count) as usize == *partition);
            *partition != home && !explained && whole(log)
        });
        let read = |(partition, log): (usize, &'k Log)| {
            let place = (life.id.clone(), partition);
            let (start, next) = *self.read.get(&place)?;
            let from = self.ruled_from.get(&place).copied().unwrap_or(0).max(start);
            log.now().range_of(Some(key), from, next).next()
        };
        if rule != Rule::Any || count == 1 { elsewhere.filter_map(read).next() } else { None }
    }

    /// Where reading of a partition began.
    pub fn read_start(&self, id: &str, partition: usize) -> Option<i64> {
        self.read.get(&(Arc::from(id), partition)).map(|(start, _)| *start)
    }

    /// Rules 1 and 4: when no map is under way, each shard reads the partitions that the map gives it, each in its generation, and no others.
    pub fn reads_its_partitions(&self) -> Result<(), String> {
        for (shard, hands) in self.hands.iter().enumerate().filter(|_| !self.map_is_under_way()) {
            let owned = self.map.topics().flat_map(|topic| {
                let partitions = topic.partitions.iter().enumerate().filter(|(_, partition)| partition.owner.index() == shard);
                partitions.map(|(number, partition)| (PartitionRef { topic: topic.index, partition: number as u32 }, partition.generation))
            });
            let owned: BTreeMap<_, _> = owned.collect();
            let read: BTreeMap<_, _> = hands.reading.iter().map(|(at, (assignment, _))| (*at, assignment.generation)).collect();
            if owned != read {
                return Err(format!("rule 1: shard {shard} reads {read:?}, the map gives it {owned:?}"));
            }
        }
        Ok(())
    }

    /// The log that a shard reads as a partition, unless the topic is gone or another one now.
    fn log<'k>(&self, kafka: &'k FakeKafka, shard: usize, at: PartitionRef) -> Option<(&'k Log, i64)> {
        let (assignment, from) = self.hands[shard].reading.get(&at)?;
        let life = kafka.topic(&assignment.topic)?.life();
        let read = self.lives.get(&(at.topic, assignment.generation))?;
        let log = life.logs.get(at.partition as usize).filter(|_| life.id == *read)?;
        (!self.out_of_range.contains(&(at, assignment.generation))).then_some((log, *from))
    }

    /// Partitions of a shard that have something to be read, or whose log is not the one that was read.
    pub fn waiting(&mut self, kafka: &FakeKafka, shard: usize) -> &[PartitionRef] {
        self.look_for_waiting(kafka, shard);
        &self.hands[shard].waiting
    }

    fn look_for_waiting(&mut self, kafka: &FakeKafka, shard: usize) {
        if self.hands[shard].waiting_at != Some(kafka.changes) {
            self.hands[shard].waiting = self.waiting_now(kafka, shard);
            self.hands[shard].waiting_at = Some(kafka.changes);
        }
    }

    fn waiting_now(&self, kafka: &FakeKafka, shard: usize) -> Vec<PartitionRef> {
        let waits = |at: &PartitionRef, generation: Generation| {
            let era = self.eras.get(&(*at, generation)).copied().unwrap_or(0);
            self.log(kafka, shard, *at).is_some_and(|(log, from)| log.now().end != from || from > log.agrees_up_to(era))
        };
        let reading = self.hands[shard].reading.iter();
        reading.filter(|(at, (assignment, _))| waits(at, assignment.generation)).map(|(at, _)| *at).collect()
    }

    /// Whether something of a shard waits for a client that gives nothing, or answers nothing.
    pub fn waits_for_clients(&self, kafka: &FakeKafka, shard: usize) -> bool {
        let hands = &self.hands[shard];
        hands.stuck_since_ms.is_some()
            || !hands.deaf.is_empty() && self.waiting_now(kafka, shard).iter().any(|at| hands.deaf.contains_key(at))
    }

    /// Logs that another client cannot tell from what was read: deaf partitions whose log was cut short and is as long again.
    pub fn unseen_elections(&self, kafka: &FakeKafka) -> Vec<(String, u32)> {
        let deaf = self.hands.iter().enumerate().flat_map(|(shard, hands)| hands.deaf.keys().map(move |at| (shard, *at)));
        let unseen = deaf.filter_map(|(shard, at)| {
            let (assignment, _) = self.hands[shard].reading.get(&at)?;
            let (log, next) = self.log(kafka, shard, at)?;
            let era = self.eras.get(&(at, assignment.generation)).copied().unwrap_or(0);
            (log.now().end == next && next > log.agrees_up_to(era)).then(|| (assignment.topic.to_string(), at.partition))
        });
        unseen.collect()
    }

    /// The watch: another client says where the logs end, and partitions of a shard that stand still meanwhile are assigned anew, or their client is
    /// made anew. What was done.
    pub fn look_at_ends(&mut self, kafka: &FakeKafka, shard: usize, now_ms: u64) -> Vec<&'static str> {
        let (mut done, mut renew) = (Vec::new(), false);
        let at: Vec<PartitionRef> = self.hands[shard].reading.keys().copied().collect();
        for at in at {
            let Some((end, next)) = self.log(kafka, shard, at).map(|(log, next)| (log.now().end, next)) else { continue };
            let hands = &mut self.hands[shard];
            match stall::look(hands.stalls.entry(at).or_default(), Offset(next), Offset(end), now_ms, now_ms) {
                Verdict::Quiet => {}
                Verdict::ReadAgain => hands.renewals.reads_again(),
                Verdict::Assign => {
                    if hands.deaf.get(&at) == Some(&false) {
                        hands.deaf.remove(&at);
                    }
                    hands.assigned_anew.insert(at);
                    done.push("a partition that stood still was assigned anew");
                }
                Verdict::Renew => renew = true,
            }
        }
        let hands = &mut self.hands[shard];
        if renew && hands.renewals.may_renew(now_ms) {
            hands.deaf.clear();
            hands.assigned_anew.extend(hands.reading.keys());
            done.push("a consumer that read nothing was made anew");
        }
        done
    }

    /// Reads a partition: at most `take` records, beginning some offsets `back` (librdkafka may give a record again; the shard must not).
    pub fn fetch(&mut self, kafka: &FakeKafka, shard: usize, at: PartitionRef, take: usize, back: i64) -> Option<RecordBatch> {
        self.hands[shard].waiting_at = None;
        let (log, from) = self.log(kafka, shard, at)?;
        let (assignment, reading) = self.hands[shard].reading.get_mut(&at)?;
        let (generation, start) = (assignment.generation, assignment.start.0);
        let era = self.eras.get_mut(&(at, generation))?;
        if from > log.agrees_up_to(*era) || from < log.now().start {
            self.out_of_range.push((at, generation));
            return None;
        }
        *era = log.eras.len() - 1;
        let first = (from - back).max(start).max(log.now().start);
        let records: Vec<_> = log.now().from(first).iter().take(take).map(|record| record.to_record()).collect();
        let next = records.last().map_or(from, |record| record.offset.0 + 1);
        // Everything read: the end of the partition tells of what is no record.
        let next = if log.now().records.last().is_none_or(|record| record.offset < next) { log.now().end.max(next) } else { next };
        *reading = next.max(*reading);
        let place = (self.lives.get(&(at.topic, generation))?.clone(), at.partition as usize);
        let newest = records.iter().map(|record| record.leader_epoch).max().unwrap_or(-1);
        match self.leader_epochs.get_mut(&place) {
            Some(epoch) => *epoch = newest.max(*epoch),
            None => {
                self.leader_epochs.insert(place.clone(), newest.max(-1));
            }
        }
        self.read.insert(place, (start, *reading));
        Some(RecordBatch { partition: at, generation, records, next: Offset(next) })
    }

    /// Whether nothing moves here until time passes or somebody says something.
    pub fn is_still(&mut self, kafka: &FakeKafka) -> bool {
        let quiet = |hands: &SimHands| {
            let asked = !hands.log_ends.is_empty() || !hands.log_ends_known.is_empty() || !hands.lookups.is_empty();
            !asked
                && (hands.produced.is_empty() || hands.stuck_since_ms.is_some())
                && hands.misfits.is_empty()
                && hands.closing == 0
                && !hands.has_sent()
        };
        self.shape == Some(kafka.shape)
            && self.out_of_range.is_empty()
            && !self.map_is_under_way()
            && self.cores.iter().all(ShardCore::rests)
            && self.hands.iter().all(quiet)
            && (0..self.cores.len()).all(|shard| {
                self.look_for_waiting(kafka, shard);
                let SimHands { waiting, deaf, .. } = &self.hands[shard];
                waiting.iter().all(|at| deaf.contains_key(at))
            })
    }

    /// Whether a map is on its way to the shards.
    pub fn map_is_under_way(&self) -> bool {
        !self.to_tell.is_empty() || !self.to_activate.is_empty() || self.hands.iter().any(|hands| hands.acknowledged < self.version)
    }

    /// One reading of the cluster by the metadata reader. Waits while a map is under way.
    pub fn read_metadata(&mut self, random: &mut Rng, kafka: &FakeKafka) {
        let nothing_new =
            self.shape == Some(kafka.shape) && self.out_of_range.is_empty() && self.hands.iter().all(|hands| hands.misfits.is_empty());
        if nothing_new || self.map_is_under_way() {
            return;
        }
        self.shape = Some(kafka.shape);
        let shards = self.cores.len() as u32;
        let first = self.version == 0;
        let mut changed = first;
        for hands in &mut self.hands {
            for (index, version) in hands.misfits.drain(..) {
                let current =
                    |known: &&mut Known| known.index == index.0 && known.guess && known.rule != Rule::Any && version >= known.rule_since;
                for known in self.known.values_mut().filter(current) {
                    if random.bool() {
                        // Enough of the newest records are where the rule puts them.
                        continue;
                    }
                    known.refuted.push(known.rule);
                    // The newest records show a rule that none of them contradicts, right or wrong, or none.
                    let left = [Rule::Murmur2, Rule::Crc32].into_iter().find(|rule| !known.refuted.contains(rule));
                    known.rule = left.filter(|_| random.u8(0..3) > 0).unwrap_or(Rule::Any);
                    known.rule_since = self.version + 1;
                    self.rules_replaced += u32::from(known.rule != Rule::Any);
                    self.doubted.insert(known.id.clone());
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
            let lost: Vec<(PartitionRef, Generation)> =
                self.out_of_range.iter().copied().filter(|(at, _)| same && at.topic == TopicIndex(index)).collect();
            // A reading that a later generation has replaced already says nothing.
            let current =
                |at: &PartitionRef| old.and_then(|old| old.partitions.get(at.partition as usize)).map(|partition| partition.generation);
            let lost: Vec<_> = lost.into_iter().filter(|(at, generation)| current(at) == Some(*generation)).collect();
            let generation = match old {
                Some(old) if same => old.generation + u32::from(!lost.is_empty()),
                Some(old) => old.generation + 1,
                // A topic that came back: its name had generations before.
                None => self.version as u32 + 1,
            };
            let mut partitions = if same { old.map(|old| old.partitions.clone()).unwrap_or_default() } else { Vec::new() };
            if partitions.len() == life.logs.len() && lost.is_empty() {
                continue;
            }
            for (at, _) in &lost {
                let (log, shard) = (&life.logs[at.partition as usize], partitions[at.partition as usize].owner.index());
                let position = self.hands[shard].reading.get(at).map_or(0, |(_, next)| *next);
                let start = position.min(log.now().end).max(log.now().start);
                let known = &mut partitions[at.partition as usize];
                (known.generation, known.start, known.ready_at) = (Generation(generation), Offset(start), Offset(log.now().end));
                self.eras.insert((*at, Generation(generation)), log.eras.len() - 1);
                let place = (life.id.clone(), at.partition as usize);
                known.leader_epoch = log.now().leader_epoch();
                let epoch = self.leader_epochs.entry(place.clone()).or_insert(-1);
                self.noticed.insert(place, (log.eras.len() - 1, *epoch));
                *epoch = known.leader_epoch.max(*epoch + 1);
            }
            for number in partitions.len()..life.logs.len() {
                let log = &life.logs[number];
                let start = if first && !self.recovery_on_start {
                    log.now().end
                } else if first {
                    (log.now().end - random.i64(0..30)).max(log.now().start)
                } else {
                    log.now().start
                };
                partitions.push(Partition {
                    owner: owner(number as u32),
                    generation: Generation(generation),
                    start: Offset(start),
                    ready_at: Offset(log.now().end),
                    leader_epoch: log.now().leader_epoch(),
                });
                self.leader_epochs.insert((life.id.clone(), number), log.now().leader_epoch());
                let at = PartitionRef { topic: TopicIndex(index), partition: number as u32 };
                self.eras.insert((at, Generation(generation)), log.eras.len() - 1);
            }
            let guess = old.map_or(random.bool(), |old| old.guess);
            let rule = match old {
                Some(old) if same => old.rule,
                // A topic that was empty when it was first seen.
                _ if guess && random.u8(0..3) == 0 => [Rule::Murmur2, Rule::Crc32, Rule::Any][random.usize(0..3)],
                _ => life.rule,
            };
            if rule != life.rule || rule == Rule::Any {
                self.doubted.insert(life.id.clone());
            }
            let (rule_since, refuted) = match old {
                Some(old) if same => (old.rule_since, old.refuted.clone()),
                _ => (self.version + 1, Vec::new()),
            };
            let known =
                Known { index, id: life.id.clone(), partitions, generation, rule, rule_since, refuted, guess, compacted: life.compacted };
            self.lives.insert((TopicIndex(index), Generation(generation)), life.id.clone());
            self.known.insert(topic.name.to_string(), known);
            changed = true;
        }
        self.out_of_range.clear();
        if changed {
            self.publish(kafka);
        }
    }

    fn publish(&mut self, kafka: &FakeKafka) {
        self.version += 1;
        let mut topics = vec![None; self.indexes.len()];
        for (name, known) in &self.known {
            let topic = kafka.topic(name);
            let counts = topic.map(|topic| topic.life()).map(|life| life.earlier_counts.clone()).unwrap_or_default();
            topics[known.index as usize] = Some(Arc::new(Topic {
                index: TopicIndex(known.index),
                name: topic.map_or_else(|| Arc::from(name.as_str()), |topic| topic.name.clone()),
                id: known.id.clone(),
                partitioner: known.rule.partitioner(),
                partitioner_is_guess: known.guess && known.partitions.len() > 1,
                null_key_partition: self.null_key_partition.filter(|partition| (*partition as usize) < known.partitions.len()),
                partitions: known.partitions.clone(),
                earlier_counts: counts,
                compacted: known.compacted,
                value: ValueKind::Auto,
                snapshot: self.snapshot,
            }));
        }
        let map = Arc::new(TopicMap::new(self.version, topics, []));
        let ruled = |map: &TopicMap, topic: &Topic| {
            map.at(topic.index).filter(|other| other.id == topic.id).map(|other| (other.partitioner, other.partitions.len()))
        };
        let changed = map.topics().filter(|topic| ruled(&self.map, topic) != ruled(&map, topic));
        self.ruling.extend(changed.map(|topic| topic.id.clone()));
        self.map = map;
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
            if self.to_activate.is_empty() {
                for life in std::mem::take(&mut self.ruling) {
                    for ((_, partition), (_, next)) in self.read.iter().filter(|((other, _), _)| *other == life) {
                        self.ruled_from.insert((life.clone(), *partition), *next);
                    }
                }
            }
        }
    }
}
