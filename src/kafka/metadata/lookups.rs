//! Topics that are only published to: the thread that looks them up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::questions::{IDLE_TIME, QUESTION_PAUSE};
use crate::handoff::{MailboxSender, ShardId};
use crate::kafka::clients::{Client, QuietContext};
use crate::kafka::producer::Producers;
use crate::kafka::raw;
use crate::shard::{Letter, PublishFailure};

/// From one request for topics of publishes to the next: four a second, so that what clients ask for is no load to Kafka.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(250);
/// How long such a request may take.
const LOOKUP_TIME: Duration = Duration::from_secs(2);
/// Names of one such request; some 30 KiB with names as people give them.
const LOOKUPS_AT_ONCE_MAX: usize = 500;
/// How long such an answer counts: a publish to a topic that is being made is not told for long that there is none.
const LOOKUP_AGE: Duration = Duration::from_secs(1);
/// Answers that are kept; all of one second fit.
const LOOKUPS_KEPT_MAX: usize = 4_096;

/// A shard asks for a topic that its map does not have.
pub(super) struct Lookup {
    pub(super) shard: ShardId,
    pub(super) topic: String,
}

/// Whether topics can be published to, and to how many partitions.
pub(super) type LookedUp = Result<u32, PublishFailure>;

/// The thread that looks up topics for publishes. Clients choose the names, so a name must cost little and leave nothing behind: many are asked
/// with one request, there are few requests a second, and the client that asks keeps no name in its tables (a producer would ask for each again,
/// with every metadata request, as long as it lives).
pub(super) struct Lookups {
    pub(super) client: Client<BaseProducer<QuietContext>>,
    /// The embedded cluster cannot describe topics: its producers are asked.
    pub(super) embedded: Option<Arc<Producers>>,
    /// Answers from a moment ago.
    pub(super) answers: HashMap<String, (Instant, LookedUp)>,
    pub(super) asked_at: Option<Instant>,
    pub(super) unanswered: Option<Instant>,
}

impl Lookups {
    pub(super) fn run(mut self, asked: &Receiver<Lookup>, shards: &[MailboxSender<Letter>]) {
        loop {
            let first = match asked.recv_timeout(IDLE_TIME) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.client.now().poll(Duration::ZERO);
                    self.answers.clear();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.is_fresh(&first.topic) {
                let since = self.asked_at.map_or(LOOKUP_INTERVAL, |asked_at| asked_at.elapsed());
                thread::sleep(LOOKUP_INTERVAL.saturating_sub(since));
            }
            let lookups: Vec<Lookup> = std::iter::once(first).chain(asked.try_iter().take(LOOKUPS_AT_ONCE_MAX - 1)).collect();
            let unknown: HashSet<&str> = lookups.iter().map(|lookup| lookup.topic.as_str()).filter(|topic| !self.is_fresh(topic)).collect();
            if !unknown.is_empty() {
                let names: Vec<String> = unknown.into_iter().map(str::to_owned).collect();
                self.ask(&names);
            }
            for Lookup { shard, topic } in lookups {
                let partitions = self.answers.get(&topic).map_or(Err(PublishFailure::Unavailable), |(_, found)| *found);
                // A shard that has ended needs no answer.
                let _ = shards[shard.index()].post(Letter::TopicFound { partitions, topic });
            }
        }
    }

    fn is_fresh(&self, topic: &str) -> bool {
        self.answers.get(topic).is_some_and(|(at, _)| at.elapsed() < LOOKUP_AGE)
    }

    fn ask(&mut self, names: &[String]) {
        if self.answers.len() + names.len() > LOOKUPS_KEPT_MAX {
            self.answers.clear();
        }
        for name in names {
            self.answers.remove(name);
        }
        if self.unanswered.is_some_and(|since| since.elapsed() < QUESTION_PAUSE) {
            return;
        }
        self.asked_at = Some(Instant::now());
        let asked = match &self.embedded {
            Some(producers) => {
                names.iter().map(|name| Ok((name.clone(), partition_count(&producers.metadata(name, LOOKUP_TIME)?, name)))).collect()
            }
            None => self.describe(names),
        };
        self.client.now().poll(Duration::ZERO);
        match asked {
            Ok(found) => {
                self.unanswered = None;
                let at = Instant::now();
                self.answers.extend(found.into_iter().map(|(name, found)| (name, (at, found))));
            }
            Err(error) => {
                tracing::debug!(%error, "topics of publishes");
                self.unanswered = Some(Instant::now());
            }
        }
    }

    fn describe(&mut self, names: &[String]) -> Result<Vec<(String, LookedUp)>, KafkaError> {
        use rdkafka::bindings::rd_kafka_resp_err_t as Code;
        let failed = |_| KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let client = self.client.now().client().native_ptr();
        let broker = raw::answering_broker(client, LOOKUP_TIME).map_err(failed)?;
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let described = raw::describe_topics(client, &asked, broker, LOOKUP_TIME).map_err(failed)?;
        let found = |name: &String| match described.get(name) {
            Some(Ok(described)) if described.partitions > 0 => Ok(described.partitions),
            Some(Err(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)) => Err(PublishFailure::Denied),
            None | Some(Ok(_) | Err(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)) => {
                Err(PublishFailure::NoSuchTopic)
            }
            Some(Err(_)) => Err(PublishFailure::Unavailable),
        };
        Ok(names.iter().map(|name| (name.clone(), found(name))).collect())
    }
}

/// How many partitions a topic has, or why it cannot be published to.
fn partition_count(metadata: &Metadata, topic: &str) -> Result<u32, PublishFailure> {
    use rdkafka::types::RDKafkaRespErr as Code;
    let topic = metadata.topics().iter().find(|other| other.name() == topic).ok_or(PublishFailure::NoSuchTopic)?;
    match topic.error() {
        None if topic.partitions().is_empty() => Err(PublishFailure::NoSuchTopic),
        None => Ok(topic.partitions().len() as u32),
        Some(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) => Err(PublishFailure::NoSuchTopic),
        // Said of any topic that the credentials may not see, whether it is there or not.
        Some(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Err(PublishFailure::Denied),
        Some(_) => Err(PublishFailure::Unavailable),
    }
}
