//! The commands of a connection, in the order they came. A command that cannot be taken now (a full lane, a full outbox, a full producer) is held
//! with the rest of its message, and the socket is not read until it is taken: that is the backpressure. So is the rest of a message with very many
//! commands, until the next turn.

use bytes::Bytes;

use super::connection::{HeldMessage, Phase, Timer, disconnect};
use super::core::ShardCore;
use super::left::Left;
use super::{Effects, errors};
use crate::handoff::message::ClientPosition;
use crate::handoff::{ConnectionKey, Form, HistoryRequest, Protocol, Start, SubscriptionKey, TowardHome};
use crate::limits::{ANSWER_BYTES_MAX, COMMANDS_AT_ONCE_MAX, HISTORY_BYTES_MAX, HOLD_MS, REPLY_BYTES};
use crate::session::{self, Command, ConnectResult, ErrorReply, Reply, Request, encode_reply, next_command};
use crate::subject::SubjectName;
use crate::subject::local_table::{Follower, PendingSubscribe, SubscriptionState};

/// Whether a command was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// Not now: nothing was done, the command is to be tried again when what it waits for may be there.
    NotNow(Wait),
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Room in a lane toward home.
    Lane,
    /// Room at the producer, or one more open publish of this shard: all who wait for it stand in one line.
    Producer,
    /// So many bytes of room in the connection's own outbox.
    Room(usize),
    /// Kafka's answer to another publish of this connection.
    Answer,
    /// Word about a topic.
    Topic,
    /// The next turn: the message has very many commands.
    Turn,
}

/// Refusals by the producer that one flush asks for: each costs the parsing of a command, and who is refused keeps its place in the line. More than
/// one, because a producer may refuse one topic and take another.
const REFUSALS_MAX: usize = 8;
/// One flush in so many sends those who were refused to the end of the line: a topic that is refused for long must not hold up the others.
const REFUSALS_KEPT: u64 = 8;

