//! The numbers that are not settings, in one place, with what relates them.

/// How often `Event::Tick` must come, in milliseconds: the grain of every timeout of a shard. Finer would cost idle wake-ups, coarser would show in
/// the hold times below.
pub const TICK_MS: u64 = 10;

/// How often a shard looks for what is too old (publishes without an answer, cached records, memory that a burst left) and publishes its counters.
pub const EXPIRE_MS: u64 = 10 * TICK_MS;

/// How long a request is held for a partition that is not ready or a position that is still ahead of this node. SDKs give up a call after 5 s, so
/// the answer must be on its way before.
pub const HOLD_MS: u64 = 4_000;

/// How long a publish that the producer has is waited for, from when it was read: then its fate is unknown (401). Longer than `HOLD_MS`, so that one
/// is handed over or refused before; with the tenth of a second in which that is noticed, the answer is on its way within 4.5 s.
pub const PUBLISH_MS: u64 = 4_250;

/// How long a request that found two different topic maps waits before it is routed again.
pub const REROUTE_MS: u64 = TICK_MS;

/// Bytes of publications in the answer to a subscribe: more comes as ordinary pushes after it, because some SDKs refuse frames over 1 MiB and a
/// client should see the reply at once.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Bytes of a piece of a catch-up: small enough that live traffic of others fits between two pieces, large enough to fill a socket buffer.
pub const PIECE_BYTES_MAX: usize = 64 << 10;

/// Bytes of a page of history.
pub const HISTORY_BYTES_MAX: usize = 512 << 10;

/// Outbox bytes kept free for the answer to a publish or to a subscribe without publications: larger than any such reply.
pub const REPLY_BYTES: usize = 512;

/// Bytes that a shard writes to one socket in one call.
pub const WRITE_BYTES_MAX: usize = 256 << 10;

/// Commands of one client that a shard takes in one go: a message of its largest size may hold half a million empty ones, and other work of the
/// core comes between the parts. Fewer would cost honest batches (SDKs subscribe to all their subjects in one frame) a turn more.
pub const COMMANDS_AT_ONCE_MAX: u32 = 1_024;

/// Bytes that unfinished messages of clients may hold in one shard, whatever `connections.max` says: clients cannot make the node hold more by
/// beginning large messages on many connections. At least one message of the largest size, so that any can be sent.
pub const INBOUND_BYTES_MAX: usize = 256 << 20;

/// Unfinished messages up to this many bytes are always read: over the bound above, clients with small commands are still served.
pub const INBOUND_SMALL_BYTES: usize = 4 << 10;

/// Pieces of one write (IOV_MAX is 1,024; more than this gains nothing).
pub const WRITE_SLICES_MAX: usize = 64;

/// Bytes for one shard that may wait for the end of the turn before the shard stops taking work.
pub const TURN_BYTES_MAX: usize = 256 << 10;

/// Bytes on the way in one lane: several turns' worth, so that a shard that is busy for a few milliseconds stops nobody; twice the square of the
/// number of shards times this is what lanes may hold in all.
pub const LANE_BYTES_MAX: usize = 4 << 20;

/// How long a connection may linger to take its close frame.
pub const CLOSE_LINGER_MS: u64 = 2_000;

/// How long a home keeps the numeric id of a subject that it has forgotten: far longer than a client waits for an answer (5 s).
pub const ID_KEPT_MS: u64 = 60_000;

/// Numeric ids that a home has granted or keeps: some 150 bytes each. Subjects over it are called by their names.
pub const IDS_MAX: usize = 1 << 18;

/// How long a subscription that was left can go on where it ended: a client that leaves and comes back in one tick is back within this.
pub const LEFT_MS: u64 = 500;

/// Subscriptions of a shard that are remembered so, some 200 bytes each; the oldest go first, and start from now on when they come back.
pub const LEFT_MAX: usize = 1 << 14;

/// How long the answer "there is no such topic" is believed.
pub const TOPIC_ABSENT_MS: u64 = 1_000;

/// Topics that a shard counts missed publishes of, one by one; further ones are counted together.
pub const MISSED_TOPICS_MAX: usize = 256;

/// Topics whose absence is remembered, or that are being looked up.
pub const TOPIC_LOOKUPS_MAX: usize = 1_024;

/// Subjects of a shard that are live only because a record of them was found on a wrong partition: their keys are remembered, 1 KiB each at most
/// with the default of `subject.bytes.max`. More would let whoever may write to a topic fill memory; fewer, end positions in earnest too late.
pub const STRAYS_MAX: usize = 10_000;

