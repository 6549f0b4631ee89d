//! The admin port: `/metrics`, `/ready`, `/live`. For the inside only; it has no access control.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tiny_http::{Header, Method, Request, Response, Server};

use super::error::TelemetryError;
use super::health::Health;
use super::registry::Registry;

/// Threads that answer: a scraper that reads slowly holds one, health checks take the other.
const THREADS: usize = 2;

/// The running server. Ends when it is dropped.
pub struct AdminServer {
    server: Arc<Server>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl AdminServer {
    /// Listens. The threads that answer run on the caller's CPUs.
    pub fn start(address: SocketAddr, registry: Arc<Registry>, health: Arc<Health>) -> Result<AdminServer, TelemetryError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => TelemetryError::AddressInUse { address },
            _ => TelemetryError::Listen { address, error },
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let server = Server::from_listener(listener, None).map_err(|error| failed(io::Error::other(error)))?;
        let mut admin = AdminServer { server: Arc::new(server), address: bound, threads: Vec::new() };
        for _ in 0..THREADS {
            let (server, registry, health) = (admin.server.clone(), registry.clone(), health.clone());
            let answer_all = move || {
                for request in server.incoming_requests() {
                    answer(request, &registry, &health);
                }
            };
            admin.threads.push(thread::Builder::new().name("admin".to_owned()).spawn(answer_all).map_err(TelemetryError::Thread)?);
        }
        Ok(admin)
    }

    /// Where it listens; the real port if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        for _ in &self.threads {
            // Each call lets one thread out.
            self.server.unblock();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, registry: &Registry, health: &Health) {
    const TEXT: &str = "text/plain; charset=utf-8";
    const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let state = |state: Result<(), String>, well: &str| match state {
        Ok(()) => (200, TEXT, format!("{well}\n")),
        Err(why) => (503, TEXT, format!("{why}\n")),
    };
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, body) = match (request.method(), path) {
        (Method::Get | Method::Head, "/ready") => state(health.readiness(), "ready"),
        (Method::Get | Method::Head, "/live") => state(health.liveness(), "live"),
        (Method::Get | Method::Head, "/metrics") => match registry.text() {
            Ok(text) => (200, METRICS, text),
            Err(_) => (500, TEXT, "the metrics cannot be written\n".to_owned()),
        },
        (Method::Get | Method::Head, _) => (404, TEXT, "here are /metrics, /ready and /live\n".to_owned()),
        _ => (405, TEXT, "only GET and HEAD\n".to_owned()),
    };
    let mut response = Response::from_string(body).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response = response.with_header(header);
    }
    // A scraper that went away needs no answer.
    let _ = request.respond(response);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    fn start() -> (AdminServer, Arc<Health>) {
        let health = Arc::new(Health::new());
        let registry = Arc::new(Registry::new(1, health.clone()));
        (AdminServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), registry, health.clone()).unwrap(), health)
    }

    fn ask(admin: &AdminServer, head: &str) -> String {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        write!(stream, "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
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
        let metrics = ask(&admin, "GET /metrics");
        assert!(metrics.contains("openmetrics-text") && metrics.contains("corespan_ready 1"), "{metrics}");
        assert!(ask(&admin, "GET /").starts_with("HTTP/1.1 404"));
        assert!(ask(&admin, "POST /ready").starts_with("HTTP/1.1 405"));
        health.failed("shard 0 has ended");
        assert!(ask(&admin, "GET /live").starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn an_address_in_use_names_key_value_and_remedy() {
        let (admin, health) = start();
        let registry = Arc::new(Registry::new(1, health.clone()));
        let error = AdminServer::start(admin.address(), registry, health).err().unwrap().to_string();
        assert_eq!(error, format!("listen.admin = \"{}\" is in use by another process; stop it, or give another port", admin.address()));
    }

    #[test]
    fn dropping_it_frees_the_port() {
        let (admin, _) = start();
        let address = admin.address();
        drop(admin);
        // The listener is closed by a thread of the server's own, a moment later.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while TcpListener::bind(address).is_err() {
            assert!(std::time::Instant::now() < deadline, "{address} is still taken");
            thread::yield_now();
        }
    }
}
