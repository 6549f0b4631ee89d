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

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use slotmap::{SlotMap, new_key_type};
use std::hash::BuildHasher;

use crate::handoff::{Generation, LocalSubjectKey, Offset, PartitionRef, Protocol, Record, ShardId, TopicIndex, Variant};
use crate::session::{Publication, encode_publication, encode_push};
use crate::subject::{ChannelId, ChannelIds, SubjectName, ValueKind};

new_key_type! {
    /// A subject that lives on this shard.
    pub struct HomeKey;
}

/// A remembered record. Its key is its subject's.
#[derive(Debug)]
pub struct CachedRecord {
    value: Option<Bytes>,
    headers: Box<[(Bytes, Bytes)]>,
    timestamp_ms: i64,
    /// The position it has; `None` in a live-only subject.
    offset: Option<Offset>,
    sequence: u64,
    arrived_ms: u64,
    encoded: Option<Box<Encoded>>,
}

/// What somebody wanted of a record: each made once.
#[derive(Debug, Default)]
struct Encoded {
    pushes: Vec<(Variant, Bytes)>,
    publications: Vec<(Protocol, Bytes)>,
    bytes: usize,
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
    /// What they weigh, without encodings and without the queue itself.
    bytes: usize,
    interest: Vec<Interest>,
}

/// A shard that has subscribers of the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    pub shard: ShardId,
    pub local: LocalSubjectKey,
    /// Those with live subscribers. None while all of them are catching up.
    pub variants: Vec<Variant>,
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
    pub subject_bytes_max: usize,
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
    partitions: HashMap<PartitionRef, HomePartition>,
    /// Every remembered record in order of arrival; entries whose record is gone are skipped.
    arrivals: VecDeque<(HomeKey, u64)>,
    /// Records past their time that are the newest of their subject: first to go when room is needed.
    kept: VecDeque<(HomeKey, u64)>,
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

/// What a record takes in the queues of its table, which grow by doubling.
const QUEUE_WEIGHT: usize = 2 * size_of::<(HomeKey, u64)>();

/// What an allocation of bytes that slices share takes beside them: the counter of `Bytes`, and the allocator's own.
const SHARED_WEIGHT: usize = 48;

/// Of the cache's bytes, one in so many may be encodings.
const ENCODINGS_PER: usize = 8;

impl CachedRecord {
    fn publication(&self, kind: ValueKind) -> Publication<'_> {
        Publication {
            value: self.value.as_deref(),
            kind,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            tags: &self.headers,
            oversize: false,
        }
    }

    /// What it takes beside its place in its subject's queue, without what was encoded of it.
    fn weight(&self, key: usize) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<Bytes>()).sum();
        let value = self.value.as_ref().map_or(0, Bytes::len);
        let shared = if key + value + headers > 0 { SHARED_WEIGHT } else { 0 };
        QUEUE_WEIGHT + shared + key + value + headers
    }
}

impl Encoded {
    fn weight(&self) -> usize {
        size_of::<Encoded>() + QUEUE_WEIGHT + self.bytes
    }

