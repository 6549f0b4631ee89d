//! The inbound half of a WebSocket (RFC 6455): bytes in, whole commands out.
//!
//! Runs on the shard, owned by the connection's task. Sans-IO: whoever reads the socket feeds it, whoever wants commands asks for them; not asking is
//! the backpressure. Frame headers are tungstenite's. A message may be of any size, for an SDK that comes back sends all its subscriptions in one:
//! commands are handed out as they come, and only a single one has a limit.
//! Invariants: however the bytes were cut, the same commands come out; it holds what was fed and not yet asked for, and of an unfinished command at
//! most `command_bytes_max` bytes; once everything is taken it holds no memory.
//! It never writes: pongs and close frames go through the outbox.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::ids::Protocol;

/// Bytes of a control frame's payload (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Close code of an empty close frame, never on the wire (RFC 6455, 7.1.5).
const NO_STATUS: u16 = 1005;
/// Bytes of the longest length prefix in Protobuf.
const LENGTH_BYTES_MAX: usize = 10;

/// What came from the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// Whole commands of a text or binary message: the message, or a part of it.
    Commands(&'a [u8]),
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
const TOO_LARGE: Violation = Violation { code: 1009, reason: "command too large" };

/// What a server answers to `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    tungstenite::handshake::derive_accept_key(key)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct WebSocketDecoder {
    protocol: Protocol,
    /// Fed and not yet taken, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    command_bytes_max: usize,
    /// A message that has not come whole, or in one frame.
    message: Option<Box<Message>>,
}

/// A message that comes in pieces.
#[derive(Debug)]
struct Message {
    is_text: bool,
    /// The frame whose payload is coming.
    frame: Option<Frame>,
    /// Unmasked, and not handed out but for the first `given` bytes.
    bytes: Vec<u8>,
    given: usize,
    /// No command ends before this place.
    searched: usize,
    /// All has come.
    is_whole: bool,
}

impl Message {
    fn new(kind: Data) -> Message {
        Message { is_text: kind == Data::Text, frame: None, bytes: Vec::new(), given: 0, searched: 0, is_whole: false }
    }

    /// What the first `len` bytes hold, nothing before `searched`.
    fn extent(&self, protocol: Protocol, command_bytes_max: usize, len: usize) -> Extent {
        let (bytes, is_whole) = (&self.bytes[..len], self.is_whole && len == self.bytes.len());
        match protocol {
            Protocol::Json => lines(bytes, self.searched, command_bytes_max, is_whole),
            Protocol::Protobuf => prefixed(bytes, command_bytes_max, is_whole),
        }
    }
}

#[derive(Debug)]
struct Frame {
    left: u64,
    mask: [u8; 4],
    is_final: bool,
}

/// Where the next thing is.
enum Found {
    Nothing,
    /// A whole message in the buffer.
    Commands(Range<usize>),
    /// So many bytes at the beginning of `message`.
    Part(usize),
    Ping(Range<usize>),
    Close(u16),
}

/// What the beginning of a message holds.
struct Extent {
    /// Bytes of whole commands, none too large.
    whole: usize,
    /// The command behind them is too large.
    oversize: bool,
}

impl WebSocketDecoder {
    /// A decoder for commands of at most that many bytes each.
    pub fn new(protocol: Protocol, command_bytes_max: usize) -> WebSocketDecoder {
        WebSocketDecoder { protocol, buffer: Vec::new(), at: 0, command_bytes_max, message: None }
    }

