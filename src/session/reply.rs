//! Replies and control frames, each a whole WebSocket frame (header included, unmasked), ready for the outbox.

use std::io::Write as _;

use bytes::Bytes;
use prost::Message as _;
use tungstenite::protocol::frame::coding::Control;

use super::command::Position;
use super::frame::FrameWriter;
use super::publication::json_string;
use super::wire;
use crate::ids::Protocol;

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
    /// The connection's right to be here, renewed or without an end.
    Refresh(RefreshResult<'a>),
    /// That of one subscription.
    SubRefresh(Ttl),
}

/// In how many seconds the client should ask for a new token; `None`: never. 0 is never sent.
pub type Ttl = Option<u32>;

#[derive(Clone, Debug)]
pub struct RefreshResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    pub ttl: Ttl,
}

#[derive(Clone, Debug)]
pub struct ConnectResult<'a> {
    pub client: &'a str,
    pub version: &'a str,
    pub node: &'a str,
    pub ping_seconds: u32,
    pub pong: bool,
    pub ttl: Ttl,
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
    pub ttl: Ttl,
}

#[derive(Clone, Debug)]
pub struct HistoryResult<'a> {
    pub publications: &'a [Bytes],
    pub position: &'a Position,
}

/// The reply to the command `id`.
pub fn encode_reply(protocol: Protocol, id: u32, reply: &Reply<'_>) -> Bytes {
    let publications = match reply {
        Reply::Subscribe(result) => result.publications,
        Reply::History(result) => result.publications,
        _ => &[],
    };
    let payload = 192 + publications.iter().map(|publication| publication.len() + 8).sum::<usize>();
    let mut frame = FrameWriter::with_capacity(protocol, payload);
    match protocol {
        Protocol::Json => write_json(frame.payload(), id, reply),
        Protocol::Protobuf => delimited(frame.payload(), &to_wire(id, reply)),
    }
    frame.finish()
}

fn write_json(out: &mut Vec<u8>, id: u32, reply: &Reply<'_>) {
    let _ = write!(out, "{{\"id\":{id},");
    match reply {
        Reply::Error(error) => {
            let _ = write!(out, "\"error\":{{\"code\":{},\"message\":", error.code);
            json_string(out, &error.message);
            if error.temporary {
                out.extend_from_slice(b",\"temporary\":true");
            }
            out.push(b'}');
        }
        Reply::Connect(result) => {
            out.extend_from_slice(b"\"connect\":{\"client\":");
            json_string(out, result.client);
            out.extend_from_slice(b",\"version\":");
            json_string(out, result.version);
            out.extend_from_slice(b",\"node\":");
            json_string(out, result.node);
            if result.ping_seconds > 0 {
                let _ = write!(out, ",\"ping\":{},\"pong\":{}", result.ping_seconds, result.pong);
            }
            write_ttl(out, ",", result.ttl);
            out.push(b'}');
        }
        Reply::Subscribe(result) => {
            out.extend_from_slice(b"\"subscribe\":{\"epoch\":");
            json_string(out, result.epoch);
            let _ = write!(out, ",\"offset\":{}", result.offset);
            for (name, set) in [
                ("recoverable", result.recoverable),
                ("positioned", result.positioned),
                ("recovered", result.recovered),
                ("was_recovering", result.was_recovering),
            ] {
                if set {
                    let _ = write!(out, ",\"{name}\":true");
                }
            }
            if let Some(id) = result.id {
                let _ = write!(out, ",\"id\":{id}");
            }
            write_ttl(out, ",", result.ttl);
            write_publications(out, result.publications);
            out.push(b'}');
        }
        Reply::History(result) => {
            out.extend_from_slice(b"\"history\":{\"epoch\":");
            json_string(out, &result.position.epoch);
            let _ = write!(out, ",\"offset\":{}", result.position.offset);
            write_publications(out, result.publications);
            out.push(b'}');
        }
        Reply::Unsubscribe => out.extend_from_slice(b"\"unsubscribe\":{}"),
        Reply::Publish => out.extend_from_slice(b"\"publish\":{}"),
        Reply::Refresh(result) => {
            out.extend_from_slice(b"\"refresh\":{\"client\":");
            json_string(out, result.client);
            out.extend_from_slice(b",\"version\":");
            json_string(out, result.version);
            write_ttl(out, ",", result.ttl);
            out.push(b'}');
        }
        Reply::SubRefresh(ttl) => {
            out.extend_from_slice(b"\"sub_refresh\":{");
            write_ttl(out, "", *ttl);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

fn write_ttl(out: &mut Vec<u8>, before: &str, ttl: Ttl) {
    if let Some(seconds) = ttl {
        let _ = write!(out, "{before}\"expires\":true,\"ttl\":{seconds}");
    }
}

fn write_publications(out: &mut Vec<u8>, publications: &[Bytes]) {
    for (place, publication) in publications.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b",\"publications\":[" } else { b"," });
        out.extend_from_slice(publication);
    }
    if !publications.is_empty() {
        out.push(b']');
    }
}

