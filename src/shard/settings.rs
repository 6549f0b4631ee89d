//! What a shard needs to know of the configuration: validated elsewhere, immutable here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{COMMANDS_AT_ONCE_MAX, COMMANDS_HELD_BYTES_MAX, TURN_BYTES_MAX};
use crate::subject::{Exposures, PublishRule, Routes, TopicSettings};

/// Settings of one shard. Bytes are bytes, times milliseconds.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// `subject.bytes.max`: longest subject.
    pub subject_bytes_max: usize,
    /// Bytes of records (and of their subjects) that this shard remembers.
    pub cache_bytes_max: usize,
    /// Records remembered per subject.
    pub cache_records_max: usize,
    /// Bytes remembered per subject.
    pub cache_subject_bytes_max: usize,
    /// How long a record is remembered after it arrived here. The newest of each subject is kept longer while there is room.
    pub cache_expire_ms: u64,
    /// Bytes that may wait for one client.
    pub outbox_bytes_max: usize,
    /// Bytes that may wait for all clients of this shard.
    pub outboxes_bytes_max: usize,
    /// How long a subscription may be parked before its client is disconnected with 3008.
    pub slow_client_timeout_ms: u64,
    /// Subscriptions per connection.
    pub subscriptions_max: usize,
    /// Bytes that subscriptions of this shard and the subjects that they want may take.
    pub subscriptions_bytes_max: usize,
    /// Largest value of a publish.
    pub publish_bytes_max: usize,
    /// Topics that clients may publish to.
    pub publish_topics: Arc<PublishRule>,
    /// `[[route]]`: where publishes to some subjects go.
    pub routes: Arc<Routes>,
    /// `[[expose]]`: whose records some subjects have.
    pub exposures: Arc<Exposures>,
    /// Publishes of one connection that Kafka has not answered yet.
    pub publishes_open_max: usize,
    /// Publishes of this shard that Kafka has not answered yet.
    pub publishes_open_shard_max: usize,
    /// Server pings (seconds in the protocol).
    pub ping_interval_ms: u64,
    /// How long the client has for its pong.
    pub pong_timeout_ms: u64,
    /// How long a new connection has for its connect command.
    pub connect_timeout_ms: u64,
    /// `topics.regex`, anchored: a topic that matches but is not there yet may still come (error 100 in place of 102).
    pub topics_regex: Option<regex::Regex>,
    /// `[topic."NAME"]`: topics that are only published to have their settings too.
    pub topics: Arc<BTreeMap<String, TopicSettings>>,
    /// `null.key.partition`: where our own publishes without a key go.
    pub null_key_partition: Option<u32>,
    /// Requests held at this home at a time.
    pub held_max: usize,
    /// Connections that one flush writes to. At some 5 us a write the default holds the core for about 2 ms: more would delay lanes and sockets
    /// behind a large fan-out, less would cost turns. The simulator makes it small.
    pub flush_writes_max: usize,
    /// Bytes for one shard that may wait for the end of a turn. The simulator makes it small.
    pub turn_bytes_max: usize,
    /// Commands of one client that are taken in one go. The simulator makes it small.
    pub commands_at_once_max: u32,
    /// Bytes of messages whose commands wait: beyond, no socket is read. The simulator makes it small.
    pub commands_held_bytes_max: usize,
    /// This node's name for `connect` replies (`node` of the protocol).
    pub node: String,
}

impl ShardSettings {
    /// These, with what may change while the shard runs taken from others. What else differs needs a restart: clients have been told of it, or memory
    /// is laid out by it.
    #[must_use]
    pub fn with_live_of(&self, others: &ShardSettings) -> ShardSettings {
        ShardSettings {
            cache_bytes_max: others.cache_bytes_max,
            cache_records_max: others.cache_records_max,
            cache_subject_bytes_max: others.cache_subject_bytes_max,
            cache_expire_ms: others.cache_expire_ms,
            slow_client_timeout_ms: others.slow_client_timeout_ms,
            subscriptions_max: others.subscriptions_max,
            subscriptions_bytes_max: others.subscriptions_bytes_max,
            publish_topics: others.publish_topics.clone(),
            routes: others.routes.clone(),
            exposures: others.exposures.clone(),
            topics_regex: others.topics_regex.clone(),
            topics: others.topics.clone(),
            publishes_open_max: others.publishes_open_max,
            connect_timeout_ms: others.connect_timeout_ms,
            ..self.clone()
        }
    }
}

impl Default for ShardSettings {
    fn default() -> Self {
        ShardSettings {
            subject_bytes_max: 1024,
            cache_bytes_max: 256 << 20,
            cache_records_max: 1_000_000,
            cache_subject_bytes_max: 64 << 20,
            cache_expire_ms: 180_000,
            outbox_bytes_max: 2 << 20,
            outboxes_bytes_max: 512 << 20,
            slow_client_timeout_ms: 60_000,
            subscriptions_max: 1000,
            subscriptions_bytes_max: 512 << 20,
            publish_bytes_max: 1_000_000,
            publish_topics: Arc::new(PublishRule::everything()),
            routes: Arc::default(),
            exposures: Arc::default(),
            publishes_open_max: 256,
            publishes_open_shard_max: 65_536,
            ping_interval_ms: 25_000,
            pong_timeout_ms: 8_000,
            connect_timeout_ms: 10_000,
            topics_regex: None,
            topics: Arc::default(),
            null_key_partition: None,
            held_max: 100_000,
            flush_writes_max: 512,
            turn_bytes_max: TURN_BYTES_MAX,
            commands_at_once_max: COMMANDS_AT_ONCE_MAX,
            commands_held_bytes_max: COMMANDS_HELD_BYTES_MAX,
            node: "corespan".to_owned(),
        }
    }
}
