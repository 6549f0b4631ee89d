//! Connections: refusals, long messages and pings.

use std::sync::Arc;

use corespan::shard::{Event, PublishFailure, ShardSettings};
use corespan::subject::PublishRule;
use serde_json::{Value, json};

use crate::harness::{Node, topic};
use crate::support::serving;

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

#[test]
fn settings_that_change_while_a_shard_runs_hold_from_then_on() {
    let before = ShardSettings { subscriptions_max: 1, ..ShardSettings::default() };
    let mut node = Node::serving(1, before.clone(), vec![topic(0, "v", 1, 1)]);
    let client = node.connect(0);
    let code = |reply: Value| reply["error"]["code"].as_u64().unwrap_or(0);
    assert_eq!(code(node.subscribe(client, "/v/1")), 0);
    assert_eq!(code(node.subscribe(client, "/v/2")), 106);
    let publish_topics = Arc::new(PublishRule::new(["orders".to_owned()], Vec::new()));
    let newer = ShardSettings { subscriptions_max: 2, subject_bytes_max: 4, publish_topics, ..ShardSettings::default() };
    node.handle(0, Event::Settings(Arc::new(before.with_live_of(&newer))));
    assert_eq!(code(node.subscribe(client, "/v/2")), 0, "a limit that is higher");
    assert_eq!(code(node.subscribe(client, "/v/3")), 106);
    assert_eq!(code(node.ask(client, json!({"publish": {"channel": "/v/1", "data": 1}}))), 103, "what is not allowed any more");
    assert_eq!(node.hands[0].produced.len(), 0);
    assert_eq!(code(node.subscribe(client, "/v/too-long-for-the-newer")), 106, "what needs a restart stays as it was");
}

#[test]
fn a_smaller_cache_forgets_at_once_what_does_not_fit() {
    let before = ShardSettings::default();
    let served = topic(0, "v", 1, 1);
    let mut node = Node::serving(1, before.clone(), vec![served.clone()]);
    for offset in 0..100 {
        node.consume_keyed(&served, offset, &offset.to_string(), "\"0123456789\"");
    }
    assert!(node.cores[0].bounds().cache_bytes > 10_000);
    let newer = ShardSettings { cache_bytes_max: 5_000, ..ShardSettings::default() };
    node.handle(0, Event::Settings(Arc::new(before.with_live_of(&newer))));
    assert!(node.cores[0].bounds().cache_bytes <= 5_000);
    node.cores[0].check();
}
