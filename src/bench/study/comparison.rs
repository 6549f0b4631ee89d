//! Runs of two kinds, as ratios.

use serde_json::{Value, json};

use super::super::tools::ToolFailed;
use super::bootstrap::{Ratio, median, ratio_of_medians};
use super::finding::{Figures, Finding};
use super::sameness::differences;

/// With so many runs on each side, runs are what is drawn from; with fewer, their seconds.
const RUNS_MIN: usize = 3;
/// A shorter piece at the end of a run is no second.
const SECOND_MIN: f64 = 0.5;

/// A column of figures: its name, whether less is better, and where it is.
type Measure = (&'static str, bool, fn(&Figures) -> Option<f64>);

const MEASURES: [Measure; 5] = [
    ("p50 us", true, |of| of.p50),
    ("p99 us", true, |of| of.p99),
    ("p99.9 us", true, |of| of.p99_9),
    ("per second", false, |of| of.per_second),
    ("CPU us each", true, |of| of.cpu_us_per_delivery),
];

/// A measure of both sides.
struct Row {
    name: &'static str,
    is_less_better: bool,
    a: Option<f64>,
    b: Option<f64>,
    ratio: Option<Ratio>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.ratio {
            None => "-",
            Some(ratio) if ratio.low <= 1.0 && ratio.high >= 1.0 => "no difference shown",
            Some(ratio) if (ratio.ratio < 1.0) == self.is_less_better => "B is better",
            Some(_) => "B is worse",
        }
    }
}

/// Two sides.
pub struct Comparison {
    runs: [usize; 2],
    samples: [usize; 2],
    is_of_runs: bool,
    differences: Vec<String>,
    rows: Vec<Row>,
}

impl Comparison {
    /// Divides B by A.
    ///
    /// # Errors
    /// A run is void or failed, or the runs differ in what they were made with and `anyway` is not said.
    pub fn of(a: &[Finding], b: &[Finding], anyway: bool) -> Result<Comparison, ToolFailed> {
        let refuse = |why: String| ToolFailed::Io(std::io::Error::other(why));
        if let Some(run) = a.iter().chain(b).find(|run| run.verdict != "good") {
            return Err(refuse(format!("{} is {}, so its figures say nothing: {}", run.name, run.verdict, run.reasons.join("; "))));
        }
        let all: Vec<Finding> = a.iter().chain(b).cloned().collect();
        let differences = differences(&all);
        if !anyway && !differences.is_empty() {
            return Err(refuse(format!("the runs differ in {}; --anyway compares them all the same", differences.join(", "))));
        }
        let is_of_runs = a.len().min(b.len()) >= RUNS_MIN;
        let (of_a, of_b) = (pieces(a, is_of_runs), pieces(b, is_of_runs));
        let rows = MEASURES.map(|(name, is_less_better, get)| {
            let sample = |of: &[Figures]| of.iter().filter_map(get).collect::<Vec<f64>>();
            let (a, b) = (sample(&of_a), sample(&of_b));
            Row { name, is_less_better, a: median(&a), b: median(&b), ratio: ratio_of_medians(&a, &b) }
        });
        let samples = [of_a.len(), of_b.len()];
        Ok(Comparison { runs: [a.len(), b.len()], samples, is_of_runs, differences, rows: rows.into() })
    }

    /// What the interval is made of.
    fn basis(&self) -> String {
        let [a, b] = self.samples;
        let of = if self.is_of_runs { "runs" } else { "seconds of runs" };
        format!(
            "ratio of the medians of {of} (A: {a}, B: {b}) with a 95 % confidence interval by the percentile bootstrap, 2000 draws, fixed seed (Efron and \
             Tibshirani 1993)"
        )
    }

