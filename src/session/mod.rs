//! A connection's protocol, without I/O: the WebSocket codec (bytes in, messages out), the Centrifuge client protocol (commands in, replies and
//! pushes out, JSON and Protobuf) and the outbox. The only user of `tungstenite`'s framing, `prost` and `serde_json` on the data path.

pub mod command;
mod frame;
mod json_text;
pub mod outbox;
pub mod publication;
pub mod publish_value;
#[cfg(test)]
mod recorded_tests;
pub mod reply;
pub mod websocket;
pub mod wire;

pub use command::{
    Command, ConnectCommand, HistoryCommand, Malformed, Position, PublishCommand, Request, SubscribeCommand, Unfit, next_command,
};
pub use publication::{Publication, encode_publication, encode_push};
pub use publish_value::publish_value;
pub use reply::{
    ConnectResult, ErrorReply, HistoryResult, RefreshResult, Reply, SubscribeResult, encode_close, encode_ping, encode_pong_frame,
    encode_reply, encode_subscribe_lost,
};
pub use websocket::{Inbound, Violation, WebSocketDecoder, accept_key};
