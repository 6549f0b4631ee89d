//! `ShardCore`: everything that one core knows, and every decision it takes.
//!
//! A synchronous state machine: no I/O, no clock, no await, so the simulator can try any interleaving. It is three rooms that own what they know: the
//! [`home`](super::home), the [`subscribers`](super::subscribers), the [`connections`](super::connections). Homes and subscribers speak by messages
//! only, on one shard as between two; this file carries what the rooms say to each other.
//!
//! Backpressure: a shard without room from home stops draining toward home and polling Kafka; without room toward home it stops reading sockets and
//! polling. From home is drained into outboxes only, so nothing can deadlock: it waits for readers who read a tenth of any second at most.

use std::sync::Arc;

use super::commands::Commands;
use super::connections::Connections;
use super::counters::ShardCounters;
use super::effects::Effects;
use super::event::Event;
use super::home::{Home, Speech};
use super::outgoing::Outgoing;
use super::settings::ShardSettings;
use super::stages::{ShardStages, Stage};
use super::subscribers::Subscribers;
use crate::handoff::{ConnectionKey, FromHome, FromHomeBatch, LaneFull, ShardId, TowardHome, TowardHomeBatch};
use crate::limits::{EXPIRE_MS, PART_BYTES_MAX, PART_BYTES_MIN};

/// What is bounded in a shard. Bytes are bytes in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub outbox_bytes: usize,
    pub spill_bytes: usize,
    pub cache_bytes: usize,
    pub requests_held: usize,
    pub requests_held_bytes: usize,
    pub commands_held_bytes: usize,
    pub subscriptions_bytes: usize,
}

/// One shard's state machine.
pub struct ShardCore {
    shard: ShardId,
    settings: Arc<ShardSettings>,
    home: Home,
    subscribers: Subscribers,
    connections: Connections,
    speech: Speech,
    counters: ShardCounters,
    lanes_full: u64,
    /// When the rooms are looked through next for what is too old.
    expire_due_ms: u64,
}

impl ShardCore {
    /// A shard of `shards`, with an empty topic map and no connections.
    pub fn new(shard: ShardId, shards: u16, settings: ShardSettings) -> ShardCore {
        let settings = Arc::new(settings);
        ShardCore {
            shard,
            home: Home::new(shard, shards, settings.clone()),
            subscribers: Subscribers::new(settings.clone()),
            connections: Connections::new(shard, settings.clone()),
            speech: Speech {
                toward_home: Outgoing::new(shard, shards, settings.turn_bytes_max, TowardHome::weight),
                from_home: Outgoing::new(shard, shards, settings.turn_bytes_max, FromHome::weight),
            },
            settings,
            counters: ShardCounters::default(),
            lanes_full: 0,
            expire_due_ms: 0,
        }
    }

    /// Takes one event. `now_ms` is monotonic and never goes back.
    pub fn handle<E: Effects>(&mut self, now_ms: u64, event: Event<'_>, effects: &mut E) {
        let (home, connections, speech) = (&mut self.home, &mut self.connections, &mut self.speech);
        match event {
            Event::Opened { connection, protocol } => connections.opened(now_ms, connection, protocol),
            Event::Identified { connection, user } => connections.identified(connection, user),
            Event::Received { connection, payload } => self.commands(now_ms, effects).received(connection, payload),
            Event::PingReceived { connection, payload } => connections.ping_received(connection, payload),
            Event::CloseReceived { connection, code } => connections.close_received(now_ms, connection, code),
            Event::Violated { connection, code, reason } => connections.violated(now_ms, connection, (code, reason)),
            Event::Closed { connection } => connections.closed(connection),
            Event::Writable { connection } => connections.writable(connection),
            Event::TowardHome { from, batch } => {
                for message in batch.0 {
                    if let TowardHome::Records { records, polled_us, .. } = &message {
                        let took_us = connections.clock_us.saturating_sub(*polled_us);
                        connections.stages.record(Stage::Home, took_us, records.len());
                    }
                    home.take(now_ms, from, message, speech, effects);
                }
            }
            Event::FromHome { batch, .. } => {
                for message in batch.messages {
                    self.subscribers.take(now_ms, message, connections, &mut speech.toward_home);
                    connections.relieve(now_ms, effects);
                }
            }
            Event::Records(batch) => home.take_records(now_ms, batch, speech, effects),
            Event::Map(map) => {
                if home.take_map(map.clone(), speech, effects) {
                    connections.take_map(map.clone());
                    self.subscribers.take_map(map.clone(), connections, &mut speech.toward_home);
                    effects.acknowledge_map(map.version);
                }
            }
            Event::MapActive { version } => home.take_map_active(now_ms, version, speech, effects),
            Event::LogEnd { question, end } => home.take_log_end(now_ms, question, end, speech, effects),
            Event::LogStart { partition, generation, start } => home.log_starts(partition, generation, start),
            Event::Published { publish, result } => connections.published(publish, result),
            Event::TopicFound { topic, partitions } => connections.take_topic_found(now_ms, topic, partitions),
            Event::Settings(settings) => {
                home.take_settings(settings.clone());
                connections.take_settings(settings.clone());
                self.subscribers.take_settings(settings.clone(), connections, &mut speech.toward_home);
                self.settings = settings;
            }
            Event::Clock { unix_ms } => connections.set_clock(now_ms, unix_ms),
            Event::Entitlement(entitlement) => {
                connections.take_entitlement(now_ms, entitlement);
                self.subscribers.look_at_tokens(now_ms, connections, &mut speech.toward_home);
            }
            Event::Tick => self.tick(now_ms, effects),
            Event::Drain { over_ms } => connections.begin_drain(now_ms, over_ms),
        }
        self.settle(now_ms, effects);
    }

