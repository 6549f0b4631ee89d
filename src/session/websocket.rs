//! The inbound half of a WebSocket (RFC 6455): bytes in, whole unmasked messages out.
//!
//! Runs on the shard, owned by the connection's task. Sans-IO: whoever reads the socket feeds it, whoever wants messages asks for them; not asking is
//! the backpressure. Frame headers are tungstenite's. Invariants: however the bytes were cut, the same messages come out; it holds what was fed and
//! not yet asked for, and of an unfinished message at most `message_bytes_max` bytes; once everything is taken it holds no memory.
//! It never writes: pongs and close frames go through the outbox.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Bytes of a control frame's payload (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Close code of an empty close frame, never on the wire (RFC 6455, 7.1.5).
const NO_STATUS: u16 = 1005;

/// What came from the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// A whole text or binary message.
    Message(&'a [u8]),
    Ping(&'a [u8]),
    /// A close frame with its code, 1005 if it has none. Nothing comes after it.
    Close(u16),
}

/// The client broke the protocol: send a close frame with this code and end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn broken(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

const NOT_UTF8: Violation = Violation { code: 1007, reason: "text that is not UTF-8" };
const TOO_LARGE: Violation = Violation { code: 1009, reason: "message too large" };

/// See the module's documentation.
#[derive(Debug)]
pub struct WebSocketDecoder {
    /// Fed and not yet taken, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    message_bytes_max: usize,
    /// A message in several frames.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
    /// The last frame has been taken in; the bytes go with the next call.
    whole: bool,
}

/// Where the next message is.
enum Found {
    Nothing,
    Message(Range<usize>),
    Fragments,
    Ping(Range<usize>),
    Close(u16),
}

impl WebSocketDecoder {
    /// A decoder for messages of at most that many bytes.
    pub fn new(message_bytes_max: usize) -> WebSocketDecoder {
        WebSocketDecoder { buffer: Vec::new(), at: 0, message_bytes_max, fragments: None }
    }

    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity())
    }

    /// Takes bytes of the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` until more bytes are fed. After a close or a violation nothing sensible comes any more.
    pub fn next_message(&mut self) -> Result<Option<Inbound<'_>>, Violation> {
        if self.fragments.as_ref().is_some_and(|fragments| fragments.whole) {
            self.fragments = None;
        }
        Ok(match self.find()? {
            Found::Nothing => {
                if self.at == self.buffer.len() {
                    self.buffer = Vec::new();
                    self.at = 0;
                }
                None
            }
            Found::Message(range) => Some(Inbound::Message(&self.buffer[range])),
            Found::Fragments => self.fragments.as_ref().map(|fragments| Inbound::Message(&fragments.bytes)),
            Found::Ping(range) => Some(Inbound::Ping(&self.buffer[range])),
            Found::Close(code) => Some(Inbound::Close(code)),
        })
    }

    /// Takes frames until one completes something.
    fn find(&mut self) -> Result<Found, Violation> {
        loop {
            let mut cursor = Cursor::new(&self.buffer[self.at..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| broken("reserved opcode"))? else {
                return Ok(Found::Nothing);
            };
            let start = self.at + cursor.position() as usize;
            let Some(mask) = header.mask else { return Err(broken("client frames are masked")) };
            self.check(&header, length)?;
            // Checked against the limits above, so it fits.
            let payload = start..start + length as usize;
            if payload.end > self.buffer.len() {
                return Ok(Found::Nothing);
            }
            self.at = payload.end;
            unmask(&mut self.buffer[payload.clone()], mask);
            match header.opcode {
                OpCode::Control(Control::Ping) => return Ok(Found::Ping(payload)),
                OpCode::Control(Control::Close) => return close_code(&self.buffer[payload]).map(Found::Close),
                OpCode::Control(_) => {}
                OpCode::Data(Data::Continue) => {
                    // `check` made sure that there are some.
                    let Some(fragments) = &mut self.fragments else { continue };
                    fragments.bytes.extend_from_slice(&self.buffer[payload]);
                    if header.is_final {
                        fragments.whole = true;
                        return if fragments.is_text { utf8(&fragments.bytes) } else { Ok(()) }.map(|()| Found::Fragments);
                    }
                }
                OpCode::Data(kind) => {
                    let is_text = kind == Data::Text;
                    if !header.is_final {
                        self.fragments = Some(Box::new(Fragments { is_text, bytes: self.buffer[payload].to_vec(), whole: false }));
                        continue;
                    }
                    if is_text {
                        utf8(&self.buffer[payload.clone()])?;
                    }
                    return Ok(Found::Message(payload));
                }
            }
        }
    }

    /// Whether a frame may come here, before its payload has.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(broken("reserved bits without an extension"));
        }
        match (header.opcode, &self.fragments) {
            (OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)), _) => Err(broken("reserved opcode")),
            (OpCode::Control(_), _) if !header.is_final => Err(broken("control frame in fragments")),
            (OpCode::Control(_), _) if length > CONTROL_BYTES_MAX => Err(broken("control frame too long")),
            (OpCode::Control(_), _) => Ok(()),
            (OpCode::Data(Data::Continue), None) => Err(broken("continuation of nothing")),
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => Err(broken("message within a message")),
            (OpCode::Data(_), fragments) => {
                let before = fragments.as_ref().map_or(0, |fragments| fragments.bytes.len()) as u64;
                if length.saturating_add(before) > self.message_bytes_max as u64 { Err(TOO_LARGE) } else { Ok(()) }
            }
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mask_word = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ mask_word).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

