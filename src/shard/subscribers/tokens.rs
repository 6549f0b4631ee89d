//! Subscriptions that a token of their own allows, renewed by `sub_refresh`, and the end of those that may not go on. All others live by their
//! connection's permissions.

use super::room::Subscribers;
use crate::entitlement::{Denial, SubscriptionGrant};
use crate::handoff::{ConnectionKey, SubscriptionKey, TowardHome};
use crate::session::{Reply, encode_subscribe_lost};
use crate::shard::connections::{Connections, Look, Taken, Wait};
use crate::shard::errors;
use crate::shard::outgoing::Outgoing;
use crate::subject::SubjectName;

/// Unsubscribe code: the SDK subscribes again, is told why it may not, and asks for a new token if that helps.
const EXPIRED: (u32, &str) = (2501, "expired");

impl Subscribers {
    /// By what right a subscription is here from now on.
    pub(super) fn keep_own(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        key: SubscriptionKey,
        own: Option<SubscriptionGrant>,
        connections: &mut Connections,
    ) {
        match own {
            Some(token) if self.local.get(key).is_some() => {
                let expires_s = token.expires_s();
                self.own.insert(key, token);
                connections.look_at_end(now_ms, connection, expires_s);
            }
            _ => self.own.remove(key),
        }
    }

    /// The sub_refresh command. A token that is refused changes nothing: the subscription ends when it was to end.
    pub fn sub_refresh(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        id: u32,
        channel: &str,
        token: &str,
        connections: &mut Connections,
    ) -> Taken {
        if !connections.may_judge(token) {
            return Taken::NotNow(Wait::Turn);
        }
        let name = match SubjectName::parse(channel, self.settings.subject_bytes_max) {
            Ok(name) => name,
            Err(error) => {
                connections.reply_error(connection, id, &errors::bad_request(error));
                return Taken::Yes;
            }
        };
        let Some(key) = self.local.subscription_of(connection, &name) else {
            connections.reply_error(connection, id, &errors::NOT_SUBSCRIBED);
            return Taken::Yes;
        };
        match connections.renews(now_ms, connection, name.as_str(), self.own.get(key), token) {
            Ok(own) => {
                let own = own.filter(SubscriptionGrant::has_token);
                let ttl = connections.ttl(now_ms, own.as_ref().and_then(SubscriptionGrant::expires_s));
                self.keep_own(now_ms, connection, key, own, connections);
                connections.reply(connection, id, &Reply::SubRefresh(ttl));
            }
            Err(denial) => connections.deny(connection, id, &denial),
        }
        Taken::Yes
    }

    /// Ends those subscriptions of a connection that may not go on.
    pub fn look_at(
        &mut self,
        now_ms: u64,
        connection: ConnectionKey,
        look: Look,
        connections: &mut Connections,
        toward_home: &mut Outgoing<TowardHome>,
    ) {
        if look == Look::Ends && self.own.tokens.is_empty() {
            return;
        }
        let keys = self.of.get(connection).map(|subscribed| subscribed.subscriptions.clone()).unwrap_or_default();
        let mut end_s: Option<u64> = None;
        for key in keys {
            let own = self.own.get(key);
            if look == Look::Ends && own.is_none() {
                continue;
            }
            let expires_s = own.and_then(SubscriptionGrant::expires_s);
            match self.holds(now_ms, key, connections) {
                Ok(()) => end_s = end_s.into_iter().chain(expires_s).min(),
                Err(denial) => self.end_denied(key, &denial, connections, toward_home),
            }
        }
        if end_s.is_some() {
            connections.look_at_end(now_ms, connection, end_s);
        }
    }

    /// Something else is revoked: ends the subscriptions whose own tokens are.
    pub fn look_at_tokens(&mut self, now_ms: u64, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let keys: Vec<SubscriptionKey> = self.own.tokens.keys().copied().collect();
        for key in keys {
            if let Err(denial) = self.holds(now_ms, key, connections) {
                self.end_denied(key, &denial, connections, toward_home);
            }
        }
    }

    fn holds(&self, now_ms: u64, key: SubscriptionKey, connections: &Connections) -> Result<(), Denial> {
        let Some(subscription) = self.local.get(key) else {
            return Ok(());
        };
        let Some(subject) = self.local.subject(subscription.local) else {
            return Ok(());
        };
        connections.holds(now_ms, subscription.connection, subject.name.as_str(), self.own.get(key))
    }

    fn end_denied(&mut self, key: SubscriptionKey, denial: &Denial, connections: &mut Connections, toward_home: &mut Outgoing<TowardHome>) {
        let Some(subscription) = self.local.get(key) else {
            return;
        };
        connections.count_denial(denial);
        if subscription.pending().is_some() {
            self.refuse_subscribe(key, &errors::denied(denial), connections, toward_home);
            return;
        }
        let (connection, local) = (subscription.connection, subscription.local);
        if let (Some(protocol), Some(subject)) = (connections.protocol(connection), self.local.subject(local)) {
            let (code, reason) = EXPIRED;
            connections.queue(connection, encode_subscribe_lost(protocol, subject.name.as_str(), code, reason));
        }
        self.drop_subscription(key, connections, toward_home);
    }
}
