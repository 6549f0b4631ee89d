//! The command line: what can be asked of the binary, and the texts of `--help`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use corespan::http::Site;
use corespan::kafka::library;

/// Where a package puts the configuration.
const CONFIG: &str = "/etc/corespan/corespan.toml";

/// What `--version` says; `-V` its first line.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let page = if Site::has_client() { "with its client" } else { "without its client (./dev setup page adds it)" };
    format!("{}\n{}\nclients: Centrifuge client protocol, JSON and Protobuf\ndemo page: {page}", env!("CARGO_PKG_VERSION"), library())
});

const EXAMPLES: &str = "\
Examples:
  corespan demo                          try it: an embedded Kafka, a live feed, one address to open
  corespan check --config corespan.toml  is the configuration right? what will run where?
  corespan doctor --config corespan.toml are host and Kafka right for it? what to do?
  corespan serve --config corespan.toml  run a node
  corespan reload                        have it read its configuration again
  corespan import --migratorydata DIR    make a configuration from another product's

Environment:
  CORESPAN_KAFKA_EXTRA_OPTS  Kafka settings that replace those of the file, for serve, check and doctor:
                             -Dbootstrap.servers=10.0.0.1:9092 -Dtopics=vehicles

Exit codes:
  0  asked to stop, and stopped in good order; or `check` found nothing wrong
  1  could not start, or could not go on; one line on standard error says why and what to do
  2  the command line is wrong
  3  `doctor` found a warning, and no failure";

const SERVE_EXAMPLES: &str = "\
Listens at once, also while Kafka cannot be reached; http://<listen.admin>/ready answers 200 when clients are served.
SIGTERM or SIGINT stops in good order (drain.seconds); a second one stops at once.

Examples:
  corespan serve
  corespan serve --config ./corespan.toml
  CORESPAN_KAFKA_EXTRA_OPTS=\"-Dbootstrap.servers=10.0.0.1:9092\" corespan serve";

const CHECK_EXAMPLES: &str = "\
Never contacts Kafka and opens no port. Prints every key with its value and where it comes from, secrets masked, then what
would run where on this machine. The output is itself a valid configuration but for the masked secrets.
Fails if `corespan serve` would not start: a mistake in the file, or this machine lacks io_uring or lockable memory.

Examples:
  corespan check --config ./corespan.toml && systemctl restart corespan
  corespan check --config ./corespan.toml --elsewhere     on a laptop, for a server";

const DOCTOR_EXAMPLES: &str = "\
A line for each thing that is looked at: verdict (fine, advice, warning, failure), check, finding, and behind an arrow what to do.
Writes nothing without --apply. Kafka is asked with the credentials of the configuration, has 10 s for its first answer, and is only read.
Limits are those of this process: run it as the service's user to see the service's.
tuning/README.md says what each check is about. CORESPAN_KAFKA_EXTRA_OPTS counts here too.

--apply raises kernel bounds that are too low, and sets the governor of the shards' CPUs to performance: until a restart, or --undo.
What was there is kept in /var/lib/corespan/doctor-undo first.

Exit codes:
  0  all fine, or advice only
  1  a failure: a node would not start, or not do what it is configured to; or nothing could be applied or undone
  2  the command line is wrong
  3  a warning, and no failure

Examples:
  corespan doctor --config ./corespan.toml
  corespan doctor --json | jq '.findings[] | select(.verdict != \"fine\")'
  sudo corespan doctor --apply
  sudo corespan doctor --undo";

const PLAN_EXAMPLES: &str = "\
A line for each CPU: shard, housekeeping, both or nothing, and which setting made it so. Changes nothing.

Examples:
  corespan plan --config ./corespan.toml
  taskset -c 2-7 corespan plan           as a service with CPUAffinity=2-7 sees it";

const RELOAD_EXAMPLES: &str = "\
Reads the file itself first, then sends SIGHUP to the node that answers at the file's listen.admin, and waits for what it says:
a line for each key that has changed, in force or \"needs a restart\". A bad file is refused as a whole; the settings before stay.
In force at once: log.level, listen.allowed.origins, slow.client.timeout, drain.seconds, cache.*, publish.topics,
publish.pattern, publish.open.max,
client.subscriptions.max, client.connect.timeout. Fails if the file is refused, or if no node answers.

Examples:
  corespan reload
  systemctl reload corespan              the same, for a node that systemd runs";

const IMPORT_EXAMPLES: &str = "\
Reads migratorydata.conf, the consumer.properties and producer.properties of its Kafka add-on, and the settings of its add-on for
JSON Web Tokens if there are any. Every line that changed its meaning, or has no counterpart, has a comment that says so.
Nothing is written if a file cannot be read or a line is not understood. If something is missing that a node does not start
without, the file is written, a line for each says what to add, and the exit code is 1.

Examples:
  corespan import --migratorydata /etc/migratorydata
  corespan import --migratorydata /etc/migratorydata --output corespan.toml && corespan check --config corespan.toml";

const DEMO_EXAMPLES: &str = "\
Needs nothing else. Stop it with Ctrl-C.

Examples:
  corespan demo
  corespan demo --port 9000 --admin-port 9001
  corespan demo --host 0.0.0.0           let others in the network watch";

/// A thread-per-core bridge between Apache Kafka and WebSocket clients.
///
/// Records of a topic reach every client that is subscribed to their subject (`/topic/key`), in order, without loss
/// or duplicate; what clients publish is written to Kafka and acknowledged when Kafka has acknowledged it.
#[derive(Debug, Parser)]
#[command(name = "corespan", version, long_version = LONG_VERSION.as_str(), verbatim_doc_comment, arg_required_else_help = true, styles = Styles::plain(), after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ConfigFile),
    /// Say whether a configuration is right, and what it means
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Say what host and Kafka lack for a node with this configuration, and what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArguments),
    /// Say which CPU gets what, and why
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArguments),
    /// Have a running node read its configuration again
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(ConfigFile),
    /// Make a configuration from that of MigratoryData or Kafkorama
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArguments),
    /// Run a node with an embedded Kafka and a live feed, to look at
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArguments),
    /// Write man pages into a folder; for packages
    #[command(hide = true)]
    Man { folder: PathBuf },
    /// Print completions for a shell; for packages
    #[command(hide = true)]
    Completions { shell: Shell },
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration; config/corespan.toml in the sources is its manual
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pub file: ConfigFile,
    /// The node is for another machine: what this one lacks is said, and no failure
    #[arg(long)]
    pub elsewhere: bool,
    /// Print nothing if nothing is wrong
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Do not ask Kafka
    #[arg(long)]
    pub no_kafka: bool,
    /// Make the safe changes of this host, as root, and keep what was there
    #[arg(long, conflicts_with = "undo")]
    pub apply: bool,
    /// Give back what --apply has kept
    #[arg(long)]
    pub undo: bool,
    /// Where --apply keeps what was there [default: /var/lib/corespan/doctor-undo]
    #[arg(long, value_name = "FILE")]
    pub undo_file: Option<PathBuf>,
    /// A folder with proc/ and sys/ in place of /; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A folder with proc/ and sys/ in place of /; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The folder with migratorydata.conf and addons/kafka/
    #[arg(long, value_name = "DIR")]
    pub migratorydata: PathBuf,
    /// Where to write; a new file is readable by its owner alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// IP address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Port of the pages and of the WebSocket; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8800)]
    pub port: u16,
    /// Port of metrics and health; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8801)]
    pub admin_port: u16,
    /// Number of shards [default: as many as suit this machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
}
