//! A shard's Kafka side in one piece: its consumer, the producers, the line to the metadata reader.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::bounded;

use super::batches::{Routes, Way};
use super::clients::Clients;
use super::consumer::{Polled, ShardConsumer};
use super::librdkafka::{consumer_config, producer_config};
use super::line::Line;
use super::metadata::{self, MetadataHandle, Word};
use super::producer::Producers;
use super::settings::KafkaOptions;
use super::token_keeper::TokenKeeper;
use crate::handoff::{Generation, LogEndQuestion, MailboxSender, PartitionRef, PublishKey, RecordBatch, ShardId, TopicIndex, Wake};
use crate::shard::{Assignment, Broker, Letter, ProduceRecord, ProduceStatus, PublishFailure};

/// The node's Kafka clients.
pub struct KafkaSide {
    pub metadata: MetadataHandle,
    pub producers: Arc<Producers>,
    _tokens: Option<TokenKeeper>,
}

/// See the module's documentation.
pub struct ShardBroker {
    shard: ShardId,
    consumer: ShardConsumer,
    producers: Arc<Producers>,
    routes: Routes,
    metadata: MetadataHandle,
    words: Line<Word>,
    /// Where this shard's own letters go.
    letters: MailboxSender<Letter>,
    topics: HashMap<TopicIndex, Arc<str>>,
    /// What this shard routes by.
    map_version: u64,
}

/// Kafka's clients cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("Kafka's client cannot be made: {0}; see [kafka.consumer] and [kafka.producer]")]
pub struct KafkaFailed(String);

impl KafkaSide {
    /// Makes all clients and a broker for each shard. Contacts nobody yet, and never fails because Kafka is away. Call it under the housekeeping
    /// mask.
    ///
    /// # Errors
    /// librdkafka does not take the configuration.
    pub fn start(
        options: KafkaOptions,
        letters: &[MailboxSender<Letter>],
        wakes: &[Arc<Wake>],
    ) -> Result<(KafkaSide, Vec<ShardBroker>), KafkaFailed> {
        let failed = |error: rdkafka::error::KafkaError| KafkaFailed(error.to_string());
        let consuming = Arc::new(Clients::new(consumer_config(&options), options.consumer.clone()));
        let producing = Arc::new(Clients::new(producer_config(&options), options.producer.clone()));
        // Before the first client is made, which has the token then.
        let tokens = TokenKeeper::start(&[consuming.clone(), producing.clone()]).map_err(|error| KafkaFailed(error.to_string()))?;
        let producers = Arc::new(Producers::of(producing.clone(), options.producers_size, letters).map_err(failed)?);
        let (corrupt_batches, embedded) = (options.corrupt_batches, options.embedded);
        let options = Arc::new(Mutex::new(options));
        let (mut consumers, mut watchers, mut progress) = (Vec::new(), Vec::new(), Vec::new());
        for wake in wakes {
            let wake = wake.clone();
            // A look that was not taken yet is followed by another.
            let (ends, seen) = bounded(1);
            watchers.push(ends);
            let (say, said) = bounded(1);
            progress.push(said);
            let consumer = ShardConsumer::new(consuming.clone(), corrupt_batches, seen, say, move || {
                wake.notify();
            });
            consumers.push(consumer.map_err(failed)?);
        }
        let metadata =
            metadata::spawn(options, consuming, producing, letters.to_vec(), watchers, progress, producers.clone()).map_err(failed)?;
        let broker = |(place, consumer): (usize, ShardConsumer)| ShardBroker {
            shard: ShardId(place as u16),
            consumer,
            producers: producers.clone(),
            routes: producers.routes(embedded),
            words: Line::new(metadata.words()),
            metadata: metadata.clone(),
            letters: letters[place].clone(),
            topics: HashMap::new(),
            map_version: 0,
        };
        let brokers = consumers.into_iter().enumerate().map(broker).collect();
        Ok((KafkaSide { metadata, producers, _tokens: tokens }, brokers))
    }

    /// Answers every open publish, within `patience` where Kafka answers.
    pub fn flush(&self, patience: Duration) {
        self.producers.flush(patience);
    }
}

impl ShardBroker {
    /// Its consumer is told that no log holds its position, as librdkafka does for no reason. For tests.
    #[doc(hidden)]
    pub fn doubt_all(&mut self) {
        self.consumer.doubt_all();
    }

    /// Its consumer stops fetching without a word, as librdkafka does when it is stuck. For tests.
    #[doc(hidden)]
    pub fn go_deaf(&self) {
        self.consumer.go_deaf();
    }
}

impl Broker for ShardBroker {
    fn poll(&mut self, bytes_max: usize) -> Option<RecordBatch> {
        self.words.catch_up();
        loop {
            match self.consumer.poll(bytes_max)? {
                Polled::Batch(batch) => return Some(batch),
                Polled::OutOfRange { partition, generation, position } => {
                    self.words.say(Word::OutOfRange { partition, generation, position })
                }
                Polled::Missing => self.metadata.look(),
                Polled::Corrupt { partition, generation, base } => self.words.say(Word::Held { partition, generation, base: Some(base) }),
                Polled::Mended { partition, generation } => self.words.say(Word::Held { partition, generation, base: None }),
                Polled::Stuck { partition, generation, is_stuck } => {
                    self.metadata.count(|counts| counts.partitions_stuck += u64::from(is_stuck));
                    self.words.say(Word::Stuck { partition, generation, is_stuck });
                }
                Polled::Skipped => self.metadata.count(|counts| counts.batches_skipped += 1),
                Polled::Renewed => self.metadata.count(|counts| counts.consumers_renewed += 1),
            }
        }
    }

    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        let bytes = record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len);
        match self.routes.way(&record.topic, bytes) {
            Way::Through(class, open) => self.producers.produce_in(class, Some(&open), self.shard, publish, record),
            Way::NotYet => ProduceStatus::Full,
            Way::TooLarge => ProduceStatus::Refused(PublishFailure::TooLarge),
        }
    }

    fn assign(&mut self, assignment: Assignment) {
        self.topics.insert(assignment.partition.topic, assignment.topic.clone());
        self.consumer.assign(assignment);
    }

    fn unassign(&mut self, partition: PartitionRef) {
        self.consumer.unassign(partition);
    }

    fn query_log_end(&mut self, question: LogEndQuestion) {
        let topic = self.topics.get(&question.partition.topic);
        let asked = topic.is_some_and(|topic| self.metadata.ask_log_end(self.shard, topic.clone(), question));
        if !asked {
            // The mailbox has room for what a shard is told on its own request; if it had not, the held request would end by its time.
            let _ = self.letters.try_post(Letter::LogEnd { question, end: None });
        }
    }

    fn lookup_topic(&mut self, topic: &str) {
        if !self.metadata.ask_topic(self.shard, topic) {
            let _ = self.letters.try_post(Letter::TopicFound { topic: topic.to_owned(), partitions: Err(PublishFailure::NotNow) });
        }
    }

    fn acknowledge_map(&mut self, version: u64) {
        self.map_version = version;
        self.words.say(Word::Acknowledged { shard: self.shard, version });
    }

    fn report_misfit(&mut self, topic: TopicIndex) {
        self.words.say(Word::Misfit { topic, version: self.map_version });
    }

    fn partition_ready(&mut self, partition: PartitionRef, generation: Generation) {
        self.words.say(Word::Ready { partition, generation });
    }
}
