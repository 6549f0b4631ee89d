//! Kafka waits for readers who read: the connections whose outboxes are more than half full although their sockets take what they are given.
//!
//! A burst is faster than any socket. While somebody is crowded, the shard takes nothing from Kafka and from other homes, so that outboxes drain into
//! sockets; for at most [`INTAKE_WAIT_MS`] of any second in all, so that slow readers hold up nobody for long. Only then is anyone parked. Who has
//! taken nothing for [`STUCK_MS`] is no reason to wait.

use crate::handoff::ConnectionKey;
use crate::limits::INTAKE_WAIT_MS;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Nobody twice: a session knows whether it is here.
    pub members: Vec<ConnectionKey>,
    /// Those of them that have not been written to since they are.
    pub unwritten: Vec<ConnectionKey>,
    /// Since when Kafka waits.
    since_ms: Option<u64>,
    /// The second that is counted, and how much of it was waited.
    second_ms: u64,
    spent_ms: u64,
    /// All that was ever waited, in milliseconds.
    pub waited_ms: u64,
}

impl Crowd {
    /// Whether Kafka waits now.
    pub fn waits(&self) -> bool {
        self.since_ms.is_some()
    }

    /// Decides anew, once `members` are those who are crowded now.
    pub fn decide(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.since_ms {
            self.spent_ms += now_ms - since_ms;
            self.waited_ms += now_ms - since_ms;
        }
        if now_ms >= self.second_ms + 1_000 {
            (self.second_ms, self.spent_ms) = (now_ms, 0);
        }
        let waits = !self.members.is_empty() && self.spent_ms < INTAKE_WAIT_MS;
        self.since_ms = waits.then_some(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn kafka_waits_a_tenth_of_any_second_at_most() {
        let mut crowd = Crowd::default();
        crowd.members.push(SlotMap::<ConnectionKey, ()>::with_key().insert(()));
        let waited: Vec<u64> = (0..3_000)
            .filter(|now_ms| {
                crowd.decide(*now_ms);
                crowd.waits()
            })
            .collect();
        for from in 0..2_000 {
            let count = waited.iter().filter(|now_ms| (from..from + 900).contains(*now_ms)).count();
            assert!(count as u64 <= INTAKE_WAIT_MS, "{count} ms after {from}");
        }
        assert_eq!((waited.len(), crowd.waited_ms), (300, 300));
        crowd.members.clear();
        crowd.decide(3_000);
        assert!(!crowd.waits());
    }
}
