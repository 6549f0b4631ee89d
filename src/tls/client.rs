//! A client's side of TLS on a socket that does not block: for the load tools. Servers are checked against the authorities of a file, or not at all.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::server::provider;

/// What all connections of a client trust. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Trusts the certificates of a PEM file, and nothing else.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate that can stand at the end of a chain.
    pub fn open(authorities: &Path) -> io::Result<Client> {
        let wrong =
            |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", authorities.display()));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authorities).map_err(|error| wrong(&error))? {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"no certificate in it"));
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client(Arc::new(config)))
    }

    /// Trusts whoever answers: nothing is known of the server then, and it may be anyone between.
    ///
    /// # Errors
    /// TLS cannot be had.
    pub fn insecure() -> io::Result<Client> {
        let provider = provider();
        let verifier = Arc::new(AnyServer(provider.signature_verification_algorithms));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Client(Arc::new(config)))
    }

    /// One connection to a host of that name.
    ///
    /// # Errors
    /// It is no name that a certificate can have.
    pub fn session(&self, host: &str) -> io::Result<ClientSession> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(ClientSession(Box::new(ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?)))
    }
}

/// Takes any certificate. That the server has its key is checked all the same: another handshake would not be measured.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// TLS of one socket. It says `WouldBlock` as the socket does.
pub struct ClientSession(Box<ClientConnection>);

impl ClientSession {
    /// Plaintext; 0 at the end. What is held goes first, and only `from_socket` is more read: a peer that never stops keeps nobody.
    ///
    /// # Errors
    /// The socket's word, or that of TLS.
    pub fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8], from_socket: bool) -> io::Result<usize> {
        loop {
            match self.0.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && from_socket => {}
                read => return read,
            }
            if self.0.read_tls(socket)? == 0 {
                return Ok(0);
            }
            self.0.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.flush(socket)?;
        }
    }

    /// How much plaintext was taken; it may still be here after it.
    ///
    /// # Errors
    /// The socket's word, or `WouldBlock` if no more is held for it.
    pub fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.0.writer().write(bytes)?;
        self.flush(socket)?;
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    /// Writes what is held, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's word.
    pub fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something is held for the socket.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}
