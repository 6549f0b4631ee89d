use std::fs;
use std::io::{IoSlice, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use super::server::provider;
use super::*;

/// An authority, and a folder for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem, folder: tempfile::tempdir().unwrap() }
    }

    fn params(host: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params
    }

    fn sign(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Files `{name}.pem` and `{name}.key` for a host.
    fn files(&self, name: &str, host: &str) -> CertificateFiles {
        let (cert, key) = self.sign(&Authority::params(host));
        CertificateFiles { cert: self.file(&format!("{name}.pem"), &cert), key: self.file(&format!("{name}.key"), &key) }
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings { certificates: vec![self.files("a", "a.example")], ..TlsSettings::default() }
    }

    fn client_ca(&self, required: bool) -> TlsSettings {
        TlsSettings { client_ca: Some(self.file("ca.pem", &self.pem)), client_required: required, ..self.settings() }
    }

    /// A client that trusts this authority.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], identity: Option<(String, String)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn open(settings: &TlsSettings) -> Server {
    Server::open(settings, &Tickets::new().unwrap()).unwrap()
}

/// A client and its session, with an ideal network between them.
struct Pair {
    client: ClientConnection,
    session: Session,
    /// What the session has decrypted.
    heard: Vec<u8>,
    /// What the client has decrypted.
    read: Vec<u8>,
    opened: u32,
    closed: bool,
    /// Bytes that the session is given at a time.
    piece: usize,
    held_max: usize,
}

impl Pair {
    fn new(config: &Arc<ClientConfig>, host: &'static str, server: &Server) -> Pair {
        let client = ClientConnection::new(config.clone(), ServerName::try_from(host).unwrap()).unwrap();
        let session = Session::new(server);
        let (heard, read) = (Vec::new(), Vec::new());
        Pair { client, session, heard, read, opened: 0, closed: false, piece: usize::MAX, held_max: 0 }
    }

    fn open(config: &Arc<ClientConfig>, host: &'static str, server: &Server) -> Pair {
        let mut pair = Pair::new(config, host, server);
        pair.run().unwrap();
        assert!(!pair.session.is_handshaking() && pair.opened == 1);
        pair
    }

    fn spoken(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn give_session(&mut self, bytes: &mut [u8]) -> (Vec<u8>, Result<(), TlsViolation>) {
        let mut out = Vec::new();
        for piece in bytes.chunks_mut(self.piece.min(bytes.len().max(1))) {
            match self.session.receive(piece, |plain| self.heard.extend_from_slice(plain), &mut out) {
                Ok(received) => {
                    self.opened += u32::from(received.opened);
                    self.closed |= received.closed;
                }
                Err(violation) => return (out, Err(violation)),
            }
            self.held_max = self.held_max.max(self.session.held_bytes());
        }
        (out, Ok(()))
    }

    fn give_client(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets()?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut plain).unwrap();
            self.read.extend_from_slice(&plain);
        }
        Ok(())
    }

    /// Until nobody has anything to say.
    fn run(&mut self) -> Result<(), TlsViolation> {
        loop {
            let mut bytes = self.spoken();
            if bytes.is_empty() {
                return Ok(());
            }
            let (out, result) = self.give_session(&mut bytes);
            let told = self.give_client(&out);
            result?;
            told.unwrap();
        }
    }

    fn send(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut out = Vec::new();
        assert!(self.session.send(&slices, &mut Vec::new(), &mut out));
        self.give_client(&out).unwrap();
        out
    }

    fn echo(&mut self) {
        self.heard.clear();
        self.read.clear();
        self.client.writer().write_all(b"ping").unwrap();
        self.run().unwrap();
        assert_eq!(self.heard, b"ping");
        self.send(&[b"po", b"ng"]);
        assert_eq!(self.read, b"pong");
    }

    fn leaf(&self) -> CertificateDer<'static> {
        self.client.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn tls_1_2_and_1_3_carry_bytes_both_ways() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut pair = Pair::open(&authority.client(&[version], None), "a.example", &server);
        assert_eq!(pair.session.protocol_version(), Some(name));
        assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!((pair.session.peer(), pair.session.has_certificate()), (None, false));
        pair.echo();
        pair.echo();
    }
}

