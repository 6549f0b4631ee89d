//! Measures a node beside a control in the same seconds, and prints tables.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, value_parser};
use corespan::bench::account::owed;
use corespan::bench::child::{Helper, orders};
use corespan::bench::report::{
    Side, Void, Worker, histogram_from, histogram_text, median, milliseconds, provenance, side_row, sides_head, workers_table,
};
use corespan::bench::sender::{SendPlan, Sender, Sent};
use corespan::bench::server::ServerPlan;
use corespan::bench::stages::stages_table;
use corespan::bench::study::Study;
use corespan::bench::tools::{Tool, ToolFailed, Verdict};
use corespan::bench::{Clients, Seen, Server, Usage};
use corespan::kafka::EmbeddedCluster;
use corespan::kafka::load::{BareConsumer, Generator, Load, VALUE_BYTES_MIN, create_topics, delete_topics, monotonic_ns};
use corespan::manual;

/// Load tools for corespan: subscribers, producers, idle connections, each beside a control in the same seconds.
///
/// Starts `corespan serve` with one shard on a Kafka (an embedded one, or --brokers), connects subscribers from one thread, produces records on a
/// schedule, and reports deliveries, latency percentiles, and CPU per delivery as markdown tables. Node and control take turns, a slice each, so
/// that both see the same machine and neither competes with the other. A latency runs from the time when a record was due. What Kafka acknowledged must
/// have reached every subscriber once and in order, else the run fails. Machines differ and are noisy: quote the ratios, not the times.
///
/// Exit code 0: the figures count. 1: something failed: the node, Kafka, a record that is missing. 2: a mistake in the options. 3: void: the
/// tool was the bottleneck, so the figures would be its own.
#[derive(Parser)]
#[command(name = "corespan-bench", version, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Each record to one client, each client its own subject; beside a bare send() loop at the same rate.
    Deliver(Options),
    /// One subject, every client subscribed; beside a bare send() loop at the same rate.
    FanOut(Options),
    /// Each record to one client; beside a bare librdkafka consumer in the shard's place.
    Latency(Options),
    /// Memory and CPU of idle subscribed connections; beside a process that has only accepted as many. --rate is that of the one record that each
    /// client gets at the end.
    Idle(Options),
    #[command(flatten)]
    Tool(Tool),
    #[command(flatten)]
    Study(Study),
    /// Write man pages into a folder; for packages.
    #[command(hide = true)]
    Man { folder: PathBuf },
    /// Print completions for a shell; for packages.
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// The bare sender of `deliver` and `fan-out`: prints its address, then sends slices as it is ordered.
    #[command(hide = true)]
    BareSender {
        #[arg(long)]
        to_all: bool,
        #[command(flatten)]
        options: Options,
    },
    /// The clients of the bare sender.
    #[command(hide = true)]
    BareClients {
        #[arg(long)]
        address: SocketAddr,
        #[arg(long)]
        to_all: bool,
        #[command(flatten)]
        options: Options,
    },
    /// The node of the other tasks, when their Kafka is the embedded one.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Args, Clone)]
struct Options {
    /// The binary with the node: `corespan` if --brokers is given, else a `corespan-bench`; the ones beside or of this tool by default.
    #[arg(long)]
    server: Option<PathBuf>,
    /// A real Kafka in place of the embedded one: HOST:PORT, or several with commas. Topics of this run are made there, and deleted at its end.
    #[arg(long)]
    brokers: Option<String>,
    /// Clients.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=200_000))]
    connections: u64,
    /// Records a second.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=100_000_000))]
    rate: u64,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u64).range(VALUE_BYTES_MIN as u64..=60_000))]
    bytes: u64,
    /// Milliseconds for which the producer gathers a batch, and the bare sender what it sends in one turn. The embedded cluster answers a fetch
    /// with one batch of each partition: at high rates it wants more than 1.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(0..=1_000))]
    linger_ms: u64,
    /// Seconds measured in each round, of node and control each; of `idle`: seconds at rest.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Milliseconds of a slice: so long one of node and control runs, then the other.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(50..=60_000))]
    slice_ms: u64,
    /// Seconds of either before the first round, not measured: sockets come to rest, the node's cache fills, memory is used again from then on.
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// Rounds; the ratio is their median.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=1_000))]
    rounds: u64,
    /// CPU of the shard, of the bare sender, and of the bare consumer's polling thread.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// CPU of this tool, its producer, its receiving threads and the embedded Kafka.
    #[arg(long, default_value_t = 0)]
    tool_cpu: usize,
    /// The shard's poll mode.
    #[arg(long, default_value = "park", value_parser = ["park", "adaptive", "busy"])]
    poll: String,
    /// Milliseconds that 99 of 100 records may be sent behind their due time; above, the run is void. The bare sender has --linger-ms more.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(1..=1_000))]
    lag_max_ms: u64,
    /// Print how long records were in each stage of the node, from its metrics, warm-up included.
    #[arg(long)]
    stages: bool,
}

