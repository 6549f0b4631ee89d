//! Commands of the Centrifuge client protocol, decoded from one WebSocket message.

use bytes::Bytes;

use super::wire;
use crate::ids::Protocol;
use crate::limits::EPOCH_BYTES_MAX;

/// One command. `id` 0 wants no reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub id: u32,
    pub request: Request,
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Connect(Box<ConnectCommand>),
    Subscribe(Box<SubscribeCommand>),
    Unsubscribe {
        channel: String,
    },
    Publish(Box<PublishCommand>),
    History(Box<HistoryCommand>),
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
    /// That member of it is no Unicode text: half a surrogate pair in JSON, not UTF-8 in Protobuf. Error 107 for this command alone, for a malformed
    /// message would end the connection for good, and what an application passes to an SDK may be such a text.
    NotText(&'static str),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectCommand {
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

impl Position {
    /// A position as it was sent. An epoch longer than any of ours is nonsense, and is kept as such: clients make nobody hold more.
    fn new(offset: u64, epoch: String) -> Position {
        let epoch = if epoch.len() > EPOCH_BYTES_MAX { "_".to_owned() } else { epoch };
        Position { offset, epoch }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeCommand {
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
    /// The subscription would not be what the client thinks: error 108 with this text.
    pub not_offered: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishCommand {
    /// The subject. A publish to a map (`type` 1, as of the SDKs' `mapPublish` and `mapRemove`) names it in two parts: channel `/T` and key `k`.
    pub channel: String,
    /// JSON: the raw text of `data` (absent: empty). Protobuf: the bytes.
    pub data: Bytes,
    /// Writes a tombstone.
    pub removed: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryCommand {
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
            let (name, version) = (text("", &connect.name).unwrap_or_default(), text("", &connect.version).unwrap_or_default());
            Ok(Request::Connect(Box::new(ConnectCommand { token: text("token", &connect.token)?, name, version })))
        }),
        subscribe.map(|subscribe| {
            let (snapshot, history, bad_data) = subscribe_data(&subscribe.data);
            let not_offered = not_offered(subscribe.kind, subscribe.tags_filter.is_some());
            Ok(Request::Subscribe(Box::new(SubscribeCommand {
                channel: text("channel", &subscribe.channel)?,
                token: text("token", &subscribe.token)?,
                recover: subscribe.recover,
                position: Position::new(subscribe.offset, text("epoch", &subscribe.epoch)?),
                snapshot,
                history,
                flag: subscribe.flag,
                bad_data,
                not_offered,
            })))
        }),
        unsubscribe.map(|request| Ok(Request::Unsubscribe { channel: text("channel", &request.channel)? })),
        publish.map(|publish| {
            let channel = subject_of(text("channel", &publish.channel)?, publish.kind, &text("key", &publish.key)?);
            Ok(Request::Publish(Box::new(PublishCommand { channel, data: publish.data, removed: publish.removed })))
        }),
        presence.map(|request| Ok(Request::Presence { channel: text("channel", &request.channel)? })),
        presence_stats.map(|request| Ok(Request::PresenceStats { channel: text("channel", &request.channel)? })),
        history.map(|history| {
            let since = match history.since {
                Some(since) => Some(Position::new(since.offset, text("since.epoch", &since.epoch)?)),
                None => None,
            };
            let channel = text("channel", &history.channel)?;
            Ok(Request::History(Box::new(HistoryCommand { channel, limit: history.limit, since, reverse: history.reverse })))
        }),
        ping.map(|_| Ok(Request::Pong)),
        send.map(|_| Ok(Request::Send)),
        rpc.map(|rpc| Ok(Request::Rpc { method: text("method", &rpc.method)? })),
        refresh.map(|refresh| Ok(Request::Refresh { token: text("token", &refresh.token)? })),
        sub_refresh
            .map(|refresh| Ok(Request::SubRefresh { channel: text("channel", &refresh.channel)?, token: text("token", &refresh.token)? })),
    ]
    .into_iter()
    .flatten();
    only_request(id, empty, requests.next(), requests.next())
}

/// A member that is no Unicode text.
struct NotText(&'static str);

fn text(member: &'static str, bytes: &[u8]) -> Result<String, NotText> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NotText(member))
}

/// The command with its one request.
fn only_request(id: u32, empty: bool, first: Option<Result<Request, NotText>>, second: Option<Result<Request, NotText>>) -> Command {
    let request = match (first, second) {
        (Some(Ok(request)), None) => request,
        (Some(Err(NotText(member))), None) => Request::NotText(member),
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
        // Without the parser's words: they repeat what the client sent, however long.
        Err(_) => (false, 0, Some("`data` of a subscribe is {\"snapshot\": true} or {\"history\": n}".to_owned())),
    }
}

/// Why a subscription is refused: of a kind whose client side expects another protocol (`type`), or with a filter that nobody would apply.
fn not_offered(kind: i32, filtered: bool) -> Option<&'static str> {
    match (kind, filtered) {
        (0, false) => None,
        (0, true) => Some("filters by tags are not offered by this server"),
        _ => Some("map and shared poll subscriptions are not offered by this server"),
    }
}

/// `type` of a publish to a map.
const PUBLISH_MAP: i32 = 1;

/// The subject of a publish.
fn subject_of(mut channel: String, kind: i32, key: &str) -> String {
    if kind == PUBLISH_MAP && !key.is_empty() {
        channel.push('/');
        channel.push_str(key);
    }
    channel
}

/// The JSON commands. A member that is `null` is as good as absent.
mod json {
    use std::fmt;

    use bytes::Bytes;
    use serde::de::{IgnoredAny, Visitor};
    use serde::{Deserialize, Deserializer};
    use serde_json::value::RawValue;

    use super::{NotText, Position, Request, not_offered, only_request, subject_of, subscribe_data};

    #[derive(Default, Deserialize)]
    #[serde(default)]
    pub(super) struct Command<'a> {
        #[serde(deserialize_with = "or_default")]
        id: u32,
        connect: Option<Connect>,
        #[serde(borrow)]
        subscribe: Option<Subscribe<'a>>,
        unsubscribe: Option<Channel>,
        #[serde(borrow)]
        publish: Option<Publish<'a>>,
        presence: Option<Channel>,
        presence_stats: Option<Channel>,
        history: Option<History>,
        ping: Option<IgnoredAny>,
        send: Option<IgnoredAny>,
        rpc: Option<Rpc>,
        refresh: Option<Refresh>,
        sub_refresh: Option<SubRefresh>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Connect {
        token: Text,
        name: Text,
        version: Text,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Subscribe<'a> {
        channel: Text,
        token: Text,
        #[serde(deserialize_with = "or_default")]
        recover: bool,
        epoch: Text,
        #[serde(deserialize_with = "offset")]
        offset: u64,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        #[serde(deserialize_with = "or_default")]
        flag: i64,
        tf: Option<IgnoredAny>,
        #[serde(rename = "type", deserialize_with = "or_default")]
        kind: i32,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Channel {
        channel: Text,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Publish<'a> {
        channel: Text,
        #[serde(borrow)]
        data: RawData<'a>,
        #[serde(deserialize_with = "or_default")]
        removed: bool,
        #[serde(rename = "type", deserialize_with = "or_default")]
        kind: i32,
        key: Text,
    }

    /// A member that should be a text; `None` if half a surrogate pair is in it, which JSON can write and Unicode has not.
    struct Text(Option<String>);

    impl Default for Text {
        fn default() -> Self {
            Text(Some(String::new()))
        }
    }

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match <&'de RawValue>::deserialize(deserializer)?.get() {
                "null" => Ok(Text::default()),
                // The parser has read it as a string already: nothing else can be wrong with it.
                quoted if quoted.starts_with('"') => Ok(Text(serde_json::from_str(quoted).ok())),
                _ => Err(serde::de::Error::custom("a text is wanted")),
            }
        }
    }

    impl Text {
        fn named(self, member: &'static str) -> Result<String, NotText> {
            self.0.ok_or(NotText(member))
        }

        fn or_empty(self) -> String {
            self.0.unwrap_or_default()
        }
    }

    /// The raw text of a member; an absent one is empty, while `null` is the text null (an `Option` would swallow it).
    #[derive(Default)]
    struct RawData<'a>(&'a str);

    impl<'de: 'a, 'a> Deserialize<'de> for RawData<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <&'de RawValue>::deserialize(deserializer).map(|raw| RawData(raw.get()))
        }
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct History {
        channel: Text,
        #[serde(deserialize_with = "limit")]
        limit: i32,
        since: Option<Since>,
        #[serde(deserialize_with = "or_default")]
        reverse: bool,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Since {
        #[serde(deserialize_with = "offset")]
        offset: u64,
        epoch: Text,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Rpc {
        method: Text,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refresh {
        token: Text,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct SubRefresh {
        channel: Text,
        token: Text,
    }

    fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
        Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
    }

    /// An offset that an application kept may be any number. What cannot be one is beyond the end of every log: the position is answered as lost,
    /// while a malformed command would end the connection for good.
    fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Ok(u64::try_from(deserializer.deserialize_any(AnyNumber)?).unwrap_or(u64::MAX))
    }

    /// Any number: some write `Number.MAX_SAFE_INTEGER` for "as many as you have".
    fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        Ok(deserializer.deserialize_any(AnyNumber)?.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
    }

    /// A number without its fraction; `null` is 0.
    struct AnyNumber;

    impl Visitor<'_> for AnyNumber {
        type Value = i128;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a number")
        }

        fn visit_u64<E>(self, number: u64) -> Result<i128, E> {
            Ok(number.into())
        }

        fn visit_i64<E>(self, number: i64) -> Result<i128, E> {
            Ok(number.into())
        }

        fn visit_f64<E>(self, number: f64) -> Result<i128, E> {
            Ok(number as i128)
        }

        fn visit_unit<E>(self) -> Result<i128, E> {
            Ok(0)
        }
    }

    impl Command<'_> {
        pub(super) fn into_command(self) -> super::Command {
            let mut requests = [
                self.connect.map(|connect| {
                    let (name, version) = (connect.name.or_empty(), connect.version.or_empty());
                    Ok(Request::Connect(Box::new(super::ConnectCommand { token: connect.token.named("token")?, name, version })))
                }),
                self.subscribe.map(|subscribe| {
                    let (snapshot, history, bad_data) = subscribe_data(subscribe.data.map_or(&[], |data| data.get().as_bytes()));
                    let not_offered = not_offered(subscribe.kind, subscribe.tf.is_some());
                    Ok(Request::Subscribe(Box::new(super::SubscribeCommand {
                        channel: subscribe.channel.named("channel")?,
                        token: subscribe.token.named("token")?,
                        recover: subscribe.recover,
                        position: Position::new(subscribe.offset, subscribe.epoch.named("epoch")?),
                        snapshot,
                        history,
                        flag: subscribe.flag,
                        bad_data,
                        not_offered,
                    })))
                }),
                self.unsubscribe.map(|request| Ok(Request::Unsubscribe { channel: request.channel.named("channel")? })),
                self.publish.map(|publish| {
                    let channel = subject_of(publish.channel.named("channel")?, publish.kind, &publish.key.named("key")?);
                    let data = Bytes::copy_from_slice(publish.data.0.as_bytes());
                    Ok(Request::Publish(Box::new(super::PublishCommand { channel, data, removed: publish.removed })))
                }),
                self.presence.map(|request| Ok(Request::Presence { channel: request.channel.named("channel")? })),
                self.presence_stats.map(|request| Ok(Request::PresenceStats { channel: request.channel.named("channel")? })),
                self.history.map(|history| {
                    let since = match history.since {
                        Some(since) => Some(Position::new(since.offset, since.epoch.named("since.epoch")?)),
                        None => None,
                    };
                    let (channel, limit) = (history.channel.named("channel")?, history.limit);
                    Ok(Request::History(Box::new(super::HistoryCommand { channel, limit, since, reverse: history.reverse })))
                }),
                self.ping.map(|_| Ok(Request::Pong)),
                self.send.map(|_| Ok(Request::Send)),
                self.rpc.map(|rpc| Ok(Request::Rpc { method: rpc.method.named("method")? })),
                self.refresh.map(|refresh| Ok(Request::Refresh { token: refresh.token.named("token")? })),
                self.sub_refresh.map(|refresh| {
                    Ok(Request::SubRefresh { channel: refresh.channel.named("channel")?, token: refresh.token.named("token")? })
                }),
            ]
            .into_iter()
            .flatten();
            only_request(self.id, false, requests.next(), requests.next())
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

    fn request(text: &str) -> Request {
        all(Protocol::Json, text.as_bytes()).unwrap().pop().unwrap().request
    }

    #[test]
    fn positions_that_make_no_sense_are_read_and_left_to_the_home() {
        for (number, offset) in
            [("7", 7), ("-1", u64::MAX), ("1e30", u64::MAX), ("18446744073709551616", u64::MAX), ("7.5", 7), ("null", 0)]
        {
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
            assert_eq!(commands[0], Command { id: 1, request: Request::NotText(member) }, "{command}");
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
            assert_eq!(all(Protocol::Protobuf, &bytes).unwrap(), [Command { id: 1, request: Request::NotText(member) }]);
        }
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
}
