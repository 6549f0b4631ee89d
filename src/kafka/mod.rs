//! The Kafka side: the only user of `rdkafka`.
//!
//! A shard has a `ShardBroker`: its own consumer (polled on the shard's thread, never blocking), the shared producers, and a line to the metadata
//! reader. Everything else runs on housekeeping threads: librdkafka's own, the producers' delivery polls, the metadata reader and its queries.
//! librdkafka's threads inherit the CPU mask of the thread that creates a client, so clients are made by threads that have the housekeeping mask.

mod batches;
pub mod broker;
mod clients;
mod cluster;
pub mod consumer;
pub mod detect;
pub mod embedded;
pub mod feed;
pub mod library;
pub mod librdkafka;
mod line;
pub mod load;
pub mod metadata;
pub mod producer;
pub mod properties;
#[allow(unsafe_code)]
mod raw;
pub mod settings;
pub(crate) mod stall;
mod token_keeper;
mod tokens;
mod troubles;
pub mod watch;

pub use broker::{KafkaFailed, KafkaSide, ShardBroker};
pub use cluster::{ClusterSeen, ClusterUnseen, NewestRecord, TopicSeen, look_at_cluster};
pub use embedded::EmbeddedCluster;
pub use library::library;
pub use librdkafka::Role;
pub use metadata::{Counts, MetadataHandle, NodeState};
pub use producer::Producers;
pub use properties::{MASK, Properties, is_credential, is_live, is_secret, is_tls_file, masked};
pub use settings::{ConsumerSettings, CorruptBatches, KafkaOptions, KafkaSettings, ProducerSettings, TopicChoice};
pub use watch::PartitionStanding;

/// A mutex's value, whoever panicked with it.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
