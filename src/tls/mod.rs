//! TLS for a shard's sockets, without I/O: ciphertext in, plaintext out, and the other way round.
//!
//! [`Certificates`] reads files and belongs to a housekeeping thread; it makes a [`Server`], immutable and cheap to clone, which shards are handed
//! anew after a reload. A [`Session`] is one connection and belongs to its shard. It holds no buffer while its peer sends whole records: what is
//! decrypted is in the reader's buffer, what is encrypted goes to the writer's.
//!
//! * TLS 1.2 and 1.3, `http/1.1` only, no early data, no renegotiation, no session cache: a session is resumed by its ticket, on any shard, because all
//!   have the keys of one [`Tickets`].
//! * A ticket stands for a client's certificate. It is bound to the authorities that the certificate was checked against, so it is worthless on a
//!   listener with others, and after a reload that changes them.
//! * Nothing of a peer makes a session panic or hold more than `HANDSHAKE_BYTES_MAX` of what it sent, or one record once it is open.

mod certificates;
pub mod client;
mod current;
pub mod pinned;
mod server;
mod session;
mod settings;
mod tickets;
mod violation;

pub use certificates::{CertificateEnd, Certificates};
pub use current::CurrentServer;
pub use server::Server;
pub use session::{HANDSHAKE_BYTES_MAX, RECORD_BYTES_MAX, Received, Session};
pub use settings::{CertificateFiles, TlsSettings};
pub use tickets::Tickets;
pub use violation::TlsViolation;

#[cfg(test)]
mod tests;
