//! The client's side of the wire, in both encodings: commands out, frames and replies in. Written apart from `session`, so that it can disagree.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::handoff::Protocol;
use crate::sim::wire;

/// The data of a publication as its encoding has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// JSON text.
    Json(String),
    Bytes(Bytes),
}

/// One publication in either encoding.
#[derive(Clone)]
pub struct Publication {
    pub data: Data,
    pub offset: u64,
    pub removed: bool,
    pub tags: BTreeMap<String, String>,
    pub time: i64,
    /// Bytes it took on the wire, about.
    pub bytes: usize,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = match &self.data {
            Data::Json(text) => text.clone(),
            Data::Bytes(bytes) => format!("{bytes:?}"),
        };
        let data: String = data.chars().take(24).collect();
        let removed = if self.removed { ", removed" } else { "" };
        write!(formatter, "record {} (offset {}{removed}, {data})", self.time, self.offset)
    }
}

/// A reply or push, with its publications taken out: one of a push, or those of a result.
#[derive(Debug)]
pub struct Said {
    pub reply: wire::Reply,
    pub publications: Vec<Publication>,
}

/// A whole unmasked frame at `at`: opcode, start and end of its payload.
pub fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    let (len, start) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?) as usize, at + 4),
        127 => (u64::from_be_bytes(bytes.get(at + 2..at + 10)?.try_into().ok()?) as usize, at + 10),
        len => (len as usize, at + 2),
    };
    (bytes.len() >= start + len).then_some((first & 0x0f, start, start + len))
}

/// Encodes a command in either protocol.
pub fn encode(protocol: Protocol, command: &wire::Command) -> Vec<u8> {
    match protocol {
        Protocol::Json => to_json(command),
        Protocol::Protobuf => command.encode_length_delimited_to_vec(),
    }
}

/// The pong: an empty command.
pub fn pong(protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Json => b"{}".to_vec(),
        Protocol::Protobuf => vec![0],
    }
}

fn to_json(command: &wire::Command) -> Vec<u8> {
    let mut json = Vec::with_capacity(160);
    let out = &mut json;
    // Writing to a Vec does not fail.
    let _ = write!(out, "{{\"id\":{}", command.id);
    for (name, request) in [(&b",\"connect\":{"[..], &command.connect), (b",\"refresh\":{", &command.refresh)] {
        if let Some(request) = request {
            out.extend_from_slice(name);
            if !request.token.is_empty() {
                text(out, b"\"token\":", request.token.as_bytes());
            }
            out.push(b'}');
        }
    }
    if let Some(wire::SubscribeRequest { channel, recover, epoch, offset, flag, data, .. }) = &command.subscribe {
        text(out, b",\"subscribe\":{\"channel\":", channel);
        let _ = write!(out, ",\"recover\":{recover}");
        text(out, b",\"epoch\":", epoch);
        let _ = write!(out, ",\"offset\":{offset},\"flag\":{flag}");
        if !data.is_empty() {
            value(out, b",\"data\":", data);
        }
        out.push(b'}');
    }
    if let Some(request) = &command.unsubscribe {
        text(out, b",\"unsubscribe\":{\"channel\":", &request.channel);
        out.push(b'}');
    }
    if let Some(wire::PublishRequest { channel, data, removed, .. }) = &command.publish {
        text(out, b",\"publish\":{\"channel\":", channel);
        value(out, b",\"data\":", data);
        let _ = write!(out, ",\"removed\":{removed}}}");
    }
    if let Some(wire::HistoryRequest { channel, limit, since, reverse }) = &command.history {
        text(out, b",\"history\":{\"channel\":", channel);
        let _ = write!(out, ",\"limit\":{limit},\"reverse\":{reverse}");
        if let Some(since) = since {
            let _ = write!(out, ",\"since\":{{\"offset\":{}", since.offset);
            text(out, b",\"epoch\":", &since.epoch);
            out.push(b'}');
        }
        out.push(b'}');
    }
    if let Some(request) = &command.presence {
        text(out, b",\"presence\":{\"channel\":", &request.channel);
        out.push(b'}');
    }
    if let Some(request) = &command.rpc {
        text(out, b",\"rpc\":{\"method\":", &request.method);
        out.push(b'}');
    }
    out.push(b'}');
    json
}

/// A name and a text in quotes. Commands of the simulator are Unicode.
fn text(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    out.extend_from_slice(name);
    serde_json::to_writer(out, std::str::from_utf8(text).expect("commands are text")).expect("a Vec takes everything");
}

/// A name and JSON as it is.
fn value(out: &mut Vec<u8>, name: &[u8], json: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(if json.is_empty() { b"null" } else { json });
}

