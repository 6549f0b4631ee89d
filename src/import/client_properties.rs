//! `consumer.properties` and `producer.properties` in our terms.

use super::counterparts::{self, CLIENTS, name_here};
use super::draft::{Draft, quoted};
use super::jaas::{self, Login};
use super::java_regex;
use super::setting::{Setting, value_of};
use super::stores;
use crate::kafka::librdkafka::{Role, check_property, scope};
use crate::kafka::{MASK, is_secret};

const CONSUMER: &str = "kafka.consumer";
const PRODUCER: &str = "kafka.producer";

/// Writes what the consumer's properties mean.
pub fn write_consumer(properties: &[Setting], draft: &mut Draft) {
    topics(properties, draft);
    if value_of(properties, "consumers.size").is_none() {
        draft.note(
            CONSUMER,
            "There was no consumers.size, whose default was 1. Here it is \"all\": every shard reads its share of the partitions.",
        );
    }
    if value_of(properties, "isolation.level").is_none() {
        draft.note(
            CONSUMER,
            "There was no isolation.level. Java's default is read_uncommitted, corespan's is read_committed: records of transactions that are open or aborted are not delivered.",
        );
    }
    write(CONSUMER, properties, draft);
}

/// Writes what the producer's properties mean.
pub fn write_producer(properties: &[Setting], draft: &mut Draft) {
    write(PRODUCER, properties, draft);
}

fn topics(properties: &[Setting], draft: &mut Draft) {
    if let Some(list) = value_of(properties, "topics") {
        let topics: Vec<String> = list.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(quoted).collect();
        draft.toml(CONSUMER, "topics", format!("[{}]", topics.join(", ")), "Each must exist when the node starts.");
    }
    if let Some(pattern) = value_of(properties, "topics.regex") {
        match java_regex::refusal(pattern) {
            None => draft.text(
                CONSUMER,
                "topics.regex",
                pattern,
                "Matched against the whole name, in the syntax of Rust's regex crate; internal topics never match.",
            ),
            Some(refusal) => draft.lack(
                CONSUMER,
                format!(
                    "kafka.consumer.topics.regex = {pattern} is not taken over: {} is not in Rust's regular expressions; {}",
                    refusal.construct, refusal.advice
                ),
            ),
        }
    }
}

fn write(table: &'static str, properties: &[Setting], draft: &mut Draft) {
    let role = if table == CONSUMER { Role::Consumer } else { Role::Producer };
    for property in properties {
        let (name, value) = (property.name.as_str(), property.value.trim());
        match name {
            "topics" | "topics.regex" if role == Role::Consumer => {}
            "consumers.size" if role == Role::Consumer => draft.note(
                table,
                format!(
                    "consumers.size = {value} was a number of consumers in one group. Here it is a number of shards, and the default \"all\" is most often right; \
                     for fewer write \"consumers.size\" = N, at most the number of shards."
                ),
            ),
            "recovery.on.start" if role == Role::Consumer => flag(table, name, value, draft),
            "producers.size" if role == Role::Producer => number(table, name, value, 1..=64, draft),
            "partitioner.class" if role == Role::Producer => partitioner(value, draft),
            "sasl.jaas.config" => login(table, value, draft),
            "ssl.endpoint.identification.algorithm" if value.is_empty() => draft.text(
                table,
                name,
                "none",
                "It was empty, which Java takes for none: the brokers' names are not compared with their certificates. Better leave the line out.",
            ),
            "buffer.memory" => match value.parse::<u64>() {
                Ok(bytes) => draft.toml(table, "queue.buffering.max.kbytes", (bytes >> 10).max(1).to_string(), "buffer.memory was in bytes."),
                Err(_) => left_out(table, property, "It is no number.", draft),
            },
            "receive.buffer.bytes" | "send.buffer.bytes" => match value.parse::<u64>() {
                Ok(bytes) => property_line(role, table, property, &format!("socket.{name}"), &bytes.to_string(), draft),
                Err(_) => draft.note(table, format!("{name} = {value}: left to the system, as it is without the line.")),
            },
            "max.request.size" if role == Role::Producer => {
                property_line(role, table, property, "message.max.bytes", value, draft);
                draft.note(
                    "publish",
                    "max.request.size bounded what Kafka was asked to take. What clients may publish is bounded before it by bytes.max, 1000000 without its line: \
                     bytes.max = \"2MB\" lets in more.",
                );
            }
            // The consumer of librdkafka has one timeout for all requests.
            "request.timeout.ms" if role == Role::Consumer => property_line(role, table, property, "socket.timeout.ms", value, draft),
            "default.api.timeout.ms" if value_of(properties, "request.timeout.ms").is_some() => {
                left_out(table, property, "socket.timeout.ms is request.timeout.ms.", draft);
            }
            store if stores::NAMES.contains(&store) => {}
            _ if value.is_empty() => {}
            _ => match counterparts::find(CLIENTS, name) {
                Some(counterpart) => left_out(table, property, counterpart.why, draft),
                None => property_line(role, table, property, name_here(name), value, draft),
            },
        }
    }
    stores::write(table, properties, draft);
}

