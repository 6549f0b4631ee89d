//! The Kafka side on a real Apache Kafka: what only the real one shows.
//!
//! The tests are ignored by plain `cargo test`; `./dev test kafka` starts the clusters and runs them.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use corespan::handoff::{LogEndQuestion, Offset, PartitionRef};
use corespan::kafka::{KafkaOptions, NodeState};
use corespan::shard::{Broker as _, ProduceRecord, ProduceStatus, PublishFailure, PublishResult};
use corespan::subject::{Partitioner, ValueKind};
use corespan::subject::{PartitionerChoice, TopicSettings};
use futures_lite::future::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};
use support::kafka::{self, bootstrap, fresh};
use support::kafka_side::{Side, listed, matching, options, record};
use support::{PATIENCE, eventually};

fn murmur2(options: KafkaOptions) -> KafkaOptions {
    let settings =
        |_: &str| TopicSettings { partitioner: PartitionerChoice::Fixed(Partitioner::Murmur2), value: ValueKind::Auto, snapshot: false };
    KafkaOptions { topic: Box::new(settings), ..options }
}

/// A topic and a side that reads it, ready.
fn side_on(name: &str, partitions: i32) -> (String, Side) {
    let topic = fresh(name);
    kafka::create_topic(&bootstrap(), &topic, partitions, 1, &[]);
    let side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    (topic, side)
}

fn transactional(id: &str) -> rdkafka::producer::ThreadedProducer<rdkafka::producer::DefaultProducerContext> {
    let producer = kafka::producer(&bootstrap(), &[("transactional.id", id)]);
    producer.init_transactions(PATIENCE).expect("transactions are there");
    producer
}

