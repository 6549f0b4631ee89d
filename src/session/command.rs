//! Commands of the Centrifuge client protocol, decoded from one WebSocket message.

use bytes::Bytes;

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
pub fn next_command(_protocol: Protocol, _message: &[u8], _at: &mut usize) -> Result<Option<Command>, Malformed> {
    unimplemented!()
}
