//! Why a node cannot start or go on: one line each.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::cores::CoresError;
use crate::entitlement::FileError;
use crate::executor::ShardFailed;
use crate::kafka::KafkaFailed;
use crate::telemetry::TelemetryError;

#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cores(#[from] CoresError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Keys or revocations.
    #[error("entitlement: {0}")]
    Entitlement(#[from] FileError),
    #[error("listen.tls: {0}")]
    Tls(FileError),
    #[error("the keys of TLS session tickets cannot be made: {0}")]
    Tickets(io::Error),
    #[error(transparent)]
    Shard(#[from] ShardFailed),
    #[error("listen.address = \"{address}\" is in use by another process; stop it, or give another port")]
    AddressInUse { address: SocketAddr },
    #[error(
        "listen.address = \"{address}\" cannot be listened on: {error}; give an address of this machine and a port that this user may use"
    )]
    Listen { address: SocketAddr, error: io::Error },
    #[error("signals cannot be listened for: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Kafka(#[from] KafkaFailed),
    /// The metadata reader's own words: what was asked for is not there.
    #[error("{0}")]
    Topics(String),
    /// Of `demo`, whose addresses come from the command line.
    #[error("{address} is in use by another process; stop it, or give another port with --{option} (0 takes a free one)")]
    DemoPortInUse { address: SocketAddr, option: &'static str },
    #[error("the embedded Kafka of the demo cannot be started: {0}")]
    Embedded(String),
    #[error("shard {0} has ended by itself; its last words are above")]
    ShardEnded(usize),
}
