//! The oracle: what a subscription was promised, and whether it was kept.
//!
//! From the subscribe reply on, the publications of a subscription are exactly the log's records of that subject, in order, none missing, none
//! twice, each as protocol.md says. It knows the logs (also what they were before an unclean election) and how far the node has read them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hashbrown::HashMap;
use serde_json::{Value, json};

use super::codec::{Data, Publication};
use super::coverage::Coverage;
use super::kafka::{Era, FakeKafka, Incarnation, Log, LogRecord};
use super::names::{Epoch, Rule, Subject};
use super::node::Node;
use super::paths::targets;
use crate::limits::{ANSWER_BYTES_MAX, HISTORY_BYTES_MAX};
use crate::shard::{PublishResult, ShardSettings};
use crate::sim::wire;

/// A broken promise.
pub type Verdict = Result<(), String>;

/// What the oracle may look at.
#[derive(Clone, Copy)]
pub struct Witness<'w> {
    pub kafka: &'w FakeKafka,
    /// The client's node.
    pub node: &'w Node,
    pub settings: &'w ShardSettings,
    /// Clients note what they hear.
    pub tracing: bool,
    /// What Kafka said of publishes, by their numbers and topics.
    pub fates: &'w HashMap<(u64, usize), PublishResult>,
    /// Publishes go where routes lead.
    pub is_routed: bool,
    pub now_ms: u64,
}

/// A position as an SDK keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub epoch: String,
    pub offset: u64,
    /// The eras of the log that it may be of. None: a position that no node gave.
    pub eras: BTreeSet<usize>,
}

/// What a subscribe asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub position: Option<Kept>,
    /// Wants the newest records.
    pub history: u32,
    pub numeric: bool,
    /// Wants error 112 in place of `recovered: false`.
    pub strict: bool,
    /// End of the log that the position names, when it was asked.
    pub end: Option<i64>,
    /// The subject's home knew of a record elsewhere when it was asked, by this version of the map.
    pub stray: Option<u64>,
}

/// What a history command asked for.
#[derive(Clone, Debug)]
pub struct Page {
    pub limit: i32,
    pub since: Option<u64>,
    pub reverse: bool,
}

/// A subscription as its client sees it.
#[derive(Clone, Debug)]
pub struct Followed {
    name: Subject,
    pub recoverable: bool,
    /// Life of the topic, and partition, that the position counts in.
    id: String,
    partition: usize,
    /// The next Kafka offset that the client needs.
    from: i64,
    /// What an SDK would recover from.
    pub kept: Kept,
    /// Records that came without a position, and the last of each partition.
    passing: BTreeSet<u64>,
    last_passing: BTreeMap<(String, usize), u64>,
    /// A record came that nothing explains where it was found: the next word must be 2500.
    strayed: Option<u64>,
    /// How far the node had read each partition when the client saw the reply.
    read: BTreeMap<usize, i64>,
}

impl<'w> Witness<'w> {
    /// What Kafka said of a publish, of each topic that it goes to.
    pub fn fates_of(&self, number: u64, channel: &str) -> Vec<Option<PublishResult>> {
        let fate = |topic| self.fates.get(&(number, topic)).copied();
        let fates: Vec<_> = topics_of(self.is_routed, channel, self.kafka).into_iter().map(fate).collect();
        if fates.is_empty() { vec![None] } else { fates }
    }

