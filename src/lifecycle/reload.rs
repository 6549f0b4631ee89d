//! SIGHUP: the file is read again, what may change while the node runs does, and what became of it is in the log and in `/reload`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::gatekeeper::Gatekeeper;
use super::shards::Shards;
use crate::config::{Config, ConfigError, ListenSettings};
use crate::http::Site;
use crate::kafka::MetadataHandle;
use crate::shard::ShardSettings;
use crate::telemetry::{Reloaded, Reloads, change_log_level};
use crate::tls::pinned;

/// How long a node has to say what became of a reload. It looks at signals ten times a second.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Of one question to the admin port.
const QUESTION_TIME: Duration = Duration::from_secs(2);
/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What is in force, and where the next comes from.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    config: Config,
    shard_settings: ShardSettings,
}

impl Reloader {
    pub fn new(path: PathBuf, config: Config) -> Reloader {
        Reloader { shard_settings: config.shard_settings(), path, config }
    }

    /// Reads the file. A bad one is refused as a whole. How long a drain lasts from now on.
    pub(super) fn reload(
        &mut self,
        shards: &Shards,
        site: &Site,
        gatekeeper: &Gatekeeper,
        kafka: &MetadataHandle,
        reloads: &Reloads,
    ) -> Duration {
        match Config::load(&self.path) {
            Err(error) => self.refuse(error, reloads),
            Ok(newer) => self.take(&newer, shards, site, gatekeeper, kafka, reloads),
        }
        self.config.drain_time
    }

    fn refuse(&self, error: ConfigError, reloads: &Reloads) {
        let lines = error.lines();
        for line in &lines {
            tracing::error!("reload refused, the settings before stay in force: {line}");
        }
        reloads.add(true, lines);
    }

    fn take(&mut self, newer: &Config, shards: &Shards, site: &Site, gatekeeper: &Gatekeeper, kafka: &MetadataHandle, reloads: &Reloads) {
        let changes = self.config.changes(newer);
        let entitlement = self.config.entitlement.clone();
        self.config = self.config.with_live_of(newer);
        self.shard_settings = self.shard_settings.with_live_of(&self.config.shard_settings());
        change_log_level(self.config.log.level);
        site.allow_origins(self.config.listen.allowed_origins.clone());
        if self.config.entitlement != entitlement {
            gatekeeper.take(self.config.entitlement.clone());
        }
        // A reading looks what differs.
        let topics = self.config.clone();
        kafka.take_topics(topics.kafka.consumer.topics.clone(), Box::new(move |name| topics.topic(name)));
        kafka.take_properties(&self.config.kafka.consumer.properties, &self.config.kafka.producer.properties);
        shards.take_settings(&Arc::new(self.shard_settings.clone()));
        for line in &changes.live {
            tracing::info!("reloaded: {line}");
        }
        for line in &changes.at_restart {
            tracing::warn!("reloaded: {line}");
        }
        let mut lines = changes.live;
        lines.extend(changes.at_restart);
        if lines.is_empty() {
            tracing::info!("reloaded: nothing has changed");
            lines.push("nothing has changed".to_owned());
        }
        reloads.add(false, lines);
    }
}

/// Why a node could not be told to reload.
#[derive(Debug, thiserror::Error)]
pub enum ReloadFailed {
    #[error(
        "no node answers at listen.admin = \"{address}\": {error}; is it running, and with this file? An address changes with a restart only"
    )]
    NoNode { address: SocketAddr, error: io::Error },
    #[error("process {process} cannot be sent SIGHUP: {error}; run this as root or as the node's user")]
    Signal { process: u32, error: nix::Error },
    #[error("the node at {address} has not said within {} s what became of it; its log will", ANSWER_TIME.as_secs())]
    Silent { address: SocketAddr },
}

/// Tells the node of a configuration to reload its file, and waits for what becomes of it.
pub fn ask_to_reload(listen: &ListenSettings) -> Result<Reloaded, ReloadFailed> {
    let admin = listen.admin;
    let tls = listen.admin_tls.as_ref().map(|files| files.cert.as_path());
    let failed = |error| ReloadFailed::NoNode { address: admin, error };
    let before = ask(admin, tls).map_err(failed)?;
    kill(Pid::from_raw(before.process as i32), Signal::SIGHUP).map_err(|error| ReloadFailed::Signal { process: before.process, error })?;
    let deadline = Instant::now() + ANSWER_TIME;
    while Instant::now() < deadline {
        let now = ask(admin, tls).map_err(failed)?;
        if now.count > before.count {
            return Ok(now);
        }
        std::thread::sleep(ASK_AGAIN);
    }
    Err(ReloadFailed::Silent { address: admin })
}

/// The process id of the node that answers at `listen.admin`, if one does within a few seconds.
pub fn running_node(listen: &ListenSettings) -> Option<u32> {
    ask(listen.admin, listen.admin_tls.as_ref().map(|files| files.cert.as_path())).ok().map(|answer| answer.process)
}

fn exchange(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /reload HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask(admin: SocketAddr, tls: Option<&Path>) -> io::Result<Reloaded> {
    // An address of all interfaces is answered on this machine.
    let loopback: std::net::IpAddr =
        if admin.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    let host = if admin.ip().is_unspecified() { loopback } else { admin.ip() };
    let stream = TcpStream::connect_timeout(&SocketAddr::new(host, admin.port()), QUESTION_TIME)?;
    stream.set_read_timeout(Some(QUESTION_TIME))?;
    stream.set_write_timeout(Some(QUESTION_TIME))?;
    let answer = match tls {
        None => exchange(stream)?,
        Some(certificate) => exchange(pinned::connect(stream, certificate)?)?,
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it answers something else than a node does"))
}
