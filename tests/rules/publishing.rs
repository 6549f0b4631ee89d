//! Publishes: one answer each, also from a full producer and in a drain (rule 15).

use std::collections::HashMap;
use std::sync::Arc;

use corespan::handoff::Offset;
use corespan::limits::EXPIRE_MS;
use corespan::shard::{Event, PublishFailure, PublishResult, ShardSettings};
use corespan::subject::{Partitioner, TopicMap};
use serde_json::{Value, json};

use crate::harness::{Client, Node, topic};
use crate::support::serving;

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
fn rule_15_the_clock_of_publishes_is_the_bridges_own() {
    let settings = ShardSettings { ping_interval_ms: 0, publishes_open_max: 2, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic(0, "v", 1, 1)]);
    let client = node.connect(0);
    let publish = |data: u32| json!({"publish": {"channel": "/v/k", "data": data}});
    // Kafka does not answer: nobody knows, and what it says later is no second answer.
    let ids = [1, 2].map(|data| node.send(client, publish(data)));
    let third = node.send(client, publish(3));
    node.pass(4_000 + EXPIRE_MS);
    // The third waited for one of the two, and its client gives up soon: it is not handed over any more.
    assert_eq!(node.reply(client, third).unwrap()["error"]["code"], 100);
    assert_eq!(ids.map(|id| node.reply(client, id)), [None, None]);
    node.pass(450 - EXPIRE_MS);
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
