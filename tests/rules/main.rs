//! The rules of `src/README.md`, each with its plain example. The simulator (`tests/simulation.rs`) tries them in any order and at any time.

mod harness;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use corespan::handoff::{Generation, Offset, PartitionRef, RecordBatch, ShardId, TopicIndex};
use corespan::shard::{Event, PublishFailure, PublishResult, ShardSettings};
use corespan::subject::{Partitioner, Topic, TopicMap, ValueKind};
use corespan::subject::{PartitionerChoice, TopicSettings};
use harness::{Client, Node, map, publications, record, topic};
use serde_json::{Value, json};

fn serving(shards: u16, partitions: u32) -> (Node, Topic) {
    let topic = topic(0, "v", partitions, shards);
    (Node::serving(shards, ShardSettings::default(), vec![topic.clone()]), topic)
}

fn epoch(reply: &Value) -> String {
    reply["subscribe"]["epoch"].as_str().unwrap_or_default().to_owned()
}

fn offsets(list: &[(u64, Value)]) -> Vec<u64> {
    list.iter().map(|(offset, _)| *offset).collect()
}

/// A client that takes nothing until it is over its outbox bound.
fn slow_client(settings: ShardSettings, shards: u16) -> (Node, Topic, Client) {
    let topic = topic(0, "v", 2, shards);
    let mut node = Node::serving(shards, settings, vec![topic.clone()]);
    let client = node.connect(0);
    node.subscribe(client, "/v/k");
    node.set_room(client, 0);
    (node, topic, client)
}

fn small() -> ShardSettings {
    ShardSettings { outbox_bytes_max: 16 << 10, slow_client_timeout_ms: 5_000, ..ShardSettings::default() }
}

fn long(number: i64) -> String {
    format!("\"{number}:{}\"", "x".repeat(1_000))
}

#[test]
fn rule_1_a_shard_acknowledges_a_map_before_it_consumes_under_it() {
    let topic = topic(0, "v", 4, 2);
    let mut node = Node::new(2, ShardSettings::default());
    for shard in 0..2 {
        node.handle(shard, Event::Map(map(1, vec![topic.clone()])));
        assert_eq!(node.hands[shard].acknowledged, 1);
        assert!(node.hands[shard].assigned.is_empty(), "nothing is read before every shard routes by the map");
    }
    for shard in 0..2 {
        node.handle(shard, Event::MapActive { version: 1 });
    }
    let assigned: Vec<u32> =
        (0..2).flat_map(|shard| node.hands[shard].assigned.iter().map(|assignment| assignment.partition.partition)).collect();
    assert_eq!(assigned, [0, 2, 1, 3], "each partition has one owner");
}

#[test]
fn rule_1_a_request_routed_by_another_map_is_routed_again() {
    let (mut node, topic) = serving(2, 2);
    let client = node.connect(0);
    let key = (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())).shard == ShardId(1)).unwrap();
    // Shard 1 has the next map already, shard 0 has not.
    let next = map(2, vec![topic.clone()]);
    node.handle(1, Event::Map(next.clone()));
    let id = node.send(client, json!({"subscribe": {"channel": format!("/v/{key}")}}));
    node.settle();
    assert!(node.reply(client, id).is_none(), "the home does not answer under another map");
    node.handle(0, Event::Map(next));
    node.pass(50);
    assert!(node.reply(client, id).unwrap()["subscribe"].is_object());
    node.consume_keyed(&topic, 0, &key, "1");
    assert_eq!(node.pushes(client), [(1, json!(1))]);
}

#[test]
fn rule_1_a_key_that_finds_another_home_is_granted_there_only_when_every_shard_routes_by_the_map() {
    let mut topic = harness::topic(0, "v", 2, 2);
    topic.partitioner = Partitioner::Any;
    let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
    let mut grown = harness::topic(0, "v", 3, 2);
    grown.partitioner = Partitioner::Any;
    // From shard 1 to shard 0, where the client is.
    let moves =
        |key: &str| topic.home(Some(key.as_bytes())).shard == ShardId(1) && grown.home(Some(key.as_bytes())).partition.partition == 0;
    let key = (0..100).map(|n| n.to_string()).find(|key| moves(key)).unwrap();
    let client = node.connect(0);
    let next = map(2, vec![grown.clone()]);
    node.handle(0, Event::Map(next.clone()));
    let id = node.send(client, json!({"subscribe": {"channel": format!("/v/{key}")}}));
    node.settle();
    // Shard 1 takes itself for the home still, and this record for its own: nobody may have been promised it.
    node.consume(&topic, 1, vec![record(0, Some(&key), Some("1"))]);
    assert!(node.reply(client, id).is_none());
    node.handle(1, Event::Map(next));
    for shard in 0..2 {
        node.handle(shard, Event::MapActive { version: 2 });
    }
    node.settle();
    assert!(node.reply(client, id).unwrap()["subscribe"].is_object());
    node.consume(&grown, 1, vec![record(1, Some(&key), Some("2"))]);
    assert_eq!(node.pushes(client), [(0, json!(2))]);
}

#[test]
fn rule_2_a_record_goes_to_the_subscribers_of_its_key_wherever_they_are() {
    let (mut node, topic) = serving(3, 7);
    let clients: Vec<Client> = (0..3).map(|shard| node.connect(shard)).collect();
    for client in &clients {
        for key in 0..20 {
            node.subscribe(*client, &format!("/v/{key}"));
        }
    }
    let mut next: HashMap<u32, i64> = HashMap::new();
    for key in 0..20 {
        let partition = topic.home(Some(key.to_string().as_bytes())).partition.partition;
        let offset = next.entry(partition).or_default();
        node.consume(&topic, partition, vec![record(*offset, Some(&key.to_string()), Some(&key.to_string()))]);
        *offset += 1;
    }
    for client in clients {
        let mut values: Vec<i64> = node.pushes(client).iter().map(|(_, data)| data.as_i64().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, (0..20).collect::<Vec<i64>>());
    }
}

#[test]
fn rule_2_a_subject_whose_record_is_found_elsewhere_is_live_only_from_then_on_and_the_others_keep_their_positions() {
    for guess in [false, true] {
        let mut topic = topic(0, "v", 2, 2);
        topic.partitioner_is_guess = guess;
        let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
        let clients: Vec<Client> = (0..2).map(|shard| node.connect(shard)).collect();
        let home = topic.home(Some(b"k"));
        let wrong = 1 - home.partition.partition;
        let other = (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())) == home).unwrap();
        let other = format!("/v/{other}");
        let position = epoch(&node.subscribe(clients[0], "/v/k"));
        let epoch_of_other = epoch(&node.subscribe(clients[0], &other));
        node.subscribe(clients[1], "/v/k");
        node.consume_keyed(&topic, 0, "k", "1");
        for client in &clients {
            assert_eq!(node.pushes(*client), [(1, json!(1))]);
        }
        node.consume(&topic, wrong, vec![record(0, Some("k"), Some("7"))]);
        for client in &clients {
            let frames = node.frames(*client);
            assert_eq!(frames.len(), 2, "the record, and the word to come back: {frames:?}");
            assert_eq!(frames[0]["push"]["pub"]["data"], 7);
            assert!(frames[0]["push"]["pub"]["offset"].is_null());
            assert_eq!((&frames[1]["push"]["channel"], &frames[1]["push"]["unsubscribe"]["code"]), (&json!("/v/k"), &json!(2500)));
        }
        let core = node.cores[home.shard.index()].counters();
        assert_eq!((core.strays, core.strays_over), (1, 0));
        // Whoever comes back has no positions any more, and every record once, wherever it is found.
        let reply = node.recover(clients[0], "/v/k", &position, 2);
        assert_ne!(reply["subscribe"]["recoverable"], json!(true));
        assert_ne!(reply["subscribe"]["recovered"], json!(true));
        node.consume(&topic, wrong, vec![record(1, Some("k"), Some("8"))]);
        node.consume_keyed(&topic, 1, "k", "9");
        assert_eq!(node.pushes(clients[0]), [(0, json!(8)), (0, json!(9))]);
        // Other subjects of the same partition know nothing of it.
        node.ask(clients[0], json!({"unsubscribe": {"channel": other}}));
        let reply = node.recover(clients[0], &other, &epoch_of_other, 0);
        assert_eq!((&reply["subscribe"]["recoverable"], &reply["subscribe"]["recovered"]), (&json!(true), &json!(true)));
        // A rule that explains it gives it positions again.
        topic.partitioner = Partitioner::Crc32;
        node.take_map(map(2, vec![topic.clone()]));
        node.frames(clients[0]);
        assert_eq!(node.subscribe(clients[1], "/v/k")["subscribe"]["recoverable"], true);
    }
}

