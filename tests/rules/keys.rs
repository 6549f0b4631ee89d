//! Where the records of a key are, and what follows when they are elsewhere (rules 2 and 3).

use std::collections::HashMap;
use std::sync::Arc;

use corespan::handoff::TopicIndex;
use corespan::shard::{Event, ShardSettings};
use corespan::subject::{Partitioner, PartitionerChoice, Topic, TopicSettings, ValueKind};
use serde_json::json;

use crate::harness::{self, Client, Node, map, publications, record, topic};
use crate::support::{epoch, serving};

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
fn rule_2_another_partitioner_is_told_to_all_subscribers_of_the_topic_and_loses_nothing_where_a_key_keeps_its_home() {
    let mut topic = topic(0, "v", 2, 2);
    let by_crc32 = Topic { partitioner: Partitioner::Crc32, ..topic.clone() };
    let home = |topic: &Topic, key: &str| topic.home(Some(key.as_bytes())).partition;
    let key = |stays: bool| {
        let fits = |key: &String| (home(&topic, key) == home(&by_crc32, key)) == stays;
        (0..).map(|number| format!("k{number}")).find(fits).expect("a key")
    };
    let (stays, moves) = (key(true), key(false));
    let mut node = Node::serving(2, ShardSettings::default(), vec![topic.clone()]);
    let names = [&stays, &moves].map(|key| format!("/v/{key}"));
    let clients = [node.connect(0), node.connect(1)];
    let epochs: Vec<String> = clients.iter().zip(&names).map(|(client, name)| epoch(&node.subscribe(*client, name))).collect();
    for (offset, key) in [&stays, &moves].into_iter().enumerate() {
        node.consume(&topic, home(&topic, key).partition, vec![record(offset as i64, Some(key), Some("1"))]);
        assert_eq!(node.pushes(clients[offset]), [(offset as u64 + 1, json!(1))]);
    }
    topic = by_crc32.clone();
    node.take_map(map(2, vec![topic.clone()]));
    for (client, name) in clients.iter().zip(&names) {
        let push = &node.frames(*client)[0]["push"];
        assert_eq!((&push["channel"], &push["unsubscribe"]["code"]), (&json!(name), &json!(2500)));
    }
    node.consume(&topic, home(&topic, &stays).partition, vec![record(2, Some(&stays), Some("2"))]);
    let reply = node.recover(clients[0], &names[0], &epochs[0], 1);
    assert_eq!((&reply["subscribe"]["recovered"], publications(&reply["subscribe"])), (&json!(true), vec![(3, json!(2))]));
    let reply = node.recover(clients[1], &names[1], &epochs[1], 2);
    assert_ne!(reply["subscribe"]["recovered"], json!(true), "its positions counted in another partition");
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
