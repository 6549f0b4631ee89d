//! Publications: a record as clients see it. Encoded once per record and form; nothing in it depends on the client.

use bytes::Bytes;

use crate::handoff::{Form, Offset, Protocol};
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

/// The publication alone (a JSON object, or a Protobuf message without length prefix), for subscribe and history replies.
pub fn encode_publication(_protocol: Protocol, _publication: &Publication<'_>) -> Bytes {
    unimplemented!()
}

/// A whole push in one WebSocket frame (header included, unmasked), ready for any outbox. Names the channel by `id` if the form is numeric.
pub fn encode_push(_form: Form, _channel: &str, _id: u64, _publication: &Publication<'_>) -> Bytes {
    unimplemented!()
}

/// Bytes of a WebSocket frame with a payload of that many bytes.
pub fn frame_len(payload: usize) -> usize {
    payload
        + if payload < 126 {
            2
        } else if payload < 65_536 {
            4
        } else {
            10
        }
}
