//! The record value that a publish's `data` means.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::ids::Protocol;
use crate::subject::ValueKind;

/// The value of a publish. Protobuf: the bytes. JSON: the raw text of `data`, or under `Text` the unquoted string, under `Binary` the decoded
/// `{"base64": ".."}`.
///
/// # Errors
/// A text for error 107 when `data` is absent or not of the topic's kind.
pub fn publish_value(protocol: Protocol, kind: ValueKind, data: &Bytes) -> Result<Bytes, String> {
    if protocol == Protocol::Protobuf {
        return Ok(data.clone());
    }
    if data.is_empty() {
        return Err("a publish has `data`".to_owned());
    }
    match kind {
        ValueKind::Auto | ValueKind::Json => Ok(data.clone()),
        ValueKind::Text => serde_json::from_slice::<String>(data)
            .map(Bytes::from)
            .map_err(|_| "this topic takes text: `data` must be a JSON string (value = \"text\")".to_owned()),
        ValueKind::Binary => {
            #[derive(serde::Deserialize)]
            struct Binary {
                base64: String,
            }
            serde_json::from_slice::<Binary>(data)
                .ok()
                .and_then(|binary| STANDARD.decode(binary.base64).ok())
                .map(Bytes::from)
                .ok_or_else(|| "this topic takes bytes: `data` must be {\"base64\": \"..\"} (value = \"binary\")".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_data_becomes_the_value_that_its_topic_wants() {
        let value = |kind, data: &'static str| publish_value(Protocol::Json, kind, &Bytes::from_static(data.as_bytes()));
        assert_eq!(value(ValueKind::Auto, "\"hello\"").unwrap(), "\"hello\"");
        assert_eq!(value(ValueKind::Json, "null").unwrap(), "null");
        assert_eq!(value(ValueKind::Text, "\"a\\n\"").unwrap(), "a\n");
        assert_eq!(value(ValueKind::Binary, "{\"base64\":\"aGk=\"}").unwrap(), "hi");
        assert!(value(ValueKind::Text, "1").is_err());
        assert!(value(ValueKind::Binary, "\"aGk=\"").is_err());
        assert!(value(ValueKind::Auto, "").is_err());
        assert_eq!(publish_value(Protocol::Protobuf, ValueKind::Text, &Bytes::from_static(b"\xff")).unwrap(), b"\xff"[..]);
    }
}
