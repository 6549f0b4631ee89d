//! `migratorydata.conf` in our terms.

use std::net::{IpAddr, SocketAddr};

use super::counterparts::{self, SERVER};
use super::draft::Draft;
use super::setting::{Setting, value_of};
use super::token_settings;

/// What `*` was.
const EVERY_ADDRESS: &str = "0.0.0.0";

/// Writes what the settings mean.
pub fn write(settings: &[Setting], tokens: &[Setting], draft: &mut Draft) {
    let is_open = value_of(settings, "Listen").and_then(first_address).is_some_and(|address| !address.ip().is_loopback());
    for setting in settings {
        let value = setting.value.trim();
        match setting.name.as_str() {
            "Listen" => listen(value, draft),
            "NodeName" => draft.text("", "node.name", value, ""),
            "LogLevel" => log_level(value, draft),
            "CacheExpireTime" => cache_expire_time(value, draft),
            "MaxCachedMessagesPerSubject" => cache_records(value, draft),
            "ClusterEngine" if value.eq_ignore_ascii_case("kafka") => {}
            "ClusterEngine" => {
                draft.lack("", format!("ClusterEngine = {value} was not Kafka; corespan serves topics of Kafka and nothing else"))
            }
            "Entitlement" | "EntitlementAllowToken" => {}
            name => match counterparts::find(SERVER, name) {
                Some(counterpart) => draft.note(counterpart.table, format!("{}: no counterpart. {}", shown(setting), counterpart.why)),
                None => draft.note("", format!("{}: no counterpart that this import knows of.", shown(setting))),
            },
        }
    }
    if value_of(settings, "Listen").is_none() {
        draft.note(
            "listen",
            "There was no Listen: corespan listens on 127.0.0.1:8800, for this machine alone. For others write, as in address = \"0.0.0.0:8800\".",
        );
    }
    entitlement(settings, tokens, is_open, draft);
}

/// A setting as a comment may have it.
fn shown(setting: &Setting) -> String {
    let name = setting.name.to_ascii_lowercase();
    let is_secret = ["pass", "token", "secret", "license"].iter().any(|part| name.contains(part));
    let value = if is_secret && !setting.value.is_empty() { crate::kafka::MASK } else { setting.value.trim() };
    format!("{} = {value}", setting.name)
}

/// One address has a counterpart, and it must be a number.
fn listen(value: &str, draft: &mut Draft) {
    let mut addresses = value.split(',').map(str::trim).filter(|address| !address.is_empty());
    let Some(first) = addresses.next() else { return };
    match first_address(value) {
        Some(address) => draft.text("listen", "address", &address.to_string(), ""),
        None => draft.lack(
            "listen",
            format!("listen.address: Listen = {first} is no IP address with a port; write one of this machine, as in address = \"10.0.0.1:8800\""),
        ),
    }
    let others: Vec<&str> = addresses.collect();
    if !others.is_empty() {
        draft.lack(
            "listen",
            format!("listen.address: Listen had more addresses, {}, and corespan listens on one; take 0.0.0.0 for all of the machine's, or run a proxy", others.join(", ")),
        );
    }
}

/// The first address of `Listen`, if it is a number. Without a port it is 80, as it was.
fn first_address(value: &str) -> Option<SocketAddr> {
    let first = value.split(',').map(str::trim).find(|address| !address.is_empty())?;
    let (host, port) = match first.rsplit_once(':') {
        // An IPv6 address without a port ends in its bracket.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (first, "80"),
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "*" | "" => EVERY_ADDRESS,
        "localhost" => "127.0.0.1",
        other => other,
    };
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

fn log_level(value: &str, draft: &mut Draft) {
    let level = value.to_ascii_lowercase();
    if ["error", "warn", "info", "debug", "trace"].contains(&level.as_str()) {
        draft.text("log", "level", &level, "");
    } else {
        draft.note("log", format!("LogLevel = {value}: no counterpart. level is \"error\", \"warn\", \"info\", \"debug\" or \"trace\"."));
    }
}

fn cache_expire_time(value: &str, draft: &mut Draft) {
    match value.parse::<u64>() {
        Ok(seconds @ 1..=604_800) => draft.text(
            "cache",
            "expire.time",
            &format!("{seconds}s"),
            "The newest record of each subject stays longer, while there is room.",
        ),
        _ => {
            draft.lack("cache", format!("cache.expire.time: CacheExpireTime = {value} is not 1 to 604800 seconds; the default is \"180s\""))
        }
    }
}

fn cache_records(value: &str, draft: &mut Draft) {
    const NOTE: &str = "A bound beside those in bytes, bytes.max and subject.bytes.max. Without this line a subject has what these let in, and clients may be away for \
        longer; `corespan check` says when a client that reads slowly could lag more than this.";
    match value.parse::<u64>() {
        Ok(records @ 1..=1_000_000) => draft.toml("cache", "records.max", records.to_string(), NOTE),
        _ => draft.lack(
            "cache",
            format!("cache.records.max: MaxCachedMessagesPerSubject = {value} is not 1 to 1000000; without the line only bytes bound it"),
        ),
    }
}

fn entitlement(settings: &[Setting], tokens: &[Setting], is_open: bool, draft: &mut Draft) {
    const TABLE: &str = "entitlement";
    let kind = value_of(settings, "Entitlement");
    let token = value_of(settings, "EntitlementAllowToken");
    match kind.unwrap_or("Basic").to_ascii_lowercase().as_str() {
        "none" => {
            if is_open {
                draft.toml("", "insecure", "true".to_owned(), "Entitlement = None: whoever reaches the port may subscribe to every topic that is served, as before.");
            }
            draft.note(
                "publish",
                "Entitlement = None also let everybody publish. On addresses that others reach corespan lets nobody, unless this says so: topics = \"consumed\", or a list of topics.",
            );
            if token.is_some() {
                draft.note(TABLE, "EntitlementAllowToken: not used with Entitlement = None, left out.");
            }
        }
        "basic" => {
            if kind.is_none() {
                draft.note(TABLE, "There was no Entitlement, whose default was Basic.");
            }
            draft.text(TABLE, "type", "basic", "Anyone subscribes; who connects with the token publishes. The client gives it when it connects, once for all its publishes.");
            match token {
                Some(token) => draft.text(TABLE, "token", token, "A secret: better in a file of its own, token.file = \"/etc/corespan/token\"."),
                None => draft.note(TABLE, "TO DO: token: there was no EntitlementAllowToken, and corespan has no default."),
            }
            draft.note("publish", "With type = \"basic\" clients that have the token publish to the topics that are consumed; for others write topics = [..] here.");
        }
        "jwt" => token_settings::write(tokens, draft),
        other => draft.lack(
            TABLE,
            format!(
                "entitlement.type: Entitlement = {other} has no counterpart, corespan runs no extensions and asks no portal; write type = \"jwt\" with a key, \
                 and have tokens made with the claim permissions, or type = \"basic\" with a token"
            ),
        ),
    }
}
