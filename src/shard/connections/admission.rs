//! Who is let in, what they may do, and until when. With `Entitlement::None` a connection has no [`Entry`] and may do everything.
//!
//! Tokens are judged by the wall clock, which comes from outside (`set_clock`); a connection with an end is looked at when it comes, at least once in
//! [`LOOK_AGAIN_MS`], so that nothing is kept for the year that a token may last. Of a refusal the client learns its code; the reason is counted.

use super::entry::{Entry, Look};
use super::room::Connections;
use super::session::{Phase, Session, Timer, disconnect};
use crate::entitlement::{Denial, Entitlement, Grant, SubscriptionGrant};
use crate::handoff::ConnectionKey;
use crate::limits::{TOKEN_TTL_EARLY_S_MAX, TOKENS_AT_ONCE_MAX};
use crate::session::reply::Ttl;
use crate::session::{ConnectResult, RefreshResult, Reply};
use crate::shard::errors;

/// How long a token may go unlooked at.
const LOOK_AGAIN_MS: u64 = 60_000;

const VERSION: &str = concat!("corespan ", env!("CARGO_PKG_VERSION"));

impl Connections {
    /// The wall clock, in milliseconds since 1970.
    pub fn set_clock(&mut self, now_ms: u64, unix_ms: u64) {
        self.clock_ahead_ms = unix_ms as i64 - now_ms as i64;
    }

    fn unix_ms(&self, now_ms: u64) -> u64 {
        (now_ms as i64 + self.clock_ahead_ms).max(0) as u64
    }

    fn now_s(&self, now_ms: u64) -> u64 {
        self.unix_ms(now_ms) / 1_000
    }

    /// Whom a client's certificate names.
    pub fn identified(&mut self, connection: ConnectionKey, user: &str) {
        if self.sessions.contains_key(connection) {
            self.identified.insert(connection, Box::from(user));
        }
    }

    /// Other keys, or something else is revoked: whoever may not stay is sent away.
    pub fn take_entitlement(&mut self, now_ms: u64, entitlement: Entitlement) {
        self.entitlement = entitlement;
        let now_s = self.now_s(now_ms);
        let denial_of = |session: &Session| {
            let entry = session.entry.as_ref().filter(|_| session.phase == Phase::Connected)?;
            self.entitlement.alive(&entry.grant, now_s).err()
        };
        let gone: Vec<(ConnectionKey, Denial)> =
            self.sessions.iter().filter_map(|(connection, session)| Some((connection, denial_of(session)?))).collect();
        for (connection, denial) in gone {
            self.send_away(now_ms, connection, &denial);
        }
    }

    /// A new flush: so many tokens may be judged until the next one.
    pub fn renew_tokens_at_once(&mut self) {
        self.tokens_left = TOKENS_AT_ONCE_MAX;
    }

    /// Whether one more token may be judged before the next flush: signatures cost more than all else that a command does.
    pub fn may_judge(&mut self, token: &str) -> bool {
        if token.is_empty() || !matches!(self.entitlement, Entitlement::Jwt(_)) {
            return true;
        }
        let may = self.tokens_left > 0;
        self.tokens_left = self.tokens_left.saturating_sub(1);
        may
    }

    /// The connect command.
    pub fn connect(&mut self, now_ms: u64, connection: ConnectionKey, id: u32, token: &str) {
        let entry = if matches!(self.entitlement, Entitlement::None) {
            None
        } else {
            match self.grant(now_ms, connection, token) {
                Ok(grant) => Some(Box::new(Entry { grant, client: self.clients + 1, look_ms: 0 })),
                Err(denial) => {
                    self.deny(connection, id, &denial);
                    self.end(now_ms, connection, &denial);
                    return;
                }
            }
        };
        self.clients += 1;
        let client = self.client_name(self.clients);
        let node = self.settings.node.clone();
        let ping_seconds = (self.settings.ping_interval_ms / 1000) as u32;
        let ttl = self.ttl(now_ms, entry.as_ref().and_then(|entry| entry.grant.expires_s()));
        if let Some(session) = self.sessions.get_mut(connection) {
            session.phase = Phase::Connected;
            session.entry = entry;
        }
        self.look_at_end(now_ms, connection, None);
        let result = ConnectResult { client: &client, version: VERSION, node: &node, ping_seconds, pong: true, ttl };
        self.reply(connection, id, &Reply::Connect(result));
        if self.settings.ping_interval_ms > 0 {
            self.set_timer(now_ms + self.settings.ping_interval_ms, connection, Timer::Ping);
        }
    }

