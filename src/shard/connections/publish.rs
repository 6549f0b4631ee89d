//! Publishes: checked, handed to the producer, answered once Kafka has answered. The answer's room in the outbox is kept from the start.
//!
//! The clock is the bridge's own. A publish that was read and has not reached the producer within `HOLD_MS` is answered 100 and never handed over:
//! its client gives up soon, tries again, and must not find both in the log. One that the producer has had for as long is answered 401, "nobody
//! knows"; what Kafka says of it later is counted and dropped. librdkafka's own time-out is far longer, for a message that times out in flight
//! makes it begin a new epoch and send others again that may be stored already.

use std::sync::Arc;

use bytes::Bytes;

use super::publishes::{OpenPublish, TopicLookup};
use super::room::Connections;
use super::waiting::{Taken, Wait};
use crate::handoff::{ConnectionKey, PublishKey};
use crate::limits::{HOLD_MS, PUBLISH_MS, REPLY_BYTES, TOPIC_ABSENT_MS, TOPIC_LOOKUPS_MAX};
use crate::session::{self, Reply, publish_value};
use crate::shard::effects::{Effects, ProduceRecord, ProduceStatus};
use crate::shard::errors;
use crate::shard::event::{PublishFailure, PublishResult};
use crate::subject::{Partitioner, SubjectName, ValueKind};

impl Connections {
    /// The publish command.
    pub fn publish<E: Effects>(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        read_ms: u64,
        request: &session::PublishCommand,
        effects: &mut E,
    ) -> Taken {
        if now_ms >= read_ms + HOLD_MS {
            self.counters.publishes_expired += 1;
            self.refuse_publish(connection, id, errors::NOT_READY);
            return Taken::Yes;
        }
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                self.refuse_publish(connection, id, errors::bad_request(error));
                return Taken::Yes;
            }
        };
        if let Err(denial) = self.lets_publish(now_ms, connection, name.as_str()) {
            self.counters.publishes_failed += 1;
            self.deny(connection, id, &denial);
            return Taken::Yes;
        }
        if !self.settings.publish_topics.allows(name.topic()) {
            self.counters.publishes_denied += 1;
            self.refuse_publish(connection, id, errors::NOT_PUBLISHED_TO);
            return Taken::Yes;
        }
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
            TopicLookup::Asked => return Taken::NotNow(Wait::Topic(Arc::from(name.topic()))),
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
        let due_ms = read_ms + PUBLISH_MS;
        let open = OpenPublish { connection, command: id, topic: record.topic.clone(), due_ms, answered: false };
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
        self.reply_error(connection, id, &error);
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
        self.lookups.insert(Arc::from(topic), (now_ms + HOLD_MS, TopicLookup::Asked));
        effects.lookup_topic(topic);
        TopicLookup::Asked
    }

    /// The answer to a look-up.
    pub fn take_topic_found(&mut self, now_ms: u64, topic: &str, partitions: Result<u32, PublishFailure>) {
        if let Some(entry) = self.lookups.get_mut(topic) {
            *entry = (now_ms + TOPIC_ABSENT_MS, partitions.map_or_else(TopicLookup::Refused, TopicLookup::Found));
        }
        // Whoever has waited, found or not.
        self.wake_topic(&Arc::from(topic));
    }

    /// Kafka's answer to a publish.
    pub fn published(&mut self, publish: PublishKey, result: PublishResult) {
        let Some(open) = self.publishes.remove(publish) else {
            return;
        };
        self.producer_may_go = true;
        if open.answered {
            self.counters.publishes_late += 1;
            return;
        }
        match result {
            PublishResult::Stored { .. } => self.counters.publishes_stored += 1,
            PublishResult::Failed(_) => self.counters.publishes_failed += 1,
            PublishResult::Unknown => self.counters.publishes_unknown += 1,
        }
        match result {
            PublishResult::Stored { .. } => self.answer_publish(&open, &Reply::Publish),
            PublishResult::Failed(failure) => self.answer_publish(&open, &Reply::Error(&errors::publish_failed(failure, &open.topic))),
            PublishResult::Unknown => self.answer_publish(&open, &Reply::Error(&errors::FATE_UNKNOWN)),
        }
    }

    fn answer_publish(&mut self, open: &OpenPublish, reply: &Reply<'_>) {
        let Some(session) = self.sessions.get_mut(open.connection) else {
            return;
        };
        session.publishes_open -= 1;
        session.outbox.reserved -= REPLY_BYTES as u32;
        if self.waiting.of(open.connection) == Some(&Wait::Answer) {
            self.waiting.wake(open.connection);
        }
        self.room_made(open.connection);
        self.counters.command_errors += u64::from(matches!(reply, Reply::Error(_)));
        self.reply(open.connection, open.command, reply);
    }

    /// Answers what Kafka has not answered in time. Walks all open publishes, ten times a second.
    pub(super) fn expire_publishes(&mut self, now_ms: u64) {
        let due = |open: &OpenPublish| !open.answered && open.due_ms <= now_ms;
        let expired: Vec<PublishKey> = self.publishes.iter().filter(|(_, open)| due(open)).map(|(key, _)| key).collect();
        for key in expired {
            let Some(open) = self.publishes.get_mut(key) else { continue };
            open.answered = true;
            let open = open.clone();
            self.counters.publishes_unknown += 1;
            self.answer_publish(&open, &Reply::Error(&errors::FATE_UNKNOWN));
        }
    }

    /// Whether every publish has its answer; the producer may still hold some.
    pub(super) fn publishes_are_answered(&self) -> bool {
        self.publishes.values().all(|open| open.answered)
    }
}
