//! `corespan-bench sub`, `pub`, `produce`, `echo`, `storm` and `slow` from outside: a whole run on a node and an embedded Kafka, and servers of the test that do wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use corespan::bench::Server;
use corespan::bench::server::ServerPlan;
use corespan::kafka::EmbeddedCluster;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

const RUN_TIME: Duration = Duration::from_secs(60);
const TOPIC: &str = "bench";

/// One at a time: each wants the same two CPUs.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The tool; killed when dropped.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the tool. How late it is says nothing here: test machines are busy.
fn start(arguments: &[&str]) -> Tool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corespan-bench"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Tool(command.spawn().unwrap())
}

/// Waits for it: its exit code and what it said, little enough for a pipe.
fn finish(mut tool: Tool) -> (Option<i32>, String) {
    let deadline = Instant::now() + RUN_TIME;
    let status = loop {
        if let Some(status) = tool.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end within {RUN_TIME:?}");
        thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    tool.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    tool.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

/// Waits until it says on standard error that all have subscribed. Gives its standard error back to be read on.
fn subscribed(tool: &mut Tool, connections: u64) {
    let wanted = format!("subscribed: {connections} of {connections} connections\n");
    let mut said = Vec::new();
    let err = tool.0.stderr.as_mut().unwrap();
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        err.read_exact(&mut byte).expect("it says when it has subscribed");
        said.push(byte[0]);
    }
    assert_eq!(String::from_utf8_lossy(&said), wanted);
}

struct World {
    kafka: EmbeddedCluster,
    node: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        World::start_with("")
    }

    /// With further lines of configuration.
    fn start_with(configuration: &str) -> World {
        let kafka = EmbeddedCluster::start(1).unwrap();
        kafka.create_topic(TOPIC, 4).unwrap();
        let node = Server::start(&ServerPlan {
            binary: Path::new(env!("CARGO_BIN_EXE_corespan-bench")),
            subcommand: "node",
            bootstrap: kafka.bootstrap(),
            topic: TOPIC,
            connections_max: 1_000,
            cpu: 0,
            poll: "park",
            consumer: &format!("\"fetch.wait.max.ms\" = 5\n[publish]\npattern = \".*\"\n{configuration}\n"),
        })
        .unwrap();
        World { kafka, node, folder: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        format!("ws://{}/connection/websocket", self.node.address)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn report(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.file(name)).unwrap()).unwrap()
    }
}

/// Latencies in a log, as HdrHistogram's own reader for Rust finds them.
fn logged(file: &str) -> u64 {
    let text = fs::read(file).unwrap();
    let intervals = IntervalLogIterator::new(&text).filter_map(|entry| match entry.unwrap() {
        LogEntry::Interval(interval) => Some(interval.encoded_histogram().to_owned()),
        _ => None,
    });
    let decode = |text: String| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    let histograms = intervals.map(|text| Deserializer::new().deserialize::<u64, _>(&mut &decode(text)[..]).unwrap());
    histograms.map(|histogram: Histogram<u64>| histogram.len()).sum()
}

fn assert_good(report: &Value, counts: &[(&str, u64)]) {
    assert_eq!((&report["verdict"], &report["reasons"]), (&Value::from("good"), &serde_json::json!([])), "{report:#}");
    for (name, count) in counts {
        assert_eq!(report["counts"][name], *count, "{name} of {report:#}");
    }
    assert!(!report["host"]["kernel"].as_str().unwrap().is_empty() && report["generator"]["cpu_seconds"].as_f64().unwrap() > 0.0);
}

