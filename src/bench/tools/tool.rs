//! The tools as subcommands: each runs, prints its table, writes its report, and gives its verdict.

use clap::Subcommand;

use super::failed::ToolFailed;
use super::options::{ProduceOptions, PubOptions, RunOptions, SubOptions};
use super::report::Verdict;
use super::slow_options::SlowOptions;
use super::{producers, publishers, slow, subscribers};

/// A tool and its options.
#[derive(Subcommand, Clone, Debug)]
pub enum Tool {
    /// Subscribe with many connections, and check what each of them gets.
    Sub(SubOptions),
    /// Publish through the server, on a schedule.
    Pub(PubOptions),
    /// Produce to Kafka, on a schedule.
    Produce(ProduceOptions),
    /// Subscribe with connections that read few bytes a second, and count what they are told.
    Slow(SlowOptions),
}

impl Tool {
    fn options(&self) -> &RunOptions {
        match self {
            Tool::Sub(options) => &options.run,
            Tool::Pub(options) => &options.run,
            Tool::Produce(options) => &options.run,
            Tool::Slow(options) => &options.run,
        }
    }

    /// Runs it to its end. Gives the verdict and its reasons.
    ///
    /// # Errors
    /// It could not begin, or could not write what it found.
    pub fn run(&self) -> Result<(Verdict, Vec<String>), ToolFailed> {
        let report = match self {
            Tool::Sub(options) => subscribers::run(options)?,
            Tool::Pub(options) => publishers::run(options)?,
            Tool::Produce(options) => producers::run(options)?,
            Tool::Slow(options) => slow::run(options)?,
        };
        println!("{}", report.table());
        if let Some(file) = &self.options().report {
            report.write(file)?;
        }
        Ok(report.verdict())
    }
}
