//! Rounds as summary.json, and as a table for people.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::super::tools::Verdict;
use super::super::tools::host::host;
use super::super::tools::interval_log::{Interval, read};
use super::super::tools::report::{curve, histogram};
use super::super::tools::stamp::now_us;
use super::round::{Round, Work};
use super::scenario::{Part, Scenario, ServerPlan};
use super::tested::Tested;
use crate::kafka::load::latencies;

/// What a run came to.
pub struct Summary {
    pub json: Value,
    pub verdict: Verdict,
    pub reasons: Vec<String>,
}

impl Summary {
    /// Puts the rounds together. `folders` has each round's, where the logs are.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn of(scenario: &Scenario, servers: &[Tested], rounds: &[Round], folders: &[std::path::PathBuf]) -> io::Result<Summary> {
        let (mut verdict, mut reasons, mut told) = (Verdict::Good, Vec::new(), Vec::new());
        for (number, (round, folder)) in (1..).zip(rounds.iter().zip(folders)) {
            let (of_round, why) = judge(round);
            reasons.extend(why.iter().map(|line| format!("round {number}, {line}")));
            // A failure goes before all.
            if verdict != Verdict::Failed && of_round != Verdict::Good {
                verdict = of_round;
            }
            told.push(round_json(scenario, number, round, folder, of_round, &why)?);
        }
        let mut settings: Map<String, Value> = Map::new();
        let first = rounds.first();
        for role in &scenario.roles {
            let of_role = first.map_or(Value::Null, |round| round.reports[&role.name]["settings"].clone());
            settings.insert(role.name.clone(), json!({ "tool": role.tool, "server": role.server, "settings": of_role }));
        }
        let versions: BTreeMap<&str, &str> = servers.iter().map(|server| (server.name, server.version.as_str())).collect();
        let commands: BTreeMap<&str, &[String]> =
            scenario.servers.iter().map(|plan: &ServerPlan| (plan.name, plan.command.as_slice())).collect();
        let json = json!({
            "format": 1,
            "tool": "run",
            "host": host(),
            "versions": versions,
            "commands": commands,
            "settings": { "warm_up_seconds": scenario.warm_up_seconds, "seconds": scenario.seconds, "roles": settings },
            "ended_unix_us": now_us(),
            "verdict": verdict.name(),
            "reasons": reasons,
            "rounds": told,
        });
        Ok(Summary { json, verdict, reasons })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file's word.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let text = format!("{:#}\n", self.json);
        std::fs::write(file, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
    }

    /// A line for each round and server, and the verdict.
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<6} {:<8} {:>12} {:>10} {:>9} {:>9} {:>9} {:>9} {:>12} {:>9}",
            "round", "server", "deliveries", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU us each", "MiB"
        )];
        let milliseconds = |value: &Value| format!("{:.2}", value.as_f64().unwrap_or(0.0) / 1e3);
        for round in self.json["rounds"].as_array().into_iter().flatten() {
            for (name, server) in round["servers"].as_object().into_iter().flatten() {
                let latency = &server["latency_us"];
                lines.push(format!(
                    "{:<6} {name:<8} {:>12} {:>10.1} {:>9} {:>9} {:>9} {:>9} {:>12} {:>9}",
                    round["round"].to_string(),
                    server["deliveries"].to_string(),
                    server["deliveries_per_second"].as_f64().unwrap_or(0.0),
                    milliseconds(&latency["p50"]),
                    milliseconds(&latency["p99"]),
                    milliseconds(&latency["p99.9"]),
                    milliseconds(&latency["max"]),
                    server["cpu_us_per_delivery"].as_f64().map_or("-".to_owned(), |cost| format!("{cost:.2}")),
                    server["resident_bytes"].as_u64().map_or("-".to_owned(), |bytes| (bytes >> 20).to_string()),
                ));
            }
        }
        lines.push(String::new());
        lines.push(format!("{:<20} {:>12}", "verdict", self.verdict.name()));
        lines.join("\n")
    }
}

