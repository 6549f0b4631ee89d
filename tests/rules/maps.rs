//! Maps, generations and partition counts: what changes hands, and who is told (rules 1, 4, 5 and 11).

use std::sync::Arc;

use corespan::handoff::{Generation, Offset, PartitionRef, RecordBatch, ShardId};
use corespan::shard::{Event, ShardSettings};
use corespan::subject::Partitioner;
use serde_json::json;

use crate::harness::{self, Node, map, record, topic};
use crate::support::{epoch, offsets, serving};

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
