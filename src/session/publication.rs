//! Publications: a record as clients see it. Encoded once per record and form; nothing in it depends on the client.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::encoding;

use super::frame::FrameWriter;
use super::json_text::is_json;
use crate::ids::{Offset, Protocol, Variant};
use crate::subject::ValueKind;

/// A record on its way to clients.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// `None` is a tombstone: `removed: true`, data `null` (JSON) or empty (Protobuf), tag `corespan.removed: "true"`.
    pub value: Option<&'a [u8]>,
    /// How `value` appears in JSON.
    pub kind: ValueKind,
    /// Kafka offset; on the wire `offset + 1`. `None` (live-only): the field is left out.
    pub offset: Option<Offset>,
    /// Milliseconds; negative: left out.
    pub timestamp_ms: i64,
    /// Headers whose name and value are UTF-8. A later header of the same name wins; names that begin with `corespan.` are left out.
    pub tags: &'a [(Bytes, Bytes)],
    /// The value was too large: data `null`/empty and the tag `corespan.dropped: "oversize"`.
    pub oversize: bool,
}

/// Tag of a tombstone: SDKs show an ordinary subscription only data, offset, info and tags.
const TAG_REMOVED: &str = "corespan.removed";
/// Tag of a record whose value was too large for an outbox.
const TAG_DROPPED: &str = "corespan.dropped";
/// Headers up to which a later one of the same name is looked for by comparing: faster than a map, which few records need.
const TAGS_COMPARED_MAX: usize = 32;
/// Names that begin so are ours.
const TAG_RESERVED: &str = "corespan.";

impl Publication<'_> {
    fn is_removed(&self) -> bool {
        self.value.is_none() && !self.oversize
    }

    /// The value as clients may have it.
    fn data(&self) -> Option<&[u8]> {
        self.value.filter(|_| !self.oversize)
    }

    /// Tags, each name once: headers in order of their last appearance, then ours.
    fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = if self.oversize { Some((TAG_DROPPED, "oversize")) } else { self.is_removed().then_some((TAG_REMOVED, "true")) };
        // Half a million headers fit in a record of 1 MiB: comparing each with each would stop the shard for minutes.
        let last: Option<HashMap<&[u8], usize>> = (self.tags.len() > TAGS_COMPARED_MAX)
            .then(|| self.tags.iter().enumerate().map(|(place, (name, _))| (&name[..], place)).collect());
        let headers = self.tags.iter().enumerate().filter_map(move |(place, (name, value))| {
            let later = match &last {
                Some(last) => last.get(&name[..]) != Some(&place),
                None => self.tags[place + 1..].iter().any(|(other, _)| other == name),
            };
            let (name, value) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
            (!later && !name.starts_with(TAG_RESERVED)).then_some((name, value))
        });
        headers.chain(own)
    }

    fn weight(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.data().map_or(0, <[u8]>::len) + tags + 96
    }
}

/// The publication alone (a JSON object, or a Protobuf message without length prefix), for subscribe and history replies.
pub fn encode_publication(protocol: Protocol, publication: &Publication<'_>) -> Bytes {
    let mut out = Vec::with_capacity(publication.weight());
    match protocol {
        Protocol::Json => write_json(&mut out, publication),
        Protocol::Protobuf => write_protobuf(&mut out, publication),
    }
    Bytes::from(out)
}

