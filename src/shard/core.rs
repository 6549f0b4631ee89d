//! `ShardCore`: everything that one core knows, and every decision it takes.

use super::{Effects, Event, ShardCounters, ShardSettings};
use crate::handoff::{ConnectionKey, ShardId};

/// How often `Event::Tick` must come, in milliseconds: the grain of every timeout in here.
pub const TICK_MS: u64 = 10;

/// One shard's state machine: no I/O, no clock, no await.
pub struct ShardCore {
    shard: ShardId,
    settings: ShardSettings,
    counters: ShardCounters,
}

impl ShardCore {
    /// A shard of `shards`, with an empty topic map and no connections.
    pub fn new(shard: ShardId, _shards: u16, settings: ShardSettings) -> ShardCore {
        ShardCore { shard, settings, counters: ShardCounters::default() }
    }

    /// Takes one event. `now_ms` is monotonic and never goes back.
    pub fn handle<E: Effects>(&mut self, _now_ms: u64, _event: Event<'_>, _effects: &mut E) {
        let _ = (self.shard, &self.settings, &self.counters);
        todo!()
    }

    /// Ends a turn: sends what the events since the last flush had to say to other shards, and writes what waits in outboxes, one write per
    /// connection. Call it after every turn's events and whenever the executor wants to go on to other work.
    pub fn flush<E: Effects>(&mut self, _now_ms: u64, _effects: &mut E) {
        todo!()
    }

    /// Whether this connection may be read now. `Effects::resume_reading` tells when that may have changed to true.
    pub fn reads(&self, _connection: ConnectionKey) -> bool {
        todo!()
    }

    /// Whether lane messages toward home are taken now.
    pub fn drains_toward_home(&self) -> bool {
        todo!()
    }

    /// Whether records are taken from Kafka now.
    pub fn polls_kafka(&self) -> bool {
        todo!()
    }

    /// Whether a drain has come to its end: no connection and no open publish is left.
    pub fn drained(&self) -> bool {
        todo!()
    }

    /// The counters as they are.
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }
}
