//! Publishes that routes take to several topics (`[[route]]`). All topics are known and all values are fit before the first record is handed over;
//! from then on the publish waits for what Kafka says of each. Acknowledged is what all have; what some have and others have not, or perhaps not, is
//! answered 401 and counted by topic.
//!
//! The producer may be full in the middle. Then the command waits in its client's order, as others do that the producer has no room for, and goes on
//! with the records that are left: none is handed over twice, and no later publish of the client's overtakes it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::publishes::{OpenPublish, RoutedPublish};
use super::room::Connections;
use super::waiting::{Taken, Wait};
use crate::handoff::ConnectionKey;
use crate::ids::RoutedKey;
use crate::limits::{HOLD_MS, MISSED_TOPICS_MAX, PUBLISH_MS, REPLY_BYTES};
use crate::shard::effects::{Effects, MissedPublishes, ProduceRecord, ProduceStatus};
use crate::shard::event::{PublishFailure, PublishResult};

impl Connections {
    /// A publish becomes these records.
    pub(super) fn publish_routed<E: Effects>(
        &mut self,
        connection: ConnectionKey,
        id: u32,
        read_ms: u64,
        records: VecDeque<ProduceRecord>,
        effects: &mut E,
    ) -> Taken {
        let due_ms = read_ms + PUBLISH_MS;
        let waits = records.len();
        let routed = self.routed.insert(RoutedPublish { connection, command: id, due_ms, waits, said: Vec::new(), left: records });
        self.owe_answer(connection);
        self.hand_over(routed, effects)
    }

    /// Goes on with the publish that a connection is in the middle of. `None`: it is in the middle of none.
    pub(super) fn resume_routed<E: Effects>(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        read_ms: u64,
        effects: &mut E,
    ) -> Option<Taken> {
        if self.halfway.is_empty() {
            return None;
        }
        let routed = self.halfway.remove(&connection)?;
        if now_ms < read_ms + HOLD_MS {
            return Some(self.hand_over(routed, effects));
        }
        self.counters.publishes_expired += 1;
        self.give_up(routed);
        Some(Taken::Yes)
    }

    /// The connection is gone: what is left of its publish is not handed over any more.
    pub(super) fn leave_halfway(&mut self, connection: ConnectionKey) {
        if let Some(routed) = self.halfway.remove(&connection) {
            self.give_up(routed);
        }
    }

    fn give_up(&mut self, routed: RoutedKey) {
        let left = self.routed.get_mut(routed).map(|publish| std::mem::take(&mut publish.left)).unwrap_or_default();
        for record in left {
            self.routed_said(routed, record.topic, PublishResult::Failed(PublishFailure::NotNow));
        }
    }

    fn hand_over<E: Effects>(&mut self, key: RoutedKey, effects: &mut E) -> Taken {
        while let Some(publish) = self.routed.get_mut(key) {
            let Some(record) = publish.left.pop_front() else { break };
            let RoutedPublish { connection, command, due_ms, .. } = *publish;
            let open = OpenPublish {
                connection,
                command,
                topic: record.topic.clone(),
                due_ms,
                given_us: self.clock_us,
                answered: false,
                routed: Some(key),
            };
            let open = self.publishes.insert(open);
            match effects.produce(open, &record) {
                ProduceStatus::Queued => {}
                ProduceStatus::Full => {
                    self.publishes.remove(open);
                    self.counters.producer_full += 1;
                    self.put_off(key, record);
                    return Taken::NotNow(Wait::Producer);
                }
                ProduceStatus::Refused(failure) => {
                    self.publishes.remove(open);
                    self.routed_said(key, record.topic, PublishResult::Failed(failure));
                }
            }
        }
        Taken::Yes
    }

    /// The producer has no room for a record. If it has had none of the publish's, there is no publish yet.
    fn put_off(&mut self, key: RoutedKey, record: ProduceRecord) {
        let Some(publish) = self.routed.get_mut(key) else { return };
        publish.left.push_front(record);
        let connection = publish.connection;
        if publish.left.len() < publish.waits || !publish.said.is_empty() {
            self.halfway.insert(connection, key);
            return;
        }
        self.routed.remove(key);
        self.counters.publishes -= 1;
        if let Some(session) = self.sessions.get_mut(connection) {
            session.publishes_open -= 1;
            session.outbox.reserved -= REPLY_BYTES as u32;
        }
    }

    /// What became of one of the records; the answer, if it was the last.
    pub(super) fn routed_said(&mut self, key: RoutedKey, topic: Arc<str>, result: PublishResult) {
        let Some(publish) = self.routed.get_mut(key) else { return };
        publish.waits -= 1;
        publish.said.push((topic, result));
        if publish.waits > 0 {
            return;
        }
        let Some(publish) = self.routed.remove(key) else { return };
        for topic in publish.missing() {
            self.count_missed(topic.clone());
        }
        let (topic, result) = publish.outcome();
        self.answer_publish(publish.connection, publish.command, &topic, result);
    }

    fn count_missed(&mut self, topic: Arc<str>) {
        self.counters.publishes_missed += 1;
        let topic = if self.missed.len() < MISSED_TOPICS_MAX || self.missed.contains_key(&topic) { topic } else { Arc::from("(others)") };
        let count = self.missed.entry(topic.clone()).or_default();
        *count += 1;
        self.missed_changed = true;
        if count.is_power_of_two() {
            tracing::warn!(
                topic = &*topic,
                times = *count,
                "a publish is in some of the topics that its routes take it to and not, or perhaps not, in this one: its client is told 401 (said again when it has happened twice as often)"
            );
        }
    }

    /// How often each topic has missed a publish, if that has changed since it was asked last.
    pub fn newly_missed(&mut self) -> Option<&MissedPublishes> {
        std::mem::take(&mut self.missed_changed).then_some(&self.missed)
    }
}
