//! The sockets of a shard with a shard that is a script: short writes, closes, timeouts, limits, pages.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corespan::executor::Alone;
use corespan::handoff::ConnectionKey;
use corespan::http::{Site, SiteSettings};
use corespan::net::{self, Host, NetSettings, Poller, Sockets};
use corespan::shard::{Event, WriteStatus};

const UPGRADE: &[u8] = b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What the script does to every connection: writes that many bytes of a pattern, then closes.
struct Script {
    sockets: RefCell<Sockets>,
    read_buffer: RefCell<Box<[u8]>>,
    bytes: usize,
    written: Cell<usize>,
    since: Instant,
    log: mpsc::Sender<&'static str>,
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

impl Script {
    fn write_on(&self, connection: ConnectionKey) {
        while self.written.get() < self.bytes {
            let from = self.written.get();
            let piece: Vec<u8> = (from..self.bytes.min(from + 100_000)).map(pattern).collect();
            let slices: Vec<IoSlice<'_>> = piece.chunks(777).map(IoSlice::new).collect();
            match self.sockets.borrow_mut().write(connection, &slices) {
                WriteStatus::Done => self.written.set(from + piece.len()),
                WriteStatus::Short(count) => {
                    assert!(count < piece.len(), "short means that something is left");
                    self.written.set(from + count);
                    self.log.send("short").unwrap();
                    return;
                }
                WriteStatus::Broken => return,
            }
        }
        self.log.send("written").unwrap();
        self.sockets.borrow_mut().close(connection);
    }
}

impl Host for Script {
    fn sockets(&self) -> RefMut<'_, Sockets> {
        self.sockets.borrow_mut()
    }
    fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }
    fn handle(&self, event: Event<'_>) {
        match event {
            Event::Opened { connection, .. } => {
                self.log.send("opened").unwrap();
                if self.bytes > 0 {
                    self.write_on(connection);
                }
            }
            Event::Writable { connection } => {
                self.log.send("writable").unwrap();
                self.write_on(connection);
            }
            Event::Closed { .. } => self.log.send("closed").unwrap(),
            Event::Received { .. } => self.log.send("received").unwrap(),
            Event::Violated { connection, code, .. } => {
                self.log.send(if code == 1013 { "try again later" } else { "violated" }).unwrap();
                self.sockets.borrow_mut().close(connection);
            }
            _ => {}
        }
    }
    fn reads(&self, _connection: ConnectionKey) -> bool {
        true
    }
    fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }
}

/// Lets the tasks run, or waits for something to do, as a shard's turn task does.
async fn turn(host: &impl Host) {
    let steps = host.sockets().steps();
    futures_lite::future::yield_now().await;
    if host.sockets().steps() == steps {
        host.sockets().look(Duration::from_millis(5));
    }
    let now_ms = host.now_ms();
    host.sockets().sweep(now_ms);
}

/// A shard's sockets on an executor of their own.
struct Server {
    address: SocketAddr,
    stop: mpsc::Sender<()>,
    log: mpsc::Receiver<&'static str>,
    executor: Alone,
    /// Sockets that are left at its end.
    left: mpsc::Receiver<usize>,
}

impl Server {
    fn start(settings: NetSettings, bytes: usize) -> Server {
        let mut listening = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1, &settings).expect("a loopback port can be had");
        let (address, listener) = (listening.address, listening.listeners.remove(0));
        let (stop, stopped) = mpsc::channel();
        let (logger, log) = mpsc::channel();
        let (tell, left) = mpsc::channel();
        let cpu = core_affinity::get_core_ids().expect("the CPUs of this process can be read")[0].id;
        let executor = Alone::start(cpu, move || async move {
            let host = Rc::new(Script {
                sockets: RefCell::new(Sockets::new(settings, Poller::new().expect("an epoll instance can be made"))),
                read_buffer: RefCell::new(vec![0; 64 << 10].into_boxed_slice()),
                bytes,
                written: Cell::new(0),
                since: Instant::now(),
                log: logger,
            });
            let site = Site::new(&SiteSettings { demo: false, allowed_origins: Vec::new() });
            let accepting = glommio::spawn_local(net::accept(host.clone(), listener.into(), site));
            while stopped.try_recv().is_err() {
                turn(&*host).await;
            }
            host.sockets().stop_accepting();
            accepting.await;
            let deadline = Instant::now() + Duration::from_secs(10);
            while !host.sockets().is_empty() && Instant::now() < deadline {
                turn(&*host).await;
            }
            let _ = tell.send(host.sockets().len());
        })
        .expect("io_uring can be used here");
        Server { address, stop, log, executor, left }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the listener accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        stream
    }

    /// Stops; every socket is gone.
    fn end(self) -> Vec<&'static str> {
        self.stop.send(()).expect("the server runs");
        assert_eq!(self.left.recv_timeout(Duration::from_secs(20)), Ok(0), "sockets are left");
        assert!(self.executor.join(Duration::from_secs(10)), "the server ends well");
        self.log.try_iter().collect()
    }
}

