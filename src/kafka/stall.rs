//! A partition that stands still while its log goes on, or is cut short: what is done about it, and when. Without a clock and without a client, so that the simulator has
//! the same.

use crate::handoff::Offset;

/// How long a partition stands still, while another client sees its log go on, before it is assigned anew; twice as long, and its client is made anew.
const STALL_MS: u64 = 4_000;
/// Least and most time between two clients: a partition may stand still for a reason that a new one shares.
pub(crate) const RENEW_PAUSES_MS: (u64, u64) = (10_000, 120_000);

/// A partition's standing still; `None` while it does not.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    next: Offset,
    since_ms: u64,
    remedy: Remedy,
}

/// What has been done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    None,
    Assigned,
    Renewed,
}

/// What a look at a partition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It reads, or there is nothing to read, or it is to be waited for.
    Quiet,
    /// It stood still and reads now.
    ReadAgain,
    /// It is to be assigned anew, at its position.
    Assign,
    /// Its client is to be made anew.
    Renew,
}

/// A look at a partition that has been read up to `next`, and whose log ends at `end` as another client sees it. `drained_ms`: when the shard had last
/// taken everything that was fetched. What was fetched later may wait for the shard, so a partition stands still only up to then. A log that ends before
/// the position was cut short: a client that reads would have said so. One that was cut short and is as long again looks as before, until its next
/// record.
pub(crate) fn look(stall: &mut Option<Stall>, next: Offset, end: Offset, drained_ms: u64, now_ms: u64) -> Verdict {
    let moved = stall.is_none_or(|stall| stall.next != next);
    if end == next || moved {
        let reads_again = stall.is_some_and(|stall| stall.remedy != Remedy::None && stall.next != next);
        *stall = (end != next).then_some(Stall { next, since_ms: now_ms, remedy: Remedy::None });
        return if reads_again { Verdict::ReadAgain } else { Verdict::Quiet };
    }
    let Some(stall) = stall else { return Verdict::Quiet };
    let stands_ms = drained_ms.saturating_sub(stall.since_ms);
    match stall.remedy {
        Remedy::None if stands_ms >= STALL_MS => {
            stall.remedy = Remedy::Assigned;
            Verdict::Assign
        }
        Remedy::Assigned if stands_ms >= 2 * STALL_MS => {
            stall.remedy = Remedy::Renewed;
            Verdict::Renew
        }
        Remedy::Renewed => Verdict::Renew,
        _ => Verdict::Quiet,
    }
}

/// When a client may be made anew.
#[derive(Clone, Copy, Debug)]
pub struct Renewals {
    asked_ms: Option<u64>,
    pause_ms: u64,
}

impl Renewals {
    pub(crate) fn new() -> Renewals {
        Renewals { asked_ms: None, pause_ms: RENEW_PAUSES_MS.0 }
    }

    /// The client reads: what stands still next is another matter.
    pub(crate) fn reads_again(&mut self) {
        self.pause_ms = RENEW_PAUSES_MS.0;
    }

    /// Whether a client that is to be made anew is made now. Each one that does no better than the one before has twice as long.
    pub(crate) fn may_renew(&mut self, now_ms: u64) -> bool {
        if self.asked_ms.is_some_and(|asked_ms| now_ms.saturating_sub(asked_ms) < self.pause_ms) {
            return false;
        }
        if self.asked_ms.is_some() {
            self.pause_ms = (self.pause_ms * 2).min(RENEW_PAUSES_MS.1);
        }
        self.asked_ms = Some(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_stands_still_is_assigned_anew_and_then_its_client_is_made_anew() {
        let mut stall = None;
        let mut see = |next, end, now_ms| look(&mut stall, Offset(next), Offset(end), now_ms, now_ms);
        assert_eq!(see(5, 5, 0), Verdict::Quiet);
        assert_eq!(see(5, 9, 2_000), Verdict::Quiet, "seen for the first time");
        assert_eq!(see(5, 9, 5_999), Verdict::Quiet);
        assert_eq!(see(5, 9, 6_000), Verdict::Assign);
        assert_eq!(see(5, 9, 9_999), Verdict::Quiet);
        assert_eq!(see(5, 20, 10_000), Verdict::Renew);
        assert_eq!(see(5, 20, 12_000), Verdict::Renew, "until it helps");
        assert_eq!(see(6, 20, 14_000), Verdict::ReadAgain);
        assert_eq!(see(6, 20, 17_999), Verdict::Quiet, "a new standing still");
        assert_eq!(see(6, 20, 18_000), Verdict::Assign);
        assert_eq!(see(20, 20, 19_000), Verdict::ReadAgain);
    }

    #[test]
    fn a_position_beyond_the_end_of_its_log_is_asked_for_again() {
        let mut stall = None;
        let mut see = |next, end, now_ms| look(&mut stall, Offset(next), Offset(end), now_ms, now_ms);
        assert_eq!(see(9, 5, 0), Verdict::Quiet, "the end may have been seen before the position");
        assert_eq!(see(12, 9, 2_000), Verdict::Quiet);
        assert_eq!(see(12, 12, 4_000), Verdict::Quiet);
        assert_eq!(see(12, 7, 6_000), Verdict::Quiet);
        assert_eq!(see(12, 7, 10_000), Verdict::Assign);
    }

    #[test]
    fn a_partition_that_reads_slowly_or_waits_for_its_shard_does_not_stand_still() {
        let mut stall = None;
        for step in 0..100 {
            let now_ms = step as u64 * 4_000;
            assert_eq!(look(&mut stall, Offset(step), Offset(1_000), now_ms, now_ms), Verdict::Quiet);
        }
        // A shard that is busy with the others of the same client.
        for step in 0..100 {
            assert_eq!(look(&mut stall, Offset(100), Offset(1_000), 400_100, 400_000 + step * 4_000), Verdict::Quiet);
        }
        assert_eq!(look(&mut stall, Offset(100), Offset(1_000), 810_000, 810_001), Verdict::Assign, "it had nothing of this one");
    }

    #[test]
    fn clients_are_made_anew_less_and_less_often_as_long_as_that_does_not_help() {
        let mut renewals = Renewals::new();
        let made: Vec<u64> = (0..600_000).step_by(2_000).filter(|now_ms| renewals.may_renew(*now_ms)).collect();
        assert_eq!(made, [0, 10_000, 30_000, 70_000, 150_000, 270_000, 390_000, 510_000]);
        renewals.reads_again();
        let made: Vec<u64> = (600_000..640_000).step_by(2_000).filter(|now_ms| renewals.may_renew(*now_ms)).collect();
        assert_eq!(made, [600_000, 620_000]);
    }
}
