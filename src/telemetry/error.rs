//! Why telemetry cannot start.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("listen.admin = \"{address}\" is in use by another process; stop it, or give another port")]
    AddressInUse { address: SocketAddr },
    #[error(
        "listen.admin = \"{address}\" cannot be listened on: {error}; give an address of this machine and a port that this user may use"
    )]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot start a thread for listen.admin: {0}")]
    Thread(io::Error),
}
