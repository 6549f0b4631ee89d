//! The fake Kafka: logs that keep everything, for they are also the truth that the oracle compares with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use crate::handoff::{Offset, Record};
use crate::subject::Partitioner;

/// A record as it stands in a log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Arc<str>>,
    /// Unique in a world; written into the value.
    pub number: u64,
    /// Not where the topic's rule puts its key.
    pub misplaced: bool,
}

/// A partition's log. Offsets have gaps: transaction markers, compaction.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub records: Vec<LogRecord>,
    pub end: i64,
    /// Places in `records` by key.
    by_key: BTreeMap<Option<Vec<u8>>, Vec<usize>>,
}

/// One life of a topic: made again it is another one, with another id.
#[derive(Clone, Debug)]
pub struct Incarnation {
    pub id: Arc<str>,
    pub logs: Vec<Log>,
    pub earlier_counts: Vec<u32>,
    /// The rule that its producers follow.
    pub rule: Partitioner,
}

/// A topic with all its lives; the last one is the present.
#[derive(Clone, Debug)]
pub struct FakeTopic {
    pub name: Arc<str>,
    pub lives: Vec<Incarnation>,
    pub exists: bool,
}

/// The cluster.
#[derive(Debug, Default)]
pub struct FakeKafka {
    pub topics: Vec<FakeTopic>,
    next_number: u64,
    next_id: u64,
}

impl Log {
    /// Appends a record; sometimes after a gap.
    pub fn append(&mut self, mut record: LogRecord, gap: i64) -> i64 {
        self.end += gap;
        record.offset = self.end;
        self.end += 1;
        self.by_key.entry(record.key.clone()).or_default().push(self.records.len());
        self.records.push(record);
        self.end - 1
    }

    /// The first record of a key at or above an offset.
    pub fn next_of(&self, key: Option<&[u8]>, from: i64) -> Option<&LogRecord> {
        let places = self.by_key.get(&key.map(<[u8]>::to_vec))?;
        let at = places.partition_point(|place| self.records[*place].offset < from);
        places.get(at).map(|place| &self.records[*place])
    }

    /// The newest records of a key below an offset, newest first.
    pub fn before(&self, key: Option<&[u8]>, below: i64) -> impl Iterator<Item = &LogRecord> {
        let places = self.by_key.get(&key.map(<[u8]>::to_vec)).map_or(&[][..], Vec::as_slice);
        let at = places.partition_point(|place| self.records[*place].offset < below);
        places[..at].iter().rev().map(|place| &self.records[*place])
    }

    /// Records from an offset on.
    pub fn from(&self, offset: i64) -> &[LogRecord] {
        let at = self.records.partition_point(|record| record.offset < offset);
        &self.records[at..]
    }
}

impl LogRecord {
    /// As a consumer gives it.
    pub fn to_record(&self) -> Record {
        Record {
            offset: Offset(self.offset),
            timestamp_ms: 1_000 + self.offset,
            leader_epoch: (self.offset / 20) as i32,
            key: self.key.as_ref().map(|key| Bytes::from(key.clone())),
            value: self.value.as_ref().map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: if self.offset % 5 == 0 { Box::new([(Bytes::from_static(b"h"), Bytes::from_static(b"1"))]) } else { Box::default() },
        }
    }
}

impl FakeTopic {
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
}

impl FakeKafka {
    /// A number that no other record has.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Makes a topic, or makes it again.
    pub fn create(&mut self, name: &str, partitions: u32, rule: Partitioner) {
        self.next_id += 1;
        let life = Incarnation {
            id: Arc::from(format!("id{}", self.next_id)),
            logs: vec![Log::default(); partitions as usize],
            earlier_counts: Vec::new(),
            rule,
        };
        match self.topics.iter_mut().find(|topic| &*topic.name == name) {
            Some(topic) => {
                topic.lives.push(life);
                topic.exists = true;
            }
            None => self.topics.push(FakeTopic { name: Arc::from(name), lives: vec![life], exists: true }),
        }
    }

    /// A topic that exists.
    pub fn topic(&self, name: &str) -> Option<&FakeTopic> {
        self.topics.iter().find(|topic| &*topic.name == name && topic.exists)
    }

    /// A topic, whether it exists now or not.
    pub fn topic_ever(&self, name: &str) -> Option<&FakeTopic> {
        self.topics.iter().find(|topic| &*topic.name == name)
    }

    /// Writes a record of another producer. `astray`: on a wrong partition. Nothing is written to a topic that is gone.
    pub fn write(&mut self, random: &mut Rng, topic: usize, key: Option<Vec<u8>>, value_bytes: usize, astray: bool) {
        let number = self.number();
        let topic = &mut self.topics[topic];
        if !topic.exists {
            return;
        }
        let life = topic.life_mut();
        let count = life.logs.len() as u32;
        let right = match &key {
            Some(key) => life.rule.partition(key, count),
            None => random.u32(0..count),
        };
        let partition = if astray && count > 1 { (right + 1 + random.u32(0..count - 1)) % count } else { right };
        let value = (random.u8(0..20) > 0).then(|| Arc::from(value_text(number, value_bytes)));
        let gap = if random.u8(0..6) == 0 { random.i64(1..4) } else { 0 };
        let misplaced = key.is_some() && partition != right;
        life.logs[partition as usize].append(LogRecord { offset: 0, key, value, number, misplaced }, gap);
    }

    /// Writes a published record where the bridge wants it.
    pub fn write_published(
        &mut self,
        topic: &str,
        partition: u32,
        key: Option<Vec<u8>>,
        value: Option<Arc<str>>,
        number: u64,
    ) -> Option<i64> {
        let topic = self.topics.iter_mut().find(|other| &*other.name == topic && other.exists)?;
        let life = topic.life_mut();
        // The bridge may have known another partition count when it chose.
        let misplaced = key.as_ref().is_some_and(|key| life.rule.partition(key, life.logs.len() as u32) != partition);
        let log = life.logs.get_mut(partition as usize)?;
        Some(log.append(LogRecord { offset: 0, key, value, number, misplaced }, 0))
    }

    /// Adds partitions.
    pub fn grow(&mut self, topic: usize, by: u32) {
        let life = self.topics[topic].life_mut();
        life.earlier_counts.push(life.logs.len() as u32);
        life.logs.extend((0..by).map(|_| Log::default()));
    }
}

/// The value of record `number`: JSON of about that many bytes.
pub fn value_text(number: u64, bytes: usize) -> String {
    format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat(bytes))
}
