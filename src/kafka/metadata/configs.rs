//! Settings of topics: asked for in turn, and kept for maps and producers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::questions::Question;
use super::reader::Reader;
use crate::kafka::lock;
use crate::kafka::raw::TopicConfig;

/// Topics whose settings are asked for in one request: Kafka answers with all of them, some 5 KiB for each topic.
const CONFIGS_AT_ONCE_MAX: usize = 100;
/// Such requests for topics that are new, between two readings.
const NEW_CONFIGS_MAX: usize = 10;

impl Reader {
    /// Asks for the settings of topics that are new, and once in an interval for those of some others again, all in turn. The answers are words.
    pub(super) fn ask_configs(&mut self) {
        let mut all: Vec<&str> = self.publishable.keys().map(|name| &**name).chain(self.known.keys().map(String::as_str)).collect();
        all.sort_unstable();
        all.dedup();
        let exists: HashSet<&str> = all.iter().copied().collect();
        let doubted = self.producers.limits().take_doubted();
        self.configs_known.retain(|name| exists.contains(name.as_str()) && !doubted.contains(name.as_str()));
        let unknown: Vec<&str> =
            all.iter().copied().filter(|name| !self.configs_known.contains(*name)).take(NEW_CONFIGS_MAX * CONFIGS_AT_ONCE_MAX).collect();
        // Without room they are asked for at another reading.
        let ask = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let _ = self.questions.try_send(Question::Configs { names, broker: self.broker });
        };
        unknown.chunks(CONFIGS_AT_ONCE_MAX).for_each(&ask);
        let interval = lock(&self.options).metadata_interval;
        if all.is_empty() || self.configs_asked.is_some_and(|asked| asked.elapsed() < interval) {
            return;
        }
        let first = all.partition_point(|name| *name <= self.configs_cursor.as_str());
        let first = if first == all.len() { 0 } else { first };
        let again = &all[first..all.len().min(first + CONFIGS_AT_ONCE_MAX)];
        ask(again);
        let cursor = again.last().map_or(String::new(), |name| (*name).to_owned());
        self.configs_asked = Some(Instant::now());
        self.configs_cursor = cursor;
    }

    /// What Kafka says of topics' settings. A change of `cleanup.policy` is in the next map, which is made soon.
    pub(super) fn take_configs(&mut self, asked: Vec<String>, found: HashMap<String, TopicConfig>) {
        self.keep_limits(&found);
        self.configs_known.extend(asked);
        for (name, TopicConfig { compacted, .. }) in found {
            if let Some(known) = self.known.get_mut(&name).filter(|known| known.topic.compacted != compacted) {
                tracing::info!(topic = %name, compacted, "the topic's cleanup.policy has changed");
                Arc::make_mut(&mut known.topic).compacted = compacted;
                self.changed = true;
                self.look = true;
            }
        }
    }

    /// Producers go by the largest batches that topics take.
    pub(super) fn keep_limits(&self, found: &HashMap<String, TopicConfig>) {
        let limits = found.iter().filter_map(|(name, config)| Some((Arc::from(name.as_str()), config.message_bytes_max?)));
        self.producers.limits().set(limits, |name| self.publishable.contains_key(name) || self.known.contains_key(name));
    }
}