#[test]
fn ciphertext_in_any_pieces_gives_the_same_plaintext() {
    let authority = Authority::new();
    let server = open(&authority.client_ca(true));
    let identity = authority.sign(&Authority::params("user"));
    for version in BOTH {
        let config = authority.client(&[version], Some(identity.clone()));
        for piece in [1, 2, 3, 5, 7, 100, 1_000, 20_000] {
            let mut pair = Pair::new(&config, "a.example", &server);
            pair.piece = piece;
            pair.run().unwrap();
            assert_eq!((pair.opened, pair.session.peer()), (1, Some("user")));
            let said = noise(50_000);
            for part in said.chunks(17_777) {
                pair.client.writer().write_all(part).unwrap();
                pair.run().unwrap();
            }
            assert_eq!(pair.heard, said, "in pieces of {piece}");
            pair.echo();
            assert_eq!(pair.session.held_bytes(), Pair::open(&config, "a.example", &server).session.held_bytes(), "nothing is held");
        }
    }
}

#[test]
fn ciphertext_cut_anywhere_gives_the_same_plaintext() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    for version in BOTH {
        let config = authority.client(&[version], None);
        let mut pair = Pair::open(&config, "a.example", &server);
        // Three records, cut in two at each place.
        for cut in 0..=150 {
            for text in [&b"one"[..], b"three and more", b"x"] {
                pair.client.writer().write_all(text).unwrap();
                pair.client.writer().flush().unwrap();
            }
            let mut bytes = pair.spoken();
            pair.heard.clear();
            let cut = cut.min(bytes.len());
            let (front, back) = bytes.split_at_mut(cut);
            pair.give_session(front).1.unwrap();
            // A session that waits for the rest can send.
            pair.read.clear();
            pair.send(&[b"meanwhile"]);
            assert_eq!(pair.read, b"meanwhile");
            pair.give_session(back).1.unwrap();
            assert_eq!(pair.heard, b"onethree and morex", "cut at {cut}");
        }
    }
}

#[test]
fn all_sizes_arrive_and_pieces_share_records() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    let said = noise(100 << 10);
    for version in BOTH {
        let mut pair = Pair::open(&authority.client(&[version], None), "a.example", &server);
        let near = |at: usize| at - 2..=at + 2;
        for bytes in (0..400).chain(near(16 << 10)).chain(near(32 << 10)).chain([50_000, 100_000, 100 << 10]) {
            pair.read.clear();
            let (front, back) = said[..bytes].split_at(bytes / 3);
            let out = pair.send(&[b"", front, b"", back]);
            assert!(pair.read == said[..bytes], "{bytes} bytes");
            let records = bytes.div_ceil(16 << 10);
            assert!(out.len() <= bytes + records * 29, "{bytes} bytes make {}", out.len());
        }
        // Many small pieces are one record.
        pair.read.clear();
        let out = pair.send(&said[..16_000].chunks(10).collect::<Vec<_>>());
        assert!(pair.read == said[..16_000] && out.len() <= 16_029);
    }
}

#[test]
fn nothing_is_sent_before_the_handshake_or_after_the_close() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    let mut out = Vec::new();
    let mut session = Session::new(&server);
    assert!(!session.send(&[IoSlice::new(b"early")], &mut Vec::new(), &mut out));
    session.close(&mut out);
    assert!(out.is_empty());
    for version in BOTH {
        let mut pair = Pair::open(&authority.client(&[version], None), "a.example", &server);
        pair.client.send_close_notify();
        let mut bytes = pair.spoken();
        bytes.extend_from_slice(b"nonsense behind the close is passed over");
        let (answer, result) = pair.give_session(&mut bytes);
        assert!(result.is_ok() && pair.closed && answer.is_empty());
        pair.send(&[b"the peer may still read"]);
        assert_eq!(pair.read, b"the peer may still read");
        let mut out = Vec::new();
        pair.session.close(&mut out);
        let once = out.len();
        assert!(once > 0);
        pair.session.close(&mut out);
        assert_eq!(out.len(), once, "said once");
        assert!(!pair.session.send(&[IoSlice::new(b"late")], &mut Vec::new(), &mut out));
        pair.give_client(&out).unwrap();
        assert_eq!(pair.client.reader().read(&mut [0; 8]).unwrap(), 0, "a clean end");
    }
}