/// The node's allocator: the hidden task is the node.
#[global_allocator]
static ALLOCATOR: corespan::allocator::Allocator = corespan::allocator::Allocator;

const PARTITIONS: u32 = 4;
/// How long what was sent has to arrive.
const ARRIVE_TIME: Duration = Duration::from_secs(15);
/// How long a helper has for what it does at once; connecting takes longer.
const HELPER_TIME: Duration = Duration::from_secs(15);
const CONNECT_TIME: Duration = Duration::from_secs(60);
/// How long after the last slice a record too many would still be seen.
const AFTERMATH: Duration = Duration::from_millis(500);
/// How long the generator has to say that it gave up, after a client's trouble: a second behind its schedule, and Kafka's acknowledgements.
const GIVE_UP_TIME: Duration = Duration::from_secs(20);
/// How long something has to end that the tool does not need any more.
const END_TIME: Duration = Duration::from_secs(5);
/// Open files of a process that are not clients'.
const FILES_BASE: u64 = 512;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return say(
                "error",
                "no subcommand; there are deliver, fan-out, latency, idle, sub, pub, produce, run, compare and page, and --help",
                2,
            );
        }
        Err(error) => {
            let text = error.render().to_string();
            let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
            let mistake = lines.collect::<Vec<_>>().join(" ");
            return say("error", mistake.trim_start_matches("error: "), 2);
        }
    };
    let task = &arguments.command;
    match task {
        Task::Tool(tool) => return told(tool.run()),
        Task::Study(study) => return told(study.run()),
        _ => {}
    }
    if let Some(Err(mistake)) = task.options().map(Options::check) {
        return say("error", &mistake, 2);
    }
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(task, Task::BareSender { .. } | Task::BareClients { .. }) => {
            // The tool hears it, and says it.
            println!("failed {error:#}");
            ExitCode::FAILURE
        }
        Err(error) if error.is::<Void>() => say("void", &error.to_string(), 3),
        Err(error) => say("error", &format!("{error:#}"), 1),
    }
}

/// What became of a tool that loads any server, from whatever CPUs the process has, or of a study.
fn told(done: Result<(Verdict, Vec<String>), ToolFailed>) -> ExitCode {
    match done {
        Ok((Verdict::Good, _)) => ExitCode::SUCCESS,
        Ok((Verdict::Failed, reasons)) => say("failed", &reasons.join("; "), 1),
        Ok((Verdict::Void, reasons)) => say("void", &reasons.join("; "), 3),
        Err(ToolFailed::Usage(mistake)) => say("error", &mistake, 2),
        Err(error) => say("error", &error.to_string(), 1),
    }
}

