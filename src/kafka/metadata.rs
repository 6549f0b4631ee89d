//! The one metadata reader: asks Kafka for topics on a timer and publishes versions of the topic map.
//!
//! Three housekeeping threads: the reader makes maps, has them acknowledged by every shard, and then says that they are active; the second answers
//! questions (log ends, settings of topics), the third looks up topics outside the map, so that a slow broker delays no map. Rules: a start is always a number; a topic with
//! another id, a truncation or an offset out of range opens a new generation; an index is never used for another name. Whatever a shard finds that
//! the map does not explain (a record where no rule puts it, a position that is not in its log) makes the next reading come at once, for only the
//! cluster itself can tell a truncated log from a topic that was made again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, ClientContext, Offset as KafkaOffset, TopicPartitionList};

use super::consumer::{LogEnd, Progress, QuietContext};
use super::detect::{Sample, read_newest};
use super::librdkafka::{lookup_config, reader_config};
use super::lock;
use super::producer::Producers;
use super::raw::{self, Described, Descriptions, TopicConfig};
use super::settings::{KafkaOptions, TopicChoice};
use super::troubles;
use super::watch::{PartitionStanding, Watch, Watched};
use crate::handoff::{Generation, LogEndQuestion, MailboxSender, Offset, PartitionRef, ShardId, TopicIndex};
use crate::shard::{Letter, PublishFailure};
use crate::subject::{Partition, Partitioner, PartitionerChoice, Topic, TopicMap};

/// One request to Kafka.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// One question of a shard: its client waits for 4 s at most (`limits::HOLD_MS`), and another broker's turn may come before.
const QUESTION_TIME: Duration = Duration::from_secs(1);
/// How long the settings of topics are waited for. The broker that is asked has answered a moment ago.
const CONFIG_TIME: Duration = Duration::from_secs(1);
/// From one request for topics of publishes to the next: four a second, so that what clients ask for is no load to Kafka.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(250);
/// How long such a request may take.
const LOOKUP_TIME: Duration = Duration::from_secs(2);
/// Names of one such request; some 30 KiB with names as people give them.
const LOOKUPS_AT_ONCE_MAX: usize = 500;
/// Names that wait. What waits is asked for within a second; beyond it the answer is "not now".
const LOOKUPS_MAX: usize = 1_000;
/// How long such an answer counts: a publish to a topic that is being made is not told for long that there is none.
const LOOKUP_AGE: Duration = Duration::from_secs(1);
/// Answers that are kept; all of one second fit.
const LOOKUPS_KEPT_MAX: usize = 4_096;
/// How long questions are answered with "not known" after one that had no answer.
const QUESTION_PAUSE: Duration = Duration::from_secs(1);
/// One partition's ends, when they could not be had together.
const ALONE_TIME: Duration = Duration::from_millis(500);
/// How often an unreachable Kafka is tried again.
const RETRY_TIME: Duration = Duration::from_millis(500);
/// While Kafka is unreachable, how often the client is made anew: it may be the client.
const RENEW_TIME: Duration = Duration::from_secs(5);
/// How often the log says that Kafka is unreachable, or that topics may not be read.
const SAY_TIME: Duration = Duration::from_secs(10);
/// How long Kafka may be unreachable before a node that was ready is not any more: longer than it takes another broker to answer in its place.
const LOST_TIME: Duration = Duration::from_secs(10);
/// How often the answering client's events are thrown away while nobody asks: nothing else empties its queue.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// How long the newest records are read to guess partitioners.
const DETECT_TIME: Duration = Duration::from_secs(4);
/// Words of shards that wait for the reader: a few for each partition and map at most.
const WORDS_MAX: usize = 65_536;
/// Words that are taken together.
const WORDS_AT_ONCE_MAX: usize = 4_096;
/// Questions of shards that wait. A shard has one open per partition or topic name; beyond this they are answered "not known".
const QUESTIONS_MAX: usize = 4_096;
/// How often a topic's newest records are asked for before its rule is decided without: they may have been deleted.
const MISFIT_TRIES_MAX: u32 = 5;
/// How long a rule that was looked at and kept is not looked at again: each look reads many records, and holds up the reader.
const KEPT_TIME: Duration = Duration::from_secs(10);
/// Topics whose settings are asked for in one request: Kafka answers with all of them, some 5 KiB for each topic.
const CONFIGS_AT_ONCE_MAX: usize = 100;
/// Such requests for topics that are new, between two readings.
const NEW_CONFIGS_MAX: usize = 10;
/// A topic is gone when this many readings in a row lack it: metadata of a cluster in trouble can be incomplete.
const ABSENCES_MAX: u32 = 2;

/// What shards tell the reader.
#[derive(Debug)]
pub(super) enum Word {
    Acknowledged {
        shard: ShardId,
        version: u64,
    },
    Ready {
        partition: PartitionRef,
        generation: Generation,
    },
    /// `version`: the map that the shard routed by.
    Misfit {
        topic: TopicIndex,
        version: u64,
    },
    OutOfRange {
        partition: PartitionRef,
        generation: Generation,
        position: Offset,
    },
    /// A consumer met a topic or a partition that is not there.
    Look,
    /// A partition is not read any further, for the batch at this offset is corrupt; or it is read again.
    Held {
        partition: PartitionRef,
        generation: Generation,
        base: Option<Offset>,
    },
    /// The partition's log goes on and its consumer does not read it; or it does again.
    Stuck {
        partition: PartitionRef,
        generation: Generation,
        is_stuck: bool,
    },
    /// What Kafka says of the settings of topics that were asked about; nothing of those that it does not let us see.
    Configs {
        asked: Vec<String>,
        found: HashMap<String, TopicConfig>,
    },
    Stop,
}

/// What is asked of the second thread.
#[derive(Debug)]
enum Question {
    LogEnd {
        shard: ShardId,
        topic: Arc<str>,
        question: LogEndQuestion,
    },
    /// The reader's own: settings of topics. Asked there, so that it waits for no answer.
    Configs {
        names: Vec<String>,
        broker: Option<i32>,
    },
    Stop,
}

