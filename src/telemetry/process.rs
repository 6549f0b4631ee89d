//! The process as the kernel counts it.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::health::Health;

/// Reads the kernel's numbers when it is scraped.
#[derive(Debug)]
pub struct ProcessMetrics {
    health: Arc<Health>,
    started: Instant,
    started_unix: f64,
}

impl ProcessMetrics {
    pub fn new(health: Arc<Health>) -> ProcessMetrics {
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        ProcessMetrics { health, started: Instant::now(), started_unix }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, unit: Option<Unit>, help: &str, value: Option<f64>| match value {
            Some(value) => encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value),
            // Unknown is better left out than shown as 0.
            None => Ok(()),
        };
        gauge("corespan_ready", None, "1 when /ready answers 200", Some(f64::from(u8::from(self.health.readiness().is_ok()))))?;
        let live_only = "Topics whose subjects are live only because no partitioner explains where their records are; /ready names them";
        gauge("corespan_topics_live_only", None, live_only, Some(self.health.live_only_count() as f64))?;
        gauge("corespan_uptime", Some(Unit::Seconds), "Time since the start", Some(self.started.elapsed().as_secs_f64()))?;
        gauge("process_start_time", Some(Unit::Seconds), "Start as Unix time", Some(self.started_unix))?;
        gauge("process_resident_memory", Some(Unit::Bytes), "Memory in use", status("VmRSS:").map(|kib| kib * 1_024.0))?;
        gauge("process_threads", None, "Threads", status("Threads:"))?;
        // The folder's own descriptor is counted while it is read.
        gauge(
            "process_open_fds",
            None,
            "Open file descriptors",
            fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as f64),
        )?;
        let files_max =
            getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| if soft == RLIM_INFINITY { f64::INFINITY } else { soft as f64 });
        gauge("process_max_fds", None, "Limit of open file descriptors", files_max)?;
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6;
            encoder
                .encode_descriptor("process_cpu", "CPU time used, user and system", Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        }
        let build: &[(&str, &str)] = &[("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_descriptor("corespan_build", "This build", None, MetricType::Info)?.encode_info(&build)
    }
}

/// A number of `/proc/self/status`.
fn status(name: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