#[test]
fn rule_2_a_guessed_rule_is_decided_again_when_too_many_records_are_elsewhere_and_one_in_a_hundred_is_not() {
    let mut topic = topic(0, "v", 2, 2);
    topic.partitioner_is_guess = true;
    let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
    let keys: Vec<String> = (0..10_000).map(|n| format!("key-{n}")).collect();
    let (right, wrong): (Vec<&String>, Vec<&String>) =
        keys.iter().partition(|key| topic.home(Some(key.as_bytes())).partition.partition == 0);
    let owner = topic.partitions[0].owner.index();
    let mut offset = 0;
    let mut consume = |node: &mut Node, keys: &[&String]| {
        for key in keys {
            node.consume(&topic, 0, vec![record(offset, Some(key), Some("1"))]);
            offset += 1;
        }
    };
    consume(&mut node, &right[..2_000]);
    consume(&mut node, &wrong[..20]);
    assert_eq!(node.cores[owner].counters().records_elsewhere, 20);
    assert_eq!(node.hands[owner].misfits, []);
    consume(&mut node, &wrong[20..40]);
    assert_eq!(node.hands[owner].misfits, [TopicIndex(0)], "once, until many more are read");
    // Keys without a subject say nothing of a rule.
    let (mut node, odd) = (Node::serving(2, ShardSettings::default(), vec![topic.clone()]), "a//b".to_owned());
    for offset in 0..200 {
        node.consume(&topic, 0, vec![record(offset, Some(&odd), Some("1"))]);
        node.consume(&topic, 1, vec![record(offset, Some(&odd), Some("1"))]);
    }
    assert!(node.hands.iter().all(|hands| hands.misfits.is_empty()));
    // The next map says `any`: subscribers are told to come back, and get no positions any more.
    let client = node.connect(1);
    assert_eq!(node.subscribe(client, "/v/k")["subscribe"]["recoverable"], true);
    let mut topic = topic.clone();
    topic.partitioner = Partitioner::Any;
    node.take_map(map(2, vec![topic.clone()]));
    assert_eq!(node.frames(client)[0]["push"]["unsubscribe"]["code"], 2500);
    let reply = node.subscribe(client, "/v/k");
    assert_ne!(reply["subscribe"]["recoverable"], json!(true));
}

#[test]
fn rule_2_so_many_strays_are_remembered_and_no_more() {
    let topic = topic(0, "v", 2, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let strays: Vec<String> = (0..40_000)
        .map(|n| format!("key-{n}"))
        .filter(|key| topic.home(Some(key.as_bytes())).partition.partition == 1)
        .take(10_010)
        .collect();
    assert_eq!(strays.len(), 10_010);
    let records = strays.iter().enumerate().map(|(offset, key)| record(offset as i64, Some(key), Some("1"))).collect();
    node.consume(&topic, 0, records);
    let counters = node.cores[0].counters();
    assert_eq!((counters.strays, counters.strays_over), (10_000, 10));
    let client = node.connect(0);
    assert_ne!(node.subscribe(client, &format!("/v/{}", strays[0]))["subscribe"]["recoverable"], json!(true));
    assert_eq!(node.subscribe(client, &format!("/v/{}", strays[10_001]))["subscribe"]["recoverable"], true);
}

#[test]
fn rule_2_a_record_that_an_earlier_partition_count_explains_takes_no_memory_and_pushes_nothing_out_of_it() {
    let mut topic = topic(0, "v", 2, 2);
    topic.earlier_counts = vec![1];
    let settings = ShardSettings { cache_records_max: 1, ..ShardSettings::default() };
    let mut node = Node::serving(2, settings, vec![topic.clone()]);
    let named = |number: u32| number.to_string();
    let k = (0..100).map(named).find(|key| topic.home(Some(key.as_bytes())).partition.partition == 1).unwrap();
    let channel = format!("/v/{k}");
    let home = topic.home(Some(k.as_bytes()));
    let wrong = 0;
    let client = node.connect(0);
    node.consume_keyed(&topic, 0, &k, "1");
    let nobody = (0..100).map(named).find(|key| *key != k && topic.home(Some(key.as_bytes())) == home).unwrap();
    node.consume(&topic, wrong, vec![record(0, Some(&nobody), Some("7")), record(1, Some(&k), Some("7"))]);
    assert_eq!(node.cores[home.shard.index()].counters().subjects, 1, "a subject that nobody wants is not made for it");
    let reply = node.ask(client, json!({"subscribe": {"channel": channel, "data": {"snapshot": true}}}));
    assert_eq!(publications(&reply["subscribe"]), [(1, json!(1))]);
    node.consume(&topic, wrong, vec![record(2, Some(&k), Some("8"))]);
    assert_eq!(node.pushes(client), [(0, json!(8))]);
    let page = node.ask(client, json!({"history": {"channel": channel, "limit": -1}}));
    assert_eq!(publications(&page["history"]), [(1, json!(1))], "the newest record with a position stays");
}

#[test]
fn rule_3_null_keys_are_recoverable_only_in_one_partition() {
    let one = topic(0, "one", 1, 2);
    let many = topic(1, "many", 3, 2);
    let mut fixed = topic(2, "fixed", 3, 2);
    fixed.null_key_partition = Some(2);
    let mut node = Node::serving(2, ShardSettings::default(), vec![one.clone(), many.clone(), fixed.clone()]);
    let client = node.connect(0);
    assert_eq!(node.subscribe(client, "/one")["subscribe"]["recoverable"], true);
    assert_ne!(node.subscribe(client, "/many")["subscribe"]["recoverable"], json!(true));
    assert_eq!(node.subscribe(client, "/fixed")["subscribe"]["recoverable"], true);
    node.consume(&one, 0, vec![record(0, None, Some("1"))]);
    for partition in 0..3 {
        node.consume(&many, partition, vec![record(0, None, Some("2"))]);
    }
    node.consume(&fixed, 2, vec![record(5, None, Some("3"))]);
    let pushes = node.pushes(client);
    assert_eq!(pushes, [(1, json!(1)), (0, json!(2)), (0, json!(2)), (0, json!(2)), (6, json!(3))]);
}

#[test]
fn rule_4_a_new_generation_clears_the_cache_and_tells_subscribers() {
    let (mut node, mut topic) = serving(2, 1);
    let client = node.connect(1);
    let before = epoch(&node.subscribe(client, "/v/k"));
    node.consume_keyed(&topic, 0, "k", "1");
    node.frames(client);
    let old = topic.partitions[0].generation;
    topic.id = Arc::from("id-made-again");
    topic.partitions[0].generation = Generation(2);
    node.take_map(map(2, vec![topic.clone()]));
    assert_eq!(node.frames(client)[0]["push"]["unsubscribe"]["code"], 2500);
    // What is still under way from the old log is dropped.
    let stale = RecordBatch {
        partition: PartitionRef { topic: topic.index, partition: 0 },
        generation: old,
        records: vec![record(1, Some("k"), Some("2"))],
        next: Offset(2),
    };
    node.handle(0, Event::Records(stale));
    let reply = node.recover(client, "/v/k", &before, 1);
    assert_ne!(reply["subscribe"]["recovered"], json!(true), "a position in the old log is no position in the new one");
    node.consume_keyed(&topic, 0, "k", "3");
    assert_eq!(node.pushes(client), [(1, json!(3))]);
}

#[test]
fn rule_4_partitions_that_a_topic_made_again_has_no_more_are_not_read_any_more() {
    let (mut node, topic) = serving(2, 4);
    let client = node.connect(0);
    let lost = (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())).partition.partition == 3).unwrap();
    node.subscribe(client, &format!("/v/{lost}"));
    let mut again = harness::topic(0, "v", 2, 2);
    again.id = Arc::from("another");
    again.partitions.iter_mut().for_each(|partition| partition.generation.0 = 2);
    node.take_map(map(2, vec![again]));
    assert_eq!(node.frames(client)[0]["push"]["unsubscribe"]["code"], 2500);
    let unassigned: Vec<u32> = node.hands.iter().flat_map(|hands| hands.unassigned.iter().map(|at| at.partition)).collect();
    assert_eq!(unassigned, [2, 3]);
}

#[test]
fn rule_2_topics_that_are_only_published_to_have_the_rule_and_the_values_of_their_settings() {
    let told = TopicSettings { partitioner: PartitionerChoice::Fixed(Partitioner::Crc32), value: ValueKind::Text, snapshot: false };
    let settings = ShardSettings { topics: Arc::new([("outside".to_owned(), told)].into()), ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![harness::topic(0, "v", 1, 1)]);
    let client = node.connect(0);
    for (place, (topic, rule, value)) in
        [("outside", Partitioner::Crc32, "hello"), ("elsewhere", Partitioner::Murmur2, "\"hello\"")].into_iter().enumerate()
    {
        node.send(client, json!({"publish": {"channel": format!("/{topic}/k"), "data": "hello"}}));
        node.settle();
        node.handle(0, Event::TopicFound { topic, partitions: Ok(7) });
        node.settle();
        let record = &node.hands[0].produced[place].1;
        assert_eq!(record.partition, Some(rule.partition(b"k", 7)));
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
    }
}

