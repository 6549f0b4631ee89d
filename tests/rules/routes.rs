//! Subjects that lead to other topics than their own: `[[route]]` and `[[expose]]`.

use std::sync::Arc;

use corespan::handoff::{Offset, PublishKey};
use corespan::limits::{HOLD_MS, PUBLISH_MS};
use corespan::shard::{Event, PublishFailure, PublishResult, ShardSettings};
use corespan::subject::{Destination, Exposures, PublishRule, Route, Routes, SubjectPattern, Template, Topic};
use serde_json::{Value, json};

use crate::harness::{Client, Node, publications, record, topic};
use crate::support::{code, epoch};

const STORED: PublishResult = PublishResult::Stored { partition: 0, offset: Offset(0) };

fn destination(subject: &str, topic: &str, key: Option<&str>) -> Destination {
    let pattern = SubjectPattern::parse(subject).expect("a pattern");
    let template = |text| Template::parse(text, &pattern).expect("a template");
    Destination { topic: template(topic), key: key.map(template), pattern: pattern.clone() }
}

fn topics(shards: u16) -> Vec<Topic> {
    ["server", "topic2", "orders", "orders-eu"].iter().enumerate().map(|(index, name)| topic(index as u32, name, 2, shards)).collect()
}

/// `/server/status2` to `/topic2/mykey` alone; `/orders/REGION/new` to its own topic and to `orders-REGION`; `/wide/*` to four topics.
fn routes() -> Routes {
    let route = |subject, topic, key, also| Route { destination: destination(subject, topic, key), also };
    Routes(vec![
        route("/server/status2", "topic2", Some("mykey"), false),
        route("/orders/{region}/new", "orders-{region}", None, true),
        route("/wide/{x}", "server", None, false),
        route("/wide/{x}", "topic2", None, false),
        route("/wide/{x}", "orders", None, false),
        route("/wide/{x}", "orders-eu", None, false),
    ])
}

fn routing() -> (Node, Client) {
    let settings = ShardSettings { routes: Arc::new(routes()), ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, topics(1));
    let client = node.connect(0);
    (node, client)
}

fn publish(node: &mut Node, client: Client, channel: &str) -> u32 {
    let id = node.send(client, json!({"publish": {"channel": channel, "data": 1}}));
    node.settle();
    id
}

/// What the producer was given, and forgets: topics and keys.
fn produced(node: &mut Node) -> (Vec<PublishKey>, Vec<String>) {
    let text = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    node.hands[0].produced.drain(..).map(|(key, record)| (key, format!("{} {}", record.topic, text(&record.key)))).unzip()
}

fn tell(node: &mut Node, publish: PublishKey, result: PublishResult) {
    node.handle(0, Event::Published { publish, result });
    node.settle();
}

#[test]
fn a_publish_goes_where_its_route_says_with_or_instead_of_its_own_topic() {
    let (mut node, client) = routing();
    for (channel, expected) in [
        ("/server/status1", &["server status1"][..]),
        ("/server/status2", &["topic2 mykey"]),
        ("/orders/eu/new", &["orders eu/new", "orders-eu eu/new"]),
        ("/orders/eu/old", &["orders eu/old"]),
    ] {
        let id = publish(&mut node, client, channel);
        let (keys, records) = produced(&mut node);
        assert_eq!(records, expected, "{channel}");
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(node.reply(client, id), None, "{channel}: {place} of {} have it", keys.len());
            tell(&mut node, *key, STORED);
        }
        assert!(node.reply(client, id).expect("an answer")["publish"].is_object(), "{channel}");
        node.cores[0].check();
    }
    assert_eq!(node.cores[0].counters().publishes_stored, 4, "one for each publish");
}

#[test]
fn a_route_opens_its_topic_and_no_other() {
    let publish_topics = Arc::new(PublishRule::new(["server".to_owned()], Vec::new()));
    let settings = ShardSettings { routes: Arc::new(routes()), publish_topics, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, topics(1));
    let client = node.connect(0);
    let id = publish(&mut node, client, "/server/status2");
    assert_eq!(produced(&mut node).1, ["topic2 mykey"], "/server/status2 may be published to, whatever publish.topics says");
    assert_eq!(node.reply(client, id), None);
    for channel in ["/topic2/mykey", "/orders/eu/new"] {
        let id = publish(&mut node, client, channel);
        assert_eq!(code(&node.reply(client, id).expect("an answer")), 103, "{channel}: its own topic is not open");
        assert_eq!(produced(&mut node).1, Vec::<String>::new());
    }
}

