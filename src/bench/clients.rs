//! Thousands of subscribers on one thread: non-blocking sockets, one epoll, one read buffer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::kafka::load::{latencies, monotonic_ns, stamp};

/// How long a node has to answer an upgrade or a subscribe.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// What the clients saw.
#[derive(Debug)]
pub struct Seen {
    /// From the making of a record to its receipt, microseconds.
    pub latencies: Histogram<u64>,
    pub deliveries: u64,
    pub reads: u64,
    /// Sequences that were skipped or came again.
    pub gaps: u64,
    pub seconds: f64,
}

struct Connection {
    socket: TcpStream,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    sequence: u64,
}

/// Connected subscribers.
pub struct Clients {
    epoll: Epoll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl Clients {
    /// Connects `count` clients; client `n` subscribes `subject(n)`. With `raw` there is no protocol: the peer just sends frames.
    ///
    /// # Errors
    /// A socket's word, or what the node answered in place of a subscription.
    pub fn connect(address: SocketAddr, count: usize, raw: bool, subject: impl Fn(usize) -> String) -> io::Result<Clients> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let mut socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            if !raw {
                subscribe(&mut socket, &subject(number))?;
            }
            socket.set_nonblocking(true)?;
            epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { socket, partial: Vec::new(), sequence: 0 });
        }
        Ok(Clients { epoll, connections, buffer: vec![0; 256 << 10] })
    }

    /// Receives for a while. What came before is not counted.
    ///
    /// # Errors
    /// The node closed a connection.
    pub fn receive(&mut self, time: Duration) -> io::Result<Seen> {
        let mut seen = Seen { latencies: latencies(), deliveries: 0, reads: 0, gaps: 0, seconds: 0.0 };
        let began = Instant::now();
        let mut events = vec![EpollEvent::empty(); 1_024];
        while began.elapsed() < time {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(20_u8))?;
            for event in &events[..count] {
                let connection = &mut self.connections[event.data() as usize];
                let read = match connection.socket.read(&mut self.buffer) {
                    Ok(0) => return Err(io::Error::other("the node closed a connection")),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                };
                seen.reads += 1;
                let now = monotonic_ns();
                connection.take(&self.buffer[..read], now, &mut seen)?;
            }
        }
        seen.seconds = began.elapsed().as_secs_f64();
        Ok(seen)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}

impl Connection {
    fn take(&mut self, bytes: &[u8], now: u64, seen: &mut Seen) -> io::Result<()> {
        if self.partial.is_empty() {
            let used = self.frames(bytes, now, seen)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let used = self.frames(&whole, now, seen)?;
        whole.drain(..used);
        if !whole.is_empty() {
            self.partial = whole;
        }
        Ok(())
    }

    fn frames(&mut self, bytes: &[u8], now: u64, seen: &mut Seen) -> io::Result<usize> {
        let mut at = 0;
        while let Some((start, end)) = frame(&bytes[at..]) {
            let payload = &bytes[at + start..at + end];
            at += end;
            if payload == b"{}" {
                self.socket.write_all(&masked(b"{}"))?;
                continue;
            }
            // The value stands behind `"data":`, within the first hundred bytes.
            let head = &payload[..payload.len().min(160)];
            let Some(data) = head.windows(7).position(|window| window == b"\"data\":") else { continue };
            let Some((time, sequence)) = stamp(&payload[data + 7..]) else { continue };
            seen.deliveries += 1;
            seen.latencies.saturating_record(now.saturating_sub(time) / 1_000);
            // 1: a producer that begins anew.
            if self.sequence != 0 && sequence != 1 && sequence != self.sequence + 1 {
                seen.gaps += 1;
            }
            self.sequence = sequence;
        }
        Ok(at)
    }
}

/// Start and end of the payload of a whole unmasked frame.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, len) = match bytes.get(1)? & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, len as usize),
    };
    (bytes.len() >= start + len).then_some((start, start + len))
}

/// A client's text frame; the mask is zero, which the protocol allows and costs nothing.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Upgrade, connect and subscribe, each waited for.
fn subscribe(socket: &mut TcpStream, subject: &str) -> io::Result<()> {
    socket.set_read_timeout(Some(ANSWER_TIME))?;
    let head = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(head.as_bytes())?;
    let mut buffer = Vec::new();
    read_until(socket, &mut buffer, |bytes| bytes.windows(4).any(|window| window == b"\r\n\r\n"))?;
    if !buffer.starts_with(b"HTTP/1.1 101") {
        let line = String::from_utf8_lossy(&buffer).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(format!("the node refused an upgrade: {line}")));
    }
    let commands = format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":{subject:?},\"flag\":1}}}}");
    socket.write_all(&masked(commands.as_bytes()))?;
    buffer.clear();
    read_until(socket, &mut buffer, |bytes| bytes.windows(7).any(|window| window == b"\"id\":2,"))?;
    if buffer.windows(8).any(|window| window == b"\"error\":") {
        return Err(io::Error::other(format!("the node refused a subscribe: {}", String::from_utf8_lossy(&buffer))));
    }
    Ok(())
}

fn read_until(socket: &mut TcpStream, buffer: &mut Vec<u8>, done: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let mut chunk = [0; 2_048];
    while !done(buffer) {
        match socket.read(&mut chunk)? {
            0 => return Err(io::Error::other("the node closed the connection")),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(())
}