    /// What a token lets a connection do, and the certificate that it came with, if any: both must be of the same user.
    fn grant(&self, now_ms: u64, connection: ConnectionKey, token: &str) -> Result<Grant, Denial> {
        let now_s = self.now_s(now_ms);
        let grant = self.entitlement.connect(token, now_s)?;
        let Some(user) = self.identified.get(&connection) else { return Ok(grant) };
        let grant = grant.of_user(user)?;
        // The user may be revoked, and a token need not name any.
        self.entitlement.alive(&grant, now_s)?;
        Ok(grant)
    }

    /// The refresh command. A token that is refused changes nothing: the connection ends when it was to end.
    pub fn refresh(&mut self, now_ms: u64, connection: ConnectionKey, id: u32, token: &str) {
        let renewed = self.with_grant(connection, |before| {
            let grant = self.grant(now_ms, connection, token)?;
            if grant.user() == before.user() { Ok(grant) } else { Err(Denial::OtherUser) }
        });
        match renewed {
            Ok(None) => {
                let result = RefreshResult { client: "", version: VERSION, ttl: None };
                self.reply(connection, id, &Reply::Refresh(result));
            }
            Ok(Some(grant)) => {
                let Some(entry) = self.sessions.get_mut(connection).and_then(|session| session.entry.as_mut()) else { return };
                let expires_s = grant.expires_s();
                entry.grant = grant;
                let client = entry.client;
                let client = self.client_name(client);
                let result = RefreshResult { client: &client, version: VERSION, ttl: self.ttl(now_ms, expires_s) };
                self.reply(connection, id, &Reply::Refresh(result));
                self.looks.push((connection, Look::Permissions));
                self.look_at_end(now_ms, connection, None);
            }
            Err(denial) => self.deny(connection, id, &denial),
        }
    }

    /// Whether a client may subscribe, and by what right; `None`: by everybody's.
    pub fn lets_subscribe(
        &self,
        now_ms: u64,
        connection: ConnectionKey,
        subject: &str,
        token: &str,
    ) -> Result<Option<SubscriptionGrant>, Denial> {
        self.with_grant(connection, |grant| self.entitlement.subscribe(grant, subject, token, self.now_s(now_ms)))
    }

    /// The right of a subscription, renewed.
    pub fn renews(
        &self,
        now_ms: u64,
        connection: ConnectionKey,
        subject: &str,
        own: Option<&SubscriptionGrant>,
        token: &str,
    ) -> Result<Option<SubscriptionGrant>, Denial> {
        self.with_grant(connection, |grant| {
            let mut own = own.cloned().unwrap_or_default();
            self.entitlement.sub_refresh(grant, subject, &mut own, token, self.now_s(now_ms))?;
            Ok(own)
        })
    }

    /// Whether a subscription may go on, by its own token or by its connection's.
    pub fn holds(&self, now_ms: u64, connection: ConnectionKey, subject: &str, own: Option<&SubscriptionGrant>) -> Result<(), Denial> {
        let now_s = self.now_s(now_ms);
        self.with_grant(connection, |grant| match own {
            Some(own) => self.entitlement.holds(grant, subject, own, now_s),
            None => self.entitlement.subscribe(grant, subject, "", now_s).map(|_| ()),
        })
        .map(|_| ())
    }

