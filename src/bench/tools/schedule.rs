//! When each thing of a run is due: at a rate, from a beginning, without drift. Who is late is late; nothing is left out.

use std::thread;
use std::time::Duration;

use super::stamp::now_us;

/// The longest sleep: what else the thread does goes on meanwhile.
const SLEEP_MAX: Duration = Duration::from_micros(500);

/// Who is late by so many times `--lag-max-ms` never keeps the schedule, and gives up.
const HOPELESS: u64 = 20;

/// Why someone who is that late gives up; none while there is hope.
pub fn hopeless(late: Duration, lag_max_ms: u64) -> Option<String> {
    (late > Duration::from_millis(lag_max_ms * HOPELESS)).then(|| {
        format!(
            "this tool was {} ms behind the due times, {HOPELESS} times --lag-max-ms {lag_max_ms}, and gave up; lower --rate",
            late.as_millis()
        )
    })
}

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
    fn whoever_is_far_too_late_gives_up() {
        assert_eq!(hopeless(Duration::from_millis(1_000), 50), None);
        assert!(hopeless(Duration::from_millis(1_001), 50).is_some_and(|line| line.contains("1001 ms behind")));
    }

    #[test]
    fn due_times_keep_the_rate_without_drift() {
        let schedule = Schedule { began_us: 7, rate: 3 };
        assert_eq!([0, 1, 3, 3_000_000].map(|number| schedule.due_us(number)), [7, 333_340, 1_000_007, 1_000_000_000_007]);
        assert_eq!(Schedule { began_us: u64::MAX / 2, rate: 1 }.late(0), None);
    }
}
