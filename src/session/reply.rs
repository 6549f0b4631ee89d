//! Replies and control frames, each a whole WebSocket frame (header included, unmasked), ready for the outbox.

use bytes::Bytes;

use super::command::Position;
use crate::handoff::Protocol;

/// An error reply: code, text, and whether the SDK should try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    pub code: u32,
    pub message: std::borrow::Cow<'static, str>,
    pub temporary: bool,
}

/// What a command is answered with.
#[derive(Clone, Debug)]
pub enum Reply<'a> {
    Error(&'a ErrorReply),
    Connect(ConnectResult<'a>),
    Subscribe(SubscribeResult<'a>),
    Unsubscribe,
    Publish,
    History(HistoryResult<'a>),
    /// Empty result of a refresh without expiry.
    Refresh,
    SubRefresh,
}

#[derive(Clone, Debug)]
pub struct ConnectResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    pub node: &'a str,
    pub ping_seconds: u32,
    pub pong: bool,
}

#[derive(Clone, Debug)]
pub struct SubscribeResult<'a> {
    pub recoverable: bool,
    pub positioned: bool,
    pub epoch: &'a str,
    pub offset: u64,
    pub recovered: bool,
    pub was_recovering: bool,
    /// From `encode_publication` in the same protocol.
    pub publications: &'a [Bytes],
    /// Numeric channel id, if the client offered to use one.
    pub id: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct HistoryResult<'a> {
    pub publications: &'a [Bytes],
    pub position: &'a Position,
}

/// The reply to the command `id`.
pub fn encode_reply(_protocol: Protocol, _id: u32, _reply: &Reply<'_>) -> Bytes {
    unimplemented!()
}

/// The server's ping: an empty reply.
pub fn encode_ping(_protocol: Protocol) -> Bytes {
    unimplemented!()
}

/// A push that ends a subscription (`code` < 2500) or makes the SDK subscribe again (>= 2500). Names the channel by text.
pub fn encode_subscribe_lost(_protocol: Protocol, _channel: &str, _code: u32, _reason: &str) -> Bytes {
    unimplemented!()
}

/// A WebSocket close frame; codes 3000 and up are the protocol's disconnects.
pub fn encode_close(_code: u16, _reason: &str) -> Bytes {
    unimplemented!()
}

/// A WebSocket pong frame.
pub fn encode_pong_frame(_payload: &[u8]) -> Bytes {
    unimplemented!()
}
