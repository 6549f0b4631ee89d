//! The admin port: `/metrics`, `/ready`, `/live`, `/reload`. For the inside only; it has no access control.
//!
//! One housekeeping thread serves all who ask, with `poll` and sockets that never block, so nobody can hold up another or the end of the node.
//! Bounds: [`CONNECTIONS_MAX`] connections (one more ends the oldest), a request head as on the public port and no body, [`EXCHANGE_TIME`] for
//! everything. A full table of open files stops accepting for a moment, never for good.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::error::TelemetryError;
use super::exposition;
use super::health::Health;
use super::registry::Registry;
use crate::http::{HeadLimits, Request, Response, Status};
use crate::net;
use crate::tls::{CurrentServer, Session};

/// Connections at once: scrapers and health checks are a handful.
const CONNECTIONS_MAX: usize = 64;
/// From the accept to the last byte of the answer. Prometheus gives up after 10 s.
const EXCHANGE_TIME: Duration = Duration::from_secs(10);
/// For what a client still sends behind its request: closed with unread bytes, a socket throws away the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Without a free file descriptor: how long nobody is accepted.
const BREATHER: Duration = Duration::from_millis(100);
/// How often that is said.
const COMPLAINT_TIME: Duration = Duration::from_secs(10);

/// The running server. Ends when it is dropped.
pub struct AdminServer {
    address: SocketAddr,
    /// Dropped to end the thread.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Listens. The thread that answers runs on the caller's CPUs.
    ///
    /// # Errors
    /// The address is taken, or not of this machine; no thread can be had.
    pub fn start(
        address: SocketAddr,
        tls: Option<CurrentServer>,
        registry: Arc<Registry>,
        health: Arc<Health>,
    ) -> Result<AdminServer, TelemetryError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => TelemetryError::AddressInUse { address },
            _ => TelemetryError::Listen { address, error },
        };
        let listener = net::listen_once(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let (alive, ended) = UnixStream::pair().map_err(failed)?;
        let desk = Desk { listener, tls, ended, registry, health, exchanges: Vec::new(), pause: None, complained: None };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || desk.serve()).map_err(TelemetryError::Thread)?;
        Ok(AdminServer { address: bound, alive: Some(alive), thread: Some(thread) })
    }

    /// Where it listens; the real port if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but its `poll`, which has just ended. A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Desk {
    listener: TcpListener,
    tls: Option<CurrentServer>,
    ended: UnixStream,
    registry: Arc<Registry>,
    health: Arc<Health>,
    exchanges: Vec<Exchange>,
    /// Nobody is accepted before.
    pause: Option<Instant>,
    complained: Option<Instant>,
}

/// One connection, which asks once.
struct Exchange {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    /// Of the handshake, on its way.
    out: Vec<u8>,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    Asking(Vec<u8>),
    Answering {
        head: Vec<u8>,
        body: Bytes,
        written: usize,
    },
    /// The answer and the FIN are out.
    Lingering,
    Over,
}

impl Desk {
    fn serve(mut self) {
        loop {
            let now = Instant::now();
            self.pause = self.pause.filter(|until| *until > now);
            let wake = self.exchanges.iter().map(|exchange| exchange.deadline).chain(self.pause).min();
            // Rounded up, so that a deadline has passed when it wakes.
            let time_ms = wake.map_or(-1, |wake| {
                i32::try_from((wake.saturating_duration_since(now) + Duration::from_millis(1)).as_millis()).unwrap_or(i32::MAX)
            });
            let mut waits = vec![PollFd::new(&self.ended, PollFlags::POLLIN)];
            waits.extend(self.exchanges.iter().map(|exchange| PollFd::new(&exchange.stream, exchange.waits_for())));
            if self.pause.is_none() {
                waits.push(PollFd::new(&self.listener, PollFlags::POLLIN));
            }
            if let Err(error) = poll(&mut waits, time_ms)
                && error != Errno::EINTR
            {
                // Memory, if anything: it may come back.
                thread::sleep(BREATHER);
                continue;
            }
            let happened: Vec<bool> = waits.iter().map(|wait| wait.any().unwrap_or(true)).collect();
            if happened[0] {
                return;
            }
            let now = Instant::now();
            for (exchange, happened) in self.exchanges.iter_mut().zip(&happened[1..]) {
                if *happened {
                    exchange.go_on(now, &self.registry, &self.health);
                }
            }
            self.exchanges.retain(|exchange| exchange.deadline > now && !matches!(exchange.stage, Stage::Over));
            if self.pause.is_none() && happened.last() == Some(&true) {
                self.accept(now);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() {
                    return;
                }
                if self.exchanges.len() >= CONNECTIONS_MAX {
                    self.exchanges.remove(0);
                }
                let tls = self.tls.as_ref().map(|tls| Box::new(Session::new(&tls.now())));
                self.exchanges.push(Exchange {
                    stream,
                    tls,
                    out: Vec::new(),
                    deadline: now + EXCHANGE_TIME,
                    stage: Stage::Asking(Vec::new()),
                });
            }
            Err(error) if is_of_the_node(&error) => {
                self.pause = Some(now + BREATHER);
                if self.complained.is_none_or(|last| now >= last + COMPLAINT_TIME) {
                    self.complained = Some(now);
                    tracing::error!("the admin port cannot accept connections: {error}; raise the limit of open files (LimitNOFILE)");
                }
            }
            // Whoever it was is gone.
            Err(_) => {}
        }
    }
}

