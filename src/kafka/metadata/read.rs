//! One reading of the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset as KafkaOffset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;

use super::known::{Known, Place};
use super::offsets::REQUEST_TIME;
use super::reader::Reader;
use crate::handoff::{Offset, PartitionRef};
use crate::kafka::lock;
use crate::kafka::raw::{self, Described, Descriptions};
use crate::kafka::settings::TopicChoice;
use crate::shard::Letter;

/// How often the log says that Kafka is unreachable, or that topics may not be read.
pub(super) const SAY_TIME: Duration = Duration::from_secs(10);
/// How long a question to the controller may wait before another broker is asked.
const CONTROLLER_TIME: Duration = Duration::from_secs(1);

/// Why a reading failed.
pub(super) enum ReadError {
    /// Try again; librdkafka may know better why.
    Unreachable(String),
    /// Kafka answers, but the node cannot begin with what it says. Try again.
    NotYet(String),
    /// The node cannot start.
    Fatal(String),
}

impl Reader {
    /// One reading of the cluster; publishes a map if anything changed.
    pub(super) fn read(&mut self) -> Result<(), ReadError> {
        self.look = false;
        let unreachable = |error: KafkaError| ReadError::Unreachable(error.to_string());
        let metadata = self.consumer.fetch_metadata(None, REQUEST_TIME).map_err(unreachable)?;
        self.broker = (metadata.orig_broker_id() >= 0).then_some(metadata.orig_broker_id());
        while self.consumer.poll(Duration::ZERO).is_some() {}
        if metadata.brokers().is_empty() {
            // A broker that is fenced says so: no good news, although librdkafka takes it for such.
            return Err(ReadError::Unreachable("Kafka answers and names no broker".to_owned()));
        }
        let embedded = lock(&self.options).embedded;
        let cluster_id = self.consumer.client().fetch_cluster_id(REQUEST_TIME).unwrap_or_default().replace('.', "-");
        if !cluster_id.is_empty() && cluster_id != self.cluster_id {
            if !self.cluster_id.is_empty() {
                tracing::warn!(before = self.cluster_id, now = cluster_id, "another cluster is at Kafka's address: all is read anew");
                self.producers.renew_all();
            }
            self.cluster_id = cluster_id;
        }
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        let mut publishable = HashMap::new();
        self.leaderless.clear();
        for topic in metadata.topics() {
            let count = topic.partitions().len() as u32;
            if topic.error().is_some() || count == 0 {
                continue;
            }
            if !topic.name().starts_with("__") {
                publishable.insert(Arc::from(topic.name()), count);
            }
            if lock(&self.options).topics.wants(topic.name()) {
                let leaderless = topic.partitions().iter().filter(|partition| partition.leader() < 0);
                self.leaderless.extend(leaderless.map(|partition| (topic.name().to_owned(), partition.id() as u32)));
                found.insert(topic.name().to_owned(), count);
            }
        }
        self.check_listed(&metadata, &found)?;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        let described =
            if embedded || names.is_empty() { HashMap::new() } else { seen(self.describe(&names).map_err(ReadError::Unreachable)?) };
        self.check_readable(&described)?;
        self.ids_seen |= described.values().any(|described| described.id.is_some());

        let mut changed = std::mem::take(&mut self.changed) || self.publishable != publishable;
        let before = std::mem::replace(&mut self.publishable, publishable);
        let reload = self.reload(before);
        if let Some(reload) = &reload {
            changed |= self.take_reload(reload, &found);
        }
        let mut fresh: Vec<(String, u32, Arc<str>)> = Vec::new();
        for (name, count) in &found {
            let described = described.get(name);
            if described.is_some_and(|described| !described.is_readable) && !self.known.contains_key(name) {
                continue;
            }
            let id: Arc<str> = match described.and_then(|described| described.id.as_deref()) {
                Some(id) => Arc::from(id),
                // A cluster that has ids and does not tell one now (a topic that is just being made or deleted): at the next reading.
                None if self.ids_seen => continue,
                None => Arc::from(format!("{}.{name}", self.cluster_id)),
            };
            match self.known.get_mut(name) {
                Some(known) if known.topic.id == id => {
                    known.absences = 0;
                    known.absent_since = None;
                    changed |= self.lose_positions(name);
                    changed |= self.grow(name, *count);
                }
                _ => fresh.push((name.clone(), *count, id)),
            }
        }
        changed |= self.forget_absent(&found);
        if !fresh.is_empty() {
            changed |= self.add(fresh, embedded, reload.as_ref());
        }
        if !embedded {
            self.ask_configs();
        }
        self.forget_settled();
        let leaders = metadata.topics().iter().filter_map(|topic| Some((self.known.get(topic.name())?.index, topic.partitions())));
        let leaders = leaders.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |partition| (PartitionRef { topic, partition: partition.id() as u32 }, partition.leader()))
        });
        self.watch.set_leaders(leaders.collect());
        changed |= self.decide_again();
        self.follow_log_starts();
        let first = !self.read_once;
        self.read_once = true;
        if changed || first || self.version == 0 {
            self.publish();
        }
        self.update_state();
        Ok(())
    }

    /// Asks the broker that has answered. The first answer may have come from an address of bootstrap.servers, before librdkafka knew its number: the
    /// question then goes to the controller, and librdkafka can miss that the connection to it is there, and wait until the time is over. So it is asked
    /// for a moment only, and then again, by number.
    fn describe(&mut self, names: &[&str]) -> Result<Descriptions, String> {
        let client = self.consumer.client().native_ptr();
        if self.broker.is_none() {
            if let Ok(described) = raw::describe_topics(client, names, None, CONTROLLER_TIME) {
                return Ok(described);
            }
            self.broker = raw::answering_broker(client, REQUEST_TIME)?;
        }
        raw::describe_topics(client, names, self.broker, REQUEST_TIME)
    }

    /// Tells shards what Kafka has deleted since the last time, once in an interval: nothing of that is handed out any more.
    fn follow_log_starts(&mut self) {
        let interval = lock(&self.options).metadata_interval;
        if lock(&self.options).embedded || self.log_starts_read.is_some_and(|read| read.elapsed() < interval) {
            return;
        }
        self.log_starts_read = Some(Instant::now());
        let served = |(name, known): (&String, &Known)| {
            let numbers = 0..known.topic.partitions.len() as u32;
            numbers.map(|number| (name.clone(), number)).collect::<Vec<Place>>()
        };
        let places: Vec<Place> = self.known.iter().flat_map(served).filter(|place| !self.leaderless.contains(place)).collect();
        let Some(starts) = self.offsets(places.iter().map(|place| (place, KafkaOffset::Beginning))) else {
            return;
        };
        for ((name, number), found) in starts {
            let (KafkaOffset::Offset(start), Some(known)) = (found.offset, self.known.get_mut(&name)) else {
                continue;
            };
            let Some(partition) = known.topic.partitions.get(number as usize).filter(|partition| partition.generation.0 > 0) else {
                continue;
            };
            // Nothing below the start of the reading is remembered.
            let told = known.log_starts.entry((number, partition.generation)).or_insert(partition.start.0);
            if start > *told {
                *told = start;
                let at = PartitionRef { topic: known.index, partition: number };
                let letter = Letter::LogStart { partition: at, generation: partition.generation, start: Offset(start) };
                let _ = self.shards[partition.owner.index()].post(letter);
            }
            let current = partition.generation;
            known.log_starts.retain(|(other, generation), _| *other != number || *generation == current);
        }
    }

    /// A listed topic that does not exist when metadata is first read is a mistake of the configuration.
    fn check_listed(&self, metadata: &Metadata, found: &BTreeMap<String, u32>) -> Result<(), ReadError> {
        if self.read_once {
            return Ok(());
        }
        let TopicChoice::Listed(listed) = &lock(&self.options).topics else {
            return Ok(());
        };
        let Some(absent) = listed.iter().find(|topic| !found.contains_key(*topic)) else {
            return Ok(());
        };
        // A topic whose leaders are away is there all the same.
        if metadata.topics().iter().any(|topic| topic.name() == absent && topic.error().is_some_and(|error| error as i32 == 5)) {
            return Err(ReadError::NotYet(format!("topic {absent} has no leader")));
        }
        let there: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).filter(|name| !name.starts_with("__")).take(20).collect();
        Err(ReadError::Fatal(format!(
            "kafka.consumer.topics: topic {absent:?} does not exist on this cluster or may not be described with these credentials; there are: {}. Create it, correct the list, or use \"topics.regex\" for topics that appear later",
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        )))
    }

    /// Topics that the consumer's credentials may see but not read. A listed one keeps the node from becoming ready.
    fn check_readable(&mut self, described: &HashMap<String, Described>) -> Result<(), ReadError> {
        let mut unreadable: Vec<&str> =
            described.iter().filter(|(_, described)| !described.is_readable).map(|(name, _)| name.as_str()).collect();
        if unreadable.is_empty() {
            self.said_unreadable = None;
            return Ok(());
        }
        unreadable.sort_unstable();
        let names = unreadable.join(", ");
        if !self.read_once && matches!(&lock(&self.options).topics, TopicChoice::Listed(_)) {
            return Err(ReadError::NotYet(format!(
                "kafka.consumer.topics: {names} may not be read with these credentials; grant the right Read"
            )));
        }
        if self.said_unreadable.is_none_or(|said| said.elapsed() >= SAY_TIME) {
            self.said_unreadable = Some(Instant::now());
            tracing::warn!(
                "topics that may not be read with the credentials of kafka.consumer: {names}; their subscribers get nothing until the right Read is granted"
            );
        }
        Ok(())
    }
}

/// The topics that Kafka could describe.
fn seen(described: Descriptions) -> HashMap<String, Described> {
    described.into_iter().filter_map(|(name, described)| Some((name, described.ok()?))).collect()
}
