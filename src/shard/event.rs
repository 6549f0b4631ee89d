//! What happens to a shard.

use std::sync::Arc;

use super::settings::ShardSettings;
use crate::entitlement::Entitlement;
use crate::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LogEndQuestion, Offset, PartitionRef, Protocol, PublishKey, RecordBatch, ShardId,
    TowardHomeBatch,
};
use crate::subject::TopicMap;

/// One thing that happened. The driver (glommio) and the simulator make them, `ShardCore::handle` takes them.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client's upgrade is done. The key is new.
    Opened { connection: ConnectionKey, protocol: Protocol },
    /// Whom the client's certificate names: before its first message.
    Identified { connection: ConnectionKey, user: &'a str },
    /// One WebSocket message of the client (text or binary), whole and unmasked. Only while `ShardCore::reads(connection)`; a client whose socket
    /// is not read is the backpressure.
    Received { connection: ConnectionKey, payload: &'a [u8] },
    /// A WebSocket ping of the client: answered with a pong through the outbox.
    PingReceived { connection: ConnectionKey, payload: &'a [u8] },
    /// The client's WebSocket close frame: echoed, then the connection ends.
    CloseReceived { connection: ConnectionKey, code: u16 },
    /// The client broke the WebSocket protocol or sent a too large message: a close frame with this code, then the connection ends.
    Violated { connection: ConnectionKey, code: u16, reason: &'static str },
    /// The socket is gone. The key is dead afterwards.
    Closed { connection: ConnectionKey },
    /// The socket takes bytes again after a write came back short.
    Writable { connection: ConnectionKey },
    /// A lane message toward home. Only while `ShardCore::drains_toward_home()`.
    TowardHome { from: ShardId, batch: TowardHomeBatch },
    /// A lane message from home. Always taken.
    FromHome { from: ShardId, batch: FromHomeBatch },
    /// Records of a partition of this shard. Only while `ShardCore::polls_kafka()`.
    Records(RecordBatch),
    /// A new topic map. Answered by `Effects::acknowledge_map`.
    Map(Arc<TopicMap>),
    /// Every shard has acknowledged this version: consuming under it may begin.
    MapActive { version: u64 },
    /// The last stable offset of a partition, asked for with `Effects::query_log_end`. `None`: Kafka did not say.
    LogEnd { question: LogEndQuestion, end: Option<Offset> },
    /// Kafka has deleted everything of a partition below `start` (retention, DeleteRecords): nothing of it is handed out any more.
    LogStart { partition: PartitionRef, generation: Generation, start: Offset },
    /// Kafka's answer to a publish. Exactly one for each `ProduceStatus::Queued`.
    Published { publish: PublishKey, result: PublishResult },
    /// The answer to `Effects::lookup_topic`: how many partitions, or why it cannot be published to.
    TopicFound { topic: &'a str, partitions: Result<u32, PublishFailure> },
    /// Settings that differ from those before in what `ShardSettings::with_live_of` takes. A bound that became smaller is kept from now on.
    Settings(Arc<ShardSettings>),
    /// The wall clock, in milliseconds since 1970, by which tokens end: at the start, and about once a second.
    Clock { unix_ms: u64 },
    /// Who may do what from now on: keys or revocations that differ from those before.
    Entitlement(Entitlement),
    /// Time passes: at least every `TICK_MS` milliseconds.
    Tick,
    /// Graceful stop: no new subscribes or publishes are taken; open publishes are answered; connections get disconnect 3001 spread over
    /// `over_ms` milliseconds.
    Drain { over_ms: u64 },
}

/// The fate of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishResult {
    /// Acknowledged by Kafka, at this offset.
    Stored { partition: u32, offset: Offset },
    /// Refused: nothing was stored.
    Failed(PublishFailure),
    /// Nobody knows whether it was stored (error 401).
    Unknown,
}

/// Why a publish was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFailure {
    /// Error 102.
    NoSuchTopic,
    /// Error 106.
    TooLarge,
    /// Error 103.
    Denied,
    /// Error 400.
    Unavailable,
    /// Error 100: more is asked than Kafka shall be bothered with now.
    NotNow,
}
