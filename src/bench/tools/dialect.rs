//! What client and server say to each other: Centrifuge's protocol in JSON or Protobuf, or a template's text. As little is understood of a reply as
//! a load tool needs, and nothing is allocated for it.

use std::io::Write as _;

use bytes::Bytes;
use prost::Message as _;

use super::stamp::{digits, place_of};
use crate::session::wire;

/// Identifiers of the commands that open a connection; those of publishes begin behind.
pub const CONNECT_ID: u64 = 1;
pub const SUBSCRIBE_ID: u64 = 2;

/// How to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    Json,
    Protobuf,
    /// Another broadcast server: this text is sent after the handshake, and whatever comes is a record.
    Template(String),
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Ping,
    Reply {
        id: u64,
        error: Option<u64>,
        /// All of it, without its length.
        body: &'a [u8],
    },
    /// A publication, or the whole message: the stamp stands somewhere in it.
    Record(&'a [u8]),
    Unsubscribed {
        code: u64,
    },
    Disconnected,
    /// A push that does not matter here.
    Other,
}

impl Dialect {
    /// Of the messages that are sent.
    pub fn opcode(&self) -> u8 {
        if *self == Dialect::Protobuf { 2 } else { 1 }
    }

    /// What the upgrade must offer.
    pub fn subprotocol(&self) -> Option<&'static str> {
        (*self == Dialect::Protobuf).then_some("centrifuge-protobuf")
    }

    /// The first message of client `number`: connect, and subscribe if it has a subject.
    pub fn opening(&self, token: &str, subject: Option<&str>, number: u64) -> Vec<u8> {
        match self {
            Dialect::Json => {
                let connect = if token.is_empty() { serde_json::json!({}) } else { serde_json::json!({ "token": token }) };
                let mut text = serde_json::json!({ "id": CONNECT_ID, "connect": connect }).to_string();
                if let Some(subject) = subject {
                    text.push('\n');
                    text.push_str(&serde_json::json!({ "id": SUBSCRIBE_ID, "subscribe": { "channel": subject } }).to_string());
                }
                text.into_bytes()
            }
            Dialect::Protobuf => {
                let connect = wire::ConnectRequest { token: Bytes::copy_from_slice(token.as_bytes()), ..Default::default() };
                let connect = wire::Command { id: CONNECT_ID as u32, connect: Some(connect), ..Default::default() };
                let mut bytes = connect.encode_length_delimited_to_vec();
                if let Some(subject) = subject {
                    let subscribe = wire::SubscribeRequest { channel: Bytes::copy_from_slice(subject.as_bytes()), ..Default::default() };
                    let subscribe = wire::Command { id: SUBSCRIBE_ID as u32, subscribe: Some(subscribe), ..Default::default() };
                    bytes.extend_from_slice(&subscribe.encode_length_delimited_to_vec());
                }
                bytes
            }
            Dialect::Template(template) => {
                template.replace("{n}", &number.to_string()).replace("{subject}", subject.unwrap_or_default()).into_bytes()
            }
        }
    }

    /// A publish, in place of what is in the buffer.
    pub fn publish(&self, message: &mut Vec<u8>, id: u64, subject: &str, value: &[u8]) {
        message.clear();
        match self {
            Dialect::Json => {
                // Writing to memory does not fail. A subject of a pattern has quotes escaped as Rust does it, which is JSON for what is printable.
                let _ = write!(message, "{{\"id\":{id},\"publish\":{{\"channel\":{subject:?},\"data\":");
                message.extend_from_slice(value);
                message.extend_from_slice(b"}}");
            }
            Dialect::Protobuf => {
                let (channel, data) = (Bytes::copy_from_slice(subject.as_bytes()), Bytes::copy_from_slice(value));
                let publish = wire::PublishRequest { channel, data, ..Default::default() };
                let command = wire::Command { id: id as u32, publish: Some(publish), ..Default::default() };
                *message = command.encode_length_delimited_to_vec();
            }
            Dialect::Template(_) => message.extend_from_slice(value),
        }
    }

    /// The answer to a ping.
    pub fn pong(&self) -> &'static [u8] {
        if *self == Dialect::Protobuf { &[0] } else { b"{}" }
    }

    /// Each thing that a message says. Gives whether it was understood.
    pub fn each(&self, payload: &[u8], mut take: impl FnMut(Said<'_>)) -> bool {
        match self {
            Dialect::Json => {
                for line in payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    let Some(said) = json(line) else { return false };
                    take(said);
                }
                true
            }
            Dialect::Protobuf => {
                let mut rest = payload;
                while !rest.is_empty() {
                    let Some((reply, behind)) = varint(rest).and_then(|(length, rest)| rest.split_at_checked(length as usize)) else {
                        return false;
                    };
                    let Some(said) = protobuf(reply) else { return false };
                    take(said);
                    rest = behind;
                }
                true
            }
            Dialect::Template(_) => {
                take(Said::Record(payload));
                true
            }
        }
    }
}

