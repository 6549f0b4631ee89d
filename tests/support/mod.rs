//! What the black-box tests share: a node as a process, a small client of the JSON protocol, and a real Apache Kafka.
#![allow(dead_code, reason = "every test program uses its own part of this")]

pub mod client;
pub mod kafka;
pub mod kafka_moves;
pub mod kafka_side;
pub mod ledger;
pub mod node;
pub mod token_provider;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for anything that should happen; generous, as the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a process to its end, [`PATIENCE`] at most, and gives what it said.
pub fn finish(command: &mut Command) -> Output {
    finish_within(command, b"", PATIENCE)
}

/// As [`finish`], with its input and its time. What it leaves running is ended with it.
pub fn finish_within(command: &mut Command, input: &[u8], time: Duration) -> Output {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let group = Pid::from_raw(-(child.id() as i32));
    let (mut stdin, input) = (child.stdin.take().expect("piped"), input.to_vec());
    // Whoever does not read his input has had enough of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let (stdout, stderr) = (collect(child.stdout.take().expect("piped")), collect(child.stderr.take().expect("piped")));
    let deadline = Instant::now() + time;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the process can be asked") {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = kill(group, Signal::SIGKILL);
            let _ = child.wait();
            let said = stderr.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
            panic!("{command:?} did not end within {time:?}: {}", String::from_utf8_lossy(&said));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    writer.join().expect("it only writes");
    let said = |from: mpsc::Receiver<Vec<u8>>| from.recv_timeout(PATIENCE).expect("the output ends with the process");
    Output { status, stdout: said(stdout), stderr: said(stderr) }
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (tell, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = tell.send(bytes);
    });
    said
}

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

/// Claims a port among all test processes of this machine, for the life of this one. Whether nobody has it.
pub fn claim_port(port: u16) -> bool {
    static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("corespan-test-ports");
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = File::create(folder.join(port.to_string())).expect("a file in it");
    if file.try_lock().is_err() {
        return false;
    }
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    TcpListener::bind(("127.0.0.1", port)).is_ok()
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
        .find(|port| claim_port(*port))
        .expect("a free port")
}
