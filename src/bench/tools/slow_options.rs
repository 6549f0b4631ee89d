//! The options of `slow`.

use clap::{Args, value_parser};

use super::options::{ConnectOptions, RunOptions};

/// Options of `slow`.
#[derive(Args, Clone, Debug)]
pub struct SlowOptions {
    #[command(flatten)]
    pub connect: ConnectOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// Bytes that each connection reads in a second, at most, once all have subscribed.
    #[arg(long, value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    pub read_bytes_per_second: u64,
    /// Bytes that the kernel may hold for each connection (SO_RCVBUF; it doubles them, and has a least of its own). More hides a slow reader for longer.
    #[arg(long, default_value_t = 4_096, value_parser = value_parser!(u64).range(1_024..=16_777_216))]
    pub receive_buffer_bytes: u64,
    /// Fail the run also when a reader is told that it lags: unsubscribed with 2500, disconnected with 3008, or cut without a word.
    #[arg(long)]
    pub strict: bool,
}
