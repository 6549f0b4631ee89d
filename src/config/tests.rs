use std::time::Duration;

use super::*;
use crate::cores::{HousekeepingChoice, Poll, ShardChoice};
use crate::kafka::TopicChoice;
use crate::subject::{Partitioner, ValueKind};
use crate::subject::{PartitionerChoice, TopicSettings};

const LEAST: &str = "[kafka.consumer]\n\"bootstrap.servers\" = \"127.0.0.1:9092\"\ntopics = [\"vehicles\"]\n\
    [kafka.producer]\n\"bootstrap.servers\" = \"127.0.0.1:9092\"\n";

fn parse(text: &str) -> Result<Config, Vec<String>> {
    parse_with(text, "")
}

fn parse_with(text: &str, options: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, "f.toml", options).map_err(|error| error.lines())
}

/// The only complaint about the least configuration with this text before it.
fn complaint(text: &str) -> String {
    let lines = parse(&format!("{text}\n{LEAST}")).expect_err(text);
    assert_eq!(lines.len(), 1, "{text}: {lines:#?}");
    lines[0].clone()
}

fn listed(config: &Config) -> &[String] {
    match &config.kafka.consumer.topics {
        TopicChoice::Listed(topics) => topics,
        TopicChoice::Matching(regex) => panic!("{regex}"),
    }
}

#[test]
fn least_configuration_has_the_defaults_of_the_mission() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.listen.listeners[0].address.to_string(), "127.0.0.1:8800");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:8801");
    assert_eq!((config.subject_bytes_max, config.publish.bytes_max), (1_024, 1_000_000));
    assert_eq!((config.cache.records_max, config.cache.expire_time), (1_000_000, Duration::from_secs(180)));
    assert_eq!(config.kafka.metadata_interval, Duration::from_secs(10));
    assert_eq!((config.cores.shards.clone(), config.cores.poll), (ShardChoice::Auto, Poll::Park));
    assert_eq!(listed(&config), ["vehicles"]);
    assert!(!config.kafka.consumer.recovery_on_start);
    assert_eq!((config.kafka.producer.producers_size, config.kafka.producer.null_key_partition), (1, None));
    assert_eq!(config.command_bytes_max(), 2_000_000);
}

#[test]
fn dotted_and_quoted_forms_of_a_key_mean_the_same() {
    let dotted = "listen.admin = '127.0.0.1:1'\nsubject.bytes.max = 2048\n\
        [kafka.consumer]\nbootstrap.servers = 'a:1'\nsecurity.protocol = 'SSL'\nfetch.wait.max.ms = 5\ntopics.regex = 'v.*'\nrecovery.on.start = true\n\
        [kafka.producer]\nbootstrap.servers = ['a:1', 'b:2']\nnull.key.partition = 0\n[topic.a.b]\nvalue = 'json'\n";
    let quoted = "'subject.bytes.max' = 2048\n[listen]\n'admin' = '127.0.0.1:1'\n\
        [kafka]\nconsumer = { 'bootstrap.servers' = 'a:1', 'security.protocol' = 'SSL', 'fetch.wait.max.ms' = '5', 'topics.regex' = 'v.*', 'recovery.on.start' = true }\n\
        ['kafka.producer']\n'bootstrap.servers' = 'a:1,b:2'\n'null.key' = { partition = 0 }\n[topic.'a.b']\n'value' = 'json'\n";
    let (dotted, quoted) = (parse(dotted).unwrap(), parse(quoted).unwrap());
    for config in [&dotted, &quoted] {
        assert_eq!(config.kafka.consumer.properties.get("security.protocol"), Some("SSL"));
        assert_eq!(config.kafka.consumer.properties.get("fetch.wait.max.ms"), Some("5"));
        assert_eq!(config.kafka.producer.properties.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.kafka.producer.null_key_partition, Some(0));
        assert_eq!(config.topic("a.b").value, ValueKind::Json);
        assert_eq!(config.subject_bytes_max, 2_048);
    }
    assert_eq!(format!("{:?}", dotted.kafka), format!("{:?}", quoted.kafka));
}

