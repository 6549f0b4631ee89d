//! corespan on a real Apache Kafka, from outside: the binary as a process, Kafka's own tools, librdkafka and a WebSocket client.
//!
//! The tests are ignored by plain `cargo test`; `./dev test kafka` starts the clusters and runs them.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corespan::subject::Partitioner;
use nix::sys::signal::Signal;
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};
use support::client::{Client, Push, Subscribed};
use support::kafka::{self, NULL};
use support::node::{Node, config, config_from_start};
use support::{PATIENCE, eventually};

/// A node on one topic of `partitions`, and a client of it.
fn node_on(topic: &str, partitions: i32) -> (Node, Client) {
    kafka::create_topic(&kafka::bootstrap(), topic, partitions, 1, &[]);
    let node = Node::start_ready(&config(&kafka::bootstrap(), &[topic]));
    let client = Client::connect(node.port);
    (node, client)
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    range.map(|n| json!({ "n": n })).collect()
}

/// The publications of a subscription so far: those of the reply.
fn values(subscribed: &Subscribed) -> Vec<Value> {
    subscribed.publications.iter().map(|publication| publication.data.clone()).collect()
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_of_the_console_producer_reach_subscribers() {
    let topic = kafka::fresh("vehicles");
    let (_node, mut client) = node_on(&topic, 4);
    let speed = format!("/{topic}/1/speed");
    let mut keyless = Client::connect(_node.port);
    assert!(client.subscribe(&speed).expect("the subscribe is granted").recoverable);
    // Four partitions: records without a key have no order, so there is nothing to recover by.
    assert!(!keyless.subscribe(&format!("/{topic}")).expect("the subscribe is granted").recoverable);

    let lines = [
        "unit:km/h,source:gps\t1/speed\t{\"v\": 87}".to_owned(),
        format!("{NULL}\t1/speed\tplain text"),
        format!("{NULL}\t2/speed\tof another subject"),
        format!("{NULL}\t1/speed\t{NULL}"),
        format!("{NULL}\t1/speed\t\"last\""),
        format!("{NULL}\t{NULL}\t{{\"key\": \"none\"}}"),
    ];
    let before = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("milliseconds");
    kafka::console_produce(&kafka::bootstrap(), &topic, &(lines.join("\n") + "\n"));

    let first = client.next_publication();
    assert_eq!(first.data, json!({ "v": 87 }));
    assert_eq!(first.tags, HashMap::from([("unit".to_owned(), "km/h".to_owned()), ("source".to_owned(), "gps".to_owned())]));
    assert!(first.time >= before, "{} is the time of the record in ms", first.time);
    assert!(first.offset > 0);
    let second = client.next_publication();
    assert_eq!(second.data, json!("plain text"));
    assert!(second.offset > first.offset);
    let tombstone = client.next_publication();
    assert_eq!((&tombstone.data, tombstone.removed), (&Value::Null, true));
    assert_eq!(tombstone.tags.get("corespan.removed").map(String::as_str), Some("true"));
    assert_eq!(client.next_publication().data, json!("last"));
    client.assert_quiet();
    assert_eq!(keyless.next_publication().data, json!({ "key": "none" }));
    keyless.assert_quiet();
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn the_console_consumer_reads_what_clients_publish_where_javas_producer_would_put_it() {
    let (topic, javas) = (kafka::fresh("published"), kafka::fresh("javas"));
    kafka::create_topic(&kafka::bootstrap(), &javas, 6, 1, &[]);
    let (_node, mut client) = node_on(&topic, 6);
    let keys: Vec<String> = (0..60).map(|n| format!("{n}/größe")).collect();
    for key in &keys {
        client.publish(&format!("/{topic}/{key}"), &json!({ "key": key }).to_string()).expect("the publish is acknowledged");
    }
    client.publish(&format!("/{topic}"), "{\"key\": null}").expect("the publish is acknowledged");
    let removed = json!({ "channel": format!("/{topic}/gone"), "removed": true }).to_string();
    let id = client.send("publish", &removed);
    client.reply(id).expect("the tombstone is acknowledged");
    let lines: String = keys.iter().map(|key| format!("{NULL}\t{key}\tx\n")).collect();
    kafka::console_produce(&kafka::bootstrap(), &javas, &lines);

    let partitions: HashMap<String, u32> =
        kafka::console_consume(&kafka::bootstrap(), &javas, keys.len()).into_iter().map(|record| (record.key, record.partition)).collect();
    assert!(partitions.values().collect::<HashSet<_>>().len() > 1, "the keys are spread");
    let published = kafka::console_consume(&kafka::bootstrap(), &topic, keys.len() + 2);
    for record in &published {
        assert_eq!(record.headers, "NO_HEADERS", "{record:?}");
    }
    let by_key: HashMap<&str, &kafka::Consumed> = published.iter().map(|record| (record.key.as_str(), record)).collect();
    assert_eq!(by_key.len(), keys.len() + 2, "each record once");
    for key in &keys {
        let record = by_key[key.as_str()];
        assert_eq!(record.partition, partitions[key], "partition of {key}");
        assert_eq!(serde_json::from_str::<Value>(&record.value).expect("the value is as published"), json!({ "key": key }));
    }
    assert_eq!(by_key["null"].value, "{\"key\": null}");
    assert_eq!(by_key["gone"].value, "null", "Kafka's console shows a tombstone so");
}

/// Whether what clients publish to `topic` goes where `produce` has put records of the same keys.
fn partitioner_is_found(topic: &str, produce: impl Fn(&[String])) {
    kafka::create_topic(&kafka::bootstrap(), topic, 6, 1, &[]);
    let keys: Vec<String> = (0..120).map(|n| format!("key-{n}")).collect();
    produce(&keys);
    let node = Node::start_ready(&config_from_start(&kafka::bootstrap(), &[topic]));
    let mut client = Client::connect(node.port);
    for key in &keys {
        let subject = format!("/{topic}/{key}");
        let subscribed = client.subscribe_with(&subject, json!({ "data": { "history": 10 } })).expect("the subscribe is granted");
        assert!(subscribed.recoverable, "{subject} has a home, so it can be recovered; log:\n{}", node.log());
        assert_eq!(values(&subscribed), [json!("from outside")], "{subject}");
        client.publish(&subject, "\"published\"").expect("the publish is acknowledged");
        let publication = client.next_publication();
        assert_eq!(publication.data, json!("published"));
        assert!(publication.offset > 0, "records at home have an offset");
    }
    let mut places: HashMap<String, HashSet<u32>> = HashMap::new();
    for record in kafka::console_consume(&kafka::bootstrap(), topic, 2 * keys.len()) {
        places.entry(record.key).or_default().insert(record.partition);
    }
    for (key, partitions) in places {
        assert_eq!(partitions.len(), 1, "all records of {key} are in one partition, not in {partitions:?}");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn auto_finds_the_partitioner_of_javas_producer() {
    let topic = kafka::fresh("murmur");
    partitioner_is_found(&topic, |keys| {
        let lines: String = keys.iter().map(|key| format!("{NULL}\t{key}\t\"from outside\"\n")).collect();
        kafka::console_produce(&kafka::bootstrap(), &topic, &lines);
    });
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn auto_finds_the_partitioner_of_librdkafkas_producer() {
    let topic = kafka::fresh("crc");
    partitioner_is_found(&topic, |keys| {
        let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "\"from outside\"")).collect();
        kafka::produce(&kafka::bootstrap(), &topic, &records);
    });
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_spread_by_no_rule_are_delivered_live_without_a_promise() {
    let topic = kafka::fresh("spread");
    kafka::create_topic(&kafka::bootstrap(), &topic, 4, 1, &[]);
    let producer = kafka::producer(&kafka::bootstrap(), &[]);
    let spread = |value: &str| {
        for partition in 0..4 {
            for key in 0..20 {
                let (key, partition) = (format!("key-{key}"), partition);
                producer
                    .send(BaseRecord::to(&topic).key(&key).payload(value).partition(partition))
                    .map_err(|(error, _)| error)
                    .expect("queued");
            }
        }
        producer.flush(PATIENCE).expect("Kafka has the records");
    };
    spread("\"before\"");
    let node = Node::start_ready(&config(&kafka::bootstrap(), &[&topic]));
    let mut client = Client::connect(node.port);
    assert!(!client.subscribe(&format!("/{topic}/key-1")).expect("the subscribe is granted").recoverable);
    spread("\"after\"");
    assert_eq!(client.next_values(4), vec![json!("after"); 4], "from all four partitions");
    client.assert_quiet();
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn the_loss_of_a_leader_loses_and_doubles_nothing() {
    let _alone = kafka::three_alone();
    let (bootstrap, topic) = (kafka::bootstrap_three(), kafka::fresh("replicated"));
    kafka::create_topic(&bootstrap, &topic, 1, 3, &[("min.insync.replicas", "2")]);
    let node = Node::start_ready(&config(&bootstrap, &[&topic]));
    let mut subscriber = Client::connect(node.port);
    let mut published_subscriber = Client::connect(node.port);
    let mut publisher = Client::connect(node.port);
    let (produced, published) = (format!("/{topic}/produced"), format!("/{topic}/published"));
    assert!(subscriber.subscribe(&produced).expect("the subscribe is granted").recoverable);
    published_subscriber.subscribe(&published).expect("the subscribe is granted");

    let stop = AtomicBool::new(false);
    let leader = kafka::leader(&bootstrap, &topic).to_string();
    let (sent, mut open) = std::thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let producer = kafka::producer(&bootstrap, &[("message.timeout.ms", "60000")]);
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let value = json!({ "n": n }).to_string();
                producer.send(BaseRecord::to(&topic).key("produced").payload(&value)).map_err(|(error, _)| error).expect("queued");
                std::thread::sleep(Duration::from_millis(2));
            }
            producer.flush(Duration::from_secs(60)).expect("Kafka has the records");
            n
        });
        let publishing = scope.spawn(|| {
            let mut open = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let n = open.len() + 1;
                open.push((n, publisher.send_publish(&published, &n.to_string())));
                std::thread::sleep(Duration::from_millis(100));
            }
            open
        });
        // A second of calm, the loss, and records until its effects are over.
        subscriber.next_values(300);
        kafka::broker_action(&kafka::folder_three(), "kill", &leader);
        let killed = Instant::now();
        eventually("another broker leads", || (kafka::leader(&bootstrap, &topic).to_string() != leader).then_some(()));
        subscriber.next_values(300);
        eprintln!("another broker leads after {:?}", killed.elapsed());
        stop.store(true, Ordering::Relaxed);
        (producing.join().expect("the producer has sent all"), publishing.join().expect("the publisher has sent all"))
    });
    kafka::broker_action(&kafka::folder_three(), "start", &leader);

    assert_eq!(subscriber.next_values(sent as usize - 600), numbers(601..=sent));
    subscriber.assert_quiet();
    // Every publish has exactly one answer; what was acknowledged is there once, what was refused at most once.
    let answers: HashMap<usize, bool> = open.drain(..).map(|(n, id)| (n, publisher.reply(id).is_ok())).collect();
    let acknowledged = answers.values().filter(|acknowledged| **acknowledged).count();
    eprintln!("{acknowledged} of {} publishes acknowledged", answers.len());
    assert!(acknowledged > 0);
    // Behind everything that was published before.
    eventually("the last publish is acknowledged", || publisher.publish(&published, "0").ok());
    let numbers = std::iter::from_fn(|| Some(published_subscriber.next_publication().data.as_u64().expect("a number") as usize));
    let seen: Vec<usize> = numbers.take_while(|number| *number > 0).collect();
    let unique: HashSet<usize> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "nothing is doubled: {seen:?}");
    assert!(seen.is_sorted(), "nothing is out of order: {seen:?}");
    for (n, acknowledged) in answers {
        assert!(!acknowledged || unique.contains(&n), "publish {n} was acknowledged and is not there");
    }
}

