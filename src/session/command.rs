//! Commands of the Centrifuge client protocol, decoded from one WebSocket message.

use bytes::Bytes;

use super::wire;
use crate::handoff::Protocol;

/// One command. `id` 0 wants no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub id: u32,
    pub request: Request,
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Connect(Box<ConnectRequest>),
    Subscribe(Box<SubscribeRequest>),
    Unsubscribe {
        channel: String,
    },
    Publish(Box<PublishRequest>),
    History(Box<HistoryRequest>),
    Presence {
        channel: String,
    },
    PresenceStats {
        channel: String,
    },
    Rpc {
        method: String,
    },
    /// Asynchronous message; no reply is wanted.
    Send,
    Refresh {
        token: String,
    },
    SubRefresh {
        channel: String,
        token: String,
    },
    /// An empty command: the pong.
    Pong,
    /// A command with none or several requests, or of a kind that this server does not know.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectRequest {
    pub token: String,
    pub name: String,
    pub version: String,
}

/// A position as the client sent it. In the protocol's words: `offset` is the client offset, that is the next Kafka offset it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub epoch: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeRequest {
    pub channel: String,
    pub token: String,
    pub recover: bool,
    pub position: Position,
    /// `data: {"snapshot": true}`.
    pub snapshot: bool,
    /// `data: {"history": n}`; 0 if absent.
    pub history: u32,
    /// Bit mask: 1 offers numeric channel ids, 2 wants error 112 in place of `recovered: false`.
    pub flag: i64,
    /// `data` was there but is not an object of the two known members: error 107 with this text.
    pub bad_data: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishRequest {
    pub channel: String,
    /// JSON: the raw text of `data` (absent: empty). Protobuf: the bytes.
    pub data: Bytes,
    /// Writes a tombstone.
    pub removed: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryRequest {
    pub channel: String,
    pub limit: i32,
    pub since: Option<Position>,
    pub reverse: bool,
}

/// The message is not of the protocol: disconnect 3501 (bad request).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Decodes the next command of a message, from `*at` on, and moves `*at` behind it; `None` at the end. A message may hold several: separated by
/// line feeds in JSON, length-prefixed in Protobuf (a zero length is the pong).
///
/// # Errors
/// The rest of the message is of no use then: the client is disconnected.
pub fn next_command(protocol: Protocol, message: &[u8], at: &mut usize) -> Result<Option<Command>, Malformed> {
    match protocol {
        Protocol::Json => next_json(message, at),
        Protocol::Protobuf => next_protobuf(message, at),
    }
}

fn next_json(message: &[u8], at: &mut usize) -> Result<Option<Command>, Malformed> {
    while *at < message.len() {
        let rest = &message[*at..];
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest, |end| &rest[..end]);
        *at += line.len() + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(Malformed("a command is a JSON object".to_owned()));
        }
        let command: json::Command<'_> = serde_json::from_slice(line).map_err(|error| Malformed(error.to_string()))?;
        return Ok(Some(command.into_command()));
    }
    *at = message.len();
    Ok(None)
}

fn next_protobuf(message: &[u8], at: &mut usize) -> Result<Option<Command>, Malformed> {
    if *at >= message.len() {
        return Ok(None);
    }
    let mut rest = &message[*at..];
    let len = prost::decode_length_delimiter(&mut rest).map_err(|error| Malformed(error.to_string()))?;
    let body = rest.get(..len).ok_or_else(|| Malformed("a command is longer than its message".to_owned()))?;
    *at = message.len() - rest.len() + len;
    let command = <wire::Command as prost::Message>::decode(body).map_err(|error| Malformed(error.to_string()))?;
    Ok(Some(from_wire(command, len == 0)))
}

fn from_wire(command: wire::Command, empty: bool) -> Command {
    let wire::Command {
        id,
        connect,
        subscribe,
        unsubscribe,
        publish,
        presence,
        presence_stats,
        history,
        ping,
        send,
        rpc,
        refresh,
        sub_refresh,
    } = command;
    let mut requests = [
        connect.map(|connect| {
            Request::Connect(Box::new(ConnectRequest { token: connect.token, name: connect.name, version: connect.version }))
        }),
        subscribe.map(|subscribe| {
            let (snapshot, history, bad_data) = subscribe_data(&subscribe.data);
            Request::Subscribe(Box::new(SubscribeRequest {
                channel: subscribe.channel,
                token: subscribe.token,
                recover: subscribe.recover,
                position: Position { offset: subscribe.offset, epoch: subscribe.epoch },
                snapshot,
                history,
                flag: subscribe.flag,
                bad_data,
            }))
        }),
        unsubscribe.map(|request| Request::Unsubscribe { channel: request.channel }),
        publish.map(|publish| {
            Request::Publish(Box::new(PublishRequest { channel: publish.channel, data: publish.data, removed: publish.removed }))
        }),
        presence.map(|request| Request::Presence { channel: request.channel }),
        presence_stats.map(|request| Request::PresenceStats { channel: request.channel }),
        history.map(|history| {
            let since = history.since.map(|since| Position { offset: since.offset, epoch: since.epoch });
            Request::History(Box::new(HistoryRequest { channel: history.channel, limit: history.limit, since, reverse: history.reverse }))
        }),
        ping.map(|_| Request::Pong),
        send.map(|_| Request::Send),
        rpc.map(|rpc| Request::Rpc { method: rpc.method }),
        refresh.map(|refresh| Request::Refresh { token: refresh.token }),
        sub_refresh.map(|refresh| Request::SubRefresh { channel: refresh.channel, token: refresh.token }),
    ]
    .into_iter()
    .flatten();
    let request = match (requests.next(), requests.next()) {
        (Some(request), None) => request,
        (None, None) if empty || id == 0 => Request::Pong,
        _ => Request::Unknown,
    };
    Command { id, request }
}

