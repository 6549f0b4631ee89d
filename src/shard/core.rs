//! `ShardCore`: everything that one core knows, and every decision it takes.
//!
//! A synchronous state machine: no I/O, no clock, no await, so the simulator can try any interleaving. Its roles are files of their own:
//! `home` (subjects that live here), `subscriber` (subscriptions of connections here), `commands` and `publish` (what clients ask), `connection`
//! (sessions and outboxes). What one event has to say to other shards is gathered per shard and leaves as one lane message at `flush`.
//!
//! Backpressure: a shard without room from home stops draining toward home and polling Kafka; without room toward home it stops reading sockets
//! and polling. From home is always drained, into outboxes only, so nothing can deadlock.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use slotmap::{SecondaryMap, SlotMap};

use super::connection::{Session, Timer, disconnect};
use super::event::PublishFailure;
use super::home::HeldQueue;
use super::left::LeftSubscriptions;
use super::misfits::MisfitWindow;
use super::publish::OpenPublish;
use super::{Effects, Event, ShardCounters, ShardSettings};
use crate::handoff::{
    ConnectionKey, FromHome, FromHomeBatch, LaneFull, PartitionRef, PublishKey, ShardId, SubscriptionKey, TopicIndex, TowardHome,
    TowardHomeBatch,
};
use crate::limits::{DRAIN_PUBLISH_MS, TICK_MS, TURN_BYTES_MAX};
use crate::session::encode_pong_frame;
use crate::session::outbox::OutboxPool;
use crate::subject::TopicMap;
use crate::subject::home_table::{CacheLimits, HomeTable};
use crate::subject::local_table::LocalTable;

/// What waits to be said to one other shard in one direction.
#[derive(Debug)]
struct Outgoing<T> {
    messages: Vec<T>,
    bytes: usize,
    /// The lane refused it.
    full: bool,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Outgoing { messages: Vec::new(), bytes: 0, full: false }
    }
}

impl<T> Outgoing<T> {
    fn is_full(&self) -> bool {
        self.full || self.bytes >= TURN_BYTES_MAX
    }
}

/// What is known of a topic that is not in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicLookup {
    Found(u32),
    Refused(PublishFailure),
    Asked,
}

/// One shard's state machine.
pub struct ShardCore {
    pub(super) shard: ShardId,
    pub(super) settings: ShardSettings,
    pub(super) counters: ShardCounters,
    pub(super) map: Arc<TopicMap>,
    // The home's side.
    pub(super) home: HomeTable,
    pub(super) held: BTreeMap<PartitionRef, HeldQueue>,
    pub(super) held_count: usize,
    /// Topics whose keys find other homes by the newest map, until every shard routes by it.
    pub(super) unsettled: BTreeSet<TopicIndex>,
    /// How many of the newest records of each topic with a guessed rule are not where that rule puts them.
    pub(super) misfits: HashMap<TopicIndex, MisfitWindow>,
    /// When the log named a stray last, and how many there were since.
    pub(super) strays_said_ms: Option<u64>,
    pub(super) strays_unsaid: u64,
    // The subscriber's side.
    pub(super) local: LocalTable,
    pub(super) reroutes: Vec<(u64, SubscriptionKey)>,
    pub(super) overflowed: Vec<SubscriptionKey>,
    // Connections.
    pub(super) sessions: SecondaryMap<ConnectionKey, Session>,
    pub(super) pool: OutboxPool,
    pub(super) timers: BinaryHeap<std::cmp::Reverse<(u64, Timer, ConnectionKey)>>,
    /// Connections with something to write.
    pub(super) dirty: Vec<ConnectionKey>,
    /// Room for the connections that a flush writes to.
    writing: Vec<ConnectionKey>,
    /// Connections whose outbox has room for a piece of a catch-up.
    pub(super) drained: Vec<ConnectionKey>,
    /// The same, but not before the next tick.
    pub(super) drained_later: Vec<ConnectionKey>,
    /// Connections with a held message that waits for anything but the producer.
    pub(super) held_sessions: Vec<ConnectionKey>,
    /// Something happened that could let any of them go on.
    pub(super) held_may_go: bool,
    /// Connections with a held message for which something happened.
    pub(super) held_ready: Vec<ConnectionKey>,
    /// Connections whose held message waits for the producer, the longest waiting first.
    pub(super) producer_line: VecDeque<ConnectionKey>,
    /// Something happened that could let the first of them go on.
    pub(super) producer_may_go: bool,
    /// Flushes in which the producer refused somebody in the line.
    pub(super) lines_refused: u64,
    /// Connections whose driver waits for `resume_reading`.
    pub(super) stalled: Vec<ConnectionKey>,
    /// Something happened that could let all of them be read.
    stalled_may_go: bool,
    /// Those for which something happened.
    stalled_ready: Vec<ConnectionKey>,
    /// Connections that are blocked or parked.
    pub(super) slow: Vec<ConnectionKey>,
    pub(super) clients: u64,
    // Publishes.
    /// Subscriptions that were left a moment ago.
    pub(super) left: LeftSubscriptions,
    pub(super) publishes: SlotMap<PublishKey, OpenPublish>,
    pub(super) lookups: HashMap<String, (u64, TopicLookup)>,
    /// When a drain began, and over how long it spreads.
    pub(super) drain: Option<(u64, u64)>,
    toward_home: Vec<Outgoing<TowardHome>>,
    from_home: Vec<Outgoing<FromHome>>,
    own_toward_home: VecDeque<TowardHome>,
    own_from_home: VecDeque<FromHome>,
    ticks: u64,
}