/// Each of 20 connections gets all of 10 subjects' records: 2 s at 100/s are 20 of each.
#[test]
fn what_is_produced_reaches_every_subscriber_and_is_counted_and_logged() {
    let _machine = machine();
    let world = World::start();
    let (url, report, log) = (world.url(), world.file("sub.json"), world.file("sub.hlog"));
    let (produce_report, produce_log) = (world.file("produce.json"), world.file("produce.hlog"));
    #[rustfmt::skip]
    let mut sub = start(&[
        "sub", "--url", &url, "--connections", "20", "--subject", "/bench/{n%10}", "--source", "127.0.0.2", "--source", "127.0.0.3",
        "--warm-up-seconds", "0", "--seconds", "40", "--expect", "20", "--report", &report, "--log", &log, "--progress", "--lag-max-ms", "10000",
    ]);
    subscribed(&mut sub, 20);
    #[rustfmt::skip]
    let produce = start(&[
        "produce", "--brokers", world.kafka.bootstrap(), "--topic", TOPIC, "--subjects", "10", "--rate", "100", "--warm-up-seconds", "0", "--seconds", "2",
        "--report", &produce_report, "--log", &produce_log, "--lag-max-ms", "10000",
    ]);
    let (code, said) = finish(produce);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(sub);
    assert_eq!(code, Some(0), "{said}");
    let (sub, produce) = (world.report("sub.json"), world.report("produce.json"));
    assert_good(&produce, &[("sent", 200), ("acknowledged", 200), ("refused", 0)]);
    assert_good(
        &sub,
        &[("subscribed", 20), ("received", 400), ("lost", 0), ("doubled", 0), ("out_of_order", 0), ("silent_clients", 0), ("closes", 0)],
    );
    assert_eq!((logged(&log), logged(&produce_log)), (400, 200));
    assert_eq!((&sub["latency_us"]["count"], &produce["latency_us"]["count"]), (&Value::from(400), &Value::from(200)));
    assert!(said.contains("p99.99") && said.contains("verdict"), "{said}");
}

#[test]
fn what_is_published_is_acknowledged_and_arrives_in_either_protocol() {
    let _machine = machine();
    let world = World::start();
    let (url, report, pub_report) = (world.url(), world.file("sub.json"), world.file("pub.json"));
    for protocol in ["json", "protobuf"] {
        let subject = format!("/bench/{protocol}-{{n}}");
        #[rustfmt::skip]
        let mut sub = start(&[
            "sub", "--url", &url, "--connections", "4", "--subject", &subject, "--protocol", protocol, "--warm-up-seconds", "0", "--seconds", "40",
            "--expect", "50", "--report", &report, "--progress", "--lag-max-ms", "10000",
        ]);
        subscribed(&mut sub, 4);
        #[rustfmt::skip]
        let publish = start(&[
            "pub", "--url", &url, "--connections", "4", "--subject", &subject, "--protocol", protocol, "--rate", "100", "--warm-up-seconds", "1",
            "--seconds", "1", "--report", &pub_report, "--lag-max-ms", "10000",
        ]);
        let (code, said) = finish(publish);
        assert_eq!(code, Some(0), "{protocol}: {said}");
        let (code, said) = finish(sub);
        assert_eq!(code, Some(0), "{protocol}: {said}");
        let publish = world.report("pub.json");
        assert_good(&publish, &[("sent", 200), ("acknowledged", 200), ("refused", 0), ("unanswered", 0)]);
        // The second of warm-up is not in it.
        assert_eq!(publish["latency_us"]["count"], 100);
        assert_good(&world.report("sub.json"), &[("received", 200), ("lost", 0), ("unexpected", 0)]);
    }
}

