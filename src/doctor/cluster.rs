//! What Kafka says, beside what the configuration expects of it.

use std::thread;
use std::time::{Duration, SystemTime};

use super::finding::Finding;
use crate::config::{Config, time_text};
use crate::kafka::{ClusterSeen, ClusterUnseen, Role, TopicSeen, look_at_cluster};

/// How long Kafka has for its first answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Topics that a line names; the others are counted.
const NAMED_MAX: usize = 5;
/// A record from the future by more than this: network and timers explain less.
const SKEW_MS_MAX: i64 = 1_000;

/// Asks with the credentials of both roles at once.
pub(super) fn examine(config: &Config, shards: usize) -> Vec<Finding> {
    let (consumer, producer) = thread::scope(|scope| {
        let ask = |role| move || look_at_cluster(&config.kafka, role, PATIENCE);
        let producer = scope.spawn(ask(Role::Producer));
        (ask(Role::Consumer)(), producer.join())
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    let mut findings = reachable("kafka.consumer", &consumer);
    if let Ok(producer) = &producer {
        findings.extend(reachable("kafka.producer", producer));
    }
    if let Ok(seen) = &consumer {
        findings.extend(judge(config, shards, seen, now));
    }
    findings
}

fn reachable(table: &str, answer: &Result<ClusterSeen, ClusterUnseen>) -> Vec<Finding> {
    vec![match answer {
        Ok(seen) => Finding::fine("kafka", format!("{} brokers answer, with the credentials of [{table}]", seen.brokers)),
        Err(error) => Finding::failure(
            "kafka",
            error.to_string(),
            format!("look at bootstrap.servers, security.protocol, sasl.* and ssl.* of [{table}], and at what is between here and there"),
        ),
    }]
}

/// `now_ms`: this host's clock, milliseconds since 1970.
fn judge(config: &Config, shards: usize, seen: &ClusterSeen, now_ms: i64) -> Vec<Finding> {
    let mut findings = vec![topics(config, shards, seen)];
    findings.extend(leaders(seen));
    if let Some(reason) = &seen.configs_unknown {
        let remedy = "grant DescribeConfigs on the topics: cleanup.policy and retention are not known";
        findings.push(Finding::warning("kafka-topic-configs", format!("Kafka does not tell topics' settings: {reason}"), remedy));
    }
    if seen.topics.iter().any(|topic| topic.compacted.is_some()) {
        findings.extend([cleanup(config, &seen.topics), retention(config, &seen.topics)]);
    }
    findings.extend(clocks(&seen.topics, now_ms));
    findings
}

fn topics(config: &Config, shards: usize, seen: &ClusterSeen) -> Finding {
    if !seen.absent.is_empty() {
        return Finding::failure(
            "kafka-topics",
            format!(
                "not on this cluster, or not to be described with these credentials: {}",
                named(seen.absent.iter().map(String::as_str))
            ),
            "create them, correct kafka.consumer.topics, or grant Describe",
        );
    }
    if seen.topics.is_empty() {
        let remedy = "see whether kafka.consumer.topics.regex is right; topics that appear later are taken up";
        return Finding::warning("kafka-topics", "no topic of this cluster matches", remedy);
    }
    let partitions: usize = seen.topics.iter().map(|topic| topic.partitions).sum();
    let owners = config.kafka.consumer.consumers_size.map_or(shards, |size| usize::from(size).min(shards));
    if partitions < owners {
        return Finding::advice(
            "kafka-topics",
            format!("{partitions} partitions for {owners} shards that read: {} of them read nothing", owners - partitions),
            "more partitions spread the work of topics over shards (they move keys between partitions: make the topic anew)",
        );
    }
    Finding::fine("kafka-topics", format!("{} topics, {partitions} partitions, {owners} shards that read", seen.topics.len()))
}

fn leaders(seen: &ClusterSeen) -> Option<Finding> {
    let without: Vec<&TopicSeen> = seen.topics.iter().filter(|topic| topic.leaderless > 0).collect();
    let partitions: usize = without.iter().map(|topic| topic.leaderless).sum();
    (partitions > 0).then(|| {
        let names = named(without.iter().map(|topic| topic.name.as_str()));
        let remedy = "bring their brokers back: until then nobody reads or writes them";
        Finding::warning("kafka-leaders", format!("{partitions} partitions have no leader: {names}"), remedy)
    })
}

/// A compacted log keeps the newest record of each key only: a snapshot is all that it promises.
fn cleanup(config: &Config, topics: &[TopicSeen]) -> Finding {
    let with = |wanted: fn(&Config, &TopicSeen) -> bool| {
        topics.iter().filter(|topic| wanted(config, topic)).map(|topic| topic.name.as_str()).collect::<Vec<_>>()
    };
    let is_compacted = |topic: &TopicSeen| topic.compacted == Some(true);
    let snapshots = with(|config, topic| config.topic(&topic.name).snapshot && topic.compacted == Some(false));
    if !snapshots.is_empty() {
        return Finding::advice(
            "kafka-cleanup-policy",
            format!(
                "snapshot = \"latest\" and no cleanup.policy = compact: what Kafka deletes has no newest record any more ({})",
                named(snapshots)
            ),
            "cleanup.policy = compact where a subject's last value is to stay; none of it is read at start without recovery.on.start",
        );
    }
    let compacted: Vec<&str> = topics.iter().filter(|topic| is_compacted(topic)).map(|topic| topic.name.as_str()).collect();
    if config.kafka.consumer.recovery_on_start && !compacted.is_empty() {
        return Finding::advice(
            "kafka-cleanup-policy",
            format!(
                "recovery.on.start reads compacted logs ({}): what they held before may have gaps and is never called recovered",
                named(compacted)
            ),
            "cleanup.policy = delete where clients have to recover every record, or min.compaction.lag.ms of cache.expire.time or more",
        );
    }
    Finding::fine("kafka-cleanup-policy", format!("{} of {} topics are compacted", compacted.len(), topics.len()))
}

fn retention(config: &Config, topics: &[TopicSeen]) -> Finding {
    let expire_ms = config.cache.expire_time.as_millis() as i64;
    // Kafka deletes by time only where the policy says delete.
    let is_short =
        |topic: &&TopicSeen| topic.deleted != Some(false) && topic.retention_ms.is_some_and(|time| (0..expire_ms).contains(&time));
    let short: Vec<&str> = topics.iter().filter(is_short).map(|topic| topic.name.as_str()).collect();
    let expire = time_text(config.cache.expire_time);
    if !short.is_empty() {
        return Finding::warning(
            "kafka-retention",
            format!(
                "retention.ms is less than cache.expire.time = {expire}: Kafka deletes what clients may still want to recover ({})",
                named(short)
            ),
            format!("raise retention.ms to {expire_ms} or more, or lower cache.expire.time"),
        );
    }
    let is_bounded = |topic: &&TopicSeen| topic.deleted != Some(false) && topic.retention_bytes.is_some_and(|bytes| bytes >= 0);
    let bounded: Vec<&str> = topics.iter().filter(is_bounded).map(|topic| topic.name.as_str()).collect();
    if !bounded.is_empty() {
        return Finding::advice(
            "kafka-retention",
            format!("retention.bytes deletes by size, whatever the age: {}", named(bounded)),
            format!("see that so many bytes last for cache.expire.time = {expire}"),
        );
    }
    Finding::fine("kafka-retention", format!("records stay for cache.expire.time = {expire} or longer"))
}

/// A record tells of a clock only if it is from the future: one from the past may just be old. Nothing is written to find out more.
fn clocks(topics: &[TopicSeen], now_ms: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (check, is_brokers, whose) in [("clock-broker", true, "brokers'"), ("clock-clients", false, "producing clients'")] {
        let newest =
            topics.iter().filter_map(|topic| Some((topic.newest.filter(|newest| newest.is_brokers == is_brokers)?.time_ms, &topic.name)));
        findings.push(match newest.max() {
            None => Finding::fine(check, format!("not measured: no newest record has its time from the {whose} clocks")),
            Some((time, name)) if time - now_ms > SKEW_MS_MAX => Finding::warning(
                check,
                format!("the newest record of {name} is {} ms from the future: the {whose} clocks are ahead of this host's", time - now_ms),
                "set all clocks by NTP (chronyc tracking): recovery.on.start and retention go by records' times",
            ),
            Some((time, name)) => {
                let age = now_ms.saturating_sub(time).max(0) / 1_000;
                Finding::fine(
                    check,
                    format!("the {whose} clocks are not ahead: the newest record of {name} is {age} s old (a clock behind would not show)"),
                )
            }
        });
    }
    findings
}

fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let more = if names.len() > NAMED_MAX { format!(" and {} more", names.len() - NAMED_MAX) } else { String::new() };
    format!("{}{more}", names[..names.len().min(NAMED_MAX)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::kafka::{EmbeddedCluster, NewestRecord};

    const NOW: i64 = 1_700_000_000_000;

    fn config(bootstrap: &str, more: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("corespan.toml");
        let kafka = format!("bootstrap.servers = \"{bootstrap}\"");
        std::fs::write(&file, format!("[kafka.consumer]\n{kafka}\ntopics = [\"vehicles\"]\n[kafka.producer]\n{kafka}\n{more}")).unwrap();
        Config::load(&file).unwrap()
    }

    fn vehicles() -> TopicSeen {
        TopicSeen {
            name: "vehicles".to_owned(),
            partitions: 4,
            compacted: Some(false),
            deleted: Some(true),
            retention_ms: Some(604_800_000),
            retention_bytes: Some(-1),
            ..TopicSeen::default()
        }
    }

    fn judged(config: &Config, topic: TopicSeen) -> Vec<Finding> {
        judge(config, 4, &ClusterSeen { brokers: 1, topics: vec![topic], ..ClusterSeen::default() }, NOW)
    }

    fn of<'f>(findings: &'f [Finding], check: &str) -> &'f Finding {
        findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("{check}: {findings:#?}"))
    }

    #[test]
    fn a_topic_as_it_should_be_is_fine() {
        let findings = judged(&config("127.0.0.1:1", ""), vehicles());
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
        assert!(of(&findings, "clock-broker").finding.starts_with("not measured"));
    }

    #[test]
    fn retention_below_the_caches_time_is_a_warning_unless_nothing_is_deleted() {
        let config = config("127.0.0.1:1", "[cache]\nexpire.time = \"300s\"\n");
        let short = TopicSeen { retention_ms: Some(60_000), ..vehicles() };
        let findings = judged(&config, short.clone());
        let finding = of(&findings, "kafka-retention");
        assert!(finding.verdict == Verdict::Warning && finding.remedy.as_ref().unwrap().contains("300000"), "{finding:?}");
        for fine in [TopicSeen { deleted: Some(false), ..short.clone() }, TopicSeen { retention_ms: Some(-1), ..short }] {
            assert_eq!(of(&judged(&config, fine), "kafka-retention").verdict, Verdict::Fine);
        }
        let bounded = TopicSeen { retention_bytes: Some(1_000), ..vehicles() };
        assert_eq!(of(&judged(&config, bounded), "kafka-retention").verdict, Verdict::Advice);
    }

    #[test]
    fn a_snapshot_of_a_topic_that_forgets_its_keys_is_told() {
        let config = config("127.0.0.1:1", "[topic.\"vehicles\"]\nsnapshot = \"latest\"\n");
        assert_eq!(of(&judged(&config, vehicles()), "kafka-cleanup-policy").verdict, Verdict::Advice);
        let compacted = TopicSeen { compacted: Some(true), ..vehicles() };
        assert_eq!(of(&judged(&config, compacted), "kafka-cleanup-policy").verdict, Verdict::Fine);
    }

    #[test]
    fn records_from_the_future_tell_whose_clock_is_ahead() {
        let config = config("127.0.0.1:1", "");
        for (is_brokers, ahead_ms, check, verdict) in [
            (true, 5_000, "clock-broker", Verdict::Warning),
            (false, 5_000, "clock-clients", Verdict::Warning),
            (true, -5_000, "clock-broker", Verdict::Fine),
        ] {
            let topic = TopicSeen { newest: Some(NewestRecord { time_ms: NOW + ahead_ms, is_brokers }), ..vehicles() };
            assert_eq!(of(&judged(&config, topic), check).verdict, verdict, "{check} {ahead_ms}");
        }
    }

    #[test]
    fn partitions_without_a_leader_and_topics_that_are_not_there_are_named() {
        let config = config("127.0.0.1:1", "");
        let findings = judged(&config, TopicSeen { leaderless: 2, partitions: 3, ..vehicles() });
        assert_eq!(of(&findings, "kafka-leaders").verdict, Verdict::Warning);
        assert!(of(&findings, "kafka-topics").finding.contains("1 of them read nothing"));
        let absent = ClusterSeen { absent: vec!["vehicles".to_owned()], ..ClusterSeen::default() };
        assert_eq!(of(&judge(&config, 4, &absent, NOW), "kafka-topics").verdict, Verdict::Failure);
    }

    #[test]
    fn kafka_that_answers_and_kafka_that_does_not() {
        let cluster = EmbeddedCluster::start(1).unwrap();
        cluster.create_topic("vehicles", 2).unwrap();
        let findings = examine(&config(cluster.bootstrap(), ""), 2);
        assert!(findings[..3].iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
        assert_eq!(of(&findings, "kafka-topic-configs").verdict, Verdict::Warning, "the embedded cluster has none");
        let findings = examine(&config("127.0.0.1:1", ""), 2);
        assert!(findings.iter().all(|finding| finding.check == "kafka" && finding.verdict == Verdict::Failure), "{findings:#?}");
        assert!(findings.len() == 2 && findings[0].finding.contains("refused"), "{findings:#?}");
    }
}
