//! What systemd is told (`sd_notify(3)`): that the node listens, what `/ready` answers, that its shards move, that it ends. Without systemd nothing is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::executor::Pulse;

/// The supervisor of this process, if it has one.
#[derive(Debug)]
pub struct Supervisor {
    status: String,
    watchdog: Option<Watchdog>,
}

impl Supervisor {
    /// `WATCHDOG_USEC` says how often it wants to hear of the shards.
    pub fn new(pulses: Vec<Arc<Pulse>>) -> Supervisor {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| Watchdog::new(pulses, limit / 2));
        Supervisor { status: String::new(), watchdog }
    }

    /// The node listens.
    pub fn listening(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// What `/ready` answers now.
    pub fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Time has passed: word that every shard has moved, when it is time for that. A shard that stands still is not spoken for, and the supervisor
    /// restarts the node.
    pub fn look(&mut self) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_to_be_fed(Instant::now())) {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// The node ends, which takes at most so long: a stop timeout that is shorter is made longer.
    pub fn stopping(&self, patience: Duration) {
        let microseconds = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
        // A drain may last longer than shards may stand still, and nobody looks at them any more.
        tell(&[
            NotifyState::Stopping,
            NotifyState::Status("draining"),
            NotifyState::ExtendTimeoutUsec(microseconds),
            NotifyState::WatchdogUsec(0),
        ]);
    }
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!("the supervisor could not be told: {error}");
    }
}

/// Whether every shard has moved.
#[derive(Debug)]
struct Watchdog {
    pulses: Vec<Arc<Pulse>>,
    /// Turns of each shard when the supervisor was last told.
    turns: Vec<u64>,
    pause: Duration,
    told: Option<Instant>,
}

impl Watchdog {
    fn new(pulses: Vec<Arc<Pulse>>, pause: Duration) -> Watchdog {
        Watchdog { turns: vec![0; pulses.len()], pulses, pause, told: None }
    }

    fn is_to_be_fed(&mut self, now: Instant) -> bool {
        if self.told.is_some_and(|told| now < told + self.pause) {
            return false;
        }
        let turns: Vec<u64> = self.pulses.iter().map(|pulse| pulse.turns()).collect();
        // The tick alone moves a shard a hundred times a second.
        if turns.iter().zip(&self.turns).any(|(now, before)| now == before) {
            return false;
        }
        (self.turns, self.told) = (turns, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_every_shard_moves() {
        let pulses: Vec<Arc<Pulse>> = (0..2).map(|_| Arc::default()).collect();
        let mut watchdog = Watchdog::new(pulses.clone(), Duration::from_secs(10));
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert!(!watchdog.is_to_be_fed(began), "no shard has run yet");
        pulses.iter().for_each(|pulse| pulse.beat());
        assert!(watchdog.is_to_be_fed(after(1)));
        pulses.iter().for_each(|pulse| pulse.beat());
        assert!(!watchdog.is_to_be_fed(after(10)), "not so often");
        assert!(watchdog.is_to_be_fed(after(11)));
        pulses[0].beat();
        assert!(!watchdog.is_to_be_fed(after(21)), "the second shard stands still");
        assert!(!watchdog.is_to_be_fed(after(99)));
        pulses[1].beat();
        assert!(watchdog.is_to_be_fed(after(100)), "it moves again");
    }
}
