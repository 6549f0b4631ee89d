//! Commands of the Centrifuge client protocol, decoded from one WebSocket message.

mod json;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::ids::Protocol;
use crate::limits::{EPOCH_BYTES_MAX, LABEL_BYTES_MAX, TOKEN_BYTES_MAX};
use crate::session::wire;

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
    /// A member of it cannot be read. Error 107 for this command alone, for a malformed message would end the connection for good, and what an
    /// application passes to an SDK may be such a text.
    Unfit(Unfit),
}

/// Why a member of a command cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no Unicode text: half a surrogate pair in JSON, not UTF-8 in Protobuf.
    NotText(&'static str),
    /// A token longer than `TOKEN_BYTES_MAX`.
    LongToken,
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
            let (name, version) =
                (label(text("", &connect.name).unwrap_or_default()), label(text("", &connect.version).unwrap_or_default()));
            Ok(Request::Connect(Box::new(ConnectCommand { token: token(text("token", &connect.token)?)?, name, version })))
        }),
        subscribe.map(|subscribe| {
            let (snapshot, history, bad_data) = subscribe_data(&subscribe.data);
            let not_offered = not_offered(subscribe.kind, subscribe.tags_filter.is_some());
            Ok(Request::Subscribe(Box::new(SubscribeCommand {
                channel: text("channel", &subscribe.channel)?,
                token: token(text("token", &subscribe.token)?)?,
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
        refresh.map(|refresh| Ok(Request::Refresh { token: token(text("token", &refresh.token)?)? })),
        sub_refresh.map(|refresh| {
            Ok(Request::SubRefresh { channel: text("channel", &refresh.channel)?, token: token(text("token", &refresh.token)?)? })
        }),
    ]
    .into_iter()
    .flatten();
    only_request(id, empty, requests.next(), requests.next())
}

/// A token that may be kept.
fn token(text: String) -> Result<String, Unfit> {
    if text.len() > TOKEN_BYTES_MAX { Err(Unfit::LongToken) } else { Ok(text) }
}

/// A name for people, as much of it as is kept.
fn label(mut text: String) -> String {
    while text.len() > LABEL_BYTES_MAX {
        text.pop();
    }
    text
}

fn text(member: &'static str, bytes: &[u8]) -> Result<String, Unfit> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Unfit::NotText(member))
}

/// The command with its one request.
fn only_request(id: u32, empty: bool, first: Option<Result<Request, Unfit>>, second: Option<Result<Request, Unfit>>) -> Command {
    let request = match (first, second) {
        (Some(Ok(request)), None) => request,
        (Some(Err(unfit)), None) => Request::Unfit(unfit),
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
