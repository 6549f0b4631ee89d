//! What becomes of a record: skipped, cut, remembered, handed out as history (rules 16 and 17).

use bytes::Bytes;
use corespan::handoff::Offset;
use corespan::shard::ShardSettings;
use corespan::subject::ValueKind;
use serde_json::{Value, json};

use crate::harness::{Client, Node, publications, record, topic};
use crate::support::{epoch, long, offsets, serving, slow_client, small};

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