#[test]
fn keys_take_their_values() {
    let config = parse(&format!(
        "slow.client.timeout = 90\ndrain.seconds = 2.5\n[cache]\nbytes.max = '64MiB'\nexpire.time = '3m'\n\
         [cores]\nshards = [2, 3]\nhousekeeping = [0]\npoll = 'busy'\n[topic.vehicles]\npartitioner = 'crc32'\nsnapshot = 'latest'\n\
         [listen]\nallowed.origins = ['https://a.example']\n[log]\nlevel = 'debug'\nformat = 'json'\n{LEAST}"
    ))
    .unwrap();
    let shard = config.shard_settings();
    assert_eq!((shard.slow_client_timeout_ms, shard.cache_bytes_max, shard.cache_expire_ms), (90_000, 64 << 20, 180_000));
    assert_eq!(config.drain_time, Duration::from_millis(2_500));
    assert_eq!(config.cores.shards, ShardChoice::Cpus(vec![2, 3]));
    assert_eq!(config.cores.housekeeping, HousekeepingChoice::Cpus(vec![0]));
    assert_eq!(config.cores.poll, Poll::Busy);
    let topic = config.topic("vehicles");
    assert_eq!((topic.partitioner, topic.snapshot), (PartitionerChoice::Fixed(Partitioner::Crc32), true));
    assert_eq!(config.topic("other"), TopicSettings::default());
    assert_eq!((config.log.level, config.log.format), (tracing::Level::DEBUG, LogFormat::Json));
}

