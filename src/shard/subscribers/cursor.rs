//! The cursor: records to those who are live, parking, catching up.

use std::rc::Rc;

use bytes::Bytes;

use super::room::{CatchUp, Subscribers};
use super::table::SubscriptionState;
use crate::handoff::message::{CatchUpRequest, PieceState};
use crate::handoff::{ConnectionKey, LocalSubjectKey, Offset, Piece, SubscriptionKey, TowardHome, Variant};
use crate::limits::PIECE_BYTES_MAX;
use crate::session::outbox::Frame;
use crate::shard::connections::{Connections, Delivered, Phase};
use crate::shard::outgoing::Outgoing;

impl Subscribers {
    /// One record to every live subscriber of one variant: a reference to the same bytes in each outbox.
    #[expect(clippy::too_many_arguments, reason = "a record, to whom, by which rooms")]
    pub(super) fn deliver(
        &mut self,
        now_ms: u64,
        local: LocalSubjectKey,
        variant: Variant,
        offset: Option<Offset>,
        frame: Bytes,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        if let Some(offset) = offset {
            subject.next = subject.next.max(offset.next());
        }
        let bytes = frame.len();
        let frame = connections.share(frame, offset);
        let mut overflowed = std::mem::take(&mut self.overflowed);
        for member in subject.members(variant) {
            if member.live && connections.deliver(member.connection, member.subscription, &frame, bytes) == Delivered::Full {
                overflowed.push(member.subscription);
            }
        }
        for key in overflowed.drain(..) {
            self.overflow(now_ms, key, offset, (&frame, bytes), connections, toward_home);
        }
        self.overflowed = overflowed;
        connections.release(frame);
    }

    /// The client reads too slowly: what is queued for it of subscriptions with positions is dropped, in one walk, and they are parked where that
    /// began. That makes room for those without positions: they are the last to be given up, with 2500, for nobody can fetch their records again.
    fn overflow(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        offset: Option<Offset>,
        (frame, bytes): (&Rc<Frame>, usize),
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(connection) = self.local.get(key).map(|subscription| subscription.connection) else {
            return;
        };
        let mut parked: Vec<(SubscriptionKey, Offset)> = Vec::new();
        let local = &self.local;
        let parks = |key: SubscriptionKey| {
            local.get(key).is_some_and(|subscription| subscription.recoverable && matches!(subscription.state, SubscriptionState::Live))
        };
        connections.drop_positioned(connection, parks, |key, offset| parked.push((key, offset)));
        for (key, from) in parked {
            // The first of each is where it goes on.
            if self.local.get(key).is_some_and(|subscription| matches!(subscription.state, SubscriptionState::Live)) {
                self.park(now_ms, key, from, connections, toward_home);
            }
        }
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let live = matches!(subscription.state, SubscriptionState::Live);
        match offset.filter(|_| subscription.recoverable) {
            Some(from) if live => self.park(now_ms, key, from, connections, toward_home),
            // It is parked where its queued records began.
            Some(_) => {}
            // Parked or not, it was live when the record came.
            None => {
                if connections.deliver(connection, key, frame, bytes) == Delivered::Full {
                    self.lose(key, connections, toward_home);
                }
            }
        }
    }

    fn park(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        from: Offset,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        self.counters.subscriptions_parked += 1;
        self.wait_for_drain(now_ms, key, from, false, connections, toward_home);
    }

    /// A record without a position has gone to those who are live: the others cannot fetch it later, so they are told (2500).
    pub(super) fn passing(&mut self, local: LocalSubjectKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        for key in self.local.subject(local).map(|subject| subject.subscriptions()).unwrap_or_default() {
            let state = self.local.get(key).map(|subscription| &subscription.state);
            if matches!(state, Some(SubscriptionState::Parked { .. } | SubscriptionState::CatchingUp { .. })) {
                self.counters.subscriptions_passed += 1;
                self.lose(key, connections, toward_home);
            }
        }
    }