    /// Bytes of memory that it holds.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Takes bytes of the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What came next; `None` until more bytes are fed. After a close or a violation nothing sensible comes any more.
    pub fn next_inbound(&mut self) -> Result<Option<Inbound<'_>>, Violation> {
        if let Some(message) = &mut self.message {
            message.bytes.drain(..message.given);
            (message.given, message.searched) = (0, message.searched.saturating_sub(message.given));
        }
        Ok(match self.find()? {
            Found::Nothing => {
                if self.at == self.buffer.len() {
                    self.buffer = Vec::new();
                    self.at = 0;
                }
                None
            }
            Found::Commands(range) => Some(Inbound::Commands(&self.buffer[range])),
            Found::Part(len) => self.message.as_ref().map(|message| Inbound::Commands(&message.bytes[..len])),
            Found::Ping(range) => Some(Inbound::Ping(&self.buffer[range])),
            Found::Close(code) => Some(Inbound::Close(code)),
        })
    }

    /// Takes frames until one completes something.
    fn find(&mut self) -> Result<Found, Violation> {
        loop {
            if let Some(part) = self.take_payload()? {
                return Ok(Found::Part(part));
            }
            if self.message.as_ref().is_some_and(|message| message.frame.is_some()) {
                return Ok(Found::Nothing);
            }
            let mut cursor = Cursor::new(&self.buffer[self.at..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| broken("reserved opcode"))? else {
                return Ok(Found::Nothing);
            };
            let start = self.at + cursor.position() as usize;
            let Some(mask) = header.mask else { return Err(broken("client frames are masked")) };
            self.check(&header, length)?;
            let here = length <= (self.buffer.len() - start) as u64;
            match header.opcode {
                OpCode::Control(control) => {
                    if !here {
                        return Ok(Found::Nothing);
                    }
                    let payload = start..start + length as usize;
                    self.at = payload.end;
                    unmask(&mut self.buffer[payload.clone()], mask);
                    match control {
                        Control::Ping => return Ok(Found::Ping(payload)),
                        Control::Close => return close_code(&self.buffer[payload]).map(Found::Close),
                        _ => {}
                    }
                }
                // The usual case: nothing is copied.
                OpCode::Data(kind @ (Data::Text | Data::Binary)) if here && header.is_final && length <= self.command_bytes_max as u64 => {
                    let payload = start..start + length as usize;
                    self.at = payload.end;
                    unmask(&mut self.buffer[payload.clone()], mask);
                    let bytes = &self.buffer[payload.clone()];
                    if kind == Data::Binary || utf8(bytes).is_ok() {
                        return Ok(Found::Commands(payload));
                    }
                    // The commands before the one that is no text come out, as they do when the message comes in pieces.
                    self.message = Some(Box::new(Message { bytes: bytes.to_vec(), is_whole: true, ..Message::new(kind) }));
                }
                OpCode::Data(kind) => {
                    self.at = start;
                    // `check` made sure that a continuation has something to continue.
                    let message = self.message.get_or_insert_with(|| Box::new(Message::new(kind)));
                    message.frame = Some(Frame { left: length, mask, is_final: header.is_final });
                }
            }
        }
    }

    /// Takes what has come of a frame's payload; gives the length of the whole commands that the message begins with, if it does with any.
    fn take_payload(&mut self) -> Result<Option<usize>, Violation> {
        let Some(message) = &mut self.message else { return Ok(None) };
        if let Some(frame) = &mut message.frame {
            let some = frame.left.min((self.buffer.len() - self.at) as u64) as usize;
            let from = message.bytes.len();
            message.bytes.extend_from_slice(&self.buffer[self.at..self.at + some]);
            unmask(&mut message.bytes[from..], frame.mask);
            frame.mask.rotate_left(some % 4);
            frame.left -= some as u64;
            self.at += some;
            if frame.left == 0 {
                message.is_whole = frame.is_final;
                message.frame = None;
            }
        }
        let Extent { mut whole, oversize } = message.extent(self.protocol, self.command_bytes_max, message.bytes.len());
        if whole > 0 {
            if message.is_text
                && let Err(error) = std::str::from_utf8(&message.bytes[..whole])
            {
                whole = message.extent(self.protocol, self.command_bytes_max, error.valid_up_to().max(message.searched)).whole;
                if whole == 0 {
                    return Err(NOT_UTF8);
                }
            }
            message.given = whole;
            message.searched = whole;
            return Ok(Some(whole));
        }
        if oversize {
            return Err(TOO_LARGE);
        }
        message.searched = message.bytes.len();
        if message.is_whole {
            self.message = None;
        }
        Ok(None)
    }

    /// Whether a frame may come here, before its payload has.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(broken("reserved bits without an extension"));
        }
        match (header.opcode, &self.message) {
            (OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)), _) => Err(broken("reserved opcode")),
            (OpCode::Control(_), _) if !header.is_final => Err(broken("control frame in fragments")),
            (OpCode::Control(_), _) if length > CONTROL_BYTES_MAX => Err(broken("control frame too long")),
            (OpCode::Control(_), _) => Ok(()),
            (OpCode::Data(Data::Continue), None) => Err(broken("continuation of nothing")),
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => Err(broken("message within a message")),
            (OpCode::Data(_), _) => Ok(()),
        }
    }
}