#[test]
fn rule_4_subscribers_without_positions_are_told_when_any_log_of_their_topic_changes() {
    let (mut node, mut topic) = serving(2, 3);
    let client = node.connect(1);
    assert_ne!(node.subscribe(client, "/v")["subscribe"]["recoverable"], json!(true));
    topic.partitions[2].generation = Generation(2);
    node.take_map(map(2, vec![topic]));
    assert_eq!(node.frames(client)[0]["push"]["unsubscribe"]["code"], 2500);
}

#[test]
fn rule_4_a_record_on_its_way_to_its_home_is_dropped_when_the_topic_is_made_again() {
    let (mut node, mut topic) = serving(2, 2);
    let client = node.connect(0);
    let wrong = 1 - topic.home(Some(b"k")).partition.partition;
    let (home, other) = (topic.home(Some(b"k")).shard.index(), topic.partitions[wrong as usize].owner.index());
    let batch = RecordBatch {
        partition: PartitionRef { topic: topic.index, partition: wrong },
        generation: Generation(1),
        records: vec![record(0, Some("k"), Some("1"))],
        next: Offset(1),
    };
    node.handle(other, Event::Records(batch));
    topic.id = Arc::from("id-made-again");
    for partition in &mut topic.partitions {
        partition.generation = Generation(2);
    }
    let renewed = map(2, vec![topic]);
    for shard in [home, other] {
        node.handle(shard, Event::Map(renewed.clone()));
        node.handle(shard, Event::MapActive { version: 2 });
    }
    // Its message leaves only now, at the end of the turn.
    if home == 0 {
        node.send(client, json!({"subscribe": {"channel": "/v/k"}}));
    } else {
        let near = node.connect(home);
        node.subscribe(near, "/v/k");
    }
    node.settle();
    assert_eq!(node.cores[home].counters().records_stale, 1);
}

#[test]
fn rule_4_an_offset_below_the_next_expected_is_never_delivered_twice() {
    let (mut node, topic) = serving(1, 1);
    let client = node.connect(0);
    node.subscribe(client, "/v/k");
    node.consume(&topic, 0, vec![record(0, Some("k"), Some("1")), record(1, Some("k"), Some("2"))]);
    node.consume(&topic, 0, vec![record(1, Some("k"), Some("2")), record(2, Some("k"), Some("3"))]);
    assert_eq!(offsets(&node.pushes(client)), [1, 2, 3]);
    assert_eq!(node.cores[0].counters().records_stale, 1);
}

#[test]
fn rule_5_reading_starts_at_a_number_that_the_map_gives() {
    let mut topic = topic(0, "v", 1, 1);
    topic.partitions[0].start = Offset(42);
    topic.partitions[0].ready_at = Offset(42);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    assert_eq!(node.hands[0].assigned[0].start, Offset(42));
    let client = node.connect(0);
    assert_eq!(node.subscribe(client, "/v/k")["subscribe"]["offset"], 42);
}

#[test]
fn rule_6_a_full_lane_stops_the_sources_and_loses_nothing() {
    let (mut node, topic) = serving(2, 2);
    let key = (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())).shard == ShardId(0)).unwrap();
    let client = node.connect(1);
    node.subscribe(client, &format!("/v/{key}"));
    node.hands[0].lane_room = 0;
    for offset in 0..5 {
        node.consume_keyed(&topic, offset, &key, &offset.to_string());
    }
    assert!(!node.cores[0].polls_kafka() && !node.cores[0].drains_toward_home());
    assert!(node.pushes(client).is_empty());
    // A shard without room toward home stops reading sockets.
    node.hands[1].lane_room = 0;
    let far = (0..100).map(|n| format!("far{n}")).find(|key| topic.home(Some(key.as_bytes())).shard == ShardId(0)).unwrap();
    let id = node.send(client, json!({"subscribe": {"channel": format!("/v/{far}")}}));
    node.settle();
    assert!(!node.cores[1].reads(client.key));
    node.hands[0].lane_room = usize::MAX;
    node.hands[1].lane_room = usize::MAX;
    node.settle();
    assert!(node.reply(client, id).is_some());
    assert!(node.cores[0].polls_kafka() && node.cores[1].reads(client.key));
    assert!(node.hands[1].resumed.contains(&client.key));
    assert_eq!(offsets(&node.pushes(client)), [1, 2, 3, 4, 5]);
}

#[test]
fn rule_7_an_answer_to_a_subscription_that_is_gone_changes_nothing_and_leaves_nothing() {
    let (mut node, topic) = serving(2, 2);
    let key = (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())).shard == ShardId(0)).unwrap();
    let client = node.connect(1);
    let channel = format!("/v/{key}");
    // Subscribe and leave before the home has answered.
    node.send(client, json!({"subscribe": {"channel": channel}}));
    node.leave(client);
    assert_eq!(node.cores[0].interests(), (0, 0));
    assert_eq!(node.cores[1].interests(), (0, 0));
    // Subscribe, unsubscribe and subscribe again at once: one subscription, each record once.
    let client = node.connect(1);
    node.send(client, json!({"subscribe": {"channel": channel}}));
    node.send(client, json!({"unsubscribe": {"channel": channel}}));
    node.send(client, json!({"subscribe": {"channel": channel}}));
    node.settle();
    node.frames(client);
    node.consume_keyed(&topic, 0, &key, "1");
    assert_eq!(node.pushes(client), [(1, json!(1))]);
    node.leave(client);
    assert_eq!((node.cores[0].interests(), node.cores[1].interests()), ((0, 0), (0, 0)));
}

#[test]
fn rule_7_a_subscribe_that_waits_to_be_routed_again_is_found_by_its_channel() {
    for unsubscribe in [false, true] {
        let (mut node, _) = serving(2, 1);
        let client = node.connect(1);
        let mut grown = topic(0, "v", 2, 2);
        grown.earlier_counts = vec![1];
        let key = (0..100).map(|n| n.to_string()).find(|key| grown.home(Some(key.as_bytes())).shard == ShardId(1)).unwrap();
        let channel = format!("/v/{key}");
        let grown = map(2, vec![grown]);
        let first = node.send(client, json!({"subscribe": {"channel": channel}}));
        // The map moves the subject before the home has answered.
        node.handle(1, Event::Map(grown.clone()));
        let again = node.send(client, json!({"subscribe": {"channel": channel}}));
        let leave = unsubscribe.then(|| node.send(client, json!({"unsubscribe": {"channel": channel}})));
        node.handle(0, Event::Map(grown));
        for shard in 0..2 {
            node.handle(shard, Event::MapActive { version: 2 });
        }
        node.pass(100);
        assert_eq!(node.reply(client, again).unwrap()["error"]["code"], 105);
        let first = node.reply(client, first).unwrap();
        match leave {
            Some(leave) => {
                assert!(first["subscribe"].is_object());
                assert!(node.reply(client, leave).unwrap()["unsubscribe"].is_object());
                assert_eq!((node.cores[0].interests(), node.cores[1].interests()), ((0, 0), (0, 0)));
            }
            None => assert!(first["subscribe"].is_object()),
        }
        node.cores[1].check();
    }
}

