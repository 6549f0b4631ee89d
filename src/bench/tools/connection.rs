//! One WebSocket connection on a socket that does not block, with TLS or without: bytes in, messages out. It never waits; `Crowd` does.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::message::{frame, put};
use super::stamp::place_of;
use super::target::Target;
use crate::tls::client::{Client as TlsClient, ClientSession};

/// The longest answer to an upgrade, and the longest message in pieces.
const HEAD_BYTES_MAX: usize = 16 << 10;
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Reads from a socket with TLS in one turn: others want to be heard too. Without TLS it is one.
const TLS_READS_MAX: u32 = 16;
/// Who reads with a smaller buffer reads slowly on purpose.
const SLOW_BYTES: usize = 256 << 10;

/// What happened on a connection.
#[derive(Debug)]
pub enum Happened<'a> {
    /// It may be spoken on.
    Open,
    Message(&'a [u8]),
}

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("the server closed it, code {code}: {reason}")]
    Closed { code: u16, reason: String },
    #[error("the server closed it without a word")]
    Gone,
    #[error("the upgrade was refused: {line}")]
    Refused { line: String, status: u64, retry_after_seconds: Option<u64> },
    #[error("not WebSocket: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Open,
}

/// A connection.
pub struct Connection {
    socket: TcpStream,
    session: Option<ClientSession>,
    state: State,
    /// The beginning of something whose end has not come.
    partial: Vec<u8>,
    /// The pieces of a message so far.
    pieces: Vec<u8>,
    /// What is to be written, and how much of it is.
    out: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Begins to connect, from a source address or any, with the kernel's receive buffer or a smaller one.
    ///
    /// # Errors
    /// The socket's word.
    pub fn begin(
        target: &Target,
        tls: Option<&TlsClient>,
        source: Option<IpAddr>,
        subprotocol: Option<&str>,
        receive_buffer_bytes: Option<usize>,
    ) -> io::Result<Connection> {
        let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&target.address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let session = tls.filter(|_| target.is_tls).map(|tls| tls.session(&target.host)).transpose()?;
        let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{subprotocol}\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            target.path, target.authority
        );
        Ok(Connection {
            socket: socket.into(),
            session,
            state: State::Connecting,
            partial: Vec::new(),
            pieces: Vec::new(),
            out: head.into_bytes(),
            written: 0,
        })
    }

    /// Its socket.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it waits for the socket to take more.
    pub fn wants_write(&self) -> bool {
        self.state == State::Connecting || self.written < self.out.len() || self.session.as_ref().is_some_and(ClientSession::wants_write)
    }

    /// Bytes that are to be written.
    pub fn out_bytes(&self) -> usize {
        self.out.len() - self.written
    }

    /// Queues a message; `write` sends it.
    pub fn say(&mut self, opcode: u8, payload: &[u8]) {
        put(&mut self.out, opcode, payload);
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn write(&mut self) -> Result<(), Ended> {
        if self.state == State::Connecting {
            if let Some(error) = self.socket.take_error()? {
                return Err(error.into());
            }
            self.state = State::Upgrading;
        }
        if let Some(session) = &mut self.session {
            session.flush(&mut self.socket)?;
        }
        while self.written < self.out.len() {
            let left = &self.out[self.written..];
            let written = match &mut self.session {
                Some(session) => session.write(&mut self.socket, left),
                None => self.socket.write(left),
            };
            match written {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether the upgrade has been answered.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Reads what is there, once or until TLS has no more, and tells what happened. What `take` says goes out with the next `write`. Gives how many
    /// bytes it read, without TLS's own; those of a buffer at most.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(Happened<'_>, &mut Vec<u8>)) -> Result<usize, Ended> {
        let (mut all, bytes_max) = (0, buffer.len());
        for round in 0_u32.. {
            let read = match &mut self.session {
                Some(session) => session.read(&mut self.socket, buffer, round < TLS_READS_MAX),
                None => self.socket.read(buffer),
            };
            let read = match read {
                Ok(0) => return Err(Ended::Gone),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => break,
                Err(error) => return Err(error.into()),
            };
            all += read;
            if self.partial.is_empty() {
                let used = self.take(&buffer[..read], &mut take)?;
                self.partial.extend_from_slice(&buffer[used..read]);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(&buffer[..read]);
                let used = self.take(&whole, &mut take)?;
                whole.drain(..used);
                self.partial = whole;
            }
            if self.session.is_none() {
                break;
            }
            // A slow reader's buffer is its budget; it comes back for the rest of TLS by itself.
            if bytes_max < SLOW_BYTES && all >= bytes_max {
                break;
            }
        }
        Ok(all)
    }

    /// Bytes that are done with.
    fn take(&mut self, bytes: &[u8], take: &mut impl FnMut(Happened<'_>, &mut Vec<u8>)) -> Result<usize, Ended> {
        let mut at = 0;
        if self.state != State::Open {
            let Some(end) = place_of(bytes, b"\r\n\r\n") else {
                if bytes.len() > HEAD_BYTES_MAX {
                    return Err(Ended::Nonsense("an endless answer to the upgrade".to_owned()));
                }
                return Ok(0);
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return Err(refused(&bytes[..end]));
            }
            at = end + 4;
            self.state = State::Open;
            take(Happened::Open, &mut self.out);
        }
        while let Some(frame) = frame(&bytes[at..]).map_err(|error| Ended::Nonsense(error.to_string()))? {
            at += frame.bytes;
            match (frame.opcode, frame.is_final) {
                (1 | 2, true) => take(Happened::Message(frame.payload), &mut self.out),
                (0..=2, is_final) => {
                    self.pieces.extend_from_slice(frame.payload);
                    if self.pieces.len() > MESSAGE_BYTES_MAX {
                        return Err(Ended::Nonsense("an endless message".to_owned()));
                    }
                    if is_final {
                        take(Happened::Message(&self.pieces), &mut self.out);
                        self.pieces.clear();
                    }
                }
                (8, _) => {
                    let (code, reason) = match frame.payload {
                        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned()),
                        _ => (1005, String::new()),
                    };
                    return Err(Ended::Closed { code, reason });
                }
                (9, _) => put(&mut self.out, 10, frame.payload),
                _ => {}
            }
        }
        Ok(at)
    }
}

/// An answer that is no upgrade.
fn refused(head: &[u8]) -> Ended {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next().unwrap_or_default().to_owned();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().parse().ok())?
    };
    let retry_after_seconds = head.lines().find_map(header);
    Ended::Refused { line, status, retry_after_seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_back_if_the_server_does() {
        for (head, status, seconds) in [
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1\r\nretry-after: 7", 503, Some(7)),
            ("HTTP/1.1 503 Service Unavailable\r\nRetry-After: Fri, 27 Nov 2026 16:00:00 GMT", 503, None),
            ("HTTP/1.1 404 Not Found", 404, None),
            ("SSH-2.0", 0, None),
        ] {
            let Ended::Refused { status: said, retry_after_seconds, .. } = refused(head.as_bytes()) else { panic!("{head}") };
            assert_eq!((said, retry_after_seconds), (status, seconds), "{head}");
        }
    }
}
