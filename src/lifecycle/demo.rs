//! `corespan demo`: a node on an embedded Kafka with a live feed. Prints one address and, unless something is wrong, nothing else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::LifecycleError;
use super::feed::{Fleet, TOPIC};
use super::node::{Node, prepare};
use super::serve::kafka_options;
use super::signals::Signals;
use crate::config::Config;
use crate::handoff::{PublishKey, ShardId, Wake, mailbox};
use crate::kafka::{EmbeddedCluster, Producers};
use crate::shard::{ProduceRecord, ProduceStatus};
use crate::subject::Partitioner;
use crate::telemetry::{TelemetryError, start_logs};

/// Partitions of the feed's topic.
const PARTITIONS: u32 = 6;
/// Time between two positions of a vehicle.
const STEP: Duration = Duration::from_millis(500);
/// How long the node has to become ready before the address is printed all the same.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// What the command line says about the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Address to listen on, for both ports.
    pub host: IpAddr,
    /// Pages and WebSocket; 0 takes any free port.
    pub port: u16,
    /// Metrics and health; 0 takes any free port.
    pub admin_port: u16,
    /// Shards; `None` is `"auto"`.
    pub shards: Option<u16>,
}

/// Runs the demo until a signal asks it to stop. Errors are start-up failures, each one readable line.
pub fn demo(options: DemoOptions) -> Result<(), LifecycleError> {
    // The clients must come under the housekeeping mask, so the plan comes first, and it wants a configuration whose Kafka is not there yet.
    let mut config = configuration(&options, "127.0.0.1:1")?;
    start_logs(&config.log);
    let plan = prepare(&config)?;
    let signals = Signals::listen().map_err(LifecycleError::Signals)?;
    let cluster = EmbeddedCluster::start(1).map_err(LifecycleError::Embedded)?;
    cluster.create_topic(TOPIC, PARTITIONS as i32).map_err(LifecycleError::Embedded)?;
    config = configuration(&options, cluster.bootstrap())?;
    let kafka = || {
        let mut kafka = kafka_options(&config, plan.shards.len() as u16);
        kafka.embedded = true;
        kafka
    };
    let node = Node::start(&config, &plan, kafka()).map_err(|error| match error {
        LifecycleError::AddressInUse { address } => LifecycleError::DemoPortInUse { address, option: "port" },
        LifecycleError::Telemetry(TelemetryError::AddressInUse { address }) => {
            LifecycleError::DemoPortInUse { address, option: "admin-port" }
        }
        other => other,
    })?;
    let feed = Feed::start(&kafka())?;
    let deadline = Instant::now() + READY_WITHIN;
    while !node.is_ready()? && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    if let Some(address) = node.addresses().first() {
        println!("{}", address_for_people(*address));
    }
    let outcome = node.run(&signals, None);
    drop(feed);
    outcome
}

/// Where a browser on this machine, or else on another, finds the demo.
fn address_for_people(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { SocketAddr::new(address.ip(), 0).to_string() };
    let host = host.strip_suffix(":0").unwrap_or(&host);
    format!("http://{host}:{}/demo", address.port())
}

fn configuration(options: &DemoOptions, bootstrap: &str) -> Result<Config, LifecycleError> {
    let (address, admin) = (SocketAddr::new(options.host, options.port), SocketAddr::new(options.host, options.admin_port));
    let shards = options.shards.map_or_else(|| "\"auto\"".to_owned(), |shards| shards.to_string());
    let text = format!(
        r#"
drain.seconds = 1
insecure = true
[listen]
address = "{address}"
admin = "{admin}"
connections.max = 4096
[cores]
shards = {shards}
[publish]
topics = "consumed"
[log]
level = "warn"
[kafka]
metadata.interval = "2s"
[kafka.consumer]
"bootstrap.servers" = "{bootstrap}"
"topics.regex" = ".*"
"recovery.on.start" = true
[kafka.producer]
"bootstrap.servers" = "{bootstrap}"
"linger.ms" = 1
"#
    );
    Ok(Config::parse(&text, "the demo's configuration", "")?)
}

/// Drives the fleet and writes it to Kafka, on a thread of its own.
struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn start(options: &crate::kafka::KafkaOptions) -> Result<Feed, LifecycleError> {
        // The feed is a shard to its producer, and reads its answers only to keep the mailbox empty.
        let (letters, answers) = mailbox(1 << 16, Arc::new(Wake::new()));
        let producers = Producers::new(options, &[letters]).map_err(|error| LifecycleError::Embedded(error.to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let drive = move || {
            let mut fleet = Fleet::new(fastrand::u64(..));
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let records = fleet.step(STEP.as_secs_f64());
                let pause = STEP / records.len() as u32;
                for (key, value) in records {
                    let record = ProduceRecord {
                        topic: TOPIC.into(),
                        partition: Some(Partitioner::Murmur2.partition(key.as_bytes(), PARTITIONS)),
                        key: Some(key.into()),
                        value: Some(value.into()),
                        headers: Vec::new(),
                    };
                    if producers.produce(ShardId(0), PublishKey::default(), &record) != ProduceStatus::Queued {
                        tracing::debug!("the embedded Kafka takes no record");
                    }
                    while answers.try_receive().is_some() {}
                    // Spread over the step, as vehicles do not speak in chorus.
                    due += pause;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        };
        let thread =
            thread::Builder::new().name("feed".to_owned()).spawn(drive).map_err(|error| LifecycleError::Embedded(error.to_string()))?;
        Ok(Feed { stop, thread: Some(thread) })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_is_valid() {
        let options = DemoOptions { host: IpAddr::from([127, 0, 0, 1]), port: 0, admin_port: 0, shards: Some(1) };
        configuration(&options, "127.0.0.1:9092").unwrap();
    }

    #[test]
    fn the_address_is_one_that_a_browser_takes() {
        assert_eq!(address_for_people(([0, 0, 0, 0], 8800).into()), "http://127.0.0.1:8800/demo");
        assert_eq!(address_for_people("[::1]:80".parse().unwrap()), "http://[::1]:80/demo");
    }
}