    /// Whether a client may publish.
    pub(super) fn lets_publish(&self, now_ms: u64, connection: ConnectionKey, subject: &str) -> Result<(), Denial> {
        self.with_grant(connection, |grant| self.entitlement.publish(grant, subject, self.now_s(now_ms))).map(|_| ())
    }

    fn with_grant<T>(&self, connection: ConnectionKey, ask: impl FnOnce(&Grant) -> Result<T, Denial>) -> Result<Option<T>, Denial> {
        match self.sessions.get(connection).and_then(|session| session.entry.as_ref()) {
            Some(entry) => ask(&entry.grant).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a command.
    pub fn deny(&mut self, connection: ConnectionKey, id: u32, denial: &Denial) {
        tracing::debug!(reason = %denial, "denied");
        self.count_denial(denial);
        self.reply_error(connection, id, &errors::denied(denial));
    }

    /// One more refusal of its kind.
    pub fn count_denial(&mut self, denial: &Denial) {
        self.counters.count_denial(denial);
    }

    /// In how many seconds the client should come with a new token: some time before the end, which is the node's alone.
    pub fn ttl(&self, now_ms: u64, expires_s: Option<u64>) -> Ttl {
        expires_s.map(|expires_s| {
            let rest_s = expires_s.saturating_mul(1_000).saturating_sub(self.unix_ms(now_ms)) / 1_000;
            let early_s = (rest_s / 4).min(TOKEN_TTL_EARLY_S_MAX);
            u32::try_from(rest_s - early_s).unwrap_or(u32::MAX).max(1)
        })
    }

    /// Sets the timer by which a connection is looked at when it ends, or a subscription of it at `also_s`; if one that is set comes soon enough,
    /// it stays.
    pub fn look_at_end(&mut self, now_ms: u64, connection: ConnectionKey, also_s: Option<u64>) {
        let unix_ms = self.unix_ms(now_ms);
        let Some(entry) = self.sessions.get_mut(connection).and_then(|session| session.entry.as_mut()) else {
            return;
        };
        let Some(end_s) = entry.grant.expires_s().into_iter().chain(also_s).min() else {
            return;
        };
        let look_ms = now_ms + end_s.saturating_mul(1_000).saturating_sub(unix_ms).clamp(1, LOOK_AGAIN_MS);
        if entry.look_ms <= now_ms || look_ms < entry.look_ms {
            entry.look_ms = look_ms;
            self.set_timer(look_ms, connection, Timer::Entry);
        }
    }

    pub(super) fn entry_timer(&mut self, now_ms: u64, due_ms: u64, connection: ConnectionKey) {
        let now_s = self.now_s(now_ms);
        let Some(session) = self.sessions.get_mut(connection).filter(|session| session.phase == Phase::Connected) else {
            return;
        };
        let Some(entry) = session.entry.as_mut().filter(|entry| entry.look_ms == due_ms) else {
            return;
        };
        entry.look_ms = 0;
        match self.entitlement.alive(&entry.grant, now_s) {
            Ok(()) => {
                self.looks.push((connection, Look::Ends));
                self.look_at_end(now_ms, connection, None);
            }
            Err(denial) => self.send_away(now_ms, connection, &denial),
        }
    }

    /// A connection whose subscriptions are to be looked at.
    pub fn next_look(&mut self) -> Option<(ConnectionKey, Look)> {
        self.looks.pop()
    }

    fn send_away(&mut self, now_ms: u64, connection: ConnectionKey, denial: &Denial) {
        self.count_denial(denial);
        self.end(now_ms, connection, denial);
    }

    fn end(&mut self, now_ms: u64, connection: ConnectionKey, denial: &Denial) {
        let code = if matches!(denial, Denial::Expired { .. }) { disconnect::EXPIRED } else { disconnect::INVALID_TOKEN };
        self.disconnect(now_ms, connection, code, false);
    }

    fn client_name(&self, number: u64) -> String {
        format!("{}-{}-{number}", self.settings.node, self.shard.0)
    }
}
