//! Commands as clients send them, right and wrong.

use super::*;
use prost::Message as _;

fn all(protocol: Protocol, message: &[u8]) -> Result<Vec<Command>, Malformed> {
    let (mut at, mut commands) = (0, Vec::new());
    while let Some(command) = next_command(protocol, message, &mut at)? {
        commands.push(command);
    }
    Ok(commands)
}

#[test]
fn several_commands_share_a_message_and_an_empty_one_is_the_pong() {
    let message = b"{\"id\":1,\"connect\":{\"name\":\"js\"}}\n{}\n{\"id\":2,\"publish\":{\"channel\":\"/v/1\",\"data\": {\"a\": 1}}}\n";
    let commands = all(Protocol::Json, message).unwrap();
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[1], Command { id: 0, request: Request::Pong });
    let Request::Publish(publish) = &commands[2].request else { panic!("{commands:?}") };
    assert_eq!(publish.data, "{\"a\": 1}");

    let mut message = Vec::new();
    wire::Command { id: 7, rpc: Some(wire::RpcRequest { method: "m".into() }), ..Default::default() }
        .encode_length_delimited(&mut message)
        .unwrap();
    message.push(0);
    let commands = all(Protocol::Protobuf, &message).unwrap();
    assert_eq!(commands, [Command { id: 7, request: Request::Rpc { method: "m".into() } }, Command { id: 0, request: Request::Pong }]);
}

