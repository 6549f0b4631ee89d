//! The topics of the map: added, grown, forgotten, read anew, and published to the shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::Consumer as _;

use super::known::{Known, Place, StartAt};
use super::offsets::Resolved;
use super::questions::configs;
use super::reader::Reader;
use super::reload::Reload;
use crate::handoff::{Generation, Offset, PartitionRef, ShardId, TopicIndex};
use crate::kafka::lock;
use crate::kafka::watch::Watched;
use crate::shard::Letter;
use crate::subject::{Partition, Partitioner, PartitionerChoice, Topic, TopicMap};

/// A topic is gone when this many readings in a row lack it: metadata of a cluster in trouble can be incomplete.
const ABSENCES_MAX: u32 = 2;

impl Reader {
    fn owner(&self, name: &str, partition: u32) -> ShardId {
        // Any spread will do, as long as it is the same whenever the node starts.
        let hash = u64::from(crc32fast::hash(name.as_bytes()));
        let consumers = u64::from(lock(&self.options).consumers_size.max(1));
        ShardId(((hash % consumers + u64::from(partition)) % consumers) as u16)
    }

    /// Positions of this topic that are not in their logs: what these partitions start with next is asked for. Whether there are any.
    pub(super) fn lose_positions(&mut self, name: &str) -> bool {
        let Some(known) = self.known.get_mut(name) else {
            return false;
        };
        let mut lost = false;
        for (at, generation, position) in self.out_of_range.iter().filter(|(at, _, _)| at.topic == known.index) {
            let number = at.partition as usize;
            if known.topic.partitions.get(number).is_some_and(|partition| partition.generation == *generation) {
                tracing::warn!(
                    topic = name,
                    partition = number,
                    position = position.0,
                    "the log does not hold this position: it is read from the nearest one that it has, and positions from before are not recovered"
                );
                Arc::make_mut(&mut known.topic).partitions[number].generation = Generation(0);
                known.waiting.insert(at.partition, StartAt::Position(position.0));
                lost = true;
            }
        }
        lost
    }

    /// What is said of partitions that have another generation by now is of no interest any more.
    pub(super) fn forget_settled(&mut self) {
        let known = &self.known;
        let generation = |at: &PartitionRef| {
            let known = known.values().find(|known| known.index == at.topic)?;
            known.topic.partitions.get(at.partition as usize).map(|partition| partition.generation)
        };
        self.out_of_range.retain(|(at, told, _)| generation(at) == Some(*told));
    }

    /// Partitions that were added, and partitions that are still waited for. Whether the topic changed.
    pub(super) fn grow(&mut self, name: &str, count: u32) -> bool {
        let Some(known) = self.known.get(name) else {
            return false;
        };
        let before = known.topic.partitions.len() as u32;
        // What appeared while this node was running is read from its beginning.
        let wanted: Vec<(Place, StartAt)> = (known.waiting.iter().map(|(number, start)| (*number, *start)))
            .chain((before..count).map(|number| (number, StartAt::Beginning)))
            .map(|(number, start)| ((name.to_owned(), number), start))
            .collect();
        if wanted.is_empty() {
            return false;
        }
        let resolved = self.resolve(&wanted);
        if count <= before && resolved.is_empty() {
            return false;
        }
        let mut topic = (*known.topic).clone();
        let generation = self.next_generation(name);
        let mut waiting = HashMap::new();
        for (place, start) in wanted {
            let number = place.1;
            let partition = self.partition(name, number, generation, resolved.get(&place));
            if partition.generation.0 == 0 {
                waiting.insert(number, start);
            }
            match topic.partitions.get_mut(number as usize) {
                Some(place) => *place = partition,
                None => {
                    // In the order of their numbers: those that wait come first, and all of those are there already.
                    topic.partitions.push(partition);
                }
            }
        }
        if count > before {
            tracing::info!(topic = name, before, now = count, "partitions were added: keys that moved are announced to their subscribers");
            topic.earlier_counts.push(before);
        }
        if let Some(known) = self.known.get_mut(name) {
            known.waiting = waiting;
            known.topic = Arc::new(topic);
        }
        true
    }

    fn next_generation(&mut self, name: &str) -> Generation {
        let Some((_, highest)) = self.indexes.get_mut(name) else {
            return Generation(1);
        };
        highest.0 += 1;
        *highest
    }

    fn partition(&self, name: &str, number: u32, generation: Generation, resolved: Option<&Resolved>) -> Partition {
        let owner = self.owner(name, number);
        match resolved {
            Some(at) => Partition { owner, generation, start: Offset(at.start), ready_at: Offset(at.end), leader_epoch: at.leader_epoch },
            None => Partition { owner, generation: Generation(0), start: Offset(0), ready_at: Offset(0), leader_epoch: -1 },
        }
    }

    pub(super) fn forget_absent(&mut self, found: &BTreeMap<String, u32>) -> bool {
        let interval = lock(&self.options).metadata_interval;
        let mut gone = Vec::new();
        for (name, known) in &mut self.known {
            if !found.contains_key(name) {
                known.absences += 1;
                // Readings that something made come early count, but do not shorten the time.
                let absent = known.absent_since.get_or_insert_with(Instant::now).elapsed();
                if known.absences >= ABSENCES_MAX && absent >= interval {
                    gone.push(name.clone());
                }
            }
        }
        for name in &gone {
            tracing::warn!(topic = %name, "the topic is gone");
            self.known.remove(name);
        }
        !gone.is_empty()
    }

