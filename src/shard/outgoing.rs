//! What a shard has to say to the shards in one direction: gathered per shard until the turn ends, then one lane message each. What it says to
//! itself takes the same way without the lane, in its order.
//!
//! Bounded: with so many bytes for one shard (`turn_bytes_max`), or a lane that refused, the direction is full, and its shard takes no more work that could add to it.

use std::collections::VecDeque;

use crate::handoff::{LaneFull, ShardId};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    shard: ShardId,
    weigh: fn(&T) -> usize,
    bytes_max: usize,
    own: VecDeque<T>,
    to: Vec<Waiting<T>>,
    /// The others that something waits for, whoever was spoken to first being first.
    spoken_to: Vec<ShardId>,
    /// How many of them are full.
    full: usize,
    /// Bytes that wait for all of them.
    bytes: usize,
    /// What time it is, in microseconds.
    pub clock_us: u64,
}

/// What waits for one other shard.
#[derive(Debug)]
struct Waiting<T> {
    messages: Vec<T>,
    /// When the first of them was said.
    since_us: u64,
    bytes: usize,
    /// The lane refused it.
    refused: bool,
}

impl<T> Waiting<T> {
    fn is_full(&self, bytes_max: usize) -> bool {
        self.refused || self.bytes >= bytes_max
    }
}

/// What became of a sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Lanes that are full and were not before.
    pub refused: u64,
    /// What was full, for a lane had refused it or there was so much of it, has gone.
    pub relieved: bool,
}

impl<T> Outgoing<T> {
    /// Of one of `shards` shards; `weigh` gives the bytes that a message keeps alive.
    pub fn new(shard: ShardId, shards: u16, bytes_max: usize, weigh: fn(&T) -> usize) -> Outgoing<T> {
        let waiting = |_| Waiting { messages: Vec::new(), since_us: 0, bytes: 0, refused: false };
        Outgoing {
            shard,
            weigh,
            bytes_max,
            own: VecDeque::new(),
            to: (0..shards).map(waiting).collect(),
            spoken_to: Vec::new(),
            full: 0,
            bytes: 0,
            clock_us: 0,
        }
    }

    /// Says something to a shard. Never refuses: who may say much asks `is_full` before.
    pub fn say(&mut self, to: ShardId, message: T) {
        if to == self.shard {
            self.own.push_back(message);
            return;
        }
        let waiting = &mut self.to[to.index()];
        if waiting.messages.is_empty() {
            self.spoken_to.push(to);
            waiting.since_us = self.clock_us;
        }
        let (weight, was_full) = ((self.weigh)(&message), waiting.is_full(self.bytes_max));
        waiting.bytes += weight;
        waiting.messages.push(message);
        self.bytes += weight;
        self.full += usize::from(!was_full && waiting.is_full(self.bytes_max));
    }

    /// Whether this shard said something to itself.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The next thing that this shard said to itself.
    pub fn next_own(&mut self) -> Option<T> {
        self.own.pop_front()
    }

    /// Whether one of the lanes has no room.
    pub fn is_full(&self) -> bool {
        self.full > 0
    }

    /// Whether as much waits for one shard.
    pub fn holds(&self, bytes: usize) -> bool {
        self.bytes >= bytes && self.spoken_to.iter().any(|to| self.to[to.index()].bytes >= bytes)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.spoken_to.is_empty()
    }

    /// Bytes that wait for other shards.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends what waits, one message for each shard, with the time when the first of it was said; what a lane refuses goes on waiting.
    pub fn send(&mut self, mut send: impl FnMut(ShardId, Vec<T>, u64) -> Result<(), LaneFull<Vec<T>>>) -> Sent {
        let mut sent = Sent::default();
        let Outgoing { bytes_max, to: all, spoken_to, full, bytes, .. } = self;
        spoken_to.retain(|to| {
            let waiting = &mut all[to.index()];
            let was_full = waiting.is_full(*bytes_max);
            match send(*to, std::mem::take(&mut waiting.messages), waiting.since_us) {
                Ok(()) => {
                    sent.relieved |= was_full;
                    *full -= usize::from(was_full);
                    *bytes -= waiting.bytes;
                    (waiting.refused, waiting.bytes) = (false, 0);
                    false
                }
                Err(LaneFull(messages)) => {
                    waiting.messages = messages;
                    *full += usize::from(!was_full);
                    sent.refused += u64::from(!std::mem::replace(&mut waiting.refused, true));
                    true
                }
            }
        });
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lane_refuses_waits_in_its_order_and_what_is_said_to_oneself_takes_no_lane() {
        let mut outgoing: Outgoing<u32> = Outgoing::new(ShardId(0), 2, 200, |_| 100);
        outgoing.say(ShardId(0), 7);
        outgoing.say(ShardId(1), 1);
        assert!(!outgoing.is_full());
        outgoing.say(ShardId(1), 2);
        assert!(outgoing.is_full() && outgoing.holds(200));
        let sent = outgoing.send(|_, messages, _| Err(LaneFull(messages)));
        assert_eq!((sent, outgoing.is_full()), (Sent { refused: 1, relieved: false }, true));
        outgoing.say(ShardId(1), 3);
        assert!(outgoing.is_full());
        let mut taken = Vec::new();
        let sent = outgoing.send(|to, messages, _| {
            taken.push((to, messages));
            Ok(())
        });
        assert_eq!((sent, taken), (Sent { refused: 0, relieved: true }, vec![(ShardId(1), vec![1, 2, 3])]));
        assert_eq!((outgoing.bytes(), outgoing.is_empty(), outgoing.next_own(), outgoing.is_empty()), (0, false, Some(7), true));
    }
}
