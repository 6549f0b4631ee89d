//! All shards of a node, as the housekeeping side holds them: their desks, their threads, their pulses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::executor::{Pulse, ShardFailed};
use crate::handoff::{MailboxReceiver, MailboxSender, ShardId, Wake, mailbox};
use crate::shard::{Letter, ShardSettings};

/// Letters that wait for one shard, beside its publishes' answers.
const LETTERS_MAX: usize = 4_096;
/// How long shards have to end when another one could not begin.
const STOP_TIME: Duration = Duration::from_secs(2);
/// How often the end of a drain, or of a thread, is looked for.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// One shard's desk: where housekeeping leaves letters, and what wakes the shard. Made before the shard, because Kafka's clients want it first.
#[derive(Debug)]
pub struct Desk {
    pub wake: Arc<Wake>,
    pub letters: MailboxSender<Letter>,
    pub(super) mailbox: MailboxReceiver<Letter>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) drained: Arc<AtomicBool>,
}

/// The desks of all shards.
#[derive(Debug)]
pub struct Desks(pub Vec<Desk>);

impl Desks {
    /// Desks for `shards` shards; each may have `publishes_open_max` publishes that Kafka has not answered.
    pub fn new(shards: u16, publishes_open_max: usize) -> Desks {
        let desk = |_| {
            let wake = Arc::new(Wake::new());
            // Room for every answer that can come, so a thread of librdkafka's never waits for a shard.
            let (letters, mailbox) = mailbox(LETTERS_MAX + publishes_open_max, wake.clone());
            Desk { wake, letters, mailbox, pulse: Arc::default(), drained: Arc::default() }
        };
        Desks((0..shards).map(desk).collect())
    }

    /// Where to write to each shard.
    pub fn letters(&self) -> Vec<MailboxSender<Letter>> {
        self.0.iter().map(|desk| desk.letters.clone()).collect()
    }

    /// What wakes each shard.
    pub fn wakes(&self) -> Vec<Arc<Wake>> {
        self.0.iter().map(|desk| desk.wake.clone()).collect()
    }
}

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    letters: Vec<MailboxSender<Letter>>,
    drained: Vec<Arc<AtomicBool>>,
    pulses: Vec<Arc<Pulse>>,
    threads: Vec<JoinHandle<()>>,
}

impl Shards {
    /// Starts a shard at every desk. `spawn` makes the plan and starts the thread.
    pub fn start(
        desks: Desks,
        mut spawn: impl FnMut(ShardId, StartedDesk) -> Result<JoinHandle<()>, ShardFailed>,
    ) -> Result<Shards, ShardFailed> {
        let pulses: Vec<_> = desks.0.iter().map(|desk| desk.pulse.clone()).collect();
        let mut shards = Shards { letters: desks.letters(), drained: Vec::new(), pulses, threads: Vec::new() };
        for (place, desk) in desks.0.into_iter().enumerate() {
            shards.drained.push(desk.drained.clone());
            let desk = StartedDesk { wake: desk.wake, mailbox: desk.mailbox, pulse: desk.pulse, drained: desk.drained };
            match spawn(ShardId(place as u16), desk) {
                Ok(thread) => shards.threads.push(thread),
                Err(failed) => {
                    shards.stop(STOP_TIME);
                    return Err(failed);
                }
            }
        }
        Ok(shards)
    }

    /// Settings that may change while shards run.
    pub fn take_settings(&self, settings: &Arc<ShardSettings>) {
        for letters in &self.letters {
            // A shard that has ended needs none.
            let _ = letters.post(Letter::Settings(settings.clone()));
        }
    }

    /// The shards' signs of life.
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.pulses.clone()
    }

    /// A shard whose thread has ended although nobody asked it to.
    pub fn ended(&self) -> Option<usize> {
        self.threads.iter().position(JoinHandle::is_finished)
    }

    /// Sends all clients away, spread over `over`, and waits until every client is gone and every publish answered, `patience` longer at most.
    /// Whether it came to its end.
    pub fn drain(&self, over: Duration, patience: Duration) -> bool {
        for letters in &self.letters {
            // A shard that has ended has nothing to drain.
            let _ = letters.post(Letter::Drain { over_ms: over.as_millis() as u64 });
        }
        let deadline = Instant::now() + over + patience;
        loop {
            if self.drained.iter().all(|drained| drained.load(Ordering::Acquire)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(DRAIN_LOOK);
        }
    }

    /// Ends the shards and waits for their threads, `patience` at most. Whether all have ended; one that has not is left to the process's end.
    pub fn stop(mut self, patience: Duration) -> bool {
        for letters in &self.letters {
            let _ = letters.post(Letter::Stop);
        }
        let deadline = Instant::now() + patience;
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(DRAIN_LOOK);
        }
        for thread in self.threads.drain(..) {
            // A panic of a shard has been printed by its thread.
            let _ = thread.join();
        }
        true
    }
}

/// What of a desk goes to the shard.
pub struct StartedDesk {
    pub wake: Arc<Wake>,
    pub mailbox: MailboxReceiver<Letter>,
    pub pulse: Arc<Pulse>,
    pub drained: Arc<AtomicBool>,
}
