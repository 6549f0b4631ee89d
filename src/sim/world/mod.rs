//! A world: one Kafka, one or two nodes, some clients, virtual time, and one seed that decides everything.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use hashbrown::{HashMap, HashSet};
use slotmap::Key as _;

use super::client::Client;
use super::coverage::Coverage;
use super::kafka::FakeKafka;
use super::law::Law;
use super::names::Rule;
use super::node::Node;
use super::oracle::Kept;
use super::paths;
use super::sabotage::Sabotage;
use crate::handoff::ConnectionKey;
use crate::limits::{COMMANDS_AT_ONCE_MAX, COMMANDS_HELD_BYTES_MAX, TICK_MS, TURN_BYTES_MAX};
use crate::shard::{ProduceRecord, PublishResult, ShardSettings};
use crate::subject::{Exposures, Routes};

mod chaos;
mod commands;
mod ending;
mod sockets;
mod turns;

/// A promise that did not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    pub seed: u64,
    pub promise: String,
    /// The last things that happened.
    pub trace: Vec<String>,
}

/// Steps remembered for a trace.
const TRACE_MAX: usize = 4_000;
/// How often the watch says where logs end, and how long a producer answers nothing before another takes its place: as `kafka::watch` and
/// `kafka::producer` do.
const WATCH_MS: u64 = 2_000;
const STUCK_PRODUCER_MS: u64 = 8_000;

/// See the module's documentation.
pub struct World {
    random: Rng,
    now_ms: u64,
    kafka: FakeKafka,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// Positions that clients took home, by subject: any client may come back with one, on any node.
    kept: Vec<(String, Kept)>,
    settings: ShardSettings,
    coverage: Coverage,
    trace: std::collections::VecDeque<String>,
    tracing: bool,
    /// Numbers of publishes with the places of their topics, and how often they were handed to a producer.
    published: HashMap<(u64, usize), u32>,
    acknowledged: HashSet<(u64, usize)>,
    /// One in so many looks at its socket puts a client to sleep, and one in so many wakes it.
    sleepiness: (u8, u8),
    sabotage: Option<Sabotage>,
    /// When chaos ended.
    healed_ms: Option<u64>,
    /// Decides which of Kafka's clients get stuck, and what becomes of what they held; `None` in worlds where none does. Dice of its own: worlds from
    /// without them are what they were.
    trouble: Option<Rng>,
    /// Some clients are hostile: they ask much and read little, and send what nobody keeps. Dice of its own, as for those below.
    hostility: Option<Rng>,
    /// Records come in bursts of hundreds.
    bursts: Option<Rng>,
    /// Every node has so many shards, if not some.
    shards: Option<u16>,
    /// Some are written to before a turn is over.
    slices: Option<Rng>,
    /// Letters to shards get lost.
    losses: Option<Rng>,
    /// Settings are reloaded, on all nodes at once. Limits become smaller only: what was decided under the larger ones stays explained.
    reloads: Option<Rng>,
    /// Every second record has no key, and every second subject: most of them are on one partition, and some are anywhere.
    keyless: Option<Rng>,
    /// Some subjects lead elsewhere.
    paths: Option<Rng>,
    /// Clients need tokens, of which some end and some are revoked.
    law: Option<Law>,
    /// More than a thousand clients want one subject.
    is_crowded: bool,
    /// Records that a producer had on their way when another took its place.
    late: Vec<(ProduceRecord, u64)>,
    /// WebSocket pings that clients have sent.
    pings: u32,
    /// What clients asked to be written, by its number: subject and value.
    said: HashMap<u64, (String, Bytes)>,
    /// What Kafka said of publishes.
    fates: HashMap<(u64, usize), PublishResult>,
    /// Of what clients have read: for what they read next.
    spare: Vec<u8>,
    /// A promise that was broken where nobody could say so.
    broken: Option<String>,
    /// Ticks that find nothing to do are played too: they change nothing.
    ticks_always: bool,
    /// Steps that the trace remembers.
    trace_max: usize,
}

/// Plays one seed to its end and gives everything that happened, in short.
/// `ticks_always`: ticks that find nothing to do are played too.
pub fn whole_trace(seed: u64, ticks_always: bool) -> Vec<String> {
    let mut world = World::new(seed, Mix::Everything, None, true);
    world.ticks_always = ticks_always;
    world.trace_max = usize::MAX;
    if let Err(promise) = world.play() {
        world.trace.push_back(promise);
    }
    world.trace.into_iter().collect()
}