#[test]
fn a_ticket_resumes_on_any_shard_and_after_a_reload() {
    let authority = Authority::new();
    let settings = authority.settings();
    let mut certificates = Certificates::open(&settings, &Tickets::new().unwrap()).unwrap();
    for version in BOTH {
        let config = authority.client(&[version], None);
        let kind = |server: &Server| {
            let mut pair = Pair::open(&config, "a.example", server);
            pair.echo();
            pair.client.handshake_kind().unwrap()
        };
        assert_eq!(kind(&certificates.server()), HandshakeKind::Full);
        let elsewhere = certificates.server();
        std::thread::scope(|threads| threads.spawn(|| assert_eq!(kind(&elsewhere), HandshakeKind::Resumed)).join().unwrap());
        authority.files("a", "a.example");
        assert_eq!(certificates.reload(), Ok(true));
        assert_eq!(kind(&certificates.server()), HandshakeKind::Resumed);
        // Another process has other keys.
        assert_eq!(kind(&open(&settings)), HandshakeKind::Full);
    }
}

#[test]
fn a_ticket_is_worthless_where_clients_are_checked_otherwise() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tickets = Tickets::new().unwrap();
    let settings = authority.client_ca(false);
    let mut certificates = Certificates::open(&settings, &tickets).unwrap();
    for version in BOTH {
        let config = authority.client(&[version], Some(authority.sign(&Authority::params("user"))));
        assert_eq!(Pair::open(&config, "a.example", &certificates.server()).client.handshake_kind(), Some(HandshakeKind::Full));
        let again = Pair::open(&config, "a.example", &certificates.server());
        assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(again.session.peer(), Some("user"), "a ticket keeps the user");
        // A ticket that was given to nobody in particular does not open a listener that wants certificates.
        let nobody = authority.client(&[version], None);
        Pair::open(&nobody, "a.example", &certificates.server());
        let strict = Server::open(&TlsSettings { client_required: true, ..settings.clone() }, &tickets).unwrap();
        assert!(Pair::new(&nobody, "a.example", &strict).run().is_err());
        // The authority was replaced: whoever it vouched for is a stranger.
        Pair::open(&config, "a.example", &certificates.server());
        authority.file("ca.pem", &other.pem);
        assert_eq!(certificates.reload(), Ok(true));
        assert!(Pair::new(&config, "a.example", &certificates.server()).run().is_err());
        authority.file("ca.pem", &authority.pem);
        assert_eq!(certificates.reload(), Ok(true));
    }
}

#[test]
fn the_host_that_a_client_names_picks_the_certificate() {
    let authority = Authority::new();
    let certificates = vec![authority.files("a", "a.example"), authority.files("b", "b.example"), authority.files("w", "*.w.example")];
    let leaves: Vec<_> = certificates.iter().map(|files| CertificateDer::from_pem_file(&files.cert).unwrap()).collect();
    let server = open(&TlsSettings { certificates, ..TlsSettings::default() });
    for version in BOTH {
        let config = authority.client(&[version], None);
        for (host, place) in [("a.example", 0), ("b.example", 1), ("B.Example", 1), ("x.w.example", 2)] {
            assert_eq!(Pair::open(&config, host, &server).leaf(), leaves[place], "{host}");
        }
        let mut silent = (*config).clone();
        silent.enable_sni = false;
        assert_eq!(Pair::open(&Arc::new(silent), "a.example", &server).leaf(), leaves[0]);
        // The client does not believe the first certificate for that host, which shows that it was given it.
        let mut pair = Pair::new(&config, "unknown.example", &server);
        let mut hello = pair.spoken();
        let (out, _) = pair.give_session(&mut hello);
        assert!(pair.give_client(&out).unwrap_err().to_string().contains("a.example"));
    }
}