/// A whole push in one WebSocket frame (header included, unmasked), ready for any outbox. Names the channel by `id` if the form is numeric and there
/// is one (0: there is none).
pub fn encode_push(variant: Variant, channel: &str, id: u64, publication: &Publication<'_>) -> Bytes {
    let mut frame = FrameWriter::with_capacity(variant.protocol, publication.weight() + channel.len() + 40);
    let out = frame.payload();
    let numeric = variant.numeric && id != 0;
    match variant.protocol {
        Protocol::Json => {
            if numeric {
                out.extend_from_slice(b"{\"push\":{\"id\":");
                number(out, id);
                out.extend_from_slice(b",\"pub\":");
            } else {
                out.extend_from_slice(b"{\"push\":{\"channel\":");
                json_string(out, channel);
                out.extend_from_slice(b",\"pub\":");
            }
            write_json(out, publication);
            out.extend_from_slice(b"}}");
        }
        Protocol::Protobuf => {
            // Reply { push = 4: Push { id = 1 | channel = 2, pub = 4 } }, length-delimited: the inner lengths are needed first.
            let body = protobuf_len(publication);
            let name = if numeric { 1 + encoding::encoded_len_varint(id) } else { string_field_len(channel) };
            let push = name + 1 + delimited_len(body);
            encoding::encode_varint((1 + delimited_len(push)) as u64, out);
            length_field(out, 4, push);
            if numeric {
                encoding::encode_key(1, encoding::WireType::Varint, out);
                encoding::encode_varint(id, out);
            } else {
                length_field(out, 2, channel.len());
                out.extend_from_slice(channel.as_bytes());
            }
            length_field(out, 4, body);
            write_protobuf(out, publication);
        }
    }
    frame.finish()
}

fn write_json(out: &mut Vec<u8>, publication: &Publication<'_>) {
    out.extend_from_slice(b"{\"data\":");
    match publication.data() {
        None => out.extend_from_slice(b"null"),
        Some(value) => write_value(out, publication.kind, value),
    }
    if let Some(offset) = publication.offset {
        out.extend_from_slice(b",\"offset\":");
        number(out, offset.0 + 1);
    }
    let mut separator: &[u8] = b",\"tags\":{";
    for (name, value) in publication.tags() {
        out.extend_from_slice(separator);
        json_string(out, name);
        out.push(b':');
        json_string(out, value);
        separator = b",";
    }
    if separator == b"," {
        out.push(b'}');
    }
    if publication.timestamp_ms >= 0 {
        out.extend_from_slice(b",\"time\":");
        number(out, publication.timestamp_ms);
    }
    if publication.is_removed() {
        out.extend_from_slice(b",\"removed\":true");
    }
    out.push(b'}');
}

/// A value in JSON: embedded if it is one valid JSON text, a string if it is UTF-8, else base64.
fn write_value(out: &mut Vec<u8>, kind: ValueKind, value: &[u8]) {
    let text = std::str::from_utf8(value).ok().filter(|_| kind != ValueKind::Binary);
    match text {
        Some(text) if kind != ValueKind::Text && is_json(text) => {
            // A line break inside a string is not valid JSON, so every one here stands between tokens; SDKs split frames at line feeds.
            let from = out.len();
            out.extend_from_slice(value);
            for place in memchr::memchr2_iter(b'\n', b'\r', value) {
                out[from + place] = b' ';
            }
        }
        Some(text) => json_string(out, text),
        None => {
            out.extend_from_slice(b"{\"base64\":\"");
            let from = out.len();
            out.resize(from + value.len().div_ceil(3) * 4, 0);
            // The room is exactly what the encoding needs.
            let written = STANDARD.encode_slice(value, &mut out[from..]).unwrap_or(0);
            out.truncate(from + written);
            out.extend_from_slice(b"\"}");
        }
    }
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A JSON string with its quotes.
pub(super) fn json_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// Bytes that `write_protobuf` writes.
fn protobuf_len(publication: &Publication<'_>) -> usize {
    let data = publication.data().filter(|data| !data.is_empty()).map_or(0, |data| 1 + delimited_len(data.len()));
    let offset = publication.offset.map_or(0, |offset| 1 + encoding::encoded_len_varint(offset.0 as u64 + 1));
    let tags: usize = publication.tags().map(|(name, value)| 1 + delimited_len(tag_len(name, value))).sum();
    let time = if publication.timestamp_ms > 0 { 1 + encoding::encoded_len_varint(publication.timestamp_ms as u64) } else { 0 };
    let removed = if publication.is_removed() { 2 } else { 0 };
    data + offset + tags + time + removed
}

/// Bytes of a tag: a map entry.
fn tag_len(name: &str, value: &str) -> usize {
    string_field_len(name) + string_field_len(value)
}

fn write_protobuf(out: &mut Vec<u8>, publication: &Publication<'_>) {
    if let Some(data) = publication.data().filter(|data| !data.is_empty()) {
        length_field(out, 4, data.len());
        out.extend_from_slice(data);
    }
    if let Some(offset) = publication.offset {
        encoding::encode_key(6, encoding::WireType::Varint, out);
        encoding::encode_varint(offset.0 as u64 + 1, out);
    }
    for (name, value) in publication.tags() {
        length_field(out, 7, tag_len(name, value));
        length_field(out, 1, name.len());
        out.extend_from_slice(name.as_bytes());
        length_field(out, 2, value.len());
        out.extend_from_slice(value.as_bytes());
    }
    if publication.timestamp_ms > 0 {
        encoding::encode_key(9, encoding::WireType::Varint, out);
        encoding::encode_varint(publication.timestamp_ms as u64, out);
    }
    if publication.is_removed() {
        encoding::encode_key(12, encoding::WireType::Varint, out);
        out.push(1);
    }
}

fn length_field(out: &mut Vec<u8>, tag: u32, len: usize) {
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, out);
    encoding::encode_varint(len as u64, out);
}

