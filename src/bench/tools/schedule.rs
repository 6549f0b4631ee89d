//! When each thing of a run is due: at a rate, from a beginning, without drift. Who is late is late; nothing is left out.

use std::thread;
use std::time::Duration;

use super::stamp::now_us;

/// The longest sleep: what else the thread does goes on meanwhile.
const SLEEP_MAX: Duration = Duration::from_micros(500);

/// Due times on the Unix clock, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub began_us: u64,
    /// A second.
    pub rate: u64,
}

impl Schedule {
    /// From now on.
    pub fn begin(rate: u64) -> Schedule {
        Schedule { began_us: now_us(), rate }
    }

    /// When number `n`, from 0, is due.
    pub fn due_us(&self, number: u64) -> u64 {
        self.began_us + (u128::from(number) * 1_000_000 / u128::from(self.rate)) as u64
    }

    /// How late number `n` is by now; none if it is not due.
    pub fn late(&self, number: u64) -> Option<Duration> {
        now_us().checked_sub(self.due_us(number)).map(Duration::from_micros)
    }

    /// Sleeps until number `n` is due, or for half a millisecond.
    pub fn sleep(&self, number: u64) {
        let left = self.due_us(number).saturating_sub(now_us());
        thread::sleep(Duration::from_micros(left).min(SLEEP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_keep_the_rate_without_drift() {
        let schedule = Schedule { began_us: 7, rate: 3 };
        assert_eq!([0, 1, 3, 3_000_000].map(|number| schedule.due_us(number)), [7, 333_340, 1_000_007, 1_000_000_000_007]);
        assert_eq!(Schedule { began_us: u64::MAX / 2, rate: 1 }.late(0), None);
    }
}
