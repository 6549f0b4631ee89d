//! What a connection's task needs of the shard that it runs on.

use std::cell::RefMut;

use super::Sockets;
use crate::handoff::ConnectionKey;
use crate::shard::Event;

/// The shard as its sockets see it. Borrows end before any of these returns control to the executor, and `handle` may use the sockets, so a
/// connection's task never holds `sockets()` while it calls `handle`.
pub trait Host: 'static {
    /// The shard's sockets.
    fn sockets(&self) -> RefMut<'_, Sockets>;
    /// The buffer that all connections read into.
    fn read_buffer(&self) -> RefMut<'_, Box<[u8]>>;
    /// Takes an event, and sees to it that a turn follows.
    fn handle(&self, event: Event<'_>);
    /// Whether the connection may be read now.
    fn reads(&self, connection: ConnectionKey) -> bool;
    /// Monotonic time.
    fn now_ms(&self) -> u64;
}
