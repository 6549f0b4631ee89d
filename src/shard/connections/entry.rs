//! What a connection was let in with.

use crate::entitlement::Grant;

/// What a connection was let in with.
#[derive(Debug)]
pub(super) struct Entry {
    pub grant: Grant,
    /// Its number, which its name ends with.
    pub client: u64,
    /// When it is looked at next; another timer of it counts for nothing.
    pub look_ms: u64,
}

/// Why the subscriptions of a connection are looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Look {
    /// The end of one's own token may have come.
    Ends,
    /// What the connection may do has changed.
    Permissions,
}