/// Where the node stands with Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Kafka has not been read yet; with librdkafka's reason once there is one.
    Connecting {
        reason: String,
    },
    /// The map is there; so many of its partitions have been read up to where they stood.
    Loading {
        ready: usize,
        partitions: usize,
    },
    Ready,
    /// The node cannot start: a line for the user.
    Failed {
        reason: String,
    },
}

/// What has happened to the consumers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub batches_skipped: u64,
    pub partitions_stuck: u64,
    pub consumers_renewed: u64,
}

/// The shards' and the lifecycle's line to the reader. Cheap to clone.
#[derive(Clone)]
pub struct MetadataHandle {
    words: Sender<Word>,
    questions: Sender<Question>,
    lookups: Sender<Lookup>,
    state: Arc<Mutex<NodeState>>,
    held: Arc<Mutex<Vec<String>>>,
    stuck: Arc<Mutex<Vec<String>>>,
    counts: Arc<Mutex<Counts>>,
    watch: Arc<Watch>,
    /// The watch ends with the last handle.
    _watching: Sender<()>,
    live_only: Arc<Mutex<Vec<String>>>,
}

impl MetadataHandle {
    /// Where the node stands.
    pub fn state(&self) -> NodeState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions that stand still before a corrupt batch, each in one line.
    pub fn held_partitions(&self) -> Vec<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions whose log goes on and that are not read, each in one line.
    pub fn stuck_partitions(&self) -> Vec<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions whose log was not read to where it ended ten seconds ago, each in one line.
    pub fn stale_partitions(&self) -> Vec<String> {
        self.watch.stale()
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Counts something that is rare.
    pub(super) fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut lock(&self.counts));
    }

    /// How every partition that is read stands.
    pub fn standings(&self) -> Vec<PartitionStanding> {
        self.watch.standings()
    }

    /// Topics whose subjects are live only because no partitioner explains where their records are, by name.
    pub fn live_only_topics(&self) -> Vec<String> {
        self.live_only.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the threads that hold each other's lines; the others end with the last handle.
    pub fn stop(&self) {
        let _ = self.words.try_send(Word::Stop);
        let _ = self.questions.try_send(Question::Stop);
    }

    /// Where words for the reader go.
    pub(super) fn words(&self) -> Sender<Word> {
        self.words.clone()
    }

    /// Asks for a reading soon. One that finds no room is not needed: the reader has enough to look at.
    pub(super) fn look(&self) {
        let _ = self.words.try_send(Word::Look);
    }

    /// `false`: there is no room, the answer is "not known".
    pub(super) fn ask_log_end(&self, shard: ShardId, topic: Arc<str>, question: LogEndQuestion) -> bool {
        self.questions.try_send(Question::LogEnd { shard, topic, question }).is_ok()
    }

    /// `false`: there is no room, the answer is "not now".
    pub(super) fn ask_topic(&self, shard: ShardId, topic: &str) -> bool {
        self.lookups.try_send(Lookup { shard, topic: topic.to_owned() }).is_ok()
    }
}

/// Remembers librdkafka's last complaint, for the line that tells the user.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<String>>);

impl Complaints {
    fn note(&self, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut last);
    }

    fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, "librdkafka: {message}");
        if facility == "FAIL" || facility == "ERROR" {
            self.note(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        troubles::say(reason);
        // "All brokers down" says less than what came before it, and a group is never joined: no right on one is needed.
        let idle = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::GroupAuthorizationFailed];
        if error.rdkafka_error_code().is_none_or(|code| !idle.contains(&code)) {
            self.note(reason);
        }
    }
}

impl ConsumerContext for Complaints {}

/// Starts the reader. Call it under the housekeeping mask. `producers`: whose eyes see the topics that can be published to.
///
/// # Errors
/// librdkafka's word when it does not take the configuration.
pub fn spawn(
    options: Arc<Mutex<KafkaOptions>>,
    shards: Vec<MailboxSender<Letter>>,
    watchers: Vec<Sender<Vec<LogEnd>>>,
    progress: Vec<Receiver<Vec<Progress>>>,
    producers: Arc<Producers>,
) -> Result<MetadataHandle, KafkaError> {
    let config = reader_config(&lock(&options));
    let complaints = Complaints::default();
    let reader: BaseConsumer<Complaints> = config.create_with_context(complaints.clone())?;
    let answerer: BaseConsumer<QuietContext> = config.create_with_context(QuietContext)?;
    let (words, inbox) = bounded(WORDS_MAX);
    let (questions, asked) = bounded(QUESTIONS_MAX);
    let (lookups, looked_up) = bounded(LOOKUPS_MAX);
    let held = Arc::new(Mutex::new(Vec::new()));
    let stuck = Arc::new(Mutex::new(Vec::new()));
    let watch: Arc<Watch> = Arc::default();
    let (watching, unwatched) = bounded(0);
    let live_only = Arc::new(Mutex::new(Vec::new()));
    // Each lock is given back before the next is taken: together in one statement they would wait for each other.
    let lookup_config = lookup_config(&lock(&options));
    let embedded = lock(&options).embedded;
    let names = Lookups {
        client: lookup_config.create_with_context(QuietContext)?,
        embedded: embedded.then_some(producers.clone()),
        answers: HashMap::new(),
        asked_at: None,
        unanswered: None,
    };
    let state = Arc::new(Mutex::new(NodeState::Connecting { reason: String::new() }));
    let handle = MetadataHandle {
        words: words.clone(),
        questions: questions.clone(),
        lookups,
        state: state.clone(),
        held: held.clone(),
        stuck: stuck.clone(),
        counts: Arc::default(),
        watch: watch.clone(),
        _watching: watching,
        live_only: live_only.clone(),
    };
    let failed = |error: std::io::Error| KafkaError::ClientCreation(error.to_string());
    let (answers, leaders) = (shards.clone(), watch.clone());
    thread::Builder::new()
        .name("kafka-answers".to_owned())
        .spawn(move || answer_questions(&answerer, &asked, &leaders, &answers, &words))
        .map_err(failed)?;
    let (watch_config, seen) = (config.clone(), watch.clone());
    thread::Builder::new()
        .name("kafka-watch".to_owned())
        .spawn(move || seen.run(&watch_config, &watchers, &progress, &unwatched))
        .map_err(failed)?;
    let found = shards.clone();
    thread::Builder::new().name("kafka-topics".to_owned()).spawn(move || names.run(&looked_up, &found)).map_err(failed)?;
    thread::Builder::new()
        .name("metadata".to_owned())
        .spawn(move || {
            Reader::new(options, config, reader, complaints, shards, state, held, stuck, watch, live_only, questions, producers).run(&inbox)
        })
        .map_err(failed)?;
    Ok(handle)
}

