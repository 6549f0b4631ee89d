//! What a record of a run carries: `{"due":MICROSECONDS,"n":NUMBER,"from":"SENDER","fill":"xxx"}`. It is found by scanning bytes, not by parsing JSON,
//! so other members, other orders and blanks after a colon do no harm.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// The shortest value of `write` with the longest numbers and a sender of 40 letters.
pub const VALUE_BYTES_MIN: u64 = 128;

/// The stamp of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// When it was due, microseconds since the Unix epoch.
    pub due_us: u64,
    /// From 1, growing by one for each record of a sender to a subject.
    pub number: u64,
    /// Empty if the value names none.
    pub from: &'a [u8],
}

/// Microseconds since the Unix epoch: the clock that machines share.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Puts a value of that many bytes, or a few more, in place of what is in the buffer.
pub fn write(value: &mut Vec<u8>, stamp: &Stamp<'_>, bytes: usize) {
    value.clear();
    // Writing to memory does not fail.
    let _ = write!(value, "{{\"due\":{},\"n\":{},\"from\":\"", stamp.due_us, stamp.number);
    value.extend_from_slice(stamp.from);
    value.extend_from_slice(b"\",\"fill\":\"");
    value.resize(value.len().max(bytes.saturating_sub(2)), b'x');
    value.extend_from_slice(b"\"}");
}

/// The stamp in a value, if it has one.
pub fn find(value: &[u8]) -> Option<Stamp<'_>> {
    let due_us = digits(member(value, b"\"due\":")?)?;
    let number = digits(member(value, b"\"n\":")?)?;
    let from = member(value, b"\"from\":").and_then(|rest| rest.strip_prefix(b"\"")).unwrap_or_default();
    let end = from.iter().position(|&byte| byte == b'"').unwrap_or(0);
    Some(Stamp { due_us, number, from: &from[..end] })
}

/// Where some bytes stand in others.
pub fn place_of(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn member<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Some(value[place_of(value, name)? + name.len()..].trim_ascii_start())
}

/// The number that some bytes begin with.
pub fn digits(bytes: &[u8]) -> Option<u64> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    bytes[..count].iter().try_fold(0, number).filter(|_| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_as_it_was_written_and_the_value_is_json() {
        let mut value = Vec::new();
        for (stamp, bytes) in [
            (Stamp { due_us: 1_700_000_000_000_000, number: 1, from: b"a-1" }, 200),
            (Stamp { due_us: u64::MAX, number: u64::MAX, from: &[b'f'; 40] }, VALUE_BYTES_MIN as usize),
        ] {
            write(&mut value, &stamp, bytes);
            assert_eq!((value.len(), find(&value)), (bytes, Some(stamp)));
            serde_json::from_slice::<serde_json::Value>(&value).expect("it is JSON");
        }
    }

    #[test]
    fn other_orders_and_blanks_do_no_harm_and_other_values_have_no_stamp() {
        let stamp = find(br#"{"from": "x", "other":[1], "n": 7, "due": 9}"#);
        assert_eq!(stamp, Some(Stamp { due_us: 9, number: 7, from: b"x" }));
        assert_eq!(find(br#"{"due":1,"n":2}"#), Some(Stamp { due_us: 1, number: 2, from: b"" }));
        for wrong in [&b"{}"[..], br#"{"due":"1","n":2}"#, br#"{"n":2}"#, br#"{"due":99999999999999999999,"n":1}"#] {
            assert_eq!(find(wrong), None);
        }
    }
}
