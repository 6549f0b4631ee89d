//! Subjects that lead elsewhere, in some worlds: what the bridge is told of them, and what follows, worked out apart from `subject::routes`.
//!
//! `/seen/T/K` has the records of `/T/K`, `/bare/T` those of `/T`. What is published to `/both/T/K` goes to `/T/K` and `/beta/K`, what is published to
//! `/alpha/K` to `/beta/K` too.

use crate::subject::{Destination, Exposures, Route, Routes, SubjectPattern, Template};

fn destination(subject: &str, topic: &str, key: &str) -> Destination {
    let pattern = SubjectPattern::parse(subject).expect("a pattern");
    let template = |text| Template::parse(text, &pattern).expect("a template");
    Destination { topic: template(topic), key: Some(template(key)), pattern: pattern.clone() }
}

/// `[[route]]`.
pub fn routes() -> Routes {
    Routes(vec![
        Route { destination: destination("/both/{topic}/{*key}", "{topic}", "{key}"), also: false },
        Route { destination: destination("/both/{topic}/{*key}", "beta", "{key}"), also: false },
        Route { destination: destination("/alpha/{*key}", "beta", "{key}"), also: true },
    ])
}

/// `[[expose]]`.
pub fn exposures() -> Exposures {
    Exposures(vec![destination("/seen/{topic}/{*key}", "{topic}", "{key}"), destination("/bare/{topic}", "{topic}", "")])
}

/// Another name of a subject; `None`: it has none.
pub fn seen(channel: &str) -> Option<String> {
    let path = channel.strip_prefix('/')?;
    Some(if path.contains('/') { format!("/seen/{path}") } else { format!("/bare/{path}") })
}

/// The subject that a name stands for.
pub fn real(channel: &str) -> &str {
    let after = |prefix: &str| channel.strip_prefix(prefix).map(|rest| &channel[channel.len() - rest.len() - 1..]);
    after("/seen/").or_else(|| after("/bare/")).unwrap_or(channel)
}

/// Whether a name stands for another subject.
pub fn is_seen(channel: &str) -> bool {
    real(channel) != channel
}

/// The subjects that a publish goes to in a world with routes.
pub fn targets(channel: &str) -> Vec<String> {
    let beta = |rest: &str| format!("/beta/{rest}");
    let mut targets = match channel.strip_prefix("/both/").map(|path| (path, path.split_once('/'))) {
        Some((path, Some((_, key)))) => vec![format!("/{path}"), beta(key)],
        _ => match channel.strip_prefix("/alpha/") {
            Some(key) => vec![channel.to_owned(), beta(key)],
            None => vec![channel.to_owned()],
        },
    };
    targets.dedup();
    targets
}