    fn add(&mut self, bytes: &Bytes) {
        // A list of one that may become one of two.
        self.bytes += 4 * size_of::<(Variant, Bytes)>() + SHARED_WEIGHT + bytes.len();
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

    /// Who has subscribers.
    pub fn interest(&self) -> &[Interest] {
        &self.interest
    }

    /// Nobody has any more.
    pub fn take_interest(&mut self) -> Vec<Interest> {
        std::mem::take(&mut self.interest)
    }

    /// Notes that a shard has subscribers; `live` of that variant or catching up.
    pub fn want(&mut self, shard: ShardId, local: LocalSubjectKey, variant: Variant, live: bool) {
        let place = self.interest.iter().position(|interest| interest.shard == shard).unwrap_or_else(|| {
            self.interest.push(Interest { shard, local, variants: Vec::new() });
            self.interest.len() - 1
        });
        let interest = &mut self.interest[place];
        if interest.local != local {
            *interest = Interest { shard, local, variants: Vec::new() };
        }
        if live && !interest.variants.contains(&variant) {
            interest.variants.push(variant);
        }
    }

    /// A shard has no live subscriber of that variant any more; `None`: it has no subscriber at all.
    pub fn withdraw(&mut self, shard: ShardId, local: LocalSubjectKey, variant: Option<Variant>) {
        let same = |interest: &Interest| interest.shard == shard && interest.local == local;
        match variant {
            Some(variant) => {
                if let Some(interest) = self.interest.iter_mut().find(|interest| same(interest)) {
                    interest.variants.retain(|other| *other != variant);
                }
            }
            None => self.interest.retain(|interest| !same(interest)),
        }
    }

    fn key_len(&self) -> usize {
        self.name.key().map_or(0, str::len)
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

    /// Bytes remembered now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records remembered now.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Of them, what was encoded for those who catch up or ask for history.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
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
        let subject =
            HomeSubject { topic, partition, name, id, recoverable, kind, floor, records: VecDeque::new(), bytes: 0, interest: Vec::new() };
        let key = self.subjects.insert(subject);
        let (subjects, hasher) = (&self.subjects, &self.hasher);
        self.by_key.insert_unique(hash, key, |other| {
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
        let capacity = subject.records.capacity();
        subject.records.push_back(cached);
        self.bytes += (subject.records.capacity() - capacity) * size_of::<CachedRecord>();
        self.arrivals.push_back((key, sequence));
        let expire_ms = self.limits.expire_ms;
        let expired = |cached: &CachedRecord| cached.arrived_ms + expire_ms <= now_ms;
        while self.subjects[key].records.len() > 1
            && (self.subjects[key].records.len() > self.limits.records_max
                || self.subjects[key].bytes > self.limits.subject_bytes_max
                || expired(&self.subjects[key].records[0]))
        {
            self.evict_first(key);
        }
        self.make_room(Some(sequence));
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
        self.make_room(None);
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

    /// Evicts what does not fit: encodings first, then records past their time, then the oldest; never the record `but`.
    fn make_room(&mut self, but: Option<u64>) {
        self.trim_encodings();
        while self.bytes > self.limits.bytes_max {
            let Some((key, sequence)) = self.kept.pop_front().or_else(|| self.arrivals.pop_front()) else {
                break;
            };
            if Some(sequence) == but {
                self.arrivals.push_front((key, sequence));
                break;
            }
            if self.subjects.get(key).and_then(|subject| subject.records.front()).is_some_and(|first| first.sequence == sequence) {
                self.evict_first(key);
                self.forget_if_idle(key);
            }
        }
    }

    fn trim_encodings(&mut self) {
        let budget = self.limits.bytes_max / ENCODINGS_PER;
        while self.encoded_bytes > budget || self.encoded_bytes > 0 && self.bytes > self.limits.bytes_max {
            let Some((key, sequence)) = self.encodings.pop_front() else {
                break;
            };
            self.forget_encodings(key, sequence);
        }
        // Those whose record went before leave entries that only the front sees.
        if self.encodings.len() > 64 + 2 * self.records {
            let subjects = &self.subjects;
            self.encodings.retain(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.front()).is_some_and(|first| first.sequence <= *sequence)
            });
        }
    }

    fn forget_encodings(&mut self, key: HomeKey, sequence: u64) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        let place = subject.records.partition_point(|cached| cached.sequence < sequence);
        if let Some(cached) = subject.records.get_mut(place).filter(|cached| cached.sequence == sequence)
            && let Some(encoded) = cached.encoded.take()
        {
            self.bytes -= encoded.weight();
            self.encoded_bytes -= encoded.weight();
        }
    }

    fn evict_first(&mut self, key: HomeKey) {
        let subject = &mut self.subjects[key];
        let key_len = subject.key_len();
        if let Some(cached) = subject.records.pop_front() {
            let weight = cached.weight(key_len);
            self.bytes -= weight;
            subject.bytes -= weight;
            if let Some(encoded) = &cached.encoded {
                self.bytes -= encoded.weight();
                self.encoded_bytes -= encoded.weight();
            }
            self.records -= 1;
            self.evicted += 1;
            if let Some(offset) = cached.offset {
                subject.floor = subject.floor.max(offset.next());
            }
            // A burst leaves no memory behind.
            let capacity = subject.records.capacity();
            if subject.records.is_empty() || capacity > 64 && subject.records.len() < capacity / 4 {
                subject.records.shrink_to(2 * subject.records.len());
                self.bytes -= (capacity - subject.records.capacity()) * size_of::<CachedRecord>();
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
        self.bytes -= SUBJECT_WEIGHT + subject.name.as_str().len() + subject.records.capacity() * size_of::<CachedRecord>();
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

    /// Forgets what is known of a subject that has become a stray. Its partition's floor stays: the other subjects are as complete as before, and this
    /// one has no positions until a map raises the floor.
    pub fn forget_stray(&mut self, key: HomeKey) {
        self.subjects[key].recoverable = false;
        self.forget(key);
    }

    /// The push of the newest record for those who are live when it comes. It is not kept: who comes back for it later is rare, and it would more than
    /// double what a remembered record takes.
    pub fn live_frame(&mut self, key: HomeKey, variant: Variant) -> Bytes {
        let subject = &self.subjects[key];
        let cached = subject.records.back().expect("a record was pushed");
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_push(variant, subject.name.as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The push of a remembered record in one variant, made when first wanted by someone who catches up, and kept for the next.
    pub fn push_frame(&mut self, key: HomeKey, index: usize, variant: Variant) -> Bytes {
        let subject = &self.subjects[key];
        let cached = &subject.records[index];
        let made = cached.encoded.as_ref().and_then(|encoded| encoded.pushes.iter().find(|(other, _)| *other == variant));
        if let Some((_, frame)) = made {
            return frame.clone();
        }
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_push(variant, subject.name.as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        self.keep_encoding(key, index, &frame, |encoded| encoded.pushes.push((variant, frame.clone())));
        frame
    }

    /// The push of a record that has no position and is not remembered.
    pub fn passing_frame(&mut self, key: HomeKey, record: &Record, variant: Variant) -> Bytes {
        let subject = &self.subjects[key];
        let publication = Publication {
            value: record.value.as_deref(),
            kind: subject.kind,
            offset: None,
            timestamp_ms: record.timestamp_ms,
            tags: &record.headers,
            oversize: false,
        };
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, publication, |publication| {
            encode_push(variant, subject.name.as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The publication of a remembered record in one encoding, made when first wanted, and kept for the next.
    pub fn publication(&mut self, key: HomeKey, index: usize, protocol: Protocol) -> Bytes {
        let subject = &self.subjects[key];
        let cached = &subject.records[index];
        let made = cached.encoded.as_ref().and_then(|encoded| encoded.publications.iter().find(|(other, _)| *other == protocol));
        if let Some((_, publication)) = made {
            return publication.clone();
        }
        let (encoded, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_publication(protocol, publication)
        });
        self.oversize += u64::from(oversize);
        self.keep_encoding(key, index, &encoded, |kept| kept.publications.push((protocol, encoded.clone())));
        encoded
    }

    /// Keeps an encoding. Evicts older encodings for it, or this one, but no record: reading makes nobody miss anything.
    fn keep_encoding(&mut self, key: HomeKey, index: usize, bytes: &Bytes, keep: impl FnOnce(&mut Encoded)) {
        let cached = &mut self.subjects[key].records[index];
        let before = cached.encoded.as_ref().map_or(0, |encoded| encoded.weight());
        if before == 0 {
            self.encodings.push_back((key, cached.sequence));
        }
        let encoded = cached.encoded.get_or_insert_default();
        keep(encoded);
        encoded.add(bytes);
        let added = encoded.weight() - before;
        self.bytes += added;
        self.encoded_bytes += added;
        self.trim_encodings();
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
            let subject = SUBJECT_WEIGHT + subject.name.as_str().len() + subject.records.capacity() * size_of::<CachedRecord>();
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

impl HomeSubject {
    fn is(&self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        self.topic == topic && self.name.key().map(str::as_bytes) == key
    }
}

/// Encodes a record; if that is larger than an outbox may hold, announces it without its value.
fn encode_within(bytes_max: usize, mut publication: Publication<'_>, encode: impl Fn(&Publication<'_>) -> Bytes) -> (Bytes, bool) {
    let heavy =
        publication.value.map_or(0, <[u8]>::len) + publication.tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
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
