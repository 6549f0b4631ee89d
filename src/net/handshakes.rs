//! How many TLS handshakes a shard begins in a second: each costs its core between some 100 us and some 2 ms, and everybody else's records wait.
//!
//! Who has no turn yet is not read: its message stays in the kernel. Turns come in the order of asking.

use std::collections::VecDeque;

use hashbrown::HashSet;

use crate::handoff::ConnectionKey;

/// See the module's documentation. At most as many wait as there are sockets.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    waiting: VecDeque<ConnectionKey>,
    /// Those of them that have not left.
    asked: HashSet<ConnectionKey>,
    /// Those whose turn has come, until they take it.
    admitted: HashSet<ConnectionKey>,
    /// Thousandths of a handshake that may begin now, as of `at_ms`.
    room: u64,
    at_ms: u64,
    /// How often one had to wait.
    pub waited: u64,
}

impl Handshakes {
    /// Whether a connection's handshake may begin now; if not, it is admitted later.
    pub fn ask(&mut self, now_ms: u64, per_second: u32, connection: ConnectionKey) -> bool {
        if self.admitted.remove(&connection) {
            return true;
        }
        if self.asked.contains(&connection) {
            return false;
        }
        self.earn(now_ms, per_second);
        if self.asked.is_empty() && self.room >= 1_000 {
            self.room -= 1_000;
            return true;
        }
        self.waited += 1;
        self.asked.insert(connection);
        self.waiting.push_back(connection);
        false
    }

    /// Those whose turn has come.
    pub fn admit(&mut self, now_ms: u64, per_second: u32) -> Vec<ConnectionKey> {
        let mut admitted = Vec::new();
        if self.waiting.is_empty() {
            return admitted;
        }
        self.earn(now_ms, per_second);
        while self.room >= 1_000
            && let Some(connection) = self.waiting.pop_front()
        {
            if self.asked.remove(&connection) {
                self.room -= 1_000;
                self.admitted.insert(connection);
                admitted.push(connection);
            }
        }
        admitted
    }

    /// Whether somebody waits for a turn.
    pub fn has_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// A connection is gone.
    pub fn leave(&mut self, connection: ConnectionKey) {
        if self.asked.remove(&connection) && self.waiting.len() > 2 * self.asked.len() + 64 {
            let asked = &self.asked;
            self.waiting.retain(|connection| asked.contains(connection));
        }
        self.admitted.remove(&connection);
    }

    /// What was not begun in 20 ms is not made up for: no burst is longer than that.
    fn earn(&mut self, now_ms: u64, per_second: u32) {
        let earned = (now_ms - self.at_ms).saturating_mul(u64::from(per_second));
        self.at_ms = now_ms;
        self.room = (self.room + earned).min((20 * u64::from(per_second)).max(1_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn a_storm_has_its_turns_in_order_and_no_second_has_more_than_its_share() {
        let mut keys: SlotMap<ConnectionKey, ()> = SlotMap::with_key();
        let storm: Vec<ConnectionKey> = (0..1_000).map(|_| keys.insert(())).collect();
        let mut handshakes = Handshakes::default();
        handshakes.admit(5_000, 100);
        let at_once = storm.iter().filter(|key| handshakes.ask(5_000, 100, **key)).count();
        assert!(at_once <= 2, "{at_once} at once");
        handshakes.leave(storm[500]);
        let mut begun = Vec::new();
        for now_ms in (5_010..=6_000).step_by(10) {
            for key in handshakes.admit(now_ms, 100) {
                assert!(handshakes.ask(now_ms, 100, key), "its turn is kept for it");
                begun.push(key);
            }
        }
        assert!((98..=102).contains(&begun.len()), "{} in a second", begun.len());
        assert_eq!(begun, storm[at_once..][..begun.len()]);
        for now_ms in (6_010..=16_000).step_by(10) {
            begun.extend(handshakes.admit(now_ms, 100));
        }
        assert_eq!(begun.len() + at_once, 999, "all but the one that left");
        assert!(!begun.contains(&storm[500]));
    }
}
