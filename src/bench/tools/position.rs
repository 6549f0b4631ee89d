//! Where a subscription stands in a log, and how it is taken up again there: the subscribe with `recover`, and what its reply grants.

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::dialect::Dialect;
use crate::session::wire;

/// A place in a log, as the server names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epoch: String,
    pub offset: u64,
}

/// What the reply to a subscribe says.
#[derive(Debug, Default)]
pub struct Granted {
    /// Behind the records of the reply; none if the subject cannot be recovered.
    pub position: Option<Position>,
    pub is_recovered: bool,
    /// Publications in the form of the protocol.
    pub records: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct JsonReply<'a> {
    #[serde(borrow)]
    subscribe: JsonGranted<'a>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct JsonGranted<'a> {
    epoch: String,
    offset: u64,
    recoverable: bool,
    recovered: bool,
    #[serde(borrow)]
    publications: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct JsonPublication {
    #[serde(default)]
    offset: u64,
}

/// The subscribe, from a position or from now.
pub fn subscribe(dialect: &Dialect, id: u64, subject: &str, from: Option<&Position>) -> Vec<u8> {
    if *dialect == Dialect::Protobuf {
        let position = from.cloned().unwrap_or_default();
        let subscribe = wire::SubscribeRequest {
            channel: Bytes::copy_from_slice(subject.as_bytes()),
            recover: from.is_some(),
            epoch: Bytes::from(position.epoch),
            offset: position.offset,
            ..Default::default()
        };
        let command = wire::Command { id: id as u32, subscribe: Some(subscribe), ..Default::default() };
        return command.encode_length_delimited_to_vec();
    }
    let mut subscribe = serde_json::json!({ "channel": subject });
    if let Some(position) = from {
        subscribe["recover"] = true.into();
        subscribe["epoch"] = position.epoch.as_str().into();
        subscribe["offset"] = position.offset.into();
    }
    serde_json::json!({ "id": id, "subscribe": subscribe }).to_string().into_bytes()
}

/// What a reply to a subscribe grants. None if it is no such reply.
pub fn granted(dialect: &Dialect, body: &[u8]) -> Option<Granted> {
    let (is_recoverable, is_recovered, epoch, mut offset, records) = if *dialect == Dialect::Protobuf {
        let said = wire::Reply::decode(body).ok()?.subscribe?;
        let records = said.publications.iter().map(|record| record.to_vec()).collect::<Vec<_>>();
        (said.recoverable, said.recovered, said.epoch, said.offset, records)
    } else {
        let said = serde_json::from_slice::<JsonReply<'_>>(body).ok()?.subscribe;
        let records = said.publications.iter().map(|record| format!("\"pub\":{record}").into_bytes()).collect();
        (said.recoverable, said.recovered, said.epoch, said.offset, records)
    };
    offset = records.iter().map(|record| self::offset(dialect, record)).fold(offset, u64::max);
    let position = is_recoverable.then_some(Position { epoch, offset });
    Some(Granted { position, is_recovered, records })
}

/// The offset of a publication, 0 if it has none.
pub fn offset(dialect: &Dialect, record: &[u8]) -> u64 {
    if *dialect == Dialect::Protobuf {
        return wire::Publication::decode(record).map_or(0, |publication| publication.offset);
    }
    // What a push has behind its publication is of no interest.
    let json = record.strip_prefix(b"\"pub\":").unwrap_or(record);
    let first = serde_json::Deserializer::from_slice(json).into_iter::<JsonPublication>().next();
    first.and_then(Result::ok).map_or(0, |publication| publication.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tools::dialect::Said;

    #[test]
    fn a_reply_gives_the_position_behind_its_records() {
        let json = br#"{"id":2,"subscribe":{"epoch":"1abc","offset":4,"recoverable":true,"recovered":true,"publications":[{"data":{"offset":99},"offset":5},{"data":1,"offset":7}]}}"#;
        let said = granted(&Dialect::Json, json).expect("a reply");
        assert_eq!((said.position, said.is_recovered), (Some(Position { epoch: "1abc".to_owned(), offset: 7 }), true));
        assert_eq!(said.records.len(), 2);
        let publication = wire::Publication { data: Bytes::from_static(b"x"), offset: 7, ..Default::default() };
        let subscribe = wire::SubscribeResult {
            recoverable: true,
            epoch: "1abc".to_owned(),
            publications: vec![publication.encode_to_vec().into()],
            ..Default::default()
        };
        let reply = wire::Reply { id: 2, subscribe: Some(subscribe), ..Default::default() };
        let said = granted(&Dialect::Protobuf, &reply.encode_to_vec()).expect("a reply");
        assert_eq!((said.position, said.is_recovered), (Some(Position { epoch: "1abc".to_owned(), offset: 7 }), false));
        // Nothing to come back to.
        assert_eq!(granted(&Dialect::Json, br#"{"id":2,"subscribe":{}}"#).expect("a reply").position, None);
        assert!(granted(&Dialect::Json, br#"{"id":2,"connect":{}}"#).is_none());
    }

    #[test]
    fn the_offset_of_a_push_is_that_of_its_publication_whatever_the_value_says() {
        let push = br#"{"push":{"channel":"/a/b","pub":{"data":{"offset":99},"offset":5,"tags":{"offset":"3"}}}}"#;
        let mut found = 0;
        Dialect::Json.each(push, |said| {
            if let Said::Record(record) = said {
                found = offset(&Dialect::Json, record);
            }
        });
        assert_eq!(found, 5);
    }

    #[test]
    fn who_comes_back_names_the_position() {
        let position = Position { epoch: "1a".to_owned(), offset: 7 };
        let json = String::from_utf8(subscribe(&Dialect::Json, 2, "/a/b", Some(&position))).expect("text");
        assert_eq!(json, r#"{"id":2,"subscribe":{"channel":"/a/b","epoch":"1a","offset":7,"recover":true}}"#);
        let bytes = subscribe(&Dialect::Protobuf, 2, "/a/b", Some(&position));
        let command = wire::Command::decode_length_delimited(&bytes[..]).expect("a command");
        let said = command.subscribe.expect("a subscribe");
        assert_eq!((said.recover, said.offset, &said.epoch[..]), (true, 7, &b"1a"[..]));
        assert_eq!(subscribe(&Dialect::Json, 2, "/a/b", None), br#"{"id":2,"subscribe":{"channel":"/a/b"}}"#);
    }
}
