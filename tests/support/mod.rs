//! What the black-box tests share: a node as a process, a small client of the JSON protocol, and a real Apache Kafka.
#![allow(dead_code, reason = "every test program uses its own part of this")]

pub mod client;
pub mod kafka;
pub mod kafka_side;
pub mod node;

use std::time::{Duration, Instant};

/// Longest wait for anything that should happen; generous, as the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `condition` until it gives a value; panics with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
