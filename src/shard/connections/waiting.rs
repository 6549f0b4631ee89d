//! Connections that wait, each in exactly one queue, named by what it waits for.
//!
//! Who waits is a connection whose next command cannot be taken now, or whose socket may not be read now. The event that it waits for moves it to
//! `Wait::Turn`, and the next flush looks at it. Nothing is looked at because something might have happened. Entries cost memory while a connection
//! waits only; a connection that ends leaves its queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::handoff::ConnectionKey;

/// What a connection waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::shard) enum Wait {
    /// Its turn: what it waited for may be there, or its message has very many commands.
    Turn,
    /// Room in a lane toward home.
    Lane,
    /// Room at the producer, or one more open publish of this shard. The longest waiting is first.
    Producer,
    /// So many bytes of room in its own outbox.
    Room(usize),
    /// Fewer bytes of messages that are held for all connections.
    Messages,
    /// Kafka's answer to another publish of its own.
    Answer,
    /// Word about a topic.
    Topic(Arc<str>),
}

/// Whether a command was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Taken {
    Yes,
    /// Not now: nothing was done, the command is to be tried again when what it waits for may be there.
    NotNow(Wait),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    links: HashMap<ConnectionKey, Link>,
    queues: Queues,
    /// Those with a command, by when it was read.
    read: BTreeSet<(u64, ConnectionKey)>,
}

#[derive(Debug)]
struct Link {
    wait: Wait,
    before: Option<ConnectionKey>,
    after: Option<ConnectionKey>,
    read_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: ConnectionKey,
    last: ConnectionKey,
    len: usize,
}

/// The queues that are not empty. Those that are asked for with every tick have a place each.
#[derive(Debug, Default)]
struct Queues {
    placed: [Option<Queue>; 5],
    others: HashMap<Wait, Queue>,
}

impl Queues {
    fn place(wait: &Wait) -> Option<usize> {
        match wait {
            Wait::Turn => Some(0),
            Wait::Lane => Some(1),
            Wait::Producer => Some(2),
            Wait::Messages => Some(3),
            Wait::Answer => Some(4),
            Wait::Room(_) | Wait::Topic(_) => None,
        }
    }

    fn get(&self, wait: &Wait) -> Option<&Queue> {
        Queues::place(wait).map_or_else(|| self.others.get(wait), |place| self.placed[place].as_ref())
    }

    fn get_mut(&mut self, wait: &Wait) -> Option<&mut Queue> {
        match Queues::place(wait) {
            Some(place) => self.placed[place].as_mut(),
            None => self.others.get_mut(wait),
        }
    }

    fn insert(&mut self, wait: &Wait, queue: Queue) {
        match Queues::place(wait) {
            Some(place) => self.placed[place] = Some(queue),
            None => {
                self.others.insert(wait.clone(), queue);
            }
        }
    }

    fn remove(&mut self, wait: &Wait) {
        match Queues::place(wait) {
            Some(place) => self.placed[place] = None,
            None => {
                self.others.remove(wait);
            }
        }
    }

    /// Each with what is waited for, for the judges.
    fn whole(&self) -> impl Iterator<Item = (Wait, &Queue)> {
        let placed = [Wait::Turn, Wait::Lane, Wait::Producer, Wait::Messages, Wait::Answer];
        let placed = placed.into_iter().filter_map(|wait| Some((wait.clone(), self.get(&wait)?)));
        placed.chain(self.others.iter().map(|(wait, queue)| (wait.clone(), queue)))
    }

    fn rooms(&self) -> impl Iterator<Item = (&Wait, &Queue)> {
        self.others.iter().filter(|(wait, _)| matches!(wait, Wait::Room(_)))
    }
}

impl Waiting {
    /// Puts a connection at the end of a queue. `read_ms`: when the command that waits was read.
    ///
    /// # Panics
    /// If it waits already: for two things at once nobody waits.
    pub fn enter(&mut self, connection: ConnectionKey, wait: Wait, read_ms: Option<u64>) {
        let before = match self.queues.get_mut(&wait) {
            Some(queue) => {
                queue.len += 1;
                Some(std::mem::replace(&mut queue.last, connection))
            }
            None => {
                self.queues.insert(&wait, Queue { first: connection, last: connection, len: 1 });
                None
            }
        };
        if let Some(before) = before {
            self.link(before).after = Some(connection);
        }
        self.add(connection, Link { wait, before, after: None, read_ms });
    }

    fn add(&mut self, connection: ConnectionKey, link: Link) {
        if let Some(read_ms) = link.read_ms {
            self.read.insert((read_ms, connection));
        }
        let before = self.links.insert(connection, link);
        assert!(before.is_none(), "{connection:?} waits for two things: {before:?}");
    }

    fn link(&mut self, connection: ConnectionKey) -> &mut Link {
        self.links.get_mut(&connection).expect("a queue names those who wait")
    }

    /// Takes a connection out of its queue; what it waited for, and since when.
    pub fn leave(&mut self, connection: ConnectionKey) -> Option<(Wait, Option<u64>)> {
        let Link { wait, before, after, read_ms } = self.links.remove(&connection)?;
        if let Some(read_ms) = read_ms {
            self.read.remove(&(read_ms, connection));
        }
        if let Some(before) = before {
            self.link(before).after = after;
        }
        if let Some(after) = after {
            self.link(after).before = before;
        }
        if let Some(queue) = self.queues.get_mut(&wait) {
            queue.len -= 1;
            match (before, after) {
                (None, None) => {
                    self.queues.remove(&wait);
                }
                (None, Some(after)) => queue.first = after,
                (Some(before), None) => queue.last = before,
                (Some(_), Some(_)) => {}
            }
        }
        Some((wait, read_ms))
    }