fn to_wire(id: u32, reply: &Reply<'_>) -> wire::Reply {
    let mut message = wire::Reply { id, ..wire::Reply::default() };
    match reply {
        Reply::Error(error) => {
            message.error = Some(wire::Error { code: error.code, message: error.message.to_string(), temporary: error.temporary });
        }
        Reply::Connect(result) => {
            message.connect = Some(wire::ConnectResult {
                client: result.client.to_owned(),
                version: result.version.to_owned(),
                ping: result.ping_seconds,
                pong: result.pong && result.ping_seconds > 0,
                node: result.node.to_owned(),
                expires: result.ttl.is_some(),
                ttl: result.ttl.unwrap_or(0),
            });
        }
        Reply::Subscribe(result) => {
            message.subscribe = Some(wire::SubscribeResult {
                recoverable: result.recoverable,
                epoch: result.epoch.to_owned(),
                publications: result.publications.to_vec(),
                recovered: result.recovered,
                offset: result.offset,
                positioned: result.positioned,
                was_recovering: result.was_recovering,
                id: result.id.unwrap_or(0) as i64,
                expires: result.ttl.is_some(),
                ttl: result.ttl.unwrap_or(0),
            });
        }
        Reply::History(result) => {
            message.history = Some(wire::HistoryResult {
                publications: result.publications.to_vec(),
                epoch: result.position.epoch.clone(),
                offset: result.position.offset,
            });
        }
        Reply::Unsubscribe => message.unsubscribe = Some(wire::Empty {}),
        Reply::Publish => message.publish = Some(wire::Empty {}),
        Reply::Refresh(result) => {
            message.refresh = Some(wire::RefreshResult {
                client: result.client.to_owned(),
                version: result.version.to_owned(),
                expires: result.ttl.is_some(),
                ttl: result.ttl.unwrap_or(0),
            });
        }
        Reply::SubRefresh(ttl) => message.sub_refresh = Some(wire::SubRefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or(0) }),
    }
    message
}

fn delimited(out: &mut Vec<u8>, message: &wire::Reply) {
    // Writing to a Vec does not fail.
    let _ = message.encode_length_delimited(out);
}

/// The server's ping: an empty reply.
pub fn encode_ping(protocol: Protocol) -> Bytes {
    let mut frame = FrameWriter::with_capacity(protocol, 2);
    match protocol {
        Protocol::Json => frame.payload().extend_from_slice(b"{}"),
        Protocol::Protobuf => frame.payload().push(0),
    }
    frame.finish()
}

/// A push that ends a subscription (`code` < 2500) or makes the SDK subscribe again (>= 2500). Names the channel by text.
pub fn encode_subscribe_lost(protocol: Protocol, channel: &str, code: u32, reason: &str) -> Bytes {
    let mut frame = FrameWriter::with_capacity(protocol, 80 + channel.len() + reason.len());
    let out = frame.payload();
    match protocol {
        Protocol::Json => {
            out.extend_from_slice(b"{\"push\":{\"channel\":");
            json_string(out, channel);
            let _ = write!(out, ",\"unsubscribe\":{{\"code\":{code},\"reason\":");
            json_string(out, reason);
            out.extend_from_slice(b"}}}");
        }
        Protocol::Protobuf => {
            let unsubscribe = Some(wire::Unsubscribe { code, reason: reason.to_owned() });
            let push = Some(wire::Push { channel: channel.to_owned(), unsubscribe, ..wire::Push::default() });
            delimited(out, &wire::Reply { push, ..wire::Reply::default() });
        }
    }
    frame.finish()
}