/// The process, or the machine, has no descriptor or memory left for one more socket.
fn is_of_the_node(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_i32);
    matches!(number, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

impl Exchange {
    fn waits_for(&self) -> PollFlags {
        match self.stage {
            _ if !self.out.is_empty() => PollFlags::POLLIN | PollFlags::POLLOUT,
            Stage::Answering { .. } => PollFlags::POLLOUT,
            Stage::Asking(_) | Stage::Lingering | Stage::Over => PollFlags::POLLIN,
        }
    }
}

impl Exchange {
    /// Reads, answers or waits for the end, as far as that goes now.
    fn go_on(&mut self, now: Instant, registry: &Registry, health: &Health) {
        if self.advance(now, registry, health).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.stage = Stage::Over;
        }
    }

    /// Writes what the handshake has to say. What does not go now goes later, and reading goes on.
    fn write_out(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, now: Instant, registry: &Registry, health: &Health) -> io::Result<()> {
        loop {
            self.write_out()?;
            match &mut self.stage {
                Stage::Asking(asked) => {
                    let limits = HeadLimits::default();
                    let mut piece = [0; 4 << 10];
                    let room = piece.len().min(limits.bytes_max - asked.len());
                    let count = self.stream.read(&mut piece[..room])?;
                    if count == 0 {
                        self.stage = Stage::Over;
                        return Ok(());
                    }
                    match &mut self.tls {
                        None => asked.extend_from_slice(&piece[..count]),
                        Some(tls) => {
                            let received = tls.receive(&mut piece[..count], |plain| asked.extend_from_slice(plain), &mut self.out);
                            if received.is_err() || asked.len() > limits.bytes_max {
                                // The alert, as far as it goes.
                                let _ = self.write_out();
                                self.stage = Stage::Over;
                                return Ok(());
                            }
                            if asked.is_empty() {
                                continue;
                            }
                        }
                    }
                    let response = match Request::parse(asked, &limits) {
                        Status::Partial => continue,
                        Status::Bad(response) => response,
                        Status::Complete(request, _) => answer(&request, registry, health),
                    };
                    let (head, body) = response.encode(SystemTime::now());
                    self.stage = match &mut self.tls {
                        None => Stage::Answering { head, body, written: 0 },
                        Some(tls) => {
                            let mut encrypted = std::mem::take(&mut self.out);
                            if !tls.send(&[IoSlice::new(&head), IoSlice::new(&body)], &mut Vec::new(), &mut encrypted) {
                                self.stage = Stage::Over;
                                return Ok(());
                            }
                            tls.close(&mut encrypted);
                            Stage::Answering { head: encrypted, body: Bytes::new(), written: 0 }
                        }
                    };
                }
                Stage::Answering { head, body, written } => {
                    let left = match written.checked_sub(head.len()) {
                        None => &head[*written..],
                        Some(written) => &body[written..],
                    };
                    if !left.is_empty() {
                        *written += self.stream.write(left)?;
                        continue;
                    }
                    self.stream.shutdown(Shutdown::Write)?;
                    self.deadline = self.deadline.min(now + LINGER_TIME);
                    self.stage = Stage::Lingering;
                }
                Stage::Lingering => {
                    let mut piece = [0; 4 << 10];
                    if self.stream.read(&mut piece)? == 0 {
                        self.stage = Stage::Over;
                        return Ok(());
                    }
                    // One piece a time: a client that never ends does not hold up the others.
                    return Ok(());
                }
                Stage::Over => return Ok(()),
            }
        }
    }
}