/// Commands in JSON are lines. No line ends before `searched`; the last one of a whole message needs no line feed.
fn lines(bytes: &[u8], mut searched: usize, command_bytes_max: usize, is_whole: bool) -> Extent {
    let mut whole = 0;
    while let Some(line_feed) = bytes[searched..].iter().position(|byte| *byte == b'\n') {
        let end = searched + line_feed;
        if end - whole > command_bytes_max {
            return Extent { whole, oversize: true };
        }
        whole = end + 1;
        searched = whole;
    }
    let oversize = bytes.len() - whole > command_bytes_max;
    Extent { whole: if is_whole && !oversize { bytes.len() } else { whole }, oversize }
}

/// Commands in Protobuf have their length before them. What makes no sense is handed out to whoever reads commands, and is malformed there.
fn prefixed(bytes: &[u8], command_bytes_max: usize, is_whole: bool) -> Extent {
    let mut whole = 0;
    while whole < bytes.len() {
        let mut rest = &bytes[whole..];
        match prost::decode_length_delimiter(&mut rest) {
            Ok(len) if len > command_bytes_max => return Extent { whole, oversize: true },
            Ok(len) if len <= rest.len() => whole = bytes.len() - rest.len() + len,
            Err(_) if bytes.len() - whole >= LENGTH_BYTES_MAX => whole = bytes.len(),
            _ if is_whole => whole = bytes.len(),
            _ => break,
        }
    }
    Extent { whole, oversize: false }
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
        Command(Vec<u8>),
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
                match decoder.next_inbound() {
                    Ok(None) => break,
                    Ok(Some(Inbound::Commands(some))) => {
                        taken.extend(some.split_inclusive(|byte| *byte == b'\n').map(|line| Taken::Command(line.to_vec())))
                    }
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
        take_all(&mut WebSocketDecoder::new(Protocol::Json, 1_000), &[bytes])
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
            frame(true, TEXT, b"{}\n{1}"),
            frame(true, CLOSE, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = [
            Taken::Command("häl".as_bytes().to_vec()),
            Taken::Ping(b"are you there".to_vec()),
            Taken::Command(b"ab\xff\0".to_vec()),
            Taken::Command(b"{}\n".to_vec()),
            Taken::Command(b"{1}".to_vec()),
            Taken::Close(1000),
        ];
        assert_eq!(of(&bytes), expected);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(take_all(&mut WebSocketDecoder::new(Protocol::Json, 1_000), &single), expected);
    }

    #[test]
    fn an_idle_decoder_holds_no_memory() {
        let mut decoder = WebSocketDecoder::new(Protocol::Json, 100_000);
        let bytes = [frame(true, TEXT, &[b'x'; 50_000]), frame(false, TEXT, b"a"), frame(true, CONTINUE, b"b")].concat();
        assert_eq!(take_all(&mut decoder, &[&bytes]).len(), 2);
        assert_eq!((decoder.buffer.capacity(), decoder.message.is_none()), (0, true));
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
    fn a_message_may_be_of_any_size_and_a_command_not() {
        let line = |length: usize| [vec![b'x'; length], b"\n".to_vec()].concat();
        let lines: Vec<Vec<u8>> = (0..3_000).map(|number| line(number % 1_001)).collect();
        let bytes = frame(true, TEXT, &lines.concat());
        let expected: Vec<Taken> = lines.into_iter().map(Taken::Command).collect();
        let mut decoder = WebSocketDecoder::new(Protocol::Json, 1_000);
        let mut taken = Vec::new();
        for piece in bytes.chunks(700) {
            taken.extend(take_all(&mut decoder, &[piece]));
            assert!(decoder.held_bytes() <= 2 * 1_700, "{} bytes are held", decoder.held_bytes());
        }
        assert_eq!((taken == expected, of(&bytes) == expected), (true, true));

        let large = |lines: &[Vec<u8>]| of(&frame(true, TEXT, &lines.concat()));
        assert_eq!(large(&[line(1_001)]), [Taken::Violation(1009)]);
        assert_eq!(large(&[line(3), line(1_001)]), [Taken::Command(b"xxx\n".to_vec()), Taken::Violation(1009)]);
        assert_eq!(of(&frame(true, TEXT, &[b'x'; 1_001])), [Taken::Violation(1009)]);
        assert_eq!(of(&frame(true, TEXT, &[b'x'; 1_000])), [Taken::Command(vec![b'x'; 1_000])]);
        let endless = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(of(&[&endless[..], &[b'x'; 1_000]].concat()), []);
        assert_eq!(of(&[&endless[..], &[b'x'; 1_001]].concat()), [Taken::Violation(1009)]);
        let split = [frame(false, BINARY, &[0; 600]), frame(true, CONTINUE, &[0; 401])].concat();
        assert_eq!(of(&split), [Taken::Violation(1009)]);
        let split = [frame(false, BINARY, &[0; 600]), frame(true, CONTINUE, &[0; 400])].concat();
        assert_eq!(of(&split), [Taken::Command(vec![0; 1_000])]);
    }

    #[test]
    fn commands_in_protobuf_are_told_apart_by_their_lengths() {
        let command = |length: usize| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(length as u64, &mut bytes);
            bytes.resize(bytes.len() + length, 7);
            bytes
        };
        let commands: Vec<u8> = (0..400).flat_map(|number| command(number % 300)).collect();
        let bytes = frame(true, BINARY, &commands);
        for piece in [1, 3, 1_000, bytes.len()] {
            let mut decoder = WebSocketDecoder::new(Protocol::Protobuf, 300);
            let (mut taken, mut most) = (Vec::new(), 0);
            for piece in bytes.chunks(piece) {
                decoder.feed(piece);
                while let Some(Inbound::Commands(some)) = decoder.next_inbound().unwrap() {
                    let Extent { whole, oversize } = prefixed(some, 300, false);
                    assert_eq!((whole, oversize), (some.len(), false), "only whole commands are handed out");
                    taken.extend_from_slice(some);
                }
                most = most.max(decoder.held_bytes());
            }
            assert!(taken == commands && most <= 3 * (piece + 302), "{most} bytes are held");
        }
        let refused = |bytes: &[u8]| {
            let mut decoder = WebSocketDecoder::new(Protocol::Protobuf, 300);
            decoder.feed(&frame(false, BINARY, bytes));
            decoder.next_inbound().map(|inbound| matches!(inbound, Some(Inbound::Commands(_))))
        };
        assert_eq!(refused(&[0xad, 0x02]), Err(TOO_LARGE), "by its length alone");
        assert_eq!(refused(&[0xff; 10]), Ok(true), "malformed is for the reader of commands to say");
    }

    #[test]
    fn the_commands_before_text_that_is_not_utf8_come_out_however_the_bytes_were_cut() {
        let bytes = frame(true, TEXT, b"one\ntwo\nthr\xff\nfour\n");
        let expected = [Taken::Command(b"one\n".to_vec()), Taken::Command(b"two\n".to_vec()), Taken::Violation(1007)];
        assert_eq!(of(&bytes), expected);
        for cut in 0..bytes.len() {
            assert_eq!(
                take_all(&mut WebSocketDecoder::new(Protocol::Json, 1_000), &[&bytes[..cut], &bytes[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
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
            prop_assert_eq!(take_all(&mut WebSocketDecoder::new(Protocol::Json, 1_000), &pieces), of(&bytes));
        }

        #[test]
        fn unmasking_is_the_same_for_every_length(payload in prop::collection::vec(any::<u8>(), 0..100), mask in any::<[u8; 4]>()) {
            let mut unmasked = payload.clone();
            unmask(&mut unmasked, mask);
            prop_assert!(unmasked.iter().enumerate().all(|(at, byte)| *byte == payload[at] ^ mask[at % 4]));
        }
    }
}