#[test]
fn nothing_is_handed_over_before_all_topics_are_known_to_be_there() {
    let (mut node, client) = routing();
    let id = publish(&mut node, client, "/orders/us/new");
    assert_eq!((produced(&mut node).1, &node.hands[0].lookups[..]), (Vec::<String>::new(), &["orders-us".to_owned()][..]));
    node.handle(0, Event::TopicFound { topic: "orders-us", partitions: Err(PublishFailure::NoSuchTopic) });
    node.settle();
    let reply = node.reply(client, id).expect("an answer");
    assert_eq!(code(&reply), 102);
    assert!(reply["error"]["message"].as_str().expect("a text").contains("orders-us"), "{reply}");
    assert_eq!(produced(&mut node).1, Vec::<String>::new());
    // A name that is none.
    let id = publish(&mut node, client, "/orders/é/new");
    assert_eq!(code(&node.reply(client, id).expect("an answer")), 107);
}

#[test]
fn what_some_topics_have_and_others_not_is_answered_401_once_and_counted_by_topic() {
    let failed = PublishResult::Failed(PublishFailure::Denied);
    for (said, expected, missed) in [
        ([STORED, STORED, STORED, STORED], 0, &[][..]),
        ([STORED, failed, STORED, PublishResult::Unknown], 401, &["orders-eu", "topic2"]),
        ([failed, failed, failed, failed], 103, &[]),
        ([PublishResult::Unknown, failed, failed, failed], 401, &[]),
    ] {
        let (mut node, client) = routing();
        let id = publish(&mut node, client, "/wide/x");
        let (keys, records) = produced(&mut node);
        assert_eq!(records, ["server x", "topic2 x", "orders x", "orders-eu x"]);
        for (key, result) in keys.into_iter().zip(said) {
            assert_eq!(node.reply(client, id), None);
            tell(&mut node, key, result);
        }
        let reply = node.reply(client, id).expect("an answer");
        assert_eq!((code(&reply), reply["publish"].is_object()), (expected, expected == 0), "{said:?}: {reply}");
        node.pass(200);
        let counted: Vec<&str> = node.hands[0].missed.keys().map(|topic| &**topic).collect();
        assert_eq!((counted.as_slice(), node.cores[0].counters().publishes_missed), (missed, missed.len() as u64), "{said:?}");
        assert!(node.frames(client).is_empty(), "one answer");
    }
}

#[test]
fn a_producer_that_is_full_in_the_middle_gets_the_rest_later_and_nothing_twice_and_nothing_overtakes() {
    let (mut node, client) = routing();
    node.hands[0].producer_takes = Some(2);
    let first = publish(&mut node, client, "/wide/1");
    let second = publish(&mut node, client, "/wide/2");
    assert!(!node.cores[0].reads(client.key));
    let (mut keys, records) = produced(&mut node);
    assert_eq!(records, ["server 1", "topic2 1"]);
    for key in keys.drain(..) {
        tell(&mut node, key, STORED);
    }
    node.cores[0].check();
    assert_eq!(node.reply(client, first), None, "two of four have it");
    node.hands[0].producer_takes = None;
    node.pass(20);
    let (keys, records) = produced(&mut node);
    assert_eq!(records, ["orders 1", "orders-eu 1", "server 2", "topic2 2", "orders 2", "orders-eu 2"]);
    for key in keys {
        tell(&mut node, key, STORED);
    }
    for id in [first, second] {
        assert!(node.reply(client, id).expect("an answer")["publish"].is_object());
    }
    let counters = node.cores[0].counters();
    assert_eq!((counters.publishes, counters.publishes_stored, counters.publishes_missed, counters.publishes_open), (2, 2, 0, 0));
}

