//! The Kafka side on the embedded cluster: what is written comes back, every publish has one answer, and that answer is true.

mod support;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corespan::handoff::{LogEndQuestion, Offset, ShardId};
use corespan::kafka::TopicChoice;
use corespan::kafka::{EmbeddedCluster, KafkaOptions, NodeState};
use corespan::shard::{Broker as _, ProduceRecord, ProduceStatus, PublishFailure, PublishResult};
use corespan::subject::Partitioner;
use rdkafka::types::RDKafkaApiKey;
use support::kafka_side::{Side, listed, matching, options, record};

fn embedded(cluster: &EmbeddedCluster, shards: u16, topics: TopicChoice) -> KafkaOptions {
    KafkaOptions { embedded: true, ..options(cluster.bootstrap(), shards, topics) }
}

fn cluster_with(topic: &str, partitions: i32) -> EmbeddedCluster {
    let cluster = EmbeddedCluster::start(1).expect("the cluster starts");
    cluster.create_topic(topic, partitions).expect("the topic is made");
    cluster
}

#[test]
fn what_is_published_is_read_by_the_owner_of_its_partition_as_it_was() {
    let cluster = cluster_with("vehicles", 4);
    let mut side = Side::start_ready(embedded(&cluster, 2, listed(&["vehicles"])));
    let mut expected: HashMap<u32, Vec<(String, String)>> = HashMap::new();
    for number in 0..400u32 {
        let (key, value) = (format!("{}/speed", number % 40), number.to_string());
        let partition = Partitioner::Murmur2.partition(key.as_bytes(), 4);
        let mut record = record("vehicles", Some(partition), &key, &value);
        record.headers = vec![("unit".to_owned(), Bytes::from_static(b"km/h")), ("raw".to_owned(), Bytes::from_static(&[0xff]))];
        let (_, status) = side.publish((number % 2) as u16, &record);
        assert_eq!(status, ProduceStatus::Queued);
        expected.entry(partition).or_default().push((key, value));
    }
    side.until("all are read", |side| (side.batches.iter().map(|(_, batch)| batch.records.len()).sum::<usize>() == 400).then_some(()));
    let topic = side.topic("vehicles");
    for (shard, batch) in &side.batches {
        assert_eq!(*shard, topic.partitions[batch.partition.partition as usize].owner);
    }
    assert_eq!(topic.partitions.iter().map(|partition| partition.owner).collect::<HashSet<_>>(), HashSet::from([ShardId(0), ShardId(1)]));
    for (partition, expected) in expected {
        let records = side.records(side.at("vehicles", partition));
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        let text = |bytes: &Option<Bytes>| String::from_utf8(bytes.clone().expect("not null").to_vec()).expect("text");
        assert_eq!(records.iter().map(|record| (text(&record.key), text(&record.value))).collect::<Vec<_>>(), expected);
        for record in records {
            assert_eq!(&*record.headers, &[(Bytes::from_static(b"unit"), Bytes::from_static(b"km/h"))], "headers that are text");
            assert!(record.timestamp_ms > 1_600_000_000_000);
        }
    }
    assert_eq!(side.answers.len(), 400, "one answer each");
    assert_eq!(side.answers.iter().map(|(_, key, _)| *key).collect::<HashSet<_>>().len(), 400);
    assert!(side.answers.iter().all(|(_, _, result)| matches!(result, PublishResult::Stored { .. })));
}

#[test]
fn null_keys_tombstones_and_empty_values_are_three_things() {
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    let whole = record("vehicles", Some(0), "k", "");
    for record in [ProduceRecord { key: None, ..whole.clone() }, ProduceRecord { value: None, ..whole.clone() }, whole] {
        assert!(matches!(side.publish_answered(&record), PublishResult::Stored { partition: 0, .. }));
    }
    let at = side.at("vehicles", 0);
    side.until("all are read", |side| (side.records(at).len() == 3).then_some(()));
    let records = side.records(at);
    assert_eq!((records[0].key.as_ref(), records[0].value.as_deref()), (None, Some(&b""[..])));
    assert_eq!((records[1].key.as_deref(), records[1].value.as_ref()), (Some(&b"k"[..]), None));
    assert_eq!((records[2].key.as_deref(), records[2].value.as_deref()), (Some(&b"k"[..]), Some(&b""[..])));
}

