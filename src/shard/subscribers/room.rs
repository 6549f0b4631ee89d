//! The room's state, and what it takes.

use std::collections::VecDeque;
use std::sync::Arc;

use slotmap::SecondaryMap;

use super::left::LeftSubscriptions;
use super::own::Own;
use super::table::{LocalTable, SubscriptionState};
use crate::handoff::{ConnectionKey, FromHome, LocalSubjectKey, SubscriptionKey, TowardHome, Variant};
use crate::session::{ErrorReply, encode_subscribe_lost};
use crate::shard::connections::Connections;
use crate::shard::counters::ShardCounters;
use crate::shard::errors;
use crate::shard::outgoing::Outgoing;
use crate::shard::settings::ShardSettings;
use crate::subject::{SubjectName, TopicMap};

/// Unsubscribe code: the SDK subscribes again and recovers.
const INSUFFICIENT_STATE: u32 = 2500;

/// See the module's documentation.
pub(in crate::shard) struct Subscribers {
    pub(super) settings: Arc<ShardSettings>,
    pub(super) counters: ShardCounters,
    pub(super) map: Arc<TopicMap>,
    pub(super) local: LocalTable,
    /// By connection, from its first subscription to its end.
    pub(super) of: SecondaryMap<ConnectionKey, Subscribed>,
    /// Connections whose turn it is to catch up.
    pub(super) turns: VecDeque<ConnectionKey>,
    /// Connections that catch up at the next tick.
    pub(super) next_tick: Vec<ConnectionKey>,
    /// Subscribes that another version of the map has met, and when they are routed again.
    pub(super) reroutes: VecDeque<(u64, SubscriptionKey)>,
    /// Subscriptions that were left a moment ago.
    pub(super) left: LeftSubscriptions,
    /// Room for those whose outboxes are full.
    pub(super) overflowed: Vec<SubscriptionKey>,
    /// Subscriptions with a token of their own.
    pub(super) own: Own,
}

/// What a connection has subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscribed {
    pub subscriptions: Vec<SubscriptionKey>,
    /// Those that are parked, the longest waiting first. One that is not any more is skipped.
    pub parked: VecDeque<SubscriptionKey>,
    pub waits: CatchUp,
}

/// What a connection with parked subscriptions waits for: exactly one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CatchUp {
    /// Nothing is parked.
    #[default]
    Nothing,
    /// Room in its own outbox.
    Room,
    /// Its turn.
    Turn,
    /// The next tick.
    Tick,
    /// A piece that is under way.
    Piece,
}

impl Subscribers {
    /// Settings that may change. A subject that has other records from now on loses its subscribers, who come back to those.
    pub fn take_settings(&mut self, settings: Arc<ShardSettings>, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let before = std::mem::replace(&mut self.settings, settings);
        if before.exposures == self.settings.exposures {
            return;
        }
        for local in self.local.keys() {
            let Some(subject) = self.local.subject(local).filter(|subject| !subject.stale) else {
                continue;
            };
            if self.exposed(&subject.name).as_ref() != Ok(&subject.exposed) {
                self.local.make_stale(local);
                self.lose_all(local, connections, toward_home);
            }
        }
    }

    /// Whose records a subject has, if not its own.
    pub(super) fn exposed(&self, name: &SubjectName) -> Result<Option<SubjectName>, ErrorReply> {
        self.settings.exposures.of(name, self.settings.subject_bytes_max).map_err(errors::bad_request)
    }

    pub fn new(settings: Arc<ShardSettings>) -> Subscribers {
        Subscribers {
            settings,
            counters: ShardCounters::default(),
            map: Arc::default(),
            local: LocalTable::default(),
            of: SecondaryMap::new(),
            turns: VecDeque::new(),
            next_tick: Vec::new(),
            reroutes: VecDeque::new(),
            left: LeftSubscriptions::default(),
            overflowed: Vec::new(),
            own: Own::default(),
        }
    }

