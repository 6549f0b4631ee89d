//! Bounds of a shard's sockets.

use crate::http::HeadLimits;
use crate::limits::INBOUND_BYTES_MAX;

/// Settings of one shard's sockets. Bytes are bytes, times milliseconds.
#[derive(Clone, Debug)]
pub struct NetSettings {
    /// WebSocket connections of one shard; upgrades over it get 503.
    pub connections_max: usize,
    /// `SO_SNDBUF` (the kernel doubles it): bytes that wait in the kernel for a client that does not read. Less throttles clients far away (bytes per
    /// round trip), more hides a slow client from its outbox bound.
    pub send_buffer_bytes: usize,
    /// `TCP_NOTSENT_LOWAT`: bytes the kernel takes beyond what it has sent.
    pub not_sent_bytes: u32,
    /// How long a client has to send its request head.
    pub head_timeout_ms: u64,
    pub head: HeadLimits,
    /// How long an HTTP connection may stay idle between requests.
    pub idle_timeout_ms: u64,
    /// Largest command of a client. A WebSocket message may hold any number of them.
    pub command_bytes_max: usize,
    /// Bytes of unfinished commands and request heads of all clients of the shard; one too many is cut off (a WebSocket with 1013), and its SDK
    /// comes back.
    pub inbound_bytes_max: usize,
    /// TLS handshakes that the shard begins in a second.
    pub handshakes_per_second: u32,
}

impl Default for NetSettings {
    fn default() -> Self {
        NetSettings {
            connections_max: 200_000,
            send_buffer_bytes: 128 << 10,
            not_sent_bytes: 64 << 10,
            head_timeout_ms: 10_000,
            head: HeadLimits::default(),
            idle_timeout_ms: 60_000,
            command_bytes_max: 2_000_000,
            inbound_bytes_max: INBOUND_BYTES_MAX,
            handshakes_per_second: 500,
        }
    }
}