fn delimited_len(len: usize) -> usize {
    encoding::encoded_len_varint(len as u64) + len
}

fn string_field_len(text: &str) -> usize {
    1 + delimited_len(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::frame::payload_of;
    use crate::session::wire;
    use prost::Message as _;

    fn publication(value: Option<&[u8]>, kind: ValueKind) -> Publication<'_> {
        Publication { value, kind, offset: Some(Offset(4)), timestamp_ms: 9, tags: &[], oversize: false }
    }

    fn json(publication: &Publication<'_>) -> String {
        String::from_utf8(encode_publication(Protocol::Json, publication).to_vec()).unwrap()
    }

    #[test]
    fn values_are_embedded_quoted_or_base64() {
        let data = |value: &[u8], kind| {
            let text = json(&publication(Some(value), kind));
            text.strip_prefix("{\"data\":").unwrap().split_once(",\"offset\"").unwrap().0.to_owned()
        };
        assert_eq!(data(b" {\"a\":\r\n [1]}", ValueKind::Auto), " {\"a\":   [1]}");
        assert_eq!(data(b"{} {}", ValueKind::Auto), "\"{} {}\"");
        assert_eq!(data(b"a\nb", ValueKind::Auto), "\"a\\nb\"");
        assert_eq!(data(b"", ValueKind::Auto), "\"\"");
        assert_eq!(data(&[0xff, 0], ValueKind::Auto), "{\"base64\":\"/wA=\"}");
        assert_eq!(data(b"1", ValueKind::Text), "\"1\"");
        assert_eq!(data(b"1", ValueKind::Binary), "{\"base64\":\"MQ==\"}");
        assert_eq!(data(b"[\"\xff\"]", ValueKind::Auto), "{\"base64\":\"WyL/Il0=\"}");
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(data(deep(128).as_bytes(), ValueKind::Auto).starts_with('['));
        assert!(data(deep(129).as_bytes(), ValueKind::Auto).starts_with('"'));
        let wide = format!("[{}]", vec![r#"{"[[":"\\\"]"}"#; 200].join(","));
        assert_eq!(data(wide.as_bytes(), ValueKind::Auto), wide);
    }

    #[test]
    fn json_that_some_client_cannot_parse_becomes_a_string() {
        let embedded = |text: &str| json(&publication(Some(text.as_bytes()), ValueKind::Auto)).starts_with(&format!("{{\"data\":{text},"));
        for before in 0..3 {
            let digits = |count: usize| format!("[{}{}]", " ".repeat(before * 1_500), "7".repeat(count));
            assert!(embedded(&digits(4_300)), "{before}");
            assert!(!embedded(&digits(4_301)), "{before}");
            assert!(embedded(&format!("[\"{}\"]", digits(9_000))), "in a string it is no number");
        }
    }

    #[test]
    fn many_headers_take_no_time_and_the_last_of_a_name_wins() {
        let tags: Vec<(Bytes, Bytes)> =
            (0..200_000).map(|n| (Bytes::from(format!("{}", n % 40_000)), Bytes::from(format!("{n}")))).collect();
        let publication = Publication { tags: &tags, ..publication(Some(b"1"), ValueKind::Auto) };
        let decoded = wire::Publication::decode(encode_publication(Protocol::Protobuf, &publication)).unwrap();
        assert_eq!(decoded.tags.len(), 40_000);
        assert_eq!(decoded.tags["39999"], "199999");
    }

    #[test]
    fn a_tombstone_and_an_oversize_record_say_so() {
        assert_eq!(
            json(&publication(None, ValueKind::Auto)),
            r#"{"data":null,"offset":5,"tags":{"corespan.removed":"true"},"time":9,"removed":true}"#
        );
        let oversize = Publication { oversize: true, ..publication(Some(b"x"), ValueKind::Auto) };
        assert_eq!(json(&oversize), r#"{"data":null,"offset":5,"tags":{"corespan.dropped":"oversize"},"time":9}"#);
    }

    #[test]
    fn the_later_of_two_headers_wins_and_our_names_are_ours() {
        let tags: Vec<(Bytes, Bytes)> = [("a", "1"), ("b", "2"), ("a", "3"), ("corespan.removed", "no")]
            .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
            .into();
        let publication = Publication { tags: &tags, ..publication(Some(b"1"), ValueKind::Auto) };
        assert_eq!(json(&publication), r#"{"data":1,"offset":5,"tags":{"b":"2","a":"3"},"time":9}"#);
        let decoded = wire::Publication::decode(encode_publication(Protocol::Protobuf, &publication)).unwrap();
        assert_eq!(decoded.tags.into_iter().collect::<Vec<_>>(), [("a".into(), "3".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn a_push_names_its_channel_by_text_or_by_id() {
        let one = publication(Some(b"{}"), ValueKind::Auto);
        let form = |protocol, numeric| Variant { protocol, numeric };
        let text = |form| String::from_utf8(payload_of(&encode_push(form, "/v/\"1\"", 7, &one)).to_vec()).unwrap();
        assert_eq!(text(form(Protocol::Json, false)), r#"{"push":{"channel":"/v/\"1\"","pub":{"data":{},"offset":5,"time":9}}}"#);
        assert_eq!(text(form(Protocol::Json, true)), r#"{"push":{"id":7,"pub":{"data":{},"offset":5,"time":9}}}"#);
        for numeric in [false, true] {
            let frame = encode_push(form(Protocol::Protobuf, numeric), "/v/1", 7, &one);
            let reply = wire::Reply::decode_length_delimited(payload_of(&frame)).unwrap();
            let push = reply.push.unwrap();
            assert_eq!((push.id, push.channel.as_str()), if numeric { (7, "") } else { (0, "/v/1") });
            let publication = push.publication.unwrap();
            assert_eq!((&publication.data[..], publication.offset, publication.time), (&b"{}"[..], 5, 9));
        }
    }

    /// JSON has no largest number: what a client's parser makes of it is the parser's business (JavaScript: Infinity).
    #[test]
    fn a_number_beyond_every_float_is_json() {
        let value = b"-0.5e311".to_vec();
        assert!(json(&publication(Some(&value), ValueKind::Auto)).contains("\"data\":-0.5e311"));
    }

    /// Bytes, text, and what looks like JSON (with no number that is beyond the parser of the test).
    fn any_value() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "\\PC{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "{", "}", ",", ":", "\"a\"", "\"\\n\"", "1", "-0.5", "[-0.5e3]", "null", "true", " ", "\n", "\r\n", "\t",
                    "\"", "\\"
                ]),
                0..8,
            )
            .prop_map(|tokens| tokens.concat().into_bytes()),
        ]
    }

    proptest::proptest! {
        #[test]
        fn any_value_becomes_one_line_of_json_and_comes_back(value in any_value()) {
            let text = json(&publication(Some(&value), ValueKind::Auto));
            proptest::prop_assert!(!text.contains('\n'));
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let data = &parsed["data"];
            let back = match (data.as_str(), data["base64"].as_str()) {
                (Some(text), _) if serde_json::from_slice::<serde_json::Value>(&value).is_err() => text.as_bytes().to_vec(),
                (_, Some(base64)) if std::str::from_utf8(&value).is_err() => STANDARD.decode(base64).unwrap(),
                _ => {
                    proptest::prop_assert_eq!(data, &serde_json::from_slice::<serde_json::Value>(&value).unwrap());
                    value.clone()
                }
            };
            proptest::prop_assert_eq!(back, value);
        }

        /// The push written by hand is what prost reads and would write, and its lengths are right.
        #[test]
        fn any_push_is_whole_in_every_form(
            value in proptest::option::of(proptest::collection::vec(proptest::num::u8::ANY, 0..300)),
            tags in proptest::collection::vec(("[a-z\"\u{e9}]{0,2}", "\\PC{0,150}"), 0..5),
            offset in proptest::option::of(0..i64::MAX),
            timestamp_ms in proptest::num::i64::ANY,
            id in 1..(1_u64 << 53),
            channel in "/[a-z]{1,9}/\\PC{1,90}",
        ) {
            let tags: Vec<(Bytes, Bytes)> = tags.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value))).collect();
            let offset = offset.map(Offset);
            let one = Publication { value: value.as_deref(), kind: ValueKind::Auto, offset, timestamp_ms, tags: &tags, oversize: false };
            let mut expected: std::collections::BTreeMap<String, String> = tags
                .iter()
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()))
                .collect();
            if value.is_none() {
                expected.insert(TAG_REMOVED.to_owned(), "true".to_owned());
            }
            for numeric in [false, true] {
                let name = if numeric { (id as i64, "") } else { (0, &channel[..]) };
                let frame = encode_push(Variant { protocol: Protocol::Protobuf, numeric }, &channel, id, &one);
                let push = wire::Reply::decode_length_delimited(payload_of(&frame)).unwrap().push.unwrap();
                proptest::prop_assert_eq!((push.id, &push.channel[..]), name);
                let publication = push.publication.unwrap();
                proptest::prop_assert_eq!(encode_publication(Protocol::Protobuf, &one).len(), protobuf_len(&one));
                let decoded = wire::Publication {
                    data: Bytes::from(value.clone().unwrap_or_default()),
                    offset: offset.map_or(0, |offset| offset.0 as u64 + 1),
                    tags: expected.clone(),
                    time: timestamp_ms.max(0),
                    removed: value.is_none(),
                };
                proptest::prop_assert_eq!(publication, decoded);

                let frame = encode_push(Variant { protocol: Protocol::Json, numeric }, &channel, id, &one);
                let text = std::str::from_utf8(payload_of(&frame)).unwrap();
                proptest::prop_assert!(!text.contains(['\n', '\r']));
                let json: serde_json::Value = serde_json::from_str(text).unwrap();
                let push = &json["push"];
                proptest::prop_assert_eq!((push["id"].as_i64().unwrap_or(0), push["channel"].as_str().unwrap_or("")), name);
                let publication = &push["pub"];
                proptest::prop_assert_eq!(publication["offset"].as_u64(), offset.map(|offset| offset.0 as u64 + 1));
                proptest::prop_assert_eq!(publication["time"].as_i64(), (timestamp_ms >= 0).then_some(timestamp_ms));
                let tags = publication.get("tags").map_or_else(Default::default, |tags| serde_json::from_value(tags.clone()).unwrap());
                proptest::prop_assert_eq!(&expected, &tags);
                proptest::prop_assert_eq!(publication["removed"].as_bool(), value.is_none().then_some(true));
            }
        }

        #[test]
        fn any_value_comes_through_protobuf_untouched(value in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let one = publication(Some(&value), ValueKind::Auto);
            let decoded = wire::Publication::decode(encode_publication(Protocol::Protobuf, &one)).unwrap();
            proptest::prop_assert_eq!(&decoded.data[..], &value[..]);
        }
    }
}
