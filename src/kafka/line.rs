//! A sender that never blocks: what a channel has no room for waits at its sender's, in its order, and goes with the next turn.
//!
//! For words that must not be lost and that shards say seldom: that a partition is ready, stands still, is to be read. A shard says a few of them about
//! each of its partitions, so no more than that can wait.

use std::collections::VecDeque;

use crossbeam_channel::{Sender, TrySendError};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Line<T> {
    channel: Sender<T>,
    late: VecDeque<T>,
}

impl<T> Line<T> {
    pub(super) fn new(channel: Sender<T>) -> Line<T> {
        Line { channel, late: VecDeque::new() }
    }

    /// Says something, after what was said before it.
    pub(super) fn say(&mut self, word: T) {
        self.late.push_back(word);
        self.catch_up();
    }

    /// Says what had no room, as far as there is room now.
    pub(super) fn catch_up(&mut self) {
        while let Some(word) = self.late.pop_front() {
            match self.channel.try_send(word) {
                Ok(()) => {}
                Err(TrySendError::Full(word)) => {
                    self.late.push_front(word);
                    return;
                }
                // Its other end has ended, and then the process ends too.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_blocks_nobody_and_loses_and_reorders_nothing() {
        let (sender, receiver) = crossbeam_channel::bounded(2);
        let mut line = Line::new(sender);
        (0..5).for_each(|word| line.say(word));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1]);
        line.say(5);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 3]);
        line.catch_up();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [4, 5]);
    }
}
