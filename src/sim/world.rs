//! A world: one Kafka, one or two nodes, some clients, virtual time, and one seed that decides everything.

use std::collections::BTreeSet;

use bytes::Bytes;
use fastrand::Rng;
use hashbrown::{HashMap, HashSet};
use slotmap::Key as _;

use super::client::{Client, Open};
use super::codec;
use super::coverage::Coverage;
use super::hands::{FakeSocket, SimHands};
use super::kafka::{Era, FakeKafka, value_text};
use super::names::{Epoch, Rule, Subject};
use super::node::Node;
use super::oracle::{Asked, Kept, Page, Witness};
use super::sabotage::Sabotage;
use crate::handoff::{ConnectionKey, FromHomeBatch, Offset, Protocol, ShardId, TowardHomeBatch};
use crate::kafka::stall::RENEW_PAUSES_MS;
use crate::limits::{COMMANDS_AT_ONCE_MAX, HELD_BYTES_MAX, HOLD_MS, TICK_MS, TURN_BYTES_MAX};
use crate::session::wire;
use crate::shard::{Event, ProduceRecord, PublishFailure, PublishResult, ShardCore, ShardSettings};

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
/// Turns of all shards within which everything that can move without time passing has moved.
const TURNS_MAX: usize = 20_000;
/// How often the watch says where logs end, and how long a producer answers nothing before another takes its place: as `kafka::watch` and
/// `kafka::producer` do.
const WATCH_MS: u64 = 2_000;
const STUCK_PRODUCER_MS: u64 = 8_000;
/// Ticks in which nothing moves, after which a world rests.
const QUIET_TICKS: u64 = 21;
/// Virtual time within which a healed world must come to rest.
const REST_MS: u64 = 30_000;

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
    /// Numbers of publishes, and how often they were handed to a producer.
    published: HashMap<u64, u32>,
    acknowledged: HashSet<u64>,
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
    /// Letters to shards get lost.
    losses: Option<Rng>,
    /// More than a thousand clients want one subject.
    is_crowded: bool,
    /// Records that a producer had on their way when another took its place.
    late: Vec<(ProduceRecord, u64)>,
    /// WebSocket pings that clients have sent.
    pings: u32,
    /// What clients asked to be written, by its number: subject and value.
    said: HashMap<u64, (String, Bytes)>,
    /// What Kafka said of publishes.
    fates: HashMap<u64, PublishResult>,
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
    let mut world = World::new(seed, None, true);
    world.ticks_always = ticks_always;
    world.trace_max = usize::MAX;
    if let Err(promise) = world.play() {
        world.trace.push_back(promise);
    }
    world.trace.into_iter().collect()
}

