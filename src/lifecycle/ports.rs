//! The ports for clients, as they are opened at the start: a socket for each shard on each, and the certificates of those with TLS.

use std::net::SocketAddr;

use super::error::LifecycleError;
use crate::config::{ListenSettings, ListenerSettings};
use crate::net::{self, NetSettings, ShardListener};
use crate::tls::{Certificates, CurrentServer, Tickets, TlsSettings};

/// Certificates that are looked at while the node runs, and who is told of other ones.
#[derive(Debug)]
pub(super) struct WatchedCertificates {
    pub certificates: Certificates,
    pub current: CurrentServer,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ports {
    /// As bound.
    pub addresses: Vec<SocketAddr>,
    /// For each shard.
    pub listeners: Vec<Vec<ShardListener>>,
    pub certificates: Vec<WatchedCertificates>,
    pub admin: Option<CurrentServer>,
}

impl Ports {
    pub fn open(listen: &ListenSettings, shards: usize, settings: &NetSettings) -> Result<Ports, LifecycleError> {
        let mut ports =
            Ports { addresses: Vec::new(), listeners: (0..shards).map(|_| Vec::new()).collect(), certificates: Vec::new(), admin: None };
        // A session goes on with any shard, on any port that checks clients by the same authorities.
        let tickets = Tickets::new().map_err(LifecycleError::Tickets)?;
        if let Some(files) = &listen.admin_tls {
            let tls = TlsSettings { certificates: vec![files.clone()], ..TlsSettings::default() };
            ports.admin = Some(ports.watch(&tls, &tickets)?);
        }
        for ListenerSettings { address, tls } in &listen.listeners {
            let address = *address;
            let current = match tls {
                Some(tls) => Some(ports.watch(tls, &tickets)?),
                None => None,
            };
            let listening = net::listen(address, shards, settings).map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => LifecycleError::AddressInUse { address },
                _ => LifecycleError::Listen { address, error },
            })?;
            ports.addresses.push(listening.address);
            for (listener, shard) in listening.listeners.into_iter().zip(&mut ports.listeners) {
                shard.push(ShardListener { listener, tls: current.clone() });
            }
        }
        Ok(ports)
    }

    fn watch(&mut self, tls: &TlsSettings, tickets: &Tickets) -> Result<CurrentServer, LifecycleError> {
        let certificates = Certificates::open(tls, tickets).map_err(LifecycleError::Tls)?;
        let current = CurrentServer::new(certificates.server());
        self.certificates.push(WatchedCertificates { certificates, current: current.clone() });
        Ok(current)
    }
}
