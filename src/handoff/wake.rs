//! The one thing that a shard sleeps on: every inbound lane and channel of a shard, librdkafka's callback and the shard's own sockets share its `Wake`.
//!
//! Owned by all of them as an `Arc`. `notify` may be called on any thread; `start_turn`, `arm` and `park` only by the shard's turn task. A notification is
//! never lost: it either finds the sleeper armed and wakes it, or is kept and keeps it from sleeping. Between two sleeps at most one
//! notification wakes anybody, so a filled lane costs one wake-up, however many messages follow.
//!
//! It knows nothing of executors: any `std::task::Waker` will do. What it never does: spin, allocate on `notify`, or carry data.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// The turn task runs and will look at every source before it parks.
const RUNNING: u8 = 0;
/// The turn task sleeps; its waker is in place.
const ARMED: u8 = 1;
/// Something came since the turn began: `park` returns at once.
const NOTIFIED: u8 = 2;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Wake {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Wake {
    /// A wake that nobody sleeps on yet.
    pub fn new() -> Wake {
        Wake::default()
    }

    /// Says that there is something to do. Call it after the something can be seen (the message is in its lane). Returns whether it woke the
    /// sleeper; the usual case, a shard that runs or has been told already, costs a fence and a load.
    pub fn notify(&self) -> bool {
        // Pairs with the fence of `start_turn`: either this load sees that the turn has begun, or the turn sees what the caller made visible.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == NOTIFIED || self.state.swap(NOTIFIED, Ordering::SeqCst) != ARMED {
            return false;
        }
        self.wake_sleeper();
        true
    }

    /// Begins a turn: what is notified from here on keeps the next `park` from sleeping. Look at every source after this call.
    pub fn start_turn(&self) {
        self.state.swap(RUNNING, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether the turn task may sleep now: nobody has notified since `start_turn`, and whoever does from here on wakes `waker`. After the sleep
    /// comes the next `start_turn`.
    pub fn arm(&self, waker: &Waker) -> bool {
        {
            let mut known = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *known = Some(waker.clone());
            }
        }
        self.state.compare_exchange(RUNNING, ARMED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether somebody has notified since `start_turn`: for who spins before it sleeps.
    pub fn is_notified(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTIFIED
    }

    /// [`Wake::arm`] for a task: returns once somebody has notified. May also return for no reason.
    pub async fn park(&self) {
        let mut armed = false;
        poll_fn(|context| {
            if armed {
                return Poll::Ready(());
            }
            armed = self.arm(context.waker());
            if armed { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Forgets the waker. The turn task calls it before its executor ends, so that no thread holds a waker of a dead executor.
    pub fn forget(&self) {
        self.start_turn();
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn wake_sleeper(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Context;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn many_notifications_of_one_sleep_wake_once() {
        let (wake, count) = (Wake::new(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        wake.start_turn();
        {
            let mut park = pin!(wake.park());
            assert!(park.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(wake.notify());
            assert!(!wake.notify());
            assert!(!wake.notify());
            assert_eq!(count.0.load(Ordering::SeqCst), 1);
            assert!(park.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        }
    }

    #[test]
    fn a_notification_during_the_turn_keeps_the_shard_from_sleeping() {
        let wake = Wake::new();
        wake.start_turn();
        assert!(!wake.notify());
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(wake.park()).poll(&mut context).is_ready());
        wake.start_turn();
        assert!(pin!(wake.park()).poll(&mut context).is_pending());
    }

    #[test]
    fn a_forgotten_waker_is_not_held() {
        let (wake, count) = (Wake::new(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let _ = pin!(wake.park()).poll(&mut Context::from_waker(&waker));
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 2);
        wake.forget();
        assert_eq!(Arc::strong_count(&count), 1);
        assert!(!wake.notify());
    }
}