#[test]
fn rule_7_subscribe_unsubscribe_and_subscribe_at_once_are_granted_done_and_granted_with_one_answer() {
    let (mut node, topic) = serving(2, 1);
    node.consume_keyed(&topic, 0, "k", "0");
    // The home is on the other shard, so the first has no answer when the others come.
    let client = node.connect(1);
    let subscribe = json!({"subscribe": {"channel": "/v/k", "flag": 1, "data": {"snapshot": true}}});
    let first = node.send(client, subscribe.clone());
    let leave = node.send(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    let second = node.send(client, subscribe.clone());
    let third = node.send(client, subscribe.clone());
    node.settle();
    let frames = node.frames(client);
    let answers: Vec<_> = frames.iter().filter(|frame| frame["id"] != third).map(|frame| frame["id"].as_u64().unwrap() as u32).collect();
    assert_eq!(answers, [first, leave, second]);
    let of = |id: u32| frames.iter().find(|frame| frame["id"] == id).unwrap();
    assert_eq!(of(third)["error"]["code"], 105);
    // Older SDKs take the first answer for that to the second subscribe, newer ones do not: either has everything.
    assert_eq!(of(first)["subscribe"], of(second)["subscribe"]);
    assert_eq!(publications(&of(first)["subscribe"]), [(1, json!(0))]);
    node.consume_keyed(&topic, 1, "k", "1");
    assert_eq!(node.pushes(client), [(2, json!(1))]);

    // Left for good: nothing follows, and nothing is left behind.
    let other = node.connect(1);
    node.send(other, json!({"subscribe": {"channel": "/v/j"}}));
    node.send(other, json!({"unsubscribe": {"channel": "/v/j"}}));
    node.send(other, json!({"unsubscribe": {"channel": "/v/j"}}));
    node.settle();
    let frames = node.frames(other);
    assert!(frames[0]["subscribe"].is_object() && frames[1]["unsubscribe"].is_object() && frames[2]["unsubscribe"].is_object());
    node.consume_keyed(&topic, 2, "j", "2");
    assert!(node.pushes(other).is_empty());

    // Another start is another subscription: the first is told to come back, which nobody waits for.
    node.send(other, json!({"subscribe": {"channel": "/v/k"}}));
    node.send(other, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.send(other, json!({"subscribe": {"channel": "/v/k", "data": {"history": 2}}}));
    node.settle();
    let frames = node.frames(other);
    assert_eq!((&frames[0]["error"]["code"], frames[1]["unsubscribe"].is_object()), (&json!(100), true));
    assert_eq!(publications(&frames[2]["subscribe"]).len(), 2);
    for client in [client, other] {
        node.leave(client);
    }
    assert_eq!((node.cores[0].interests(), node.cores[1].interests()), ((0, 0), (0, 0)));
    node.cores[1].check();
}

#[test]
fn rule_7_who_leaves_and_comes_back_at_once_misses_nothing_between() {
    let (mut node, topic) = serving(2, 1);
    let client = node.connect(1);
    node.subscribe(client, "/v/k");
    node.consume_keyed(&topic, 0, "k", "0");
    assert_eq!(node.pushes(client), [(1, json!(0))]);
    // A record is in the outbox, and one comes while nobody is subscribed.
    node.set_room(client, 0);
    node.consume_keyed(&topic, 1, "k", "1");
    let leave = node.send(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.settle();
    node.consume_keyed(&topic, 2, "k", "2");
    let again = node.send(client, json!({"subscribe": {"channel": "/v/k"}}));
    node.settle();
    node.consume_keyed(&topic, 3, "k", "3");
    node.drain_socket(client, usize::MAX);
    node.settle();
    let frames = node.frames(client);
    let answers: Vec<_> = frames.iter().filter(|frame| frame["id"].is_u64()).collect();
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!(leave), &json!(again)));
    let reply = &answers[1]["subscribe"];
    assert!(reply["offset"].as_u64().unwrap() <= 2 && reply["was_recovering"].is_null(), "{reply}");
    let pushes: Vec<_> =
        frames.iter().filter(|frame| frame["push"]["pub"].is_object()).map(|frame| harness::publication(&frame["push"]["pub"])).collect();
    assert!(pushes.ends_with(&[(3, json!(2)), (4, json!(3))]), "{pushes:?}");
    // The same when it leaves before the grant and comes back after it.
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.pass(1_000);
    let first = node.send(client, json!({"subscribe": {"channel": "/v/k"}}));
    node.send(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.settle();
    let granted = node.reply(client, first).unwrap();
    node.frames(client);
    node.consume_keyed(&topic, 4, "k", "4");
    assert_eq!(node.subscribe(client, "/v/k")["subscribe"]["offset"], granted["subscribe"]["offset"]);
    assert_eq!(node.pushes(client), [(5, json!(4))]);
    // Later it is a subscription from now on, as ever.
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.pass(1_000);
    node.consume_keyed(&topic, 5, "k", "5");
    assert_eq!(node.subscribe(client, "/v/k")["subscribe"]["offset"], 6);
    assert!(node.pushes(client).is_empty());
}

#[test]
fn rule_7_a_numeric_id_is_never_anothers_and_stays_a_subjects_own_for_a_minute() {
    // Nobody here answers pings.
    let settings = ShardSettings { ping_interval_ms: 0, ..ShardSettings::default() };
    let mut node = Node::serving(2, settings, vec![topic(0, "v", 1, 2)]);
    let (client, other) = (node.connect(1), node.connect(0));
    let id_of = |node: &mut Node, client, channel: &str| {
        node.ask(client, json!({"subscribe": {"channel": channel, "flag": 1}}))["subscribe"]["id"].as_u64().unwrap()
    };
    let first = id_of(&mut node, client, "/v/k");
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.pass(59_000);
    let mut ids = vec![first];
    for number in 0..100 {
        ids.push(id_of(&mut node, other, &format!("/v/other-{number}")));
    }
    assert_eq!(id_of(&mut node, client, "/v/k"), first);
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.pass(70_000);
    ids.push(id_of(&mut node, client, "/v/k"));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "every id once");
}

#[test]
fn rule_8_recovered_true_only_at_or_above_the_floor() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { cache_records_max: 3, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic.clone()]);
    let client = node.connect(0);
    for offset in 0..10 {
        node.consume_keyed(&topic, offset, "k", &offset.to_string());
    }
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let reply = node.recover(client, "/v/k", &epoch, 7);
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert_eq!(offsets(&publications(&reply["subscribe"])), [8, 9, 10]);
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    let reply = node.recover(client, "/v/k", &epoch, 6);
    assert_ne!(reply["subscribe"]["recovered"], json!(true));
    assert_eq!(reply["subscribe"]["was_recovering"], true);
    assert_eq!(publications(&reply["subscribe"]), [(10, json!(9))], "the newest record is told");
    assert_eq!(reply["subscribe"]["offset"], 10);
    // A subject without any record is complete from the start of reading on.
    let reply = node.recover(client, "/v/quiet", &epoch, 0);
    assert_eq!(reply["subscribe"]["recovered"], true);
    // With bit 2 the client wants an error in place of `recovered: false`.
    let strict = node.ask(client, json!({"subscribe": {"channel": "/v/k2", "recover": true, "epoch": "_", "offset": 0, "flag": 2}}));
    assert_eq!(strict["error"]["code"], 112);
}

#[test]
fn rule_8_what_kafka_has_deleted_is_handed_out_no_more() {
    let (mut node, topic) = serving(1, 1);
    let client = node.connect(0);
    for offset in 0..6 {
        node.consume_keyed(&topic, offset, ["k", "j"][offset as usize % 2], &offset.to_string());
    }
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let partition = PartitionRef { topic: topic.index, partition: 0 };
    let old = Event::LogStart { partition, generation: Generation(9), start: Offset(6) };
    node.handle(0, old);
    assert_eq!(node.recover(client, "/v/k", &epoch, 0)["subscribe"]["recovered"], true, "of another generation");
    node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    node.handle(0, Event::LogStart { partition, generation: topic.partitions[0].generation, start: Offset(4) });
    let reply = node.ask(client, json!({"subscribe": {"channel": "/v/k", "data": {"history": 9}}}));
    assert_eq!(offsets(&publications(&reply["subscribe"])), [5], "0 and 2 are deleted");
    let page = node.ask(client, json!({"history": {"channel": "/v/j", "limit": -1}}));
    assert_eq!(offsets(&publications(&page["history"])), [6], "1 and 3 are deleted");
    let reply = node.recover(client, "/v/j", &epoch, 3);
    assert_ne!(reply["subscribe"]["recovered"], json!(true));
    assert_eq!(node.recover(client, "/v/quiet", &epoch, 3)["subscribe"]["recovered"], Value::Null, "nobody knows what it had");
    assert_eq!(node.recover(client, "/v/silent", &epoch, 4)["subscribe"]["recovered"], true);
    node.cores[0].check();
}

#[test]
fn rule_9_a_position_ahead_of_this_node_is_held_until_it_has_read_that_far() {
    let (mut node, topic) = serving(2, 1);
    let client = node.connect(1);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let id = node.send(client, json!({"subscribe": {"channel": "/v/k", "recover": true, "epoch": epoch, "offset": 3}}));
    node.settle();
    assert!(node.reply(client, id).is_none());
    assert_eq!(node.hands[0].ends_asked.len(), 1);
    let question = *node.hands[0].ends_asked.last().unwrap();
    node.handle(0, Event::LogEnd { question, end: Some(Offset(5)) });
    for offset in 0..5 {
        node.consume_keyed(&topic, offset, "k", &offset.to_string());
    }
    let reply = node.reply(client, id).unwrap();
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert!(publications(&reply["subscribe"]).is_empty(), "it was answered when offset 2 had been read");
    assert_eq!(offsets(&node.pushes(client)), [4, 5]);
}

#[test]
fn rule_9_a_position_beyond_the_end_of_the_log_is_not_recovered_and_one_held_too_long_is_a_temporary_error() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let ask = |channel: &str| json!({"subscribe": {"channel": channel, "recover": true, "epoch": epoch, "offset": 9}});
    let beyond = node.send(client, ask("/v/a"));
    let question = *node.hands[0].ends_asked.last().unwrap();
    node.handle(0, Event::LogEnd { question, end: Some(Offset(5)) });
    node.settle();
    let reply = node.reply(client, beyond).unwrap();
    assert_eq!((&reply["subscribe"]["was_recovering"], reply["subscribe"]["recovered"] == json!(true)), (&json!(true), false));
    let held = node.send(client, ask("/v/b"));
    node.pass(3_900);
    assert!(node.reply(client, held).is_none());
    node.pass(200);
    let reply = node.reply(client, held).unwrap();
    assert_eq!((&reply["error"]["code"], &reply["error"]["temporary"]), (&json!(100), &json!(true)));
}

