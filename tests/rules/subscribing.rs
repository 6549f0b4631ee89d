//! Subscriptions that come, go and are routed again (rule 7).

use corespan::handoff::ShardId;
use corespan::shard::{Event, ShardSettings};
use serde_json::json;

use crate::harness::{self, Node, map, publications, topic};
use crate::support::serving;

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