#[test]
fn the_end_of_a_partition_is_told_with_its_offset() {
    let cluster = cluster_with("vehicles", 2);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    let empty = side.at("vehicles", 1);
    assert_eq!(side.until("the empty partition's end", |side| side.next(empty)), Offset(0));
    for number in 0..5 {
        side.publish_answered(&record("vehicles", Some(0), "k", &number.to_string()));
    }
    let at = side.at("vehicles", 0);
    side.until("its end", |side| (side.next(at) == Some(Offset(5))).then_some(()));
    let generation = side.topic("vehicles").partitions[0].generation;
    side.brokers[0].query_log_end(LogEndQuestion { partition: at, generation, number: 0 });
    let end = side.until("the log end", |side| side.log_ends.first().copied());
    assert_eq!(end, (at, Some(Offset(5))));
}

#[test]
fn records_wake_their_shard() {
    use std::future::Future as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    let at = side.at("vehicles", 0);
    side.until("the partition is read", |side| side.next(at));
    side.publish_answered(&record("vehicles", Some(0), "k", "first"));
    side.until("the first record", |side| (side.records(at).len() == 1).then_some(()));
    let writer = support::kafka::producer(cluster.bootstrap(), &[]);
    // Asleep, with nobody polling: only librdkafka's callback can wake it. What is left of the first record's end may wake it too, so it must sleep
    // well before the second is sent.
    let wake = side.wakes[0].clone();
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = std::task::Waker::from(flag.clone());
    let quiet = support::eventually("the shard sleeps for 50 ms", || {
        side.turn();
        flag.0.store(false, Ordering::SeqCst);
        wake.start_turn();
        side.turn();
        let mut park = Box::pin(wake.park());
        if park.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_ready() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
        (!flag.0.load(Ordering::SeqCst)).then_some(park)
    });
    writer
        .send(rdkafka::producer::BaseRecord::<str, str>::to("vehicles").key("k").payload("second"))
        .map_err(|(error, _)| error)
        .expect("queued");
    support::eventually("the shard is woken", || flag.0.load(Ordering::SeqCst).then_some(()));
    drop(quiet);
    side.until("the second record", |side| (side.records(at).len() == 2).then_some(()));
}

#[test]
fn no_shard_reads_before_every_shard_has_the_map() {
    let cluster = cluster_with("vehicles", 4);
    let mut side = Side::start(embedded(&cluster, 2, listed(&["vehicles"])));
    side.acknowledging[1] = false;
    side.until("the map is there", |side| (side.map.version > 0).then_some(()));
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        side.turn();
        assert_eq!(side.active, 0);
    }
    let version = side.map.version;
    side.brokers[1].acknowledge_map(version);
    side.until("the map is active", |side| (side.active == version).then_some(()));
}

#[test]
fn a_full_producer_queue_says_so_and_answers_what_it_took() {
    let cluster = cluster_with("vehicles", 1);
    let mut kafka = embedded(&cluster, 1, listed(&["vehicles"]));
    kafka.producer.set("queue.buffering.max.messages", "10");
    kafka.producer.set("message.timeout.ms", "1500");
    let mut side = Side::start_ready(kafka);
    cluster.set_broker(1, false).expect("the broker goes down");
    let mut queued = 0;
    loop {
        match side.publish(0, &record("vehicles", Some(0), "k", "v")).1 {
            ProduceStatus::Queued => queued += 1,
            ProduceStatus::Full => break,
            ProduceStatus::Refused(failure) => panic!("refused: {failure:?}"),
        }
        assert!(queued <= 10);
    }
    side.until("all are answered", |side| (side.answers.len() == queued).then_some(()));
    // The broker was never sent any of them, but librdkafka says the same of some that were.
    assert!(side.answers.iter().all(|(_, _, result)| *result == PublishResult::Unknown), "{:?}", side.answers);
    cluster.set_broker(1, true).expect("the broker comes up");
    assert!(matches!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Stored { .. }));
}

#[test]
fn a_publish_whose_answer_got_lost_is_unknown() {
    let cluster = cluster_with("vehicles", 1);
    let mut kafka = embedded(&cluster, 1, listed(&["vehicles"]));
    kafka.producer.set("message.timeout.ms", "1500");
    let mut side = Side::start_ready(kafka);
    assert!(matches!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Stored { .. }));
    cluster.set_round_trip(1, Duration::from_secs(20)).expect("the broker is slow");
    assert_eq!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Unknown);
}

