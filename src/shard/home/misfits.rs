//! How well a topic's guessed partitioner explains the newest records that a shard has read of it.

use crate::limits::{MISFIT_WINDOW, MISFITS_PER};

/// A sliding count in two halves: the older one is whole, the newer one grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct MisfitWindow {
    older: Half,
    newer: Half,
    /// Records since the partitioner is what it is, and how many there must be before it is doubted (again).
    seen: u64,
    doubt_at: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Half {
    records: u64,
    misplaced: u64,
}

impl MisfitWindow {
    /// Takes note of records with a key, of which `misplaced` are where the rule does not put them. Whether the rule should be decided again:
    /// more than one in [`MISFITS_PER`] is misplaced, or, while there are too few to tell, half of them. One that was doubted and is kept is doubted
    /// again after ten times the records, half a window at most.
    pub fn count(&mut self, records: u64, misplaced: u64) -> bool {
        self.seen += records;
        self.newer.records += records;
        self.newer.misplaced += misplaced;
        let (all, bad) = (self.older.records + self.newer.records, self.older.misplaced + self.newer.misplaced);
        if self.newer.records >= MISFIT_WINDOW / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        let misfits_max = if all < MISFITS_PER { all.saturating_sub(1) / 2 } else { all / MISFITS_PER };
        let doubted = misplaced > 0 && bad > misfits_max && self.seen >= self.doubt_at;
        if doubted {
            self.doubt_at = self.seen + (9 * self.seen).clamp(MISFITS_PER - 1, MISFIT_WINDOW / 2);
        }
        doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_misplaced() {
        let mut window = MisfitWindow::default();
        for _ in 0..1_000 {
            assert!(!window.count(99, 0));
            assert!(!window.count(1, 1));
        }
        assert!((0..200).any(|_| window.count(98, 2)));
    }

    #[test]
    fn the_first_records_of_a_topic_with_another_rule_are_enough_and_one_stray_of_many_is_not() {
        assert!(MisfitWindow::default().count(1, 1));
        let mut window = MisfitWindow::default();
        assert!(!window.count(20, 0));
        assert!(!window.count(1, 1));
    }

    #[test]
    fn a_rule_that_is_kept_is_not_doubted_with_every_record_and_a_burst_is_forgotten() {
        let mut window = MisfitWindow::default();
        let doubts = (0..100_000).filter(|_| window.count(1, 1)).count();
        assert!((2..=30).contains(&doubts), "{doubts}");
        (0..10_000).for_each(|_| assert!(!window.count(1, 0)));
        assert!(!window.count(5_000, 1), "the burst is out of the window");
    }
}
