//! `[kafka]`, `[kafka.consumer]` and `[kafka.producer]`: librdkafka's properties by their own names, and the bridge's own.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use regex::Regex;

use super::document::{Entry, Origin, Source, Value};
use super::problem::did_you_mean;
use super::reader::Reader;
use crate::kafka::librdkafka::{Role, Scope, check_property, check_together, other_names, scope};
use crate::kafka::{
    ConsumerSettings, CorruptBatches, KafkaSettings, MASK, ProducerSettings, Properties, TopicChoice, is_secret, is_tls_file, masked,
};
use crate::subject::name::is_topic;

/// For both clients.
const SHARED: &str = "kafka";
pub const CONSUMER: &str = "kafka.consumer";
pub const PRODUCER: &str = "kafka.producer";
/// The bridge's own keys of `[kafka.consumer]`.
pub const CONSUMER_OWN: [&str; 5] = ["topics", "topics.regex", "consumers.size", "recovery.on.start", "corrupt.batches"];
/// The bridge's own keys of `[kafka.producer]`.
pub const PRODUCER_OWN: [&str; 2] = ["producers.size", "null.key.partition"];
/// What is below `[kafka]` and no property of librdkafka's.
const SHARED_OWN: [&str; 3] = ["metadata.interval", "consumer", "producer"];
/// Both names of Kafka's addresses.
const SERVERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];
/// librdkafka's properties that people set most, for the spelling of near misses.
const COMMON: [&str; 18] = [
    "bootstrap.servers",
    "group.id",
    "client.id",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "fetch.wait.max.ms",
    "isolation.level",
    "linger.ms",
    "compression.type",
    "message.max.bytes",
    "message.timeout.ms",
];
/// Topics of a list. Beyond it a regular expression is meant.
const TOPICS_MAX: usize = 10_000;

/// Reads the three tables.
pub fn read(reader: &mut Reader) -> KafkaSettings {
    share(reader);
    let metadata_interval =
        reader.time("kafka.metadata.interval", Duration::from_secs(10), Duration::from_millis(100)..=Duration::from_secs(3_600));
    let topics = read_topics(reader);
    let consumers_size = reader.whole_or_off("kafka.consumer.consumers.size", 1..=1_024, "all").map(|size| size as u16);
    let recovery_on_start = reader.flag("kafka.consumer.recovery.on.start", false);
    let corrupt_batches = reader.choice(
        "kafka.consumer.corrupt.batches",
        CorruptBatches::Stop,
        &[("stop", CorruptBatches::Stop), ("skip", CorruptBatches::Skip)],
    );
    let of_consumer = read_properties(reader, CONSUMER);
    let consumer = ConsumerSettings { properties: of_consumer.properties, topics, consumers_size, recovery_on_start, corrupt_batches };
    let producers_size = reader.whole("kafka.producer.producers.size", 1, 1..=64) as u16;
    let null_key_partition =
        reader.whole_or_off("kafka.producer.null.key.partition", 0..=i32::MAX as u64, "off").map(|partition| partition as u32);
    let of_producer = read_properties(reader, PRODUCER);
    // The same of both is most often one line of [kafka].
    match (of_consumer.together, of_producer.together) {
        (Some(consumer), Some(producer)) if consumer == producer => reader.problem(None, format!("[{SHARED}]: {consumer}")),
        (consumer, producer) => {
            for (table, reason) in [(CONSUMER, consumer), (PRODUCER, producer)] {
                if let Some(reason) = reason {
                    reader.problem(None, format!("[{table}]: {reason}"));
                }
            }
        }
    }
    let producer = ProducerSettings { properties: of_producer.properties, producers_size, null_key_partition };
    KafkaSettings { metadata_interval, consumer, producer }
}

