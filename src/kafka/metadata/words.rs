//! What shards, and the thread that answers questions, tell the reader.

use std::collections::HashMap;

use crate::handoff::{Generation, Offset, PartitionRef, ShardId, TopicIndex};
use crate::kafka::raw::TopicConfig;

/// What shards tell the reader.
#[derive(Debug)]
pub(in crate::kafka) enum Word {
    Acknowledged {
        shard: ShardId,
        version: u64,
    },
    Ready {
        partition: PartitionRef,
        generation: Generation,
    },
    /// `version`: the map that the shard routed by.
    Misfit {
        topic: TopicIndex,
        version: u64,
    },
    OutOfRange {
        partition: PartitionRef,
        generation: Generation,
        position: Offset,
    },
    /// A consumer met a topic or a partition that is not there.
    Look,
    /// A partition is not read any further, for the batch at this offset is corrupt; or it is read again.
    Held {
        partition: PartitionRef,
        generation: Generation,
        base: Option<Offset>,
    },
    /// The partition's log goes on and its consumer does not read it; or it does again.
    Stuck {
        partition: PartitionRef,
        generation: Generation,
        is_stuck: bool,
    },
    /// What Kafka says of the settings of topics that were asked about; nothing of those that it does not let us see.
    Configs {
        asked: Vec<String>,
        found: HashMap<String, TopicConfig>,
    },
    Stop,
}
