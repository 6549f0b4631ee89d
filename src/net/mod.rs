//! The shard's sockets: listeners, the accept loop, one small task per connection, and the non-blocking write, plain or through TLS.
//!
//! Runs on the shard's executor and knows nothing of subjects or sessions: bytes become events of a [`Host`], and whoever holds [`Sockets`] writes.
//! The only place that waits for sockets. Invariants: an idle connection holds no buffer (all read through one buffer of the shard); a socket that is not
//! read is the backpressure; every `Event::Opened` is followed by exactly one `Event::Closed`; what was written before a close is sent before the FIN.
//! It never blocks, never waits for one client on behalf of another, and sets no timer per connection.

pub mod accept;
pub mod connection;
mod encrypted;
mod handshakes;
pub mod host;
pub mod listener;
mod poller;
pub mod settings;
pub mod sockets;

pub use accept::accept;
pub use host::Host;
pub use listener::{Listening, ShardListener, listen, listen_once};
pub use poller::Poller;
pub use settings::NetSettings;
pub use sockets::{Refused, Sockets};
