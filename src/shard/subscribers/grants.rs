//! Subscribes on their way to a home and back: routed, answered, routed again when the map has changed.

use super::left::Left;
use super::room::Subscribers;
use super::table::{Follower, PendingSubscribe, SubscriptionState};
use crate::entitlement::SubscriptionGrant;
use crate::handoff::message::{Refusal, Subscribed};
use crate::handoff::{ConnectionKey, HistoryPage, LocalSubjectKey, SubscribeRequest, SubscriptionKey, TowardHome, Variant};
use crate::limits::REROUTE_MS;
use crate::session::{ErrorReply, HistoryResult, Position, Reply, SubscribeResult};
use crate::shard::connections::Connections;
use crate::shard::errors;
use crate::shard::outgoing::Outgoing;
use crate::subject::SubjectName;

impl Subscribers {
    /// Sends a pending subscribe to its home. `false`: the map has no such topic.
    fn route_subscribe(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let SubscriptionState::Pending(pending) = &subscription.state else {
            return;
        };
        let (local, variant) = (subscription.local, subscription.variant);
        let (start, reserved, deadline_ms) = (pending.start.clone(), pending.reserved, pending.deadline_ms);
        let (name, exposed, stale) = match self.local.subject(local) {
            Some(subject) => (subject.name.clone(), subject.exposed.clone(), subject.stale),
            None => return,
        };
        let exposed = match if stale { self.exposed(&name) } else { Ok(exposed) } {
            Ok(exposed) => exposed,
            Err(error) => {
                self.refuse_subscribe(key, &error, connections, toward_home);
                return;
            }
        };
        let subject = exposed.as_ref().unwrap_or(&name);
        let Some(topic) = self.map.topic(subject.topic()).cloned() else {
            self.refuse_subscribe(key, &errors::unknown_topic(subject.topic(), &self.settings), connections, toward_home);
            return;
        };
        if now_ms >= deadline_ms {
            self.refuse_subscribe(key, &errors::NOT_READY, connections, toward_home);
            return;
        }
        let home = topic.home(subject.key().map(str::as_bytes));
        let local = if stale {
            let fresh = self
                .local
                .find(&name)
                .unwrap_or_else(|| self.local.insert(name.clone(), exposed.clone(), home.partition, home.shard, home.recoverable));
            self.local.move_to(key, fresh);
            self.withdraw_unused(local, variant, toward_home);
            fresh
        } else {
            local
        };
        let Some(subject) = self.local.subject_mut(local) else {
            return;
        };
        subject.group_mut(variant).pending += 1;
        let request = SubscribeRequest {
            map_version: self.map.version,
            topic: topic.index,
            channel: subject.channel(),
            subject: subject.subject().clone(),
            local,
            subscription: key,
            variant,
            start,
            hold_ms: deadline_ms - now_ms,
            bytes_max: reserved as usize,
        };
        let home = subject.home;
        toward_home.say(home, TowardHome::Subscribe(Box::new(request)));
    }

    /// The home's answer to a subscribe.
    #[expect(clippy::too_many_arguments, reason = "an answer, to whom, by which rooms")]
    pub(super) fn subscribed(
        &mut self,
        now_ms: u64,
        local: LocalSubjectKey,
        variant: Variant,
        key: SubscriptionKey,
        answer: Result<Box<Subscribed>, Refusal>,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let mut stale = false;
        if let Some(subject) = self.local.subject_mut(local) {
            stale = subject.stale;
            subject.entered |= answer.is_ok();
            let group = subject.group_mut(variant);
            group.pending -= 1;
            if let Ok(answer) = &answer
                && answer.catch_up.is_none()
            {
                group.live_at_home = true;
                subject.next = subject.next.max(answer.next);
            }
        }
        let pending = self
            .local
            .get(key)
            .is_some_and(|subscription| subscription.local == local && matches!(subscription.state, SubscriptionState::Pending(_)));
        match answer {
            _ if !pending => {}
            Err(Refusal::Moved) => self.reroutes.push_back((now_ms + REROUTE_MS, key)),
            Ok(_) if stale => self.reroutes.push_back((now_ms + REROUTE_MS, key)),
            Err(Refusal::NotReady | Refusal::Busy) => self.refuse_subscribe(key, &errors::NOT_READY, connections, toward_home),
            Err(Refusal::Unrecoverable) => self.refuse_subscribe(key, &errors::UNRECOVERABLE, connections, toward_home),
            Ok(answer) => self.grant(now_ms, key, *answer, connections, toward_home),
        }
        self.withdraw_unused(local, variant, toward_home);
    }

