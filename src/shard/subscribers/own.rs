//! The tokens of subscriptions that have one of their own. Owned by the shard's thread; what they take counts to
//! `client.subscriptions.shard.bytes.max`.

use hashbrown::HashMap;

use crate::entitlement::SubscriptionGrant;
use crate::handoff::SubscriptionKey;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub tokens: HashMap<SubscriptionKey, SubscriptionGrant>,
    bytes: usize,
}

impl Own {
    /// What one takes: its place in a table that is at most half empty, and its `jti`.
    pub fn weight_of(token: Option<&SubscriptionGrant>) -> usize {
        token.map_or(0, |token| 2 * size_of::<(SubscriptionKey, SubscriptionGrant)>() + token.bytes())
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, key: SubscriptionKey) -> Option<&SubscriptionGrant> {
        self.tokens.get(&key)
    }

    pub fn insert(&mut self, key: SubscriptionKey, token: SubscriptionGrant) {
        self.bytes += Self::weight_of(Some(&token));
        let before = self.tokens.insert(key, token);
        self.bytes -= Self::weight_of(before.as_ref());
    }

    pub fn remove(&mut self, key: SubscriptionKey) {
        if !self.tokens.is_empty() {
            let before = self.tokens.remove(&key);
            self.bytes -= Self::weight_of(before.as_ref());
        }
    }

    /// # Panics
    /// If the bytes are not those of the tokens, or a token is not of one that `lives`.
    pub fn check(&self, lives: impl Fn(SubscriptionKey) -> bool) {
        assert_eq!(self.bytes, self.tokens.values().map(|token| Self::weight_of(Some(token))).sum::<usize>(), "bytes of tokens");
        assert!(self.tokens.keys().all(|key| lives(*key)), "a token is of a subscription");
    }
}
