//! What a shard remembers of publishes: those that Kafka has not answered yet, and topics that were looked up for some.

use std::sync::Arc;

use crate::handoff::ConnectionKey;
use crate::shard::event::PublishFailure;

/// What is known of a topic that is not in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicLookup {
    Found(u32),
    Refused(PublishFailure),
    Asked,
}

/// A publish that Kafka has not answered yet.
#[derive(Clone, Debug)]
pub(super) struct OpenPublish {
    pub connection: ConnectionKey,
    pub command: u32,
    pub topic: Arc<str>,
    /// When it is answered 401.
    pub due_ms: u64,
    /// It was; the producer still holds it.
    pub answered: bool,
}
