//! The table of a node's stage latencies, from the text of its metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Quantiles of the table, as the metrics name them.
const QUANTILES: [(&str, &str); 5] = [("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"), ("0.999", "p99.9"), ("1", "max")];

/// A markdown table of `corespan_stage_quantile_seconds`, a line for each stage and shard, in milliseconds; `None` if the text has none.
pub fn stages_table(metrics: &str) -> Option<String> {
    let mut rows: BTreeMap<(String, String), BTreeMap<String, f64>> = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, value)) = line
            .strip_prefix("corespan_stage_quantile_seconds{")
            .and_then(|rest| rest.split_once("} "))
            .filter(|(_, value)| !value.is_empty())
        else {
            continue;
        };
        let label = |name: &str| {
            labels.split(',').find_map(|label| Some(label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')?.to_owned()))
        };
        if let (Some(shard), Some(stage), Some(quantile), Ok(seconds)) = (label("shard"), label("stage"), label("quantile"), value.parse())
        {
            rows.entry((stage, shard)).or_default().insert(quantile, seconds);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let mut table = "| stage | shard |".to_owned();
    for (_, name) in QUANTILES {
        let _ = write!(table, " {name} ms |");
    }
    table.push_str("\n|---|---|---|---|---|---|---|\n");
    for ((stage, shard), quantiles) in &rows {
        let _ = write!(table, "| {stage} | {shard} |");
        for (quantile, _) in QUANTILES {
            let _ = write!(table, " {:.3} |", quantiles.get(quantile).copied().unwrap_or_default() * 1e3);
        }
        table.push('\n');
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_of_each_shard_has_its_line() {
        let text = "# HELP x\ncorespan_stage_quantile_seconds{shard=\"0\",stage=\"socket\",quantile=\"0.5\"} 0.000125\n\
                    corespan_stage_quantile_seconds{shard=\"0\",stage=\"socket\",quantile=\"1\"} 0.002\nother 1\n";
        let table = stages_table(text).unwrap();
        assert!(table.ends_with("| socket | 0 | 0.125 | 0.000 | 0.000 | 0.000 | 2.000 |\n"), "{table}");
        assert_eq!(stages_table("corespan_records 1\n"), None);
    }
}
