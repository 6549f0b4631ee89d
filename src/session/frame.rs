//! Outbound WebSocket frames: unmasked, unfragmented, each in one allocation. A frame is made once and may go to any number of clients.

use bytes::{Buf as _, Bytes};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::ids::Protocol;

/// Room for the longest header of an unmasked frame.
const HEADER_MAX: usize = 10;

/// Writes a payload with room for its header before it.
pub(super) struct FrameWriter {
    buffer: Vec<u8>,
    opcode: OpCode,
}

impl FrameWriter {
    /// A text (JSON) or binary (Protobuf) frame with a payload of about that many bytes.
    pub(super) fn with_capacity(protocol: Protocol, payload: usize) -> FrameWriter {
        let opcode = match protocol {
            Protocol::Json => OpCode::Data(Data::Text),
            Protocol::Protobuf => OpCode::Data(Data::Binary),
        };
        FrameWriter::new(opcode, payload)
    }

    /// A close or pong frame.
    pub(super) fn control(control: Control) -> FrameWriter {
        FrameWriter::new(OpCode::Control(control), 125)
    }

    fn new(opcode: OpCode, payload: usize) -> FrameWriter {
        let mut buffer = Vec::with_capacity(HEADER_MAX + payload);
        buffer.resize(HEADER_MAX, 0);
        FrameWriter { buffer, opcode }
    }

    /// Where the payload is appended; what is there already must stay.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The frame, header first.
    pub(super) fn finish(mut self) -> Bytes {
        let header = FrameHeader { is_final: true, opcode: self.opcode, ..FrameHeader::default() };
        let len = (self.buffer.len() - HEADER_MAX) as u64;
        let start = HEADER_MAX - header.len(len);
        // The slice has exactly the header's length, so this does not fail.
        let _ = header.format(len, &mut &mut self.buffer[start..HEADER_MAX]);
        let mut frame = Bytes::from(self.buffer);
        frame.advance(start);
        frame
    }
}

/// The payload of one of our frames.
#[cfg(test)]
pub(crate) fn payload_of(frame: &[u8]) -> &[u8] {
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_shortest_header_that_fits() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut frame = FrameWriter::with_capacity(Protocol::Json, len);
            frame.payload().resize(HEADER_MAX + len, b'x');
            let frame = frame.finish();
            assert_eq!((frame.len(), frame[0]), (head + len, 0x81));
            assert_eq!(payload_of(&frame).len(), len);
        }
    }
}
