//! A run as JSON, and as a table for people; and whether it counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::flows::Flows;
use super::host::host;
use super::recorder::Recorder;
use crate::bench::report::Worker;

/// The quantiles of the table and of the report.
const QUANTILES: [(&str, f64); 7] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("p100", 1.0)];

/// Whether a run counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// What was tested did something wrong.
    Failed,
    /// The tool was the bottleneck: the run says nothing.
    Void,
}

impl Verdict {
    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Failed => "failed",
            Verdict::Void => "void",
        }
    }
}

/// What a run came to.
pub struct Report {
    pub tool: &'static str,
    pub settings: Value,
    pub recorder: Recorder,
    /// What was sent or received, by sender and subject; empty for tools that do neither.
    pub flows: Flows,
    /// Other latencies, by name.
    pub also: BTreeMap<&'static str, Histogram<u64>>,
    /// Seconds that were measured.
    pub seconds: f64,
    pub counts: BTreeMap<&'static str, u64>,
    /// Refusals of the server, by code.
    pub errors: BTreeMap<u64, u64>,
    pub worker: Worker,
    pub lag_max_ms: f64,
    /// The tool was so late that it stopped, in a line.
    pub gave_up: Option<String>,
    /// What went wrong, a line each.
    pub failures: Vec<String>,
}

impl Report {
    /// A failure goes before all: it is one whoever was the bottleneck.
    pub fn verdict(&self) -> (Verdict, Vec<String>) {
        if !self.failures.is_empty() {
            return (Verdict::Failed, self.failures.clone());
        }
        if let Some(line) = &self.gave_up {
            return (Verdict::Void, vec![line.clone()]);
        }
        match self.worker.check(self.lag_max_ms) {
            Ok(()) => (Verdict::Good, Vec::new()),
            Err(void) => (Verdict::Void, vec![void.to_string()]),
        }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let (verdict, reasons) = self.verdict();
        let errors: BTreeMap<String, u64> = self.errors.iter().map(|(code, count)| (code.to_string(), *count)).collect();
        let command: Vec<String> = std::env::args().collect();
        json!({
            "format": 1,
            "tool": self.tool,
            "command": masked(command),
            "settings": self.settings,
            "host": host(),
            "ended_unix_us": super::stamp::now_us(),
            "seconds": self.seconds,
            "verdict": verdict.name(),
            "reasons": reasons,
            "counts": self.counts,
            "errors": errors,
            "flows": self.flows.json(),
            "latency_us": histogram(self.recorder.total()),
            "curve": curve(self.recorder.total()),
            "also_us": self.also.iter().map(|(name, also)| (*name, histogram(also))).collect::<BTreeMap<_, _>>(),
            "series": self.recorder.series(),
            "generator": {
                "cpu_seconds": self.worker.cpu_seconds,
                "seconds": self.worker.seconds,
                "lag_us": self.worker.lag.as_ref().map(histogram),
            },
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file's word.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let text = format!("{:#}\n", self.json());
        std::fs::write(file, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
    }

    /// Counts, percentiles and verdict as text.
    pub fn table(&self) -> String {
        let total = self.recorder.total();
        let mut lines: Vec<String> =
            self.counts.iter().map(|(name, count)| format!("{:<20} {count:>12}", name.replace('_', " "))).collect();
        lines.extend(self.errors.iter().map(|(code, count)| format!("{:<20} {count:>12}", format!("error {code}"))));
        lines.push(String::new());
        lines.push("latency from the due time, ms".to_owned());
        let milliseconds = |microseconds: u64| format!("{:.3}", microseconds as f64 / 1e3);
        for (name, quantile) in QUANTILES {
            lines.push(format!("{name:<20} {:>12}", milliseconds(total.value_at_quantile(quantile))));
        }
        let busy = self.worker.cpu_seconds / self.worker.seconds.max(1e-9) * 100.0;
        lines.push(format!("{:<20} {:>12.3}", "mean", total.mean() / 1e3));
        for (name, also) in &self.also {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| milliseconds(also.value_at_quantile(quantile)));
            lines.push(format!("{:<20} {:>12}   p50 {p50}, p99 {p99}, max {max}", name.replace('_', " "), also.len()));
        }
        lines.push(String::new());
        lines.push(format!("{:<20} {busy:>12.1}", "this tool's CPU %"));
        if let Some(lag) = &self.worker.lag {
            lines.push(format!("{:<20} {:>12}", "its lag p99, ms", milliseconds(lag.value_at_quantile(0.99))));
        }
        lines.push(format!("{:<20} {:>12}", "verdict", self.verdict().0.name()));
        lines.join("\n")
    }
}

/// Quantiles and latencies for a plot, evenly spaced by nines: five points for each half of what is left above.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let points = histogram.iter_quantiles(5).map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
    points.filter(|(quantile, _)| *quantile < 1.0).collect()
}

/// Percentiles of a histogram.
pub fn histogram(histogram: &Histogram<u64>) -> Value {
    let mut value = json!({ "count": histogram.len(), "min": histogram.min(), "mean": histogram.mean(), "max": histogram.max() });
    for (name, quantile) in QUANTILES {
        value[name] = json!(histogram.value_at_quantile(quantile));
    }
    value
}

/// A token is nobody's business.
fn masked(mut command: Vec<String>) -> Vec<String> {
    for place in 0..command.len() {
        if command[place].starts_with("--token=") {
            command[place] = "--token=***".to_owned();
        } else if command[place] == "--token" && place + 1 < command.len() {
            command[place + 1] = "***".to_owned();
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failures: &[&str], cpu_seconds: f64) -> Report {
        let mut worker = Worker::new("the tool");
        worker.worked(cpu_seconds, 1.0);
        Report {
            tool: "sub",
            settings: json!({ "connections": 3 }),
            recorder: Recorder::begin(None, "").expect("no file"),
            flows: Flows::default(),
            also: BTreeMap::new(),
            seconds: 1.0,
            counts: BTreeMap::from([("received", 7)]),
            errors: BTreeMap::from([(103, 2)]),
            worker,
            lag_max_ms: 50.0,
            gave_up: None,
            failures: failures.iter().map(|&failure| failure.to_owned()).collect(),
        }
    }

    #[test]
    fn a_failure_goes_before_a_bottleneck_and_either_spoils_the_run() {
        for (failures, cpu_seconds, verdict) in [
            (&[][..], 0.5, Verdict::Good),
            (&["lost"], 0.5, Verdict::Failed),
            (&[], 0.95, Verdict::Void),
            (&["lost"], 0.95, Verdict::Failed),
        ] {
            let report = report(failures, cpu_seconds);
            assert_eq!(report.verdict().0, verdict);
            assert_eq!(report.json()["verdict"], verdict.name());
            assert!(report.table().ends_with(verdict.name()));
        }
    }

    #[test]
    fn a_report_names_the_machine_and_every_count_and_no_token() {
        let json = report(&[], 0.1).json();
        assert!(json["host"]["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()));
        assert_eq!(
            (&json["counts"]["received"], &json["errors"]["103"], &json["settings"]["connections"]),
            (&json!(7), &json!(2), &json!(3))
        );
        let command = ["sub", "--token", "secret", "--token=secret"].map(str::to_owned).to_vec();
        assert_eq!(masked(command), ["sub", "--token", "***", "--token=***"]);
    }
}