fn read_topics(reader: &mut Reader) -> TopicChoice {
    const TOPICS: &str = "kafka.consumer.topics";
    const REGEX: &str = "kafka.consumer.topics.regex";
    let nothing = || TopicChoice::Listed(Vec::new());
    match (reader.origin(TOPICS), reader.origin(REGEX)) {
        (None, None) => {
            // Asked for all the same: it makes them known.
            let _ = (reader.take(TOPICS), reader.take(REGEX));
            reader.problem(
                None,
                "kafka.consumer.topics and kafka.consumer.topics.regex are both missing; give exactly one in [kafka.consumer]: \
                 topics = [\"vehicles\"], or \"topics.regex\" = \"vehicles.*\"",
            );
            nothing()
        }
        (Some(_), Some(second)) => {
            let _ = (reader.take(TOPICS), reader.take(REGEX));
            reader.problem(
                Some(second),
                "kafka.consumer.topics and kafka.consumer.topics.regex are both given; exactly one is allowed, remove the other",
            );
            nothing()
        }
        (Some(_), None) => {
            reader.take(REGEX);
            let topics = reader.special(TOPICS, Vec::new(), listed, |topics| format!("{topics:?}"));
            TopicChoice::Listed(topics)
        }
        (None, Some(_)) => {
            reader.take(TOPICS);
            let regex = reader.special(
                REGEX,
                None,
                |value| anchored(value).map(Some),
                |regex| match regex {
                    Some((text, _)) => format!("{text:?}"),
                    None => String::new(),
                },
            );
            regex.map_or_else(nothing, |(_, regex)| TopicChoice::Matching(regex))
        }
    }
}

fn listed(value: &Value) -> Result<Vec<String>, String> {
    const HELP: &str = "give a list of topics, as in [\"vehicles\", \"alerts\"], or text with commas, as in \"vehicles,alerts\"";
    let mut topics: Vec<String> = match value {
        Value::Text(text) => text.split(',').map(|topic| topic.trim().to_owned()).filter(|topic| !topic.is_empty()).collect(),
        Value::List(values) => {
            let texts: Option<_> =
                values.iter().map(|value| if let Value::Text(text) = value { Some(text.trim().to_owned()) } else { None }).collect();
            texts.ok_or_else(|| HELP.to_owned())?
        }
        _ => return Err(HELP.to_owned()),
    };
    if topics.is_empty() {
        return Err(format!("at least one topic is needed; {HELP}"));
    }
    if let Some(wrong) = topics.iter().find(|topic| !is_topic(topic)) {
        return Err(format!(
            "{wrong:?} is no topic name: 1 to 249 characters of a-z A-Z 0-9 . _ -, and not \".\" or \"..\"; for a pattern use \"topics.regex\""
        ));
    }
    if topics.len() > TOPICS_MAX {
        return Err(format!("at most {TOPICS_MAX} topics can be listed; use \"topics.regex\""));
    }
    let mut seen = std::collections::HashSet::new();
    topics.retain(|topic| seen.insert(topic.clone()));
    Ok(topics)
}

pub(super) fn anchored(value: &Value) -> Result<(String, Regex), String> {
    const HELP: &str = "give a regular expression (Rust syntax, matched against the whole name), as in \"vehicles.*\"";
    let Value::Text(text) = value else { return Err(HELP.to_owned()) };
    if text.is_empty() {
        return Err(format!("it matches no topic; {HELP}"));
    }
    // Compiled alone first: `a)|(b` must not become valid by the anchors.
    Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$"))).map(|regex| (text.clone(), regex)).map_err(|error| {
        let error = error.to_string();
        let reason =
            error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        format!("{reason}; {HELP}")
    })
}

