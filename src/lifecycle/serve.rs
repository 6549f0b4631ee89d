//! `corespan serve`: a node on the Kafka of its configuration.

use std::path::PathBuf;

use super::error::LifecycleError;
use super::node::{Node, prepare};
use super::reload::Reloader;
use super::signals::Signals;
use crate::config::Config;
use crate::kafka::KafkaOptions;

/// Runs a node until a signal asks it to stop. Errors are what keeps it from starting or from going on, each one readable line.
/// SIGHUP has the file at `path` read again.
pub fn serve(config: Config, path: PathBuf) -> Result<(), LifecycleError> {
    serve_on(config, Some(path), false)
}

/// The same on an embedded cluster of another process, which lacks what `KafkaOptions::embedded` names. For `corespan-bench`.
pub fn serve_embedded(config: Config) -> Result<(), LifecycleError> {
    serve_on(config, None, true)
}

fn serve_on(config: Config, path: Option<PathBuf>, embedded: bool) -> Result<(), LifecycleError> {
    let plan = prepare(&config)?;
    let signals = Signals::listen_for_reloads_too().map_err(LifecycleError::Signals)?;
    let mut options = kafka_options(&config, plan.shards.len() as u16);
    options.embedded = embedded;
    let node = Node::start(&config, &plan, options)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        shards = plan.shards.len(),
        "listening on {}, metrics and health on {}",
        node.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        config.listen.admin
    );
    let reloader = path.map(|path| Reloader::new(path, config));
    node.run(&signals, reloader)
}

/// What the Kafka side needs to know.
pub(super) fn kafka_options(config: &Config, shards: u16) -> KafkaOptions {
    let topics = config.clone();
    let (consumer, producer) = (&config.kafka.consumer, &config.kafka.producer);
    KafkaOptions {
        shards,
        consumers_size: consumer.consumers_size.unwrap_or(shards),
        consumer: consumer.properties.clone(),
        producer: producer.properties.clone(),
        topics: consumer.topics.clone(),
        metadata_interval: config.kafka.metadata_interval,
        recovery: consumer.recovery_on_start.then_some(config.cache.expire_time),
        producers_size: producer.producers_size,
        null_key_partition: producer.null_key_partition,
        subject_bytes_max: config.subject_bytes_max,
        corrupt_batches: consumer.corrupt_batches,
        topic: Box::new(move |name| topics.topic(name)),
        reloads: 0,
        embedded: false,
    }
}
