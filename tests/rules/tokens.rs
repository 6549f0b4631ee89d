//! Who is let in, what they may do, and until when.

use std::sync::Arc;

use corespan::entitlement::{Entitlement, KeySource, Keys, Limits, RevokedSet, TokenRules};
use corespan::handoff::Protocol;
use corespan::shard::{Event, ShardSettings};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::{Client, Node, topic};
use crate::support::code;

const SECRET: &str = "a secret of the tests, of 32 bytes or more";
/// What the wall clock says when the node's own says 0.
const BEGAN_S: u64 = 1_800_000_000;

fn signed(mut claims: Value) -> String {
    if claims["exp"].is_null() {
        claims["exp"] = json!(BEGAN_S + 3_600);
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn may(permissions: Value) -> String {
    signed(json!({"sub": "ada", "jti": "j1", "permissions": permissions}))
}

fn jwt(revoked: &str) -> Entitlement {
    let keys = Keys::open(vec![KeySource::Secret(SECRET.to_owned())]).unwrap();
    // No leeway: a second is a second.
    let limits = Limits { leeway_s: 0, ..Limits::default() };
    Entitlement::Jwt(TokenRules::new(keys.set(), Arc::new(RevokedSet::parse(revoked).unwrap()), limits))
}

fn guarded(entitlement: Entitlement) -> Node {
    // No pings, for time passes and nobody answers.
    let settings = ShardSettings { ping_interval_ms: 0, ..ShardSettings::default() };
    let mut node = Node::serving(1, settings, vec![topic(0, "v", 1, 1)]);
    node.now_ms = 1_000;
    node.handle(0, Event::Clock { unix_ms: BEGAN_S * 1_000 + 1_000 });
    node.handle(0, Event::Entitlement(entitlement));
    node
}

fn connect(node: &mut Node, token: &str) -> (Client, Value) {
    let client = node.open(0, Protocol::Json);
    let reply = node.ask(client, json!({"connect": {"token": token}}));
    (client, reply)
}

fn connected(node: &mut Node, token: &str) -> Client {
    let (client, reply) = connect(node, token);
    assert_eq!(code(&reply), 0, "{reply}");
    client
}

fn publish(node: &mut Node, client: Client, channel: &str) -> u64 {
    let before = node.hands[0].produced.len();
    let id = node.send(client, json!({"publish": {"channel": channel, "data": 1}}));
    node.settle();
    if node.hands[0].produced.len() > before { 0 } else { code(&node.reply(client, id).unwrap()) }
}

fn history(node: &mut Node, client: Client, channel: &str) -> u64 {
    code(&node.ask(client, json!({"history": {"channel": channel, "limit": 1}})))
}

fn closed(node: &mut Node, client: Client) -> Option<u64> {
    node.frames(client).iter().find_map(|frame| frame["close"].as_u64())
}

fn denied(node: &mut Node, word: &str) -> u64 {
    let name = format!("denied_{word}");
    node.cores[0].counters().each().find_map(|(known, _, count)| (known == name).then_some(count)).unwrap()
}

#[test]
fn without_a_valid_token_nobody_is_let_in() {
    let mut node = guarded(jwt(""));
    let expired = signed(json!({"sub": "ada", "exp": BEGAN_S}));
    for (token, expected, close) in [("", 101, 3500), ("nonsense", 101, 3500), (&expired, 109, 3005)] {
        let (client, reply) = connect(&mut node, token);
        assert_eq!(code(&reply), expected, "{token}: {reply}");
        assert_eq!(closed(&mut node, client), Some(close), "{token}");
    }
    assert_eq!((denied(&mut node, "no_token"), denied(&mut node, "malformed"), denied(&mut node, "expired")), (1, 1, 1));
}

#[test]
fn a_client_may_do_what_its_token_permits_and_nothing_else() {
    let mut node = guarded(jwt(""));
    let client = connected(&mut node, &may(json!({"sub": ["/v/a/*"], "pub": ["/v/b"]})));
    assert_eq!(code(&node.subscribe(client, "/v/a/1")), 0);
    assert_eq!(history(&mut node, client, "/v/a/1"), 0);
    assert_eq!(publish(&mut node, client, "/v/b"), 0);
    for channel in ["/v/b", "/v", "/v/A/1", "/v/a", "/elsewhere/a/1"] {
        assert_eq!(code(&node.subscribe(client, channel)), 103, "{channel}: of a topic that is not there nothing is said either");
        assert_eq!(history(&mut node, client, channel), 103, "{channel}");
    }
    assert_eq!(publish(&mut node, client, "/v/a/1"), 103);
    assert_eq!(denied(&mut node, "permission"), 11);
}

#[test]
fn with_basic_everybody_subscribes_and_the_token_publishes() {
    let mut node = guarded(Entitlement::Basic { token: Arc::from("open sesame") });
    let (anybody, knows) = (connected(&mut node, ""), connected(&mut node, "open sesame"));
    for client in [anybody, knows] {
        assert_eq!(code(&node.subscribe(client, "/v/1")), 0);
        assert_eq!(history(&mut node, client, "/v/1"), 0);
    }
    assert_eq!((publish(&mut node, anybody, "/v/1"), publish(&mut node, knows, "/v/1")), (103, 0));
    let (guesses, reply) = connect(&mut node, "open sesame ");
    assert_eq!((code(&reply), closed(&mut node, guesses)), (101, Some(3500)));
}

#[test]
fn a_connection_ends_with_its_token_unless_it_is_refreshed() {
    let mut node = guarded(jwt(""));
    let until = |seconds: u64| signed(json!({"sub": "ada", "exp": BEGAN_S + seconds, "permissions": {"all": ["/v/*"]}}));
    let (client, reply) = connect(&mut node, &until(21));
    assert_eq!(
        (&reply["connect"]["expires"], &reply["connect"]["ttl"]),
        (&json!(true), &json!(15)),
        "a quarter of the time is kept for it"
    );
    let other = connected(&mut node, &until(21));
    node.pass(15_000);
    assert_eq!(closed(&mut node, client), None);
    let reply = node.ask(client, json!({"refresh": {"token": until(300)}}));
    assert_eq!((&reply["refresh"]["expires"], &reply["refresh"]["ttl"]), (&json!(true), &json!(254)));
    assert!(reply["refresh"]["client"].is_string());
    node.pass(4_900);
    assert_eq!((closed(&mut node, client), closed(&mut node, other)), (None, None));
    node.pass(200);
    assert_eq!((closed(&mut node, client), closed(&mut node, other)), (None, Some(3005)));
    let bad = node.ask(client, json!({"refresh": {"token": signed(json!({"sub": "bob"}))}}));
    assert_eq!(code(&bad), 103, "a token of somebody else: {bad}");
    assert_eq!(publish(&mut node, client, "/v/1"), 0, "a refresh that fails changes nothing");
    node.pass(280_000);
    assert_eq!(closed(&mut node, client), Some(3005));
}

#[test]
fn a_client_is_never_told_to_come_after_the_end_of_its_token() {
    let mut node = guarded(jwt(""));
    for wait_ms in [0, 10, 500, 990] {
        node.now_ms = 1_000 + wait_ms;
        // It ends 1,000 to 2,000 ms from now: in whole seconds that is one.
        let (_, reply) = connect(&mut node, &signed(json!({"sub": "ada", "exp": BEGAN_S + 3})));
        assert_eq!(reply["connect"]["ttl"], json!(if wait_ms == 0 { 2 } else { 1 }), "{wait_ms} ms later");
    }
}

#[test]
fn after_a_refresh_subscriptions_that_are_permitted_no_longer_end() {
    let mut node = guarded(jwt(""));
    let client = connected(&mut node, &may(json!({"sub": ["/v/1", "/v/2"]})));
    node.subscribe(client, "/v/1");
    node.subscribe(client, "/v/2");
    node.frames(client);
    assert_eq!(code(&node.ask(client, json!({"refresh": {"token": may(json!({"sub": ["/v/2"]}))}}))), 0);
    let frames = node.frames(client);
    let ended: Vec<&Value> = frames.iter().filter(|frame| frame["push"]["unsubscribe"].is_object()).collect();
    assert_eq!(ended.len(), 1, "{frames:?}");
    assert_eq!((&ended[0]["push"]["channel"], &ended[0]["push"]["unsubscribe"]["code"]), (&json!("/v/1"), &json!(2501)));
    assert_eq!(code(&node.subscribe(client, "/v/1")), 103);
    node.cores[0].check();
}

#[test]
fn who_is_revoked_is_sent_away_at_once() {
    let mut node = guarded(jwt(""));
    let bob = signed(json!({"sub": "bob", "jti": "j2", "permissions": {"all": ["/v/*"]}}));
    let (ada, bob) = (connected(&mut node, &may(json!({"all": ["/v/*"]}))), connected(&mut node, &bob));
    node.handle(0, Event::Entitlement(jwt("jti j1\n")));
    node.settle();
    assert_eq!((closed(&mut node, ada), closed(&mut node, bob)), (Some(3500), None));
    let (_, reply) = connect(&mut node, &may(json!({"all": ["/v/*"]})));
    assert_eq!(code(&reply), 103);
    node.handle(0, Event::Entitlement(jwt("jti j1\nuser bob\n")));
    node.settle();
    assert_eq!(closed(&mut node, bob), Some(3500));
    assert_eq!(denied(&mut node, "revoked"), 3);
}

#[test]
fn a_subscription_token_allows_its_channel_alone_and_ends_unless_it_is_renewed() {
    let mut node = guarded(jwt(""));
    let client = connected(&mut node, &may(json!({})));
    let own =
        |channel: &str, seconds: u64, jti: &str| signed(json!({"sub": "ada", "jti": jti, "channel": channel, "exp": BEGAN_S + seconds}));
    let subscribe =
        |node: &mut Node, channel: &str, token: String| node.ask(client, json!({"subscribe": {"channel": channel, "token": token}}));
    assert_eq!(code(&subscribe(&mut node, "/v/1", own("/v/2", 60, "s1"))), 103);
    assert_eq!(code(&subscribe(&mut node, "/v/1", may(json!({"all": ["/v/*"]})))), 101, "a connection's token is none");
    let reply = subscribe(&mut node, "/v/1", own("/v/1", 21, "s1"));
    assert_eq!((&reply["subscribe"]["expires"], &reply["subscribe"]["ttl"]), (&json!(true), &json!(15)), "{reply}");
    assert_eq!(code(&subscribe(&mut node, "/v/2", own("/v/2", 21, "s2"))), 0);
    assert_eq!(code(&subscribe(&mut node, "/v/3", own("/v/3", 3_000, "s3"))), 0);
    assert_eq!(history(&mut node, client, "/v/1"), 0, "who may subscribe may look back");
    node.pass(10_000);
    let renew =
        |node: &mut Node, channel: &str, token: String| node.ask(client, json!({"sub_refresh": {"channel": channel, "token": token}}));
    let reply = renew(&mut node, "/v/1", own("/v/1", 111, "s1"));
    assert_eq!((&reply["sub_refresh"]["expires"], &reply["sub_refresh"]["ttl"]), (&json!(true), &json!(75)), "{reply}");
    assert_eq!(code(&renew(&mut node, "/v/2", own("/v/2", 5, "s2"))), 109, "and it ends when it was to end");
    assert_eq!(code(&renew(&mut node, "/v/4", own("/v/4", 60, "s4"))), 107, "nobody has subscribed to it");
    node.frames(client);
    node.pass(10_200);
    let ends = |node: &mut Node| -> Vec<String> {
        let frames = node.frames(client);
        let of = |frame: &Value| frame["push"]["unsubscribe"]["code"].as_u64().map(|code| format!("{} {code}", frame["push"]["channel"]));
        frames.iter().filter_map(of).collect()
    };
    assert_eq!(ends(&mut node), ["\"/v/2\" 2501"]);
    node.pass(91_000);
    assert_eq!(ends(&mut node), ["\"/v/1\" 2501"]);
    node.handle(0, Event::Entitlement(jwt("jti s3\n")));
    node.settle();
    assert_eq!(ends(&mut node), ["\"/v/3\" 2501"]);
    assert_eq!(closed(&mut node, client), None);
    node.leave(client);
    assert_eq!(node.cores[0].bounds().subscriptions_bytes, 0, "tokens of its own go with a subscription");
    node.cores[0].check();
}

#[test]
fn subscriptions_of_a_token_of_their_own_count_what_they_take() {
    let mut node = guarded(jwt(""));
    let client = connected(&mut node, &may(json!({"sub": ["/v/*"]})));
    node.subscribe(client, "/v/1");
    let without = node.cores[0].bounds().subscriptions_bytes;
    let jti = "j".repeat(200);
    let token = signed(json!({"sub": "ada", "jti": jti, "channel": "/v/2"}));
    assert_eq!(code(&node.ask(client, json!({"subscribe": {"channel": "/v/2", "token": token}}))), 0);
    assert!(node.cores[0].bounds().subscriptions_bytes > 2 * without + 200);
}

#[test]
fn a_storm_of_tokens_is_judged_a_few_at_a_time_and_all_are_answered() {
    let mut node = guarded(jwt(""));
    let token = may(json!({"all": ["/v/*"]}));
    let clients: Vec<(Client, u32)> = (0..100)
        .map(|_| {
            let client = node.open(0, Protocol::Json);
            (client, node.send(client, json!({"connect": {"token": token}})))
        })
        .collect();
    let answered = |node: &mut Node| clients.iter().filter(|(client, id)| node.reply(*client, *id).is_some()).count();
    node.flush(0);
    let first = answered(&mut node);
    assert!((1..=16).contains(&first), "{first} before the second flush");
    node.settle();
    assert_eq!(first + answered(&mut node), 100);
}

#[test]
fn a_clock_that_is_set_moves_the_end_of_tokens() {
    let mut node = guarded(jwt(""));
    let client = connected(&mut node, &signed(json!({"sub": "ada", "exp": BEGAN_S + 100})));
    node.handle(0, Event::Clock { unix_ms: (BEGAN_S + 200) * 1_000 });
    node.pass(99_500);
    assert_eq!(closed(&mut node, client), Some(3005), "within the minute in which it is looked at");
    let late = connected(&mut node, &signed(json!({"sub": "ada", "exp": BEGAN_S + 400})));
    node.handle(0, Event::Clock { unix_ms: BEGAN_S * 1_000 });
    node.pass(300_000);
    assert_eq!(closed(&mut node, late), None);
    node.pass(101_000);
    assert_eq!(closed(&mut node, late), Some(3005));
}

#[test]
fn without_entitlement_a_token_is_not_looked_at() {
    let mut node = Node::serving(1, ShardSettings::default(), vec![topic(0, "v", 1, 1)]);
    let (client, reply) = connect(&mut node, "nonsense");
    assert_eq!(reply["connect"]["expires"], Value::Null, "{reply}");
    assert_eq!(code(&node.ask(client, json!({"subscribe": {"channel": "/v/1", "token": "nonsense"}}))), 0);
    assert_eq!(node.ask(client, json!({"refresh": {"token": "nonsense"}}))["refresh"]["expires"], Value::Null);
    assert_eq!(node.ask(client, json!({"sub_refresh": {"channel": "/v/1", "token": "nonsense"}}))["sub_refresh"], json!({}));
}

#[test]
fn a_certificate_names_the_user_and_no_token_of_somebody_else_will_do() {
    let mut node = guarded(jwt("user eve\n"));
    let permissions = json!({"all": ["/v/*"]});
    let come = |node: &mut Node, user: &str, token: &str| {
        let client = node.open(0, Protocol::Json);
        node.handle(0, Event::Identified { connection: client.key, user });
        let reply = node.ask(client, json!({"connect": {"token": token}}));
        (client, code(&reply))
    };
    let nameless = signed(json!({"permissions": permissions}));
    let (ada, came) = come(&mut node, "ada", &nameless);
    assert_eq!(came, 0, "a token need not name anybody");
    assert_eq!(come(&mut node, "ada", &may(permissions.clone())).1, 0);
    assert_eq!(come(&mut node, "bob", &may(permissions)).1, 103, "ada's token");
    assert_eq!(come(&mut node, "eve", &nameless).1, 103, "who is revoked is, whatever the token says");
    let refresh = |node: &mut Node, token: &str| code(&node.ask(ada, json!({"refresh": {"token": token}})));
    assert_eq!(refresh(&mut node, &nameless), 0);
    assert_eq!(refresh(&mut node, &signed(json!({"sub": "bob"}))), 103);
    node.handle(0, Event::Entitlement(jwt("user ada\n")));
    node.settle();
    assert_eq!(closed(&mut node, ada), Some(3500));
}
