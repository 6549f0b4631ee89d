//! Every number of the node, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::health::Health;
use super::process::ProcessMetrics;
use crate::shard::counters::Kind;
use crate::shard::{MissedPublishes, ShardCounters, ShardStages, Stage, Stages};

/// One shard's part. The shard alone writes it.
#[derive(Debug)]
pub struct ShardTelemetry {
    counters: Box<[AtomicU64]>,
    /// How long everything took. The shard's thread does not wait for who reads it.
    stages: Mutex<Stages<u64>>,
    /// By topic. Locked by the shard's thread only when Kafka has failed a publish to several topics.
    missed: Mutex<MissedPublishes>,
}

impl ShardTelemetry {
    fn new() -> ShardTelemetry {
        let counters = ShardCounters::default().each().map(|_| AtomicU64::new(0)).collect();
        ShardTelemetry { counters, stages: Mutex::default(), missed: Mutex::default() }
    }

    /// Takes a copy of the counters. Once a tick, on the shard's thread.
    pub fn store(&self, counters: &ShardCounters) {
        for (cell, (_, _, value)) in self.counters.iter().zip(counters.each()) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Takes a copy of how often each topic has missed a publish that others of its routes' topics have.
    pub fn store_missed(&self, missed: &MissedPublishes) {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone_from(missed);
    }

    /// Takes what was recorded since the last time, and clears it; all of it is left for the next time while somebody reads.
    pub fn take_stages(&self, stages: &mut ShardStages) {
        if let Ok(mut all) = self.stages.try_lock() {
            all.add(stages);
            stages.clear();
        }
    }

    fn stages(&self) -> Stages<u64> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Upper ends of the buckets, in microseconds: 1, 2 and 5 of each decade, from 20 us to 60 s.
const BUCKETS_MICROS: [u64; 20] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 20_000_000, 60_000_000,
];
/// Those that are told by themselves.
const QUANTILES: [(&str, f64); 5] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

/// All numbers of a node.
pub struct Registry {
    shards: Vec<Arc<ShardTelemetry>>,
    prometheus: Mutex<prometheus_client::registry::Registry>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Registry").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry for this many shards.
    pub fn new(shards: usize, health: Arc<Health>) -> Registry {
        let shards: Vec<_> = (0..shards).map(|_| Arc::new(ShardTelemetry::new())).collect();
        let mut prometheus = prometheus_client::registry::Registry::default();
        prometheus.register_collector(Box::new(ShardMetrics(shards.clone())));
        prometheus.register_collector(Box::new(ProcessMetrics::new(health)));
        Registry { shards, prometheus: Mutex::new(prometheus) }
    }

    /// A shard's part.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn shard(&self, shard: crate::handoff::ShardId) -> Arc<ShardTelemetry> {
        self.shards[shard.index()].clone()
    }

    /// Adds numbers of somebody else's.
    pub fn add(&self, collector: impl Collector) {
        self.prometheus.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// The text that `/metrics` answers (OpenMetrics, which Prometheus reads).
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.prometheus.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(out)
    }
}

type Labels<'l> = [(&'l str, String)];

/// The collector of the shards' parts: one family per counter, one member per shard.
#[derive(Debug)]
struct ShardMetrics(Vec<Arc<ShardTelemetry>>);

impl Collector for ShardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (place, (name, kind, _)) in ShardCounters::default().each().enumerate() {
            let kind = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let name = format!("corespan_{name}");
            let help = ShardCounters::HELP[place].trim().trim_end_matches('.');
            let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
            for (shard, telemetry) in self.0.iter().enumerate() {
                let value = telemetry.counters[place].load(Ordering::Relaxed);
                let labels: &Labels = &[("shard", shard.to_string())];
                let mut metric = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                    _ => metric.encode_gauge(&value)?,
                }
            }
        }
        self.encode_missed(&mut encoder)?;
        self.encode_stages(encoder)
    }
}

