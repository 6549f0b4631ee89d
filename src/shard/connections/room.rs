//! The room's state, and the calls by which others use it.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use slotmap::{SecondaryMap, SlotMap};

use super::crowd::Crowd;
use super::entry::Look;
use super::publishes::{OpenPublish, RoutedPublish, TopicLookup};
use super::session::{Phase, Session, Timer, disconnect};
use super::waiting::{Wait, Waiting};
use crate::entitlement::Entitlement;
use crate::handoff::{ConnectionKey, Offset, Protocol, PublishKey, ShardId, SubscriptionKey};
use crate::ids::RoutedKey;
use crate::limits::{CLOSE_LINGER_MS, REPLY_BYTES, TOKENS_AT_ONCE_MAX};
use crate::session::outbox::{Dropped, Frame, Outbox, OutboxPool};
use crate::session::{ErrorReply, Reply, encode_close, encode_reply};
use crate::shard::counters::ShardCounters;
use crate::shard::effects::MissedPublishes;
use crate::shard::settings::ShardSettings;
use crate::shard::stages::ShardStages;
use crate::subject::TopicMap;

/// See the module's documentation.
pub(in crate::shard) struct Connections {
    pub(super) shard: ShardId,
    pub(super) settings: Arc<ShardSettings>,
    pub(super) counters: ShardCounters,
    pub(super) map: Arc<TopicMap>,
    pub(super) sessions: SecondaryMap<ConnectionKey, Session>,
    pub(super) pool: OutboxPool,
    pub(super) timers: BinaryHeap<std::cmp::Reverse<(u64, Timer, ConnectionKey)>>,
    /// Who has something to write.
    pub(super) to_write: VecDeque<(ConnectionKey, u32)>,
    /// What time it is, in microseconds, as the driver last said.
    pub clock_us: u64,
    pub stages: ShardStages,
    pub(super) waiting: Waiting,
    /// Somebody waits for room although his own outbox has it: all outboxes together had none.
    pub(super) pool_was_full: bool,
    pub(super) crowd: Crowd,
    pub(super) clients: u64,
    pub(super) publishes: SlotMap<PublishKey, OpenPublish>,
    /// Publishes that go to several topics.
    pub(super) routed: SlotMap<RoutedKey, RoutedPublish>,
    /// Those that the producer was full in the middle of, by the connection whose command waits.
    pub(super) halfway: HashMap<ConnectionKey, RoutedKey>,
    /// How often a topic has not what others of the same publish have.
    pub(super) missed: MissedPublishes,
    pub(super) missed_changed: bool,
    pub(super) lookups: HashMap<Arc<str>, (u64, TopicLookup)>,
    /// Something happened that could let the first of those go on who wait for the producer.
    pub(super) producer_may_go: bool,
    /// Bytes of messages whose commands wait.
    pub(super) held_bytes: usize,
    /// Flushes in which the producer refused somebody in the line.
    pub(super) lines_refused: u64,
    /// When a drain began, and over how long it spreads.
    pub(super) drain: Option<(u64, u64)>,
    pub(super) entitlement: Entitlement,
    /// What the wall clock says more than ours, in milliseconds.
    pub(super) clock_ahead_ms: i64,
    /// How many tokens may be judged before the next flush.
    pub(super) tokens_left: u32,
    /// Whom certificates name.
    pub(super) identified: HashMap<ConnectionKey, Box<str>>,
    /// Whose subscriptions are to be looked at again.
    pub(super) looks: Vec<(ConnectionKey, Look)>,
    ended: Vec<ConnectionKey>,
    roomy: Vec<ConnectionKey>,
}

/// What became of a record for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Delivered {
    Queued,
    /// Its outbox has no room.
    Full,
    /// The connection takes nothing any more.
    Gone,
}

impl Connections {
    /// Settings that may change.
    pub fn take_settings(&mut self, settings: Arc<ShardSettings>) {
        self.settings = settings;
    }

    pub fn new(shard: ShardId, settings: Arc<ShardSettings>) -> Connections {
        Connections {
            shard,
            settings,
            counters: ShardCounters::default(),
            map: Arc::default(),
            sessions: SecondaryMap::new(),
            pool: OutboxPool::default(),
            timers: BinaryHeap::new(),
            to_write: VecDeque::new(),
            clock_us: 0,
            stages: ShardStages::default(),
            waiting: Waiting::default(),
            pool_was_full: false,
            crowd: Crowd::default(),
            clients: 0,
            publishes: SlotMap::with_key(),
            routed: SlotMap::with_key(),
            halfway: HashMap::new(),
            missed: BTreeMap::new(),
            missed_changed: false,
            lookups: HashMap::new(),
            producer_may_go: false,
            held_bytes: 0,
            lines_refused: 0,
            drain: None,
            entitlement: Entitlement::None,
            clock_ahead_ms: 0,
            tokens_left: TOKENS_AT_ONCE_MAX,
            identified: HashMap::new(),
            looks: Vec::new(),
            ended: Vec::new(),
            roomy: Vec::new(),
        }
    }