    /// What a home says to this shard.
    pub fn take(&mut self, now_ms: u64, message: FromHome, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        match message {
            FromHome::Delivery { local, variant, offset, frame } => {
                self.deliver(now_ms, local, variant, offset, frame, connections, toward_home);
            }
            FromHome::Subscribed { local, variant, subscription, answer } => {
                self.subscribed(now_ms, local, variant, subscription, answer, connections, toward_home);
            }
            FromHome::Piece(piece) => self.piece(now_ms, *piece, connections, toward_home),
            FromHome::History { connection, command, answer } => self.history_answered(connection, command, answer, connections),
            FromHome::Passing { local } => self.passing(local, connections, toward_home),
            FromHome::Reset { local } => self.reset(local, connections, toward_home),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        for connection in self.next_tick.drain(..) {
            if let Some(subscribed) = self.of.get_mut(connection).filter(|subscribed| subscribed.waits == CatchUp::Tick) {
                subscribed.waits = CatchUp::Turn;
                self.turns.push_back(connection);
            }
        }
    }

    /// When `tick` finds something to do; 0 is the next one.
    pub fn due_ms(&self) -> u64 {
        if self.next_tick.is_empty() { u64::MAX } else { 0 }
    }

    /// Ten times a second.
    pub fn expire(&mut self, now_ms: u64) {
        self.left.expire(now_ms);
    }

    /// Bytes of subscriptions and of the subjects that they want.
    pub fn bytes(&self) -> usize {
        self.local.bytes() + self.own.bytes()
    }

    /// The counters of this room, with the gauges as they are now.
    pub fn counters(&mut self) -> &ShardCounters {
        self.counters.subscriptions = self.local.subscriptions() as u64;
        self.counters.subscriptions_bytes = self.bytes() as u64;
        self.counters.subscriptions_left = self.left.len() as u64;
        &self.counters
    }

    /// Subjects that connections here want.
    pub fn wanted(&self) -> usize {
        self.local.subjects()
    }

    /// Those subjects, for the simulator's reports.
    pub fn wanted_subjects(&self) -> String {
        format!("{:?}", self.local.keys().into_iter().filter_map(|key| self.local.subject(key)).collect::<Vec<_>>())
    }

    /// A connection takes nothing any more: its subscriptions end.
    pub fn end_connection(&mut self, connection: ConnectionKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        if let Some(subscribed) = self.of.remove(connection) {
            for subscription in subscribed.subscriptions {
                self.end_subscription(subscription, connections, toward_home);
            }
        }
    }

    /// Tells the client to subscribe again (2500) and ends the subscription here.
    pub(super) fn lose(&mut self, key: SubscriptionKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, local) = (subscription.connection, subscription.local);
        self.counters.subscriptions_lost += 1;
        if let (Some(protocol), Some(subject)) = (connections.protocol(connection), self.local.subject(local)) {
            // What is queued of it may stay: it is in order and complete up to here.
            connections.queue(connection, encode_subscribe_lost(protocol, subject.name.as_str(), INSUFFICIENT_STATE, "insufficient state"));
        }
        self.drop_subscription(key, connections, toward_home);
    }

