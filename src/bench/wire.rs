//! As much of WebSocket and of the client protocol as a subscriber under load needs: whole frames out of bytes, and what they say.

use crate::kafka::load::stamp;

/// The value stands behind `"data":`, within so many bytes.
const HEAD_BYTES: usize = 160;

/// A whole unmasked frame at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Bytes of the frame, header included.
    pub bytes: usize,
}

/// What a frame says to a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Ping,
    Record {
        due_ns: u64,
        sequence: u64,
    },
    /// A close, or a push or reply that has no place in a run.
    Other(&'a [u8]),
}

/// The frame that the bytes begin with, once it is whole.
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (start, len): (usize, usize) = match bytes.get(1)? & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, len as usize),
    };
    let end = start.checked_add(len)?;
    Some(Frame { opcode: bytes[0] & 0x0f, payload: bytes.get(start..end)?, bytes: end })
}

impl<'a> Frame<'a> {
    /// What it says.
    pub fn said(&self) -> Said<'a> {
        if self.opcode == 1 && self.payload == b"{}" {
            return Said::Ping;
        }
        let head = &self.payload[..self.payload.len().min(HEAD_BYTES)];
        let data = head.windows(7).position(|window| window == b"\"data\":");
        match data.and_then(|at| stamp(&self.payload[at + 7..])) {
            Some((due_ns, sequence)) if self.opcode == 1 && head.starts_with(b"{\"push\":") => Said::Record { due_ns, sequence },
            _ => Said::Other(self.payload),
        }
    }

    /// It as text for people: a close with its code.
    pub fn describe(&self) -> String {
        match (self.opcode, self.payload) {
            (8, [high, low, reason @ ..]) => {
                format!("a close with code {} ({})", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
            }
            (8, _) => "a close without a code".to_owned(),
            (_, payload) => {
                let text = String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
                let what = ["unsubscribe", "disconnect"].into_iter().find(|word| text.contains(&format!("\"{word}\":")));
                format!("{}: {text}", what.map_or("a message that has no place here".to_owned(), |what| format!("a push of {what}")))
            }
        }
    }
}

/// A client's text frame; the mask is zero, which the protocol allows and costs nothing.
pub fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A push as a node would send it around a value, and where the value stands in it.
pub fn push(value: &[u8]) -> (Vec<u8>, usize) {
    const HEAD: &[u8] = b"{\"push\":{\"id\":1,\"pub\":{\"data\":";
    const TAIL: &[u8] = b",\"offset\":1000000,\"time\":1000000000000}}}";
    let len = HEAD.len() + value.len() + TAIL.len();
    let mut frame = vec![0x81];
    match len {
        0..126 => frame.push(len as u8),
        _ => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(HEAD);
    let at = frame.len();
    frame.extend_from_slice(value);
    frame.extend_from_slice(TAIL);
    (frame, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::load::{set_stamp, value};

    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode, payload.len() as u8];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn a_frame_is_taken_once_it_is_whole_and_not_a_byte_before() {
        for len in [0, 80, 125, 126, 300, 60_000] {
            let (mut bytes, at) = push(&value(len));
            set_stamp(&mut bytes[at..], 5, 9);
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
                assert_eq!(frame(&bytes[..cut]), None);
            }
            let whole = bytes.len();
            bytes.extend_from_slice(b"\x81\x02{}");
            let first = frame(&bytes).unwrap();
            assert_eq!((first.bytes, first.said()), (whole, Said::Record { due_ns: 5, sequence: 9 }));
            assert_eq!(frame(&bytes[whole..]).unwrap().said(), Said::Ping);
        }
        let mut long = vec![0x81, 127];
        long.extend_from_slice(&70_000_u64.to_be_bytes());
        assert_eq!(frame(&long), None);
        long.resize(10 + 70_000, b'x');
        assert_eq!(frame(&long).map(|frame| frame.bytes), Some(70_010));
        // A length that no memory holds is no whole frame.
        assert_eq!(frame(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, 0]), None);
    }

    #[test]
    fn closes_and_pushes_that_end_something_are_told_by_name() {
        let close = unmasked(8, &[&3008_u16.to_be_bytes()[..], b"slow"].concat());
        assert_eq!(frame(&close).unwrap().describe(), "a close with code 3008 (slow)");
        let lost = unmasked(1, br#"{"push":{"id":1,"unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#);
        let lost = frame(&lost).unwrap();
        assert!(matches!(lost.said(), Said::Other(_)));
        assert!(lost.describe().starts_with("a push of unsubscribe: ") && lost.describe().contains("2500"));
        let sent_away = unmasked(1, br#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#);
        assert!(frame(&sent_away).unwrap().describe().starts_with("a push of disconnect: "));
        assert!(matches!(frame(&unmasked(1, br#"{"push":{"id":1,"pub":{"data":{"t":1}}}}"#)).unwrap().said(), Said::Other(_)));
    }
}
