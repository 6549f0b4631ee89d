//! Commands that wait, sockets that are not read meanwhile, and whose turn it is.

use super::room::Connections;
use super::session::{Held, Session, disconnect};
use super::waiting::Wait;
use crate::handoff::{ConnectionKey, Protocol};
use crate::limits::STUCK_MS;
use crate::session::Command;
use bytes::Bytes;

impl Connections {
    // Commands that wait, and reading.

    /// Adds a message behind one that is held: the driver read on although it was told not to, and the order is kept all the same. Whether one is.
    pub fn append_to_held(&mut self, connection: ConnectionKey, payload: &[u8]) -> bool {
        let Some(session) = self.sessions.get_mut(connection) else {
            return false;
        };
        let Some(held) = &mut session.held else {
            return false;
        };
        let mut message = held.message.slice(held.at..).to_vec();
        if session.protocol == Protocol::Json {
            message.push(b'\n');
        }
        message.extend_from_slice(payload);
        let more = payload.len() + 1;
        held.bytes += more;
        self.held_bytes += more;
        (held.message, held.at) = (Bytes::from(message), 0);
        true
    }

    /// A command waits, and what its message holds behind it. `shared` is the message as it was held before.
    #[expect(clippy::too_many_arguments, reason = "a command, its message, its place, its time")]
    pub fn hold(
        &mut self,
        connection: ConnectionKey,
        command: Option<Command>,
        message: &[u8],
        at: usize,
        shared: Option<Bytes>,
        wait: Wait,
        read_ms: u64,
    ) {
        let bytes = message.len() + size_of::<Held>();
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        let (message, at) = match shared {
            // The command holds its own bytes: what is taken already is kept only while that costs little.
            Some(shared) if at * 2 <= shared.len() => (shared, at),
            _ => (Bytes::copy_from_slice(message.get(at..).unwrap_or_default()), 0),
        };
        session.held = Some(Box::new(Held { command, message, at, wait: wait.clone(), read_ms, bytes }));
        self.held_bytes += bytes;
        self.waiting.leave(connection);
        self.waiting.enter(connection, wait, Some(read_ms));
    }