    /// Topics are published to by this map from now on.
    pub fn take_map(&mut self, map: Arc<TopicMap>) {
        self.map = map;
    }

    /// The counters of this room, with the gauges as they are now.
    pub fn counters(&mut self) -> &ShardCounters {
        self.counters.connections = self.sessions.len() as u64;
        self.counters.publishes_open = self.publishes.len() as u64;
        self.counters.outbox_bytes = self.pool.bytes() as u64;
        self.counters.commands_held_bytes = self.held_bytes as u64;
        self.counters.intake_waited_ms = self.crowd.waited_ms;
        &self.counters
    }

    /// Bytes of messages whose commands wait.
    pub fn commands_held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes that all outboxes hold.
    pub fn outbox_bytes(&self) -> usize {
        self.pool.bytes()
    }

    // What happens to connections.

    pub fn opened(&mut self, now_ms: u64, connection: ConnectionKey, protocol: Protocol) {
        self.sessions.insert(connection, Session::new(protocol));
        self.counters.connections_opened += 1;
        self.set_timer(now_ms + self.settings.connect_timeout_ms, connection, Timer::Connect);
        if self.drain.is_some() {
            self.disconnect(now_ms, connection, disconnect::SHUTDOWN, false);
        }
    }

    /// The socket is gone.
    pub fn closed(&mut self, connection: ConnectionKey) {
        if let Some(mut session) = self.sessions.remove(connection) {
            session.outbox.clear(&mut self.pool);
            if !self.identified.is_empty() {
                self.identified.remove(&connection);
            }
            self.waiting.leave(connection);
            self.leave_halfway(connection);
            self.ended.push(connection);
            self.let_go(session.held.map_or(0, |held| held.bytes));
        }
    }

