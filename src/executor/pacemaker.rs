//! The pacemaker: a housekeeping thread that wakes every shard whose turns have stood still for 5 ms.
//!
//! glommio 0.9 now and then parks with runnable tasks (its run loop leaves for the parking path when the preemption timer has fired before the first
//! task ran), and then sleeps until something comes from outside; a timer inside the executor does not count as such. A wake-up from another
//! thread does, so every shard gives this thread the waker of a task that does nothing, its pulse, and counts its turns in the open. An idle shard
//! is woken 200 times a second, about 0.5 % of a core; a busy one never. Before its first task has run there is no waker to give: `executor`
//! makes another one if that does not happen in time.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a shard's turns may stand still. Longer would show in latency, shorter costs idle shards more wake-ups.
pub const PACE: Duration = Duration::from_millis(5);

/// One shard's sign of life, shared with the pacemaker.
#[derive(Debug, Default)]
pub struct Pulse {
    turns: AtomicU64,
    waker: Mutex<Option<Waker>>,
    ended: AtomicBool,
}

impl Pulse {
    /// A pulse that nobody runs yet.
    pub fn new() -> Pulse {
        Pulse::default()
    }

    /// The shard ran a turn. Only the shard's thread calls it.
    pub fn beat(&self) {
        // One writer, so no read-modify-write is needed.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The task that the pacemaker wakes. Spawn it once on the shard's executor; it ends after `end`.
    pub async fn listen(&self) {
        poll_fn(|context| {
            if self.ended.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Ends the listening task and forgets its waker. The shard calls it before its executor ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// The running thread. Ends when dropped.
#[derive(Debug)]
pub struct Pacemaker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacemaker {
    /// Starts the thread, on the CPUs that the caller runs on.
    pub fn start(pulses: Vec<Arc<Pulse>>) -> io::Result<Pacemaker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("pacemaker".to_owned()).spawn(move || {
            let mut seen: Vec<u64> = pulses.iter().map(|pulse| pulse.turns()).collect();
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(PACE);
                for (pulse, seen) in pulses.iter().zip(&mut seen) {
                    let turns = pulse.turns();
                    if turns == *seen {
                        pulse.wake();
                    }
                    *seen = turns;
                }
            }
        })?;
        Ok(Pacemaker { stop, thread: Some(thread) })
    }
}

impl Drop for Pacemaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}