/// The worst of the roles' verdicts, and of the account.
fn judge(round: &Round) -> (Verdict, Vec<String>) {
    let (mut verdict, mut reasons) = (Verdict::Good, Vec::new());
    for (name, report) in &round.reports {
        let of_role = report["verdict"].as_str().unwrap_or("failed");
        match of_role {
            "good" => continue,
            "void" if verdict != Verdict::Failed => verdict = Verdict::Void,
            "void" => {}
            _ => verdict = Verdict::Failed,
        }
        let why = report["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        reasons.push(format!("role {name}: {of_role}: {why}"));
    }
    if !round.balance.failures.is_empty() {
        verdict = Verdict::Failed;
        reasons.extend(round.balance.failures.iter().cloned());
    }
    (verdict, reasons)
}

fn round_json(scenario: &Scenario, number: u64, round: &Round, folder: &Path, verdict: Verdict, reasons: &[String]) -> io::Result<Value> {
    let mut servers = Map::new();
    let mut names: Vec<&str> = scenario.roles.iter().map(|role| role.server).chain(round.work.keys().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let has_subscribers = scenario.of(Part::Subscriber).next().is_some();
    let part = if has_subscribers { Part::Subscriber } else { Part::Sender };
    for name in names {
        let mut intervals = Vec::new();
        for role in scenario.of(part).filter(|role| role.server == name) {
            intervals.extend(read(&folder.join(format!("{}.hlog", role.name)))?);
        }
        servers.insert(name.to_owned(), server_json(scenario, &intervals, round.work.get(name).map(Vec::as_slice), has_subscribers));
    }
    let roles: Map<String, Value> = round
        .reports
        .iter()
        .map(|(name, report)| {
            let picked = ["tool", "verdict", "reasons", "counts", "errors", "seconds", "latency_us", "generator"];
            (name.clone(), picked.iter().map(|&key| (key.to_owned(), report[key].clone())).collect::<Map<_, _>>().into())
        })
        .collect();
    let balance = &round.balance;
    Ok(json!({
        "round": number,
        "verdict": verdict.name(),
        "reasons": reasons,
        "latencies_of": if has_subscribers { "deliveries" } else { "answers to senders" },
        "balance": { "sent": balance.sent, "owed": balance.owed, "received": balance.received, "unheard": balance.unheard },
        "servers": servers,
        "roles": roles,
    }))
}

/// Latencies from the logs, CPU from `/proc`. Without subscribers, what senders were answered counts as delivered.
fn server_json(scenario: &Scenario, intervals: &[Interval], work: Option<&[Work]>, has_subscribers: bool) -> Value {
    let mut total = latencies();
    let mut by_second: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
    for interval in intervals {
        total += &interval.histogram;
        let second = interval.start.as_secs_f64().round() as u64;
        // What was on its way at the end is in the total.
        if second < scenario.seconds {
            *by_second.entry(second).or_insert_with(latencies) += &interval.histogram;
        }
    }
    let mut all = Work::default();
    for piece in work.into_iter().flatten() {
        all.seconds += piece.seconds;
        all.cpu_seconds += piece.cpu_seconds;
        all.deliveries += piece.deliveries;
        all.resident_bytes = piece.resident_bytes;
    }
    if !has_subscribers || work.is_none() {
        all.deliveries = total.len();
        all.seconds = scenario.seconds as f64;
    }
    let cost = |cpu_seconds: f64, deliveries: u64| (deliveries > 0).then(|| cpu_seconds * 1e6 / deliveries as f64);
    let series: Vec<Value> = by_second
        .iter()
        .map(|(second, histogram)| {
            let piece = work.and_then(|work| work.get(*second as usize));
            let deliveries = piece.filter(|_| has_subscribers).map_or(histogram.len(), |piece| piece.deliveries);
            json!({
                "start_seconds": second,
                "seconds": piece.map_or(1.0, |piece| piece.seconds),
                "count": deliveries,
                "p50": histogram.value_at_quantile(0.5),
                "p99": histogram.value_at_quantile(0.99),
                "p99_9": histogram.value_at_quantile(0.999),
                "max": histogram.max(),
                "cpu_us_per_delivery": piece.and_then(|piece| cost(piece.cpu_seconds, deliveries)),
            })
        })
        .collect();
    json!({
        "seconds": all.seconds,
        "deliveries": all.deliveries,
        "deliveries_per_second": all.deliveries as f64 / all.seconds.max(1e-9),
        "cpu_seconds": work.map(|_| all.cpu_seconds),
        "cpu_us_per_delivery": work.and_then(|_| cost(all.cpu_seconds, all.deliveries)),
        "resident_bytes": work.map(|_| all.resident_bytes),
        "latency_us": histogram(&total),
        "curve": curve(&total),
        "series": series,
    })
}