/// What `[kafka]` says of librdkafka goes to each client that knows it, unless the client's own table says it, under whatever name. What is wrong
/// there is said once.
fn share(reader: &mut Reader) {
    let mut shared = Vec::new();
    for entry in reader.take_those_below(SHARED) {
        let name = entry.key[SHARED.len() + 1..].to_owned();
        let is_in = |own: &str| name == own || name.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
        // A table that nobody knows is named by its header.
        if SHARED_OWN.iter().any(|own| is_in(own)) || (scope(&name).is_err() && reader.is_in_table(&entry.key, SHARED)) {
            reader.set(entry);
        } else {
            shared.push((name, entry));
        }
    }
    let mut known: Vec<String> = Vec::new();
    for (name, entry) in shared {
        reader.know(&entry.key);
        if let Some(other) = other_names(&name).find(|other| known.iter().any(|known| known == other)) {
            let reason = format!("it is another name of {other}, which is given too; remove one of them");
            reader.problem(Some(entry.origin), reason_with_key(&entry, &name, &reason));
            continue;
        }
        known.push(name.clone());
        if let Err(reason) = check_shared(&entry, &name) {
            reader.problem(Some(entry.origin), reason);
            continue;
        }
        let scope = scope(&name).unwrap_or(Scope { consumer: false, producer: false });
        for (table, is_known) in [(CONSUMER, scope.consumer), (PRODUCER, scope.producer)] {
            let is_given = |name: &str| reader.origin(&format!("{table}.{name}")).is_some();
            let is_given = is_given(&name) || other_names(&name).any(is_given);
            if is_known && !is_given {
                reader.set(Entry { key: format!("{table}.{name}"), ..entry.clone() });
            }
        }
    }
}

/// Whether a property of `[kafka]` is right for whoever takes it. `Err` is the whole line.
fn check_shared(entry: &Entry, name: &str) -> Result<(), String> {
    for (table, own) in [(CONSUMER, &CONSUMER_OWN[..]), (PRODUCER, &PRODUCER_OWN[..])] {
        if own.contains(&name) {
            return Err(format!("{}: it belongs to [{table}]; move it there", entry.shown_key()));
        }
    }
    let scope = scope(name).map_err(|reason| {
        let reason = near_miss(name, &SHARED_OWN).map_or(reason, |near| format!("unknown property; did you mean {near}?"));
        reason_with_key(entry, name, &reason)
    })?;
    if entry.value == Value::Unresolved {
        return Ok(());
    }
    check_entry(if scope.consumer { Role::Consumer } else { Role::Producer }, entry, name).map(|_| ())
}

/// The text of a property, if a client takes it. `Err` is the whole line.
fn check_entry(role: Role, entry: &Entry, name: &str) -> Result<String, String> {
    let Some(value) = property_text(&entry.value) else {
        let shown = shown(entry, name);
        return Err(format!("{} = {shown} is not allowed; give text in quotes, a number, true or false", entry.shown_key()));
    };
    let Err(reason) = check_property(role, name, &value) else { return Ok(value) };
    let reason = match entry.stand_in().map(|stand_in| property_text(&stand_in.value)) {
        None if is_secret(name) => reason.replace(&value, MASK),
        None => reason,
        // librdkafka's reason holds the value.
        Some(stand_in) => stand_in
            .and_then(|text| check_property(role, name, &text).err())
            .unwrap_or_else(|| "its value (which is not shown) is not what this property takes".to_owned()),
    };
    Err(reason_with_key(entry, name, &reason))
}

/// What is read of a client's properties: with the line that says what is wrong with them together.
struct Client {
    properties: Properties,
    together: Option<String>,
}

