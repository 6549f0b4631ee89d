//! A mailbox: how housekeeping threads tell a shard something. Many senders, one shard, bounded.
//!
//! Nobody who must not block may hold a sender: a full mailbox makes the sender wait until the shard has read, which it always does.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::wake::Wake;

/// The end of housekeeping threads.
#[derive(Debug)]
pub struct MailboxSender<T> {
    channel: Sender<T>,
    wake: Arc<Wake>,
}

// Not derived: letters need not be `Clone`.
impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        MailboxSender { channel: self.channel.clone(), wake: self.wake.clone() }
    }
}

/// The shard's end.
#[derive(Debug)]
pub struct MailboxReceiver<T> {
    channel: Receiver<T>,
}

/// Makes a mailbox of at most `letters_max` letters; `wake` is the shard's.
pub fn mailbox<T>(letters_max: usize, wake: Arc<Wake>) -> (MailboxSender<T>, MailboxReceiver<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(letters_max.max(1));
    (MailboxSender { channel: sender, wake }, MailboxReceiver { channel: receiver })
}

impl<T> MailboxSender<T> {
    /// Puts a letter in and wakes the shard; waits while the mailbox is full. Hands the letter back if the shard has ended.
    pub fn post(&self, letter: T) -> Result<(), T> {
        self.channel.send(letter).map_err(|error| error.into_inner())?;
        self.wake.notify();
        Ok(())
    }
}

impl<T> MailboxSender<T> {
    /// Puts a letter in if there is room. Hands it back otherwise.
    pub fn try_post(&self, letter: T) -> Result<(), T> {
        self.channel.try_send(letter).map_err(|error| error.into_inner())?;
        self.wake.notify();
        Ok(())
    }
}

impl<T> MailboxReceiver<T> {
    /// The next letter, if there is one.
    pub fn try_receive(&self) -> Option<T> {
        self.channel.try_recv().ok()
    }
}