    fn grant(
        &mut self,
        now_ms: u64,
        key: SubscriptionKey,
        answer: Subscribed,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subscription) = self.local.get_mut(key) else {
            return;
        };
        subscription.generation = answer.generation;
        subscription.recoverable = answer.recoverable;
        let (connection, variant) = (subscription.connection, subscription.variant);
        let state = self.local.set_state(key, SubscriptionState::Live);
        let Some(SubscriptionState::Pending(pending)) = state else {
            return;
        };
        connections.unreserve(connection, pending.reserved as usize);
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
            id: (variant.numeric && answer.id != 0).then_some(answer.id),
            ttl: connections.ttl(now_ms, self.own.get(key).and_then(SubscriptionGrant::expires_s)),
        });
        connections.reply(connection, pending.command, &reply);
        for follower in &pending.followers {
            match *follower {
                Follower::Unsubscribe(command) => connections.reply(connection, command, &Reply::Unsubscribe),
                Follower::Subscribe(command) => connections.reply(connection, command, &reply),
            }
        }
        connections.count_deliveries(answer.publications.len());
        if pending.is_left() {
            // It may come back at once, taking the first answer for the second: as if it had left after the grant.
            let next = answer.catch_up.unwrap_or(answer.next);
            let subject = self.local.get(key).and_then(|subscription| self.local.subject(subscription.local));
            if let (Some(subject), true) = (subject, answer.recoverable) {
                let left = Left { partition: subject.partition, generation: answer.generation, next };
                self.left.leave(now_ms, connection, subject.name.clone(), left);
            }
            self.drop_subscription(key, connections, toward_home);
        } else if let Some(from) = answer.catch_up {
            self.wait_for_drain(now_ms, key, from, false, connections, toward_home);
        }
    }

    pub(super) fn refuse_subscribe(
        &mut self,
        key: SubscriptionKey,
        error: &ErrorReply,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        let connection = subscription.connection;
        if let Some(pending) = subscription.pending() {
            let (command, followers) = (pending.command, pending.followers.clone());
            connections.reply_error(connection, command, error);
            for follower in followers {
                match follower {
                    Follower::Unsubscribe(command) => connections.reply(connection, command, &Reply::Unsubscribe),
                    Follower::Subscribe(command) => connections.reply_error(connection, command, error),
                }
            }
        }
        self.drop_subscription(key, connections, toward_home);
    }

    /// The home's answer to a request for history.
    pub(super) fn history_answered(
        &mut self,
        connection: ConnectionKey,
        command: u32,
        answer: Result<Box<HistoryPage>, Refusal>,
        connections: &mut Connections,
    ) {
        connections.unreserve(connection, self.history_reserve());
        match answer {
            Ok(page) => {
                let position = Position { offset: page.offset.0 as u64, epoch: page.epoch.to_string() };
                let reply = Reply::History(HistoryResult { publications: &page.publications, position: &position });
                connections.reply(connection, command, &reply);
            }
            Err(Refusal::Unrecoverable) => connections.reply_error(connection, command, &errors::UNRECOVERABLE),
            Err(_) => connections.reply_error(connection, command, &errors::NOT_READY),
        }
    }

    /// Routes subscribes again that met another version of the map.
    pub fn run_reroutes(&mut self, now_ms: u64, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        while let Some(&(due_ms, key)) = self.reroutes.front() {
            if due_ms > now_ms || toward_home.is_full() {
                return;
            }
            self.reroutes.pop_front();
            self.route_subscribe(now_ms, key, connections, toward_home);
        }
    }

    /// Adds a subscription and asks its home. The topic is in the map.
    #[expect(clippy::too_many_arguments, reason = "who wants what, by which rooms")]
    pub(super) fn begin(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        name: SubjectName,
        exposed: Option<SubjectName>,
        variant: Variant,
        pending: PendingSubscribe,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) -> Option<SubscriptionKey> {
        let subject = exposed.as_ref().unwrap_or(&name);
        let topic = self.map.topic(subject.topic())?;
        let home = topic.home(subject.key().map(str::as_bytes));
        let local = match self.local.find(&name) {
            Some(local) => local,
            None => self.local.insert(name, exposed, home.partition, home.shard, home.recoverable),
        };
        connections.reserve(connection, pending.reserved as usize);
        let key = self.local.subscribe(connection, local, variant, pending);
        if let Some(subscribed) = self.of.entry(connection).map(|entry| entry.or_default()) {
            if let Some(subscription) = self.local.get_mut(key) {
                subscription.list_place = subscribed.subscriptions.len() as u32;
            }
            subscribed.subscriptions.push(key);
        }
        self.route_subscribe(now_ms, key, connections, toward_home);
        Some(key)
    }
}
