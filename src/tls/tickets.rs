//! The keys of session tickets.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io;
use std::sync::Arc;

use rustls::crypto::ring::Ticketer;
use rustls::server::ProducesTickets;

/// The keys that sessions are resumed with: one for the process, so that a client is known on whatever shard it comes back to, and after its
/// certificates were read again. They change every six hours, and are in memory only: after a restart clients make a full handshake.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn new() -> io::Result<Tickets> {
        Ticketer::new().map(Tickets).map_err(io::Error::other)
    }

    /// Tickets that only those take who check clients in the same way: `scope` is all that this depends on.
    pub(super) fn bound_to(&self, scope: impl Hash) -> Arc<dyn ProducesTickets> {
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        Arc::new(Bound { tickets: self.0.clone(), scope: hasher.finish().to_le_bytes() })
    }
}

/// The library takes a ticket's word for who the client is and looks at no authority again.
#[derive(Debug)]
struct Bound {
    tickets: Arc<dyn ProducesTickets>,
    /// In front of each ticket's contents, below its encryption. A plain hash is enough: what is hashed is the operator's.
    scope: [u8; 8],
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&[&self.scope, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(cipher)?.strip_prefix(&self.scope).map(<[u8]>::to_vec)
    }
}
