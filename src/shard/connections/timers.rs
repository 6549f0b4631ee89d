//! What is due for a connection: its connect command, pings, the end of its token, the end of a drain, the end of patience with a slow client. One heap for the shard.

use super::room::Connections;
use super::session::{Phase, Timer, disconnect};
use super::waiting::Wait;
use crate::handoff::ConnectionKey;
use crate::limits::{DRAIN_PUBLISH_MS, HOLD_MS, TICK_MS};
use crate::session::encode_ping;
use crate::shard::effects::Effects;

impl Connections {
    pub(super) fn set_timer(&mut self, due_ms: u64, connection: ConnectionKey, timer: Timer) {
        self.timers.push(std::cmp::Reverse((due_ms, timer, connection)));
    }

    /// Time has passed.
    pub fn tick<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        // A producer that had no room does not say when it has some.
        self.producer_may_go |= self.has_producer_line();
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
                Timer::Slow => self.slow_timer(now_ms, connection),
                Timer::Entry => self.entry_timer(now_ms, due_ms, connection),
            }
        }
        if self.is_held_up() {
            self.shed_held(now_ms);
        }
        if self.pool_was_full && self.pool.bytes() <= self.settings.outboxes_bytes_max / 2 {
            self.pool_was_full = false;
            self.waiting.wake_rooms();
        }
    }

    /// When `tick` finds something to do; 0 is the next one.
    pub fn due_ms(&self) -> u64 {
        if self.has_producer_line() || self.is_held_up() || self.pool_was_full || self.is_crowded() || self.holds_intake() {
            return 0;
        }
        self.timers.peek().map_or(u64::MAX, |std::cmp::Reverse((due_ms, ..))| *due_ms)
    }

    /// Ten times a second: publishes without an answer, commands that have waited for so long that they must be answered, memory that a burst left.
    pub fn expire(&mut self, now_ms: u64) {
        self.expire_publishes(now_ms);
        if let Some(read_ms) = now_ms.checked_sub(HOLD_MS) {
            self.waiting.wake_read_until(read_ms);
        }
        self.pool.shrink();
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
        } else if session.blocked || session.paused || session.held.is_some() {
            // No pong can come from a client that this shard does not read or cannot write to.
            self.set_timer(now_ms + self.settings.pong_timeout_ms, connection, Timer::Pong);
        } else {
            self.counters.disconnects_no_pong += 1;
            self.disconnect(now_ms, connection, disconnect::NO_PONG, true);
        }
    }

    /// A connection that is slow is looked at again when it has been so for `slow.client.timeout`.
    pub(super) fn watch(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| !session.slow_timer)
            && let Some(since_ms) = session.slow_since()
        {
            session.slow_timer = true;
            self.set_timer(since_ms + self.settings.slow_client_timeout_ms + 1, connection, Timer::Slow);
        }
    }

    /// Disconnects a client whose socket has taken nothing, or whose subscriptions were parked, for longer than `slow.client.timeout`.
    fn slow_timer(&mut self, now_ms: u64, connection: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.slow_timer = false;
        let slow = session.slow_since().is_some_and(|since_ms| now_ms.saturating_sub(since_ms) > self.settings.slow_client_timeout_ms);
        if slow && session.is_open() {
            self.counters.disconnects_slow += 1;
            self.disconnect(now_ms, connection, disconnect::SLOW, true);
        } else if session.is_open() {
            self.watch(connection);
        }
    }

    /// Graceful stop: every connection gets its turn within `over_ms`, evenly spread.
    pub fn begin_drain(&mut self, now_ms: u64, over_ms: u64) {
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

    fn drain_timer(&mut self, now_ms: u64, due_ms: u64, connection: ConnectionKey) {
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

    /// Word about a topic: who waits for it has his turn.
    pub(super) fn wake_topic(&mut self, topic: &std::sync::Arc<str>) {
        self.waiting.wake_all(&Wait::Topic(topic.clone()));
    }
}
