//! One look at the cluster, with the credentials of the configuration: brokers, topics, their settings, their newest records. For `corespan doctor`.
//!
//! It runs on the thread that asks, writes nothing, joins no group, and every wait has an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{Message as _, Offset, Timestamp, TopicPartitionList};

use super::clients::{Clients, close};
use super::librdkafka::{Role, looking_config};
use super::metadata::Complaints;
use super::properties::Properties;
use super::raw;
use super::settings::{KafkaSettings, TopicChoice};
use super::token_keeper::TokenKeeper;

/// Topics whose settings are asked for: ten requests.
const CONFIGS_MAX: usize = 1_000;
/// In one request, as the metadata reader does.
const CONFIGS_AT_ONCE_MAX: usize = 100;
/// How long one of these requests has; and after how long no other one is begun.
const CONFIGS_TIME: Duration = Duration::from_secs(5);
const CONFIGS_ALL_TIME: Duration = Duration::from_secs(10);
/// Partitions whose newest record is read.
const NEWEST_MAX: usize = 64;
/// How long all of them have.
const NEWEST_TIME: Duration = Duration::from_secs(4);
/// One wait for a record.
const POLL_TIME: Duration = Duration::from_millis(100);

/// Kafka does not answer, or a client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Kafka at {servers} does not answer the {role}: {reason}")]
pub struct ClusterUnseen {
    /// `bootstrap.servers`
    pub servers: String,
    /// `consumer` or `producer`.
    pub role: &'static str,
    /// librdkafka's words, without secrets.
    pub reason: String,
}

/// What the cluster says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSeen {
    pub brokers: usize,
    /// Topics that the configuration wants and that are there, by name.
    pub topics: Vec<TopicSeen>,
    /// Topics that are listed and not there.
    pub absent: Vec<String>,
    /// Why there are no settings of topics, if that is so.
    pub configs_unknown: Option<String>,
}

/// A topic that is consumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSeen {
    pub name: String,
    pub partitions: usize,
    /// Those of them without a leader: nobody can read or write them now.
    pub leaderless: usize,
    /// `cleanup.policy` has `compact`, or `delete`; `None` if it was not told, as of all topics but the first 1,000.
    pub compacted: Option<bool>,
    pub deleted: Option<bool>,
    /// `retention.ms`; -1 is for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes` of one partition; -1 is no bound.
    pub retention_bytes: Option<i64>,
    /// The record with the latest time among the newest of each partition.
    pub newest: Option<NewestRecord>,
}

/// When a record was made, and by whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestRecord {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The broker's clock (`message.timestamp.type` is `LogAppendTime`); else that of the client that wrote it.
    pub is_brokers: bool,
}

/// Asks Kafka with the credentials of one role; what topics are, with the consumer's only. It takes `patience` for the first answer at most, and some
/// 20 s more for the rest where brokers are slow.
///
/// # Errors
/// Nobody answers within `patience`, with what librdkafka says of it.
pub fn look_at_cluster(settings: &KafkaSettings, role: Role, patience: Duration) -> Result<ClusterSeen, ClusterUnseen> {
    let (properties, name) = match role {
        Role::Consumer => (&settings.consumer.properties, "consumer"),
        Role::Producer => (&settings.producer.properties, "producer"),
    };
    let unseen = |reason: String| ClusterUnseen {
        servers: properties.get("bootstrap.servers").unwrap_or_default().to_owned(),
        role: name,
        reason: properties.without_secrets(&reason),
    };
    let clients = Arc::new(Clients::new(looking_config(properties, role), Properties::default()));
    let _tokens = TokenKeeper::start(std::slice::from_ref(&clients)).map_err(|error| unseen(error.to_string()))?;
    let complaints = Complaints::default();
    let reason = |error: KafkaError| {
        let complaint = clients.token_trouble().unwrap_or_else(|| complaints.last());
        unseen(if complaint.is_empty() { error.to_string() } else { complaint })
    };
    match role {
        Role::Consumer => {
            let consumer: Arc<BaseConsumer<Complaints>> = clients.make(complaints.clone(), |_| {}, |_| {}).map_err(reason)?;
            let answer = first_answer(consumer.client(), patience, || while consumer.poll(Duration::ZERO).is_some() {});
            let seen = answer.map(|metadata| described(&consumer, &metadata, &settings.consumer.topics)).map_err(reason);
            close(consumer);
            seen
        }
        Role::Producer => {
            let producer: Arc<BaseProducer<Complaints>> = clients.make(complaints.clone(), |_| {}, |_| {}).map_err(reason)?;
            let answer = first_answer(producer.client(), patience, || producer.poll(POLL_TIME));
            let seen = answer.map(|metadata| ClusterSeen { brokers: metadata.brokers().len(), ..ClusterSeen::default() }).map_err(reason);
            close(producer);
            seen
        }
    }
}

/// `poll` has the client tell its complaints.
fn first_answer(client: &Client<Complaints>, patience: Duration, poll: impl Fn()) -> Result<Metadata, KafkaError> {
    let answer = client.fetch_metadata(None, patience);
    poll();
    match answer {
        // A broker that is fenced says so: no good news.
        Ok(metadata) if metadata.brokers().is_empty() => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable)),
        answer => answer,
    }
}

