//! The WebSocket codec: placeholder of the signatures until it is written.

pub struct WebSocketDecoder(Vec<u8>);
pub enum Inbound<'a> {
    Message(&'a [u8]),
    Ping(&'a [u8]),
    Close(u16),
}
pub struct Violation {
    pub code: u16,
    pub reason: &'static str,
}
impl WebSocketDecoder {
    pub fn new(_protocol: crate::handoff::Protocol, _max: usize) -> Self {
        Self(Vec::new())
    }
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes)
    }
    pub fn next_message(&mut self) -> Result<Option<Inbound<'_>>, Violation> {
        Ok(None)
    }
}
