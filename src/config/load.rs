//! From text to `Config`: every key with its default, its range and its relations to others.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::document::{Document, Origin, Value};
use super::entitlement::EntitlementSettings;
use super::problem::{ConfigError, Problem};
use super::reader::{EXTRA_OPTIONS, Reader, show_list};
use super::settings::*;
use super::sources::{self, Environment};
use super::{entitlement, extra_options, kafka_settings, listeners, routes};
use crate::cores::{CoreSettings, HousekeepingChoice, Poll, ShardChoice};
use crate::http::{HEAD_BYTES_LEAST, HeadLimits};
use crate::kafka::TopicChoice;
use crate::net::NetSettings;
use crate::shard::ShardSettings;
use crate::subject::name::is_topic;
use crate::subject::routes::TARGETS_MAX;
use crate::subject::{Partitioner, ValueKind};
use crate::subject::{PartitionerChoice, PublishRule, TopicSettings};

/// A configuration is a few kilobytes; this much is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What librdkafka adds to a record, with room to spare; the sum is at least the 1,000 bytes that it wants as a limit.
const MESSAGE_OVERHEAD_BYTES: usize = 4_096;
/// Shards and CPUs of a list. Lanes grow with the square of the shards.
const SHARDS_MAX: u64 = 256;
/// Highest CPU number that a mask of the kernel's default size holds.
const CPU_MAX: i64 = 1_023;

impl Config {
    /// Reads a file, and `CORESPAN_KAFKA_EXTRA_OPTS` from the environment.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64, most: FILE_BYTES_MAX });
        }
        let name = path.display().to_string();
        let invalid = |origin: &str, text: &str| ConfigError::Invalid {
            problems: vec![Problem { origin: origin.to_owned(), line: None, text: text.to_owned() }],
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            let text = "not UTF-8 text; save the file as UTF-8".to_owned();
            ConfigError::Invalid { problems: vec![Problem { origin: name.clone(), line: Some(line), text }] }
        })?;
        let options = match std::env::var(EXTRA_OPTIONS) {
            Ok(options) => options,
            Err(std::env::VarError::NotPresent) => String::new(),
            Err(std::env::VarError::NotUnicode(_)) => return Err(invalid(EXTRA_OPTIONS, "not UTF-8 text; set it as -Dname=value pairs")),
        };
        Config::parse(&text, &name, &options)
    }

    /// Reads text. `file` is its name in messages; `extra_options` is what `CORESPAN_KAFKA_EXTRA_OPTS` would hold, or empty.
    pub fn parse(text: &str, file: &str, extra_options: &str) -> Result<Config, ConfigError> {
        Config::parse_in(text, file, extra_options, &|name| std::env::var(name))
    }

    /// The same with another environment for `${NAME}`.
    pub(super) fn parse_in(text: &str, file: &str, extra_options: &str, variable: Environment<'_>) -> Result<Config, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut document = Document::parse(text, file).map_err(|mut problems| {
            for problem in &mut problems {
                // `topics = ..` and an unquoted `topics.regex = ..` are refused by TOML before we see either.
                if problem.text.contains("near `topics") {
                    problem.text.push_str("; of topics and topics.regex exactly one is allowed");
                }
            }
            ConfigError::Invalid { problems }
        })?;
        let findings = sources::resolve(&mut document, variable);
        let mut reader = Reader::new(document, file);
        for (origin, text) in findings.problems {
            reader.problem(Some(origin), text);
        }
        extra_options::apply(extra_options, &mut reader);
        let mut config = read(&mut reader, file);
        let (effective, problems) = reader.finish();
        config.effective = effective;
        config.file_notes.splice(0..0, findings.notes);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { problems }) }
    }

    /// Whether the configuration suits this many shards, once they are planned.
    pub fn check_shards(&self, shards: usize) -> Result<(), ConfigError> {
        match self.kafka.consumer.consumers_size {
            Some(size) if usize::from(size) > shards => Err(ConfigError::Invalid {
                problems: vec![Problem {
                    origin: self.file.clone(),
                    line: None,
                    text: format!(
                        "kafka.consumer.consumers.size = {size} is not allowed; there are {shards} shards (cores.shards), give a number from 1 to {shards}, or \"all\""
                    ),
                }],
            }),
            _ => Ok(()),
        }
    }
}

