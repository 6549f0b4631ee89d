//! Certificates, keys and authorities, as their files say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::server::{Server, provider};
use super::settings::{CertificateFiles, TlsSettings};
use super::tickets::Tickets;
use crate::watched_file::{FileError, WatchedFile};

/// Bytes of a file: a chain has some 2 KiB for each certificate, and clients are sent all of it.
const CHAIN_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a file of authorities: the bundle of a Linux distribution, 140 of them, has 220 KiB.
const AUTHORITIES_BYTES_MAX: u64 = 1 << 20;
/// Certificates of a listener: each handshake looks at them one by one, a microsecond for each.
const CERTIFICATES_MAX: usize = 64;

/// The files of a listener, and what they held when they were last read well. It reads files: housekeeping threads only.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Pair>,
    clients: Option<Clients>,
    tickets: Tickets,
    server: Server,
}

/// A file and what it held at the newest look, good or bad.
#[derive(Debug)]
struct Text {
    file: WatchedFile,
    /// Of a key too. Whoever reads this process's memory has the key in any case.
    text: Secret,
}

/// When a file of certificates is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEnd {
    pub path: PathBuf,
    pub time: SystemTime,
    /// The same as a date in UTC, for messages.
    pub text: String,
}

/// A text that is in no log.
#[derive(PartialEq, Eq)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("..")
    }
}

/// A certificate and its key. They are two files, so one may be seen new and the other old: what does not fit together is not taken.
#[derive(Debug)]
struct Pair {
    cert: Text,
    key: Text,
    certified: Arc<CertifiedKey>,
}

#[derive(Debug)]
struct Clients {
    authorities: Text,
    required: bool,
    verifier: Arc<dyn ClientCertVerifier>,
    /// What they are, for tickets to be bound to.
    roots: Vec<CertificateDer<'static>>,
}

impl Text {
    fn open(path: &std::path::Path, bytes_max: u64) -> Result<Text, FileError> {
        let mut file = WatchedFile::new(path.to_owned(), bytes_max);
        let text = Secret(file.changed()?.unwrap_or_default());
        Ok(Text { file, text })
    }

    /// Whether it holds something else than at the last look.
    fn look(&mut self) -> Result<bool, FileError> {
        let Some(text) = self.file.changed()?.map(Secret) else { return Ok(false) };
        let other = text != self.text;
        self.text = text;
        Ok(other)
    }

    fn error(&self, what: impl Into<String>) -> FileError {
        self.file.error(what.into())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.text.0.as_bytes()).collect();
        let certificates = read.map_err(|error| self.error(bad_pem(&error)))?;
        if certificates.is_empty() {
            return Err(self.error("there is no certificate: it starts with -----BEGIN CERTIFICATE-----"));
        }
        Ok(certificates)
    }
}

impl Pair {
    fn open(files: &CertificateFiles) -> Result<Pair, FileError> {
        let cert = Text::open(&files.cert, CHAIN_BYTES_MAX)?;
        let key = Text::open(&files.key, CHAIN_BYTES_MAX)?;
        let certified = certified(&cert, &key)?;
        Ok(Pair { cert, key, certified })
    }

    fn reload(&mut self) -> Result<bool, FileError> {
        let (cert, key) = (self.cert.look(), self.key.look());
        if !cert.clone().unwrap_or(false) && !key.clone().unwrap_or(false) {
            return cert.and(key);
        }
        self.certified = certified(&self.cert, &self.key)?;
        cert.and(key).map(|_| true)
    }
}

impl Clients {
    fn open(path: &std::path::Path, required: bool) -> Result<Clients, FileError> {
        let authorities = Text::open(path, AUTHORITIES_BYTES_MAX)?;
        let (verifier, roots) = verifier(&authorities, required)?;
        Ok(Clients { authorities, required, verifier, roots })
    }

    fn reload(&mut self) -> Result<bool, FileError> {
        if !self.authorities.look()? {
            return Ok(false);
        }
        (self.verifier, self.roots) = verifier(&self.authorities, self.required)?;
        Ok(true)
    }
}

impl Certificates {
    /// Reads all files.
    ///
    /// # Errors
    /// A file cannot be read, is too large or no PEM; a key is not its certificate's, or of a kind that cannot sign; there is no certificate, or more
    /// than 64. What is wrong with the settings themselves is told of a file named `configuration`. No error repeats a key.
    pub fn open(settings: &TlsSettings, tickets: &Tickets) -> Result<Certificates, FileError> {
        let in_configuration = |what: String| Err(FileError { path: "configuration".into(), what });
        let count = settings.certificates.len();
        if !(1..=CERTIFICATES_MAX).contains(&count) {
            return in_configuration(format!("a listener with TLS has 1 to {CERTIFICATES_MAX} certificates, this one {count}"));
        }
        if settings.client_required && settings.client_ca.is_none() {
            return in_configuration("clients need a certificate, and no authorities are named to check it against".to_owned());
        }
        let pairs = settings.certificates.iter().map(Pair::open).collect::<Result<Vec<_>, _>>()?;
        let clients = settings.client_ca.as_deref().map(|path| Clients::open(path, settings.client_required)).transpose()?;
        let server = server(&pairs, clients.as_ref(), tickets)?;
        Ok(Certificates { pairs, clients, tickets: tickets.clone(), server })
    }

