//! What an Apache Kafka does by its own rules while nothing is broken: it forgets, closes, compresses, throttles, aborts and is made again.
//!
//! The tests are ignored by plain `cargo test`; `./dev test kafka` starts the clusters and runs them.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};
use support::client::{Client, Push, Subscribed};
use support::kafka::{self, Cluster, bootstrap, fresh};
use support::node::{Node, config, config_from_start};
use support::{PATIENCE, eventually};

/// SDKs wait 5 s for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The publications of a subscription so far: those of the reply.
fn values(subscribed: &Subscribed) -> Vec<Value> {
    subscribed.publications.iter().map(|publication| publication.data.clone()).collect()
}

fn with_history(client: &mut Client, subject: &str) -> Subscribed {
    client.subscribe_with(subject, json!({ "data": { "history": 1000 } })).expect("the subscribe is granted")
}

/// What a recovering client has: the reply, and pushes until there are `count`.
fn values_until(client: &mut Client, subscribed: &Subscribed, count: usize) -> Vec<Value> {
    let mut seen = values(subscribed);
    seen.extend(client.next_values(count - seen.len()));
    seen
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, record: BaseRecord<'_, str, str>) {
    producer.send(record).map_err(|(error, _)| error).expect("the record is queued");
}

/// A batch as it lies on the broker's disk.
#[derive(Debug)]
struct StoredBatch {
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    codec: u8,
    records: u32,
    producer_id: i64,
}

/// The batches of partition 0, from its first segment (format 2, <https://kafka.apache.org/documentation/#recordbatch>).
fn stored_batches(cluster: &Cluster, topic: &str) -> Vec<StoredBatch> {
    let segment = cluster.folder().join(format!("1/data/{topic}-0/00000000000000000000.log"));
    let bytes = std::fs::read(segment).expect("the log segment");
    let (mut batches, mut rest) = (Vec::new(), &bytes[..]);
    // Behind the header of a batch may be the zeros of a segment that was made longer than it is.
    while rest.len() > 61 && rest[16] == 2 {
        let length = u32::from_be_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        batches.push(StoredBatch {
            codec: rest[22] & 7,
            producer_id: i64::from_be_bytes(rest[43..51].try_into().expect("eight bytes")),
            records: u32::from_be_bytes(rest[57..61].try_into().expect("four bytes")),
        });
        rest = &rest[(12 + length).min(rest.len())..];
    }
    batches
}