#[test]
fn a_command_that_waits_for_those_before_it_is_held_no_longer_than_they_are() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let since = json!({ "epoch": epoch, "offset": 9 });
    // Each has room for its page kept in the outbox: the last ones wait for the first to be answered, and their clients wait meanwhile.
    let pages: Vec<u32> = (0..4).map(|_| node.send(client, json!({"history": {"channel": "/v/a", "limit": 10, "since": since}}))).collect();
    let subscribe = node.send(client, json!({"subscribe": {"channel": "/v/b", "recover": true, "epoch": epoch, "offset": 9}}));
    node.pass(3_900);
    assert!(pages.iter().all(|id| node.reply(client, *id).is_none()));
    node.pass(600);
    for id in pages.into_iter().chain([subscribe]) {
        let reply = node.reply(client, id).unwrap_or_else(|| panic!("no answer to command {id} in 4.5 s"));
        assert_eq!(reply["error"]["code"], 100);
    }
}

#[test]
fn rule_9_the_end_of_the_log_says_nothing_of_a_position_that_came_after_it_was_asked_for() {
    let (mut node, topic) = serving(1, 1);
    let client = node.connect(0);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let ask = |channel: &str, offset: u64| json!({"subscribe": {"channel": channel, "recover": true, "epoch": epoch, "offset": offset}});
    let end = |node: &mut Node, end: i64| {
        let question = *node.hands[0].ends_asked.last().unwrap();
        node.handle(0, Event::LogEnd { question, end: Some(Offset(end)) });
        node.settle();
    };
    let first = node.send(client, ask("/v/a", 3));
    // Records are written and read by a faster node, after this one asked for the end.
    let second = node.send(client, ask("/v/b", 6));
    end(&mut node, 3);
    assert!(node.reply(client, first).is_none() && node.reply(client, second).is_none());
    assert_eq!(node.hands[0].ends_asked.len(), 2, "it is asked for again");
    end(&mut node, 6);
    for offset in 0..6 {
        node.consume_keyed(&topic, offset, "a", "1");
    }
    for id in [first, second] {
        assert_eq!(node.reply(client, id).unwrap()["subscribe"]["recovered"], true);
    }
}

#[test]
fn rule_10_what_is_left_of_the_hold_is_kept_when_a_subscribe_is_routed_again() {
    let mut topic = topic(0, "v", 1, 2);
    topic.partitions[0].ready_at = Offset(5);
    let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
    let client = node.connect(1);
    let id = node.send(client, json!({"subscribe": {"channel": "/v/k"}}));
    node.pass(3_000);
    node.take_map(map(2, vec![topic.clone()]));
    node.pass(900);
    assert!(node.reply(client, id).is_none());
    node.pass(200);
    assert_eq!(node.reply(client, id).unwrap()["error"]["code"], 100, "4 s in all, not 4 s for each try");
}

#[test]
fn rule_10_a_partition_that_is_not_ready_holds_its_own_subjects_only() {
    let mut topic = topic(0, "v", 2, 1);
    topic.partitions[0].ready_at = Offset(2);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    let key = |partition: u32| {
        (0..100).map(|n| n.to_string()).find(|key| topic.home(Some(key.as_bytes())).partition.partition == partition).unwrap()
    };
    let client = node.connect(0);
    let held = node.send(client, json!({"subscribe": {"channel": format!("/v/{}", key(0))}}));
    assert!(node.subscribe(client, &format!("/v/{}", key(1)))["subscribe"].is_object());
    assert!(node.reply(client, held).is_none());
    node.consume(&topic, 0, vec![record(0, None, Some("1")), record(1, None, Some("2"))]);
    assert!(node.reply(client, held).unwrap()["subscribe"].is_object());
    assert_eq!(node.hands[0].ready.len(), 2);
}

#[test]
fn rule_11_ready_is_measured_to_the_end_that_the_consumer_sees() {
    let mut topic = topic(0, "v", 1, 1);
    topic.partitions[0].ready_at = Offset(4);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic.clone()]);
    node.consume(&topic, 0, vec![record(0, Some("k"), Some("1"))]);
    assert!(node.hands[0].ready.is_empty());
    // The rest are transaction markers: no record, only the end of the partition.
    let end = RecordBatch {
        partition: PartitionRef { topic: topic.index, partition: 0 },
        generation: Generation(1),
        records: Vec::new(),
        next: Offset(4),
    };
    node.handle(0, Event::Records(end));
    assert_eq!(node.hands[0].ready.len(), 1);
}

#[test]
fn rule_12_gaps_in_offsets_are_no_loss_but_a_compacted_log_is_complete_only_from_its_end_on() {
    let (mut node, topic) = serving(1, 1);
    let client = node.connect(0);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    node.consume(&topic, 0, vec![record(3, Some("k"), Some("1")), record(9, Some("k"), Some("2"))]);
    let reply = node.recover(client, "/v/k", &epoch, 5);
    assert_eq!((&reply["subscribe"]["recovered"], publications(&reply["subscribe"])), (&json!(true), vec![(10, json!(2))]));

    let mut compacted = harness::topic(0, "v", 1, 1);
    compacted.compacted = true;
    compacted.partitions[0].ready_at = Offset(10);
    let mut node = Node::serving(1, ShardSettings::default(), vec![compacted.clone()]);
    node.consume(&compacted, 0, vec![record(3, Some("k"), Some("1")), record(9, Some("k"), Some("2"))]);
    let client = node.connect(0);
    assert_ne!(node.recover(client, "/v/k", "", 5)["subscribe"]["recovered"], json!(true));
    assert_eq!(node.recover(client, "/v/j", "", 10)["subscribe"]["recovered"], true);
}

#[test]
fn rule_14_a_position_from_before_an_unclean_election_is_no_position_after_it() {
    let (mut node, mut topic) = serving(2, 1);
    let client = node.connect(1);
    for offset in 0..6 {
        node.consume_keyed(&topic, offset, "k", "1");
    }
    let before = epoch(&node.subscribe(client, "/v/k"));
    // The records from 4 on are lost, and others take their offsets.
    let partition = &mut topic.partitions[0];
    (partition.generation, partition.start, partition.ready_at) = (Generation(2), Offset(4), Offset(4));
    node.take_map(map(2, vec![topic.clone()]));
    assert_eq!(node.frames(client)[0]["push"]["unsubscribe"]["code"], 2500);
    for offset in 4..8 {
        node.consume_keyed(&topic, offset, "k", "2");
    }
    for offset in [4, 6] {
        let reply = node.recover(client, "/v/k", &before, offset);
        assert_ne!(reply["subscribe"]["recovered"], json!(true), "offset {offset} was another record's");
        node.ask(client, json!({"unsubscribe": {"channel": "/v/k"}}));
    }
    let after = epoch(&node.subscribe(client, "/v/other"));
    let reply = node.recover(client, "/v/k", &after, 6);
    assert_eq!((&reply["subscribe"]["recovered"], publications(&reply["subscribe"]).len()), (&json!(true), 2));
}

#[test]
fn rule_15_every_publish_has_exactly_one_answer_and_its_room_is_kept() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    let publish = |channel: &str| json!({"publish": {"channel": channel, "data": {"a": 1}}});
    let ids: Vec<u32> = (0..4).map(|n| node.send(client, publish(&format!("/v/{n}")))).collect();
    node.settle();
    let produced: Vec<_> = node.hands[0].produced.iter().map(|(key, _)| *key).collect();
    assert_eq!(produced.len(), 4);
    assert_eq!(node.hands[0].produced[0].1.value.as_deref(), Some(&b"{\"a\":1}"[..]));
    let results = [
        PublishResult::Stored { partition: 0, offset: Offset(7) },
        PublishResult::Failed(PublishFailure::Denied),
        PublishResult::Unknown,
        PublishResult::Failed(PublishFailure::Unavailable),
    ];
    for (publish, result) in produced.iter().zip(results) {
        node.handle(0, Event::Published { publish: *publish, result });
        // A second report for the same publish is ignored.
        node.handle(0, Event::Published { publish: *publish, result });
    }
    node.settle();
    let answers: Vec<Value> = ids.iter().map(|id| node.reply(client, *id).unwrap()).collect();
    assert!(answers[0]["publish"].is_object());
    assert_eq!(answers[1..].iter().map(|answer| answer["error"]["code"].clone()).collect::<Vec<_>>(), [json!(103), json!(401), json!(400)]);
    assert!(node.frames(client).is_empty());
}

#[test]
fn rule_15_a_full_producer_stops_the_socket_and_fails_nothing() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    node.hands[0].producer_full = true;
    let id = node.send(client, json!({"publish": {"channel": "/v/k", "data": 1}}));
    node.settle();
    assert!(!node.cores[0].reads(client.key));
    node.hands[0].producer_full = false;
    node.pass(20);
    assert!(node.cores[0].reads(client.key));
    let publish = node.hands[0].produced[0].0;
    node.handle(0, Event::Published { publish, result: PublishResult::Stored { partition: 0, offset: Offset(0) } });
    node.settle();
    assert!(node.reply(client, id).unwrap()["publish"].is_object());
}

