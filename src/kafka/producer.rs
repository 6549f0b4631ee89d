//! The producers: idempotent, acks=all, shared by all shards. A subject always uses the same one, so its records keep their order.
//!
//! Shards call `produce`, which never blocks. Kafka's answers come on each producer's own poll thread. One more housekeeping thread mends what a
//! shard must not wait for: metadata that is older than the topic map (a topic that has grown), and a producer that librdkafka has given up for good,
//! or that is stuck: librdkafka can forget all its brokers and wait for ever. So nobody trusts it: while records get no answer, a fresh client is
//! asked, and if that one finds Kafka well for a while and the producer still stores nothing, another takes its place.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};

use super::batches::{BatchLimits, CLASSES, Class, Routes};
use super::clients::{Clients, QuietContext, close};
use super::librdkafka::producer_config;
use super::raw;
use super::settings::KafkaOptions;
use super::troubles;
use crate::handoff::{MailboxSender, Offset, PublishKey, ShardId};
use crate::shard::{Letter, ProduceRecord, ProduceStatus, PublishFailure, PublishResult};

/// Who asked for a record.
pub struct Ticket {
    shard: ShardId,
    publish: PublishKey,
    /// Counts the records of the topic that the shard has on their way.
    open: Option<Arc<AtomicUsize>>,
}

/// Hands Kafka's answers to the shards, on the producer's poll thread. A shard's mailbox has room for all of its open publishes, so this does not
/// wait.
pub struct Deliveries {
    shards: Vec<MailboxSender<Letter>>,
    limits: Arc<BatchLimits>,
    /// Records without an answer. Counts up on the shards' threads, down on the poll thread.
    open: AtomicUsize,
    /// Answers so far that say that something was stored, or refused for good.
    settled: AtomicU64,
    /// Kafka lets this client write to no topic at all. librdkafka says so once, and gives up every record without naming the reason again.
    is_denied: AtomicBool,
}

