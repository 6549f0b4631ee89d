//! The numeric channel ids that a home grants in place of subject names.
//!
//! Owned by the home's shard. Ids are `shard + 1`, `shard + 1 + shards`, ...: unique on the node without a word between shards. Invariants:
//! * an id is never given to another subject while the node lives;
//! * a subject that is forgotten and comes back within [`ID_KEPT_MS`] has the id it had: a client may take the answer to one subscribe for that
//!   to the next, and then knows the older id only;
//! * at most [`IDS_MAX`] are granted or kept; a subject over that is called by its name, which every client understands.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::SubjectName;
use crate::ids::ShardId;
use crate::limits::{ID_KEPT_MS, IDS_MAX};

/// What the home calls a subject, in the forms with ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelId {
    /// Nobody has asked for an id yet.
    #[default]
    Unasked,
    Granted(u64),
    /// There was no id to give: its name, for as long as the home knows the subject.
    Named,
}

impl ChannelId {
    /// The number on the wire; 0 stands for the name.
    pub fn number(self) -> u64 {
        match self {
            ChannelId::Granted(id) => id,
            ChannelId::Unasked | ChannelId::Named => 0,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ChannelIds {
    next: u64,
    step: u64,
    /// Granted now, or kept.
    count: usize,
    count_max: usize,
    kept: HashMap<SubjectName, Kept>,
    /// The kept ones, the first to be let go of first. An entry that the map does not have, or has with another time, is void.
    order: VecDeque<(u64, SubjectName)>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    id: u64,
    until_ms: u64,
}

impl ChannelIds {
    /// The ids of one shard's homes.
    pub fn new(shard: ShardId, shards: u16) -> ChannelIds {
        let (next, step) = (u64::from(shard.0) + 1, u64::from(shards));
        ChannelIds { next, step, count: 0, count_max: IDS_MAX, kept: HashMap::new(), order: VecDeque::new() }
    }

    /// An id for a subject: the one it had, or a new one while there is room.
    pub fn grant(&mut self, name: &SubjectName) -> ChannelId {
        if let Some(kept) = self.kept.remove(name) {
            return ChannelId::Granted(kept.id);
        }
        if self.count >= self.count_max {
            return ChannelId::Named;
        }
        self.count += 1;
        let id = self.next;
        self.next += self.step;
        ChannelId::Granted(id)
    }

    /// The home has forgotten the subject: its id is kept for a while.
    pub fn keep(&mut self, now_ms: u64, name: SubjectName, id: ChannelId) {
        if let ChannelId::Granted(id) = id {
            let until_ms = now_ms + ID_KEPT_MS;
            self.order.push_back((until_ms, name.clone()));
            self.kept.insert(name, Kept { id, until_ms });
        }
    }

    /// Lets go of ids whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            let Some((until_ms, name)) = self.order.pop_front() else { return };
            if self.kept.get(&name).is_some_and(|kept| kept.until_ms == until_ms) {
                self.kept.remove(&name);
                self.count -= 1;
            }
        }
        // A subject that comes and goes leaves void entries behind.
        if self.order.len() > 64 + 2 * self.kept.len() {
            let kept = &self.kept;
            self.order.retain(|(until_ms, name)| kept.get(name).is_some_and(|kept| kept.until_ms == *until_ms));
        }
    }

    /// Granted or kept now.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is granted or kept.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> SubjectName {
        SubjectName::parse(&format!("/v/{number}"), 100).unwrap()
    }

    #[test]
    fn a_subject_that_comes_back_within_a_minute_has_its_id_and_nobody_else_ever_has() {
        let mut ids = ChannelIds::new(ShardId(1), 4);
        let (first, second) = (ids.grant(&name(1)), ids.grant(&name(2)));
        assert_eq!((first, second), (ChannelId::Granted(2), ChannelId::Granted(6)));
        ids.keep(1_000, name(1), first);
        ids.expire(1_000 + ID_KEPT_MS - 1);
        assert_eq!(ids.grant(&name(3)), ChannelId::Granted(10));
        assert_eq!(ids.grant(&name(1)), first);
        ids.keep(2_000, name(1), first);
        ids.expire(2_000 + ID_KEPT_MS);
        assert_eq!((ids.grant(&name(1)), ids.len()), (ChannelId::Granted(14), 3));
    }

    #[test]
    fn over_the_bound_subjects_are_called_by_name_and_what_comes_and_goes_leaves_nothing() {
        let mut ids = ChannelIds { count_max: 2, ..ChannelIds::new(ShardId(0), 1) };
        let first = ids.grant(&name(1));
        ids.keep(0, name(1), first);
        ids.grant(&name(2));
        assert_eq!((ids.grant(&name(3)), ids.grant(&name(3)).number()), (ChannelId::Named, 0));
        ids.expire(ID_KEPT_MS);
        assert!(matches!(ids.grant(&name(3)), ChannelId::Granted(_)));
        for now_ms in 0..10_000 {
            ids.keep(now_ms, name(2), ChannelId::Granted(2));
            assert_eq!(ids.grant(&name(2)), ChannelId::Granted(2));
            ids.expire(now_ms);
            assert!(ids.order.len() <= 66);
        }
    }
}
