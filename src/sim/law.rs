//! Who may do what, in worlds where clients need tokens: passes as the judge has them, and the tokens that say the same to the bridge.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::names::Subject;
use crate::entitlement::{Entitlement, KeySet, KeySource, Keys, Limits, RevokedSet, TokenRules};

/// What the wall clock says when the world's says 0, in milliseconds since 1970.
pub const BEGAN_MS: u64 = 1_800_000_000_000;

const SECRET: &str = "a secret of the simulator, of 32 bytes";
const TOPICS: [&str; 3] = ["alpha", "beta", "gamma"];

/// What a client was let in with.
#[derive(Clone, Debug)]
pub struct Pass {
    pub user: u32,
    /// In the world's time, a whole second.
    pub ends_ms: u64,
    topics: Vec<&'static str>,
    publishes: bool,
}

impl Pass {
    /// Whether its holder may subscribe to a subject.
    pub fn permits(&self, channel: &str) -> bool {
        Subject::parse(channel, 1024).is_ok_and(|name| self.topics.contains(&name.topic()))
    }

    /// Whether its holder may publish to a subject.
    pub fn lets_publish(&self, channel: &str) -> bool {
        self.publishes && Subject::parse(channel, 1024).is_ok_and(|name| TOPICS.contains(&name.topic()))
    }
}

/// See the module's documentation.
pub struct Law {
    pub dice: Rng,
    keys: Arc<KeySet>,
    key: EncodingKey,
    pub revoked: BTreeSet<u32>,
}

impl Law {
    pub fn new(dice: Rng) -> Law {
        let keys = Keys::open(vec![KeySource::Secret(SECRET.to_owned())]).expect("the key is one").set();
        Law { dice, keys, key: EncodingKey::from_secret(SECRET.as_bytes()), revoked: BTreeSet::new() }
    }

    /// The law as the bridge is told of it.
    pub fn entitlement(&self) -> Entitlement {
        let revoked: String = self.revoked.iter().map(|user| format!("jti {user}\n")).collect();
        let revoked = RevokedSet::parse(&revoked).expect("its lines are right");
        Entitlement::Jwt(TokenRules::new(self.keys.clone(), Arc::new(revoked), Limits { leeway_s: 0, ..Limits::default() }))
    }

    /// A pass for a user: for some topics or all, for seconds or for as long as the world lasts.
    pub fn pass(&mut self, now_ms: u64, user: u32) -> Pass {
        let lasts_s = if self.dice.u8(0..3) == 0 { self.dice.u64(1..30) } else { 100_000 };
        let topics = if self.dice.bool() { TOPICS.to_vec() } else { TOPICS.into_iter().filter(|_| self.dice.bool()).collect() };
        Pass { user, ends_ms: (now_ms / 1_000 + lasts_s) * 1_000, topics, publishes: self.dice.u8(0..4) > 0 }
    }

    /// The token that says so.
    pub fn token(&self, pass: &Pass) -> String {
        let both = |topic: &str| [format!("/{topic}"), format!("/{topic}/*")];
        let subjects: Vec<String> = pass.topics.iter().flat_map(|topic| both(topic)).collect();
        let publishes = if pass.publishes { TOPICS.map(both).concat() } else { Vec::new() };
        let claims = json!({
            "sub": format!("user {}", pass.user), "jti": pass.user.to_string(), "exp": (BEGAN_MS + pass.ends_ms) / 1_000,
            "permissions": {"sub": subjects, "pub": publishes},
        });
        jsonwebtoken::encode(&Header::default(), &claims, &self.key).expect("claims are JSON")
    }
}