#[test]
fn every_mistake_is_one_line_that_names_key_value_allowed_and_remedy() {
    for (text, expected) in [
        (
            "[cache]\nbytes.max = '64XB'",
            "f.toml:2: cache.bytes.max = \"64XB\" is not allowed; give a whole number of bytes, or text with a unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), from 1MiB to 1TiB",
        ),
        ("[cache]\nrecords.max = 0", "f.toml:2: cache.records.max = 0 is not allowed; give a whole number from 1 to 1000000"),
        (
            "[cache]\nrecords.max = 99999999999999999999",
            "f.toml:2: cache.records.max = 99999999999999999999 is not allowed; give a whole number from 1 to 1000000",
        ),
        (
            "[cache]\nexpire.time = true",
            "f.toml:2: cache.expire.time = true is not allowed; give seconds as a number, or text with a unit (ms, s, min, h), from 1s to 604800s",
        ),
        (
            "[cores]\npoll = 'bussy'",
            "f.toml:2: cores.poll = \"bussy\" is not allowed; did you mean \"busy\"? allowed are \"park\", \"adaptive\", \"busy\"",
        ),
        (
            "[cores]\nshards = 0",
            "f.toml:2: cores.shards = 0 is not allowed; give \"auto\", a number from 1 to 256, or a list of CPU numbers, as in [2, 3]",
        ),
        ("[cores]\nshards = [1, 1]", "f.toml:2: cores.shards = [1, 1] is not allowed; CPU 1 is named twice; remove one"),
        (
            "[listen]\naddress = '8800'",
            "f.toml:2: listen.address = \"8800\" is not allowed; give an IP address of this machine and a port, as in \"0.0.0.0:8800\", \"127.0.0.1:8800\" or \"[::]:8800\"",
        ),
        (
            "[listen]\nadmin = '127.0.0.1:8800'",
            "f.toml:2: listen.admin = \"127.0.0.1:8800\" is taken by listen.address = \"127.0.0.1:8800\"; give one of them another port",
        ),
        (
            "[listen]\nallowed.origins = ['app.example.com']",
            "f.toml:2: listen.allowed.origins = [\"app.example.com\"] is not allowed; \"app.example.com\" is no origin; write it as browsers do, as in \"https://app.example.com\", \"http://localhost:3000\" or \"capacitor://localhost\"",
        ),
        (
            "[listen]\nallowed.origins = ['https://*.example.com']",
            "f.toml:2: listen.allowed.origins = [\"https://*.example.com\"] is not allowed; \"https://*.example.com\" has a `*`, and would match nothing; list each origin by itself, or give [\"*\"] for all",
        ),
        (
            "[listen]\nallowed.origins = ['https://app.example.com:443']",
            "f.toml:2: listen.allowed.origins = [\"https://app.example.com:443\"] is not allowed; \"https://app.example.com:443\" would match nothing, as browsers leave :443 out; write \"https://app.example.com\"",
        ),
        ("[cache]\nbyte.max = 1", "f.toml:2: unknown key cache.byte.max; did you mean cache.bytes.max?"),
        (
            "[listen]\naddress = '0.0.0.0:8800'",
            "f.toml:2: listen.address = \"0.0.0.0:8800\" lets others in, and nobody's identity is checked; give [entitlement] a type, or write insecure = true at the top of the file if that is meant, or listen on 127.0.0.1 behind a proxy that checks",
        ),
        (
            "[publish]\ntopics = ['a/b']",
            "f.toml:2: publish.topics = [\"a/b\"] is not allowed; \"a/b\" is no topic name; give a list of topic names, as in [\"orders\"], or \"consumed\" for the topics of [kafka.consumer], or with entitlement.type = \"jwt\" \"permitted\" for those that tokens permit; [] is none",
        ),
        ("[listen]\nallowed_origins = []", "f.toml:2: unknown key listen.allowed_origins; did you mean listen.allowed.origins?"),
        ("[cach]\nbytes.max = 1", "f.toml:1: unknown table [cach]; did you mean cache?"),
        (
            "[outbox]\nbytes.max = '128MiB'",
            "f.toml:2: cache.subject.bytes.max = \"64MiB\" is less than outbox.bytes.max = \"128MiB\": a client that lags could not catch up from the cache; raise the first or lower the second",
        ),
        (
            "[outbox]\nbytes.max = '4MiB'\n[cache]\nbytes.max = '2MiB'",
            "f.toml:4: cache.bytes.max = \"2MiB\" is less than outbox.bytes.max = \"4MiB\": a client that lags could not catch up from the cache; raise the first or lower the second",
        ),
        ("[nonsense]", "f.toml:1: unknown table [nonsense]; remove it, or see the manual config/corespan.toml for the keys that there are"),
        ("nonsense = 1", "f.toml:1: unknown key nonsense; remove it, or see the manual config/corespan.toml for the keys that there are"),
        ("cache = 5", "f.toml:1: cache is a table of keys, not one value; write [cache] and its keys below"),
        ("[listen.address]\nport = 1", "f.toml:1: listen.address is one value, not a table; write it as address = ... in [listen]"),
        ("[topic.T]\npartitoner = 'any'", "f.toml:2: unknown key topic.T.partitoner; did you mean topic.T.partitioner?"),
        (
            "[topic.T]\nvalue = 'xml'",
            "f.toml:2: topic.T.value = \"xml\" is not allowed; allowed are \"auto\", \"json\", \"text\", \"binary\"",
        ),
        ("[topic]\nvalue = 'json'", "f.toml:2: topic.value names no topic; write it as [topic.\"vehicles\"] with value = ... below"),
        (
            "[client]\nping.interval = 5",
            "f.toml:2: client.pong.timeout = \"8s\" is not less than client.ping.interval = \"5s\"; a pong must come before the next ping is due",
        ),
        (
            "[outbox]\nbytes.max = '1GiB'\n[cache]\nbytes.max = '2GiB'\nsubject.bytes.max = '2GiB'",
            "f.toml: outbox.shard.bytes.max = \"512MiB\" is less than outbox.bytes.max = \"1GiB\"; raise the first or lower the second",
        ),
        (
            "cache.records.max = 1\n'cache.records.max' = 2",
            "f.toml:2: cache.records.max is given twice, here and in line 1 (dotted and quoted forms are the same key); remove one",
        ),
    ] {
        assert_eq!(complaint(text), expected);
    }
}

