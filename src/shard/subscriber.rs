//! The subscriber's side of a shard: answers and records from the homes, into the outboxes of this shard's connections.
//!
//! The cursor: a subscription is live, or it needs everything from an offset on. Parked, it waits for its socket to drain; catching up, one piece
//! is under way from the home. With the last piece it is live in the same step, so nothing is lost or doubled at the seam.

use std::rc::Rc;

use bytes::Bytes;

use super::connection::Phase;
use super::core::ShardCore;
use super::errors;
use super::left::Left;
use crate::handoff::message::{CatchUpRequest, PieceState, Refusal, Subscribed};
use crate::handoff::{
    ConnectionKey, Form, FromHome, HistoryPage, LocalSubjectKey, Offset, Piece, SubscribeRequest, SubscriptionKey, TowardHome,
};
use crate::limits::{PIECE_BYTES_MAX, REROUTE_MS};
use crate::session::outbox::Tag;
use crate::session::{HistoryResult, Position, Reply, SubscribeResult, encode_subscribe_lost};
use crate::subject::SubjectName;
use crate::subject::local_table::{Follower, PendingSubscribe, SubscriptionState};

/// Unsubscribe code: the SDK subscribes again and recovers.
const INSUFFICIENT_STATE: u32 = 2500;

impl ShardCore {
    pub(super) fn take_from_home(&mut self, now_ms: u64, message: FromHome) {
        match message {
            FromHome::Delivery { local, form, offset, frame } => self.deliver(now_ms, local, form, offset, frame),
            FromHome::Subscribed { local, form, subscription, answer } => self.subscribed(now_ms, local, form, subscription, answer),
            FromHome::Piece(piece) => self.piece(now_ms, *piece),
            FromHome::History { connection, command, answer } => self.history_answered(connection, command, answer),
            FromHome::Passing { local } => self.passing(now_ms, local),
            FromHome::Reset { local } => self.reset_local(now_ms, local),
        }
    }

    /// One record to every live subscriber of one form: a reference to the same bytes in each outbox.
    fn deliver(&mut self, now_ms: u64, local: LocalSubjectKey, form: Form, offset: Option<Offset>, frame: Bytes) {
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        if let Some(offset) = offset {
            subject.next = subject.next.max(offset.next());
        }
        let len = frame.len();
        let frame = Rc::new(frame);
        let (outbox_bytes_max, outboxes_bytes_max) = (self.settings.outbox_bytes_max, self.settings.outboxes_bytes_max);
        let mut overflowed = std::mem::take(&mut self.overflowed);
        for member in subject.members(form) {
            if !member.live {
                continue;
            }
            let Some(session) = self.sessions.get_mut(member.connection) else {
                continue;
            };
            // An empty outbox takes any frame: homes cut frames to what an outbox may hold.
            let fits = session.outbox.load() + len <= outbox_bytes_max && self.pool.bytes() + len <= outboxes_bytes_max;
            if !fits && !session.outbox.is_empty() {
                overflowed.push(member.subscription);
                continue;
            }
            session.outbox.push(&mut self.pool, frame.clone(), Some(Tag { subscription: member.subscription, offset }));
            self.counters.deliveries += 1;
            if !session.dirty {
                session.dirty = true;
                self.dirty.push(member.connection);
            }
        }
        for subscription in overflowed.drain(..) {
            self.park(now_ms, subscription, offset);
        }
        self.overflowed = overflowed;
    }

    /// A record without a position has gone to those who are live: the others cannot fetch it later, so they are told (2500).
    fn passing(&mut self, now_ms: u64, local: LocalSubjectKey) {
        for key in self.local.subject(local).map(|subject| subject.subscriptions()).unwrap_or_default() {
            let state = self.local.get(key).map(|subscription| &subscription.state);
            if matches!(state, Some(SubscriptionState::Parked { .. } | SubscriptionState::CatchingUp { .. })) {
                self.counters.subscriptions_passed += 1;
                self.lose(now_ms, key);
            }
        }
    }