#[test]
fn null_is_data_and_no_data_is_none() {
    let data = |text: &str| match &all(Protocol::Json, text.as_bytes()).unwrap()[0].request {
        Request::Publish(publish) => publish.data.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(data(r#"{"id":1,"publish":{"channel":"/v","data":null}}"#), "null");
    assert_eq!(data(r#"{"id":1,"publish":{"channel":"/v"}}"#), "");
    assert_eq!(data(r#"{"id":1,"publish":{"channel":"/v","data":"h\u0069"}}"#), r#""h\u0069""#);
}

#[test]
fn subscribe_data_asks_for_snapshot_or_history_and_nothing_else() {
    assert_eq!(subscribe_data(b""), (false, 0, None));
    assert_eq!(subscribe_data(br#"{"snapshot":true}"#), (true, 0, None));
    assert_eq!(subscribe_data(br#"{"history":5}"#), (false, 5, None));
    assert!(subscribe_data(br#"{"histroy":5}"#).2.is_some());
}

#[test]
fn what_is_not_the_protocol_is_malformed_and_two_requests_in_one_are_unknown() {
    for bytes in [&b"{"[..], b"[]", b"1", b"{\"id\":-1}", b"{}}"] {
        assert!(all(Protocol::Json, bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(all(Protocol::Json, br#"{"id":1,"send":{},"rpc":{}}"#).unwrap()[0].request, Request::Unknown);
    assert_eq!(all(Protocol::Json, br#"{"id":1,"teleport":{}}"#).unwrap()[0].request, Request::Unknown);
    assert!(all(Protocol::Protobuf, &[5, 1]).is_err());
}

fn request(text: &str) -> Request {
    all(Protocol::Json, text.as_bytes()).unwrap().pop().unwrap().request
}

#[test]
fn positions_that_make_no_sense_are_read_and_left_to_the_home() {
    for (number, offset) in [("7", 7), ("-1", u64::MAX), ("1e30", u64::MAX), ("18446744073709551616", u64::MAX), ("7.5", 7), ("null", 0)] {
        let Request::Subscribe(subscribe) = request(&format!(r#"{{"id":1,"subscribe":{{"channel":"/v","offset":{number}}}}}"#)) else {
            panic!("{number}");
        };
        assert_eq!(subscribe.position.offset, offset, "{number}");
    }
    for (number, limit) in [("-1", -1), ("9007199254740991", i32::MAX), ("10.0", 10), ("null", 0)] {
        let Request::History(history) = request(&format!(r#"{{"id":1,"history":{{"channel":"/v","limit":{number}}}}}"#)) else {
            panic!("{number}");
        };
        assert_eq!(history.limit, limit, "{number}");
    }
}

#[test]
fn no_depth_of_nesting_is_too_much_for_the_stack() {
    let deep = "[".repeat(500_000) + &"]".repeat(500_000);
    for text in [
        format!(r#"{{"id":1,"publish":{{"channel":"/v","data":{deep}}}}}"#),
        format!(r#"{{"id":1,"subscribe":{{"channel":"/v","data":{deep},"tf":{deep}}}}}"#),
        format!(r#"{{"id":1,"rpc":{{"data":{deep}}}}}"#),
    ] {
        assert_eq!(all(Protocol::Json, text.as_bytes()).unwrap().len(), 1);
    }
    // A group within a group within a group: unknown fields that are skipped.
    let mut bytes = Vec::new();
    let groups = [[0x0b_u8; 100_000], [0x0c; 100_000]].concat();
    prost::encoding::encode_varint(groups.len() as u64, &mut bytes);
    bytes.extend_from_slice(&groups);
    let _ = all(Protocol::Protobuf, &bytes);
}

#[test]
fn a_text_that_is_no_unicode_spoils_its_own_command_only() {
    let half = "\\ud83d";
    for (command, member) in [
        (format!(r#"{{"id":1,"subscribe":{{"channel":"/v/{half}"}}}}"#), "channel"),
        (format!(r#"{{"id":1,"subscribe":{{"channel":"/v","recover":true,"epoch":"{half}x"}}}}"#), "epoch"),
        (format!(r#"{{"id":1,"subscribe":{{"channel":"/v","token":"{half}"}}}}"#), "token"),
        (format!(r#"{{"id":1,"unsubscribe":{{"channel":"{half}"}}}}"#), "channel"),
        (format!(r#"{{"id":1,"publish":{{"channel":"{half}","data":1}}}}"#), "channel"),
        (format!(r#"{{"id":1,"publish":{{"channel":"/v","type":1,"key":"{half}","data":1}}}}"#), "key"),
        (format!(r#"{{"id":1,"history":{{"channel":"/v","since":{{"offset":1,"epoch":"{half}"}}}}}}"#), "since.epoch"),
        (format!(r#"{{"id":1,"rpc":{{"method":"{half}"}}}}"#), "method"),
        (format!(r#"{{"id":1,"connect":{{"token":"{half}"}}}}"#), "token"),
        (format!(r#"{{"id":1,"refresh":{{"token":"{half}"}}}}"#), "token"),
    ] {
        let commands = all(Protocol::Json, format!("{command}\n{{}}").as_bytes()).unwrap();
        assert_eq!(commands[0], Command { id: 1, request: Request::Unfit(Unfit::NotText(member)) }, "{command}");
        assert_eq!(commands[1].request, Request::Pong, "{command}");
    }
    let connect = format!(r#"{{"id":1,"connect":{{"name":"{half}","version":"{half}"}}}}"#);
    assert_eq!(request(&connect), Request::Connect(Box::default()), "nobody needs these two");
    let data = format!(r#"{{"id":1,"publish":{{"channel":"/v","data":"{half}"}}}}"#);
    assert!(matches!(request(&data), Request::Publish(_)), "the value is the application's");

    let bad = Bytes::from_static(b"/v/\xff");
    let since = Some(wire::StreamPosition { offset: 1, epoch: bad.clone() });
    let subscribe = wire::SubscribeRequest { channel: "/v".into(), epoch: bad.clone(), ..Default::default() };
    for (command, member) in [
        (wire::Command { subscribe: Some(subscribe), ..Default::default() }, "epoch"),
        (wire::Command { unsubscribe: Some(wire::ChannelRequest { channel: bad.clone() }), ..Default::default() }, "channel"),
        (wire::Command { rpc: Some(wire::RpcRequest { method: bad.clone() }), ..Default::default() }, "method"),
        (wire::Command { history: Some(wire::HistoryRequest { since, ..Default::default() }), ..Default::default() }, "since.epoch"),
    ] {
        let bytes = wire::Command { id: 1, ..command }.encode_length_delimited_to_vec();
        assert_eq!(all(Protocol::Protobuf, &bytes).unwrap(), [Command { id: 1, request: Request::Unfit(Unfit::NotText(member)) }]);
    }
}

#[test]
fn a_token_has_a_bound_and_names_are_cut() {
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    for text in [
        format!(r#"{{"id":1,"connect":{{"token":"{long}"}}}}"#),
        format!(r#"{{"id":1,"subscribe":{{"channel":"/t/k","token":"{long}"}}}}"#),
    ] {
        assert_eq!(request(&text), Request::Unfit(Unfit::LongToken));
    }
    let Request::Connect(connect) = request(&format!(r#"{{"id":1,"connect":{{"token":"{}","name":"{}"}}}}"#, &long[1..], "é".repeat(100)))
    else {
        panic!("a connect")
    };
    assert_eq!((connect.token.len(), connect.name), (TOKEN_BYTES_MAX, "é".repeat(LABEL_BYTES_MAX / 2)));
}

#[test]
fn null_members_are_absent() {
    let text = r#"{"id":1,"connect":null,"subscribe":{"channel":"/v","token":null,"recover":null,"epoch":null,"data":null,"flag":null,"tf":null}}"#;
    let expected = SubscribeCommand { channel: "/v".into(), ..Default::default() };
    assert_eq!(request(text), Request::Subscribe(Box::new(expected)));
}

#[test]
fn a_subscription_that_would_not_be_what_the_client_thinks_is_not_offered() {
    let refused = |members: &str| match request(&format!(r#"{{"id":1,"subscribe":{{"channel":"/v"{members}}}}}"#)) {
        Request::Subscribe(subscribe) => subscribe.not_offered,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(r#","positioned":true,"join_leave":true,"delta":"fossil""#), None, "hints");
    assert!(refused(r#","tf":{"key":"unit","cmp":"eq","val":"km/h"}"#).unwrap().contains("tags"));
    assert!(refused(r#","type":1"#).unwrap().contains("map"));
    assert!(refused(r#","type":4"#).is_some());
}

#[test]
fn a_publish_to_a_map_names_the_record_key_apart() {
    let publish = |members: &str| match request(&format!(r#"{{"id":1,"publish":{{{members}}}}}"#)) {
        Request::Publish(publish) => (publish.channel, publish.removed),
        other => panic!("{other:?}"),
    };
    assert_eq!(publish(r#""channel":"/v","type":1,"key":"k","removed":true"#), ("/v/k".into(), true));
    assert_eq!(publish(r#""channel":"/v/k","type":1,"key":"","data":1"#), ("/v/k".into(), false));
    assert_eq!(publish(r#""channel":"/v/k","key":"ignored","data":1"#), ("/v/k".into(), false));
}

#[test]
fn what_a_client_wrote_does_not_come_back_at_length() {
    let text = format!(r#"{{"id":1,"subscribe":{{"channel":"/v","data":{{"{}":1}}}}}}"#, "x".repeat(10_000));
    let Request::Subscribe(subscribe) = request(&text) else { panic!() };
    assert!(subscribe.bad_data.unwrap().len() < 100);
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for protocol in [Protocol::Json, Protocol::Protobuf] {
            let mut at = 0;
            loop {
                let before = at;
                match next_command(protocol, &bytes, &mut at) {
                    Ok(Some(_)) => proptest::prop_assert!(at > before && at <= bytes.len() + 1),
                    Ok(None) => {
                        proptest::prop_assert!(at >= bytes.len());
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    /// The raw text of a publish is what the client wrote, and its neighbours are not touched.
    #[test]
    fn publish_data_is_the_text_that_was_sent(number in proptest::num::f64::NORMAL, text in "[ -~\u{e0}-\u{ff}\u{1f600}]{0,20}", spaces in " {0,3}") {
        let data = format!("{{{spaces}{}:{spaces}[{number},{spaces}null]{spaces}}}", serde_json::to_string(&text).unwrap());
        let message = format!("{{\"id\":1,\"publish\":{{\"data\":{spaces}{data}{spaces},\"channel\":\"/v\"}}}}\n{{}}");
        let commands = all(Protocol::Json, message.as_bytes()).unwrap();
        let publish = PublishCommand { channel: "/v".into(), data: Bytes::from(data), removed: false };
        proptest::prop_assert_eq!(&commands[0].request, &Request::Publish(Box::new(publish)));
        proptest::prop_assert_eq!(&commands[1].request, &Request::Pong);
    }
}