#[test]
fn a_message_of_very_many_commands_is_taken_in_parts_and_in_order() {
    let (mut node, _) = serving(1, 1);
    let (client, other) = (node.connect(0), node.connect(0));
    let commands: String = (1..=5_000).map(|id| format!("{{\"id\":{id},\"rpc\":{{}}}}\n")).collect();
    node.handle(0, Event::Received { connection: client.key, payload: commands.as_bytes() });
    let answered = |node: &mut Node| node.frames(client).into_iter().map(|frame| frame["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(!node.cores[0].reads(client.key) && node.cores[0].wants_flush());
    node.cores[0].flush(node.now_ms, &mut node.hands[0]);
    let first = answered(&mut node);
    assert!((1..=2_048).contains(&first.len()), "{} commands in one turn", first.len());
    assert!(node.ask(other, json!({"rpc": {}}))["error"].is_object(), "others are served");
    node.settle();
    assert_eq!([first, answered(&mut node)].concat(), (1..=5_000).collect::<Vec<_>>());
    assert!(node.cores[0].reads(client.key) && !node.cores[0].wants_flush());
}

#[test]
fn rule_15_who_waits_for_a_full_producer_stands_in_line_and_costs_nothing() {
    let (mut node, _) = serving(1, 1);
    let clients: Vec<Client> = (0..100).map(|_| node.connect(0)).collect();
    node.hands[0].producer_full = true;
    for client in &clients {
        node.send(*client, json!({"publish": {"channel": "/v/k", "data": 1}}));
        assert!(!node.cores[0].reads(client.key));
    }
    node.settle();
    let before = node.cores[0].counters().producer_full;
    node.pass(100);
    let asked = node.cores[0].counters().producer_full - before;
    assert!(asked <= 10 * 8, "ten ticks asked a full producer {asked} times for 100 clients");
    node.hands[0].producer_full = false;
    node.pass(10);
    assert_eq!(node.hands[0].produced.len(), 100, "with room all go at once");
    assert_eq!(node.hands[0].resumed.len(), 100, "and all sockets are read again");
}

#[test]
fn rule_15_a_drain_answers_open_publishes_before_it_disconnects() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    let id = node.send(client, json!({"publish": {"channel": "/v/k", "data": 1}}));
    node.handle(0, Event::Drain { over_ms: 100 });
    node.pass(500);
    assert!(!node.hands[0].sockets[&client.key].closed);
    let publish = node.hands[0].produced[0].0;
    node.handle(0, Event::Published { publish, result: PublishResult::Stored { partition: 0, offset: Offset(0) } });
    node.pass(50);
    assert!(node.reply(client, id).unwrap()["publish"].is_object());
    assert_eq!(node.frames(client).last().unwrap()["close"], 3001);
    assert!(node.hands[0].sockets[&client.key].closed);
    node.leave(client);
    assert!(node.cores[0].drained());
}

#[test]
fn a_socket_that_breaks_with_requests_open_harms_nothing() {
    let (mut node, _) = serving(2, 2);
    let client = node.connect(0);
    node.send(client, json!({"publish": {"channel": "/v/k", "data": 1}}));
    node.settle();
    for key in 0..10 {
        node.send(client, json!({"subscribe": {"channel": format!("/v/{key}"), "data": {"history": 3}}}));
        node.send(client, json!({"history": {"channel": format!("/v/{key}"), "limit": 3}}));
    }
    // Writes come back broken from now on.
    node.hands[0].sockets.remove(&client.key);
    node.settle();
    let publish = node.hands[0].produced[0].0;
    node.handle(0, Event::Published { publish, result: PublishResult::Stored { partition: 0, offset: Offset(0) } });
    node.settle();
    node.cores[0].check();
    node.leave(client);
    assert_eq!((node.cores[0].interests(), node.cores[1].interests()), ((0, 0), (0, 0)));
}

#[test]
fn rule_16_a_record_without_a_subject_is_counted_and_skipped() {
    let (mut node, topic) = serving(1, 1);
    let client = node.connect(0);
    node.subscribe(client, "/v/k");
    let mut records: Vec<_> =
        ["", "a//b", "/a", "a/", "tab\there"].iter().zip(0..).map(|(key, offset)| record(offset, Some(key), Some("1"))).collect();
    let mut binary = record(5, None, Some("1"));
    binary.key = Some(Bytes::from_static(&[0xc3, 0x28]));
    records.push(binary);
    records.push(record(6, Some(&"k".repeat(2_000)), Some("1")));
    records.push(record(7, Some("k"), Some("2")));
    node.consume(&topic, 0, records);
    assert_eq!(node.pushes(client), [(8, json!(2))]);
    assert_eq!(node.cores[0].counters().records_without_subject, 7);
}

#[test]
fn rule_16_a_record_too_large_for_an_outbox_is_announced_with_its_offset() {
    let (mut node, topic, client) = slow_client(small(), 1);
    node.set_room(client, usize::MAX);
    node.consume_keyed(&topic, 0, "k", &format!("\"{}\"", "x".repeat(20 << 10)));
    node.consume_keyed(&topic, 1, "k", "2");
    let frames = node.frames(client);
    let publication = &frames[0]["push"]["pub"];
    assert_eq!(
        (&publication["offset"], &publication["data"], &publication["tags"]["corespan.dropped"]),
        (&json!(1), &Value::Null, &json!("oversize"))
    );
    assert_ne!(publication["removed"], json!(true));
    assert_eq!(frames[1]["push"]["pub"]["data"], 2);
}

#[test]
fn rule_17_the_cache_is_bounded_in_bytes_records_and_time_and_keeps_the_newest() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { cache_bytes_max: 64 << 10, cache_records_max: 5, cache_expire_ms: 1_000, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic.clone()]);
    let client = node.connect(0);
    for offset in 0..8 {
        node.consume_keyed(&topic, offset, "k", &offset.to_string());
    }
    let history =
        |node: &mut Node| offsets(&publications(&node.ask(client, json!({"history": {"channel": "/v/k", "limit": -1}}))["history"]));
    assert_eq!(history(&mut node), [4, 5, 6, 7, 8]);
    node.pass(1_200);
    assert_eq!(history(&mut node), [8], "past their time all go but the newest");
    for offset in 8..1_000 {
        node.consume_keyed(&topic, offset, &offset.to_string(), &long(offset));
        assert!(node.cores[0].counters().cache_bytes <= 64 << 10);
    }
    node.cores[0].check();
}

#[test]
fn a_slow_client_is_parked_and_catches_up_when_its_socket_drains() {
    for shards in [1, 2] {
        let (mut node, topic, client) = slow_client(small(), shards);
        for offset in 0..60 {
            node.consume_keyed(&topic, offset, "k", &long(offset));
        }
        let counters = node.cores[0].counters();
        assert!(counters.subscriptions_parked >= 1 && counters.outbox_bytes <= 16 << 10);
        while node.hands[0].sockets[&client.key].room < 3_000 {
            node.drain_socket(client, 3_000);
        }
        for _ in 0..200 {
            node.drain_socket(client, 3_000);
        }
        assert_eq!(offsets(&node.pushes(client)), (1..=60).collect::<Vec<u64>>(), "nothing lost, nothing twice, in order");
        node.set_room(client, usize::MAX);
        node.drain_socket(client, usize::MAX);
        node.consume_keyed(&topic, 60, "k", "61");
        assert_eq!(node.pushes(client), [(61, json!(61))], "and it is live again");
    }
}

#[test]
fn a_slow_client_gets_2500_when_memory_no_longer_reaches_back() {
    let (mut node, topic, client) = slow_client(ShardSettings { cache_records_max: 10, ..small() }, 2);
    for offset in 0..100 {
        node.consume_keyed(&topic, offset, "k", &long(offset));
    }
    node.drain_socket(client, usize::MAX);
    let frames = node.frames(client);
    let codes: Vec<_> = frames.iter().map(|frame| frame["push"]["unsubscribe"]["code"].clone()).filter(|code| !code.is_null()).collect();
    assert_eq!(codes, [json!(2500)]);
    assert!(node.subscribe(client, "/v/k")["subscribe"].is_object(), "and may subscribe again");
}

#[test]
fn rule_2_a_slow_client_is_told_of_a_record_without_a_position_that_it_cannot_have_later() {
    for shards in [1, 2] {
        let (mut node, topic, client) = slow_client(small(), shards);
        let fast = node.connect(0);
        node.subscribe(fast, "/v/k");
        for offset in 0..60 {
            node.consume_keyed(&topic, offset, "k", &long(offset));
        }
        node.pushes(fast);
        let wrong = 1 - topic.home(Some(b"k")).partition.partition;
        node.consume(&topic, wrong, vec![record(0, Some("k"), Some("7"))]);
        assert_eq!(node.pushes(fast), [(0, json!(7))]);
        assert_eq!(node.cores[0].counters().subscriptions_passed, 1);
        node.drain_socket(client, usize::MAX);
        let told = node.frames(client).into_iter().filter(|frame| frame["push"]["unsubscribe"]["code"] == 2500).count();
        assert_eq!(told, 1);
    }
}