#[test]
fn a_client_certificate_names_the_user() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (strict, lax) = (open(&authority.client_ca(true)), open(&authority.client_ca(false)));
    for version in BOTH {
        let good = authority.client(&[version], Some(authority.sign(&Authority::params("alice"))));
        let none = authority.client(&[version], None);
        let foreign = authority.client(&[version], Some(other.sign(&Authority::params("mallory"))));
        for server in [&strict, &lax] {
            let pair = Pair::open(&good, "a.example", server);
            assert_eq!((pair.session.peer(), pair.session.has_certificate()), (Some("alice"), true));
            let mut pair = Pair::new(&foreign, "a.example", server);
            assert!(matches!(pair.run(), Err(TlsViolation::Protocol(rustls::Error::InvalidCertificate(_)))));
            assert!(pair.session.peer().is_none());
        }
        let refused = Pair::new(&none, "a.example", &strict).run().unwrap_err();
        assert_eq!(refused, TlsViolation::Protocol(rustls::Error::NoCertificatesPresented));
        assert_eq!(Pair::open(&none, "a.example", &lax).session.peer(), None);
    }
}

#[test]
fn a_certificate_whose_subject_is_doubtful_names_no_user() {
    let authority = Authority::new();
    let server = open(&authority.client_ca(true));
    let name = |text: Option<&str>| {
        let mut params = CertificateParams::new(vec!["x.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(text) = text {
            params.distinguished_name.push(DnType::CommonName, text);
        }
        let pair = Pair::open(&authority.client(&BOTH, Some(authority.sign(&params))), "a.example", &server);
        assert!(pair.session.has_certificate());
        pair.session.peer().map(str::to_owned)
    };
    assert_eq!(name(Some("Zoë 7")).as_deref(), Some("Zoë 7"));
    for doubtful in [None, Some(""), Some("two\nlines"), Some("nul\0"), Some(&*"x".repeat(257))] {
        assert_eq!(name(doubtful), None, "{doubtful:?}");
    }
}

/// A fatal alert in plaintext.
fn alert(out: &[u8]) -> Option<AlertDescription> {
    match out {
        [21, 3, _, 0, 2, 2, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

/// A ClientHello of `version`, with two ciphers of the time and no extensions.
fn old_hello(version: u8) -> Vec<u8> {
    let mut body = vec![3, version];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend_from_slice(&body);
    hello
}

#[test]
fn nonsense_is_refused_with_an_alert_and_nothing_is_held() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    let oversized = [vec![22, 3, 1, 0x48, 1], vec![0; 18_433]].concat();
    // A message of 60,000 bytes that is none, and one of 16 MiB, in records of 16 KiB.
    let huge = |bytes: u32| {
        let mut message = [&[1][..], &bytes.to_be_bytes()[1..], &noise(80_000)].concat();
        message.truncate(80_000);
        message.chunks(16 << 10).flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat()).collect::<Vec<u8>>()
    };
    // Each byte of a message in a record of its own.
    let crumbs: Vec<u8> = [1, 0, 255, 0].into_iter().chain(noise(40_000)).flat_map(|byte| [22, 3, 1, 0, 1, byte]).collect();
    let cases = [
        ("TLS 1.0", old_hello(1), Some(AlertDescription::HandshakeFailure)),
        ("TLS 1.1", old_hello(2), Some(AlertDescription::HandshakeFailure)),
        ("SSL 2", vec![0x80, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16, 1, 0, 128], Some(AlertDescription::DecodeError)),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec(), Some(AlertDescription::DecodeError)),
        ("zeroes", vec![0; 500], Some(AlertDescription::DecodeError)),
        ("data before the handshake", vec![23, 3, 3, 0, 3, 1, 2, 3], None),
        ("an oversized record", oversized, None),
        ("a huge message", huge(60_000), None),
        ("a message over the bound", huge(0xff_ff_ff), None),
        ("crumbs", crumbs, None),
    ];
    for (name, bytes, expected) in cases {
        for piece in [1, 4_096, usize::MAX] {
            let mut session = Session::new(&server);
            let (mut out, mut refused, mut held_max) = (Vec::new(), None, 0);
            for part in bytes.clone().chunks_mut(piece.min(bytes.len())) {
                if let Err(violation) = session.receive(part, |_| panic!("{name}: plaintext"), &mut out) {
                    refused = Some(violation);
                    break;
                }
                held_max = held_max.max(session.held_bytes());
            }
            let refused = refused.unwrap_or_else(|| panic!("{name} was taken, in pieces of {piece}"));
            assert!(alert(&out).is_some() && (expected.is_none() || alert(&out) == expected), "{name}: {out:?}");
            assert_eq!(refused == TlsViolation::PlainHttp, name == "HTTP", "{name}: {refused}");
            assert!(held_max <= 3 * HANDSHAKE_BYTES_MAX, "{name} holds {held_max}");
            assert!(session.held_bytes() <= 8 << 10, "{name} still holds {}", session.held_bytes());
            let mut more = Vec::new();
            assert_eq!(session.receive(&mut [1, 2, 3], |_| panic!("plaintext"), &mut more), Err(refused), "for good");
            assert!(more.is_empty() && !session.send(&[IoSlice::new(b"x")], &mut Vec::new(), &mut more));
        }
    }
}

#[test]
fn an_open_session_holds_one_record_at_most() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    for version in BOTH {
        let mut pair = Pair::open(&authority.client(&[version], None), "a.example", &server);
        let idle = pair.session.held_bytes();
        pair.held_max = 0;
        pair.client.writer().write_all(&noise(60_000)).unwrap();
        let mut bytes = pair.spoken();
        pair.piece = 1_000;
        pair.give_session(&mut bytes).1.unwrap();
        assert!(pair.held_max > idle + 10_000 && pair.held_max <= idle + 2 * RECORD_BYTES_MAX, "{}", pair.held_max);
        assert_eq!(pair.session.held_bytes(), idle);
        // A record that cannot be decrypted ends the session, and the client is told so.
        let mut out = Vec::new();
        let mut forged = [&[23, 3, 3, 0x40, 0][..], &noise(16 << 10)].concat();
        assert!(pair.session.receive(&mut forged, |_| panic!("plaintext"), &mut out).is_err());
        assert!(matches!(pair.give_client(&out), Err(rustls::Error::AlertReceived(AlertDescription::BadRecordMac))));
    }
}