fn answer_questions(
    consumer: &BaseConsumer<QuietContext>,
    asked: &Receiver<Question>,
    watch: &Watch,
    shards: &[MailboxSender<Letter>],
    words: &Sender<Word>,
) {
    // While a broker does not answer, one question in a while waits for it, and the others to it are answered at once: their clients wait too.
    let mut silent: HashMap<Option<i32>, Instant> = HashMap::new();
    loop {
        let question = match asked.recv_timeout(IDLE_TIME) {
            Ok(question) => question,
            Err(RecvTimeoutError::Timeout) => {
                while consumer.poll(Duration::ZERO).is_some() {}
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (shard, topic, question) = match question {
            Question::LogEnd { shard, topic, question } => (shard, topic, question),
            Question::Configs { names, broker } => {
                if let Some(found) = configs(consumer.client().native_ptr(), &names, broker) {
                    // The reader asks again, so there is nothing to say if it has no room.
                    let _ = words.try_send(Word::Configs { asked: names, found });
                }
                continue;
            }
            Question::Stop => return,
        };
        let leader = watch.leader(question.partition);
        let hopeless = leader.is_some_and(|leader| leader < 0) || silent.get(&leader).is_some_and(|since| since.elapsed() < QUESTION_PAUSE);
        let number = question.partition.partition as i32;
        let ask = || consumer.fetch_watermarks(&topic, number, QUESTION_TIME).ok();
        // librdkafka asks a broker that has been away by its old leader epoch, is refused, and does so again: only new metadata helps.
        let look = || consumer.fetch_metadata(None, QUESTION_TIME).ok();
        let end = if hopeless { None } else { ask().or_else(|| look().and_then(|_| ask())) };
        if end.is_some() {
            silent.remove(&leader);
        } else if !hopeless {
            silent.insert(leader, Instant::now());
        }
        // A shard that has ended needs no answer.
        let _ = shards[shard.index()].post(Letter::LogEnd { question, end: end.map(|(_, high)| Offset(high)) });
    }
}

/// The settings of topics; `None` if Kafka does not answer in time.
fn configs<S: AsRef<str>>(
    client: *mut rdkafka::bindings::rd_kafka_t,
    names: &[S],
    broker: Option<i32>,
) -> Option<HashMap<String, TopicConfig>> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    raw::topic_configs(client, &names, broker, CONFIG_TIME).inspect_err(|error| tracing::debug!(error, "settings of topics")).ok()
}

/// A shard asks for a topic that its map does not have.
struct Lookup {
    shard: ShardId,
    topic: String,
}

/// Whether topics can be published to, and to how many partitions.
type LookedUp = Result<u32, PublishFailure>;

/// The thread that looks up topics for publishes. Clients choose the names, so a name must cost little and leave nothing behind: many are asked
/// with one request, there are few requests a second, and the client that asks keeps no name in its tables (a producer would ask for each again,
/// with every metadata request, as long as it lives).
struct Lookups {
    client: BaseProducer<QuietContext>,
    /// The embedded cluster cannot describe topics: its producers are asked.
    embedded: Option<Arc<Producers>>,
    /// Answers from a moment ago.
    answers: HashMap<String, (Instant, LookedUp)>,
    asked_at: Option<Instant>,
    unanswered: Option<Instant>,
}

impl Lookups {
    fn run(mut self, asked: &Receiver<Lookup>, shards: &[MailboxSender<Letter>]) {
        loop {
            let first = match asked.recv_timeout(IDLE_TIME) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.client.poll(Duration::ZERO);
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
        self.client.poll(Duration::ZERO);
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

    fn describe(&self, names: &[String]) -> Result<Vec<(String, LookedUp)>, KafkaError> {
        use rdkafka::bindings::rd_kafka_resp_err_t as Code;
        let failed = |_| KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let client = self.client.client().native_ptr();
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

/// The topics that Kafka could describe.
fn seen(described: Descriptions) -> HashMap<String, Described> {
    described.into_iter().filter_map(|(name, described)| Some((name, described.ok()?))).collect()
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

/// What is known of a topic, between two readings.
struct Known {
    index: TopicIndex,
    topic: Arc<Topic>,
    /// Readings in a row that lack it, and when the first of them was.
    absences: u32,
    absent_since: Option<Instant>,
    /// Where partitions start that Kafka could not be asked about yet. They are in the map with generation 0, so that every key has its home, but
    /// nobody reads them.
    waiting: HashMap<u32, StartAt>,
    /// The first map with the partitioner as it is.
    rule_since: u64,
    /// Rules that the newest records have contradicted: never guessed again.
    refuted: Vec<Partitioner>,
    /// Where each partition's log begins, as its shard was told; by partition and generation.
    log_starts: HashMap<(u32, Generation), i64>,
}

/// Where a partition starts, before Kafka has said which number that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartAt {
    Beginning,
    /// The last stable offset.
    End,
    /// The first record that is not older; milliseconds since the Unix epoch.
    Time(i64),
    /// This offset, or the nearest that the log has.
    Position(i64),
}

/// A partition by the name of its topic.
type Place = (String, u32);

/// A partition's start as a number, and where its log begins and ends.
#[derive(Clone, Copy, Debug)]
struct Resolved {
    low: i64,
    start: i64,
    end: i64,
    /// Leader epoch of the end; -1 if unknown.
    leader_epoch: i32,
}

/// An offset as Kafka gave it, with its leader epoch (-1 if unknown).
#[derive(Clone, Copy, Debug)]
struct Found {
    offset: KafkaOffset,
    leader_epoch: i32,
}

/// A guessed rule that too many records contradict.
#[derive(Clone, Copy, Debug, Default)]
struct Misfit {
    /// The map that the shard routed by.
    version: u64,
    /// How often the topic's newest records could not be had.
    tries: u32,
}

struct Reader {
    options: Arc<Mutex<KafkaOptions>>,
    config: ClientConfig,
    consumer: BaseConsumer<Complaints>,
    complaints: Complaints,
    shards: Vec<MailboxSender<Letter>>,
    state: Arc<Mutex<NodeState>>,
    known: BTreeMap<String, Known>,
    index_next: u32,
    /// Every name keeps its index, also while the topic is away, and the generations it had.
    indexes: HashMap<String, (TopicIndex, Generation)>,
    /// The last id of every name, also while the topic is away.
    ids: HashMap<String, Arc<str>>,
    publishable: HashMap<Arc<str>, u32>,
    version: u64,
    acknowledged: HashSet<ShardId>,
    active: u64,
    ready: HashSet<(PartitionRef, Generation)>,
    cluster_id: String,
    ids_seen: bool,
    read_once: bool,
    said: Option<Instant>,
    /// Since when Kafka has not been reached.
    lost: Option<Instant>,
    /// When the log said last that topics may not be read.
    said_unreadable: Option<Instant>,
    /// When the last reading ended.
    read_at: Option<Instant>,
    /// A consumer met something that is not there: the next reading comes soon.
    look: bool,
    /// Topics with too many records that are not where their guessed rule puts them.
    misfits: HashMap<TopicIndex, Misfit>,
    /// When the rules of such topics were looked at last and kept.
    kept: HashMap<TopicIndex, Instant>,
    /// Positions that are not in their log.
    out_of_range: Vec<(PartitionRef, Generation, Offset)>,
    /// Partitions that stand before a corrupt batch, and its offset; and the same as text, for others.
    held: HashMap<PartitionRef, (Generation, Offset)>,
    held_lines: Arc<Mutex<Vec<String>>>,
    /// Partitions whose log goes on and that are not read; and the same as text, for others.
    stuck: HashMap<PartitionRef, Generation>,
    stuck_lines: Arc<Mutex<Vec<String>>>,
    /// It looks after what is read.
    watch: Arc<Watch>,
    /// When the client was made, if it is not the first.
    renewed: Option<Instant>,
    /// Names of topics with a guessed partitioner that have none, for others.
    live_only: Arc<Mutex<Vec<String>>>,
    questions: Sender<Question>,
    /// The broker that has answered the last metadata request.
    broker: Option<i32>,
    /// A word has changed a topic since the last map.
    changed: bool,
    /// When the starts of the logs were asked for last.
    log_starts_read: Option<Instant>,
    /// When topics' settings were asked for again last, and of which topic last.
    configs_asked: Option<Instant>,
    configs_cursor: String,
    /// Topics whose settings Kafka has told, or does not let us see.
    configs_known: HashSet<String>,
    producers: Arc<Producers>,
    /// Partitions that had no leader at the last reading: asking about them would only cost time.
    leaderless: HashSet<Place>,
    /// The node has been ready. It stays so while a new map is under way, or every node of a cluster would leave the load balancer at once.
    was_ready: bool,
}

/// Why a reading failed.
enum ReadError {
    /// Try again; librdkafka may know better why.
    Unreachable(String),
    /// Kafka answers, but the node cannot begin with what it says. Try again.
    NotYet(String),
    /// The node cannot start.
    Fatal(String),
}

impl Reader {
    #[expect(clippy::too_many_arguments, reason = "what the two threads share")]
    fn new(
        options: Arc<Mutex<KafkaOptions>>,
        config: ClientConfig,
        consumer: BaseConsumer<Complaints>,
        complaints: Complaints,
        shards: Vec<MailboxSender<Letter>>,
        state: Arc<Mutex<NodeState>>,
        held_lines: Arc<Mutex<Vec<String>>>,
        stuck_lines: Arc<Mutex<Vec<String>>>,
        watch: Arc<Watch>,
        live_only: Arc<Mutex<Vec<String>>>,
        questions: Sender<Question>,
        producers: Arc<Producers>,
    ) -> Reader {
        Reader {
            options,
            config,
            consumer,
            complaints,
            shards,
            state,
            known: BTreeMap::new(),
            index_next: 0,
            indexes: HashMap::new(),
            ids: HashMap::new(),
            publishable: HashMap::new(),
            version: 0,
            acknowledged: HashSet::new(),
            active: 0,
            ready: HashSet::new(),
            cluster_id: String::new(),
            ids_seen: false,
            read_once: false,
            said: None,
            lost: None,
            said_unreadable: None,
            read_at: None,
            look: false,
            misfits: HashMap::new(),
            kept: HashMap::new(),
            out_of_range: Vec::new(),
            held: HashMap::new(),
            held_lines,
            stuck: HashMap::new(),
            stuck_lines,
            watch,
            renewed: None,
            live_only,
            questions,
            broker: None,
            changed: false,
            log_starts_read: None,
            configs_asked: None,
            configs_cursor: String::new(),
            configs_known: HashSet::new(),
            producers,
            leaderless: HashSet::new(),
            was_ready: false,
        }
    }

    fn run(mut self, inbox: &Receiver<Word>) {
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
                                let complaint = self.complaints.last();
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
            if let Ok(consumer) = self.config.create_with_context(self.complaints.clone()) {
                let old = std::mem::replace(&mut self.consumer, consumer);
                let _ = thread::Builder::new().name("close".to_owned()).spawn(move || drop(old));
            }
        }
    }

    fn set_state(&self, state: NodeState) {
        *lock(&self.state) = state;
    }

    fn say_unreachable(&mut self, reason: String, answers: bool) {
        self.lost.get_or_insert_with(Instant::now);
        if !self.read_once || self.is_lost() {
            self.set_state(NodeState::Connecting { reason: reason.clone() });
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_TIME) {
            self.said = Some(Instant::now());
            let servers = self.config.get("bootstrap.servers").unwrap_or_default();
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

    /// Whether Kafka has been away for so long that the node is of no use to anybody.
    fn is_lost(&self) -> bool {
        self.lost.is_some_and(|since| since.elapsed() >= LOST_TIME)
    }

    /// Whether something waits for the next reading.
    fn is_in_a_hurry(&self) -> bool {
        self.look || self.misfits.keys().any(|topic| !self.was_kept(*topic)) || !self.out_of_range.is_empty()
    }

    /// Whether a topic's rule was looked at and kept a moment ago.
    fn was_kept(&self, topic: TopicIndex) -> bool {
        self.kept.get(&topic).is_some_and(|at| at.elapsed() < KEPT_TIME)
    }

    fn update_state(&mut self) {
        if !self.read_once || self.is_lost() {
            return;
        }
        let partitions = || {
            self.known.values().flat_map(|known| {
                let index = known.index;
                known
                    .topic
                    .partitions
                    .iter()
                    .enumerate()
                    .map(move |(number, partition)| (PartitionRef { topic: index, partition: number as u32 }, partition.generation))
            })
        };
        // One that cannot be read makes no node unready: the others stand before the same bytes, and the other partitions are served.
        let is_held = |(at, generation): &(PartitionRef, Generation)| self.held.get(at).is_some_and(|(held, _)| held == generation);
        let ready = partitions().filter(|partition| self.ready.contains(partition) || is_held(partition)).count();
        let mut lines: Vec<String> = (self.known.iter())
            .flat_map(|(name, known)| {
                let held = self.held.iter().filter(|(at, _)| at.topic == known.index);
                held.filter(|(at, (generation, _))| {
                    known.topic.partitions.get(at.partition as usize).is_some_and(|partition| partition.generation == *generation)
                })
                .map(move |(at, (_, base))| format!("topic {name} partition {}: the batch at offset {} is corrupt", at.partition, base.0))
            })
            .collect();
        lines.sort_unstable();
        *lock(&self.held_lines) = lines;
        let mut stuck: Vec<String> = (self.known.iter())
            .flat_map(|(name, known)| {
                let stuck = self.stuck.iter().filter(|(at, _)| at.topic == known.index);
                let current = |at: &PartitionRef| known.topic.partitions.get(at.partition as usize).map(|partition| partition.generation);
                stuck
                    .filter(move |(at, generation)| current(at) == Some(**generation))
                    .map(move |(at, _)| format!("topic {name} partition {}", at.partition))
            })
            .collect();
        stuck.sort_unstable();
        *lock(&self.stuck_lines) = stuck;
        let live_only = |topic: &Topic| topic.partitioner_is_guess && topic.partitioner == Partitioner::Any;
        *lock(&self.live_only) = self.known.iter().filter(|(_, known)| live_only(&known.topic)).map(|(name, _)| name.clone()).collect();
        let count = partitions().count();
        self.was_ready |= ready == count && self.active == self.version && self.version > 0;
        self.set_state(if self.was_ready { NodeState::Ready } else { NodeState::Loading { ready, partitions: count } });
    }

    fn is_whole(&self) -> bool {
        self.known.values().all(|known| known.topic.partitions.iter().all(|partition| partition.generation.0 > 0))
    }

    /// Records were where the guessed rules do not put them: decides again, by what is in those topics now. Whether a map changed.
    fn decide_again(&mut self) -> bool {
        let mut changed = false;
        for (index, misfit) in std::mem::take(&mut self.misfits) {
            let Some((name, known)) = self.known.iter().find(|(_, known)| known.index == index) else {
                continue;
            };
            let topic = known.topic.clone();
            // A word about an earlier rule says nothing about this one.
            if !topic.partitioner_is_guess || topic.partitioner == Partitioner::Any || misfit.version < known.rule_since {
                continue;
            }
            if self.was_kept(index) {
                self.misfits.insert(index, misfit);
                continue;
            }
            let (name, count) = (name.clone(), topic.partitions.len() as u32);
            let wanted: Vec<(Place, StartAt)> = (0..count).map(|number| ((name.clone(), number), StartAt::End)).collect();
            let resolved = self.resolve(&wanted);
            let samples = HashMap::from([(name.clone(), Sample::new(count, &topic.earlier_counts))]);
            let sample = self.newest_keys(resolved.iter(), samples).remove(&name).unwrap_or_default();
            if (sample.is_empty() || resolved.len() < wanted.len()) && misfit.tries < MISFIT_TRIES_MAX {
                // Not to be had now: at the next reading.
                self.misfits.insert(index, Misfit { tries: misfit.tries + 1, ..misfit });
                continue;
            }
            let Some(known) = self.known.get_mut(&name) else { continue };
            let (misfits, keys) = sample.misfits(topic.partitioner);
            let rule = sample.next_rule(topic.partitioner, &known.refuted);
            if rule == topic.partitioner {
                // The subjects of the few records that it does not explain are live only on the shards that met them.
                tracing::debug!(topic = %name, ?rule, misfits, keys, "the partitioner explains the newest records well enough");
                self.kept.insert(index, Instant::now());
                continue;
            }
            known.refuted.push(topic.partitioner);
            if rule == Partitioner::Any {
                tracing::warn!(
                    topic = %name, misfits, keys,
                    "too many of the newest records are not on the partition that {:?} gives their keys, and no other rule explains them: subjects of this topic are live only from now on (set partitioner in [topic.\"{name}\"])",
                    topic.partitioner
                );
            } else {
                tracing::info!(
                    topic = %name, before = ?topic.partitioner, now = ?rule,
                    "the newest records are where another partitioner puts their keys: keys that find another home are announced to their subscribers"
                );
            }
            Arc::make_mut(&mut known.topic).partitioner = rule;
            known.rule_since = self.version + 1;
            changed = true;
        }
        changed
    }

    /// Positions of this topic that are not in their logs: what these partitions start with next is asked for. Whether there are any.
    fn lose_positions(&mut self, name: &str) -> bool {
        let Some(known) = self.known.get_mut(name) else {
            return false;
        };
        let mut lost = false;
        for (at, generation, position) in self.out_of_range.iter().filter(|(at, _, _)| at.topic == known.index) {
            let number = at.partition as usize;
            if known.topic.partitions.get(number).is_some_and(|partition| partition.generation == *generation) {
                tracing::warn!(
                    topic = name,
                    partition = number,
                    position = position.0,
                    "the log does not hold this position: it is read from the nearest one that it has, and positions from before are not recovered"
                );
                Arc::make_mut(&mut known.topic).partitions[number].generation = Generation(0);
                known.waiting.insert(at.partition, StartAt::Position(position.0));
                lost = true;
            }
        }
        lost
    }

    /// What is said of partitions that have another generation by now is of no interest any more.
    fn forget_settled(&mut self) {
        let known = &self.known;
        let generation = |at: &PartitionRef| {
            let known = known.values().find(|known| known.index == at.topic)?;
            known.topic.partitions.get(at.partition as usize).map(|partition| partition.generation)
        };
        self.out_of_range.retain(|(at, told, _)| generation(at) == Some(*told));
    }

    /// One reading of the cluster; publishes a map if anything changed.
    fn read(&mut self) -> Result<(), ReadError> {
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
            let internal = topic.name().starts_with("__");
            if !internal {
                publishable.insert(Arc::from(topic.name()), count);
            }
            let wanted = match &lock(&self.options).topics {
                TopicChoice::Listed(topics) => topics.iter().any(|listed| listed == topic.name()),
                TopicChoice::Matching(regex) => !internal && regex.is_match(topic.name()),
            };
            if wanted {
                let leaderless = topic.partitions().iter().filter(|partition| partition.leader() < 0);
                self.leaderless.extend(leaderless.map(|partition| (topic.name().to_owned(), partition.id() as u32)));
                found.insert(topic.name().to_owned(), count);
            }
        }
        self.check_listed(&metadata, &found)?;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        let described = if embedded || names.is_empty() {
            HashMap::new()
        } else {
            seen(
                raw::describe_topics(self.consumer.client().native_ptr(), &names, self.broker, REQUEST_TIME)
                    .map_err(ReadError::Unreachable)?,
            )
        };
        self.check_readable(&described)?;
        self.ids_seen |= described.values().any(|described| described.id.is_some());

        let mut changed = std::mem::take(&mut self.changed) || self.publishable != publishable;
        self.publishable = publishable;
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
            changed |= self.add(fresh, embedded);
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

    fn owner(&self, name: &str, partition: u32) -> ShardId {
        // Any spread will do, as long as it is the same whenever the node starts.
        let hash = u64::from(crc32fast::hash(name.as_bytes()));
        let consumers = u64::from(lock(&self.options).consumers_size.max(1));
        ShardId(((hash % consumers + u64::from(partition)) % consumers) as u16)
    }

    /// Asks Kafka for numbers. A partition that it says nothing about now is left out.
    fn resolve(&self, wanted: &[(Place, StartAt)]) -> HashMap<Place, Resolved> {
        let places: Vec<&Place> = wanted.iter().map(|(place, _)| place).filter(|place| !self.leaderless.contains(*place)).collect();
        let ends = self.ends(&places);
        let by_time = self.offsets(wanted.iter().filter(|(place, _)| ends.contains_key(place)).filter_map(|(place, start)| {
            if let StartAt::Time(time_ms) = start { Some((place, KafkaOffset::Offset(*time_ms))) } else { None }
        }));
        let resolve = |(place, start): &(Place, StartAt)| {
            let (low, high, leader_epoch) = *ends.get(place)?;
            let start = match start {
                StartAt::Beginning => low,
                StartAt::End => high,
                StartAt::Position(position) => *position,
                StartAt::Time(_) => match by_time.as_ref()?.get(place)?.offset {
                    KafkaOffset::Offset(offset) => offset,
                    // No record is as young: the end.
                    _ => high,
                },
            };
            Some((place.clone(), Resolved { low, start: start.min(high).max(low), end: high, leader_epoch }))
        };
        wanted.iter().filter_map(resolve).collect()
    }

    /// Log starts, last stable offsets and their leader epochs: of all partitions in two rounds of requests, or of each alone if one of them spoils
    /// the round.
    fn ends(&self, places: &[&Place]) -> HashMap<Place, (i64, i64, i32)> {
        let round = |offset: KafkaOffset| self.offsets(places.iter().map(move |place| (*place, offset)));
        if let (Some(lows), Some(highs)) = (round(KafkaOffset::Beginning), round(KafkaOffset::End)) {
            let both = |(place, low): (Place, Found)| match (low.offset, highs.get(&place)) {
                (KafkaOffset::Offset(low), Some(Found { offset: KafkaOffset::Offset(high), leader_epoch })) => {
                    Some((place, (low, *high, *leader_epoch)))
                }
                _ => None,
            };
            return lows.into_iter().filter_map(both).collect();
        }
        let deadline = Instant::now() + REQUEST_TIME;
        let ask = |place: &&Place| {
            let time = deadline.saturating_duration_since(Instant::now()).min(ALONE_TIME);
            let ends = if time.is_zero() { None } else { self.consumer.fetch_watermarks(&place.0, place.1 as i32, time).ok() };
            ends.map(|(low, high)| ((*place).clone(), (low, high, -1)))
        };
        places.iter().filter_map(ask).collect()
    }

    /// The offsets of times, or of `Beginning` and `End`, as librdkafka's list takes them, and what it answers them with. A partition that it
    /// cannot say now is left out; `None` if the request as a whole failed.
    fn offsets<'p>(&self, wanted: impl Iterator<Item = (&'p Place, KafkaOffset)>) -> Option<HashMap<Place, Found>> {
        let mut list = TopicPartitionList::new();
        for ((name, number), offset) in wanted {
            // Any number is taken as an offset.
            let _ = list.add_partition_offset(name, *number as i32, offset);
        }
        if list.count() == 0 {
            return Some(HashMap::new());
        }
        let found = match self.consumer.offsets_for_times(list, REQUEST_TIME) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "offsets");
                return None;
            }
        };
        let epochs = raw::leader_epochs(&found);
        let elements = found.elements();
        let answered = elements.iter().zip(epochs).filter(|(element, _)| element.error().is_ok());
        let found = answered.map(|(element, leader_epoch)| {
            ((element.topic().to_owned(), element.partition() as u32), Found { offset: element.offset(), leader_epoch })
        });
        Some(found.collect())
    }

    /// Partitions that were added, and partitions that are still waited for. Whether the topic changed.
    fn grow(&mut self, name: &str, count: u32) -> bool {
        let Some(known) = self.known.get(name) else {
            return false;
        };
        let before = known.topic.partitions.len() as u32;
        // What appeared while this node was running is read from its beginning.
        let wanted: Vec<(Place, StartAt)> = (known.waiting.iter().map(|(number, start)| (*number, *start)))
            .chain((before..count).map(|number| (number, StartAt::Beginning)))
            .map(|(number, start)| ((name.to_owned(), number), start))
            .collect();
        if wanted.is_empty() {
            return false;
        }
        let resolved = self.resolve(&wanted);
        if count <= before && resolved.is_empty() {
            return false;
        }
        let mut topic = (*known.topic).clone();
        let generation = self.next_generation(name);
        let mut waiting = HashMap::new();
        for (place, start) in wanted {
            let number = place.1;
            let partition = self.partition(name, number, generation, resolved.get(&place));
            if partition.generation.0 == 0 {
                waiting.insert(number, start);
            }
            match topic.partitions.get_mut(number as usize) {
                Some(place) => *place = partition,
                None => {
                    // In the order of their numbers: those that wait come first, and all of those are there already.
                    topic.partitions.push(partition);
                }
            }
        }
        if count > before {
            tracing::info!(topic = name, before, now = count, "partitions were added: keys that moved are announced to their subscribers");
            topic.earlier_counts.push(before);
        }
        if let Some(known) = self.known.get_mut(name) {
            known.waiting = waiting;
            known.topic = Arc::new(topic);
        }
        true
    }

    fn next_generation(&mut self, name: &str) -> Generation {
        let Some((_, highest)) = self.indexes.get_mut(name) else {
            return Generation(1);
        };
        highest.0 += 1;
        *highest
    }

    fn partition(&self, name: &str, number: u32, generation: Generation, resolved: Option<&Resolved>) -> Partition {
        let owner = self.owner(name, number);
        match resolved {
            Some(at) => Partition { owner, generation, start: Offset(at.start), ready_at: Offset(at.end), leader_epoch: at.leader_epoch },
            None => Partition { owner, generation: Generation(0), start: Offset(0), ready_at: Offset(0), leader_epoch: -1 },
        }
    }

    fn forget_absent(&mut self, found: &BTreeMap<String, u32>) -> bool {
        let interval = lock(&self.options).metadata_interval;
        let mut gone = Vec::new();
        for (name, known) in &mut self.known {
            if !found.contains_key(name) {
                known.absences += 1;
                // Readings that something made come early count, but do not shorten the time.
                let absent = known.absent_since.get_or_insert_with(Instant::now).elapsed();
                if known.absences >= ABSENCES_MAX && absent >= interval {
                    gone.push(name.clone());
                }
            }
        }
        for name in &gone {
            tracing::warn!(topic = %name, "the topic is gone");
            self.known.remove(name);
        }
        !gone.is_empty()
    }

    /// Topics that are new, or that were made again under another id.
    fn add(&mut self, fresh: Vec<(String, u32, Arc<str>)>, embedded: bool) -> bool {
        let recovery = lock(&self.options).recovery.filter(|_| !self.read_once && !embedded);
        let from_log_start = lock(&self.options).recovery.is_some() && embedded && !self.read_once;
        let start = if self.read_once || from_log_start {
            StartAt::Beginning
        } else if let Some(back) = recovery {
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
            StartAt::Time(now_ms - back.as_millis() as i64)
        } else {
            StartAt::End
        };
        // A topic that was away and is the same as before is no new one: its past may be long, and positions from before are told to be lost.
        let ids = &self.ids;
        let start_of = |name: &String, id: &Arc<str>| if ids.get(name) == Some(id) { StartAt::End } else { start };
        let starts: HashMap<String, StartAt> = fresh.iter().map(|(name, _, id)| (name.clone(), start_of(name, id))).collect();
        let wanted: Vec<(Place, StartAt)> =
            fresh.iter().flat_map(|(name, count, _)| (0..*count).map(|number| ((name.clone(), number), starts[name]))).collect();
        let resolved = self.resolve(&wanted);
        let mut guesses = self.guess_partitioners(&fresh, &resolved);
        let names: Vec<&str> = fresh.iter().map(|(name, _, _)| name.as_str()).collect();
        let found = if embedded { None } else { configs(self.consumer.client().native_ptr(), &names, self.broker) };
        let found = found.unwrap_or_default();
        let compacted: HashMap<String, bool> = found.iter().map(|(name, config)| (name.clone(), config.compacted)).collect();
        self.keep_limits(&found);
        for (name, count, id) in fresh {
            let made_again = self.known.contains_key(&name) || self.indexes.contains_key(&name);
            let index = match self.indexes.get(&name) {
                Some((index, _)) => *index,
                None => {
                    let index = TopicIndex(self.index_next);
                    self.index_next += 1;
                    self.indexes.insert(name.clone(), (index, Generation(0)));
                    index
                }
            };
            let generation = self.next_generation(&name);
            let partitions: Vec<Partition> =
                (0..count).map(|number| self.partition(&name, number, generation, resolved.get(&(name.clone(), number)))).collect();
            let waiting =
                (0..count).filter(|number| partitions[*number as usize].generation.0 == 0).map(|number| (number, starts[&name])).collect();
            let settings = (lock(&self.options).topic)(&name);
            let (partitioner, guess) = match settings.partitioner {
                PartitionerChoice::Fixed(rule) => (rule, false),
                PartitionerChoice::Auto => (guesses.remove(&name).unwrap_or(settings.partitioner.without_records()), true),
            };
            if partitioner == Partitioner::Any && guess {
                tracing::warn!(topic = %name, "neither murmur2 nor crc32 explains where 99 of 100 of its newest records are: its subjects are live only (set partitioner in [topic.\"{name}\"])");
            }
            let null_key_partition = lock(&self.options).null_key_partition.filter(|partition| *partition < count);
            let topic = Topic {
                index,
                name: Arc::from(name.as_str()),
                id,
                partitions,
                earlier_counts: Vec::new(),
                partitioner,
                partitioner_is_guess: guess && count > 1,
                null_key_partition,
                compacted: compacted.get(&name).copied().unwrap_or(!embedded),
                value: settings.value,
                snapshot: settings.snapshot,
            };
            tracing::info!(topic = %name, partitions = count, ?partitioner, compacted = topic.compacted, made_again, "topic is served");
            self.ids.insert(name.clone(), topic.id.clone());
            let known = Known {
                index,
                topic: Arc::new(topic),
                absences: 0,
                absent_since: None,
                waiting,
                rule_since: self.version + 1,
                refuted: Vec::new(),
                log_starts: HashMap::new(),
            };
            self.known.insert(name, known);
        }
        true
    }

    fn guess_partitioners(&self, fresh: &[(String, u32, Arc<str>)], resolved: &HashMap<Place, Resolved>) -> HashMap<String, Partitioner> {
        let auto = |name: &str| (lock(&self.options).topic)(name).partitioner == PartitionerChoice::Auto;
        let wanted: Vec<&(String, u32, Arc<str>)> = fresh.iter().filter(|(name, count, _)| *count > 1 && auto(name)).collect();
        let places: Vec<Place> = wanted.iter().flat_map(|(name, count, _)| (0..*count).map(move |number| (name.clone(), number))).collect();
        let samples = wanted.iter().map(|(name, count, _)| (name.clone(), Sample::new(*count, &[]))).collect();
        let samples = self.newest_keys(places.iter().filter_map(|place| Some((place, resolved.get(place)?))), samples);
        samples.into_iter().filter(|(_, sample)| !sample.is_empty()).map(|(name, sample)| (name, sample.rule(&[]))).collect()
    }

    /// Adds the newest keys of these partitions to the samples of their topics, with a consumer of its own.
    fn newest_keys<'p>(
        &self,
        places: impl Iterator<Item = (&'p Place, &'p Resolved)>,
        mut samples: HashMap<String, Sample>,
    ) -> HashMap<String, Sample> {
        let partitions: Vec<(String, i32, i64, i64)> =
            places.filter(|(_, at)| at.low < at.end).map(|(place, at)| (place.0.clone(), place.1 as i32, at.low, at.end)).collect();
        if partitions.is_empty() {
            return samples;
        }
        let scratch: Result<BaseConsumer<QuietContext>, KafkaError> = self.config.create_with_context(QuietContext);
        let Ok(scratch) = scratch else {
            return samples;
        };
        let subject_bytes_max = lock(&self.options).subject_bytes_max;
        read_newest(&scratch, &partitions, subject_bytes_max, DETECT_TIME, &mut samples);
        let _ = thread::Builder::new().name("close".to_owned()).spawn(move || drop(scratch));
        samples
    }

    /// Asks for the settings of topics that are new, and once in an interval for those of some others again, all in turn. The answers are words.
    fn ask_configs(&mut self) {
        let mut all: Vec<&str> = self.publishable.keys().map(|name| &**name).chain(self.known.keys().map(String::as_str)).collect();
        all.sort_unstable();
        all.dedup();
        let exists: HashSet<&str> = all.iter().copied().collect();
        let doubted = self.producers.limits().take_doubted();
        self.configs_known.retain(|name| exists.contains(name.as_str()) && !doubted.contains(name.as_str()));
        let unknown: Vec<&str> =
            all.iter().copied().filter(|name| !self.configs_known.contains(*name)).take(NEW_CONFIGS_MAX * CONFIGS_AT_ONCE_MAX).collect();
        // Without room they are asked for at another reading.
        let ask = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let _ = self.questions.try_send(Question::Configs { names, broker: self.broker });
        };
        unknown.chunks(CONFIGS_AT_ONCE_MAX).for_each(&ask);
        let interval = lock(&self.options).metadata_interval;
        if all.is_empty() || self.configs_asked.is_some_and(|asked| asked.elapsed() < interval) {
            return;
        }
        let first = all.partition_point(|name| *name <= self.configs_cursor.as_str());
        let first = if first == all.len() { 0 } else { first };
        let again = &all[first..all.len().min(first + CONFIGS_AT_ONCE_MAX)];
        ask(again);
        let cursor = again.last().map_or(String::new(), |name| (*name).to_owned());
        self.configs_asked = Some(Instant::now());
        self.configs_cursor = cursor;
    }

    /// What Kafka says of topics' settings. A change of `cleanup.policy` is in the next map, which is made soon.
    fn take_configs(&mut self, asked: Vec<String>, found: HashMap<String, TopicConfig>) {
        self.keep_limits(&found);
        self.configs_known.extend(asked);
        for (name, TopicConfig { compacted, .. }) in found {
            if let Some(known) = self.known.get_mut(&name).filter(|known| known.topic.compacted != compacted) {
                tracing::info!(topic = %name, compacted, "the topic's cleanup.policy has changed");
                Arc::make_mut(&mut known.topic).compacted = compacted;
                self.changed = true;
                self.look = true;
            }
        }
    }

    /// Producers go by the largest batches that topics take.
    fn keep_limits(&self, found: &HashMap<String, TopicConfig>) {
        let limits = found.iter().filter_map(|(name, config)| Some((Arc::from(name.as_str()), config.message_bytes_max?)));
        self.producers.limits().set(limits, |name| self.publishable.contains_key(name) || self.known.contains_key(name));
    }

    fn publish(&mut self) {
        self.version += 1;
        self.acknowledged.clear();
        let mut topics = vec![None; self.index_next as usize];
        for known in self.known.values() {
            topics[known.index.0 as usize] = Some(known.topic.clone());
        }
        let watched = (self.known.values())
            .flat_map(|known| {
                let served = known.topic.partitions.iter().enumerate().filter(|(_, partition)| partition.generation.0 > 0);
                served.map(|(number, partition)| Watched {
                    topic: known.topic.name.clone(),
                    partition: PartitionRef { topic: known.index, partition: number as u32 },
                    generation: partition.generation,
                    owner: partition.owner,
                })
            })
            .collect();
        self.watch.set_watched(watched);
        let map = Arc::new(TopicMap::new(self.version, topics, self.publishable.clone()));
        for shard in &self.shards {
            let _ = shard.post(Letter::Map(map.clone()));
        }
        self.update_state();
    }
}
