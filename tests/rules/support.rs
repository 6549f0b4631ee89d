//! What several rules begin with.

use corespan::shard::ShardSettings;
use corespan::subject::Topic;
use serde_json::Value;

use crate::harness::{Client, Node, topic};

pub fn serving(shards: u16, partitions: u32) -> (Node, Topic) {
    let topic = topic(0, "v", partitions, shards);
    (Node::serving(shards, ShardSettings::default(), vec![topic.clone()]), topic)
}

pub fn epoch(reply: &Value) -> String {
    reply["subscribe"]["epoch"].as_str().unwrap_or_default().to_owned()
}

pub fn offsets(list: &[(u64, Value)]) -> Vec<u64> {
    list.iter().map(|(offset, _)| *offset).collect()
}

/// A client that takes nothing until it is over its outbox bound.
pub fn slow_client(settings: ShardSettings, shards: u16) -> (Node, Topic, Client) {
    let topic = topic(0, "v", 2, shards);
    let mut node = Node::serving(shards, settings, vec![topic.clone()]);
    let client = node.connect(0);
    node.subscribe(client, "/v/k");
    node.set_room(client, 0);
    (node, topic, client)
}

pub fn small() -> ShardSettings {
    ShardSettings { outbox_bytes_max: 16 << 10, slow_client_timeout_ms: 5_000, ..ShardSettings::default() }
}

pub fn long(number: i64) -> String {
    format!("\"{number}:{}\"", "x".repeat(1_000))
}

/// The code of a reply's error; 0 if it has none.
pub fn code(reply: &Value) -> u64 {
    reply["error"]["code"].as_u64().unwrap_or(0)
}
