//! The configuration, typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::entitlement::EntitlementSettings;
use super::listeners::ListenerSettings;
use super::reader::Effective;
use crate::cores::{self, CoreSettings};
use crate::http::{HeadLimits, SiteSettings};
use crate::kafka::{KafkaSettings, TopicChoice};
use crate::net::NetSettings;
use crate::shard::ShardSettings;
use crate::subject::{Destination, Exposures, PublishRule, Route, Routes, TopicSettings};
use crate::tls::CertificateFiles;

/// A validated configuration. Made by `Config::load` or `Config::parse`; nobody changes it afterwards.
#[derive(Clone, Debug)]
pub struct Config {
    /// `node.name`, or the host's name.
    pub node_name: String,
    /// `insecure`: anybody may connect from elsewhere.
    pub insecure: bool,
    /// `[entitlement]`
    pub entitlement: EntitlementSettings,
    pub listen: ListenSettings,
    pub cores: CoreSettings,
    pub kafka: KafkaSettings,
    /// `subject.bytes.max`
    pub subject_bytes_max: usize,
    pub cache: CacheSettings,
    pub publish: PublishSettings,
    /// Every `[[route]]`.
    pub routes: Arc<Routes>,
    /// Every `[[expose]]`.
    pub exposures: Arc<Exposures>,
    pub client: ClientSettings,
    pub outbox: OutboxSettings,
    /// `slow.client.timeout`
    pub slow_client_timeout: Duration,
    /// `drain.seconds`: over how long connections are closed at a graceful stop.
    pub drain_time: Duration,
    /// `[topic."T"]`, by topic. Use `Config::topic`.
    pub topics: BTreeMap<String, TopicSettings>,
    pub log: LogSettings,
    /// What every key turned out to be, in the order of the manual; secrets are masked.
    pub effective: Vec<Effective>,
    /// What is to be said of files that it names, a line each: secrets that everybody can read, certificates that have expired.
    pub(super) file_notes: Vec<String>,
    /// Name of the file, for messages.
    pub file: String,
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// WebSocket, HTTP and pages: one or more.
    pub listeners: Vec<ListenerSettings>,
    /// `handshakes.max`: TLS handshakes that a shard begins in a second.
    pub handshakes_max: u32,
    /// Metrics and health; for the inside only.
    pub admin: SocketAddr,
    /// `admin.tls.*`: of that port.
    pub admin_tls: Option<CertificateFiles>,
    /// Origins of web pages that may connect; empty: those of the host that is asked; `*`: any.
    pub allowed_origins: Vec<String>,
    /// `connections.max`: WebSocket connections of one shard.
    pub connections_max: usize,
    /// `request.timeout`: how long a client has for a request head.
    pub request_timeout: Duration,
    /// `idle.timeout`: how long an HTTP connection may stay idle between requests.
    pub head: HeadLimits,
    pub idle_timeout: Duration,
    /// `send.buffer.bytes`: `SO_SNDBUF`.
    pub send_buffer_bytes: usize,
}

/// `[cache]`, of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    pub bytes_max: usize,
    /// Of one subject.
    pub records_max: usize,
    /// Of one subject.
    pub subject_bytes_max: usize,
    pub expire_time: Duration,
}

/// `[publish]`.
#[derive(Clone, Debug)]
pub struct PublishSettings {
    /// `topics`, `topics.regex`.
    pub topics: Arc<PublishRule>,
    /// Largest value.
    pub bytes_max: usize,
    /// `open.max`: of one connection, unanswered by Kafka.
    pub open_max: usize,
    /// `open.shard.max`: of one shard, unanswered by Kafka.
    pub open_shard_max: usize,
}

/// `[client]`, of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    pub subscriptions_max: usize,
    /// Of all connections of a shard.
    pub subscriptions_shard_bytes_max: usize,
    /// Whole seconds.
    pub ping_interval: Duration,
    /// Less than `ping_interval`.
    pub pong_timeout: Duration,
    pub connect_timeout: Duration,
}

/// `[outbox]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Of one client.
    pub bytes_max: usize,
    /// Of all clients of a shard; at least `bytes_max`.
    pub shard_bytes_max: usize,
}

