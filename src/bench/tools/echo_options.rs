//! The options of `echo`.

use clap::{Args, value_parser};

use super::options::{ConnectOptions, RunOptions};
use super::stamp::VALUE_BYTES_MIN;

/// Options of `echo`. Each connection needs a subject of its own: --subject '/bench/{n}'.
#[derive(Args, Clone, Debug)]
pub struct EchoOptions {
    #[command(flatten)]
    pub connect: ConnectOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// Publishes a second, of all connections together.
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub rate: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u64).range(VALUE_BYTES_MIN..=1_000_000))]
    pub bytes: u64,
}
