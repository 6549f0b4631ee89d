//! Thousands of subscribers on one thread: non-blocking sockets, one epoll, one read buffer, one ledger each.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::account::{Ledger, settle};
use super::wire::{Said, frame, masked};
use crate::kafka::load::{latencies, monotonic_ns, thread_cpu_seconds};

/// How long a node has to answer an upgrade or a subscribe.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// What the clients saw in a while.
#[derive(Debug)]
pub struct Seen {
    /// From the time when a record was due to its receipt, microseconds.
    pub latencies: Histogram<u64>,
    pub deliveries: u64,
    pub reads: u64,
    /// Of the receiving thread.
    pub cpu_seconds: f64,
    pub seconds: f64,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { latencies: latencies(), deliveries: 0, reads: 0, cpu_seconds: 0.0, seconds: 0.0 }
    }
}

struct Connection {
    socket: TcpStream,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    ledger: Ledger,
}

/// Connected subscribers.
pub struct Clients {
    epoll: Epoll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    deliveries: u64,
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
            let told = |error: io::Error| io::Error::other(format!("client {number}: {error}"));
            let mut socket = TcpStream::connect_timeout(&address, ANSWER_TIME).map_err(told)?;
            socket.set_nodelay(true)?;
            let partial = if raw { Vec::new() } else { subscribe(&mut socket, &subject(number)).map_err(told)? };
            socket.set_nonblocking(true)?;
            epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { socket, partial, ledger: Ledger::default() });
        }
        Ok(Clients { epoll, connections, buffer: vec![0; 256 << 10], deliveries: 0 })
    }

    /// Receives for that long, or until so many deliveries have come since the beginning.
    ///
    /// # Errors
    /// A client was closed, or told something else than a record: unsubscribed, disconnected.
    pub fn receive(&mut self, seen: &mut Seen, time: Duration, deliveries: u64) -> io::Result<()> {
        let (began, cpu, before) = (Instant::now(), thread_cpu_seconds(), self.deliveries);
        let mut events = [EpollEvent::empty(); 1_024];
        while began.elapsed() < time && self.deliveries < deliveries {
            let left = time.saturating_sub(began.elapsed()).as_millis().clamp(1, 20) as u8;
            let count = match self.epoll.wait(&mut events, isize::from(left)) {
                Err(nix::errno::Errno::EINTR) => continue,
                count => count?,
            };
            for event in &events[..count] {
                let number = event.data() as usize;
                let connection = &mut self.connections[number];
                let read = match connection.socket.read(&mut self.buffer) {
                    Ok(0) => return Err(io::Error::other(format!("client {number} was closed"))),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(io::Error::other(format!("client {number}: {error}"))),
                };
                seen.reads += 1;
                let took = connection.take(&self.buffer[..read], monotonic_ns(), &mut seen.latencies);
                self.deliveries += took.map_err(|error| io::Error::other(format!("client {number}: {error}")))?;
            }
        }
        seen.deliveries += self.deliveries - before;
        seen.cpu_seconds += thread_cpu_seconds() - cpu;
        seen.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Deliveries since the beginning.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Received = sent x subscribers, each subscriber by itself; client `n` has the subject `subject(n)`.
    ///
    /// # Errors
    /// Who did not get what was sent.
    pub fn settle(&self, sent: &[u64], subject: impl Fn(usize) -> usize) -> Result<(), String> {
        settle(self.connections.iter().map(|connection| &connection.ledger), sent, subject)
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
    fn take(&mut self, bytes: &[u8], now: u64, latencies: &mut Histogram<u64>) -> io::Result<u64> {
        if self.partial.is_empty() {
            let (used, records) = self.frames(bytes, now, latencies)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(records);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let (used, records) = self.frames(&whole, now, latencies)?;
        whole.drain(..used);
        // A buffer of its own would be memory for each client.
        if !whole.is_empty() {
            self.partial = whole;
        }
        Ok(records)
    }

    /// Bytes of whole frames, and records in them.
    fn frames(&mut self, bytes: &[u8], now: u64, latencies: &mut Histogram<u64>) -> io::Result<(usize, u64)> {
        let (mut at, mut records) = (0, 0);
        while let Some(frame) = frame(&bytes[at..]) {
            at += frame.bytes;
            match frame.said() {
                Said::Ping => self.socket.write_all(&masked(b"{}"))?,
                Said::Record { due_ns, sequence } => {
                    latencies.saturating_record(now.saturating_sub(due_ns) / 1_000);
                    self.ledger.record(sequence);
                    records += 1;
                }
                Said::Other(_) => return Err(io::Error::other(format!("got {}", frame.describe()))),
            }
        }
        Ok((at, records))
    }
}

/// Upgrade, connect and subscribe, each waited for. Gives what came behind the answers.
fn subscribe(socket: &mut TcpStream, subject: &str) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_TIME;
    let head = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(head.as_bytes())?;
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(socket, &mut buffer, deadline)?;
    };
    if !buffer.starts_with(b"HTTP/1.1 101") {
        let line = String::from_utf8_lossy(&buffer).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::other(format!("the node refused an upgrade: {line}")));
    }
    buffer.drain(..end);
    let commands = format!("{{\"id\":1,\"connect\":{{}}}}\n{{\"id\":2,\"subscribe\":{{\"channel\":{subject:?},\"flag\":1}}}}");
    socket.write_all(&masked(commands.as_bytes()))?;
    loop {
        let Some(frame) = frame(&buffer) else {
            read_more(socket, &mut buffer, deadline)?;
            continue;
        };
        let has = |text: &str| frame.payload.windows(text.len()).any(|window| window == text.as_bytes());
        if has("\"error\":") || frame.opcode != 1 {
            return Err(io::Error::other(format!("the node refused a subscribe: {}", frame.describe())));
        }
        let (answered, bytes) = (has("\"id\":2,"), frame.bytes);
        buffer.drain(..bytes);
        if answered {
            return Ok(buffer);
        }
    }
}

fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    let late = || io::Error::other("the node does not answer in time");
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)?;
    socket.set_read_timeout(Some(left))?;
    let mut chunk = [0; 2_048];
    match socket.read(&mut chunk) {
        Ok(0) => Err(io::Error::other("the node closed the connection")),
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
