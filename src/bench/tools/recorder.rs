//! Latencies of a run: one histogram of all, one of each second, and the seconds as a short series. Three digits, microseconds.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::interval_log::{Interval, IntervalLog};
use crate::kafka::load::latencies;

const INTERVAL: Duration = Duration::from_secs(1);

/// A second in short. Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    pub start_seconds: f64,
    pub seconds: f64,
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// Records latencies from its beginning on.
pub struct Recorder {
    total: Histogram<u64>,
    interval: Histogram<u64>,
    series: Vec<Second>,
    began: Instant,
    interval_began: Instant,
    log: Option<IntervalLog>,
}

impl Recorder {
    /// Begins now. With a file, each second goes there too.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(log: Option<&Path>, comment: &str) -> io::Result<Recorder> {
        let log = log.map(|file| IntervalLog::create(file, SystemTime::now(), comment)).transpose()?;
        let now = Instant::now();
        Ok(Recorder { total: latencies(), interval: latencies(), series: Vec::new(), began: now, interval_began: now, log })
    }

    /// A latency, in microseconds.
    pub fn record(&mut self, latency_us: u64) {
        self.interval.saturating_record(latency_us);
    }

    /// Ends a second if it is over. Gives it then.
    pub fn tick(&mut self) -> Option<&Second> {
        if self.interval_began.elapsed() < INTERVAL {
            return None;
        }
        self.end_interval();
        self.series.last()
    }

    /// Ends the last second, and the log.
    ///
    /// # Errors
    /// The log's word.
    pub fn end(&mut self) -> io::Result<()> {
        if !self.interval.is_empty() {
            self.end_interval();
        }
        self.log.take().map_or(Ok(()), IntervalLog::end)
    }

    /// All that is in intervals that have ended.
    pub fn total(&self) -> &Histogram<u64> {
        &self.total
    }

    /// The seconds so far.
    pub fn series(&self) -> &[Second] {
        &self.series
    }

    fn end_interval(&mut self) {
        let now = Instant::now();
        let (start, length) = (self.interval_began - self.began, now - self.interval_began);
        let histogram = &self.interval;
        self.series.push(Second {
            start_seconds: start.as_secs_f64(),
            seconds: length.as_secs_f64(),
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        });
        self.total += histogram;
        if let Some(log) = &mut self.log {
            log.put(Interval { histogram: histogram.clone(), start, length });
        }
        self.interval.reset();
        self.interval_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_the_seconds() {
        let mut recorder = Recorder::begin(None, "").expect("no file");
        for latency in 1..=1_000 {
            recorder.record(latency);
        }
        recorder.end_interval();
        recorder.record(5_000);
        recorder.end().expect("no file");
        let counts: Vec<u64> = recorder.series().iter().map(|second| second.count).collect();
        assert_eq!((counts, recorder.total().len()), (vec![1_000, 1], 1_001));
        assert!((4_990..=5_010).contains(&recorder.total().max()));
        // A last second without anything is none.
        recorder.end().expect("no file");
        assert_eq!(recorder.series().len(), 2);
    }
}
