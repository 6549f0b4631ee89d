//! Sockets with TLS: what is written is encrypted a part at a time, and what a full socket does not take of that is kept until it does.

use std::io::IoSlice;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::sockets::{Held, Sockets};
use crate::handoff::ConnectionKey;
use crate::shard::WriteStatus;
use crate::tls::Received;

/// Plaintext that is encrypted at once: two records. A full socket leaves its shard with so much ciphertext at most; smaller parts would cost a system
/// call each.
const PART_BYTES: usize = 32 << 10;
/// Ciphertext that may wait for one socket: a part, and what the protocol itself wants to say. A peer that makes it say more does not read.
const TAIL_BYTES_MAX: usize = 64 << 10;

impl Sockets {
    /// As `write`, which has looked at everything else.
    pub(super) fn write_tls(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if all <= PART_BYTES {
            return self.write_part(connection, slices, 0, all);
        }
        let mut written = 0;
        let mut part: Vec<IoSlice<'_>> = Vec::with_capacity(slices.len().min(64));
        let (mut next, mut skip) = (0, 0);
        loop {
            part.clear();
            let mut bytes = 0;
            while bytes < PART_BYTES
                && let Some(slice) = slices.get(next)
            {
                let piece = &slice[skip..];
                let take = piece.len().min(PART_BYTES - bytes);
                part.push(IoSlice::new(&piece[..take]));
                bytes += take;
                if take == piece.len() {
                    (next, skip) = (next + 1, 0);
                } else {
                    skip += take;
                }
            }
            match self.write_part(connection, &part, written, all) {
                WriteStatus::Done if written + bytes < all => written += bytes,
                status => return status,
            }
        }
    }

