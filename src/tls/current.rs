//! The server of the moment, for those who accept connections.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::server::Server;

/// What a listener's new connections are served by: shards look, without waiting, and housekeeping puts another in its place. Connections that are there
/// stay with what they began with.
#[derive(Clone, Debug)]
pub struct CurrentServer(Arc<ArcSwap<Server>>);

impl CurrentServer {
    pub fn new(server: Server) -> CurrentServer {
        CurrentServer(Arc::new(ArcSwap::from_pointee(server)))
    }

    /// What new connections are served by now.
    pub fn now(&self) -> Server {
        Server::clone(&self.0.load())
    }

    /// Serves new connections by another.
    pub fn set(&self, server: Server) {
        self.0.store(Arc::new(server));
    }
}
