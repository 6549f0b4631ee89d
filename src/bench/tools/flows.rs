//! What was sent, or received, by sender and subject: so that a scenario can check one against the other.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// Pairs of sender and subject, or subjects, that are counted each by itself; more are one number, and a scenario says that it cannot check them.
/// More makes reports of many megabytes; fewer leave no room for a subject for each of many connections.
pub const FLOWS_MAX: usize = 200_000;

/// Names of senders, by their hash.
#[derive(Default)]
pub struct Senders(HashMap<u64, String>);

impl Senders {
    /// A sender that may be new.
    pub fn note(&mut self, hash: u64, name: &[u8]) {
        if self.0.len() < FLOWS_MAX {
            self.0.entry(hash).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }

    /// Its name; empty if there were too many.
    pub fn name(&self, hash: u64) -> &str {
        self.0.get(&hash).map_or("", String::as_str)
    }
}

/// Records by sender and subject, and subscribers by subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    records: BTreeMap<String, BTreeMap<String, u64>>,
    subscribers: BTreeMap<String, u64>,
    pairs: usize,
    /// Records of pairs, and subscribers of subjects, that found no room.
    unlisted: u64,
}

impl Flows {
    /// Records of a sender to a subject.
    pub fn add(&mut self, sender: &str, subject: &str, records: u64) {
        if let Some(count) = self.records.get_mut(sender).and_then(|subjects| subjects.get_mut(subject)) {
            *count += records;
        } else if self.pairs < FLOWS_MAX {
            self.pairs += 1;
            self.records.entry(sender.to_owned()).or_default().insert(subject.to_owned(), records);
        } else {
            self.unlisted += records;
        }
    }

    /// One more subscriber of a subject.
    pub fn add_subscriber(&mut self, subject: &str) {
        self.add_subscribers(subject, 1);
    }

    fn add_subscribers(&mut self, subject: &str, more: u64) {
        if let Some(count) = self.subscribers.get_mut(subject) {
            *count += more;
        } else if self.subscribers.len() < FLOWS_MAX {
            self.subscribers.insert(subject.to_owned(), more);
        } else {
            self.unlisted += more;
        }
    }

    /// Those of another report of the same run.
    pub fn join(&mut self, other: &Flows) {
        for (sender, subjects) in &other.records {
            subjects.iter().for_each(|(subject, records)| self.add(sender, subject, *records));
        }
        other.subscribers.iter().for_each(|(subject, count)| self.add_subscribers(subject, *count));
        self.unlisted += other.unlisted;
    }

    /// Every pair: sender, subject, records.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.records
            .iter()
            .flat_map(|(sender, subjects)| subjects.iter().map(|(subject, count)| (sender.as_str(), subject.as_str(), *count)))
    }

    /// Records of a sender to a subject.
    pub fn records(&self, sender: &str, subject: &str) -> u64 {
        self.records.get(sender).and_then(|subjects| subjects.get(subject)).copied().unwrap_or(0)
    }

    /// Subscribers of a subject.
    pub fn subscribers(&self, subject: &str) -> u64 {
        self.subscribers.get(subject).copied().unwrap_or(0)
    }

    /// What found no room, and so cannot be checked.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// For a report.
    pub fn json(&self) -> Value {
        json!({ "records": self.records, "subscribers": self.subscribers, "unlisted": self.unlisted })
    }

    /// From a report; empty if it has none.
    pub fn of(report: &Value) -> Flows {
        let flows = &report["flows"];
        let mut read = Flows { unlisted: flows["unlisted"].as_u64().unwrap_or(0), ..Flows::default() };
        let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
        for (sender, subjects) in members(&flows["records"]) {
            members(&subjects).iter().for_each(|(subject, count)| read.add(&sender, subject, count.as_u64().unwrap_or(0)));
        }
        for (subject, count) in members(&flows["subscribers"]) {
            read.add_subscribers(&subject, count.as_u64().unwrap_or(0));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_as_they_were_written_and_add_up() {
        let mut flows = Flows::default();
        flows.add("a", "/t/1", 3);
        flows.add("a", "/t/1", 2);
        flows.add("b", "/t/2", 1);
        flows.add_subscriber("/t/1");
        let read = Flows::of(&json!({ "flows": flows.json() }));
        assert_eq!(read, flows);
        let mut both = read;
        both.join(&flows);
        assert_eq!((both.records("a", "/t/1"), both.records("b", "/t/2"), both.subscribers("/t/1")), (10, 2, 2));
        assert_eq!((both.records("b", "/t/1"), both.subscribers("/t/2"), both.pairs().count()), (0, 0, 2));
        assert_eq!(Flows::of(&json!({})), Flows::default());
    }

    #[test]
    fn too_many_are_counted_and_not_kept() {
        let mut flows = Flows::default();
        (0..FLOWS_MAX + 5).for_each(|number| flows.add("a", &format!("/t/{number}"), 1));
        assert_eq!((flows.pairs().count(), flows.unlisted()), (FLOWS_MAX, 5));
    }
}
