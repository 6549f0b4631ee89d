//! The subjects that live on this shard: position, newest and recent records (the cache), and which shards want them.
//!
//! Owned by the shard's thread. Invariants:
//! * a record is in `arrivals` or in `kept` for as long as it is in its subject's `records`, and the first of a subject is the first evicted;
//! * what was encoded of a record is in `encodings` for as long as it is kept; encodings have a budget of their own and go before any record;
//! * a subject is complete from its `floor` on: every record of it with an offset at or above it that this shard has read is in `records`;
//! * a subject that is not in the table is complete from its partition's `floor` on (the table raises that floor when it forgets a subject);
//! * `bytes <= bytes_max` after every call, except while the subjects alone, or a single record, are larger.
//!
//! Never knows a connection: an interest names a shard, and that shard's own key of the subject.

mod encodings;
mod eviction;
mod line;
mod names;
mod recent;
mod slots;
mod subject;

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::BuildHasher;

use crate::handoff::{Generation, Offset, PartitionRef, Record, ShardId, TopicIndex};
use crate::subject::{ChannelId, ChannelIds, SubjectName, ValueKind};

use line::Line;
use names::Names;
use recent::Recent;
use slots::Slots;

pub use slots::HomeKey;
pub use subject::{CachedRecord, HomeSubject, Interest, Push};

/// A partition that lives on this shard.
#[derive(Debug)]
pub struct HomePartition {
    pub generation: Generation,
    /// Everything below has been read.
    pub next: Offset,
    /// Kafka has deleted everything below: what is remembered of it is not handed out, and goes when its subject is looked at or its time is over.
    pub log_start: Offset,
    /// Subjects that are not in the table are complete from here on.
    pub floor: Offset,
    pub ready_at: Offset,
    pub leader_epoch: i32,
    /// Positions of leader epochs up to this one count in a log that an earlier generation read: records of it may be lost and their offsets given to
    /// others. The leader epochs of positions given now are higher.
    pub lost_up_to: Option<i32>,
    /// The epoch text of positions given now.
    pub epoch: std::sync::Arc<str>,
    /// Reading has begun (the map is active).
    pub active: bool,
    /// Read up to `ready_at` at least once.
    pub ready: bool,
}

/// Limits of the cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    pub bytes_max: usize,
    pub records_max: usize,
    pub subject_bytes_max: usize,
    pub expire_ms: u64,
    /// A push larger than this is announced without its value.
    pub push_bytes_max: usize,
}

/// The table.
#[derive(Debug)]
pub struct HomeTable {
    subjects: Slots<HomeSubject>,
    by_key: Names,
    hasher: RandomState,
    partitions: HashMap<PartitionRef, HomePartition>,
    /// Every remembered record in order of arrival; entries whose record is gone are skipped.
    arrivals: Line<(HomeKey, u64)>,
    /// Records past their time that are the newest of their subject: first to go when room is needed.
    kept: Line<(HomeKey, u64)>,
    /// Records with encodings, the oldest encoding first; entries whose encodings are gone are skipped.
    encodings: VecDeque<(HomeKey, u64)>,
    limits: CacheLimits,
    /// Of subjects, records and encodings.
    bytes: usize,
    encoded_bytes: usize,
    records: usize,
    sequence: u64,
    ids: ChannelIds,
    /// When `trim` was called last.
    trimmed_ms: u64,
    pub evicted: u64,
    pub encoded: u64,
    pub oversize: u64,
}

/// Bookkeeping of a subject in the table, beside its name and its records.
const SUBJECT_WEIGHT: usize = size_of::<HomeSubject>() + 64;

/// Of the cache's bytes, one in so many may be encodings.
const ENCODINGS_PER: usize = 8;

impl HomeTable {
    /// An empty table.
    pub fn new(shard: ShardId, shards: u16, limits: CacheLimits) -> HomeTable {
        HomeTable {
            subjects: Slots::default(),
            by_key: Names::default(),
            hasher: RandomState::default(),
            partitions: HashMap::new(),
            arrivals: Line::default(),
            kept: Line::default(),
            encodings: VecDeque::new(),
            limits,
            bytes: 0,
            encoded_bytes: 0,
            records: 0,
            sequence: 0,
            ids: ChannelIds::new(shard, shards),
            trimmed_ms: 0,
            evicted: 0,
            encoded: 0,
            oversize: 0,
        }
    }