    fn life(&self, name: &Subject, id: &str) -> Result<&'w Incarnation, String> {
        let topic = self.kafka.topic_ever(name.topic()).ok_or("a topic that is spoken of has been")?;
        topic.life_of(id).ok_or_else(|| format!("an epoch names a life of its topic, not {id}"))
    }

    fn log(&self, name: &Subject, id: &str, partition: usize) -> Result<&'w Log, String> {
        self.life(name, id)?.logs.get(partition).ok_or_else(|| format!("an epoch names a partition, not {partition}"))
    }

    /// Whether the node has the rule of the topic's producers, and always had.
    fn explains_all(&self, life: &Incarnation) -> bool {
        life.rule != Rule::Any && life.earlier_counts.is_empty() && !self.node.is_doubted(&life.id)
    }

    /// Whether a home may have forgotten a record of a subject: there were more than it keeps, or they are old.
    pub fn may_have_forgotten(&self, name: &Subject) -> bool {
        let settings = self.settings;
        let records = |life: &Incarnation| {
            life.logs.iter().flat_map(|log| &log.eras).map(|era| era.range_of(key(name), 0, i64::MAX).len()).sum::<usize>()
        };
        let topic = self.kafka.topic_ever(name.topic());
        self.now_ms >= settings.cache_expire_ms
            || self.kafka.bytes >= settings.cache_bytes_max / 2
            || topic.is_none_or(|topic| topic.lives.iter().map(records).sum::<usize>() > settings.cache_records_max)
    }

    /// Whether what happened to a topic may end a subscription, or make a position worthless.
    pub fn is_upset(&self, name: &Subject) -> bool {
        let Some(topic) = self.kafka.topic(name.topic()).filter(|topic| topic.is_steady()) else { return true };
        let life = topic.life();
        let misplaced = key(name).is_some_and(|key| life.has_misplaced(key));
        let own = self.node.null_key_partition.map(|partition| partition as usize);
        let elsewhere = |(partition, log): (usize, &Log)| Some(partition) != own && log.now().range_of(None, 0, i64::MAX).len() > 0;
        let scattered = key(name).is_none() && life.logs.iter().enumerate().any(elsewhere);
        misplaced || scattered || life.rule == Rule::Any || self.node.is_doubted(&life.id)
    }

    /// Whether nothing but the log itself can explain that a record is not remembered.
    fn remembers_all(&self, name: &Subject, life: &Incarnation, log: &Log) -> bool {
        let present = self.kafka.topics.iter().any(|topic| topic.exists && topic.life().id == life.id);
        present
            && !self.may_have_forgotten(name)
            && !self.node.is_doubted(&life.id)
            && !life.compacted
            && life.earlier_counts.is_empty()
            && log.eras.len() == 1
            && log.now().start == 0
    }
}

/// The places of the topics that a publish goes to.
pub fn topics_of(is_routed: bool, channel: &str, kafka: &FakeKafka) -> Vec<usize> {
    let place = |channel: &str| Some(kafka.place(Subject::parse(channel, 1024).ok()?.topic()));
    if is_routed { targets(channel).iter().filter_map(|target| place(target)).collect() } else { place(channel).into_iter().collect() }
}

fn parse(channel: &str) -> Result<Subject, String> {
    Subject::called(channel, 1024)
}

fn key(name: &Subject) -> Option<&[u8]> {
    name.key().map(str::as_bytes)
}

impl Followed {
    /// Judges the answer to a subscribe.
    pub fn begin(
        channel: &str,
        asked: &Asked,
        result: &wire::SubscribeResult,
        publications: &[Publication],
        witness: Witness<'_>,
        coverage: &mut Coverage,
    ) -> Result<Followed, String> {
        let name = parse(channel)?;
        let epoch = Epoch::parse(&result.epoch).ok_or_else(|| format!("an epoch is ours, not {:?}", result.epoch))?;
        let (id, partition) = (epoch.topic_id.to_owned(), epoch.partition as usize);
        let life = witness.life(&name, &id)?;
        let log = witness.log(&name, &id, partition)?;
        if result.was_recovering != asked.position.is_some() {
            return Err("was_recovering says whether the client asked".to_owned());
        }
        if result.positioned != result.recoverable {
            return Err("a subject has positions if it can be recovered, and else not".to_owned());
        }
        if let (false, Some(key)) = (result.recoverable, key(&name))
            && witness.explains_all(life)
            && !life.has_misplaced(key)
        {
            return Err(format!("rule 2: {channel} has no positions, and all its records are where they should be"));
        }
        let stray = asked.stray == Some(witness.node.version());
        coverage.note_if(stray, "no positions any more");
        if result.recoverable && stray {
            return Err(format!("rule 2: {channel} has positions, and a record of it had been found elsewhere when its client asked"));
        }
        let read = witness.node.read_by_partition(&id);
        let eras: BTreeSet<usize> = (0..log.eras.len()).collect();
        let mut followed = Followed {
            name,
            recoverable: result.recoverable,
            id,
            partition,
            from: result.offset as i64,
            kept: Kept { epoch: result.epoch.clone(), offset: result.offset, eras },
            passing: BTreeSet::new(),
            last_passing: BTreeMap::new(),
            strayed: None,
            read,
        };
        if !result.recovered && asked.position.is_some() {
            coverage.note("recovered: false");
            followed.must_not_have_recovered(asked, life, log, witness)?;
        }
        if let (true, Some(position)) = (result.recovered, &asked.position) {
            coverage.note("recovered: true");
            followed.recovered(position, result, publications, life, log, witness)?;
            if !publications.is_empty() {
                coverage.note("recovered in the reply");
            }
            for publication in publications {
                followed.publication(publication, witness)?;
            }
        } else if result.recovered {
            return Err("recovered: true without a position".to_owned());
        } else {
            followed.newest(asked, result, publications, life, log, witness)?;
            if !publications.is_empty() {
                coverage.note("snapshot or history");
            }
        }
        Ok(followed)
    }