/// One line on standard error.
fn say(what: &str, text: &str, code: u8) -> ExitCode {
    eprintln!("corespan-bench: {what}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::from(code)
}

impl Task {
    /// Of the tasks that measure a node beside a control, and of their helpers.
    fn options(&self) -> Option<&Options> {
        match self {
            Task::Deliver(options) | Task::FanOut(options) | Task::Latency(options) | Task::Idle(options) => Some(options),
            Task::BareSender { options, .. } | Task::BareClients { options, .. } => Some(options),
            Task::Tool(_) | Task::Study(_) | Task::Man { .. } | Task::Completions { .. } | Task::Node { .. } => None,
        }
    }
}

fn run(task: &Task) -> Result<()> {
    if let Some(options) = task.options() {
        pin(options.tool_cpu)?;
    }
    match task {
        Task::Deliver(options) => compare(options, false),
        Task::FanOut(options) => compare(options, true),
        Task::Latency(options) => latency(options),
        Task::Idle(options) => idle(options),
        Task::BareSender { to_all, options } => bare_sender(options, *to_all),
        Task::BareClients { address, to_all, options } => bare_clients(options, *address, *to_all),
        Task::Tool(_) | Task::Study(_) => unreachable!("run before"),
        Task::Man { folder } => Ok(manual::write_pages(Arguments::command(), folder)?),
        Task::Completions { shell } => {
            print!("{}", String::from_utf8(manual::completions(Arguments::command(), *shell))?);
            Ok(())
        }
        Task::Node { config } => {
            // The tool is gone: so is its node.
            drop(orders()?);
            Ok(corespan::lifecycle::serve_embedded(corespan::config::Config::load(config)?)?)
        }
    }
}

fn pin(cpu: usize) -> Result<()> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        bail!("this process may not run on CPU {cpu}");
    }
    Ok(())
}

impl Options {
    /// What clap cannot know: one line for a mistake.
    fn check(&self) -> Result<(), String> {
        let cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        for (option, cpu) in [("--cpu", self.cpu), ("--tool-cpu", self.tool_cpu)] {
            // A helper starts on the tool's CPU and sees that one only; the tool has looked already.
            if cpus.len() > 1 && !cpus.contains(&cpu) {
                return Err(format!("{option} {cpu}: this process may run on the CPUs {cpus:?}"));
            }
        }
        if cpus.len() > 1 && self.cpu == self.tool_cpu {
            return Err(format!("--cpu and --tool-cpu are both {}: node and tool need a CPU each", self.cpu));
        }
        if let Some(server) = &self.server
            && !server.is_file()
        {
            return Err(format!("--server {}: there is no such file", server.display()));
        }
        let files = corespan::cores::raise_open_files().map_err(|error| error.to_string())?.soft;
        if self.connections + FILES_BASE > files {
            return Err(format!(
                "--connections {} needs {} open files, the limit is {files}: raise it (ulimit -Hn) or take fewer",
                self.connections,
                self.connections + FILES_BASE
            ));
        }
        if self.rate * self.slice_ms < 1_000 {
            return Err(format!("--rate {} has less than one record in --slice-ms {}: raise one", self.rate, self.slice_ms));
        }
        Ok(())
    }

    fn kafka(&self) -> &str {
        if self.brokers.is_some() { "real Kafka (--brokers)" } else { "embedded Kafka" }
    }

    fn clients(&self) -> usize {
        self.connections as usize
    }

    /// Records of a slice.
    fn records(&self) -> u64 {
        self.rate * self.slice_ms / 1_000
    }

    fn slices(&self, seconds: u64) -> u64 {
        (seconds * 1_000).div_ceil(self.slice_ms)
    }

    /// How long so many records have to be sent, acknowledgements included.
    fn time_of(&self, records: u64) -> Duration {
        Duration::from_millis(records * 1_000 / self.rate) + Duration::from_secs(30)
    }

    fn helper(&self, task: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(task).stderr(Stdio::null());
        for (name, value) in [
            ("--connections", self.connections),
            ("--rate", self.rate),
            ("--bytes", self.bytes),
            ("--linger-ms", self.linger_ms),
            ("--cpu", self.cpu as u64),
            ("--tool-cpu", self.tool_cpu as u64),
        ] {
            command.arg(name).arg(value.to_string());
        }
        Ok(command)
    }
}

/// A Kafka with topics of this run alone: whatever else there is comes into no figure.
struct Kafka {
    bootstrap: String,
    topics: Vec<String>,
    embedded: Option<EmbeddedCluster>,
}

