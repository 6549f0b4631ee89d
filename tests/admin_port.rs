//! The admin port when the process has no file descriptor left. Alone in its program, for the limit is the whole process's.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corespan::telemetry::{AdminServer, Health, Registry};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: h\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_admin_port_outlives_a_full_table_of_open_files() {
    let health = Arc::new(Health::new());
    let registry = Arc::new(Registry::new(1, health.clone()));
    let admin = AdminServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None, registry, health).expect("a port can be had");
    let address = admin.address();
    let open_files = || std::fs::read_dir("/proc/self/fd").expect("Linux lists open files").count() as u64;
    let open = open_files();
    assert!(ask(address).expect("it answers").starts_with("HTTP/1.1 200 "));
    // Its own end of the connection is closed a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    while open_files() > open {
        assert!(Instant::now() < deadline, "an exchange is over and keeps its socket");
    }

    // All descriptors but one are taken, and that one is the client's: the server has none to accept with.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, open + 20, hard).expect("the soft limit may be lowered");
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    drop(taken.pop());
    let mut waiting = TcpStream::connect(address).expect("the kernel takes it into the line");
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    waiting.write_all(b"GET /live HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request fits");
    assert!(waiting.read(&mut [0; 16]).is_err(), "nobody can accept it");

    drop(taken);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the soft limit may be raised");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask(address).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < deadline, "it answers no more");
    }
}