    /// Rules 4, 8, 12, 14: `recovered: true` was true.
    fn recovered(
        &mut self,
        position: &Kept,
        result: &wire::SubscribeResult,
        publications: &[Publication],
        life: &Incarnation,
        log: &Log,
        witness: Witness<'_>,
    ) -> Verdict {
        if !result.recoverable {
            return Err("recovered: true without recoverable".to_owned());
        }
        let same =
            position.epoch.is_empty() || Epoch::parse(&position.epoch).is_some_and(|epoch| epoch.same_log(&self.id, self.partition as u32));
        if !same {
            return Err(format!("rule 4: recovered: true from {:?} in {:?}", position.epoch, result.epoch));
        }
        self.from = position.offset as i64;
        if publications.is_empty() && result.offset < position.offset || !publications.is_empty() && result.offset != position.offset {
            return Err(format!(
                "the reply carries the offset asked from ({}) or one known to be complete, not {}",
                position.offset, result.offset
            ));
        }
        if life.compacted && self.from < log.compacted_below {
            return Err(format!("rule 12: recovered: true from {} in a log compacted below {}", self.from, log.compacted_below));
        }
        // A position carries the leader epoch of the subscribe reply, though its client has followed the log through later ones: only a node that
        // noticed an election itself can tell a position from before it, and only one that had read as far as that.
        let leader_epoch = |text: &str| Epoch::parse(text).map_or(i32::MAX, |epoch| epoch.leader_epoch);
        let noticed = witness.node.noticed(&self.id, self.partition, leader_epoch(&result.epoch), leader_epoch(&position.epoch));
        let old = position.eras.iter().copied();
        let possible: BTreeSet<usize> = old.flat_map(|era| self.continued(log, era)).filter(|era| *era >= noticed).collect();
        if noticed > 0 && !position.eras.is_empty() && possible.is_empty() {
            return Err(format!("rule 14: recovered: true from {position:?}, whose records are not those of the log any more"));
        }
        Ok(())
    }

    /// The eras that a client may be in now whose records up to `from` were those of `era`.
    fn continued(&self, log: &Log, era: usize) -> Vec<usize> {
        let before = |era: usize, from: i64| log.eras[era].range_of(key(&self.name), from, self.from).len();
        (era..log.eras.len())
            .filter(|later| {
                let fork = log.eras[era + 1..=*later].iter().map(|era| era.forks_at).min().unwrap_or(i64::MAX);
                self.from <= fork || before(era, fork) + before(*later, fork) == 0
            })
            .collect()
    }

    /// A position that can be served is served, if nothing was forgotten.
    fn must_not_have_recovered(&self, asked: &Asked, life: &Incarnation, log: &Log, witness: Witness<'_>) -> Verdict {
        let Some(position) = &asked.position else { return Ok(()) };
        let same =
            position.epoch.is_empty() || Epoch::parse(&position.epoch).is_some_and(|epoch| epoch.same_log(&self.id, self.partition as u32));
        let (Some(start), Ok(offset)) = (witness.node.read_start(&self.id, self.partition), i64::try_from(position.offset)) else {
            return Ok(());
        };
        let there = offset >= start && asked.end.is_some_and(|end| offset <= end);
        if self.recoverable && same && there && witness.remembers_all(&self.name, life, log) {
            return Err(format!(
                "rule 9: recovered: false from {position:?}, reading began at {start} and the log ended at {:?}",
                asked.end
            ));
        }
        Ok(())
    }

