//! The options of the tools.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};

use super::pattern::Pattern;
use super::stamp::VALUE_BYTES_MIN;

/// How the client protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Json,
    Protobuf,
}

/// How long, and what is left of it.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Seconds before those that are measured.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(0..=3_600))]
    pub warm_up_seconds: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=604_800))]
    pub seconds: u64,
    /// A file for the report, as JSON.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// A file for the histograms of each second, in the HdrHistogram log format.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Show progress also where standard error is no terminal.
    #[arg(long)]
    pub progress: bool,
    /// Milliseconds that this tool may be late in 99 of 100 cases; above, the run is void.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(1..=10_000))]
    pub lag_max_ms: u64,
    /// Begin and end when a scenario says so, on standard input.
    #[arg(long, hide = true)]
    pub cued: bool,
}

/// Where to connect, and how.
#[derive(Args, Clone, Debug)]
pub struct ConnectOptions {
    /// A server: ws://HOST:PORT/connection/websocket, or wss. Several are taken in turn.
    #[arg(long, required = true)]
    pub url: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub connections: u64,
    /// The subject of each connection, by pattern: n in braces stands for the connection's number, {n%100} for its remainder.
    #[arg(long)]
    pub subject: Pattern,
    /// A source address to connect from; several are taken in turn. One has some 28,000 ports for each server.
    #[arg(long)]
    pub source: Vec<IpAddr>,
    /// JSON in text messages, or Protobuf in binary ones.
    #[arg(long, value_enum, default_value_t = Protocol::Json)]
    pub protocol: Protocol,
    /// PEM file with the certificates that wss:// servers are checked against.
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// Take whatever certificate a wss:// server shows.
    #[arg(long, conflicts_with = "tls_ca")]
    pub insecure: bool,
    /// A token for the connect command.
    #[arg(long, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with one token, or with several, a line each, taken in turn.
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// Connections begun in a second.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub connect_rate: u64,
}

/// Options of `sub`.
#[derive(Args, Clone, Debug)]
pub struct SubOptions {
    #[command(flatten)]
    pub connect: ConnectOptions,
    #[command(flatten)]
    pub run: RunOptions,
    /// Text to send after the handshake in place of the Centrifuge protocol, for other broadcast servers: {subject} stands for the connection's subject,
    /// n in braces for its number. Every message that comes then counts as a record.
    #[arg(long)]
    pub subscribe_message: Option<String>,
    /// Records that each connection must get, from number 1 on; the run ends once all have. Without it, what comes must have no gaps.
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    pub expect: Option<u64>,
}

/// Options of `pub`.
#[derive(Args, Clone, Debug)]
pub struct PubOptions {
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

/// Options of `produce`.
#[derive(Args, Clone, Debug)]
pub struct ProduceOptions {
    #[command(flatten)]
    pub run: RunOptions,
    /// Kafka: HOST:PORT, or several with commas.
    #[arg(long)]
    pub brokers: String,
    /// The topic.
    #[arg(long)]
    pub topic: String,
    /// The key of each subject, by pattern: n in braces stands for its number, and that alone is the default. The subject is /TOPIC/KEY.
    #[arg(long, default_value = "{n}", hide_default_value = true)]
    pub keys: Pattern,
    /// Subjects, taken in turn.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub subjects: u64,
    /// Records a second.
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u64).range(1..=100_000_000))]
    pub rate: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u64).range(VALUE_BYTES_MIN..=1_000_000))]
    pub bytes: u64,
    /// Make the topic first, with so many partitions.
    #[arg(long, value_parser = value_parser!(u64).range(1..=10_000))]
    pub partitions: Option<u64>,
    /// Milliseconds for which a batch is gathered.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(0..=1_000))]
    pub linger_ms: u64,
    /// librdkafka's name of the partitioner; the default is that of Java's clients.
    #[arg(long, default_value = "murmur2_random")]
    pub partitioner: String,
    /// What Kafka gets in place of each value, for servers that want more than that: a text with {value} and {subject}.
    #[arg(long, default_value = "{value}", hide_default_value = true)]
    pub envelope: String,
    /// A further property of librdkafka, as name=value; several.
    #[arg(long)]
    pub property: Vec<String>,
}
