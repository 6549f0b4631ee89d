//! A real Apache Kafka: where it is, its own tools through `./dev kafka`, and topics through librdkafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{PATIENCE, claim_port, eventually, finish, finish_within};

/// How long one of Kafka's tools, or the start of a broker, may take on a busy machine.
const TOOL_TIME: Duration = Duration::from_secs(120);

/// This process: the brokers that it starts for itself end with it, however it ends.
fn owner() -> &'static str {
    static OWNER: LazyLock<String> = LazyLock::new(|| std::process::id().to_string());
    &OWNER
}

/// What stands for Kafka's null in the lines of the console tools.
pub const NULL: &str = "__null__";

fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; this test needs Apache Kafka: run ./dev test kafka"))
}

/// Bootstrap address of a single broker without authentication.
pub fn bootstrap() -> String {
    needed("CORESPAN_TEST_KAFKA")
}

/// Bootstrap addresses of three brokers.
pub fn bootstrap_three() -> String {
    needed("CORESPAN_TEST_KAFKA_3")
}

/// The folder of the three brokers, which `./dev kafka kill` wants to know.
pub fn folder_three() -> PathBuf {
    needed("CORESPAN_TEST_KAFKA_3_DIR").into()
}

/// For a test that kills one of the three brokers: held as long as another test of its kind must wait. A broker that a failed test left dead is
/// started, so that one failure is one.
pub fn three_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = folder_three();
    for broker in ["1", "2", "3"] {
        if !broker_runs(&folder, broker) {
            eprintln!("broker {broker} was left dead, and is started");
            broker_action(&folder, "start", broker);
        }
    }
    alone
}

/// The SASL_SSL listener, the plain listener of the same broker, and the certificate.
pub fn sasl() -> (String, String, String) {
    (needed("CORESPAN_TEST_KAFKA_SASL"), needed("CORESPAN_TEST_KAFKA_SASL_PLAIN"), needed("CORESPAN_TEST_KAFKA_CA"))
}

/// Gives the second user of the SASL cluster, who has no rights, one on a topic.
pub fn grant(operation: &str, topic: &str) {
    let (_, plain, _) = sasl();
    let who = ["AclCommand", "--bootstrap-server", &plain, "--add", "--allow-principal", "User:bob"];
    dev_kafka(&[&who[..], &["--operation", operation, "--topic", topic]].concat(), "", &[]);
}

/// Changes settings of a topic.
pub fn configure_topic(bootstrap: &str, topic: &str, settings: &str) {
    let what = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", settings];
    dev_kafka(&[&["ConfigCommand", "--bootstrap-server", bootstrap][..], &what].concat(), "", &[]);
}

/// A name that no other topic has.
pub fn fresh(name: &str) -> String {
    format!("{name}-{:08x}", fastrand::u32(..))
}

/// Runs `./dev kafka ARGUMENTS`, with `input` as its standard input, and returns what it printed.
pub fn dev_kafka(arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(needed("CORESPAN_TEST_KAFKA_DEV"));
    command.arg("kafka").args(arguments).envs(environment.iter().copied());
    let output = finish_within(&mut command, input.as_bytes(), TOOL_TIME);
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "./dev kafka {arguments:?} failed:\n{printed}\n{errors}");
    printed.into_owned()
}

/// Kafka's console producer (Java, murmur2): `lines` of `HEADERS tab KEY tab VALUE`, with [`NULL`] for null.
pub fn console_produce(bootstrap: &str, topic: &str, lines: &str) {
    let arguments = ["ConsoleProducer", "--bootstrap-server", bootstrap, "--topic", topic];
    let properties = ["--property", "parse.key=true", "--property", "parse.headers=true", "--property", "null.marker=__null__"];
    dev_kafka(&[&arguments[..], &properties[..]].concat(), lines, &[]);
}

/// A record as Kafka's console consumer prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumed {
    pub partition: u32,
    pub headers: String,
    pub key: String,
    pub value: String,
}

/// Kafka's console consumer: the first `count` records of the topic, over all partitions.
pub fn console_consume(bootstrap: &str, topic: &str, count: usize) -> Vec<Consumed> {
    let count_text = count.to_string();
    let mut arguments = vec!["ConsoleConsumer", "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"];
    arguments.extend(["--max-messages", &count_text, "--timeout-ms", "20000"]);
    for property in ["print.partition=true", "print.headers=true", "print.key=true"] {
        arguments.extend(["--property", property]);
    }
    let printed = dev_kafka(&arguments, "", &[]);
    let records: Vec<Consumed> = printed
        .lines()
        .map(|line| {
            let mut fields = line.splitn(4, '\t').map(str::to_owned);
            let mut field = || fields.next().unwrap_or_else(|| panic!("not a line of the console consumer: {line}"));
            let partition = field().trim_start_matches("Partition:").parse().expect("a partition number");
            Consumed { partition, headers: field(), key: field(), value: field() }
        })
        .collect();
    assert_eq!(records.len(), count, "records of {topic}");
    records
}

