//! The tools as subcommands: each runs, prints its table, writes its report, and gives its verdict.

use clap::Subcommand;

use super::echo_options::EchoOptions;
use super::failed::ToolFailed;
use super::options::{ProduceOptions, PubOptions, RunOptions, SubOptions};
use super::report::Verdict;
use super::slow_options::SlowOptions;
use super::storm_options::StormOptions;
use super::{echo, producers, publishers, slow, storm, subscribers};

/// A tool and its options.
#[derive(Subcommand, Clone, Debug)]
pub enum Tool {
    /// Subscribe with many connections, and check what each of them gets.
    Sub(SubOptions),
    /// Publish through the server, on a schedule.
    Pub(PubOptions),
    /// Produce to Kafka, on a schedule.
    Produce(ProduceOptions),
    /// Publish to own subjects and hear it back: round trips, on a schedule.
    ///
    /// Latencies run from when a publish was due until it is back; each must be answered, and come back once and in order.
    Echo(EchoOptions),
    /// Connect many, cut them, and let them come back with recovery.
    ///
    /// All connect at --connect-rate, and --warm-up-seconds go by; then come the rounds. Each cuts --cut percent of the connections, and they come back
    /// --away-ms later from where they were. A round takes --seconds, and until all are back. Latencies run from when a connection was due until it was
    /// subscribed or recovered. Run `produce` beside it: over the cuts nothing may be lost or doubled.
    Storm(StormOptions),
    /// Subscribe with connections that read few bytes a second, and count what they are told.
    ///
    /// Being unsubscribed with 2500, disconnected with 3008 or closed without a word fails the run only with --strict. Run `sub` beside it, which shall
    /// not notice.
    Slow(SlowOptions),
}

impl Tool {
    fn options(&self) -> &RunOptions {
        match self {
            Tool::Sub(options) => &options.run,
            Tool::Pub(options) => &options.run,
            Tool::Produce(options) => &options.run,
            Tool::Echo(options) => &options.run,
            Tool::Storm(options) => &options.run,
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
            Tool::Echo(options) => echo::run(options)?,
            Tool::Storm(options) => storm::run(options)?,
            Tool::Slow(options) => slow::run(options)?,
        };
        // A scenario reads the report; standard output is for its answers.
        if !self.options().cued {
            println!("{}", report.table());
        }
        if let Some(file) = &self.options().report {
            report.write(file)?;
        }
        Ok(report.verdict())
    }
}