    /// What a connection waits for.
    pub fn of(&self, connection: ConnectionKey) -> Option<&Wait> {
        self.links.get(&connection).map(|link| &link.wait)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// How many wait for that.
    pub fn len(&self, wait: &Wait) -> usize {
        self.queues.get(wait).map_or(0, |queue| queue.len)
    }

    /// The longest waiting.
    pub fn first(&self, wait: &Wait) -> Option<ConnectionKey> {
        self.queues.get(wait).map(|queue| queue.first)
    }

    /// Who came to the same queue next.
    pub fn after(&self, connection: ConnectionKey) -> Option<ConnectionKey> {
        self.links.get(&connection)?.after
    }

    /// Takes out the longest waiting.
    pub fn next(&mut self, wait: &Wait) -> Option<ConnectionKey> {
        let first = self.queues.get(wait)?.first;
        self.leave(first);
        Some(first)
    }

    /// It is a connection's turn.
    pub fn wake(&mut self, connection: ConnectionKey) {
        if self.of(connection).is_some_and(|wait| *wait != Wait::Turn)
            && let Some((_, read_ms)) = self.leave(connection)
        {
            self.enter(connection, Wait::Turn, read_ms);
        }
    }

    /// It is the turn of all who wait for that.
    pub fn wake_all(&mut self, wait: &Wait) {
        for _ in 0..self.len(wait) {
            if let Some(connection) = self.queues.get(wait).map(|queue| queue.first) {
                self.wake(connection);
            }
        }
    }

    /// All who wait for room.
    pub fn of_rooms(&self) -> Vec<ConnectionKey> {
        let first = self.queues.rooms().map(|(_, queue)| queue.first);
        first.flat_map(|first| std::iter::successors(Some(first), |connection| self.after(*connection))).collect()
    }

    /// It is the turn of all who wait for room.
    pub fn wake_rooms(&mut self) {
        let rooms: Vec<Wait> = self.queues.rooms().map(|(wait, _)| wait.clone()).collect();
        for wait in rooms {
            self.wake_all(&wait);
        }
    }

    /// It is the turn of those whose command was read at that time or earlier.
    pub fn wake_read_until(&mut self, read_ms: u64) {
        let due: Vec<ConnectionKey> =
            self.read.iter().take_while(|(since_ms, _)| *since_ms <= read_ms).map(|(_, connection)| *connection).collect();
        for connection in due {
            self.wake(connection);
        }
        if self.links.is_empty() {
            // A storm of them leaves no memory behind.
            self.links.shrink_to_fit();
            self.queues.others.shrink_to_fit();
        }
    }

    /// Who waits for what, for reports.
    pub fn whole(&self) -> Vec<(ConnectionKey, Wait)> {
        self.links.iter().map(|(connection, link)| (*connection, link.wait.clone())).collect()
    }

    /// Whether a connection with a command waits, for the judges: all who wait are to be found by what they wait for.
    ///
    /// # Panics
    /// If a queue and its links do not agree.
    pub fn check(&self) {
        let mut found = 0;
        for (wait, queue) in self.queues.whole() {
            let (mut next, mut before) = (Some(queue.first), None);
            let mut len = 0;
            while let Some(connection) = next {
                let link = &self.links[&connection];
                assert_eq!((&link.wait, link.before), (&wait, before), "{connection:?} is where its link says");
                (before, next) = (Some(connection), link.after);
                len += 1;
            }
            assert_eq!((len, before), (queue.len, Some(queue.last)), "the queue for {wait:?} is whole");
            found += len;
        }
        assert_eq!(found, self.links.len(), "who waits is in one queue");
        assert_eq!(self.read.len(), self.links.values().filter(|link| link.read_ms.is_some()).count(), "commands that wait have a time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use slotmap::SlotMap;
    use std::collections::VecDeque;

    fn waits() -> [Wait; 4] {
        [Wait::Turn, Wait::Producer, Wait::Room(7), Wait::Topic(Arc::from("vehicles"))]
    }

    proptest! {
        /// Against plain lists.
        #[test]
        fn queues_keep_their_order_whoever_leaves_them(steps in prop::collection::vec((0_usize..12, 0_usize..4, 0_u8..6), 0..200)) {
            let mut keys = SlotMap::<ConnectionKey, ()>::with_key();
            let keys: Vec<ConnectionKey> = (0..12).map(|_| keys.insert(())).collect();
            let mut waiting = Waiting::default();
            let mut lists: Vec<VecDeque<ConnectionKey>> = vec![VecDeque::new(); 4];
            for (who, what, step) in steps {
                let (key, wait) = (keys[who], &waits()[what]);
                let there = lists.iter().position(|list| list.contains(&key));
                match step {
                    0 | 1 if there.is_none() => {
                        waiting.enter(key, wait.clone(), (who % 2 == 0).then_some(who as u64));
                        lists[what].push_back(key);
                    }
                    2 => {
                        let walk: Vec<_> = std::iter::successors(waiting.first(wait), |key| waiting.after(*key)).collect();
                        prop_assert_eq!(walk, Vec::from(lists[what].clone()));
                    }
                    3 => {
                        prop_assert_eq!(waiting.leave(key).map(|(wait, _)| wait), there.map(|there| waits()[there].clone()));
                        lists.iter_mut().for_each(|list| list.retain(|other| *other != key));
                    }
                    4 => prop_assert_eq!(waiting.next(wait), lists[what].pop_front()),
                    5 => {
                        waiting.wake_all(wait);
                        if what > 0 {
                            let woken = std::mem::take(&mut lists[what]);
                            lists[0].extend(woken);
                        }
                    }
                    _ => {}
                }
                waiting.check();
                for (wait, list) in waits().iter().zip(&lists) {
                    prop_assert_eq!(waiting.len(wait), list.len());
                }
            }
        }
    }
}