#[test]
fn refusals_of_the_broker_are_told_apart() {
    use rdkafka::types::RDKafkaRespErr as Code;
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    for (code, expected) in [
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, PublishFailure::Denied),
        (Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, PublishFailure::TooLarge),
        (Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, PublishFailure::Unavailable),
    ] {
        cluster.fail_requests(RDKafkaApiKey::Produce, &[code]).expect("the next request fails");
        assert_eq!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Failed(expected), "{code:?}");
        // A denial holds until metadata is read again, which the next publish causes.
        let key = side.until("publishes are taken again", |side| match side.publish(0, &record("vehicles", Some(0), "k", "v")) {
            (key, ProduceStatus::Queued) => Some(key),
            (_, status) => {
                assert_eq!((status, expected), (ProduceStatus::Refused(PublishFailure::Denied), PublishFailure::Denied));
                None
            }
        });
        assert!(matches!(side.answer(key), PublishResult::Stored { .. }));
    }
}

#[test]
fn a_retried_publish_is_stored_once() {
    use rdkafka::types::RDKafkaRespErr as Code;
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    cluster
        .fail_requests(
            RDKafkaApiKey::Produce,
            &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS],
        )
        .expect("two fail");
    assert!(matches!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Stored { .. }));
    let at = side.at("vehicles", 0);
    side.until("the end", |side| (side.next(at) == Some(Offset(1))).then_some(()));
    assert_eq!(side.answers.len(), 1);
}

#[test]
fn the_largest_allowed_value_fits_and_a_larger_record_is_refused_as_such() {
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    let largest = "x".repeat(1_000_000);
    assert!(matches!(side.publish_answered(&record("vehicles", Some(0), &"k".repeat(1_000), &largest)), PublishResult::Stored { .. }));
    let (_, status) = side.publish(0, &record("vehicles", Some(0), "k", &"x".repeat(2_000_000)));
    assert_eq!(status, ProduceStatus::Refused(PublishFailure::TooLarge));
}

#[test]
fn a_topic_that_does_not_exist_is_told_and_never_made() {
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    side.brokers[0].lookup_topic("nowhere");
    side.brokers[0].lookup_topic("vehicles");
    side.until("both are answered", |side| (side.topics_found.len() == 2).then_some(()));
    assert_eq!(side.topics_found, [("nowhere".to_owned(), Err(PublishFailure::NoSuchTopic)), ("vehicles".to_owned(), Ok(1))]);
    let began = Instant::now();
    let (key, status) = side.publish(0, &record("nowhere", Some(0), "k", "v"));
    if status == ProduceStatus::Queued {
        assert_eq!(side.answer(key), PublishResult::Failed(PublishFailure::NoSuchTopic));
    } else {
        assert_eq!(status, ProduceStatus::Refused(PublishFailure::NoSuchTopic));
    }
    assert!(began.elapsed() < Duration::from_secs(4), "before clients give up: {:?}", began.elapsed());
}