impl ShardCore {
    pub(super) fn received<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, payload: &[u8], effects: &mut E) {
        let Some(session) = self.sessions.get(connection).filter(|session| session.is_open()) else {
            return;
        };
        if let Some(held) = &session.held {
            // The driver read on although it was told not to; the order is kept all the same.
            let mut message = held.message.slice(held.at..).to_vec();
            if session.protocol == Protocol::Json {
                message.push(b'\n');
            }
            message.extend_from_slice(payload);
            let (wait, read_ms) = (held.wait, held.read_ms);
            self.hold_message(connection, HeldMessage { message: Bytes::from(message), at: 0, wait, read_ms });
            return;
        }
        self.take_commands(now_ms, connection, payload, 0, None, now_ms, effects);
    }

    /// Takes commands from a message until its end or until one cannot be taken. `shared` is the message as it was held before, `read_ms` when it
    /// was read.
    #[expect(clippy::too_many_arguments, reason = "a message, its place, its time")]
    fn take_commands<E: Effects>(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        message: &[u8],
        mut at: usize,
        shared: Option<Bytes>,
        read_ms: u64,
        effects: &mut E,
    ) {
        let mut taken = 0;
        loop {
            let Some(session) = self.sessions.get(connection).filter(|session| session.is_open()) else {
                return;
            };
            if taken == COMMANDS_AT_ONCE_MAX && at < message.len() {
                let message = shared.unwrap_or_else(|| Bytes::copy_from_slice(message));
                self.hold_message(connection, HeldMessage { message, at, wait: Wait::Turn, read_ms });
                self.held_ready.push(connection);
                return;
            }
            taken += 1;
            let before = at;
            match next_command(session.protocol, message, &mut at) {
                Ok(None) => return,
                Ok(Some(command)) => {
                    if let Taken::NotNow(wait) = self.command(now_ms, connection, command, read_ms, effects) {
                        let message = shared.unwrap_or_else(|| Bytes::copy_from_slice(message));
                        self.hold_message(connection, HeldMessage { message, at: before, wait, read_ms });
                        return;
                    }
                }
                Err(malformed) => {
                    tracing::debug!(reason = %malformed, "malformed message");
                    self.counters.disconnects_malformed += 1;
                    self.disconnect(now_ms, connection, disconnect::BAD_REQUEST, false);
                    return;
                }
            }
        }
    }

    fn hold_message(&mut self, connection: ConnectionKey, held: HeldMessage) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        let wait = held.wait;
        session.held = Some(Box::new(held));
        if wait == Wait::Producer {
            if !std::mem::replace(&mut session.in_line, true) {
                self.producer_line.push_back(connection);
            }
        } else if !std::mem::replace(&mut session.held_listed, true) {
            self.held_sessions.push(connection);
        }
    }

    /// Goes on with held messages whose wait may be over. Those that wait for something of their own are looked at when it came, and all at a tick.
    pub(super) fn resume_held<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        for connection in std::mem::take(&mut self.held_ready) {
            // Word about a topic is nothing of the connection's own.
            let own = |session: &super::connection::Session| session.held.as_ref().is_some_and(|held| held.wait != Wait::Topic);
            if self.sessions.get(connection).is_some_and(own) {
                self.resume(now_ms, connection, effects);
            }
        }
        if std::mem::take(&mut self.held_may_go) {
            for connection in std::mem::take(&mut self.held_sessions) {
                let Some(session) = self.sessions.get_mut(connection) else {
                    continue;
                };
                session.held_listed = false;
                self.resume(now_ms, connection, effects);
                // One that was not even tried stays listed.
                if let Some(session) = self.sessions.get_mut(connection)
                    && session.held.as_ref().is_some_and(|held| held.wait != Wait::Producer)
                    && !std::mem::replace(&mut session.held_listed, true)
                {
                    self.held_sessions.push(connection);
                }
            }
        }
        if std::mem::take(&mut self.producer_may_go) {
            self.resume_line(now_ms, effects);
        }
    }

    /// Goes on with a held message, unless what it waits for is plainly not there.
    fn resume<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, effects: &mut E) {
        let Some(session) = self.sessions.get(connection) else {
            return;
        };
        let may_go = match session.held.as_ref().map(|held| held.wait) {
            None | Some(Wait::Producer) => false,
            Some(Wait::Lane) => !self.toward_home_is_full(),
            Some(Wait::Room(bytes)) => self.has_room(connection, bytes),
            Some(Wait::Answer) => (session.publishes_open as usize) < self.settings.publishes_open_max,
            Some(Wait::Topic | Wait::Turn) => true,
        };
        if may_go {
            self.take_held(now_ms, connection, effects);
        }
    }

    fn take_held<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, effects: &mut E) {
        if let Some(held) = self.sessions.get_mut(connection).and_then(|session| session.held.take()) {
            let message = held.message;
            self.take_commands(now_ms, connection, &message.clone(), held.at, Some(message), held.read_ms, effects);
            if self.sessions.get(connection).is_some_and(|session| session.held.is_none()) {
                self.room_made(connection);
            }
        }
    }

    /// Takes up messages that have waited for so long that their publishes are refused, wherever they wait. Walks all that are held.
    pub(super) fn expire_messages<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        let waiting = self.producer_line.iter().chain(&self.held_sessions);
        let overdue = |session: &super::connection::Session| session.held.as_ref().is_some_and(|held| held.read_ms + HOLD_MS <= now_ms);
        let overdue: Vec<ConnectionKey> =
            waiting.filter(|connection| self.sessions.get(**connection).is_some_and(overdue)).copied().collect();
        for connection in overdue {
            self.take_held(now_ms, connection, effects);
        }
    }

    /// Those who wait for the producer, in the order in which they came. Who had a command taken and has more to say goes to the end.
    fn resume_line<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        let mut refused = Vec::new();
        while refused.len() < REFUSALS_MAX && self.publishes.len() < self.settings.publishes_open_shard_max {
            let Some(connection) = self.producer_line.pop_front() else {
                break;
            };
            let Some(session) = self.sessions.get_mut(connection) else {
                continue;
            };
            session.in_line = false;
            let place = |session: &super::connection::Session| {
                session.held.as_ref().filter(|held| held.wait == Wait::Producer).map(|held| (held.message.len(), held.at))
            };
            let Some(before) = place(session) else {
                continue;
            };
            self.take_held(now_ms, connection, effects);
            if self.sessions.get(connection).and_then(place) == Some(before) {
                self.producer_line.pop_back();
                refused.push(connection);
            }
        }
        if refused.is_empty() {
            return;
        }
        self.lines_refused += 1;
        if self.lines_refused.is_multiple_of(REFUSALS_KEPT) {
            self.producer_line.extend(refused);
        } else {
            for connection in refused.into_iter().rev() {
                self.producer_line.push_front(connection);
            }
        }
    }

    /// Whether the outbox has room for an answer of that many bytes.
    fn has_room(&self, connection: ConnectionKey, bytes: usize) -> bool {
        self.sessions.get(connection).is_some_and(|session| session.outbox.load() + bytes <= self.settings.outbox_bytes_max)
    }

    fn command<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, command: Command, read_ms: u64, effects: &mut E) -> Taken {
        let Some(session) = self.sessions.get(connection) else {
            return Taken::Yes;
        };
        let phase = session.phase;
        if command.request == Request::Pong {
            self.pong_received(connection);
            return Taken::Yes;
        }
        // Of a command with a broken text nobody knows any more whether it was the connect.
        let misplaced = (phase == Phase::Fresh) != matches!(command.request, Request::Connect(_));
        if misplaced && !matches!(command.request, Request::NotText(_)) {
            self.counters.disconnects_malformed += 1;
            self.disconnect(now_ms, connection, disconnect::BAD_REQUEST, false);
            return Taken::Yes;
        }
        if !self.has_room(connection, REPLY_BYTES) {
            return Taken::NotNow(Wait::Room(REPLY_BYTES));
        }
        let id = command.id;
        match command.request {
            Request::Connect(_) => self.connect(now_ms, connection, id),
            Request::Subscribe(request) => return self.subscribe(now_ms, connection, id, read_ms, *request),
            Request::Unsubscribe { channel } => return self.unsubscribe(now_ms, connection, id, &channel),
            Request::Publish(request) => return self.publish(now_ms, connection, id, read_ms, &request, effects),
            Request::History(request) => return self.history(now_ms, connection, id, read_ms, *request),
            Request::Presence { .. } | Request::PresenceStats { .. } => self.reply_error(connection, id, errors::NOT_OFFERED),
            Request::Rpc { .. } => self.reply_error(connection, id, errors::UNKNOWN_METHOD),
            Request::Send | Request::Pong => {}
            Request::Refresh { .. } => self.reply(connection, id, &Reply::Refresh),
            Request::SubRefresh { .. } => self.reply(connection, id, &Reply::SubRefresh),
            Request::Unknown => self.reply_error(connection, id, errors::BAD_COMMAND),
            Request::NotText(member) => self.reply_error(connection, id, errors::not_text(member)),
        }
        Taken::Yes
    }

    fn connect(&mut self, now_ms: u64, connection: ConnectionKey, id: u32) {
        self.clients += 1;
        let client = format!("{}-{}-{}", self.settings.node, self.shard.0, self.clients);
        let node = self.settings.node.clone();
        let ping_seconds = (self.settings.ping_interval_ms / 1000) as u32;
        if let Some(session) = self.sessions.get_mut(connection) {
            session.phase = Phase::Connected;
        }
        let version = concat!("corespan ", env!("CARGO_PKG_VERSION"));
        self.reply(connection, id, &Reply::Connect(ConnectResult { client: &client, version, node: &node, ping_seconds, pong: true }));
        if self.settings.ping_interval_ms > 0 {
            self.set_timer(now_ms + self.settings.ping_interval_ms, connection, Timer::Ping);
        }
    }

    fn subscribe(&mut self, now_ms: u64, connection: ConnectionKey, id: u32, read_ms: u64, request: session::SubscribeRequest) -> Taken {
        if self.toward_home_is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                self.reply_error(connection, id, errors::bad_request(error));
                return Taken::Yes;
            }
        };
        if let Some(reason) = &request.bad_data {
            self.reply_error(connection, id, errors::bad_request(reason));
            return Taken::Yes;
        }
        if let Some(reason) = request.not_offered {
            self.reply_error(connection, id, errors::not_offered(reason));
            return Taken::Yes;
        }
        if self.map.version == 0 {
            self.reply_error(connection, id, errors::NOT_READY);
            return Taken::Yes;
        }
        let Some(topic) = self.map.topic(name.topic()) else {
            self.reply_error(connection, id, errors::unknown_topic(name.topic(), &self.settings));
            return Taken::Yes;
        };
        let Some(session) = self.sessions.get(connection) else {
            return Taken::Yes;
        };
        let start = if request.recover {
            let position = ClientPosition { epoch: request.position.epoch, offset: request.position.offset };
            Start::Position { position, strict: request.flag & 2 != 0 }
        } else {
            Start::Live { history: request.history.max(u32::from(request.snapshot || topic.snapshot)) }
        };
        let reserved = match start {
            Start::Live { history: 0 } => REPLY_BYTES,
            _ => ANSWER_BYTES_MAX.min(self.settings.outbox_bytes_max / 4).max(REPLY_BYTES),
        };
        if !self.has_room(connection, reserved) {
            return Taken::NotNow(Wait::Room(reserved));
        }
        // Over Protobuf the JavaScript SDK (5.8.0) offers ids too, but decodes each into a new Long object and compares those by identity: it says
        // `subscribed` and then drops every push that names one, in silence. The Python SDK (0.7.0) reads them right, but nothing that a client sends
        // tells the two apart for certain. `tests/sdk/js/ids.test.mjs` says when the SDK has been mended.
        let numeric = request.flag & 1 != 0 && session.protocol == Protocol::Json;
        let form = Form { protocol: session.protocol, numeric };
        if let Some(key) = self.local.subscription_of(connection, &name) {
            let left = self.local.get(key).filter(|subscription| subscription.pending().is_some_and(PendingSubscribe::is_left));
            let Some(left) = left else {
                self.reply_error(connection, id, errors::ALREADY_SUBSCRIBED);
                return Taken::Yes;
            };
            if left.form == form && left.pending().is_some_and(|pending| pending.asks_as(&start)) {
                self.follow_subscribe(connection, key, Follower::Subscribe(id), reserved);
                return Taken::Yes;
            }
            // Another start is another subscription of the application's: whoever waited for the first is gone.
            self.refuse_subscribe(now_ms, key, errors::NOT_READY);
        }
        if self.sessions.get(connection).is_some_and(|session| session.subscriptions.len() >= self.settings.subscriptions_max) {
            self.reply_error(connection, id, errors::SUBSCRIPTION_LIMIT);
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
        self.begin_subscribe(now_ms, connection, name, form, pending);
        Taken::Yes
    }

    /// Queues a command behind the answer to a subscribe, with room for an answer of its own.
    fn follow_subscribe(&mut self, connection: ConnectionKey, key: SubscriptionKey, follower: Follower, reserved: usize) {
        let pending = self.local.get_mut(key).and_then(|subscription| subscription.pending_mut());
        if let (Some(pending), Some(session)) = (pending, self.sessions.get_mut(connection)) {
            pending.followers.push(follower);
            pending.reserved += reserved as u32;
            session.outbox.reserved += reserved as u32;
        }
    }

    fn unsubscribe(&mut self, now_ms: u64, connection: ConnectionKey, id: u32, channel: &str) -> Taken {
        if self.toward_home_is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let key = SubjectName::parse(channel, self.settings.subject_bytes_max)
            .ok()
            .and_then(|name| self.local.subscription_of(connection, &name));
        if let Some(key) = key {
            if self.local.get(key).is_some_and(|subscription| subscription.pending().is_some()) {
                self.follow_subscribe(connection, key, Follower::Unsubscribe(id), REPLY_BYTES);
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
            if let Some(session) = self.sessions.get_mut(connection) {
                let dropped = session.outbox.drop_subscription(&mut self.pool, key);
                if let (Some(subject), Some(next)) = (subject, next) {
                    let left = Left { partition: subject.partition, generation, next: dropped.first.unwrap_or(next) };
                    self.left.leave(now_ms, connection, subject.name.clone(), left);
                }
            }
            self.room_made(connection);
            self.drop_subscription(now_ms, key);
        }
        self.reply(connection, id, &Reply::Unsubscribe);
        Taken::Yes
    }

    /// Outbox bytes kept free for a page of history.
    pub(super) fn history_reserve(&self) -> usize {
        HISTORY_BYTES_MAX.min(self.settings.outbox_bytes_max / 2)
    }

    fn history(&mut self, now_ms: u64, connection: ConnectionKey, id: u32, read_ms: u64, request: session::HistoryRequest) -> Taken {
        if self.toward_home_is_full() {
            return Taken::NotNow(Wait::Lane);
        }
        let name = match SubjectName::parse(&request.channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                self.reply_error(connection, id, errors::bad_request(error));
                return Taken::Yes;
            }
        };
        if self.map.version == 0 {
            self.reply_error(connection, id, errors::NOT_READY);
            return Taken::Yes;
        }
        let Some(topic) = self.map.topic(name.topic()) else {
            self.reply_error(connection, id, errors::unknown_topic(name.topic(), &self.settings));
            return Taken::Yes;
        };
        let reserve = self.history_reserve();
        if !self.has_room(connection, reserve) {
            return Taken::NotNow(Wait::Room(reserve));
        }
        let home = topic.home(name.key().map(str::as_bytes)).shard;
        let topic = topic.index;
        let Some(session) = self.sessions.get_mut(connection) else {
            return Taken::Yes;
        };
        session.outbox.reserved += reserve as u32;
        let request = HistoryRequest {
            map_version: self.map.version,
            topic,
            subject: name,
            connection,
            command: id,
            protocol: session.protocol,
            limit: request.limit,
            since: request.since.map(|since| ClientPosition { epoch: since.epoch, offset: since.offset }),
            reverse: request.reverse,
            bytes_max: reserve,
            hold_ms: hold_deadline(now_ms, read_ms) - now_ms,
        };
        self.say_toward_home(home, TowardHome::History(Box::new(request)));
        Taken::Yes
    }

    /// Queues the reply to a command. Commands with id 0 want none.
    pub(super) fn reply(&mut self, connection: ConnectionKey, id: u32, reply: &Reply<'_>) {
        let Some(session) = self.sessions.get(connection).filter(|_| id != 0) else {
            return;
        };
        let frame = encode_reply(session.protocol, id, reply);
        self.queue(connection, frame);
    }

    pub(super) fn reply_error(&mut self, connection: ConnectionKey, id: u32, error: ErrorReply) {
        self.counters.command_errors += 1;
        self.reply(connection, id, &Reply::Error(&error));
    }
}

/// Until when a command may be held: its client counts from when it was read, whatever it has waited for until now. One that is late is served if that
/// can be done at once.
fn hold_deadline(now_ms: u64, read_ms: u64) -> u64 {
    (read_ms + HOLD_MS).max(now_ms)
}