/// Every record of a topic from its beginning to where it ends now: partition, key and value, in the order of each partition.
pub fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<(i32, String, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("the partitions are assigned");
    let (mut records, mut open) = (Vec::new(), partitions);
    let deadline = Instant::now() + TOOL_TIME;
    while open > 0 {
        assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push((message.partition(), text(message.key()), text(message.payload()))),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            _ => {}
        }
    }
    records
}

/// Has Kafka delete the records of partition 0 below an offset.
pub fn delete_records(bootstrap: &str, topic: &str, below: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(below)).expect("an offset");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    block_on(admin(bootstrap).delete_records(&list, &options)).expect("the records are deleted");
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client")
}

/// Creates a topic and waits until every broker's metadata has it.
pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, replicas: i32, settings: &[(&str, &str)]) {
    let client = admin(bootstrap);
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in block_on(client.create_topics([&topic], &options)).expect("the request is answered") {
        result.expect("the topic is created");
    }
    eventually("the topic has its leaders", || {
        let metadata = client.inner().fetch_metadata(Some(name), Duration::from_secs(5)).ok()?;
        let topic = metadata.topics().first()?;
        (topic.partitions().len() == partitions as usize && topic.partitions().iter().all(|partition| partition.leader() >= 0))
            .then_some(())
    });
}

/// Creates many topics with one request.
pub fn create_topics(bootstrap: &str, names: &[String], partitions: i32, replicas: i32) {
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(replicas))).collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in block_on(admin(bootstrap).create_topics(&topics, &options)).expect("the request is answered") {
        result.expect("the topic is created");
    }
}

/// Deletes many topics with one request.
pub fn delete_topics(bootstrap: &str, names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in block_on(admin(bootstrap).delete_topics(&names, &options)).expect("the request is answered") {
        result.expect("the topic is deleted");
    }
}

pub fn delete_topic(bootstrap: &str, name: &str) {
    let client = admin(bootstrap);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in block_on(client.delete_topics(&[name], &options)).expect("the request is answered") {
        result.expect("the topic is deleted");
    }
    eventually("the topic is gone", || {
        let metadata = client.inner().fetch_metadata(Some(name), Duration::from_secs(5)).ok()?;
        metadata.topics().first().is_none_or(|topic| topic.error().is_some()).then_some(())
    });
}

/// Gives the topic more partitions.
pub fn grow_topic(bootstrap: &str, name: &str, partitions: usize) {
    let growth = NewPartitions::new(name, partitions);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for result in block_on(admin(bootstrap).create_partitions([&growth], &options)).expect("the request is answered") {
        result.expect("the topic grows");
    }
}

/// The broker that leads partition 0.
pub fn leader(bootstrap: &str, topic: &str) -> i32 {
    let client = admin(bootstrap);
    eventually("the partition has a leader", || {
        let metadata = client.inner().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
        let leader = metadata.topics().first()?.partitions().first()?.leader();
        (leader >= 0).then_some(leader)
    })
}

/// The brokers that hold partition 0.
pub fn replicas(bootstrap: &str, topic: &str) -> Vec<i32> {
    let metadata = admin(bootstrap).inner().fetch_metadata(Some(topic), Duration::from_secs(5)).expect("metadata");
    metadata.topics()[0].partitions()[0].replicas().to_vec()
}

/// Whether so many replicas of every partition are in sync.
pub fn all_in_sync(bootstrap: &str, topic: &str, replicas: usize) -> bool {
    let metadata = admin(bootstrap).inner().fetch_metadata(Some(topic), Duration::from_secs(5));
    metadata.is_ok_and(|metadata| metadata.topics()[0].partitions().iter().all(|partition| partition.isr().len() == replicas))
}

/// A librdkafka producer: idempotent, its default partitioner (CRC32) unless `settings` say otherwise.
pub fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> ThreadedProducer<rdkafka::producer::DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("linger.ms", "0");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

/// Sends one record with a client made for it; whether Kafka has it within 2 s.
pub fn try_produce(bootstrap: &str, topic: &str, key: &str, value: &str) -> bool {
    let producer = producer(bootstrap, &[("message.timeout.ms", "60000")]);
    let queued = producer.send(BaseRecord::to(topic).key(key).payload(value)).is_ok();
    let stored = queued && producer.flush(Duration::from_secs(2)).is_ok();
    if !stored {
        producer.purge(PurgeConfig::default().queue().inflight());
    }
    stored
}

