//! The commands of a connection, in the order they came, each to the room that it concerns. A command that cannot be taken now (a full lane, a full
//! outbox, a full producer) is held with the rest of its message, and the socket is not read until it is taken: that is the backpressure. So is the rest
//! of a message with very many commands, until the next turn.

use bytes::Bytes;

use super::connections::{Connections, Held, Phase, Taken, Wait, disconnect};
use super::effects::Effects;
use super::errors;
use super::outgoing::Outgoing;
use super::subscribers::Subscribers;
use crate::handoff::{ConnectionKey, TowardHome};
use crate::limits::REPLY_BYTES;
use crate::session::{Command, Request, next_command};

/// Refusals by the producer that one flush asks for: who is refused keeps its place in the line. More than one, because a producer may refuse one topic
/// and take another.
const REFUSALS_MAX: usize = 3;
/// One flush in so many sends those who were refused to the end of the line: a topic that is refused for long must not hold up the others.
const REFUSALS_KEPT: u64 = 4;

/// What commands are taken with.
pub(super) struct Commands<'a, E> {
    pub now_ms: u64,
    pub connections: &'a mut Connections,
    pub subscribers: &'a mut Subscribers,
    pub toward_home: &'a mut Outgoing<TowardHome>,
    pub effects: &'a mut E,
}

impl<E: Effects> Commands<'_, E> {
    /// A message of a client.
    pub fn received(&mut self, connection: ConnectionKey, payload: &[u8]) {
        if self.connections.protocol(connection).is_some() && !self.connections.append_to_held(connection, payload) {
            self.take(connection, payload, 0, None, self.now_ms);
        }
    }

    /// Takes the commands of a message from `at` on, until the end or until one cannot be taken. `shared` is the message as it was held before,
    /// `read_ms` when it was read.
    fn take(&mut self, connection: ConnectionKey, message: &[u8], mut at: usize, shared: Option<Bytes>, read_ms: u64) {
        let mut taken = 0;
        loop {
            let Some(protocol) = self.connections.protocol(connection) else {
                return;
            };
            if taken == self.connections.commands_at_once_max() && at < message.len() {
                self.connections.hold(connection, None, message, at, shared, Wait::Turn, read_ms);
                return;
            }
            taken += 1;
            let command = match next_command(protocol, message, &mut at) {
                Ok(Some(command)) => command,
                Ok(None) => return,
                Err(malformed) => {
                    tracing::debug!(reason = %malformed, "malformed message");
                    self.connections.violated(self.now_ms, connection, disconnect::BAD_REQUEST);
                    return;
                }
            };
            if let Taken::NotNow(wait) = self.command(connection, &command, read_ms) {
                self.connections.hold(connection, Some(command), message, at, shared, wait, read_ms);
                return;
            }
        }
    }

    fn command(&mut self, connection: ConnectionKey, command: &Command, read_ms: u64) -> Taken {
        let Some(phase) = self.connections.phase(connection) else {
            return Taken::Yes;
        };
        if command.request == Request::Pong {
            self.connections.pong_received(connection);
            return Taken::Yes;
        }
        // Of a command with a broken text nobody knows any more whether it was the connect.
        let misplaced = (phase == Phase::Fresh) != matches!(command.request, Request::Connect(_));
        if misplaced && !matches!(command.request, Request::Unfit(_)) {
            self.connections.violated(self.now_ms, connection, disconnect::BAD_REQUEST);
            return Taken::Yes;
        }
        if !self.connections.has_room(connection, REPLY_BYTES) {
            return Taken::NotNow(Wait::Room(REPLY_BYTES));
        }
        let (id, now_ms) = (command.id, self.now_ms);
        let Commands { connections, subscribers, toward_home, effects, .. } = self;
        match &command.request {
            Request::Connect(request) => {
                if !connections.may_judge(&request.token) {
                    return Taken::NotNow(Wait::Turn);
                }
                connections.connect(now_ms, connection, id, &request.token);
            }
            Request::Subscribe(request) => {
                return subscribers.subscribe(now_ms, connection, id, read_ms, request, connections, toward_home);
            }
            Request::Unsubscribe { channel } => return subscribers.unsubscribe(now_ms, connection, id, channel, connections, toward_home),
            Request::Publish(request) => return connections.publish(now_ms, connection, id, read_ms, request, *effects),
            Request::History(request) => return subscribers.history(now_ms, connection, id, read_ms, request, connections, toward_home),
            Request::Presence { .. } | Request::PresenceStats { .. } => connections.reply_error(connection, id, &errors::NOT_OFFERED),
            Request::Rpc { .. } => connections.reply_error(connection, id, &errors::UNKNOWN_METHOD),
            Request::Send | Request::Pong => {}
            Request::Refresh { token } => {
                if !connections.may_judge(token) {
                    return Taken::NotNow(Wait::Turn);
                }
                connections.refresh(now_ms, connection, id, token);
            }
            Request::SubRefresh { channel, token } => return subscribers.sub_refresh(now_ms, connection, id, channel, token, connections),
            Request::Unknown => connections.reply_error(connection, id, &errors::BAD_COMMAND),
            Request::Unfit(unfit) => connections.reply_error(connection, id, &errors::unfit(*unfit)),
        }
        Taken::Yes
    }

    /// Those who have their turn: their commands are taken, and their sockets read again.
    pub fn run_turns(&mut self) {
        for _ in 0..self.connections.turns() {
            let Some(connection) = self.connections.next_turn() else {
                return;
            };
            self.resume(connection);
        }
    }

    /// Takes the command that a connection holds, and those that follow it. `false`: it waits for the same thing as before.
    fn take_held(&mut self, connection: ConnectionKey) -> bool {
        let Some(mut held) = self.connections.take_held(connection) else {
            return true;
        };
        if let Some(command) = held.command.take()
            && let Taken::NotNow(wait) = self.command(connection, &command, held.read_ms)
        {
            let is_same = wait == held.wait;
            (held.command, held.wait) = (Some(command), wait);
            self.connections.put_back(connection, held);
            return !is_same;
        }
        self.connections.wait_no_more(connection);
        let Held { message, at, read_ms, .. } = *held;
        self.take(connection, &message.clone(), at, Some(message), read_ms);
        true
    }

    /// The same, and its socket is read again once it holds nothing.
    fn resume(&mut self, connection: ConnectionKey) -> bool {
        let moved = self.take_held(connection);
        if self.connections.held(connection).is_none() && self.connections.reads_again(connection, self.toward_home.is_full()) {
            self.effects.resume_reading(connection);
        }
        moved
    }

    /// Those who wait for the producer, in the order in which they came. Who had a command taken and has more to say goes to the end.
    pub fn run_line(&mut self) {
        if !self.connections.producer_may_go() {
            return;
        }
        let mut refused = Vec::new();
        while refused.len() < REFUSALS_MAX && self.connections.has_room_for_publishes() {
            let Some(connection) = self.connections.next_for_producer(refused.last()) else {
                break;
            };
            if !self.resume(connection) {
                refused.push(connection);
            }
        }
        self.connections.refused_by_producer(refused, REFUSALS_KEPT);
    }
}