    /// The client reads too slowly: its queued records of this subscription are dropped, the cursor is kept. A record without a position cannot
    /// be fetched again, so losing one ends the subscription with 2500.
    fn park(&mut self, now_ms: u64, key: SubscriptionKey, offset: Option<Offset>) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, recoverable) = (subscription.connection, subscription.recoverable);
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        let dropped = session.outbox.drop_subscription(&mut self.pool, key);
        let from = dropped.first.or(offset);
        let (Some(from), true, false) = (from, recoverable && offset.is_some(), dropped.unpositioned) else {
            self.lose(now_ms, key);
            return;
        };
        self.counters.subscriptions_parked += 1;
        self.wait_for_drain(now_ms, key, from, false);
    }

    /// Parks a subscription that needs everything from `from` on; `later`: it asks for it at the next tick at the earliest.
    fn wait_for_drain(&mut self, now_ms: u64, key: SubscriptionKey, from: Offset, later: bool) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, local, form) = (subscription.connection, subscription.local, subscription.form);
        self.local.set_state(key, SubscriptionState::Parked { from });
        self.withdraw_unused(local, form);
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.parked.get_or_insert_default().push_back(key);
        if session.outbox.load() <= self.settings.outbox_bytes_max / 2 {
            if later { &mut self.drained_later } else { &mut self.drained }.push(connection);
        } else if session.parked_since_ms == 0 && !session.outbox.is_empty() {
            session.parked_since_ms = now_ms.max(1);
            self.watch(connection);
        }
    }

    /// Asks the homes for the next pieces of a connection whose outbox has room: one piece at a time, parked subscriptions in turn.
    pub(super) fn catch_up(&mut self, connection: ConnectionKey) {
        let piece = PIECE_BYTES_MAX.min(self.settings.outbox_bytes_max / 4);
        while !self.toward_home_is_full() {
            let Some(session) = self.sessions.get_mut(connection) else {
                return;
            };
            if session.piece_under_way || session.phase != Phase::Connected {
                return;
            }
            if session.outbox.load() + piece > self.settings.outbox_bytes_max {
                return;
            }
            if !session.outbox.is_empty() && self.pool.bytes() + piece > self.settings.outboxes_bytes_max {
                self.drained_later.push(connection);
                return;
            }
            let Some(key) = session.parked.as_mut().and_then(|parked| parked.pop_front()) else {
                session.parked = None;
                session.parked_since_ms = 0;
                return;
            };
            let Some(subscription) = self.local.get(key) else {
                continue;
            };
            let SubscriptionState::Parked { from } = subscription.state else {
                continue;
            };
            let (local, form, generation) = (subscription.local, subscription.form, subscription.generation);
            let Some(subject) = self.local.subject_mut(local) else {
                continue;
            };
            subject.pending[form.index()] += 1;
            let request = CatchUpRequest {
                map_version: self.map.version,
                topic: subject.topic,
                subject: subject.name.clone(),
                local,
                subscription: key,
                form,
                generation,
                from,
                bytes_max: piece,
            };
            let home = subject.home;
            session.piece_under_way = true;
            session.outbox.reserved += piece as u32;
            self.local.set_state(key, SubscriptionState::CatchingUp { from, reserved: piece as u32 });
            self.say_toward_home(home, TowardHome::CatchUp(Box::new(request)));
        }
        // The lane is full: tried again at the next flush.
        self.drained.push(connection);
    }

    fn piece(&mut self, now_ms: u64, piece: Piece) {
        let Piece { local, form, subscription: key, frames, next, state } = piece;
        if let Some(subject) = self.local.subject_mut(local) {
            subject.pending[form.index()] -= 1;
            subject.entered = true;
            if state == PieceState::Live {
                subject.live_at_home |= 1 << form.index();
                subject.next = subject.next.max(next);
            }
        }
        let connection = match self.local.get(key).map(|subscription| (subscription.connection, &subscription.state)) {
            Some((connection, SubscriptionState::CatchingUp { reserved, .. })) => {
                if let Some(session) = self.sessions.get_mut(connection) {
                    session.outbox.reserved -= reserved;
                    session.piece_under_way = false;
                }
                connection
            }
            _ => {
                self.withdraw_unused(local, form);
                return;
            }
        };
        // The reserve is given back: whatever follows starts from a cursor without one.
        self.local.set_state(key, SubscriptionState::Parked { from: next });
        let empty = frames.is_empty();
        for (offset, frame) in frames {
            self.counters.deliveries += 1;
            self.queue_shared(connection, Rc::new(frame), Some(Tag { subscription: key, offset: Some(offset) }));
        }
        match state {
            PieceState::Live => {
                self.local.set_state(key, SubscriptionState::Live);
            }
            PieceState::More => {
                // Without a record the maps disagree for a moment: not again before the next tick.
                self.wait_for_drain(now_ms, key, next, empty);
            }
            PieceState::Lost => self.lose(now_ms, key),
        }
        self.withdraw_unused(local, form);
        if self.sessions.get(connection).is_some_and(|session| session.parked.is_some()) && !(empty && state == PieceState::More) {
            self.drained.push(connection);
        }
    }

    /// Tells the client to subscribe again (2500) and ends the subscription here.
    pub(super) fn lose(&mut self, now_ms: u64, key: SubscriptionKey) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, local) = (subscription.connection, subscription.local);
        self.counters.subscriptions_lost += 1;
        if let (Some(session), Some(subject)) = (self.sessions.get_mut(connection), self.local.subject(local)) {
            // What is queued of it may stay: it is in order and complete up to here.
            let frame = encode_subscribe_lost(session.protocol, subject.name.as_str(), INSUFFICIENT_STATE, "insufficient state");
            self.queue(connection, frame);
        }
        self.drop_subscription(now_ms, key);
    }

    /// Ends a subscription: out of the session's list, out of the table, and out of the home if it was the last.
    pub(super) fn drop_subscription(&mut self, now_ms: u64, key: SubscriptionKey) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let (connection, place) = (subscription.connection, subscription.session_place as usize);
        if let Some(session) = self.sessions.get_mut(connection) {
            session.subscriptions.swap_remove(place);
            if let Some(moved) = session.subscriptions.get(place).copied()
                && let Some(moved) = self.local.get_mut(moved)
            {
                moved.session_place = place as u32;
            }
        }
        self.end_subscription(now_ms, key);
    }

    /// As `drop_subscription`, for one that its session has let go of already.
    pub(super) fn end_subscription(&mut self, _now_ms: u64, key: SubscriptionKey) {
        let Some(subscription) = self.local.unsubscribe(key) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(subscription.connection) {
            match &subscription.state {
                SubscriptionState::CatchingUp { reserved, .. } => {
                    session.outbox.reserved -= reserved;
                    session.piece_under_way = false;
                    if session.parked.is_some() {
                        self.drained.push(subscription.connection);
                    }
                }
                SubscriptionState::Pending(pending) => session.outbox.reserved -= pending.reserved,
                SubscriptionState::Parked { .. } => {
                    let empty = session.parked.as_mut().is_some_and(|parked| {
                        parked.retain(|other| *other != key);
                        parked.is_empty()
                    });
                    if empty {
                        session.parked = None;
                        session.parked_since_ms = 0;
                    }
                }
                SubscriptionState::Live => {}
            }
        }
        self.room_made(subscription.connection);
        self.withdraw_unused(subscription.local, subscription.form);
    }

    /// Tells the home what it need not send any more, and forgets a subject that nobody wants.
    pub(super) fn withdraw_unused(&mut self, local: LocalSubjectKey, form: Form) {
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        let bit = 1 << form.index();
        let (home, topic) = (subject.home, subject.topic);
        if subject.is_idle() {
            if subject.entered || subject.live_at_home != 0 {
                let message = TowardHome::Withdraw { topic, subject: subject.name.clone(), local, form: None };
                self.say_toward_home(home, message);
            }
            self.local.remove(local);
        } else if subject.live_at_home & bit != 0 && !subject.has_live(form) && subject.pending[form.index()] == 0 {
            subject.live_at_home &= !bit;
            let message = TowardHome::Withdraw { topic, subject: subject.name.clone(), local, form: Some(form) };
            self.say_toward_home(home, message);
        }
    }

    /// Sends a pending subscribe to its home. `false`: the map has no such topic.
    pub(super) fn route_subscribe(&mut self, now_ms: u64, key: SubscriptionKey) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let SubscriptionState::Pending(pending) = &subscription.state else {
            return;
        };
        let (local, form) = (subscription.local, subscription.form);
        let (start, reserved, deadline_ms) = (pending.start.clone(), pending.reserved, pending.deadline_ms);
        let (name, stale) = match self.local.subject(local) {
            Some(subject) => (subject.name.clone(), subject.stale),
            None => return,
        };
        let Some(topic) = self.map.topic(name.topic()).cloned() else {
            self.refuse_subscribe(now_ms, key, errors::unknown_topic(name.topic(), &self.settings));
            return;
        };
        if now_ms >= deadline_ms {
            self.refuse_subscribe(now_ms, key, errors::NOT_READY);
            return;
        }
        let home = topic.home(name.key().map(str::as_bytes));
        let local = if stale {
            let fresh =
                self.local.find(&name).unwrap_or_else(|| self.local.insert(name.clone(), home.partition, home.shard, home.recoverable));
            self.local.move_to(key, fresh);
            self.withdraw_unused(local, form);
            fresh
        } else {
            local
        };
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        subject.pending[form.index()] += 1;
        let request = SubscribeRequest {
            map_version: self.map.version,
            topic: topic.index,
            subject: name,
            local,
            subscription: key,
            form,
            start,
            hold_ms: deadline_ms - now_ms,
            bytes_max: reserved as usize,
        };
        let home = subject.home;
        self.say_toward_home(home, TowardHome::Subscribe(Box::new(request)));
    }

    fn subscribed(
        &mut self,
        now_ms: u64,
        local: LocalSubjectKey,
        form: Form,
        key: SubscriptionKey,
        answer: Result<Box<Subscribed>, Refusal>,
    ) {
        let mut stale = false;
        if let Some(subject) = self.local.subject_mut(local) {
            subject.pending[form.index()] -= 1;
            stale = subject.stale;
            if let Ok(answer) = &answer {
                subject.entered = true;
                if answer.catch_up.is_none() {
                    subject.live_at_home |= 1 << form.index();
                    subject.next = subject.next.max(answer.next);
                }
            }
        }
        let pending = self
            .local
            .get(key)
            .is_some_and(|subscription| subscription.local == local && matches!(subscription.state, SubscriptionState::Pending(_)));
        match answer {
            _ if !pending => {}
            Err(Refusal::Moved) => self.reroutes.push((now_ms + REROUTE_MS, key)),
            Ok(_) if stale => self.reroutes.push((now_ms + REROUTE_MS, key)),
            Err(Refusal::NotReady | Refusal::Busy) => self.refuse_subscribe(now_ms, key, errors::NOT_READY),
            Err(Refusal::Unrecoverable) => self.refuse_subscribe(now_ms, key, errors::UNRECOVERABLE),
            Ok(answer) => self.grant_subscribe(now_ms, key, *answer),
        }
        self.withdraw_unused(local, form);
    }

    fn grant_subscribe(&mut self, now_ms: u64, key: SubscriptionKey, answer: Subscribed) {
        let Some(subscription) = self.local.get_mut(key) else {
            return;
        };
        subscription.generation = answer.generation;
        subscription.recoverable = answer.recoverable;
        let (connection, form) = (subscription.connection, subscription.form);
        let state = self.local.set_state(key, SubscriptionState::Live);
        let Some(SubscriptionState::Pending(pending)) = state else {
            return;
        };
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.outbox.reserved -= pending.reserved;
        self.room_made(connection);
        match answer.recovered {
            Some(true) => self.counters.recoveries_true += 1,
            Some(false) => self.counters.recoveries_false += 1,
            None => {}
        }
        let reply = Reply::Subscribe(SubscribeResult {
            recoverable: answer.recoverable,
            positioned: answer.recoverable,
            epoch: &answer.epoch,
            offset: answer.offset.0 as u64,
            recovered: answer.recovered == Some(true),
            was_recovering: answer.recovered.is_some(),
            publications: &answer.publications,
            // 0: the home has none to give, and names the subject.
            id: (form.numeric && answer.id != 0).then_some(answer.id),
        });
        self.reply(connection, pending.command, &reply);
        for follower in &pending.followers {
            match *follower {
                Follower::Unsubscribe(command) => self.reply(connection, command, &Reply::Unsubscribe),
                Follower::Subscribe(command) => self.reply(connection, command, &reply),
            }
        }
        self.counters.deliveries += answer.publications.len() as u64;
        if pending.is_left() {
            // It may come back at once, taking the first answer for the second: as if it had left after the grant.
            let next = answer.catch_up.unwrap_or(answer.next);
            let subject = self.local.get(key).and_then(|subscription| self.local.subject(subscription.local));
            if let (Some(subject), true) = (subject, answer.recoverable) {
                let left = Left { partition: subject.partition, generation: answer.generation, next };
                self.left.leave(now_ms, connection, subject.name.clone(), left);
            }
            self.drop_subscription(now_ms, key);
        } else if let Some(from) = answer.catch_up {
            self.wait_for_drain(now_ms, key, from, false);
        }
    }

    pub(super) fn refuse_subscribe(&mut self, now_ms: u64, key: SubscriptionKey, error: crate::session::ErrorReply) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let connection = subscription.connection;
        if let Some(pending) = subscription.pending() {
            let (command, followers) = (pending.command, pending.followers.clone());
            self.reply_error(connection, command, error.clone());
            for follower in followers {
                match follower {
                    Follower::Unsubscribe(command) => self.reply(connection, command, &Reply::Unsubscribe),
                    Follower::Subscribe(command) => self.reply_error(connection, command, error.clone()),
                }
            }
        }
        self.drop_subscription(now_ms, key);
    }

    fn history_answered(&mut self, connection: ConnectionKey, command: u32, answer: Result<Box<HistoryPage>, Refusal>) {
        let reserve = self.history_reserve();
        let Some(session) = self.sessions.get_mut(connection) else {
            return;
        };
        session.outbox.reserved -= reserve as u32;
        self.room_made(connection);
        match answer {
            Ok(page) => {
                let position = Position { offset: page.offset.0 as u64, epoch: page.epoch.to_string() };
                self.reply(connection, command, &Reply::History(HistoryResult { publications: &page.publications, position: &position }));
            }
            Err(Refusal::Unrecoverable) => self.reply_error(connection, command, errors::UNRECOVERABLE),
            Err(_) => self.reply_error(connection, command, errors::NOT_READY),
        }
    }

    /// The log under a subject is another one: 2500 to every subscriber that had an answer. The home has forgotten this shard already.
    fn reset_local(&mut self, now_ms: u64, local: LocalSubjectKey) {
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        subject.live_at_home = 0;
        subject.entered = false;
        self.lose_all(now_ms, local);
    }

    fn lose_all(&mut self, now_ms: u64, local: LocalSubjectKey) {
        let keys = self.local.subject(local).map(|subject| subject.subscriptions()).unwrap_or_default();
        for key in keys {
            if self.local.get(key).is_some_and(|subscription| !matches!(subscription.state, SubscriptionState::Pending(_))) {
                self.lose(now_ms, key);
            }
        }
        for form in Form::ALL {
            self.withdraw_unused(local, form);
        }
    }

    /// The map has changed: subjects whose home or log moved lose their subscribers (they come back and recover); what is pending is routed again.
    pub(super) fn reroute_locals(&mut self, now_ms: u64) {
        for local in self.local.keys() {
            let Some(subject) = self.local.subject(local).filter(|subject| !subject.stale) else {
                continue;
            };
            let home = self.map.topic(subject.name.topic()).map(|topic| topic.home(subject.name.key().map(str::as_bytes)));
            let same = home.is_some_and(|home| {
                home.partition == subject.partition && home.shard == subject.home && home.recoverable == subject.recoverable
            });
            if !same {
                self.local.make_stale(local);
                self.lose_all(now_ms, local);
            }
        }
    }

    /// Routes subscribes again that met another version of the map.
    pub(super) fn run_reroutes(&mut self, now_ms: u64) {
        if self.reroutes.is_empty() || self.toward_home_is_full() {
            return;
        }
        for (due_ms, key) in std::mem::take(&mut self.reroutes) {
            if due_ms <= now_ms {
                self.route_subscribe(now_ms, key);
            } else {
                self.reroutes.push((due_ms, key));
            }
        }
    }

    /// Adds a subscription and asks its home. The topic is in the map.
    pub(super) fn begin_subscribe(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        name: SubjectName,
        form: Form,
        pending: PendingSubscribe,
    ) {
        let Some(topic) = self.map.topic(name.topic()) else {
            return;
        };
        let home = topic.home(name.key().map(str::as_bytes));
        let local = match self.local.find(&name) {
            Some(local) => local,
            None => self.local.insert(name, home.partition, home.shard, home.recoverable),
        };
        let reserved = pending.reserved;
        let key = self.local.subscribe(connection, local, form, pending);
        if let Some(session) = self.sessions.get_mut(connection) {
            session.outbox.reserved += reserved;
            if let Some(subscription) = self.local.get_mut(key) {
                subscription.session_place = session.subscriptions.len() as u32;
            }
            session.subscriptions.push(key);
        }
        self.route_subscribe(now_ms, key);
    }
}