#[test]
fn origins_of_browsers_and_of_web_views_can_be_listed() {
    let origins =
        ["https://app.example.com", "http://localhost:3000", "https://a.example:8443", "http://[::1]:80", "capacitor://localhost"];
    let more = ["ionic://localhost", "tauri://localhost", "http://tauri.localhost", "chrome-extension://abcdef"];
    for origin in origins.iter().chain(&more) {
        let outcome = parse(&format!("[listen]\nallowed.origins = [{origin:?}]\n{LEAST}"));
        // The one that browsers would write without its port.
        assert_eq!(outcome.is_ok(), *origin != "http://[::1]:80", "{origin}: {outcome:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_lines() {
    let lines = parse(&format!("[cores]\npoll = 1\nshard = 2\n[cache]\nrecords.max = 0\n{LEAST}")).unwrap_err();
    let starts: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["f.toml:2:", "f.toml:3:", "f.toml:5:"], "{lines:#?}");
}

#[test]
fn exactly_one_of_topics_and_topics_regex_is_needed() {
    let kafka = |keys: &str| format!("[kafka.consumer]\nbootstrap.servers = 'a:1'\n{keys}\n[kafka.producer]\nbootstrap.servers = 'a:1'\n");
    let one = |keys: &str| {
        let lines = parse(&kafka(keys)).expect_err(keys);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    };
    assert!(one("").contains("kafka.consumer.topics and kafka.consumer.topics.regex are both missing; give exactly one"));
    assert_eq!(
        one("topics = ['v']\n'topics.regex' = 'v.*'"),
        "f.toml:4: kafka.consumer.topics and kafka.consumer.topics.regex are both given; exactly one is allowed, remove the other"
    );
    assert!(one("topics = ['v']\ntopics.regex = 'v.*'").contains("of topics and topics.regex exactly one is allowed"));
    assert!(one("topics = []").contains("at least one topic is needed"));
    assert!(one("topics = ['a b']").contains("\"a b\" is no topic name"));
    assert!(one("topics.regex = 'a)|(b'").contains("unopened group; give a regular expression"));
    assert!(one("topics = ['v']\nnull.key.partition = 0").contains("it belongs to [kafka.producer]; move it there"));
    assert_eq!(listed(&parse(&kafka("topics = 'a, b,a'")).unwrap()), ["a", "b"]);
    let TopicChoice::Matching(regex) = parse(&kafka("topics.regex = 'a|b'")).unwrap().kafka.consumer.topics else { panic!() };
    assert!(regex.is_match("a") && regex.is_match("b") && !regex.is_match("ab") && !regex.is_match("xb"), "anchored");
}

#[test]
fn missing_bootstrap_servers_are_named_for_each_client() {
    let lines = parse("[kafka.consumer]\ntopics = 'a'\n").unwrap_err();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("kafka.consumer.bootstrap.servers is missing")
            && lines[1].contains("kafka.producer.bootstrap.servers is missing")
    );
}

#[test]
fn syntax_errors_are_one_line_each_and_show_no_value() {
    let lines = parse("[kafka.consumer]\nsasl.password = hunter2\n").unwrap_err();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("f.toml:2: not valid TOML: ") && lines[0].ends_with("near `sasl.password`"), "{}", lines[0]);
    assert!(!lines[0].contains("hunter2"));
}

#[test]
fn extra_options_replace_what_the_file_says_for_both_clients() {
    let config = parse_with(
        LEAST,
        " -Dbootstrap.servers=10.0.0.1:9092  -Dtopics=a,b -Dconsumers.size=2 -Drecovery.on.start=true -Dnull.key.partition=3",
    )
    .unwrap();
    assert_eq!(config.kafka.consumer.properties.get("bootstrap.servers"), Some("10.0.0.1:9092"));
    assert_eq!(config.kafka.producer.properties.get("bootstrap.servers"), Some("10.0.0.1:9092"));
    assert_eq!(listed(&config), ["a", "b"]);
    assert_eq!((config.kafka.consumer.consumers_size, config.kafka.consumer.recovery_on_start), (Some(2), true));
    assert_eq!(config.kafka.producer.null_key_partition, Some(3));
    let overridden = config.effective.iter().find(|effective| effective.key == "kafka.consumer.topics").unwrap();
    assert_eq!((overridden.value.as_str(), overridden.origin), ("[\"a\", \"b\"]", Some(Origin::ExtraOptions)));
}

