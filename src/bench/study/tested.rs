//! The server under test: started, awaited, weighed, ended.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::super::Usage;
use super::super::child::{end, tied};
use super::interrupt::Interrupt;
use super::scenario::ServerPlan;

/// How long a server has to end by itself, and a command to tell its version.
const END_TIME: Duration = Duration::from_secs(5);
/// Processes of one server that are weighed.
const PROCESSES_MAX: usize = 1_000;

/// A server that is ready. One that was started here ends with this.
pub struct Tested {
    pub name: &'static str,
    child: Option<Child>,
    pub pid: u32,
    /// The first line of what its command for it says; empty if there is none.
    pub version: String,
}

impl Tested {
    /// Starts it if it does not run, its output into the folder, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, ends, or is not ready in time.
    pub fn start(plan: &ServerPlan, folder: &Path, interrupt: &Interrupt) -> io::Result<Tested> {
        let version = version(plan)?;
        let (child, pid) = match plan.pid {
            Some(pid) => (None, pid),
            None => {
                let output = File::create(folder.join(format!("{}.out", plan.name)))?;
                let mut command = tied(Path::new(&plan.command[0]));
                command.args(&plan.command[1..]).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
                let child = command.spawn().map_err(|error| told(&format!("{}.command {:?}", plan.name, plan.command[0]), error))?;
                let pid = child.id();
                (Some(child), pid)
            }
        };
        let mut tested = Tested { name: plan.name, child, pid, version };
        let deadline = Instant::now() + plan.ready_time;
        loop {
            tested.check()?;
            if plan.ready.as_ref().is_none_or(|(host, path)| answers(host, path)) {
                return Ok(tested);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "the {} is not ready within {} s ({}.seconds); its output is in {}.out",
                    plan.name,
                    plan.ready_time.as_secs(),
                    plan.name,
                    plan.name
                )));
            }
            interrupt.check()?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&mut self) -> io::Result<()> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?.map(|status| status.to_string()),
            None => (!Path::new(&format!("/proc/{}", self.pid)).exists()).then(|| format!("there is no process {}", self.pid)),
        };
        ended
            .map_or(Ok(()), |why| Err(io::Error::other(format!("the {} has ended ({why}); its output is in {}.out", self.name, self.name))))
    }

    /// What it and its children have used so far.
    pub fn usage(&self) -> Usage {
        let (mut pids, mut place) = (vec![self.pid], 0);
        while place < pids.len() && pids.len() < PROCESSES_MAX {
            for task in fs::read_dir(format!("/proc/{}/task", pids[place])).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            place += 1;
        }
        let mut all = Usage::default();
        for usage in pids.into_iter().map(Usage::of) {
            all.cpu_seconds += usage.cpu_seconds;
            all.shards_cpu_seconds += usage.shards_cpu_seconds;
            all.resident_bytes += usage.resident_bytes;
        }
        all
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let group = Pid::from_raw(child.id() as i32);
        // Who is gone already needs no signal.
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + END_TIME;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(group, Signal::SIGKILL);
        end(child);
    }
}

fn told(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn version(plan: &ServerPlan) -> io::Result<String> {
    let Some(program) = plan.version.first() else { return Ok(String::new()) };
    let mut command = tied(Path::new(program));
    command.args(&plan.version[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let what = format!("{}.version {program:?}", plan.name);
    let mut child = command.spawn().map_err(|error| told(&what, error))?;
    let deadline = Instant::now() + END_TIME;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            end(&mut child);
            return Err(io::Error::other(format!("{what}: it does not end within {} s", END_TIME.as_secs())));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(4_096).read_to_string(&mut said)?;
    }
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn answers(host: &str, path: &str) -> bool {
    let limit = Duration::from_secs(2);
    let ask = || -> io::Result<bool> {
        let address = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut socket = TcpStream::connect_timeout(&address, limit)?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.") && &head[9..] == b"200")
    };
    ask().unwrap_or(false)
}
