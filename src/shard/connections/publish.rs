//! Publishes: checked, handed to the producer, answered once Kafka has answered. The answer's room in the outbox is kept from the start.
//!
//! The clock is the bridge's own. A publish that was read and has not reached the producer within `HOLD_MS` is answered 100 and never handed over:
//! its client gives up soon, tries again, and must not find both in the log. One that the producer has had for as long is answered 401, "nobody
//! knows"; what Kafka says of it later is counted and dropped. librdkafka's own time-out is far longer, for a message that times out in flight
//! makes it begin a new epoch and send others again that may be stored already.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::publishes::{OpenPublish, Prepared, TopicLookup};
use super::room::Connections;
use super::waiting::{Taken, Wait};
use crate::handoff::{ConnectionKey, Protocol, PublishKey};
use crate::limits::{HOLD_MS, PUBLISH_MS, REPLY_BYTES, TOPIC_ABSENT_MS, TOPIC_LOOKUPS_MAX};
use crate::session::{self, Reply, publish_value};
use crate::shard::effects::{Effects, ProduceRecord, ProduceStatus};
use crate::shard::errors;
use crate::shard::event::{PublishFailure, PublishResult};
use crate::shard::stages::Stage;
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
        if let Some(taken) = self.resume_routed(now_ms, connection, read_ms, effects) {
            return taken;
        }
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
        let targets = match self.settings.routes.of(&name, self.settings.subject_bytes_max) {
            Ok(targets) => targets,
            Err(error) => {
                self.refuse_publish(connection, id, errors::misrouted(&error));
                return Taken::Yes;
            }
        };
        // A route opens its topic to whoever may publish to its subject.
        if targets.as_ref().is_none_or(|targets| targets.contains(&name)) && !self.settings.publish_topics.allows(name.topic()) {
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
        let protocol = session.protocol;
        let records = targets.as_ref().map_or(1, Vec::len);
        if self.publishes.len() + records > self.settings.publishes_open_shard_max {
            return Taken::NotNow(Wait::Producer);
        }
        if let Some(targets) = targets {
            let mut records = VecDeque::with_capacity(targets.len());
            for target in &targets {
                match self.prepare(now_ms, protocol, target, request, effects) {
                    Prepared::Record(record) => records.push_back(record),
                    Prepared::Refused(error) => {
                        self.refuse_publish(connection, id, error);
                        return Taken::Yes;
                    }
                    Prepared::Wait(wait) => return Taken::NotNow(wait),
                }
            }
            return self.publish_routed(connection, id, read_ms, records, effects);
        }
        let record = match self.prepare(now_ms, protocol, &name, request, effects) {
            Prepared::Record(record) => record,
            Prepared::Refused(error) => {
                self.refuse_publish(connection, id, error);
                return Taken::Yes;
            }
            Prepared::Wait(wait) => return Taken::NotNow(wait),
        };
        let due_ms = read_ms + PUBLISH_MS;
        let open = OpenPublish {
            connection,
            command: id,
            topic: record.topic.clone(),
            due_ms,
            given_us: self.clock_us,
            answered: false,
            routed: None,
        };
        let publish = self.publishes.insert(open);
        match effects.produce(publish, &record) {
            ProduceStatus::Queued => self.owe_answer(connection),
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

    /// The record that a publish is on the topic of a subject.
    fn prepare<E: Effects>(
        &mut self,
        now_ms: u64,
        protocol: Protocol,
        name: &SubjectName,
        request: &session::PublishCommand,
        effects: &mut E,
    ) -> Prepared {
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
            match publish_value(protocol, kind, &request.data) {
                Ok(value) => Some(value),
                Err(reason) => return Prepared::Refused(errors::bad_request(reason)),
            }
        };
        let bytes = value.as_ref().map_or(0, Bytes::len);
        if bytes > self.settings.publish_bytes_max {
            return Prepared::Refused(errors::too_large(bytes, self.settings.publish_bytes_max));
        }
        let partitions = match self.partitions_of(now_ms, name.topic(), effects) {
            TopicLookup::Found(partitions) => partitions,
            TopicLookup::Refused(PublishFailure::NoSuchTopic) => {
                return Prepared::Refused(errors::absent_topic(name.topic(), &self.settings));
            }
            TopicLookup::Refused(failure) => return Prepared::Refused(errors::publish_failed(failure, name.topic())),
            TopicLookup::Asked => return Prepared::Wait(Wait::Topic(Arc::from(name.topic()))),
        };
        let partition = match name.key() {
            Some(key) => Some(rule.partition(key.as_bytes(), partitions)),
            None => self.settings.null_key_partition.filter(|partition| *partition < partitions),
        };
        Prepared::Record(ProduceRecord {
            topic: topic.map_or_else(|| Arc::from(name.topic()), |topic| topic.name.clone()),
            partition,
            key: name.key().map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value,
            headers: Vec::new(),
        })
    }

    /// A publish is taken: room for its answer is kept from now on.
    pub(super) fn owe_answer(&mut self, connection: ConnectionKey) {
        self.counters.publishes += 1;
        if let Some(session) = self.sessions.get_mut(connection) {
            session.publishes_open += 1;
            session.outbox.reserved += REPLY_BYTES as u32;
        }
    }

    pub(super) fn refuse_publish(&mut self, connection: ConnectionKey, id: u32, error: session::ErrorReply) {
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
        self.stages.record(Stage::Ack, self.clock_us.saturating_sub(open.given_us), 1);
        if open.answered {
            self.counters.publishes_late += 1;
            return;
        }
        match open.routed {
            Some(routed) => self.routed_said(routed, open.topic, result),
            None => self.answer_publish(open.connection, open.command, &open.topic, result),
        }
    }

    /// The one answer to a publish.
    pub(super) fn answer_publish(&mut self, connection: ConnectionKey, command: u32, topic: &str, result: PublishResult) {
        match result {
            PublishResult::Stored { .. } => self.counters.publishes_stored += 1,
            PublishResult::Failed(_) => self.counters.publishes_failed += 1,
            PublishResult::Unknown => self.counters.publishes_unknown += 1,
        }
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.publishes_open -= 1;
        session.outbox.reserved -= REPLY_BYTES as u32;
        if self.waiting.of(connection) == Some(&Wait::Answer) {
            self.waiting.wake(connection);
        }
        self.room_made(connection);
        self.counters.command_errors += u64::from(!matches!(result, PublishResult::Stored { .. }));
        match result {
            PublishResult::Stored { .. } => self.reply(connection, command, &Reply::Publish),
            PublishResult::Failed(failure) => self.reply(connection, command, &Reply::Error(&errors::publish_failed(failure, topic))),
            PublishResult::Unknown => self.reply(connection, command, &Reply::Error(&errors::FATE_UNKNOWN)),
        }
    }

    /// Answers what Kafka has not answered in time. Walks all open publishes, ten times a second.
    pub(super) fn expire_publishes(&mut self, now_ms: u64) {
        let due = |open: &OpenPublish| !open.answered && open.due_ms <= now_ms;
        let expired: Vec<PublishKey> = self.publishes.iter().filter(|(_, open)| due(open)).map(|(key, _)| key).collect();
        for key in expired {
            let Some(open) = self.publishes.get_mut(key) else { continue };
            open.answered = true;
            let open = open.clone();
            match open.routed {
                Some(routed) => self.routed_said(routed, open.topic, PublishResult::Unknown),
                None => self.answer_publish(open.connection, open.command, &open.topic, PublishResult::Unknown),
            }
        }
    }

    /// Whether every publish has its answer; the producer may still hold some.
    pub(super) fn publishes_are_answered(&self) -> bool {
        self.publishes.values().all(|open| open.answered)
    }
}