/// What worlds have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    #[default]
    Everything,
    /// Neither bursts nor hostile clients, lost letters, reloads, tokens, routes, records without keys, crowds and small limits of a turn: what the first worlds had. To compare speeds over time.
    Plain,
}

/// Plays one seed to its end. The coverage counts each state once.
///
/// # Errors
/// The first broken promise.
pub fn run(seed: u64, mix: Mix, sabotage: Option<Sabotage>, tracing: bool) -> Result<Coverage, Broken> {
    let mut world = World::new(seed, mix, sabotage, tracing);
    let outcome = world.play();
    let trace: Vec<String> = world.trace.iter().cloned().collect();
    outcome.map_err(|promise| Broken { seed, promise, trace })?;
    let mut once = Coverage::default();
    for (state, _) in world.coverage.iter() {
        once.note(state);
    }
    Ok(once)
}

impl World {
    fn new(seed: u64, mix: Mix, sabotage: Option<Sabotage>, tracing: bool) -> World {
        let mut random = Rng::with_seed(seed);
        // By the seed, not by its dice: worlds from before are what they were.
        let each = |many: u64, one: u64| mix == Mix::Everything && seed % many == one;
        let roomy = random.u8(0..3) == 0;
        let pings = random.u8(0..3) == 0;
        let sleepiness = if random.u8(0..3) == 0 { (4, 5) } else { (25, 20) };
        let sleepiness = if each(13, 5) { (4, 8) } else { sleepiness };
        let settings = ShardSettings {
            subject_bytes_max: 64,
            cache_bytes_max: if roomy { 1 << 30 } else { random.usize(20_000..300_000) },
            cache_records_max: if roomy { 1 << 20 } else { random.usize(1..40) },
            turn_bytes_max: if each(4, 1) { 400 + (seed % 11) as usize * 300 } else { TURN_BYTES_MAX },
            commands_held_bytes_max: if each(6, 5) { 2_000 } else { COMMANDS_HELD_BYTES_MAX },
            commands_at_once_max: if each(5, 2) { 3 } else { COMMANDS_AT_ONCE_MAX },
            cache_subject_bytes_max: 1 << 40,
            cache_expire_ms: if roomy { 1 << 40 } else { random.u64(500..20_000) },
            outbox_bytes_max: if roomy && random.bool() { 1 << 20 } else { random.usize(4_096..40_000) },
            outboxes_bytes_max: if roomy || random.bool() { 1 << 30 } else { random.usize(30_000..120_000) },
            slow_client_timeout_ms: random.u64(1_000..8_000),
            subscriptions_max: random.usize(3..12),
            publish_bytes_max: 2_000,
            publishes_open_max: random.usize(1..6),
            publishes_open_shard_max: 64,
            ping_interval_ms: if pings { random.u64(1_000..4_000) } else { 0 },
            pong_timeout_ms: random.u64(200..1_000),
            connect_timeout_ms: 2_000,
            null_key_partition: if random.u8(0..3) == 0 { Some(random.u32(0..2)) } else { None },
            held_max: if roomy { 1_000 } else { random.usize(2..50) },
            flush_writes_max: random.usize(1..12),
            routes: Arc::new(if each(10, 7) { paths::routes() } else { Routes::default() }),
            exposures: Arc::new(if each(10, 7) { paths::exposures() } else { Exposures::default() }),
            ..ShardSettings::default()
        };
        let settings = if each(13, 5) {
            ShardSettings { null_key_partition: Some((seed % 2) as u32), outbox_bytes_max: 8_000, ..settings }
        } else {
            settings
        };
        let keyless_to = settings.null_key_partition.filter(|_| each(13, 5));
        let shards = if each(211, 10) { Some(64) } else { each(47, 3).then_some(16) };
        let mut kafka = FakeKafka::default();
        kafka.keyless_to = keyless_to;
        for name in ["alpha", "beta", "gamma"].iter().take(random.usize(1..4)) {
            let rule = [Rule::Murmur2, Rule::Murmur2, Rule::Crc32, Rule::Any][random.usize(0..4)];
            kafka.create(name, random.u32(1..5) * if shards.is_some() { 5 } else { 1 }, rule, random.u8(0..6) == 0);
        }
        let nodes = (0..random.usize(1..3)).map(|_| Node::new(&mut random, &settings, sabotage, shards)).collect();
        let mut world = World {
            random,
            now_ms: 1,
            kafka,
            nodes,
            clients: Vec::new(),
            kept: Vec::new(),
            settings,
            shards,
            coverage: Coverage::default(),
            trace: std::collections::VecDeque::new(),
            tracing,
            published: HashMap::new(),
            acknowledged: HashSet::new(),
            sleepiness,
            sabotage,
            healed_ms: None,
            trouble: Some(Rng::with_seed(seed ^ 0x5eed_dea1)).filter(|_| seed.is_multiple_of(3)),
            hostility: Some(Rng::with_seed(seed ^ 0x0e71)).filter(|_| each(5, 2)),
            bursts: Some(Rng::with_seed(seed ^ 0xb125)).filter(|_| each(11, 4)),
            slices: Some(Rng::with_seed(seed ^ 0x511ce)).filter(|_| each(3, 1)),
            losses: Some(Rng::with_seed(seed ^ 0x1055)).filter(|_| each(7, 3)),
            reloads: Some(Rng::with_seed(seed ^ 0x4e10)).filter(|_| each(8, 3)),
            keyless: Some(Rng::with_seed(seed ^ 0x6e01)).filter(|_| each(13, 5)),
            paths: Some(Rng::with_seed(seed ^ 0x9a75)).filter(|_| each(10, 7)),
            law: each(9, 6).then(|| Law::new(Rng::with_seed(seed ^ 0x1a3))),
            is_crowded: each(400, 77),
            late: Vec::new(),
            pings: 0,
            said: HashMap::new(),
            fates: HashMap::new(),
            spare: Vec::new(),
            broken: None,
            ticks_always: false,
            trace_max: TRACE_MAX,
        };
        for _ in 0..world.random.usize(0..60) {
            world.write_record();
        }
        world.kafka.compact();
        world
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.tracing {
            if self.trace.len() >= self.trace_max {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:>7} ms  {}", self.now_ms, what()));
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            self.tell_the_law(node);
            self.nodes[node].read_metadata(&mut self.random, &self.kafka);
        }
        if self.is_crowded {
            self.crowd()?;
        }
        let steps = self.random.usize(300..1_500);
        for _ in 0..steps {
            self.step()?;
        }
        if self.random.u8(0..5) == 0 {
            return self.drain();
        }
        self.heal()
    }

