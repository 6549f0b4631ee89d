//! Records of this shard's partitions, to the homes of their keys and from there to whoever wants them.

use bytes::Bytes;

use super::room::{Home, Speech, epoch_text};
use super::table::{HomeKey, HomeTable};
use crate::handoff::{FromHome, Generation, Offset, PartitionRef, Record, RecordBatch, ShardId, TowardHome, Variant};
use crate::shard::effects::Effects;
use crate::subject::name::record_key;
use crate::subject::topic_map::TopicId;
use crate::subject::{Home as Place, Partitioner, SubjectName, Topic};

impl Home {
    /// Records of a partition of this shard.
    pub fn take_records(&mut self, now_ms: u64, batch: RecordBatch, speech: &mut Speech, effects: &mut impl Effects) {
        let RecordBatch { partition: at, generation, records, next } = batch;
        let map = self.map.clone();
        let known = self.table.partition(at).is_some_and(|partition| partition.active && partition.generation == generation);
        let (Some(topic), true) = (map.at(at.topic), known) else {
            self.counters.records_stale += records.len() as u64;
            return;
        };
        let mut elsewhere: Vec<(ShardId, Vec<Record>)> = Vec::new();
        let (mut placed, mut misplaced) = (0, 0);
        for record in records {
            let Some(partition) = self.table.partition_mut(at) else {
                break;
            };
            if record.offset < partition.next {
                self.counters.records_stale += 1;
                continue;
            }
            partition.next = record.offset.next();
            if record.leader_epoch > partition.leader_epoch {
                partition.leader_epoch = record.leader_epoch;
                partition.epoch = epoch_text(topic, at.partition, record.leader_epoch);
            }
            self.counters.records_consumed += 1;
            self.counters.records_consumed_bytes +=
                (record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len)) as u64;
            if let Some(key) = &record.key
                && record_key(topic.name.len(), key, self.settings.subject_bytes_max).is_err()
            {
                self.counters.records_without_subject += 1;
                continue;
            }
            let home = topic.home(record.key.as_deref());
            placed += u64::from(record.key.is_some());
            if home.partition == at {
                let recoverable = home.recoverable && !self.strays.contains(at.topic, record.key.as_deref());
                let offset = recoverable.then_some(record.offset);
                self.publish_here(now_ms, topic, Place { recoverable, ..home }, record, offset, speech);
                continue;
            }
            // Not where its key's rule puts it: live only, on its home.
            if home.recoverable {
                self.counters.records_elsewhere += 1;
                misplaced += u64::from(topic.is_misplaced(record.key.as_deref(), at.partition));
            }
            if home.shard == self.shard {
                self.publish_elsewhere(now_ms, topic, at.partition, record, speech);
            } else {
                match elsewhere.iter_mut().find(|(shard, _)| *shard == home.shard) {
                    Some((_, records)) => records.push(record),
                    None => elsewhere.push((home.shard, vec![record])),
                }
            }
        }
        let polled_us = speech.toward_home.clock_us;
        for (shard, records) in elsewhere {
            speech.toward_home.say(shard, TowardHome::Records { partition: at, life: topic.id.clone(), records, polled_us });
        }
        if topic.partitioner_is_guess
            && topic.partitioner != Partitioner::Any
            && self.misfits.entry(at.topic).or_default().count(placed, misplaced)
        {
            self.counters.misfits += 1;
            effects.report_misfit(at.topic);
        }
        self.advance(now_ms, at, generation, next, speech, effects);
        self.table.trim(now_ms);
    }

    /// Everything of a partition below `next` has been read.
    pub(super) fn advance(
        &mut self,
        now_ms: u64,
        at: PartitionRef,
        generation: Generation,
        next: Offset,
        speech: &mut Speech,
        effects: &mut impl Effects,
    ) {
        let Some(partition) = self.table.partition_mut(at) else {
            return;
        };
        partition.next = partition.next.max(next);
        if !partition.ready && partition.next >= partition.ready_at {
            partition.ready = true;
            effects.partition_ready(at, generation);
        }
        self.release_held(now_ms, at, speech, effects);
    }

    /// A record of a subject that lives here: remember it, encode it once per variant in use, and one message per interested shard.
    /// `home` is what `home_of` says of its key.
    fn publish_here(&mut self, now_ms: u64, topic: &Topic, home: Place, record: Record, offset: Option<Offset>, speech: &mut Speech) {
        let known = self.table.find(topic.index, record.key.as_deref());
        if offset.is_none() && home.recoverable {
            // A record without a position in a subject that has positions is not remembered: what is remembered is complete and in order.
            if let Some(at) = known {
                self.pass_on(at, &record, speech);
            }
            return;
        }
        let at = match known {
            Some(subject) => subject,
            None => {
                let Ok(name) = SubjectName::of_record(&topic.name, record.key.as_deref(), self.settings.subject_bytes_max) else {
                    return;
                };
                self.table.insert(name, home.partition, home.recoverable, topic.value)
            }
        };
        self.table.push(now_ms, at, record, offset);
        self.tell_live(at, offset, speech, |table, variant, channel| table.live_frame(at, variant, channel));
    }

    /// One record to every shard with live subscribers, each variant made once.
    fn tell_live(
        &mut self,
        at: HomeKey,
        offset: Option<Offset>,
        speech: &mut Speech,
        mut make: impl FnMut(&mut HomeTable, Variant, Option<&SubjectName>) -> Bytes,
    ) {
        let mut made = std::mem::take(&mut self.made);
        for place in 0..self.table.get(at).interest().len() {
            for nth in 0..self.table.get(at).interest()[place].variants.len() {
                let interest = &self.table.get(at).interest()[place];
                let (shard, local, variant) = (interest.shard, interest.local, interest.variants[nth]);
                let frame = match made.iter().find(|(other, channel, _)| *other == variant && *channel == interest.channel) {
                    Some((_, _, frame)) => frame.clone(),
                    None => {
                        let channel = interest.channel.clone();
                        let frame = make(&mut self.table, variant, channel.as_ref());
                        made.push((variant, channel, frame.clone()));
                        frame
                    }
                };
                speech.from_home.say(shard, FromHome::Delivery { local, variant, offset, frame });
            }
        }
        made.clear();
        self.made = made;
    }

    /// The home of a key by the topic's rule, and without positions if records of it have been found where that rule does not put them.
    pub(super) fn home_of(&self, topic: &Topic, key: Option<&[u8]>) -> Place {
        let mut home = topic.home(key);
        home.recoverable = home.recoverable && !self.strays.contains(topic.index, key);
        home
    }

    /// A record of a subject that lives here, found on another partition than its subject's. Nothing of the rule explains it: from now on the
    /// subject has no positions. Who is live has the record; everybody is told to come back (2500), and told then that nothing is recovered.
    fn publish_elsewhere(&mut self, now_ms: u64, topic: &Topic, partition: u32, record: Record, speech: &mut Speech) {
        let key = record.key.as_deref();
        let home = self.home_of(topic, key);
        if !home.recoverable || !topic.is_misplaced(key, partition) {
            self.publish_here(now_ms, topic, home, record, None, speech);
            return;
        }
        let Ok(name) = SubjectName::of_record(&topic.name, key, self.settings.subject_bytes_max) else {
            return;
        };
        let known = self.table.find(topic.index, key);
        if let Some(at) = known {
            self.pass_on(at, &record, speech);
        }
        if !self.strays.add(topic.index, key) {
            self.counters.strays_over += 1;
            return;
        }
        self.counters.strays += 1;
        if let Some(subjects) = self.strays.unsaid(now_ms) {
            tracing::warn!(
                subject = name.as_str(),
                partition,
                subjects,
                expected = topic.home(key).partition.partition,
                "a record is not on the partition that the topic's partitioner gives its key: its subject is live only from now on (subjects: so many since the last such line)"
            );
        }
        if let Some(at) = known {
            self.tell_reset(at, speech);
            self.table.forget_stray(at);
        }
        let home = self.home_of(topic, record.key.as_deref());
        self.publish_here(now_ms, topic, home, record, None, speech);
    }

    /// A record without a position to the live subscribers of a subject that has positions; the others cannot have it later and are told.
    fn pass_on(&mut self, at: HomeKey, record: &Record, speech: &mut Speech) {
        for interest in self.table.get(at).interest() {
            speech.from_home.say(interest.shard, FromHome::Passing { local: interest.local });
        }
        self.tell_live(at, None, speech, |table, variant, channel| table.passing_frame(at, record, variant, channel));
    }

    /// Records that were found on another shard's partition.
    pub(super) fn take_elsewhere(&mut self, now_ms: u64, at: PartitionRef, life: &TopicId, records: Vec<Record>, speech: &mut Speech) {
        let map = self.map.clone();
        let Some(topic) = map.at(at.topic).filter(|topic| topic.id == *life) else {
            self.counters.records_stale += records.len() as u64;
            return;
        };
        for record in records {
            // The maps of the two shards may differ for a moment; whoever subscribed by the other map is told 2500.
            if topic.home(record.key.as_deref()).shard == self.shard {
                self.publish_elsewhere(now_ms, topic, at.partition, record, speech);
            } else {
                self.counters.records_stale += 1;
            }
        }
        self.table.trim(now_ms);
    }
}
