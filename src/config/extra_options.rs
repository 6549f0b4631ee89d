//! `CORESPAN_KAFKA_EXTRA_OPTS`: `-Dname=value` pairs, separated by spaces, that replace what the file says of Kafka, for consumer and producer alike.

use super::document::{Entry, Origin, Value};
use super::kafka_settings::{CONSUMER, CONSUMER_OWN, PRODUCER, PRODUCER_OWN, near_miss};
use super::reader::Reader;
use crate::kafka::is_secret;
use crate::kafka::librdkafka::{other_names, scope};

/// Applies the options in their order.
pub fn apply(options: &str, reader: &mut Reader) {
    for option in options.split_whitespace() {
        match option.strip_prefix("-D").and_then(|pair| pair.split_once('=')) {
            Some((name, value)) if !name.is_empty() => set(name, value, reader),
            _ => {
                // It may be the second half of a password with a space.
                let shown = if option.starts_with("-D") { option } else { "an option" };
                let text =
                    format!("{shown} is not of the form -Dname=value; separate options by spaces, values are without spaces and quotes");
                reader.problem(Some(Origin::ExtraOptions), text);
            }
        }
    }
}

fn set(name: &str, value: &str, reader: &mut Reader) {
    let set = |reader: &mut Reader, table: &str| {
        // Under whatever name the file has it.
        other_names(name).for_each(|other| reader.remove(&format!("{table}.{other}")));
        reader.set(Entry {
            key: format!("{table}.{name}"),
            value: Value::Text(value.to_owned()),
            origin: Origin::ExtraOptions,
            source: None,
        });
    };
    if CONSUMER_OWN.contains(&name) {
        match name {
            "topics" => reader.remove("kafka.consumer.topics.regex"),
            "topics.regex" => reader.remove("kafka.consumer.topics"),
            _ => {}
        }
        return set(reader, CONSUMER);
    }
    if PRODUCER_OWN.contains(&name) {
        return set(reader, PRODUCER);
    }
    match scope(name) {
        Ok(scope) => {
            if scope.consumer {
                set(reader, CONSUMER);
            }
            if scope.producer {
                set(reader, PRODUCER);
            }
        }
        Err(reason) => {
            let near = near_miss(name, &[&CONSUMER_OWN[..], &PRODUCER_OWN[..]].concat());
            let reason = near.map_or(reason, |near| format!("unknown property; did you mean {near}?"));
            let shown = if is_secret(name) { "********" } else { value };
            reader.problem(Some(Origin::ExtraOptions), format!("-D{name}={shown}: {reason}"));
        }
    }
}