#[test]
fn nonsense_that_a_send_finds_ends_the_session() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    for version in BOTH {
        let mut pair = Pair::open(&authority.client(&[version], None), "a.example", &server);
        // What comes of a header behind its first byte is not looked at before it is whole, or something is sent.
        let mut out = Vec::new();
        for mut part in [vec![23], vec![99, 99]] {
            assert!(pair.session.receive(&mut part, |_| panic!("plaintext"), &mut out).is_ok());
        }
        let sent = pair.session.send(&[IoSlice::new(b"x")], &mut Vec::new(), &mut out);
        let ended = pair.session.receive(&mut [99; 100], |_| panic!("plaintext"), &mut out);
        assert!(ended.is_err() && !pair.session.send(&[IoSlice::new(b"x")], &mut Vec::new(), &mut out), "{sent}");
        assert!(matches!(pair.give_client(&out), Err(rustls::Error::AlertReceived(AlertDescription::DecodeError))));
    }
}

#[test]
fn keys_of_tls_1_3_change_while_it_speaks() {
    let authority = Authority::new();
    let server = open(&authority.settings());
    let mut pair = Pair::open(&authority.client(&[&TLS13], None), "a.example", &server);
    pair.piece = 3;
    for _ in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.echo();
    }
}

#[test]
fn new_certificates_are_served_and_bad_ones_are_not() {
    let authority = Authority::new();
    let config = authority.client(&BOTH, None);
    let settings =
        TlsSettings { certificates: vec![authority.files("a", "a.example"), authority.files("b", "b.example")], ..TlsSettings::default() };
    let mut certificates = Certificates::open(&settings, &Tickets::new().unwrap()).unwrap();
    let leaf = |certificates: &Certificates, host| Pair::open(&config, host, &certificates.server()).leaf();
    let (old_a, old_b) = (leaf(&certificates, "a.example"), leaf(&certificates, "b.example"));
    while certificates.reload() == Ok(true) {}
    assert_eq!(certificates.reload(), Ok(false), "nothing has changed");

    // The certificate comes first: until its key is there, the old pair is served. The other pair is taken up.
    let (cert, key) = authority.sign(&Authority::params("a.example"));
    authority.file("a.pem", &cert);
    authority.files("b", "b.example");
    let error = certificates.reload().unwrap_err();
    assert!(error.to_string().contains("a.key: it is not the key of the first certificate in "), "{error}");
    assert_eq!(leaf(&certificates, "a.example"), old_a);
    assert_ne!(leaf(&certificates, "b.example"), old_b);
    assert_eq!(certificates.reload(), Ok(false), "told once");
    authority.file("a.key", &key);
    assert_eq!(certificates.reload(), Ok(true));
    let new_a = leaf(&certificates, "a.example");
    assert_ne!(new_a, old_a);

    for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        authority.file("a.pem", bad);
        let error = certificates.reload().unwrap_err();
        assert!(error.path.ends_with("a.pem") && error.to_string().lines().count() == 1, "{error}");
        assert_eq!(leaf(&certificates, "a.example"), new_a);
    }
    fs::remove_file(authority.folder.path().join("a.pem")).unwrap();
    assert!(certificates.reload().is_err() && certificates.reload().is_err(), "a file that is gone is told of each time");
    assert_eq!(leaf(&certificates, "a.example"), new_a);
}