    /// A command that was taken up still cannot be taken: it waits again. In the queue that its connection is in already, it keeps its place.
    pub fn put_back(&mut self, connection: ConnectionKey, held: Box<Held>) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        self.held_bytes += held.bytes;
        if self.waiting.of(connection) != Some(&held.wait) {
            self.waiting.leave(connection);
            self.waiting.enter(connection, held.wait.clone(), Some(held.read_ms));
        }
        session.held = Some(held);
    }

    /// A connection waits for nothing any more.
    pub fn wait_no_more(&mut self, connection: ConnectionKey) {
        self.waiting.leave(connection);
    }

    /// Takes up what is held.
    pub fn take_held(&mut self, connection: ConnectionKey) -> Option<Box<Held>> {
        let held = self.sessions.get_mut(connection)?.held.take()?;
        self.let_go(held.bytes);
        Some(held)
    }

    /// Who waits for what, for reports.
    pub fn waits(&self) -> String {
        format!("{:?}, {} bytes held", self.waiting.whole(), self.held_bytes)
    }

    /// Whether sockets are not read because too many messages are held.
    pub(super) fn is_held_up(&self) -> bool {
        !self.waiting.is_empty() && self.waiting.first(&Wait::Messages).is_some()
    }

    /// Messages that are held keep others from being read: whoever holds one because it does not read is sent away. What Kafka, a topic or a lane
    /// is waited for with has its answer soon.
    pub(super) fn shed_held(&mut self, now_ms: u64) {
        for connection in self.waiting.of_rooms() {
            if self.held_bytes <= self.settings.commands_held_bytes_max / 2 {
                return;
            }
            let does_not_read = |session: &&Session| {
                session.held.is_some() && session.blocked && now_ms.saturating_sub(session.blocked_since_ms) >= STUCK_MS
            };
            if self.sessions.get(connection).filter(does_not_read).is_some() {
                self.counters.disconnects_slow += 1;
                self.disconnect(now_ms, connection, disconnect::SLOW, true);
            }
        }
    }

    /// So many bytes of messages are held no more: sockets that are not read because there were too many may be.
    pub(super) fn let_go(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
        if self.held_bytes <= self.settings.commands_held_bytes_max / 2 && !self.waiting.is_empty() {
            self.waiting.wake_all(&Wait::Messages);
        }
    }

    /// What a connection that holds a command waits for, and how much of its message is left.
    pub fn held(&self, connection: ConnectionKey) -> Option<(&Wait, usize)> {
        let held = self.sessions.get(connection)?.held.as_ref()?;
        Some((&held.wait, held.message.len() - held.at))
    }

    /// Whether this connection may be read now. After `false`, `Effects::resume_reading` tells when to ask again.
    pub fn reads(&mut self, connection: ConnectionKey, lanes_full: bool) -> bool {
        let Some(wait) = self.reading_waits_for(connection, lanes_full) else {
            return true;
        };
        if let Some(session) = self.sessions.get_mut(connection) {
            session.paused = true;
            if session.held.is_none() {
                self.waiting.leave(connection);
                self.waiting.enter(connection, wait, None);
            }
        }
        false
    }

    /// What keeps a connection from being read.
    pub(super) fn reading_waits_for(&self, connection: ConnectionKey, lanes_full: bool) -> Option<Wait> {
        let session = self.sessions.get(connection).filter(|session| session.is_open())?;
        match &session.held {
            Some(held) => Some(held.wait.clone()),
            None if session.leaving => Some(Wait::Answer),
            None if lanes_full => Some(Wait::Lane),
            None if self.held_bytes >= self.settings.commands_held_bytes_max => Some(Wait::Messages),
            None if session.outbox.load() > self.settings.outbox_bytes_max => Some(Wait::Room(0)),
            None => None,
        }
    }

    /// Whether a connection that waited is read again; if not, it waits again.
    pub fn reads_again(&mut self, connection: ConnectionKey, lanes_full: bool) -> bool {
        if !self.sessions.get(connection).is_some_and(|session| session.paused) || !self.reads(connection, lanes_full) {
            return false;
        }
        if let Some(session) = self.sessions.get_mut(connection) {
            session.paused = false;
        }
        true
    }

    /// How many have their turn.
    pub fn turns(&self) -> usize {
        self.waiting.len(&Wait::Turn)
    }

    /// The next that has its turn.
    pub fn next_turn(&mut self) -> Option<ConnectionKey> {
        self.waiting.next(&Wait::Turn)
    }

    /// Whether those who wait for the producer are to be looked at, once for each thing that happened.
    pub fn producer_may_go(&mut self) -> bool {
        std::mem::take(&mut self.producer_may_go)
    }

    /// Whether somebody waits for the producer.
    pub(super) fn has_producer_line(&self) -> bool {
        !self.waiting.is_empty() && self.waiting.first(&Wait::Producer).is_some()
    }

    /// Whether this shard may hand one more publish over.
    pub fn has_room_for_publishes(&self) -> bool {
        self.publishes.len() < self.settings.publishes_open_shard_max
    }

    /// The longest waiting for the producer, or who came after `refused`.
    pub fn next_for_producer(&self, refused: Option<&ConnectionKey>) -> Option<ConnectionKey> {
        refused.map_or_else(|| self.waiting.first(&Wait::Producer), |refused| self.waiting.after(*refused))
    }

    /// Those were refused by the producer again: they keep their places, but for one flush in `refusals_kept`.
    pub fn refused_by_producer(&mut self, refused: Vec<ConnectionKey>, refusals_kept: u64) {
        if refused.is_empty() {
            return;
        }
        self.lines_refused += 1;
        if !self.lines_refused.is_multiple_of(refusals_kept) {
            return;
        }
        for connection in refused {
            if let Some((wait, read_ms)) = self.waiting.leave(connection) {
                self.waiting.enter(connection, wait, read_ms);
            }
        }
    }

    /// A lane that was full has room.
    pub fn lanes_have_room(&mut self) {
        self.waiting.wake_all(&Wait::Lane);
    }
}
