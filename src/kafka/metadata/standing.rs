//! Where the node stands with Kafka: which partitions are ready, held or stuck.

use std::time::Duration;

use super::handle::NodeState;
use super::reader::Reader;
use crate::handoff::{Generation, PartitionRef};
use crate::kafka::lock;
use crate::subject::{Partitioner, Topic};

/// How long Kafka may be unreachable before a node that was ready is not any more: longer than it takes another broker to answer in its place.
const LOST_TIME: Duration = Duration::from_secs(10);

impl Reader {
    pub(super) fn set_state(&self, state: NodeState) {
        *lock(&self.state) = state;
    }

    /// Whether Kafka has been away for so long that the node is of no use to anybody.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some_and(|since| since.elapsed() >= LOST_TIME)
    }

    /// Whether something waits for the next reading.
    pub(super) fn is_in_a_hurry(&self) -> bool {
        self.look || self.misfits.keys().any(|topic| !self.was_kept(*topic)) || !self.out_of_range.is_empty()
    }

    pub(super) fn update_state(&mut self) {
        if !self.read_once || self.is_lost() {
            return;
        }
        let partitions = || {
            self.known.values().flat_map(|known| {
                let index = known.index;
                known
                    .topic
                    .partitions
                    .iter()
                    .enumerate()
                    .map(move |(number, partition)| (PartitionRef { topic: index, partition: number as u32 }, partition.generation))
            })
        };
        // One that cannot be read makes no node unready: the others stand before the same bytes, and the other partitions are served.
        let is_held = |(at, generation): &(PartitionRef, Generation)| self.held.get(at).is_some_and(|(held, _)| held == generation);
        let ready = partitions().filter(|partition| self.ready.contains(partition) || is_held(partition)).count();
        let mut lines: Vec<String> = (self.known.iter())
            .flat_map(|(name, known)| {
                let held = self.held.iter().filter(|(at, _)| at.topic == known.index);
                held.filter(|(at, (generation, _))| {
                    known.topic.partitions.get(at.partition as usize).is_some_and(|partition| partition.generation == *generation)
                })
                .map(move |(at, (_, base))| format!("topic {name} partition {}: the batch at offset {} is corrupt", at.partition, base.0))
            })
            .collect();
        lines.sort_unstable();
        *lock(&self.held_lines) = lines;
        let mut stuck: Vec<String> = (self.known.iter())
            .flat_map(|(name, known)| {
                let stuck = self.stuck.iter().filter(|(at, _)| at.topic == known.index);
                let current = |at: &PartitionRef| known.topic.partitions.get(at.partition as usize).map(|partition| partition.generation);
                stuck
                    .filter(move |(at, generation)| current(at) == Some(**generation))
                    .map(move |(at, _)| format!("topic {name} partition {}", at.partition))
            })
            .collect();
        stuck.sort_unstable();
        *lock(&self.stuck_lines) = stuck;
        let live_only = |topic: &Topic| topic.partitioner_is_guess && topic.partitioner == Partitioner::Any;
        *lock(&self.live_only) = self.known.iter().filter(|(_, known)| live_only(&known.topic)).map(|(name, _)| name.clone()).collect();
        let count = partitions().count();
        self.was_ready |= ready == count && self.active == self.version && self.version > 0;
        self.set_state(if self.was_ready { NodeState::Ready } else { NodeState::Loading { ready, partitions: count } });
    }

    pub(super) fn is_whole(&self) -> bool {
        self.known.values().all(|known| known.topic.partitions.iter().all(|partition| partition.generation.0 > 0))
    }
}
