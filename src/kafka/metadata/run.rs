//! The reader's thread: readings when they are due, words of shards between them, and Kafka out of reach.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::handle::NodeState;
use super::read::{ReadError, SAY_TIME};
use super::reader::Reader;
use super::words::Word;
use crate::kafka::clients::close;
use crate::kafka::librdkafka::adjust_for_reading;
use crate::kafka::lock;
use crate::shard::Letter;

/// How often an unreachable Kafka is tried again.
const RETRY_TIME: Duration = Duration::from_millis(500);
/// While Kafka is unreachable, how often the client is made anew: it may be the client.
const RENEW_TIME: Duration = Duration::from_secs(5);
/// Words that are taken together.
const WORDS_AT_ONCE_MAX: usize = 4_096;

impl Reader {
    pub(super) fn run(mut self, inbox: &Receiver<Word>) {
        let mut due = Instant::now();
        loop {
            match inbox.recv_deadline(due) {
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(word) => {
                    self.take(word);
                    for word in inbox.try_iter().take(WORDS_AT_ONCE_MAX) {
                        if matches!(word, Word::Stop) {
                            return;
                        }
                        self.take(word);
                    }
                    // Counts all partitions: once for all words that waited.
                    self.update_state();
                    if self.is_in_a_hurry() {
                        let earliest = self.read_at.map_or_else(Instant::now, |read_at| read_at + RETRY_TIME);
                        due = due.min(earliest);
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.version == self.active => {
                    if self.remade != self.clients.remade() {
                        self.renew();
                    }
                    due = Instant::now()
                        + match self.read() {
                            Ok(()) => {
                                self.said = None;
                                self.lost = None;
                                self.complaints.note("");
                                self.update_state();
                                let interval = lock(&self.options).metadata_interval;
                                // A partition whose start is not known yet is asked for again soon.
                                if self.is_whole() && !self.is_in_a_hurry() { interval } else { RETRY_TIME.min(interval) }
                            }
                            Err(ReadError::Unreachable(reason)) => {
                                self.renew_if_stuck();
                                // Librdkafka's log and errors come out of the queue.
                                while self.consumer.poll(Duration::ZERO).is_some() {}
                                let complaint = self.clients.token_trouble().unwrap_or_else(|| self.complaints.last());
                                self.say_unreachable(if complaint.is_empty() { reason } else { complaint }, false);
                                RETRY_TIME
                            }
                            Err(ReadError::NotYet(reason)) => {
                                self.say_unreachable(reason, true);
                                RETRY_TIME
                            }
                            Err(ReadError::Fatal(reason)) => {
                                self.set_state(NodeState::Failed { reason });
                                return;
                            }
                        };
                    self.read_at = Some(Instant::now());
                }
                // A map is under way: shards acknowledge it within a turn.
                Err(RecvTimeoutError::Timeout) => due = Instant::now() + RETRY_TIME,
            }
        }
    }

    /// librdkafka can forget its brokers for good: while nothing is read, another client takes this one's place now and then.
    fn renew_if_stuck(&mut self) {
        let due = |since: Instant| since.elapsed() >= RENEW_TIME;
        if self.lost.is_some_and(due) && self.renewed.is_none_or(due) {
            self.renewed = Some(Instant::now());
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.remade = self.clients.remade();
        match self.clients.make(self.complaints.clone(), adjust_for_reading, |_| {}) {
            Ok(consumer) => close(std::mem::replace(&mut self.consumer, consumer)),
            Err(error) => tracing::error!(%error, "another consumer cannot be made"),
        }
    }

    fn say_unreachable(&mut self, reason: String, answers: bool) {
        self.lost.get_or_insert_with(Instant::now);
        if !self.read_once || self.is_lost() {
            self.set_state(NodeState::Connecting { reason: reason.clone() });
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_TIME) {
            self.said = Some(Instant::now());
            let config = self.clients.config();
            let servers = config.get("bootstrap.servers").unwrap_or_default();
            if answers {
                tracing::warn!("Kafka at {servers} answers, but the node cannot begin: {reason}; trying again");
            } else {
                tracing::warn!("Kafka at {servers} cannot be read ({reason}); trying again (kafka.consumer.bootstrap.servers)");
            }
        }
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Acknowledged { shard, version } if version == self.version => {
                self.acknowledged.insert(shard);
                if self.acknowledged.len() == self.shards.len() && self.active < version {
                    self.active = version;
                    for shard in &self.shards {
                        let _ = shard.post(Letter::MapActive { version });
                    }
                }
            }
            Word::Ready { partition, generation } => {
                self.ready.insert((partition, generation));
            }
            Word::Misfit { topic, version } => {
                let misfit = self.misfits.entry(topic).or_default();
                misfit.version = misfit.version.max(version);
            }
            Word::OutOfRange { partition, generation, position } => self.out_of_range.push((partition, generation, position)),
            Word::Look => self.look = true,
            Word::Held { partition, generation, base: Some(base) } => {
                self.held.insert(partition, (generation, base));
            }
            Word::Held { partition, .. } => {
                self.held.remove(&partition);
            }
            Word::Stuck { partition, generation, is_stuck: true } => {
                self.stuck.insert(partition, generation);
            }
            Word::Stuck { partition, .. } => {
                self.stuck.remove(&partition);
            }
            Word::Configs { asked, found } => self.take_configs(asked, found),
            Word::Acknowledged { .. } | Word::Stop => {}
        }
    }
}
