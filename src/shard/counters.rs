//! A shard's counters: plain integers, copied out once a tick.

use crate::entitlement::Denial;

macro_rules! counters {
    ($(#[doc = $help:literal] $name:ident: $kind:ident,)*) => {
        /// Everything that a shard counts. `Counter`s only grow; `Gauge`s are the state at the tick.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct ShardCounters {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl ShardCounters {
            /// Adds what another room of the same shard has counted. A gauge is counted by one room only.
            pub fn add(&mut self, room: &ShardCounters) {
                $(self.$name += room.$name;)*
            }

            /// What each means, in the order of `each`.
            pub const HELP: &'static [&'static str] = &[$($help),*];

            /// Name, kind, value of each, in the order of the fields.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, Kind, u64)> {
                [$((stringify!($name), Kind::$kind, self.$name)),*].into_iter()
            }
        }
    };
}

/// How a counter moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

counters! {
    /// Connections open now.
    connections: Gauge,
    /// Connections opened.
    connections_opened: Counter,
    /// Subscriptions held now.
    subscriptions: Gauge,
    /// Bytes of subscriptions and of the subjects that they want now (at most `client.subscriptions.shard.bytes.max`).
    subscriptions_bytes: Gauge,
    /// Bytes of clients' messages whose commands wait now (for Kafka, for room, for a topic). At 128 MiB no socket of the shard is read until half have gone.
    commands_held_bytes: Gauge,
    /// Subscribes refused with error 106, because subscriptions of this shard had taken that many bytes.
    subscriptions_refused: Counter,
    /// Subscriptions that are parked or catching up now.
    subscriptions_catching_up: Gauge,
    /// Records read from Kafka.
    records_consumed: Counter,
    /// Bytes of keys and values read from Kafka.
    records_consumed_bytes: Counter,
    /// Records dropped because their offset was below the next expected, or their generation was old, or their home moved on the way.
    records_stale: Counter,
    /// Records without a subject (key not UTF-8, empty segment, control character, too long).
    records_without_subject: Counter,
    /// Records found on a partition that is not their key's: delivered live without a position, never recovered.
    records_elsewhere: Counter,
    /// Records too large for an outbox, announced without their value.
    records_oversize: Counter,
    /// Pushes put into outboxes.
    deliveries: Counter,
    /// Bytes written to sockets.
    bytes_written: Counter,
    /// Writes to sockets.
    writes: Counter,
    /// Writes that came back short.
    writes_short: Counter,
    /// Pushes encoded (each form of a record once).
    pushes_encoded: Counter,
    /// Subscriptions parked because the client read too slowly.
    subscriptions_parked: Counter,
    /// Subscriptions ended with 2500 because their position could no longer be served or their log changed.
    subscriptions_lost: Counter,
    /// Subscriptions ended with 2500 because a record without a position came while they were parked or catching up (also in subscriptions_lost).
    subscriptions_passed: Counter,
    /// Milliseconds in which nothing was taken from Kafka and from other shards' homes, because outboxes of clients who read had to drain (at most 100 in any second).
    intake_waited_ms: Counter,
    /// Clients disconnected with 3008.
    disconnects_slow: Counter,
    /// Clients disconnected with 3012, because their pong did not come.
    disconnects_no_pong: Counter,
    /// Connections ended with 3502, because their connect command did not come in time.
    disconnects_stale: Counter,
    /// Connections ended because what they sent was not the protocol (3501), no WebSocket (1002, 1007), or too large a message (1009, 1013).
    disconnects_malformed: Counter,
    /// Requests refused with 414 or 431, because their head had more than `listen.head.bytes.max` bytes or `listen.head.lines.max` lines.
    heads_refused: Counter,
    /// Sockets closed because what came was no TLS, or not by its rules: old versions, bad certificates, garbage.
    handshakes_refused: Counter,
    /// TLS handshakes that had to wait, because a shard had begun `listen.handshakes.max` within the second.
    handshakes_waited: Counter,
    /// Bytes of encrypted records that wait for full sockets now (at most 64 KiB each).
    encrypted_bytes: Gauge,
    /// Bytes of unfinished commands and request heads of clients now.
    inbound_bytes: Gauge,
    /// Unfinished commands refused with 1013, and request heads, because those of all clients held too many bytes.
    inbound_refused: Counter,
    /// Upgrades refused with 503 and sockets closed at once, because there were `listen.connections.max` connections.
    connections_refused: Counter,
    /// Sockets closed because no whole HTTP request, or no next one, came in time.
    requests_expired: Counter,
    /// Subscribes answered with `recovered: true`.
    recoveries_true: Counter,
    /// Subscribes answered with `recovered: false`.
    recoveries_false: Counter,
    /// Requests held for a partition that was not ready or a position ahead of this node.
    requests_held: Counter,
    /// Requests held now.
    requests_held_now: Gauge,
    /// Bytes of requests held now (at most 64 MiB).
    requests_held_bytes: Gauge,
    /// Held requests that ended in error 100.
    requests_held_expired: Counter,
    /// Publishes taken.
    publishes: Counter,
    /// Publishes acknowledged by Kafka.
    publishes_stored: Counter,
    /// Publishes to topics that `publish.topics` does not allow.
    publishes_denied: Counter,
    /// Records of publishes that routes take to several topics, which others of the same publish's topics have and theirs has not, or perhaps not.
    publishes_missed: Counter,
    /// Publishes refused or failed.
    publishes_failed: Counter,
    /// Connects and commands denied because a token is needed and none was given.
    denied_no_token: Counter,
    /// Connects denied because the token was not `entitlement.token`.
    denied_wrong_token: Counter,
    /// Tokens denied because they are no JSON Web Tokens.
    denied_malformed: Counter,
    /// Tokens denied because of their algorithm.
    denied_algorithm: Counter,
    /// Tokens denied because no key of their algorithm has their `kid`.
    denied_no_key: Counter,
    /// Tokens denied because their signature fits no key.
    denied_signature: Counter,
    /// Connections and subscriptions that ended with their token, and tokens denied because they had expired.
    denied_expired: Counter,
    /// Tokens denied because their `nbf` was still to come.
    denied_not_yet: Counter,
    /// Tokens denied because they had no `exp`.
    denied_no_expiry: Counter,
    /// Tokens denied because their `exp` was too far ahead.
    denied_far_future: Counter,
    /// Tokens denied because of what their `permissions` hold.
    denied_bad_permissions: Counter,
    /// Connections and subscriptions ended, and tokens denied, because their `jti` or user is revoked.
    denied_revoked: Counter,
    /// Tokens for a subscription that came with a connect, and the reverse.
    denied_wrong_kind: Counter,
    /// Subscription tokens denied because they are for another channel.
    denied_other_channel: Counter,
    /// Tokens denied because they are of another user than their connection.
    denied_other_user: Counter,
    /// Subscribes, publishes and history denied, and subscriptions ended, because no permission allowed them.
    denied_permission: Counter,
    /// Publishes whose fate is unknown.
    publishes_unknown: Counter,
    /// Publishes that waited for the producer, for word of their topic or for their turn until it was too late, and were answered 100.
    publishes_expired: Counter,
    /// Answers of Kafka to publishes that had been answered 401 already.
    publishes_late: Counter,
    /// Publishes open now.
    publishes_open: Gauge,
    /// Times that reading a socket paused because the producer was full.
    producer_full: Counter,
    /// Commands refused with an error reply.
    command_errors: Counter,
    /// Bytes in outboxes now, bookkeeping included; what several share is counted once.
    outbox_bytes: Gauge,
    /// Bytes in the cache now.
    cache_bytes: Gauge,
    /// Of them, bytes of encodings, kept for clients that catch up or ask for history (an eighth of the cache at most).
    cache_encoded_bytes: Gauge,
    /// Records in the cache now.
    cache_records: Gauge,
    /// Records evicted from the cache.
    cache_evicted: Counter,
    /// Subjects known to this home now.
    subjects: Gauge,
    /// Numeric channel ids granted now, or kept for a minute for subjects that were forgotten (at most 262,144; over it names are used).
    channel_ids: Gauge,
    /// Subscriptions that were left within the last half second, and go on where they ended if their clients come back (at most 16,384).
    subscriptions_left: Gauge,
    /// Bytes waiting because a lane was full, now.
    spill_bytes: Gauge,
    /// Turns that ended with a full lane.
    lanes_full: Counter,
    /// Subjects that are live only since a record of them was found on a partition that is not their key's.
    strays: Counter,
    /// Records found so whose subject kept its positions, because this shard remembers no more such subjects.
    strays_over: Counter,
    /// Times that the partitioner of a topic was asked to be guessed again, because too many records are not where it puts them.
    misfits: Counter,
}

impl ShardCounters {
    /// Counts a refusal by entitlement under its reason.
    pub fn count_denial(&mut self, denial: &Denial) {
        let counters: [&mut u64; Denial::WORDS.len()] = [
            &mut self.denied_no_token,
            &mut self.denied_wrong_token,
            &mut self.denied_malformed,
            &mut self.denied_algorithm,
            &mut self.denied_no_key,
            &mut self.denied_signature,
            &mut self.denied_expired,
            &mut self.denied_not_yet,
            &mut self.denied_no_expiry,
            &mut self.denied_far_future,
            &mut self.denied_bad_permissions,
            &mut self.denied_revoked,
            &mut self.denied_wrong_kind,
            &mut self.denied_other_channel,
            &mut self.denied_other_user,
            &mut self.denied_permission,
        ];
        for (place, counter) in counters.into_iter().enumerate() {
            *counter += u64::from(place == denial.index());
        }
    }
}
