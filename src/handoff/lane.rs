//! A lane: a bounded, lock-free, single-producer single-consumer queue between two shards, bounded in messages and in bytes, with one wake-up
//! per empty-to-filled change.
//!
//! The sending end belongs to one shard's thread, the receiving end to another's. A full lane hands the message back and remembers that it did:
//! the next receive wakes the sender, so nobody polls for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::wake::Wake;

/// Bytes that a lane message keeps alive.
pub trait Weigh {
    fn weight(&self) -> usize;
}

/// The lane has no room: the message is handed back. Nothing was sent.
#[derive(Debug)]
pub struct LaneFull<T>(pub T);

/// What both ends see.
#[derive(Debug)]
struct Shared {
    /// Bytes on the way. Added by the sender before it sends, taken off by the receiver after it received.
    bytes: AtomicUsize,
    /// The sender was refused and waits for room.
    refused: AtomicBool,
    /// The receiving shard sleeps on this.
    receiver: Arc<Wake>,
    /// The sending shard sleeps on this.
    sender: Arc<Wake>,
}

/// The sending end. Not `Clone`: a lane has one producer.
#[derive(Debug)]
pub struct LaneSender<T> {
    channel: Sender<(usize, T)>,
    bytes_max: usize,
    shared: Arc<Shared>,
}

/// The receiving end. Not `Clone`: a lane has one consumer.
#[derive(Debug)]
pub struct LaneReceiver<T> {
    channel: Receiver<(usize, T)>,
    shared: Arc<Shared>,
}

/// Makes a lane of at most `messages_max` messages and `bytes_max` bytes (a single larger message is let through when the lane is empty).
/// `receiver` is notified of messages, `sender` of room after a refusal.
pub fn lane<T: Weigh>(messages_max: usize, bytes_max: usize, receiver: Arc<Wake>, sender: Arc<Wake>) -> (LaneSender<T>, LaneReceiver<T>) {
    let (channel_sender, channel_receiver) = crossbeam_channel::bounded(messages_max.max(1));
    let shared = Arc::new(Shared { bytes: AtomicUsize::new(0), refused: AtomicBool::new(false), receiver, sender });
    (LaneSender { channel: channel_sender, bytes_max, shared: shared.clone() }, LaneReceiver { channel: channel_receiver, shared })
}

impl<T: Weigh> LaneSender<T> {
    /// Sends, or hands the message back if there is no room; the sender's `Wake` is then notified once there may be.
    pub fn try_send(&self, message: T) -> Result<(), LaneFull<T>> {
        let weight = message.weight();
        match self.attempt(weight, message) {
            Ok(()) => Ok(()),
            Err(message) => {
                // Say that room is wanted, then look once more: either this look finds the room, or the receiver finds the wish.
                self.shared.refused.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                self.attempt(weight, message).map_err(LaneFull)
            }
        }
    }

    fn attempt(&self, weight: usize, message: T) -> Result<(), T> {
        // Only this end adds, so what is seen here can only shrink before the addition.
        let bytes = self.shared.bytes.load(Ordering::Acquire);
        if bytes != 0 && bytes.saturating_add(weight) > self.bytes_max {
            return Err(message);
        }
        self.shared.bytes.fetch_add(weight, Ordering::AcqRel);
        match self.channel.try_send((weight, message)) {
            Ok(()) => {
                self.shared.receiver.notify();
                Ok(())
            }
            Err(error) => {
                self.shared.bytes.fetch_sub(weight, Ordering::AcqRel);
                Err(error.into_inner().1)
            }
        }
    }

