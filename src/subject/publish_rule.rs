//! Which topics clients may publish to.

use std::collections::BTreeSet;

use regex::Regex;

/// `publish.topics` and `publish.pattern`: a topic that either allows may be published to.
#[derive(Clone, Debug, Default)]
pub struct PublishRule {
    everything: bool,
    listed: BTreeSet<String>,
    patterns: Vec<Regex>,
}

impl PublishRule {
    /// Every topic, internal ones too. For tests and the simulator.
    pub fn everything() -> PublishRule {
        PublishRule { everything: true, ..PublishRule::default() }
    }

    /// Topics by their names, and by patterns that match whole names. Patterns never allow internal topics.
    pub fn new(listed: impl IntoIterator<Item = String>, patterns: Vec<Regex>) -> PublishRule {
        PublishRule { everything: false, listed: listed.into_iter().collect(), patterns }
    }

    /// Whether clients may publish to a topic.
    pub fn allows(&self, topic: &str) -> bool {
        self.everything || self.listed.contains(topic) || !is_internal(topic) && self.patterns.iter().any(|pattern| pattern.is_match(topic))
    }

    /// Whether clients may publish nowhere.
    pub fn allows_nothing(&self) -> bool {
        !self.everything && self.listed.is_empty() && self.patterns.is_empty()
    }
}

impl std::fmt::Display for PublishRule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.everything {
            return formatter.write_str("every topic");
        }
        let listed: Vec<&str> = self.listed.iter().map(String::as_str).collect();
        let patterns: Vec<String> = self.patterns.iter().map(|pattern| format!("topics that match {pattern}")).collect();
        let listed = if listed.is_empty() { Vec::new() } else { vec![format!("the topics {}", listed.join(", "))] };
        formatter.write_str(&[listed, patterns].concat().join(", and to "))
    }
}

/// Topics that Kafka (`__consumer_offsets`), Schema Registry (`_schemas`) and others keep their own state in begin with an underscore; Kafka Connect's
/// have the names of its documentation.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with('_') || matches!(topic, "connect-configs" | "connect-offsets" | "connect-status")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(listed: &[&str], pattern: &str) -> PublishRule {
        PublishRule::new(listed.iter().map(|topic| (*topic).to_owned()), vec![Regex::new(&format!("^(?:{pattern})$")).unwrap()])
    }

    #[test]
    fn internal_topics_are_allowed_by_their_exact_names_only() {
        let all = rule(&["_schemas"], ".*");
        for topic in ["orders", "connect", "connect-orders", "a_b", "_schemas"] {
            assert!(all.allows(topic), "{topic}");
        }
        for topic in ["__consumer_offsets", "__transaction_state", "_confluent-x", "connect-configs", "connect-offsets", "connect-status"] {
            assert!(!all.allows(topic), "{topic}");
        }
    }

    #[test]
    fn what_nobody_allows_is_forbidden() {
        assert!(PublishRule::default().allows_nothing() && !PublishRule::default().allows("orders"));
        let some = rule(&["orders"], "chat-.*");
        assert!(some.allows("orders") && some.allows("chat-1") && !some.allows("chat") && !some.allows("Orders"));
        assert!(PublishRule::everything().allows("__consumer_offsets"));
    }
}
