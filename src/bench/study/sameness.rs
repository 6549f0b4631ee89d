//! Whether runs may be compared: same machine, same versions, same settings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::finding::Finding;

/// A JSON value as paths and plain values.
pub fn flat(value: &Value) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    put(&mut flat, String::new(), value);
    flat
}

fn put(flat: &mut BTreeMap<String, String>, path: String, value: &Value) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| put(flat, below(key), value)),
        Value::Null => {}
        Value::String(text) => drop(flat.insert(path, text.clone())),
        other => drop(flat.insert(path, other.to_string())),
    }
}

/// What differs between any of the runs: path, and every value that it has.
pub fn differences(runs: &[Finding]) -> Vec<String> {
    let all: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut all = BTreeMap::new();
            for (part, value) in [("host", &run.host), ("versions", &run.versions), ("settings", &run.settings["settings"])] {
                all.extend(flat(value).into_iter().map(|(path, value)| (format!("{part}.{path}"), value)));
            }
            all.extend(flat(&run.settings["tool"]).into_values().map(|tool| ("tool".to_owned(), tool)));
            all
        })
        .collect();
    let paths: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    let mut differences = Vec::new();
    for path in paths {
        let values: BTreeSet<&str> = all.iter().map(|run| run.get(path).map_or("not there", String::as_str)).collect();
        if values.len() > 1 {
            differences.push(format!("{path}: {}", values.into_iter().collect::<Vec<_>>().join(" / ")));
        }
    }
    differences
}