fn answer(request: &Request<'_>, registry: &Registry, health: &Health) -> Response {
    const TEXT: &str = "text/plain; charset=utf-8";
    let state = |state: Result<(), String>, well: &str| match state {
        Ok(()) => Response::new(200, TEXT, format!("{well}\n").into()),
        Err(why) => Response::new(503, TEXT, format!("{why}\n").into()),
    };
    if request.announces_body() {
        return Response::error(413, "no request to this port has a body");
    }
    if !matches!(request.method, "GET" | "HEAD") {
        return Response::method_not_allowed("GET, HEAD");
    }
    let response = match request.path {
        "/ready" => state(health.readiness(), &health.ready_text()),
        "/reload" => match serde_json::to_vec(&health.reloads.newest()) {
            Ok(text) => Response::new(200, "application/json", text.into()),
            Err(_) => Response::error(500, "the newest reload cannot be written"),
        },
        "/live" => state(health.liveness(), "live"),
        "/metrics" => match registry.text() {
            Ok(text) if exposition::wants_openmetrics(request) => Response::new(200, exposition::OPENMETRICS, text.into()),
            Ok(text) => Response::new(200, exposition::CLASSIC, exposition::classic(&text).into()),
            Err(_) => Response::error(500, "the metrics cannot be written"),
        },
        _ => Response::error(404, "here are /metrics, /ready and /live"),
    };
    response.with_header("Cache-Control", "no-store").with_head_only(request.method == "HEAD")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn start() -> (AdminServer, Arc<Health>) {
        let health = Arc::new(Health::new());
        let registry = Arc::new(Registry::new(1, health.clone()));
        (AdminServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, registry, health.clone()).unwrap(), health)
    }

    fn connect(admin: &AdminServer) -> TcpStream {
        let stream = TcpStream::connect(admin.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn send(admin: &AdminServer, bytes: &[u8]) -> String {
        let mut stream = connect(admin);
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn ask(admin: &AdminServer, head: &str) -> String {
        send(admin, format!("{head} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    #[test]
    fn ready_live_and_metrics_answer() {
        let (admin, health) = start();
        let unready = ask(&admin, "GET /ready");
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("Kafka not reached"), "{unready}");
        health.kafka_reached();
        health.partitions_ready(1, 1);
        assert!(ask(&admin, "GET /ready?verbose").starts_with("HTTP/1.1 200"));
        assert!(ask(&admin, "GET /live").starts_with("HTTP/1.1 200"));
        assert!(ask(&admin, "HEAD /live").ends_with("\r\n\r\n"));
        assert!(ask(&admin, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(&admin, "POST /ready").starts_with("HTTP/1.1 405"));
        health.failed("shard 0 has ended");
        assert!(ask(&admin, "GET /live").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn metrics_come_in_the_text_that_was_asked_for() {
        let (admin, _) = start();
        let get = |accept: &str| send(&admin, format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{accept}\r\n").as_bytes());
        let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1\r\n";
        let modern = get(prometheus);
        assert!(
            modern.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0") && modern.ends_with("# EOF\n"),
            "{modern}"
        );
        for classic in
            ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4\r\n", "Accept: text/plain, application/openmetrics-text;q=0.5\r\n"]
        {
            let text = get(classic);
            assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4") && !text.contains("# EOF"), "{classic}: {text}");
            assert!(text.contains("# TYPE corespan_records_consumed_total counter\n"), "{text}");
        }
    }

    #[test]
    fn no_request_ends_it_or_makes_it_deaf() {
        let (admin, _) = start();
        for (method, path, length) in [
            ("GET", "/ready", "18446744073709551615"),
            ("POST", "/ready", "9223372036854775807"),
            ("POST", "/metrics", "2000"),
            ("GET", "/live", "-1"),
            ("GET", "/live", "nonsense"),
        ] {
            let answer = send(&admin, format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nabc").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 413 ") || answer.starts_with("HTTP/1.1 400 "), "{length}: {answer}");
        }
        let chunked = send(&admin, b"POST /ready HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n");
        assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
        let long = send(&admin, &[b"GET /ready HTTP/1.1\r\nHost: h\r\nX: ", &[b'x'; 40_000][..]].concat());
        assert!(long.starts_with("HTTP/1.1 431 "), "{long}");

        // Sockets that dribble, that promise a body, that never read, and more of them than there are places.
        let mut held = Vec::new();
        for number in 0..CONNECTIONS_MAX + 20 {
            let mut stream = connect(&admin);
            let said: &[u8] = match number % 3 {
                0 => b"GET /rea",
                1 => b"POST /ready HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\nx",
                _ => b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
            };
            stream.write_all(said).unwrap();
            held.push(stream);
            if number % 10 == 0 {
                let began = Instant::now();
                assert!(ask(&admin, "GET /live").starts_with("HTTP/1.1 200"));
                assert!(began.elapsed() < EXCHANGE_TIME / 2, "nobody waits for another");
            }
        }
        let began = Instant::now();
        drop(admin);
        assert!(began.elapsed() < EXCHANGE_TIME / 2, "it ends although its clients do not");
    }

    #[test]
    fn a_full_table_of_open_files_ends_nothing() {
        for (number, of_the_node) in [(Errno::EMFILE, true), (Errno::ENFILE, true), (Errno::ECONNABORTED, false)] {
            assert_eq!(is_of_the_node(&io::Error::from_raw_os_error(number as i32)), of_the_node);
        }
    }

    #[test]
    fn an_address_in_use_names_key_value_and_remedy() {
        let (admin, health) = start();
        let registry = Arc::new(Registry::new(1, health.clone()));
        let error = AdminServer::start(admin.address(), None, registry, health).err().unwrap().to_string();
        assert_eq!(error, format!("listen.admin = \"{}\" is in use by another process; stop it, or give another port", admin.address()));
    }

    #[test]
    fn dropping_it_frees_the_port() {
        let (admin, _) = start();
        let address = admin.address();
        drop(admin);
        drop(TcpListener::bind(address).unwrap());
    }
}
