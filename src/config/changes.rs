//! What differs between the configuration that is in force and a newer one.

use super::kafka_settings::{CONSUMER, PRODUCER};
use super::reader::{Effective, Hidden};
use super::settings::Config;
use crate::kafka::{is_credential, is_live, is_tls_file};

/// Keys that take effect at a reload, beside those of `[topic."T"]` and what Kafka's clients take up while they live (`kafka::is_live`); all others at
/// the next start.
const LIVE: [&str; 25] = [
    "slow.client.timeout",
    "drain.seconds",
    "listen.allowed.origins",
    "entitlement.token",
    "entitlement.jwt.hmac.secret",
    "entitlement.jwt.hmac.path",
    "entitlement.jwt.pem.path",
    "entitlement.jwt.jwks.path",
    "entitlement.jwt.leeway",
    "entitlement.jwt.expiry.required",
    "entitlement.jwt.expiry.max",
    "entitlement.revoked.path",
    "kafka.consumer.topics",
    "kafka.consumer.topics.regex",
    "cache.bytes.max",
    "cache.records.max",
    "cache.subject.bytes.max",
    "cache.expire.time",
    "publish.topics",
    "publish.pattern",
    "publish.open.max",
    "client.subscriptions.max",
    "client.subscriptions.shard.bytes.max",
    "client.connect.timeout",
    "log.level",
];

/// A line for each key that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force from now on.
    pub live: Vec<String>,
    /// Not in force before the next start.
    pub at_restart: Vec<String>,
}

impl Config {
    /// What another configuration would change of this one.
    pub fn changes(&self, newer: &Config) -> Changes {
        fn value<'c>(config: &'c Config, key: &str) -> Option<&'c Effective> {
            config.effective.iter().find(|one| one.key == key)
        }
        let mut keys: Vec<&str> = newer.effective.iter().map(|one| one.key.as_str()).collect();
        keys.extend(self.effective.iter().map(|one| one.key.as_str()).filter(|key| value(newer, key).is_none()));
        let mut changes = Changes::default();
        for key in keys {
            let (before, after) = (value(self, key), value(newer, key));
            let said = |one: Option<&Effective>| one.map(|one| (one.shown_key(), one.value.clone()));
            let is_live = self.is_live(newer, key);
            if said(before) != said(after) {
                let (key, after) = said(after).unwrap_or_else(|| (key.to_owned(), "nothing".to_owned()));
                // Where it came from another key (`KEY.file` before, KEY now), that is said too.
                let before = said(before).map_or_else(
                    || "nothing".to_owned(),
                    |(before, value)| if before == key { value } else { format!("{before} = {value}") },
                );
                if is_live {
                    changes.live.push(format!("{key} = {after}, was {before}"));
                } else {
                    changes.at_restart.push(format!("{key} = {after} needs a restart, still {before}"));
                }
            } else if hidden(before) != hidden(after) {
                // Its content is another: a file that was written, a password.
                let what = if property(key).is_some_and(|(_, name)| is_tls_file(name)) { "its file" } else { "a secret" };
                if is_live {
                    changes.live.push(format!("{} ({what}) has changed", quoted(key)));
                } else {
                    changes.at_restart.push(format!("{} ({what}) needs a restart", quoted(key)));
                }
            }
        }
        changes
    }

    fn is_live(&self, newer: &Config, key: &str) -> bool {
        if let Some((_, name)) = property(key) {
            // Clients with a user and those without are different clients.
            let is_in_both = || [self, newer].iter().all(|config| config.effective.iter().any(|one| one.key == key));
            return is_live(name) && (!is_credential(name) || is_in_both()) || LIVE.contains(&key);
        }
        // Clients that are there were let in by the type that is in force, and what may be published to follows from it.
        let is_of_type = key.starts_with("entitlement.") || key == "publish.topics" || key == "publish.pattern";
        (LIVE.contains(&key) || ["topic.", "route.", "expose."].iter().any(|table| key.starts_with(table)))
            && (!is_of_type || self.entitlement.name() == newer.entitlement.name())
    }

    /// This configuration with what a newer one changes of it while the node runs.
    #[must_use]
    pub fn with_live_of(&self, newer: &Config) -> Config {
        let mut config = self.clone();
        config.slow_client_timeout = newer.slow_client_timeout;
        config.drain_time = newer.drain_time;
        config.listen.allowed_origins.clone_from(&newer.listen.allowed_origins);
        if self.entitlement.name() == newer.entitlement.name() {
            config.entitlement = newer.entitlement.clone();
        }
        config.kafka.consumer.topics.clone_from(&newer.kafka.consumer.topics);
        config.kafka.consumer.properties = self.kafka.consumer.properties.with_live_of(&newer.kafka.consumer.properties);
        config.kafka.producer.properties = self.kafka.producer.properties.with_live_of(&newer.kafka.producer.properties);
        config.topics.clone_from(&newer.topics);
        config.cache.clone_from(&newer.cache);
        if self.is_live(newer, "publish.topics") {
            config.publish.topics.clone_from(&newer.publish.topics);
        }
        config.routes = newer.routes.clone();
        config.exposures = newer.exposures.clone();
        config.publish.open_max = newer.publish.open_max;
        config.client.subscriptions_max = newer.client.subscriptions_max;
        config.client.subscriptions_shard_bytes_max = newer.client.subscriptions_shard_bytes_max;
        config.client.connect_timeout = newer.client.connect_timeout;
        config.log.level = newer.log.level;
        config.effective.retain(|one| !self.is_live(newer, &one.key) || newer.effective.iter().any(|after| after.key == one.key));
        for after in newer.effective.iter().filter(|after| self.is_live(newer, &after.key)) {
            match config.effective.iter_mut().find(|one| one.key == after.key) {
                Some(one) => one.clone_from(after),
                None => config.effective.push(after.clone()),
            }
        }
        config
    }
}

