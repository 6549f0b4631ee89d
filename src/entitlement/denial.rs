//! Why somebody may not do something.

use super::permissions::PermissionsError;

/// A refusal. `Display` is the full reason, for the log; [`Denial::word`] counts it; a client gets [`Denial::code`] alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("no token was given, and entitlement needs one")]
    NoToken,
    #[error("the token is not the configured one")]
    WrongToken,
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token's algorithm is not accepted: only HS256, HS384, HS512, RS256, RS384, RS512, ES256 and EdDSA are")]
    Algorithm,
    #[error("no key of the token's algorithm has its `kid`")]
    NoKey,
    #[error("the token's signature fits no key of its algorithm")]
    Signature,
    #[error("the token expired at {exp_s}, and it is {now_s} (seconds since 1970)")]
    Expired { exp_s: u64, now_s: u64 },
    #[error("the token is valid from {nbf_s}, and it is {now_s} (seconds since 1970)")]
    NotYet { nbf_s: u64, now_s: u64 },
    #[error("the token has no `exp`, and entitlement needs one")]
    NoExpiry,
    #[error("the token's `exp` {exp_s} is more than {ahead_s_max} s ahead")]
    FarFuture { exp_s: u64, ahead_s_max: u64 },
    #[error("the token's `permissions` are refused: {0}")]
    BadPermissions(#[from] PermissionsError),
    #[error("the token's `jti` or user has been revoked")]
    Revoked,
    #[error("a token for a connection has no `channel`, and one for a subscription has")]
    WrongKind,
    #[error("the subscription token is for another channel")]
    OtherChannel,
    #[error("the token is of another user than the connection")]
    OtherUser,
    #[error("no permission of the token allows this")]
    Permission,
}

impl Denial {
    /// Every word of [`Denial::word`], for a family of counters.
    pub const WORDS: [&'static str; 16] = [
        "no_token",
        "wrong_token",
        "malformed",
        "algorithm",
        "no_key",
        "signature",
        "expired",
        "not_yet",
        "no_expiry",
        "far_future",
        "bad_permissions",
        "revoked",
        "wrong_kind",
        "other_channel",
        "other_user",
        "permission",
    ];

    /// The reason in a word that never changes: a label of counters. One of [`Denial::WORDS`].
    pub fn word(&self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// The place of its word in [`Denial::WORDS`].
    pub fn index(&self) -> usize {
        match self {
            Denial::NoToken => 0,
            Denial::WrongToken => 1,
            Denial::Malformed(_) => 2,
            Denial::Algorithm => 3,
            Denial::NoKey => 4,
            Denial::Signature => 5,
            Denial::Expired { .. } => 6,
            Denial::NotYet { .. } => 7,
            Denial::NoExpiry => 8,
            Denial::FarFuture { .. } => 9,
            Denial::BadPermissions(_) => 10,
            Denial::Revoked => 11,
            Denial::WrongKind => 12,
            Denial::OtherChannel => 13,
            Denial::OtherUser => 14,
            Denial::Permission => 15,
        }
    }

    /// The code of the error that a client gets: 109 makes SDKs ask for a new token, 103 is denied, 101 is no token or a bad one.
    pub fn code(&self) -> u32 {
        match self {
            Denial::Expired { .. } => 109,
            Denial::Permission | Denial::Revoked | Denial::OtherChannel | Denial::OtherUser => 103,
            _ => 101,
        }
    }
}
