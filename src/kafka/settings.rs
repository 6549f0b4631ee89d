//! What an operator chooses about Kafka, and what the Kafka side is given.

use std::time::Duration;

use regex::Regex;

use super::properties::Properties;
use crate::subject::TopicSettings;

/// Which topics are consumed.
#[derive(Clone, Debug)]
pub enum TopicChoice {
    /// `topics`: not empty, valid names, none twice. Each must exist when metadata is first read.
    Listed(Vec<String>),
    /// `topics.regex`, anchored at both ends. Internal topics never match, whatever it says.
    Matching(Regex),
}

impl TopicChoice {
    /// Whether a topic of the cluster is consumed.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            TopicChoice::Listed(topics) => topics.iter().any(|listed| listed == name),
            TopicChoice::Matching(regex) => !name.starts_with("__") && regex.is_match(name),
        }
    }
}

/// Everything about Kafka.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `kafka.metadata.interval`: how often topics and partition counts are asked for.
    pub metadata_interval: Duration,
    pub consumer: ConsumerSettings,
    pub producer: ProducerSettings,
}

/// `[kafka.consumer]`.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// librdkafka's, checked by `kafka::librdkafka`; always with `bootstrap.servers`.
    pub properties: Properties,
    pub topics: TopicChoice,
    /// `consumers.size`: how many shards own partitions; `None` is all of them. Checked against their number by `Config::check_shards`.
    pub consumers_size: Option<u16>,
    /// `recovery.on.start`: load the last `cache.expire.time` of the topics before the node is ready.
    pub recovery_on_start: bool,
    pub corrupt_batches: CorruptBatches,
}

/// `corrupt.batches`: what is done about a batch of records whose bytes are corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptBatches {
    /// The partition is read no further until the batch can be read.
    Stop,
    /// It is read on behind the batch, whose records no client gets.
    Skip,
}

/// `[kafka.producer]`.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// librdkafka's, checked by `kafka::librdkafka`; always with `bootstrap.servers`.
    pub properties: Properties,
    /// `producers.size`: producer instances; a subject always uses the same.
    pub producers_size: u16,
    /// `null.key.partition`: where records without a key are written.
    pub null_key_partition: Option<u32>,
}

/// Everything that the Kafka side needs to know.
pub struct KafkaOptions {
    pub shards: u16,
    /// Shards that own partitions: 1 to `shards`.
    pub consumers_size: u16,
    pub consumer: Properties,
    pub producer: Properties,
    pub topics: TopicChoice,
    pub metadata_interval: Duration,
    /// How far back to read at start; `None` starts at the end.
    pub recovery: Option<Duration>,
    pub producers_size: u16,
    pub null_key_partition: Option<u32>,
    /// A key that makes a longer subject has none.
    pub subject_bytes_max: usize,
    pub corrupt_batches: CorruptBatches,
    /// The settings of a topic, by name.
    pub topic: Box<dyn Fn(&str) -> TopicSettings + Send>,
    /// How often these have changed since the start.
    pub reloads: u64,
    /// The embedded cluster has neither topic ids, topic configurations nor look-ups by time.
    pub embedded: bool,
}

#[cfg(test)]
impl KafkaOptions {
    /// For tests on the embedded cluster: one shard, every topic.
    pub(super) fn for_tests(bootstrap: &str) -> KafkaOptions {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", bootstrap);
        KafkaOptions {
            shards: 1,
            consumers_size: 1,
            consumer: properties.clone(),
            producer: properties,
            topics: TopicChoice::Listed(Vec::new()),
            metadata_interval: Duration::from_millis(100),
            recovery: None,
            producers_size: 1,
            null_key_partition: None,
            subject_bytes_max: 1024,
            corrupt_batches: CorruptBatches::Stop,
            topic: Box::new(|_| TopicSettings::default()),
            reloads: 0,
            embedded: true,
        }
    }
}