#[test]
fn tls_is_spoken_with_servers_of_a_named_authority_and_no_others() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let file = folder.path().join(name).display().to_string();
        fs::write(&file, text).unwrap();
        file
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().unwrap();
    let authority = file("authority", params.self_signed(&key).unwrap().pem());
    let stranger = file("stranger", params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    let (server, server_key) = (file("server", server.pem()), file("key", server_key.serialize_pem()));
    let world = World::start_with(&format!("[listen.tls]\ncert = [{server:?}]\nkey = [{server_key:?}]"));
    let (url, report) = (world.url().replace("ws://", "wss://"), world.file("sub.json"));
    #[rustfmt::skip]
    let mut sub = start(&[
        "sub", "--url", &url, "--tls-ca", &authority, "--connections", "4", "--subject", "/bench/all", "--warm-up-seconds", "0", "--seconds", "40",
        "--expect", "50", "--report", &report, "--progress", "--lag-max-ms", "10000",
    ]);
    subscribed(&mut sub, 4);
    #[rustfmt::skip]
    let publish = start(&[
        "pub", "--url", &url, "--tls-ca", &authority, "--subject", "/bench/all", "--rate", "50", "--bytes", "20000", "--warm-up-seconds", "0", "--seconds",
        "1", "--lag-max-ms", "10000",
    ]);
    let (code, said) = finish(publish);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(sub);
    assert_eq!(code, Some(0), "{said}");
    assert_good(&world.report("sub.json"), &[("received", 200), ("lost", 0)]);
    let (code, said) = finish(start(&["sub", "--url", &url, "--tls-ca", &stranger, "--subject", "/bench/all", "--seconds", "40"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("invalid peer certificate"), "{said}");
    #[rustfmt::skip]
    let insecure = start(&[
        "echo", "--url", &url, "--insecure", "--subject", "/bench/{n}", "--rate", "20", "--warm-up-seconds", "0", "--seconds", "1", "--lag-max-ms",
        "10000",
    ]);
    let (code, said) = finish(insecure);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_echo_comes_back_once_and_in_order_in_either_protocol() {
    let _machine = machine();
    let world = World::start();
    let (url, report, log) = (world.url(), world.file("echo.json"), world.file("echo.hlog"));
    for protocol in ["json", "protobuf"] {
        let subject = format!("/bench/echo-{protocol}-{{n}}");
        #[rustfmt::skip]
        let echo = start(&[
            "echo", "--url", &url, "--connections", "4", "--subject", &subject, "--protocol", protocol, "--rate", "100", "--warm-up-seconds", "1",
            "--seconds", "1", "--report", &report, "--log", &log, "--lag-max-ms", "10000",
        ]);
        let (code, said) = finish(echo);
        assert_eq!(code, Some(0), "{protocol}: {said}");
        let echo = world.report("echo.json");
        assert_good(
            &echo,
            &[("sent", 200), ("acknowledged", 200), ("echoed", 200), ("lost", 0), ("doubled", 0), ("out_of_order", 0), ("foreign", 0)],
        );
        // The second of warm-up is in neither.
        assert_eq!((&echo["latency_us"]["count"], &echo["also_us"]["publish_reply"]["count"]), (&Value::from(100), &Value::from(100)));
        assert_eq!(logged(&log), 100);
    }
}

/// 20 clients, 10 of them cut in each of two rounds while each subject gets 100 records in 4 s.
#[test]
fn who_is_cut_recovers_and_nothing_is_lost_or_doubled_over_it() {
    let _machine = machine();
    let world = World::start();
    let (url, report) = (world.url(), world.file("storm.json"));
    for protocol in ["json", "protobuf"] {
        let (subject, keys) = (format!("/bench/{protocol}-{{n%5}}"), format!("{protocol}-{{n}}"));
        #[rustfmt::skip]
        let mut storm = start(&[
            "storm", "--url", &url, "--connections", "20", "--subject", &subject, "--protocol", protocol, "--warm-up-seconds", "1", "--seconds", "1",
            "--rounds", "2", "--cut", "50", "--expect", "100", "--report", &report, "--progress", "--lag-max-ms", "10000",
        ]);
        subscribed(&mut storm, 20);
        #[rustfmt::skip]
        let produce = start(&[
            "produce", "--brokers", world.kafka.bootstrap(), "--topic", TOPIC, "--keys", &keys, "--subjects", "5", "--rate", "125",
            "--warm-up-seconds", "0", "--seconds", "4", "--lag-max-ms", "10000",
        ]);
        let (code, said) = finish(produce);
        assert_eq!(code, Some(0), "{protocol}: {said}");
        let (code, said) = finish(storm);
        assert_eq!(code, Some(0), "{protocol}: {said}");
        let storm = world.report("storm.json");
        let books = [("received", 2_000), ("lost", 0), ("doubled", 0), ("out_of_order", 0), ("unexpected", 0)];
        assert_good(&storm, &books);
        assert_good(&storm, &[("subscribed", 20), ("cuts", 20), ("cuts_skipped", 0), ("recovered", 20), ("unrecovered", 0), ("closes", 0)]);
        let also = |name: &str| storm["also_us"][name]["count"].as_u64().unwrap();
        assert_eq!((also("connect"), also("subscribe"), also("recover"), also("record")), (40, 20, 20, 2_000), "{storm:#}");
    }
}

/// A server that sends each connection in turn away with 503, or grants its subscription with this reply; it ends with the last of them.
fn granter(turns: Vec<Option<&'static str>>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        for turn in turns {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(RUN_TIME)).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(byte(&mut socket));
            }
            let Some(granted) = turn else {
                socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").unwrap();
                continue;
            };
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            let replies = format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{granted}}}");
            let mut bytes = answer.as_bytes().to_vec();
            bytes.extend_from_slice(&[0x81, 126]);
            bytes.extend_from_slice(&u16::try_from(replies.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(replies.as_bytes());
            socket.write_all(&bytes).unwrap();
            // Until it is cut, or the tool has gone.
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    (url, server)
}

#[test]
fn who_is_sent_away_comes_back_when_told_and_who_is_not_recovered_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json").display().to_string();
    let first = r#"{"epoch":"1a","offset":4,"recoverable":true,"positioned":true}"#;
    let good = r#"{"epoch":"1a","offset":4,"recoverable":true,"recovered":true,"was_recovering":true}"#;
    let bad = r#"{"epoch":"1b","offset":9,"recoverable":true,"was_recovering":true}"#;
    for (turns, more, code, recovered, unrecovered) in [
        (vec![None, Some(first), Some(good)], &[][..], 0, 1, 0),
        (vec![None, Some(first), Some(bad)], &[], 1, 0, 1),
        (vec![None, Some(first), Some(bad)], &["--allow-unrecovered"], 0, 0, 1),
    ] {
        let (url, server) = granter(turns);
        #[rustfmt::skip]
        let storm = [
            "storm", "--url", &url, "--subject", "/a/{n}", "--warm-up-seconds", "0", "--seconds", "1", "--cut", "100", "--report", &report,
            "--lag-max-ms", "10000",
        ];
        let (got, said) = finish(start(&[&storm[..], more].concat()));
        server.join().unwrap();
        assert_eq!(got, Some(code), "{said}");
        let report: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        let counts = &report["counts"];
        assert_eq!((&counts["busy_503"], &counts["cuts"]), (&Value::from(1), &Value::from(1)), "{report:#}");
        assert_eq!((&counts["recovered"], &counts["unrecovered"]), (&Value::from(recovered), &Value::from(unrecovered)), "{report:#}");
        // It was due before it was sent away for a second.
        assert!(report["also_us"]["subscribe"]["min"].as_u64() >= Some(999_000), "{report:#}");
    }
}

/// 250 records of 10,000 bytes in 5 s, of which the slow reader takes 30,000 bytes a second: little enough to lag, and enough for the last word to reach it.
#[test]
fn a_slow_reader_is_told_and_a_fast_one_beside_it_loses_nothing() {
    let _machine = machine();
    let world =
        World::start_with("[slow.client]\ntimeout = \"1s\"\n[outbox]\nbytes.max = \"128KiB\"\n[listen.send.buffer]\nbytes = \"8KiB\"");
    let (url, report, slow_report) = (world.url(), world.file("sub.json"), world.file("slow.json"));
    #[rustfmt::skip]
    let mut sub = start(&[
        "sub", "--url", &url, "--subject", "/bench/all", "--warm-up-seconds", "0", "--seconds", "40", "--expect", "250", "--report", &report,
        "--progress", "--lag-max-ms", "10000",
    ]);
    subscribed(&mut sub, 1);
    #[rustfmt::skip]
    let mut slow = start(&[
        "slow", "--url", &url, "--subject", "/bench/all", "--read-bytes-per-second", "30000", "--warm-up-seconds", "0", "--seconds", "9", "--report",
        &slow_report, "--progress", "--lag-max-ms", "10000",
    ]);
    subscribed(&mut slow, 1);
    #[rustfmt::skip]
    let produce = start(&[
        "produce", "--brokers", world.kafka.bootstrap(), "--topic", TOPIC, "--keys", "all", "--rate", "50", "--bytes", "10000", "--warm-up-seconds",
        "0", "--seconds", "5", "--lag-max-ms", "10000",
    ]);
    for tool in [produce, sub, slow] {
        let (code, said) = finish(tool);
        assert_eq!(code, Some(0), "{said}");
    }
    assert_good(&world.report("sub.json"), &[("received", 250), ("lost", 0), ("doubled", 0), ("closes", 0), ("unsubscribes", 0)]);
    let slow = world.report("slow.json");
    assert_good(&slow, &[("lost", 0), ("doubled", 0), ("out_of_order", 0)]);
    let count = |name: &str| slow["counts"][name].as_u64().unwrap();
    assert!(count("told_2500") + count("told_3008") > 0 && count("received") < 250, "{slow:#}");
}

/// 10 ns for a record is more than any machine can do.
#[test]
fn a_rate_that_nobody_can_keep_is_void() {
    let _machine = machine();
    let kafka = EmbeddedCluster::start(1).unwrap();
    kafka.create_topic(TOPIC, 4).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json").display().to_string();
    #[rustfmt::skip]
    let produce = start(&[
        "produce", "--brokers", kafka.bootstrap(), "--topic", TOPIC, "--rate", "100000000", "--seconds", "40", "--lag-max-ms", "1",
        "--report", &report,
    ]);
    let (code, said) = finish(produce);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("corespan-bench: void: ") && line.contains("gave up")), "{said}");
    let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!((&report["verdict"], &report["counts"]["unanswered"]), (&Value::from("void"), &Value::from(0)), "{report:#}");
}