impl ShardCore {
    /// A shard of `shards`, with an empty topic map and no connections.
    pub fn new(shard: ShardId, shards: u16, settings: ShardSettings) -> ShardCore {
        let limits = CacheLimits {
            bytes_max: settings.cache_bytes_max,
            records_max: settings.cache_records_max.max(1),
            expire_ms: settings.cache_expire_ms,
            push_bytes_max: settings.outbox_bytes_max,
        };
        ShardCore {
            shard,
            counters: ShardCounters::default(),
            map: Arc::new(TopicMap::default()),
            home: HomeTable::new(shard, shards, limits),
            held: BTreeMap::new(),
            held_count: 0,
            unsettled: BTreeSet::new(),
            misfits: HashMap::new(),
            strays_said_ms: None,
            strays_unsaid: 0,
            local: LocalTable::default(),
            reroutes: Vec::new(),
            overflowed: Vec::new(),
            sessions: SecondaryMap::new(),
            pool: OutboxPool::default(),
            timers: BinaryHeap::new(),
            dirty: Vec::new(),
            writing: Vec::new(),
            drained: Vec::new(),
            drained_later: Vec::new(),
            held_sessions: Vec::new(),
            held_may_go: false,
            held_ready: Vec::new(),
            producer_line: VecDeque::new(),
            producer_may_go: false,
            lines_refused: 0,
            stalled: Vec::new(),
            stalled_may_go: false,
            stalled_ready: Vec::new(),
            slow: Vec::new(),
            clients: 0,
            left: LeftSubscriptions::default(),
            publishes: SlotMap::with_key(),
            lookups: HashMap::new(),
            drain: None,
            toward_home: (0..shards).map(|_| Outgoing::default()).collect(),
            from_home: (0..shards).map(|_| Outgoing::default()).collect(),
            own_toward_home: VecDeque::new(),
            own_from_home: VecDeque::new(),
            ticks: 0,
            settings,
        }
    }