#[test]
fn a_publish_that_stays_in_the_middle_is_answered_in_time_and_its_rest_is_never_handed_over() {
    // The producer says yes to the first two and has no room for the others until it is too late.
    let (mut node, client) = routing();
    node.hands[0].producer_takes = Some(2);
    let id = publish(&mut node, client, "/wide/1");
    for key in produced(&mut node).0 {
        tell(&mut node, key, STORED);
    }
    node.pass(HOLD_MS + 300);
    assert_eq!(code(&node.reply(client, id).expect("an answer")), 401);
    node.hands[0].producer_takes = None;
    node.pass(PUBLISH_MS);
    assert_eq!(produced(&mut node).1, Vec::<String>::new());
    assert_eq!(node.cores[0].counters().publishes_missed, 2);
    // Kafka says nothing of some.
    let id = publish(&mut node, client, "/wide/2");
    let keys = produced(&mut node).0;
    tell(&mut node, keys[0], STORED);
    node.pass(PUBLISH_MS + 300);
    assert_eq!(code(&node.reply(client, id).expect("an answer")), 401);
    for key in &keys[1..] {
        tell(&mut node, *key, STORED);
    }
    assert!(node.frames(client).is_empty(), "one answer");
    assert_eq!((node.cores[0].counters().publishes_late, node.cores[0].counters().publishes_open), (3, 0));
    // Its client goes away in the middle.
    node.hands[0].producer_takes = Some(1);
    publish(&mut node, client, "/wide/3");
    let keys = produced(&mut node).0;
    node.leave(client);
    for key in keys {
        tell(&mut node, key, STORED);
    }
    node.cores[0].check();
    assert_eq!(node.cores[0].counters().publishes_open, 0);
}

/// `/server/status2` has the records of `/topic2/mykey`, `/eu/K` those of `/orders-eu/K`.
fn exposing(shards: u16) -> (Node, Vec<Topic>) {
    let exposures = Exposures(vec![
        destination("/server/status2", "topic2", Some("mykey")),
        destination("/eu/{*key}", "orders-eu", Some("{key}")),
        destination("/gone/{*key}", "gone", Some("{key}")),
    ]);
    let settings = ShardSettings { exposures: Arc::new(exposures), ..ShardSettings::default() };
    let topics = topics(shards);
    (Node::serving(shards, settings, topics.clone()), topics)
}

#[test]
fn an_exposed_subject_has_the_records_of_another_and_is_called_by_its_own_name() {
    for shards in [1, 2] {
        let (mut node, topics) = exposing(shards);
        let clients: Vec<Client> = (0..4).map(|number| node.connect(number % usize::from(shards))).collect();
        // The same records under two names, on one connection and on several.
        for channel in ["/server/status2", "/topic2/mykey"] {
            for client in &clients[..2] {
                assert!(node.subscribe(*client, channel)["subscribe"]["recoverable"].as_bool().unwrap_or(false), "{channel}");
            }
        }
        let reply = node.ask(clients[2], json!({"subscribe": {"channel": "/server/status2", "flag": 1}}));
        assert_eq!(reply["subscribe"]["id"], Value::Null, "ids are of the subject, which has two names here");
        assert!(node.subscribe(clients[3], "/eu/a/b")["subscribe"].is_object());
        node.consume_keyed(&topics[1], 0, "mykey", "1");
        node.consume_keyed(&topics[3], 0, "a/b", "2");
        node.consume_keyed(&topics[0], 0, "status2", "3");
        let names = |node: &mut Node, client: Client| -> Vec<String> {
            let mut names: Vec<String> =
                node.frames(client).iter().map(|frame| format!("{}={}", frame["push"]["channel"], frame["push"]["pub"]["data"])).collect();
            names.sort();
            names
        };
        for client in &clients[..2] {
            assert_eq!(names(&mut node, *client), ["\"/server/status2\"=1", "\"/topic2/mykey\"=1"]);
        }
        assert_eq!(names(&mut node, clients[2]), ["\"/server/status2\"=1"]);
        assert_eq!(names(&mut node, clients[3]), ["\"/eu/a/b\"=2"]);
        // One of the two names is left: the other goes on.
        node.ask(clients[0], json!({"unsubscribe": {"channel": "/topic2/mykey"}}));
        node.consume_keyed(&topics[1], 1, "mykey", "4");
        assert_eq!(names(&mut node, clients[0]), ["\"/server/status2\"=4"]);
        assert_eq!(names(&mut node, clients[1]), ["\"/server/status2\"=4", "\"/topic2/mykey\"=4"]);
        node.cores.iter().for_each(corespan::shard::ShardCore::check);
        for client in clients {
            node.leave(client);
        }
        assert!(node.cores.iter().all(|core| core.interests() == (0, 0)), "nothing is left at the homes");
    }
}

