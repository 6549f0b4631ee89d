//! The reader: what it holds. What it does is in the files beside this one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::Sender;
use rdkafka::consumer::BaseConsumer;

use super::complaints::Complaints;
use super::handle::NodeState;
use super::known::{Known, Misfit, Place};
use super::questions::Question;
use crate::handoff::{Generation, MailboxSender, Offset, PartitionRef, ShardId, TopicIndex};
use crate::kafka::clients::Clients;
use crate::kafka::producer::Producers;
use crate::kafka::settings::KafkaOptions;
use crate::kafka::watch::Watch;
use crate::shard::Letter;

pub(super) struct Reader {
    pub(super) options: Arc<Mutex<KafkaOptions>>,
    pub(super) clients: Arc<Clients>,
    /// `Clients::remade` when the client was made.
    pub(super) remade: u64,
    pub(super) consumer: Arc<BaseConsumer<Complaints>>,
    pub(super) complaints: Complaints,
    pub(super) shards: Vec<MailboxSender<Letter>>,
    pub(super) state: Arc<Mutex<NodeState>>,
    pub(super) known: BTreeMap<String, Known>,
    pub(super) index_next: u32,
    /// Every name keeps its index, also while the topic is away, and the generations it had.
    pub(super) indexes: HashMap<String, (TopicIndex, Generation)>,
    /// The last id of every name, also while the topic is away.
    pub(super) ids: HashMap<String, Arc<str>>,
    pub(super) publishable: HashMap<Arc<str>, u32>,
    pub(super) version: u64,
    pub(super) acknowledged: HashSet<ShardId>,
    pub(super) active: u64,
    pub(super) ready: HashSet<(PartitionRef, Generation)>,
    pub(super) cluster_id: String,
    pub(super) ids_seen: bool,
    pub(super) read_once: bool,
    pub(super) said: Option<Instant>,
    /// Since when Kafka has not been reached.
    pub(super) lost: Option<Instant>,
    /// When the log said last that topics may not be read.
    pub(super) said_unreadable: Option<Instant>,
    /// When the last reading ended.
    pub(super) read_at: Option<Instant>,
    /// A consumer met something that is not there: the next reading comes soon.
    pub(super) look: bool,
    /// Topics with too many records that are not where their guessed rule puts them.
    pub(super) misfits: HashMap<TopicIndex, Misfit>,
    /// When the rules of such topics were looked at last and kept.
    pub(super) kept: HashMap<TopicIndex, Instant>,
    /// Positions that are not in their log.
    pub(super) out_of_range: Vec<(PartitionRef, Generation, Offset)>,
    /// Partitions that stand before a corrupt batch, and its offset; and the same as text, for others.
    pub(super) held: HashMap<PartitionRef, (Generation, Offset)>,
    pub(super) held_lines: Arc<Mutex<Vec<String>>>,
    /// Partitions whose log goes on and that are not read; and the same as text, for others.
    pub(super) stuck: HashMap<PartitionRef, Generation>,
    pub(super) stuck_lines: Arc<Mutex<Vec<String>>>,
    /// It looks after what is read.
    pub(super) watch: Arc<Watch>,
    /// When the client was made, if it is not the first.
    pub(super) renewed: Option<Instant>,
    /// Names of topics with a guessed partitioner that have none, for others.
    pub(super) live_only: Arc<Mutex<Vec<String>>>,
    pub(super) questions: Sender<Question>,
    /// The broker that has answered the last metadata request.
    pub(super) broker: Option<i32>,
    /// A word has changed a topic since the last map.
    pub(super) changed: bool,
    /// When the starts of the logs were asked for last.
    pub(super) log_starts_read: Option<Instant>,
    /// When topics' settings were asked for again last, and of which topic last.
    pub(super) configs_asked: Option<Instant>,
    pub(super) configs_cursor: String,
    /// Topics whose settings Kafka has told, or does not let us see.
    pub(super) configs_known: HashSet<String>,
    pub(super) producers: Arc<Producers>,
    /// Partitions that had no leader at the last reading: asking about them would only cost time.
    pub(super) leaderless: HashSet<Place>,
    /// The node has been ready. It stays so while a new map is under way, or every node of a cluster would leave the load balancer at once.
    pub(super) was_ready: bool,
    /// The newest reload that was taken.
    pub(super) reloads: u64,
}

impl Reader {
    #[expect(clippy::too_many_arguments, reason = "what the two threads share")]
    pub(super) fn new(
        options: Arc<Mutex<KafkaOptions>>,
        clients: Arc<Clients>,
        remade: u64,
        consumer: Arc<BaseConsumer<Complaints>>,
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
            clients,
            remade,
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
            reloads: 0,
        }
    }
}
