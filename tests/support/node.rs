//! A corespan node as a process: configured by text, asked over its ports, killed when dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{eventually, free_port};

/// The sections of a node's configuration that name Kafka and the topics.
pub fn config(bootstrap: &str, topics: &[&str]) -> String {
    format!(
        "[kafka.consumer]\n\"bootstrap.servers\" = \"{bootstrap}\"\ntopics = {topics:?}\n\n[kafka.producer]\n\"bootstrap.servers\" = \"{bootstrap}\"\n"
    )
}

/// The same, for a node that begins with what was written before it.
pub fn config_from_start(bootstrap: &str, topics: &[&str]) -> String {
    config(bootstrap, topics).replace("topics =", "\"recovery.on.start\" = true\ntopics =")
}

pub struct Node {
    pub port: u16,
    pub admin_port: u16,
    process: Child,
    log: PathBuf,
    folder: TempDir,
}

impl Node {
    /// Starts `corespan serve`; `kafka` is the text from `[kafka.consumer]` on, and whatever sections the test wants besides.
    pub fn start(kafka: &str) -> Node {
        Node::start_with(kafka, &[])
    }

    /// The same, with an environment.
    pub fn start_with(kafka: &str, environment: &[(&str, &str)]) -> Node {
        let (port, admin_port) = (free_port(), free_port());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("corespan.toml");
        // Tests publish where they like, unless they try just that.
        let publish = if kafka.contains("[publish]") { "" } else { "[publish]\npattern = \".*\"\n\n" };
        let text = format!(
            "drain.seconds = 1\n\n[listen]\naddress = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin_port}\"\n\n\
             [cores]\nshards = 2\n\n[kafka]\nmetadata.interval = \"500ms\"\n\n{publish}{kafka}\n"
        );
        std::fs::write(&config, text).expect("the configuration is written");
        let log = folder.path().join("log");
        let output = File::create(&log).expect("the log file");
        // In the process group of the test: whoever ends that ends the node.
        let process = Command::new(env!("CARGO_BIN_EXE_corespan"))
            .args(["serve", "--config"])
            .arg(&config)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log file"))
            .stderr(output)
            .spawn()
            .expect("corespan starts");
        Node { port, admin_port, process, log, folder }
    }

    /// Starts a node and waits until it is ready.
    pub fn start_ready(kafka: &str) -> Node {
        let mut node = Node::start(kafka);
        node.await_ready();
        node
    }

    pub fn await_ready(&mut self) {
        let mut last = String::new();
        eventually("the node is ready", || {
            assert!(self.exited().is_none(), "the node ended:\n{}", self.log());
            let answer = self.readiness();
            let ready = matches!(answer, Some((200, _)));
            if let Some((status, why)) = answer {
                last = format!("{status} {why}");
            }
            if std::env::var_os("CORESPAN_TEST_VERBOSE").is_some() {
                eprintln!("{last}");
            }
            ready.then_some(())
        });
    }

    /// Status and text of `/ready`, `None` as long as the port does not answer.
    pub fn readiness(&self) -> Option<(u16, String)> {
        self.admin("/ready")
    }

    /// Status and body of a page of the admin port.
    pub fn admin(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }

    /// Changes its configuration, for a reload or the next start.
    pub fn rewrite(&self, change: impl FnOnce(&str) -> String) {
        let file = self.config_file();
        let text = std::fs::read_to_string(&file).expect("the configuration can be read");
        std::fs::write(&file, change(&text)).expect("the configuration is written");
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("corespan.toml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("the process can be asked")
    }

    /// Waits for the process to end by itself.
    pub fn await_exit(&mut self) -> ExitStatus {
        eventually("the node ends", || self.exited())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the node on port {}:\n{}", self.port, self.log());
        }
    }
}
