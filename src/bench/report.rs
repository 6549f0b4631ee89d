//! Figures into tables, and what makes them void.

use hdrhistogram::Histogram;

use crate::kafka::load::latencies;

/// A thread that was on its CPU for more than this share of the time was the bottleneck: the run measured the tool.
const BUSY_MAX: f64 = 0.9;

/// A run that says nothing of the node: the tool could not keep up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Void(pub String);

/// What one side, node or control, did in the slices of a round, or of all.
#[derive(Clone)]
pub struct Side {
    pub name: &'static str,
    /// From due time to receipt, microseconds.
    pub latencies: Histogram<u64>,
    pub deliveries: u64,
    pub reads: u64,
    /// Of the shard, or of the thread that stands in its place.
    pub cpu_seconds: f64,
    /// Of the whole process; none where the control is a thread of the tool.
    pub process_cpu_seconds: Option<f64>,
}

impl Side {
    /// Nothing yet.
    pub fn new(name: &'static str) -> Side {
        Side { name, latencies: latencies(), deliveries: 0, reads: 0, cpu_seconds: 0.0, process_cpu_seconds: None }
    }

    /// More of the same side.
    pub fn add(&mut self, other: &Side) {
        self.latencies += &other.latencies;
        self.deliveries += other.deliveries;
        self.reads += other.reads;
        self.cpu_seconds += other.cpu_seconds;
        if let Some(seconds) = other.process_cpu_seconds {
            *self.process_cpu_seconds.get_or_insert(0.0) += seconds;
        }
    }

    /// Microseconds of CPU for each delivery.
    pub fn cost(&self) -> f64 {
        self.per_delivery(self.cpu_seconds)
    }

    fn per_delivery(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.deliveries.max(1) as f64
    }
}

/// A thread of the tool: how busy it was, and how late if it keeps a schedule.
#[derive(Clone)]
pub struct Worker {
    pub name: &'static str,
    pub cpu_seconds: f64,
    pub seconds: f64,
    /// Microseconds behind the due times.
    pub lag: Option<Histogram<u64>>,
}

impl Worker {
    /// Nothing yet.
    pub fn new(name: &'static str) -> Worker {
        Worker { name, cpu_seconds: 0.0, seconds: 0.0, lag: None }
    }

    /// A piece of its work.
    pub fn worked(&mut self, cpu_seconds: f64, seconds: f64) {
        self.cpu_seconds += cpu_seconds;
        self.seconds += seconds;
    }

    /// How late a piece of its work was.
    pub fn lagged(&mut self, lag: &Histogram<u64>) {
        *self.lag.get_or_insert_with(latencies) += lag;
    }

    /// How late one thing was.
    pub fn lagged_by(&mut self, late: std::time::Duration) {
        self.lag.get_or_insert_with(latencies).saturating_record(late.as_micros() as u64);
    }

    fn busy(&self) -> f64 {
        self.cpu_seconds / self.seconds.max(1e-9)
    }

    /// Whether it kept up; a schedule's p99 may be so many milliseconds late.
    ///
    /// # Errors
    /// The run is void.
    pub fn check(&self, lag_max_ms: f64) -> Result<(), Void> {
        if self.busy() > BUSY_MAX {
            return Err(Void(format!(
                "{} was the bottleneck: on its CPU for {:.0} % of the time, more than {:.0} %; lower --rate or --connections",
                self.name,
                self.busy() * 100.0,
                BUSY_MAX * 100.0
            )));
        }
        let late = self.lag.as_ref().map_or(0.0, |lag| milliseconds(lag, 0.99));
        if late > lag_max_ms {
            return Err(Void(format!(
                "{} was late: p99 {late:.1} ms behind the due times, more than --lag-max-ms {lag_max_ms}; lower --rate or free the machine",
                self.name
            )));
        }
        Ok(())
    }
}

/// The command, the machine and the date of a run, as one line.
pub fn provenance() -> String {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let first_line = |file: &str| std::fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date((seconds / 86_400) as i64);
    format!(
        "`corespan-bench {}`; {year}-{month:02}-{day:02}; {} CPUs, {}, Linux {}{}",
        command.join(" "),
        cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        model.map_or("unknown model", |(_, name)| name),
        first_line("/proc/sys/kernel/osrelease"),
        if cfg!(debug_assertions) { "; a build without --release: no figures to quote" } else { "" }
    )
}

