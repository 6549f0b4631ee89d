//! Clients that do not take what they are sent, and lanes that are full (rule 6).

use corespan::handoff::ShardId;
use corespan::shard::ShardSettings;
use serde_json::json;

use crate::harness::{Node, record, topic};
use crate::support::{long, offsets, serving, slow_client, small};

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
