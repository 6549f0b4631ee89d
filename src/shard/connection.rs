//! The connections of a shard: opening, closing, pings, and the writing of outboxes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;

use super::commands::Wait;
use super::core::ShardCore;
use super::{Effects, WriteStatus};
use crate::handoff::{ConnectionKey, Protocol, SubscriptionKey};
use crate::limits::{CLOSE_LINGER_MS, WRITE_BYTES_MAX, WRITE_SLICES_MAX};
use crate::session::outbox::{Outbox, Tag};
use crate::session::{encode_close, encode_ping};

/// The protocol's disconnect codes that this server uses: 3000 to 3499 let the SDK come back, 3500 and up do not.
pub mod disconnect {
    /// Code and reason.
    pub type Disconnect = (u16, &'static str);
    pub const SHUTDOWN: Disconnect = (3001, "shutdown");
    pub const SLOW: Disconnect = (3008, "slow");
    pub const NO_PONG: Disconnect = (3012, "no pong");
    pub const BAD_REQUEST: Disconnect = (3501, "bad request");
    pub const STALE: Disconnect = (3502, "stale");
}

/// What a shard knows of one connection.
#[derive(Debug)]
pub(super) struct Session {
    pub protocol: Protocol,
    pub phase: Phase,
    pub outbox: Outbox,
    /// A write came back short: nothing is written before `Event::Writable`.
    pub blocked: bool,
    pub dirty: bool,
    /// The driver was refused a read and waits for `resume_reading`.
    pub stalled: bool,
    /// Its turn in a drain has come, and it waits for answers to what it has said: nothing more is read.
    pub leaving: bool,
    /// Listed in `held_sessions`.
    pub held_listed: bool,
    /// Listed in `producer_line`.
    pub in_line: bool,
    /// Listed in `slow`.
    pub watched: bool,
    pub awaiting_pong: bool,
    pub piece_under_way: bool,
    pub publishes_open: u32,
    /// Since when the socket takes nothing; 0 while it does.
    pub blocked_since_ms: u64,
    /// Since when a subscription is parked and the outbox has not drained; 0 if not so.
    pub parked_since_ms: u64,
    pub subscriptions: Vec<SubscriptionKey>,
    /// Parked subscriptions, the longest waiting first.
    pub parked: Option<VecDeque<SubscriptionKey>>,
    /// The rest of a message whose next command cannot be taken now.
    pub held: Option<Box<HeldMessage>>,
}

/// The life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for the connect command.
    Fresh,
    Connected,
    /// A close frame is the last thing in the outbox.
    Closing,
    /// `Effects::close` was called; only `Event::Closed` is still to come.
    Closed,
}

/// The rest of a message.
#[derive(Debug)]
pub(super) struct HeldMessage {
    pub message: Bytes,
    pub at: usize,
    pub wait: Wait,
    /// When it was read.
    pub read_ms: u64,
}

/// What a timer of a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The connect command is due.
    Connect,
    /// The next ping is due.
    Ping,
    /// The pong is due.
    Pong,
    /// The close frame had its time.
    Linger,
    /// Its turn to be disconnected in a drain.
    Drain,
}

impl Session {
    fn new(protocol: Protocol) -> Session {
        Session {
            protocol,
            phase: Phase::Fresh,
            outbox: Outbox::default(),
            blocked: false,
            dirty: false,
            stalled: false,
            leaving: false,
            held_listed: false,
            in_line: false,
            watched: false,
            awaiting_pong: false,
            piece_under_way: false,
            publishes_open: 0,
            blocked_since_ms: 0,
            parked_since_ms: 0,
            subscriptions: Vec::new(),
            parked: None,
            held: None,
        }
    }

    /// Whether commands are taken and records delivered.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Connected)
    }
}

impl ShardCore {
    pub(super) fn opened(&mut self, now_ms: u64, connection: ConnectionKey, protocol: Protocol) {
        self.sessions.insert(connection, Session::new(protocol));
        self.counters.connections += 1;
        self.counters.connections_opened += 1;
        self.set_timer(now_ms + self.settings.connect_timeout_ms, connection, Timer::Connect);
        if self.drain.is_some() {
            self.disconnect(now_ms, connection, disconnect::SHUTDOWN, false);
        }
    }

    pub(super) fn closed(&mut self, now_ms: u64, connection: ConnectionKey) {
        let Some(mut session) = self.sessions.remove(connection) else {
            return;
        };
        self.counters.connections -= 1;
        session.outbox.clear(&mut self.pool);
        for subscription in std::mem::take(&mut session.subscriptions) {
            self.end_subscription(now_ms, subscription);
        }
    }

    /// Queues a frame that is no record.
    pub(super) fn queue(&mut self, connection: ConnectionKey, frame: Bytes) {
        self.queue_shared(connection, Rc::new(frame), None);
    }

