//! The names of things that cross cores: all `Copy`, all newtypes, none of them a pointer.

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
/// the next Kafka offset that it needs. See `wire` and `from_wire`.
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

/// The form of a push: its encoding, and whether it names the channel by text or by numeric id. Four in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub protocol: Protocol,
    pub numeric: bool,
}

impl Form {
    /// How many forms there are.
    pub const COUNT: usize = 4;
    /// All of them, in the order of `index`.
    pub const ALL: [Form; Form::COUNT] = [
        Form { protocol: Protocol::Json, numeric: false },
        Form { protocol: Protocol::Json, numeric: true },
        Form { protocol: Protocol::Protobuf, numeric: false },
        Form { protocol: Protocol::Protobuf, numeric: true },
    ];

    /// A dense index, 0 to 3.
    pub fn index(self) -> usize {
        let protocol = match self.protocol {
            Protocol::Json => 0,
            Protocol::Protobuf => 2,
        };
        protocol + self.numeric as usize
    }
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
}
