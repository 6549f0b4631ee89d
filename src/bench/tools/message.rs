//! WebSocket messages as bytes: whole ones out of what was read, masked ones into what is to be written.

/// The longest frame of a server that is read.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub is_final: bool,
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Of the frame, header included.
    pub bytes: usize,
}

/// What a server may not send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame that is masked or longer than {FRAME_BYTES_MAX} bytes")]
pub struct BadFrame;

/// The frame that the bytes begin with, once it is whole.
///
/// # Errors
/// It never becomes one.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, BadFrame> {
    let (Some(&first), Some(&second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    let head = match second {
        126 => 4,
        127 => 10,
        0..126 => 2,
        _ => return Err(BadFrame),
    };
    let Some(length) = bytes.get(2..head) else { return Ok(None) };
    let length = match head {
        2 => u64::from(second),
        _ => length.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
    };
    if length > FRAME_BYTES_MAX as u64 {
        return Err(BadFrame);
    }
    let end = head + length as usize;
    Ok(bytes.get(head..end).map(|payload| Frame { is_final: first & 0x80 != 0, opcode: first & 0x0f, payload, bytes: end }))
}

/// Appends a client's message; the mask is zero, which the protocol allows and costs nothing.
pub fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        for length in [0_usize, 125, 126, 65_535, 65_536] {
            let mut sent = Vec::new();
            put(&mut sent, 2, &vec![b'a'; length]);
            // A server's frame is a client's without the mask.
            let head = sent.len() - length - 4;
            sent.drain(head..head + 4);
            sent[1] &= 0x7f;
            for cut in [0, 1, 2, 3, sent.len() - 1] {
                assert!(cut >= sent.len() || frame(&sent[..cut]) == Ok(None), "{length} {cut}");
            }
            let whole = sent.len();
            sent.push(0x81);
            let taken = frame(&sent).expect("a good frame").expect("a whole frame");
            assert_eq!((taken.is_final, taken.opcode, taken.payload.len(), taken.bytes), (true, 2, length, whole));
        }
        assert_eq!(frame(&[0x82, 0x85]), Err(BadFrame));
        assert_eq!(frame(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]), Err(BadFrame));
    }
}