    /// A snapshot or a history: the newest records below the position, in order.
    fn newest(
        &mut self,
        asked: &Asked,
        result: &wire::SubscribeResult,
        publications: &[Publication],
        life: &Incarnation,
        log: &Log,
        witness: Witness<'_>,
    ) -> Verdict {
        // A topic may give the newest record unasked.
        let most = if asked.position.is_some() { 1 } else { asked.history.max(1) as usize };
        if publications.len() > most {
            return Err(format!("{} records for a history of {most}", publications.len()));
        }
        if !result.recoverable {
            for publication in publications {
                self.publication(publication, witness)?;
            }
            return Ok(());
        }
        let newest = |era: &usize| log.eras[*era].range_of(key(&self.name), 0, self.from).rev().take(publications.len());
        self.kept.eras.retain(|era| {
            newest(era).len() == publications.len()
                && newest(era).zip(publications.iter().rev()).all(|(record, publication)| record.number as i64 == publication.time)
        });
        let Some(era) = self.kept.eras.first() else {
            return Err(format!(
                "a history of {} below {} is its newest records in order: {publications:?}",
                self.name.as_str(),
                self.from
            ));
        };
        for (record, publication) in newest(era).zip(publications.iter().rev()) {
            says(publication, record, Some(record.offset), witness)?;
        }
        let wanted = if asked.position.is_some() { 1 } else { asked.history as usize };
        let start = witness.node.read_start(&self.id, self.partition).unwrap_or(i64::MAX);
        let there = log.now().range_of(key(&self.name), start, self.from).len();
        let cap = ANSWER_BYTES_MAX.min(witness.settings.outbox_bytes_max / 4);
        let bytes: usize = publications.iter().map(|publication| publication.bytes).sum();
        let next = log.now().range_of(key(&self.name), start, self.from).rev().nth(publications.len());
        let large = next.is_some_and(|next| bytes + 2 * next.value.as_ref().map_or(0, Bytes::len) + 300 > cap);
        if witness.remembers_all(&self.name, life, log) && publications.len() < wanted.min(there) && !large {
            return Err(format!("{} records for a history of {wanted}, and {there} are there", publications.len()));
        }
        Ok(())
    }

    /// The heart: a publication is the next record of the subject, and no other.
    pub fn publication(&mut self, publication: &Publication, witness: Witness<'_>) -> Verdict {
        let channel = self.name.as_str();
        if let Some(number) = self.strayed {
            return Err(format!(
                "rule 2: {publication:?} followed record {number} of {channel}, found elsewhere, and nobody told the client"
            ));
        }
        if publication.offset == 0 {
            return self.passing(publication, witness);
        }
        if !self.recoverable {
            return Err(format!("a publication of the live-only {channel} has an offset"));
        }
        let log = witness.log(&self.name, &self.id, self.partition)?;
        let offset = publication.offset as i64 - 1;
        let next = |era: &usize| log.eras[*era].next_of(key(&self.name), self.from);
        let right = |era: &usize| next(era).is_some_and(|record| record.offset == offset && record.number as i64 == publication.time);
        let now = log.eras.len() - 1;
        if self.kept.eras.len() == 1
            && self.kept.eras.contains(&now)
            && let Some(record) = next(&now).filter(|_| right(&now))
        {
            // The common case: nobody can be in another era than the present one.
            says(publication, record, Some(offset), witness)?;
            self.from = offset + 1;
            self.kept.offset = publication.offset;
            return Ok(());
        }
        let possible: BTreeSet<usize> = self.kept.eras.iter().flat_map(|era| self.continued(log, *era)).collect();
        let eras: BTreeSet<usize> = possible.iter().copied().filter(right).collect();
        let Some(record) = eras.first().and_then(next) else {
            let what = if offset < self.from { "twice or out of order" } else { "after a gap, or is not the record there" };
            let nexts: Vec<_> = possible.iter().map(|era| next(era).map(|record| record.offset)).collect();
            return Err(format!(
                "{channel}: offset {offset} came {what}: next were {nexts:?} from position {} of partition {} on, {publication:?}",
                self.from, self.partition
            ));
        };
        says(publication, record, Some(offset), witness)?;
        self.kept.eras = eras;
        self.from = offset + 1;
        self.kept.offset = publication.offset;
        Ok(())
    }