    /// Takes one event. `now_ms` is monotonic and never goes back.
    pub fn handle<E: Effects>(&mut self, now_ms: u64, event: Event<'_>, effects: &mut E) {
        match event {
            Event::Opened { connection, protocol } => self.opened(now_ms, connection, protocol),
            Event::Received { connection, payload } => self.received(now_ms, connection, payload, effects),
            Event::PingReceived { connection, payload } => self.queue(connection, encode_pong_frame(payload)),
            Event::CloseReceived { connection, code } => {
                // RFC 6455, 7.4.1: 1005 and 1006 are never sent.
                let code = if matches!(code, 1005 | 1006) { 1000 } else { code };
                self.disconnect(now_ms, connection, (code, ""), false);
            }
            Event::Violated { connection, code, reason } => {
                self.counters.disconnects_malformed += 1;
                self.disconnect(now_ms, connection, (code, reason), false);
            }
            Event::Closed { connection } => self.closed(now_ms, connection),
            Event::Writable { connection } => self.writable(connection),
            Event::TowardHome { from, batch } => {
                for message in batch.0 {
                    self.take_toward_home(now_ms, from, message, effects);
                }
            }
            Event::FromHome { batch, .. } => {
                for message in batch.0 {
                    self.take_from_home(now_ms, message);
                }
            }
            Event::Records(batch) => self.take_records(now_ms, batch, effects),
            Event::Map(map) => self.take_map(now_ms, map, effects),
            Event::MapActive { version } => self.take_map_active(version, effects),
            Event::LogEnd { partition, generation, end } => self.take_log_end(partition, generation, end, effects),
            Event::LogStart { partition, generation, start } => self.home.log_starts(partition, generation, start),
            Event::Published { publish, result } => self.published(publish, result),
            Event::TopicFound { topic, partitions } => self.take_topic_found(now_ms, topic, partitions),
            Event::Tick => self.tick(now_ms, effects),
            Event::Drain { over_ms } => self.begin_drain(now_ms, over_ms),
        }
        self.talk_to_self(now_ms, effects);
    }