impl Deliveries {
    fn new(shards: &[MailboxSender<Letter>], limits: Arc<BatchLimits>) -> Deliveries {
        let (open, settled, is_denied) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Deliveries { shards: shards.to_vec(), limits, open, settled, is_denied }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, _facility: &str, message: &str) {
        tracing::debug!(?level, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        troubles::say(reason);
        // Of a producer's id: the end of this client.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::ClusterAuthorizationFailed) {
            self.is_denied.store(true, Ordering::Release);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        if let Err((error, message)) = result
            && failure(error) == PublishFailure::TooLarge
        {
            self.limits.doubt(message.topic());
        }
        let result = match result {
            Ok(message) => PublishResult::Stored { partition: message.partition() as u32, offset: Offset(message.offset()) },
            // Whatever ended it: an earlier try may have been stored.
            Err((_, message)) if raw::is_possibly_persisted(message) => PublishResult::Unknown,
            Err(_) if self.is_denied.load(Ordering::Acquire) => PublishResult::Failed(PublishFailure::Denied),
            Err((error, _)) => match failure(error) {
                // librdkafka marks some as never stored whose leader had appended them before it said "try again": only what never left the
                // bridge, and what Kafka refuses for good, is known not to be there.
                PublishFailure::Unavailable if !is_final(error) => PublishResult::Unknown,
                failure => PublishResult::Failed(failure),
            },
        };
        self.open.fetch_sub(1, Ordering::Relaxed);
        if result != PublishResult::Unknown {
            self.settled.fetch_add(1, Ordering::Relaxed);
        }
        // A shard that has ended has told its clients.
        let _ = self.shards[ticket.shard.index()].post(Letter::Published { publish: ticket.publish, result });
        if let Some(open) = ticket.open {
            open.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Whether nothing was stored for certain, for a reason that has no error code of its own.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation))
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

/// librdkafka's default of `batch.size`, in bytes.
const BATCH_SIZE: u32 = 1_000_000;
/// How long new producers may take to connect before they take the places of others.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// How long a producer that is replaced may take to answer what it has: longer than a client waits for the answer (`limits::PUBLISH_MS`).
const LEAVE_TIME: Duration = Duration::from_secs(5);
/// How long a purge may take to answer what it gave up.
const PURGE_TIME: Duration = Duration::from_millis(500);
/// How long one look at a topic's metadata may take.
const REFRESH_TIME: Duration = Duration::from_secs(2);
/// How long a partition that the map has is waited for: longer than a look takes, shorter than clients wait.
const REFRESH_WAIT: Duration = Duration::from_millis(2_500);
/// How long a look at a topic counts. Bounds the looks that publishes to a wrong place can cause.
const REFRESH_AGE: Duration = Duration::from_secs(5);
/// Repairs that wait. One that finds no room is asked for again by the next publish.
const REPAIRS_MAX: usize = 64;
/// Topics whose last look is remembered.
const REFRESHES_MAX: usize = 1_024;

/// How often the repair thread looks after the producers.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// Without an answer to any of its records for this long, a producer may be stuck: longer than a broker's restart within a healthy cluster.
const STALL_TIME: Duration = Duration::from_secs(5);
/// How long a fresh client may take to find Kafka well.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// How long Kafka is well for others before a stalled producer is replaced: librdkafka comes back by itself within a second or two, if at all.
const WELL_TIME: Duration = Duration::from_secs(3);
/// Least and most time between two replacements of one producer: it may stall for a reason that a new one shares (too few replicas in sync).
const RENEW_PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// What the repair thread does.
enum Repair {
    /// Read the metadata of a topic again.
    Refresh(Arc<str>),
    /// Put a new producer in this place.
    Renew(usize),
    /// Put new producers in all places.
    RenewAll,
    /// Make the producers of a class.
    Make(Class),
}

type Client = ThreadedProducer<Deliveries>;

/// What stands in a place.
struct Standing {
    client: Arc<Client>,
    /// It takes nothing more: another takes its place once everything it has is answered.
    is_leaving: bool,
}

impl Standing {
    fn new(client: Arc<Client>) -> Standing {
        Standing { client, is_leaving: false }
    }
}

/// What shards and the repair thread share.
struct Shared {
    clients: Arc<Clients>,
    shards: Vec<MailboxSender<Letter>>,
    limits: Arc<BatchLimits>,
    /// `producers.size` places for each class. Those of the first class are made at the start, the others when a topic needs them.
    producers: Vec<OnceLock<RwLock<Standing>>>,
    /// How often one was replaced.
    renewed: AtomicU64,
}

impl Shared {
    fn new(clients: Arc<Clients>, shards: &[MailboxSender<Letter>], size: usize) -> Shared {
        let producers = (0..size * CLASSES).map(|_| OnceLock::new()).collect();
        Shared { clients, shards: shards.to_vec(), limits: Arc::default(), producers, renewed: AtomicU64::new(0) }
    }

    /// How many producers a class has.
    fn size(&self) -> usize {
        self.producers.len() / CLASSES
    }

    fn class(&self, place: usize) -> Class {
        Class::from_index(place / self.size())
    }

    fn create(&self, class: Class) -> Result<Arc<Client>, KafkaError> {
        let adjust = |config: &mut ClientConfig| {
            if let Some((name, value)) = class.settings() {
                config.set(name, value);
            }
        };
        self.clients.make(Deliveries::new(&self.shards, self.limits.clone()), adjust, |_| {})
    }

    /// Makes the producers of a class that are not there yet.
    fn make(&self, class: Class) -> Result<(), KafkaError> {
        for place in class.index() * self.size()..(class.index() + 1) * self.size() {
            if self.producers[place].get().is_none() {
                let _ = self.producers[place].set(RwLock::new(Standing::new(self.create(class)?)));
            }
        }
        Ok(())
    }

    /// The producer in a place, if it is made.
    fn producer(&self, place: usize) -> Option<Arc<Client>> {
        Some(self.producers[place].get()?.read().unwrap_or_else(PoisonError::into_inner).client.clone())
    }

    /// All producers that are made.
    fn made(&self) -> impl Iterator<Item = (usize, Arc<Client>)> {
        (0..self.producers.len()).filter_map(|place| Some((place, self.producer(place)?)))
    }
}

/// All producers of the node.
pub struct Producers {
    shared: Arc<Shared>,
    hasher: BuildHasherDefault<DefaultHasher>,
    repairs: Sender<Repair>,
    /// When metadata of a topic was last asked for because a publish did not fit it.
    refreshes: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Producers {
    /// Makes `producers.size` clients (call it under the housekeeping mask). Kafka's answers go to `shards`.
    ///
    /// # Errors
    /// librdkafka's word when it does not take the configuration.
    pub fn new(options: &KafkaOptions, shards: &[MailboxSender<Letter>]) -> Result<Producers, KafkaError> {
        let clients = Clients::new(producer_config(options), options.producer.clone());
        Producers::of(Arc::new(clients), options.producers_size, shards)
    }

    /// The same, of clients that are given other credentials.
    pub(super) fn of(clients: Arc<Clients>, size: u16, shards: &[MailboxSender<Letter>]) -> Result<Producers, KafkaError> {
        let remade = clients.remade();
        let shared = Arc::new(Shared::new(clients, shards, size.max(1) as usize));
        shared.make(Class::WHOLE)?;
        let (repairs, asked) = bounded(REPAIRS_MAX);
        let repaired = shared.clone();
        thread::Builder::new()
            .name("producers".to_owned())
            .spawn(move || repair(&repaired, &asked, remade))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Producers { shared, hasher: BuildHasherDefault::default(), repairs, refreshes: Mutex::default() })
    }

    /// What the topics' own settings say of batches; for the reader.
    pub(super) fn limits(&self) -> &BatchLimits {
        &self.shared.limits
    }

    /// How often a producer was replaced.
    pub fn renewed(&self) -> u64 {
        self.shared.renewed.load(Ordering::Relaxed)
    }

    /// Another cluster is where the old one was. It gives out producer ids from 0 again, and a producer with an id of the old one would be told
    /// "stored" for records that it takes for another producer's.
    pub(super) fn renew_all(&self) {
        // The thread takes orders all the time: full it is for a moment only.
        let _ = self.repairs.send(Repair::RenewAll);
    }

    /// The ways of one more shard's records.
    pub(super) fn routes(&self, embedded: bool) -> Routes {
        let config = self.shared.clients.config();
        let whole = config.get("batch.size").and_then(|size| size.parse().ok()).unwrap_or(BATCH_SIZE);
        let plain = config.get("compression.type").is_none_or(|codec| codec == "none");
        Routes::new(self.shared.limits.clone(), whole, plain, embedded)
    }

    /// Queues a record in batches of the configured size. After `Queued` the shard gets one `Letter::Published`.
    pub fn produce(&self, shard: ShardId, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        self.produce_in(Class::WHOLE, None, shard, publish, record)
    }

    /// Queues a record with the producers of a class; `open` counts it until Kafka has answered.
    pub(super) fn produce_in(
        &self,
        class: Class,
        open: Option<&Arc<AtomicUsize>>,
        shard: ShardId,
        publish: PublishKey,
        record: &ProduceRecord,
    ) -> ProduceStatus {
        let size = self.shared.size();
        let place = class.index() * size + self.hasher.hash_one((&record.topic, &record.key)) as usize % size;
        let Some(producer) = self.shared.producers[place].get() else {
            // Made under the housekeeping mask. Asked for again at the next tick, if there is no room for the order.
            let _ = self.repairs.try_send(Repair::Make(class));
            return ProduceStatus::Full;
        };
        let ticket = Box::new(Ticket { shard, publish, open: open.cloned() });
        let mut message = BaseRecord::<'_, [u8], [u8], Box<Ticket>>::with_opaque_to(&record.topic, ticket);
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
        let standing = producer.read().unwrap_or_else(PoisonError::into_inner);
        if standing.is_leaving {
            // Tried again at the next tick, when there is a new producer.
            return ProduceStatus::Full;
        }
        let producer = &standing.client;
        // Before the poll thread can count it down.
        let counts = [Some(&producer.context().open), open.map(|open| &**open)];
        counts.into_iter().flatten().for_each(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let sent = producer.send(message);
        let Err((error, _)) = sent else {
            return ProduceStatus::Queued;
        };
        counts.into_iter().flatten().for_each(|count| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
        let is_denied = producer.context().is_denied.load(Ordering::Acquire);
        drop(standing);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => ProduceStatus::Full,
            Some(RDKafkaErrorCode::Fatal) => {
                let _ = self.repairs.try_send(Repair::Renew(place));
                if is_denied {
                    ProduceStatus::Refused(PublishFailure::Denied)
                } else {
                    // Tried again at the next tick, when there is a new producer.
                    ProduceStatus::Full
                }
            }
            // The shard knows from its map, or from a look-up, that there is such a partition; this producer's metadata may be older.
            Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic) if self.may_appear(&record.topic) => {
                ProduceStatus::Full
            }
            _ => {
                let failure = failure(&error);
                if failure == PublishFailure::Denied {
                    // librdkafka keeps denying until it reads metadata again.
                    self.may_appear(&record.topic);
                }
                ProduceStatus::Refused(failure)
            }
        }
    }

    /// The metadata of a topic, as those see it that can publish. Waits: for housekeeping threads.
    pub(super) fn metadata(&self, topic: &str, patience: Duration) -> Result<Metadata, KafkaError> {
        let producer = self.shared.producer(0).expect("the first class is made at the start");
        producer.client().fetch_metadata(Some(topic), patience)
    }

    /// Whether what a publish did not find may be there after another look, which this asks for.
    fn may_appear(&self, topic: &Arc<str>) -> bool {
        let mut refreshes = self.refreshes.lock().unwrap_or_else(PoisonError::into_inner);
        let age = refreshes.get(topic).map(Instant::elapsed);
        if age.is_some_and(|age| age < REFRESH_AGE) {
            return age.is_some_and(|age| age < REFRESH_WAIT);
        }
        if refreshes.len() >= REFRESHES_MAX {
            refreshes.retain(|_, asked| asked.elapsed() < REFRESH_AGE);
        }
        if refreshes.len() < REFRESHES_MAX && self.repairs.try_send(Repair::Refresh(topic.clone())).is_ok() {
            refreshes.insert(topic.clone(), Instant::now());
        }
        true
    }

    /// Waits until Kafka has answered everything, `patience` at most; what is left then is given up and answered too.
    pub fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for (_, producer) in self.shared.made() {
            if producer.flush(deadline.saturating_duration_since(Instant::now())).is_err() {
                producer.purge(PurgeConfig::default().queue().inflight());
                let _ = producer.flush(PURGE_TIME);
            }
        }
    }
}

/// The repair thread: until the last `Producers` is gone.
fn repair(shared: &Shared, asked: &Receiver<Repair>, mut remade: u64) {
    let mut renewed: HashMap<usize, Instant> = HashMap::new();
    let mut watches: HashMap<usize, Watch> = HashMap::new();
    let mut look_at = Instant::now() + LOOK_TIME;
    loop {
        match asked.recv_deadline(look_at) {
            Ok(Repair::Refresh(topic)) => {
                for (_, producer) in shared.made() {
                    if let Err(error) = producer.client().fetch_metadata(Some(&topic), REFRESH_TIME) {
                        tracing::debug!(%topic, %error, "metadata for a publish");
                    }
                }
            }
            Ok(Repair::Renew(place)) => {
                // Several publishes may have found the same dead producer.
                let Some((producer, (code, reason))) =
                    shared.producer(place).and_then(|producer| Some((producer.clone(), producer.client().fatal_error()?)))
                else {
                    continue;
                };
                // A right that is missing will be missing for a while: every publish until then would cost a new client.
                let is_denied = producer.context().is_denied.load(Ordering::Acquire);
                drop(producer);
                if is_denied && renewed.get(&place).is_some_and(|renewed| renewed.elapsed() < REFRESH_AGE) {
                    continue;
                }
                renewed.insert(place, Instant::now());
                tracing::error!(%code, reason, "a producer cannot go on, another takes its place; records on their way are answered as unknown");
                shared.renew(place);
            }
            Ok(Repair::RenewAll) => shared.made().for_each(|(place, _)| shared.renew(place)),
            Ok(Repair::Make(class)) => {
                if let Err(error) = shared.make(class) {
                    tracing::error!(%error, "a producer for topics with a small max.message.bytes cannot be made");
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if remade != shared.clients.remade() {
                    remade = shared.clients.remade();
                    tracing::info!("other producers take the places of all, for certificates or keys have changed");
                    shared.replace_all();
                }
                for (place, producer) in shared.made() {
                    let watch = watches.entry(place).or_insert_with(Watch::new);
                    if watch.is_stuck(&producer, &shared.clients) {
                        tracing::warn!(
                            "a producer has stored nothing for {:?} although Kafka serves others: another takes its place; records on their way are answered as unknown",
                            watch.settled_at.elapsed()
                        );
                        shared.renew(place);
                        watch.renewed();
                    }
                }
                look_at = Instant::now() + LOOK_TIME;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Shared {
    /// Puts new producers in all places, each once everything that the one before has is answered: nothing overtakes it, and nothing is given up but
    /// what has had no answer for [`LEAVE_TIME`], of which clients have been told that nobody knows. The new ones connect before.
    fn replace_all(&self) {
        let mut coming = Vec::new();
        for (place, _) in self.made() {
            match self.create(self.class(place)) {
                Ok(producer) => coming.push((place, producer)),
                Err(error) => tracing::error!(%error, "another producer cannot be made: the one before stays"),
            }
        }
        let deadline = Instant::now() + CONNECT_TIME;
        for (_, producer) in &coming {
            if let Err(error) = producer.client().fetch_metadata(None, deadline.saturating_duration_since(Instant::now())) {
                tracing::warn!(%error, "Kafka does not answer a producer with the certificates and keys that have changed");
            }
        }
        for (place, _) in &coming {
            if let Some(standing) = self.producers[*place].get() {
                standing.write().unwrap_or_else(PoisonError::into_inner).is_leaving = true;
            }
        }
        let deadline = Instant::now() + LEAVE_TIME;
        for (place, producer) in coming {
            if let Some(leaving) = self.producer(place)
                && leaving.flush(deadline.saturating_duration_since(Instant::now())).is_err()
            {
                tracing::debug!("a producer leaves with records that have had no answer");
            }
            self.put(place, producer);
        }
    }

    /// Puts a new producer in the place of another, whose open records are answered here.
    fn renew(&self, place: usize) {
        match self.create(self.class(place)) {
            Ok(producer) => self.put(place, producer),
            Err(error) => tracing::error!(%error, "another producer cannot be made"),
        }
    }

    fn put(&self, place: usize, producer: Arc<Client>) {
        let Some(current) = self.producers[place].get() else { return };
        self.renewed.fetch_add(1, Ordering::Relaxed);
        let old = std::mem::replace(&mut *current.write().unwrap_or_else(PoisonError::into_inner), Standing::new(producer)).client;
        old.purge(PurgeConfig::default().queue().inflight());
        let _ = old.flush(PURGE_TIME);
        // Closing can take long, or hang.
        close(old);
    }
}

/// What the repair thread has seen of one producer.
struct Watch {
    /// Answers until now, and since when there was no other, or nothing to answer.
    settled: u64,
    settled_at: Instant,
    /// Since when a fresh client finds Kafka well while this one stalls.
    well_since: Option<Instant>,
    renewed_at: Option<Instant>,
    pause: Duration,
}

impl Watch {
    fn new() -> Watch {
        Watch { settled: 0, settled_at: Instant::now(), well_since: None, renewed_at: None, pause: RENEW_PAUSES.0 }
    }

    /// Looks at the producer once more.
    fn is_stuck(&mut self, producer: &ThreadedProducer<Deliveries>, clients: &Clients) -> bool {
        let Deliveries { open, settled, .. } = &**producer.context();
        let settled = settled.load(Ordering::Relaxed);
        if settled != self.settled || open.load(Ordering::Relaxed) == 0 {
            if settled > self.settled {
                self.pause = RENEW_PAUSES.0;
            }
            (self.settled, self.settled_at, self.well_since) = (settled, Instant::now(), None);
            return false;
        }
        if self.settled_at.elapsed() < STALL_TIME {
            return false;
        }
        if !is_well(clients) {
            self.well_since = None;
            return false;
        }
        let well = self.well_since.get_or_insert_with(Instant::now).elapsed();
        well >= WELL_TIME && self.renewed_at.is_none_or(|renewed| renewed.elapsed() >= self.pause)
    }

    fn renewed(&mut self) {
        let pause = if self.renewed_at.is_some() { (self.pause * 2).min(RENEW_PAUSES.1) } else { self.pause };
        *self = Watch { renewed_at: Some(Instant::now()), pause, ..Watch::new() };
    }
}

/// Whether a client that is made now reaches Kafka.
fn is_well(clients: &Clients) -> bool {
    let probe = clients.make(QuietContext, |_| {}, |_: &mut BaseProducer<QuietContext>| {});
    probe.is_ok_and(|probe| {
        probe
            .client()
            .fetch_metadata(None, PROBE_TIME)
            .is_ok_and(|metadata| !metadata.brokers().is_empty() && !metadata.topics().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::{Wake, mailbox};
    use crate::kafka::EmbeddedCluster;
    use slotmap::SlotMap;

    #[test]
    fn producers_that_leave_for_other_certificates_give_nothing_up() {
        let cluster = EmbeddedCluster::start(1).unwrap();
        cluster.create_topic("vehicles", 1).unwrap();
        let (letters, answers) = mailbox(4096, Arc::new(Wake::new()));
        let options = KafkaOptions::for_tests(cluster.bootstrap());
        let clients = Arc::new(Clients::new(producer_config(&options), options.producer.clone()));
        let producers = Producers::of(clients.clone(), 1, &[letters]).unwrap();
        let record = ProduceRecord { topic: Arc::from("vehicles"), partition: Some(0), key: None, value: None, headers: Vec::new() };
        let mut keys: SlotMap<PublishKey, ()> = SlotMap::with_key();
        let mut newer = options.producer.clone();
        // Read by nobody on a plain connection.
        newer.set("ssl.key.password", "another");
        clients.take(&newer);
        clients.take(&newer);
        assert_eq!((clients.remade(), clients.config().get("ssl.key.password")), (1, Some("another")));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut sent: Vec<PublishKey> = Vec::new();
        let mut stored: HashMap<PublishKey, i64> = HashMap::new();
        let mut after = 0;
        while after < 100 || stored.len() < sent.len() {
            assert!(Instant::now() < deadline, "renewed: {}, stored: {} of {}", producers.renewed(), stored.len(), sent.len());
            if after < 100 {
                let publish = keys.insert(());
                match producers.produce(ShardId(0), publish, &record) {
                    ProduceStatus::Queued => sent.push(publish),
                    ProduceStatus::Full => {}
                    ProduceStatus::Refused(failure) => panic!("{failure:?}"),
                }
                after += producers.renewed();
                // A few are on their way at any time.
                thread::sleep(Duration::from_micros(100));
            }
            while let Some(letter) = answers.try_receive() {
                let Letter::Published { publish, result: PublishResult::Stored { offset, .. } } = letter else { panic!("it is stored") };
                stored.insert(publish, offset.0);
            }
        }
        let offsets: Vec<i64> = sent.iter().map(|publish| stored[publish]).collect();
        assert_eq!(offsets, (0..sent.len() as i64).collect::<Vec<_>>(), "each once, one behind the other");
    }

    #[test]
    fn a_producer_that_cannot_go_on_is_replaced_and_everything_is_answered() {
        let cluster = EmbeddedCluster::start(1).unwrap();
        cluster.create_topic("vehicles", 1).unwrap();
        let (letters, answers) = mailbox(64, Arc::new(Wake::new()));
        let producers = Producers::new(&KafkaOptions::for_tests(cluster.bootstrap()), &[letters]).unwrap();
        let record = ProduceRecord { topic: Arc::from("vehicles"), partition: Some(0), key: None, value: None, headers: Vec::new() };
        let mut keys: SlotMap<PublishKey, ()> = SlotMap::with_key();
        let await_answer = || {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                if let Some(Letter::Published { publish, result }) = answers.try_receive() {
                    return (publish, result);
                }
                assert!(Instant::now() < deadline, "no answer");
                thread::sleep(Duration::from_millis(1));
            }
        };
        let first = keys.insert(());
        assert_eq!(producers.produce(ShardId(0), first, &record), ProduceStatus::Queued);
        assert_eq!(await_answer(), (first, PublishResult::Stored { partition: 0, offset: Offset(0) }));
        raw::fail_for_good(producers.shared.producer(0).expect("it is made").client().native_ptr());
        let second = keys.insert(());
        let deadline = Instant::now() + Duration::from_secs(10);
        while producers.produce(ShardId(0), second, &record) != ProduceStatus::Queued {
            assert!(Instant::now() < deadline, "no new producer");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(await_answer(), (second, PublishResult::Stored { partition: 0, offset: Offset(1) }));
        assert_eq!(producers.renewed(), 1);
    }
}