    /// A record without a position: one of the subject, in its partition's order, once.
    fn passing(&mut self, publication: &Publication, witness: Witness<'_>) -> Verdict {
        let channel = self.name.as_str();
        let number = publication.time as u64;
        let topic = witness.kafka.topic_ever(self.name.topic()).ok_or("a topic that is spoken of has been")?;
        let found = topic.record(number).filter(|(_, _, record)| record.key.as_deref() == key(&self.name));
        let (life, partition, record) = found.ok_or_else(|| format!("{publication:?} is no record of {channel}"))?;
        says(publication, record, None, witness)?;
        if *life.id != *self.id {
            return Err(format!("rule 4: record {number} of {channel} is of {}, and the subscription is in {}", life.id, self.id));
        }
        if !self.passing.insert(number) {
            return Err(format!("record {number} of {channel} came twice"));
        }
        let before = self.last_passing.insert((life.id.to_string(), partition), number);
        if before.is_some_and(|before| before >= number) {
            return Err(format!("record {number} of {channel} came out of its partition's order"));
        }
        if self.recoverable && record.misplaced && witness.explains_all(life) {
            self.strayed = Some(number);
        }
        let grown = topic.lives.iter().any(|life| !life.earlier_counts.is_empty());
        if self.recoverable && !record.misplaced && record.key.is_some() && !grown && !witness.node.is_doubted(&life.id) {
            return Err(format!("rule 2: record {number} of {channel} has a position, and came without"));
        }
        Ok(())
    }

    /// At the end, when all is quiet: a subscription has everything.
    pub fn has_everything(&self, witness: Witness<'_>) -> Verdict {
        let channel = self.name.as_str();
        let Some(topic) = witness.kafka.topic(self.name.topic()) else {
            return Err(format!("{channel} is still subscribed, and its topic is gone"));
        };
        let life = topic.life();
        if *life.id != *self.id {
            return Err(format!(
                "rule 4: {channel} is subscribed in {}, its topic is {} now, and nobody told the client",
                self.id, life.id
            ));
        }
        if let (Some(number), true) = (self.strayed, self.recoverable) {
            return Err(format!("rule 2: record {number} of {channel} was found elsewhere, and nobody told the client"));
        }
        if let (true, Some(key)) = (self.recoverable, key(&self.name))
            && let Some(record) = witness.node.stray(life, self.name.topic(), key)
        {
            return Err(format!("rule 2: {channel} has positions, and record {} of it was found elsewhere", record.number));
        }
        if self.recoverable {
            let log = witness.log(&self.name, &self.id, self.partition)?;
            let now = log.eras.len() - 1;
            if !self.kept.eras.iter().any(|era| self.continued(log, *era).contains(&now)) {
                return Err(format!("rule 4: records of {channel} were lost in an election, and nobody told the client: {:?}", self.kept));
            }
            if let Some(record) = log.now().next_of(key(&self.name), self.from) {
                return Err(format!("{channel} lacks offset {} of partition {} (position {})", record.offset, self.partition, self.from));
            }
        }
        // What has no position: all of it that the node has read since the reply. Of a subject that has positions, what is elsewhere; a log that
        // changed there is no log of the subject.
        let whole = |log: &Log| log.eras.len() == 1 && log.now().start == 0;
        let passing = |(partition, log): &(usize, &Log)| !self.recoverable || *partition != self.partition && whole(log);
        for (partition, log) in life.logs.iter().enumerate().filter(passing) {
            let Some(start) = witness.node.read_start(&self.id, partition) else { continue };
            let from = self.read.get(&partition).copied().unwrap_or(0).max(start).max(log.now().start);
            let missing = log.now().range_of(key(&self.name), from, i64::MAX).find(|record| !self.passing.contains(&record.number));
            if let Some(record) = missing {
                return Err(format!(
                    "rule 2: {channel} lacks record {}, which has no position (offset {} of partition {partition})",
                    record.number, record.offset
                ));
            }
        }
        Ok(())
    }
}

