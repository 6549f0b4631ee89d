//! `[kafka.consumer]` and `[kafka.producer]`: librdkafka's properties by their own names, and the bridge's own.

use std::time::Duration;

use regex::Regex;

use super::document::{Entry, Origin, Value};
use super::problem::did_you_mean;
use super::reader::Reader;
use crate::kafka::librdkafka::{Role, check_property, check_together, other_names, scope};
use crate::kafka::{ConsumerSettings, CorruptBatches, KafkaSettings, ProducerSettings, Properties, TopicChoice, is_secret, masked};
use crate::subject::name::is_topic;

pub const CONSUMER: &str = "kafka.consumer";
pub const PRODUCER: &str = "kafka.producer";
/// The bridge's own keys of `[kafka.consumer]`.
pub const CONSUMER_OWN: [&str; 5] = ["topics", "topics.regex", "consumers.size", "recovery.on.start", "corrupt.batches"];
/// The bridge's own keys of `[kafka.producer]`.
pub const PRODUCER_OWN: [&str; 2] = ["producers.size", "null.key.partition"];
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

/// Reads both tables.
pub fn read(reader: &mut Reader) -> KafkaSettings {
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
    let properties = read_properties(reader, CONSUMER);
    let consumer = ConsumerSettings { properties, topics, consumers_size, recovery_on_start, corrupt_batches };
    let producers_size = reader.whole("kafka.producer.producers.size", 1, 1..=64) as u16;
    let null_key_partition =
        reader.whole_or_off("kafka.producer.null.key.partition", 0..=i32::MAX as u64, "off").map(|partition| partition as u32);
    let properties = read_properties(reader, PRODUCER);
    KafkaSettings { metadata_interval, consumer, producer: ProducerSettings { properties, producers_size, null_key_partition } }
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

fn read_properties(reader: &mut Reader, table: &str) -> Properties {
    let role = if table == CONSUMER { Role::Consumer } else { Role::Producer };
    let mut properties = Properties::default();
    let mut each_is_right = true;
    for Entry { key, value, origin } in reader.take_below(table) {
        let name = &key[table.len() + 1..];
        let Some(value) = property_text(&value) else {
            let shown = if is_secret(name) { "********".to_owned() } else { value.show() };
            reader.problem(Some(origin), format!("{key} = {shown} is not allowed; give text in quotes, a number, true or false"));
            each_is_right = false;
            continue;
        };
        // A key of the other table is a mistake of place, not an unknown property.
        let (other, own) = if table == CONSUMER { (PRODUCER, &PRODUCER_OWN[..]) } else { (CONSUMER, &CONSUMER_OWN[..]) };
        let checked =
            if own.contains(&name) { Err(format!("it belongs to [{other}]; move it there")) } else { check_property(role, name, &value) };
        let twice = other_names(name).find(|other| properties.get(other).is_some());
        let checked = checked.and_then(|()| match twice {
            Some(other) => Err(format!("it is another name of {other}, which is given too; remove one of them")),
            None => Ok(()),
        });
        match checked {
            Ok(()) => {
                reader.note(&key, format!("{:?}", masked(name, &value)), Some(origin));
                properties.set(name, value);
            }
            Err(reason) => {
                each_is_right = false;
                let own = if table == CONSUMER { &CONSUMER_OWN[..] } else { &PRODUCER_OWN[..] };
                let near = if scope(name).is_err() { near_miss(name, own) } else { None };
                let reason = near.map_or(reason, |near| format!("unknown property; did you mean {near}?"));
                reader.problem(Some(origin), reason_with_key(&key, name, &value, &reason, origin));
            }
        }
    }
    if properties
        .get("bootstrap.servers")
        .or_else(|| properties.get("metadata.broker.list"))
        .is_none_or(|servers| servers.trim().is_empty())
    {
        reader.problem(
            None,
            format!("{table}.bootstrap.servers is missing; give Kafka's addresses in [{table}]: \"bootstrap.servers\" = \"10.0.0.1:9092,10.0.0.2:9092\""),
        );
    }
    // What only a client as a whole shows: a file that is not there, two properties that contradict each other.
    if each_is_right && let Err(reason) = check_together(role, &properties) {
        reader.problem(None, format!("[{table}]: {}", reason.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    properties
}

/// The key that was probably meant by a name that no client knows.
pub fn near_miss(name: &str, own: &[&'static str]) -> Option<&'static str> {
    did_you_mean(name, own.iter().chain(&COMMON).copied()).filter(|near| *near != name)
}

fn reason_with_key(key: &str, name: &str, value: &str, reason: &str, origin: Origin) -> String {
    let key = if origin == Origin::ExtraOptions {
        format!("-D{name}={}", masked(name, value))
    } else {
        format!("{key} = {:?}", masked(name, value))
    };
    format!("{key}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "))
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
        Value::Other(_) => None,
    }
}