/// Reads a head up to its blank line.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole head comes");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

#[test]
fn a_short_write_is_followed_by_writable_and_every_byte_arrives_before_the_end() {
    const BYTES: usize = 12_000_000;
    let server = Server::start(NetSettings::default(), BYTES);
    let mut client = server.connect();
    client.write_all(UPGRADE).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    // Nothing is read before the server has met a full socket.
    let mut log = Vec::new();
    while !log.contains(&"short") {
        log.push(server.log.recv_timeout(Duration::from_secs(10)).expect("a client that does not read fills the socket"));
    }
    // Unread bytes in the server's receive buffer must not cut off what the client has still to read.
    client.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("the connection ends with a FIN, not with a reset");
    assert_eq!(received.len(), BYTES);
    assert!(received.iter().enumerate().all(|(at, byte)| *byte == pattern(at)), "bytes in order");
    drop(client);
    log.extend(server.end());
    let count = |what: &str| log.iter().filter(|line| **line == what).count();
    assert_eq!((count("opened"), count("written"), count("closed")), (1, 1, 1), "{log:?}");
    assert_eq!(count("short"), count("writable"), "each short write has its writable");
    assert_eq!(log.last(), Some(&"closed"));
}

#[test]
fn a_client_that_resets_while_it_is_written_to_is_closed_once() {
    let server = Server::start(NetSettings::default(), 50_000_000);
    let mut client = server.connect();
    client.write_all(UPGRADE).unwrap();
    read_head(&mut client);
    let mut log = Vec::new();
    while !log.contains(&"short") {
        log.push(server.log.recv_timeout(Duration::from_secs(10)).expect("the socket fills"));
    }
    // Unread bytes make this a reset.
    drop(client);
    while !log.contains(&"closed") {
        log.push(server.log.recv_timeout(Duration::from_secs(10)).expect("the shard hears of the end"));
    }
    log.extend(server.end());
    assert_eq!(log.iter().filter(|line| **line == "closed").count(), 1);
}

#[test]
fn pages_follow_each_other_on_one_connection() {
    let server = Server::start(NetSettings::default(), 0);
    let mut client = server.connect();
    let mut request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    // Two at once: the second waits in the bytes behind the first.
    request.extend_from_slice(b"GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client.write_all(&request).unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).expect("the connection ends after the second");
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(answers.contains("HTTP/1.1 404 Not Found\r\n"));
    assert!(server.end().is_empty(), "the shard hears nothing of pages");
}

#[test]
fn a_client_that_never_finishes_its_request_is_cut_off() {
    let server = Server::start(NetSettings { head_timeout_ms: 100, idle_timeout_ms: 100, ..NetSettings::default() }, 0);
    let (mut silent, mut halting, mut idle) = (server.connect(), server.connect(), server.connect());
    halting.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    idle.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    read_head(&mut idle);
    for client in [&mut silent, &mut halting, &mut idle] {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("a FIN comes");
        assert!(rest.is_empty());
    }
    server.end();
}

#[test]
fn a_full_shard_says_when_to_come_back() {
    let server = Server::start(NetSettings { connections_max: 2, ..NetSettings::default() }, 0);
    let mut clients: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(UPGRADE).unwrap();
        assert!(read_head(client).starts_with("HTTP/1.1 101 "));
    }
    let mut late = server.connect();
    late.write_all(UPGRADE).unwrap();
    let refusal = read_head(&mut late);
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: "), "{refusal}");
    drop(clients.pop());
    // The place is free once the server has seen the end.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut next = server.connect();
        next.write_all(UPGRADE).unwrap();
        if read_head(&mut next).starts_with("HTTP/1.1 101 ") {
            break;
        }
        assert!(Instant::now() < deadline, "the place never became free");
    }
    drop(clients);
    server.end();
}