    /// Encrypts and sends a part, behind `before` of `all` bytes. `Done`: the socket has taken it, or it is the last.
    fn write_part(&mut self, connection: ConnectionKey, part: &[IoSlice<'_>], before: usize, all: usize) -> WriteStatus {
        let Some(socket) = self.slots.get_mut(connection) else { return WriteStatus::Broken };
        let Some(tls) = socket.tls.as_mut() else { return WriteStatus::Broken };
        let (plain, out) = &mut self.scratch;
        out.clear();
        if !tls.send(part, plain, out) {
            return self.breaks(connection);
        }
        if !self.send_out(connection) {
            return WriteStatus::Broken;
        }
        let Some(socket) = self.slots.get_mut(connection).filter(|socket| !socket.held.is_nothing()) else { return WriteStatus::Done };
        let written = before + part.iter().map(|slice| slice.len()).sum::<usize>();
        if written == all {
            return WriteStatus::Done;
        }
        socket.owes_writable = true;
        WriteStatus::Short(written)
    }

    /// Decrypts what was read; `plain` is given what is in it. What the protocol answers is sent. `None`: the peer broke the protocol, or reads nothing.
    /// What came before a peer's goodbye is taken first: the next read is the end.
    pub(super) fn decrypt(&mut self, connection: ConnectionKey, ciphertext: &mut [u8], plain: impl FnMut(&[u8])) -> Option<Received> {
        let socket = self.slots.get_mut(connection)?;
        let tls = socket.tls.as_mut()?;
        let out = &mut self.scratch.1;
        out.clear();
        let received = tls.receive(ciphertext, plain, out);
        socket.said_last = received.as_ref().is_ok_and(|received| received.closed);
        let sent = self.send_out(connection);
        match received {
            Ok(received) if sent => Some(received),
            Ok(_) => None,
            Err(violation) => {
                tracing::debug!(reason = %violation, "TLS violation");
                self.refused.handshakes += 1;
                None
            }
        }
    }

    /// Whether a connection may be read now, and whether what comes is encrypted. `None`: its handshake has no turn yet; its task is woken.
    pub(super) fn may_read(&mut self, now_ms: u64, connection: ConnectionKey) -> Option<bool> {
        let Some(socket) = self.slots.get_mut(connection) else { return Some(false) };
        if socket.tls.is_none() || socket.may_handshake {
            return Some(socket.tls.is_some());
        }
        // Who says nothing takes nobody's turn.
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let speaks = recv(socket.fd, &mut [0], flags).is_ok_and(|count| count > 0);
        if speaks {
            if !self.handshakes.ask(now_ms, self.settings.handshakes_per_second, connection) {
                return None;
            }
            socket.may_handshake = true;
        }
        Some(true)
    }

    /// Whom a client's certificate names.
    pub(super) fn user(&self, connection: ConnectionKey) -> Option<String> {
        self.slots.get(connection)?.tls.as_ref()?.peer().map(str::to_owned)
    }

    /// Says goodbye, as far as the socket takes it.
    pub(super) fn close_tls(&mut self, connection: ConnectionKey) {
        let Some(socket) = self.slots.get_mut(connection) else { return };
        let Some(tls) = socket.tls.as_mut().filter(|_| socket.held.is_nothing()) else { return };
        let out = &mut self.scratch.1;
        out.clear();
        tls.close(out);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // Nobody waits for it.
        let _ = send(socket.fd, out, flags);
    }

    /// Sends what is encrypted behind what waits already, and keeps what the socket does not take. Whether the socket goes on.
    fn send_out(&mut self, connection: ConnectionKey) -> bool {
        let out = &self.scratch.1;
        let Some(socket) = self.slots.get_mut(connection) else { return false };
        let mut at = 0;
        while socket.held.is_nothing() && at < out.len() {
            match send(socket.fd, &out[at..], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => at += sent,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => break,
                Err(_) => {
                    self.breaks(connection);
                    return false;
                }
            }
        }
        if at == out.len() {
            return true;
        }
        let before = socket.held.bytes().len();
        if before + out.len() - at > TAIL_BYTES_MAX {
            self.breaks(connection);
            return false;
        }
        let mut bytes = Vec::with_capacity(before + out.len() - at);
        bytes.extend_from_slice(socket.held.bytes());
        bytes.extend_from_slice(&out[at..]);
        if before == 0 {
            // It has just said that it takes no more; of one that had a tail already, the poller may have said otherwise since.
            socket.writable = false;
        }
        let held = Held::Tail { bytes, at: 0 };
        self.tail_bytes += held.tail_bytes();
        let old = std::mem::replace(&mut socket.held, held);
        self.tail_bytes -= old.tail_bytes();
        true
    }

    /// So many of the bytes that a socket holds were written.
    pub(super) fn held_written(&mut self, connection: ConnectionKey, count: usize) {
        let Some(socket) = self.slots.get_mut(connection) else { return };
        let is_over = match &mut socket.held {
            Held::Tail { bytes, at } => {
                *at += count;
                *at >= bytes.len()
            }
            _ => true,
        };
        if is_over {
            let old = std::mem::take(&mut socket.held);
            self.tail_bytes -= old.tail_bytes();
        }
    }

    /// How many handshakes have had to wait for their turn.
    pub fn handshakes_waited(&self) -> u64 {
        self.handshakes.waited
    }

    /// Ciphertext that waits for sockets, in bytes.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    fn breaks(&mut self, connection: ConnectionKey) -> WriteStatus {
        if let Some(socket) = self.slots.get_mut(connection) {
            socket.broken = true;
            socket.wake();
        }
        WriteStatus::Broken
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;
    use std::thread;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::net::{NetSettings, Poller};
    use crate::tls::{CertificateFiles, Server, Session, Tickets, TlsSettings, pinned};

    /// A server, its certificate's file, and the folder that holds it.
    fn server() -> (Server, std::path::PathBuf, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let settings = TlsSettings { certificates: vec![CertificateFiles { cert: cert.clone(), key }], ..TlsSettings::default() };
        (Server::open(&settings, &Tickets::new().unwrap()).unwrap(), cert, folder)
    }

    /// The socket of a client that has connected, and its key once the handshake is done.
    fn opened(server: &Server, listener: &TcpListener, sockets: &mut Sockets) -> (TcpStream, ConnectionKey) {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let key = sockets.insert(&stream, Some(Box::new(Session::new(server)))).unwrap();
        while !read(&stream, sockets, key, |_| {}).opened {}
        (stream, key)
    }

    /// Reads once, when there is something.
    fn read(stream: &TcpStream, sockets: &mut Sockets, key: ConnectionKey, plain: impl FnMut(&[u8])) -> Received {
        let mut buffer = [0; 16 << 10];
        wait(stream, PollFlags::POLLIN);
        let count = recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).unwrap();
        sockets.decrypt(key, &mut buffer[..count], plain).unwrap()
    }

    fn wait(stream: &TcpStream, what: PollFlags) {
        assert_ne!(poll(&mut [PollFd::new(stream, what)], 20_000).unwrap(), 0, "the peer does something within 20 s");
    }

    /// Byte `n` of what is sent.
    fn byte(n: usize) -> u8 {
        (n % 251) as u8
    }

