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
        socket.wake();
        let written = before + part.iter().map(|slice| slice.len()).sum::<usize>();
        if written == all {
            return WriteStatus::Done;
        }
        socket.owes_writable = true;
        WriteStatus::Short(written)
    }

    /// Decrypts what was read; `plain` is given what is in it. What the protocol answers is sent. `None`: the peer broke the protocol, or reads nothing.
    pub(super) fn decrypt(&mut self, connection: ConnectionKey, ciphertext: &mut [u8], plain: impl FnMut(&[u8])) -> Option<Received> {
        let socket = self.slots.get_mut(connection)?;
        let tls = socket.tls.as_mut()?;
        let out = &mut self.scratch.1;
        out.clear();
        let received = tls.receive(ciphertext, plain, out);
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
