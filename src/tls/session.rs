//! One connection: ciphertext to plaintext and back.

use std::io::IoSlice;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{Error, ProtocolVersion};
use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Tag, Tagged as _};

use super::server::Server;
use super::violation::TlsViolation;

/// Bytes of a record on the wire, header included: RFC 5246 (6.2.3) allows 2^14 + 2,048 of ciphertext, TLS 1.3 less.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 2048;

/// Bytes of a handshake that are held until its message is whole. A client's certificates are the largest, a few KiB; the library's own bound of one
/// message is 64 KiB as well.
pub const HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Bytes of plaintext in one record, at most.
const PLAIN_BYTES_MAX: usize = 16 << 10;
/// A record's type, version and length.
const HEADER_BYTES: usize = 5;
/// What a record has beside its plaintext, at most: header, explicit nonce of TLS 1.2, type of TLS 1.3, tag.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 8 + 1 + 16;
/// Bytes of a subject's name: a common name has 64 characters (RFC 5280, A.1).
const NAME_BYTES_MAX: usize = 256;

/// What an open session takes of the heap beside `held` and a client's certificates: keys and the library's state, the session itself not included.
/// `tests/tls.rs` measures 2.0 to 2.3 KiB, and the allocator rounds up.
const STATE_BYTES: usize = 5 << 9;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

const _: () = assert!(RECORD_BYTES_MAX <= HANDSHAKE_BYTES_MAX, "a handshake may fill a record");

/// See the module's documentation.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// A record that is not whole yet, in front of it the records of a message that is not whole yet; the library moves the latter about in place.
    held: Vec<u8>,
    /// Where in `held` the record begins that is not whole. What is in front of it is no sequence of records any more.
    record: usize,
    /// The user that the client's certificate names.
    peer: Option<Box<str>>,
    peer_bytes: usize,
    /// Something was appended to `out`: a server that has not spoken yet may still answer in plaintext.
    spoke: bool,
    peer_closed: bool,
    violation: Option<TlsViolation>,
}