    pub(super) fn queue_shared(&mut self, connection: ConnectionKey, frame: Rc<Bytes>, tag: Option<Tag>) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return;
        };
        session.outbox.push(&mut self.pool, frame, tag);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(connection);
        }
    }

    /// Queues a close frame as the last frame; with `abandon` what is queued before it is dropped, but for a frame that has begun.
    pub(super) fn disconnect(&mut self, now_ms: u64, connection: ConnectionKey, (code, reason): disconnect::Disconnect, abandon: bool) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.is_open()) else {
            return;
        };
        if abandon {
            session.outbox.drop_all(&mut self.pool);
        }
        session.held = None;
        self.queue(connection, encode_close(code, reason));
        if let Some(session) = self.sessions.get_mut(connection) {
            session.phase = Phase::Closing;
            session.parked = None;
            session.parked_since_ms = 0;
            for subscription in std::mem::take(&mut session.subscriptions) {
                self.end_subscription(now_ms, subscription);
            }
        }
        self.room_made(connection);
        self.set_timer(now_ms + CLOSE_LINGER_MS, connection, Timer::Linger);
    }

    pub(super) fn set_timer(&mut self, due_ms: u64, connection: ConnectionKey, timer: Timer) {
        self.timers.push(std::cmp::Reverse((due_ms, timer, connection)));
    }

    pub(super) fn run_timers<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        while let Some(&std::cmp::Reverse((due_ms, timer, connection))) = self.timers.peek() {
            if due_ms > now_ms {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Connect => self.connect_timer(now_ms, connection),
                Timer::Ping => self.ping_timer(now_ms, connection),
                Timer::Pong => self.pong_timer(now_ms, connection),
                Timer::Linger => self.close_now(connection, effects),
                Timer::Drain => self.drain_timer(now_ms, due_ms, connection),
            }
        }
    }

    fn connect_timer(&mut self, now_ms: u64, connection: ConnectionKey) {
        if self.sessions.get(connection).is_some_and(|session| session.phase == Phase::Fresh) {
            self.counters.disconnects_stale += 1;
            self.disconnect(now_ms, connection, disconnect::STALE, false);
        }
    }

    fn ping_timer(&mut self, now_ms: u64, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.phase == Phase::Connected) else {
            return;
        };
        if session.blocked {
            // A ping behind a full socket would be answered too late; the slow-client rule watches this one.
            self.set_timer(now_ms + self.settings.pong_timeout_ms, connection, Timer::Ping);
            return;
        }
        session.awaiting_pong = true;
        let ping = encode_ping(session.protocol);
        self.queue(connection, ping);
        self.set_timer(now_ms + self.settings.pong_timeout_ms, connection, Timer::Pong);
    }

    fn pong_timer(&mut self, now_ms: u64, connection: ConnectionKey) {
        let Some(session) = self.sessions.get(connection).filter(|session| session.phase == Phase::Connected) else {
            return;
        };
        if !session.awaiting_pong {
            let rest = self.settings.ping_interval_ms.saturating_sub(self.settings.pong_timeout_ms).max(1);
            self.set_timer(now_ms + rest, connection, Timer::Ping);
        } else if session.blocked || session.stalled || session.held.is_some() {
            // No pong can come from a client that this shard does not read or cannot write to.
            self.set_timer(now_ms + self.settings.pong_timeout_ms, connection, Timer::Pong);
        } else {
            self.counters.disconnects_no_pong += 1;
            self.disconnect(now_ms, connection, disconnect::NO_PONG, true);
        }
    }

    /// The client lives.
    pub(super) fn pong_received(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.awaiting_pong = false;
        }
    }

    pub(super) fn close_now<E: Effects>(&mut self, connection: ConnectionKey, effects: &mut E) {
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| session.phase != Phase::Closed) {
            session.phase = Phase::Closed;
            session.outbox.clear(&mut self.pool);
            effects.close(connection);
        }
    }

    pub(super) fn writable(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.blocked = false;
            session.blocked_since_ms = 0;
            if !session.dirty {
                session.dirty = true;
                self.dirty.push(connection);
            }
        }
    }

    /// Writes what waits in one outbox, one call a time, until it is empty or the socket is full.
    pub(super) fn write_outbox<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, effects: &mut E) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.dirty = false;
        if session.blocked || session.phase == Phase::Closed {
            return;
        }
        while !session.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let (count, bytes) = session.outbox.gather(&self.pool, &mut slices, WRITE_BYTES_MAX);
            let status = effects.write(connection, &slices[..count]);
            self.counters.writes += 1;
            let written = match status {
                WriteStatus::Done => bytes,
                WriteStatus::Short(written) => written,
                WriteStatus::Broken => {
                    session.outbox.clear(&mut self.pool);
                    session.phase = Phase::Closed;
                    effects.close(connection);
                    return;
                }
            };
            self.counters.bytes_written += written as u64;
            session.outbox.advance(&mut self.pool, written);
            if written < bytes {
                self.counters.writes_short += 1;
                session.blocked = true;
                session.blocked_since_ms = now_ms.max(1);
                break;
            }
        }
        if session.outbox.is_empty() {
            if session.phase == Phase::Closing {
                self.close_now(connection, effects);
                return;
            }
            // It takes what it is given; what its subscriptions wait for is room for answers that are still to come.
            session.parked_since_ms = 0;
        }
        self.room_made(connection);
        self.watch(connection);
    }

    /// Puts a blocked or parked connection on the list that the slow-client rule walks.
    pub(super) fn watch(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection)
            && !session.watched
            && (session.blocked_since_ms > 0 || session.parked_since_ms > 0)
        {
            session.watched = true;
            self.slow.push(connection);
        }
    }

    /// Disconnects clients whose socket has taken nothing, or whose subscriptions were parked, for longer than `slow.client.timeout`.
    pub(super) fn check_slow(&mut self, now_ms: u64) {
        let mut place = 0;
        while place < self.slow.len() {
            let connection = self.slow[place];
            let Some(session) = self.sessions.get_mut(connection) else {
                self.slow.swap_remove(place);
                continue;
            };
            let since = match (session.blocked_since_ms, session.parked_since_ms) {
                (0, 0) => {
                    session.watched = false;
                    self.slow.swap_remove(place);
                    continue;
                }
                (0, since) | (since, 0) => since,
                (one, two) => one.min(two),
            };
            if session.is_open() && now_ms.saturating_sub(since) > self.settings.slow_client_timeout_ms {
                self.counters.disconnects_slow += 1;
                self.disconnect(now_ms, connection, disconnect::SLOW, true);
            }
            place += 1;
        }
    }
}
