//! Subscriptions that were left a moment ago, and where they ended.
//!
//! Older SDKs that leave and come back at once take the answer to the first subscribe for that to the second: they know the first position only, so
//! the second subscription goes on where the first ended. Owned by the shard's thread. At most [`LEFT_MAX`] are remembered, for [`LEFT_MS`]; one
//! more makes the shard forget the oldest, whose client starts from now on when it comes back.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::handoff::{ConnectionKey, Generation, Offset, PartitionRef};
use crate::limits::{LEFT_MAX, LEFT_MS};
use crate::subject::SubjectName;

/// Where a subscription ended: it would have needed everything from `next` on, in that log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub partition: PartitionRef,
    pub generation: Generation,
    pub next: Offset,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct LeftSubscriptions {
    by_subject: HashMap<(ConnectionKey, SubjectName), (u64, Left)>,
    /// In the order of their end. One that `by_subject` does not have, or has with another time, is void.
    order: VecDeque<(u64, ConnectionKey, SubjectName)>,
}

impl LeftSubscriptions {
    pub fn leave(&mut self, now_ms: u64, connection: ConnectionKey, name: SubjectName, left: Left) {
        if self.order.len() >= LEFT_MAX {
            self.forget_first();
        }
        let until_ms = now_ms + LEFT_MS;
        self.order.push_back((until_ms, connection, name.clone()));
        self.by_subject.insert((connection, name), (until_ms, left));
    }

    /// Where the connection's last subscription of that subject ended, if that was a moment ago.
    pub fn take(&mut self, now_ms: u64, connection: ConnectionKey, name: &SubjectName) -> Option<Left> {
        if self.by_subject.is_empty() {
            return None;
        }
        let (until_ms, left) = self.by_subject.remove(&(connection, name.clone()))?;
        (until_ms > now_ms).then_some(left)
    }

    /// Forgets those whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(until_ms, ..)| *until_ms <= now_ms) {
            self.forget_first();
        }
        if self.order.is_empty() {
            // A storm of them leaves no memory behind.
            self.order.shrink_to_fit();
            self.by_subject.shrink_to_fit();
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_subject.len()
    }

    fn forget_first(&mut self) {
        let Some((until_ms, connection, name)) = self.order.pop_front() else { return };
        let key = (connection, name);
        if self.by_subject.get(&key).is_some_and(|(until, _)| *until == until_ms) {
            self.by_subject.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::TopicIndex;
    use slotmap::SlotMap;

    #[test]
    fn what_was_left_is_remembered_for_a_moment_and_bounded() {
        let mut connections: SlotMap<ConnectionKey, ()> = SlotMap::with_key();
        let (one, two) = (connections.insert(()), connections.insert(()));
        let name = |number: usize| SubjectName::parse(&format!("/v/{number}"), 100).unwrap();
        let partition = PartitionRef { topic: TopicIndex(0), partition: 0 };
        let at = |next: i64| Left { partition, generation: Generation(1), next: Offset(next) };
        let mut left = LeftSubscriptions::default();
        left.leave(0, one, name(1), at(5));
        assert_eq!(left.take(10, two, &name(1)), None, "another connection's");
        assert_eq!(left.take(10, one, &name(1)), Some(at(5)));
        assert_eq!(left.take(10, one, &name(1)), None, "once");
        left.leave(20, one, name(1), at(6));
        left.leave(30, one, name(1), at(7));
        left.expire(20 + LEFT_MS);
        assert_eq!(left.take(20 + LEFT_MS, one, &name(1)), Some(at(7)), "the later one has its own time");
        for number in 0..LEFT_MAX + 100 {
            left.leave(1_000, two, name(number), at(1));
        }
        assert_eq!((left.len(), left.order.len()), (LEFT_MAX, LEFT_MAX));
        left.expire(1_000 + LEFT_MS);
        assert_eq!((left.len(), left.order.capacity(), left.by_subject.capacity()), (0, 0, 0));
    }
}