impl Kafka {
    fn start(options: &Options, topics: &[&str]) -> Result<Kafka> {
        let run = format!("{:x}-{:x}", std::process::id(), monotonic_ns());
        let topics: Vec<String> = topics.iter().map(|topic| format!("corespan-bench-{run}-{topic}")).collect();
        if let Some(brokers) = &options.brokers {
            let kafka = Kafka { bootstrap: brokers.clone(), topics, embedded: None };
            create_topics(brokers, &kafka.topics, PARTITIONS).map_err(anyhow::Error::msg).context("--brokers")?;
            return Ok(kafka);
        }
        let cluster = EmbeddedCluster::start(1).map_err(anyhow::Error::msg)?;
        for topic in &topics {
            cluster.create_topic(topic, PARTITIONS as i32).map_err(anyhow::Error::msg)?;
        }
        Ok(Kafka { bootstrap: cluster.bootstrap().to_owned(), topics, embedded: Some(cluster) })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let (bootstrap, topics, embedded) = (self.bootstrap.clone(), self.topics.clone(), self.embedded.take());
        let (ended, end) = channel();
        let ending = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
            // A topic that is left behind is one that Kafka did not want to delete.
            match embedded {
                Some(cluster) => drop(cluster),
                None => drop(delete_topics(&bootstrap, &topics)),
            }
            let _ = ended.send(());
        });
        if ending.is_ok() {
            let _ = end.recv_timeout(END_TIME);
        }
    }
}

/// A node under load: its Kafka, a generator, its clients. They end in this order.
struct Stage<'a> {
    options: &'a Options,
    to_all: bool,
    clients: Clients,
    server: Server,
    generator: Generator,
    load: Load,
    kafka: Kafka,
}

/// One slice of the node.
struct Slice {
    side: Side,
    seen: Seen,
}

