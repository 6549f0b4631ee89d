//! The client's side of the wire, in both encodings: commands out, frames and replies in. Written apart from `session`, so that it can disagree.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};

use crate::handoff::Protocol;
use crate::session::wire;

/// The data of a publication as its encoding has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Json(Value),
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
            Data::Json(value) => value.to_string(),
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
        Protocol::Json => to_json(command).to_string().into_bytes(),
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

fn to_json(command: &wire::Command) -> Value {
    let mut json = json!({"id": command.id});
    let json_text = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if command.connect.is_some() {
        json["connect"] = json!({});
    }
    if let Some(request) = &command.subscribe {
        json["subscribe"] = json!({"channel": text(&request.channel), "recover": request.recover, "epoch": text(&request.epoch), "offset": request.offset,
            "flag": request.flag});
        if !request.data.is_empty() {
            json["subscribe"]["data"] = json_text(&request.data);
        }
    }
    if let Some(request) = &command.unsubscribe {
        json["unsubscribe"] = json!({"channel": text(&request.channel)});
    }
    if let Some(request) = &command.publish {
        json["publish"] = json!({"channel": text(&request.channel), "data": json_text(&request.data), "removed": request.removed});
    }
    if let Some(request) = &command.history {
        json["history"] = json!({"channel": text(&request.channel), "limit": request.limit, "reverse": request.reverse});
        if let Some(since) = &request.since {
            json["history"]["since"] = json!({"offset": since.offset, "epoch": text(&since.epoch)});
        }
    }
    if let Some(request) = &command.presence {
        json["presence"] = json!({"channel": text(&request.channel)});
    }
    if let Some(request) = &command.rpc {
        json["rpc"] = json!({"method": text(&request.method)});
    }
    json
}

/// Decodes one message of the server.
///
/// # Errors
/// What is wrong with it.
pub fn decode(protocol: Protocol, payload: &[u8]) -> Result<Said, String> {
    match protocol {
        Protocol::Json => {
            let value: Value = serde_json::from_slice(payload).map_err(|error| format!("a frame is one JSON text: {error}"))?;
            if payload.contains(&b'\n') {
                return Err("a JSON frame has no line feed".to_owned());
            }
            Ok(from_json(&value))
        }
        Protocol::Protobuf => {
            let mut rest = payload;
            let reply = wire::Reply::decode_length_delimited(&mut rest).map_err(|error| error.to_string())?;
            if !rest.is_empty() {
                return Err("a Protobuf frame is one reply".to_owned());
            }
            let list = match (&reply.subscribe, &reply.history, &reply.push) {
                (Some(result), _, _) => &result.publications[..],
                (_, Some(result), _) => &result.publications[..],
                _ => &[],
            };
            let list = list.iter().map(|bytes| wire::Publication::decode(bytes.clone()).map_err(|error| error.to_string()));
            let mut publications = list.map(|publication| publication.map(from_wire)).collect::<Result<Vec<_>, _>>()?;
            publications.extend(reply.push.as_ref().and_then(|push| push.publication.clone()).map(from_wire));
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

fn from_json(value: &Value) -> Said {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let flag = |value: &Value| value.as_bool().unwrap_or(false);
    let publication = |value: &Value| Publication {
        bytes: value.to_string().len(),
        data: Data::Json(value["data"].clone()),
        offset: number(&value["offset"]),
        removed: flag(&value["removed"]),
        tags: value["tags"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
        time: value["time"].as_i64().unwrap_or(0),
    };
    let mut reply = wire::Reply { id: number(&value["id"]) as u32, ..wire::Reply::default() };
    let mut publications: Vec<Publication> = Vec::new();
    if let Some(error) = value.get("error") {
        reply.error = Some(wire::Error {
            code: number(&error["code"]) as u32,
            message: text(&error["message"]),
            temporary: flag(&error["temporary"]),
        });
    }
    if let Some(push) = value.get("push") {
        publications.extend(push.get("pub").map(publication));
        reply.push = Some(wire::Push {
            id: number(&push["id"]) as i64,
            channel: text(&push["channel"]),
            publication: push.get("pub").map(|_| wire::Publication::default()),
            unsubscribe: push
                .get("unsubscribe")
                .map(|unsubscribe| wire::Unsubscribe { code: number(&unsubscribe["code"]) as u32, reason: text(&unsubscribe["reason"]) }),
        });
    }
    if value.get("connect").is_some() {
        reply.connect = Some(wire::ConnectResult::default());
    }
    if let Some(result) = value.get("subscribe") {
        publications.extend(result["publications"].as_array().into_iter().flatten().map(publication));
        reply.subscribe = Some(wire::SubscribeResult {
            recoverable: flag(&result["recoverable"]),
            epoch: text(&result["epoch"]),
            publications: Vec::new(),
            recovered: flag(&result["recovered"]),
            offset: number(&result["offset"]),
            positioned: flag(&result["positioned"]),
            was_recovering: flag(&result["was_recovering"]),
            id: number(&result["id"]) as i64,
        });
    }
    if let Some(result) = value.get("history") {
        publications.extend(result["publications"].as_array().into_iter().flatten().map(publication));
        reply.history =
            Some(wire::HistoryResult { publications: Vec::new(), epoch: text(&result["epoch"]), offset: number(&result["offset"]) });
    }
    reply.unsubscribe = value.get("unsubscribe").map(|_| wire::Empty {});
    reply.publish = value.get("publish").map(|_| wire::Empty {});
    Said { reply, publications }
}