#[test]
fn topics_that_appear_under_the_regex_are_read_from_their_first_record() {
    let cluster = cluster_with("vehicles", 2);
    cluster.create_topic("other", 1).expect("the topic is made");
    let mut side = Side::start_ready(embedded(&cluster, 2, matching("vehicles.*")));
    assert!(side.map.topic("other").is_none());
    assert_eq!(side.map.publishable("other"), Some(1));
    cluster.create_topic("vehicles-late", 1).expect("the topic is made");
    support::kafka::produce(cluster.bootstrap(), "vehicles-late", &[("k", "1"), ("k", "2")]);
    side.until("the topic is in the map", |side| side.map.topic("vehicles-late").map(|_| ()));
    let late = side.topic("vehicles-late");
    assert_eq!((late.partitions[0].start, late.partitions[0].generation.0), (Offset(0), 1));
    let at = side.at("vehicles-late", 0);
    side.until("both records", |side| (side.records(at).len() == 2).then_some(()));
    side.until("ready again", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
}

#[test]
fn reading_starts_at_the_end_unless_recovery_is_asked_for() {
    let cluster = cluster_with("vehicles", 1);
    support::kafka::produce(cluster.bootstrap(), "vehicles", &[("k", "1"), ("k", "2")]);
    let side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    assert_eq!(side.topic("vehicles").partitions[0].start, Offset(2));
    let recovering = KafkaOptions { recovery: Some(Duration::from_secs(180)), ..embedded(&cluster, 1, listed(&["vehicles"])) };
    let side = Side::start_ready(recovering);
    assert_eq!(side.topic("vehicles").partitions[0].start, Offset(0));
    assert_eq!(side.records(side.at("vehicles", 0)).len(), 2);
}

#[test]
fn a_listed_topic_that_does_not_exist_fails_the_start_with_its_name() {
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start(embedded(&cluster, 1, listed(&["vehicles", "vehicels"])));
    let reason = side.until("the start fails", |side| match side.side.metadata.state() {
        NodeState::Failed { reason } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("vehicels") && reason.contains("kafka.consumer.topics"), "{reason}");
}

#[test]
fn an_unreachable_kafka_is_tried_again_until_it_is_there() {
    let cluster = cluster_with("vehicles", 1);
    cluster.set_broker(1, false).expect("the broker goes down");
    let mut side = Side::start(embedded(&cluster, 1, listed(&["vehicles"])));
    let reason = side.until("the reason is told", |side| match side.side.metadata.state() {
        NodeState::Connecting { reason } if !reason.is_empty() => Some(reason),
        _ => None,
    });
    let port = cluster.bootstrap().rsplit(':').next().expect("a port").to_owned();
    assert!(reason.contains(&port), "names the address: {reason}");
    // The mailbox of a shard keeps its answers while nothing is known.
    side.brokers[0].lookup_topic("vehicles");
    cluster.set_broker(1, true).expect("the broker comes up");
    side.until("ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
}

#[test]
fn the_partitioner_is_guessed_from_where_the_newest_records_are() {
    let cluster = EmbeddedCluster::start(1).expect("the cluster starts");
    for topic in ["java", "librdkafka", "chaos", "empty"] {
        cluster.create_topic(topic, 5).expect("the topic is made");
    }
    let writer = support::kafka::producer(cluster.bootstrap(), &[]);
    for number in 0..100u32 {
        let key = format!("key-{number}");
        for (topic, partition) in [
            ("java", Partitioner::Murmur2.partition(key.as_bytes(), 5)),
            ("librdkafka", Partitioner::Crc32.partition(key.as_bytes(), 5)),
            ("chaos", number % 5),
        ] {
            let record = rdkafka::producer::BaseRecord::to(topic).key(&key).payload("v").partition(partition as i32);
            writer.send(record).map_err(|(error, _)| error).expect("queued");
        }
    }
    rdkafka::producer::Producer::flush(&writer, support::PATIENCE).expect("all are written");
    let side = Side::start_ready(embedded(&cluster, 1, matching(".*")));
    let rule = |side: &Side, topic: &str| (side.topic(topic).partitioner, side.topic(topic).partitioner_is_guess);
    assert_eq!(rule(&side, "java"), (Partitioner::Murmur2, true));
    assert_eq!(rule(&side, "librdkafka"), (Partitioner::Crc32, true));
    assert_eq!(rule(&side, "chaos"), (Partitioner::Any, true));
    assert_eq!(rule(&side, "empty"), (Partitioner::Murmur2, true));
    assert_eq!(side.side.metadata.live_only_topics(), ["chaos"]);
}

#[test]
fn a_few_odd_records_take_recovery_from_no_topic() {
    let cluster = cluster_with("odd", 5);
    let writer = support::kafka::producer(cluster.bootstrap(), &[]);
    let write = |key: &[u8], partition: u32| {
        let record = rdkafka::producer::BaseRecord::to("odd").key(key).payload("v").partition(partition as i32);
        writer.send(record).map_err(|(error, _)| error).expect("queued");
    };
    for number in 0..2_000u32 {
        let key = format!("key-{number}");
        write(key.as_bytes(), Partitioner::Crc32.partition(key.as_bytes(), 5));
    }
    // No subjects, and more of them than may be misplaced; then some misplaced ones.
    for number in 0..40 {
        [&[0xff, 0xfe][..], b"", b"a\x01b", &[b'x'; 2_000]].iter().for_each(|key| write(key, number % 5));
    }
    for number in 0..16u32 {
        let key = format!("key-{number}");
        write(key.as_bytes(), (Partitioner::Crc32.partition(key.as_bytes(), 5) + 1) % 5);
    }
    rdkafka::producer::Producer::flush(&writer, support::PATIENCE).expect("all are written");
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["odd"])));
    assert_eq!(side.topic("odd").partitioner, Partitioner::Crc32);
    // At run time too: a word of misfits is looked into, and the rule is kept.
    let version = side.map.version;
    let index = side.topic("odd").index;
    side.brokers[0].report_misfit(index);
    std::thread::sleep(Duration::from_secs(2));
    cluster.create_topic("another", 1).expect("the topic is made");
    side.until("another map", |side| (side.map.version > version).then_some(()));
    assert_eq!(side.topic("odd").partitioner, Partitioner::Crc32);
    assert_eq!(side.side.metadata.live_only_topics(), Vec::<String>::new());
}

