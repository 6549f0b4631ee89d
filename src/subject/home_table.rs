//! The subjects that live on this shard: position, newest and recent records (the cache), and which shards want them.
//!
//! Owned by the shard's thread. Invariants:
//! * a record is in `arrivals` or in `kept` for as long as it is in its subject's `records`, and the first of a subject is the first evicted;
//! * a subject is complete from its `floor` on: every record of it with an offset at or above it that this shard has read is in `records`;
//! * a subject that is not in the table is complete from its partition's `floor` on (the table raises that floor when it forgets a subject);
//! * `bytes <= bytes_max` after every insert, except while a single record is larger.
//!
//! Never knows a connection: an interest names a shard, and that shard's own key of the subject.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slotmap::{SlotMap, new_key_type};
use std::hash::BuildHasher;

use super::{ChannelId, ChannelIds, SubjectName, ValueKind};
use crate::handoff::{Form, Generation, LocalSubjectKey, Offset, PartitionRef, Protocol, Record, ShardId, TopicIndex};
use crate::limits::STRAYS_MAX;
use crate::session::{Publication, encode_publication, encode_push};

new_key_type! {
    /// A subject that lives on this shard.
    pub struct HomeKey;
}

/// A remembered record, with what was made of it so far.
#[derive(Debug)]
pub struct CachedRecord {
    pub record: Record,
    /// The position it has; `None` in a live-only subject.
    pub offset: Option<Offset>,
    sequence: u64,
    arrived_ms: u64,
    weight: usize,
    encoded: Option<Box<Encoded>>,
}

/// The forms of a record that somebody wanted: each made once.
#[derive(Debug, Default)]
struct Encoded {
    pushes: [Option<Bytes>; Form::COUNT],
    publications: [Option<Bytes>; 2],
}

/// What a home knows of one subject.
#[derive(Debug)]
pub struct HomeSubject {
    pub topic: TopicIndex,
    /// The partition that its positions count in.
    pub partition: PartitionRef,
    pub name: SubjectName,
    pub id: ChannelId,
    pub recoverable: bool,
    pub kind: ValueKind,
    /// Complete from here on.
    pub floor: Offset,
    records: VecDeque<CachedRecord>,
    pub interest: Vec<Interest>,
}

/// A shard that has subscribers of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    pub shard: ShardId,
    pub local: LocalSubjectKey,
    /// Bit mask over `Form::index`: forms with live subscribers. 0 while all of them are catching up.
    pub forms: u8,
}

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
    pub expire_ms: u64,
    /// A push larger than this is announced without its value.
    pub push_bytes_max: usize,
}

/// The table.
#[derive(Debug)]
pub struct HomeTable {
    subjects: SlotMap<HomeKey, HomeSubject>,
    by_key: HashTable<HomeKey>,
    hasher: RandomState,
    pub partitions: HashMap<PartitionRef, HomePartition>,
    /// Every remembered record in order of arrival; entries whose record is gone are skipped.
    arrivals: VecDeque<(HomeKey, u64)>,
    /// Records past their time that are the newest of their subject: first to go when room is needed.
    kept: VecDeque<(HomeKey, u64)>,
    /// Keys whose subjects have no positions although their topic's rule gives them some: records of them were found elsewhere.
    strays: HashMap<TopicIndex, HashSet<Box<[u8]>>>,
    limits: CacheLimits,
    bytes: usize,
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

impl CachedRecord {
    fn encoded(&mut self) -> &mut Encoded {
        self.encoded.get_or_insert_default()
    }

    /// What the first kept form adds beside its bytes.
    fn encoded_weight(&self) -> usize {
        if self.encoded.is_some() { 0 } else { size_of::<Encoded>() }
    }
}

impl HomeSubject {
    /// Remembered records in order.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &CachedRecord> + ExactSizeIterator {
        self.records.iter()
    }

    /// The offset of a remembered record.
    pub fn offset_at(&self, index: usize) -> Option<Offset> {
        self.records.get(index).and_then(|cached| cached.offset)
    }

    /// Index of the first remembered record at or above an offset.
    pub fn index_from(&self, from: Offset) -> usize {
        self.records.partition_point(|cached| cached.offset.is_some_and(|offset| offset < from))
    }

