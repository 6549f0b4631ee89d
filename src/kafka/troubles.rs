//! What librdkafka says of brokers, in the log: at warn, with the broker's name, and not more often than somebody reads it.
//!
//! A node is several clients, and each of them complains of the same broker, many times a second. So the first complaint of each broker is a line, and
//! then one in half a minute, with the number of those in between.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// How often the log speaks of one broker.
const SAY_TIME: Duration = Duration::from_secs(30);
/// Brokers that are remembered; when there are more, those are forgotten that have said nothing for so long.
const BROKERS_MAX: usize = 1_024;

/// Of each broker: when the log spoke of it last, and complaints since.
static SAID: LazyLock<Mutex<HashMap<String, (Instant, u64)>>> = LazyLock::new(Mutex::default);

/// Addresses of embedded clusters that have ended, the newest last.
static ENDED: LazyLock<Mutex<VecDeque<String>>> = LazyLock::new(Mutex::default);
/// How many of them are remembered.
const ENDED_MAX: usize = 16;

/// An embedded cluster ends: its clients, which end with it, may miss it for a moment, and that is no trouble.
pub(super) fn ends(bootstrap: &str) {
    let mut ended = lock(&ENDED);
    if ended.len() == ENDED_MAX {
        ended.pop_front();
    }
    ended.push_back(bootstrap.to_owned());
}

/// Says what a client of librdkafka complains of, if it is of a broker. That none of them answers is said by the reader.
pub(super) fn say(reason: &str) {
    tracing::debug!("librdkafka: {reason}");
    if let Some(broker) = broker_of(reason)
        && !lock(&ENDED).iter().flat_map(|bootstrap| bootstrap.split(',')).any(|address| broker.starts_with(address))
        && let Some(others) = due(&mut lock(&SAID), broker, Instant::now())
    {
        let more = if others > 0 { format!(" ({others} such complaints were not shown before it)") } else { String::new() };
        tracing::warn!(broker, "Kafka's broker {reason}{more}");
    }
}

/// The broker's name at the head of librdkafka's words: `sasl_ssl://kafka-1:9093/1: Connect to ...`.
fn broker_of(reason: &str) -> Option<&str> {
    let name = reason.split(": ").next()?;
    let (_, port) = name.rsplit_once(':')?;
    port.starts_with(|first: char| first.is_ascii_digit()).then_some(name)
}

/// Whether the log is to speak of a broker now: with how many complaints it has kept to itself.
fn due(said: &mut HashMap<String, (Instant, u64)>, broker: &str, now: Instant) -> Option<u64> {
    if let Some((at, others)) = said.get_mut(broker) {
        if now - *at < SAY_TIME {
            *others += 1;
            return None;
        }
        *at = now;
        return Some(std::mem::take(others));
    }
    if said.len() >= BROKERS_MAX {
        said.retain(|_, (at, _)| now - *at < SAY_TIME);
        if said.len() >= BROKERS_MAX {
            return None;
        }
    }
    said.insert(broker.to_owned(), (now, 0));
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_known_by_their_names() {
        for (reason, broker) in [
            ("127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused", Some("127.0.0.1:9092/1")),
            ("sasl_ssl://kafka-1.example:9093/bootstrap: SASL authentication error", Some("sasl_ssl://kafka-1.example:9093/bootstrap")),
            ("[::1]:9092/bootstrap: Disconnected", Some("[::1]:9092/bootstrap")),
            ("3/3 brokers are down", None),
            ("Subscribed topic not available: x: Broker: Unknown topic or partition", None),
        ] {
            assert_eq!(broker_of(reason), broker, "{reason}");
        }
    }

    #[test]
    fn each_broker_has_a_line_in_half_a_minute_and_the_others_are_counted() {
        let (mut said, begin) = (HashMap::new(), Instant::now());
        assert_eq!(due(&mut said, "a:1", begin), Some(0));
        assert_eq!(due(&mut said, "a:1", begin + SAY_TIME / 2), None);
        assert_eq!(due(&mut said, "b:1", begin + SAY_TIME / 2), Some(0));
        assert_eq!(due(&mut said, "a:1", begin + SAY_TIME), Some(1));
        for broker in 0..2 * BROKERS_MAX {
            due(&mut said, &format!("c:{broker}"), begin + SAY_TIME);
        }
        assert!(said.len() <= BROKERS_MAX);
        assert_eq!(due(&mut said, "d:1", begin + SAY_TIME * 3), Some(0), "what is old makes room");
    }
}
