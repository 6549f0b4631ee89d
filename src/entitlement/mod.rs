//! Who may do what: tokens, the keys that sign them, the subjects they allow, and what has been revoked.
//!
//! An [`Entitlement`] is immutable and cheap to clone: each shard has its own and asks it without waiting. [`Keys`] and [`Revocations`] read files;
//! they belong to a housekeeping thread, which hands shards a new `Entitlement` after a reload. There is no clock here: `now_s` is the time in
//! seconds since 1970. What a token says is compared byte by byte and never decoded, normalised or folded. A client learns the code of a
//! [`Denial`] and nothing else.

mod denial;
mod grant;
mod keys;
mod permissions;
mod revocations;
mod rules;
mod token;

pub use crate::watched_file::FileError;
pub use denial::Denial;
pub use grant::{Grant, SubscriptionGrant};
pub use keys::{KeySet, KeySource, Keys};
pub use permissions::{Permissions, PermissionsError};
pub use revocations::{Revocations, RevokedSet};
pub use rules::{Entitlement, TokenRules};
pub use token::{Limits, Token};

#[cfg(test)]
mod tests;
