//! The shards' and the lifecycle's line to the reader, and what it says of the node.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::lookups::Lookup;
use super::questions::Question;
use super::words::Word;
use crate::handoff::{LogEndQuestion, ShardId};
use crate::kafka::clients::Clients;
use crate::kafka::lock;
use crate::kafka::settings::KafkaOptions;
use crate::kafka::watch::{PartitionStanding, Watch};

/// Where the node stands with Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Kafka has not been read yet; with librdkafka's reason once there is one.
    Connecting {
        reason: String,
    },
    /// The map is there; so many of its partitions have been read up to where they stood.
    Loading {
        ready: usize,
        partitions: usize,
    },
    Ready,
    /// The node cannot start: a line for the user.
    Failed {
        reason: String,
    },
}

/// What has happened to the consumers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub batches_skipped: u64,
    pub partitions_stuck: u64,
    pub consumers_renewed: u64,
}

/// The shards' and the lifecycle's line to the reader. Cheap to clone.
#[derive(Clone)]
pub struct MetadataHandle {
    pub(super) words: Sender<Word>,
    pub(super) questions: Sender<Question>,
    pub(super) lookups: Sender<Lookup>,
    pub(super) state: Arc<Mutex<NodeState>>,
    pub(super) held: Arc<Mutex<Vec<String>>>,
    pub(super) stuck: Arc<Mutex<Vec<String>>>,
    pub(super) counts: Arc<Mutex<Counts>>,
    pub(super) watch: Arc<Watch>,
    /// The watch ends with the last handle.
    pub(super) _watching: Sender<()>,
    pub(super) live_only: Arc<Mutex<Vec<String>>>,
    pub(super) options: Arc<Mutex<KafkaOptions>>,
    pub(super) consuming: Arc<Clients>,
    pub(super) producing: Arc<Clients>,
}

impl MetadataHandle {
    /// Where the node stands.
    pub fn state(&self) -> NodeState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions that stand still before a corrupt batch, each in one line.
    pub fn held_partitions(&self) -> Vec<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions whose log goes on and that are not read, each in one line.
    pub fn stuck_partitions(&self) -> Vec<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions whose log was not read to where it ended ten seconds ago, each in one line.
    pub fn stale_partitions(&self) -> Vec<String> {
        self.watch.stale()
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Counts something that is rare.
    pub(in crate::kafka) fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut lock(&self.counts));
    }

    /// How every partition that is read stands.
    pub fn standings(&self) -> Vec<PartitionStanding> {
        self.watch.standings()
    }

    /// Topics whose subjects are live only because no partitioner explains where their records are, by name.
    pub fn live_only_topics(&self) -> Vec<String> {
        self.live_only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the threads that hold each other's lines; the others end with the last handle.
    pub fn stop(&self) {
        let _ = self.words.try_send(Word::Stop);
        let _ = self.questions.try_send(Question::Stop);
    }

    /// Where words for the reader go.
    pub(in crate::kafka) fn words(&self) -> Sender<Word> {
        self.words.clone()
    }

    /// Asks for a reading soon. One that finds no room is not needed: the reader has enough to look at.
    pub(in crate::kafka) fn look(&self) {
        let _ = self.words.try_send(Word::Look);
    }

    /// `false`: there is no room, the answer is "not known".
    pub(in crate::kafka) fn ask_log_end(&self, shard: ShardId, topic: Arc<str>, question: LogEndQuestion) -> bool {
        self.questions.try_send(Question::LogEnd { shard, topic, question }).is_ok()
    }

    /// `false`: there is no room, the answer is "not now".
    pub(in crate::kafka) fn ask_topic(&self, shard: ShardId, topic: &str) -> bool {
        self.lookups.try_send(Lookup { shard, topic: topic.to_owned() }).is_ok()
    }
}
