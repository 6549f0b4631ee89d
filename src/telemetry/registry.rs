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
use super::histogram::Histogram;
use super::process::ProcessMetrics;
use crate::shard::counters::Kind;
use crate::shard::{MissedPublishes, ShardCounters};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// From the poll that took a record from Kafka to the turn's flush that wrote it to its subscribers' sockets.
    Deliver,
    /// From a client's publish to Kafka's acknowledgement.
    Publish,
}

impl Latency {
    const ALL: [(Latency, &'static str); 2] = [(Latency::Deliver, "deliver"), (Latency::Publish, "publish")];
}

/// One shard's part. The shard alone writes it.
#[derive(Debug)]
pub struct ShardTelemetry {
    counters: Box<[AtomicU64]>,
    latencies: [Histogram; Latency::ALL.len()],
    /// By topic. Locked by the shard's thread only when Kafka has failed a publish to several topics.
    missed: Mutex<MissedPublishes>,
}

impl ShardTelemetry {
    fn new() -> ShardTelemetry {
        let counters = ShardCounters::default().each().map(|_| AtomicU64::new(0)).collect();
        ShardTelemetry { counters, latencies: Default::default(), missed: Mutex::default() }
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

    /// The histogram of a latency; only the shard's thread records in it.
    pub fn latency(&self, latency: Latency) -> &Histogram {
        &self.latencies[latency as usize]
    }
}

/// Upper ends of the coarse latency buckets: 2^n - 1 microseconds, from 63 us to 67 s.
const COARSE_MICROS: [u64; 11] = {
    let mut bounds = [0; 11];
    let mut place = 0;
    while place < bounds.len() {
        bounds[place] = (1 << (6 + 2 * place)) - 1;
        place += 1;
    }
    bounds
};

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
        self.encode_latencies(encoder)
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

    fn encode_latencies(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        const HELP: &str =
            "Latencies by stage: deliver is from Kafka's poll to the socket, publish from the client to Kafka's acknowledgement";
        let seconds = |micros: u64| micros as f64 / 1e6;
        // What nobody has fed yet says nothing, and is left out.
        let members: Vec<_> = self
            .0
            .iter()
            .enumerate()
            .flat_map(|(shard, telemetry)| Latency::ALL.map(|(latency, name)| (shard, name, telemetry.latency(latency).snapshot())))
            .filter(|(_, _, snapshot)| snapshot.quantiles().count > 0)
            .collect();
        if members.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor("corespan_latency", HELP, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (shard, stage, snapshot) in &members {
            let labels: &Labels = &[("shard", shard.to_string()), ("stage", (*stage).to_owned())];
            let bounds = COARSE_MICROS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(snapshot.coarse(&COARSE_MICROS)).collect();
            let quantiles = snapshot.quantiles();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds(quantiles.sum), quantiles.count, &buckets, None)?;
        }
        let help = "The same as quantiles since the start, to 3 percent; 1 is the largest";
        let mut family = encoder.encode_descriptor("corespan_latency_quantile", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (shard, stage, snapshot) in &members {
            let quantiles = snapshot.quantiles();
            for (quantile, micros) in [("0.5", quantiles.p50), ("0.99", quantiles.p99), ("0.999", quantiles.p999), ("1", quantiles.max)] {
                let labels: &Labels = &[("shard", shard.to_string()), ("stage", (*stage).to_owned()), ("quantile", quantile.to_owned())];
                encode_gauge(&mut family, &labels, seconds(micros))?;
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
        shard.latency(Latency::Deliver).record(250, 4);
        let text = registry.text().unwrap();
        for line in [
            "# HELP corespan_records_consumed Records read from Kafka",
            "# TYPE corespan_records_consumed counter",
            "corespan_records_consumed_total{shard=\"0\"} 0",
            "corespan_records_consumed_total{shard=\"1\"} 7",
            "# TYPE corespan_connections gauge",
            "corespan_connections{shard=\"1\"} 3",
            "corespan_latency_seconds_count{shard=\"1\",stage=\"deliver\"} 4",
            "corespan_latency_seconds_bucket{le=\"+Inf\",shard=\"1\",stage=\"deliver\"} 4",
            "corespan_latency_seconds_bucket{le=\"0.000255\",shard=\"1\",stage=\"deliver\"} 4",
            "corespan_latency_seconds_bucket{le=\"0.000063\",shard=\"1\",stage=\"deliver\"} 0",
            "corespan_latency_quantile_seconds{shard=\"1\",stage=\"deliver\",quantile=\"0.99\"} 0.00025",
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
        assert!(!registry.text().unwrap().contains("corespan_latency"));
    }

    #[test]
    fn every_counter_has_a_help_text() {
        assert_eq!(ShardCounters::HELP.len(), ShardCounters::default().each().count());
        assert!(ShardCounters::HELP.iter().all(|help| help.trim().len() > 5));
    }
}