#[test]
fn refusals_are_counted_by_code_and_fail_the_run() {
    let _machine = machine();
    let world = World::start();
    let (url, report) = (world.url(), world.file("pub.json"));
    #[rustfmt::skip]
    let publish = start(&[
        "pub", "--url", &url, "--subject", "/not-served/{n}", "--rate", "20", "--warm-up-seconds", "0", "--seconds", "1", "--report", &report, "--lag-max-ms",
        "10000",
    ]);
    let (code, said) = finish(publish);
    assert_eq!(code, Some(1), "{said}");
    let report = world.report("pub.json");
    assert_eq!((&report["verdict"], &report["counts"]["refused"]), (&Value::from("failed"), &Value::from(20)), "{report:#}");
    let codes = report["errors"].as_object().unwrap();
    assert_eq!(codes.values().filter_map(Value::as_u64).sum::<u64>(), 20, "{report:#}");
}

/// A broadcast server of one connection: what it is told to say, and how it ends.
fn broadcaster(messages: Vec<String>, close: Option<u16>) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/feed", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(RUN_TIME)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(&mut socket));
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        socket.write_all(answer.as_bytes()).unwrap();
        let (_, length) = (byte(&mut socket), byte(&mut socket) & 0x7f);
        let mut asked = vec![0; usize::from(length) + 4];
        socket.read_exact(&mut asked).unwrap();
        for message in messages {
            let mut frame = vec![0x81, u8::try_from(message.len()).unwrap()];
            frame.extend_from_slice(message.as_bytes());
            socket.write_all(&frame).unwrap();
        }
        if let Some(code) = close {
            socket.write_all(&[&[0x88, 2][..], &code.to_be_bytes()].concat()).unwrap();
        }
        // Until the tool has gone.
        let _ = socket.read_to_end(&mut Vec::new());
        String::from_utf8(asked[4..].to_vec()).unwrap()
    });
    (url, server)
}

