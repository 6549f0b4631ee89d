//! The rule by which a node lets clients in.

use std::fmt;
use std::sync::Arc;

use super::denial::Denial;
use super::grant::{Grant, OwnToken, SubscriptionGrant};
use super::keys::KeySet;
use super::permissions::Permissions;
use super::revocations::RevokedSet;
use super::token::{Limits, Token};

/// What a node asks of its clients. Cheap to clone.
#[derive(Clone)]
pub enum Entitlement {
    /// Everybody may do everything.
    None,
    /// Everybody may subscribe; who connects with this token may publish, too. A wrong token is refused.
    Basic { token: Arc<str> },
    /// Everybody needs a JSON Web Token.
    Jwt(TokenRules),
}

impl fmt::Debug for Entitlement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Entitlement::None => "None",
            Entitlement::Basic { .. } => "Basic { .. }",
            Entitlement::Jwt(_) => "Jwt(..)",
        })
    }
}

/// How tokens are judged.
#[derive(Clone, Debug)]
pub struct TokenRules {
    keys: Arc<KeySet>,
    revoked: Arc<RevokedSet>,
    limits: Limits,
}

impl TokenRules {
    /// Of [`super::Keys::set`] and [`super::Revocations::set`].
    pub fn new(keys: Arc<KeySet>, revoked: Arc<RevokedSet>, limits: Limits) -> TokenRules {
        TokenRules { keys, revoked, limits }
    }

    fn verify(&self, text: &str, now_s: u64) -> Result<Token, Denial> {
        let token = Token::verify(text, &self.keys, &self.limits, now_s)?;
        if self.revoked.is_revoked(token.jti(), token.user()) { Err(Denial::Revoked) } else { Ok(token) }
    }

    fn verify_for(&self, grant: &Grant, subject: &str, text: &str, now_s: u64) -> Result<SubscriptionGrant, Denial> {
        let token = self.verify(text, now_s)?;
        match token.channel() {
            None => Err(Denial::WrongKind),
            Some(channel) if channel != subject => Err(Denial::OtherChannel),
            Some(_) if token.user() != grant.user() => Err(Denial::OtherUser),
            Some(_) => Ok(SubscriptionGrant(Some(OwnToken { jti: token.jti().map(Box::from), expires_s: token.expires_s() }))),
        }
    }
}

impl Entitlement {
    /// Lets a connection in. An empty token is none.
    ///
    /// # Errors
    /// The token is wanted and missing, or not valid at `now_s`; the connection ends.
    pub fn connect(&self, token: &str, now_s: u64) -> Result<Grant, Denial> {
        let anybody = |permissions| Grant { user: Box::default(), jti: None, permissions, expires_s: None };
        match self {
            Entitlement::None => Ok(anybody(Permissions::all())),
            Entitlement::Basic { .. } if token.is_empty() => Ok(anybody(Permissions::subscribe_all())),
            Entitlement::Basic { token: wanted } if same(token.as_bytes(), wanted.as_bytes()) => Ok(anybody(Permissions::all())),
            Entitlement::Basic { .. } => Err(Denial::WrongToken),
            Entitlement::Jwt(rules) => {
                let token = rules.verify(token, now_s)?;
                if token.channel().is_some() {
                    return Err(Denial::WrongKind);
                }
                let (user, jti, expires_s) = (Box::from(token.user()), token.jti().map(Box::from), token.expires_s());
                Ok(Grant { user, jti, permissions: token.into_permissions(), expires_s })
            }
        }
    }

    /// The grant in place of `grant`, for the client's `refresh`. Check its subscriptions with [`Entitlement::holds`] afterwards.
    ///
    /// # Errors
    /// As of [`Entitlement::connect`], or the token is of another user. `grant` stays as it is, and ends when it ends.
    pub fn refresh(&self, grant: &Grant, token: &str, now_s: u64) -> Result<Grant, Denial> {
        let new = self.connect(token, now_s)?;
        if new.user() == grant.user() { Ok(new) } else { Err(Denial::OtherUser) }
    }

    /// Allows a subscription to a valid subject. If a subscription token is given, it alone decides: a bad one is refused even if the connection's
    /// permissions would do.
    ///
    /// # Errors
    /// No permission, or a token that is not valid at `now_s`, for another channel or of another user; or the connection's own has ended.
    pub fn subscribe(&self, grant: &Grant, subject: &str, token: &str, now_s: u64) -> Result<SubscriptionGrant, Denial> {
        self.alive(grant, now_s)?;
        match self {
            Entitlement::Jwt(rules) if !token.is_empty() => rules.verify_for(grant, subject, token, now_s),
            _ if grant.permissions().may_subscribe(subject) => Ok(SubscriptionGrant(None)),
            _ => Err(Denial::Permission),
        }
    }

    /// Renews a subscription, for the client's `sub_refresh`.
    ///
    /// # Errors
    /// The token is missing, not valid, for another channel or of another user. `subscription` stays as it is then: it ends when it was to end.
    pub fn sub_refresh(
        &self,
        grant: &Grant,
        subject: &str,
        subscription: &mut SubscriptionGrant,
        token: &str,
        now_s: u64,
    ) -> Result<(), Denial> {
        self.alive(grant, now_s)?;
        if let Entitlement::Jwt(rules) = self {
            *subscription = rules.verify_for(grant, subject, token, now_s)?;
        }
        Ok(())
    }

    /// Allows a publish to a valid subject.
    ///
    /// # Errors
    /// No permission, or the connection's token has ended.
    pub fn publish(&self, grant: &Grant, subject: &str, now_s: u64) -> Result<(), Denial> {
        self.alive(grant, now_s)?;
        if grant.permissions().may_publish(subject) { Ok(()) } else { Err(Denial::Permission) }
    }

    /// Whether a subscription may go on: after a refresh, when what is revoked has changed, and when its time is over.
    ///
    /// # Errors
    /// Its own token has expired or is revoked; or it has none, and the connection's permissions allow it no longer.
    pub fn holds(&self, grant: &Grant, subject: &str, subscription: &SubscriptionGrant, now_s: u64) -> Result<(), Denial> {
        self.alive(grant, now_s)?;
        match &subscription.0 {
            Some(token) => self.valid(token.jti.as_deref(), grant.user(), token.expires_s, now_s),
            None if grant.permissions().may_subscribe(subject) => Ok(()),
            None => Err(Denial::Permission),
        }
    }

    /// Whether a connection may stay. Ask for all of them when what is revoked has changed.
    ///
    /// # Errors
    /// Its token has expired, or its `jti` or user is revoked: the connection ends.
    pub fn alive(&self, grant: &Grant, now_s: u64) -> Result<(), Denial> {
        self.valid(grant.jti.as_deref(), grant.user(), grant.expires_s(), now_s)
    }

    fn valid(&self, jti: Option<&str>, user: &str, expires_s: Option<u64>, now_s: u64) -> Result<(), Denial> {
        match (self, expires_s) {
            (_, Some(exp_s)) if now_s >= exp_s => Err(Denial::Expired { exp_s, now_s }),
            (Entitlement::Jwt(rules), _) if rules.revoked.is_revoked(jti, user) => Err(Denial::Revoked),
            _ => Ok(()),
        }
    }
}

/// Compares in a time that tells only how long `given` is.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut differ = u8::from(given.len() != wanted.len() || wanted.is_empty());
    for (place, byte) in given.iter().enumerate() {
        differ |= std::hint::black_box(byte ^ wanted.get(place % wanted.len().max(1)).copied().unwrap_or_default());
    }
    std::hint::black_box(differ) == 0
}
