//! What a connection, or one of its subscriptions, was let in with.

use super::denial::Denial;
use super::permissions::Permissions;

/// A connection's right to be here. It belongs to its connection; a refresh puts another one in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub(super) user: Box<str>,
    pub(super) jti: Option<Box<str>>,
    pub(super) permissions: Permissions,
    pub(super) expires_s: Option<u64>,
}

impl Grant {
    /// The same for the user whom a certificate names.
    ///
    /// # Errors
    /// The token is of another user.
    pub fn of_user(mut self, user: &str) -> Result<Grant, Denial> {
        if self.user.is_empty() {
            self.user = Box::from(user);
        }
        if *self.user == *user { Ok(self) } else { Err(Denial::OtherUser) }
    }

    /// Who it is; empty if nobody in particular.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What it may do.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// When the connection ends unless it is refreshed, in seconds since 1970: the leeway is in it.
    pub fn expires_s(&self) -> Option<u64> {
        self.expires_s
    }
}

/// A subscription's right to be: by its connection's permissions, or by a token of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionGrant(pub(super) Option<OwnToken>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnToken {
    pub(super) jti: Option<Box<str>>,
    pub(super) expires_s: Option<u64>,
}

impl SubscriptionGrant {
    /// Whether a token of its own allows it, whatever its connection's permissions are.
    pub fn has_token(&self) -> bool {
        self.0.is_some()
    }

    /// Bytes in memory beside its own size.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().and_then(|token| token.jti.as_deref()).map_or(0, str::len)
    }

    /// When the subscription ends unless `sub_refresh` renews it, in seconds since 1970. `None`: with its connection.
    pub fn expires_s(&self) -> Option<u64> {
        self.0.as_ref().and_then(|token| token.expires_s)
    }
}
