//! The room's state, and what it takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::held::HeldRequests;
use super::misfits::MisfitWindow;
use super::strays::Strays;
use super::table::{CacheLimits, HomeTable, Push};
use crate::handoff::{FromHome, Generation, Offset, PartitionRef, ShardId, TopicIndex, TowardHome};
use crate::shard::counters::ShardCounters;
use crate::shard::effects::Effects;
use crate::shard::outgoing::Outgoing;
use crate::shard::settings::ShardSettings;
use crate::subject::{Epoch, Topic, TopicMap};

/// What a shard has to say, in both directions.
#[derive(Debug)]
pub(in crate::shard) struct Speech {
    pub toward_home: Outgoing<TowardHome>,
    pub from_home: Outgoing<FromHome>,
}

/// See the module's documentation.
pub(in crate::shard) struct Home {
    pub(super) shard: ShardId,
    pub(super) settings: Arc<ShardSettings>,
    pub(super) counters: ShardCounters,
    pub(super) map: Arc<TopicMap>,
    pub(super) table: HomeTable,
    pub(super) held: HeldRequests,
    pub(super) strays: Strays,
    /// Topics whose keys find other homes by the newest map, until every shard routes by it.
    pub(super) unsettled: BTreeSet<TopicIndex>,
    /// How many of the newest records of each topic with a guessed rule are not where that rule puts them.
    pub(super) misfits: HashMap<TopicIndex, MisfitWindow>,
    /// Room for the variants of one record.
    pub(super) made: Vec<Push>,
}

fn cache_limits(settings: &ShardSettings) -> CacheLimits {
    CacheLimits {
        bytes_max: settings.cache_bytes_max,
        records_max: settings.cache_records_max.max(1),
        subject_bytes_max: settings.cache_subject_bytes_max,
        expire_ms: settings.cache_expire_ms,
        push_bytes_max: settings.outbox_bytes_max,
    }
}

impl Home {
    /// One of `shards` shards, with an empty map.
    pub fn new(shard: ShardId, shards: u16, settings: Arc<ShardSettings>) -> Home {
        Home {
            shard,
            counters: ShardCounters::default(),
            map: Arc::default(),
            table: HomeTable::new(shard, shards, cache_limits(&settings)),
            held: HeldRequests::new(settings.held_max),
            strays: Strays::default(),
            unsettled: BTreeSet::new(),
            misfits: HashMap::new(),
            made: Vec::new(),
            settings,
        }
    }

    /// Settings that may change. A smaller cache is made smaller by the next records and the next expiry.
    pub fn take_settings(&mut self, settings: Arc<ShardSettings>) {
        self.table.take_limits(cache_limits(&settings));
        self.settings = settings;
    }

    /// What a shard says to this home.
    pub fn take(&mut self, now_ms: u64, from: ShardId, message: TowardHome, speech: &mut Speech, effects: &mut impl Effects) {
        match message {
            TowardHome::Subscribe(request) => self.subscribe(now_ms, now_ms + request.hold_ms, from, request, speech, effects),
            TowardHome::CatchUp(request) => self.catch_up(from, *request, speech),
            TowardHome::History(request) => self.history(now_ms, now_ms + request.hold_ms, from, request, speech, effects),
            TowardHome::Withdraw { topic, subject, local, variant } => self.withdraw(from, topic, &subject, local, variant),
            TowardHome::Records { partition, life, records, polled_us: _ } => {
                self.take_elsewhere(now_ms, partition, &life, records, speech)
            }
        }
    }

    /// Kafka has deleted everything of a partition below `start`.
    pub fn log_starts(&mut self, at: PartitionRef, generation: Generation, start: Offset) {
        self.table.log_starts(at, generation, start);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64, speech: &mut Speech) {
        self.expire_held(now_ms, speech);
    }

    /// When `tick` finds something to do.
    pub fn due_ms(&self) -> u64 {
        self.held.next_deadline_ms().unwrap_or(u64::MAX)
    }

    /// Ten times a second.
    pub fn expire(&mut self, now_ms: u64, effects: &mut impl Effects) {
        self.table.trim(now_ms);
        self.ask_again(now_ms, effects);
    }

    /// The counters of this room, with the gauges as they are now.
    pub fn counters(&mut self) -> &ShardCounters {
        let counters = &mut self.counters;
        counters.cache_bytes = self.table.bytes() as u64;
        counters.cache_encoded_bytes = self.table.encoded_bytes() as u64;
        counters.cache_records = self.table.records() as u64;
        counters.cache_evicted = self.table.evicted;
        counters.pushes_encoded = self.table.encoded;
        counters.records_oversize = self.table.oversize;
        counters.subjects = self.table.len() as u64;
        counters.channel_ids = self.table.ids() as u64;
        counters.requests_held_now = self.held.len() as u64;
        counters.requests_held_bytes = self.held.bytes() as u64;
        counters
    }

    /// Bytes that the cache holds.
    pub fn cache_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Requests that wait.
    pub fn requests_held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of those requests.
    pub fn requests_held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Subjects that some shard has subscribers of.
    pub fn wanted(&self) -> usize {
        self.table.wanted()
    }

    /// Those subjects, for the simulator's reports.
    pub fn wanted_subjects(&self) -> String {
        format!("{:?}", self.table.interests().collect::<Vec<_>>())
    }

    /// # Panics
    /// If an invariant does not hold. For tests and the simulator: walks everything.
    pub fn check(&self) {
        self.table.check();
        self.held.check();
    }
}

/// The epoch of positions in a log.
pub(super) fn epoch_text(topic: &Topic, partition: u32, leader_epoch: i32) -> Arc<str> {
    Arc::from(Epoch { topic_id: &topic.id, partition, leader_epoch }.to_string())
}