#[test]
fn a_slow_client_is_disconnected_with_3008_after_its_time() {
    let (mut node, topic, client) = slow_client(small(), 2);
    for offset in 0..100 {
        node.consume_keyed(&topic, offset, "k", &long(offset));
    }
    node.pass(4_800);
    assert_eq!(node.cores[0].counters().disconnects_slow, 0);
    node.pass(400);
    assert_eq!(node.cores[0].counters().disconnects_slow, 1);
    node.drain_socket(client, usize::MAX);
    assert_eq!(node.frames(client).last().unwrap()["close"], 3008);
    assert!(node.hands[0].sockets[&client.key].closed);
}

#[test]
fn a_client_that_has_caught_up_is_not_taken_for_slow_later() {
    // The last piece may leave the outbox more than half full: whatever the numbers, with it the client is live and no longer slow.
    for (records, room) in (16..24).flat_map(|records| (2..13).map(move |room| (records, room * 1_000))) {
        let (mut node, topic, client) = slow_client(small(), 1);
        for offset in 0..records {
            node.consume_keyed(&topic, offset, "k", &long(offset));
        }
        node.drain_socket(client, room);
        node.pass(1_000);
        node.drain_socket(client, usize::MAX);
        assert_eq!(offsets(&node.pushes(client)), (1..=records as u64).collect::<Vec<u64>>());
        node.pass(10_000);
        assert_eq!(node.cores[0].counters().disconnects_slow, 0, "{records} records, {room} bytes");
    }
}

#[test]
fn a_slow_client_does_not_delay_others() {
    let (mut node, topic, slow) = slow_client(small(), 2);
    let fast = node.connect(0);
    node.subscribe(fast, "/v/k");
    for offset in 0..100 {
        node.consume_keyed(&topic, offset, "k", &long(offset));
        assert_eq!(offsets(&node.pushes(fast)), [offset as u64 + 1]);
    }
    assert_eq!(node.hands[0].sockets[&slow.key].room, 0);
}

#[test]
fn a_slow_client_of_a_subject_without_positions_is_told_and_not_cheated() {
    let topic = topic(0, "v", 2, 1);
    let mut node = Node::serving(1, small(), vec![topic.clone()]);
    let client = node.connect(0);
    node.subscribe(client, "/v");
    node.set_room(client, 0);
    for offset in 0..40 {
        node.consume(&topic, 0, vec![record(offset, None, Some(&long(offset)))]);
    }
    node.drain_socket(client, usize::MAX);
    assert!(node.frames(client).iter().any(|frame| frame["push"]["unsubscribe"]["code"] == 2500));
}

#[test]
fn the_bytes_of_a_push_are_made_once_per_form_and_shared() {
    let (mut node, topic) = serving(2, 1);
    let clients: Vec<Client> = (0..20).map(|n| node.connect(n % 2)).collect();
    for (place, client) in clients.iter().enumerate() {
        node.ask(*client, json!({"subscribe": {"channel": "/v/k", "flag": place % 4 / 2}}));
    }
    node.consume_keyed(&topic, 0, "k", "1");
    for client in clients {
        assert_eq!(node.frames(client).len(), 1);
    }
    assert_eq!(node.cores[0].counters().pushes_encoded, 2, "named and numeric, once each for 20 subscribers on two shards");
}

#[test]
fn rule_15_the_clock_of_publishes_is_the_bridges_own() {
    let settings = ShardSettings { ping_interval_ms: 0, publishes_open_max: 2, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic(0, "v", 1, 1)]);
    let client = node.connect(0);
    let publish = |data: u32| json!({"publish": {"channel": "/v/k", "data": data}});
    // Kafka does not answer: nobody knows, and what it says later is no second answer.
    let ids = [1, 2].map(|data| node.send(client, publish(data)));
    let third = node.send(client, publish(3));
    node.pass(4_000);
    // The third waited for one of the two, and its client gives up soon: it is not handed over any more.
    assert_eq!(node.reply(client, third).unwrap()["error"]["code"], 100);
    assert_eq!(ids.map(|id| node.reply(client, id)), [None, None]);
    node.pass(450);
    for id in ids {
        assert_eq!(node.reply(client, id).unwrap()["error"]["code"], 401);
    }
    assert_eq!(node.hands[0].produced.len(), 2);
    assert!(node.cores[0].reads(client.key), "what was answered stands in nobody's way");
    for (publish, _) in node.hands[0].produced.clone() {
        node.handle(0, Event::Published { publish, result: PublishResult::Stored { partition: 0, offset: Offset(0) } });
    }
    node.settle();
    assert!(node.frames(client).is_empty());
    assert_eq!(node.cores[0].counters().publishes_late, 2);

    // A producer that is full for long: refused in time, and never handed over.
    node.hands[0].producer_full = true;
    let held = node.send(client, publish(4));
    node.pass(3_900);
    assert_eq!(node.reply(client, held), None);
    node.pass(200);
    assert_eq!(node.reply(client, held).unwrap()["error"]["code"], 100);
    node.hands[0].producer_full = false;
    node.pass(100);
    assert_eq!(node.hands[0].produced.len(), 2);
    // And then all is as ever.
    let last = node.send(client, publish(5));
    let publish = node.hands[0].produced[2].0;
    node.handle(0, Event::Published { publish, result: PublishResult::Stored { partition: 0, offset: Offset(1) } });
    node.settle();
    assert!(node.reply(client, last).unwrap()["publish"].is_object());
}

#[test]
fn rule_15_a_connection_is_served_in_full_until_its_turn_in_a_drain_and_then_has_all_its_answers() {
    let (mut node, topic) = serving(1, 1);
    let (first, second) = (node.connect(0), node.connect(0));
    node.handle(0, Event::Drain { over_ms: 1_000 });
    node.pass(100);
    assert_eq!(node.frames(first), [json!({"close": 3001})]);
    // Until its turn everything is as ever.
    assert!(node.subscribe(second, "/v/k")["subscribe"].is_object());
    node.consume_keyed(&topic, 0, "k", "0");
    assert_eq!(node.pushes(second), [(1, json!(0))]);
    let publish = node.send(second, json!({"publish": {"channel": "/v/k", "data": 1}}));
    node.settle();
    assert_eq!(node.reply(second, publish), None, "Kafka has not answered");
    node.pass(600);
    assert_eq!(node.frames(second), [] as [Value; 0], "an answer is owed");
    assert!(!node.cores[0].reads(second.key), "nothing more is read");
    let kafkas = node.hands[0].produced[0].0;
    node.handle(0, Event::Published { publish: kafkas, result: PublishResult::Stored { partition: 0, offset: Offset(1) } });
    node.pass(100);
    let frames = node.frames(second);
    assert_eq!((&frames[0]["id"], frames[0]["publish"].is_object()), (&json!(publish), true), "{frames:?}");
    assert_eq!(frames[1..], [json!({"close": 3001})]);
}

#[test]
fn snapshot_and_history_come_with_the_reply_and_live_records_follow() {
    let (mut node, topic) = serving(2, 1);
    for offset in 0..6 {
        node.consume_keyed(&topic, offset, "k", &offset.to_string());
    }
    let client = node.connect(1);
    let reply = node.ask(client, json!({"subscribe": {"channel": "/v/k", "data": {"snapshot": true}}}));
    assert_eq!(publications(&reply["subscribe"]), [(6, json!(5))]);
    let other = node.connect(1);
    let reply = node.ask(other, json!({"subscribe": {"channel": "/v/k", "data": {"history": 3}}}));
    assert_eq!(offsets(&publications(&reply["subscribe"])), [4, 5, 6]);
    node.consume_keyed(&topic, 6, "k", "6");
    assert_eq!(node.pushes(client), [(7, json!(6))]);
    assert_eq!(node.pushes(other), [(7, json!(6))]);
    let reply = node.ask(client, json!({"subscribe": {"channel": "/v/j", "data": {"history": "x"}}}));
    assert_eq!(reply["error"]["code"], 107);
}

