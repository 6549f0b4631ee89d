//! Changes of the topic map: partitions open and close, and what changed under subscribers is reset and said.

use std::sync::Arc;

use super::answers::refuse_held;
use super::held::HeldRequest;
use super::room::{Home, Speech, epoch_text};
use super::table::{HomeKey, HomePartition};
use crate::handoff::message::Refusal;
use crate::handoff::{FromHome, Offset, PartitionRef};
use crate::shard::effects::{Assignment, Effects};
use crate::subject::{Partition, Topic, TopicMap};

impl Home {
    /// Takes a new map, unless it is none (`false`): routes by it from now on, resets what changed under its subscribers, and tells that it did.
    pub fn take_map(&mut self, map: Arc<TopicMap>, speech: &mut Speech, effects: &mut impl Effects) -> bool {
        if map.version <= self.map.version {
            return false;
        }
        let old = std::mem::replace(&mut self.map, map.clone());
        for topic in map.topics() {
            let before = old.at(topic.index);
            if before.is_some_and(|before| Arc::ptr_eq(before, topic) || before == topic) {
                continue;
            }
            let log_changed = before.is_some_and(|before| {
                let changed = |(old, new): (&Partition, &Partition)| old.generation.0 > 0 && old.generation != new.generation;
                before.partitions.len() > topic.partitions.len() || before.partitions.iter().zip(&topic.partitions).any(changed)
            });
            // Another life, other homes or another rule: what did not fit before may fit now.
            if before.is_some_and(|before| {
                before.id != topic.id || before.partitions.len() != topic.partitions.len() || before.partitioner != topic.partitioner
            }) {
                self.strays.forget(topic.index);
                self.misfits.remove(&topic.index);
            }
            let renewed: Vec<u32> = self.renew_partitions(topic, before.is_some_and(|before| before.id == topic.id));
            let other_rule = before.is_some_and(|before| before.partitioner != topic.partitioner);
            if other_rule || before.is_some_and(|before| before.partitions.len() != topic.partitions.len()) {
                self.raise_floors(topic);
                self.unsettled.insert(topic.index);
            }
            for key in self.table.of_topic(topic.index) {
                let subject = self.table.get(key);
                let home = self.home_of(topic, subject.name.key().map(str::as_bytes));
                let moved = home.partition != subject.partition || home.recoverable != subject.recoverable;
                // Records of a subject without positions are on all partitions.
                if moved || renewed.contains(&subject.partition.partition) || !subject.recoverable && log_changed {
                    self.reset_subject(key, speech);
                } else if other_rule && !topic.partitioner_is_guess {
                    // The operator has said another rule: who stays comes back too, to what is remembered of it.
                    self.tell_reset(key, speech);
                }
            }
            self.reset_floors(topic, &renewed);
            // A topic that was made again may have fewer.
            for number in topic.partitions.len()..before.map_or(0, |before| before.partitions.len()) {
                self.close_partition(PartitionRef { topic: topic.index, partition: number as u32 }, effects);
            }
        }
        for topic in old.topics().filter(|topic| map.at(topic.index).is_none()) {
            self.strays.forget(topic.index);
            self.misfits.remove(&topic.index);
            for key in self.table.of_topic(topic.index) {
                self.reset_subject(key, speech);
            }
            for partition in 0..topic.partitions.len() as u32 {
                self.close_partition(PartitionRef { topic: topic.index, partition }, effects);
            }
        }
        // Held requests were routed by the old map.
        for held in self.held.take_all() {
            let refusal = if matches!(held.request, HeldRequest::Subscribe(_)) { Refusal::Moved } else { Refusal::NotReady };
            speech.from_home.say(held.from, refuse_held(&held.request, refusal));
        }
        true
    }

    /// A partition that is not there any more is not read any more.
    fn close_partition(&mut self, at: PartitionRef, effects: &mut impl Effects) {
        if self.table.close_partition(at).is_some_and(|partition| partition.active) {
            effects.unassign(at);
        }
    }

