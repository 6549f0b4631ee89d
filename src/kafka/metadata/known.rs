//! What the reader remembers of a topic between two readings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::handoff::{Generation, TopicIndex};
use crate::subject::{Partitioner, Topic};

/// What is known of a topic, between two readings.
pub(super) struct Known {
    pub(super) index: TopicIndex,
    pub(super) topic: Arc<Topic>,
    /// Readings in a row that lack it, and when the first of them was.
    pub(super) absences: u32,
    pub(super) absent_since: Option<Instant>,
    /// Where partitions start that Kafka could not be asked about yet. They are in the map with generation 0, so that every key has its home, but
    /// nobody reads them.
    pub(super) waiting: HashMap<u32, StartAt>,
    /// The first map with the partitioner as it is.
    pub(super) rule_since: u64,
    /// Rules that the newest records have contradicted: never guessed again.
    pub(super) refuted: Vec<Partitioner>,
    /// Where each partition's log begins, as its shard was told; by partition and generation.
    pub(super) log_starts: HashMap<(u32, Generation), i64>,
}

/// Where a partition starts, before Kafka has said which number that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartAt {
    Beginning,
    /// The last stable offset.
    End,
    /// The first record that is not older; milliseconds since the Unix epoch.
    Time(i64),
    /// This offset, or the nearest that the log has.
    Position(i64),
}

/// A partition by the name of its topic.
pub(super) type Place = (String, u32);

/// A guessed rule that too many records contradict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Misfit {
    /// The map that the shard routed by.
    pub(super) version: u64,
    /// How often the topic's newest records could not be had.
    pub(super) tries: u32,
}
