//! The fake Kafka: logs that keep everything, for they are also the truth that the oracle compares with.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use hashbrown::HashMap;

use super::names::Rule;
use crate::handoff::{Offset, Record};

/// What a cache counts for a record beside its value, at most: its key, its subject, and what finds them.
const RECORD_BYTES: usize = 600;

/// A record as it stands in a log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub offset: i64,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Unique in a world; it is the record's timestamp, so that every publication can be told from every other.
    pub number: u64,
    /// Not where the topic's rule puts its key.
    pub misplaced: bool,
    pub leader_epoch: i32,
    /// The number of the publish that it is, if the bridge wrote it.
    pub publish: u64,
}

/// A log as it was until records at its end were lost in an unclean election: then the next era begins.
#[derive(Clone, Debug, Default)]
pub struct Era {
    pub records: Vec<LogRecord>,
    pub end: i64,
    /// Retention has deleted what is below. The records stay here as the truth, but nobody can fetch them.
    pub start: i64,
    /// Offsets from here on are not those of the era before.
    pub forks_at: i64,
    /// Leader epochs of this era begin here.
    epoch: i32,
    /// Places in `records` by key.
    by_key: HashMap<Vec<u8>, Vec<usize>>,
    /// The same of records without a key.
    keyless: Vec<usize>,
}

/// A partition's log. Offsets have gaps: transaction markers, compaction.
#[derive(Clone, Debug)]
pub struct Log {
    /// The last one is the present.
    pub eras: Vec<Era>,
    /// Compacted before any node read it: what is below is not complete.
    pub compacted_below: i64,
}

/// One life of a topic: made again it is another one, with another id.
#[derive(Clone, Debug)]
pub struct Incarnation {
    pub id: Arc<str>,
    pub logs: Vec<Log>,
    pub earlier_counts: Vec<u32>,
    /// The rule that its producers follow.
    pub rule: Rule,
    /// `cleanup.policy = compact`.
    pub compacted: bool,
}

/// A topic with all its lives; the last one is the present.
#[derive(Clone, Debug)]
pub struct FakeTopic {
    pub name: Arc<str>,
    pub lives: Vec<Incarnation>,
    pub exists: bool,
    /// It appeared after some node had read the cluster.
    pub is_late: bool,
}

/// The cluster.
#[derive(Debug, Default)]
pub struct FakeKafka {
    pub topics: Vec<FakeTopic>,
    next_number: u64,
    next_id: u64,
    /// Grows with every change of a log or of the cluster.
    pub changes: u64,
    /// Bytes of records that were ever written, about as a cache counts them.
    pub bytes: usize,
    /// Grows with every change of topics and partitions.
    pub shape: u64,
    /// The partition that producers write most records without a key to; `None`: to any.
    pub keyless_to: Option<u32>,
}

impl Era {
    /// Appends a record after a gap.
    fn append(&mut self, mut record: LogRecord, gap: i64) -> i64 {
        self.end += gap;
        record.offset = self.end;
        record.leader_epoch = self.epoch + (self.end / 20) as i32;
        self.end += 1;
        self.keep(record);
        self.end - 1
    }

    fn keep(&mut self, record: LogRecord) {
        let places = match &record.key {
            Some(key) => self.by_key.entry_ref(&key[..]).or_default(),
            None => &mut self.keyless,
        };
        places.push(self.records.len());
        self.records.push(record);
    }

    /// The first record of a key at or above an offset.
    pub fn next_of(&self, key: Option<&[u8]>, from: i64) -> Option<&LogRecord> {
        self.range_of(key, from, i64::MAX).next()
    }

    /// The records of a key from an offset to below another.
    pub fn range_of(&self, key: Option<&[u8]>, from: i64, below: i64) -> impl DoubleEndedIterator<Item = &LogRecord> + ExactSizeIterator {
        let places = key.map_or(Some(&self.keyless), |key| self.by_key.get(key)).map_or(&[][..], Vec::as_slice);
        let first = places.partition_point(|place| self.records[*place].offset < from);
        let last = places.partition_point(|place| self.records[*place].offset < below).max(first);
        places[first..last].iter().map(|place| &self.records[*place])
    }

    /// Records from an offset on.
    pub fn from(&self, offset: i64) -> &[LogRecord] {
        let at = self.records.partition_point(|record| record.offset < offset);
        &self.records[at..]
    }

    /// The leader epoch of its end, as Kafka tells it; -1 if it is empty.
    pub fn leader_epoch(&self) -> i32 {
        self.records.last().map_or(-1, |record| record.leader_epoch)
    }

    /// This era without the records from `to` on.
    fn fork(&self, to: i64) -> Era {
        let kept = self.records.iter().filter(|record| record.offset < to).cloned();
        Era { start: self.start.min(to), forks_at: to, ..Era::of(kept, self.epoch + 1_000, to) }
    }

