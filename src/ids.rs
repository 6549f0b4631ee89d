//! The names of things: all `Copy`, none of them a pointer, so that any of them may cross cores.

use slotmap::new_key_type;

/// One executor, one core. Dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard as an index into per-shard tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Kafka offset: of a record, or the next one that a reader needs. Never negative.
///
/// On the wire a publication carries `offset + 1`, because the Centrifuge protocol keeps 0 for "none"; a client's position is therefore exactly
/// the next Kafka offset that it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// A topic's place in the topic map. Given once per topic name and process, never used again for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u32);

/// A partition of a topic of the topic map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionRef {
    pub topic: TopicIndex,
    pub partition: u32,
}

/// A log generation: grows by one whenever the log behind a partition changes (topic made again, truncation, offset reset). Whatever carries an
/// older one is stale and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// The Centrifuge encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// JSON in text frames.
    Json,
    /// Protobuf in binary frames.
    Protobuf,
}

/// What a home makes of a record for somebody: how it is encoded, and whether it names the channel by text or by numeric id. Subscribers of one
/// variant share the same bytes; a home makes each variant of a record once, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    pub protocol: Protocol,
    pub numeric: bool,
}

/// A question of a home: where does this log end? Its answer names it, so that an answer to an older question says nothing of what came after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEndQuestion {
    pub partition: PartitionRef,
    pub generation: Generation,
    pub number: u64,
}

new_key_type! {
    /// A connection of this shard. Made by whoever owns the sockets (the driver, the simulator); generational, so a stale one is harmless.
    pub struct ConnectionKey;
    /// A subscription of a connection of this shard; generational.
    pub struct SubscriptionKey;
    /// A subject that some connection of this shard wants; generational. Homes name subjects to a shard by the shard's own key.
    pub struct LocalSubjectKey;
    /// A publish that Kafka has not answered yet; generational.
    pub struct PublishKey;
    /// A publish that goes to several topics; generational.
    pub struct RoutedKey;
}