impl<'a> Stage<'a> {
    /// `before` is told the node's process when it is ready and has no clients yet.
    fn start(options: &'a Options, to_all: bool, topics: &[&str], before: impl FnOnce(u32)) -> Result<Stage<'a>> {
        let kafka = Kafka::start(options, topics)?;
        let (beside, subcommand) = match &options.brokers {
            Some(_) => (std::env::current_exe()?.with_file_name("corespan"), "serve"),
            // `corespan serve` wants a real Kafka.
            None => (std::env::current_exe()?, "node"),
        };
        let binary = options.server.clone().unwrap_or(beside);
        if !binary.is_file() {
            bail!("there is no {}: build it, or name it with --server", binary.display());
        }
        let consumer = if kafka.embedded.is_some() { "\"fetch.wait.max.ms\" = 5" } else { "" };
        let server = Server::start(&ServerPlan {
            binary: &binary,
            subcommand,
            bootstrap: &kafka.bootstrap,
            topic: &kafka.topics[0],
            connections_max: (options.clients() + 100).max(1_000),
            cpu: options.cpu,
            poll: &options.poll,
            consumer,
        })
        .with_context(|| format!("{}", binary.display()))?;
        before(server.pid());
        let load = Load {
            bootstrap: kafka.bootstrap.clone(),
            topics: kafka.topics.clone(),
            partitions: PARTITIONS,
            keys: if to_all { 1 } else { options.connections },
            rate: options.rate,
            value_bytes: options.bytes as usize,
            linger_ms: options.linger_ms,
        };
        let generator = Generator::start(load.clone())?;
        let topic = &kafka.topics[0];
        let clients =
            Clients::connect(server.address, options.clients(), false, |number| format!("/{topic}/{}", if to_all { 0 } else { number }))
                .context("subscribers")?;
        Ok(Stage { options, to_all, clients, server, generator, load, kafka })
    }

    fn subject(&self) -> impl Fn(usize) -> usize + use<> {
        let to_all = self.to_all;
        move |number| if to_all { 0 } else { number }
    }

    /// A slice of that many records through the node. All have arrived at its end.
    fn slice(&mut self, records: u64, generator: &mut Worker) -> Result<Slice> {
        let mut seen = Seen::default();
        let before = Usage::of(self.server.pid());
        let sent = self.produce(0, records, generator, &mut seen)?;
        let owed = owed(self.clients.len(), &sent, self.subject());
        let received = self.clients.receive(&mut seen, ARRIVE_TIME, owed);
        received.map_err(|error| self.blame(error))?;
        self.clients.settle(&sent, self.subject()).map_err(|error| self.blame(error))?;
        let used = Usage::of(self.server.pid()).since(before);
        let side = Side {
            latencies: seen.latencies.clone(),
            deliveries: seen.deliveries,
            reads: seen.reads,
            cpu_seconds: used.shards_cpu_seconds,
            process_cpu_seconds: Some(used.cpu_seconds),
            ..Side::new("node")
        };
        Ok(Slice { side, seen })
    }

    /// Produces while the clients receive. Gives what Kafka has acknowledged for each key since the beginning. A client's trouble says nothing of the
    /// node if the generator had given up by then: it sends what is due as fast as it can, and that is not the rate that was asked for.
    fn produce(&mut self, topic: usize, records: u64, generator: &mut Worker, seen: &mut Seen) -> Result<Vec<u64>> {
        let within = self.options.time_of(records);
        let mut deadline = Instant::now() + within;
        let mut trouble = None;
        self.generator.order(topic, records);
        loop {
            let patience = if trouble.is_some() { Duration::from_millis(5) } else { Duration::ZERO };
            if let Some(produced) = self.generator.answer(patience).map_err(anyhow::Error::msg)? {
                generator.worked(produced.cpu_seconds, produced.seconds);
                generator.lagged(&produced.lag);
                if produced.gave_up {
                    return Err(hopeless("the generator", milliseconds(&produced.lag, 1.0)));
                }
                return trouble.map_or(Ok(produced.acknowledged), Err);
            }
            if Instant::now() > deadline {
                return Err(trouble.unwrap_or_else(|| anyhow!("the generator does not end its slice within {} s", within.as_secs())));
            }
            if trouble.is_none()
                && let Err(error) = self.rest(seen, Duration::from_millis(5))
            {
                if self.server.ended().is_some() {
                    return Err(error);
                }
                trouble = Some(error);
                deadline = deadline.min(Instant::now() + GIVE_UP_TIME);
            }
        }
    }

    /// The clients receive what comes, and answer pings.
    fn rest(&mut self, seen: &mut Seen, time: Duration) -> Result<()> {
        self.clients.receive(seen, time, u64::MAX).map_err(|error| self.blame(error))
    }

    /// A node that has ended explains everything else.
    fn blame(&mut self, error: impl std::fmt::Display) -> anyhow::Error {
        match self.server.ended() {
            Some(status) => anyhow!("the node ended ({status}) in the middle of the run"),
            None => anyhow!("{error}"),
        }
    }

    /// What the node says of its stages, if that is asked for. It tells within a tenth of a second what it has done.
    fn stages(&self, options: &Options) -> Result<String> {
        if !options.stages {
            return Ok(String::new());
        }
        std::thread::sleep(Duration::from_millis(300));
        let metrics = self.server.metrics().context("the node's metrics")?;
        stages_table(&metrics).ok_or_else(|| anyhow!("the node's metrics have no stages: it is older than this tool"))
    }

    /// After the last slice: nothing may come any more.
    fn close(&mut self) -> Result<()> {
        let mut seen = Seen::default();
        self.rest(&mut seen, AFTERMATH)?;
        if seen.deliveries > 0 {
            bail!("{} records came after all that were sent had arrived: duplicates", seen.deliveries);
        }
        Ok(())
    }
}

fn hopeless(who: &str, late_ms: f64) -> anyhow::Error {
    Void(format!("{who} was the bottleneck: {late_ms:.0} ms behind the due times, and it gave up; lower --rate")).into()
}

/// The bare sender and its clients, in processes of their own: a process holds one end of the connections only.
struct Bare {
    sender: Helper,
    clients: Helper,
    owed: u64,
}

impl Bare {
    /// `before` is told the sender's process before it has clients.
    fn start(options: &Options, to_all: bool, before: impl FnOnce(u32)) -> Result<Bare> {
        let to_all = to_all.then_some("--to-all");
        let mut sender = Helper::start("the bare sender", options.helper("bare-sender")?.args(to_all)).context("the bare sender")?;
        let address = sender.answer("address", HELPER_TIME, || Ok(()))?;
        before(sender.pid());
        let mut command = options.helper("bare-clients")?;
        command.args(["--address", &address]).args(to_all);
        let mut clients = Helper::start("the bare sender's clients", &mut command).context("the bare sender's clients")?;
        clients.answer("connected", CONNECT_TIME, || Ok(()))?;
        sender.answer("ready", CONNECT_TIME, || Ok(()))?;
        Ok(Bare { sender, clients, owed: 0 })
    }