    /// What new connections are accepted with now.
    pub fn server(&self) -> Server {
        self.server.clone()
    }

    /// Looks at the files once; whether [`Certificates::server`] is another one now. Call it once in a second or so. Connections that are open stay
    /// as they are.
    ///
    /// # Errors
    /// The first file that is bad. What it held before stays in force, and the other files are taken up. A file that is bad in its contents is told
    /// of once, one that cannot be opened at each call. While certificate and key are replaced one after the other they may be told not to fit.
    pub fn reload(&mut self) -> Result<bool, FileError> {
        let (mut changed, mut bad) = (false, None);
        let looks = self.pairs.iter_mut().map(Pair::reload).collect::<Vec<_>>();
        for look in looks.into_iter().chain(self.clients.as_mut().map(Clients::reload)) {
            match look {
                Ok(new) => changed |= new,
                Err(error) => bad = bad.or(Some(error)),
            }
        }
        // A pair that is new in spite of an error has another key object than the server.
        if changed {
            self.server = server(&self.pairs, self.clients.as_ref(), &self.tickets)?;
        }
        bad.map_or(Ok(changed), Err)
    }

    /// When the first certificate of each chain ends: the listener's own, or one of its authorities'. In the order of the settings.
    pub fn ends(&self) -> Vec<CertificateEnd> {
        self.pairs.iter().filter_map(end).collect()
    }

    /// What the operator should know and what is no error: certificates that `now` is too late or too early for, a line for each.
    pub fn notes(&self, now: SystemTime) -> Vec<String> {
        self.pairs.iter().filter_map(|pair| note(pair, now)).collect()
    }
}

impl Server {
    /// Reads all files, once. [`Certificates`] reads them again.
    ///
    /// # Errors
    /// As [`Certificates::open`].
    pub fn open(settings: &TlsSettings, tickets: &Tickets) -> Result<Server, FileError> {
        Ok(Certificates::open(settings, tickets)?.server())
    }
}

fn server(pairs: &[Pair], clients: Option<&Clients>, tickets: &Tickets) -> Result<Server, FileError> {
    let keys = pairs.iter().map(|pair| pair.certified.clone()).collect();
    let scope = clients.map(|clients| (clients.required, clients.roots.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>()));
    let verifier = clients.map(|clients| clients.verifier.clone());
    Server::new(keys, verifier, tickets.bound_to(scope)).map_err(|error| pairs[0].cert.error(format!("TLS cannot be served: {error}")))
}

fn certified(cert: &Text, key: &Text) -> Result<Arc<CertifiedKey>, FileError> {
    let chain = cert.certificates()?;
    if key.text.0.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || key.text.0.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(key.error("the key has a passphrase: `openssl pkey` writes it without one"));
    }
    let private = PrivateKeyDer::from_pem_slice(key.text.0.as_bytes()).map_err(|error| {
        key.error(match error {
            pem::Error::NoItemsFound => "there is no private key: it starts with -----BEGIN PRIVATE KEY-----".to_owned(),
            error => bad_pem(&error),
        })
    })?;
    let unusable = "the key is of a kind that cannot be used: RSA of 2,048 to 8,192 bits, P-256, P-384 and Ed25519 can";
    let signing = provider().key_provider.load_private_key(private).map_err(|_| key.error(unusable))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        // A key that cannot tell its public half is none that `ring` makes.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(_)) => {
            Err(key.error(format!("it is not the key of the first certificate in {}", cert.file.path().display())))
        }
        Err(error) => Err(cert.error(format!("the first certificate cannot be used: {error}"))),
    }
}

type Verifier = (Arc<dyn ClientCertVerifier>, Vec<CertificateDer<'static>>);

fn verifier(authorities: &Text, required: bool) -> Result<Verifier, FileError> {
    let certificates = authorities.certificates()?;
    let mut roots = RootCertStore::empty();
    for (place, certificate) in certificates.iter().enumerate() {
        let added = roots.add(certificate.clone());
        added.map_err(|error| authorities.error(format!("certificate {} cannot be an authority: {error}", place + 1)))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| authorities.error(error.to_string()))?;
    Ok((verifier, certificates))
}

/// Never the text itself, which may be a key's.
fn bad_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no end: the file is cut short".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM block is no base64".to_owned(),
        _ => "it is no PEM".to_owned(),
    }
}

fn end(pair: &Pair) -> Option<CertificateEnd> {
    let chain = pair.certified.cert.iter().filter_map(|certificate| Certificate::from_der(certificate).ok());
    let first = chain.map(|certificate| certificate.tbs_certificate.validity.not_after).min_by_key(|end| end.to_system_time())?;
    Some(CertificateEnd { path: pair.cert.file.path().to_owned(), time: first.to_system_time(), text: first.to_string() })
}

fn note(pair: &Pair, now: SystemTime) -> Option<String> {
    let certificate = Certificate::from_der(pair.certified.cert.first()?).ok()?;
    let validity = certificate.tbs_certificate.validity;
    let path = pair.cert.file.path().display();
    if validity.not_after.to_system_time() < now {
        Some(format!("{path}: the certificate has expired ({}): clients refuse it", validity.not_after))
    } else if validity.not_before.to_system_time() > now {
        Some(format!("{path}: the certificate is not valid yet ({}): clients refuse it", validity.not_before))
    } else {
        None
    }
}