fn shown_size(reader: &Reader, key: &str, bytes: usize) -> String {
    reader.shown(key, format!("{:?}", super::size_text(bytes as u64)))
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn read(reader: &mut Reader, file: &str) -> Config {
    let shard = ShardSettings::default();
    let node_name = reader.text("node.name", "", |name| {
        let fits = name.len() <= 128 && !name.chars().any(char::is_control);
        if fits { Ok(()) } else { Err("give at most 128 bytes of text without control characters, or \"\" for the host's name".to_owned()) }
    });
    let node_name = if node_name.is_empty() { host_name().unwrap_or_else(|| shard.node.clone()) } else { node_name };
    let subject_bytes_max = reader.size("subject.bytes.max", shard.subject_bytes_max as u64, 16..=64 << 10) as usize;
    let slow_client_timeout =
        reader.time("slow.client.timeout", Duration::from_millis(shard.slow_client_timeout_ms), seconds(1)..=seconds(86_400));
    let drain_time = reader.time("drain.seconds", seconds(10), seconds(0)..=seconds(3_600));
    let insecure = reader.flag("insecure", false);
    let mut notes = Vec::new();
    let listen = read_listen(reader, &mut notes);
    let entitlement = entitlement::read(reader);
    let open = listen.listeners.iter().position(|one| !one.address.ip().is_loopback());
    if let Some(place) = open.filter(|_| !insecure && entitlement == EntitlementSettings::None) {
        let key = if place == 0 { "listen.address".to_owned() } else { format!("listen.{}.address", place + 1) };
        let text = format!(
            "{} lets others in, and nobody's identity is checked; give [entitlement] a type, or write insecure = true at the top of the file if \
             that is meant, or listen on 127.0.0.1 behind a proxy that checks",
            reader.shown(&key, format!("\"{}\"", listen.listeners[place].address))
        );
        reader.problem(reader.origin_read(&key), text);
    }
    let cores = read_cores(reader);
    let mut kafka = kafka_settings::read(reader);
    let cache_origins = ["cache.bytes.max", "cache.subject.bytes.max", "outbox.bytes.max"].map(|key| reader.origin(key));
    let cache = CacheSettings {
        bytes_max: reader.size("cache.bytes.max", shard.cache_bytes_max as u64, 1 << 20..=1 << 40) as usize,
        records_max: reader.whole("cache.records.max", shard.cache_records_max as u64, 1..=1_000_000) as usize,
        subject_bytes_max: reader.size("cache.subject.bytes.max", shard.cache_subject_bytes_max as u64, 128 << 10..=1 << 40) as usize,
        expire_time: reader.time("cache.expire.time", Duration::from_millis(shard.cache_expire_ms), seconds(1)..=seconds(7 * 86_400)),
    };
    let (publish_topics, publish_patterns) = read_publish_topics(reader, open.is_none(), &entitlement, &kafka.consumer.topics);
    let publish = PublishSettings {
        topics: Arc::new(PublishRule::new(publish_topics, publish_patterns)),
        bytes_max: reader.size("publish.bytes.max", shard.publish_bytes_max as u64, 1..=64 << 20) as usize,
        open_max: reader.whole("publish.open.max", shard.publishes_open_max as u64, 1..=65_536) as usize,
        open_shard_max: reader.whole("publish.open.shard.max", shard.publishes_open_shard_max as u64, 1..=1_000_000) as usize,
    };
    let routes = Arc::new(routes::read_routes(reader));
    // One publish may become as many records as that at once.
    if !routes.0.is_empty() && publish.open_shard_max <= TARGETS_MAX {
        let text = format!(
            "{} is too few for a publish that routes take to several topics; give {} or more, or remove [[route]]",
            reader.shown("publish.open.shard.max", publish.open_shard_max),
            TARGETS_MAX + 1
        );
        reader.problem(reader.origin_read("publish.open.shard.max"), text);
    }
    let exposures = Arc::new(routes::read_exposures(reader, &kafka.consumer.topics));
    // librdkafka counts the key and its own overhead too: what we let through must not fail there.
    let producer = &mut kafka.producer.properties;
    if producer.get("message.max.bytes").is_none() {
        producer.set("message.max.bytes", (publish.bytes_max + subject_bytes_max + MESSAGE_OVERHEAD_BYTES).to_string());
    }
    let client = read_client(reader, &shard);
    let outbox = OutboxSettings {
        bytes_max: reader.size("outbox.bytes.max", shard.outbox_bytes_max as u64, 128 << 10..=1 << 30) as usize,
        shard_bytes_max: reader.size("outbox.shard.bytes.max", shard.outboxes_bytes_max as u64, 1 << 20..=1 << 40) as usize,
    };
    if outbox.shard_bytes_max < outbox.bytes_max {
        let (one, all) = (
            shown_size(reader, "outbox.bytes.max", outbox.bytes_max),
            shown_size(reader, "outbox.shard.bytes.max", outbox.shard_bytes_max),
        );
        let text = format!("{all} is less than {one}; raise the first or lower the second");
        reader.problem(None, text);
    }
    let [origin, subject_origin, outbox_origin] = cache_origins;
    for (key, bytes, origin) in
        [("cache.bytes.max", cache.bytes_max, origin), ("cache.subject.bytes.max", cache.subject_bytes_max, subject_origin)]
    {
        if bytes < outbox.bytes_max {
            let (cache, outbox) = (shown_size(reader, key, bytes), shown_size(reader, "outbox.bytes.max", outbox.bytes_max));
            let text = format!(
                "{cache} is less than {outbox}: a client that lags could not catch up from the cache; raise the first or lower the second"
            );
            reader.problem(origin.or(outbox_origin), text);
        }
    }
    let topics = read_topics(reader);
    let log = LogSettings {
        level: reader.choice(
            "log.level",
            tracing::Level::INFO,
            &[
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("info", tracing::Level::INFO),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ],
        ),
        format: reader.choice("log.format", LogFormat::Text, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    };
    Config {
        node_name,
        insecure,
        entitlement,
        listen,
        cores,
        kafka,
        subject_bytes_max,
        cache,
        publish,
        routes,
        exposures,
        client,
        outbox,
        slow_client_timeout,
        drain_time,
        topics,
        log,
        effective: Vec::new(),
        file_notes: notes,
        file: file.to_owned(),
    }
}

/// Topics that clients may publish to: without a word of the file those that are consumed, if only this machine can connect, else none.
fn read_publish_topics(
    reader: &mut Reader,
    is_loopback: bool,
    entitlement: &EntitlementSettings,
    consumed: &TopicChoice,
) -> (Vec<String>, Vec<regex::Regex>) {
    #[derive(Clone, PartialEq)]
    enum Topics {
        Consumed,
        /// What tokens permit.
        Permitted,
        Listed(Vec<String>),
    }
    const HELP: &str = "give a list of topic names, as in [\"orders\"], or \"consumed\" for the topics of [kafka.consumer], or with entitlement.type = \"jwt\" \"permitted\" for those that tokens permit; [] is none";
    let default = match entitlement {
        EntitlementSettings::Jwt(_) => Topics::Permitted,
        EntitlementSettings::Basic { .. } => Topics::Consumed,
        EntitlementSettings::None if is_loopback => Topics::Consumed,
        EntitlementSettings::None => Topics::Listed(Vec::new()),
    };
    let topics = reader.special(
        "publish.topics",
        default,
        |value| match value {
            Value::Text(text) if text == "consumed" => Ok(Topics::Consumed),
            Value::Text(text) if text == "permitted" && matches!(entitlement, EntitlementSettings::Jwt(_)) => Ok(Topics::Permitted),
            Value::List(values) => {
                let name = |value: &Value| match value {
                    Value::Text(name) if is_topic(name) => Ok(name.clone()),
                    other => Err(format!("{} is no topic name; {HELP}", other.show())),
                };
                values.iter().map(name).collect::<Result<_, _>>().map(Topics::Listed)
            }
            _ => Err(HELP.to_owned()),
        },
        |topics| match topics {
            Topics::Consumed => "\"consumed\"".to_owned(),
            Topics::Permitted => "\"permitted\"".to_owned(),
            Topics::Listed(names) => format!("{names:?}"),
        },
    );
    let pattern = reader.special(
        "publish.pattern",
        None,
        |value| match value {
            Value::Text(text) if text.is_empty() => Ok(None),
            value => kafka_settings::anchored(value).map(Some),
        },
        |pattern| format!("{:?}", pattern.as_ref().map_or("", |(text, _)| text)),
    );
    let mut patterns: Vec<regex::Regex> = pattern.into_iter().map(|(_, regex)| regex).collect();
    let names = match (topics, consumed) {
        (Topics::Listed(names), _) => names,
        (Topics::Permitted, _) => {
            // All but internal ones: those must be named.
            patterns.extend(regex::Regex::new("^.*$"));
            Vec::new()
        }
        (Topics::Consumed, TopicChoice::Listed(names)) => names.clone(),
        (Topics::Consumed, TopicChoice::Matching(regex)) => {
            patterns.push(regex.clone());
            Vec::new()
        }
    };
    (names, patterns)
}

fn read_listen(reader: &mut Reader, notes: &mut Vec<String>) -> ListenSettings {
    let net = NetSettings::default();
    let address_origin = reader.origin("listen.admin").or_else(|| reader.origin("listen.address"));
    let listeners = listeners::read(reader, notes);
    let listen = ListenSettings {
        admin: reader.address("listen.admin", SocketAddr::from((Ipv4Addr::LOCALHOST, 8801))),
        allowed_origins: reader.texts("listen.allowed.origins", check_origin),
        connections_max: reader.whole("listen.connections.max", net.connections_max as u64, 1..=1_000_000) as usize,
        request_timeout: reader.time("listen.request.timeout", Duration::from_millis(net.head_timeout_ms), seconds(1)..=seconds(300)),
        head: HeadLimits {
            bytes_max: reader.size("listen.head.bytes.max", net.head.bytes_max as u64, HEAD_BYTES_LEAST as u64..=1 << 20) as usize,
            lines_max: reader.whole("listen.head.lines.max", net.head.lines_max as u64, 16..=1_000) as usize,
        },
        idle_timeout: reader.time("listen.idle.timeout", Duration::from_millis(net.idle_timeout_ms), seconds(1)..=seconds(3_600)),
        send_buffer_bytes: reader.size("listen.send.buffer.bytes", net.send_buffer_bytes as u64, 8 << 10..=64 << 20) as usize,
        handshakes_max: reader.whole("listen.handshakes.max", u64::from(net.handshakes_per_second), 1..=100_000) as u32,
        listeners,
        admin_tls: listeners::read_admin(reader, notes),
    };
    let ports: Vec<(String, SocketAddr)> = (listen.listeners.iter().enumerate())
        .map(|(place, one)| (if place == 0 { "listen.address".to_owned() } else { format!("listen.{}.address", place + 1) }, one.address))
        .chain([("listen.admin".to_owned(), listen.admin)])
        .collect();
    for (place, (key, address)) in ports.iter().enumerate() {
        let taken = |other: &SocketAddr| {
            let same_place = other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && address.port() != 0 && same_place
        };
        if let Some((other, taken)) = ports[..place].iter().find(|(_, other)| taken(other)) {
            let text = format!(
                "{} is taken by {}; give one of them another port",
                reader.shown(key, format!("\"{address}\"")),
                reader.shown(other, format!("\"{taken}\""))
            );
            reader.problem(address_origin, text);
        }
    }
    listen
}

/// An origin as browsers send it: a scheme (also that of an app's web view, as in `capacitor://localhost`), a host, and a port unless it is the
/// scheme's own. What never could match is refused.
fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "*" {
        return Ok(());
    }
    let no_origin = || {
        format!(
            "{origin:?} is no origin; write it as browsers do, as in \"https://app.example.com\", \"http://localhost:3000\" or \"capacitor://localhost\""
        )
    };
    let (scheme, host) = origin.split_once("://").ok_or_else(no_origin)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.'));
    if !is_scheme
        || host.is_empty()
        || !host.chars().all(|character| character.is_ascii_graphic() && !matches!(character, '/' | '?' | '#' | '@'))
    {
        return Err(no_origin());
    }
    if host.contains('*') {
        return Err(format!("{origin:?} has a `*`, and would match nothing; list each origin by itself, or give [\"*\"] for all"));
    }
    for (known, port) in [("https", ":443"), ("http", ":80")] {
        if let (true, Some(bare)) = (scheme.eq_ignore_ascii_case(known), host.strip_suffix(port)) {
            return Err(format!("{origin:?} would match nothing, as browsers leave {port} out; write \"{scheme}://{bare}\""));
        }
    }
    Ok(())
}

fn read_cores(reader: &mut Reader) -> CoreSettings {
    let shards = reader.special(
        "cores.shards",
        ShardChoice::Auto,
        |value| match value {
            Value::Text(text) if text == "auto" => Ok(ShardChoice::Auto),
            Value::Whole(number) if (1..=SHARDS_MAX as i64).contains(number) => Ok(ShardChoice::Count(*number as u16)),
            Value::List(values) => cpu_list(values).map(ShardChoice::Cpus),
            _ => Err(format!("give \"auto\", a number from 1 to {SHARDS_MAX}, or a list of CPU numbers, as in [2, 3]")),
        },
        |choice| match choice {
            ShardChoice::Auto => "\"auto\"".to_owned(),
            ShardChoice::Count(number) => number.to_string(),
            ShardChoice::Cpus(cpus) => show_list(cpus),
        },
    );
    let housekeeping = reader.special(
        "cores.housekeeping",
        HousekeepingChoice::Auto,
        |value| match value {
            Value::Text(text) if text == "auto" => Ok(HousekeepingChoice::Auto),
            Value::List(values) => cpu_list(values).map(HousekeepingChoice::Cpus),
            _ => Err("give \"auto\" or a list of CPU numbers, as in [0, 1]".to_owned()),
        },
        |choice| match choice {
            HousekeepingChoice::Auto => "\"auto\"".to_owned(),
            HousekeepingChoice::Cpus(cpus) => show_list(cpus),
        },
    );
    let poll = reader.choice("cores.poll", Poll::Park, &[("park", Poll::Park), ("adaptive", Poll::Adaptive), ("busy", Poll::Busy)]);
    CoreSettings { shards, housekeeping, poll }
}

fn cpu_list(values: &[Value]) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for value in values {
        match value {
            Value::Whole(cpu) if (0..=CPU_MAX).contains(cpu) => {
                if cpus.contains(&(*cpu as usize)) {
                    return Err(format!("CPU {cpu} is named twice; remove one"));
                }
                cpus.push(*cpu as usize);
            }
            other => return Err(format!("{} is no CPU number; give numbers from 0 to {CPU_MAX}, as in [2, 3]", other.show())),
        }
    }
    match cpus.len() {
        0 => Err("the list is empty; name at least one CPU, or give \"auto\"".to_owned()),
        1..=256 => Ok(cpus),
        _ => Err(format!("at most {SHARDS_MAX} CPUs can be named")),
    }
}