    /// A WebSocket ping. Its pong goes out with the next write; until then a newer ping takes its place.
    pub fn ping_received(&mut self, connection: ConnectionKey, payload: &[u8]) {
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) {
            session.pong = Some(Box::from(payload));
            self.has_to_write(connection);
        }
    }

    /// The client's close frame: echoed.
    pub fn close_received(&mut self, now_ms: u64, connection: ConnectionKey, code: u16) {
        // RFC 6455, 7.4.1: 1005 and 1006 are never sent.
        let code = if matches!(code, 1005 | 1006) { 1000 } else { code };
        self.disconnect(now_ms, connection, (code, ""), false);
    }

    /// What the client sent is not the protocol.
    pub fn violated(&mut self, now_ms: u64, connection: ConnectionKey, disconnect: disconnect::Disconnect) {
        self.counters.disconnects_malformed += 1;
        self.disconnect(now_ms, connection, disconnect, false);
    }

    /// Queues a close frame as the last frame; with `abandon` what is queued before it is dropped, but for a frame that has begun.
    pub fn disconnect(&mut self, now_ms: u64, connection: ConnectionKey, (code, reason): disconnect::Disconnect, abandon: bool) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return;
        };
        if abandon {
            session.outbox.drop_all(&mut self.pool);
        }
        session.pong = None;
        let held = session.held.take();
        self.let_go(held.map_or(0, |held| held.bytes));
        self.queue(connection, encode_close(code, reason));
        self.waiting.leave(connection);
        if let Some(session) = self.sessions.get_mut(connection) {
            session.phase = Phase::Closing;
            session.behind_since_ms = 0;
            session.room_wanted = false;
            if session.paused {
                // What still comes is read and thrown away.
                self.waiting.enter(connection, Wait::Turn, None);
            }
        }
        self.ended.push(connection);
        self.set_timer(now_ms + CLOSE_LINGER_MS, connection, Timer::Linger);
    }

    /// A connection that takes no commands and no records any more. Whoever subscribed for it lets go of that.
    pub fn next_ended(&mut self) -> Option<ConnectionKey> {
        self.ended.pop()
    }

    /// Whether nobody has anything to be written, has a turn, or is crowded.
    pub fn rests(&self) -> bool {
        let turns = !self.waiting.is_empty() && (self.turns() > 0 || self.producer_may_go && self.has_producer_line());
        !self.has_told() && !turns && !self.has_writes() && !self.is_crowded() && !self.holds_intake()
    }

    /// Whether there is one that has ended, whose outbox is half empty, or whose subscriptions are to be looked at.
    pub fn has_told(&self) -> bool {
        !self.ended.is_empty() || !self.roomy.is_empty() || !self.looks.is_empty()
    }

    /// A connection whose outbox is half empty, for whoever asked to be told.
    pub fn next_roomy(&mut self) -> Option<ConnectionKey> {
        self.roomy.pop()
    }

    // What others ask.

    /// Commands of one connection that are taken in one go.
    pub fn commands_at_once_max(&self) -> u32 {
        self.settings.commands_at_once_max
    }

    /// The encoding of a connection that takes commands and records.
    pub fn protocol(&self, connection: ConnectionKey) -> Option<Protocol> {
        self.sessions.get(connection).filter(|session| session.is_open()).map(|session| session.protocol)
    }

    /// The phase of a connection that is there.
    pub fn phase(&self, connection: ConnectionKey) -> Option<Phase> {
        self.sessions.get(connection).map(|session| session.phase)
    }

    /// One record for one client: a reference to bytes that others share. An empty outbox takes any frame, for homes cut frames to what an outbox
    /// may hold.
    pub fn deliver(&mut self, connection: ConnectionKey, subscription: SubscriptionKey, frame: &Rc<Frame>, bytes: usize) -> Delivered {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return Delivered::Gone;
        };
        let load = session.outbox.load() + Outbox::load_of(bytes);
        let fits = load <= self.settings.outbox_bytes_max && self.pool.bytes() <= self.settings.outboxes_bytes_max;
        if !fits && !session.outbox.is_empty() {
            return Delivered::Full;
        }
        session.outbox.push(&mut self.pool, frame.clone(), Some(subscription));
        self.counters.deliveries += 1;
        if !session.to_write {
            session.to_write = true;
            self.to_write.push_back((connection, self.clock_us as u32));
        }
        if !session.crowded && (load > self.settings.outbox_bytes_max / 2 || self.pool.bytes() > self.settings.outboxes_bytes_max / 2) {
            session.crowded = true;
            self.crowd.members.push(connection);
            self.crowd.unwritten.push(connection);
        }
        Delivered::Queued
    }

    /// Makes a frame that outboxes can share. Give it back with `release`.
    pub fn share(&mut self, frame: Bytes, offset: Option<Offset>) -> Rc<Frame> {
        self.pool.share(frame, offset)
    }

    /// See `share`.
    pub fn release(&mut self, frame: Rc<Frame>) {
        self.pool.release(frame);
    }

    /// Queues a frame for which room was promised.
    pub fn queue_record(&mut self, connection: ConnectionKey, subscription: SubscriptionKey, offset: Offset, frame: Bytes) {
        self.counters.deliveries += 1;
        self.queue_own(connection, frame, Some(offset), Some(subscription));
    }

    /// Queues a frame that is no record.
    pub fn queue(&mut self, connection: ConnectionKey, frame: Bytes) {
        // A short reply holds no more than it says.
        let frame = if frame.len() < REPLY_BYTES { Bytes::copy_from_slice(&frame) } else { frame };
        self.queue_own(connection, frame, None, None);
    }

    fn queue_own(&mut self, connection: ConnectionKey, frame: Bytes, offset: Option<Offset>, subscription: Option<SubscriptionKey>) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return;
        };
        session.outbox.push_own(&mut self.pool, frame, offset, subscription);
        self.has_to_write(connection);
    }

    pub(super) fn has_to_write(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| !session.to_write) {
            session.to_write = true;
            self.to_write.push_back((connection, self.clock_us as u32));
        }
    }

    /// Queues the reply to a command. Commands with id 0 want none.
    pub fn reply(&mut self, connection: ConnectionKey, id: u32, reply: &Reply<'_>) {
        let Some(session) = self.sessions.get(connection).filter(|_| id != 0) else {
            return;
        };
        let frame = encode_reply(session.protocol, id, reply);
        self.queue(connection, frame);
    }

    pub fn reply_error(&mut self, connection: ConnectionKey, id: u32, error: &ErrorReply) {
        self.counters.command_errors += 1;
        self.reply(connection, id, &Reply::Error(error));
    }

    /// Records for a reply count as delivered too.
    pub fn count_deliveries(&mut self, count: usize) {
        self.counters.deliveries += count as u64;
    }

    /// Whether the outbox has room for so many bytes, and all outboxes together.
    pub fn has_room(&mut self, connection: ConnectionKey, bytes: usize) -> bool {
        let Some(session) = self.sessions.get(connection) else {
            return false;
        };
        if session.outbox.load() + bytes > self.settings.outbox_bytes_max {
            return false;
        }
        let fits = session.outbox.is_empty() || self.pool.bytes() + bytes <= self.settings.outboxes_bytes_max;
        self.pool_was_full |= !fits;
        fits
    }

    /// Whether the outbox alone has room for so many bytes.
    pub fn has_own_room(&self, connection: ConnectionKey, bytes: usize) -> bool {
        self.sessions.get(connection).is_some_and(|session| session.outbox.load() + bytes <= self.settings.outbox_bytes_max)
    }

    /// Whether the outbox is at most half full.
    pub fn is_half_empty(&self, connection: ConnectionKey) -> bool {
        self.sessions.get(connection).is_some_and(|session| session.outbox.load() <= self.settings.outbox_bytes_max / 2)
    }

    /// Keeps bytes of the outbox free for an answer.
    pub fn reserve(&mut self, connection: ConnectionKey, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.outbox.reserved += bytes as u32;
        }
    }

    /// The answer is here.
    pub fn unreserve(&mut self, connection: ConnectionKey, bytes: usize) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.outbox.reserved -= bytes as u32;
            self.room_made(connection);
        }
    }

    /// Takes out the queued records of one subscription.
    pub fn drop_subscription(&mut self, connection: ConnectionKey, subscription: SubscriptionKey) -> Dropped {
        let Some(session) = self.sessions.get_mut(connection) else {
            return Dropped::default();
        };
        let dropped = session.outbox.drop_subscription(&mut self.pool, subscription);
        self.room_made(connection);
        dropped
    }

    /// Takes out the queued records with a position of the subscriptions that `parks` names, in one walk.
    pub fn drop_positioned(
        &mut self,
        connection: ConnectionKey,
        parks: impl FnMut(SubscriptionKey) -> bool,
        dropped: impl FnMut(SubscriptionKey, Offset),
    ) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.outbox.drop_positioned(&mut self.pool, parks, dropped);
            self.room_made(connection);
        }
    }

    /// Whoever catches up for a connection wants to be told (`next_roomy`) when its outbox is half empty; until then its client is slow.
    pub fn want_room(&mut self, now_ms: u64, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return;
        };
        session.room_wanted = true;
        if session.behind_since_ms == 0 && !session.outbox.is_empty() {
            session.behind_since_ms = now_ms.max(1);
            self.watch(connection);
        }
    }

    /// Nothing waits for its outbox to drain any more.
    pub fn want_no_room(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.room_wanted = false;
            session.behind_since_ms = 0;
        }
    }

    /// The client's empty command: it lives.
    pub fn pong_received(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.awaiting_pong = false;
        }
    }

    /// A connection's outbox has more room than before.
    pub(super) fn room_made(&mut self, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        let load = session.outbox.load();
        if let Some(Wait::Room(bytes)) = self.waiting.of(connection)
            && load + bytes <= self.settings.outbox_bytes_max
        {
            self.waiting.wake(connection);
        }
        if load <= self.settings.outbox_bytes_max / 2 {
            session.behind_since_ms = 0;
            if std::mem::take(&mut session.room_wanted) {
                self.roomy.push(connection);
            }
        }
    }

    /// Whether a drain has come to its end: no connection and no open publish is left.
    pub fn drained(&self) -> bool {
        self.drain.is_some() && self.sessions.is_empty() && self.publishes_are_answered()
    }

    /// # Panics
    /// If an invariant does not hold. For tests and the simulator: walks everything.
    pub fn check(&self) {
        self.waiting.check();
        for (connection, session) in &self.sessions {
            let wait = self.waiting.of(connection);
            assert_eq!(
                wait.is_some(),
                session.held.is_some() || session.paused,
                "{connection:?} waits if it holds or reads nothing: {wait:?}"
            );
            let held = session.held.as_ref().map(|held| &held.wait);
            assert!(held.is_none() || wait == held || wait == Some(&Wait::Turn), "{connection:?} is where its command says");
        }
        let held = self.sessions.values().filter_map(|session| session.held.as_ref()).map(|held| held.bytes).sum::<usize>();
        assert_eq!(held, self.held_bytes, "what is held is counted");
        self.pool.check(self.sessions.values().map(|session| &session.outbox));
    }
}