#[test]
fn mistakes_in_settings_and_files_are_one_line_that_says_what_to_do() {
    let authority = Authority::new();
    let good = authority.settings();
    let wrong = |change: &dyn Fn(&mut TlsSettings), words: &str| {
        let mut settings = good.clone();
        change(&mut settings);
        let error = Server::open(&settings, &Tickets::new().unwrap()).unwrap_err().to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    };
    let (_, stranger) = authority.sign(&Authority::params("a.example"));
    wrong(&|settings| settings.certificates.clear(), "1 to 64 certificates, this one 0");
    wrong(&|settings| settings.client_required = true, "no authorities are named");
    wrong(&|settings| settings.certificates[0].cert = "/nowhere".into(), "/nowhere: there is no such file");
    wrong(&|settings| settings.certificates[0].cert = good.certificates[0].key.clone(), "there is no certificate");
    wrong(&|settings| settings.certificates[0].key = good.certificates[0].cert.clone(), "there is no private key");
    wrong(&|settings| settings.certificates[0].key = authority.file("x.key", &stranger), "it is not the key of");
    wrong(&|settings| settings.certificates[0].cert = authority.file("large", &"x".repeat(65 << 10)), "larger than 65536 bytes");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    wrong(&|settings| settings.certificates[0].key = authority.file("locked", locked), "`openssl pkey`");
    wrong(&|settings| settings.client_ca = Some(authority.file("none", "")), "none: there is no certificate");
}

#[test]
fn a_certificate_that_has_expired_is_a_note() {
    let authority = Authority::new();
    let mut params = Authority::params("a.example");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2024, 1, 1);
    let (cert, key) = authority.sign(&params);
    let files = CertificateFiles { cert: authority.file("old.pem", &cert), key: authority.file("old.key", &key) };
    let settings = TlsSettings { certificates: vec![files], ..TlsSettings::default() };
    let certificates = Certificates::open(&settings, &Tickets::new().unwrap()).unwrap();
    let year = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600 + 86_400);
    assert_eq!(certificates.notes(year(2022)), Vec::<String>::new());
    assert!(certificates.notes(year(2026))[0].contains("old.pem: the certificate has expired"));
    assert!(certificates.notes(year(2019))[0].contains("not valid yet"));
}

