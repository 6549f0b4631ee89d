//! A run that was written down, read back: a tool's report, a round of a summary, or an interval log.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::tools::interval_log;
use super::super::tools::report::{curve, histogram};
use crate::kafka::load::latencies;

/// Runs that are read at once.
const RUNS_MAX: usize = 1_000;
/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A second of a run, or all of it. Latencies in microseconds; none where the run does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub start_seconds: f64,
    pub seconds: f64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p99_9: Option<f64>,
    pub max: Option<f64>,
    pub per_second: Option<f64>,
    pub cpu_us_per_delivery: Option<f64>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file, and the round.
    pub name: String,
    pub verdict: String,
    pub reasons: Vec<String>,
    pub host: Value,
    pub versions: Value,
    pub settings: Value,
    pub counts: Value,
    pub latency_us: Value,
    /// Quantile and microseconds.
    pub curve: Vec<(f64, f64)>,
    pub series: Vec<Figures>,
    pub whole: Figures,
}

impl Finding {
    /// Reads files, or whole folders.
    ///
    /// # Errors
    /// A file's word, or there is no run in it.
    pub fn read(paths: &[PathBuf]) -> io::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for path in paths {
            let files = if path.is_dir() { in_folder(path)? } else { vec![path.clone()] };
            for file in files {
                findings.extend(of_file(&file)?);
            }
        }
        if findings.len() > RUNS_MAX {
            return Err(io::Error::other(format!("{} runs: {RUNS_MAX} at most", findings.len())));
        }
        Ok(findings)
    }
}

/// summary.json, or else the reports in it, or else the summaries one folder below.
fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    let summary = folder.join("summary.json");
    if summary.is_file() {
        return Ok(vec![summary]);
    }
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(told)?.take(RUNS_MAX * 10) {
        inside.push(entry.map_err(told)?.path());
    }
    inside.sort();
    let mut files: Vec<PathBuf> =
        inside.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).cloned().collect();
    if files.is_empty() {
        files = inside.iter().map(|path| path.join("summary.json")).filter(|path| path.is_file()).collect();
    }
    if files.is_empty() {
        return Err(told(io::Error::other("no summary.json and no report in it")));
    }
    Ok(files)
}

fn of_file(file: &Path) -> io::Result<Vec<Finding>> {
    let name = file.display().to_string();
    let told = |error: String| io::Error::other(format!("{name}: {error}"));
    let length = std::fs::metadata(file).map_err(|error| told(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(told(format!("{length} bytes: {FILE_BYTES_MAX} at most")));
    }
    if file.extension().is_some_and(|extension| extension == "hlog") {
        return Ok(vec![of_log(file, name)?]);
    }
    let text = std::fs::read(file).map_err(|error| told(error.to_string()))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| told(format!("no JSON: {error}")))?;
    if json["format"] != 1 || json["host"].is_null() || json["verdict"].is_null() {
        return Err(told("no report of corespan-bench".to_owned()));
    }
    Ok(match json["rounds"].as_array() {
        None => vec![finding(name, &json, &json, &json, json["counts"].clone())],
        Some(rounds) => rounds
            .iter()
            .map(|round| {
                let label = if rounds.len() > 1 { format!("{name} round {}", round["round"]) } else { name.clone() };
                let counts = json!({ "account": round["balance"], "roles": counts_of(&round["roles"]) });
                finding(label, &json, round, &round["servers"]["server"], counts)
            })
            .collect(),
    })
}

/// `head` has what is the same in all rounds, `body` has the figures.
fn finding(name: String, head: &Value, round: &Value, body: &Value, counts: Value) -> Finding {
    let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    let latency = &body["latency_us"];
    let seconds = body["seconds"].as_f64().unwrap_or(0.0);
    let per_second = body["deliveries_per_second"].as_f64();
    let whole = Figures {
        start_seconds: 0.0,
        seconds,
        p50: latency["p50"].as_f64(),
        p99: latency["p99"].as_f64(),
        p99_9: latency["p99.9"].as_f64(),
        max: latency["max"].as_f64(),
        per_second: per_second.or_else(|| latency["count"].as_f64().filter(|_| seconds > 0.0).map(|count| count / seconds)),
        cpu_us_per_delivery: body["cpu_us_per_delivery"].as_f64(),
    };
    let series = body["series"].as_array().into_iter().flatten().map(|second| {
        let number = |key: &str| second[key].as_f64();
        let seconds = number("seconds").unwrap_or(1.0);
        Figures {
            start_seconds: number("start_seconds").unwrap_or(0.0),
            seconds,
            p50: number("p50"),
            p99: number("p99"),
            p99_9: number("p99_9"),
            max: number("max"),
            per_second: number("count").map(|count| count / seconds.max(1e-9)),
            cpu_us_per_delivery: number("cpu_us_per_delivery"),
        }
    });
    let points = body["curve"].as_array().into_iter().flatten().filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?)));
    Finding {
        name,
        verdict: round["verdict"].as_str().unwrap_or("failed").to_owned(),
        reasons: texts(&round["reasons"]),
        host: head["host"].clone(),
        versions: head["versions"].clone(),
        settings: json!({ "tool": head["tool"], "settings": head["settings"] }),
        counts,
        latency_us: latency.clone(),
        curve: points.collect(),
        series: series.collect(),
        whole,
    }
}

fn counts_of(roles: &Value) -> Value {
    let roles = roles.as_object().into_iter().flatten();
    roles.map(|(name, role)| (name.clone(), role["counts"].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// A log has latencies only.
fn of_log(file: &Path, name: String) -> io::Result<Finding> {
    let intervals = interval_log::read(file)?;
    let mut total = latencies();
    let mut series = Vec::new();
    for interval in &intervals {
        let of = &interval.histogram;
        total.add(of).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        series.push(json!({
            "start_seconds": interval.start.as_secs_f64(), "seconds": interval.length.as_secs_f64(), "count": of.len(),
            "p50": of.value_at_quantile(0.5), "p99": of.value_at_quantile(0.99), "p99_9": of.value_at_quantile(0.999), "max": of.max(),
        }));
    }
    let seconds: f64 = intervals.iter().map(|interval| interval.length.as_secs_f64()).sum();
    let json = json!({
        "verdict": "not told by a log", "latency_us": histogram(&total), "curve": curve(&total), "series": series, "seconds": seconds,
    });
    Ok(finding(name, &Value::Null, &json, &json, Value::Null))
}