fn read_properties(reader: &mut Reader, table: &str) -> Client {
    let role = if table == CONSUMER { Role::Consumer } else { Role::Producer };
    let (other, others) = if table == CONSUMER { (PRODUCER, &PRODUCER_OWN[..]) } else { (CONSUMER, &CONSUMER_OWN[..]) };
    let own = if table == CONSUMER { &CONSUMER_OWN[..] } else { &PRODUCER_OWN[..] };
    let mut properties = Properties::default();
    let mut each_is_right = true;
    let mut has_servers = false;
    for entry in reader.take_below(table) {
        let name = &entry.key[table.len() + 1..];
        has_servers |= SERVERS.contains(&name) && property_text(&entry.value).is_none_or(|servers| !servers.trim().is_empty());
        if entry.value == Value::Unresolved {
            each_is_right = false;
            continue;
        }
        let twice = other_names(name).find(|other| properties.get(other).is_some());
        let checked = match twice {
            // A key of the other table is a mistake of place, not an unknown property.
            _ if others.contains(&name) => Err(reason_with_key(&entry, name, &format!("it belongs to [{other}]; move it there"))),
            Some(twice) => {
                Err(reason_with_key(&entry, name, &format!("it is another name of {twice}, which is given too; remove one of them")))
            }
            None => match near_miss(name, own).filter(|_| scope(name).is_err()) {
                Some(near) => Err(reason_with_key(&entry, name, &format!("unknown property; did you mean {near}?"))),
                None => check_entry(role, &entry, name),
            },
        };
        match checked {
            Ok(value) => {
                let is_hidden = is_secret(name) || entry.source.is_some();
                let content = if is_tls_file(name) { Some(digest(Path::new(&value))) } else { None };
                let shown = if entry.source.is_some() { shown(&entry, name) } else { format!("{:?}", masked(name, &value)) };
                if entry.source.is_some() {
                    properties.show_as(name, shown.clone());
                }
                let hidden = match content {
                    Some(digest) => Some(format!("{digest:x} {value}")),
                    None => is_hidden.then(|| value.clone()),
                };
                if let Some(digest) = content {
                    properties.set_content(name, digest);
                }
                reader.note(&entry, shown, hidden);
                properties.set(name, value);
            }
            Err(line) => {
                each_is_right = false;
                reader.problem(Some(entry.origin), line);
            }
        }
    }
    if !has_servers {
        reader.problem(
            None,
            format!(
                "{table}.bootstrap.servers is missing; give Kafka's addresses in [{table}], or in [{SHARED}] for both clients: \
                 \"bootstrap.servers\" = \"10.0.0.1:9092,10.0.0.2:9092\""
            ),
        );
    }
    // What only a client as a whole shows: a file that is not there, two properties that contradict each other.
    let together = if each_is_right { check_together(role, &properties).err() } else { None };
    let together = together.map(|reason| reason.split_whitespace().collect::<Vec<_>>().join(" "));
    Client { properties, together }
}

/// Of what a file holds, or the files of a folder: clients read it when they are made, so a reload looks whether it has changed.
fn digest(path: &Path) -> u64 {
    let mut paths = match std::fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => vec![path.to_owned()],
    };
    paths.sort();
    let mut hasher = DefaultHasher::new();
    for path in paths {
        // What is there and cannot be read, or is no file, is what the client will say.
        let content = path.is_file().then(|| std::fs::read(&path).ok()).flatten();
        (path, content).hash(&mut hasher);
    }
    hasher.finish()
}

/// The key that was probably meant by a name that no client knows.
pub fn near_miss(name: &str, own: &[&'static str]) -> Option<&'static str> {
    did_you_mean(name, own.iter().chain(&COMMON).copied()).filter(|near| *near != name)
}

fn reason_with_key(entry: &Entry, name: &str, reason: &str) -> String {
    let shown = shown(entry, name);
    let key = if entry.origin == Origin::ExtraOptions {
        format!("-D{name}={}", shown.trim_matches('"'))
    } else {
        format!("{} = {shown}", entry.shown_key())
    };
    format!("{key}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A property's value as it may be shown: no secret, and what comes from elsewhere as the file has it.
fn shown(entry: &Entry, name: &str) -> String {
    let is_reference = match &entry.source {
        Some(Source::File(_)) => true,
        // Nothing but one `${NAME}`: beside it might stand the rest of a password.
        Some(Source::Environment(Value::Text(text))) => text.starts_with("${") && text.find('}') == Some(text.len() - 1),
        _ => false,
    };
    match (&entry.source, property_text(&entry.value)) {
        _ if is_secret(name) && !is_reference => format!("{MASK:?}"),
        (None, Some(text)) => format!("{text:?}"),
        _ => entry.shown(),
    }
}

fn property_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Whole(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Flag(flag) => Some(flag.to_string()),
        // Lists are written with commas in librdkafka (`bootstrap.servers`, `sasl.mechanisms`).
        Value::List(values) => {
            let texts: Option<Vec<String>> =
                values.iter().map(|value| if matches!(value, Value::List(_)) { None } else { property_text(value) }).collect();
            texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join(","))
        }
        Value::Other(_) | Value::Unresolved => None,
    }
}