#[test]
fn an_exposed_subject_is_recovered_caught_up_and_paged_as_any_other() {
    let (mut node, topics) = exposing(2);
    let first = node.connect(0);
    let position = epoch(&node.subscribe(first, "/eu/k"));
    node.leave(first);
    for offset in 0..200 {
        node.consume_keyed(&topics[3], offset, "k", &format!("\"{offset}:{}\"", "x".repeat(2_000)));
    }
    let client = node.connect(1);
    let reply = node.recover(client, "/eu/k", &position, 190);
    assert_eq!((&reply["subscribe"]["recovered"], publications(&reply["subscribe"]).len()), (&json!(true), 10));
    let other = node.connect(1);
    let reply = node.recover(other, "/eu/k", &position, 0);
    assert_eq!(reply["subscribe"]["recovered"], json!(true), "more than a reply holds");
    node.pass(100);
    let frames = node.frames(other);
    let caught_up = publications(&reply["subscribe"]).len() + frames.iter().filter(|frame| frame["push"]["channel"] == "/eu/k").count();
    assert_eq!(caught_up, 200);
    let page = node.ask(client, json!({"history": {"channel": "/eu/k", "limit": 3, "reverse": true}}));
    assert_eq!(publications(&page["history"]).len(), 3);
    // What leads to a topic that is not served is refused by that topic's name.
    let reply = node.subscribe(client, "/gone/x");
    assert_eq!(code(&reply), 102);
    assert!(reply["error"]["message"].as_str().expect("a text").contains("topic gone"), "{reply}");
}

#[test]
fn a_reload_takes_the_subscribers_of_an_exposed_subject_to_its_new_records_and_nobody_else() {
    let (mut node, topics) = exposing(2);
    let clients = [node.connect(0), node.connect(1), node.connect(1)];
    let channels = ["/server/status2", "/eu/k", "/server/status2"];
    for (client, channel) in clients.iter().zip(channels) {
        node.subscribe(*client, channel);
    }
    let exposures =
        Exposures(vec![destination("/server/status2", "topic2", Some("other")), destination("/eu/{*key}", "orders-eu", Some("{key}"))]);
    let settings = Arc::new(ShardSettings { exposures: Arc::new(exposures), ..ShardSettings::default() });
    for shard in 0..2 {
        node.handle(shard, Event::Settings(settings.clone()));
    }
    node.settle();
    for (client, channel) in clients.iter().zip(channels) {
        let frames = node.frames(*client);
        if channel == "/eu/k" {
            assert_eq!(frames, Vec::<Value>::new());
        } else {
            assert_eq!((&frames[0]["push"]["channel"], &frames[0]["push"]["unsubscribe"]["code"]), (&json!(channel), &json!(2500)));
            node.subscribe(*client, channel);
        }
    }
    node.consume(&topics[1], topics[1].home(Some(b"mykey")).partition.partition, vec![record(0, Some("mykey"), Some("1"))]);
    node.consume(&topics[1], topics[1].home(Some(b"other")).partition.partition, vec![record(5, Some("other"), Some("2"))]);
    node.consume_keyed(&topics[3], 0, "k", "3");
    let data: Vec<Vec<Value>> = clients.map(|client| node.pushes(client).into_iter().map(|(_, data)| data).collect()).into();
    assert_eq!(data, [vec![json!(2)], vec![json!(3)], vec![json!(2)]]);
    node.cores.iter().for_each(corespan::shard::ShardCore::check);
}
