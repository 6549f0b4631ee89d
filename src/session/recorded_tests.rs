//! The inbound half proven on bytes that the real SDKs sent. The files in `recorded/` were written by a server that kept what came after the upgrade
//! and answered as this one would.

use super::{Command, Inbound, Request, WebSocketDecoder, next_command};
use crate::ids::Protocol;

const JS_JSON: &str = include_str!("recorded/js-json.txt");
const JS_PROTOBUF: &str = include_str!("recorded/js-protobuf.txt");
const PYTHON_JSON: &str = include_str!("recorded/python-json.txt");
const PYTHON_PROTOBUF: &str = include_str!("recorded/python-protobuf.txt");

/// The bytes of a recording.
fn bytes_of(recording: &str) -> Vec<u8> {
    let hex: Vec<u8> = recording.lines().filter(|line| !line.starts_with('#')).flat_map(str::bytes).collect();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What a recording says, a line for each command or close frame.
fn said(protocol: Protocol, pieces: &[&[u8]]) -> Vec<String> {
    let mut decoder = WebSocketDecoder::new(protocol, 64 << 10);
    let mut lines = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(inbound) = decoder.next_inbound().unwrap() {
            match inbound {
                Inbound::Commands(message) => {
                    let mut at = 0;
                    while let Some(command) = next_command(protocol, message, &mut at).unwrap() {
                        lines.push(line(command));
                    }
                }
                Inbound::Close(code) => lines.push(format!("close {code}")),
                other => panic!("{other:?}"),
            }
        }
    }
    lines
}

/// A command without its id, which SDKs count differently.
fn line(command: Command) -> String {
    let wants_reply = !matches!(command.request, Request::Pong | Request::Send);
    assert_eq!(command.id > 0, wants_reply, "{command:?}");
    match command.request {
        Request::Connect(connect) => format!("connect {} {} {}", connect.token, connect.name, connect.version),
        Request::Subscribe(subscribe) => {
            assert_eq!(subscribe.bad_data, None);
            let mut line = format!("subscribe {} flag {}", subscribe.channel, subscribe.flag);
            for (word, said) in
                [("recover", subscribe.recover), ("snapshot", subscribe.snapshot), ("refused", subscribe.not_offered.is_some())]
            {
                if said {
                    line = format!("{line} {word}");
                }
            }
            if subscribe.position != Default::default() {
                line = format!("{line} from {} of {}", subscribe.position.offset, subscribe.position.epoch);
            }
            if subscribe.history > 0 {
                line = format!("{line} history {}", subscribe.history);
            }
            if !subscribe.token.is_empty() {
                line = format!("{line} token {}", subscribe.token);
            }
            line
        }
        Request::Unfit(unfit) => panic!("{unfit:?}"),
        Request::Publish(publish) if publish.removed => {
            assert!(publish.data.is_empty());
            format!("remove {}", publish.channel)
        }
        Request::Publish(publish) => format!("publish {} {}", publish.channel, String::from_utf8(publish.data.to_vec()).unwrap()),
        Request::History(history) => {
            let since = history.since.map(|since| format!(" since {} of {}", since.offset, since.epoch)).unwrap_or_default();
            format!("history {} limit {}{since}{}", history.channel, history.limit, if history.reverse { " reverse" } else { "" })
        }
        Request::Unsubscribe { channel } => format!("unsubscribe {channel}"),
        Request::Presence { channel } => format!("presence {channel}"),
        Request::PresenceStats { channel } => format!("presence stats {channel}"),
        Request::Rpc { method } => format!("rpc {method}"),
        Request::Refresh { token } => format!("refresh {token}"),
        Request::SubRefresh { channel, token } => format!("refresh {channel} {token}"),
        Request::Send => "send".to_owned(),
        Request::Pong => "pong".to_owned(),
        Request::Unknown => "unknown".to_owned(),
    }
}

const JS: &[&str] = &[
    "connect token-0 cab 1.2",
    "subscribe /vehicles/42 flag 1",
    r#"publish /vehicles/42 {"speed":1.5,"näme":"ü\n"}"#,
    "publish /vehicles/42 null",
    r#"publish /vehicles/42 "hello""#,
    "history /vehicles/42 limit 10 since 3 of 1.a.0.0 reverse",
    "history /vehicles/42 limit -1",
    "subscribe /vehicles flag 1 snapshot",
    "subscribe /vehicles/a/b flag 1 history 5",
    "subscribe /vehicles/43 flag 1 recover from 12 of 1.a.0.0",
    "subscribe /vehicles/44 flag 3 recover from 9 of e",
    "subscribe /vehicles/45 flag 1 refused",
    "presence /vehicles/42",
    "presence stats /vehicles/42",
    "rpc teleport",
    "pong",
    "send",
    "publish /vehicles/1 1",
    "publish /vehicles/2 2",
    "history /vehicles/3 limit 0",
    "publish /vehicles/42/k 1",
    "remove /vehicles/42/k",
    "refresh token-1",
    "subscribe /vehicles/46 flag 1 token sub-token-0",
    "refresh /vehicles/46 sub-token-1",
    "unsubscribe /vehicles/42",
];

const PYTHON: &[&str] = &[
    "connect token-0 cab 1.2",
    "subscribe /vehicles/42 flag 1",
    r#"publish /vehicles/42 {"speed": 1.5, "n\u00e4me": "\u00fc\n"}"#,
    "publish /vehicles/42 null",
    r#"publish /vehicles/42 "hello""#,
    "history /vehicles/42 limit 10 since 3 of 1.a.0.0 reverse",
    "history /vehicles/42 limit -1",
    "subscribe /vehicles flag 1 snapshot",
    "subscribe /vehicles/a/b flag 1 history 5",
    "subscribe /vehicles/43 flag 1",
    "subscribe /vehicles/44 flag 3 recover from 9 of e",
    "presence /vehicles/42",
    "presence stats /vehicles/42",
    "rpc teleport",
    "pong",
    "refresh token-1",
    "subscribe /vehicles/46 flag 1 token sub-token-0",
    "refresh /vehicles/46 token-2",
    "unsubscribe /vehicles/42",
];

#[test]
fn what_real_sdks_send_is_understood() {
    for (protocol, recording, expected, close) in [
        (Protocol::Json, JS_JSON, JS, "close 1005"),
        (Protocol::Protobuf, JS_PROTOBUF, JS, "close 1005"),
        (Protocol::Json, PYTHON_JSON, PYTHON, "close 1000"),
        (Protocol::Protobuf, PYTHON_PROTOBUF, PYTHON, "close 1000"),
    ] {
        let bytes = bytes_of(recording);
        let mut lines = said(protocol, &[&bytes]);
        assert_eq!(lines.pop().as_deref(), Some(close));
        assert_eq!(lines, expected);
        for size in [1, 2, 3, 7, 64, 1_000] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(said(protocol, &pieces)[..expected.len()], *expected, "pieces of {size}");
        }
    }
}
