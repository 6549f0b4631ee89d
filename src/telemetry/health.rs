//! Whether the node does its work, in one line. Written by housekeeping threads when something changes, read by the admin port.

use super::reloads::Reloads;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Partitions that are behind their logs that `/ready` names.
const STALE_NAMED_MAX: usize = 20;

/// Live-only topics that `/ready` names.
const LIVE_ONLY_NAMED_MAX: usize = 20;

/// The node's health. Starts as not ready: Kafka has not been reached yet.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    /// What became of reloads.
    pub reloads: Reloads,
}

#[derive(Debug)]
struct State {
    kafka: Kafka,
    /// Ready and all partitions; `None` until the first topic map.
    partitions: Option<(usize, usize)>,
    /// Partitions that are not read, and why.
    held: Vec<String>,
    stuck: Vec<String>,
    stale: Vec<String>,
    /// Topics whose subjects cannot be recovered although their partitioner was looked for.
    live_only: Vec<String>,
    draining: bool,
    failed: Option<String>,
}

#[derive(Debug)]
enum Kafka {
    Reached,
    NotReached { since: Instant, why: String },
}

impl Default for Health {
    fn default() -> Self {
        Health::new()
    }
}

impl Health {
    pub fn new() -> Health {
        let kafka = Kafka::NotReached { since: Instant::now(), why: "no answer yet".to_owned() };
        let state = State {
            kafka,
            partitions: None,
            held: Vec::new(),
            stuck: Vec::new(),
            stale: Vec::new(),
            live_only: Vec::new(),
            draining: false,
            failed: None,
        };
        Health { state: Mutex::new(state), reloads: Reloads::default() }
    }

    /// Kafka answers.
    pub fn kafka_reached(&self) {
        self.state().kafka = Kafka::Reached;
    }

    /// Kafka does not answer. The time counts from the first of several calls.
    pub fn kafka_lost(&self, why: &str) {
        let mut state = self.state();
        let since = match state.kafka {
            Kafka::NotReached { since, .. } => since,
            Kafka::Reached => Instant::now(),
        };
        state.kafka = Kafka::NotReached { since, why: one_line(why) };
    }

    /// So many of all consumed partitions have been read up to where they ended at the start.
    pub fn partitions_ready(&self, ready: usize, all: usize) {
        self.state().partitions = Some((ready, all));
    }

    /// Partitions that stand still although Kafka and this node are well, each with its reason in one line. They do not make the node unready:
    /// every other node stands before the same bytes.
    pub fn partitions_held(&self, held: Vec<String>) {
        self.state().held = held;
    }

    /// Partitions whose log goes on and that are not read: their subscribers miss what others have, so the node is not ready.
    pub fn partitions_stuck(&self, stuck: Vec<String>) {
        self.state().stuck = stuck;
    }

    /// Partitions that are not read to where their logs ended ten seconds ago: their subscribers wait for what other nodes may have.
    pub fn partitions_stale(&self, stale: Vec<String>) {
        self.state().stale = stale;
    }

    /// Topics whose subjects are live only because no partitioner explains where their records are.
    pub fn topics_live_only(&self, topics: Vec<String>) {
        self.state().live_only = topics;
    }

    /// How many those are.
    pub fn live_only_count(&self) -> usize {
        self.state().live_only.len()
    }

    /// What `/ready` says of a node that is ready.
    pub fn ready_text(&self) -> String {
        let State { held, live_only, .. } = &*self.state();
        let mut text = "ready".to_owned();
        if !held.is_empty() {
            text += &format!(", but not all partitions are read: {}", held.join("; "));
        }
        if !live_only.is_empty() {
            let more = live_only.len().saturating_sub(LIVE_ONLY_NAMED_MAX);
            let named = live_only[..live_only.len() - more].join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text +=
                &format!("{} live only, no partitioner explains their records: {named}{more}", if held.is_empty() { ";" } else { "; and" });
        }
        text
    }

    /// The node is going down.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// Something that the node cannot live without has ended. Final.
    pub fn failed(&self, why: &str) {
        self.state().failed.get_or_insert_with(|| one_line(why));
    }

    /// Whether clients should be sent here; the error says why not, in one line.
    pub fn readiness(&self) -> Result<(), String> {
        self.liveness()?;
        let state = self.state();
        if state.draining {
            return Err("draining: the node is shutting down".to_owned());
        }
        if let Kafka::NotReached { since, why } = &state.kafka {
            return Err(format!("Kafka not reached for {} s: {why}", since.elapsed().as_secs()));
        }
        if !state.stuck.is_empty() {
            return Err(format!("partitions stand still although their logs go on: {}", state.stuck.join("; ")));
        }
        if !state.stale.is_empty() && state.partitions.is_some_and(|(ready, all)| ready >= all) {
            let more = state.stale.len().saturating_sub(STALE_NAMED_MAX);
            let named = state.stale[..state.stale.len() - more].join("; ");
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            return Err(format!("partitions are behind their logs in Kafka: {named}{more}"));
        }
        match state.partitions {
            None => Err("topics not known yet".to_owned()),
            Some((ready, all)) if ready < all => Err(format!("partitions not ready: {} of {all}", all - ready)),
            Some(_) => Ok(()),
        }
    }

    /// Whether the process works at all; if not it should be restarted.
    pub fn liveness(&self) -> Result<(), String> {
        self.state().failed.clone().map_or(Ok(()), |why| Err(format!("failed: {why}")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_why_not() {
        let health = Health::new();
        let why = |health: &Health| health.readiness().unwrap_err();
        assert_eq!(why(&health), "Kafka not reached for 0 s: no answer yet");
        health.kafka_lost("all brokers\nare down");
        assert_eq!(why(&health), "Kafka not reached for 0 s: all brokers are down");
        health.kafka_reached();
        assert_eq!(why(&health), "topics not known yet");
        health.partitions_ready(3, 12);
        assert_eq!(why(&health), "partitions not ready: 9 of 12");
        health.partitions_ready(12, 12);
        assert_eq!(health.readiness(), Ok(()));
        assert_eq!(health.ready_text(), "ready");
        health.partitions_held(vec!["vehicles/0: corrupt".to_owned()]);
        assert_eq!(health.readiness(), Ok(()));
        assert_eq!(health.ready_text(), "ready, but not all partitions are read: vehicles/0: corrupt");
        health.partitions_stuck(vec!["topic vehicles partition 1".to_owned()]);
        assert_eq!(why(&health), "partitions stand still although their logs go on: topic vehicles partition 1");
        health.partitions_stuck(Vec::new());
        health.partitions_stale((0..22).map(|number| format!("partition {number}")).collect());
        let behind = why(&health);
        assert!(behind.starts_with("partitions are behind their logs in Kafka: partition 0; partition 1; "), "{behind}");
        assert!(behind.ends_with("; partition 19; and 2 more"), "{behind}");
        health.partitions_stale(Vec::new());
        health.partitions_held(Vec::new());
        health.topics_live_only(vec!["chaos".to_owned(), "vehicles".to_owned()]);
        assert_eq!(health.ready_text(), "ready; live only, no partitioner explains their records: chaos, vehicles");
        health.topics_live_only((0..22).map(|number| number.to_string()).collect());
        assert!(health.ready_text().ends_with(", 19 and 2 more"));
        health.draining();
        assert_eq!(why(&health), "draining: the node is shutting down");
        assert_eq!(health.liveness(), Ok(()));
        health.failed("shard 1 has ended");
        health.failed("later");
        assert_eq!((why(&health), health.liveness().is_err()), ("failed: shard 1 has ended".to_owned(), true));
    }
}