fn utf8(bytes: &[u8]) -> Result<(), Violation> {
    std::str::from_utf8(bytes).map(|_| ()).map_err(|_| NOT_UTF8)
}

fn close_code(payload: &[u8]) -> Result<u16, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(NO_STATUS) } else { Err(broken("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(broken("close code that is not for the wire"));
    }
    utf8(reason).map(|()| code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What came out, owned.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Taken {
        Message(Vec<u8>),
        Ping(Vec<u8>),
        Close(u16),
        Violation(u16),
    }

    const TEXT: u8 = 1;
    const BINARY: u8 = 2;
    const CONTINUE: u8 = 0;
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;

    fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 91, 3, 200];
        let mut bytes = vec![opcode | if is_final { 0x80 } else { 0 }];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length @ 126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// Feeds pieces and takes everything after each; stops at a close or a violation.
    fn take_all(decoder: &mut WebSocketDecoder, pieces: &[&[u8]]) -> Vec<Taken> {
        let mut taken = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next_message() {
                    Ok(None) => break,
                    Ok(Some(Inbound::Message(payload))) => taken.push(Taken::Message(payload.to_vec())),
                    Ok(Some(Inbound::Ping(payload))) => taken.push(Taken::Ping(payload.to_vec())),
                    Ok(Some(Inbound::Close(code))) => {
                        taken.push(Taken::Close(code));
                        return taken;
                    }
                    Err(violation) => {
                        taken.push(Taken::Violation(violation.code));
                        return taken;
                    }
                }
            }
        }
        taken
    }

    fn of(bytes: &[u8]) -> Vec<Taken> {
        take_all(&mut WebSocketDecoder::new(1_000), &[bytes])
    }

    #[test]
    fn messages_fragments_and_controls_between_them_come_out_in_order() {
        let bytes = [
            frame(true, TEXT, "häl".as_bytes()),
            frame(false, BINARY, b"ab"),
            frame(true, PING, b"are you there"),
            frame(false, CONTINUE, b""),
            frame(true, PONG, b"ignored"),
            frame(true, CONTINUE, &[0xff, 0]),
            frame(true, TEXT, b""),
            frame(true, CLOSE, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = [
            Taken::Message("häl".as_bytes().to_vec()),
            Taken::Ping(b"are you there".to_vec()),
            Taken::Message(b"ab\xff\0".to_vec()),
            Taken::Message(Vec::new()),
            Taken::Close(1000),
        ];
        assert_eq!(of(&bytes), expected);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(take_all(&mut WebSocketDecoder::new(1_000), &single), expected);
    }

    #[test]
    fn an_idle_decoder_holds_no_memory() {
        let mut decoder = WebSocketDecoder::new(100_000);
        let bytes = [frame(true, TEXT, &[b'x'; 50_000]), frame(false, TEXT, b"a"), frame(true, CONTINUE, b"b")].concat();
        assert_eq!(take_all(&mut decoder, &[&bytes]).len(), 2);
        assert_eq!((decoder.buffer.capacity(), decoder.fragments.is_none()), (0, true));
    }

    #[test]
    fn violations_have_their_codes() {
        let violation = |bytes: &[u8]| match of(bytes).pop() {
            Some(Taken::Violation(code)) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(violation(b"\x81\x02hi"), 1002, "unmasked");
        assert_eq!(violation(&frame(true, 3, b"")), 1002, "reserved data opcode");
        assert_eq!(violation(&frame(true, 11, b"")), 1002, "reserved control opcode");
        assert_eq!(violation(&frame(true, 0x40 | TEXT, b"")), 1002, "reserved bit");
        assert_eq!(violation(&frame(false, PING, b"")), 1002, "fragmented control");
        assert_eq!(violation(&frame(true, PING, &[0; 126])), 1002, "long control");
        assert_eq!(violation(&frame(true, CONTINUE, b"")), 1002, "continuation of nothing");
        assert_eq!(violation(&[frame(false, TEXT, b""), frame(true, TEXT, b"")].concat()), 1002, "message in message");
        assert_eq!(violation(&frame(true, TEXT, b"\xff")), 1007);
        assert_eq!(violation(&[frame(false, TEXT, b"\xc3"), frame(true, CONTINUE, b"\x28")].concat()), 1007);
        assert_eq!(violation(&frame(true, CLOSE, b"\x03")), 1002);
        assert_eq!(violation(&frame(true, CLOSE, b"\x03\xed")), 1002, "1005 is not for the wire");
        assert_eq!(violation(&frame(true, CLOSE, b"\x03\xe8\xff")), 1007);
        assert_eq!(of(&frame(true, CLOSE, b"")), [Taken::Close(1005)]);
    }

    #[test]
    fn too_large_messages_are_refused_by_their_header_alone() {
        let header = |length: usize| frame(true, BINARY, &vec![0; length])[..8].to_vec();
        assert_eq!(of(&header(1_001)), [Taken::Violation(1009)]);
        assert_eq!(of(&header(1_000)), []);
        assert_eq!(of(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]), [Taken::Violation(1009)]);
        let split = [frame(false, BINARY, &[0; 600]), frame(true, CONTINUE, &[0; 401])].concat();
        assert_eq!(of(&split), [Taken::Violation(1009)]);
        let split = [frame(false, BINARY, &[0; 600]), frame(true, CONTINUE, &[0; 400])].concat();
        assert_eq!(of(&split), [Taken::Message(vec![0; 1_000])]);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_and_never_a_panic(
            frames in prop::collection::vec((any::<bool>(), prop::sample::select(vec![0_u8, 1, 2, 8, 9, 10, 3]), prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut bytes: Vec<u8> = frames.iter().flat_map(|(is_final, opcode, payload)| frame(*is_final, *opcode, payload)).collect();
            for (at, byte) in &edits {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(take_all(&mut WebSocketDecoder::new(1_000), &pieces), of(&bytes));
        }

        #[test]
        fn unmasking_is_the_same_for_every_length(payload in prop::collection::vec(any::<u8>(), 0..100), mask in any::<[u8; 4]>()) {
            let mut unmasked = payload.clone();
            unmask(&mut unmasked, mask);
            prop_assert!(unmasked.iter().enumerate().all(|(at, byte)| *byte == payload[at] ^ mask[at % 4]));
        }
    }
}
