//! The options of `storm`.

use clap::{Args, value_parser};

use super::options::{ConnectOptions, RunOptions};

/// Options of `storm`.
#[derive(Args, Clone, Debug)]
pub struct StormOptions {
    #[command(flatten)]
    pub connect: ConnectOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// Rounds of a cut and a coming back; with 0 all only connect.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(0..=10_000))]
    pub rounds: u64,
    /// Percent of the connections that a round cuts; others in each round, in turn.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(1..=100))]
    pub cut: u64,
    /// Connections cut in a second; all at once without it.
    #[arg(long, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub cut_rate: Option<u64>,
    /// Milliseconds after which a connection that was cut comes back.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u64).range(0..=3_600_000))]
    pub away_ms: u64,
    /// Count who is told that nothing is recovered, and do not fail the run for it.
    #[arg(long)]
    pub allow_unrecovered: bool,
    /// Records that each connection must get, from number 1 on, cuts or not; after the rounds the run waits for them. Without it, what comes must
    /// have no gaps.
    #[arg(long, conflicts_with = "allow_unrecovered", value_parser = value_parser!(u64).range(1..))]
    pub expect: Option<u64>,
}
