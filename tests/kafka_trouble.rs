//! The Kafka side when Kafka gives it something bad: bytes that have changed on a disk, odd headers, names that nobody has, a broker that is away.
//!
//! The tests are ignored by plain `cargo test`; `./dev test kafka` starts the clusters and runs them.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use corespan::handoff::LogEndQuestion;
use corespan::kafka::CorruptBatches;
use corespan::kafka::{KafkaOptions, NodeState};
use corespan::shard::{Broker as _, ProduceStatus, PublishFailure, PublishResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use support::kafka::{self, Cluster, bootstrap, fresh};
use support::kafka_side::{Side, listed, matching, options, record};
use support::node::{Node, config};
use support::{PATIENCE, eventually};

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn headers_without_a_value_or_with_a_nul_in_their_name_are_left_out() {
    let topic = fresh("headers");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    let at = side.at(&topic, 0);
    let headers: [(&str, Option<&str>); 8] = [
        ("null", None),
        ("empty", Some("")),
        ("cut\0here", Some("x")),
        ("\0", Some("y")),
        ("cut\0null", None),
        ("", Some("no name")),
        ("full", Some("a value")),
        ("last", Some("")),
    ];
    let producer = kafka::producer(&bootstrap(), &[]);
    let sent = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    producer.send(BaseRecord::to(&topic).key("k").payload("v").headers(sent)).map_err(|(error, _)| error).expect("queued");
    producer.flush(PATIENCE).expect("Kafka has it");
    let record = side.until("the record", |side| side.records(at).pop());
    let seen: Vec<(&[u8], &[u8])> = record.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let expected: [(&[u8], &[u8]); 4] = [(b"empty", b""), (b"", b"no name"), (b"full", b"a value"), (b"last", b"")];
    assert_eq!(seen, expected);
}

/// Two partitions with 30 records each, in batches of 10; one byte of the second batch of the first partition has changed on the disk.
fn corrupt_topic(cluster: &Cluster) -> String {
    let topic = fresh("corrupt");
    kafka::create_topic(&cluster.bootstrap, &topic, 2, 1, &[]);
    let producer = kafka::producer(&cluster.bootstrap, &[("linger.ms", "200")]);
    for number in 0..30 {
        for partition in 0..2 {
            let value = format!("value-{number:02}-of-{partition}");
            producer
                .send(BaseRecord::to(&topic).key("k").payload(&value).partition(partition))
                .map_err(|(error, _)| error)
                .expect("queued");
        }
        if number % 10 == 9 {
            producer.flush(PATIENCE).expect("Kafka has them");
        }
    }
    let log = cluster.folder().join(format!("1/data/{topic}-0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&log).expect("the log segment");
    let text = b"value-15-of-0";
    let place = bytes.windows(text.len()).position(|window| window == text).expect("the record is in the segment");
    bytes[place] ^= 1;
    // In place: Kafka has the file open.
    let file = std::fs::OpenOptions::new().write(true).open(&log).expect("the log segment");
    std::os::unix::fs::FileExt::write_at(&file, &bytes[place..=place], place as u64).expect("the byte is written");
    topic
}

fn numbers(side: &Side, topic: &str, partition: u32) -> Vec<u64> {
    let value = |record: corespan::handoff::Record| String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
    side.records(side.at(topic, partition)).into_iter().map(|record| value(record)[6..8].parse().expect("a number")).collect()
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_partition_stops_before_a_corrupt_batch_and_the_others_are_served() {
    let cluster = Cluster::start();
    let topic = corrupt_topic(&cluster);
    let recovering = KafkaOptions { recovery: Some(Duration::from_secs(600)), ..options(&cluster.bootstrap, 1, listed(&[&topic])) };
    let mut side = Side::start(recovering);
    let line = side.until("the partition is named", |side| side.side.metadata.held_partitions().pop());
    assert!(line.contains(&format!("topic {topic} partition 0")) && line.contains("offset 1"), "{line}");
    side.until("the others are read", |side| (numbers(side, &topic, 1).len() == 30).then_some(()));
    side.until("the node is ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
    // Behind the batch nothing is read, while the other partition goes on.
    let producer = kafka::producer(&cluster.bootstrap, &[]);
    for partition in [0, 1] {
        let record = BaseRecord::to(&topic).key("k").payload("value-99").partition(partition);
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        producer.flush(PATIENCE).expect("Kafka has it");
    }
    side.until("what came later is read", |side| (numbers(side, &topic, 1).len() == 31).then_some(()));
    let read = numbers(&side, &topic, 0);
    assert!(read.len() >= 10 && read.len() <= 15 && read.iter().copied().eq(0..read.len() as u64), "{read:?}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_corrupt_batch_is_skipped_and_nothing_else_if_the_configuration_says_so() {
    let cluster = Cluster::start();
    let topic = corrupt_topic(&cluster);
    let recovering = KafkaOptions {
        recovery: Some(Duration::from_secs(600)),
        corrupt_batches: CorruptBatches::Skip,
        ..options(&cluster.bootstrap, 1, listed(&[&topic]))
    };
    let side = Side::start_ready(recovering);
    let read = numbers(&side, &topic, 0);
    assert!((0..10).chain(20..30).all(|number| read.contains(&number)), "{read:?}");
    assert!(!read.contains(&15) && read.is_sorted(), "{read:?}");
    assert_eq!(numbers(&side, &topic, 1), (0..30).collect::<Vec<u64>>());
    assert_eq!(side.side.metadata.held_partitions(), Vec::<String>::new());
    assert_eq!(side.side.metadata.counts().batches_skipped, 1);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn names_that_no_topic_has_are_answered_within_a_second_or_put_off() {
    let topic = fresh("there");
    kafka::create_topic(&bootstrap(), &topic, 3, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, matching("nothing-matches")));
    let begun = Instant::now();
    let absent = fresh("absent");
    for number in 0..5_000 {
        side.brokers[0].lookup_topic(&format!("{absent}-{number}"));
    }
    side.until("all are answered", |side| (side.topics_found.len() == 5_000).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let put_off = side.topics_found.iter().filter(|(_, found)| *found == Err(PublishFailure::NotNow)).count();
    let absent = side.topics_found.iter().filter(|(_, found)| *found == Err(PublishFailure::NoSuchTopic)).count();
    assert_eq!(put_off + absent, 5_000, "{:?}", side.topics_found.last());
    assert!((500..=2_500).contains(&absent), "{absent} were asked for");
    side.topics_found.clear();
    side.brokers[0].lookup_topic(&topic);
    assert_eq!(side.until("an answer", |side| side.topics_found.pop()), (topic, Ok(3)));
}

/// 200 records of 1 KB and one of 25 KB among them at once, into a topic that takes 20,000 bytes: what became of them.
fn a_large_one_among_small_ones(side: &mut Side, topic: &str) -> (usize, PublishResult) {
    let small = "s".repeat(1_000);
    // Nothing that a codec could make smaller.
    let large: String = (0..25_000).map(|_| fastrand::alphanumeric()).collect();
    let publish = |side: &mut Side, value: &str| {
        side.until("the producer takes it", |side| match side.publish(0, &record(topic, Some(0), "k", value)) {
            (key, ProduceStatus::Queued) => Some(Ok(key)),
            (_, ProduceStatus::Refused(failure)) => Some(Err(failure)),
            (_, ProduceStatus::Full) => None,
        })
    };
    let (mut keys, mut answer) = (Vec::new(), None);
    for number in 0..200 {
        keys.push(publish(side, &small).expect("a small one is taken"));
        if number == 100 {
            answer = Some(publish(side, &large));
        }
    }
    let stored = keys.into_iter().filter(|key| matches!(side.answer(*key), PublishResult::Stored { .. })).count();
    let large = match answer.expect("it was published") {
        Ok(key) => side.answer(key),
        Err(failure) => PublishResult::Failed(failure),
    };
    (stored, large)
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_record_that_is_too_large_for_its_topic_is_refused_alone() {
    for codec in ["none", "lz4"] {
        let topic = fresh("narrow");
        kafka::create_topic(&bootstrap(), &topic, 1, 1, &[("max.message.bytes", "20000")]);
        let mut options = options(&bootstrap(), 1, listed(&[&topic]));
        options.producer.set("compression.type", codec);
        let mut side = Side::start_ready(options);
        let (stored, large) = a_large_one_among_small_ones(&mut side, &topic);
        assert_eq!((stored, large), (200, PublishResult::Failed(PublishFailure::TooLarge)), "{codec}");
        // One that nobody has asked about when the node starts, and that clients only publish to.
        let later = fresh("later");
        kafka::create_topic(&bootstrap(), &later, 1, 1, &[("max.message.bytes", "20000")]);
        let (stored, large) = a_large_one_among_small_ones(&mut side, &later);
        assert_eq!((stored, large), (200, PublishResult::Failed(PublishFailure::TooLarge)), "{codec}, a topic that is new");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_whose_limit_changes_is_followed_and_keeps_its_order() {
    let topic = fresh("narrowing");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    let mut sent = 0;
    let mut publish = |side: &mut Side, count: usize| {
        for _ in 0..count {
            let value = format!("{sent}-{}", "s".repeat(1_000));
            side.until("the producer takes it", |side| {
                (side.publish(0, &record(&topic, Some(0), "k", &value)).1 == ProduceStatus::Queued).then_some(())
            });
            sent += 1;
        }
    };
    publish(&mut side, 500);
    kafka::configure_topic(&bootstrap(), &topic, "max.message.bytes=20000");
    // The setting is read again with the metadata.
    let large = record(&topic, Some(0), "k", &"l".repeat(25_000));
    side.until("the limit is known", |side| (side.publish(0, &large).1 == ProduceStatus::Refused(PublishFailure::TooLarge)).then_some(()));
    let refused = side.answers.iter().filter(|(_, _, result)| !matches!(result, PublishResult::Stored { .. })).count();
    publish(&mut side, 500);
    kafka::configure_topic(&bootstrap(), &topic, "max.message.bytes=1048588");
    publish(&mut side, 500);
    side.until("the limit is gone", |side| (side.publish(0, &large).1 == ProduceStatus::Queued).then_some(()));
    publish(&mut side, 500);
    let at = side.at(&topic, 0);
    let numbers = |side: &Side| -> Vec<usize> {
        let value = |record: corespan::handoff::Record| String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
        side.records(at).into_iter().filter_map(|record| value(record).split_once('-')?.0.parse().ok()).collect()
    };
    side.until("all are read", |side| (numbers(side).len() == 2_000).then_some(()));
    assert!(numbers(&side).into_iter().eq(0..2_000), "each once and in order");
    eprintln!("{refused} were refused before the limit was known: only the large ones that asked for it");
}

/// TCP segments that this process has sent over its connections to Kafka, and is going to send: of those that are open now.
fn segments_sent() -> u64 {
    let sockets = std::fs::read_dir("/proc/self/fd").expect("open files").filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok());
    let segments = |fd: i32| {
        let mut info = [0_u8; 256];
        let mut length = info.len() as nix::libc::socklen_t;
        // SAFETY: the buffer is as long as is said; a file that is no TCP socket is refused.
        let asked =
            unsafe { nix::libc::getsockopt(fd, nix::libc::IPPROTO_TCP, nix::libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length) };
        // tcpi_segs_out of the kernel's struct tcp_info (linux/tcp.h).
        (asked == 0 && length >= 140).then(|| u32::from_ne_bytes(info[136..140].try_into().expect("four bytes")))
    };
    sockets.filter_map(segments).map(u64::from).sum()
}

/// Segments a second, while the side has nothing to do.
fn idle_traffic(side: &mut Side) -> f64 {
    const TIME: Duration = Duration::from_secs(8);
    let (before, begin) = (segments_sent(), Instant::now());
    while begin.elapsed() < TIME {
        side.turn();
        std::thread::sleep(Duration::from_millis(5));
    }
    (segments_sent().saturating_sub(before)) as f64 / begin.elapsed().as_secs_f64()
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn topics_that_are_made_and_deleted_leave_no_traffic_behind() {
    const TOPICS: usize = 120;
    let prefix = fresh("brief");
    let (keep, pattern) = (format!("{prefix}-keep"), format!("{prefix}-.*"));
    kafka::create_topic(&bootstrap(), &keep, 2, 1, &[]);
    let options = KafkaOptions { metadata_interval: Duration::from_secs(2), ..options(&bootstrap(), 1, matching(&pattern)) };
    let mut side = Side::start_ready(options);
    side.publish_answered(&record(&keep, Some(0), "k", "v"));
    let before = idle_traffic(&mut side);
    let names: Vec<String> = (0..TOPICS).map(|number| format!("{prefix}-{number}")).collect();
    kafka::create_topics(&bootstrap(), &names, 1, 1);
    side.until("all are served", |side| (side.map.topics().count() == TOPICS + 1).then_some(()));
    for name in &names {
        assert!(matches!(side.publish_answered(&record(name, Some(0), "k", "v")), PublishResult::Stored { .. }));
    }
    side.until("all are read", |side| {
        (side.batches.iter().map(|(_, batch)| batch.records.len()).sum::<usize>() == TOPICS + 1).then_some(())
    });
    kafka::delete_topics(&bootstrap(), &names);
    side.until("all are gone", |side| (side.map.topics().count() == 1).then_some(()));
    // Whatever still goes on ends by itself in a minute or so.
    let deadline = Instant::now() + Duration::from_secs(80);
    let mut after = idle_traffic(&mut side);
    while after > before * 1.5 && Instant::now() < deadline {
        eprintln!("{after:.1} segments a second now, {before:.1} before");
        after = idle_traffic(&mut side);
    }
    eprintln!("{before:.1} segments a second before {TOPICS} topics were made and deleted, {after:.1} after");
    assert!(after <= before * 2.0, "{before} segments a second before, {after} after");
}

/// Turns of a side, with questions as clients cause them, while somebody sits at the address of a broker that is away: who connects is counted, and
/// gets nothing.
fn connects_to(address: &str, side: &mut Side, topic: &str, time: Duration) -> u64 {
    let listener = eventually("the port is free", || TcpListener::bind(address).ok());
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let (at, generation) = (side.at(topic, 0), side.topic(topic).partitions[0].generation);
    let (until, mut connects, mut turns) = (Instant::now() + time, 0, 0);
    while Instant::now() < until {
        while listener.accept().is_ok() {
            connects += 1;
        }
        side.turn();
        turns += 1;
        if turns % 100 == 0 {
            side.brokers[0].lookup_topic(&format!("nobody-{turns}"));
            side.brokers[0].query_log_end(LogEndQuestion { partition: at, generation, number: 0 });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    connects
}

/// A shard's consumer, the reader, the answering client, the one that looks up topics, a producer.
const CLIENTS: u64 = 5;
const CONNECTS_A_SECOND_MAX: u64 = 20;

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_dead_broker_is_not_asked_all_the_time() {
    let cluster = Cluster::start();
    let topic = fresh("dead");
    kafka::create_topic(&cluster.bootstrap, &topic, 1, 1, &[]);
    let mut side = Side::start_ready(options(&cluster.bootstrap, 1, listed(&[&topic])));
    cluster.kill("1");
    let connects = connects_to(&cluster.bootstrap, &mut side, &topic, Duration::from_secs(8));
    assert!(connects <= CLIENTS * CONNECTS_A_SECOND_MAX * 8, "{connects} connects in 8 s");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn one_dead_broker_of_three_is_not_asked_all_the_time() {
    let _alone = kafka::three_alone();
    let bootstrap = kafka::bootstrap_three();
    let topic = fresh("one-dead");
    kafka::create_topic(&bootstrap, &topic, 3, 3, &[]);
    let mut side = Side::start_ready(options(&bootstrap, 1, listed(&[&topic])));
    let addresses: Vec<&str> = bootstrap.split(',').collect();
    let mut all = Vec::new();
    for broker in 1..=3 {
        kafka::broker_action(&kafka::folder_three(), "kill", &broker.to_string());
        all.push(connects_to(addresses[broker - 1], &mut side, &topic, Duration::from_secs(8)));
        kafka::broker_action(&kafka::folder_three(), "start", &broker.to_string());
    }
    eprintln!("{all:?} connects");
    assert!(all.iter().all(|connects| *connects <= CLIENTS * CONNECTS_A_SECOND_MAX * 8), "{all:?} connects in 8 s each");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_consumer_that_stands_still_while_its_log_goes_on_is_made_to_read_again() {
    let topic = fresh("deaf");
    kafka::create_topic(&bootstrap(), &topic, 2, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 2, listed(&[&topic])));
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    let write = |round: usize| {
        let value = round.to_string();
        let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
        kafka::produce(&bootstrap(), &topic, &records);
    };
    let read = |side: &mut Side| (0..2).map(|partition| side.records(side.at(&topic, partition)).len()).sum::<usize>();
    write(0);
    side.until("all is read", |side| (read(side) == 20).then_some(()));
    for round in 1..=2 {
        for broker in &side.brokers {
            broker.go_deaf();
        }
        // What was fetched before it went deaf may come yet; what follows does not.
        write(2 * round);
        write(2 * round + 1);
        let found = side.side.metadata.counts().partitions_stuck;
        side.until("a partition is found to stand still", |side| (side.side.metadata.counts().partitions_stuck > found).then_some(()));
        side.until("all is read again", |side| (read(side) == 20 + 40 * round).then_some(()));
        side.until("and nothing is said to stand still", |side| side.side.metadata.stuck_partitions().is_empty().then_some(()));
    }
    for partition in 0..2 {
        let offsets: Vec<i64> = side.records(side.at(&topic, partition)).iter().map(|record| record.offset.0).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "each once and in order: {offsets:?}");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_partition_whose_broker_is_dead_is_named_by_a_node_that_is_not_ready_and_delays_no_question_about_others() {
    let _alone = kafka::three_alone();
    let (bootstrap, folder) = (kafka::bootstrap_three(), kafka::folder_three());
    let topic = fresh("bereft");
    kafka::create_topic(&bootstrap, &topic, 6, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap, 1, listed(&[&topic])));
    let mut node = Node::start_ready(&config(&bootstrap, &[&topic]));
    let dead = kafka::leader(&bootstrap, &topic);
    kafka::broker_action(&folder, "kill", &dead.to_string());
    let why = eventually("the node is not ready", || node.readiness().filter(|(status, _)| *status == 503)).1;
    assert!(why.contains(&format!("topic {topic} partition 0: no broker leads it")), "{why}");
    let address = bootstrap.split(',').nth(dead as usize - 1).expect("its address").to_owned();
    assert!(node.log().lines().any(|line| line.contains("WARN") && line.contains(&address)), "the log names the broker:\n{}", node.log());
    let metrics = node.admin("/metrics").expect("an answer").1;
    let staleness = format!("corespan_kafka_partition_staleness_seconds{{topic=\"{topic}\",partition=\"0\"}} ");
    let seconds: f64 = metrics.lines().find_map(|line| line.strip_prefix(&staleness)?.parse().ok()).expect("its staleness");
    assert!(seconds >= 10.0, "{seconds}");
    // Those that have a leader are fresh, and questions about them are answered as ever.
    let living = (0..6).find(|partition| !why.contains(&format!("partition {partition}:"))).expect("a partition that is well");
    let generation = side.topic(&topic).partitions[0].generation;
    for partition in [0, living, 0, living] {
        let began = Instant::now();
        let at = side.at(&topic, partition);
        side.brokers[0].query_log_end(LogEndQuestion { partition: at, generation, number: 0 });
        let (_, end) = side.until("an answer", |side| side.log_ends.pop());
        assert_eq!(end.is_some(), partition == living, "partition {partition}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    kafka::broker_action(&folder, "start", &dead.to_string());
    node.await_ready();
    let at = side.at(&topic, 0);
    side.until("questions about it are answered again", |side| {
        side.brokers[0].query_log_end(LogEndQuestion { partition: at, generation, number: 0 });
        side.log_ends.pop().filter(|(_, end)| end.is_some())
    });
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_position_that_librdkafka_doubts_without_reason_is_read_on_from_in_the_same_generation() {
    let topic = fresh("doubted");
    kafka::create_topic(&bootstrap(), &topic, 2, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    let write = |round: usize| {
        let records: Vec<(String, String)> = (0..20).map(|key| (format!("k{key}"), round.to_string())).collect();
        kafka::produce(&bootstrap(), &topic, &records.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>());
    };
    let read = |side: &Side| (0..2).map(|partition| side.records(side.at(&topic, partition)).len()).sum::<usize>();
    for round in 1..=3 {
        write(2 * round - 1);
        side.until("all is read", |side| (read(side) == 40 * round - 20).then_some(()));
        side.brokers[0].doubt_all();
        write(2 * round);
        side.until("what follows is read", |side| (read(side) == 40 * round).then_some(()));
    }
    for partition in 0..2 {
        assert_eq!(side.topic(&topic).partitions[partition].generation.0, 1, "it is the same log");
        let offsets: Vec<i64> = side.records(side.at(&topic, partition as u32)).iter().map(|record| record.offset.0).collect();
        assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "each once and in order: {offsets:?}");
    }
}
