//! Positions: what is recovered, held or refused (rules 8, 9, 10, 12 and 14).

use corespan::handoff::{Generation, Offset, PartitionRef};
use corespan::shard::{Event, ShardSettings};
use serde_json::{Value, json};

use crate::harness::{self, Node, map, publications, record, topic};
use crate::support::{epoch, long, offsets, serving};

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