#[test]
fn unfinished_messages_of_all_clients_together_are_bounded() {
    let settings = NetSettings { command_bytes_max: 1_000_000, inbound_bytes_max: 1_500_000, ..NetSettings::default() };
    let server = Server::start(settings, 0);
    let mut log = Vec::new();
    let mut wait_for = |what: &str, times: usize| {
        while log.iter().filter(|line| **line == what).count() < times {
            log.push(server.log.recv_timeout(Duration::from_secs(10)).expect(what));
        }
    };
    let open = || {
        let mut client = server.connect();
        client.write_all(UPGRADE).unwrap();
        assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
        client
    };
    // A masked binary frame of 700,000 bytes, all but its last.
    let mut large = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x0a, 0xae, 0x60, 0, 0, 0, 0];
    large.resize(large.len() + 699_999, 0);
    let (mut first, mut second, mut small) = (open(), open(), open());
    first.write_all(&large[..300_000]).unwrap();
    // The second is cut off while it sends; what it cannot send any more is no matter.
    let _ = second.write_all(&large);
    let _ = first.write_all(&large[300_000..]);
    wait_for("try again later", 1);
    small.write_all(b"\x81\x82\0\0\0\0{}").unwrap();
    wait_for("received", 1);
    drop((first, second));
    wait_for("closed", 2);
    // The room is free again.
    let mut third = open();
    large.push(0);
    third.write_all(&large).unwrap();
    wait_for("received", 2);
    drop((small, third));
    server.end();
}

#[test]
fn heads_with_large_cookies_are_taken_and_larger_ones_have_their_status() {
    let server = Server::start(NetSettings::default(), 0);
    let answer = |head: String| {
        let mut client = server.connect();
        client.write_all(head.as_bytes()).unwrap();
        read_head(&mut client)
    };
    let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
    let with = |lines: &str| upgrade.replacen("\r\n", &format!("\r\n{lines}"), 1);
    assert!(answer(with(&format!("Cookie: {}\r\n", "c".repeat(31_000)))).starts_with("HTTP/1.1 101 "));
    assert!(answer(with(&"X-Proxy: added\r\n".repeat(90))).starts_with("HTTP/1.1 101 "));
    let refused = answer(with(&format!("Cookie: {}\r\n", "c".repeat(40_000))));
    assert!(refused.starts_with("HTTP/1.1 431 ") && refused.contains("\r\nDate: "), "{refused}");
    assert!(answer(with(&"X-Proxy: added\r\n".repeat(120))).starts_with("HTTP/1.1 431 "));
    server.end();
}

#[test]
fn unfinished_heads_of_all_clients_together_are_bounded() {
    let server = Server::start(NetSettings { inbound_bytes_max: 100_000, ..NetSettings::default() }, 0);
    let begin = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {}", "c".repeat(20_000));
    let mut halting: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for client in &mut halting {
        client.write_all(begin.as_bytes()).unwrap();
    }
    // One too many is cut off, a small one never.
    let cut_off = |client: &mut TcpStream| {
        client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        match client.read(&mut [0; 10]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while halting.iter_mut().filter_map(|client| cut_off(client).then_some(())).count() < 5 {
        assert!(Instant::now() < deadline, "what is held is bounded");
    }
    let mut small = server.connect();
    small.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(read_head(&mut small).starts_with("HTTP/1.1 200 "));
    drop((halting, small));
    server.end();
}

#[test]
fn after_the_listener_is_closed_nobody_is_accepted() {
    let server = Server::start(NetSettings::default(), 0);
    let address = server.address;
    let mut waiting = server.connect();
    server.end();
    let mut rest = Vec::new();
    match waiting.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
