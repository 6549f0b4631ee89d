//! The producers: idempotent, acks=all, shared by all shards. A subject always uses the same one, so its records keep their order.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};

use super::raw;
use super::settings::{KafkaOptions, producer_config};
use crate::handoff::{MailboxSender, Offset, PublishKey, ShardId};
use crate::shard::{Letter, ProduceRecord, ProduceStatus, PublishFailure, PublishResult};

/// Who asked for a record.
pub struct Ticket {
    shard: ShardId,
    publish: PublishKey,
}

/// Hands Kafka's answers to the shards, on the producer's poll thread. A shard's mailbox has room for all of its open publishes, so this does not
/// wait.
pub struct Deliveries {
    shards: Vec<MailboxSender<Letter>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, _facility: &str, message: &str) {
        tracing::debug!(?level, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let result = match result {
            Ok(message) => PublishResult::Stored { partition: message.partition() as u32, offset: Offset(message.offset()) },
            Err((error, message)) => match failure(error) {
                // A timeout or a lost connection says nothing about the log; librdkafka knows whether the record was ever sent.
                PublishFailure::Unavailable if raw::is_possibly_persisted(message) => PublishResult::Unknown,
                failure => PublishResult::Failed(failure),
            },
        };
        // A shard that has ended has told its clients.
        let _ = self.shards[ticket.shard.index()].post(Letter::Published { publish: ticket.publish, result });
    }
}

fn failure(error: &KafkaError) -> PublishFailure {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicId,
        ) => PublishFailure::NoSuchTopic,
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            PublishFailure::TooLarge
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => PublishFailure::Denied,
        _ => PublishFailure::Unavailable,
    }
}

/// All producers of the node.
pub struct Producers {
    producers: Vec<ThreadedProducer<Deliveries>>,
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Producers {
    /// Makes `producers.size` clients (call it under the housekeeping mask). Kafka's answers go to `shards`.
    ///
    /// # Errors
    /// librdkafka's word when it does not take the configuration.
    pub fn new(options: &KafkaOptions, shards: &[MailboxSender<Letter>]) -> Result<Producers, KafkaError> {
        let config = producer_config(options);
        let producers = (0..options.producers_size.max(1)).map(|_| config.create_with_context(Deliveries { shards: shards.to_vec() }));
        Ok(Producers { producers: producers.collect::<Result<_, _>>()?, hasher: BuildHasherDefault::default() })
    }

    /// Queues a record. After `Queued` the shard gets one `Letter::Published`.
    pub fn produce(&self, shard: ShardId, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        let place = self.hasher.hash_one((&record.topic, &record.key)) as usize % self.producers.len();
        let mut message = BaseRecord::<'_, [u8], [u8], Box<Ticket>>::with_opaque_to(&record.topic, Box::new(Ticket { shard, publish }));
        if let Some(partition) = record.partition {
            message = message.partition(partition as i32);
        }
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (name, value) in &record.headers {
                headers = headers.insert(Header { key: name, value: Some(&value[..]) });
            }
            message = message.headers(headers);
        }
        match self.producers[place].send(message) {
            Ok(()) => ProduceStatus::Queued,
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => ProduceStatus::Full,
            Err((error, _)) => ProduceStatus::Refused(failure(&error)),
        }
    }

    /// Waits until Kafka has answered everything, `patience` at most; what is left then is given up and answered too.
    pub fn flush(&self, patience: Duration) {
        for producer in &self.producers {
            if producer.flush(patience).is_err() {
                producer.purge(PurgeConfig::default().queue().inflight());
                let _ = producer.flush(Duration::from_millis(500));
            }
        }
    }
}
