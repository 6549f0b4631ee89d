//! The options of the studies.

use std::path::PathBuf;

use clap::Args;

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct ScenarioOptions {
    /// The scenario: see benches/scenarios/ and benches/README.md.
    pub file: PathBuf,
    /// A folder for reports, logs, summary.json and page.html; made if it is not there.
    #[arg(long)]
    pub out: PathBuf,
}

/// Options of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// Run A: report.json, summary.json, or a folder with several.
    #[arg(conflicts_with = "first", required_unless_present = "first", requires = "b_run")]
    pub a_run: Option<PathBuf>,
    /// Run B: its figures are divided by those of A.
    #[arg(conflicts_with = "second")]
    pub b_run: Option<PathBuf>,
    /// Runs of the first kind, when they are several files.
    #[arg(long = "a", num_args = 1.., requires = "second")]
    pub first: Vec<PathBuf>,
    /// Runs of the second kind.
    #[arg(long = "b", num_args = 1.., requires = "first")]
    pub second: Vec<PathBuf>,
    /// Compare also runs of different hosts, kernels, versions or settings. The differences are told.
    #[arg(long)]
    pub anyway: bool,
    /// JSON in place of a table.
    #[arg(long)]
    pub json: bool,
}

/// Options of `page`.
#[derive(Args, Clone, Debug)]
pub struct PageOptions {
    /// Runs, laid one over the other: report.json, summary.json, an interval log (.hlog), or folders.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The page.
    #[arg(long)]
    pub out: PathBuf,
    /// The percentile plot alone, as SVG.
    #[arg(long)]
    pub svg: Option<PathBuf>,
}
