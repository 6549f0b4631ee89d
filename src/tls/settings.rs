//! What a listener with TLS is told.

use std::path::PathBuf;

/// The settings of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// One or more. A client that names no host, or one that no certificate is for, gets the first.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates (PEM) of the authorities that clients' certificates are checked against; none: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// A client without a certificate is refused. Without `client_ca` it is a mistake.
    pub client_required: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate (PEM), and behind it those of the authorities between it and a root.
    pub cert: PathBuf,
    /// Its private key (PEM: `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`), without a passphrase.
    pub key: PathBuf,
}