#[test]
fn a_guess_that_a_record_contradicts_is_decided_again_by_what_is_there() {
    let cluster = cluster_with("late", 5);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["late"])));
    assert_eq!(side.topic("late").partitioner, Partitioner::Murmur2, "nothing is there yet");
    let index = side.topic("late").index;
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    // librdkafka's default: crc32. Two records are found elsewhere under the first map.
    support::kafka::produce(cluster.bootstrap(), "late", &pairs);
    side.brokers[0].report_misfit(index);
    side.brokers[0].report_misfit(index);
    side.until("the rule that fits", |side| (side.topic("late").partitioner == Partitioner::Crc32).then_some(()));
    let (before, after) = (side.map.version, side.topic("late"));
    assert!(after.partitioner_is_guess);
    assert_eq!(
        after.partitions.iter().map(|partition| partition.generation.0).collect::<HashSet<_>>(),
        HashSet::from([1]),
        "the logs are the same"
    );
    // What another shard says late of the first rule changes nothing.
    side.brokers[0].acknowledge_map(before - 1);
    side.brokers[0].report_misfit(index);
    side.brokers[0].acknowledge_map(before);
    cluster.create_topic("another", 1).expect("the topic is made");
    side.until("another map", |side| (side.map.version > before).then_some(()));
    assert_eq!(side.topic("late").partitioner, Partitioner::Crc32);
    // Java's rule too: now none is left.
    let java = support::kafka::producer(cluster.bootstrap(), &[("partitioner", "murmur2_random")]);
    for key in &keys {
        java.send(rdkafka::producer::BaseRecord::to("late").key(key).payload("v")).map_err(|(error, _)| error).expect("queued");
    }
    rdkafka::producer::Producer::flush(&java, support::PATIENCE).expect("all are written");
    side.brokers[0].report_misfit(index);
    side.until("the topic turns to any", |side| (side.topic("late").partitioner == Partitioner::Any).then_some(()));
}

#[test]
fn every_open_publish_has_its_answer_when_the_node_stops() {
    let cluster = cluster_with("vehicles", 1);
    let mut side = Side::start_ready(embedded(&cluster, 1, listed(&["vehicles"])));
    assert!(matches!(side.publish_answered(&record("vehicles", Some(0), "k", "v")), PublishResult::Stored { .. }));
    // Half on their way, half not sent.
    cluster.set_round_trip(1, Duration::from_secs(20)).expect("the broker is slow");
    for _ in 0..50 {
        side.publish(0, &record("vehicles", Some(0), "k", "v"));
    }
    // Nothing says when librdkafka's thread has sent them; it sends at once.
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..50 {
        side.publish(0, &record("vehicles", Some(0), "k", "v"));
    }
    let began = Instant::now();
    side.side.flush(Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    side.turn();
    assert_eq!(side.answers.len(), 101);
    assert_eq!(side.answers.iter().map(|(_, key, _)| *key).collect::<HashSet<_>>().len(), 101);
    assert!(side.answers.iter().any(|(_, _, result)| *result == PublishResult::Unknown), "those on their way may be stored");
}

#[test]
fn many_partitions_are_ready_soon() {
    let cluster = cluster_with("wide", 500);
    let began = Instant::now();
    let side = Side::start_ready(embedded(&cluster, 2, listed(&["wide"])));
    eprintln!("500 partitions ready in {:?}", began.elapsed());
    assert!(side.topic("wide").partitions.iter().all(|partition| partition.generation.0 == 1));
}
