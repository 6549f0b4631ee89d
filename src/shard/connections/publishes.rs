//! What a shard remembers of publishes: those that Kafka has not answered yet, and topics that were looked up for some.

use std::collections::VecDeque;
use std::sync::Arc;

use super::waiting::Wait;
use crate::handoff::ConnectionKey;
use crate::ids::RoutedKey;
use crate::session::ErrorReply;
use crate::shard::effects::ProduceRecord;
use crate::shard::event::{PublishFailure, PublishResult};

/// What is known of a topic that is not in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicLookup {
    Found(u32),
    Refused(PublishFailure),
    Asked,
}

/// What a publish comes to on one topic.
pub(super) enum Prepared {
    Record(ProduceRecord),
    Refused(ErrorReply),
    Wait(Wait),
}

/// A publish that Kafka has not answered yet.
#[derive(Clone, Debug)]
pub(super) struct OpenPublish {
    pub connection: ConnectionKey,
    pub command: u32,
    pub topic: Arc<str>,
    /// When it is answered 401.
    pub due_ms: u64,
    /// When the producer was given it, in microseconds.
    pub given_us: u64,
    /// It was; the producer still holds it.
    pub answered: bool,
    /// It is one of several records of the same publish, which has one answer.
    pub routed: Option<RoutedKey>,
}

/// A publish that routes take to several topics: it is acknowledged when all have it.
#[derive(Debug)]
pub(super) struct RoutedPublish {
    pub connection: ConnectionKey,
    pub command: u32,
    pub due_ms: u64,
    /// Records without a word of Kafka's, those that the producer has not taken yet among them.
    pub waits: usize,
    /// What was said of the others, and of which topics.
    pub said: Vec<(Arc<str>, PublishResult)>,
    /// Records that the producer has not taken yet: it was full in the middle.
    pub left: VecDeque<ProduceRecord>,
}

impl RoutedPublish {
    /// The answer, once everything is said: all have it, none has it and why, or nobody knows, or some have it.
    pub fn outcome(&self) -> (Arc<str>, PublishResult) {
        let worst = self.said.iter().find(|(_, result)| !matches!(result, PublishResult::Stored { .. }));
        let Some((topic, result)) = worst.or(self.said.first()) else {
            return (Arc::from(""), PublishResult::Unknown);
        };
        let is_failure = |result: &PublishResult| matches!(result, PublishResult::Failed(_));
        let agree = worst.is_none() || self.said.iter().all(|(_, result)| is_failure(result));
        (topic.clone(), if agree { *result } else { PublishResult::Unknown })
    }

    /// Topics that have not, or perhaps not, what others have.
    pub fn missing(&self) -> impl Iterator<Item = &Arc<str>> {
        let is_stored = |(_, result): &&(Arc<str>, PublishResult)| matches!(result, PublishResult::Stored { .. });
        let some_have_it = self.said.iter().any(|said| is_stored(&said));
        self.said.iter().filter(move |said| some_have_it && !is_stored(said)).map(|(topic, _)| topic)
    }
}