    /// Other limits; what does not fit any more is evicted. Walks every subject if a subject's own limits became smaller.
    pub fn take_limits(&mut self, limits: CacheLimits) {
        let is_smaller = limits.records_max < self.limits.records_max || limits.subject_bytes_max < self.limits.subject_bytes_max;
        self.limits = limits;
        let keys: Vec<HomeKey> = if is_smaller { self.subjects.keys().collect() } else { Vec::new() };
        for key in keys {
            while self.is_over_limits(&self.subjects[key]) {
                self.evict_first(key);
            }
        }
        self.make_room(None);
    }

    /// Whether a subject has more than its own limits allow; the newest record is always kept.
    fn is_over_limits(&self, subject: &HomeSubject) -> bool {
        subject.records.len() > 1 && (subject.records.len() > self.limits.records_max || subject.bytes > self.limits.subject_bytes_max)
    }

    /// Whether it is over its limits, or has more than the newest record and the first is past its time.
    fn has_too_much(&self, now_ms: u64, subject: &HomeSubject) -> bool {
        let expired = |first: &CachedRecord| first.arrived_ms + self.limits.expire_ms <= now_ms;
        self.is_over_limits(subject) || subject.records.len() > 1 && subject.records.first().is_some_and(expired)
    }

    /// Bytes remembered now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records remembered now.
    pub fn records(&self) -> usize {
        self.records
    }

    /// A partition that lives here.
    pub fn partition(&self, at: PartitionRef) -> Option<&HomePartition> {
        self.partitions.get(&at)
    }

    /// The same, as it goes on.
    pub fn partition_mut(&mut self, at: PartitionRef) -> Option<&mut HomePartition> {
        self.partitions.get_mut(&at)
    }

    /// A partition lives here from now on, in that state.
    pub fn open_partition(&mut self, at: PartitionRef, partition: HomePartition) {
        self.partitions.insert(at, partition);
    }

    /// It does not any more.
    pub fn close_partition(&mut self, at: PartitionRef) -> Option<HomePartition> {
        self.partitions.remove(&at)
    }

    /// Subjects known now.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Subjects that some shard has subscribers of, and which those are.
    pub fn interests(&self) -> impl Iterator<Item = (&SubjectName, &[Interest])> {
        self.subjects.values().filter(|subject| !subject.interest.is_empty()).map(|subject| (&subject.name, &subject.interest[..]))
    }

    /// Subjects that some shard has subscribers of.
    pub fn wanted(&self) -> usize {
        self.subjects.values().filter(|subject| !subject.interest.is_empty()).count()
    }

    fn hash(&self, topic: TopicIndex, key: Option<&[u8]>) -> u64 {
        self.hasher.hash_one((topic, key))
    }

    /// A known subject by topic and key.
    pub fn find(&self, topic: TopicIndex, key: Option<&[u8]>) -> Option<HomeKey> {
        let hash = self.hash(topic, key);
        self.by_key.find(hash, |candidate| self.subjects[*candidate].is(topic, key))
    }

    /// A known subject.
    pub fn get(&self, subject: HomeKey) -> &HomeSubject {
        &self.subjects[subject]
    }

    /// A known subject, to change its interest.
    pub fn get_mut(&mut self, subject: HomeKey) -> &mut HomeSubject {
        &mut self.subjects[subject]
    }

    /// Keys of all subjects of a topic. Walks the table: for changes of the map only.
    pub fn of_topic(&self, topic: TopicIndex) -> Vec<HomeKey> {
        self.subjects.iter().filter(|(_, subject)| subject.topic == topic).map(|(key, _)| key).collect()
    }