    /// A slice of that many records. The node's clients answer pings meanwhile.
    fn slice(&mut self, stage: &mut Stage<'_>, records: u64, sender: &mut Worker, receiver: &mut Worker) -> Result<Side> {
        self.owed += records * if stage.to_all { stage.options.connections } else { 1 };
        let mut seen = Seen::default();
        let mut meanwhile = || stage.clients.receive(&mut seen, Duration::from_millis(5), u64::MAX);
        self.clients.order(&format!("take {} {records}", self.owed))?;
        self.sender.order(&format!("send {records}"))?;
        let within = stage.options.time_of(records);
        let sent = self.sender.answer("sent", within, &mut meanwhile);
        let sent = sent.map_err(|error| stage.blame(error))?;
        let sent = Sent::parse(&sent).context("the bare sender's answer")?;
        if sent.gave_up {
            return Err(hopeless("the bare sender", milliseconds(&sent.lag, 1.0)));
        }
        if sent.refused > 0 {
            return Err(Void(format!("a socket of the bare sender did not take a whole frame ({} sent): lower --rate", sent.sends)).into());
        }
        let mut meanwhile = || stage.clients.receive(&mut seen, Duration::from_millis(5), u64::MAX);
        let took = self.clients.answer("took", ARRIVE_TIME + HELPER_TIME, &mut meanwhile);
        let took = took.map_err(|error| stage.blame(error))?;
        let took = parse_seen(&took).context("the answer of the bare sender's clients")?;
        sender.worked(sent.cpu_seconds, sent.seconds);
        sender.lagged(&sent.lag);
        receiver.worked(took.cpu_seconds, took.seconds);
        Ok(Side {
            latencies: took.latencies,
            deliveries: took.deliveries,
            reads: took.reads,
            cpu_seconds: sent.cpu_seconds,
            process_cpu_seconds: Some(sent.process_cpu_seconds),
            ..Side::new("bare send()")
        })
    }
}

fn seen_line(seen: &Seen) -> String {
    format!("{} {} {} {} {}", seen.deliveries, seen.reads, seen.cpu_seconds, seen.seconds, histogram_text(&seen.latencies))
}

fn parse_seen(line: &str) -> Option<Seen> {
    let mut words = line.split(' ');
    Some(Seen {
        deliveries: words.next()?.parse().ok()?,
        reads: words.next()?.parse().ok()?,
        cpu_seconds: words.next()?.parse().ok()?,
        seconds: words.next()?.parse().ok()?,
        latencies: histogram_from(words.next()?)?,
    })
}

fn bare_sender(options: &Options, to_all: bool) -> Result<()> {
    let orders = orders()?;
    pin(options.cpu)?;
    let plan = SendPlan {
        connections: options.clients(),
        rate: options.rate,
        to_all,
        value_bytes: options.bytes as usize,
        gather: Duration::from_millis(options.linger_ms),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("address {}", listener.local_addr()?);
    let mut sender = Sender::accept(plan, &listener)?;
    println!("ready");
    for order in orders {
        let records = order.strip_prefix("send ").and_then(|records| records.parse().ok()).context("an unknown order")?;
        println!("sent {}", sender.slice(records)?.line());
    }
    Ok(())
}

fn bare_clients(options: &Options, address: SocketAddr, to_all: bool) -> Result<()> {
    let orders = orders()?;
    let mut clients = Clients::connect(address, options.clients(), true, |_| String::new())?;
    println!("connected");
    let mut sent = vec![0; if to_all { 1 } else { options.clients() }];
    let mut turns = (0..sent.len()).cycle();
    for order in orders {
        let mut words = order.split(' ').skip(1).map(|word| word.parse::<u64>());
        let (Some(Ok(owed)), Some(Ok(records))) = (words.next(), words.next()) else { bail!("an unknown order") };
        turns.by_ref().take(records as usize).for_each(|place| sent[place] += 1);
        let mut seen = Seen::default();
        clients.receive(&mut seen, options.time_of(records) + ARRIVE_TIME, owed)?;
        clients.settle(&sent, |number| if to_all { 0 } else { number }).map_err(anyhow::Error::msg)?;
        println!("took {}", seen_line(&seen));
    }
    Ok(())
}

/// What the rounds came to: node and control of each.
struct Rounds {
    rows: Vec<(Side, Side)>,
}

impl Rounds {
    /// Warm-up, then rounds of slices in turn. `pair` runs one slice of the node, then one of the control.
    fn run(options: &Options, mut pair: impl FnMut(bool) -> Result<(Side, Side)>) -> Result<Rounds> {
        for _ in 0..options.slices(options.warm_up_seconds) {
            pair(false)?;
        }
        let mut rows = Vec::new();
        for _ in 0..options.rounds {
            let (mut node, mut control) = pair(true)?;
            for _ in 1..options.slices(options.seconds) {
                let (more_node, more_control) = pair(true)?;
                node.add(&more_node);
                control.add(&more_control);
            }
            rows.push((node, control));
        }
        Ok(Rounds { rows })
    }

    fn print(&self, place: &str) {
        println!("{}", sides_head(place));
        for (number, (node, control)) in self.rows.iter().enumerate() {
            for side in [node, control] {
                println!("{}", side_row(&(number + 1).to_string(), side));
            }
        }
        let all = |side: fn(&(Side, Side)) -> &Side| {
            let mut all = Side::new(side(&self.rows[0]).name);
            self.rows.iter().for_each(|row| all.add(side(row)));
            all
        };
        println!("{}", side_row("all", &all(|row| &row.0)));
        println!("{}", side_row("all", &all(|row| &row.1)));
        println!();
    }

    fn median(&self, of: impl Fn(&Side, &Side) -> f64) -> f64 {
        median(self.rows.iter().map(|(node, control)| of(node, control)).collect())
    }
}

fn check_workers(workers: &[Worker], options: &Options) -> Result<()> {
    for worker in workers {
        let gathers = if worker.name == "the bare sender" { options.linger_ms } else { 0 };
        worker.check((options.lag_max_ms + gathers) as f64)?;
    }
    Ok(())
}

/// Slices of the node and of the bare sender in turn.
fn compare(options: &Options, to_all: bool) -> Result<()> {
    let mut bare = Bare::start(options, to_all, |_| ())?;
    let mut stage = Stage::start(options, to_all, &["node"], |_| ())?;
    let names =
        ["the generator", "the bare sender", "the receiving thread of the node's clients", "the receiving thread of the bare sender's"];
    let mut workers = names.map(Worker::new);
    let rounds = Rounds::run(options, |measured| {
        let mut unmeasured = names.map(Worker::new);
        let [generator, sender, node_clients, bare_clients] = if measured { &mut workers } else { &mut unmeasured };
        let slice = stage.slice(options.records(), generator)?;
        node_clients.worked(slice.seen.cpu_seconds, slice.seen.seconds);
        Ok((slice.side, bare.slice(&mut stage, options.records(), sender, bare_clients)?))
    })?;
    let stages = stage.stages(options)?;
    stage.close()?;
    check_workers(&workers, options)?;
    println!("{}\n", provenance());
    println!(
        "{} connections, {} records/s of {} bytes, each to {}; slices of {} ms in turn, {}\n",
        options.connections,
        options.rate,
        options.bytes,
        if to_all { "all" } else { "one" },
        options.slice_ms,
        options.kafka()
    );
    rounds.print("shard or sender");
    println!("{stages}");
    println!("{}\n", workers_table(&workers));
    let ratio = rounds.median(|node, control| control.cost() / node.cost());
    println!(
        "Received = sent x subscribers in every slice. CPU, bare / node = {ratio:.2} (median of the rounds; 1.00: the node costs what the kernel costs)."
    );
    Ok(())
}

/// Slices of the node and of a bare consumer in turn, each with a topic of its own.
fn latency(options: &Options) -> Result<()> {
    let mut stage = Stage::start(options, false, &["node", "control"], |_| ())?;
    let settings: &[(&str, &str)] = if stage.kafka.embedded.is_some() { &[("fetch.wait.max.ms", "5")] } else { &[] };
    let consumer = BareConsumer::start(&stage.load, 1, options.cpu, settings)?;
    let names = ["the generator", "the receiving thread of the node's clients", "the bare consumer"];
    let mut workers = names.map(Worker::new);
    let mut before = 0;
    let rounds = Rounds::run(options, |measured| {
        let mut unmeasured = names.map(Worker::new);
        let [generator, node_clients, bare] = if measured { &mut workers } else { &mut unmeasured };
        let slice = stage.slice(options.records(), generator)?;
        node_clients.worked(slice.seen.cpu_seconds, slice.seen.seconds);
        // What it used while it waited for the node's slice is not of its own.
        consumer.take(HELPER_TIME).map_err(anyhow::Error::msg)?;
        let (mut rest, began) = (Seen::default(), Instant::now());
        let sent: u64 = stage.produce(1, options.records(), generator, &mut rest)?.iter().sum();
        let deadline = Instant::now() + ARRIVE_TIME;
        while consumer.records() < sent && Instant::now() < deadline {
            stage.rest(&mut rest, Duration::from_millis(5))?;
        }
        let took = consumer.take(HELPER_TIME).map_err(anyhow::Error::msg)?;
        if took.records != sent {
            bail!("the bare consumer got {} of {sent} records", took.records);
        }
        bare.worked(took.cpu_seconds, began.elapsed().as_secs_f64());
        let deliveries = took.records - before;
        before = took.records;
        let control = Side { latencies: took.latencies, deliveries, cpu_seconds: took.cpu_seconds, ..Side::new("bare consumer") };
        Ok((slice.side, control))
    })?;
    let stages = stage.stages(options)?;
    stage.close()?;
    check_workers(&workers, options)?;
    println!("{}\n", provenance());
    println!(
        "{} connections with a subject each, {} records/s of {} bytes, poll = {:?}; slices of {} ms in turn, {}\n",
        options.connections,
        options.rate,
        options.bytes,
        options.poll,
        options.slice_ms,
        options.kafka()
    );
    rounds.print("shard or polling thread");
    println!("{stages}");
    println!("{}\n", workers_table(&workers));
    let adds =
        |quantile| rounds.median(|node, control| milliseconds(&node.latencies, quantile) - milliseconds(&control.latencies, quantile));
    println!(
        "Received = sent x subscribers in every slice. The node adds {:.2} ms at p50, {:.2} ms at p99, {:.2} ms at p99.9 (medians of the rounds).",
        adds(0.5),
        adds(0.99),
        adds(0.999)
    );
    Ok(())
}

/// Memory at rest; then one record for each client, so that all are known to have been there.
fn idle(options: &Options) -> Result<()> {
    let (mut bare_before, mut node_before) = (Usage::default(), Usage::default());
    let bare = Bare::start(options, false, |pid| bare_before = Usage::of(pid))?;
    let mut stage = Stage::start(options, false, &["node"], |pid| node_before = Usage::of(pid))?;
    let mut seen = Seen::default();
    // Subscribing is not idling: CPU counts from here.
    let pids = [stage.server.pid(), bare.sender.pid()];
    let connected = pids.map(Usage::of);
    stage.rest(&mut seen, Duration::from_secs(options.seconds))?;
    let at_rest = pids.map(Usage::of);
    let (mut generator, rate) = (Worker::new("the generator"), options.rate);
    stage.slice(options.connections, &mut generator).with_context(|| format!("one record for each client, at --rate {rate}"))?;
    stage.close()?;
    println!("{}\n", provenance());
    println!(
        "{} idle connections, each subscribed to a subject of its own; {} s at rest, {}\n",
        options.connections,
        options.seconds,
        options.kafka()
    );
    println!("| | resident bytes per connection | MiB in all | CPU % of one core at rest |\n|---|---|---|---|");
    for (number, (name, before)) in [("node", node_before), ("bare accept()", bare_before)].into_iter().enumerate() {
        let grown = at_rest[number].since(before).resident_bytes;
        println!(
            "| {name} | {:.0} | {:.1} | {:.2} |",
            grown as f64 / options.connections as f64,
            grown as f64 / f64::from(1 << 20),
            at_rest[number].since(connected[number]).cpu_seconds * 100.0 / options.seconds as f64
        );
    }
    println!("\nEvery client got its record afterwards.");
    Ok(())
}
