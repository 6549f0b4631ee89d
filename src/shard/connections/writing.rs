//! The writing of outboxes: one call for all that waits for a connection.

use std::io::IoSlice;

use super::room::Connections;
use super::session::Phase;
use crate::handoff::ConnectionKey;
use crate::limits::{STUCK_MS, WRITE_BYTES_MAX, WRITE_SLICES_MAX};
use crate::session::encode_pong_frame;
use crate::shard::effects::{Effects, WriteStatus};
use crate::shard::stages::{Stage, writes_per_look};

impl Connections {
    /// The socket takes bytes again.
    pub fn writable(&mut self, connection: ConnectionKey) {
        if let Some(session) = self.sessions.get_mut(connection) {
            session.blocked = false;
            session.blocked_since_ms = 0;
            self.has_to_write(connection);
        }
    }

    /// Whether anything is to be written.
    pub fn has_writes(&self) -> bool {
        !self.to_write.is_empty()
    }

    /// Writes what waits, for so many connections at most; how many they were.
    pub fn write<E: Effects>(&mut self, now_ms: u64, connections_max: usize, effects: &mut E) -> usize {
        let count = self.to_write.len().min(connections_max);
        // Those that have waited equally long are recorded together.
        let (mut alike, mut alike_since_us) = (0, 0);
        for nth in 0..count {
            let Some((connection, since_us)) = self.to_write.pop_front() else { break };
            if nth % writes_per_look(count) == 0 || since_us != alike_since_us {
                self.has_waited(alike_since_us, alike, effects);
                (alike, alike_since_us) = (0, since_us);
            }
            if let Some(session) = self.sessions.get_mut(connection) {
                session.to_write = false;
            }
            alike += usize::from(self.write_outbox(now_ms, connection, effects));
        }
        self.has_waited(alike_since_us, alike, effects);
        count
    }

    /// So many outboxes have been written that had something since then.
    fn has_waited<E: Effects>(&mut self, since_us: u32, count: usize, effects: &E) {
        if count > 0 {
            self.clock_us = effects.clock_us();
            // The stamps are the lower half of the clock: an hour and more.
            self.stages.record(Stage::Socket, u64::from((self.clock_us as u32).wrapping_sub(since_us)), count);
        }
    }

    /// Writes at once what would not keep until the end of the turn: outboxes that are more than half full, or all of them if together they are.
    pub fn relieve<E: Effects>(&mut self, now_ms: u64, effects: &mut E) {
        while let Some(connection) = self.crowd.unwritten.pop() {
            self.write_outbox(now_ms, connection, effects);
        }
        if self.pool.bytes() > self.settings.outboxes_bytes_max / 2 {
            self.write(now_ms, usize::MAX, effects);
        }
    }

    /// Writes what waits in one outbox, one call a time, until it is empty or the socket is full. Whether the socket has taken something.
    fn write_outbox<E: Effects>(&mut self, now_ms: u64, connection: ConnectionKey, effects: &mut E) -> bool {
        let Some(session) = self.sessions.get_mut(connection) else {
            return false;
        };
        if session.blocked || session.phase == Phase::Closed {
            return false;
        }
        let mut any = false;
        if let Some(payload) = session.pong.take() {
            session.outbox.push_own(&mut self.pool, encode_pong_frame(&payload), None, None);
        }
        while !session.outbox.is_empty() {
            // Nearly always it is one frame, and a list of them would cost more than all the rest.
            let (status, bytes) = match session.outbox.only(&self.pool) {
                Some(frame) => (effects.write(connection, &[IoSlice::new(frame)]), frame.len()),
                None => {
                    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
                    let (count, bytes) = session.outbox.gather(&self.pool, &mut slices, WRITE_BYTES_MAX);
                    (effects.write(connection, &slices[..count]), bytes)
                }
            };
            self.counters.writes += 1;
            let written = match status {
                WriteStatus::Done => bytes,
                WriteStatus::Short(written) => written,
                WriteStatus::Broken => {
                    self.close_now(connection, effects);
                    return any;
                }
            };
            any |= written > 0;
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
                return any;
            }
            // It takes what it is given; what its subscriptions wait for is room for answers that are still to come.
            session.behind_since_ms = 0;
        }
        self.room_made(connection);
        self.watch(connection);
        any
    }

    /// Lets go of a socket.
    pub(super) fn close_now<E: Effects>(&mut self, connection: ConnectionKey, effects: &mut E) {
        if let Some(session) = self.sessions.get_mut(connection).filter(|session| session.phase != Phase::Closed) {
            session.phase = Phase::Closed;
            session.outbox.clear(&mut self.pool);
            effects.close(connection);
        }
    }

    /// Who is crowded now, and whether Kafka waits for them. After writes, and at ticks.
    pub fn look_at_crowd(&mut self, now_ms: u64) {
        if self.crowd.members.is_empty() && !self.crowd.waits() {
            return;
        }
        self.crowd.unwritten.clear();
        let pool_is_full = self.pool.bytes() > self.settings.outboxes_bytes_max / 2;
        let mut members = std::mem::take(&mut self.crowd.members);
        members.retain(|connection| {
            let Some(session) = self.sessions.get_mut(*connection) else {
                return false;
            };
            let full = !session.outbox.is_empty() && (pool_is_full || session.outbox.load() > self.settings.outbox_bytes_max / 2);
            let stuck = session.blocked_since_ms > 0 && now_ms.saturating_sub(session.blocked_since_ms) >= STUCK_MS;
            session.crowded = full && !stuck && session.is_open();
            if session.crowded && !session.blocked {
                self.crowd.unwritten.push(*connection);
            }
            session.crowded
        });
        self.crowd.members = members;
        self.crowd.decide(now_ms);
    }

    /// Whether outboxes must drain before anything more is taken from Kafka and from homes.
    pub fn holds_intake(&self) -> bool {
        self.crowd.waits()
    }

    /// Whether somebody's outbox is so full that it should be written before more is taken.
    pub fn is_crowded(&self) -> bool {
        !self.crowd.members.is_empty()
    }
}
