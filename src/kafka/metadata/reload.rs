//! Other topics, or other settings of them, while the node runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::handle::MetadataHandle;
use super::reader::Reader;
use crate::kafka::lock;
use crate::kafka::properties::Properties;
use crate::kafka::settings::TopicChoice;
use crate::subject::{PartitionerChoice, TopicSettings};

impl MetadataHandle {
    /// Other topics are consumed, or theirs are other settings, from the next reading on, which comes soon.
    pub fn take_topics(&self, topics: TopicChoice, topic: Box<dyn Fn(&str) -> TopicSettings + Send>) {
        {
            let mut options = lock(&self.options);
            (options.topics, options.topic) = (topics, topic);
            options.reloads += 1;
        }
        self.look();
    }

    /// Other credentials, certificates or keys are Kafka's clients' from now on, if these are others.
    pub fn take_properties(&self, consumer: &Properties, producer: &Properties) {
        self.consuming.take(consumer);
        self.producing.take(producer);
    }
}

/// What a reading does about a reload.
pub(super) struct Reload {
    /// The reload's number.
    number: u64,
    /// Topics that were there before it.
    before: HashMap<Arc<str>, u32>,
}

impl Reload {
    /// Whether a topic was there before it was asked for: its past may be long, and is read as far as at a start.
    pub(super) fn is_old(&self, topic: &str) -> bool {
        topic.starts_with("__") || self.before.contains_key(topic)
    }
}

impl Reader {
    /// The reload that this reading is the first after. `before`: the topics of the reading before.
    pub(super) fn reload(&self, before: HashMap<Arc<str>, u32>) -> Option<Reload> {
        let number = lock(&self.options).reloads;
        (number != self.reloads).then_some(Reload { number, before })
    }

    /// Lets go of what is not consumed any more, and gives topics their settings as they are now. Whether a topic changed.
    pub(super) fn take_reload(&mut self, reload: &Reload, found: &BTreeMap<String, u32>) -> bool {
        self.reloads = reload.number;
        let (unwanted, absent) = {
            let options = lock(&self.options);
            let unwanted: Vec<String> = self.known.keys().filter(|name| !options.topics.wants(name)).cloned().collect();
            let absent: Vec<String> = match &options.topics {
                TopicChoice::Listed(topics) => topics.iter().filter(|name| !found.contains_key(*name)).cloned().collect(),
                TopicChoice::Matching(_) => Vec::new(),
            };
            (unwanted, absent)
        };
        for name in absent {
            tracing::warn!(
                topic = %name,
                "kafka.consumer.topics names a topic that does not exist on this cluster or may not be described with these credentials: it is served once it appears"
            );
        }
        for name in &unwanted {
            tracing::info!(topic = %name, "the topic is consumed no longer");
            self.known.remove(name);
        }
        let mut changed = !unwanted.is_empty();
        let version = self.version + 1;
        for (name, known) in &mut self.known {
            let settings = (lock(&self.options).topic)(name);
            let topic = &*known.topic;
            let (rule, guess) = match settings.partitioner {
                PartitionerChoice::Fixed(rule) => (rule, false),
                // The rule that was named is the first guess.
                PartitionerChoice::Auto => (topic.partitioner, topic.partitions.len() > 1),
            };
            let same_rule = topic.partitioner == rule;
            if same_rule && topic.partitioner_is_guess == guess && topic.value == settings.value && topic.snapshot == settings.snapshot {
                continue;
            }
            if !same_rule {
                tracing::info!(
                    topic = %name, before = ?topic.partitioner, now = ?rule,
                    "another partitioner is set: all subscribers of the topic are told to come back (2500), and lose nothing where the key keeps its home"
                );
                known.rule_since = version;
                known.refuted.clear();
            }
            let topic = Arc::make_mut(&mut known.topic);
            (topic.partitioner, topic.partitioner_is_guess) = (rule, guess);
            (topic.value, topic.snapshot) = (settings.value, settings.snapshot);
            changed = true;
        }
        changed
    }
}