    /// Ends a subscription: out of its connection's list, out of the table, and out of the home if it was the last.
    pub(super) fn drop_subscription(
        &mut self,
        key: SubscriptionKey,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, place) = (subscription.connection, subscription.list_place as usize);
        if let Some(subscribed) = self.of.get_mut(connection) {
            subscribed.subscriptions.swap_remove(place);
            if let Some(moved) = subscribed.subscriptions.get(place).copied()
                && let Some(moved) = self.local.get_mut(moved)
            {
                moved.list_place = place as u32;
            }
        }
        self.end_subscription(key, connections, toward_home);
    }

    /// As `drop_subscription`, for one that its connection's list has let go of already.
    fn end_subscription(&mut self, key: SubscriptionKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let Some(subscription) = self.local.unsubscribe(key) else {
            return;
        };
        self.own.remove(key);
        let connection = subscription.connection;
        match &subscription.state {
            SubscriptionState::CatchingUp { reserved, .. } => {
                connections.unreserve(connection, *reserved as usize);
                self.piece_is_over(connection);
            }
            SubscriptionState::Pending(pending) => connections.unreserve(connection, pending.reserved as usize),
            SubscriptionState::Parked { .. } => self.unpark(connection, key, connections),
            SubscriptionState::Live => {}
        }
        self.withdraw_unused(subscription.local, subscription.variant, toward_home);
    }

    /// Tells the home what it need not send any more, and forgets a subject that nobody wants.
    pub(super) fn withdraw_unused(&mut self, local: LocalSubjectKey, variant: Variant, toward_home: &mut Outgoing<TowardHome>) {
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        let (home, topic) = (subject.home, subject.topic);
        if subject.is_idle() {
            if subject.entered || subject.is_live_at_home() {
                toward_home.say(home, TowardHome::Withdraw { topic, subject: subject.subject().clone(), local, variant: None });
            }
            self.local.remove(local);
            return;
        }
        let group = subject.group_mut(variant);
        if group.live_at_home && !group.has_live() && group.pending == 0 {
            group.live_at_home = false;
            toward_home.say(home, TowardHome::Withdraw { topic, subject: subject.subject().clone(), local, variant: Some(variant) });
        }
    }

    /// The log under a subject is another one: 2500 to every subscriber that had an answer. The home has forgotten this shard already.
    fn reset(&mut self, local: LocalSubjectKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        if let Some(subject) = self.local.subject_mut(local) {
            subject.forgotten_at_home();
            self.lose_all(local, connections, toward_home);
        }
    }

    fn lose_all(&mut self, local: LocalSubjectKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let keys = self.local.subject(local).map(|subject| subject.subscriptions()).unwrap_or_default();
        for key in keys {
            if self.local.get(key).is_some_and(|subscription| subscription.pending().is_none()) {
                self.lose(key, connections, toward_home);
            }
        }
        for variant in self.local.subject(local).map(|subject| subject.variants()).unwrap_or_default() {
            self.withdraw_unused(local, variant, toward_home);
        }
    }

    /// Routes by a new map: subjects whose home or log moved lose their subscribers (they come back and recover); what is pending is routed again.
    pub fn take_map(&mut self, map: Arc<TopicMap>, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        self.map = map;
        for local in self.local.keys() {
            let Some(subject) = self.local.subject(local).filter(|subject| !subject.stale) else {
                continue;
            };
            let name = subject.subject();
            let home = self.map.topic(name.topic()).map(|topic| topic.home(name.key().map(str::as_bytes)));
            let same = home.is_some_and(|home| {
                home.partition == subject.partition && home.shard == subject.home && home.recoverable == subject.recoverable
            });
            if !same {
                self.local.make_stale(local);
                self.lose_all(local, connections, toward_home);
            }
        }
    }

    /// Every subscription is in its connection's list, and a connection with parked subscriptions
    /// waits for exactly one thing.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn check(&self) {
        self.own.check(|key| self.local.get(key).is_some());
        let mut listed = 0;
        for (connection, subscribed) in &self.of {
            listed += subscribed.subscriptions.len();
            let state = |key: &SubscriptionKey| self.local.get(*key).map(|subscription| &subscription.state);
            let parked = subscribed.subscriptions.iter().filter(|key| matches!(state(key), Some(SubscriptionState::Parked { .. }))).count();
            let pieces =
                subscribed.subscriptions.iter().filter(|key| matches!(state(key), Some(SubscriptionState::CatchingUp { .. }))).count();
            assert_eq!(pieces == 1, subscribed.waits == CatchUp::Piece, "{connection:?} has one piece under way: {:?}", subscribed.waits);
            assert!(parked == 0 || subscribed.waits != CatchUp::Nothing, "{connection:?} has parked subscriptions and waits for something");
            let turns = self.turns.iter().filter(|other| **other == connection).count();
            assert_eq!(turns == 1, subscribed.waits == CatchUp::Turn, "{connection:?} has its turn once: {turns}");
            let ticks = self.next_tick.iter().filter(|other| **other == connection).count();
            assert_eq!(ticks == 1, subscribed.waits == CatchUp::Tick, "{connection:?} waits for the tick once: {ticks}");
        }
        assert_eq!(listed, self.local.subscriptions(), "every subscription has its connection");
    }
}