fn send(producer: &rdkafka::producer::ThreadedProducer<rdkafka::producer::DefaultProducerContext>, topic: &str, value: &str) {
    producer.send(BaseRecord::to(topic).key("k").payload(value).partition(0)).map_err(|(error, _)| error).expect("queued");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn topics_have_kafkas_own_ids() {
    // Enough of them that every character of their alphabet is seen.
    let prefix = fresh("ids");
    let topics: Vec<String> = (0..30).map(|number| format!("{prefix}-{number}")).collect();
    for topic in &topics {
        kafka::create_topic(&bootstrap(), topic, 1, 1, &[]);
    }
    let side = Side::start_ready(options(&bootstrap(), 1, matching(&format!("{prefix}-.*"))));
    let pattern = format!("{prefix}-.*");
    let described = kafka::dev_kafka(&["TopicCommand", "--bootstrap-server", &bootstrap(), "--describe", "--topic", &pattern], "", &[]);
    for topic in &topics {
        let line = described.lines().find(|line| line.split_whitespace().any(|word| word == topic) && line.contains("TopicId:"));
        let id = line.and_then(|line| line.split("TopicId:").nth(1)).and_then(|rest| rest.split_whitespace().next()).expect("an id");
        assert_eq!(&*side.topic(topic).id, id);
        kafka::delete_topic(&bootstrap(), topic);
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn an_open_transaction_delays_nobody_and_control_records_are_passed() {
    let (topic, mut side) = side_on("transactions", 1);
    let at = side.at(&topic, 0);
    let producer = transactional(&topic);
    producer.begin_transaction().expect("begins");
    send(&producer, &topic, "committed");
    producer.commit_transaction(PATIENCE).expect("commits");
    // One record and one control record: the end is past both.
    side.until("the end past the marker", |side| (side.next(at) == Some(Offset(2))).then_some(()));
    producer.begin_transaction().expect("begins");
    send(&producer, &topic, "aborted");
    producer.flush(PATIENCE).expect("Kafka has it");
    producer.abort_transaction(PATIENCE).expect("aborts");
    side.until("the end past the aborted one", |side| (side.next(at) == Some(Offset(4))).then_some(()));
    producer.begin_transaction().expect("begins");
    send(&producer, &topic, "open");
    producer.flush(PATIENCE).expect("Kafka has it");
    // The last stable offset is the end as long as the transaction is open.
    let generation = side.topic(&topic).partitions[0].generation;
    side.brokers[0].query_log_end(LogEndQuestion { partition: at, generation, number: 0 });
    assert_eq!(side.until("the log end", |side| side.log_ends.pop()), (at, Some(Offset(4))));
    let second = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    assert_eq!(second.topic(&topic).partitions[0].ready_at, Offset(4));
    producer.commit_transaction(PATIENCE).expect("commits");
    side.until("the end", |side| (side.next(at) == Some(Offset(6))).then_some(()));
    let values: Vec<_> = side.records(at).into_iter().map(|record| (record.offset.0, record.value.expect("a value"))).collect();
    assert_eq!(values, [(0, "committed".into()), (4, "open".into())]);
    assert!(side.records(at).iter().all(|record| record.leader_epoch >= 0), "Kafka tells leader epochs");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_log_with_gaps_from_compaction_is_read_to_its_end() {
    let topic = fresh("compacted");
    let settings =
        [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01"), ("max.compaction.lag.ms", "200")];
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &settings);
    for number in 0..40 {
        kafka::produce(&bootstrap(), &topic, &[(["a", "b"][number % 2], &number.to_string())]);
        if number % 10 == 9 {
            // A segment is closed by a record that comes after its time.
            std::thread::sleep(Duration::from_millis(150));
        }
    }
    // The log cleaner runs when it likes: every new look may find fewer records.
    let records = eventually("the log has gaps", || {
        let recovering = KafkaOptions { recovery: Some(Duration::from_secs(600)), ..options(&bootstrap(), 1, listed(&[&topic])) };
        let side = Side::start_ready(recovering);
        let at = side.at(&topic, 0);
        assert!(side.topic(&topic).compacted);
        assert_eq!(side.next(at), Some(Offset(40)), "read to the end");
        let records = side.records(at);
        (records.len() < 40).then_some(records)
    });
    assert_eq!(records.last().expect("a record").offset, Offset(39));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_position_below_the_log_start_opens_a_new_generation_there() {
    let topic = fresh("truncated");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let records: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let records: Vec<(&str, &str)> = records.iter().map(|value| ("k", value.as_str())).collect();
    kafka::produce(&bootstrap(), &topic, &records);
    let mut side = Side::start(KafkaOptions { recovery: Some(Duration::from_secs(600)), ..options(&bootstrap(), 1, listed(&[&topic])) });
    // The shard has the map but reads nothing yet: the log start passes its position.
    side.acknowledging[0] = false;
    side.until("the map", |side| (side.map.version > 0).then_some(()));
    let at = side.at(&topic, 0);
    assert_eq!(side.topic(&topic).partitions[0].start, Offset(0));
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", bootstrap()).create().expect("a client");
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&topic, 0, KafkaOffset::Offset(30)).expect("an offset");
    block_on(admin.delete_records(&below, &AdminOptions::new())).expect("records are deleted");
    let version = side.map.version;
    side.acknowledging[0] = true;
    side.brokers[0].acknowledge_map(version);
    side.until("a new generation", |side| (side.topic(&topic).partitions[0].generation.0 == 2).then_some(()));
    assert_eq!(side.topic(&topic).partitions[0].start, Offset(30));
    side.until("its end", |side| (side.next(at) == Some(Offset(50))).then_some(()));
    assert_eq!(side.records(at).len(), 20);
    side.until("ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_made_again_is_read_from_its_beginning_in_a_new_generation() {
    let (topic, mut side) = side_on("again", 2);
    for number in 0..5 {
        side.publish_answered(&record(&topic, Some(0), "k", &number.to_string()));
    }
    let (before, index) = (side.topic(&topic), side.at(&topic, 0));
    side.until("the old records", |side| (side.records(index).len() == 5).then_some(()));
    kafka::delete_topic(&bootstrap(), &topic);
    kafka::create_topic(&bootstrap(), &topic, 2, 1, &[]);
    kafka::produce(&bootstrap(), &topic, &[("k", "new")]);
    side.until("another id", |side| side.map.topic(&topic).is_some_and(|topic| topic.id != before.id).then_some(()));
    let after = side.topic(&topic);
    assert_eq!(after.index, before.index, "the name keeps its index");
    assert!(
        after.partitions.iter().all(|partition| partition.generation > before.partitions[0].generation && partition.start == Offset(0))
    );
    let generation = after.partitions[0].generation;
    side.until("the new record", |side| {
        side.batches
            .iter()
            .any(|(_, batch)| batch.generation == generation && batch.records.iter().any(|record| record.value.as_deref() == Some(b"new")))
            .then_some(())
    });
    side.until("a publish reaches it", |side| {
        let (key, status) = side.publish(0, &record(&topic, Some(1), "k", "v"));
        (status == ProduceStatus::Queued && matches!(side.answer(key), PublishResult::Stored { offset: Offset(_), .. })).then_some(())
    });
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_made_again_is_found_by_the_position_that_it_lacks_and_read_from_its_beginning() {
    let topic = fresh("again");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let mut side =
        Side::start_ready(KafkaOptions { metadata_interval: Duration::from_secs(600), ..options(&bootstrap(), 1, listed(&[&topic])) });
    let at = side.at(&topic, 0);
    for _ in 0..5 {
        side.publish_answered(&record(&topic, Some(0), "k", "old"));
    }
    side.until("the old records", |side| (side.records(at).len() == 5).then_some(()));
    let before = side.topic(&topic).id.clone();
    kafka::delete_topic(&bootstrap(), &topic);
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let began = Instant::now();
    kafka::produce(&bootstrap(), &topic, &[("k", "new"); 3]);
    // The timer of the metadata reader does not help.
    side.until("another id", |side| side.map.topic(&topic).is_some_and(|topic| topic.id != before).then_some(()));
    eprintln!("a topic made again is known {:?} after its first records", began.elapsed());
    side.until("the new records", |side| (side.records(at).len() == 8).then_some(()));
    let generation = side.topic(&topic).partitions[0].generation;
    assert_eq!(generation.0, 2, "one new generation, not one for the position and one for the topic");
    for (_, batch) in side.batches.iter().filter(|(_, batch)| batch.partition == at) {
        for record in &batch.records {
            let new = record.value.as_deref() == Some(b"new");
            assert_eq!(new, batch.generation == generation, "{record:?} in {:?}", batch.generation);
        }
    }
}

/// Loses the last five of ten records in an unclean election, and writes so many others in their place before the reader can look.
fn unclean_election(others: usize) {
    let _alone = kafka::three_alone();
    let (bootstrap, folder) = (kafka::bootstrap_three(), kafka::folder_three());
    let topic = fresh("unclean");
    kafka::create_topic(&bootstrap, &topic, 1, 2, &[("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")]);
    let broker = |action: &str, broker: i32| kafka::broker_action(&folder, action, &broker.to_string());
    let mut side = Side::start_ready(murmur2(options(&bootstrap, 1, listed(&[&topic]))));
    let at = side.at(&topic, 0);
    let write = |value: &str, count: usize| kafka::produce(&bootstrap, &topic, &vec![("k", value); count]);
    write("kept", 5);
    let leader = kafka::leader(&bootstrap, &topic);
    let follower = kafka::replicas(&bootstrap, &topic).into_iter().find(|replica| *replica != leader).expect("a follower");
    broker("kill", follower);
    write("lost", 5);
    side.until("all ten", |side| (side.records(at).len() == 10).then_some(()));
    broker("kill", leader);
    broker("start", follower);
    eventually("the follower leads", || (kafka::leader(&bootstrap, &topic) == follower).then_some(()));
    write("new", others);
    side.until("a new generation", |side| (side.topic(&topic).partitions[0].generation.0 > 1).then_some(()));
    broker("start", leader);
    write("last", 1);
    side.until("what comes is read", |side| side.records(at).iter().any(|record| record.value.as_deref() == Some(b"last")).then_some(()));
    let partition = side.topic(&topic).partitions[0].clone();
    assert!(partition.start.0 <= 5 + others as i64 && partition.leader_epoch > 0, "it begins within the log that is there: {partition:?}");
    for (_, batch) in side.batches.iter().filter(|(_, batch)| batch.partition == at) {
        for record in &batch.records {
            let old = matches!(record.value.as_deref(), Some(b"kept" | b"lost"));
            assert_eq!(old, batch.generation.0 == 1, "{record:?} in {:?}", batch.generation);
        }
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_that_an_unclean_election_loses_open_a_new_generation() {
    unclean_election(3);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_that_others_have_replaced_open_a_new_generation_by_their_leader_epoch() {
    unclean_election(20);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn what_a_reader_is_told_of_its_topics_may_change() {
    let (topic, mut side) = side_on("policy", 1);
    assert!(!side.topic(&topic).compacted);
    let before = side.topic(&topic).partitions[0].clone();
    kafka::configure_topic(&bootstrap(), &topic, "cleanup.policy=compact");
    side.until("it is compacted", |side| side.topic(&topic).compacted.then_some(()));
    kafka::configure_topic(&bootstrap(), &topic, "cleanup.policy=delete");
    side.until("it is not any more", |side| (!side.topic(&topic).compacted).then_some(()));
    assert_eq!(side.topic(&topic).partitions[0], before, "its log is the same");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn positions_of_a_quiet_log_carry_its_leader_epoch() {
    let topic = fresh("quiet");
    kafka::create_topic(&bootstrap(), &topic, 2, 1, &[]);
    kafka::produce(&bootstrap(), &topic, &[("k", "v"), ("k", "v")]);
    let side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    let epochs: Vec<i32> = side.topic(&topic).partitions.iter().map(|partition| partition.leader_epoch).collect();
    eprintln!("leader epochs: {epochs:?}");
    assert!(epochs.contains(&0), "{epochs:?}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_topic_that_is_deleted_leaves_the_map_and_publishes_to_it_are_refused() {
    let (topic, mut side) = side_on("deleted", 1);
    let keep = fresh("kept");
    kafka::create_topic(&bootstrap(), &keep, 1, 1, &[]);
    side.publish_answered(&record(&topic, Some(0), "k", "v"));
    kafka::delete_topic(&bootstrap(), &topic);
    let began = Instant::now();
    let (key, status) = side.publish(0, &record(&topic, Some(0), "k", "v"));
    if status == ProduceStatus::Queued {
        let answer = side.answer(key);
        eprintln!("a publish to a deleted topic: {answer:?} after {:?}", began.elapsed());
        assert!(matches!(answer, PublishResult::Failed(_)), "nothing can be stored: {answer:?}");
    }
    side.until("the hole", |side| side.map.topic(&topic).is_none().then_some(()));
    side.brokers[0].lookup_topic(&topic);
    assert_eq!(side.until("the look-up", |side| side.topics_found.pop()), (topic, Err(PublishFailure::NoSuchTopic)));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn new_partitions_are_read_from_their_beginning_and_can_be_published_to_at_once() {
    let (topic, mut side) = side_on("grown", 1);
    side.publish_answered(&record(&topic, Some(0), "k", "v"));
    kafka::grow_topic(&bootstrap(), &topic, 3);
    side.until("three partitions", |side| (side.topic(&topic).partitions.len() == 3).then_some(()));
    let began = Instant::now();
    assert_eq!(side.topic(&topic).earlier_counts, [1]);
    assert!(side.topic(&topic).partitions.iter().skip(1).all(|partition| partition.start == Offset(0)));
    let key =
        side.until("the producer takes the new partition", |side| match side.publish(0, &record(&topic, Some(2), "k", "to the new one")) {
            (key, ProduceStatus::Queued) => Some(key),
            (_, ProduceStatus::Full) => None,
            (_, ProduceStatus::Refused(failure)) => panic!("refused: {failure:?}"),
        });
    assert!(matches!(side.answer(key), PublishResult::Stored { partition: 2, .. }));
    let at = side.at(&topic, 2);
    side.until("it is read", |side| (side.records(at).len() == 1).then_some(()));
    eprintln!("a new partition is written and read {:?} after the map", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    side.until("ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn recovery_starts_where_the_last_seconds_begin() {
    let topic = fresh("recovery");
    kafka::create_topic(&bootstrap(), &topic, 2, 1, &[]);
    let writer = kafka::producer(&bootstrap(), &[]);
    let now_ms = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as i64;
    for (age_s, partition) in [(900, 0), (600, 0), (60, 0), (1, 0), (900, 1)] {
        let record = BaseRecord::<str, str>::to(&topic).key("k").payload("v").partition(partition).timestamp(now_ms - age_s * 1000);
        writer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    writer.flush(PATIENCE).expect("all are written");
    let side = Side::start_ready(KafkaOptions { recovery: Some(Duration::from_secs(180)), ..options(&bootstrap(), 1, listed(&[&topic])) });
    let starts: Vec<i64> = side.topic(&topic).partitions.iter().map(|partition| partition.start.0).collect();
    assert_eq!(starts, [2, 1], "where 180 s ago is, and the end where nothing is as young");
    assert_eq!(side.records(PartitionRef { topic: side.topic(&topic).index, partition: 0 }).len(), 2);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_record_that_the_topic_refuses_is_too_large_and_the_next_one_is_stored() {
    let topic = fresh("small");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[("max.message.bytes", "2000")]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    // Without compression its size is what Kafka would compare: it never leaves the bridge.
    let (_, status) = side.publish(0, &record(&topic, Some(0), "k", &"x".repeat(5000)));
    assert_eq!(status, ProduceStatus::Refused(PublishFailure::TooLarge));
    let stored = side.publish_when_taken(&record(&topic, Some(0), "k", "v"));
    assert!(matches!(stored, PublishResult::Stored { offset: Offset(0), .. }));
    // The largest that the bridge allows, with its key, into a topic as Kafka makes it.
    let topic = fresh("large");
    kafka::create_topic(&bootstrap(), &topic, 1, 1, &[]);
    let mut side = Side::start_ready(options(&bootstrap(), 1, listed(&[&topic])));
    let largest: String = (0..1_000_000).map(|_| fastrand::alphanumeric()).collect();
    assert!(matches!(side.publish_answered(&record(&topic, Some(0), &"k".repeat(1000), &largest)), PublishResult::Stored { .. }));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_without_a_key_are_spread_and_each_is_answered_once() {
    let (topic, mut side) = side_on("keyless", 3);
    for number in 0..300 {
        let keyless = ProduceRecord { key: None, partition: None, ..record(&topic, None, "", &number.to_string()) };
        assert_eq!(side.publish(0, &keyless).1, ProduceStatus::Queued);
        if number % 30 == 0 {
            side.until("a batch is out", |side| (side.answers.len() > number).then_some(()));
        }
    }
    side.until("all are answered", |side| (side.answers.len() == 300).then_some(()));
    assert!(side.answers.iter().all(|(_, _, result)| matches!(result, PublishResult::Stored { .. })));
    let partitions: HashSet<u32> = side
        .answers
        .iter()
        .filter_map(|(_, _, result)| if let PublishResult::Stored { partition, .. } = result { Some(*partition) } else { None })
        .collect();
    assert!(partitions.len() > 1, "{partitions:?}");
    side.until("all are read", |side| (side.batches.iter().map(|(_, batch)| batch.records.len()).sum::<usize>() == 300).then_some(()));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn wrong_credentials_are_said_in_kafkas_words() {
    let (sasl, _, ca) = kafka::sasl();
    let mut kafka = options(&sasl, 1, matching(".*"));
    for properties in [&mut kafka.consumer, &mut kafka.producer] {
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", ca.as_str()),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", "wrong"),
        ] {
            properties.set(name, value);
        }
    }
    let mut side = Side::start(kafka);
    let reason = side.until("the reason", |side| match side.side.metadata.state() {
        NodeState::Connecting { reason } if reason.contains("SASL") => Some(reason),
        _ => None,
    });
    assert!(reason.to_lowercase().contains("authentication"), "{reason}");
    eprintln!("{reason}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn many_topics_and_partitions_are_ready_soon() {
    let prefix = fresh("many");
    for number in 0..20 {
        kafka::create_topic(&bootstrap(), &format!("{prefix}-{number}"), 25, 1, &[]);
    }
    let began = Instant::now();
    let side = Side::start_ready(murmur2(options(&bootstrap(), 2, matching(&format!("{prefix}-.*")))));
    eprintln!("20 topics of 25 partitions are ready in {:?}", began.elapsed());
    assert_eq!(side.map.topics().count(), 20);
    for number in 0..20 {
        kafka::delete_topic(&bootstrap(), &format!("{prefix}-{number}"));
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_partition_without_a_leader_delays_no_other_and_starts_where_it_was_to() {
    let _alone = kafka::three_alone();
    let (bootstrap, folder) = (kafka::bootstrap_three(), kafka::folder_three());
    let topic = fresh("leaderless");
    kafka::create_topic(&bootstrap, &topic, 6, 1, &[]);
    let writer = kafka::producer(&bootstrap, &[]);
    for partition in 0..6 {
        let record = BaseRecord::<str, str>::to(&topic).key("k").payload("before").partition(partition);
        writer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    writer.flush(PATIENCE).expect("all are written");
    let dead = kafka::leader(&bootstrap, &topic);
    kafka::broker_action(&folder, "kill", &dead.to_string());
    let lacks_leader = |side: &Side| side.topic(&topic).partitions.iter().filter(|partition| partition.generation.0 == 0).count();
    let mut side = eventually("the cluster knows that the broker is gone", || {
        let mut side = Side::start(murmur2(options(&bootstrap, 1, listed(&[&topic]))));
        side.until("the map", |side| (side.map.topic(&topic).is_some() && side.active > 0).then_some(()));
        (lacks_leader(&side) > 0 && lacks_leader(&side) < 6).then_some(side)
    });
    let began = Instant::now();
    let living = side.topic(&topic).partitions.iter().position(|partition| partition.generation.0 > 0).expect("a living partition") as u32;
    assert!(matches!(side.publish_when_taken(&record(&topic, Some(living), "k", "during")), PublishResult::Stored { .. }));
    let at = side.at(&topic, living);
    side.until("it is read", |side| (side.records(at).len() == 1).then_some(()));
    assert!(began.elapsed() < Duration::from_secs(4), "nobody waits for the dead: {:?}", began.elapsed());
    assert!(matches!(side.side.metadata.state(), NodeState::Loading { .. }));
    kafka::broker_action(&folder, "start", &dead.to_string());
    side.until("ready", |side| (side.side.metadata.state() == NodeState::Ready).then_some(()));
    for (number, partition) in side.topic(&topic).partitions.iter().enumerate() {
        assert_eq!(partition.start, Offset(1), "partition {number} starts at its end, not at its beginning");
    }
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_are_all_stored_with_one_request_in_flight_with_five_and_over_several_producers() {
    const PARTITIONS: u32 = 12;
    const KEYS: usize = 240;
    let count = if std::env::var_os("CORESPAN_TEST_LONG").is_some() { 100_000 } else { 2_000 };
    let ways = [("one in flight", "1", 1), ("five in flight", "5", 1), ("one in flight, four producers", "1", 4)];
    let mut times = [Duration::ZERO; 3];
    let topic = fresh("rates");
    kafka::create_topic(&bootstrap(), &topic, PARTITIONS as i32, 1, &[]);
    let value = "v".repeat(200);
    // In turns: the machine is not equally busy all the time.
    for _ in 0..4 {
        for (place, (_, in_flight, producers)) in ways.into_iter().enumerate() {
            let mut options = KafkaOptions { producers_size: producers, ..options(&bootstrap(), 1, matching("nothing-matches")) };
            options.producer.set("max.in.flight", in_flight);
            let mut side = Side::start_ready(options);
            // The first ones wait for the topic's settings, and for connections.
            for partition in 0..PARTITIONS {
                side.publish_when_taken(&record(&topic, Some(partition), "k0", &value));
            }
            side.answers.clear();
            let began = Instant::now();
            for number in 0..count / 4 {
                let (key, partition) = (number % KEYS, (number % KEYS) as u32 % PARTITIONS);
                let record = record(&topic, Some(partition), &format!("k{key}"), &value);
                side.until("the producer takes it", |side| (side.publish(0, &record).1 == ProduceStatus::Queued).then_some(()));
            }
            side.until("all are answered", |side| (side.answers.len() == count / 4).then_some(()));
            times[place] += began.elapsed();
            assert!(side.answers.iter().all(|(_, _, result)| matches!(result, PublishResult::Stored { .. })));
        }
    }
    for ((name, _, _), time) in ways.iter().zip(times) {
        let ratio = times[1].as_secs_f64() / time.as_secs_f64();
        eprintln!("{name}: {:.0} publishes a second, {ratio:.2} of five in flight", count as f64 / time.as_secs_f64());
    }
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("it can be asked");
    [usage.user_time(), usage.system_time()].iter().map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000)).sum()
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn records_are_read_the_same_with_and_without_checksums() {
    let count = if std::env::var_os("CORESPAN_TEST_LONG").is_some() { 400_000 } else { 5_000 };
    let topic = fresh("checked");
    kafka::create_topic(&bootstrap(), &topic, 4, 1, &[]);
    let value = "v".repeat(200);
    let writer = kafka::producer(&bootstrap(), &[("linger.ms", "5")]);
    for number in 0..count {
        let key = format!("k{number}");
        while writer.send(BaseRecord::to(&topic).key(&key).payload(&value).partition(number % 4)).is_err() {
            writer.flush(PATIENCE).expect("Kafka has them");
        }
    }
    writer.flush(PATIENCE).expect("Kafka has them");
    let mut cpu = [Duration::ZERO; 2];
    for _ in 0..3 {
        for (place, check) in ["true", "false"].into_iter().enumerate() {
            let mut options =
                KafkaOptions { recovery: Some(Duration::from_secs(600)), ..murmur2(options(&bootstrap(), 1, listed(&[&topic]))) };
            options.consumer.set("check.crcs", check);
            let began = cpu_time();
            let side = Side::start_ready(options);
            cpu[place] += cpu_time() - began;
            assert_eq!(side.batches.iter().map(|(_, batch)| batch.records.len()).sum::<usize>(), count as usize);
        }
    }
    eprintln!("CPU time to read {count} records, with checksums to without: {:.2}", cpu[0].as_secs_f64() / cpu[1].as_secs_f64());
}