fn byte(socket: &mut TcpStream) -> u8 {
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    byte[0]
}

/// What `sub` makes of a server that sends these numbers: exit code, report.
fn of_broadcast(numbers: &[u64], close: Option<u16>, more: &[&str]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json").display().to_string();
    let now = corespan::bench::tools::stamp::now_us();
    let messages = numbers.iter().map(|number| format!("{{\"n\":{number},\"due\":{now},\"from\":\"test\"}}")).collect();
    let (url, server) = broadcaster(messages, close);
    let template = ["sub", "--url", &url, "--subject", "/a/{n}", "--subscribe-message", "SUBSCRIBE {subject}", "--warm-up-seconds", "0"];
    let (code, said) = finish(start(&[&template[..], &["--report", &report, "--lag-max-ms", "10000"], more].concat()));
    assert_eq!(server.join().unwrap(), "SUBSCRIBE /a/0", "{said}");
    (code, serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap())
}

#[test]
fn a_lost_doubled_or_misplaced_record_or_a_close_fails_the_run() {
    let (code, report) = of_broadcast(&[1, 2, 3], None, &["--seconds", "40", "--expect", "3"]);
    assert_eq!((code, &report["verdict"], &report["counts"]["received"]), (Some(0), &Value::from("good"), &Value::from(3)), "{report:#}");
    for (numbers, close, count, more) in [
        // A record in the middle, the last, and all.
        (&[1, 2, 4][..], None, "lost", ["--seconds", "1"].as_slice()),
        (&[1, 2], None, "lost", &["--seconds", "1", "--expect", "3"]),
        (&[], None, "silent_clients", &["--seconds", "1"]),
        (&[1, 2, 2, 3], None, "doubled", &["--seconds", "1"]),
        (&[1, 3, 2], None, "out_of_order", &["--seconds", "40", "--expect", "3"]),
        (&[1, 2, 3, 4], None, "unexpected", &["--seconds", "40", "--expect", "3"]),
        (&[1, 2, 3], Some(3008), "closes", &["--seconds", "40", "--expect", "9"]),
    ] {
        let (code, report) = of_broadcast(numbers, close, more);
        assert_eq!((code, &report["verdict"]), (Some(1), &Value::from("failed")), "{numbers:?}: {report:#}");
        assert!(report["counts"][count].as_u64() > Some(0), "{count}: {report:#}");
        assert!(report["reasons"].to_string().contains(&count.replace('_', " ")), "{count}: {report:#}");
    }
}

