//! One HTML page for runs: plots, percentiles, counts, machine, settings. It asks for nothing from outside, and has no script.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::super::tools::ToolFailed;
use super::finding::Finding;
use super::plot::{percentiles, times};
use super::sameness::flat;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\">\n<title>corespan-bench</title>\n<style>\n\
body { font-family: sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }\n\
svg { max-width: 100%; height: auto; margin: 1em 0 }\n\
table { border-collapse: collapse; margin: 0.5em 0 1.5em }\n\
th, td { border: 1px solid #ccc; padding: 0.25em 0.6em; text-align: left; overflow-wrap: anywhere }\n\
td.number { text-align: right; font-variant-numeric: tabular-nums }\n\
.failed, .void { color: #b00; font-weight: bold }\n</style>\n</head>\n<body>\n";

/// The page, and the percentile plot alone.
///
/// # Errors
/// The plotting crate's word.
pub fn page(runs: &[Finding]) -> Result<(String, String), ToolFailed> {
    let plot = percentiles(runs)?;
    let mut html = HEAD.to_owned();
    html.push_str("<h1>corespan-bench</h1>\n<h2>Verdict</h2>\n");
    let verdicts = runs.iter().map(|run| {
        let class = if run.verdict == "failed" || run.verdict == "void" { &run.verdict } else { "" };
        format!(
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td></tr>\n",
            text(&run.name),
            text(&run.verdict),
            text(&run.reasons.join("; "))
        )
    });
    let _ = write!(html, "<table>\n<tr><th>run</th><th>verdict</th><th>reasons</th></tr>\n{}</table>\n", verdicts.collect::<String>());
    html.push_str("<h2>Latency</h2>\n");
    html.push_str(&plot);
    html.push_str(&times(runs)?);
    html.push_str("<table>\n<tr><th>run</th><th>per second</th><th>CPU us each</th>");
    let percentiles = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
    html.extend(percentiles.iter().map(|name| format!("<th>{name} ms</th>")));
    html.push_str("</tr>\n");
    for run in runs {
        let _ = write!(html, "<tr><td>{}</td>", text(&run.name));
        let figures = [run.whole.per_second, run.whole.cpu_us_per_delivery].into_iter();
        for figure in figures.chain(percentiles.iter().map(|&name| run.latency_us[name].as_f64().map(|us| us / 1e3))) {
            let _ = write!(html, "<td class=\"number\">{}</td>", figure.map_or("-".to_owned(), |figure| format!("{figure:.2}")));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    table(&mut html, "Counts", runs, |run| &run.counts);
    table(&mut html, "Machine", runs, |run| &run.host);
    table(&mut html, "Versions", runs, |run| &run.versions);
    table(&mut html, "Settings", runs, |run| &run.settings);
    html.push_str("</body>\n</html>\n");
    Ok((html, plot))
}

/// A row for each value in any of the runs, a column for each run.
fn table(html: &mut String, title: &str, runs: &[Finding], of: fn(&Finding) -> &Value) {
    let columns: Vec<BTreeMap<String, String>> = runs.iter().map(|run| flat(of(run))).collect();
    let rows: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    if rows.is_empty() {
        return;
    }
    let _ = write!(html, "<h2>{title}</h2>\n<table>\n<tr><th></th>");
    html.extend(runs.iter().map(|run| format!("<th>{}</th>", text(&run.name))));
    html.push_str("</tr>\n");
    for row in rows {
        let _ = write!(html, "<tr><th>{}</th>", text(row));
        for column in &columns {
            let _ = write!(html, "<td>{}</td>", column.get(row).map_or(String::new(), |value| text(value)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
}

/// Text that is no markup.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Figures;
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_and_what_runs_say_is_text() {
        let run = Finding {
            name: "<script src=http://evil/x.js>".to_owned(),
            verdict: "failed".to_owned(),
            reasons: vec!["<img src=x onerror=alert(1)>".to_owned()],
            host: json!({ "<b>": "</td><script>" }),
            versions: json!({}),
            settings: json!({ "rate": 5 }),
            counts: json!({ "lost": 3 }),
            latency_us: json!({ "p50": 1500 }),
            curve: vec![(0.5, 1_500.0), (0.99, 9_000.0)],
            series: vec![Figures { seconds: 1.0, p50: Some(1.0), ..Figures::default() }],
            whole: Figures::default(),
        };
        let (html, svg) = page(&[run.clone(), run]).expect("a page");
        for unwanted in ["<script", "<img", "<b>", "<link", "href="] {
            assert!(!html.contains(unwanted), "{unwanted} in {html}");
        }
        assert!(html.contains("default-src 'none'") && html.contains("<td class=\"number\">1.50</td>") && html.contains("lost"), "{html}");
        assert!(html.matches("<svg").count() == 2 && svg.starts_with("<svg"));
    }
}