    /// Ends a turn: sends what the events since the last flush had to say to other shards, and writes what waits in outboxes, one write per
    /// connection. Call it after every turn's events and whenever the executor wants to go on to other work.
    pub fn flush<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        self.send_to_lanes(effects);
        self.resume_held(now_ms, effects);
        self.run_reroutes(now_ms);
        self.talk_to_self(now_ms, effects);
        let mut writes = self.settings.flush_writes_max;
        loop {
            // With a lane full they wait for the next flush.
            if !self.toward_home_is_full() {
                for connection in std::mem::take(&mut self.drained) {
                    self.catch_up(connection);
                }
            }
            self.talk_to_self(now_ms, effects);
            if self.dirty.is_empty() {
                break;
            }
            let count = self.dirty.len().min(writes);
            writes -= count;
            let mut writing = std::mem::take(&mut self.writing);
            writing.extend(self.dirty.drain(..count));
            for connection in writing.drain(..) {
                self.write_outbox(now_ms, connection, effects);
            }
            self.writing = writing;
            if writes == 0 {
                break;
            }
            if self.drained.is_empty() {
                break;
            }
        }
        self.send_to_lanes(effects);
        self.resume_stalled(effects);
    }

    /// Whether the last flush left work for the next one: a large fan-out is written, and a large message taken, in parts, so that other work of the
    /// core comes between; and a write may have made room for a command that waited.
    pub fn wants_flush(&self) -> bool {
        !self.dirty.is_empty() || !self.held_ready.is_empty()
    }

    /// Whether nothing waits to be said to a home. For the simulator.
    pub fn has_told_homes(&self) -> bool {
        self.own_toward_home.is_empty() && self.toward_home.iter().all(|outgoing| outgoing.messages.is_empty())
    }

    /// Whether this connection may be read now. After `false`, `Effects::resume_reading` tells when to ask again.
    pub fn reads(&mut self, connection: ConnectionKey) -> bool {
        let reads = self.may_read(connection);
        if let Some(session) = self.sessions.get_mut(connection)
            && !reads
            && !session.stalled
        {
            session.stalled = true;
            self.stalled.push(connection);
        }
        reads
    }

    fn may_read(&self, connection: ConnectionKey) -> bool {
        let full = self.toward_home_is_full();
        self.sessions.get(connection).is_some_and(|session| {
            !session.is_open()
                || (!full && !session.leaving && session.held.is_none() && session.outbox.load() <= self.settings.outbox_bytes_max)
        })
    }

    /// A connection's outbox has more room than before, or a message of it is held no longer: whatever of it waited for that is looked at again.
    pub(super) fn room_made(&mut self, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        if session.held.is_some() {
            self.held_ready.push(connection);
        } else if session.stalled {
            self.stalled_ready.push(connection);
        }
        if session.parked.is_some() && session.outbox.load() <= self.settings.outbox_bytes_max / 2 {
            session.parked_since_ms = 0;
            self.drained.push(connection);
        }
    }

    /// Whether lane messages toward home are taken now.
    pub fn drains_toward_home(&self) -> bool {
        !self.from_home.iter().any(Outgoing::is_full)
    }

    /// Whether records are taken from Kafka now.
    pub fn polls_kafka(&self) -> bool {
        self.drains_toward_home() && !self.toward_home_is_full()
    }

    /// Whether a drain has come to its end: no connection and no open publish is left.
    pub fn drained(&self) -> bool {
        self.drain.is_some() && self.sessions.is_empty() && self.publishes_are_answered()
    }

    /// The counters, with the gauges as they are now.
    pub fn counters(&mut self) -> &ShardCounters {
        let counters = &mut self.counters;
        counters.subscriptions = self.local.subscriptions() as u64;
        counters.publishes_open = self.publishes.len() as u64;
        counters.outbox_bytes = self.pool.bytes() as u64;
        counters.cache_bytes = self.home.bytes() as u64;
        counters.cache_records = self.home.records() as u64;
        counters.cache_evicted = self.home.evicted;
        counters.pushes_encoded = self.home.encoded;
        counters.records_oversize = self.home.oversize;
        counters.subjects = self.home.len() as u64;
        counters.channel_ids = self.home.ids() as u64;
        counters.subscriptions_left = self.left.len() as u64;
        counters.spill_bytes = self.toward_home.iter().map(|outgoing| outgoing.bytes).sum::<usize>() as u64
            + self.from_home.iter().map(|outgoing| outgoing.bytes).sum::<usize>() as u64;
        counters.requests_held_now = self.held_count as u64;
        &self.counters
    }

    /// Subjects that some shard has subscribers of, and subjects that connections here want: both are 0 when every client is gone.
    pub fn interests(&self) -> (usize, usize) {
        (self.home.wanted(), self.local.subjects())
    }

    /// The subjects that connections here want, for the simulator's reports.
    pub fn wanted_subjects(&self) -> String {
        let here = self.home.interests().collect::<Vec<_>>();
        let local = self.local.keys().into_iter().filter_map(|key| self.local.subject(key)).collect::<Vec<_>>();
        format!("at home {here:?}, of connections here {local:?}")
    }

    /// Checks the invariants that a walk can check. For tests and the simulator.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        self.home.check();
        let outboxes: usize = self.sessions.values().map(|session| session.outbox.bytes()).sum();
        assert_eq!(outboxes, self.pool.bytes(), "outbox bytes are counted");
        let subscriptions: usize = self.sessions.values().map(|session| session.subscriptions.len()).sum();
        assert_eq!(subscriptions, self.local.subscriptions(), "every subscription has its session");
    }

    pub(super) fn toward_home_is_full(&self) -> bool {
        self.toward_home.iter().any(Outgoing::is_full)
    }

    pub(super) fn say_toward_home(&mut self, to: ShardId, message: TowardHome) {
        if to == self.shard {
            self.own_toward_home.push_back(message);
            return;
        }
        let outgoing = &mut self.toward_home[to.index()];
        outgoing.bytes += message.weight();
        outgoing.messages.push(message);
    }

    pub(super) fn say_from_home(&mut self, to: ShardId, message: FromHome) {
        if to == self.shard {
            self.own_from_home.push_back(message);
            return;
        }
        let outgoing = &mut self.from_home[to.index()];
        outgoing.bytes += message.weight();
        outgoing.messages.push(message);
    }

    /// What this shard says to itself takes the same two ways, each in its order.
    fn talk_to_self<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        loop {
            if let Some(message) = self.own_from_home.pop_front() {
                self.take_from_home(now_ms, message);
            } else if let Some(message) = self.own_toward_home.pop_front() {
                self.take_toward_home(now_ms, self.shard, message, effects);
            } else {
                return;
            }
        }
    }

    fn send_to_lanes<E: Effects>(&mut self, effects: &mut E) {
        for to in 0..self.from_home.len() {
            let shard = ShardId(to as u16);
            let outgoing = &mut self.from_home[to];
            if !outgoing.messages.is_empty() {
                match effects.send_from_home(shard, FromHomeBatch(std::mem::take(&mut outgoing.messages))) {
                    Ok(()) => *outgoing = Outgoing::default(),
                    Err(LaneFull(batch)) => {
                        self.counters.lanes_full += u64::from(!outgoing.full);
                        outgoing.messages = batch.0;
                        outgoing.full = true;
                    }
                }
            }
            let outgoing = &mut self.toward_home[to];
            if !outgoing.messages.is_empty() {
                match effects.send_toward_home(shard, TowardHomeBatch(std::mem::take(&mut outgoing.messages))) {
                    Ok(()) => {
                        self.held_may_go |= outgoing.full;
                        self.stalled_may_go |= outgoing.full;
                        *outgoing = Outgoing::default();
                    }
                    Err(LaneFull(batch)) => {
                        self.counters.lanes_full += u64::from(!outgoing.full);
                        outgoing.messages = batch.0;
                        outgoing.full = true;
                    }
                }
            }
        }
    }

    /// Reads go on where what kept them from it is gone. Who was stalled for a reason of its own is looked at when that changed; a full lane was
    /// everybody's.
    fn resume_stalled<E: Effects>(&mut self, effects: &mut E) {
        if self.toward_home_is_full() {
            return;
        }
        for connection in std::mem::take(&mut self.stalled_ready) {
            self.try_to_read(connection, effects);
        }
        if std::mem::take(&mut self.stalled_may_go) {
            for connection in std::mem::take(&mut self.stalled) {
                self.try_to_read(connection, effects);
                if self.sessions.get(connection).is_some_and(|session| session.stalled) {
                    self.stalled.push(connection);
                }
            }
        }
    }

    fn try_to_read<E: Effects>(&mut self, connection: ConnectionKey, effects: &mut E) {
        let reads = self.may_read(connection);
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| session.stalled && reads) {
            session.stalled = false;
            effects.resume_reading(connection);
        }
    }

    fn tick<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        self.ticks += 1;
        self.held_may_go = true;
        self.producer_may_go = true;
        self.stalled_may_go = true;
        self.run_timers(now_ms, effects);
        self.drained.append(&mut self.drained_later);
        if self.held_count > 0 {
            self.expire_held(now_ms);
        }
        if self.ticks.is_multiple_of(10) {
            self.expire_messages(now_ms, effects);
            self.expire_publishes(now_ms);
            self.left.expire(now_ms);
            self.check_slow(now_ms);
            self.home.trim(now_ms);
            let counters = self.counters().clone();
            effects.publish_counters(&counters);
        }
    }

    /// Graceful stop: every connection gets its turn within `over_ms`, evenly spread.
    fn begin_drain(&mut self, now_ms: u64, over_ms: u64) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some((now_ms, over_ms));
        let connections: Vec<ConnectionKey> = self.sessions.keys().collect();
        let count = connections.len() as u64;
        for (place, connection) in connections.into_iter().enumerate() {
            self.set_timer(now_ms + over_ms * place as u64 / count, connection, Timer::Drain);
        }
    }

    pub(super) fn drain_timer(&mut self, now_ms: u64, due_ms: u64, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        let waits = session.publishes_open > 0 || session.held.is_some();
        let (began_ms, over_ms) = self.drain.unwrap_or((due_ms, 0));
        if waits && now_ms < began_ms + over_ms + DRAIN_PUBLISH_MS {
            session.leaving = true;
            self.set_timer(now_ms + TICK_MS, connection, Timer::Drain);
        } else {
            self.disconnect(now_ms, connection, disconnect::SHUTDOWN, false);
        }
    }
}
