//! How a shard waits when it has nothing to do: asleep, spinning, or first the one and then the other.

use std::time::{Duration, Instant};

use crate::cores::Poll;
use crate::handoff::Wake;
use crate::net::Sockets;

/// `poll = "adaptive"` spins where events come faster than this: falling asleep and waking up cost about as much on both sides.
const GAP_MAX: Duration = Duration::from_micros(150);
/// It spins for so many times the usual gap, and then sleeps: the next event is late, and may not come.
const GAPS: u32 = 2;
/// How often who spins looks at the sockets; at what other threads say it looks all the time.
const LOOK: Duration = Duration::from_micros(10);
/// Of how many waits the usual gap is made.
const WAITS: u32 = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Rest {
    poll: Poll,
    /// How long a wait took lately.
    gap: Duration,
}

impl Rest {
    pub fn new(poll: Poll) -> Rest {
        Rest { poll, gap: GAP_MAX * WAITS }
    }

    /// Waits until something happens, `patience` at most; or not at all, if the shard is never to sleep. Whether it has looked at the sockets.
    pub fn wait(&mut self, wake: &Wake, patience: Duration, sockets: &mut Sockets) -> bool {
        match self.poll {
            Poll::Park => sockets.sleep(wake, patience),
            // The turns look at everything themselves.
            Poll::Busy => {
                std::hint::spin_loop();
                false
            }
            Poll::Adaptive => {
                let since = Instant::now();
                let spins = if self.gap <= GAP_MAX { patience.min(self.gap * GAPS) } else { Duration::ZERO };
                let has_looked = match spin(wake, since, spins, sockets) {
                    Spun::Notified => false,
                    Spun::Ready => true,
                    Spun::InVain => sockets.sleep(wake, patience.saturating_sub(spins)),
                };
                let took = since.elapsed().min(GAP_MAX * WAITS);
                self.gap = (self.gap * (WAITS - 1) + took) / WAITS;
                has_looked
            }
        }
    }
}

/// What spinning came to.
enum Spun {
    Notified,
    /// A look has found sockets that are ready.
    Ready,
    InVain,
}

fn spin(wake: &Wake, since: Instant, spins: Duration, sockets: &mut Sockets) -> Spun {
    let mut looked = Duration::ZERO;
    while !wake.is_notified() {
        let now = since.elapsed();
        if now >= spins {
            return Spun::InVain;
        }
        if now >= looked + LOOK {
            looked = now;
            if sockets.look(Duration::ZERO) > 0 {
                return Spun::Ready;
            }
        }
        std::hint::spin_loop();
    }
    Spun::Notified
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{NetSettings, Poller};

    fn sockets() -> Sockets {
        Sockets::new(NetSettings::default(), Poller::new().unwrap())
    }

    #[test]
    fn who_never_sleeps_leaves_the_sockets_to_its_turns() {
        let (wake, began) = (Wake::new(), Instant::now());
        wake.start_turn();
        assert!(!Rest::new(Poll::Busy).wait(&wake, Duration::from_secs(60), &mut sockets()));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn who_was_notified_does_not_sleep_and_who_is_asleep_is_woken() {
        for poll in [Poll::Park, Poll::Adaptive] {
            let (wake, mut rest, mut sockets) = (std::sync::Arc::new(Wake::new()), Rest::new(poll), sockets());
            let began = Instant::now();
            for _ in 0..200 {
                wake.start_turn();
                wake.notify();
                let has_looked = rest.wait(&wake, Duration::from_secs(60), &mut sockets);
                assert!(!has_looked, "a shard that is told things all the time looks at its sockets in its turns");
            }
            wake.start_turn();
            let waker = wake.clone();
            let notifier = std::thread::spawn(move || waker.notify());
            rest.wait(&wake, Duration::from_secs(60), &mut sockets);
            notifier.join().unwrap();
            assert!(began.elapsed() < Duration::from_secs(30));
        }
    }

    #[test]
    fn who_adapts_spins_only_where_events_come_fast() {
        let (wake, mut rest, mut sockets) = (Wake::new(), Rest::new(Poll::Adaptive), sockets());
        assert!(rest.gap > GAP_MAX, "it begins asleep");
        for _ in 0..100 {
            wake.start_turn();
            wake.notify();
            rest.wait(&wake, Duration::from_secs(60), &mut sockets);
        }
        assert!(rest.gap <= GAP_MAX, "{:?}", rest.gap);
        for _ in 0..100 {
            wake.start_turn();
            rest.wait(&wake, GAP_MAX * 2 * WAITS, &mut sockets);
        }
        assert!(rest.gap > GAP_MAX, "{:?}", rest.gap);
    }
}
