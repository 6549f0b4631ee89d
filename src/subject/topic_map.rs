//! The topic map: a versioned, immutable picture of the consumed topics that says where every subject lives.
//!
//! Made by the one metadata reader (`kafka::metadata`, a housekeeping thread), acknowledged by every shard before any shard consumes under it, and
//! shared as an `Arc`. Two shards with the same version never disagree on a home; requests carry the version they were routed with.

use std::sync::Arc;

use hashbrown::HashMap;

use super::partitioner::Partitioner;
use crate::ids::{Generation, Offset, PartitionRef, ShardId, TopicIndex};

/// The id of a topic, as text without surprises (Kafka's UUID in its usual base64 form; in the demo the cluster id and the topic's name). A topic
/// deleted and made again has another one.
pub type TopicId = Arc<str>;

/// How a topic's record values appear in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueKind {
    /// One valid JSON text is embedded, other UTF-8 becomes a JSON string, the rest `{"base64": ".."}`.
    #[default]
    Auto,
    /// Embedded if it is one valid JSON text, else as under `Auto`; publishes take the raw text of `data`.
    Json,
    /// Always a JSON string; publishes take the unquoted string.
    Text,
    /// Always `{"base64": ".."}`; publishes take the decoded bytes.
    Binary,
}

/// A consumed partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The shard that consumes it and that is home to its subjects. Never changes in the life of the process.
    pub owner: ShardId,
    /// 0: where to start is not known yet (its leader is away); it is not read until a later map says.
    pub generation: Generation,
    /// Where reading starts in this generation: a number, never "latest".
    pub start: Offset,
    /// The partition is ready when it has been read up to here (the last stable offset when the map was made).
    pub ready_at: Offset,
    /// Leader epoch when the map was made; -1 if unknown.
    pub leader_epoch: i32,
}

/// A consumed topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub index: TopicIndex,
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: Vec<Partition>,
    /// Partition counts that the topic had earlier in this process: a key found where such a count puts it is explained, not a misfit.
    pub earlier_counts: Vec<u32>,
    pub partitioner: Partitioner,
    /// The partitioner was detected, not configured: when too many records do not fit, it is decided again, and may turn to `Any`.
    pub partitioner_is_guess: bool,
    /// `null.key.partition`, if set and in range.
    pub null_key_partition: Option<u32>,
    /// `cleanup.policy` has `compact`.
    pub compacted: bool,
    pub value: ValueKind,
    /// `snapshot = "latest"` or `"compacted"`: a subscribe without recovery gets the newest record unasked.
    pub snapshot: bool,
}

/// Where a subject lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub shard: ShardId,
    /// The partition that its positions count in.
    pub partition: PartitionRef,
    /// Whether it has positions at all.
    pub recoverable: bool,
}

impl Topic {
    /// The home of a key (`None`: the null key).
    pub fn home(&self, key: Option<&[u8]>) -> Home {
        let count = self.partitions.len() as u32;
        let (partition, recoverable) = match key {
            Some(key) => (self.partitioner.partition(key, count), self.partitioner != Partitioner::Any || count == 1),
            None => (self.null_key_partition.unwrap_or(0), self.null_key_partition.is_some() || count == 1),
        };
        Home { shard: self.partitions[partition as usize].owner, partition: PartitionRef { topic: self.index, partition }, recoverable }
    }

    /// Whether nothing that is known of the topic explains that a key is in `partition`. Null keys are everywhere.
    pub fn is_misplaced(&self, key: Option<&[u8]>, partition: u32) -> bool {
        let home = self.home(key);
        home.recoverable && home.partition.partition != partition && key.is_some_and(|key| !self.explained_by_growth(key, partition))
    }

    /// Whether an earlier partition count explains that a key is in `partition`.
    pub fn explained_by_growth(&self, key: &[u8], partition: u32) -> bool {
        self.earlier_counts.iter().any(|count| self.partitioner.partition(key, *count) == partition)
    }
}

/// The map. Topics that are gone leave a hole: a topic index is never used again for another name.
#[derive(Clone, Debug, Default)]
pub struct TopicMap {
    /// Grows with every change; 0 is the empty map that shards start with.
    pub version: u64,
    topics: Vec<Option<Arc<Topic>>>,
    by_name: HashMap<Arc<str>, TopicIndex>,
    /// Partition counts of every topic of the cluster, consumed or not: what can be published to.
    publishable: HashMap<Arc<str>, u32>,
}

impl TopicMap {
    /// A map of the given topics (`topics[i]` has index `i`) and of the partition counts of all topics that can be published to.
    ///
    /// # Panics
    /// If a topic's index is not its place, or a topic has no partition: the metadata reader's mistake.
    pub fn new(version: u64, topics: Vec<Option<Arc<Topic>>>, publishable: impl IntoIterator<Item = (Arc<str>, u32)>) -> TopicMap {
        let mut by_name = HashMap::new();
        for (place, topic) in topics.iter().enumerate() {
            if let Some(topic) = topic {
                assert_eq!(topic.index.0 as usize, place, "topic index is its place");
                assert!(!topic.partitions.is_empty(), "a consumed topic has partitions");
                by_name.insert(topic.name.clone(), topic.index);
            }
        }
        TopicMap { version, topics, by_name, publishable: publishable.into_iter().collect() }
    }

    /// A consumed topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name).and_then(|index| self.at(*index))
    }

    /// A consumed topic by index.
    pub fn at(&self, index: TopicIndex) -> Option<&Arc<Topic>> {
        self.topics.get(index.0 as usize).and_then(Option::as_ref)
    }

    /// All consumed topics.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().flatten()
    }

    /// How many partitions a topic has that exists on the cluster, consumed or not, as of this map.
    pub fn publishable(&self, name: &str) -> Option<u32> {
        self.publishable.get(name).copied().or_else(|| self.topic(name).map(|topic| topic.partitions.len() as u32))
    }
}
