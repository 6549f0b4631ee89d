//! Partitioners that are guessed by the newest records, and guessed again when those contradict.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use super::known::{Misfit, Place, StartAt};
use super::offsets::Resolved;
use super::reader::Reader;
use crate::handoff::TopicIndex;
use crate::kafka::clients::{QuietContext, close};
use crate::kafka::detect::{Sample, read_newest};
use crate::kafka::librdkafka::adjust_for_reading;
use crate::kafka::lock;
use crate::subject::{Partitioner, PartitionerChoice};

/// How long the newest records are read to guess partitioners.
const DETECT_TIME: Duration = Duration::from_secs(4);
/// How often a topic's newest records are asked for before its rule is decided without: they may have been deleted.
const MISFIT_TRIES_MAX: u32 = 5;
/// How long a rule that was looked at and kept is not looked at again: each look reads many records, and holds up the reader.
const KEPT_TIME: Duration = Duration::from_secs(10);

impl Reader {
    /// Whether a topic's rule was looked at and kept a moment ago.
    pub(super) fn was_kept(&self, topic: TopicIndex) -> bool {
        self.kept.get(&topic).is_some_and(|at| at.elapsed() < KEPT_TIME)
    }

    /// Records were where the guessed rules do not put them: decides again, by what is in those topics now. Whether a map changed.
    pub(super) fn decide_again(&mut self) -> bool {
        let mut changed = false;
        for (index, misfit) in std::mem::take(&mut self.misfits) {
            let Some((name, known)) = self.known.iter().find(|(_, known)| known.index == index) else {
                continue;
            };
            let topic = known.topic.clone();
            // A word about an earlier rule says nothing about this one.
            if !topic.partitioner_is_guess || topic.partitioner == Partitioner::Any || misfit.version < known.rule_since {
                continue;
            }
            if self.was_kept(index) {
                self.misfits.insert(index, misfit);
                continue;
            }
            let (name, count) = (name.clone(), topic.partitions.len() as u32);
            let wanted: Vec<(Place, StartAt)> = (0..count).map(|number| ((name.clone(), number), StartAt::End)).collect();
            let resolved = self.resolve(&wanted);
            let samples = HashMap::from([(name.clone(), Sample::new(count, &topic.earlier_counts))]);
            let sample = self.newest_keys(resolved.iter(), samples).remove(&name).unwrap_or_default();
            if (sample.is_empty() || resolved.len() < wanted.len()) && misfit.tries < MISFIT_TRIES_MAX {
                // Not to be had now: at the next reading.
                self.misfits.insert(index, Misfit { tries: misfit.tries + 1, ..misfit });
                continue;
            }
            let Some(known) = self.known.get_mut(&name) else { continue };
            let (misfits, keys) = sample.misfits(topic.partitioner);
            let rule = sample.next_rule(topic.partitioner, &known.refuted);
            if rule == topic.partitioner {
                // The subjects of the few records that it does not explain are live only on the shards that met them.
                tracing::debug!(topic = %name, ?rule, misfits, keys, "the partitioner explains the newest records well enough");
                self.kept.insert(index, Instant::now());
                continue;
            }
            known.refuted.push(topic.partitioner);
            if rule == Partitioner::Any {
                tracing::warn!(
                    topic = %name, misfits, keys,
                    "too many of the newest records are not on the partition that {:?} gives their keys, and no other rule explains them: subjects of this topic are live only from now on (set partitioner in [topic.\"{name}\"])",
                    topic.partitioner
                );
            } else {
                tracing::info!(
                    topic = %name, before = ?topic.partitioner, now = ?rule,
                    "the newest records are where another partitioner puts their keys: keys that find another home are announced to their subscribers"
                );
            }
            Arc::make_mut(&mut known.topic).partitioner = rule;
            known.rule_since = self.version + 1;
            changed = true;
        }
        changed
    }

    pub(super) fn guess_partitioners(
        &self,
        fresh: &[(String, u32, Arc<str>)],
        resolved: &HashMap<Place, Resolved>,
    ) -> HashMap<String, Partitioner> {
        let auto = |name: &str| (lock(&self.options).topic)(name).partitioner == PartitionerChoice::Auto;
        let wanted: Vec<&(String, u32, Arc<str>)> = fresh.iter().filter(|(name, count, _)| *count > 1 && auto(name)).collect();
        let places: Vec<Place> = wanted.iter().flat_map(|(name, count, _)| (0..*count).map(move |number| (name.clone(), number))).collect();
        let samples = wanted.iter().map(|(name, count, _)| (name.clone(), Sample::new(*count, &[]))).collect();
        let samples = self.newest_keys(places.iter().filter_map(|place| Some((place, resolved.get(place)?))), samples);
        samples.into_iter().filter(|(_, sample)| !sample.is_empty()).map(|(name, sample)| (name, sample.rule(&[]))).collect()
    }

    /// Adds the newest keys of these partitions to the samples of their topics, with a consumer of its own.
    fn newest_keys<'p>(
        &self,
        places: impl Iterator<Item = (&'p Place, &'p Resolved)>,
        mut samples: HashMap<String, Sample>,
    ) -> HashMap<String, Sample> {
        let partitions: Vec<(String, i32, i64, i64)> =
            places.filter(|(_, at)| at.low < at.end).map(|(place, at)| (place.0.clone(), place.1 as i32, at.low, at.end)).collect();
        if partitions.is_empty() {
            return samples;
        }
        let scratch: Result<Arc<BaseConsumer<QuietContext>>, KafkaError> = self.clients.make(QuietContext, adjust_for_reading, |_| {});
        let Ok(scratch) = scratch else {
            return samples;
        };
        let subject_bytes_max = lock(&self.options).subject_bytes_max;
        read_newest(&scratch, &partitions, subject_bytes_max, DETECT_TIME, &mut samples);
        close(scratch);
        samples
    }
}