fn hidden(one: Option<&Effective>) -> Option<&Hidden> {
    one.map(|one| &one.hidden)
}

/// A key below a table of Kafka's: the table, and the property's name.
fn property(key: &str) -> Option<(&'static str, &str)> {
    [CONSUMER, PRODUCER].into_iter().find_map(|table| Some((table, key.strip_prefix(table)?.strip_prefix('.')?)))
}

/// A property of Kafka's as one writes it.
fn quoted(key: &str) -> String {
    property(key).map_or_else(|| key.to_owned(), |(table, name)| format!("{table}.{name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        consuming("topics = [\"t\"]", more)
    }

    fn consuming(topics: &str, more: &str) -> Config {
        let kafka = format!("[kafka.consumer]\nbootstrap.servers = \"h:1\"\n{topics}\n[kafka.producer]\nbootstrap.servers = \"h:1\"\n");
        Config::parse(&format!("{more}\n{kafka}"), "f", "").unwrap()
    }

    #[test]
    fn changes_are_told_by_whether_they_need_a_restart() {
        let before = config("drain.seconds = \"3s\"");
        let after = config("drain.seconds = \"4s\"\nsubject.bytes.max = 512\n[log]\nlevel = \"debug\"");
        let changes = before.changes(&after);
        assert_eq!(changes.live, ["drain.seconds = \"4s\", was \"3s\"", "log.level = \"debug\", was \"info\""]);
        assert_eq!(changes.at_restart, ["subject.bytes.max = 512 needs a restart, still \"1KiB\""]);
        let now = before.with_live_of(&after);
        assert_eq!(now.changes(&after).live, Vec::<String>::new());
        assert_eq!(now.changes(&after).at_restart, changes.at_restart, "said again until it is in force");
    }

    #[test]
    fn every_live_key_is_a_key_and_is_taken() {
        let (before, lists) = (config(""), "listen.allowed.origins = [\"https://a.example\"]");
        for key in LIVE {
            // Topics are chosen in one of two ways.
            assert!(key == "kafka.consumer.topics.regex" || before.effective.iter().any(|one| one.key == key), "{key}");
        }
        let more = format!(
            "slow.client.timeout = \"9s\"\ndrain.seconds = \"9s\"\n{lists}\ncache.bytes.max = \"9MiB\"\ncache.records.max = 9000\n\
             cache.subject.bytes.max = \"3MiB\"\ncache.expire.time = \"9s\"\npublish.open.max = 9\npublish.topics = []\npublish.pattern = \"a.*\"\nclient.subscriptions.max = 9\n\
             client.subscriptions.shard.bytes.max = \"9MiB\"\nclient.connect.timeout = \"9s\"\nlog.level = \"warn\""
        );
        let other = consuming("\"topics.regex\" = \"t.*\"", &more);
        let now = before.with_live_of(&other);
        // What is of tokens has a test of its own.
        let of_entitlement = LIVE.iter().filter(|key| key.starts_with("entitlement.")).count();
        assert_eq!(before.changes(&other).live.len(), LIVE.len() - of_entitlement, "{:?}", before.changes(&other).live);
        assert_eq!(before.changes(&other).at_restart, Vec::<String>::new());
        assert_eq!(format!("{:?}", now.shard_settings()), format!("{:?}", other.shard_settings()));
        assert_eq!((now.drain_time, now.log.level, &now.listen), (other.drain_time, other.log.level, &other.listen));
    }

    #[test]
    fn keys_of_tokens_are_taken_live_as_long_as_the_type_is_the_same() {
        let jwt = |secret: &str| config(&format!("entitlement.type = \"jwt\"\nentitlement.jwt.hmac.secret = \"{secret}\""));
        let (before, after) = (jwt(&"a".repeat(32)), jwt(&"b".repeat(32)));
        assert_eq!(before.changes(&after).live, ["entitlement.jwt.hmac.secret (a secret) has changed"]);
        assert_eq!(before.with_live_of(&after).entitlement, after.entitlement);
        let basic = config("entitlement.type = \"basic\"\nentitlement.token = \"0123456789abcdef\"");
        let changes = basic.changes(&after);
        assert_eq!(changes.live, Vec::<String>::new(), "what tokens permit is not for those who have none");
        assert!(!basic.with_live_of(&after).publish.topics.allows("elsewhere"));
        assert!(changes.at_restart[0].starts_with("entitlement.type = \"jwt\" needs a restart"), "{:?}", changes.at_restart);
        assert_eq!(basic.with_live_of(&after).entitlement, basic.entitlement);
    }

    #[test]
    fn the_topics_that_are_consumed_are_those_that_may_be_published_to() {
        let consuming = |topic: &str| {
            let text = format!(
                "[kafka.consumer]\nbootstrap.servers = \"h:1\"\ntopics = [\"{topic}\"]\n[kafka.producer]\nbootstrap.servers = \"h:1\"\n"
            );
            Config::parse(&text, "f", "").unwrap()
        };
        let now = consuming("old").with_live_of(&consuming("new"));
        assert!(now.publish.topics.allows("new") && !now.publish.topics.allows("old"));
    }

    #[test]
    fn a_changed_secret_is_noticed_although_it_is_masked() {
        let kafka = |secret: &str| {
            let text = format!(
                "[kafka.consumer]\nbootstrap.servers = \"h:1\"\ntopics = [\"t\"]\n\"sasl.password\" = \"{secret}\"\n[kafka.producer]\nbootstrap.servers = \"h:1\"\n"
            );
            Config::parse(&text, "f", "").unwrap()
        };
        let (before, after) = (kafka("a"), kafka("b"));
        assert_eq!(before.changes(&after).live, ["kafka.consumer.\"sasl.password\" (a secret) has changed"]);
        let now = before.with_live_of(&after);
        assert_eq!((now.kafka.consumer.properties.get("sasl.password"), now.changes(&after)), (Some("b"), Changes::default()));
        let without = config("");
        assert_eq!(before.changes(&without).live, Vec::<String>::new(), "clients with a user and those without are different clients");
        assert_eq!(before.with_live_of(&without).kafka.consumer.properties.get("sasl.password"), Some("a"));
    }

    #[test]
    fn a_certificate_that_changes_behind_its_path_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let kafka = |content: &str| {
            std::fs::write(file.path(), content).unwrap();
            let ca = format!("[kafka]\n\"ssl.ca.location\" = {:?}", file.path().display().to_string());
            config(&ca)
        };
        let (before, after) = (kafka("a"), kafka("b"));
        let changes = before.changes(&after);
        assert_eq!(changes.live.len(), 2, "{changes:?}");
        assert_eq!(changes.live[0], "kafka.consumer.\"ssl.ca.location\" (its file) has changed");
        assert_eq!(before.changes(&kafka("a")), Changes::default());
        let now = before.with_live_of(&after);
        let names = now.kafka.producer.properties.changed_from(&before.kafka.producer.properties);
        assert_eq!((names, now.changes(&after)), (vec!["ssl.ca.location"], Changes::default()));
    }
}