/// Decodes one message of the server.
///
/// # Errors
/// What is wrong with it.
pub fn decode(protocol: Protocol, payload: &[u8]) -> Result<Said, String> {
    match protocol {
        Protocol::Json => {
            let text = std::str::from_utf8(payload).map_err(|error| format!("a frame is text: {error}"))?;
            let reply: JsonReply<'_> = serde_json::from_str(text).map_err(|error| format!("a frame is one JSON text: {error}"))?;
            if payload.contains(&b'\n') {
                return Err("a JSON frame has no line feed".to_owned());
            }
            Ok(from_json(reply))
        }
        Protocol::Protobuf => {
            let mut rest = payload;
            let mut reply = wire::Reply::decode_length_delimited(&mut rest).map_err(|error| error.to_string())?;
            if !rest.is_empty() {
                return Err("a Protobuf frame is one reply".to_owned());
            }
            let mut publications = Vec::new();
            publications.extend(reply.subscribe.iter_mut().flat_map(|result| std::mem::take(&mut result.publications)).map(from_wire));
            publications.extend(reply.history.iter_mut().flat_map(|result| std::mem::take(&mut result.publications)).map(from_wire));
            publications.extend(reply.push.as_mut().and_then(|push| push.publication.as_mut()).map(std::mem::take).map(from_wire));
            Ok(Said { reply, publications })
        }
    }
}

fn from_wire(publication: wire::Publication) -> Publication {
    Publication {
        bytes: publication.encoded_len(),
        data: Data::Bytes(publication.data),
        offset: publication.offset,
        removed: publication.removed,
        tags: publication.tags.into_iter().collect(),
        time: publication.time,
    }
}

/// A reply as JSON has it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonReply<'a> {
    id: u32,
    error: Option<Box<JsonError>>,
    #[serde(borrow)]
    push: Option<JsonPush<'a>>,
    connect: Option<IgnoredAny>,
    #[serde(borrow)]
    subscribe: Option<Box<JsonSubscribed<'a>>>,
    unsubscribe: Option<IgnoredAny>,
    publish: Option<IgnoredAny>,
    refresh: Option<IgnoredAny>,
    #[serde(borrow)]
    history: Option<Box<JsonHistory<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonError {
    code: u32,
    message: String,
    temporary: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonPush<'a> {
    id: i64,
    channel: String,
    #[serde(borrow, rename = "pub")]
    publication: Option<JsonPublication<'a>>,
    unsubscribe: Option<Box<JsonUnsubscribe>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonUnsubscribe {
    code: u32,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonSubscribed<'a> {
    recoverable: bool,
    epoch: String,
    #[serde(borrow)]
    publications: Vec<JsonPublication<'a>>,
    recovered: bool,
    offset: u64,
    positioned: bool,
    was_recovering: bool,
    id: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonHistory<'a> {
    #[serde(borrow)]
    publications: Vec<JsonPublication<'a>>,
    epoch: String,
    offset: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonPublication<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    offset: u64,
    removed: bool,
    tags: BTreeMap<String, String>,
    time: i64,
}

/// What a publication takes beside its data, about.
const PUBLICATION_BYTES: usize = 80;

fn json_publication(json: JsonPublication<'_>) -> Publication {
    let JsonPublication { data, offset, removed, tags, time } = json;
    let data = data.map_or("null", RawValue::get);
    Publication { data: Data::Json(data.to_owned()), offset, removed, tags, time, bytes: data.len() + PUBLICATION_BYTES }
}

fn from_json(json: JsonReply<'_>) -> Said {
    let mut reply = wire::Reply { id: json.id, ..wire::Reply::default() };
    let mut publications: Vec<Publication> = Vec::new();
    if let Some(error) = json.error {
        let JsonError { code, message, temporary } = *error;
        reply.error = Some(Box::new(wire::Error { code, message, temporary }));
    }
    if let Some(push) = json.push {
        reply.push = Some(wire::Push {
            id: push.id,
            channel: push.channel,
            publication: push.publication.as_ref().map(|_| wire::Publication::default()),
            unsubscribe: push.unsubscribe.map(|told| Box::new(wire::Unsubscribe { code: told.code, reason: told.reason })),
        });
        publications.extend(push.publication.map(json_publication));
    }
    if let Some(result) = json.subscribe {
        publications.extend(result.publications.into_iter().map(json_publication));
        reply.subscribe = Some(Box::new(wire::SubscribeResult {
            recoverable: result.recoverable,
            epoch: result.epoch,
            publications: Vec::new(),
            recovered: result.recovered,
            offset: result.offset,
            positioned: result.positioned,
            was_recovering: result.was_recovering,
            id: result.id,
        }));
    }
    if let Some(result) = json.history {
        publications.extend(result.publications.into_iter().map(json_publication));
        reply.history = Some(Box::new(wire::HistoryResult { publications: Vec::new(), epoch: result.epoch, offset: result.offset }));
    }
    reply.connect = json.connect.map(|_| wire::Done {});
    reply.unsubscribe = json.unsubscribe.map(|_| wire::Done {});
    reply.publish = json.publish.map(|_| wire::Done {});
    reply.refresh = json.refresh.map(|_| wire::Done {});
    Said { reply, publications }
}