    /// An era of records that keep their offsets.
    fn of(records: impl Iterator<Item = LogRecord>, epoch: i32, end: i64) -> Era {
        let mut era = Era { end, epoch, ..Era::default() };
        for record in records {
            era.keep(record);
        }
        era
    }
}

impl Log {
    fn new() -> Log {
        Log { eras: vec![Era::default()], compacted_below: 0 }
    }

    /// The log as it is now.
    pub fn now(&self) -> &Era {
        self.eras.last().expect("a log has an era")
    }

    fn now_mut(&mut self) -> &mut Era {
        self.eras.last_mut().expect("a log has an era")
    }

    /// Up to where an era and the present agree.
    pub fn agrees_up_to(&self, era: usize) -> i64 {
        self.eras[era + 1..].iter().map(|later| later.forks_at).min().unwrap_or(i64::MAX)
    }
}

impl LogRecord {
    /// As a consumer gives it.
    pub fn to_record(&self) -> Record {
        Record {
            offset: Offset(self.offset),
            timestamp_ms: self.number as i64,
            leader_epoch: self.leader_epoch,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers().map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from(value))).into_iter().collect(),
        }
    }

    /// Its headers: some records have one.
    pub fn headers(&self) -> Option<(&'static str, String)> {
        (self.offset % 5 == 0).then(|| ("h", self.offset.to_string()))
    }
}

impl Incarnation {
    /// Whether a record of a key was ever written elsewhere than where the topic's rule puts it.
    pub fn has_misplaced(&self, key: &[u8]) -> bool {
        let eras = self.logs.iter().flat_map(|log| &log.eras);
        eras.into_iter().any(|era| era.range_of(Some(key), 0, i64::MAX).any(|record| record.misplaced))
    }
}

impl FakeTopic {
    /// Whether it was always there and has always had the partitions and the records that it has.
    pub fn is_steady(&self) -> bool {
        let steady = |log: &Log| log.eras.len() == 1 && log.now().start == 0;
        self.exists
            && !self.is_late
            && self.lives.len() == 1
            && self.life().earlier_counts.is_empty()
            && self.life().logs.iter().all(steady)
    }

    /// The present life.
    pub fn life(&self) -> &Incarnation {
        self.lives.last().expect("a topic has a life")
    }

    /// The present life, to change.
    pub fn life_mut(&mut self) -> &mut Incarnation {
        self.lives.last_mut().expect("a topic has a life")
    }

    /// A life by its id.
    pub fn life_of(&self, id: &str) -> Option<&Incarnation> {
        self.lives.iter().find(|life| &*life.id == id)
    }

    /// A record by its number: the life it is of, its partition, itself.
    pub fn record(&self, number: u64) -> Option<(&Incarnation, usize, &LogRecord)> {
        self.lives.iter().rev().find_map(|life| {
            life.logs.iter().enumerate().find_map(|(partition, log)| {
                let record = log.eras.iter().rev().flat_map(|era| &era.records).find(|record| record.number == number)?;
                Some((life, partition, record))
            })
        })
    }
}

impl FakeKafka {
    /// A number that no other record has.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Makes a topic, or makes it again.
    pub fn create(&mut self, name: &str, partitions: u32, rule: Rule, compacted: bool) {
        self.reshaped();
        self.next_id += 1;
        let life = Incarnation {
            id: Arc::from(format!("id{}", self.next_id)),
            logs: vec![Log::new(); partitions as usize],
            earlier_counts: Vec::new(),
            rule,
            compacted,
        };
        match self.topics.iter_mut().find(|topic| &*topic.name == name) {
            Some(topic) => {
                topic.lives.push(life);
                topic.exists = true;
            }
            None => {
                self.topics.push(FakeTopic { name: Arc::from(name), lives: vec![life], exists: true, is_late: name.starts_with("late") })
            }
        }
    }

    /// Deletes a topic.
    pub fn delete(&mut self, topic: usize) {
        self.reshaped();
        self.topics[topic].exists = false;
    }

    fn reshaped(&mut self) {
        self.changes += 1;
        self.shape += 1;
    }

    /// A topic that exists.
    pub fn topic(&self, name: &str) -> Option<&FakeTopic> {
        // Mostly it is the very same text.
        let is_it = |topic: &&FakeTopic| std::ptr::eq(&raw const *topic.name, name) || *topic.name == *name;
        self.topics.iter().find(|topic| topic.exists && is_it(topic))
    }

    /// The place of a topic, whether it exists now or not; of those that never did it is none that a topic has.
    pub fn place(&self, name: &str) -> usize {
        let is_it = |topic: &FakeTopic| std::ptr::eq(&raw const *topic.name, name) || *topic.name == *name;
        self.topics.iter().position(is_it).unwrap_or(usize::MAX)
    }

    /// A topic, whether it exists now or not.
    pub fn topic_ever(&self, name: &str) -> Option<&FakeTopic> {
        self.topics.iter().find(|topic| &*topic.name == name)
    }