/// Year, month and day of a number of days since 1970, by Howard Hinnant's `civil_from_days`.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// The head of a table of sides; `place` is what CPU is counted for.
pub fn sides_head(place: &str) -> String {
    format!(
        "| round | | deliveries | CPU us per delivery, {place} | CPU us, whole process | deliveries a read | p50 ms | p99 ms | p99.9 ms | max ms |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    )
}

/// A row of it.
pub fn side_row(round: &str, side: &Side) -> String {
    let or_none = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    format!(
        "| {round} | {} | {} | {:.2} | {} | {} | {} |",
        side.name,
        side.deliveries,
        side.cost(),
        or_none(side.process_cpu_seconds.map(|seconds| side.per_delivery(seconds))),
        or_none((side.reads > 0).then(|| side.deliveries as f64 / side.reads as f64)),
        [0.5, 0.99, 0.999, 1.0].map(|quantile| format!("{:.2}", milliseconds(&side.latencies, quantile))).join(" | "),
    )
}

/// The table of the tool's own threads.
pub fn workers_table(workers: &[Worker]) -> String {
    let mut table = "| the tool | CPU busy % | lag p50 ms | lag p99 ms | lag max ms |\n|---|---|---|---|---|".to_owned();
    for worker in workers {
        let lag = |quantile| worker.lag.as_ref().map_or("-".to_owned(), |lag| format!("{:.2}", milliseconds(lag, quantile)));
        table.push_str(&format!("\n| {} | {:.0} | {} | {} | {} |", worker.name, worker.busy() * 100.0, lag(0.5), lag(0.99), lag(1.0)));
    }
    table
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A quantile of a histogram of microseconds.
pub fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if quantile >= 1.0 { histogram.max() as f64 / 1e3 } else { histogram.value_at_quantile(quantile) as f64 / 1e3 }
}

/// A histogram as one word.
pub fn histogram_text(histogram: &Histogram<u64>) -> String {
    let buckets = histogram.iter_recorded().map(|bucket| format!("{}:{}", bucket.value_iterated_to(), bucket.count_at_value()));
    let text = buckets.collect::<Vec<_>>().join(",");
    if text.is_empty() { "none".to_owned() } else { text }
}

/// A histogram out of such a word.
pub fn histogram_from(text: &str) -> Option<Histogram<u64>> {
    let mut histogram = latencies();
    for bucket in text.split(',').filter(|_| text != "none") {
        let (value, count) = bucket.split_once(':')?;
        histogram.saturating_record_n(value.parse().ok()?, count.parse().ok()?);
    }
    Some(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_comes_through_its_text() {
        let mut histogram = latencies();
        assert_eq!(histogram_from(&histogram_text(&histogram)).unwrap().len(), 0);
        for value in [0, 1, 1, 70, 5_000, 123_456, 599_000_000] {
            histogram.saturating_record(value);
        }
        let copy = histogram_from(&histogram_text(&histogram)).unwrap();
        assert_eq!(copy.len(), histogram.len());
        for quantile in [0.1, 0.5, 0.99, 1.0] {
            assert!(
                (milliseconds(&copy, quantile) - milliseconds(&histogram, quantile)).abs() <= milliseconds(&histogram, quantile) / 500.0
            );
        }
        assert!(histogram_from("5").is_none() && histogram_from("x:1").is_none());
    }

    #[test]
    fn days_are_dates() {
        for (days, expected) in
            [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (20_783, (2026, 11, 26)), (20_818, (2026, 12, 31)), (20_819, (2027, 1, 1))]
        {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn a_worker_that_was_busy_or_late_voids_the_run() {
        let mut worker = Worker::new("the generator");
        worker.worked(0.5, 1.0);
        assert!(worker.check(50.0).is_ok());
        let mut lag = latencies();
        lag.saturating_record_n(60_000, 100);
        worker.lagged(&lag);
        let late = worker.check(50.0).expect_err("60 ms").to_string();
        assert!(late.starts_with("the generator was late: p99 60.0 ms"), "{late}");
        worker.worked(10.0, 10.0);
        let busy = worker.check(100.0).expect_err("95 %").to_string();
        assert!(busy.contains("on its CPU for 95 % of the time"), "{busy}");
    }
}
