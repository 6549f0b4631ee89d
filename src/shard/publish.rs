//! Publishes: checked, handed to the producer, answered once Kafka has answered. The answer's room in the outbox is kept from the start.

use std::sync::Arc;

use bytes::Bytes;

use super::commands::{Taken, Wait};
use super::core::{ShardCore, TopicLookup};
use super::event::{PublishFailure, PublishResult};
use super::{Effects, ProduceRecord, ProduceStatus, errors};
use crate::handoff::ConnectionKey;
use crate::limits::{REPLY_BYTES, TOPIC_ABSENT_MS, TOPIC_LOOKUPS_MAX};
use crate::session::{self, Reply, publish_value};
use crate::subject::{Partitioner, SubjectName, ValueKind};

/// A publish that Kafka has not answered yet.
#[derive(Debug)]
pub(super) struct OpenPublish {
    connection: ConnectionKey,
    command: u32,
    topic: Arc<str>,
}

impl ShardCore {
    pub(super) fn publish<E: Effects>(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        request: &session::PublishRequest,
        effects: &mut E,
    ) -> Taken {
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                self.refuse_publish(connection, id, errors::bad_request(error));
                return Taken::Yes;
            }
        };
        if self.map.version == 0 {
            self.refuse_publish(connection, id, errors::NOT_READY);
            return Taken::Yes;
        }
        let Some(session) = self.sessions.get(connection) else {
            return Taken::Yes;
        };
        if session.publishes_open as usize >= self.settings.publishes_open_max {
            return Taken::NotNow(Wait::Answer);
        }
        if self.publishes.len() >= self.settings.publishes_open_shard_max {
            return Taken::NotNow(Wait::Producer);
        }
        let topic = self.map.topic(name.topic()).cloned();
        let (rule, kind) = match (&topic, self.settings.topics.get(name.topic())) {
            (Some(topic), _) => (topic.partitioner, topic.value),
            // Not consumed, only published to.
            (None, Some(settings)) => (settings.partitioner.without_records(), settings.value),
            (None, None) => (Partitioner::Murmur2, ValueKind::Auto),
        };
        let value = if request.removed {
            None
        } else {
            match publish_value(session.protocol, kind, &request.data) {
                Ok(value) => Some(value),
                Err(reason) => {
                    self.refuse_publish(connection, id, errors::bad_request(reason));
                    return Taken::Yes;
                }
            }
        };
        let bytes = value.as_ref().map_or(0, Bytes::len);
        if bytes > self.settings.publish_bytes_max {
            self.refuse_publish(connection, id, errors::too_large(bytes, self.settings.publish_bytes_max));
            return Taken::Yes;
        }
        let partitions = match self.partitions_of(now_ms, name.topic(), effects) {
            TopicLookup::Found(partitions) => partitions,
            TopicLookup::Refused(PublishFailure::NoSuchTopic) => {
                self.refuse_publish(connection, id, errors::absent_topic(name.topic(), &self.settings));
                return Taken::Yes;
            }
            TopicLookup::Refused(failure) => {
                self.refuse_publish(connection, id, errors::publish_failed(failure, name.topic()));
                return Taken::Yes;
            }
            TopicLookup::Asked => return Taken::NotNow(Wait::Topic),
        };
        let partition = match name.key() {
            Some(key) => Some(rule.partition(key.as_bytes(), partitions)),
            None => self.settings.null_key_partition.filter(|partition| *partition < partitions),
        };
        let record = ProduceRecord {
            topic: topic.map_or_else(|| Arc::from(name.topic()), |topic| topic.name.clone()),
            partition,
            key: name.key().map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value,
            headers: Vec::new(),
        };
        let open = OpenPublish { connection, command: id, topic: record.topic.clone() };
        let publish = self.publishes.insert(open);
        match effects.produce(publish, &record) {
            ProduceStatus::Queued => {
                self.counters.publishes += 1;
                if let Some(session) = self.sessions.get_mut(connection) {
                    session.publishes_open += 1;
                    session.outbox.reserved += REPLY_BYTES as u32;
                }
            }
            ProduceStatus::Full => {
                self.publishes.remove(publish);
                self.counters.producer_full += 1;
                return Taken::NotNow(Wait::Producer);
            }
            ProduceStatus::Refused(failure) => {
                self.publishes.remove(publish);
                self.refuse_publish(connection, id, errors::publish_failed(failure, &record.topic));
            }
        }
        Taken::Yes
    }

    fn refuse_publish(&mut self, connection: ConnectionKey, id: u32, error: session::ErrorReply) {
        self.counters.publishes_failed += 1;
        self.reply_error(connection, id, error);
    }

    /// How many partitions a topic has, from the map or from a look-up of its own.
    fn partitions_of<E: Effects>(&mut self, now_ms: u64, topic: &str, effects: &mut E) -> TopicLookup {
        if let Some(partitions) = self.map.publishable(topic) {
            return TopicLookup::Found(partitions);
        }
        if let Some((until_ms, lookup)) = self.lookups.get(topic)
            && *until_ms > now_ms
        {
            return *lookup;
        }
        if self.lookups.len() >= TOPIC_LOOKUPS_MAX {
            self.lookups.retain(|_, (until_ms, _)| *until_ms > now_ms);
            if self.lookups.len() >= TOPIC_LOOKUPS_MAX {
                return TopicLookup::Refused(PublishFailure::Unavailable);
            }
        }
        self.lookups.insert(topic.to_owned(), (now_ms + crate::limits::HOLD_MS, TopicLookup::Asked));
        effects.lookup_topic(topic);
        TopicLookup::Asked
    }

    pub(super) fn take_topic_found(&mut self, now_ms: u64, topic: &str, partitions: Result<u32, PublishFailure>) {
        if let Some(entry) = self.lookups.get_mut(topic) {
            *entry = (now_ms + TOPIC_ABSENT_MS, partitions.map_or_else(TopicLookup::Refused, TopicLookup::Found));
            self.held_may_go = true;
        }
    }

    pub(super) fn published(&mut self, publish: crate::handoff::PublishKey, result: PublishResult) {
        let Some(open) = self.publishes.remove(publish) else {
            return;
        };
        self.producer_may_go = true;
        match result {
            PublishResult::Stored { .. } => self.counters.publishes_stored += 1,
            PublishResult::Failed(_) => self.counters.publishes_failed += 1,
            PublishResult::Unknown => self.counters.publishes_unknown += 1,
        }
        let Some(session) = self.sessions.get_mut(open.connection) else {
            return;
        };
        session.publishes_open -= 1;
        session.outbox.reserved -= REPLY_BYTES as u32;
        self.room_made(open.connection);
        match result {
            PublishResult::Stored { .. } => self.reply(open.connection, open.command, &Reply::Publish),
            PublishResult::Failed(failure) => self.publish_error(open, failure),
            PublishResult::Unknown => self.reply_error(open.connection, open.command, errors::FATE_UNKNOWN),
        }
    }

    fn publish_error(&mut self, open: OpenPublish, failure: PublishFailure) {
        self.reply_error(open.connection, open.command, errors::publish_failed(failure, &open.topic));
    }
}