fn read_client(reader: &mut Reader, shard: &ShardSettings) -> ClientSettings {
    let pong_origin = reader.origin("client.pong.timeout").or_else(|| reader.origin("client.ping.interval"));
    let ping_origin = reader.origin("client.ping.interval");
    let client = ClientSettings {
        subscriptions_max: reader.whole("client.subscriptions.max", shard.subscriptions_max as u64, 1..=1_000_000) as usize,
        subscriptions_shard_bytes_max: reader.size(
            "client.subscriptions.shard.bytes.max",
            shard.subscriptions_bytes_max as u64,
            1 << 20..=1 << 40,
        ) as usize,
        ping_interval: reader.time("client.ping.interval", Duration::from_millis(shard.ping_interval_ms), seconds(1)..=seconds(3_600)),
        pong_timeout: reader.time("client.pong.timeout", Duration::from_millis(shard.pong_timeout_ms), seconds(1)..=seconds(3_600)),
        connect_timeout: reader.time("client.connect.timeout", Duration::from_millis(shard.connect_timeout_ms), seconds(1)..=seconds(300)),
    };
    let show = |reader: &Reader, key: &str, time: Duration| reader.shown(key, format!("{:?}", super::time_text(time)));
    if client.ping_interval.subsec_millis() != 0 {
        let text = format!(
            "{} is not allowed; the protocol counts whole seconds, give one",
            show(reader, "client.ping.interval", client.ping_interval)
        );
        reader.problem(ping_origin, text);
    }
    if client.pong_timeout >= client.ping_interval {
        let text = format!(
            "{} is not less than {}; a pong must come before the next ping is due",
            show(reader, "client.pong.timeout", client.pong_timeout),
            show(reader, "client.ping.interval", client.ping_interval)
        );
        reader.problem(pong_origin, text);
    }
    client
}