#[test]
fn an_extra_option_wins_over_the_same_property_under_another_name() {
    let other = LEAST.replace("bootstrap.servers", "metadata.broker.list");
    assert_ne!(other, LEAST);
    let config = parse_with(&other, "-Dbootstrap.servers=10.0.0.1:9092").unwrap();
    for properties in [&config.kafka.consumer.properties, &config.kafka.producer.properties] {
        assert_eq!((properties.get("bootstrap.servers"), properties.get("metadata.broker.list")), (Some("10.0.0.1:9092"), None));
    }
}

#[test]
fn a_property_under_two_names_is_one_line() {
    let twice =
        LEAST.replacen("topics =", "\"client.id\" = \"x\"\n\"sasl.mechanism\" = \"PLAIN\"\n\"sasl.mechanisms\" = \"PLAIN\"\ntopics =", 1);
    let lines = parse(&twice).unwrap_err();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("sasl.mechanisms") && lines[0].contains("another name of sasl.mechanism,"), "{}", lines[0]);
}

#[test]
fn connections_are_lowered_to_what_open_files_allow_and_said_in_one_line() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.connections_within(10_000_000, 2).note, None);
    let few = config.connections_within(100_768, 2);
    assert_eq!((few.shard_max, few.is_asked_for), (50_000, false));
    let note = few.note.unwrap();
    assert!(note.contains("listen.connections.max = 200000") && note.contains("LimitNOFILE") && note.lines().count() == 1, "{note}");
    let asked = parse(&format!("[listen]\nconnections.max = 60000\n{LEAST}")).unwrap();
    assert!(asked.connections_within(100_768, 2).is_asked_for);
    assert_eq!(asked.connections_within(1_000_000, 2).shard_max, 60_000);
}

#[test]
fn extra_option_topics_removes_topics_regex_and_the_other_way_round() {
    assert!(matches!(parse_with(LEAST, "-Dtopics.regex=v.*").unwrap().kafka.consumer.topics, TopicChoice::Matching(_)));
    let regex = LEAST.replace("topics = [\"vehicles\"]", "topics.regex = 'v.*'");
    assert_eq!(listed(&parse_with(&regex, "-Dtopics=a").unwrap()), ["a"]);
    assert_eq!(listed(&parse_with(LEAST, "-Dtopics.regex=v.* -Dtopics=a").unwrap()), ["a"]);
}

#[test]
fn malformed_extra_options_are_named() {
    for (options, expected) in [
        (
            "bootstrap.servers=a:1",
            "CORESPAN_KAFKA_EXTRA_OPTS: an option is not of the form -Dname=value; separate options by spaces, values are without spaces and quotes",
        ),
        (
            "-Dtopics",
            "CORESPAN_KAFKA_EXTRA_OPTS: -Dtopics is not of the form -Dname=value; separate options by spaces, values are without spaces and quotes",
        ),
        (
            "-Dconsumers.size=many",
            "CORESPAN_KAFKA_EXTRA_OPTS: kafka.consumer.consumers.size = \"many\" is not allowed; give a whole number from 1 to 1024, or \"all\"",
        ),
    ] {
        assert_eq!(parse_with(LEAST, options).unwrap_err(), [expected]);
    }
}