#[test]
fn history_pages_forward_and_back_and_never_end_short_in_silence() {
    let topic = topic(0, "v", 1, 2);
    let settings = ShardSettings { cache_records_max: 5, ..ShardSettings::default() };
    let mut node = Node::serving(2, settings, vec![topic.clone()]);
    for offset in 0..10 {
        node.consume_keyed(&topic, offset, "k", &offset.to_string());
    }
    let client = node.connect(1);
    let epoch = epoch(&node.subscribe(client, "/v/other"));
    let mut page = |limit: i32, since: Option<u64>, reverse: bool| {
        let mut command = json!({"history": {"channel": "/v/k", "limit": limit, "reverse": reverse}});
        if let Some(since) = since {
            command["history"]["since"] = json!({"offset": since, "epoch": epoch});
        }
        node.ask(client, command)
    };
    assert_eq!(offsets(&publications(&page(2, None, false)["history"])), [6, 7]);
    assert_eq!(offsets(&publications(&page(2, None, true)["history"])), [10, 9]);
    assert_eq!(offsets(&publications(&page(-1, Some(8), false)["history"])), [9, 10]);
    assert_eq!(offsets(&publications(&page(2, Some(9), true)["history"])), [8, 7]);
    assert_eq!(page(-1, Some(2), false)["error"]["code"], 112, "older than memory");
    assert_eq!(page(9, Some(9), true)["error"]["code"], 112, "the page would end where memory does");
    // Also of a subject that memory knows nothing of: what it had may be evicted.
    for offset in 10..30 {
        node.consume_keyed(&topic, offset, "other key", "1");
    }
    let unknown =
        node.ask(client, json!({"history": {"channel": "/v/never", "limit": 3, "since": {"offset": 5, "epoch": epoch}, "reverse": true}}));
    assert!(unknown["history"].is_object(), "the log is read from its beginning");
    let mut page = |limit: i32, since: Option<u64>, reverse: bool| {
        let mut command = json!({"history": {"channel": "/v/k", "limit": limit, "reverse": reverse}});
        if let Some(since) = since {
            command["history"]["since"] = json!({"offset": since, "epoch": epoch});
        }
        node.ask(client, command)
    };
    let top = page(0, None, false);
    assert_eq!((&top["history"]["offset"], publications(&top["history"]).len()), (&json!(30), 0));
    let mut topic = topic.clone();
    topic.partitions[0].start = Offset(5);
    topic.partitions[0].ready_at = Offset(5);
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic]);
    let client = node.connect(0);
    let unknown =
        node.ask(client, json!({"history": {"channel": "/v/never", "limit": 3, "since": {"offset": 5, "epoch": ""}, "reverse": true}}));
    assert_eq!(unknown["error"]["code"], 112, "what is before the start of reading may hold records of it");
}

#[test]
fn many_records_to_recover_follow_the_reply_as_pushes() {
    let (mut node, topic) = serving(2, 1);
    for offset in 0..300 {
        node.consume_keyed(&topic, offset, "k", &long(offset));
    }
    let client = node.connect(1);
    let reply = node.recover(client, "/v/k", "", 0);
    assert_eq!((&reply["subscribe"]["recovered"], publications(&reply["subscribe"]).len()), (&json!(true), 0));
    node.settle();
    assert_eq!(offsets(&node.pushes(client)), (1..=300).collect::<Vec<u64>>());
    node.consume_keyed(&topic, 300, "k", "1");
    assert_eq!(offsets(&node.pushes(client)), [301]);
}

#[test]
fn every_refusal_has_its_code() {
    let topic = topic(0, "v", 1, 1);
    let settings = ShardSettings { subscriptions_max: 1, publish_bytes_max: 10, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic]);
    let client = node.connect(0);
    let code = |reply: Value| reply["error"]["code"].as_u64().unwrap_or(0);
    assert_eq!(code(node.subscribe(client, "v/1")), 107);
    assert_eq!(code(node.subscribe(client, "/unknown/1")), 102);
    assert_eq!(code(node.subscribe(client, "/v/1")), 0);
    assert_eq!(code(node.subscribe(client, "/v/1")), 105);
    assert_eq!(code(node.subscribe(client, "/v/2")), 106);
    assert_eq!(code(node.ask(client, json!({"rpc": {"method": "x", "data": {}}}))), 104);
    assert_eq!(code(node.ask(client, json!({"presence": {"channel": "/v/1"}}))), 108);
    let filter = json!({"key": "unit", "cmp": "eq", "val": "km/h"});
    assert_eq!(code(node.ask(client, json!({"subscribe": {"channel": "/v/3", "tf": filter}}))), 108);
    assert_eq!(code(node.ask(client, json!({"subscribe": {"channel": "/v/3", "type": 1}}))), 108);
    assert_eq!(code(node.ask(client, json!({"publish": {"channel": "/v/1", "data": "12345678901"}}))), 106);
    assert_eq!(code(node.ask(client, json!({"publish": {"channel": "/v/", "data": 1}}))), 107);
    let id = node.send(client, json!({"publish": {"channel": "/elsewhere/1", "data": 1}}));
    node.settle();
    assert_eq!(node.hands[0].lookups, ["elsewhere"]);
    node.handle(0, Event::TopicFound { topic: "elsewhere", partitions: Err(PublishFailure::NoSuchTopic) });
    node.settle();
    assert_eq!(code(node.reply(client, id).unwrap()), 102);
    node.handle(0, Event::Received { connection: client.key, payload: b"{\"id\":" });
    node.settle();
    assert_eq!(node.frames(client).last().unwrap()["close"], 3501);
}

#[test]
fn the_removal_of_an_sdk_from_a_map_writes_a_tombstone_under_the_key() {
    let (mut node, _) = serving(1, 1);
    let client = node.connect(0);
    // What `client.mapRemove("/v", "a/b")` sends.
    node.send(client, json!({"publish": {"channel": "/v", "type": 1, "key": "a/b", "removed": true}}));
    node.settle();
    let record = &node.hands[0].produced[0].1;
    assert_eq!((&*record.topic, record.key.as_deref(), &record.value), ("v", Some(&b"a/b"[..]), &None));
}

#[test]
fn a_topic_that_is_not_consumed_can_be_published_to() {
    let topic = topic(0, "v", 1, 1);
    let mut node = Node::new(1, ShardSettings::default());
    let publishable = HashMap::from([(Arc::from("orders"), 3)]);
    node.take_map(Arc::new(TopicMap::new(1, vec![Some(Arc::new(topic))], publishable)));
    let client = node.connect(0);
    node.send(client, json!({"publish": {"channel": "/orders/7/a", "data": "x"}}));
    node.settle();
    let record = &node.hands[0].produced[0].1;
    assert_eq!(
        (&*record.topic, record.key.as_deref(), record.partition),
        ("orders", Some(&b"7/a"[..]), Some(Partitioner::Murmur2.partition(b"7/a", 3)))
    );
}

#[test]
fn tombstones_headers_and_values_reach_the_client_as_protocol_md_says() {
    let mut text = topic(0, "text", 1, 1);
    text.value = ValueKind::Text;
    let auto = topic(1, "auto", 1, 1);
    let mut node = Node::serving(1, ShardSettings::default(), vec![text.clone(), auto.clone()]);
    let client = node.connect(0);
    node.subscribe(client, "/text/k");
    node.subscribe(client, "/auto/k");
    node.consume_keyed(&text, 0, "k", "{\"a\":1}");
    node.consume_keyed(&auto, 0, "k", "{\"a\":\n1}");
    node.consume_keyed(&auto, 1, "k", "not json");
    let mut tombstone = record(2, Some("k"), None);
    tombstone.headers = Box::new([(Bytes::from_static(b"who"), Bytes::from_static(b"me"))]);
    node.consume(&auto, 0, vec![tombstone]);
    let frames = node.frames(client);
    let data: Vec<_> = frames.iter().map(|frame| frame["push"]["pub"]["data"].clone()).collect();
    assert_eq!(data, [json!("{\"a\":1}"), json!({"a": 1}), json!("not json"), Value::Null]);
    let tombstone = &frames[3]["push"]["pub"];
    assert_eq!(
        (&tombstone["removed"], &tombstone["tags"]["corespan.removed"], &tombstone["tags"]["who"]),
        (&json!(true), &json!("true"), &json!("me"))
    );
    assert_eq!(tombstone["time"], 1_002);
}

#[test]
fn keys_that_move_when_partitions_are_added_tell_their_subscribers() {
    let (mut node, topic) = serving(2, 1);
    let client = node.connect(0);
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for key in &keys {
        node.subscribe(client, &format!("/v/{key}"));
    }
    let mut grown = harness::topic(0, "v", 2, 2);
    grown.earlier_counts = vec![1];
    node.take_map(map(2, vec![grown.clone()]));
    let moved = keys.iter().filter(|key| grown.home(Some(key.as_bytes())).partition.partition == 1).count();
    let told = node.frames(client).iter().filter(|frame| frame["push"]["unsubscribe"]["code"] == 2500).count();
    assert!(moved > 0 && told == moved, "{told} of {moved}");
    let _ = topic;
    for key in &keys {
        node.subscribe(client, &format!("/v/{key}"));
        node.frames(client);
        node.consume_keyed(&grown, 100 + key.parse::<i64>().unwrap(), key, "1");
        assert_eq!(node.pushes(client).len(), 1, "{key}");
    }
}

#[test]
fn pings_are_sent_and_a_client_without_a_pong_is_disconnected() {
    let (mut node, _) = serving(1, 1);
    let (alive, dead) = (node.connect(0), node.connect(0));
    for _ in 0..200 {
        node.pass(1_000);
        if node.frames(alive).contains(&json!({})) {
            node.handle(0, Event::Received { connection: alive.key, payload: b"{}" });
        }
    }
    assert!(!node.hands[0].sockets[&alive.key].closed);
    assert!(node.hands[0].sockets[&dead.key].closed);
    assert_eq!(node.frames(dead).last().unwrap()["close"], 3012);
}