    /// Makes a subject known. It is complete from its partition's floor on.
    pub fn insert(&mut self, name: SubjectName, partition: PartitionRef, recoverable: bool, kind: ValueKind) -> HomeKey {
        let floor = self.partitions.get(&partition).map_or(Offset(0), |partition| partition.floor);
        let hash = self.hash(partition.topic, name.key().map(str::as_bytes));
        let id = ChannelId::Unasked;
        self.bytes += SUBJECT_WEIGHT + name.as_str().len();
        let topic = partition.topic;
        let subject = HomeSubject {
            topic,
            partition,
            name,
            id,
            recoverable,
            kind,
            floor,
            records: Recent::default(),
            bytes: 0,
            interest: Vec::new(),
        };
        let key = self.subjects.insert(subject);
        let (subjects, hasher) = (&self.subjects, &self.hasher);
        self.by_key.insert(hash, key, |other| {
            let other = &subjects[*other];
            hasher.hash_one((other.topic, other.name.key().map(str::as_bytes)))
        });
        self.make_room(None);
        key
    }

    /// The numeric id of a subject, for a subscriber who offers to understand it; 0 if it is called by its name.
    pub fn grant_id(&mut self, key: HomeKey) -> u64 {
        let subject = &mut self.subjects[key];
        if subject.id == ChannelId::Unasked {
            subject.id = self.ids.grant(&subject.name);
        }
        subject.id.number()
    }

    /// Numeric ids granted now, or kept for subjects that were forgotten.
    pub fn ids(&self) -> usize {
        self.ids.len()
    }

    /// Remembers a record as the newest of its subject and evicts what no longer fits. The record itself and its subject stay.
    pub fn push(&mut self, now_ms: u64, key: HomeKey, record: Record, offset: Option<Offset>) {
        self.sequence += 1;
        self.records += 1;
        let sequence = self.sequence;
        let subject = &mut self.subjects[key];
        let Record { value, headers, timestamp_ms, .. } = record;
        let cached = CachedRecord { value, headers, timestamp_ms, offset, sequence, arrived_ms: now_ms, encoded: None };
        let weight = cached.weight(subject.key_len());
        self.bytes += weight;
        subject.bytes += weight;
        let before = subject.records.heap_bytes();
        subject.records.push(cached);
        self.bytes += subject.records.heap_bytes() - before;
        self.arrivals.push_back((key, sequence));
        while self.has_too_much(now_ms, &self.subjects[key]) {
            self.evict_first(key);
        }
        self.make_room(Some(sequence));
    }

    /// Checks the invariants of the module's head. For tests and the simulator: walks everything.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        let count: usize = self.subjects.values().map(|subject| subject.records.len()).sum();
        assert_eq!(count, self.records, "records are counted");
        let weight = |subject: &HomeSubject| {
            let records: usize = subject.records.iter().map(|cached| cached.weight(subject.key_len())).sum();
            let encoded: usize = subject.records.iter().filter_map(|cached| cached.encoded.as_ref()).map(|encoded| encoded.weight()).sum();
            let subject = SUBJECT_WEIGHT + subject.name.as_str().len() + subject.records.heap_bytes();
            (subject, records, encoded)
        };
        let (mut subjects, mut records, mut encoded) = (0, 0, 0);
        for subject in self.subjects.values() {
            let weight = weight(subject);
            (subjects, records, encoded) = (subjects + weight.0, records + weight.1, encoded + weight.2);
        }
        assert_eq!(subjects + records + encoded, self.bytes, "bytes are counted");
        assert_eq!(encoded, self.encoded_bytes, "bytes of encodings are counted");
        assert!(encoded <= self.limits.bytes_max / ENCODINGS_PER, "encodings have their budget");
        assert!(
            self.bytes <= self.limits.bytes_max || self.records <= 1 || encoded == 0 && subjects > self.limits.bytes_max,
            "bytes are bounded"
        );
        assert_eq!(self.by_key.len(), self.subjects.len(), "every subject is found by its key");
        for subject in self.subjects.values() {
            let bytes: usize = subject.records.iter().map(|cached| cached.weight(subject.key_len())).sum();
            assert_eq!(bytes, subject.bytes, "bytes of a subject are counted");
            let bounded = subject.records.len() <= self.limits.records_max && bytes <= self.limits.subject_bytes_max;
            assert!(bounded || subject.records.len() <= 1, "records per subject are bounded");
            assert!(
                subject.records.iter().zip(subject.records.iter().skip(1)).all(|(one, two)| one.sequence < two.sequence),
                "records are in order"
            );
        }
    }
}