/// Bytes of records that a shard takes in before it looks whether outboxes fill: a sixteenth of `outbox.bytes.max` within these. Larger would overrun
/// small outboxes, smaller would cost turns.
pub const PART_BYTES_MAX: usize = 64 << 10;
/// See [`PART_BYTES_MAX`].
pub const PART_BYTES_MIN: usize = 4 << 10;

/// How long Kafka waits for readers in any second, at most: a shard takes nothing in while outboxes of clients who read are more than half full. More
/// would let slow readers hold up the rest of their shard, less would let a burst of some megabytes throw out clients who read.
pub const INTAKE_WAIT_MS: u64 = 100;

/// A socket that has taken nothing for this long is no reason to wait: several round trips on a continent.
pub const STUCK_MS: u64 = 50;

/// Bytes of a token that are read: what HTTP servers take as a header, and more than any identity provider signs.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Bytes of a client's name and version that are kept: they are for people.
pub const LABEL_BYTES_MAX: usize = 64;

/// Bytes of messages whose commands wait, in one shard. Beyond, no socket of it is read until half of them have gone: who waits for Kafka, a topic
/// or a lane has an answer after 4.25 s at the latest, and who holds one because it does not read is sent away (3008).
pub const COMMANDS_HELD_BYTES_MAX: usize = 128 << 20;

/// Bytes of a position's epoch that are read: ours have 50 or so, a longer one is none.
pub const EPOCH_BYTES_MAX: usize = 64;

/// Bytes that requests may hold that wait at one home.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// How long the answer to "where does this log end" is waited for before it is asked again.
pub const LOG_END_MS: u64 = 1_000;

/// How often the log names such a subject, for each shard.
pub const STRAY_SAY_MS: u64 = 1_000;

/// Of the newest so many records of a topic, one in [`MISFITS_PER`] may be where its guessed rule does not put it. Fewer would let a short burst
/// count for much, more would notice another producer late.
pub const MISFIT_WINDOW: u64 = 10_000;

/// See [`MISFIT_WINDOW`]. A producer with another partitioner misplaces half of its records or more.
pub const MISFITS_PER: u64 = 100;

/// A connection closes at a drain after everything that it has said is answered, or this long after the last turn: longer than Kafka has for an
/// answer, shorter than [`END_MS`].
pub const DRAIN_PUBLISH_MS: u64 = 4_400;

/// A node ends this long after `drain.seconds` at the latest, whatever its clients, Kafka and its threads do: below 5 s, so that whoever waits for it
/// can count on those.
pub const END_MS: u64 = 4_900;

/// Tokens that a shard judges between two flushes. A signature costs some 5 us (HS256) to some 300 us (RS512 of 4,096 bits): the core is not
/// held for longer than a few milliseconds, and everybody else's records come between.
pub const TOKENS_AT_ONCE_MAX: u32 = 8;

/// Seconds before the end of a token at which its client is told to come with a new one, or a quarter of its time if that is less: SDKs ask their
/// application for it first, and try again when that fails.
pub const TOKEN_TTL_EARLY_S_MAX: u64 = 30;

const _: () = assert!(HOLD_MS < 5_000, "SDKs give up after 5 s");
const _: () = assert!(DRAIN_PUBLISH_MS < END_MS && END_MS < 5_000, "the last answers go out before the end");
const _: () = assert!(HOLD_MS < PUBLISH_MS && PUBLISH_MS + 10 * TICK_MS <= 4_500, "every publish is answered within 4.5 s");
const _: () = assert!(PUBLISH_MS + 10 * TICK_MS < DRAIN_PUBLISH_MS + 100, "a drain waits for the last answers");
const _: () = assert!(INTAKE_WAIT_MS >= 2 * STUCK_MS, "who gets stuck is noticed before the wait is spent");
const _: () = assert!(LOG_END_MS * 2 < HOLD_MS, "a lost answer is asked for again in time");
const _: () = assert!(TICK_MS * 10 <= HOLD_MS, "holds are measured in ticks");
const _: () = assert!(ANSWER_BYTES_MAX + REPLY_BYTES < 1 << 20, "some SDKs refuse frames over 1 MiB");
const _: () = assert!(WRITE_SLICES_MAX <= 1_024, "IOV_MAX");
const _: () = assert!(INBOUND_BYTES_MAX >= 2 * (2 * (64 << 20)), "two messages of twice the largest publish.bytes.max");
const _: () = assert!(MISFIT_WINDOW / 2 >= MISFITS_PER, "half a window can tell one in so many");
const _: () = assert!(LANE_BYTES_MAX >= 4 * TURN_BYTES_MAX, "a lane holds several turns");