    /// One random thing.
    fn step(&mut self) -> Result<(), String> {
        let node = self.random.usize(0..self.nodes.len());
        let shard = self.random.usize(0..self.nodes[node].cores.len());
        self.trouble_clients(node, shard);
        self.enforce();
        match self.random.u32(0..100) {
            0..=17 => self.write_record(),
            18..=37 => self.consume(node, shard),
            38..=52 => self.move_lane(node, shard),
            53..=62 => self.flush(node, shard)?,
            63..=70 => self.client_reads()?,
            71..=84 => self.client_acts(),
            85..=89 => {
                let ticks = if self.random.u8(0..5) == 0 { self.random.u64(1..100) } else { self.random.u64(1..6) };
                self.pass(TICK_MS * ticks)?;
            }
            90..=92 => self.producer_answers(node, shard),
            93..=94 => self.answer_questions(node, shard),
            95..=97 => {
                let now_ms = self.now_ms;
                self.nodes[node].spread_map(&mut self.random, now_ms);
            }
            98 => {
                self.nodes[node].read_metadata(&mut self.random, &self.kafka);
            }
            _ => self.upheaval(),
        }
        // A node that was started again may have fewer shards.
        self.check_bounds(node, shard % self.nodes[node].cores.len())
    }
}

/// A client, for the trace.
fn name(node: usize, key: ConnectionKey) -> String {
    format!("client {node}.{:?}", key.data())
}

/// The number of a publish, from its value.
fn number_of(value: Option<&[u8]>) -> u64 {
    let digits = value.and_then(|value| value.strip_prefix(b"{\"n\":")).unwrap_or_default();
    digits.iter().map_while(|digit| char::from(*digit).to_digit(10)).fold(0, |number, digit| number * 10 + u64::from(digit))
}
