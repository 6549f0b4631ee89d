//! TLS sessions from outside: what they take of the heap, counted by the allocator; OpenSSL as a client; and, by hand, what a handshake costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::io::{IoSlice, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corespan::tls::{CertificateFiles, Server, Session, Tickets, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// Counts what a thread has allocated and not given back, and how often it allocated; a test is one thread.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that ends counts no more.
    let _ = HELD.try_with(|held| held.set(change(held.get())));
}

#[expect(unsafe_code, reason = "a global allocator")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|held| held.wrapping_add(layout.size()));
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|held| held.wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An authority, a server for `a.example` with a key of its own choice, and clients of it.
struct World {
    folder: tempfile::TempDir,
    server: Server,
    roots: Arc<RootCertStore>,
    identity: (String, String),
}

impl World {
    fn new(key: &KeyPair, client_certificates: bool) -> World {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let client_key = KeyPair::generate().unwrap();
        let identity = (params.signed_by(&client_key, &issuer).unwrap().pem(), client_key.serialize_pem());
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        file("roots", authority.pem());
        let certificate = params.signed_by(key, &issuer).unwrap().pem();
        let settings = TlsSettings {
            certificates: vec![CertificateFiles { cert: file("cert", certificate), key: file("key", key.serialize_pem()) }],
            client_ca: client_certificates.then(|| file("ca", authority.pem())),
            client_required: client_certificates,
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let server = Server::open(&settings, &Tickets::new().unwrap()).unwrap();
        World { folder, server, roots: Arc::new(roots), identity }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.identity.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.identity.1.as_bytes()).unwrap();
        let mut config = builder.with_root_certificates(self.roots.clone()).with_client_auth_cert(chain, key).unwrap();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    fn open(&self, config: &Arc<ClientConfig>) -> (ClientConnection, Session, Duration) {
        let mut spent = Duration::ZERO;
        let mut client = ClientConnection::new(config.clone(), ServerName::try_from("a.example").unwrap()).unwrap();
        let begun = Instant::now();
        let mut session = Session::new(&self.server);
        spent += begun.elapsed();
        while client.wants_write() {
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            client.write_tls(&mut bytes).unwrap();
            let begun = Instant::now();
            session.receive(&mut bytes, |_| {}, &mut out).unwrap();
            spent += begun.elapsed();
            let mut out = &out[..];
            while !out.is_empty() {
                client.read_tls(&mut out).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(!session.is_handshaking());
        (client, session, spent)
    }
}

#[test]
fn an_idle_session_takes_no_more_than_it_says_and_less_than_8_kib() {
    let key = KeyPair::generate().unwrap();
    for certificates in [false, true] {
        let world = World::new(&key, certificates);
        for version in [&TLS12, &TLS13] {
            let config = world.client(version);
            world.open(&config);
            let (_, mut session, _) = world.open(&config);
            // Used once, idle again.
            let (mut scratch, mut out) = (Vec::new(), Vec::new());
            assert!(session.send(&[IoSlice::new(&[7; 40_000])], &mut scratch, &mut out));
            let said = session.held_bytes();
            let before = HELD.get();
            drop(session);
            let took = before.wrapping_sub(HELD.get());
            println!(
                "{version:?}, client certificate {certificates}: {took} bytes of heap, said {said}, and {} inline",
                size_of::<Session>()
            );
            assert!(took <= said && said + size_of::<Session>() <= 8 << 10);
        }
    }
}

#[test]
fn a_send_allocates_once_a_record() {
    let world = World::new(&KeyPair::generate().unwrap(), false);
    let (_client, mut session, _) = world.open(&world.client(&TLS13));
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    let pieces = [[7; 200]; 32];
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    for round in 0..3 {
        out.clear();
        let before = CALLS.get();
        assert!(session.send(&slices, &mut scratch, &mut out));
        let calls = CALLS.get() - before;
        println!("{calls} allocations of a send");
        // The library makes each record in a buffer of its own.
        assert!(round == 0 || calls <= 1);
    }
}

/// `cargo test --release --test tls -- --ignored --nocapture`
#[test]
#[ignore = "figures"]
fn handshakes_and_bytes_per_second_of_one_core() {
    let rsa =
        Command::new("openssl").args("genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048".split(' ')).output().unwrap().stdout;
    let rsa = KeyPair::from_pem(&String::from_utf8(rsa).unwrap()).unwrap();
    for (name, key) in [("P-256", KeyPair::generate().unwrap()), ("RSA 2048", rsa)] {
        let world = World::new(&key, false);
        for version in [&TLS12, &TLS13] {
            let (config, mut spent) = (world.client(version), Duration::ZERO);
            let mut count = 0;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                spent += world.open(&config).2;
                count += 1;
            }
            println!("{name}, {version:?}: {:.0} full handshakes a second of the server's side", f64::from(count) / spent.as_secs_f64());
        }
        let (_client, mut session, _) = world.open(&world.client(&TLS13));
        let (mut scratch, mut out) = (Vec::new(), Vec::new());
        for bytes in [100, 1_000, 16 << 10, 100 << 10] {
            let text = vec![7; bytes];
            let (begun, mut count) = (Instant::now(), 0_u32);
            while begun.elapsed() < Duration::from_millis(500) {
                out.clear();
                assert!(session.send(&[IoSlice::new(&text)], &mut scratch, &mut out));
                count += 1;
            }
            let each = begun.elapsed() / count;
            println!("send of {bytes} bytes: {each:?}, {:.0} MB/s", bytes as f64 / each.as_secs_f64() / 1e6);
        }
    }
}

/// The other implementation that matters.
#[test]
fn openssl_is_understood_in_every_version_and_cipher() {
    let world = World::new(&KeyPair::generate().unwrap(), false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = world.server.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut session, mut scratch) = (stream.unwrap(), Session::new(&server), Vec::new());
            let mut bytes = [0; 700];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                let (mut heard, mut out) = (Vec::new(), Vec::new());
                let received = session.receive(&mut bytes[..count], |plain| heard.extend_from_slice(plain), &mut out);
                let _ = heard.is_empty() || session.send(&[IoSlice::new(&heard)], &mut scratch, &mut out);
                let ends = received.is_err() || received.is_ok_and(|received| received.closed);
                if ends {
                    session.close(&mut out);
                }
                if stream.write_all(&out).is_err() || ends {
                    break;
                }
            }
        }
    });
    let roots = world.folder.path().join("roots");
    let speak = |arguments: &str| {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-servername", "a.example", "-connect", &address, "-CAfile"])
            .arg(&roots)
            .args(arguments.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = client.stdin.take().unwrap();
        let said = "a line of 31 bytes with its end\n".repeat(3_000);
        let text = said.clone();
        let writer = std::thread::spawn(move || {
            let _ = input.write_all(text.as_bytes());
            input
        });
        let mut heard = vec![0; said.len()];
        let whole = client.stdout.take().unwrap().read_exact(&mut heard).is_ok();
        drop(writer.join());
        client.kill().unwrap();
        client.wait().unwrap();
        whole && heard == said.as_bytes()
    };
    for good in [
        "-tls1_3",
        "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256",
        "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256",
        "-tls1_3 -groups P-384",
        "-tls1_2",
        "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        "-alpn http/1.1",
    ] {
        assert!(speak(good), "{good}");
    }
    for bad in ["-tls1_1", "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", "-alpn h2"] {
        assert!(!speak(bad), "{bad}");
    }
}