    #[test]
    fn a_socket_that_is_full_at_any_offset_loses_doubles_and_mixes_nothing() {
        const ALL: usize = 1 << 20;
        let (server, cert, _folder) = server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reader = thread::spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            socket2::SockRef::from(&stream).set_recv_buffer_size(8 << 10).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut client = pinned::connect(stream, &cert).unwrap();
            client.conn.complete_io(&mut client.sock).unwrap();
            let (mut seen, mut piece) = (0, vec![0; 64 << 10]);
            while seen < ALL {
                // Bites of all sizes: so the socket has room for other sizes each time.
                let bite = 1 + seen % 4_099;
                let count = client.read(&mut piece[..bite]).unwrap();
                assert_ne!(count, 0, "it ends after {seen} bytes");
                for (place, got) in piece[..count].iter().enumerate() {
                    assert_eq!(*got, byte(seen + place), "byte {}", seen + place);
                }
                seen += count;
            }
        });
        let mut sockets = Sockets::new(NetSettings::default(), Poller::new().unwrap());
        let (stream, key) = opened(&server, &listener, &mut sockets);
        socket2::SockRef::from(&stream).set_send_buffer_size(8 << 10).unwrap();

        let text: Vec<u8> = (0..251 * 300).map(byte).collect();
        let (mut sent, mut offset, mut shorts, mut tails) = (0, 0, 0, 0);
        while sent < ALL {
            // As a shard does it: several frames in one write, from where the last one ended.
            let from = sent % 251;
            let size = (1 + sent * 7 % 70_000).min(ALL - sent);
            let cut = size / 3;
            let slices = [IoSlice::new(&text[from..from + cut]), IoSlice::new(&text[from + cut..from + size])];
            match sockets.write(key, &slices) {
                WriteStatus::Done => sent += size,
                WriteStatus::Short(count) => {
                    sent += count;
                    shorts += 1;
                }
                WriteStatus::Broken => panic!("broken after {sent} bytes"),
            }
            // As its task does it, but that each write ends one byte later than the one before: every offset is one where a socket was full.
            while let Some(held) = sockets.slots.get(key).map(|socket| socket.held.bytes()).filter(|held| !held.is_empty()) {
                wait(&stream, PollFlags::POLLOUT);
                offset = offset % (17 << 10) + 1;
                match send(stream.as_raw_fd(), &held[..held.len().min(offset)], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                    Ok(count) => {
                        tails += 1;
                        sockets.held_written(key, count);
                    }
                    Err(Errno::EAGAIN) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(sockets.tail_bytes(), 0, "a tail that is written is counted no more");
        }
        assert!(shorts > 5 && tails > 60, "{shorts} short writes, {tails} of tails");
        reader.join().unwrap();
        sockets.remove(key);
    }

    #[test]
    fn a_peer_that_does_not_read_holds_a_part_and_no_more() {
        let (server, cert, _folder) = server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (done, waits) = std::sync::mpsc::channel::<()>();
        let sleeper = thread::spawn(move || {
            let mut client = pinned::connect(TcpStream::connect(address).unwrap(), &cert).unwrap();
            client.conn.complete_io(&mut client.sock).unwrap();
            // Until the test is over.
            let _ = waits.recv_timeout(Duration::from_secs(20));
        });
        let mut sockets = Sockets::new(NetSettings::default(), Poller::new().unwrap());
        let (_stream, key) = opened(&server, &listener, &mut sockets);
        let text = vec![b'x'; 300 << 10];
        let mut taken = 0;
        loop {
            match sockets.write(key, &[IoSlice::new(&text)]) {
                WriteStatus::Done => taken += text.len(),
                WriteStatus::Short(0) => break,
                WriteStatus::Short(count) => taken += count,
                WriteStatus::Broken => panic!("broken after {taken} bytes"),
            }
            assert!(taken < 64 << 20, "the kernel takes no end of it");
        }
        assert!((1..=PART_BYTES + (2 << 10)).contains(&sockets.tail_bytes()), "{} bytes", sockets.tail_bytes());
        sockets.remove(key);
        assert_eq!(sockets.tail_bytes(), 0);
        drop(done);
        sleeper.join().unwrap();
    }

    #[test]
    fn what_a_peer_says_before_its_goodbye_is_taken_and_an_unfinished_record_counts() {
        let (server, cert, _folder) = server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let speaker = thread::spawn(move || {
            let mut client = pinned::connect(TcpStream::connect(address).unwrap(), &cert).unwrap();
            client.conn.complete_io(&mut client.sock).unwrap();
            // The head of a record of 16,000 bytes, of which ten come by themselves.
            client.conn.writer().write_all(&[7; 15_000]).unwrap();
            let mut record = Vec::new();
            client.conn.write_tls(&mut record).unwrap();
            client.sock.write_all(&record[..10]).unwrap();
            // Until the first bytes have been looked at.
            thread::park_timeout(Duration::from_secs(20));
            client.conn.send_close_notify();
            client.conn.write_tls(&mut record).unwrap();
            client.sock.write_all(&record[10..]).unwrap();
            client
        });
        let mut sockets = Sockets::new(NetSettings::default(), Poller::new().unwrap());
        let (stream, key) = opened(&server, &listener, &mut sockets);
        let mut heard = 0;
        while sockets.slots[key].tls.as_ref().unwrap().unfinished_bytes() == 0 {
            read(&stream, &mut sockets, key, |plain| heard += plain.len());
        }
        sockets.hold_inbound(key, 100);
        assert!(sockets.inbound_bytes() > 100, "{} bytes", sockets.inbound_bytes());
        speaker.thread().unpark();
        while !read(&stream, &mut sockets, key, |plain| heard += plain.len()).closed {}
        assert_eq!((heard, sockets.slots[key].said_last), (15_000, true));
        sockets.hold_inbound(key, 100);
        assert_eq!(sockets.inbound_bytes(), 100, "a record that is whole is held no more");
        sockets.remove(key);
        drop(speaker.join().unwrap());
    }
}