/// What came of received bytes, besides plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The handshake is done now: plaintext may be sent.
    pub opened: bool,
    /// The peer has said that it sends no more (`close_notify`). It may still read.
    pub closed: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("version", &self.protocol_version())
            .field("peer", &self.peer)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that waits for a client's first message.
    pub fn new(server: &Server) -> Session {
        let tls = UnbufferedServerConnection::new(server.0.clone());
        Session {
            // It refuses a `max_fragment_size` that is too small or too large only, and `Server` sets none.
            tls: tls.expect("a server without a fragment size"),
            held: Vec::new(),
            record: 0,
            peer: None,
            peer_bytes: 0,
            spoke: false,
            peer_closed: false,
            violation: None,
        }
    }

    /// Takes what a read gave, in any pieces. `ciphertext` is decrypted in place, and of no use afterwards. `plain` is called for each piece of
    /// plaintext, in order; `out` is appended what must be sent: handshake, tickets, alerts. What follows a peer's close is passed over.
    ///
    /// # Errors
    /// The peer broke the rules, or has ended the session by an alert. Send what `out` has, an alert as a rule, and close the socket; every later
    /// call gives the same error. Plaintext that `plain` was given before is good.
    pub fn receive(&mut self, ciphertext: &mut [u8], plain: impl FnMut(&[u8]), out: &mut Vec<u8>) -> Result<Received, TlsViolation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        let (before, was_handshaking) = (out.len(), self.is_handshaking());
        let taken = self.take(ciphertext, plain, out);
        if let Err(violation) = taken {
            self.fail(&violation, out.len() > before, out);
            return Err(violation);
        }
        if self.peer_closed {
            self.let_go();
        }
        self.spoke |= out.len() > before;
        let opened = was_handshaking && !self.is_handshaking();
        if opened {
            let certificates = self.tls.peer_certificates().unwrap_or_default();
            self.peer_bytes = certificates.iter().map(|certificate| certificate.len() + size_of::<CertificateDer<'_>>()).sum();
            self.peer = certificates.first().and_then(|certificate| common_name(certificate));
        }
        Ok(Received { opened, closed: self.peer_closed })
    }

    fn take(&mut self, ciphertext: &mut [u8], mut plain: impl FnMut(&[u8]), out: &mut Vec<u8>) -> Result<(), TlsViolation> {
        let mut rest = ciphertext;
        while !rest.is_empty() && !self.peer_closed {
            if self.held.is_empty() {
                let record = whole_records(rest);
                let used = process(&mut self.tls, rest, &mut plain, out, &mut self.peer_closed)?;
                self.hold(&rest[used..])?;
                self.record = record.saturating_sub(used);
                return Ok(());
            }
            let wanted = missing(&self.held[self.record..]);
            let (taken, behind) = rest.split_at_mut(wanted.min(rest.len()));
            self.hold(taken)?;
            rest = behind;
            // The library is asked when a header has come, which may be nonsense, and when a record is whole.
            if taken.len() < wanted {
                return Ok(());
            }
            let whole = missing(&self.held[self.record..]) == 0;
            let used = process(&mut self.tls, &mut self.held, &mut plain, out, &mut self.peer_closed)?;
            if whole {
                self.record = self.held.len();
            }
            self.record = self.record.saturating_sub(used);
            if used == self.held.len() {
                self.held = Vec::new();
            } else if used > 0 {
                self.held.drain(..used);
                self.held.shrink_to_fit();
            }
        }
        Ok(())
    }

    /// Ends the session. A peer that was told nothing is told something, if plaintext will do: the library is silent about some offences.
    fn fail(&mut self, violation: &TlsViolation, answered: bool, out: &mut Vec<u8>) {
        if !answered && !self.spoke {
            out.extend_from_slice(&plain_alert(violation));
        }
        self.let_go();
        self.violation = Some(violation.clone());
    }

    fn let_go(&mut self) {
        self.held = Vec::new();
        self.record = 0;
    }

    /// Keeps what is not whole.
    fn hold(&mut self, bytes: &[u8]) -> Result<(), TlsViolation> {
        let handshaking = self.is_handshaking();
        let bytes_max = if handshaking { HANDSHAKE_BYTES_MAX } else { RECORD_BYTES_MAX };
        if self.held.len() + bytes.len() > bytes_max {
            return Err(TlsViolation::HandshakeTooLarge);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// Encrypts all of the plaintext and appends it to `out`. Pieces share records of 16 KiB; `scratch` is where they are put together, cleared each
    /// time: the shard has one. False if the session is not open yet, or no longer, or its keys are used up (TLS 1.2, after 2^24 records and more):
    /// then nothing of the plaintext, or not all, is in `out`, and the socket is to be closed.
    #[must_use]
    pub fn send(&mut self, slices: &[IoSlice<'_>], scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        out.reserve(bytes + (bytes / PLAIN_BYTES_MAX + 1) * OVERHEAD_BYTES);
        scratch.clear();
        self.write_with(out, |traffic, out| {
            for slice in slices {
                let mut rest: &[u8] = slice;
                while !rest.is_empty() {
                    // A record that one piece fills needs no copy.
                    if scratch.is_empty() && rest.len() >= PLAIN_BYTES_MAX {
                        let (record, behind) = rest.split_at(PLAIN_BYTES_MAX);
                        if !encrypt(traffic, record, out) {
                            return false;
                        }
                        rest = behind;
                        continue;
                    }
                    let (part, behind) = rest.split_at(rest.len().min(PLAIN_BYTES_MAX - scratch.len()));
                    scratch.extend_from_slice(part);
                    rest = behind;
                    if scratch.len() == PLAIN_BYTES_MAX {
                        if !encrypt(traffic, scratch, out) {
                            return false;
                        }
                        scratch.clear();
                    }
                }
            }
            scratch.is_empty() || encrypt(traffic, scratch, out)
        })
    }

    /// Tells the peer that nothing more comes (`close_notify`), once. During a handshake there is nothing to be said.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.write_with(out, |traffic, out| append(out, OVERHEAD_BYTES + 2, |room| traffic.queue_close_notify(room)));
    }

    /// Lets `write` have the library's writing end, if there is one now. It is reached by asking for what is to be read, so nonsense that has come of a
    /// record may be found here.
    fn write_with(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> bool,
    ) -> bool {
        if self.violation.is_some() || self.is_handshaking() {
            return false;
        }
        loop {
            match self.tls.process_tls_records(&mut self.held).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => return write(&mut traffic, out),
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(_) => return false,
                Err(error) => {
                    drain(&mut self.tls, &mut self.held, out);
                    self.fail(&error.into(), true, out);
                    return false;
                }
            }
        }
    }

    /// Whether the handshake is not done yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// `TLSv1_2` or `TLSv1_3`, as soon as it is known.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    /// The user: the common name in the subject of the client's certificate, once the handshake is done. None without a certificate, and if its
    /// subject has no common name, several, or one that is empty, longer than 256 bytes, or holds control characters.
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// Whether the client has shown a certificate, which was good. It may name no user.
    pub fn has_certificate(&self) -> bool {
        self.peer_bytes > 0
    }

    /// Bytes of them that a peer makes it hold: of a record, or a handshake's message, whose end has not come.
    pub fn unfinished_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Bytes of heap that it holds now, `Session` itself not included.
    pub fn held_bytes(&self) -> usize {
        STATE_BYTES + self.held.capacity() + self.peer_bytes + self.peer.as_ref().map_or(0, |peer| peer.len())
    }
}