    /// Opens the partitions of a topic that are new here or have a new generation; says which ones those are. `same_topic`: it was not made again.
    fn renew_partitions(&mut self, topic: &Topic, same_topic: bool) -> Vec<u32> {
        let mut renewed = Vec::new();
        for (number, partition) in topic.partitions.iter().enumerate().filter(|(_, partition)| partition.owner == self.shard) {
            let at = PartitionRef { topic: topic.index, partition: number as u32 };
            if self.table.partition(at).is_some_and(|known| known.generation == partition.generation) {
                continue;
            }
            renewed.push(number as u32);
            let before = self.table.partition(at).filter(|before| same_topic && (before.generation.0 > 0 || before.lost_up_to.is_some()));
            let lost_up_to = before.map(|before| before.leader_epoch);
            let leader_epoch = lost_up_to.map_or(partition.leader_epoch, |lost| partition.leader_epoch.max(lost + 1));
            self.table.open_partition(
                at,
                HomePartition {
                    generation: partition.generation,
                    next: partition.start,
                    floor: partition.start,
                    ready_at: partition.ready_at,
                    log_start: Offset(0),
                    leader_epoch,
                    lost_up_to,
                    epoch: epoch_text(topic, number as u32, leader_epoch),
                    active: false,
                    ready: false,
                },
            );
        }
        renewed
    }

    /// Keys find other homes now: what this partition held of them before was not remembered as theirs, so subjects that come are complete from here
    /// on only. Subjects that stay keep their own floors.
    fn raise_floors(&mut self, topic: &Topic) {
        for number in 0..topic.partitions.len() as u32 {
            if let Some(partition) = self.table.partition_mut(PartitionRef { topic: topic.index, partition: number }) {
                partition.floor = partition.floor.max(partition.next);
            }
        }
    }

    /// A subject of a log that was replaced must not raise the floor of the new one.
    fn reset_floors(&mut self, topic: &Topic, renewed: &[u32]) {
        for number in renewed {
            let start = &topic.partitions[*number as usize];
            if let Some(partition) = self.table.partition_mut(PartitionRef { topic: topic.index, partition: *number }) {
                // What a compacted log held before this reading began may be incomplete already.
                partition.floor = if topic.compacted { start.start.max(start.ready_at) } else { start.start };
            }
        }
    }

    /// The log under a subject changed: its subscribers are told, its records are forgotten.
    fn reset_subject(&mut self, key: HomeKey, speech: &mut Speech) {
        self.tell_reset(key, speech);
        self.table.forget(key);
    }

    pub(super) fn tell_reset(&mut self, key: HomeKey, speech: &mut Speech) {
        for interest in self.table.get_mut(key).take_interest() {
            speech.from_home.say(interest.shard, FromHome::Reset { local: interest.local });
        }
    }

    /// Every shard routes by the map: reading may begin.
    pub fn take_map_active(&mut self, now_ms: u64, version: u64, speech: &mut Speech, effects: &mut impl Effects) {
        if version < self.map.version {
            return;
        }
        let map = self.map.clone();
        for topic in map.topics() {
            for number in 0..topic.partitions.len() as u32 {
                let at = PartitionRef { topic: topic.index, partition: number };
                let Some(partition) = self.table.partition_mut(at).filter(|partition| !partition.active && partition.generation.0 > 0)
                else {
                    continue;
                };
                partition.active = true;
                let (generation, start) = (partition.generation, partition.next);
                effects.assign(Assignment { partition: at, topic: topic.name.clone(), generation, start });
                self.advance(now_ms, at, generation, start, speech, effects);
            }
        }
        for topic in std::mem::take(&mut self.unsettled) {
            for at in self.held.partitions_of(topic) {
                self.release_held(now_ms, at, speech, effects);
            }
        }
    }
}