/// A property that librdkafka has, if it takes the value.
fn property_line(role: Role, table: &'static str, property: &Setting, name: &str, value: &str, draft: &mut Draft) {
    let verdict = scope(name).map_err(|_| "librdkafka has no such property.".to_owned()).and_then(|scope| {
        let is_known = if role == Role::Consumer { scope.consumer } else { scope.producer };
        if !is_known {
            return Err("It is one of the other client's.".to_owned());
        }
        check_property(role, name, value).map_err(|reason| if is_secret(name) { reason.replace(value, MASK) } else { reason })
    });
    match verdict {
        Ok(()) => {
            let mut comment = if property.name == name { String::new() } else { format!("It was {}.", property.name) };
            if is_secret(name) {
                comment.push_str(&format!(" A secret: better in a file of its own, \"{name}.file\" = \"/etc/corespan/..\"."));
            }
            draft.text(table, name, value, comment.trim());
        }
        Err(reason) => left_out(table, property, &reason, draft),
    }
}

/// A line that is not taken over. Where it is about who may read what, whoever runs the import is told as well.
fn left_out(table: &'static str, property: &Setting, why: &str, draft: &mut Draft) {
    let name = &property.name;
    let value = if is_secret(name) { MASK } else { property.value.trim() };
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_security = ["sasl.", "ssl.", "security."].iter().any(|start| name.starts_with(start));
    if is_security && counterparts::find(CLIENTS, name).is_none() {
        draft.lack(table, format!("{table}.{name} = {value} is not taken over: {why}"));
    } else {
        draft.note(table, format!("{name} = {value}: no counterpart. {why}"));
    }
}

fn flag(table: &'static str, name: &str, value: &str, draft: &mut Draft) {
    match value.to_ascii_lowercase().as_str() {
        flag @ ("true" | "false") => {
            draft.toml(table, name, flag.to_owned(), "true reads the last cache.expire.time of the topics before the node is ready.")
        }
        _ => draft.lack(table, format!("{table}.{name} = {value} is neither true nor false; write one of them, the default is false")),
    }
}

fn number(table: &'static str, name: &str, value: &str, range: std::ops::RangeInclusive<u64>, draft: &mut Draft) {
    match value.parse::<u64>() {
        Ok(number) if range.contains(&number) => {
            draft.toml(
                table,
                name,
                number.to_string(),
                "A subject always uses the same producer, so order is kept. One does some 100,000 publishes a second.",
            );
        }
        _ => draft.lack(
            table,
            format!("{table}.{name} = {value} is not {} to {}; write one of them, the default is 1", range.start(), range.end()),
        ),
    }
}

/// Theirs sends what has no key to one partition; others decide by the key, as we do by `[topic."T"] partitioner`.
fn partitioner(class: &str, draft: &mut Draft) {
    if class.rsplit('.').next() == Some("KeyPartitioner") {
        draft.toml(
            PRODUCER,
            "null.key.partition",
            "0".to_owned(),
            "partitioner.class = KeyPartitioner: records without a key (subject /topic) stay in partition 0, in order and recoverable.",
        );
    } else {
        draft.note(
            PRODUCER,
            format!(
                "partitioner.class = {class}: no counterpart. corespan finds out the rule of each topic from its records; where it is not murmur2 (Java's default) or \
                 crc32, write [topic.\"T\"] partitioner = \"any\": its subjects are live only."
            ),
        );
    }
}

fn login(table: &'static str, text: &str, draft: &mut Draft) {
    match jaas::parse(text) {
        Some(Login::Password { username, password }) => {
            draft.text(table, "sasl.username", &username, "From sasl.jaas.config.");
            draft.text(
                table,
                "sasl.password",
                &password,
                "From sasl.jaas.config. A secret: better in a file of its own, \"sasl.password.file\" = \"/etc/corespan/kafka-password\" (mode 0640, group corespan).",
            );
        }
        Some(Login::Other { module, advice }) => {
            draft.lack(table, format!("{table}: {module} of sasl.jaas.config has no counterpart: {advice}"))
        }
        None => draft.lack(
            table,
            format!("{table}: sasl.jaas.config is not understood; give sasl.username and sasl.password, or \"sasl.password.file\""),
        ),
    }
}
