//! What clients ask of their subscriptions.

use super::left::Left;
use super::own::Own;
use super::room::Subscribers;
use super::table::{Follower, LocalTable, PendingSubscribe, SubscriptionState};
use crate::entitlement::SubscriptionGrant;
use crate::handoff::message::ClientPosition;
use crate::handoff::{ConnectionKey, HistoryRequest, Protocol, Start, SubscriptionKey, TowardHome, Variant};
use crate::limits::{ANSWER_BYTES_MAX, HISTORY_BYTES_MAX, HOLD_MS, REPLY_BYTES};
use crate::session::{self, Reply};
use crate::shard::connections::{Connections, Taken, Wait};
use crate::shard::errors;
use crate::shard::outgoing::Outgoing;
use crate::subject::SubjectName;

impl Subscribers {
    /// The subscribe command.
    #[expect(clippy::too_many_arguments, reason = "a command, its time, by which rooms")]
    pub fn subscribe(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        read_ms: u64,
        request: &session::SubscribeCommand,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) -> Taken {
        if toward_home.is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                connections.reply_error(connection, id, &errors::bad_request(error));
                return Taken::Yes;
            }
        };
        if let Some(reason) = &request.bad_data {
            connections.reply_error(connection, id, &errors::bad_request(reason));
            return Taken::Yes;
        }
        if let Some(reason) = request.not_offered {
            connections.reply_error(connection, id, &errors::not_offered(reason));
            return Taken::Yes;
        }
        if !connections.may_judge(&request.token) {
            return Taken::NotNow(Wait::Turn);
        }
        // Before anything is said of the topic.
        let own = match connections.lets_subscribe(now_ms, connection, name.as_str(), &request.token) {
            Ok(own) => own.filter(SubscriptionGrant::has_token),
            Err(denial) => {
                connections.deny(connection, id, &denial);
                return Taken::Yes;
            }
        };
        if self.map.version == 0 {
            connections.reply_error(connection, id, &errors::NOT_READY);
            return Taken::Yes;
        }
        let exposed = match self.exposed(&name) {
            Ok(exposed) => exposed,
            Err(error) => {
                connections.reply_error(connection, id, &error);
                return Taken::Yes;
            }
        };
        let subject = exposed.as_ref().unwrap_or(&name);
        let Some(topic) = self.map.topic(subject.topic()) else {
            connections.reply_error(connection, id, &errors::unknown_topic(subject.topic(), &self.settings));
            return Taken::Yes;
        };
        let Some(protocol) = connections.protocol(connection) else {
            return Taken::Yes;
        };
        let start = if request.recover {
            let position = ClientPosition { epoch: request.position.epoch.clone(), offset: request.position.offset };
            Start::Position { position, strict: request.flag & 2 != 0 }
        } else {
            Start::Live { history: request.history.max(u32::from(request.snapshot || topic.snapshot)) }
        };
        let reserved = match start {
            Start::Live { history: 0 } => REPLY_BYTES,
            _ => ANSWER_BYTES_MAX.min(self.settings.outbox_bytes_max / 4).max(REPLY_BYTES),
        };
        if !connections.has_room(connection, reserved) {
            return Taken::NotNow(Wait::Room(reserved));
        }
        // Over Protobuf the JavaScript SDK (5.8.0) offers ids too, but decodes each into a new Long object and compares those by identity: it says
        // `subscribed` and then drops every push that names one, in silence. The Python SDK (0.7.0) reads them right, but nothing that a client sends
        // tells the two apart for certain. `tests/sdk/js/ids.test.mjs` says when the SDK has been mended.
        // An id is of a subject, which may have several names.
        let numeric = request.flag & 1 != 0 && protocol == Protocol::Json && exposed.is_none();
        let variant = Variant { protocol, numeric };
        if let Some(key) = self.local.subscription_of(connection, &name) {
            let left = self.local.get(key).filter(|subscription| subscription.pending().is_some_and(PendingSubscribe::is_left));
            let Some(left) = left else {
                connections.reply_error(connection, id, &errors::ALREADY_SUBSCRIBED);
                return Taken::Yes;
            };
            if left.variant == variant && left.pending().is_some_and(|pending| pending.asks_as(&start)) {
                self.follow(connection, key, Follower::Subscribe(id), reserved, connections);
                self.keep_own(now_ms, connection, key, own, connections);
                return Taken::Yes;
            }
            // Another start is another subscription of the application's: whoever waited for the first is gone.
            self.refuse_subscribe(key, &errors::NOT_READY, connections, toward_home);
        }
        if self.of.get(connection).is_some_and(|subscribed| subscribed.subscriptions.len() >= self.settings.subscriptions_max) {
            connections.reply_error(connection, id, &errors::SUBSCRIPTION_LIMIT);
            return Taken::Yes;
        }
        if self.bytes() + LocalTable::weight_of(&name, exposed.as_ref()) + Own::weight_of(own.as_ref())
            > self.settings.subscriptions_bytes_max
        {
            self.counters.subscriptions_refused += 1;
            connections.reply_error(connection, id, &errors::SUBSCRIPTIONS_FULL);
            return Taken::Yes;
        }
        let left = self.left.take(now_ms, connection, &name);
        let start = match left {
            Some(left) if start == (Start::Live { history: 0 }) => {
                Start::Resume { partition: left.partition, generation: left.generation, from: left.next }
            }
            _ => start,
        };
        let deadline_ms = hold_deadline(now_ms, read_ms);
        let pending = PendingSubscribe { command: id, start, deadline_ms, reserved: reserved as u32, followers: Vec::new() };
        if let Some(key) = self.begin(now_ms, connection, name, exposed, variant, pending, connections, toward_home) {
            self.keep_own(now_ms, connection, key, own, connections);
        }
        Taken::Yes
    }

    /// Queues a command behind the answer to a subscribe, with room for an answer of its own.
    fn follow(
        &mut self,
        connection: ConnectionKey,
        key: SubscriptionKey,
        follower: Follower,
        reserved: usize,
        connections: &mut Connections,
    ) {
        if let Some(pending) = self.local.get_mut(key).and_then(|subscription| subscription.pending_mut()) {
            pending.followers.push(follower);
            pending.reserved += reserved as u32;
            connections.reserve(connection, reserved);
        }
    }

    /// The unsubscribe command.
    pub fn unsubscribe(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        channel: &str,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) -> Taken {
        if toward_home.is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let key = SubjectName::parse(channel, self.settings.subject_bytes_max)
            .ok()
            .and_then(|name| self.local.subscription_of(connection, &name));
        if let Some(key) = key {
            if self.local.get(key).is_some_and(|subscription| subscription.pending().is_some()) {
                self.follow(connection, key, Follower::Unsubscribe(id), REPLY_BYTES, connections);
                return Taken::Yes;
            }
            // Nothing of the subscription may follow the reply.
            let subscription = self.local.get(key);
            let subject = subscription.and_then(|subscription| self.local.subject(subscription.local));
            let next = subscription.filter(|subscription| subscription.recoverable).and_then(|subscription| match subscription.state {
                SubscriptionState::Live => subject.map(|subject| subject.next),
                SubscriptionState::Parked { from } | SubscriptionState::CatchingUp { from, .. } => Some(from),
                SubscriptionState::Pending(_) => None,
            });
            let generation = subscription.map(|subscription| subscription.generation).unwrap_or_default();
            let dropped = connections.drop_subscription(connection, key);
            if let (Some(subject), Some(next)) = (subject, next) {
                let left = Left { partition: subject.partition, generation, next: dropped.first.unwrap_or(next) };
                self.left.leave(now_ms, connection, subject.name.clone(), left);
            }
            self.drop_subscription(key, connections, toward_home);
        }
        connections.reply(connection, id, &Reply::Unsubscribe);
        Taken::Yes
    }

    /// Outbox bytes kept free for a page of history.
    pub(super) fn history_reserve(&self) -> usize {
        HISTORY_BYTES_MAX.min(self.settings.outbox_bytes_max / 2)
    }

    /// The history command.
    #[expect(clippy::too_many_arguments, reason = "a command, its time, by which rooms")]
    pub fn history(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        read_ms: u64,
        request: &session::HistoryCommand,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) -> Taken {
        if toward_home.is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                connections.reply_error(connection, id, &errors::bad_request(error));
                return Taken::Yes;
            }
        };
        let own = self.local.subscription_of(connection, &name).and_then(|key| self.own.get(key));
        if let Err(denial) = connections.holds(now_ms, connection, name.as_str(), own) {
            connections.deny(connection, id, &denial);
            return Taken::Yes;
        }
        if self.map.version == 0 {
            connections.reply_error(connection, id, &errors::NOT_READY);
            return Taken::Yes;
        }
        let name = match self.exposed(&name) {
            Ok(exposed) => exposed.unwrap_or(name),
            Err(error) => {
                connections.reply_error(connection, id, &error);
                return Taken::Yes;
            }
        };
        let Some(topic) = self.map.topic(name.topic()) else {
            connections.reply_error(connection, id, &errors::unknown_topic(name.topic(), &self.settings));
            return Taken::Yes;
        };
        let reserve = self.history_reserve();
        if !connections.has_room(connection, reserve) {
            return Taken::NotNow(Wait::Room(reserve));
        }
        let home = topic.home(name.key().map(str::as_bytes)).shard;
        let topic = topic.index;
        let Some(protocol) = connections.protocol(connection) else {
            return Taken::Yes;
        };
        connections.reserve(connection, reserve);
        let request = HistoryRequest {
            map_version: self.map.version,
            topic,
            subject: name,
            connection,
            command: id,
            protocol,
            limit: request.limit,
            since: request.since.as_ref().map(|since| ClientPosition { epoch: since.epoch.clone(), offset: since.offset }),
            reverse: request.reverse,
            bytes_max: reserve,
            hold_ms: hold_deadline(now_ms, read_ms) - now_ms,
        };
        toward_home.say(home, TowardHome::History(Box::new(request)));
        Taken::Yes
    }
}

/// Until when a command may be held: its client counts from when it was read, whatever it has waited for until now. One that is late is served if that
/// can be done at once.
fn hold_deadline(now_ms: u64, read_ms: u64) -> u64 {
    (read_ms + HOLD_MS).max(now_ms)
}
