//! The books of a run: what Kafka acknowledged must have reached every subscriber once and in order, exactly.

use std::collections::BTreeSet;

/// What one subscriber got of its subject, whose sequence begins with 1 and has no end before the run's.
#[derive(Debug, Default)]
pub struct Ledger {
    received: u64,
    /// What came before the first record that is counted.
    before: u64,
    last: u64,
    /// Skipped, and not come since.
    missing: BTreeSet<u64>,
    out_of_order: u64,
    duplicates: u64,
}

impl Ledger {
    /// Of a subscriber that came to a sequence in its middle: what was sent before `first` is not missed.
    pub fn joining(first: u64) -> Ledger {
        let before = first.saturating_sub(1);
        Ledger { before, last: before, ..Ledger::default() }
    }

    /// A record came.
    pub fn record(&mut self, sequence: u64) {
        self.received += 1;
        if sequence == self.last + 1 {
            self.last = sequence;
        } else if sequence > self.last {
            // Of a broken run one line is told: how many are remembered does not matter then.
            self.missing.extend((self.last + 1..sequence).take(1_000));
            self.last = sequence;
        } else if self.missing.remove(&sequence) {
            self.out_of_order += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Records so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The highest sequence so far.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Skipped, and not come since.
    pub fn lost(&self) -> u64 {
        (self.last - self.before).saturating_sub(self.received - self.duplicates)
    }

    /// Came again.
    pub fn doubled(&self) -> u64 {
        self.duplicates
    }

    /// Came after a later one.
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    fn fault(&self, sent: u64) -> Option<String> {
        let mut faults = Vec::new();
        if self.received == 0 && sent > 0 {
            faults.push("silent".to_owned());
        } else if let Some(first) = self.missing.first() {
            faults.push(format!("gaps, the first at record {first}"));
        }
        if self.duplicates > 0 {
            faults.push(format!("{} duplicates", self.duplicates));
        }
        if self.out_of_order > 0 {
            faults.push(format!("{} out of order", self.out_of_order));
        }
        let wrong = self.received != sent || self.last != sent || !faults.is_empty();
        wrong.then(|| {
            format!("got {} of {sent} records{}", self.received, faults.iter().map(|fault| format!(", {fault}")).collect::<String>())
        })
    }
}

/// Deliveries that are owed: what was sent to each subject, times its subscribers. `subject(n)` is that of subscriber `n`.
pub fn owed(subscribers: usize, sent: &[u64], subject: impl Fn(usize) -> usize) -> u64 {
    (0..subscribers).map(|number| sent[subject(number)]).sum()
}

/// Received = sent x subscribers, each subscriber by itself.
///
/// # Errors
/// One line: how many are wrong, and the first of them by name.
pub fn settle<'a>(ledgers: impl Iterator<Item = &'a Ledger>, sent: &[u64], subject: impl Fn(usize) -> usize) -> Result<(), String> {
    let (mut wrong, mut silent, mut first, mut all) = (0, 0, None, 0);
    for (number, ledger) in ledgers.enumerate() {
        all += 1;
        let subject = subject(number);
        if let Some(fault) = ledger.fault(sent[subject]) {
            wrong += 1;
            silent += usize::from(ledger.received == 0);
            first.get_or_insert(format!("client {number} (key {subject}) {fault}"));
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(format!("{wrong} of {all} clients did not get exactly what was sent ({silent} got nothing); {first}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sequences: impl IntoIterator<Item = u64>) -> Ledger {
        let mut ledger = Ledger::default();
        sequences.into_iter().for_each(|sequence| ledger.record(sequence));
        ledger
    }

    fn verdict(sequences: &[u64], sent: u64) -> String {
        settle([&ledger(sequences.iter().copied())].into_iter(), &[sent], |_| 0).err().unwrap_or_default()
    }

    #[test]
    fn exactly_what_was_sent_settles() {
        assert_eq!(verdict(&[], 0), "");
        assert_eq!(verdict(&[1, 2, 3], 3), "");
        let ledgers = [ledger(1..=3), ledger(1..=2), ledger(1..=3)];
        assert_eq!(settle(ledgers.iter(), &[3, 2], |number| number % 2), Ok(()));
        assert_eq!(owed(3, &[3, 2], |number| number % 2), 8);
        assert_eq!(owed(2_000, &[5], |_| 0), 10_000);
    }

    #[test]
    fn every_way_of_being_wrong_is_told() {
        for (sequences, sent, words) in [
            (&[][..], 3, "(1 got nothing); client 0 (key 0) got 0 of 3 records, silent"),
            (&[1, 2], 3, "got 2 of 3 records"),
            (&[1, 3], 3, "gaps, the first at record 2"),
            // A subscriber is there before the first record.
            (&[2, 3], 3, "gaps, the first at record 1"),
            (&[1, 2, 2, 3], 3, "1 duplicates"),
            (&[1, 3, 2], 3, "got 3 of 3 records, 1 out of order"),
            // As many as were sent, and yet not those.
            (&[1, 1, 3], 3, "gaps, the first at record 2, 1 duplicates"),
            // A producer that begins anew excuses nothing.
            (&[1, 2, 1], 3, "1 duplicates"),
            (&[1, 2, 3], 2, "got 3 of 2 records"),
        ] {
            assert!(verdict(sequences, sent).contains(words), "{sequences:?} of {sent}: {}", verdict(sequences, sent));
        }
    }

    #[test]
    fn what_was_sent_before_a_subscriber_came_is_not_missed() {
        let mut ledger = Ledger::joining(7);
        [7, 8, 11, 9, 9].into_iter().for_each(|sequence| ledger.record(sequence));
        assert_eq!((ledger.lost(), ledger.doubled(), ledger.out_of_order(), ledger.last()), (1, 1, 1, 11));
        // More is skipped than is remembered, and each is counted.
        ledger.record(100_000);
        assert_eq!(ledger.lost(), 1 + 100_000 - 12);
    }

    #[test]
    fn one_wrong_client_among_many_is_found() {
        let ledgers: Vec<Ledger> = (0..50).map(|number| ledger(1..=if number == 17 { 3 } else { 4 })).collect();
        let line = settle(ledgers.iter(), &[4], |_| 0).expect_err("a record is missing");
        assert_eq!(line, "1 of 50 clients did not get exactly what was sent (0 got nothing); client 17 (key 0) got 3 of 4 records");
    }
}
