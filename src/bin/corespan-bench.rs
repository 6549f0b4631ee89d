//! Measures a node beside a control in the same run, and prints ratios.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use corespan::bench::sender::{SendPlan, Sender, Sent};
use corespan::bench::server::{ServerPlan, off_the_tools_cpu};
use corespan::bench::{Clients, Seen, Server, Usage};
use corespan::kafka::EmbeddedCluster;
use corespan::kafka::load::{Load, consume_bare, create_topic, produce};
use hdrhistogram::Histogram;

/// Load tools for corespan: subscribers, producers, idle connections, each beside a control in the same run.
///
/// Starts `corespan serve` with one shard on a Kafka (its own embedded one, or --brokers), connects subscribers from one thread, produces records
/// at a rate, and reports deliveries, latency percentiles, and the CPU of the shard per delivered record. Sequences are checked: a gap or a
/// duplicate fails the run. Machines differ and are noisy: quote the ratios, not the times.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Task {
    /// Each record to one client, each client its own subject; beside a bare send() loop at the same rate.
    Deliver,
    /// One subject, every client subscribed; beside a bare send() loop at the same rate.
    FanOut,
    /// Latency from a record's making to its receipt; beside a bare librdkafka consumer in the same seconds.
    Latency,
    /// Memory of idle subscribed connections.
    Idle,
    /// The bare sender of `deliver` and `fan-out`: prints its address; at the end of its input it stops and prints sends and CPU seconds.
    #[command(hide = true)]
    BareSender {
        #[arg(long)]
        to_all: bool,
    },
    /// The clients of the bare sender.
    #[command(hide = true)]
    BareClients {
        #[arg(long)]
        address: SocketAddr,
    },
    /// The node of the other tasks, when their Kafka is the embedded one.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Parser, Clone)]
struct Options {
    /// The binary with the node: `corespan` if --brokers is given, else a `corespan-bench`; the ones beside or of this tool by default.
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// A real Kafka in place of the embedded one.
    #[arg(long, global = true)]
    brokers: Option<String>,
    /// Clients.
    #[arg(long, global = true, default_value_t = 1_000)]
    connections: usize,
    /// Records a second.
    #[arg(long, global = true, default_value_t = 1_000)]
    rate: u64,
    /// Bytes of a record's value.
    #[arg(long, global = true, default_value_t = 200)]
    bytes: usize,
    /// Milliseconds for which the producer gathers a batch. The embedded cluster answers a fetch with one batch of each partition: at high
    /// rates it wants more than 1.
    #[arg(long, global = true, default_value_t = 5)]
    linger_ms: u64,
    /// Seconds measured in each round.
    #[arg(long, global = true, default_value_t = 5)]
    seconds: u64,
    /// Rounds; node and control take turns, and the ratio is their median.
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// CPU of the shard, and of the bare sender.
    #[arg(long, global = true, default_value_t = 1)]
    cpu: usize,
    /// CPU of this tool and of everything else.
    #[arg(long, global = true, default_value_t = 0)]
    tool_cpu: usize,
    /// The shard's poll mode.
    #[arg(long, global = true, default_value = "park", value_parser = ["park", "busy"])]
    poll: String,
}

