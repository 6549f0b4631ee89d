//! A node under test, as a child process with a configuration of one shard: `corespan serve`, or on an embedded cluster the hidden task `node` of
//! this tool, which is the same node told that its Kafka is no real one.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::child::{end, tied};

/// How long it has to become ready.
const READY_TIME: Duration = Duration::from_secs(30);

/// A running node; killed when dropped. The kernel kills it with the tool, and the task `node` ends with its input.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    admin: SocketAddr,
    /// There until the node has read it.
    config: Option<PathBuf>,
}

/// What it serves.
pub struct ServerPlan<'a> {
    /// The binary, and its subcommand that takes `--config`.
    pub binary: &'a Path,
    pub subcommand: &'a str,
    pub bootstrap: &'a str,
    pub topic: &'a str,
    pub connections_max: usize,
    /// CPU of its one shard.
    pub cpu: usize,
    /// "park", "adaptive" or "busy".
    pub poll: &'a str,
    /// Lines for `[kafka.consumer]`.
    pub consumer: &'a str,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It did not start, or not in time.
    pub fn start(plan: &ServerPlan<'_>) -> io::Result<Server> {
        // Both are held until both are known, so that they differ.
        let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let (address, admin) = (free[0].local_addr()?, free[1].local_addr()?);
        drop(free);
        let text = format!(
            "drain.seconds = 0\n[listen]\naddress = \"{address}\"\nadmin = \"{admin}\"\nconnections.max = {}\n[cores]\nshards = [{}]\npoll = \"{}\"\n[log]\nlevel = \"warn\"\n\
             [cache]\nbytes.max = \"32MiB\"\n[kafka.consumer]\n\"bootstrap.servers\" = \"{}\"\ntopics = [\"{}\"]\n{}\n[kafka.producer]\n\"bootstrap.servers\" = \"{}\"\n\
             [topic.\"{}\"]\npartitioner = \"murmur2\"\n",
            plan.connections_max, plan.cpu, plan.poll, plan.bootstrap, plan.topic, plan.consumer, plan.bootstrap, plan.topic
        );
        let config = std::env::temp_dir().join(format!("corespan-bench-{}-{}.toml", std::process::id(), address.port()));
        std::fs::write(&config, text)?;
        let child = off_the_tools_cpu(|| {
            tied(plan.binary).arg(plan.subcommand).arg("--config").arg(&config).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
        });
        let child = child.inspect_err(|_| drop(std::fs::remove_file(&config)))?;
        let mut server = Server { child, address, admin, config: Some(config) };
        let deadline = Instant::now() + READY_TIME;
        while !ready(admin) {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("the node ended ({status}) before it was ready")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("the node is not ready within {} s", READY_TIME.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server.forget_config();
        Ok(server)
    }

    /// How it ended, if it has, or does so at once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                status => return status.ok().flatten(),
            }
        }
    }

    fn forget_config(&mut self) {
        // Left behind it harms nobody.
        let _ = self.config.take().map(std::fs::remove_file);
    }

    /// The text of its metrics.
    ///
    /// # Errors
    /// It does not answer within a second.
    pub fn metrics(&self) -> io::Result<String> {
        get(self.admin, "/metrics")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
        self.forget_config();
    }
}

/// A child takes over the CPUs of the thread that starts it, and this tool keeps to one: the node must not.
///
/// # Errors
/// Those of `start`.
pub fn off_the_tools_cpu<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let this_thread = Pid::from_raw(0);
    let own = sched_getaffinity(this_thread)?;
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        all.set(cpu)?;
    }
    // The kernel takes away those that the process may not use.
    sched_setaffinity(this_thread, &all)?;
    let started = start();
    sched_setaffinity(this_thread, &own)?;
    started
}

fn ready(admin: SocketAddr) -> bool {
    get(admin, "/ready").is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// The whole answer, its head included.
fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(admin)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