    /// What time it is, in microseconds since any instant that all shards of the node have in common: for [`Stages`], nothing else depends on it.
    pub fn set_clock(&mut self, now_us: u64) {
        self.connections.clock_us = now_us;
        self.speech.from_home.clock_us = now_us;
        self.speech.toward_home.clock_us = now_us;
    }

    /// How long everything takes; the driver records what it alone knows.
    pub fn stages(&mut self) -> &mut ShardStages {
        &mut self.connections.stages
    }

    /// Ends a turn: sends what the events since the last flush had to say to other shards, and writes what waits in outboxes, one write per
    /// connection. Call it after every turn's events and whenever the executor wants to go on to other work.
    pub fn flush<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        self.connections.renew_tokens_at_once();
        if self.rests() {
            return;
        }
        self.send(effects);
        let mut commands = self.commands(now_ms, effects);
        commands.run_turns();
        commands.run_line();
        self.subscribers.run_reroutes(now_ms, &mut self.connections, &mut self.speech.toward_home);
        self.settle(now_ms, effects);
        let mut writes = self.settings.flush_writes_max;
        loop {
            self.subscribers.run_turns(now_ms, &mut self.connections, &mut self.speech.toward_home);
            self.settle(now_ms, effects);
            writes -= self.connections.write(now_ms, writes, effects);
            self.settle(now_ms, effects);
            // A write may have made room for a piece that can be written at once.
            if writes == 0 || !self.subscribers.has_turns() || self.speech.toward_home.is_full() {
                break;
            }
        }
        self.connections.look_at_crowd(now_ms);
        self.send(effects);
    }

    /// Between two events of a turn: sends what waits for other shards, and writes to those connections that have waited longest, so many at most.
    /// Who is not written to shares a write with what comes for it later, so the fewer are written, the more a fan-out saves.
    pub fn flush_part<E: Effects>(&mut self, now_ms: u64, writes_max: usize, effects: &mut E) {
        self.send(effects);
        if self.connections.has_writes() {
            self.connections.write(now_ms, writes_max, effects);
            self.settle(now_ms, effects);
            self.send(effects);
        }
    }

    /// Whether a flush finds nothing to do, whatever the time: nothing to say, to write or to try again.
    pub fn rests(&self) -> bool {
        self.speech.from_home.is_empty() && self.speech.toward_home.is_empty() && self.connections.rests() && self.subscribers.rests()
    }

    /// When a tick finds something to do, if nothing happens before: the ticks until then change nothing. The time is not in the past by more than
    /// a tick's lateness, or it is 0: the next tick.
    pub fn due_ms(&self) -> u64 {
        let due_ms = [self.connections.due_ms(), self.subscribers.due_ms(), self.home.due_ms()];
        due_ms.into_iter().fold(self.expire_due_ms, u64::min)
    }

    /// Whether the last flush left work for the next one: a large fan-out is written, and a large message taken, in parts, so that other work of the
    /// core comes between; and a write may have made room for a command that waited.
    pub fn wants_flush(&self) -> bool {
        let catches_up = self.subscribers.has_turns() && !self.speech.toward_home.is_full();
        self.connections.has_writes() || self.connections.turns() > 0 || catches_up
    }

    /// Whether what was taken in since the last flush should be on its way before more is: somebody's outbox is more than half full.
    pub fn is_crowded(&self) -> bool {
        self.connections.is_crowded()
    }

    /// Bytes of records to be taken at once: what one client's outbox has room for many times over.
    pub fn part_bytes(&self) -> usize {
        (self.settings.outbox_bytes_max / 16).clamp(PART_BYTES_MIN, PART_BYTES_MAX)
    }

    /// Sends what waits for other shards if it is as much as a part; a shard that gets it in parts can hold back.
    pub fn send_part<E: Effects>(&mut self, effects: &mut E) {
        let part = self.part_bytes();
        if self.speech.from_home.holds(part) || self.speech.toward_home.holds(part) {
            self.send(effects);
        }
    }

    /// Whether nothing waits to be said to a home. For the simulator.
    pub fn has_told_homes(&self) -> bool {
        self.speech.toward_home.is_empty()
    }

    /// Whether this connection may be read now. After `false`, `Effects::resume_reading` tells when to ask again.
    pub fn reads(&mut self, connection: ConnectionKey) -> bool {
        self.connections.reads(connection, self.speech.toward_home.is_full())
    }

    /// Whether lane messages from home are taken now. `false` for a tenth of any second at most: outboxes of clients who read must drain.
    pub fn drains_from_home(&self) -> bool {
        !self.connections.holds_intake()
    }

    /// Whether lane messages toward home are taken now.
    pub fn drains_toward_home(&self) -> bool {
        !self.speech.from_home.is_full()
    }

    /// Whether records are taken from Kafka now.
    pub fn polls_kafka(&self) -> bool {
        self.drains_from_home() && self.drains_toward_home() && !self.speech.toward_home.is_full()
    }

    /// Whether a drain has come to its end: no connection and no open publish is left.
    pub fn drained(&self) -> bool {
        self.connections.drained()
    }

    /// The counters, with the gauges as they are now.
    pub fn counters(&mut self) -> &ShardCounters {
        self.counters = ShardCounters {
            lanes_full: self.lanes_full,
            spill_bytes: (self.speech.toward_home.bytes() + self.speech.from_home.bytes()) as u64,
            ..ShardCounters::default()
        };
        self.counters.add(self.home.counters());
        self.counters.add(self.subscribers.counters());
        self.counters.add(self.connections.counters());
        &self.counters
    }

    /// What is bounded, as it is now: cheaper than all counters.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            outbox_bytes: self.connections.outbox_bytes(),
            spill_bytes: self.speech.toward_home.bytes() + self.speech.from_home.bytes(),
            cache_bytes: self.home.cache_bytes(),
            requests_held: self.home.requests_held(),
            commands_held_bytes: self.connections.commands_held_bytes(),
            requests_held_bytes: self.home.requests_held_bytes(),
            subscriptions_bytes: self.subscribers.bytes(),
        }
    }

    /// Subjects that some shard has subscribers of, and subjects that connections here want: both are 0 when every client is gone.
    pub fn interests(&self) -> (usize, usize) {
        (self.home.wanted(), self.subscribers.wanted())
    }

    /// Who waits for what, and how many bytes of messages are held. For the simulator's reports.
    pub fn waits(&self) -> String {
        self.connections.waits()
    }

    /// The subjects that connections here want, for the simulator's reports.
    pub fn wanted_subjects(&self) -> String {
        format!("at home {}, of connections here {}", self.home.wanted_subjects(), self.subscribers.wanted_subjects())
    }

    /// Checks the invariants that a walk can check. For tests and the simulator.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        self.home.check();
        self.subscribers.check();
        self.connections.check();
    }

    fn commands<'a, E>(&'a mut self, now_ms: u64, effects: &'a mut E) -> Commands<'a, E> {
        Commands {
            now_ms,
            connections: &mut self.connections,
            subscribers: &mut self.subscribers,
            toward_home: &mut self.speech.toward_home,
            effects,
        }
    }

    /// What the rooms have to tell each other, until none has anything.
    fn settle<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        let (subscribers, connections, speech) = (&mut self.subscribers, &mut self.connections, &mut self.speech);
        while connections.has_told() || speech.from_home.has_own() || speech.toward_home.has_own() {
            if let Some(connection) = connections.next_ended() {
                subscribers.end_connection(connection, connections, &mut speech.toward_home);
            } else if let Some((connection, look)) = connections.next_look() {
                subscribers.look_at(now_ms, connection, look, connections, &mut speech.toward_home);
            } else if let Some(connection) = connections.next_roomy() {
                subscribers.room_made(now_ms, connection, connections);
            } else if let Some(message) = speech.from_home.next_own() {
                subscribers.take(now_ms, message, connections, &mut speech.toward_home);
                connections.relieve(now_ms, effects);
            } else if let Some(message) = speech.toward_home.next_own() {
                self.home.take(now_ms, self.shard, message, speech, effects);
            }
        }
    }

    fn send<E: Effects>(&mut self, effects: &mut E) {
        let from_home = self.speech.from_home.send(|to, messages, said_us| {
            effects.send_from_home(to, FromHomeBatch { messages, said_us }).map_err(|LaneFull(batch)| LaneFull(batch.messages))
        });
        let toward_home = self
            .speech
            .toward_home
            .send(|to, messages, _| effects.send_toward_home(to, TowardHomeBatch(messages)).map_err(|LaneFull(batch)| LaneFull(batch.0)));
        self.lanes_full += from_home.refused + toward_home.refused;
        if toward_home.relieved && !self.speech.toward_home.is_full() {
            self.connections.lanes_have_room();
        }
    }

    fn tick<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        self.connections.tick(now_ms, effects);
        self.subscribers.tick();
        self.home.tick(now_ms, &mut self.speech);
        self.connections.look_at_crowd(now_ms);
        if now_ms >= self.expire_due_ms {
            self.expire_due_ms = now_ms + EXPIRE_MS;
            self.connections.expire(now_ms);
            self.subscribers.expire(now_ms);
            self.home.expire(now_ms, effects);
            effects.publish_counters(|| self.counters().clone());
            if !self.connections.stages.is_empty() {
                effects.publish_stages(&mut self.connections.stages);
            }
            if let Some(missed) = self.connections.newly_missed() {
                effects.publish_missed(missed);
            }
        }
    }
}