/// How many connections there can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Per shard.
    pub shard_max: usize,
    /// The number was written down; else it is the default, and having fewer is nothing to worry about.
    pub is_asked_for: bool,
    /// Why there are fewer than that, in one line.
    pub note: Option<String>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: tracing::Level,
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// The settings of a topic: those of `[topic."T"]`, or the defaults.
    pub fn topic(&self, name: &str) -> TopicSettings {
        self.topics.get(name).copied().unwrap_or_default()
    }

    /// The largest command of a client that is read: twice `publish.bytes.max`, so that a too large publish can be answered with its error, and
    /// never less than a subscribe takes with the longest subject (each byte of it may be six characters in JSON) and a token. A message may hold
    /// any number of commands.
    pub fn command_bytes_max(&self) -> usize {
        (2 * self.publish.bytes_max).max(6 * self.subject_bytes_max + (64 << 10))
    }

    /// What fits together badly without being wrong, each with what to do.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.file_notes.clone();
        let kibibytes = self.outbox.bytes_max >> 10;
        if self.cache.records_max < kibibytes {
            let (records, outbox) = (self.cache.records_max, super::size_text(self.outbox.bytes_max as u64));
            notes.push(format!(
                "cache.records.max = {records} remembers less of a subject than outbox.bytes.max = {outbox:?} lets a client lag, when its records are small (below {} bytes): such a client may have to start again (code 2500); raise the first to {kibibytes} or more, or lower the second",
                self.outbox.bytes_max / self.cache.records_max
            ));
        }
        notes
    }

    /// What is open to whom, a line each.
    pub fn open_to(&self) -> Vec<String> {
        let is_local = self.listen.listeners.iter().all(|listener| listener.address.ip().is_loopback());
        let who = if is_local { "everybody on this machine" } else { "everybody who reaches the port" };
        let ports: Vec<String> = (self.listen.listeners.iter())
            .map(|listener| match &listener.tls {
                None => listener.address.to_string(),
                Some(tls) if tls.client_required => format!("{} (TLS, with a client certificate)", listener.address),
                Some(_) => format!("{} (TLS)", listener.address),
            })
            .collect();
        let (subscribers, publishers) = match &self.entitlement {
            EntitlementSettings::None => (who.to_owned(), who.to_owned()),
            EntitlementSettings::Basic { .. } => (who.to_owned(), "who has entitlement.token".to_owned()),
            EntitlementSettings::Jwt(_) => {
                let who = "who has a token that one of the keys has signed, as far as its permissions go,";
                (who.to_owned(), who.to_owned())
            }
        };
        let publish = if self.publish.topics.allows_nothing() {
            "nobody may publish (publish.topics)".to_owned()
        } else {
            format!("{publishers} may publish to {}", self.publish.topics)
        };
        let pages = match self.listen.allowed_origins.as_slice() {
            [] => "of the same host".to_owned(),
            origins if origins.iter().any(|origin| origin == "*") => "of all hosts".to_owned(),
            origins => format!("of {}", origins.join(", ")),
        };
        let key = |destination: &Destination| match &destination.key {
            None => String::new(),
            Some(key) if key.to_string().is_empty() => ", without a key".to_owned(),
            Some(key) => format!(", key {key}"),
        };
        let mut open = vec![format!("{subscribers} may subscribe to every topic that is served, on {}", ports.join(", ")), publish];
        for Route { destination, also } in &self.routes.0 {
            let own = if *also { ", and to its own topic" } else { "" };
            let (subject, topic) = (&destination.pattern, &destination.topic);
            open.push(format!("{publishers} may publish to {subject}, which goes to topic {topic}{}{own} (route)", key(destination)));
        }
        for destination in &self.exposures.0 {
            let (subject, topic) = (&destination.pattern, &destination.topic);
            open.push(format!(
                "{subscribers} may subscribe to {subject}, which has the records of topic {topic}{} (expose)",
                key(destination)
            ));
        }
        open.push(format!("web pages {pages} may connect (listen.allowed.origins)"));
        open
    }

    /// What each shard needs to know.
    pub fn shard_settings(&self) -> ShardSettings {
        let ms = |time: Duration| time.as_millis() as u64;
        ShardSettings {
            subject_bytes_max: self.subject_bytes_max,
            cache_bytes_max: self.cache.bytes_max,
            cache_records_max: self.cache.records_max,
            cache_subject_bytes_max: self.cache.subject_bytes_max,
            cache_expire_ms: ms(self.cache.expire_time),
            outbox_bytes_max: self.outbox.bytes_max,
            outboxes_bytes_max: self.outbox.shard_bytes_max,
            slow_client_timeout_ms: ms(self.slow_client_timeout),
            subscriptions_max: self.client.subscriptions_max,
            subscriptions_bytes_max: self.client.subscriptions_shard_bytes_max,
            publish_bytes_max: self.publish.bytes_max,
            publish_topics: self.publish.topics.clone(),
            routes: self.routes.clone(),
            exposures: self.exposures.clone(),
            publishes_open_max: self.publish.open_max,
            publishes_open_shard_max: self.publish.open_shard_max,
            ping_interval_ms: ms(self.client.ping_interval),
            pong_timeout_ms: ms(self.client.pong_timeout),
            connect_timeout_ms: ms(self.client.connect_timeout),
            topics_regex: match &self.kafka.consumer.topics {
                TopicChoice::Matching(regex) => Some(regex.clone()),
                TopicChoice::Listed(_) => None,
            },
            topics: Arc::new(self.topics.clone()),
            null_key_partition: self.kafka.producer.null_key_partition,
            node: self.node_name.clone(),
            ..ShardSettings::default()
        }
    }

    /// Connections that each shard takes with so many open files.
    pub fn connections_within(&self, files: u64, shards: usize) -> Connections {
        let (wanted, fitting) = (self.listen.connections_max, cores::connections_within(files, shards));
        let is_asked_for = self.effective.iter().any(|effective| effective.key == "listen.connections.max" && effective.origin.is_some());
        if wanted <= fitting {
            return Connections { shard_max: wanted, is_asked_for, note: None };
        }
        let whose = if is_asked_for { "" } else { "the default of " };
        let note = format!(
            "{whose}listen.connections.max = {wanted} is more than {files} open files allow: each of {shards} shards takes {fitting} connections \
             and refuses more with 503; for more raise LimitNOFILE in the systemd unit, or ulimit -n"
        );
        Connections { shard_max: fitting, is_asked_for, note: Some(note) }
    }

    /// What each shard's sockets need to know.
    pub fn net_settings(&self) -> NetSettings {
        NetSettings {
            connections_max: self.listen.connections_max,
            send_buffer_bytes: self.listen.send_buffer_bytes,
            head_timeout_ms: self.listen.request_timeout.as_millis() as u64,
            head: self.listen.head,
            idle_timeout_ms: self.listen.idle_timeout.as_millis() as u64,
            command_bytes_max: self.command_bytes_max(),
            handshakes_per_second: self.listen.handshakes_max,
            ..NetSettings::default()
        }
    }

    /// What the pages depend on. `demo` is true under `corespan demo`.
    pub fn site_settings(&self, demo: bool) -> SiteSettings {
        SiteSettings { demo, allowed_origins: self.listen.allowed_origins.clone() }
    }
}