fn read_topics(reader: &mut Reader) -> BTreeMap<String, TopicSettings> {
    // A topic's name may hold dots: the last segment is the key, the rest the name.
    let entries = reader.take_below("topic");
    let mut names: Vec<(String, Origin)> = Vec::new();
    for entry in entries {
        let name = entry.key["topic.".len()..].rsplit_once('.').map(|(name, _)| name.to_owned());
        match name {
            Some(name) if is_topic(&name) => {
                if !names.iter().any(|(known, _)| *known == name) {
                    names.push((name, entry.origin));
                }
                reader.set(entry);
            }
            Some(name) => reader
                .problem(Some(entry.origin), format!("[topic.{name:?}]: no topic name; it is 1 to 249 characters of a-z A-Z 0-9 . _ -")),
            None => reader.problem(
                Some(entry.origin),
                format!("{} names no topic; write it as [topic.\"vehicles\"] with {} = ... below", entry.key, &entry.key["topic.".len()..]),
            ),
        }
    }
    let mut topics = BTreeMap::new();
    for (name, _) in names {
        let settings = TopicSettings {
            partitioner: reader.choice(
                &format!("topic.{name}.partitioner"),
                PartitionerChoice::Auto,
                &[
                    ("auto", PartitionerChoice::Auto),
                    ("murmur2", PartitionerChoice::Fixed(Partitioner::Murmur2)),
                    ("crc32", PartitionerChoice::Fixed(Partitioner::Crc32)),
                    ("any", PartitionerChoice::Fixed(Partitioner::Any)),
                ],
            ),
            value: reader.choice(
                &format!("topic.{name}.value"),
                ValueKind::Auto,
                &[("auto", ValueKind::Auto), ("json", ValueKind::Json), ("text", ValueKind::Text), ("binary", ValueKind::Binary)],
            ),
            snapshot: reader.choice(&format!("topic.{name}.snapshot"), false, &[("none", false), ("latest", true)]),
        };
        topics.insert(name, settings);
    }
    topics
}

/// The host's name, as `hostname` prints it.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