    /// Whether a shard has an entry.
    pub fn interest_of(&mut self, shard: ShardId) -> Option<&mut Interest> {
        self.interest.iter_mut().find(|interest| interest.shard == shard)
    }

    /// Notes that a shard has subscribers; `live` of that form or catching up.
    pub fn want(&mut self, shard: ShardId, local: LocalSubjectKey, form: Form, live: bool) {
        let bit = if live { 1 << form.index() } else { 0 };
        match self.interest_of(shard) {
            Some(interest) if interest.local == local => interest.forms |= bit,
            Some(interest) => *interest = Interest { shard, local, forms: bit },
            None => self.interest.push(Interest { shard, local, forms: bit }),
        }
    }
}

impl HomeTable {
    /// An empty table.
    pub fn new(shard: ShardId, shards: u16, limits: CacheLimits) -> HomeTable {
        HomeTable {
            subjects: SlotMap::with_key(),
            by_key: HashTable::new(),
            hasher: RandomState::default(),
            partitions: HashMap::new(),
            arrivals: VecDeque::new(),
            kept: VecDeque::new(),
            strays: HashMap::new(),
            limits,
            bytes: 0,
            records: 0,
            sequence: 0,
            ids: ChannelIds::new(shard, shards),
            trimmed_ms: 0,
            evicted: 0,
            encoded: 0,
            oversize: 0,
        }
    }

    /// Bytes remembered now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records remembered now.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Subjects known now.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether no subject is known.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
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
        self.by_key.find(hash, |candidate| self.subjects[*candidate].is(topic, key)).copied()
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
        let subject = HomeSubject { topic, partition, name, id, recoverable, kind, floor, records: VecDeque::new(), interest: Vec::new() };
        let key = self.subjects.insert(subject);
        let (subjects, hasher) = (&self.subjects, &self.hasher);
        self.by_key.insert_unique(hash, key, |other| {
            let other = &subjects[*other];
            hasher.hash_one((other.topic, other.name.key().map(str::as_bytes)))
        });
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

    /// Remembers a record as the newest of its subject and evicts what no longer fits. The subject itself stays.
    pub fn push(&mut self, now_ms: u64, key: HomeKey, record: Record, offset: Option<Offset>) {
        self.sequence += 1;
        let weight = size_of::<CachedRecord>() + record.weight();
        self.bytes += weight;
        self.records += 1;
        let sequence = self.sequence;
        let subject = &mut self.subjects[key];
        subject.records.push_back(CachedRecord { record, offset, sequence, arrived_ms: now_ms, weight, encoded: None });
        self.arrivals.push_back((key, sequence));
        let expire_ms = self.limits.expire_ms;
        let expired = |cached: &CachedRecord| cached.arrived_ms + expire_ms <= now_ms;
        while self.subjects[key].records.len() > 1
            && (self.subjects[key].records.len() > self.limits.records_max || expired(&self.subjects[key].records[0]))
        {
            self.evict_first(key);
        }
    }

    /// Kafka has deleted everything of a partition below `start`.
    pub fn log_starts(&mut self, at: PartitionRef, generation: Generation, start: Offset) {
        if let Some(partition) = self.partitions.get_mut(&at).filter(|partition| partition.generation == generation) {
            partition.log_start = partition.log_start.max(start);
            partition.floor = partition.floor.max(start);
        }
    }

    /// Forgets of a subject what Kafka has deleted, before anything of it is handed out.
    pub fn forget_deleted(&mut self, key: HomeKey) {
        let subject = &self.subjects[key];
        let Some(start) = self.partitions.get(&subject.partition).map(|partition| partition.log_start) else {
            return;
        };
        while self.subjects[key].offset_at(0).is_some_and(|offset| offset < start) {
            self.evict_first(key);
        }
        let subject = &mut self.subjects[key];
        subject.floor = subject.floor.max(start);
    }

