//! The two texts that Prometheus and its like read: OpenMetrics 1.0, which the registry writes, and the classic text 0.0.4 made of it.

use crate::http::Request;

/// Content type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the classic text.
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether `Accept` names OpenMetrics, and rates it at least as high as any other text. Who asks for nothing gets the classic text.
pub(super) fn wants_openmetrics(request: &Request<'_>) -> bool {
    let (mut openmetrics, mut classic) = (0.0, 0.0_f64);
    for range in request.header_list("accept") {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        match kind.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => openmetrics = f64::max(openmetrics, quality),
            "text/plain" => classic = classic.max(quality),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= classic
}

/// OpenMetrics as classic text. There a counter's family has the name of its samples (`_total`), an info is a gauge, and units and the end are not
/// written.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // OpenMetrics tells the type of a family behind its help: the help waits.
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(family), text) => help = Some((family, text.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(family), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((_, text)) = help.take().filter(|(named, _)| *named == family) {
                    out.push_str(&format!("# HELP {family}{suffix} {text}\n"));
                }
                out.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
            }
            (Some("#"), ..) => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stay_counters_and_infos_become_gauges() {
        let text = "# HELP a_b Some things.\n# TYPE a_b counter\na_b_total{x=\"1\"} 7\n# HELP t_seconds Time.\n# TYPE t_seconds gauge\n\
                    # UNIT t_seconds seconds\nt_seconds 1.5\n# HELP build This.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            classic(text),
            "# HELP a_b_total Some things.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 7\n# HELP t_seconds Time.\n# TYPE t_seconds gauge\n\
             t_seconds 1.5\n# HELP build_info This.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n"
        );
    }
}