impl ShardMetrics {
    fn encode_missed(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut by_topic: MissedPublishes = BTreeMap::new();
        for telemetry in &self.0 {
            for (topic, count) in &*telemetry.missed.lock().unwrap_or_else(PoisonError::into_inner) {
                *by_topic.entry(topic.clone()).or_default() += count;
            }
        }
        if by_topic.is_empty() {
            return Ok(());
        }
        let help = "Records of publishes that routes take to several topics, which others of the same publish's topics have and this one has not, or perhaps not";
        let mut family = encoder.encode_descriptor("corespan_topic_publishes_missed", help, None, MetricType::Counter)?;
        for (topic, count) in by_topic {
            let labels: &Labels = &[("topic", topic.to_string())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn encode_stages(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        const HELP: &str = "How long records and publishes stay in each stage: poll (from the record's timestamp to its shard), home (to its home having dealt with it), outbox (to another shard's clients), socket (to the write), ack (from the producer to Kafka's answer)";
        let seconds = |micros: u64| micros as f64 / 1e6;
        let shards: Vec<Stages<u64>> = self.0.iter().map(|telemetry| telemetry.stages()).collect();
        // What nobody has recorded yet says nothing, and is left out.
        let members: Vec<_> = shards
            .iter()
            .enumerate()
            .flat_map(|(shard, stages)| Stage::ALL.map(|(stage, name)| (shard, name, stages.of(stage))))
            .filter(|(_, _, histogram)| !histogram.is_empty())
            .collect();
        if members.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor("corespan_stage", HELP, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (shard, stage, histogram) in &members {
            let labels: &Labels = &[("shard", shard.to_string()), ("stage", (*stage).to_owned())];
            let mut below = 0;
            let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BUCKETS_MICROS.len() + 1);
            for bound in BUCKETS_MICROS {
                buckets.push((seconds(bound), histogram.count_between(below, bound)));
                below = bound + 1;
            }
            let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
            buckets.push((f64::INFINITY, histogram.len().saturating_sub(counted)));
            let sum = histogram.mean() / 1e6 * histogram.len() as f64;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, histogram.len(), &buckets, None)?;
        }
        let help = "The same as quantiles since the start, to 1 percent; 1 is the largest";
        let mut family = encoder.encode_descriptor("corespan_stage_quantile", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (shard, stage, histogram) in &members {
            for (name, quantile) in QUANTILES {
                let labels: &Labels = &[("shard", shard.to_string()), ("stage", (*stage).to_owned()), ("quantile", name.to_owned())];
                encode_gauge(&mut family, &labels, seconds(histogram.value_at_quantile(quantile)))?;
            }
        }
        Ok(())
    }
}

fn encode_gauge(
    family: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: f64,
) -> Result<(), fmt::Error> {
    family.encode_family(labels)?.encode_gauge(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::ShardId;

    #[test]
    fn counters_and_latencies_of_every_shard_are_in_the_text() {
        let registry = Registry::new(2, Arc::new(Health::new()));
        let shard = registry.shard(ShardId(1));
        shard.store(&ShardCounters { records_consumed: 7, connections: 3, ..Default::default() });
        let mut stages = Stages::default();
        stages.record(Stage::Socket, 250, 4);
        shard.take_stages(&mut stages);
        assert!(stages.is_empty());
        let text = registry.text().unwrap();
        for line in [
            "# HELP corespan_records_consumed Records read from Kafka",
            "# TYPE corespan_records_consumed counter",
            "corespan_records_consumed_total{shard=\"0\"} 0",
            "corespan_records_consumed_total{shard=\"1\"} 7",
            "# TYPE corespan_connections gauge",
            "corespan_connections{shard=\"1\"} 3",
            "corespan_stage_seconds_count{shard=\"1\",stage=\"socket\"} 4",
            "corespan_stage_seconds_bucket{le=\"+Inf\",shard=\"1\",stage=\"socket\"} 4",
            "corespan_stage_seconds_bucket{le=\"0.0005\",shard=\"1\",stage=\"socket\"} 4",
            "corespan_stage_seconds_bucket{le=\"0.0001\",shard=\"1\",stage=\"socket\"} 0",
            "corespan_stage_quantile_seconds{shard=\"1\",stage=\"socket\",quantile=\"0.99\"} 0.00025",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_threads",
            "process_cpu_seconds_total",
            "corespan_build_info",
            "corespan_ready 0.0",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_nobody_feeds_is_not_in_the_text() {
        let registry = Registry::new(2, Arc::new(Health::new()));
        assert!(!registry.text().unwrap().contains("corespan_stage"));
    }

    #[test]
    fn every_counter_has_a_help_text() {
        assert_eq!(ShardCounters::HELP.len(), ShardCounters::default().each().count());
        assert!(ShardCounters::HELP.iter().all(|help| help.trim().len() > 5));
    }
}