fn json(line: &[u8]) -> Option<Said<'_>> {
    if line == b"{}" {
        return Some(Said::Ping);
    }
    if let Some(push) = line.strip_prefix(b"{\"push\":") {
        let kinds = [&b"\"pub\":{"[..], b"\"unsubscribe\":{", b"\"disconnect\":{"].map(|kind| place_of(push, kind));
        // A record may hold any of these words in its value: the first one names the push.
        return Some(match kinds {
            [Some(at), unsubscribe, disconnect] if [unsubscribe, disconnect].iter().flatten().all(|&other| at < other) => {
                Said::Record(&push[at..])
            }
            [_, Some(at), _] => Said::Unsubscribed { code: code(&push[at..]) },
            [_, _, Some(_)] => Said::Disconnected,
            _ => Said::Other,
        });
    }
    let id = line.strip_prefix(b"{\"id\":").and_then(digits);
    let error = place_of(line, b"\"error\":{\"code\":").and_then(|at| digits(&line[at + 16..]));
    match (id, error) {
        (Some(id), error) => Some(Said::Reply { id, error, body: line }),
        // A connection's own error.
        (None, Some(_)) => Some(Said::Disconnected),
        (None, None) => None,
    }
}

fn protobuf(reply: &[u8]) -> Option<Said<'_>> {
    if reply.is_empty() {
        return Some(Said::Ping);
    }
    let (mut id, mut error, mut push) = (0, None, None);
    fields(reply, |field| match field {
        Field::Number(1, number) => id = number,
        Field::Bytes(2, bytes) => error = Some(bytes),
        Field::Bytes(4, bytes) => push = Some(bytes),
        _ => {}
    })?;
    if let Some(push) = push {
        let mut said = Said::Other;
        fields(push, |field| match field {
            Field::Bytes(4, publication) => said = Said::Record(publication),
            Field::Bytes(7, unsubscribe) => said = Said::Unsubscribed { code: number_of(unsubscribe, 2) },
            Field::Bytes(11, _) => said = Said::Disconnected,
            _ => {}
        })?;
        return Some(said);
    }
    Some(Said::Reply { id, error: error.map(|error| number_of(error, 1)), body: reply })
}

/// The code in the JSON of an unsubscribe, 0 if it has none.
fn code(json: &[u8]) -> u64 {
    place_of(json, b"\"code\":").and_then(|at| digits(&json[at + 7..])).unwrap_or(0)
}

/// A field of a message of Protobuf, 0 if it has none.
fn number_of(message: &[u8], wanted: u64) -> u64 {
    let mut found = 0;
    let _ = fields(message, |field| match field {
        Field::Number(name, number) if name == wanted => found = number,
        _ => {}
    });
    found
}

enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// The fields of a message of numbers and bytes. None if it is no such message.
fn fields<'a>(mut bytes: &'a [u8], mut take: impl FnMut(Field<'a>)) -> Option<()> {
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes)?;
        bytes = match key & 7 {
            0 => {
                let (number, rest) = varint(rest)?;
                take(Field::Number(key >> 3, number));
                rest
            }
            1 => rest.get(8..)?,
            2 => {
                let (length, rest) = varint(rest)?;
                let (inner, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                take(Field::Bytes(key >> 3, inner));
                rest
            }
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(())
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (place, &byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(dialect: &Dialect, payload: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        let understood = dialect.each(payload, |said| all.push(format!("{said:?}")));
        if !understood {
            all.push("not understood".to_owned());
        }
        all
    }

    #[test]
    fn several_json_replies_in_a_message_are_each_heard() {
        // As Centrifugo writes them, and as corespan does.
        let payload = br#"{"id":1,"connect":{"client":"x","ping":25,"pong":true}}
{"id":2,"subscribe":{}}
{"push":{"channel":"bench","pub":{"data":{"due":5,"n":1,"x":"\"unsubscribe\":{"},"offset":1}}}
{}
{"push":{"channel":"bench","unsubscribe":{"code":2500,"reason":"insufficient state"}}}
{"push":{"disconnect":{"code":3001}}}
{"push":{"channel":"bench","join":{"info":{}}}}
{"id":3,"error":{"code":103,"message":"permission denied"}}
"#;
        let heard = said(&Dialect::Json, payload);
        assert!(heard[0].starts_with("Reply { id: 1, error: None, "));
        assert!(heard[2].starts_with("Record("));
        let rest = ["Ping", "Unsubscribed { code: 2500 }", "Disconnected", "Other"];
        assert_eq!(heard[3..7], rest);
        assert!(heard[7].starts_with("Reply { id: 3, error: Some(103), "));
        assert_eq!(said(&Dialect::Json, b"hello"), ["not understood"]);
    }

    #[test]
    fn protobuf_replies_are_heard_as_the_servers_messages_write_them() {
        let publication = wire::Publication { data: Bytes::from_static(b"{\"due\":1,\"n\":2}"), offset: 7, ..Default::default() };
        let push = wire::Push { channel: "/a/b".to_owned(), publication: Some(publication), ..Default::default() };
        let gone = wire::Push { unsubscribe: Some(wire::Unsubscribe { code: 2500, reason: String::new() }), ..Default::default() };
        let error = wire::Error { code: 103, message: "denied".to_owned(), temporary: false };
        let mut payload = vec![0];
        for reply in [
            wire::Reply { push: Some(push), ..Default::default() },
            wire::Reply { push: Some(gone), ..Default::default() },
            wire::Reply { id: 300, error: Some(error), ..Default::default() },
            wire::Reply { id: 4, publish: Some(wire::Empty {}), ..Default::default() },
        ] {
            payload.extend_from_slice(&reply.encode_length_delimited_to_vec());
        }
        let heard = said(&Dialect::Protobuf, &payload);
        assert_eq!((heard[0].as_str(), heard[2].as_str()), ("Ping", "Unsubscribed { code: 2500 }"));
        assert!(heard[1].starts_with("Record("));
        assert!(heard[3].starts_with("Reply { id: 300, error: Some(103), ") && heard[4].starts_with("Reply { id: 4, error: None, "));
        assert_eq!(said(&Dialect::Protobuf, &[200]), ["not understood"]);
    }

    #[test]
    fn a_token_goes_with_the_connect_command_and_a_subject_with_the_subscribe() {
        let json = Dialect::Json.opening("t\"k", Some("/a/b"), 0);
        let json: Vec<&str> = std::str::from_utf8(&json).expect("text").lines().collect();
        assert_eq!(json, [r#"{"connect":{"token":"t\"k"},"id":1}"#, r#"{"id":2,"subscribe":{"channel":"/a/b"}}"#]);
        let protobuf = Dialect::Protobuf.opening("token", Some("/a/b"), 0);
        let mut rest = &protobuf[..];
        let connect = wire::Command::decode_length_delimited(&mut rest).expect("a command");
        let subscribe = wire::Command::decode_length_delimited(&mut rest).expect("a command");
        assert_eq!(connect.connect.map(|connect| connect.token), Some(Bytes::from_static(b"token")));
        assert_eq!(subscribe.subscribe.map(|subscribe| subscribe.channel), Some(Bytes::from_static(b"/a/b")));
    }

    #[test]
    fn a_template_is_filled_and_every_message_is_a_record() {
        let dialect = Dialect::Template("SUB {subject} {n}".to_owned());
        assert_eq!(dialect.opening("", Some("/a"), 3), b"SUB /a 3");
        assert_eq!(said(&dialect, b"x").len(), 1);
    }
}