fn described(consumer: &BaseConsumer<Complaints>, metadata: &Metadata, choice: &TopicChoice) -> ClusterSeen {
    let mut seen = ClusterSeen { brokers: metadata.brokers().len(), ..ClusterSeen::default() };
    for topic in metadata.topics().iter().filter(|topic| choice.wants(topic.name()) && !topic.partitions().is_empty()) {
        let leaderless = topic.partitions().iter().filter(|partition| partition.leader() < 0).count();
        let (name, partitions) = (topic.name().to_owned(), topic.partitions().len());
        seen.topics.push(TopicSeen { name, partitions, leaderless, ..TopicSeen::default() });
    }
    seen.topics.sort_by(|one, other| one.name.cmp(&other.name));
    if let TopicChoice::Listed(listed) = choice {
        seen.absent = listed.iter().filter(|name| !seen.topics.iter().any(|topic| topic.name == **name)).cloned().collect();
    }
    let broker = (metadata.orig_broker_id() >= 0).then_some(metadata.orig_broker_id());
    let asked = seen.topics.len().min(CONFIGS_MAX);
    let began = Instant::now();
    for topics in seen.topics[..asked].chunks_mut(CONFIGS_AT_ONCE_MAX) {
        if began.elapsed() >= CONFIGS_ALL_TIME {
            seen.configs_unknown = Some("its answers take too long to ask for all topics".to_owned());
            break;
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        match raw::topic_configs(consumer.client().native_ptr(), &names, broker, CONFIGS_TIME) {
            Ok(configs) => {
                for topic in topics.iter_mut() {
                    let Some(config) = configs.get(&topic.name) else {
                        seen.configs_unknown = Some("these credentials lack the right DescribeConfigs".to_owned());
                        continue;
                    };
                    (topic.compacted, topic.deleted) = (Some(config.compacted), Some(config.deleted));
                    (topic.retention_ms, topic.retention_bytes) = (config.retention_ms, config.retention_bytes);
                }
            }
            // The next request would wait as long.
            Err(reason) => {
                seen.configs_unknown = Some(reason);
                break;
            }
        }
    }
    read_newest(consumer, &mut seen.topics);
    seen
}

/// The newest record of a few partitions. One that cannot be read is left out.
fn read_newest(consumer: &BaseConsumer<Complaints>, topics: &mut [TopicSeen]) {
    let mut places = TopicPartitionList::new();
    // The first partition of each topic, then the second of each.
    let deepest = topics.iter().map(|topic| topic.partitions).max().unwrap_or(0);
    let all =
        (0..deepest).flat_map(|number| topics.iter().filter(move |topic| number < topic.partitions).map(move |topic| (topic, number)));
    for (topic, number) in all.take(NEWEST_MAX) {
        let _ = places.add_partition_offset(&topic.name, number as i32, Offset::OffsetTail(1));
    }
    if places.count() == 0 || consumer.assign(&places).is_err() {
        return;
    }
    let deadline = Instant::now() + NEWEST_TIME;
    let mut ended = 0;
    while ended < places.count() && Instant::now() < deadline {
        match consumer.poll(POLL_TIME) {
            Some(Ok(message)) => {
                let (time_ms, is_brokers) = match message.timestamp() {
                    Timestamp::CreateTime(time) => (time, false),
                    Timestamp::LogAppendTime(time) => (time, true),
                    Timestamp::NotAvailable => continue,
                };
                let Some(topic) = topics.iter_mut().find(|topic| topic.name == message.topic()) else { continue };
                if topic.newest.is_none_or(|newest| newest.time_ms < time_ms) {
                    topic.newest = Some(NewestRecord { time_ms, is_brokers });
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{ConsumerSettings, CorruptBatches, EmbeddedCluster, ProducerSettings};
    use rdkafka::ClientConfig;
    use rdkafka::producer::BaseRecord;

    fn settings(bootstrap: &str, topics: &[&str]) -> KafkaSettings {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", bootstrap);
        KafkaSettings {
            metadata_interval: Duration::from_secs(1),
            consumer: ConsumerSettings {
                properties: properties.clone(),
                topics: TopicChoice::Listed(topics.iter().map(|name| (*name).to_owned()).collect()),
                consumers_size: None,
                recovery_on_start: false,
                corrupt_batches: CorruptBatches::Stop,
            },
            producer: ProducerSettings { properties, producers_size: 1, null_key_partition: None },
        }
    }

    #[test]
    fn a_cluster_that_answers_says_its_topics_and_when_the_newest_record_was_made() {
        let cluster = EmbeddedCluster::start(1).unwrap();
        cluster.create_topic("vehicles", 3).unwrap();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
        producer
            .send(BaseRecord::<str, str>::to("vehicles").key("1").payload("x").timestamp(1_700_000_000_000))
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
        let settings = settings(cluster.bootstrap(), &["vehicles", "orders"]);
        let seen = look_at_cluster(&settings, Role::Consumer, Duration::from_secs(10)).unwrap();
        assert_eq!((seen.brokers, seen.absent.as_slice()), (1, &["orders".to_owned()][..]));
        let topic = &seen.topics[0];
        assert_eq!((topic.name.as_str(), topic.partitions, topic.leaderless), ("vehicles", 3, 0));
        assert_eq!(topic.newest, Some(NewestRecord { time_ms: 1_700_000_000_000, is_brokers: false }));
        // The embedded cluster has no settings of topics: that is said, not guessed.
        assert!(topic.compacted.is_none() && seen.configs_unknown.is_some(), "{seen:?}");
        assert_eq!(look_at_cluster(&settings, Role::Producer, Duration::from_secs(10)).unwrap().brokers, 1);
    }

    #[test]
    fn a_cluster_that_does_not_answer_is_told_in_time_with_librdkafkas_reason() {
        for role in [Role::Consumer, Role::Producer] {
            let began = Instant::now();
            let unseen = look_at_cluster(&settings("127.0.0.1:1", &["vehicles"]), role, Duration::from_millis(1_500)).unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            assert!(unseen.servers == "127.0.0.1:1" && unseen.reason.contains("refused"), "{unseen:?}");
        }
    }
}