#[test]
fn properties_of_librdkafka_are_checked_in_both_places() {
    let consumer = |line: &str| {
        let lines = parse(&LEAST.replace("topics =", &format!("{line}\ntopics ="))).expect_err(line);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    };
    assert_eq!(
        consumer("auto.offset.reset = 'latest'").split(": ").take(3).collect::<Vec<_>>(),
        ["f.toml:3", "kafka.consumer.auto.offset.reset = \"latest\"", "the bridge decides it"]
    );
    assert!(consumer("acks = 'all'").contains("move it to [kafka.producer]"));
    assert!(consumer("security.protocl = 'SSL'").ends_with("did you mean security.protocol?"));
    assert!(consumer("topic = 'vehicles'").ends_with("did you mean topics?"));
    assert!(consumer("sasl.pasword = 'hunter2'").ends_with("did you mean sasl.password?"));
    assert!(!consumer("sasl.pasword = 'hunter2'").contains("hunter2"));
    assert!(consumer("fetch.max.wait.ms = 5").contains("use fetch.wait.max.ms"));
    assert!(consumer("fetch.wait.max.ms = true").starts_with("f.toml:3: kafka.consumer.fetch.wait.max.ms = \"true\": "));
    let option = |options: &str| parse_with(LEAST, options).unwrap_err().join("\n");
    assert!(option("-Dbootstrap.server=a:1").ends_with("did you mean bootstrap.servers?"));
    assert!(option("-Dconsumer.size=1").ends_with("did you mean consumers.size?"));
    assert!(
        option("-Dssl.truststore.location=/x")
            .starts_with("CORESPAN_KAFKA_EXTRA_OPTS: -Dssl.truststore.location=/x: it is a property of the Java client")
    );
    assert!(option("-Dauto.offset.reset=latest").contains("-Dauto.offset.reset=latest: the bridge decides it"));
    let each_its_own = parse_with(LEAST, "-Dlinger.ms=2 -Dfetch.wait.max.ms=3 -Dclient.id=x").unwrap().kafka;
    let (consumer, producer) = (each_its_own.consumer.properties, each_its_own.producer.properties);
    assert_eq!((consumer.get("linger.ms"), producer.get("linger.ms")), (None, Some("2")));
    assert_eq!((consumer.get("fetch.wait.max.ms"), producer.get("fetch.wait.max.ms")), (Some("3"), None));
    assert_eq!((consumer.get("client.id"), producer.get("client.id")), (Some("x"), Some("x")));
}

#[test]
fn the_producer_takes_the_largest_publish_that_is_allowed() {
    let limit = |text: &str| {
        parse(&format!("{text}\n{LEAST}")).unwrap().kafka.producer.properties.get("message.max.bytes").unwrap().parse::<usize>().unwrap()
    };
    assert!(limit("") > 1_000_000 + 1_024);
    assert!(limit("[publish]\nbytes.max = '8MiB'") > 8 << 20);
    assert_eq!(parse_with(LEAST, "-Dmessage.max.bytes=2000").unwrap().kafka.producer.properties.get("message.max.bytes"), Some("2000"));
}

#[test]
fn secrets_show_nowhere() {
    let config = parse_with(&LEAST.replace("topics =", "sasl.password = 'hunter2'\ntopics ="), "-Dssl.key.password=hunter2").unwrap();
    assert_eq!(config.kafka.consumer.properties.get("sasl.password"), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn more_consumers_than_shards_are_refused() {
    let config = parse_with(LEAST, "-Dconsumers.size=3").unwrap();
    assert!(config.check_shards(3).is_ok());
    let error = config.check_shards(2).unwrap_err().to_string();
    assert!(error.contains("kafka.consumer.consumers.size = 3") && error.contains("from 1 to 2"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z.\\[\\]\"'= \n#{},0-9-]{0,200}", options in "[-D=a-z. ]{0,60}") {
        let _ = parse_with(&text, &options);
    }
}

#[test]
fn others_get_in_only_if_the_file_says_so_and_publish_only_where_it_says() {
    let of = |text: &str| Config::parse(&format!("{text}\n{LEAST}"), "f.toml", "").unwrap();
    let allows = |config: &Config, topic: &str| config.publish.topics.allows(topic);
    let here = of("");
    assert!(allows(&here, "vehicles") && !allows(&here, "orders") && !here.insecure);
    let there = of("insecure = true\n[listen]\naddress = '0.0.0.0:8800'");
    assert!(!allows(&there, "vehicles") && there.publish.topics.allows_nothing());
    let some = of("insecure = true\n[listen]\naddress = '0.0.0.0:8800'\n[publish]\ntopics = ['orders', '_schemas']\npattern = '.*-in'");
    assert!(allows(&some, "orders") && allows(&some, "_schemas") && allows(&some, "a-in"));
    assert!(!allows(&some, "vehicles") && !allows(&some, "_x-in"));
    assert!(allows(&of("insecure = true\n[listen]\naddress = '[::]:8800'\n[publish]\ntopics = 'consumed'"), "vehicles"));
    assert!(of("[publish]\ntopics = []").publish.topics.allows_nothing());
    assert_eq!(
        there.open_to(),
        [
            "everybody who reaches the port may subscribe to every topic that is served, on 0.0.0.0:8800",
            "nobody may publish (publish.topics)",
            "web pages of the same host may connect (listen.allowed.origins)"
        ]
    );
}