/// Sends records of (key, value) and waits until Kafka has them all.
pub fn produce(bootstrap: &str, topic: &str, records: &[(&str, &str)]) {
    let producer = producer(bootstrap, &[]);
    for (key, value) in records {
        producer.send(BaseRecord::to(topic).key(*key).payload(*value)).map_err(|(error, _)| error).expect("the record is queued");
    }
    producer.flush(PATIENCE).expect("Kafka has the records");
}

/// One header, for `BaseRecord::headers`.
pub fn header(key: &str, value: &str) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key, value: Some(value) })
}

/// A cluster of the test's own, for tests that stop and start it or want settings of the broker.
pub struct Cluster {
    pub bootstrap: String,
    folder: tempfile::TempDir,
    port: String,
    brokers: u16,
    sasl: bool,
    settings: String,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::start_with(1, &[])
    }

    /// With so many brokers, and settings of theirs besides those of `./dev kafka up`; `{id}` in a value is the broker's number.
    pub fn start_with(brokers: u16, settings: &[(&str, &str)]) -> Cluster {
        Cluster::start_of(brokers, settings, false)
    }

    /// With a SASL_SSL listener too, 20 ports above the plain one.
    pub fn start_sasl(settings: &[(&str, &str)]) -> Cluster {
        Cluster::start_of(1, settings, true)
    }

    fn start_of(brokers: u16, settings: &[(&str, &str)], sasl: bool) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = eventually("its ports are free", || {
            // Between those of the clusters that `./dev test` starts.
            let port = fastrand::u16(300..327) * 100 + 50;
            // The first stands for all of them.
            let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            (claim_port(port) && free(port + 10) && free(port + 20)).then_some(port)
        });
        let addresses: Vec<String> = (0..brokers).map(|broker| format!("127.0.0.1:{}", port + broker)).collect();
        let settings = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let cluster = Cluster { bootstrap: addresses.join(","), folder, port: port.to_string(), brokers, sasl, settings };
        cluster.up();
        cluster
    }

    fn up(&self) {
        let own = [
            ("CORESPAN_KAFKA_DIR", self.folder_text()),
            ("CORESPAN_KAFKA_PORT", &self.port),
            ("CORESPAN_KAFKA_OWNER", owner()),
            ("CORESPAN_KAFKA_SETTINGS", &self.settings),
        ];
        let brokers = self.brokers.to_string();
        let up = ["up", "--brokers", &brokers, "--sasl"];
        dev_kafka(&up[..if self.sasl { 4 } else { 3 }], "", &own);
    }

    /// Deletes everything and starts another, empty cluster at the same address: another cluster id, and nothing that is known of this one.
    pub fn wipe(&self) {
        dev_kafka(&["down"], "", &[("CORESPAN_KAFKA_DIR", self.folder_text())]);
        self.up();
    }

    /// Where the brokers keep their data: `BROKER/data/TOPIC-PARTITION`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn folder_text(&self) -> &str {
        self.folder.path().to_str().expect("a path of UTF-8")
    }

    pub fn kill(&self, broker: &str) {
        broker_action(self.folder.path(), "kill", broker);
    }

    /// Ends a broker as an operator does, and starts it again.
    pub fn restart(&self, broker: &str) {
        self.signal(broker, Signal::SIGTERM);
        // It hands its partitions over first, which takes its time on a busy machine.
        let deadline = Instant::now() + TOOL_TIME;
        while broker_runs(self.folder.path(), broker) {
            assert!(Instant::now() < deadline, "broker {broker} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.start_again(broker);
    }

    /// Stops a broker's process where it stands, or lets it go on: silent, with its connections open.
    pub fn signal(&self, broker: &str, signal: Signal) {
        let pid = std::fs::read_to_string(self.folder.path().join(broker).join("pid")).expect("the broker was started");
        nix::sys::signal::kill(Pid::from_raw(pid.trim().parse().expect("a pid")), signal).expect("the broker is there");
    }

    pub fn start_again(&self, broker: &str) {
        dev_kafka(&["start", broker], "", &[("CORESPAN_KAFKA_DIR", self.folder_text()), ("CORESPAN_KAFKA_OWNER", owner())]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut down = Command::new(needed("CORESPAN_TEST_KAFKA_DEV"));
        down.args(["kafka", "down"]).env("CORESPAN_KAFKA_DIR", self.folder.path());
        if !finish(&mut down).status.success() {
            eprintln!("the test's own Kafka in {} could not be stopped", self.folder.path().display());
        }
    }
}

/// Whether a broker's process is there and no zombie.
fn broker_runs(folder: &Path, broker: &str) -> bool {
    let pid = std::fs::read_to_string(folder.join(broker).join("pid")).expect("the broker was started");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// `./dev kafka kill|start BROKER` for the cluster in `folder`.
pub fn broker_action(folder: &Path, action: &str, broker: &str) {
    dev_kafka(&[action, broker], "", &[("CORESPAN_KAFKA_DIR", folder.to_str().expect("a path of UTF-8"))]);
}