/// `{"snapshot": true}`, `{"history": n}`, both or neither.
fn subscribe_data(data: &[u8]) -> (bool, u32, Option<String>) {
    #[derive(Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Data {
        snapshot: bool,
        history: u32,
    }
    if data.is_empty() || data == b"null" {
        return (false, 0, None);
    }
    match serde_json::from_slice::<Data>(data) {
        Ok(data) => (data.snapshot, data.history, None),
        Err(error) => (false, 0, Some(format!("`data` of a subscribe may be {{\"snapshot\": true}} or {{\"history\": n}}: {error}"))),
    }
}

/// The JSON commands.
mod json {
    use std::borrow::Cow;

    use bytes::Bytes;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::{Position, Request, subscribe_data};

    #[derive(Default, Deserialize)]
    #[serde(default)]
    pub(super) struct Command<'a> {
        id: u32,
        #[serde(borrow)]
        connect: Option<Connect<'a>>,
        #[serde(borrow)]
        subscribe: Option<Subscribe<'a>>,
        #[serde(borrow)]
        unsubscribe: Option<Channel<'a>>,
        #[serde(borrow)]
        publish: Option<Publish<'a>>,
        #[serde(borrow)]
        presence: Option<Channel<'a>>,
        #[serde(borrow)]
        presence_stats: Option<Channel<'a>>,
        #[serde(borrow)]
        history: Option<History<'a>>,
        ping: Option<IgnoredAny>,
        send: Option<IgnoredAny>,
        #[serde(borrow)]
        rpc: Option<Rpc<'a>>,
        #[serde(borrow)]
        refresh: Option<Refresh<'a>>,
        #[serde(borrow)]
        sub_refresh: Option<SubRefresh<'a>>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Connect<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        version: Cow<'a, str>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Subscribe<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        token: Cow<'a, str>,
        recover: bool,
        #[serde(borrow)]
        epoch: Cow<'a, str>,
        offset: u64,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        flag: i64,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Channel<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Publish<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        data: RawData<'a>,
        removed: bool,
    }

    /// The raw text of a member; an absent one is empty, while `null` is the text null (an `Option` would swallow it).
    #[derive(Default)]
    struct RawData<'a>(&'a str);

    impl<'de: 'a, 'a> Deserialize<'de> for RawData<'a> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <&'de RawValue>::deserialize(deserializer).map(|raw| RawData(raw.get()))
        }
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct History<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        limit: i32,
        #[serde(borrow)]
        since: Option<Since<'a>>,
        reverse: bool,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Since<'a> {
        offset: u64,
        #[serde(borrow)]
        epoch: Cow<'a, str>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Rpc<'a> {
        #[serde(borrow)]
        method: Cow<'a, str>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refresh<'a> {
        #[serde(borrow)]
        token: Cow<'a, str>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct SubRefresh<'a> {
        #[serde(borrow)]
        channel: Cow<'a, str>,
        #[serde(borrow)]
        token: Cow<'a, str>,
    }

    impl Command<'_> {
        pub(super) fn into_command(self) -> super::Command {
            let mut requests = [
                self.connect.map(|connect| {
                    Request::Connect(Box::new(super::ConnectRequest {
                        token: connect.token.into_owned(),
                        name: connect.name.into_owned(),
                        version: connect.version.into_owned(),
                    }))
                }),
                self.subscribe.map(|subscribe| {
                    let (snapshot, history, bad_data) = subscribe_data(subscribe.data.map_or(&[], |data| data.get().as_bytes()));
                    Request::Subscribe(Box::new(super::SubscribeRequest {
                        channel: subscribe.channel.into_owned(),
                        token: subscribe.token.into_owned(),
                        recover: subscribe.recover,
                        position: Position { offset: subscribe.offset, epoch: subscribe.epoch.into_owned() },
                        snapshot,
                        history,
                        flag: subscribe.flag,
                        bad_data,
                    }))
                }),
                self.unsubscribe.map(|request| Request::Unsubscribe { channel: request.channel.into_owned() }),
                self.publish.map(|publish| {
                    Request::Publish(Box::new(super::PublishRequest {
                        channel: publish.channel.into_owned(),
                        data: Bytes::copy_from_slice(publish.data.0.as_bytes()),
                        removed: publish.removed,
                    }))
                }),
                self.presence.map(|request| Request::Presence { channel: request.channel.into_owned() }),
                self.presence_stats.map(|request| Request::PresenceStats { channel: request.channel.into_owned() }),
                self.history.map(|history| {
                    Request::History(Box::new(super::HistoryRequest {
                        channel: history.channel.into_owned(),
                        limit: history.limit,
                        since: history.since.map(|since| Position { offset: since.offset, epoch: since.epoch.into_owned() }),
                        reverse: history.reverse,
                    }))
                }),
                self.ping.map(|_| Request::Pong),
                self.send.map(|_| Request::Send),
                self.rpc.map(|rpc| Request::Rpc { method: rpc.method.into_owned() }),
                self.refresh.map(|refresh| Request::Refresh { token: refresh.token.into_owned() }),
                self.sub_refresh
                    .map(|refresh| Request::SubRefresh { channel: refresh.channel.into_owned(), token: refresh.token.into_owned() }),
            ]
            .into_iter()
            .flatten();
            let request = match (requests.next(), requests.next()) {
                (Some(request), None) => request,
                (None, None) if self.id == 0 => Request::Pong,
                _ => Request::Unknown,
            };
            super::Command { id: self.id, request }
        }
    }
}

#[cfg(test)]
mod tests {
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

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = all(Protocol::Json, &bytes);
            let _ = all(Protocol::Protobuf, &bytes);
        }
    }
}
