//! What the black-box tests share: a node as a process, a small client of the JSON protocol, and a real Apache Kafka.
#![allow(dead_code, reason = "every test program uses its own part of this")]

pub mod client;
pub mod kafka;
pub mod kafka_side;
pub mod node;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// A port that nobody else takes: one of its own for every caller of this process, below those of the SDKs' tests
/// (20000 to 29999), of Kafka (30000 to 32699), and those that the kernel gives to clients and to port 0.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run beside each other begin at different places.
    let first = std::process::id().wrapping_mul(97);
    (0..COUNT)
        .map(|_| (FIRST + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