    /// Topics that are new, or that were made again under another id.
    pub(super) fn add(&mut self, fresh: Vec<(String, u32, Arc<str>)>, embedded: bool, reload: Option<&Reload>) -> bool {
        let recovery = lock(&self.options).recovery.filter(|_| !embedded);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        let at_start = recovery.map_or(StartAt::End, |back| StartAt::Time(now_ms - back.as_millis() as i64));
        let from_log_start = lock(&self.options).recovery.is_some() && embedded && !self.read_once;
        let start = if self.read_once || from_log_start { StartAt::Beginning } else { at_start };
        // A topic that was away and is the same as before is no new one: its past may be long, and positions from before are told to be lost.
        let ids = &self.ids;
        let start_of = |name: &String, id: &Arc<str>| match reload {
            _ if ids.get(name) == Some(id) => StartAt::End,
            Some(reload) if reload.is_old(name) => at_start,
            _ => start,
        };
        let starts: HashMap<String, StartAt> = fresh.iter().map(|(name, _, id)| (name.clone(), start_of(name, id))).collect();
        let wanted: Vec<(Place, StartAt)> =
            fresh.iter().flat_map(|(name, count, _)| (0..*count).map(|number| ((name.clone(), number), starts[name]))).collect();
        let resolved = self.resolve(&wanted);
        let mut guesses = self.guess_partitioners(&fresh, &resolved);
        let names: Vec<&str> = fresh.iter().map(|(name, _, _)| name.as_str()).collect();
        let found = if embedded { None } else { configs(self.consumer.client().native_ptr(), &names, self.broker) };
        let found = found.unwrap_or_default();
        let compacted: HashMap<String, bool> = found.iter().map(|(name, config)| (name.clone(), config.compacted)).collect();
        self.keep_limits(&found);
        for (name, count, id) in fresh {
            let made_again = self.known.contains_key(&name) || self.indexes.contains_key(&name);
            let index = match self.indexes.get(&name) {
                Some((index, _)) => *index,
                None => {
                    let index = TopicIndex(self.index_next);
                    self.index_next += 1;
                    self.indexes.insert(name.clone(), (index, Generation(0)));
                    index
                }
            };
            let generation = self.next_generation(&name);
            let partitions: Vec<Partition> =
                (0..count).map(|number| self.partition(&name, number, generation, resolved.get(&(name.clone(), number)))).collect();
            let waiting =
                (0..count).filter(|number| partitions[*number as usize].generation.0 == 0).map(|number| (number, starts[&name])).collect();
            let settings = (lock(&self.options).topic)(&name);
            let (partitioner, guess) = match settings.partitioner {
                PartitionerChoice::Fixed(rule) => (rule, false),
                PartitionerChoice::Auto => (guesses.remove(&name).unwrap_or(settings.partitioner.without_records()), true),
            };
            if partitioner == Partitioner::Any && guess {
                tracing::warn!(topic = %name, "neither murmur2 nor crc32 explains where 99 of 100 of its newest records are: its subjects are live only (set partitioner in [topic.\"{name}\"])");
            }
            let null_key_partition = lock(&self.options).null_key_partition.filter(|partition| *partition < count);
            let topic = Topic {
                index,
                name: Arc::from(name.as_str()),
                id,
                partitions,
                earlier_counts: Vec::new(),
                partitioner,
                partitioner_is_guess: guess && count > 1,
                null_key_partition,
                compacted: compacted.get(&name).copied().unwrap_or(!embedded),
                value: settings.value,
                snapshot: settings.snapshot,
            };
            tracing::info!(topic = %name, partitions = count, ?partitioner, compacted = topic.compacted, made_again, "topic is served");
            self.ids.insert(name.clone(), topic.id.clone());
            let known = Known {
                index,
                topic: Arc::new(topic),
                absences: 0,
                absent_since: None,
                waiting,
                rule_since: self.version + 1,
                refuted: Vec::new(),
                log_starts: HashMap::new(),
            };
            self.known.insert(name, known);
        }
        true
    }

    pub(super) fn publish(&mut self) {
        self.version += 1;
        self.acknowledged.clear();
        let mut topics = vec![None; self.index_next as usize];
        for known in self.known.values() {
            topics[known.index.0 as usize] = Some(known.topic.clone());
        }
        let watched = (self.known.values())
            .flat_map(|known| {
                let served = known.topic.partitions.iter().enumerate().filter(|(_, partition)| partition.generation.0 > 0);
                served.map(|(number, partition)| Watched {
                    topic: known.topic.name.clone(),
                    partition: PartitionRef { topic: known.index, partition: number as u32 },
                    generation: partition.generation,
                    owner: partition.owner,
                })
            })
            .collect();
        self.watch.set_watched(watched);
        let map = Arc::new(TopicMap::new(self.version, topics, self.publishable.clone()));
        for shard in &self.shards {
            let _ = shard.post(Letter::Map(map.clone()));
        }
        self.update_state();
    }
}