/// A page of history is a run of the subject's records that begins where it was asked to, and never ends short in silence.
pub fn judge_history(
    channel: &str,
    asked: &Page,
    result: &wire::HistoryResult,
    publications: &[Publication],
    witness: Witness<'_>,
) -> Verdict {
    let name = parse(channel)?;
    let epoch = Epoch::parse(&result.epoch).ok_or_else(|| format!("an epoch is ours, not {:?}", result.epoch))?;
    let (life, log) = (witness.life(&name, epoch.topic_id)?, witness.log(&name, epoch.topic_id, epoch.partition as usize)?);
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    if publications.len() > limit {
        return Err(format!("{} records on a page of {limit}", publications.len()));
    }
    if publications.iter().any(|publication| publication.offset == 0) {
        for publication in publications {
            let topic = witness.kafka.topic_ever(name.topic()).ok_or("a topic that is spoken of has been")?;
            let found = topic.record(publication.time as u64).filter(|(_, _, record)| record.key.as_deref() == key(&name));
            let (_, _, record) = found.ok_or_else(|| format!("{publication:?} is no record of {channel}"))?;
            says(publication, record, None, witness)?;
        }
        return Ok(());
    }
    let top = result.offset as i64;
    // Going back from a position means: older than the record that the position follows.
    let (from, below) = match (asked.since, asked.reverse) {
        (Some(since), false) => (since as i64, top),
        (Some(since), true) => (0, (since as i64 - 1).max(0)),
        (None, _) => (0, top),
    };
    let cap = HISTORY_BYTES_MAX.min(witness.settings.outbox_bytes_max / 2);
    let bytes: usize = publications.iter().map(|publication| publication.bytes).sum();
    let start = witness.node.read_start(epoch.topic_id, epoch.partition as usize);
    // What has no partition of its own loses what is remembered of it when any log changes.
    let ruled = if name.key().is_some() { life.rule != Rule::Any } else { witness.node.null_key_partition.is_some() };
    let astray = key(&name).is_some_and(|key| life.has_misplaced(key));
    let placed = ruled && !astray || life.logs.len() == 1;
    let changed = !placed && life.logs.iter().any(|log| log.eras.len() > 1 || log.now().start > 0);
    let whole = asked.since.is_some() || witness.remembers_all(&name, life, log) && start == Some(0) && !changed;
    let judge = |era: &Era| {
        let mut run: Vec<&LogRecord> = era.range_of(key(&name), from, below).collect();
        if asked.reverse {
            run.reverse();
        }
        if let (Some(first), None, false) = (publications.first(), asked.since, asked.reverse) {
            // Without a position a page begins with the oldest that is remembered.
            run.drain(..run.iter().position(|record| record.number as i64 == first.time).unwrap_or(0));
        }
        for (place, publication) in publications.iter().enumerate() {
            let record = run
                .get(place)
                .ok_or_else(|| format!("a page of {channel} ({asked:?}, top {top}) is no run of records: {publications:?}"))?;
            says(publication, record, Some(record.offset), witness)?;
        }
        let next = run.get(publications.len()).filter(|_| whole && publications.len() < limit);
        match next.map(|next| bytes + 2 * next.value.as_ref().map_or(0, Bytes::len) + 300) {
            Some(bytes) if bytes <= cap => {
                Err(format!("a page of {channel} ({asked:?}, top {top}) ends short in silence: {publications:?}"))
            }
            _ => Ok(()),
        }
    };
    let verdicts: Vec<Verdict> = log.eras.iter().map(judge).collect();
    if verdicts.iter().any(Result::is_ok) { Ok(()) } else { verdicts.into_iter().next_back().unwrap_or(Ok(())) }
}

/// A publication says what its record says.
fn says(publication: &Publication, record: &LogRecord, offset: Option<i64>, witness: Witness<'_>) -> Verdict {
    let placed = publication.offset == offset.map_or(0, |offset| offset as u64 + 1) && publication.time == record.number as i64;
    let plain = || match record.headers() {
        None => publication.tags.is_empty(),
        Some((name, value)) => publication.tags.len() == 1 && publication.tags.get(name) == Some(&value),
    };
    if let (Some(value), false, true) = (&record.value, publication.removed, placed)
        && plain()
        && match &publication.data {
            Data::Bytes(bytes) => bytes == value,
            Data::Json(data) => data.as_bytes() == value,
        }
    {
        return Ok(());
    }
    let mut tags: BTreeMap<String, String> = record.headers().map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let nothing = matches!(&publication.data, Data::Json(text) if text == "null")
        || matches!(&publication.data, Data::Bytes(bytes) if bytes.is_empty());
    let right = match &record.value {
        _ if publication.tags.get("corespan.dropped").is_some_and(|tag| tag == "oversize") => {
            tags = [("corespan.dropped".to_owned(), "oversize".to_owned())].into();
            let large = record.value.as_ref().is_some_and(|value| 2 * value.len() + 400 > witness.settings.outbox_bytes_max);
            large && nothing && !publication.removed
        }
        None => {
            tags.insert("corespan.removed".to_owned(), "true".to_owned());
            nothing && publication.removed
        }
        Some(value) => {
            !publication.removed
                && match &publication.data {
                    Data::Bytes(bytes) => bytes == value,
                    Data::Json(data) => serde_json::from_str(data).is_ok_and(|data: Value| data == in_json(value)),
                }
        }
    };
    if right && placed && publication.tags == tags {
        return Ok(());
    }
    Err(format!("{publication:?} is not what {record:?} says"))
}

/// A value as JSON clients have it.
fn in_json(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        Err(_) => json!({"base64": STANDARD.encode(value)}),
    }
}