/// Whether the broker remembers any producer of partition 0.
fn knows_a_producer(cluster: &Cluster, topic: &str) -> bool {
    let what =
        ["TransactionsCommand", "--bootstrap-server", &cluster.bootstrap, "describe-producers", "--topic", topic, "--partition", "0"];
    let printed = kafka::dev_kafka(&what, "", &[]);
    assert!(printed.contains("ProducerId"), "the head of the table: {printed}");
    printed.lines().filter(|line| !line.trim().is_empty()).count() > 1
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_of_a_producer_that_kafka_has_forgotten_are_stored_once_and_in_order() {
    const ROUNDS: usize = 3;
    const EACH: usize = 20;
    let cluster = Cluster::start_with(1, &[("producer.id.expiration.ms", "1000"), ("producer.id.expiration.check.interval.ms", "200")]);
    kafka::create_topic(&cluster.bootstrap, "forgetful", 1, 1, &[]);
    let node = Node::start_ready(&config(&cluster.bootstrap, &["forgetful"]));
    let mut client = Client::connect(node.port);
    client.subscribe("/forgetful/k").expect("the subscribe is granted");
    for round in 0..ROUNDS {
        // One alone, as after a night, and a burst.
        let begun = Instant::now();
        client.publish("/forgetful/k", &(round * EACH).to_string()).expect("the first publish is acknowledged");
        let first = begun.elapsed();
        let ids: Vec<u64> = (1..EACH).map(|number| client.send_publish("/forgetful/k", &(round * EACH + number).to_string())).collect();
        for id in ids {
            client.reply(id).expect("the publish is acknowledged");
        }
        eprintln!("round {round}: the first publish was acknowledged after {first:?}, all {EACH} after {:?}", begun.elapsed());
        assert!(begun.elapsed() < ANSWER_TIME);
        if round + 1 < ROUNDS {
            eventually("the broker forgets the producer", || (!knows_a_producer(&cluster, "forgetful")).then_some(()));
        }
    }
    let expected: Vec<Value> = (0..ROUNDS * EACH).map(Value::from).collect();
    assert_eq!(client.next_values(expected.len()), expected);
    client.assert_quiet();
    let stored: Vec<Value> =
        kafka::read_all(&cluster.bootstrap, "forgetful", 1).iter().map(|(_, _, value)| value.parse().expect("a number")).collect();
    assert_eq!(stored, expected);
    let ids: HashSet<i64> = stored_batches(&cluster, "forgetful").iter().map(|batch| batch.producer_id).collect();
    eprintln!("ids of the producer: {ids:?}");
    assert!(ids.iter().all(|id| *id >= 0), "there was an id to forget: {ids:?}");
}

/// The local ports of a process's TCP connections to a port of this machine.
fn connections(pid: u32, port: u16) -> HashSet<u16> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there");
    let sockets: HashSet<String> = descriptors
        .filter_map(|entry| {
            std::fs::read_link(entry.ok()?.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the table of connections");
    let port_of = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let ours = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Established is 1; the tenth field is the socket's number.
        let is_open = *fields.get(3)? == "01" && port_of(fields[2])? == port && sockets.contains(*fields.get(9)?);
        if is_open { port_of(fields[1]) } else { None }
    };
    table.lines().skip(1).filter_map(ours).collect()
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn the_first_publish_after_kafka_has_closed_idle_connections_is_acknowledged_soon() {
    const IDLE: Duration = Duration::from_secs(2);
    let cluster = Cluster::start_with(1, &[("connections.max.idle.ms", &IDLE.as_millis().to_string())]);
    let port: u16 = cluster.bootstrap.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    kafka::create_topic(&cluster.bootstrap, "idle", 1, 1, &[]);
    let mut node = Node::start_ready(&config(&cluster.bootstrap, &["idle"]));
    let (mut subscriber, mut client) = (Client::connect(node.port), Client::connect(node.port));
    subscriber.subscribe("/idle/k").expect("the subscribe is granted");
    for round in 0..3 {
        let begun = Instant::now();
        client.publish("/idle/k", &round.to_string()).expect("the publish is acknowledged");
        let took = begun.elapsed();
        assert_eq!(subscriber.next_publication().data, json!(round));
        let delivered = begun.elapsed();
        // The client that looks up names is idle too.
        let begun = Instant::now();
        let refusal = client.publish(&format!("/nowhere-{round}/k"), "1").expect_err("there is no such topic");
        assert_eq!(refusal.code, 102, "{refusal:?}");
        let refused = begun.elapsed();
        eprintln!("round {round}: acknowledged after {took:?}, delivered after {delivered:?}, an unknown topic refused after {refused:?}");
        assert!(took.max(delivered).max(refused) < Duration::from_secs(4), "{took:?}, {delivered:?}, {refused:?}");
        let (idle_since, before) = (Instant::now(), connections(node.pid(), port));
        eventually("the broker closes idle connections", || {
            let closed = !before.is_subset(&connections(node.pid(), port));
            (closed && idle_since.elapsed() > IDLE + IDLE / 2).then_some(())
        });
    }
    // Records of others arrive as well, and closed connections are no trouble with Kafka.
    kafka::produce(&cluster.bootstrap, "idle", &[("k", "\"from outside\"")]);
    assert_eq!(subscriber.next_publication().data, json!("from outside"));
    subscriber.assert_quiet();
    node.await_ready();
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_hundred_thousand_aborted_records_are_passed_whatever_their_compression() {
    const TRANSACTIONS: u64 = 10;
    const EACH: u64 = 10_000;
    let topics = ["none", "lz4", "zstd"].map(|codec| (codec, fresh(codec)));
    let names: Vec<&str> = topics.iter().map(|(_, topic)| topic.as_str()).collect();
    for topic in &names {
        kafka::create_topic(&bootstrap(), topic, 1, 1, &[]);
    }
    let running = Node::start_ready(&config(&bootstrap(), &names));
    let mut meanwhile = Client::connect(running.port);
    let mut epochs = HashMap::new();
    for topic in &names {
        let subscribed = meanwhile.subscribe(&format!("/{topic}/k")).expect("the subscribe is granted");
        epochs.insert(topic.to_string(), subscribed.epoch);
    }
    for (codec, topic) in &topics {
        let begun = Instant::now();
        let producer = kafka::producer(&bootstrap(), &[("transactional.id", topic), ("compression.type", codec), ("linger.ms", "20")]);
        producer.init_transactions(PATIENCE).expect("transactions are there");
        for _ in 0..TRANSACTIONS {
            producer.begin_transaction().expect("a transaction");
            for number in 0..EACH {
                send(&producer, BaseRecord::to(topic).key("k").payload(&format!("\"aborted, and so is every one of its kind: {number}\"")));
            }
            producer.flush(PATIENCE).expect("Kafka has the records");
            producer.abort_transaction(PATIENCE).expect("the abort");
        }
        producer.begin_transaction().expect("a transaction");
        send(&producer, BaseRecord::to(topic).key("k").payload("\"committed\""));
        producer.commit_transaction(PATIENCE).expect("the commit");
        let written = begun.elapsed();
        let committed = meanwhile.next_publication();
        eprintln!("{codec}: written in {written:?}, delivered {:?} after that", begun.elapsed() - written);
        assert_eq!(committed.data, json!("committed"), "{codec}");
        // Each transaction has a marker, and clients count from 1.
        assert_eq!(committed.offset, TRANSACTIONS * (EACH + 1) + 1, "{codec}");
    }
    meanwhile.assert_quiet();

    let begun = Instant::now();
    let later = Node::start_ready(&config_from_start(&bootstrap(), &names));
    eprintln!("a node that reads all of it is ready after {:?}", begun.elapsed());
    let mut client = Client::connect(later.port);
    for (codec, topic) in &topics {
        let subject = format!("/{topic}/k");
        let subscribed = with_history(&mut client, &subject);
        assert_eq!(values(&subscribed), [json!("committed")], "{codec}");
        // The whole of it from its beginning, in one recovery: aborted records are no loss.
        let recovered = Client::connect(later.port).recover(&subject, &epochs[topic], 0).expect("the subscribe is granted");
        assert!(recovered.recovered, "{codec}");
        assert_eq!(values(&recovered), [json!("committed")], "{codec}");
    }
    client.assert_quiet();
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn batches_of_every_codec_are_read_exactly_and_in_order() {
    const RECORDS: usize = 300;
    let cluster = Cluster::start();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let value = |codec: &str, number: usize| json!({ "codec": codec, "number": number, "text": "and on and on ".repeat(1 + number % 40) });
    let produce = |codec: &str, numbers: std::ops::Range<usize>| {
        let producer = kafka::producer(&cluster.bootstrap, &[("compression.type", codec), ("linger.ms", "50")]);
        for number in numbers {
            send(&producer, BaseRecord::to(codec).key("k").payload(&value(codec, number).to_string()));
        }
        producer.flush(PATIENCE).expect("Kafka has the records");
    };
    for codec in codecs {
        kafka::create_topic(&cluster.bootstrap, codec, 1, 1, &[]);
        produce(codec, 0..RECORDS / 2);
    }
    let node = Node::start_ready(&config_from_start(&cluster.bootstrap, &codecs));
    for (bits, codec) in codecs.iter().enumerate() {
        let mut client = Client::connect(node.port);
        let subscribed = with_history(&mut client, &format!("/{codec}/k"));
        produce(codec, RECORDS / 2..RECORDS);
        let expected: Vec<Value> = (0..RECORDS).map(|number| value(codec, number)).collect();
        let seen = values_until(&mut client, &subscribed, RECORDS);
        assert!(seen == expected, "{codec}: {seen:?}");
        client.assert_quiet();
        let batches = stored_batches(&cluster, codec);
        assert!(batches.iter().all(|batch| usize::from(batch.codec) == bits), "{codec}: {batches:?}");
        assert_eq!(batches.iter().map(|batch| batch.records as usize).sum::<usize>(), RECORDS, "{codec}: {batches:?}");
        assert!(batches.len() < RECORDS, "{codec}: records share batches: {batches:?}");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn under_quotas_nothing_is_lost_doubled_or_reordered_and_everything_is_answered() {
    const QUOTA: &str = "producer_byte_rate=20000,consumer_byte_rate=20000";
    const SUBJECTS: usize = 3;
    let cluster = Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "throttled", 2, 1, &[]);
    let who =
        ["ConfigCommand", "--bootstrap-server", &cluster.bootstrap, "--alter", "--entity-type", "clients", "--entity-name", "corespan"];
    kafka::dev_kafka(&[&who[..], &["--add-config", QUOTA]].concat(), "", &[]);
    let node = Node::start_ready(&config(&cluster.bootstrap, &["throttled"]));
    let (mut subscriber, mut client) = (Client::connect(node.port), Client::connect(node.port));
    let subjects: Vec<String> = (0..SUBJECTS).map(|number| format!("/throttled/k{number}")).collect();
    for subject in &subjects {
        subscriber.subscribe(subject).expect("the subscribe is granted");
    }
    // Three times what the quota lets through.
    let (mut sent, until) = (Vec::new(), Instant::now() + Duration::from_secs(5));
    let padding = "x".repeat(1000);
    while Instant::now() < until {
        let number = sent.len();
        let id = client.send_publish(&subjects[number % SUBJECTS], &json!({ "n": number, "padding": padding }).to_string());
        sent.push((id, Instant::now()));
        std::thread::sleep(Duration::from_millis(16));
    }
    let mut answers: Vec<Option<u64>> = Vec::new();
    let mut slowest = Duration::ZERO;
    for (number, (id, at)) in sent.iter().enumerate() {
        answers.push(client.reply(*id).err().map(|refusal| refusal.code));
        let took = client.answered(*id) - *at;
        assert!(took < ANSWER_TIME, "publish {number} was answered after {took:?}, when its client had given up");
        slowest = slowest.max(took);
    }
    assert!(slowest > Duration::from_millis(500), "the quota is in force: {slowest:?}");
    // What nobody knew of may be stored yet; behind it come the last ones, one of each subject.
    let quiet = Instant::now();
    let mut missing: HashMap<String, Value> = HashMap::new();
    for subject in &subjects {
        let mut attempts = 0;
        eventually("publishing works", || {
            attempts += 1;
            client.publish(subject, &json!({ "n": format!("last {attempts}") }).to_string()).ok()
        });
        missing.insert(subject.clone(), json!(format!("last {attempts}")));
    }
    let calm = quiet.elapsed();
    let mut seen: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    while !missing.is_empty() {
        match subscriber.next_push(PATIENCE) {
            Some(Push::Publication { channel, publication }) => {
                if missing.get(&channel) == Some(&publication.data["n"]) {
                    missing.remove(&channel);
                }
                seen.entry(channel).or_default().push(publication.data["n"].clone());
            }
            other => panic!("{missing:?} are missing, then {other:?}; log:\n{}", node.log()),
        }
    }
    eprintln!("acknowledged again after {calm:?}, all delivered {:?} after the last answer", quiet.elapsed());
    let mut stored: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, key, value) in kafka::read_all(&cluster.bootstrap, "throttled", 2) {
        let value: Value = serde_json::from_str(&value).expect("JSON");
        stored.entry(format!("/throttled/{key}")).or_default().push(value["n"].clone());
    }
    assert_eq!(seen, stored, "subscribers have what is stored, in its order");
    let mut times: HashMap<usize, usize> = HashMap::new();
    for numbers in stored.values() {
        let numbers: Vec<usize> = numbers.iter().filter_map(Value::as_u64).map(|number| number as usize).collect();
        assert!(numbers.is_sorted(), "in the order in which they were published: {numbers:?}");
        for number in numbers {
            *times.entry(number).or_default() += 1;
        }
    }
    let count = |code: Option<u64>| answers.iter().filter(|answer| **answer == code).count();
    eprintln!(
        "{} publishes: {} acknowledged, {} unknown, {} refused, the slowest answer after {slowest:?}",
        sent.len(),
        count(None),
        count(Some(401)),
        count(Some(100))
    );
    for (number, answer) in answers.iter().enumerate() {
        let times = times.get(&number).copied().unwrap_or(0);
        match answer {
            None => assert_eq!(times, 1, "publish {number} was acknowledged"),
            Some(401) => assert!(times <= 1, "publish {number} is stored {times} times"),
            Some(code) => assert_eq!((times, *code), (0, 100), "publish {number} was refused"),
        }
    }
    assert!(count(None) > 20);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_whose_timestamps_fall_or_lie_ahead_keep_the_order_of_their_offsets() {
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    // Topics by the times of their records, counted from now.
    let kinds: [(&str, &[i64]); 4] = [
        ("ahead", &[HOUR, -DAY, 0, HOUR, -DAY, -HOUR, 0, HOUR, -DAY]),
        ("falling", &[3 * HOUR, 2 * HOUR, HOUR, 0, -HOUR, -DAY]),
        ("late", &[-DAY, -DAY, HOUR, -DAY, 0, -DAY]),
        ("old", &[-HOUR, -DAY, -HOUR, -DAY]),
    ];
    let topics: Vec<(String, &[i64])> = kinds.iter().map(|(name, times)| (fresh(name), *times)).collect();
    let names: Vec<&str> = topics.iter().map(|(topic, _)| topic.as_str()).collect();
    for topic in &names {
        // Kafka takes records an hour ahead at most unless it is told otherwise.
        kafka::create_topic(&bootstrap(), topic, 1, 1, &[("message.timestamp.after.max.ms", &(7 * DAY).to_string())]);
    }
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("milliseconds");
    let running = Node::start_ready(&config(&bootstrap(), &names));
    let mut positions = HashMap::new();
    for (topic, times) in &topics {
        let subject = format!("/{topic}/k");
        let mut client = Client::connect(running.port);
        let subscribed = client.subscribe(&subject).expect("the subscribe is granted");
        let producer = kafka::producer(&bootstrap(), &[("linger.ms", "20")]);
        for (number, time) in times.iter().enumerate() {
            // The second and the third share a batch, and the others have one each.
            send(&producer, BaseRecord::to(topic).key("k").payload(number.to_string().as_str()).timestamp(now + time));
            if number != 1 {
                producer.flush(PATIENCE).expect("Kafka has the record");
            }
        }
        let publications: Vec<_> = times.iter().map(|_| client.next_publication()).collect();
        for (number, publication) in publications.iter().enumerate() {
            assert_eq!(publication.data, json!(number), "{topic}");
            assert_eq!(publication.offset, number as u64 + 1, "{topic}");
            assert_eq!(publication.time, now + times[number], "{topic}");
        }
        client.assert_quiet();
        positions.insert(topic.clone(), subscribed.epoch);
    }
    // Recovery goes by position, whatever the times say: on a node that was there, and on one that reads the last three minutes at its start.
    let later = Node::start_ready(&config_from_start(&bootstrap(), &names));
    for (topic, times) in &topics {
        let subject = format!("/{topic}/k");
        let begin = times.iter().position(|time| *time >= 0).unwrap_or(times.len());
        for position in 0..=times.len() {
            for (node, from) in [(&running, 0), (&later, begin)] {
                let mut client = Client::connect(node.port);
                let recovered = client.recover(&subject, &positions[topic], position as u64).expect("the subscribe is granted");
                assert_eq!(recovered.recovered, position >= from, "{topic} from {position} where memory begins at {from}");
                if recovered.recovered {
                    let expected: Vec<Value> = (position..times.len()).map(Value::from).collect();
                    assert_eq!(values(&recovered), expected, "{topic} from {position}");
                }
                client.assert_quiet();
            }
        }
    }
    for (topic, times) in &topics {
        let mut client = Client::connect(later.port);
        client.subscribe(&format!("/{topic}/k")).expect("the subscribe is granted");
        client.publish(&format!("/{topic}/k"), "\"live\"").expect("the publish is acknowledged");
        let live = client.next_publication();
        assert_eq!((live.data, live.offset), (json!("live"), times.len() as u64 + 1), "{topic}");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_cluster_that_is_wiped_and_made_again_at_its_address_is_served_anew() {
    const BEFORE: usize = 5;
    let cluster = Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "wiped", 1, 1, &[]);
    let mut node = Node::start_ready(&config(&cluster.bootstrap, &["wiped"]));
    let (mut subscriber, mut client) = (Client::connect(node.port), Client::connect(node.port));
    let first = subscriber.subscribe("/wiped/k").expect("the subscribe is granted");
    for number in 0..BEFORE {
        client.publish("/wiped/k", &format!("\"old {number}\"")).expect("the publish is acknowledged");
    }
    subscriber.next_values(BEFORE);
    cluster.wipe();
    kafka::create_topic(&cluster.bootstrap, "wiped", 1, 1, &[]);
    let begun = Instant::now();
    kafka::produce(&cluster.bootstrap, "wiped", &[("k", "\"of the new log\"")]);
    // Nothing but the end of the subscription comes of the new log.
    match subscriber.next_push(PATIENCE) {
        Some(Push::Unsubscribe { channel, code }) => assert_eq!((channel.as_str(), code), ("/wiped/k", 2500)),
        other => panic!("unsubscribe 2500 was expected, not {other:?}; log:\n{}", node.log()),
    }
    eprintln!("subscribers are told {:?} after the new topic was there", begun.elapsed());
    let resumed = eventually("the new log is served", || subscriber.recover("/wiped/k", &first.epoch, BEFORE as u64).ok());
    assert!(!resumed.recovered && resumed.epoch != first.epoch, "positions of the old log are worth nothing: {resumed:?}");
    node.await_ready();
    eprintln!("the node is ready after {:?}", begun.elapsed());

    // Kafka gives the ids of producers from 0 again: to the new cluster the node's first publish may look out of sequence, and is refused.
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    eventually("ten publishes are acknowledged", || {
        number += 1;
        match client.publish("/wiped/k", &format!("\"new {number:04}\"")) {
            Ok(_) => acknowledged.push(format!("\"new {number:04}\"")),
            Err(refusal) => assert!(matches!(refusal.code, 100 | 401), "{refusal:?}"),
        }
        (acknowledged.len() == 10).then_some(())
    });
    eprintln!("{number} publishes, ten of them acknowledged after {:?}", begun.elapsed());
    kafka::produce(&cluster.bootstrap, "wiped", &[("k", "\"outside\"")]);
    let outside = eventually("records of the new log arrive", || {
        let publication = subscriber.next_publication();
        (publication.data == json!("outside")).then_some(publication)
    });
    let stored: Vec<String> = kafka::read_all(&cluster.bootstrap, "wiped", 1).into_iter().map(|(_, _, value)| value).collect();
    assert_eq!(outside.offset, stored.len() as u64, "{stored:?}");
    let new: Vec<String> = stored.iter().filter(|value| value.starts_with("\"new")).cloned().collect();
    for value in &acknowledged {
        assert_eq!(new.iter().filter(|other| *other == value).count(), 1, "{value} was acknowledged: {stored:?}");
    }
    assert!(new.windows(2).all(|pair| pair[0] < pair[1]), "each once and in order: {stored:?}");
    node.await_ready();
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_to_a_wiped_cluster_are_not_taken_for_those_of_another_producer_with_the_same_id() {
    let cluster = Cluster::start();
    kafka::create_topic(&cluster.bootstrap, "wiped", 1, 1, &[]);
    let mut node = Node::start_ready(&config(&cluster.bootstrap, &["wiped"]));
    let mut client = Client::connect(node.port);
    let first = client.subscribe("/wiped/k").expect("the subscribe is granted");
    for number in 0..5 {
        client.publish("/wiped/k", &format!("\"old {number}\"")).expect("the publish is acknowledged");
    }
    client.next_values(5);
    cluster.wipe();
    kafka::create_topic(&cluster.bootstrap, "wiped", 1, 1, &[]);
    // The first producer of the new cluster: it has id 0, as the node's had in the old one, and its last five batches the sequences 3 to 7.
    let producer = kafka::producer(&cluster.bootstrap, &[]);
    for number in 0..8 {
        send(&producer, BaseRecord::to("wiped").key("k").payload(&format!("\"other {number}\"")));
        producer.flush(PATIENCE).expect("Kafka has the record");
    }
    assert_eq!(client.next_push(PATIENCE), Some(Push::Unsubscribe { channel: "/wiped/k".to_owned(), code: 2500 }));
    eventually("the new log is served", || client.recover("/wiped/k", &first.epoch, 5).ok());
    node.await_ready();
    let answers: Vec<bool> = (0..10).map(|number| client.publish("/wiped/k", &format!("\"new {number}\"")).is_ok()).collect();
    let stored: Vec<String> = kafka::read_all(&cluster.bootstrap, "wiped", 1).into_iter().map(|(_, _, value)| value).collect();
    for (number, acknowledged) in answers.iter().enumerate() {
        let times = stored.iter().filter(|value| **value == format!("\"new {number}\"")).count();
        assert!(
            times == 1 || !acknowledged && times == 0,
            "publish {number}: {acknowledged}, stored {times} times: {answers:?} {stored:?}"
        );
    }
}
