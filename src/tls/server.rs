//! What a shard needs to accept TLS.

use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, NoServerSessionStorage, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SignatureScheme};

/// Tickets that a TLS 1.3 client is given: a WebSocket client comes back with one connection, and each ticket costs a record.
const TICKETS_PER_SESSION: usize = 1;

/// Certificates and settings as they were at one time. Immutable: shards share it.
#[derive(Clone)]
pub struct Server(pub(super) Arc<ServerConfig>);

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Server").field(&self.0.cert_resolver).finish()
    }
}

impl Server {
    pub(super) fn new(
        keys: Vec<Arc<CertifiedKey>>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Server, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(clients.unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_cert_resolver(Arc::new(ByName(keys)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = TICKETS_PER_SESSION;
        Ok(Server(Arc::new(config)))
    }
}

/// The library's choice of ciphers and key exchanges, from `ring`.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Chooses among certificates by the host that a client names. There are few: all are looked at.
struct ByName(Vec<Arc<CertifiedKey>>);

impl ByName {
    /// The first that is for the host and whose signatures the client understands; else the first whose signatures it understands.
    fn choose(&self, host: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let host = host.and_then(|host| ServerName::try_from(host).ok());
        let named = host.and_then(|host| self.0.iter().filter(usable).find(|key| is_for(key, &host)));
        named.or_else(|| self.0.iter().find(usable))
    }
}

fn is_for(key: &CertifiedKey, host: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.is_ok_and(|certificate| verify_server_name(&certificate, host).is_ok())
}

impl fmt::Debug for ByName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} certificates", self.0.len())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}