#[test]
fn a_mistake_in_the_options_is_one_line_and_exit_code_2() {
    for (arguments, words) in [
        (&["sub", "--url", "http://x/", "--subject", "/a/b"][..], "neither ws:// nor wss://"),
        (&["sub", "--url", "wss://127.0.0.1:1/", "--subject", "/a/b"], "--tls-ca"),
        (&["sub", "--url", "ws://127.0.0.1:1/", "--subject", "/a/{m}"], "{n%NUMBER}"),
        (&["pub", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--token-file", "/nowhere"], "--token-file /nowhere"),
        (&["produce", "--brokers", "127.0.0.1:1", "--topic", "t", "--property", "x"], "--property x"),
        (&["sub", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--rounds", "3"], "--rounds"),
        (&["echo", "--url", "ws://127.0.0.1:1/", "--connections", "2", "--subject", "/a/b"], "put {n} into it"),
        (&["storm", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--cut", "101"], "--cut"),
        (&["storm", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--expect", "1", "--allow-unrecovered"], "--allow-unrecovered"),
        (&["slow", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b"], "--read-bytes-per-second"),
        (&["slow", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--read-bytes-per-second", "0"], "--read-bytes-per-second"),
    ] {
        let (code, said) = finish(start(arguments));
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    // Nobody listens there: that is no mistake of the options.
    let (code, said) = finish(start(&["sub", "--url", "ws://127.0.0.1:1/", "--subject", "/a/b", "--seconds", "40"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("1 closes") && said.contains("refused"), "{said}");
}
