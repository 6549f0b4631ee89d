//! Subjects that are live only because a record of them was found on a partition that is not their key's.

use hashbrown::{HashMap, HashSet};

use crate::handoff::TopicIndex;
use crate::limits::{STRAY_SAY_MS, STRAYS_MAX};

/// See the module's documentation. At most [`STRAYS_MAX`] are remembered.
#[derive(Debug, Default)]
pub(super) struct Strays {
    keys: HashMap<TopicIndex, HashSet<Box<[u8]>>>,
    count: usize,
    /// When the log named one last, and how many there were since.
    said_ms: Option<u64>,
    unsaid: u64,
}

impl Strays {
    /// Whether a key's subject is one.
    pub fn contains(&self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        self.count > 0 && key.is_some_and(|key| self.keys.get(&topic).is_some_and(|strays| strays.contains(key)))
    }

    /// Takes a key's positions away; `false`: there are so many that no more are remembered.
    pub fn add(&mut self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        let Some(key) = key.filter(|_| self.count < STRAYS_MAX) else {
            return false;
        };
        let new = self.keys.entry(topic).or_default().insert(Box::from(key));
        self.count += usize::from(new);
        new
    }

    /// Those of a topic are none any more.
    pub fn forget(&mut self, topic: TopicIndex) {
        self.count -= self.keys.remove(&topic).map_or(0, |strays| strays.len());
    }

    /// How many there were since the log named one, if it is time to name one again.
    pub fn unsaid(&mut self, now_ms: u64) -> Option<u64> {
        self.unsaid += 1;
        if self.said_ms.is_some_and(|said_ms| said_ms + STRAY_SAY_MS > now_ms) {
            return None;
        }
        self.said_ms = Some(now_ms);
        Some(std::mem::take(&mut self.unsaid))
    }
}