fn config_sasl(topic: &str, mechanism: &str, password: &str) -> String {
    config_of_user(topic, mechanism, "alice", password)
}

/// For a user who has only the rights that a test grants.
fn config_limited(topic: &str) -> String {
    config_of_user(topic, "SCRAM-SHA-512", "bob", "bob-secret")
}

fn config_of_user(topic: &str, mechanism: &str, user: &str, password: &str) -> String {
    let (bootstrap, _, certificate) = kafka::sasl();
    let keys = format!(
        "\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanisms\" = \"{mechanism}\"\n\"sasl.username\" = \"{user}\"\n\"sasl.password\" = \"{password}\"\n\"ssl.ca.location\" = \"{certificate}\"\n"
    );
    config(&bootstrap, &[topic]).replace("\"bootstrap.servers\"", &format!("{keys}\"bootstrap.servers\""))
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn sasl_and_tls_with_the_right_password_work() {
    let (_, plain, _) = kafka::sasl();
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let topic = kafka::fresh("secured");
        kafka::create_topic(&plain, &topic, 2, 1, &[]);
        let node = Node::start_ready(&config_sasl(&topic, mechanism, "alice-secret"));
        let mut client = Client::connect(node.port);
        client.subscribe(&format!("/{topic}/1")).expect("the subscribe is granted");
        client.publish(&format!("/{topic}/1"), "\"over TLS\"").expect("the publish is acknowledged");
        assert_eq!(client.next_publication().data, json!("over TLS"), "{mechanism}");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_wrong_password_is_said_and_the_node_listens_unready() {
    let mut node = Node::start(&config_sasl("secured", "SCRAM-SHA-512", "wrong"));
    let said = |text: &str| text.to_lowercase().contains("authentication");
    let (_, why) = eventually("/ready says why", || node.readiness().filter(|(status, why)| *status == 503 && said(why)));
    assert_eq!(why.trim().lines().count(), 1, "one line says why: {why}");
    eventually("the log says why", || said(&node.log()).then_some(()));
    assert!(node.exited().is_none(), "the node goes on trying:\n{}", node.log());
    assert!(!node.log().contains("wrong\""), "the log names no password");
    Client::connect(node.port);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishing_without_the_right_is_error_103_until_it_is_granted() {
    let (_, plain, _) = kafka::sasl();
    let [readable, hidden] = ["readable", "hidden"].map(kafka::fresh);
    for topic in [&readable, &hidden] {
        kafka::create_topic(&plain, topic, 2, 1, &[]);
    }
    // Nothing on a consumer group, nothing to write with: not even a producer's id.
    kafka::grant("Read", &readable);
    let node = Node::start_ready(&config_limited(&readable));
    let mut client = Client::connect(node.port);
    client.subscribe(&format!("/{readable}/k")).expect("the subscribe is granted");
    let nowhere = kafka::fresh("nowhere");
    for topic in [&readable, &hidden, &nowhere, &readable] {
        let begin = Instant::now();
        let refusal = client.publish(&format!("/{topic}/k"), "1").expect_err("there is no right to write");
        assert_eq!((refusal.code, refusal.temporary), (103, false), "{topic}: {refusal:?}\n{}", node.log());
        assert!(begin.elapsed() < Duration::from_secs(5), "before the SDKs give up");
    }
    kafka::grant("Write", &hidden);
    eventually("what is granted works", || client.publish(&format!("/{hidden}/k"), "1").ok());
    let refusal = client.publish(&format!("/{readable}/k"), "1").expect_err("there is no right to write here");
    assert_eq!(refusal.code, 103, "{refusal:?}");
    kafka::grant("Write", &readable);
    eventually("what is granted works", || client.publish(&format!("/{readable}/k"), "2").ok());
    assert_eq!(client.next_publication().data, json!(2), "reading needs no right on a group");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_that_may_not_be_read_is_said_by_name_and_read_once_it_may_be() {
    let (_, plain, _) = kafka::sasl();
    let [described, readable] = ["described", "described-readable"].map(kafka::fresh);
    for topic in [&described, &readable] {
        kafka::create_topic(&plain, topic, 1, 1, &[]);
        kafka::grant("Describe", topic);
    }
    kafka::grant("Read", &readable);
    let mut node = Node::start(&config_limited(&described));
    let named = |text: &str| text.contains(&described) && text.contains("Read");
    eventually("/ready says which right is missing", || node.readiness().filter(|(status, why)| *status == 503 && named(why)));
    eventually("the log says it", || named(&node.log()).then_some(()));
    // Under an expression it does not keep the others from being served.
    let regex = config_limited("x").replace("topics = [\"x\"]", "\"topics.regex\" = \"described.*\"");
    let other = Node::start_ready(&regex);
    let mut client = Client::connect(other.port);
    client.subscribe(&format!("/{readable}/k")).expect("the subscribe is granted");
    let refusal = client.subscribe(&format!("/{described}/k")).expect_err("it may not be read");
    assert_eq!((refusal.code, refusal.temporary), (100, true), "{refusal:?}");
    eventually("the log says it", || named(&other.log()).then_some(()));
    kafka::grant("Read", &described);
    node.await_ready();
    eventually("it is served", || client.subscribe(&format!("/{described}/k")).ok());
    kafka::produce(&plain, &described, &[("k", "1")]);
    assert_eq!(client.next_publication().data, json!(1));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_first_seen_empty_follows_the_rule_of_its_first_producers() {
    let topic = kafka::fresh("unwritten");
    let (node, mut client) = node_on(&topic, 6);
    let keys: Vec<String> = (0..60).map(|n| format!("key-{n}")).collect();
    for key in &keys {
        assert!(client.subscribe(&format!("/{topic}/{key}")).expect("the subscribe is granted").recoverable);
    }
    // librdkafka's rule, not Java's, which an empty topic is taken for.
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    kafka::produce(&kafka::bootstrap(), &topic, &records);
    let moves = |key: &&String| Partitioner::Murmur2.partition(key.as_bytes(), 6) != Partitioner::Crc32.partition(key.as_bytes(), 6);
    let moved: HashSet<String> = keys.iter().filter(moves).map(|key| format!("/{topic}/{key}")).collect();
    let (mut live, mut told): (HashSet<String>, HashSet<String>) = Default::default();
    while told.len() < moved.len() || live.union(&told).count() < keys.len() {
        match client.next_push(PATIENCE) {
            Some(Push::Publication { channel, .. }) => assert!(live.insert(channel), "delivered once"),
            Some(Push::Unsubscribe { channel, code: 2500 }) => assert!(moved.contains(&channel) && told.insert(channel), "told once"),
            other => panic!("{} records and {} words, then {other:?}; log:\n{}", live.len(), told.len(), node.log()),
        }
    }
    for channel in &moved {
        eventually("it has a home again", || match client.subscribe(channel) {
            Ok(subscribed) if subscribed.recoverable => Some(()),
            _ => {
                let _ = client.request("unsubscribe", json!({ "channel": channel }));
                None
            }
        });
    }
    let subjects: Vec<String> = keys.iter().map(|key| format!("/{topic}/{key}")).collect();
    for push in client.pushes_until_now(&subjects) {
        assert!(
            matches!(&push, Push::Unsubscribe { channel, code: 2500 } if moved.contains(channel)),
            "of those who asked too early: {push:?}"
        );
    }
    kafka::produce(&kafka::bootstrap(), &topic, &records);
    for _ in &keys {
        assert!(client.next_publication().offset > 0, "every record is at home now");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_that_cannot_be_are_refused_each_with_its_code() {
    let topic = kafka::fresh("limits");
    let (_node, mut client) = node_on(&topic, 1);
    let nowhere = kafka::fresh("nowhere");
    let subject = format!("/{topic}/1");
    let begin = Instant::now();
    let refusal = client.publish(&format!("/{nowhere}/1"), "1").expect_err("the topic does not exist");
    assert_eq!((refusal.code, refusal.temporary), (102, false), "{refusal:?}");
    assert!(refusal.message.contains(&nowhere), "the message names the topic: {}", refusal.message);
    assert!(begin.elapsed() < Duration::from_secs(5), "before the SDKs give up");
    let largest = format!("\"{}\"", "x".repeat(1_000_000 - 2));
    client.publish(&subject, &largest).expect("publish.bytes.max itself is allowed");
    let refusal = client.publish(&subject, &format!("\"{}\"", "x".repeat(1_000_000 - 1))).expect_err("one byte too many");
    assert_eq!(refusal.code, 106, "{refusal:?}");
    assert!(refusal.message.contains("1000000"), "the message names the limit: {}", refusal.message);
    assert_eq!(client.publish(&format!("/{topic}//1"), "1").expect_err("an empty segment").code, 107);
    client.publish(&subject, "1").expect("the connection is none the worse");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_record_that_the_topic_refuses_as_too_large_is_error_106() {
    let topic = kafka::fresh("small");
    kafka::create_topic(&kafka::bootstrap(), &topic, 1, 1, &[("max.message.bytes", "2000")]);
    let node = Node::start_ready(&config(&kafka::bootstrap(), &[&topic]));
    let mut client = Client::connect(node.port);
    let refusal = client.publish(&format!("/{topic}/1"), &format!("\"{}\"", "x".repeat(5000))).expect_err("over the topic's limit");
    assert_eq!(refusal.code, 106, "{refusal:?}");
    client.publish(&format!("/{topic}/1"), "1").expect("a smaller one passes");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_node_without_kafka_listens_and_becomes_ready_when_kafka_comes() {
    let cluster = kafka::Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "vehicles", 2, 1, &[]);
    cluster.kill("1");
    let mut node = Node::start(&config(&cluster.bootstrap, &["vehicles"]));
    let (_, why) = eventually("/ready says no", || node.readiness().filter(|(status, _)| *status == 503));
    assert!(why.contains("Kafka"), "the reason is Kafka: {why}");
    let mut client = Client::connect(node.port);
    let refusal = client.subscribe("/vehicles/1").expect_err("nothing is known yet");
    assert_eq!((refusal.code, refusal.temporary), (100, true), "{refusal:?}");
    cluster.start_again("1");
    node.await_ready();
    client.subscribe("/vehicles/1").expect("the subscribe is granted");
    client.publish("/vehicles/1", "1").expect("the publish is acknowledged");
    assert_eq!(client.next_publication().data, json!(1));

    // And when it goes away later: publishes are answered in time, and all goes on when it is back.
    cluster.kill("1");
    let begin = Instant::now();
    let refusal = client.publish("/vehicles/1", "2").expect_err("Kafka is down");
    assert!(matches!(refusal.code, 400 | 401), "{refusal:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "before the SDKs give up");
    let (_, why) = eventually("the node is not ready for long", || node.readiness().filter(|(status, _)| *status == 503));
    assert!(why.contains("Kafka"), "the reason is Kafka: {why}");
    cluster.start_again("1");
    node.await_ready();
    eventually("publishing works again", || client.publish("/vehicles/1", "3").ok());
    eventually("records arrive again", || (client.next_publication().data == json!(3)).then_some(()));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_across_a_broker_that_stands_still_are_stored_once_in_order_and_answered_in_time() {
    const SUBJECTS: usize = 4;
    let cluster = kafka::Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "orders", 2, 1, &[]);
    let node = Node::start_ready(&config(&cluster.bootstrap, &["orders"]));
    let mut client = Client::connect(node.port);
    let mut sent: Vec<(u64, Instant)> = Vec::new();
    let mut publish_for = |client: &mut Client, time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let number = sent.len();
            let id = client.send_publish(&format!("/orders/k{}", number % SUBJECTS), &number.to_string());
            sent.push((id, Instant::now()));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let pauses = if std::env::var_os("CORESPAN_TEST_LONG").is_some() { 40 } else { 2 };
    publish_for(&mut client, Duration::from_secs(1));
    for pause in 0..pauses {
        cluster.signal("1", Signal::SIGSTOP);
        // Longer than clients wait, and than librdkafka's time-out of a request (10 s), in turn.
        publish_for(&mut client, Duration::from_secs([6, 12, 9][pause % 3]));
        cluster.signal("1", Signal::SIGCONT);
        publish_for(&mut client, Duration::from_secs(4));
    }
    let acknowledged = eventually("publishing works again", || client.publish("/orders/k0", "-1").ok());
    assert!(acknowledged.is_object());

    let mut answers: HashMap<usize, Option<u64>> = HashMap::new();
    for (number, (id, at)) in sent.iter().enumerate() {
        answers.insert(number, client.reply(*id).err().map(|refusal| refusal.code));
        let took = client.answered(*id) - *at;
        assert!(took < Duration::from_secs(5), "publish {number} was answered after {took:?}, when its client had given up");
    }
    let records = kafka::read_all(&cluster.bootstrap, "orders", 2);
    let mut stored: HashMap<usize, usize> = HashMap::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (_, key, value) in &records {
        let Ok(number) = value.parse::<usize>() else { continue };
        *stored.entry(number).or_default() += 1;
        if answers[&number].is_none() {
            let before = last.insert(key, number);
            assert!(before.is_none_or(|before| before < number), "{key}: {number} behind {before:?}");
        }
    }
    let count = |code: Option<u64>| answers.values().filter(|answer| **answer == code).count();
    eprintln!("{} publishes: {} acknowledged, {} unknown, {} refused", sent.len(), count(None), count(Some(401)), count(Some(100)));
    for (number, answer) in &answers {
        let times = stored.get(number).copied().unwrap_or(0);
        match answer {
            None => assert_eq!(times, 1, "publish {number} was acknowledged"),
            Some(401) => assert!(times <= 1, "publish {number} is stored {times} times"),
            Some(code) => assert_eq!((times, *code), (0, 100), "publish {number} was refused"),
        }
    }
    assert!(count(None) > 100 && count(Some(401)) > 0);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_broker_that_stands_still_twice_leaves_nobody_stuck() {
    let cluster = kafka::Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "twice", 4, 1, &[]);
    let mut node = Node::start_ready(&config(&cluster.bootstrap, &["twice"]));
    let mut client = Client::connect(node.port);
    let subjects: Vec<String> = (0..12).map(|number| format!("/twice/k{number}")).collect();
    for subject in &subjects {
        client.subscribe(subject).expect("the subscribe is granted");
    }
    let series = if std::env::var_os("CORESPAN_TEST_LONG").is_some() { 10 } else { 1 };
    for round in 0..series {
        for seconds in [7, 6] {
            cluster.signal("1", Signal::SIGSTOP);
            std::thread::sleep(Duration::from_secs(seconds));
            cluster.signal("1", Signal::SIGCONT);
            std::thread::sleep(Duration::from_millis(300));
        }
        let value = round.to_string();
        eventually("a fresh client is served", || kafka::try_produce(&cluster.bootstrap, "twice", "fresh", "0").then_some(()));
        let served = Instant::now();
        for subject in &subjects {
            eventually("publishes are acknowledged", || client.publish(subject, &value).ok());
        }
        let mut missing: HashSet<&str> = subjects.iter().map(String::as_str).collect();
        while !missing.is_empty() {
            match client.next_push(PATIENCE) {
                Some(Push::Publication { channel, publication }) if publication.data == json!(round) => {
                    missing.remove(channel.as_str());
                }
                Some(Push::Publication { .. }) => {}
                other => panic!("{} of 12 are missing, then {other:?}; log:\n{}", missing.len(), node.log()),
            }
        }
        node.await_ready();
        eprintln!("all is well {:?} after a fresh client was served", served.elapsed());
        assert!(served.elapsed() < Duration::from_secs(20), "10 s, and as many for a busy machine: {:?}", served.elapsed());
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn what_kafka_has_deleted_is_handed_out_no_more() {
    let topic = kafka::fresh("deleted");
    let (node, mut client) = node_on(&topic, 1);
    let subject = format!("/{topic}/k");
    let first = client.subscribe(&subject).expect("the subscribe is granted");
    for n in 0..5 {
        client.publish(&subject, &n.to_string()).expect("the publish is acknowledged");
    }
    client.next_values(5);
    kafka::delete_records(&kafka::bootstrap(), &topic, 3);
    let mut other = Client::connect(node.port);
    let history = |client: &mut Client| {
        let page = client.request("history", json!({ "channel": subject, "limit": -1 })).expect("a page");
        page["publications"].as_array().map_or(0, Vec::len)
    };
    eventually("the deleted ones are gone", || (history(&mut other) == 2).then_some(()));
    assert!(!other.recover(&subject, &first.epoch, 1).expect("the subscribe is granted").recovered);
    kafka::delete_records(&kafka::bootstrap(), &topic, 5);
    let mut last = Client::connect(node.port);
    eventually("all are gone", || (history(&mut last) == 0).then_some(()));
    let snapshot = last.subscribe_with(&subject, json!({ "data": { "snapshot": true } })).expect("the subscribe is granted");
    assert_eq!((values(&snapshot), snapshot.offset), (Vec::new(), 5));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_listed_topic_that_does_not_exist_ends_the_node_with_its_name() {
    let topic = kafka::fresh("nowhere");
    let mut node = Node::start(&config(&kafka::bootstrap(), &[&topic]));
    let status = node.await_exit();
    assert!(!status.success());
    assert!(node.log().contains(&topic), "the message names the topic:\n{}", node.log());
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn recovery_on_start_remembers_what_came_before_the_node() {
    let topic = kafka::fresh("remembered");
    kafka::create_topic(&kafka::bootstrap(), &topic, 2, 1, &[]);
    let records: Vec<String> = (1..=10).map(|n| json!({ "n": n }).to_string()).collect();
    kafka::produce(&kafka::bootstrap(), &topic, &records.iter().map(|value| ("k", value.as_str())).collect::<Vec<_>>());
    let node = Node::start_ready(&config_from_start(&kafka::bootstrap(), &[&topic]));
    let subject = format!("/{topic}/k");
    let mut client = Client::connect(node.port);
    let subscribed = client.subscribe_with(&subject, json!({ "data": { "history": 10 } })).expect("the subscribe is granted");
    assert_eq!(values(&subscribed), numbers(1..=10));
    let fourth = subscribed.publications[3].offset;
    let mut recovering = Client::connect(node.port);
    let recovered = recovering.recover(&subject, &subscribed.epoch, fourth).expect("the subscribe is granted");
    assert!(recovered.was_recovering && recovered.recovered);
    let mut seen = values(&recovered);
    while seen.len() < 6 {
        seen.push(recovering.next_publication().data);
    }
    assert_eq!(seen, numbers(5..=10));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_position_taken_on_one_node_is_recovered_on_another() {
    let topic = kafka::fresh("roaming");
    let (node, mut client) = node_on(&topic, 2);
    let other = Node::start_ready(&config(&kafka::bootstrap(), &[&topic]));
    let subject = format!("/{topic}/k");
    let subscribed = client.subscribe(&subject).expect("the subscribe is granted");
    // A Kafka that has just begun is slow: its first record is none of these.
    eventually("Kafka stores", || client.publish(&format!("/{topic}/first"), "0").ok());
    for n in 1..=5 {
        client.publish(&subject, &json!({ "n": n }).to_string()).expect("the publish is acknowledged");
    }
    let offsets: Vec<u64> = (0..5).map(|_| client.next_publication().offset).collect();
    drop(node);
    let mut moved = Client::connect(other.port);
    let recovered = moved.recover(&subject, &subscribed.epoch, offsets[1]).expect("the subscribe is granted");
    assert!(recovered.recovered);
    let mut seen = values(&recovered);
    while seen.len() < 3 {
        seen.push(moved.next_publication().data);
    }
    assert_eq!(seen, numbers(3..=5));
    let beyond = Client::connect(other.port).recover(&subject, &subscribed.epoch, 1_000_000).expect("the subscribe is granted");
    assert!(!beyond.recovered, "a position beyond the end of the log");
    assert_eq!(values(&beyond), numbers(5..=5), "the newest record in its place");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn aborted_records_are_not_delivered_and_an_open_transaction_delays_nobody() {
    let topic = kafka::fresh("transactions");
    kafka::create_topic(&kafka::bootstrap(), &topic, 1, 1, &[]);
    let producer = kafka::producer(&kafka::bootstrap(), &[("transactional.id", &topic)]);
    producer.init_transactions(PATIENCE).expect("transactions");
    let send = |value: &str| {
        producer.send(BaseRecord::to(&topic).key("k").payload(value)).map_err(|(error, _)| error).expect("queued");
        producer.flush(PATIENCE).expect("Kafka has the record");
    };
    producer.begin_transaction().expect("a transaction");
    send("\"aborted\"");
    producer.abort_transaction(PATIENCE).expect("the abort");
    producer.begin_transaction().expect("a transaction");
    send("\"committed\"");
    producer.commit_transaction(PATIENCE).expect("the commit");
    producer.begin_transaction().expect("a transaction");
    send("\"open\"");

    let node = Node::start_ready(&config_from_start(&kafka::bootstrap(), &[&topic]));
    let mut client = Client::connect(node.port);
    let subject = format!("/{topic}/k");
    let subscribed = client.subscribe_with(&subject, json!({ "data": { "history": 10 } })).expect("the subscribe is granted");
    assert_eq!(values(&subscribed), [json!("committed")]);
    client.assert_quiet();
    producer.commit_transaction(PATIENCE).expect("the commit");
    assert_eq!(client.next_publication().data, json!("open"));
    producer.begin_transaction().expect("a transaction");
    send("\"aborted too\"");
    producer.abort_transaction(PATIENCE).expect("the abort");
    producer.begin_transaction().expect("a transaction");
    send("\"last\"");
    producer.commit_transaction(PATIENCE).expect("the commit");
    let last = client.next_publication();
    assert_eq!(last.data, json!("last"));
    assert!(last.offset > subscribed.offset + 3, "offsets of markers and aborted records are left out");
    let mut recovering = Client::connect(node.port);
    let recovered = recovering.recover(&subject, &subscribed.epoch, last.offset).expect("the subscribe is granted");
    assert!(recovered.recovered, "a gap in the offsets is not a loss");
    assert_eq!(values(&recovered), [] as [Value; 0]);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_that_appears_under_the_regex_is_served_from_its_first_record() {
    let prefix = kafka::fresh("fleet");
    kafka::create_topic(&kafka::bootstrap(), &format!("{prefix}-a"), 2, 1, &[]);
    let regex = config(&kafka::bootstrap(), &["x"]).replace("topics = [\"x\"]", &format!("\"topics.regex\" = \"{prefix}-.*\""));
    let node = Node::start_ready(&regex);
    let mut client = Client::connect(node.port);
    client.subscribe(&format!("/{prefix}-a/k")).expect("the subscribe is granted");
    assert_eq!(client.subscribe(&format!("/other-{prefix}-a/k")).expect_err("the expression is anchored").code, 102);
    let later = format!("{prefix}-later");
    let refusal = client.subscribe(&format!("/{later}/k")).expect_err("not there yet");
    assert_eq!((refusal.code, refusal.temporary), (100, true), "{refusal:?}");
    kafka::create_topic(&kafka::bootstrap(), &later, 2, 1, &[]);
    // By Java's rule: the node may see the topic before its first record, and then takes it for one of Java's.
    let writer = kafka::producer(&kafka::bootstrap(), &[("partitioner", "murmur2_random")]);
    for value in ["1", "2", "3"] {
        writer.send(BaseRecord::to(&later).key("k").payload(value)).map_err(|(error, _)| error).expect("the record is queued");
    }
    writer.flush(PATIENCE).expect("Kafka has the records");
    let subscribed =
        eventually("the new topic is served", || client.subscribe_with(&format!("/{later}/k"), json!({ "data": { "history": 10 } })).ok());
    let mut seen = values(&subscribed);
    while seen.len() < 3 {
        seen.push(client.next_publication().data);
    }
    assert_eq!(seen, [json!(1), json!(2), json!(3)]);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_made_again_is_another_log_and_its_subscribers_are_told() {
    let topic = kafka::fresh("again");
    let (_node, mut client) = node_on(&topic, 1);
    let subject = format!("/{topic}/k");
    let first = client.subscribe(&subject).expect("the subscribe is granted");
    for n in 1..=3 {
        client.publish(&subject, &n.to_string()).expect("the publish is acknowledged");
    }
    client.next_values(3);
    kafka::delete_topic(&kafka::bootstrap(), &topic);
    kafka::create_topic(&kafka::bootstrap(), &topic, 1, 1, &[]);
    kafka::produce(&kafka::bootstrap(), &topic, &[("k", "\"of the new log\"")]);
    match client.next_push(Duration::from_secs(60)) {
        Some(Push::Unsubscribe { channel, code }) => assert_eq!((channel, code), (subject.clone(), 2500)),
        other => panic!("unsubscribe 2500 was expected, not {other:?}"),
    }
    let mut resumed = eventually("the new log is served", || client.recover(&subject, &first.epoch, 3).ok());
    assert!(!resumed.recovered, "positions of the old log are worth nothing");
    assert_ne!(resumed.epoch, first.epoch);
    if resumed.publications.is_empty() {
        resumed.publications.push(client.next_publication());
    }
    assert_eq!(values(&resumed), [json!("of the new log")]);
    assert_eq!(resumed.publications[0].offset, 1);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn keys_that_move_when_a_topic_grows_are_followed() {
    let topic = kafka::fresh("growing");
    let (_node, mut client) = node_on(&topic, 1);
    let subjects: Vec<String> = (0..40).map(|n| format!("/{topic}/k{n}")).collect();
    let mut positions = HashMap::new();
    for subject in &subjects {
        let subscribed = client.subscribe(subject).expect("the subscribe is granted");
        client.publish(subject, "1").expect("the publish is acknowledged");
        positions.insert(subject.clone(), (subscribed.epoch, client.next_publication().offset));
    }
    kafka::grow_topic(&kafka::bootstrap(), &topic, 4);
    let mut moved = HashSet::new();
    let first = client.next_push(PATIENCE).expect("the growth is noticed");
    for push in std::iter::once(first).chain(client.pushes_until_now(&subjects)) {
        match push {
            Push::Unsubscribe { channel, code: 2500 } => assert!(moved.insert(channel), "told once"),
            other => panic!("only moved keys are touched: {other:?}"),
        }
    }
    assert!(moved.len() > 10 && moved.len() < 40, "{} of 40 keys have moved from one partition to four", moved.len());
    for subject in &moved {
        let (epoch, offset) = &positions[subject];
        eventually("the moved subject is served", || client.recover(subject, epoch, *offset).ok());
    }
    for subject in &subjects {
        client.publish(subject, "2").expect("the publish is acknowledged");
    }
    let mut seen: HashSet<String> = HashSet::new();
    while seen.len() < subjects.len() {
        match client.next_push(PATIENCE) {
            Some(Push::Publication { channel, publication }) if publication.data == json!(2) => {
                assert!(seen.insert(channel), "delivered once")
            }
            // A moved subject may be given its newest record again when it cannot be recovered.
            Some(Push::Publication { channel, publication }) => assert!(publication.data == json!(1) && moved.contains(&channel)),
            other => panic!("{} of 40 records, then {other:?}", seen.len()),
        }
    }
    let places: HashSet<u32> = kafka::console_consume(&kafka::bootstrap(), &topic, 80).iter().map(|record| record.partition).collect();
    assert!(places.len() > 1, "new records go to the new partitions");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn null_key_partition_keeps_records_without_a_key_in_order_and_recoverable() {
    let topic = kafka::fresh("ordered");
    kafka::create_topic(&kafka::bootstrap(), &topic, 4, 1, &[]);
    let settings = config(&kafka::bootstrap(), &[&topic]) + "\"null.key.partition\" = 0\n";
    let node = Node::start_ready(&settings);
    let mut client = Client::connect(node.port);
    let subject = format!("/{topic}");
    let subscribed = client.subscribe(&subject).expect("the subscribe is granted");
    assert!(subscribed.recoverable);
    for n in 1..=20 {
        client.publish(&subject, &json!({ "n": n }).to_string()).expect("the publish is acknowledged");
    }
    let list: Vec<_> = (0..20).map(|_| client.next_publication()).collect();
    assert_eq!(list.iter().map(|publication| publication.data.clone()).collect::<Vec<_>>(), numbers(1..=20));
    let mut recovering = Client::connect(node.port);
    let recovered = recovering.recover(&subject, &subscribed.epoch, list[14].offset).expect("the subscribe is granted");
    assert!(recovered.recovered);
    let mut seen = values(&recovered);
    while seen.len() < 5 {
        seen.push(recovering.next_publication().data);
    }
    assert_eq!(seen, numbers(16..=20));
    assert!(kafka::console_consume(&kafka::bootstrap(), &topic, 20).iter().all(|record| record.partition == 0));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_during_a_drain_are_served_until_the_connection_is_sent_away() {
    let topic = kafka::fresh("draining");
    let (mut node, client) = node_on(&topic, 2);
    let mut clients: Vec<Client> = std::iter::once(client).chain((0..19).map(|_| Client::connect(node.port))).collect();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(node.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the signal is sent");
    eventually("the drain begins", || node.log().contains("SIGTERM received").then_some(()));
    let (mut acknowledged, mut ended) = (0, 0);
    while ended < clients.len() {
        ended = 0;
        for client in &mut clients {
            // An end comes without an answer, and then nothing was written; an answer is never "try again".
            match client.try_publish(&format!("/{topic}/k"), "1") {
                Some(answer) => {
                    answer.expect("a publish that was read is served");
                    acknowledged += 1;
                }
                None => ended += 1,
            }
        }
    }
    assert!(acknowledged > 0, "the last of twenty connections has most of a second");
    assert!(node.await_exit().success(), "{}", node.log());
    kafka::console_consume(&kafka::bootstrap(), &topic, acknowledged);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_stopped_node_answers_every_publish_and_exits_with_0() {
    let topic = kafka::fresh("stopping");
    let (mut node, mut client) = node_on(&topic, 2);
    let subject = format!("/{topic}/k");
    let first = client.send_publish(&subject, "0");
    let ids: Vec<u64> = (1..=200).map(|n| client.send_publish(&subject, &n.to_string())).collect();
    client.reply(first).expect("the first publish is acknowledged");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(node.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("the signal is sent");
    // What the node had not read when it was stopped was never accepted: those have no answer.
    let acknowledged = 1 + ids.into_iter().filter(|id| matches!(client.reply_or_end(*id), Some(Ok(_)))).count();
    assert_eq!(client.next_push(PATIENCE), Some(Push::Disconnect { code: 3001 }));
    assert!(node.await_exit().success(), "{}", node.log());
    let records = kafka::console_consume(&kafka::bootstrap(), &topic, acknowledged);
    assert_eq!(records.iter().map(|record| &record.value).collect::<HashSet<_>>().len(), acknowledged, "each once");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_reload_takes_up_other_topics_and_other_settings_of_topics_without_disconnecting_anybody() {
    let (stays, goes, comes) = (kafka::fresh("stays"), kafka::fresh("goes"), kafka::fresh("comes"));
    for topic in [&stays, &goes, &comes] {
        kafka::create_topic(&kafka::bootstrap(), topic, 4, 1, &[]);
    }
    let key = |topic: &str| format!("/{topic}/k");
    kafka::produce(&kafka::bootstrap(), &comes, &[("k", "1")]);
    let node = Node::start_ready(&config(&kafka::bootstrap(), &[&stays, &goes]));
    let mut client = Client::connect(node.port);
    let before = client.subscribe(&key(&stays)).expect("the subscribe is granted");
    client.subscribe(&key(&goes)).expect("the subscribe is granted");
    assert_eq!(client.subscribe(&key(&comes)).expect_err("nobody serves it").code, 102);
    kafka::produce(&kafka::bootstrap(), &stays, &[("k", "1")]);
    assert_eq!(client.next_publication().data, json!(1));

    node.rewrite(|text| {
        let listed = text.replace(&goes, &comes);
        format!("{listed}\n[topic.\"{stays}\"]\nvalue = \"text\"\npartitioner = \"crc32\"\nsnapshot = \"latest\"\n")
    });
    let told =
        support::finish(std::process::Command::new(env!("CARGO_BIN_EXE_corespan")).arg("reload").arg("--config").arg(node.config_file()));
    let told = String::from_utf8(told.stdout).expect("it writes text");
    assert!(told.contains("kafka.consumer.topics = ") && !told.contains("restart"), "{told}");

    // Another rule puts this key elsewhere, or not; what is not served any more says so.
    let mut ended = HashSet::new();
    while !ended.contains(&key(&goes)) {
        match client.next_push(PATIENCE).expect("the topic's subscribers are told") {
            Push::Unsubscribe { channel, code: 2500 } => ended.insert(channel),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(client.subscribe(&key(&goes)).expect_err("nobody serves it any more").code, 102);
    let granted = eventually("the topic is served", || client.subscribe(&key(&comes)).ok());
    assert_eq!((values(&granted), granted.recoverable), (Vec::new(), true), "what was there before is not read");
    kafka::produce(&kafka::bootstrap(), &comes, &[("k", "2")]);
    let next = loop {
        match client.next_push(PATIENCE).expect("the new topic is read") {
            Push::Publication { channel, publication } if channel == key(&comes) => break publication,
            Push::Unsubscribe { channel, code: 2500 } => ended.insert(channel),
            other => panic!("{other:?}"),
        };
    };
    assert_eq!(next.data, json!(2));

    let mut other = Client::connect(node.port);
    let fresh = other.subscribe(&key(&stays)).expect("the subscribe is granted");
    let moved = Partitioner::Murmur2.partition(b"k", 4) != Partitioner::Crc32.partition(b"k", 4);
    assert_eq!(ended.contains(&key(&stays)), moved, "a key that finds another home is announced");
    assert_eq!(fresh.epoch == before.epoch, !moved, "{} and {}", fresh.epoch, before.epoch);
    other.publish(&key(&stays), "\"hello\"").expect("the publish is acknowledged");
    assert_eq!(other.next_publication().data, json!("hello"), "text: the unquoted string was written, and comes as one");
    let record = kafka::read_all(&kafka::bootstrap(), &stays, 4).pop().expect("it is written");
    assert!(
        kafka::read_all(&kafka::bootstrap(), &stays, 4)
            .iter()
            .any(|(partition, _, value)| { value == "hello" && *partition == Partitioner::Crc32.partition(b"k", 4) as i32 }),
        "{record:?}"
    );
}
