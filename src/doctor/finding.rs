//! One line of the doctor's: what was looked at, what it is worth, what to do.

use std::fmt;

use serde::Serialize;

/// How bad it is, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be, or not there on this host.
    Fine,
    /// A node runs well; this may make it answer sooner, at a price that `tuning/README.md` names.
    Advice,
    /// A node runs, and something will hurt, or could not be found out.
    Warning,
    /// A node does not start, or does not do what it is configured to.
    Failure,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Verdict::Fine => "fine",
            Verdict::Advice => "advice",
            Verdict::Warning => "warning",
            Verdict::Failure => "failure",
        })
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same name in every run. `tuning/README.md` lists them.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What is so, in one line.
    pub finding: String,
    /// What to do about it, in one line; `None` where there is nothing to do.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn fine(check: &'static str, finding: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Fine, finding: one_line(finding.into()), remedy: None }
    }

    pub fn advice(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Advice, finding, remedy)
    }

    pub fn warning(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Warning, finding, remedy)
    }

    pub fn failure(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Failure, finding, remedy)
    }

    fn new(check: &'static str, verdict: Verdict, finding: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let remedy = one_line(remedy.into());
        Finding { check, verdict, finding: one_line(finding.into()), remedy: (!remedy.is_empty()).then_some(remedy) }
    }

    /// A message of another part, `WHAT; WHAT TO DO`, as a failure.
    pub(super) fn of_message(check: &'static str, message: &str) -> Finding {
        let (finding, remedy) = message.split_once("; ").unwrap_or((message, ""));
        Finding::failure(check, finding, remedy)
    }
}

fn one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All findings, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst verdict; of nothing, fine.
    pub fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine)
    }

    /// 0: fine, or advice only. 3: a warning. 1: a failure. 2 is a wrong command line's.
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Verdict::Fine | Verdict::Advice => 0,
            Verdict::Warning => 3,
            Verdict::Failure => 1,
        }
    }

    /// A line for each finding: verdict, check, finding, and the remedy behind an arrow.
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let line = |finding: &Finding| {
            let remedy = finding.remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
            format!("{:7}  {:width$}  {}{remedy}\n", finding.verdict, finding.check, finding.finding)
        };
        self.findings.iter().map(line).collect()
    }

    /// `{"verdict": the worst, "findings": [{"check", "verdict", "finding", "remedy"}]}`, with a line's end.
    pub fn json(&self) -> String {
        let value = serde_json::json!({"verdict": self.worst(), "findings": self.findings});
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let (fine, advice) = (Finding::fine("a", "x"), Finding::advice("b", "x", "y"));
        let (warning, failure) = (Finding::warning("c", "x", "y"), Finding::failure("d", "x", "y"));
        for (findings, code) in [
            (vec![], 0),
            (vec![fine.clone(), advice.clone()], 0),
            (vec![warning.clone(), advice.clone()], 3),
            (vec![fine, failure, warning], 1),
        ] {
            assert_eq!(Report { findings }.exit_code(), code);
        }
    }

    #[test]
    fn a_finding_is_one_line_with_its_remedy() {
        let report = Report { findings: vec![Finding::fine("cpus", "all\nwell"), Finding::warning("ports", "8800 is in use", "stop it")] };
        assert_eq!(report.text(), "fine     cpus   all well\nwarning  ports  8800 is in use -> stop it\n");
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["verdict"], "warning");
        assert_eq!(json["findings"][0], serde_json::json!({"check": "cpus", "verdict": "fine", "finding": "all well", "remedy": null}));
    }
}