/// What a client says: its hello, the rest of its handshake, and two records.
fn flights(config: &Arc<ClientConfig>, server: &Server) -> Vec<Vec<u8>> {
    let mut pair = Pair::new(config, "a.example", server);
    let mut flights = Vec::new();
    loop {
        if !pair.client.is_handshaking() && flights.len() < 4 {
            pair.client.writer().write_all(&noise(700)).unwrap();
        }
        let mut bytes = pair.spoken();
        if bytes.is_empty() {
            return flights;
        }
        flights.push(bytes.clone());
        let (out, _) = pair.give_session(&mut bytes);
        pair.give_client(&out).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3_000), piece in 1_usize..3_000) {
        let server = &*SERVER;
        let mut session = Session::new(&server.1);
        let mut bytes = bytes;
        // Half of them begin as a record of a handshake.
        if bytes.len() > 9 && bytes[0] < 128 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            bytes[3] &= 3;
            bytes[5..8].copy_from_slice(&[1, 0, 1]);
        }
        for part in bytes.chunks_mut(piece) {
            let _ = session.receive(part, |_| {}, &mut Vec::new());
            let _ = session.send(&[IoSlice::new(b"x")], &mut Vec::new(), &mut Vec::new());
            prop_assert!(session.held_bytes() <= 3 * HANDSHAKE_BYTES_MAX);
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_forge_nothing(
        version in 0_usize..2,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..6),
        flight in 0_usize..4,
        piece in 1_usize..2_000,
    ) {
        let server = &*SERVER;
        let config = server.0.client(&[BOTH[version]], Some(server.2.clone()));
        let mut pair = Pair::new(&config, "a.example", &server.1);
        pair.piece = piece;
        for turn in 0..5 {
            if !pair.client.is_handshaking() {
                pair.client.writer().write_all(&noise(700)).unwrap();
            }
            let mut bytes = pair.spoken();
            if turn == flight {
                for (place, byte, kind) in &changes {
                    if bytes.is_empty() {
                        break;
                    }
                    let place = place.index(bytes.len());
                    match kind {
                        0 => bytes[place] = *byte,
                        1 => bytes[place] ^= 1 << (byte % 8),
                        2 => drop(bytes.drain(place..(place + usize::from(*byte)).min(bytes.len()))),
                        _ => bytes.insert(place, *byte),
                    }
                }
            }
            let (out, result) = pair.give_session(&mut bytes);
            let told = pair.give_client(&out);
            let said: Vec<u8> = std::iter::repeat_n(noise(700), 5).flatten().collect();
            prop_assert!(said.starts_with(&pair.heard));
            let _ = pair.session.send(&[IoSlice::new(b"x")], &mut Vec::new(), &mut Vec::new());
            if result.is_err() || told.is_err() {
                break;
            }
        }
    }
}

static SERVER: std::sync::LazyLock<(Authority, Server, (String, String))> = std::sync::LazyLock::new(|| {
    let authority = Authority::new();
    let server = open(&authority.client_ca(false));
    let identity = authority.sign(&Authority::params("user"));
    (authority, server, identity)
});

#[test]
fn flights_in_any_two_pieces_open_a_session() {
    let (authority, server, identity) = &*SERVER;
    for version in BOTH {
        let config = authority.client(&[version], Some(identity.clone()));
        let lengths: Vec<usize> = flights(&config, server).iter().map(Vec::len).collect();
        for flight in 0..lengths.len() {
            for cut in (0..lengths[flight]).step_by(7) {
                let mut pair = Pair::new(&authority.client(&[version], Some(identity.clone())), "a.example", server);
                for turn in 0..lengths.len() {
                    if !pair.client.is_handshaking() && turn < 4 {
                        pair.client.writer().write_all(b"data").unwrap();
                    }
                    let mut bytes = pair.spoken();
                    pair.piece = if turn == flight { cut.max(1) } else { usize::MAX };
                    let (out, result) = pair.give_session(&mut bytes);
                    result.unwrap();
                    pair.give_client(&out).unwrap();
                }
                assert_eq!((pair.opened, pair.session.peer()), (1, Some("user")), "flight {flight} cut at {cut}");
            }
        }
    }
}
