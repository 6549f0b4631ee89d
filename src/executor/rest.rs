//! How a shard waits when it has nothing to do: asleep, spinning, or first the one and then the other.

use std::cell::RefMut;
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

    /// Waits until something happens, `patience` at most; or not at all, if the shard is never to sleep.
    pub fn wait(&mut self, wake: &Wake, patience: Duration, sockets: &mut RefMut<'_, Sockets>) {
        match self.poll {
            Poll::Park => sockets.sleep(wake, patience),
            // The turns look at everything themselves.
            Poll::Busy => std::hint::spin_loop(),
            Poll::Adaptive => {
                let since = Instant::now();
                let spins = if self.gap <= GAP_MAX { patience.min(self.gap * GAPS) } else { Duration::ZERO };
                if !spin(wake, since, spins, sockets) {
                    sockets.sleep(wake, patience.saturating_sub(spins));
                }
                let took = since.elapsed().min(GAP_MAX * WAITS);
                self.gap = (self.gap * (WAITS - 1) + took) / WAITS;
            }
        }
    }
}

/// Whether something has happened before `spins` were over.
fn spin(wake: &Wake, since: Instant, spins: Duration, sockets: &mut Sockets) -> bool {
    let mut looked = Duration::ZERO;
    while !wake.is_notified() {
        let now = since.elapsed();
        if now >= spins {
            return false;
        }
        if now >= looked + LOOK {
            looked = now;
            if sockets.look(Duration::ZERO) > 0 {
                return true;
            }
        }
        std::hint::spin_loop();
    }
    true
}