/// Plays one seed to its end. The coverage counts each state once.
///
/// # Errors
/// The first broken promise.
pub fn run(seed: u64, sabotage: Option<Sabotage>, tracing: bool) -> Result<Coverage, Broken> {
    let mut world = World::new(seed, sabotage, tracing);
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
    fn new(seed: u64, sabotage: Option<Sabotage>, tracing: bool) -> World {
        let mut random = Rng::with_seed(seed);
        let roomy = random.u8(0..3) == 0;
        let pings = random.u8(0..3) == 0;
        let sleepiness = if random.u8(0..3) == 0 { (4, 5) } else { (25, 20) };
        let settings = ShardSettings {
            subject_bytes_max: 64,
            cache_bytes_max: if roomy { 1 << 30 } else { random.usize(20_000..300_000) },
            cache_records_max: if roomy { 1 << 20 } else { random.usize(1..40) },
            // By the seed, not by its dice: worlds from before are what they were.
            turn_bytes_max: if seed % 4 == 1 { 400 + (seed % 11) as usize * 300 } else { TURN_BYTES_MAX },
            commands_at_once_max: if seed % 5 == 2 { 3 } else { COMMANDS_AT_ONCE_MAX },
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
            ..ShardSettings::default()
        };
        let mut kafka = FakeKafka::default();
        for name in ["alpha", "beta", "gamma"].iter().take(random.usize(1..4)) {
            let rule = [Rule::Murmur2, Rule::Murmur2, Rule::Crc32, Rule::Any][random.usize(0..4)];
            kafka.create(name, random.u32(1..5), rule, random.u8(0..6) == 0);
        }
        let nodes = (0..random.usize(1..3)).map(|_| Node::new(&mut random, &settings, sabotage)).collect();
        let mut world = World {
            random,
            now_ms: 1,
            kafka,
            nodes,
            clients: Vec::new(),
            kept: Vec::new(),
            settings,
            coverage: Coverage::default(),
            trace: std::collections::VecDeque::new(),
            tracing,
            published: HashMap::new(),
            acknowledged: HashSet::new(),
            sleepiness,
            sabotage,
            healed_ms: None,
            trouble: Some(Rng::with_seed(seed ^ 0x5eed_dea1)).filter(|_| seed.is_multiple_of(3)),
            hostility: Some(Rng::with_seed(seed ^ 0x0e71)).filter(|_| seed % 5 == 2),
            bursts: Some(Rng::with_seed(seed ^ 0xb125)).filter(|_| seed % 11 == 4),
            losses: Some(Rng::with_seed(seed ^ 0x1055)).filter(|_| seed % 7 == 3),
            is_crowded: seed % 400 == 77,
            late: Vec::new(),
            pings: 0,
            said: HashMap::new(),
            fates: HashMap::new(),
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

    /// More than a thousand clients subscribe to one subject, hear some records, and most of them leave.
    fn crowd(&mut self) -> Result<(), String> {
        const SUBSCRIBERS: usize = 1_100;
        self.coverage.note("more than a thousand subscribers of one subject");
        // Everything moves at once here; chaos comes later.
        self.healed_ms = Some(self.now_ms);
        self.settle(true)?;
        let channel = format!("/{}/k1", self.kafka.topics[0].name);
        for _ in 0..SUBSCRIBERS {
            self.connect();
        }
        self.settle(true)?;
        for place in 0..self.clients.len() {
            if self.can_send(place) {
                self.clients[place].moment = self.nodes[self.clients[place].node].moment(self.now_ms);
                let asked = Asked { position: None, history: 0, numeric: false, strict: false, end: None, stray: None };
                let request = wire::SubscribeRequest { channel: channel.clone().into(), ..Default::default() };
                let open = Open::Subscribe { channel: channel.clone(), asked, left: false };
                let message = self.clients[place].command(open, |command| command.subscribe = Some(request));
                self.send(place, &message);
            }
        }
        for round in 0..3 {
            for _ in 0..round * 4 {
                self.kafka.write(&mut self.random, 0, Some(b"k1".to_vec()), 30, false);
            }
            self.settle(true)?;
            self.pass(20 * TICK_MS)?;
        }
        self.settle(true)?;
        for _ in 0..SUBSCRIBERS - 20 {
            let (node, shard, key) = (self.clients[0].node, self.clients[0].shard, self.clients[0].key);
            self.close_socket(node, shard, key);
        }
        self.healed_ms = None;
        Ok(())
    }

    /// One of Kafka's clients gets stuck, without a word. What was on its way in one that was replaced arrives.
    fn trouble_clients(&mut self, node: usize, shard: usize) {
        let Some(dice) = &mut self.trouble else { return };
        match dice.u32(0..400) {
            0..=2 => {
                let partitions: Vec<_> = self.nodes[node].hands[shard].reading.keys().copied().collect();
                if !partitions.is_empty() {
                    let at = partitions[dice.usize(0..partitions.len())];
                    let only_another_client_helps = dice.u8(0..4) == 0;
                    self.nodes[node].hands[shard].deaf.insert(at, only_another_client_helps);
                    self.coverage.note("a consumer went deaf");
                    self.say(|| format!("node {node} shard {shard}: topic {} partition {} is not read any more", at.topic.0, at.partition));
                }
            }
            3 => {
                let now_ms = self.now_ms;
                self.nodes[node].hands[shard].stuck_since_ms.get_or_insert(now_ms);
                self.say(|| format!("node {node} shard {shard}: the producer answers nothing any more"));
            }
            4..=40 if !self.late.is_empty() => {
                let (record, number) = self.late.swap_remove(dice.usize(0..self.late.len()));
                self.write_late(record, number);
            }
            _ => {}
        }
    }

    fn write_late(&mut self, record: ProduceRecord, number: u64) {
        let key = record.key.as_ref().map(|key| key.to_vec());
        self.kafka.write_published(&record.topic, record.partition.unwrap_or(0), key, record.value, number);
        self.coverage.note("a record came from a producer that was replaced");
        self.say(|| format!("publish {number} comes late"));
    }

    /// What the node does about its own clients as time passes.
    fn look_after_clients(&mut self, node: usize, shard: usize) {
        if self.trouble.is_none() {
            return;
        }
        let now_ms = self.now_ms;
        if now_ms % WATCH_MS < TICK_MS {
            for done in self.nodes[node].look_at_ends(&self.kafka, shard, now_ms) {
                self.coverage.note(done);
                self.say(|| format!("node {node} shard {shard}: {done}"));
            }
        }
        if self.nodes[node].hands[shard].stuck_since_ms.is_some_and(|since_ms| now_ms >= since_ms + STUCK_PRODUCER_MS) {
            self.nodes[node].hands[shard].stuck_since_ms = None;
            self.coverage.note("a producer that answered nothing was replaced");
            while let Some((publish, record)) = self.nodes[node].hands[shard].produced.pop_front() {
                let number = number_of(record.value.as_deref());
                *self.published.entry(number).or_default() += 1;
                match self.trouble.as_mut().map_or(0, |dice| dice.u8(0..3)) {
                    0 => {}
                    1 => self.write_late(record, number),
                    _ => self.late.push((record, number)),
                }
                self.nodes[node].handle(now_ms, shard, Event::Published { publish, result: PublishResult::Unknown });
            }
        }
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        match self.random.u8(0..30) {
            0..=1 => None,
            2 => Some(vec![0xff, 0xfe]),
            3 => Some(b"a//b".to_vec()),
            _ => Some(vec![b'k', b'0' + self.random.u8(0..8)]),
        }
    }

    fn write_record(&mut self) {
        let topic = self.random.usize(0..self.kafka.topics.len());
        let key = self.key();
        let bytes = match self.random.u8(0..20) {
            0 => self.random.usize(3_000..50_000),
            1..=6 => self.random.usize(200..1_500),
            _ => self.random.usize(0..60),
        };
        let any = self.kafka.topics[topic].life().rule == Rule::Any;
        let astray = if any { self.random.bool() } else { self.random.u16(0..600) == 0 };
        let burst = if self.random.u8(0..10) == 0 { self.random.usize(2..20) } else { 1 };
        let large = self.bursts.as_mut().and_then(|dice| (dice.u8(0..100) == 0).then(|| dice.usize(100..400)));
        self.coverage.note_if(large.is_some(), "a burst");
        let burst = large.unwrap_or(burst);
        let most = if self.sleepiness.0 < 10 { 3_000 } else { 4_000 / burst + bytes % 200 };
        for _ in 0..burst {
            self.kafka.write(&mut self.random, topic, key.clone(), bytes.min(most), astray);
        }
        self.say(|| format!("{burst} records for topic {topic}, key {key:?}, astray {astray}"));
    }

    fn consume(&mut self, node: usize, shard: usize) {
        let partitions: Vec<_> = self.nodes[node].hands[shard].reading.keys().copied().collect();
        if !self.nodes[node].cores[shard].polls_kafka() || partitions.is_empty() {
            return;
        }
        let at = partitions[self.random.usize(0..partitions.len())];
        let mut back = if self.random.u16(0..40) == 0 { self.random.i64(0..4) } else { 0 };
        if self.nodes[node].hands[shard].deaf.contains_key(&at) {
            return;
        }
        if self.nodes[node].hands[shard].assigned_anew.remove(&at) {
            back = self.trouble.as_mut().map_or(0, |dice| dice.i64(0..4));
        }
        let Some(batch) = self.nodes[node].fetch(&self.kafka, shard, at, self.random.usize(1..12), back) else { return };
        let (count, next, now_ms) = (batch.records.len(), batch.next.0, self.now_ms);
        self.say(|| format!("node {node} shard {shard} reads {count} of topic {} partition {} up to {next}", at.topic.0, at.partition));
        if batch.generation.0 > 1 && self.random.u16(0..80) == 0 {
            // What was under way from an earlier log.
            let mut stale = batch.clone();
            stale.generation.0 -= 1;
            self.coverage.note("stale batch");
            self.nodes[node].handle(now_ms, shard, Event::Records(stale));
        }
        self.nodes[node].handle(now_ms, shard, Event::Records(batch));
    }

    /// The version of a node's map, if the home of a subject there knows of a record that nothing explains.
    fn stray(&self, node: usize, channel: &str) -> Option<u64> {
        let node = &self.nodes[node];
        // What is on its way may not be known to the home.
        let quiet =
            !node.hands.iter().any(SimHands::has_sent) && node.cores.iter().all(ShardCore::has_told_homes) && !node.map_is_under_way();
        let name = Subject::parse(channel, 1024).ok().filter(|_| quiet)?;
        let life = self.kafka.topic(name.topic())?.life();
        node.stray(life, name.topic(), name.key()?.as_bytes()).map(|_| node.version())
    }

    /// Moves one message of one lane.
    fn move_lane(&mut self, node: usize, from: usize) {
        let to = self.random.usize(0..self.nodes[node].cores.len());
        if self.random.bool() {
            self.move_from_home(node, from, to);
        } else {
            self.move_toward_home(node, from, to);
        }
    }

    fn move_from_home(&mut self, node: usize, from: usize, to: usize) -> bool {
        if !self.nodes[node].cores[to].drains_from_home() {
            self.coverage.note("waited for readers");
            return false;
        }
        let Some(batch) = self.nodes[node].hands[from].from_home[to].receive() else { return false };
        let FromHomeBatch(messages) = &batch;
        let count = messages.len();
        let now_ms = self.now_ms;
        self.say(|| format!("node {node}: {count} messages from home {from} to {to}"));
        self.nodes[node].handle(now_ms, to, Event::FromHome { from: ShardId(from as u16), batch });
        true
    }

    fn move_toward_home(&mut self, node: usize, from: usize, to: usize) -> bool {
        if !self.nodes[node].cores[to].drains_toward_home() {
            return false;
        }
        let Some(batch) = self.nodes[node].hands[from].toward_home[to].receive() else { return false };
        let TowardHomeBatch(messages) = &batch;
        let count = messages.len();
        let now_ms = self.now_ms;
        self.say(|| format!("node {node}: {count} messages toward home {to} of {from}"));
        self.nodes[node].handle(now_ms, to, Event::TowardHome { from: ShardId(from as u16), batch });
        true
    }

    fn flush(&mut self, node: usize, shard: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        if !self.nodes[node].cores[shard].rests() {
            self.nodes[node].flush(now_ms, shard);
            self.check_bounds(node, shard)?;
        }
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        self.see_closed_sockets(node, shard)
    }

    /// Queues stay in their bounds.
    fn check_bounds(&mut self, node: usize, shard: usize) -> Result<(), String> {
        let settings = &self.settings;
        let connections = self.nodes[node].sockets.len();
        let bounds = self.nodes[node].cores[shard].bounds();
        // Beyond the bound of all: what an empty outbox takes of one push, and answers that were promised room.
        let each = connections * 2 * settings.outbox_bytes_max;
        let outboxes = (connections * 3 * settings.outbox_bytes_max).min(settings.outboxes_bytes_max + each);
        if bounds.outbox_bytes > outboxes {
            return Err(format!("outboxes hold {} bytes, {outboxes} are allowed", bounds.outbox_bytes));
        }
        if bounds.spill_bytes > TURN_BYTES_MAX * 12 {
            return Err(format!("{} bytes wait for lanes", bounds.spill_bytes));
        }
        if bounds.requests_held > settings.held_max || bounds.requests_held_bytes > HELD_BYTES_MAX {
            return Err(format!("{} requests of {} bytes are held", bounds.requests_held, bounds.requests_held_bytes));
        }
        if bounds.cache_bytes > settings.cache_bytes_max {
            return Err(format!("rule 17: the cache has {} bytes of {}", bounds.cache_bytes, settings.cache_bytes_max));
        }
        if bounds.subscriptions_bytes > settings.subscriptions_bytes_max {
            return Err(format!("subscriptions take {} bytes", bounds.subscriptions_bytes));
        }
        Ok(())
    }

    fn see_closed_sockets(&mut self, node: usize, shard: usize) -> Result<(), String> {
        if self.nodes[node].hands[shard].closing == 0 {
            return Ok(());
        }
        let closing: Vec<_> =
            self.nodes[node].hands[shard].sockets.iter().filter(|(_, socket)| socket.closing).map(|(key, _)| *key).collect();
        for key in closing {
            // The shard learns of it some time later.
            if self.healed_ms.is_none() && self.random.bool() {
                continue;
            }
            self.take_bytes(node, shard, key, usize::MAX)?;
            if let Some(client) = self.clients.iter().find(|client| client.node == node && client.key == key && client.closed == Some(3001))
            {
                let answered =
                    |open: &&Open| matches!(open, Open::Publish { number, .. } if *number > 0 && self.published.contains_key(number));
                if let Some(open) = client.open.values().find(answered) {
                    return Err(format!("rule 15: a drain closed a connection before Kafka's answer was passed on: {open:?}"));
                }
            }
            self.close_socket(node, shard, key);
        }
        Ok(())
    }

    fn close_socket(&mut self, node: usize, shard: usize, key: ConnectionKey) {
        let now_ms = self.now_ms;
        let hands = &mut self.nodes[node].hands[shard];
        hands.closing -= usize::from(hands.sockets.remove(&key).is_some_and(|socket| socket.closing));
        self.nodes[node].sockets.remove(key);
        self.nodes[node].handle(now_ms, shard, Event::Closed { connection: key });
        if let Some(place) = self.clients.iter().position(|client| client.node == node && client.key == key) {
            let client = self.clients.swap_remove(place);
            self.nodes[node].open_left += client.open.len();
            self.remember_positions(client);
        }
    }

    /// What a client knew when it lost its connection is what it comes back with.
    fn remember_positions(&mut self, client: Client) {
        for (channel, held) in client.held {
            if held.recoverable {
                self.kept.push((channel, held.kept));
            }
        }
        self.kept.extend(client.positions);
        while self.kept.len() > 60 {
            self.kept.swap_remove(0);
        }
    }

    /// A client takes bytes from its socket.
    fn take_bytes(&mut self, node: usize, shard: usize, key: ConnectionKey, bytes_max: usize) -> Result<(), String> {
        let Some(socket) = self.nodes[node].hands[shard].sockets.get_mut(&key) else { return Ok(()) };
        let take = socket.buffer.len().min(bytes_max);
        let bytes: Vec<u8> = socket.buffer.drain(..take).collect();
        let writable = socket.wants_room && socket.buffer.len() < socket.capacity;
        if writable {
            socket.wants_room = false;
        }
        if let Some(client) = self.clients.iter_mut().find(|client| client.node == node && client.key == key) {
            let witness = Witness {
                kafka: &self.kafka,
                node: &self.nodes[node],
                settings: &self.settings,
                now_ms: self.now_ms,
                tracing: self.tracing,
                fates: &self.fates,
            };
            let verdict = client.receive(&bytes, witness, &mut self.coverage);
            let heard = std::mem::take(&mut client.heard);
            for words in heard {
                self.say(|| format!("{} hears {words}", name(node, key)));
            }
            verdict?;
        }
        if writable {
            let now_ms = self.now_ms;
            self.nodes[node].handle(now_ms, shard, Event::Writable { connection: key });
        }
        Ok(())
    }

    fn client_reads(&mut self) -> Result<(), String> {
        if self.clients.is_empty() {
            return Ok(());
        }
        let place = self.random.usize(0..self.clients.len());
        let client = &mut self.clients[place];
        if client.asleep {
            client.asleep = self.random.u8(0..self.sleepiness.1) > 0;
            return Ok(());
        }
        client.asleep = self.random.u8(0..self.sleepiness.0) == 0;
        let (node, shard, key) = (client.node, client.shard, client.key);
        let bytes = if self.random.u8(0..4) == 0 { self.random.usize(1..500) } else { self.random.usize(500..100_000) };
        self.take_bytes(node, shard, key, bytes)?;
        if self.random.u8(0..8) > 0 {
            self.pay_pongs(place);
        }
        Ok(())
    }

    fn connect(&mut self) {
        let node = self.random.usize(0..self.nodes.len());
        let shard = self.random.usize(0..self.nodes[node].cores.len());
        let key = self.nodes[node].sockets.insert(shard);
        let protocol = if self.random.bool() { Protocol::Json } else { Protocol::Protobuf };
        let capacity = self.random.usize(200..20_000);
        self.nodes[node].hands[shard]
            .sockets
            .insert(key, FakeSocket { buffer: Vec::new(), capacity, wants_room: false, closing: false, broken: false });
        let now_ms = self.now_ms;
        self.nodes[node].handle(now_ms, shard, Event::Opened { connection: key, protocol });
        let mut client = Client::new(node, shard, key, protocol);
        client.earned.extend([3008]);
        if self.settings.ping_interval_ms > 0 {
            client.earned.insert(3012);
        }
        client.moment = self.nodes[node].moment(now_ms);
        let message = client.command(Open::Connect, |command| command.connect = Some(wire::ConnectRequest::default()));
        self.clients.push(client);
        self.say(|| format!("{} connects to shard {shard}, {protocol:?}", name(node, key)));
        let place = self.clients.len() - 1;
        self.send(place, &message);
    }

    /// Notes how many commands are open at a node.
    fn count_open(&mut self, node: usize) {
        let open = self.clients.iter().filter(|client| client.node == node).map(|client| client.open.len()).sum::<usize>();
        let node = &mut self.nodes[node];
        node.open_most = node.open_most.max(node.open_left + open);
    }

    /// Hands a message to the shard, if it reads this socket now.
    fn send(&mut self, place: usize, message: &[u8]) {
        self.count_open(self.clients[place].node);
        let (node, shard, connection) = (self.clients[place].node, self.clients[place].shard, self.clients[place].key);
        let now_ms = self.now_ms;
        self.nodes[node].handle(now_ms, shard, Event::Received { connection, payload: message });
    }

    /// Whether a client's socket is read now. One that was refused is not asked for again before the shard says so.
    fn can_send(&mut self, place: usize) -> bool {
        let client = &self.clients[place];
        let (node, shard, key) = (client.node, client.shard, client.key);
        if !client.connected || client.closed.is_some() {
            return false;
        }
        if client.stalled && !self.nodes[node].hands[shard].resumed.remove(&key) {
            return false;
        }
        let reads = self.nodes[node].cores[shard].reads(key);
        self.clients[place].stalled = !reads;
        reads
    }

    fn channel(&mut self) -> String {
        let topic = self.kafka.topics[self.random.usize(0..self.kafka.topics.len())].name.clone();
        match self.random.u8(0..40) {
            0 => "/nowhere/k".to_owned(),
            1 => "no slash".to_owned(),
            2..=3 => format!("/{topic}"),
            _ => format!("/{topic}/k{}", self.random.u8(0..9)),
        }
    }

    fn client_acts(&mut self) {
        if self.clients.len() < 3 || (self.clients.len() < 9 && self.random.u8(0..12) == 0) {
            self.connect();
            return;
        }
        let place = self.random.usize(0..self.clients.len());
        if !self.can_send(place) {
            return;
        }
        let count = if self.random.u8(0..4) == 0 { self.random.usize(2..5) } else { 1 };
        let client = &mut self.clients[place];
        client.moment = self.nodes[client.node].moment(self.now_ms);
        let mut message = Vec::new();
        let mut words = Vec::new();
        for _ in 0..count {
            let (word, bytes) = self.command_of(place);
            if self.clients[place].protocol == Protocol::Json && !message.is_empty() {
                message.push(b'\n');
            }
            message.extend(bytes);
            words.push(word);
        }
        if let Some(more) = self.hostile_commands(place) {
            if self.clients[place].protocol == Protocol::Json {
                message.push(b'\n');
            }
            message.extend(more);
        }
        let (node, shard) = (self.clients[place].node, self.clients[place].shard);
        let key = self.clients[place].key;
        self.say(|| format!("{} says {}", name(node, key), words.join(", ")));
        let connection = self.clients[place].key;
        match self.random.u16(0..300) {
            0 => {
                self.clients[place].earned.insert(3501);
                message = b"\x7fnonsense".to_vec();
            }
            1..=3 => {
                // The connection breaks, whatever was on its way.
                self.say(|| "and is gone".to_owned());
                self.close_socket(node, shard, connection);
                return;
            }
            4 => {
                self.say(|| "and its next write breaks".to_owned());
                if let Some(socket) = self.nodes[node].hands[shard].sockets.get_mut(&connection) {
                    socket.broken = true;
                }
            }
            5 => {
                self.clients[place].earned.insert(1000);
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::CloseReceived { connection, code: 1000 });
                return;
            }
            6 => {
                self.clients[place].earned.insert(1009);
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::Violated { connection, code: 1009, reason: "too large" });
                return;
            }
            7..=12 => {
                self.pings += 1;
                let mut payload = self.pings.to_string().into_bytes();
                payload.resize(payload.len() + self.random.usize(0..100), b' ');
                self.clients[place].pings.push_back(payload.clone());
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::PingReceived { connection, payload: &payload });
            }
            _ => {}
        }
        self.send(place, &message);
    }

    /// What a hostile client adds to what it says: a flood of pings that it sends at once, or one of commands, or positions that nobody keeps.
    fn hostile_commands(&mut self, place: usize) -> Option<Vec<u8>> {
        let kind = self.hostility.as_mut()?.u8(0..12);
        let protocol = self.clients[place].protocol;
        match kind {
            0 => {
                let (node, shard, connection) = (self.clients[place].node, self.clients[place].shard, self.clients[place].key);
                for _ in 0..100 {
                    self.pings += 1;
                    let mut payload = self.pings.to_string().into_bytes();
                    payload.resize(125, b' ');
                    self.clients[place].pings.push_back(payload.clone());
                    self.nodes[node].handle(self.now_ms, shard, Event::PingReceived { connection, payload: &payload });
                }
                self.clients[place].asleep = true;
                self.coverage.note("a flood of pings");
                None
            }
            1 => {
                // Pongs that nobody asked for: empty commands, which have no answer.
                self.coverage.note("a flood of commands");
                let one = codec::pong(protocol);
                let commands = vec![one; 40];
                Some(if protocol == Protocol::Json { commands.join(&b'\n') } else { commands.concat() })
            }
            2 => {
                self.coverage.note("an epoch that nobody keeps");
                let position = Some(Kept { epoch: "e".repeat(3_000), offset: 5, eras: BTreeSet::new() });
                let channel = self.channel();
                let asked = Asked { end: None, numeric: false, strict: false, history: 0, stray: None, position: position.clone() };
                let asked = Asked { stray: self.stray(self.clients[place].node, &channel), ..asked };
                let request = wire::SubscribeRequest {
                    channel: channel.clone().into(),
                    recover: true,
                    epoch: position.map(|position| position.epoch).unwrap_or_default().into(),
                    offset: 5,
                    ..wire::SubscribeRequest::default()
                };
                let left = self.clients[place].subscribes(&channel);
                let open = Open::Subscribe { channel, asked, left };
                Some(self.clients[place].command(open, |command| command.subscribe = Some(request)))
            }
            _ => None,
        }
    }

    /// Answers the server's pings.
    fn pay_pongs(&mut self, place: usize) {
        while self.clients[place].pongs_owed > 0 && self.can_send(place) {
            self.clients[place].pongs_owed -= 1;
            let pong = codec::pong(self.clients[place].protocol);
            self.send(place, &pong);
        }
    }

    /// Words for the trace.
    fn word(&self, word: impl FnOnce() -> String) -> String {
        if self.tracing { word() } else { String::new() }
    }

    fn command_of(&mut self, place: usize) -> (String, Vec<u8>) {
        match self.random.u8(0..20) {
            0..=9 => self.subscribe_command(place),
            10..=11 => self.unsubscribe_command(place),
            12..=16 => self.publish_command(place),
            17..=18 => self.history_command(place),
            _ if self.random.bool() => {
                let request = wire::RpcRequest { method: "m".into() };
                ("rpc".to_owned(), self.clients[place].command(Open::Rpc, |command| command.rpc = Some(request)))
            }
            _ => {
                let request = wire::ChannelRequest { channel: self.channel().into() };
                ("presence".to_owned(), self.clients[place].command(Open::Presence, |command| command.presence = Some(request)))
            }
        }
    }

    fn unsubscribe_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let client = &self.clients[place];
        let mut channels: Vec<String> = client.held.keys().cloned().collect();
        channels.extend(client.open.values().filter_map(|open| match open {
            Open::Subscribe { channel, .. } => Some(channel.clone()),
            _ => None,
        }));
        let channel = if channels.is_empty() { self.channel() } else { channels.swap_remove(self.random.usize(0..channels.len())) };
        let request = wire::ChannelRequest { channel: channel.clone().into() };
        self.clients[place].unsubscribes(&channel);
        let word = self.word(|| format!("unsubscribe {channel}"));
        (word, self.clients[place].command(Open::Unsubscribe { channel }, |command| command.unsubscribe = Some(request)))
    }

    fn history_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let channel = self.channel();
        let known = self.kept.iter().find(|(other, _)| *other == channel).map(|(_, kept)| kept.clone());
        let known = known.filter(|_| self.random.bool());
        let page = Page { limit: self.random.i32(-1..10), since: known.as_ref().map(|kept| kept.offset), reverse: self.random.bool() };
        let request = wire::HistoryRequest {
            channel: channel.clone().into(),
            limit: page.limit,
            since: known.map(|kept| wire::StreamPosition { offset: kept.offset, epoch: kept.epoch.into() }),
            reverse: page.reverse,
        };
        let word = self.word(|| format!("history {channel} {page:?}"));
        (word, self.clients[place].command(Open::History { channel, page }, |command| command.history = Some(request)))
    }

    fn subscribe_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let mut channel = self.channel();
        let mut position = None;
        let nowhere = |epoch: &str, offset| Some(Kept { epoch: epoch.to_owned(), offset, eras: BTreeSet::new() });
        match self.random.u8(0..12) {
            0..=5 if !self.kept.is_empty() => {
                let (other, kept) = self.kept[self.random.usize(0..self.kept.len())].clone();
                (channel, position) = (other, Some(kept));
            }
            6 if self.random.bool() => position = self.newest_position(&channel),
            6 => position = nowhere("_", 0),
            7 => position = nowhere("", self.random.u64(0..60)),
            8 => {
                let epoch = ["1.id1.0.0", "1.id2.1.5", "nonsense", "1.id1.9.0"][self.random.usize(0..4)];
                position = nowhere(epoch, if self.random.bool() { self.random.u64(0..80) } else { u64::MAX - 3 });
            }
            _ => {}
        }
        let client = &self.clients[place];
        let again = client.held.contains_key(&channel) || client.subscribes(&channel);
        if again && self.random.u8(0..4) > 0 {
            return self.unsubscribe_command(place);
        }
        if position.is_none() && self.random.u8(0..3) > 0 {
            position = client.positions.get(&channel).cloned();
        }
        let (mut history, mut data) = (0, Bytes::new());
        if position.is_none() && self.random.bool() {
            history = self.random.u32(1..8);
            data =
                if history == 1 { Bytes::from_static(br#"{"snapshot":true}"#) } else { Bytes::from(format!("{{\"history\":{history}}}")) };
        }
        let offers = self.random.bool();
        let asked = Asked {
            end: position.as_ref().and_then(|position| self.log_end(&channel, &position.epoch)),
            // Ids are granted in JSON only.
            numeric: offers && client.protocol == Protocol::Json,
            strict: position.is_some() && self.random.u8(0..6) == 0,
            position,
            history,
            stray: self.stray(self.clients[place].node, &channel),
        };
        let request = wire::SubscribeRequest {
            channel: channel.clone().into(),
            recover: asked.position.is_some(),
            epoch: asked.position.as_ref().map(|position| position.epoch.clone()).unwrap_or_default().into(),
            offset: asked.position.as_ref().map_or(0, |position| position.offset),
            flag: i64::from(offers) | if asked.strict { 2 } else { 0 },
            data,
            ..wire::SubscribeRequest::default()
        };
        let word = self.word(|| format!("subscribe {channel} {asked:?}"));
        let left = self.clients[place].subscribes(&channel);
        (word, self.clients[place].command(Open::Subscribe { channel, asked, left }, |command| command.subscribe = Some(request)))
    }

    /// A position that a node could have given which reads faster than all.
    fn newest_position(&mut self, channel: &str) -> Option<Kept> {
        let name = Subject::parse(channel, 1024).ok()?;
        let life = self.kafka.topic(name.topic())?.life();
        let partition = life.rule.partition(name.key()?.as_bytes(), life.logs.len() as u32);
        let log = &life.logs[partition as usize];
        let leader_epoch = log.now().leader_epoch();
        let epoch = Epoch { topic_id: &life.id, partition, leader_epoch }.text();
        let offset = (log.now().end - self.random.i64(0..4)).max(log.now().forks_at).max(0) as u64;
        Some(Kept { epoch, offset, eras: BTreeSet::from([log.eras.len() - 1]) })
    }

    /// Where the log that an epoch names ends now.
    fn log_end(&self, channel: &str, epoch: &str) -> Option<i64> {
        let name = Subject::parse(channel, 1024).ok()?;
        let epoch = Epoch::parse(epoch)?;
        let life = self.kafka.topic(name.topic())?.life();
        (*life.id == *epoch.topic_id).then(|| life.logs.get(epoch.partition as usize).map(|log| log.now().end)).flatten()
    }

    fn publish_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let channel = self.channel();
        // Tombstones carry no number.
        let removed = self.random.u8(0..12) == 0;
        let number = if removed { 0 } else { self.kafka.number() };
        let pad = match self.random.u8(0..60) {
            // More than an outbox holds, and much more than may be published.
            0 => self.settings.outbox_bytes_max.min(64 << 10),
            1..=4 => 3_000,
            _ => self.random.usize(0..300),
        };
        let data = if removed { Bytes::new() } else { Bytes::from(value_text(number, pad)) };
        let bytes = data.len();
        let request = wire::PublishRequest { channel: channel.clone().into(), data: data.clone(), removed, ..Default::default() };
        if number > 0 {
            self.said.insert(number, (channel.clone(), data.clone()));
        }
        let word = self.word(|| format!("publish {number} to {channel}"));
        (word, self.clients[place].command(Open::Publish { number, channel, bytes }, |command| command.publish = Some(request)))
    }

    fn producer_answers(&mut self, node: usize, shard: usize) {
        let healed = self.healed_ms.is_some();
        self.nodes[node].hands[shard].producer_room = if healed { 64 } else { self.random.usize(0..10) };
        if self.nodes[node].hands[shard].stuck_since_ms.is_some() {
            return;
        }
        let Some((publish, record)) = self.nodes[node].hands[shard].produced.pop_front() else { return };
        let fate = if healed { 0 } else { self.random.u8(0..10) };
        let number = number_of(record.value.as_deref());
        *self.published.entry(number).or_default() += 1;
        if let Some((channel, value)) = self.said.get(&number) {
            let key = record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
            let written = key.map_or_else(|| format!("/{}", record.topic), |key| format!("/{}/{key}", record.topic));
            if written != *channel || record.value.as_ref() != Some(value) {
                self.broken = Some(format!("rule 15: publish {number} was to {channel} and is written as {record:?}"));
            }
        }
        let partition = record.partition.unwrap_or(0);
        let stores = fate < 7 || fate == 9 && self.random.bool();
        let offset = if stores {
            self.kafka.write_published(&record.topic, partition, record.key.as_ref().map(|key| key.to_vec()), record.value, number)
        } else {
            None
        };
        let result = match (fate, offset) {
            (9, _) => PublishResult::Unknown,
            (_, Some(offset)) => {
                self.acknowledged.insert(number);
                PublishResult::Stored { partition, offset: Offset(offset) }
            }
            (7, _) => PublishResult::Failed(PublishFailure::Denied),
            (8, _) => PublishResult::Failed(PublishFailure::Unavailable),
            _ => PublishResult::Failed(PublishFailure::NoSuchTopic),
        };
        self.fates.insert(number, result);
        let now_ms = self.now_ms;
        self.say(|| format!("node {node} shard {shard}: publish {number} is {result:?}"));
        self.nodes[node].handle(now_ms, shard, Event::Published { publish, result });
    }

    fn loses_letter(&mut self) -> bool {
        let lost = self.healed_ms.is_none() && self.losses.as_mut().is_some_and(|dice| dice.u8(0..3) == 0);
        self.coverage.note_if(lost, "a letter was lost");
        lost
    }

    fn answer_questions(&mut self, node: usize, shard: usize) {
        let now_ms = self.now_ms;
        let healed = self.healed_ms.is_some();
        // A log may have grown by the time the answer arrives.
        if healed || self.random.bool() {
            let known: Vec<_> = self.nodes[node].hands[shard].log_ends_known.drain(..).collect();
            for (question, end) in known {
                if self.loses_letter() {
                    continue;
                }
                self.nodes[node].handle(now_ms, shard, Event::LogEnd { question, end });
            }
        }
        if let Some(question) = self.nodes[node].hands[shard].log_ends.pop() {
            let partition = question.partition;
            let name = self.nodes[node].hands[shard].reading.get(&partition).map(|(assignment, _)| assignment.topic.clone());
            let log = name.and_then(|name| self.kafka.topic(&name)).and_then(|topic| topic.life().logs.get(partition.partition as usize));
            let end = log.map(|log| Offset(log.now().end)).filter(|_| healed || self.random.u8(0..5) > 0);
            self.nodes[node].hands[shard].log_ends_known.push((question, end));
        }
        if let Some(topic) = self.nodes[node].hands[shard].lookups.pop() {
            let count = self.kafka.topic(&topic).map(|topic| topic.life().logs.len() as u32);
            let told = self.healed_ms.is_some() || self.random.u8(0..4) > 0;
            if self.loses_letter() {
                return;
            }
            let partitions = if told { count.ok_or(PublishFailure::NoSuchTopic) } else { Err(PublishFailure::Unavailable) };
            self.nodes[node].handle(now_ms, shard, Event::TopicFound { topic: &topic, partitions });
        }
    }

    /// Something that happens to a cluster once a month.
    fn upheaval(&mut self) {
        if self.random.u8(0..4) > 0 {
            return;
        }
        let topic = self.random.usize(0..self.kafka.topics.len());
        match self.random.u8(0..9) {
            0 if self.kafka.topics.len() < 5 => {
                let name = format!("late{}", self.kafka.topics.len());
                self.kafka.create(&name, self.random.u32(1..4), Rule::Murmur2, false);
                self.coverage.note("a topic appeared");
                self.say(|| format!("topic {name} appears"));
            }
            1 | 2 if self.kafka.topics[topic].exists && self.kafka.topics[topic].life().logs.len() < 8 => {
                self.kafka.grow(topic, 1);
                self.coverage.note("partitions were added");
                self.say(|| format!("topic {topic} grows"));
            }
            3 | 4 => {
                let name = self.kafka.topics[topic].name.to_string();
                self.kafka.create(&name, self.random.u32(1..4), Rule::Murmur2, false);
                self.coverage.note("a topic was made again");
                self.say(|| format!("topic {name} is made again"));
            }
            5 if self.kafka.topics.iter().filter(|topic| topic.exists).count() > 1 => {
                self.kafka.delete(topic);
                self.coverage.note("a topic was deleted");
                self.say(|| format!("topic {topic} is deleted"));
            }
            6 if self.kafka.topics[topic].exists => {
                self.kafka.truncate(&mut self.random, topic);
                self.coverage.note("an unclean election");
                self.say(|| format!("topic {topic} loses records in an unclean election"));
            }
            7 if self.kafka.topics[topic].exists => {
                self.kafka.retain(&mut self.random, topic);
                self.coverage.note("retention");
                self.say(|| format!("topic {topic} forgets old records"));
            }
            8 => self.restart(),
            _ => {}
        }
    }

    /// A node dies and is started again: it knows nothing, and its clients come back with what they have.
    fn restart(&mut self) {
        let node = self.random.usize(0..self.nodes.len());
        self.say(|| format!("node {node} is started again"));
        self.coverage.note("a node was started again");
        for place in (0..self.clients.len()).rev().filter(|place| self.clients[*place].node == node).collect::<Vec<_>>() {
            let client = self.clients.swap_remove(place);
            self.remember_positions(client);
        }
        self.nodes[node] = Node::new(&mut self.random, &self.settings, self.sabotage);
        self.nodes[node].read_metadata(&mut self.random, &self.kafka);
    }

    /// A tick passes, or at most so many if nothing is due; how many.
    fn pass_some(&mut self, ticks_max: u64) -> Result<u64, String> {
        let ticks = 1 + self.ticks_asleep().min(ticks_max - 1);
        self.pass(ticks * TICK_MS)?;
        Ok(ticks)
    }

    /// So many ticks find nothing to do anywhere.
    fn ticks_asleep(&self) -> u64 {
        if self.ticks_always {
            return 0;
        }
        let watch_ms = (self.now_ms + 1).next_multiple_of(WATCH_MS);
        let mut due_ms = if self.trouble.is_some() { watch_ms } else { u64::MAX };
        for node in &self.nodes {
            for (core, hands) in node.cores.iter().zip(&node.hands) {
                if !core.rests() || hands.closing > 0 {
                    return 0;
                }
                let replaced_ms = hands.stuck_since_ms.map_or(u64::MAX, |since_ms| since_ms + STUCK_PRODUCER_MS);
                due_ms = due_ms.min(core.due_ms()).min(replaced_ms);
            }
        }
        due_ms.saturating_sub(self.now_ms + 1) / TICK_MS
    }

    fn pass(&mut self, time_ms: u64) -> Result<(), String> {
        let mut ticks = time_ms / TICK_MS;
        while ticks > 0 {
            let asleep = self.ticks_asleep().min(ticks - 1);
            self.now_ms += (asleep + 1) * TICK_MS;
            ticks -= asleep + 1;
            for node in 0..self.nodes.len() {
                for shard in 0..self.nodes[node].cores.len() {
                    let now_ms = self.now_ms;
                    if self.ticks_always || self.nodes[node].cores[shard].due_ms() <= now_ms {
                        self.nodes[node].handle(now_ms, shard, Event::Tick);
                    }
                    self.look_after_clients(node, shard);
                    self.flush(node, shard)?;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing can move without time passing, seen at a glance.
    fn is_still(&mut self, reading: bool) -> bool {
        let World { nodes, kafka, clients, .. } = self;
        let heard = clients.iter().filter(|client| reading && !client.asleep).all(|client| {
            let socket = nodes[client.node].hands[client.shard].sockets.get(&client.key);
            client.pongs_owed == 0 && socket.is_none_or(|socket| socket.buffer.is_empty() && !socket.wants_room)
        });
        heard && nodes.iter_mut().all(|node| node.is_still(kafka))
    }

    /// Everything moves until nothing is left to move; whether anything did.
    fn settle(&mut self, reading: bool) -> Result<bool, String> {
        let mut any = false;
        if self.is_still(reading) {
            return Ok(false);
        }
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            for node in 0..self.nodes.len() {
                let now_ms = self.now_ms;
                if self.nodes[node].map_is_under_way() {
                    self.nodes[node].spread_map(&mut self.random, now_ms);
                    moved = true;
                }
                self.nodes[node].read_metadata(&mut self.random, &self.kafka);
                let shards = self.nodes[node].cores.len();
                for shard in 0..shards {
                    for to in 0..if self.nodes[node].hands[shard].has_sent() { shards } else { 0 } {
                        while self.move_from_home(node, shard, to) {
                            moved = true;
                        }
                        while self.move_toward_home(node, shard, to) {
                            moved = true;
                        }
                    }
                    let hands = &self.nodes[node].hands[shard];
                    if !hands.produced.is_empty() && hands.stuck_since_ms.is_none() {
                        moved = true;
                    }
                    self.producer_answers(node, shard);
                    self.answer_questions(node, shard);
                    moved |= self.consume_all(node, shard);
                    self.flush(node, shard)?;
                    // A shard that waits for readers goes on when time has passed.
                    moved |= self.nodes[node].hands[shard].has_sent() && self.nodes[node].cores.iter().all(ShardCore::drains_from_home);
                    moved |= self.nodes[node].cores[shard].wants_flush();
                }
            }
            if reading {
                for place in (0..self.clients.len()).rev() {
                    let Some(client) = self.clients.get(place) else { continue };
                    if client.asleep {
                        continue;
                    }
                    let (node, shard, key) = (client.node, client.shard, client.key);
                    let (waiting, blocked) = self.nodes[node].hands[shard]
                        .sockets
                        .get(&key)
                        .map_or((false, false), |socket| (!socket.buffer.is_empty() || socket.wants_room, socket.wants_room));
                    if waiting {
                        let before = client.taken;
                        self.take_bytes(node, shard, key, usize::MAX)?;
                        self.flush(node, shard)?;
                        // Many clients are pinged at all times: that alone is rest.
                        moved |= blocked || self.clients.get(place).is_none_or(|client| client.taken != before || client.is_amid_frame());
                    }
                    if place < self.clients.len() {
                        self.pay_pongs(place);
                    }
                }
            }
            if !moved {
                return Ok(any);
            }
            any = true;
        }
        Err("the world does not come to rest at one moment: something spins".to_owned())
    }

    fn consume_all(&mut self, node: usize, shard: usize) -> bool {
        let mut moved = false;
        for at in self.nodes[node].waiting(&self.kafka, shard) {
            if !self.nodes[node].cores[shard].polls_kafka() {
                return moved;
            }
            if self.nodes[node].hands[shard].deaf.contains_key(&at) {
                continue;
            }
            moved = true;
            if let Some(batch) = self.nodes[node].fetch(&self.kafka, shard, at, 5, 0) {
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::Records(batch));
            }
        }
        moved
    }

    /// Chaos ends; the world comes to rest, and then every promise must have been kept.
    fn heal(&mut self) -> Result<(), String> {
        self.say(|| "the world heals".to_owned());
        self.healed_ms = Some(self.now_ms);
        for (record, number) in std::mem::take(&mut self.late) {
            self.write_late(record, number);
        }
        // Those who read are not kept waiting by those who do not.
        self.rest()?;
        self.judge()?;
        self.say(|| "the sleepers wake".to_owned());
        for client in &mut self.clients {
            client.asleep = false;
        }
        self.rest()?;
        self.judge()?;
        if self.random.u8(0..8) == 0 {
            // Nobody who reads is taken for slow, or for dead, later.
            self.coverage.note("stayed on");
            for client in &mut self.clients {
                client.earned.retain(|code| !matches!(code, 3008 | 3012));
            }
            let until_ms = self.now_ms + self.settings.slow_client_timeout_ms + 1_000;
            while self.now_ms < until_ms {
                self.settle(true)?;
                self.pass(10 * TICK_MS)?;
            }
            self.rest()?;
            self.judge()?;
        }
        self.check_publishes()?;
        self.everybody_leaves()
    }

    /// Lets the world run until nothing moves any more.
    fn rest(&mut self) -> Result<(), String> {
        let mut began_ms = self.now_ms;
        let latest_ms = began_ms + RENEW_PAUSES_MS.1 + REST_MS;
        let mut asked_ms = HashMap::new();
        let mut quiet = 0;
        while quiet < 600 {
            let shards = |node: &Node| 0..node.cores.len();
            let stuck = self.nodes.iter().any(|node| shards(node).any(|shard| node.waits_for_clients(&self.kafka, shard)));
            if stuck && self.now_ms < latest_ms {
                // They are found by the node itself, which takes its time. Its clients wait no longer than ever.
                self.settle(true)?;
                self.pass_some(10)?;
                self.check_patience(&mut asked_ms)?;
                (began_ms, quiet) = (self.now_ms, 0);
                continue;
            }
            if self.now_ms > began_ms + REST_MS {
                return Err("the world does not come to rest: something stalls or spins".to_owned());
            }
            let moved = self.settle(true)?;
            // Never beyond the moment at which the world is seen to rest.
            let passed = self.pass_some(if moved { 1 } else { QUIET_TICKS.saturating_sub(quiet).clamp(1, 10) })?;
            quiet = if moved { 0 } else { quiet + passed };
            let awake = || self.clients.iter().filter(|client| !client.asleep && client.closed.is_none());
            let open = awake().flat_map(|client| client.open.values()).next();
            match open {
                // Held requests live 4 s, positions ahead of a log are asked about: time must pass, not only turns.
                Some(open) if self.now_ms > began_ms + HOLD_MS + 1_000 => {
                    return Err(format!("rule 10: nothing hinders it, and a command waits longer than a request may be held: {open:?}"));
                }
                None if quiet >= QUIET_TICKS => return Ok(()),
                _ => {}
            }
            if self.now_ms > began_ms + self.settings.pong_timeout_ms + 1_000 {
                for client in self.clients.iter_mut().filter(|client| !client.asleep) {
                    client.earned.retain(|code| !matches!(code, 3008 | 3012));
                }
            }
        }
        Ok(())
    }

    /// No command of a client that reads waits longer than it may be held; `asked_ms`: when each was first seen to wait.
    fn check_patience(&self, asked_ms: &mut HashMap<(usize, ConnectionKey, u32), u64>) -> Result<(), String> {
        let awake = self.clients.iter().filter(|client| !client.asleep && client.closed.is_none());
        let waiting = awake.flat_map(|client| client.open.iter().map(|(id, open)| ((client.node, client.key, *id), open)));
        let waiting: HashMap<_, _> = waiting.collect();
        asked_ms.retain(|command, _| waiting.contains_key(command));
        for (command, open) in waiting {
            let since_ms = *asked_ms.entry(command).or_insert(self.now_ms);
            if self.now_ms > since_ms + HOLD_MS + 1_000 {
                return Err(format!("rule 10: a command waits longer than a request may be held: {open:?}"));
            }
        }
        Ok(())
    }

    /// Every client that reads has everything.
    fn judge(&self) -> Result<(), String> {
        for node in &self.nodes {
            node.reads_its_partitions()?;
            node.cores.iter().for_each(ShardCore::check);
        }
        for client in self.clients.iter().filter(|client| client.closed.is_none() && !client.asleep) {
            if client.stalled && !self.nodes[client.node].hands[client.shard].resumed.contains(&client.key) {
                return Err(format!("rule 6: nothing hinders it, and the socket of client {:?} is read no more", client.key));
            }
            let witness = Witness {
                kafka: &self.kafka,
                node: &self.nodes[client.node],
                settings: &self.settings,
                now_ms: self.now_ms,
                tracing: false,
                fates: &self.fates,
            };
            if !client.pings.is_empty() {
                return Err(format!("client {:?} reads everything and has no pong for its newest ping", client.key));
            }
            client
                .has_everything(witness)
                .map_err(|broken| format!("{broken} [client of node {} shard {} {:?}]", client.node, client.shard, client.protocol))?;
        }
        Ok(())
    }

    fn check_publishes(&self) -> Result<(), String> {
        let mut stands: HashMap<u64, u32> = HashMap::new();
        for log in self.kafka.topics.iter().flat_map(|topic| &topic.lives).flat_map(|life| &life.logs) {
            // What an election lost was there: each record counts once, in the era that it came in.
            let new = |era: &Era| {
                era.records.iter().filter(|record| record.offset >= era.forks_at).map(|record| record.publish).collect::<Vec<_>>()
            };
            for number in log.eras.iter().flat_map(new).filter(|number| *number > 0) {
                *stands.entry(number).or_default() += 1;
            }
        }
        for (number, times) in self.published.iter().filter(|(number, _)| **number > 0) {
            if *times > 1 {
                return Err(format!("rule 15: publish {number} was handed to a producer {times} times"));
            }
            let stands = stands.get(number).copied().unwrap_or(0);
            if self.acknowledged.contains(number) && stands != 1 {
                return Err(format!("rule 15: acknowledged publish {number} stands {stands} times in the log"));
            }
        }
        Ok(())
    }

    fn everybody_leaves(&mut self) -> Result<(), String> {
        while let Some(client) = self.clients.first() {
            let (node, shard, key) = (client.node, client.shard, client.key);
            self.close_socket(node, shard, key);
        }
        self.settle(true)?;
        // A request of a client that left may still be held.
        self.pass(HOLD_MS + 20 * TICK_MS)?;
        self.settle(true)?;
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].cores.len() {
                let core = &mut self.nodes[node].cores[shard];
                core.check();
                if core.interests() != (0, 0) {
                    return Err(format!(
                        "rule 7: node {node} shard {shard} still has interests {:?} with every client gone: {}",
                        core.interests(),
                        core.wanted_subjects()
                    ));
                }
                let counters = core.counters().clone();
                // A drain does not wait for a producer that answers nothing: those clients have their 401.
                let unanswered = self.nodes[node].hands[shard].produced.len() as u64;
                if counters.publishes_open > unanswered {
                    return Err(format!("{} publishes are open, {unanswered} are with the producer", counters.publishes_open));
                }
                if counters.outbox_bytes + counters.subscriptions + counters.connections + counters.spill_bytes + counters.requests_held_now
                    > 0
                {
                    return Err(format!("something is left with every client gone: {counters:?}"));
                }
                if counters.cache_bytes > self.settings.cache_bytes_max as u64 {
                    return Err(format!("rule 17: the cache has {} bytes of {}", counters.cache_bytes, self.settings.cache_bytes_max));
                }
                let replaced = self.nodes[node].rules_replaced;
                let coverage = &mut self.coverage;
                coverage.note_if(replaced > 0, "a topic was given another rule");
                coverage.note_if(counters.subscriptions_parked > 0, "parked");
                coverage.note_if(counters.lanes_full > 0, "lane full");
                coverage.note_if(counters.records_elsewhere > 0, "record found elsewhere");
                coverage.note_if(counters.strays > 0, "a subject is live only from now on");
                coverage.note_if(counters.misfits > 0, "a record is not where its topic's rule puts it");
                coverage.note_if(counters.requests_held > 0, "request held");
                coverage.note_if(counters.requests_held_expired > 0, "held too long");
                coverage.note_if(counters.records_without_subject > 0, "record without a subject");
                coverage.note_if(counters.records_oversize > 0, "oversize");
                coverage.note_if(counters.publishes_late > 0, "stored or refused after it was answered as unknown");
                coverage.note_if(counters.publishes_expired > 0, "a publish waited too long");
                coverage.note_if(counters.records_stale > 0, "stale record");
                coverage.note_if(counters.cache_evicted > 0, "evicted");
                coverage.note_if(counters.producer_full > 0, "producer full");
                coverage.note_if(counters.publishes_unknown > 0, "fate unknown");
            }
        }
        Ok(())
    }

    /// A graceful stop: every open publish is answered, every client is told, nothing is left.
    fn drain(&mut self) -> Result<(), String> {
        self.say(|| "the nodes drain".to_owned());
        self.healed_ms = Some(self.now_ms);
        for client in &mut self.clients {
            client.asleep = false;
            client.earned.insert(3001);
        }
        let now_ms = self.now_ms;
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].cores.len() {
                self.nodes[node].handle(now_ms, shard, Event::Drain { over_ms: 500 });
            }
        }
        for _ in 0..1_500 {
            self.settle(true)?;
            self.pass(TICK_MS)?;
            if self.nodes.iter().all(|node| node.cores.iter().all(|core| core.drained())) {
                self.coverage.note("drained");
                self.check_publishes()?;
                return self.everybody_leaves();
            }
        }
        Err("a drain does not end".to_owned())
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