    /// Parks a subscription that needs everything from `from` on; `later`: it asks for it at the next tick at the earliest.
    pub(super) fn wait_for_drain(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        from: Offset,
        later: bool,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, local, variant) = (subscription.connection, subscription.local, subscription.variant);
        self.local.set_state(key, SubscriptionState::Parked { from });
        self.withdraw_unused(local, variant, toward_home);
        let Some(subscribed) = self.of.get_mut(connection) else {
            return;
        };
        subscribed.parked.push_back(key);
        if subscribed.waits == CatchUp::Nothing {
            if later {
                self.wait_for(now_ms, connection, CatchUp::Tick, connections);
            } else if connections.is_half_empty(connection) {
                self.wait_for(now_ms, connection, CatchUp::Turn, connections);
            } else {
                self.wait_for(now_ms, connection, CatchUp::Room, connections);
            }
        }
    }

    /// A connection that waits for nothing waits from now on.
    fn wait_for(&mut self, now_ms: u64, connection: ConnectionKey, waits: CatchUp, connections: &mut Connections) {
        let Some(subscribed) = self.of.get_mut(connection) else {
            return;
        };
        subscribed.waits = waits;
        match waits {
            CatchUp::Nothing => connections.want_no_room(connection),
            CatchUp::Room => connections.want_room(now_ms, connection),
            CatchUp::Turn => self.turns.push_back(connection),
            CatchUp::Tick => self.next_tick.push(connection),
            CatchUp::Piece => {}
        }
    }

    /// A connection's outbox is half empty.
    pub fn room_made(&mut self, now_ms: u64, connection: ConnectionKey, connections: &mut Connections) {
        if self.of.get(connection).is_some_and(|subscribed| subscribed.waits == CatchUp::Room) {
            self.wait_for(now_ms, connection, CatchUp::Turn, connections);
        }
    }

    /// A subscription is not parked any more, and does not catch up.
    pub(super) fn unpark(&mut self, connection: ConnectionKey, key: SubscriptionKey, connections: &mut Connections) {
        let Some(subscribed) = self.of.get_mut(connection) else {
            return;
        };
        subscribed.parked.retain(|other| *other != key);
        if subscribed.parked.is_empty() && subscribed.waits == CatchUp::Room {
            subscribed.waits = CatchUp::Nothing;
            connections.want_no_room(connection);
        }
    }

    /// The piece that was under way has come, or nobody wants it any more: the next subscription has its turn.
    pub(super) fn piece_is_over(&mut self, connection: ConnectionKey) {
        if let Some(subscribed) = self.of.get_mut(connection).filter(|subscribed| subscribed.waits == CatchUp::Piece) {
            subscribed.waits = CatchUp::Turn;
            self.turns.push_back(connection);
        }
    }

    /// Whether nobody has a turn, or is to be asked for again.
    pub fn rests(&self) -> bool {
        self.turns.is_empty() && self.reroutes.is_empty()
    }

    /// Whether a connection has its turn to catch up.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Those whose turn it is ask for their next pieces, as long as lanes have room.
    pub fn run_turns(&mut self, now_ms: u64, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        for _ in 0..self.turns.len() {
            if toward_home.is_full() {
                return;
            }
            if let Some(connection) = self.turns.pop_front() {
                self.catch_up(now_ms, connection, connections, toward_home);
            }
        }
    }

    /// Asks the home for the next piece of a connection: one piece at a time, parked subscriptions in turn.
    fn catch_up(&mut self, now_ms: u64, connection: ConnectionKey, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let Some(subscribed) = self.of.get_mut(connection).filter(|subscribed| subscribed.waits == CatchUp::Turn) else {
            return;
        };
        subscribed.waits = CatchUp::Nothing;
        let piece = PIECE_BYTES_MAX.min(self.settings.outbox_bytes_max / 4);
        while let Some(key) = subscribed.parked.front().copied() {
            let Some(subscription) = self.local.get(key) else {
                subscribed.parked.pop_front();
                continue;
            };
            let SubscriptionState::Parked { from } = subscription.state else {
                subscribed.parked.pop_front();
                continue;
            };
            let (local, variant, generation) = (subscription.local, subscription.variant, subscription.generation);
            if connections.phase(connection) != Some(Phase::Connected) {
                return;
            }
            if !connections.has_own_room(connection, piece) {
                self.wait_for(now_ms, connection, CatchUp::Room, connections);
                return;
            }
            if !connections.has_room(connection, piece) {
                // All outboxes together have none.
                self.wait_for(now_ms, connection, CatchUp::Tick, connections);
                return;
            }
            subscribed.parked.pop_front();
            let Some(subject) = self.local.subject_mut(local) else {
                continue;
            };
            subject.group_mut(variant).pending += 1;
            let request = CatchUpRequest {
                map_version: self.map.version,
                topic: subject.topic,
                channel: subject.channel(),
                subject: subject.subject().clone(),
                local,
                subscription: key,
                variant,
                generation,
                from,
                bytes_max: piece,
            };
            let home = subject.home;
            connections.reserve(connection, piece);
            self.local.set_state(key, SubscriptionState::CatchingUp { from, reserved: piece as u32 });
            self.wait_for(now_ms, connection, CatchUp::Piece, connections);
            toward_home.say(home, TowardHome::CatchUp(Box::new(request)));
            return;
        }
        connections.want_no_room(connection);
    }

    /// A piece of a catch-up.
    pub(super) fn piece(&mut self, now_ms: u64, piece: Piece, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let Piece { local, variant, subscription: key, frames, next, state } = piece;
        if let Some(subject) = self.local.subject_mut(local) {
            subject.entered = true;
            let group = subject.group_mut(variant);
            group.pending -= 1;
            if state == PieceState::Live {
                group.live_at_home = true;
                subject.next = subject.next.max(next);
            }
        }
        let connection = match self.local.get(key).map(|subscription| (subscription.connection, &subscription.state)) {
            Some((connection, SubscriptionState::CatchingUp { reserved, .. })) => {
                connections.unreserve(connection, *reserved as usize);
                connection
            }
            _ => {
                self.withdraw_unused(local, variant, toward_home);
                return;
            }
        };
        if let Some(subscribed) = self.of.get_mut(connection) {
            subscribed.waits = CatchUp::Nothing;
        }
        // The reserve is given back: whatever follows starts from a cursor without one.
        self.local.set_state(key, SubscriptionState::Parked { from: next });
        let empty = frames.is_empty();
        for (offset, frame) in frames {
            connections.queue_record(connection, key, offset, frame);
        }
        match state {
            PieceState::Live => {
                self.local.set_state(key, SubscriptionState::Live);
            }
            PieceState::More if empty => {
                // Without a record the maps disagree for a moment: not again before the next tick.
                self.wait_for_drain(now_ms, key, next, true, connections, toward_home);
            }
            PieceState::More => {
                if let Some(subscribed) = self.of.get_mut(connection) {
                    subscribed.parked.push_back(key);
                }
            }
            PieceState::Lost => self.lose(key, connections, toward_home),
        }
        self.withdraw_unused(local, variant, toward_home);
        let more = self.of.get(connection).is_some_and(|subscribed| subscribed.waits == CatchUp::Nothing && !subscribed.parked.is_empty());
        if more {
            self.wait_for(now_ms, connection, CatchUp::Turn, connections);
        } else if self.of.get(connection).is_some_and(|subscribed| subscribed.waits == CatchUp::Nothing) {
            connections.want_no_room(connection);
        }
    }
}