    /// Evicts what is past its time (the newest record of a subject is kept while there is room) or over the bound.
    pub fn trim(&mut self, now_ms: u64) {
        self.trimmed_ms = now_ms;
        self.ids.expire(now_ms);
        while let Some(&(key, sequence)) = self.arrivals.front() {
            let Some(first) = self.subjects.get(key).and_then(|subject| subject.records.front()) else {
                self.arrivals.pop_front();
                continue;
            };
            if first.sequence != sequence {
                self.arrivals.pop_front();
                continue;
            }
            if first.arrived_ms + self.limits.expire_ms > now_ms {
                break;
            }
            self.arrivals.pop_front();
            if self.subjects[key].records.len() > 1 {
                self.evict_first(key);
            } else {
                self.kept.push_back((key, sequence));
            }
        }
        while self.bytes > self.limits.bytes_max {
            let Some((key, sequence)) = self.kept.pop_front().or_else(|| self.arrivals.pop_front()) else {
                break;
            };
            if self.subjects.get(key).and_then(|subject| subject.records.front()).is_some_and(|first| first.sequence == sequence) {
                self.evict_first(key);
                self.forget_if_idle(key);
            }
        }
        // Entries whose record went early (over `records_max`) leave holes that only the front sees: sweep them when they outweigh the rest.
        if self.arrivals.len() > 64 + 2 * self.records {
            let subjects = &self.subjects;
            self.arrivals.retain(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.front()).is_some_and(|first| first.sequence <= *sequence)
            });
        }
        if self.kept.len() > 64 + 2 * self.subjects.len() {
            let subjects = &self.subjects;
            self.kept.retain(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.front()).is_some_and(|first| first.sequence == *sequence)
            });
        }
    }

    fn evict_first(&mut self, key: HomeKey) {
        let subject = &mut self.subjects[key];
        if let Some(cached) = subject.records.pop_front() {
            self.bytes -= cached.weight;
            self.records -= 1;
            self.evicted += 1;
            if let Some(offset) = cached.offset {
                subject.floor = subject.floor.max(offset.next());
            }
            if subject.records.is_empty() {
                subject.records.shrink_to_fit();
            }
        }
    }

    /// Forgets a subject that has neither records nor an interest.
    pub fn forget_if_idle(&mut self, key: HomeKey) {
        if self.subjects.get(key).is_some_and(|subject| subject.records.is_empty() && subject.interest.is_empty()) {
            self.forget(key);
        }
    }

    /// Forgets a subject and its records; its partition's floor rises past them.
    pub fn forget(&mut self, key: HomeKey) {
        while self.subjects.get(key).is_some_and(|subject| !subject.records.is_empty()) {
            self.evict_first(key);
        }
        let Some(subject) = self.subjects.remove(key) else {
            return;
        };
        self.bytes -= SUBJECT_WEIGHT + subject.name.as_str().len();
        let hash = self.hash(subject.topic, subject.name.key().map(str::as_bytes));
        if let Ok(entry) = self.by_key.find_entry(hash, |candidate| *candidate == key) {
            entry.remove();
        }
        if let Some(partition) = self.partitions.get_mut(&subject.partition).filter(|_| subject.recoverable) {
            partition.floor = partition.floor.max(subject.floor);
        }
        // Up to a tenth of a second ago; the id is kept that much longer.
        self.ids.keep(self.trimmed_ms + 100, subject.name, subject.id);
    }

    /// Whether a key's subject is a stray.
    pub fn is_stray(&self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        !self.strays.is_empty() && key.is_some_and(|key| self.strays.get(&topic).is_some_and(|strays| strays.contains(key)))
    }

    /// Takes a key's positions away; `false`: there are so many strays that no more are remembered.
    pub fn add_stray(&mut self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        let Some(key) = key.filter(|_| self.strays.values().map(HashSet::len).sum::<usize>() < STRAYS_MAX) else {
            return false;
        };
        self.strays.entry(topic).or_default().insert(Box::from(key))
    }

    /// The strays of a topic are none any more.
    pub fn forget_strays(&mut self, topic: TopicIndex) {
        self.strays.remove(&topic);
    }

    /// Forgets what is known of a subject that has become a stray. Its partition's floor stays: the other subjects are as complete as before, and this
    /// one has no positions until a map raises the floor.
    pub fn forget_stray(&mut self, key: HomeKey) {
        self.subjects[key].recoverable = false;
        self.forget(key);
    }

    /// The push of a remembered record for those who are live when it comes. It is not kept: who comes back for it later is rare, and it would more than
    /// double what a remembered record takes.
    pub fn live_frame(&mut self, key: HomeKey, index: usize, form: Form) -> Bytes {
        let subject = &self.subjects[key];
        let cached = &subject.records[index];
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, subject.kind, &cached.record, cached.offset, |publication| {
            encode_push(form, subject.name.as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The push of a remembered record in one form, made when first wanted by someone who catches up, and kept.
    pub fn push_frame(&mut self, key: HomeKey, index: usize, form: Form) -> Bytes {
        let subject = &mut self.subjects[key];
        let (name, id, kind) = (subject.name.clone(), subject.id.number(), subject.kind);
        let cached = &mut subject.records[index];
        let bookkeeping = cached.encoded_weight();
        if let Some(frame) = &cached.encoded().pushes[form.index()] {
            return frame.clone();
        }
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, kind, &cached.record, cached.offset, |publication| {
            encode_push(form, name.as_str(), id, publication)
        });
        cached.encoded().pushes[form.index()] = Some(frame.clone());
        cached.weight += bookkeeping + frame.len();
        self.bytes += bookkeeping + frame.len();
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The push of a record that has no position and is not remembered.
    pub fn passing_frame(&mut self, key: HomeKey, record: &Record, form: Form) -> Bytes {
        let subject = &self.subjects[key];
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, subject.kind, record, None, |publication| {
            encode_push(form, subject.name.as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The publication of a remembered record in one encoding, made when first wanted.
    pub fn publication(&mut self, key: HomeKey, index: usize, protocol: Protocol) -> Bytes {
        let subject = &mut self.subjects[key];
        let place = protocol as usize;
        let kind = subject.kind;
        let cached = &mut subject.records[index];
        let bookkeeping = cached.encoded_weight();
        if let Some(publication) = &cached.encoded().publications[place] {
            return publication.clone();
        }
        let (encoded, oversize) = encode_within(self.limits.push_bytes_max, kind, &cached.record, cached.offset, |publication| {
            encode_publication(protocol, publication)
        });
        cached.encoded().publications[place] = Some(encoded.clone());
        cached.weight += bookkeeping + encoded.len();
        self.bytes += bookkeeping + encoded.len();
        self.oversize += u64::from(oversize);
        encoded
    }

    /// Checks the invariants of the module's head. For tests and the simulator: walks everything.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        let records: usize = self.subjects.values().map(|subject| subject.records.len()).sum();
        assert_eq!(records, self.records, "records are counted");
        let weights: usize = self
            .subjects
            .values()
            .map(|subject| SUBJECT_WEIGHT + subject.name.as_str().len() + subject.records.iter().map(|cached| cached.weight).sum::<usize>())
            .sum();
        assert_eq!(weights, self.bytes, "bytes are counted");
        assert_eq!(self.by_key.len(), self.subjects.len(), "every subject is found by its key");
        for subject in self.subjects.values() {
            assert!(subject.records.len() <= self.limits.records_max, "records per subject are bounded");
            assert!(
                subject.records.iter().zip(subject.records.iter().skip(1)).all(|(one, two)| one.sequence < two.sequence),
                "records are in order"
            );
        }
    }
}

impl HomeSubject {
    fn is(&self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        self.topic == topic && self.name.key().map(str::as_bytes) == key
    }
}

/// Encodes a record; if that is larger than an outbox may hold, announces it without its value.
fn encode_within(
    bytes_max: usize,
    kind: ValueKind,
    record: &Record,
    offset: Option<Offset>,
    encode: impl Fn(&Publication<'_>) -> Bytes,
) -> (Bytes, bool) {
    let mut publication = Publication {
        value: record.value.as_deref(),
        kind,
        offset,
        timestamp_ms: record.timestamp_ms,
        tags: &record.headers,
        oversize: false,
    };
    let heavy =
        record.value.as_ref().map_or(0, Bytes::len) + record.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if heavy <= bytes_max {
        let encoded = encode(&publication);
        if encoded.len() <= bytes_max {
            return (encoded, false);
        }
    }
    publication.oversize = true;
    publication.value = Some(&[]);
    publication.tags = &[];
    (encode(&publication), true)
}
