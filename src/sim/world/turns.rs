//! What shards, lanes, Kafka and time do.

use super::{STUCK_PRODUCER_MS, WATCH_MS, World, number_of};
use crate::handoff::{Offset, ShardId, TowardHomeBatch};
use crate::limits::{HELD_BYTES_MAX, TICK_MS, TURN_BYTES_MAX};
use crate::shard::{Event, PublishFailure, PublishResult, ShardCore};
use crate::sim::hands::SimHands;
use crate::sim::names::{Rule, Subject};
use crate::sim::paths;
use bytes::Bytes;

/// Turns of all shards within which everything that can move without time passing has moved.
const TURNS_MAX: usize = 20_000;

impl World {
    pub(super) fn key(&mut self) -> Option<Bytes> {
        const KEYS: [&[u8]; 8] = [b"k0", b"k1", b"k2", b"k3", b"k4", b"k5", b"k6", b"k7"];
        let key = match self.random.u8(0..30) {
            0..=1 => return None,
            2 => &[0xff, 0xfe],
            3 => &b"a//b"[..],
            _ => KEYS[self.random.u8(0..8) as usize],
        };
        Some(Bytes::from_static(key))
    }

    pub(super) fn write_record(&mut self) {
        let topic = self.random.usize(0..self.kafka.topics.len());
        let key = self.key();
        let is_keyless = self.keyless.as_mut().is_some_and(|dice| dice.bool());
        let key = if is_keyless { None } else { key };
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

    pub(super) fn consume(&mut self, node: usize, shard: usize) {
        let reading = &self.nodes[node].hands[shard].reading;
        if !self.nodes[node].cores[shard].polls_kafka() || reading.is_empty() {
            return;
        }
        let Some(at) = reading.keys().nth(self.random.usize(0..reading.len())).copied() else { return };
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
        let slice = self.slices.as_mut().and_then(|dice| dice.bool().then(|| dice.usize(1..6)));
        if let Some(writes_max) = slice {
            self.nodes[node].flush_part(now_ms, shard, writes_max);
            self.coverage.note("a slice of a turn");
        }
    }

    /// The version of a node's map, if the home of a subject there knows of a record that nothing explains.
    pub(super) fn stray(&self, node: usize, channel: &str) -> Option<u64> {
        let node = &self.nodes[node];
        // What is on its way may not be known to the home.
        let quiet =
            !node.hands.iter().any(SimHands::has_sent) && node.cores.iter().all(ShardCore::has_told_homes) && !node.map_is_under_way();
        let name = Subject::called(channel, 1024).ok().filter(|_| quiet)?;
        let life = self.kafka.topic(name.topic())?.life();
        node.stray(life, name.topic(), name.key()?.as_bytes()).map(|_| node.version())
    }

    /// Moves one message of one lane.
    pub(super) fn move_lane(&mut self, node: usize, from: usize) {
        let to = self.random.usize(0..self.nodes[node].cores.len());
        if self.random.bool() {
            self.move_from_home(node, from, to);
        } else {
            self.move_toward_home(node, from, to);
        }
    }

    pub(super) fn move_from_home(&mut self, node: usize, from: usize, to: usize) -> bool {
        if !self.nodes[node].cores[to].drains_from_home() {
            self.coverage.note("waited for readers");
            return false;
        }
        let Some(batch) = self.nodes[node].hands[from].from_home[to].receive() else { return false };
        let count = batch.messages.len();
        let now_ms = self.now_ms;
        self.say(|| format!("node {node}: {count} messages from home {from} to {to}"));
        self.nodes[node].handle(now_ms, to, Event::FromHome { from: ShardId(from as u16), batch });
        true
    }

    pub(super) fn move_toward_home(&mut self, node: usize, from: usize, to: usize) -> bool {
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

    pub(super) fn flush(&mut self, node: usize, shard: usize) -> Result<(), String> {
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
    pub(super) fn check_bounds(&mut self, node: usize, shard: usize) -> Result<(), String> {
        if !std::mem::take(&mut self.nodes[node].hands[shard].unchecked) {
            return Ok(());
        }
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
        self.coverage.note_if(bounds.commands_held_bytes >= settings.commands_held_bytes_max, "too many messages wait");
        // One message may begin to be held just below the bound.
        if bounds.commands_held_bytes > settings.commands_held_bytes_max + 1_000_000 {
            return Err(format!("commands that wait hold {} bytes", bounds.commands_held_bytes));
        }
        if bounds.cache_bytes > settings.cache_bytes_max {
            return Err(format!("rule 17: the cache has {} bytes of {}", bounds.cache_bytes, settings.cache_bytes_max));
        }
        if bounds.subscriptions_bytes > settings.subscriptions_bytes_max {
            return Err(format!("subscriptions take {} bytes", bounds.subscriptions_bytes));
        }
        Ok(())
    }

    pub(super) fn producer_answers(&mut self, node: usize, shard: usize) {
        let healed = self.healed_ms.is_some();
        self.nodes[node].hands[shard].producer_room = if healed { 64 } else { self.random.usize(0..10) };
        if self.nodes[node].hands[shard].stuck_since_ms.is_some() {
            return;
        }
        let Some((publish, record)) = self.nodes[node].hands[shard].produced.pop_front() else { return };
        let fate = if healed { 0 } else { self.random.u8(0..10) };
        let number = number_of(record.value.as_deref());
        let at = (number, self.kafka.place(&record.topic));
        *self.published.entry(at).or_default() += 1;
        if let Some((channel, value)) = self.said.get(&number) {
            let key = record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
            let written = key.map_or_else(|| format!("/{}", record.topic), |key| format!("/{}/{key}", record.topic));
            let is_there = if self.paths.is_some() { paths::targets(channel).contains(&written) } else { written == *channel };
            if !is_there || record.value.as_ref() != Some(value) {
                self.broken = Some(format!("rule 15: publish {number} was to {channel} and is written as {record:?}"));
            }
        }
        let partition = record.partition.unwrap_or(0);
        let stores = fate < 7 || fate == 9 && self.random.bool();
        let offset =
            if stores { self.kafka.write_published(&record.topic, partition, record.key.clone(), record.value, number) } else { None };
        let result = match (fate, offset) {
            (9, _) => PublishResult::Unknown,
            (_, Some(offset)) => {
                self.acknowledged.insert(at);
                PublishResult::Stored { partition, offset: Offset(offset) }
            }
            (7, _) => PublishResult::Failed(PublishFailure::Denied),
            (8, _) => PublishResult::Failed(PublishFailure::Unavailable),
            _ => PublishResult::Failed(PublishFailure::NoSuchTopic),
        };
        self.fates.insert(at, result);
        let now_ms = self.now_ms;
        self.say(|| format!("node {node} shard {shard}: publish {number} is {result:?}"));
        self.nodes[node].handle(now_ms, shard, Event::Published { publish, result });
    }

    pub(super) fn answer_questions(&mut self, node: usize, shard: usize) {
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

    /// A tick passes, or at most so many if nothing is due; how many.
    pub(super) fn pass_some(&mut self, ticks_max: u64) -> Result<u64, String> {
        let ticks = 1 + self.ticks_asleep().min(ticks_max - 1);
        self.pass(ticks * TICK_MS)?;
        Ok(ticks)
    }

    /// So many ticks find nothing to do anywhere.
    pub(super) fn ticks_asleep(&self) -> u64 {
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

    pub(super) fn pass(&mut self, time_ms: u64) -> Result<(), String> {
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
    pub(super) fn is_still(&mut self, reading: bool) -> bool {
        let World { nodes, kafka, clients, .. } = self;
        let heard = clients.iter().filter(|client| reading && !client.asleep).all(|client| {
            let socket = nodes[client.node].hands[client.shard].sockets.get(&client.key);
            client.pongs_owed == 0 && socket.is_none_or(|socket| socket.buffer.is_empty() && !socket.wants_room)
        });
        heard && nodes.iter_mut().all(|node| node.is_still(kafka))
    }

    /// Everything moves until nothing is left to move; whether anything did.
    pub(super) fn settle(&mut self, reading: bool) -> Result<bool, String> {
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

    pub(super) fn consume_all(&mut self, node: usize, shard: usize) -> bool {
        let mut moved = false;
        let mut place = 0;
        let count = self.nodes[node].waiting(&self.kafka, shard).len();
        while place < count {
            if !self.nodes[node].cores[shard].polls_kafka() {
                return moved;
            }
            let at = self.nodes[node].hands[shard].waiting[place];
            place += 1;
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
}