/// The node's allocator: the hidden task is the node.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "bench";
const PARTITIONS: u32 = 4;
/// Time for sockets to come to rest and for the node's cache to fill: from then on memory is used again, not asked for.
const WARM_UP: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = run(&arguments) {
        eprintln!("corespan-bench: error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Stage {
    _cluster: Option<EmbeddedCluster>,
    server: Server,
    load: Load,
    embedded: bool,
}

impl Options {
    fn stage(&self, keys: u64) -> Result<Stage> {
        let (cluster, bootstrap) = match &self.brokers {
            Some(brokers) => {
                create_topic(brokers, TOPIC, PARTITIONS).map_err(anyhow::Error::msg).context("--brokers")?;
                (None, brokers.clone())
            }
            None => {
                let cluster = EmbeddedCluster::start(1).map_err(anyhow::Error::msg)?;
                cluster.create_topic(TOPIC, PARTITIONS as i32).map_err(anyhow::Error::msg)?;
                let bootstrap = cluster.bootstrap().to_owned();
                (Some(cluster), bootstrap)
            }
        };
        let (binary, subcommand) = match (&self.server, &self.brokers) {
            (Some(binary), Some(_)) => (binary.clone(), "serve"),
            (None, Some(_)) => (std::env::current_exe()?.with_file_name("corespan"), "serve"),
            // `corespan serve` wants a real Kafka.
            (Some(binary), None) => (binary.clone(), "node"),
            (None, None) => (std::env::current_exe()?, "node"),
        };
        let consumer = if cluster.is_some() { "\"fetch.wait.max.ms\" = 5" } else { "" };
        let plan =
            ServerPlan { binary: &binary, subcommand, bootstrap: &bootstrap, topic: TOPIC, cpu: self.cpu, poll: &self.poll, consumer };
        let server = Server::start(&plan).with_context(|| format!("{}", binary.display()))?;
        let load = Load {
            bootstrap,
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            keys,
            rate: self.rate,
            value_bytes: self.bytes,
            linger_ms: self.linger_ms,
        };
        let embedded = cluster.is_some();
        Ok(Stage { _cluster: cluster, server, load, embedded })
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let options = &arguments.options;
    if let Task::Node { config } = &arguments.command {
        return Ok(corespan::lifecycle::serve_embedded(corespan::config::Config::load(config)?)?);
    }
    core_affinity::set_for_current(core_affinity::CoreId { id: options.tool_cpu });
    corespan::cores::raise_open_files().context("open files")?;
    match &arguments.command {
        Task::Deliver => compare(options, false),
        Task::FanOut => compare(options, true),
        Task::Latency => latency(options),
        Task::Idle => idle(options),
        Task::BareSender { to_all } => bare_sender(options, *to_all),
        Task::BareClients { address } => {
            let mut clients = Clients::connect(*address, options.connections, true, |_| String::new())?;
            clients.receive(WARM_UP + Duration::from_secs(options.seconds))?;
            Ok(())
        }
        Task::Node { .. } => unreachable!("run above"),
    }
}

/// Node and bare sender in turn.
fn compare(options: &Options, to_all: bool) -> Result<()> {
    let keys = if to_all { 1 } else { options.connections as u64 };
    let stage = options.stage(keys)?;
    let mut clients = Clients::connect(stage.server.address, options.connections, false, |number| {
        format!("/{TOPIC}/{}", if to_all { 0 } else { number })
    })
    .context("subscribers")?;
    println!(
        "{} connections, {} records/s of {} bytes to {}",
        options.connections,
        options.rate,
        options.bytes,
        if to_all { "all" } else { "one each" }
    );
    println!(
        "| round | node us CPU of the shard per delivery | all threads | records a read | p50 ms | p99 ms | bare us CPU per send | bare/node |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (seen, usage) = loaded(&stage, options, |time| {
            let before = Usage::of(stage.server.pid());
            let seen = clients.receive(time)?;
            Ok((seen, Usage::of(stage.server.pid()).since(before)))
        })?;
        check(&seen)?;
        let sent = bare(options, to_all, &mut clients)?;
        let per_send = sent.cpu_seconds * 1e6 / sent.sends.max(1) as f64;
        let deliveries = seen.deliveries.max(1) as f64;
        let per_delivery = usage.shards_cpu_seconds * 1e6 / deliveries;
        let ratio = per_send / per_delivery;
        ratios.push(ratio);
        println!(
            "| {round} | {per_delivery:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {per_send:.2} | {ratio:.2} |",
            usage.cpu_seconds * 1e6 / deliveries,
            deliveries / seen.reads.max(1) as f64,
            milliseconds(&seen.latencies, 0.5),
            milliseconds(&seen.latencies, 0.99)
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median bare/node = {:.2} (1.00: the node costs what the kernel costs)", ratios[ratios.len() / 2]);
    Ok(())
}

/// One round of the control. Sender and clients are processes of their own: a process holds one end of the connections only.
fn bare(options: &Options, to_all: bool, waiting: &mut Clients) -> Result<Sent> {
    let command = |task: &str| -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(task);
        for (name, value) in [
            ("--connections", options.connections as u64),
            ("--rate", options.rate),
            ("--bytes", options.bytes as u64),
            ("--seconds", options.seconds),
            ("--cpu", options.cpu as u64),
            ("--tool-cpu", options.tool_cpu as u64),
        ] {
            command.arg(name).arg(value.to_string());
        }
        Ok(command)
    };
    let mut sender = command("bare-sender")?;
    sender.args(to_all.then_some("--to-all")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut sender = off_the_tools_cpu(|| sender.spawn()).context("the bare sender")?;
    let mut says = BufReader::new(sender.stdout.take().context("the bare sender's output")?);
    let mut line = String::new();
    says.read_line(&mut line)?;
    let mut receivers = command("bare-clients")?.args(["--address", line.trim()]).spawn().context("the bare sender's clients")?;
    let clients = loop {
        if let Some(status) = receivers.try_wait()? {
            break status;
        }
        // The node's clients answer its pings meanwhile.
        waiting.receive(Duration::from_millis(100))?;
    };
    drop(sender.stdin.take());
    line.clear();
    says.read_line(&mut line)?;
    sender.wait()?;
    let mut numbers = line.split_whitespace();
    match (clients.success(), numbers.next().and_then(|sends| sends.parse().ok()), numbers.next().and_then(|cpu| cpu.parse().ok())) {
        (true, Some(sends), Some(cpu_seconds)) => Ok(Sent { sends, cpu_seconds }),
        _ => bail!("the bare sender or its clients failed"),
    }
}

fn bare_sender(options: &Options, to_all: bool) -> Result<()> {
    let plan = SendPlan {
        connections: options.connections,
        rate: options.rate,
        to_all,
        // JSON push around the value: about 60 bytes.
        frame_bytes: options.bytes + 60,
        cpu: Some(options.cpu),
    };
    let sender = Sender::start(plan)?;
    println!("{}", sender.address);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let sent = sender.stop()?;
    println!("{} {}", sent.sends, sent.cpu_seconds);
    Ok(())
}

/// Produces at the rate while `measure` runs, after a warm-up.
fn loaded<T>(stage: &Stage, options: &Options, mut measure: impl FnMut(Duration) -> Result<T>) -> Result<T> {
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (load, stopped, count) = (stage.load.clone(), stop.clone(), sent.clone());
    let producer = std::thread::spawn(move || produce(&load, &stopped, &count));
    measure(WARM_UP)?;
    let measured = measure(Duration::from_secs(options.seconds));
    stop.store(true, Ordering::Relaxed);
    producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?.map_err(anyhow::Error::msg)?;
    // What is still on its way belongs to no round.
    measure(Duration::from_millis(500))?;
    measured
}

fn check(seen: &Seen) -> Result<()> {
    if seen.deliveries == 0 {
        bail!("nothing was delivered");
    }
    if seen.gaps > 0 {
        bail!("{} gaps or duplicates in {} deliveries", seen.gaps, seen.deliveries);
    }
    Ok(())
}

fn latency(options: &Options) -> Result<()> {
    let stage = options.stage(options.connections as u64)?;
    let mut clients =
        Clients::connect(stage.server.address, options.connections, false, |number| format!("/{TOPIC}/{number}")).context("subscribers")?;
    println!(
        "{} connections with a subject each, {} records/s of {} bytes, poll = {:?}",
        options.connections, options.rate, options.bytes, options.poll
    );
    println!("| round | | p50 ms | p99 ms | p99.9 ms | max ms |");
    println!("|---|---|---|---|---|---|");
    let mut added = Vec::new();
    for round in 1..=options.rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let (load, stopped, embedded) = (stage.load.clone(), stop.clone(), stage.embedded);
        let control = std::thread::spawn(move || {
            let settings: &[(&str, &str)] = if embedded { &[("fetch.wait.max.ms", "5")] } else { &[] };
            consume_bare(&load, &stopped, settings)
        });
        let seen = loaded(&stage, options, |time| Ok(clients.receive(time)?))?;
        stop.store(true, Ordering::Relaxed);
        let bare = control.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))?.map_err(anyhow::Error::msg)?;
        check(&seen)?;
        for (name, latencies) in [("through the node", &seen.latencies), ("bare consumer", &bare)] {
            println!(
                "| {round} | {name} | {:.2} | {:.2} | {:.2} | {:.2} |",
                milliseconds(latencies, 0.5),
                milliseconds(latencies, 0.99),
                milliseconds(latencies, 0.999),
                latencies.max() as f64 / 1e3
            );
        }
        added.push((
            milliseconds(&seen.latencies, 0.5) - milliseconds(&bare, 0.5),
            milliseconds(&seen.latencies, 0.99) - milliseconds(&bare, 0.99),
        ));
    }
    added.sort_by(|one, two| one.1.total_cmp(&two.1));
    let (p50, p99) = added[added.len() / 2];
    println!("the node adds {p50:.2} ms at p50 and {p99:.2} ms at p99 (median round by p99)");
    Ok(())
}

fn idle(options: &Options) -> Result<()> {
    let stage = options.stage(options.connections as u64)?;
    let before = Usage::of(stage.server.pid());
    let mut clients =
        Clients::connect(stage.server.address, options.connections, false, |number| format!("/{TOPIC}/{number}")).context("subscribers")?;
    clients.receive(Duration::from_secs(options.seconds))?;
    let used = Usage::of(stage.server.pid()).since(before);
    println!(
        "{} idle connections, each subscribed to a subject of its own: {:.0} bytes of the node's memory each ({} MiB in all)",
        clients.len(),
        used.resident_bytes as f64 / clients.len() as f64,
        used.resident_bytes >> 20
    );
    Ok(())
}

fn milliseconds(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}