/// Lets the library have `incoming`, and says how much of it is done with.
fn process(
    tls: &mut UnbufferedServerConnection,
    incoming: &mut [u8],
    plain: &mut impl FnMut(&[u8]),
    out: &mut Vec<u8>,
    peer_closed: &mut bool,
) -> Result<usize, TlsViolation> {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut incoming[used..]);
        let mut blocked = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => *peer_closed = true,
            Ok(ConnectionState::Closed) => (*peer_closed, blocked) = (true, true),
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => blocked = true,
            // Early data is never offered, and there are no other states.
            Ok(_) => return Err(Error::General("an unknown state".to_owned()).into()),
            Err(error) => {
                used += discard;
                drain(tls, &mut incoming[used..], out);
                // No TLS record begins with a letter, and every request does.
                let first = &incoming[used..incoming.len().min(used + 3)];
                let is_http = tls.protocol_version().is_none() && !first.is_empty() && first.iter().all(u8::is_ascii_uppercase);
                return Err(if is_http { TlsViolation::PlainHttp } else { error.into() });
            }
        }
        used += discard;
        if blocked {
            return Ok(used);
        }
    }
}

/// What the library has to say of an error: an alert.
fn drain(tls: &mut UnbufferedServerConnection, incoming: &mut [u8], out: &mut Vec<u8>) {
    while tls.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = tls.process_tls_records(incoming).state else { return };
        encode(data, out);
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(start + size.required_size, 0);
        let written = data.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

fn encrypt(traffic: &mut WriteTraffic<'_, ServerConnectionData>, plain: &[u8], out: &mut Vec<u8>) -> bool {
    append(out, plain.len() + OVERHEAD_BYTES, |room| traffic.encrypt(plain, room))
}

/// Appends what `write` writes into room for `bytes`, or for as much as it asks for.
fn append(out: &mut Vec<u8>, mut bytes: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>) -> bool {
    let start = out.len();
    loop {
        out.resize(start + bytes, 0);
        let written = write(&mut out[start..]);
        out.truncate(start + written.as_ref().map_or(0, |written| *written));
        match written {
            Ok(_) => return true,
            Err(EncryptError::InsufficientSize(size)) if size.required_size > bytes => bytes = size.required_size,
            Err(_) => return false,
        }
    }
}

/// Bytes at the front of `bytes` that are whole records.
fn whole_records(bytes: &[u8]) -> usize {
    let mut place = 0;
    while let Some(header) = bytes[place..].first_chunk::<HEADER_BYTES>() {
        let next = place + record_bytes(header);
        if next > bytes.len() {
            break;
        }
        place = next;
    }
    place
}

/// Bytes until the header, then until the record that `bytes` begin is whole.
fn missing(bytes: &[u8]) -> usize {
    let bytes_wanted = bytes.first_chunk().map_or(HEADER_BYTES, record_bytes);
    bytes_wanted.saturating_sub(bytes.len())
}

fn record_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]))
}

/// A fatal alert, for a peer that was told nothing yet and so has no keys either.
fn plain_alert(violation: &TlsViolation) -> [u8; 7] {
    const DECODE_ERROR: u8 = 50;
    const UNEXPECTED_MESSAGE: u8 = 10;
    let description = match violation {
        TlsViolation::Protocol(Error::PeerMisbehaved(_)) => UNEXPECTED_MESSAGE,
        _ => DECODE_ERROR,
    };
    [21, 3, 3, 0, 2, 2, description]
}

/// The one common name of a certificate's subject.
fn common_name(certificate: &[u8]) -> Option<Box<str>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|names| names.0.iter());
    let mut names = attributes.filter(|attribute| attribute.oid == COMMON_NAME);
    let (name, None) = (names.next()?, names.next()) else { return None };
    let text = match name.value.tag() {
        Tag::Utf8String => name.value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => name.value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::TeletexString => name.value.decode_as::<TeletexStringRef<'_>>().ok()?.as_str().to_owned(),
        _ => return None,
    };
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.into_boxed_str())
}
