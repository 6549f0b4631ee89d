//! What a home forgets, and when.

use super::{HomeKey, HomeTable, SUBJECT_WEIGHT};
use crate::handoff::{Generation, Offset, PartitionRef};

/// Records that are looked at, for their time is over, before others have their turn: some 2 ms.
const EXPIRED_AT_ONCE_MAX: usize = 16 << 10;

impl HomeTable {
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
        // Many that came together end together, and the shard has other things to do.
        for _ in 0..EXPIRED_AT_ONCE_MAX {
            let Some(&(key, sequence)) = self.arrivals.front() else { break };
            let Some(first) = self.subjects.get(key).and_then(|subject| subject.records.first()) else {
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
        // Entries whose record went early (over `records_max`) leave holes that only the front sees: sweep them when they outweigh the rest, a piece
        // each time, which is more than came since the last time.
        if self.arrivals.len() > 64 + 2 * self.records {
            let subjects = &self.subjects;
            self.arrivals.sweep(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.first()).is_some_and(|first| first.sequence <= *sequence)
            });
        }
        if self.kept.len() > 64 + 2 * self.subjects.len() {
            let subjects = &self.subjects;
            self.kept.sweep(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.first()).is_some_and(|first| first.sequence == *sequence)
            });
        }
    }

    /// Evicts what does not fit: encodings first, then records past their time, then the oldest; never the record `but`.
    pub(super) fn make_room(&mut self, but: Option<u64>) {
        self.trim_encodings();
        while self.bytes > self.limits.bytes_max {
            let Some((key, sequence)) = self.kept.pop_front().or_else(|| self.arrivals.pop_front()) else {
                break;
            };
            if Some(sequence) == but {
                self.arrivals.push_front((key, sequence));
                break;
            }
            if self.subjects.get(key).and_then(|subject| subject.records.first()).is_some_and(|first| first.sequence == sequence) {
                self.evict_first(key);
                self.forget_if_idle(key);
            }
        }
    }

    pub(super) fn evict_first(&mut self, key: HomeKey) {
        let subject = &mut self.subjects[key];
        let (key_len, heap_bytes) = (subject.key_len(), subject.records.heap_bytes());
        if let Some(cached) = subject.records.pop_first() {
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
            self.bytes -= heap_bytes - subject.records.heap_bytes();
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
        self.bytes -= SUBJECT_WEIGHT + subject.name.as_str().len() + subject.records.heap_bytes();
        let hash = self.hash(subject.topic, subject.name.key().map(str::as_bytes));
        self.by_key.remove(hash, key);
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
}
