//! What the Kafka side knows of itself, as metrics.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::kafka::{MetadataHandle, PartitionStanding, Producers};

/// Partitions that have lines of their own: the stalest of them. The totals count all.
const PARTITIONS_MAX: usize = 1_000;

/// Asks when it is scraped.
pub(super) struct KafkaMetrics {
    pub(super) metadata: MetadataHandle,
    pub(super) producers: Arc<Producers>,
}

impl fmt::Debug for KafkaMetrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KafkaMetrics").finish_non_exhaustive()
    }
}

impl Collector for KafkaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let counts = self.metadata.counts();
        for (name, help, value) in [
            (
                "batches_skipped",
                "Corrupt batches whose records clients never get, as corrupt.batches = \"skip\" says",
                counts.batches_skipped,
            ),
            (
                "partitions_stuck",
                "How often a partition's log went on and it was not read, until it was assigned anew",
                counts.partitions_stuck,
            ),
            ("consumers_renewed", "Consumers that read nothing although their logs went on, replaced", counts.consumers_renewed),
            (
                "producers_renewed",
                "Producers that could not go on, or stored nothing while Kafka was well, replaced",
                self.producers.renewed(),
            ),
        ] {
            let name = format!("corespan_kafka_{name}");
            encoder.encode_descriptor(&name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let mut standings = self.metadata.standings();
        let lag: u64 = standings.iter().filter_map(|standing| standing.lag).sum();
        let staleness = standings.iter().map(|standing| standing.staleness).max().unwrap_or_default().as_secs_f64();
        let help = "Offsets that the logs of all partitions have and this node has not read";
        encoder.encode_descriptor("corespan_kafka_lag", help, None, MetricType::Gauge)?.encode_gauge(&(lag as f64))?;
        let help = "Everything that the logs of all partitions had so long ago has been read; from 10 on the node is not ready";
        encoder.encode_descriptor("corespan_kafka_staleness", help, Some(&Unit::Seconds), MetricType::Gauge)?.encode_gauge(&staleness)?;
        standings.sort_by_key(|standing| Reverse(standing.staleness));
        standings.truncate(PARTITIONS_MAX);
        let labels = |standing: &PartitionStanding| [("topic", standing.topic.to_string()), ("partition", standing.partition.to_string())];
        // A family without members is left out.
        let lags: Vec<_> = standings.iter().filter_map(|standing| Some((labels(standing), standing.lag? as f64))).collect();
        if !lags.is_empty() {
            let help = "The same of each partition: the lag";
            let mut family = encoder.encode_descriptor("corespan_kafka_partition_lag", help, None, MetricType::Gauge)?;
            for (labels, lag) in lags {
                family.encode_family(&labels)?.encode_gauge(&lag)?;
            }
        }
        if !standings.is_empty() {
            let help = "The same of each partition: the staleness";
            let mut family =
                encoder.encode_descriptor("corespan_kafka_partition_staleness", help, Some(&Unit::Seconds), MetricType::Gauge)?;
            for standing in &standings {
                family.encode_family(&labels(standing))?.encode_gauge(&standing.staleness.as_secs_f64())?;
            }
        }
        Ok(())
    }
}