    /// For people.
    pub fn table(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let mut lines = vec![format!("{:<12} {:>12} {:>12} {:>8}  {:<18} verdict", "", "A", "B", "B / A", "95 % interval")];
        for row in &self.rows {
            let interval = row.ratio.map_or("-".to_owned(), |ratio| format!("{:.3} to {:.3}", ratio.low, ratio.high));
            let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{:.3}", ratio.ratio));
            lines.push(format!(
                "{:<12} {:>12} {:>12} {ratio:>8}  {interval:<18} {}",
                row.name,
                number(row.a),
                number(row.b),
                row.verdict()
            ));
        }
        lines.push(String::new());
        lines.push(self.basis());
        if !self.is_of_runs {
            lines.push(format!(
                "Seconds of one run depend on one another, and say nothing of how runs differ: the interval is too narrow. Give {RUNS_MIN} runs of each."
            ));
        }
        lines.extend(self.differences.iter().map(|line| format!("differs: {line}")));
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "measure": row.name, "a": row.a, "b": row.b, "verdict": row.verdict(),
                "ratio": row.ratio.map(|ratio| ratio.ratio), "low": row.ratio.map(|ratio| ratio.low), "high": row.ratio.map(|ratio| ratio.high),
            })
        });
        json!({
            "format": 1,
            "runs": self.runs,
            "samples": self.samples,
            "samples_are": if self.is_of_runs { "runs" } else { "seconds" },
            "how": self.basis(),
            "differences": self.differences,
            "measures": rows.collect::<Vec<_>>(),
        })
    }
}

fn pieces(runs: &[Finding], is_of_runs: bool) -> Vec<Figures> {
    if is_of_runs {
        return runs.iter().map(|run| run.whole.clone()).collect();
    }
    runs.iter().flat_map(|run| run.series.iter().filter(|second| second.seconds >= SECOND_MIN).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p50: f64, verdict: &str, kernel: &str) -> Finding {
        let figures = |second: u32| Figures {
            start_seconds: f64::from(second),
            seconds: if second == 9 { 0.1 } else { 1.0 },
            p50: Some(p50 + f64::from(second % 3)),
            per_second: Some(100.0),
            ..Figures::default()
        };
        Finding {
            name: "run.json".to_owned(),
            verdict: verdict.to_owned(),
            reasons: vec!["3 lost".to_owned()],
            host: json!({ "name": "a", "kernel": kernel }),
            versions: json!({}),
            settings: json!({ "tool": "sub", "settings": { "rate": 5 } }),
            counts: Value::Null,
            latency_us: Value::Null,
            curve: Vec::new(),
            series: (0..10).map(figures).collect(),
            whole: figures(0),
        }
    }

    fn error(a: &Finding, b: &Finding, anyway: bool) -> String {
        let compared = Comparison::of(std::slice::from_ref(a), std::slice::from_ref(b), anyway);
        compared.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_failed_or_void_run_is_refused_always_and_another_kernel_unless_told() {
        let good = run(100.0, "good", "6.1");
        assert_eq!(error(&good, &good, false), "");
        for verdict in ["failed", "void"] {
            let bad = run(100.0, verdict, "6.1");
            assert!(error(&good, &bad, true).contains(&format!("run.json is {verdict}, so its figures say nothing: 3 lost")));
        }
        let other = run(100.0, "good", "6.2");
        assert!(error(&good, &other, false).contains("host.kernel: 6.1 / 6.2"));
        assert_eq!(error(&good, &other, true), "");
        let told = Comparison::of(&[good], &[other], true).map(|comparison| comparison.table()).unwrap_or_default();
        assert!(told.contains("differs: host.kernel: 6.1 / 6.2"), "{told}");
    }

    #[test]
    fn seconds_are_compared_until_there_are_runs_enough() {
        let (slow, fast) = (run(200.0, "good", "6.1"), run(100.0, "good", "6.1"));
        let one = Comparison::of(std::slice::from_ref(&slow), std::slice::from_ref(&fast), false).expect("a comparison").json();
        assert_eq!((&one["samples_are"], &one["samples"]), (&json!("seconds"), &json!([9, 9])));
        assert_eq!(
            (&one["measures"][0]["verdict"], &one["measures"][3]["verdict"]),
            (&json!("B is better"), &json!("no difference shown"))
        );
        assert!(one["measures"][0]["low"].as_f64() > Some(0.4) && one["measures"][0]["high"].as_f64() < Some(0.6), "{one:#}");
        assert_eq!(one["measures"][4]["ratio"], Value::Null);
        let three = Comparison::of(&vec![fast; 3], &vec![slow; 3], false).expect("a comparison").json();
        assert_eq!((&three["samples_are"], &three["samples"]), (&json!("runs"), &json!([3, 3])));
        assert_eq!((&three["measures"][0]["ratio"], &three["measures"][0]["verdict"]), (&json!(2.0), &json!("B is worse")));
    }
}