    /// Bytes on the way.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl<T> LaneReceiver<T> {
    /// The next message, if there is one.
    pub fn try_receive(&self) -> Option<T> {
        match self.channel.try_recv() {
            Ok((weight, message)) => {
                self.shared.bytes.fetch_sub(weight, Ordering::AcqRel);
                fence(Ordering::SeqCst);
                if self.shared.refused.load(Ordering::Relaxed) {
                    self.shared.refused.store(false, Ordering::Relaxed);
                    self.shared.sender.notify();
                }
                Some(message)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};

    #[derive(Debug, PartialEq, Eq)]
    struct Message(u64, usize);
    impl Weigh for Message {
        fn weight(&self) -> usize {
            self.1
        }
    }

    fn lone_lane(messages_max: usize, bytes_max: usize) -> (LaneSender<Message>, LaneReceiver<Message>) {
        lane(messages_max, bytes_max, Arc::new(Wake::new()), Arc::new(Wake::new()))
    }

    #[test]
    fn a_message_over_the_bound_passes_only_an_empty_lane() {
        let (sender, receiver) = lone_lane(8, 100);
        sender.try_send(Message(1, 5000)).unwrap();
        assert_eq!(sender.try_send(Message(2, 1)).unwrap_err().0, Message(2, 1));
        assert_eq!(receiver.try_receive(), Some(Message(1, 5000)));
        sender.try_send(Message(2, 1)).unwrap();
        assert!(sender.try_send(Message(3, 5000)).is_err());
    }

    #[test]
    fn room_after_a_refusal_wakes_the_sender() {
        let wake = Arc::new(Wake::new());
        let (sender, receiver) = lane(1, 100, Arc::new(Wake::new()), wake.clone());
        wake.start_turn();
        sender.try_send(Message(1, 1)).unwrap();
        assert!(sender.try_send(Message(2, 1)).is_err());
        let mut context = Context::from_waker(Waker::noop());
        let mut park = pin!(wake.park());
        assert!(park.as_mut().poll(&mut context).is_pending());
        receiver.try_receive();
        assert!(park.as_mut().poll(&mut context).is_ready());
        sender.try_send(Message(2, 1)).unwrap();
    }

    proptest! {
        /// Against a plain queue with the same two bounds.
        #[test]
        fn a_lane_is_a_bounded_queue(messages_max in 1usize..6, bytes_max in 1usize..64, steps in prop::collection::vec((any::<bool>(), 0usize..40), 1..200)) {
            let (sender, receiver) = lone_lane(messages_max, bytes_max);
            let mut model: VecDeque<Message> = VecDeque::new();
            for (number, (send, weight)) in steps.into_iter().enumerate() {
                let number = number as u64;
                let bytes: usize = model.iter().map(|message| message.1).sum();
                if send {
                    let fits = model.len() < messages_max && (bytes == 0 || bytes + weight <= bytes_max);
                    match sender.try_send(Message(number, weight)) {
                        Ok(()) => {
                            prop_assert!(fits);
                            model.push_back(Message(number, weight));
                        }
                        Err(LaneFull(message)) => {
                            prop_assert!(!fits);
                            prop_assert_eq!(message, Message(number, weight));
                        }
                    }
                } else {
                    prop_assert_eq!(receiver.try_receive(), model.pop_front());
                }
                prop_assert_eq!(sender.bytes(), model.iter().map(|message| message.1).sum::<usize>());
            }
        }
    }

    /// Runs a future on this thread; a sleep of five seconds is a lost wake-up.
    fn block_on<F: Future>(future: F) -> F::Output {
        struct Unpark(Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = pin!(future);
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            let since = Instant::now();
            thread::park_timeout(Duration::from_secs(5));
            assert!(since.elapsed() < Duration::from_secs(5), "lost wake-up: slept five seconds");
        }
    }

    /// Both ends park whenever they can, on a lane so small that both often must: every message arrives once, in order, and nobody sleeps for ever.
    #[test]
    fn no_wake_up_is_lost_between_two_threads_that_park() {
        const MESSAGES: u64 = 40_000;
        for (messages_max, bytes_max) in [(1, 1000), (64, 10), (3, 7)] {
            let (to_receiver, to_sender) = (Arc::new(Wake::new()), Arc::new(Wake::new()));
            let (sender, receiver) = lane(messages_max, bytes_max, to_receiver.clone(), to_sender.clone());
            let producer = thread::spawn(move || {
                block_on(async move {
                    let mut number = 0;
                    while number < MESSAGES {
                        to_sender.start_turn();
                        while number < MESSAGES && sender.try_send(Message(number, (number % 11) as usize)).is_ok() {
                            number += 1;
                        }
                        if number < MESSAGES {
                            to_sender.park().await;
                        }
                    }
                });
            });
            block_on(async move {
                let mut expected = 0;
                while expected < MESSAGES {
                    to_receiver.start_turn();
                    let mut any = false;
                    while let Some(message) = receiver.try_receive() {
                        assert_eq!(message.0, expected);
                        expected += 1;
                        any = true;
                    }
                    if !any {
                        to_receiver.park().await;
                    }
                }
            });
            producer.join().unwrap();
        }
    }
}
