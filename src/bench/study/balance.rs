//! Received = sent x subscribers, for each sender and subject.
//!
//! A subscriber counts its own gaps and doubles, so none that has neither got more than was sent; if all of a subject together got sent x
//! subscribers, then each of them got exactly what was sent.

use super::super::tools::flows::Flows;
use super::scenario::Role;

/// Differences that are told by name; all are counted.
const TOLD_MAX: usize = 5;

/// Both sides of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Records that senders were told are accepted.
    pub sent: u64,
    /// Records to subjects that somebody subscribed to, each as often as the subject has subscribers.
    pub owed: u64,
    pub received: u64,
    /// Records to subjects without a subscriber.
    pub unheard: u64,
    /// What does not agree, a line each.
    pub failures: Vec<String>,
}

impl Balance {
    /// Compares.
    pub fn of(sent: &Flows, received: &Flows) -> Balance {
        let mut balance = Balance::default();
        let mut differ = Vec::new();
        for (sender, subject, records) in sent.pairs() {
            let (subscribers, got) = (received.subscribers(subject), received.records(sender, subject));
            balance.sent += records;
            balance.owed += records * subscribers;
            balance.unheard += if subscribers == 0 { records } else { 0 };
            if got != records * subscribers {
                differ.push(format!("{subject} from {sender}: received {got}, sent {records} x {subscribers} subscribers"));
            }
        }
        for (sender, subject, got) in received.pairs() {
            balance.received += got;
            if got > 0 && sent.records(sender, subject) == 0 {
                differ.push(format!("{subject} from {sender:?}: received {got}, of which no sender of the run knows"));
            }
        }
        if !differ.is_empty() {
            balance.failures.push(format!("received is not sent x subscribers in {} of the subjects and senders", differ.len()));
            balance.failures.extend(differ.into_iter().take(TOLD_MAX));
        }
        let unlisted = sent.unlisted() + received.unlisted();
        if unlisted > 0 {
            balance
                .failures
                .push(format!("{unlisted} records or subscribers are of more subjects than can be checked: use fewer subjects"));
        }
        if balance.sent > 0 && balance.owed == 0 {
            balance.failures.push("nothing was sent to a subject that has a subscriber".to_owned());
        }
        balance
    }
}

/// What is to come at least before it is worth while to look: each role's subjects by its own pattern.
pub fn owed<'a>(sent: &Flows, subscribers: impl Iterator<Item = &'a Role>) -> u64 {
    let mut by_subject = Flows::default();
    for role in subscribers {
        role.subjects().for_each(|subject| by_subject.add_subscriber(&subject));
    }
    sent.pairs().map(|(_, subject, records)| records * by_subject.subscribers(subject)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(records: &[(&str, &str, u64)], subscribers: &[(&str, u64)]) -> Flows {
        let mut flows = Flows::default();
        records.iter().for_each(|(sender, subject, count)| flows.add(sender, subject, *count));
        subscribers.iter().for_each(|(subject, count)| (0..*count).for_each(|_| flows.add_subscriber(subject)));
        flows
    }

    #[test]
    fn each_subject_of_each_sender_must_agree() {
        let sent = flows(&[("a", "/t/1", 10), ("a", "/t/2", 5), ("b", "/t/1", 1), ("a", "/t/9", 7)], &[]);
        let subscribers = [("/t/1", 2), ("/t/2", 1)];
        let good = Balance::of(&sent, &flows(&[("a", "/t/1", 20), ("a", "/t/2", 5), ("b", "/t/1", 2)], &subscribers));
        assert_eq!((good.sent, good.owed, good.received, good.unheard, good.failures.len()), (23, 27, 27, 7, 0), "{good:?}");
        for (received, words) in [
            // One too few, one too many, as many but from another, and one of nobody.
            (&[("a", "/t/1", 19), ("a", "/t/2", 5), ("b", "/t/1", 2)][..], "/t/1 from a: received 19, sent 10 x 2"),
            (&[("a", "/t/1", 20), ("a", "/t/2", 6), ("b", "/t/1", 2)], "/t/2 from a: received 6, sent 5 x 1"),
            (&[("a", "/t/1", 21), ("a", "/t/2", 5), ("b", "/t/1", 1)], "in 2 of"),
            (&[("a", "/t/1", 20), ("a", "/t/2", 5), ("b", "/t/1", 2), ("c", "/t/2", 1)], "no sender of the run"),
        ] {
            let failures = Balance::of(&sent, &flows(received, &subscribers)).failures.join("; ");
            assert!(failures.contains(words), "{words}: {failures}");
        }
    }

    #[test]
    fn a_run_whose_senders_and_subscribers_never_meet_fails() {
        let balance = Balance::of(&flows(&[("a", "/t/1", 10)], &[]), &flows(&[], &[("/t/2", 3)]));
        assert!(balance.failures.iter().any(|line| line.contains("nothing was sent")), "{balance:?}");
    }
}