    /// Writes a record of another producer. `astray`: on a wrong partition. Nothing is written to a topic that is gone.
    pub fn write(&mut self, random: &mut Rng, topic: usize, key: Option<Bytes>, value_bytes: usize, astray: bool) {
        let number = self.number();
        self.changes += 1;
        self.bytes += value_bytes * 4 / 3 + RECORD_BYTES;
        let topic = &mut self.topics[topic];
        if !topic.exists {
            return;
        }
        let life = topic.life_mut();
        let count = life.logs.len() as u32;
        let right = match &key {
            Some(key) => life.rule.partition(key, count),
            None => match self.keyless_to.filter(|partition| *partition < count) {
                Some(partition) if random.u8(0..16) > 0 => partition,
                _ => random.u32(0..count),
            },
        };
        let partition = if astray && count > 1 { (right + 1 + random.u32(0..count - 1)) % count } else { right };
        let value = match random.u8(0..20) {
            0 => None,
            1 => Some(Bytes::from(format!("{{\"n\": {number},\n \"pad\":\t\"{}\"}}\n", "y".repeat(value_bytes)))),
            2 => Some(Bytes::from(format!("plain \"{number}\" {}", "z".repeat(value_bytes)))),
            3 => Some(Bytes::from([&number.to_be_bytes()[..], &vec![0xfe; value_bytes]].concat())),
            4 => Some(Bytes::new()),
            _ => Some(Bytes::from(value_text(number, value_bytes))),
        };
        let gap = if random.u8(0..6) == 0 { random.i64(1..4) } else { 0 };
        let misplaced = key.is_some() && partition != right;
        life.logs[partition as usize]
            .now_mut()
            .append(LogRecord { offset: 0, key, value, number, misplaced, leader_epoch: 0, publish: 0 }, gap);
    }

    /// Writes a published record where the bridge wants it.
    pub fn write_published(&mut self, topic: &str, partition: u32, key: Option<Bytes>, value: Option<Bytes>, publish: u64) -> Option<i64> {
        let number = self.number();
        self.changes += 1;
        self.bytes += value.as_ref().map_or(0, Bytes::len) + RECORD_BYTES;
        let topic = self.topics.iter_mut().find(|other| &*other.name == topic && other.exists)?;
        let life = topic.life_mut();
        // The bridge may have known another partition count when it chose.
        let misplaced = key.as_ref().is_some_and(|key| life.rule.partition(key, life.logs.len() as u32) != partition);
        let log = life.logs.get_mut(partition as usize)?;
        Some(log.now_mut().append(LogRecord { offset: 0, key, value, number, misplaced, leader_epoch: 0, publish }, 0))
    }

    /// Adds partitions.
    pub fn grow(&mut self, topic: usize, by: u32) {
        self.reshaped();
        let life = self.topics[topic].life_mut();
        life.earlier_counts.push(life.logs.len() as u32);
        life.logs.extend((0..by).map(|_| Log::new()));
    }

    /// An unclean election: the records of a partition from some offset on are lost.
    pub fn truncate(&mut self, random: &mut Rng, topic: usize) {
        self.changes += 1;
        let life = self.topics[topic].life_mut();
        let partition = random.usize(0..life.logs.len());
        let log = &mut life.logs[partition];
        let to = log.now().end - random.i64(1..20);
        if to > log.now().start.max(log.compacted_below) {
            let era = log.now().fork(to);
            log.eras.push(era);
        }
    }

    /// Retention deletes the oldest records of a partition.
    pub fn retain(&mut self, random: &mut Rng, topic: usize) {
        self.changes += 1;
        let life = self.topics[topic].life_mut();
        let partition = random.usize(0..life.logs.len());
        let era = life.logs[partition].now_mut();
        era.start = random.i64(era.start..=era.end);
    }

    /// Compacts the compacted topics: of every key the newest record stays. Before any node has read.
    pub fn compact(&mut self) {
        for log in self.topics.iter_mut().map(FakeTopic::life_mut).filter(|life| life.compacted).flat_map(|life| &mut life.logs) {
            let old = log.now();
            let newest = old.records.iter().filter(|record| old.next_of(record.key.as_deref(), record.offset + 1).is_none());
            let era = Era::of(newest.cloned(), old.epoch, old.end);
            *log = Log { compacted_below: era.end, eras: vec![era] };
        }
    }
}

/// The value of record `number`: JSON of about that many bytes.
pub fn value_text(number: u64, bytes: usize) -> Vec<u8> {
    // Exactly what it takes: it becomes `Bytes` as it is.
    let (before, between, after) = (b"{\"n\":", b",\"pad\":\"", b"\"}");
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut text = Vec::with_capacity(before.len() + digits + between.len() + bytes + after.len());
    text.extend(before);
    text.extend((0..digits as u32).rev().map(|place| b'0' + (number / 10_u64.pow(place) % 10) as u8));
    text.extend(between);
    text.resize(text.len() + bytes, b'x');
    text.extend(after);
    text
}