/// A WebSocket close frame; codes 3000 and up are the protocol's disconnects. A reason over 123 bytes is cut.
pub fn encode_close(code: u16, reason: &str) -> Bytes {
    let mut frame = FrameWriter::control(Control::Close);
    frame.payload().extend_from_slice(&code.to_be_bytes());
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    frame.payload().extend_from_slice(&reason.as_bytes()[..end]);
    frame.finish()
}

/// A WebSocket pong frame. The payload of a ping has at most 125 bytes.
pub fn encode_pong_frame(payload: &[u8]) -> Bytes {
    let mut frame = FrameWriter::control(Control::Pong);
    frame.payload().extend_from_slice(&payload[..payload.len().min(125)]);
    frame.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::frame::payload_of;

    fn decode(frame: &Bytes) -> wire::Reply {
        wire::Reply::decode_length_delimited(payload_of(frame)).unwrap()
    }

    #[test]
    fn a_subscribe_reply_says_the_same_in_both_encodings() {
        let json = [Bytes::from_static(br#"{"data":1,"offset":5}"#)];
        let protobuf = [Bytes::from(wire::Publication { data: Bytes::from_static(b"1"), offset: 5, ..Default::default() }.encode_to_vec())];
        let result = |publications| {
            Reply::Subscribe(SubscribeResult {
                recoverable: true,
                positioned: true,
                epoch: "1.t.0.0",
                offset: 4,
                recovered: true,
                was_recovering: true,
                publications,
                id: Some(3),
                ttl: Some(60),
            })
        };
        let frame = encode_reply(Protocol::Json, 7, &result(&json));
        let text: serde_json::Value = serde_json::from_slice(payload_of(&frame)).unwrap();
        let expected = serde_json::json!({"id": 7, "subscribe": {"epoch": "1.t.0.0", "offset": 4, "recoverable": true, "positioned": true,
            "recovered": true, "was_recovering": true, "id": 3, "expires": true, "ttl": 60, "publications": [{"data": 1, "offset": 5}]}});
        assert_eq!(text, expected);
        let reply = decode(&encode_reply(Protocol::Protobuf, 7, &result(&protobuf)));
        let subscribe = reply.subscribe.unwrap();
        assert_eq!((reply.id, subscribe.offset, subscribe.id, subscribe.recovered), (7, 4, 3, true));
        assert_eq!((subscribe.expires, subscribe.ttl), (true, 60));
        assert_eq!(wire::Publication::decode(subscribe.publications[0].clone()).unwrap().offset, 5);
    }

    #[test]
    fn an_error_reply_carries_code_text_and_whether_to_try_again() {
        let error = ErrorReply { code: 100, message: "not \"ready\"".into(), temporary: true };
        let frame = encode_reply(Protocol::Json, 1, &Reply::Error(&error));
        assert_eq!(payload_of(&frame), br#"{"id":1,"error":{"code":100,"message":"not \"ready\"","temporary":true}}"#);
        assert_eq!(decode(&encode_reply(Protocol::Protobuf, 1, &Reply::Error(&error))).error.unwrap().code, 100);
    }

    #[test]
    fn pings_closes_and_lost_subscriptions_are_whole_frames() {
        assert_eq!(encode_ping(Protocol::Json), b"\x81\x02{}"[..]);
        assert_eq!(encode_ping(Protocol::Protobuf), b"\x82\x01\0"[..]);
        assert_eq!(encode_close(3008, "slow"), b"\x88\x06\x0b\xc0slow"[..]);
        assert_eq!(encode_close(3000, &"\u{e9}".repeat(100)).len(), 2 + 2 + 122);
        let frame = encode_subscribe_lost(Protocol::Json, "/v/1", 2500, "insufficient state");
        assert_eq!(payload_of(&frame), br#"{"push":{"channel":"/v/1","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#);
        assert_eq!(decode(&encode_subscribe_lost(Protocol::Protobuf, "/v/1", 2500, "x")).push.unwrap().unsubscribe.unwrap().code, 2500);
    }
}
