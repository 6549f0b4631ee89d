//! librdkafka's properties: which client takes them, which the bridge keeps for itself, what Java calls them, and our defaults.

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

use super::clients::QuietContext;
use super::properties::Properties;
use super::raw::{self, PropertyVerdict};
use super::settings::KafkaOptions;
use super::tokens::token_path;

/// Which client a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Consumer,
    Producer,
}

/// Which clients know a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub consumer: bool,
    pub producer: bool,
}

/// Producer-only properties (scope `P` of librdkafka 2.12's CONFIGURATION.md).
const PRODUCER_ONLY: &[&str] = &[
    "transactional.id",
    "transaction.timeout.ms",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.ms",
    "linger.ms",
    "message.send.max.retries",
    "retries",
    "queue.buffering.backpressure.threshold",
    "compression.codec",
    "compression.type",
    "compression.level",
    "batch.num.messages",
    "batch.size",
    "delivery.report.only.error",
    "sticky.partitioning.linger.ms",
    "request.required.acks",
    "acks",
    "request.timeout.ms",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "queuing.strategy",
    "produce.offset.report",
    "partitioner",
];

/// Consumer-only properties (scope `C` of the same).
const CONSUMER_ONLY: &[&str] = &[
    "group.id",
    "group.instance.id",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "group.protocol.type",
    "group.protocol",
    "group.remote.assignor",
    "coordinator.query.interval.ms",
    "max.poll.interval.ms",
    "enable.auto.commit",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "enable.auto.offset.store",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.error.backoff.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "isolation.level",
    "enable.partition.eof",
    "check.crcs",
    "auto.offset.reset",
    "consume.callback.max.messages",
];

/// Properties that the bridge keeps for itself, and why. With a value: only that value is taken.
const OWNED: &[(&str, Option<&str>, &str)] = &[
    (
        "auto.offset.reset",
        Some("error"),
        "the bridge starts every partition at a number, so that no record is skipped in silence (see recovery.on.start)",
    ),
    ("enable.auto.commit", Some("false"), "positions belong to the clients, nothing is committed"),
    ("auto.commit.enable", Some("false"), "positions belong to the clients, nothing is committed"),
    ("auto.commit.interval.ms", None, "positions belong to the clients, nothing is committed"),
    ("enable.auto.offset.store", None, "positions belong to the clients, nothing is committed"),
    ("offset.store.method", None, "positions belong to the clients, nothing is committed"),
    ("enable.partition.eof", Some("true"), "the bridge measures readiness by it"),
    ("allow.auto.create.topics", Some("false"), "a topic that does not exist is an error of the client that asked for it"),
    ("partition.assignment.strategy", None, "the bridge assigns partitions to its shards itself"),
    ("group.instance.id", None, "the bridge assigns partitions to its shards itself"),
    ("group.protocol", None, "the bridge assigns partitions to its shards itself"),
    ("group.remote.assignor", None, "the bridge assigns partitions to its shards itself"),
    ("enable.idempotence", Some("true"), "without it a retried publish could be written twice"),
    ("queuing.strategy", Some("fifo"), "records of a subject keep their order"),
    ("transaction.timeout.ms", None, "publishes of many clients share a producer, they cannot share a transaction"),
    ("transactional.id", None, "publishes of many clients share a producer, they cannot share a transaction"),
    ("partitioner", None, "the partition is what makes a subject's home; set partitioner in [topic.\"NAME\"]"),
    ("delivery.report.only.error", Some("false"), "every publish has its answer"),
    ("produce.offset.report", None, "every publish has its answer"),
];

/// Java's properties, and librdkafka's word for the same.
const JAVA: &[(&str, &str)] = &[
    ("key.deserializer", "the bridge reads bytes, leave it out"),
    ("value.deserializer", "the bridge reads bytes, leave it out"),
    ("key.serializer", "the bridge writes bytes, leave it out"),
    ("value.serializer", "the bridge writes bytes, leave it out"),
    ("max.poll.records", "use queued.min.messages"),
    ("fetch.max.wait.ms", "use fetch.wait.max.ms"),
    ("buffer.memory", "use queue.buffering.max.kbytes"),
    ("max.block.ms", "the bridge stops reading the client's socket instead; leave it out"),
    ("max.request.size", "use message.max.bytes"),
    ("metadata.max.idle.ms", "use topic.metadata.refresh.interval.ms"),
    ("default.api.timeout.ms", "use socket.timeout.ms"),
    ("receive.buffer.bytes", "use socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "use socket.send.buffer.bytes"),
    ("sasl.jaas.config", "use sasl.username and sasl.password"),
    ("sasl.login.callback.handler.class", "there are no Java classes here, leave it out"),
    ("sasl.client.callback.handler.class", "there are no Java classes here, leave it out"),
    ("sasl.kerberos.ticket.renew.window.factor", "use sasl.kerberos.min.time.before.relogin"),
    ("sasl.kerberos.ticket.renew.jitter", "use sasl.kerberos.min.time.before.relogin"),
    ("security.providers", "use ssl.providers"),
    ("socket.connection.setup.timeout.max.ms", "use socket.connection.setup.timeout.ms"),
    ("ssl.truststore.location", "use ssl.ca.location (a PEM file)"),
    ("ssl.truststore.certificates", "use ssl.ca.pem"),
    ("ssl.truststore.password", "ssl.ca.location is a PEM file without a password"),
    ("ssl.truststore.type", "use ssl.ca.location (a PEM file)"),
    ("ssl.keystore.type", "use ssl.certificate.location and ssl.key.location (PEM), or ssl.keystore.location (PKCS#12)"),
    ("ssl.keystore.key", "use ssl.key.pem"),
    ("ssl.keystore.certificate.chain", "use ssl.certificate.pem"),
    ("ssl.protocol", "OpenSSL chooses it, leave it out"),
    ("ssl.enabled.protocols", "OpenSSL chooses it, leave it out"),
    ("ssl.engine.factory.class", "use ssl.engine.location"),
    ("ssl.provider", "use ssl.providers"),
    ("ssl.keymanager.algorithm", "there is no such choice, leave it out"),
    ("ssl.trustmanager.algorithm", "there is no such choice, leave it out"),
    ("ssl.secure.random.implementation", "there is no such choice, leave it out"),
    ("exclude.internal.topics", "topics.regex never matches internal topics, leave it out"),
    ("auto.include.jmx.reporter", "see the admin port's /metrics, leave it out"),
    ("metrics.recording.level", "see the admin port's /metrics, leave it out"),
    ("interceptor.classes", "there are no Java classes here, leave it out"),
    ("metric.reporters", "see the admin port's /metrics, leave it out"),
    ("partitioner.class", "set partitioner in [topic.\"NAME\"]"),
    ("partitioner.ignore.keys", "the key decides a subject's home, leave it out"),
    ("partitioner.adaptive.partitioning.enable", "there is no such choice, leave it out"),
];

/// Two names of one property of librdkafka's. The first is used, so that what the user says under the other replaces the default.
const ALIASES: &[(&str, &str)] = &[
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.type", "compression.codec"),
    ("enable.auto.commit", "auto.commit.enable"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

fn name_used(name: &str) -> &str {
    ALIASES.iter().find(|(_, alias)| *alias == name).map_or(name, |(used, _)| used)
}

/// The other names of a property.
pub fn other_names(name: &str) -> impl Iterator<Item = &'static str> {
    ALIASES
        .iter()
        .filter(move |(used, alias)| *used == name_used(name) || *alias == name)
        .flat_map(|(used, alias)| [*used, *alias])
        .filter(move |other| *other != name)
}

/// librdkafka takes `topic.acks` for `acks`; one name is enough, and what the bridge owns is known by it.
fn without_topic_prefix(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("topic.")?;
    (CONSUMER_ONLY.contains(&rest) || PRODUCER_ONLY.contains(&rest)).then_some(rest)
}

/// Which clients know a property.
///
/// # Errors
/// A text that says why none does.
pub fn scope(name: &str) -> Result<Scope, String> {
    if let Some((_, advice)) = JAVA.iter().find(|(java, _)| *java == name) {
        return Err(format!("it is a property of the Java client; {advice}"));
    }
    if let Some(rest) = without_topic_prefix(name) {
        return Err(format!("write it without its prefix: {rest}"));
    }
    // Whether it exists does not depend on the value: an unknown name is told apart from a bad value.
    if let PropertyVerdict::Unknown(_) = raw::check_property(name, "") {
        return Err("librdkafka has no such property; see its CONFIGURATION.md".to_owned());
    }
    let (consumer, producer) = (CONSUMER_ONLY.contains(&name), PRODUCER_ONLY.contains(&name));
    Ok(Scope { consumer: !producer, producer: !consumer })
}

/// Whether a client takes a property with a value.
///
/// # Errors
/// A text that names what is allowed and the remedy.
pub fn check_property(role: Role, name: &str, value: &str) -> Result<(), String> {
    let scope = scope(name)?;
    match role {
        Role::Consumer if !scope.consumer => return Err("it is a property of the producer; move it to [kafka.producer]".to_owned()),
        Role::Producer if !scope.producer => return Err("it is a property of the consumer; move it to [kafka.consumer]".to_owned()),
        _ => {}
    }
    if let Some((_, allowed, why)) = OWNED.iter().find(|(owned, _, _)| *owned == name)
        && !allowed.is_some_and(|allowed| allowed.eq_ignore_ascii_case(value))
    {
        let allowed = allowed.map_or("leave it out".to_owned(), |allowed| format!("only {allowed:?} is allowed"));
        return Err(format!("the bridge decides it: {why}; {allowed}"));
    }
    match raw::check_property(name, value) {
        PropertyVerdict::Good => check_for_idempotence(name, value),
        PropertyVerdict::Unknown(reason) | PropertyVerdict::Invalid(reason) => Err(reason),
    }
}

/// Least of `message.timeout.ms`: longer than a broker is away in a restart.
const MESSAGE_TIMEOUT_LEAST_MS: i64 = 30_000;

/// What librdkafka would refuse of an idempotent producer only when it is made, and what would make it store twice.
fn check_for_idempotence(name: &str, value: &str) -> Result<(), String> {
    let number: Option<i64> = value.trim().parse().ok();
    let reason = match name_used(name) {
        "acks" if value != "all" && number != Some(-1) => {
            "only \"all\" is allowed: a publish is acknowledged when Kafka cannot lose it any more"
        }
        "max.in.flight" if number.is_some_and(|number| number > 5) => {
            "1 to 5 are allowed: with more, a retry could put records out of order"
        }
        "retries" if number == Some(0) => "1 or more are allowed: an idempotent producer retries; message.timeout.ms bounds the time",
        "message.timeout.ms" if number.is_some_and(|number| number < MESSAGE_TIMEOUT_LEAST_MS) => {
            "30000 or more milliseconds are allowed: a message that times out in flight makes librdkafka send others again that may be stored \
             already; clients have their answer within 4.5 s in any case"
        }
        _ => return Ok(()),
    };
    Err(reason.to_owned())
}

/// What librdkafka checks only when a client is made: files, and properties against each other. Makes one that knows no broker, so nobody is
/// contacted.
///
/// # Errors
/// librdkafka's own words, and the given value of the property that they name.
pub fn check_together(role: Role, properties: &Properties) -> Result<(), String> {
    check_sasl(properties)?;
    let mut config = match role {
        Role::Consumer => with(consumer_defaults(false), properties),
        Role::Producer => with(producer_defaults(), properties),
    };
    config.remove("bootstrap.servers");
    // Without a group there is nothing to leave when the client is dropped, which would take its time.
    config.remove("group.id");
    let made = match role {
        Role::Consumer => config.create_with_context::<_, BaseConsumer<QuietContext>>(QuietContext).map(drop),
        Role::Producer => config.create::<BaseProducer>().map(drop),
    };
    made.map_err(|error| {
        let reason = match error {
            KafkaError::ClientCreation(reason) => reason,
            other => other.to_string(),
        };
        let named = properties.iter().find(|(name, _)| reason.contains(*name));
        let reason = properties.without_secrets(&reason);
        match named {
            Some((name, _)) => format!("{reason} ({name} = {}); correct it", properties.shown(name)),
            None => format!("{reason}; correct the property that it names"),
        }
    })
}

/// librdkafka takes OAUTHBEARER without a source of tokens, and then waits for one for ever; without a mechanism it speaks of Kerberos.
fn check_sasl(properties: &Properties) -> Result<(), String> {
    let given = |name| properties.iter().find(|(other, _)| name_used(other) == name).map(|(_, value)| value);
    let protocol = given("security.protocol").unwrap_or_default();
    if protocol.to_ascii_lowercase().starts_with("sasl_") && given("sasl.mechanism").is_none() {
        return Err(format!(
            "security.protocol = {} needs sasl.mechanism: \"PLAIN\", \"SCRAM-SHA-256\", \"SCRAM-SHA-512\" or \"OAUTHBEARER\" (librdkafka's \
             default, GSSAPI, is not built in); set it, and sasl.username and sasl.password",
            properties.shown("security.protocol")
        ));
    }
    if given("sasl.mechanism") != Some("OAUTHBEARER") {
        return Ok(());
    }
    // Whether a provider's address, the client's name and its secret are all there is checked by librdkafka.
    if given("sasl.oauthbearer.method").is_some_and(|method| method.eq_ignore_ascii_case("oidc")) {
        return match given("sasl.oauthbearer.config") {
            Some(_) => Err(
                "sasl.oauthbearer.config names the file of a token, and sasl.oauthbearer.method = \"oidc\" fetches them from a provider: \
                 take one of them out"
                    .to_owned(),
            ),
            None => Ok(()),
        };
    }
    let file = given("sasl.oauthbearer.config").map(token_path);
    if given("enable.sasl.oauthbearer.unsecure.jwt") == Some("true") {
        return match file {
            Some(Ok(_)) => Err("sasl.oauthbearer.config names the file of a token, and enable.sasl.oauthbearer.unsecure.jwt = true makes \
                 unsecured ones: take one of them out"
                .to_owned()),
            _ => Ok(()),
        };
    }
    match file {
        Some(Ok(_)) => Ok(()),
        Some(Err(what)) => Err(what.to_owned()),
        None => Err(
            "sasl.mechanism = \"OAUTHBEARER\" has no source of tokens; name the file that holds the token of the moment and is written \
             anew before it ends: sasl.oauthbearer.config = \"token.path=/PATH/OF/THE/TOKEN\"; or have them fetched from a provider: \
             sasl.oauthbearer.method = \"oidc\" with sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and \
             sasl.oauthbearer.token.endpoint.url; or use \"SCRAM-SHA-512\" or \"PLAIN\" over TLS; or, for trials only, unsecured tokens: \
             enable.sasl.oauthbearer.unsecure.jwt = true"
                .to_owned(),
        ),
    }
}

/// What every client gets unless the user says otherwise.
fn common(config: &mut ClientConfig) {
    config
        .set("client.id", "corespan")
        .set("socket.nagle.disable", "true")
        // A broker that is silently dead is noticed after 10 s instead of 60.
        .set("socket.timeout.ms", "10000")
        .set("socket.keepalive.enable", "true")
        // librdkafka's default is 10 s: too long for a bridge whose clients wait.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("allow.auto.create.topics", "false");
}

fn with(mut config: ClientConfig, properties: &Properties) -> ClientConfig {
    for (name, value) in properties.iter() {
        config.set(name_used(name), value);
    }
    config
}

/// The configuration of a shard's consumer.
pub(super) fn consumer_config(options: &KafkaOptions) -> ClientConfig {
    with(consumer_defaults(options.embedded), &options.consumer)
}

/// The configuration of a client that only looks: a shard's consumer's, or a producer's without what only who writes needs.
pub(super) fn looking_config(properties: &Properties, role: Role) -> ClientConfig {
    let mut config = match role {
        Role::Consumer => with(consumer_defaults(false), properties),
        Role::Producer => with(producer_defaults(), properties),
    };
    adjust_for_reading(&mut config);
    if role == Role::Producer {
        adjust_for_lookups(&mut config);
    }
    config
}

fn consumer_defaults(embedded: bool) -> ClientConfig {
    let mut config = ClientConfig::new();
    common(&mut config);
    config
        // Wanted by librdkafka even where nothing is subscribed or committed.
        .set("group.id", "corespan")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // Else a byte that has changed on a disk is delivered as if it were right, or its batch vanishes without a word.
        .set("check.crcs", "true")
        // With the default of 1 s a full queue would stall a partition for that long.
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.error.backoff.ms", "50")
        .set("queued.max.messages.kbytes", "16384");
    if embedded {
        // The mock cluster wakes a waiting fetch only when its time is over.
        config.set("fetch.wait.max.ms", "5");
    }
    config
}

/// Of a consumer that answers questions: metadata, offsets, the newest records.
pub(super) fn adjust_for_reading(config: &mut ClientConfig) {
    config.set("socket.connection.setup.timeout.ms", "5000");
}

/// Of a client that looks up topics with the producer's credentials. It writes nothing, so it needs no producer's id.
pub(super) fn adjust_for_lookups(config: &mut ClientConfig) {
    config.remove("enable.idempotence");
}

/// The configuration of a producer.
pub(super) fn producer_config(options: &KafkaOptions) -> ClientConfig {
    with(producer_defaults(), &options.producer)
}

fn producer_defaults() -> ClientConfig {
    let mut config = ClientConfig::new();
    common(&mut config);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // Clients are answered by the bridge's own clock (`shard::publish`). librdkafka must not give a message up that is in flight: it would begin a
        // new epoch and send others again that may be stored already. With several requests in flight it does the same when a leader moves.
        .set("message.timeout.ms", "120000")
        .set("max.in.flight", "1")
        .set("linger.ms", "0")
        // Kafka's default for brokers, so that the largest value (publish.bytes.max, 1,000,000) fits with its key and headers.
        .set("message.max.bytes", "1048588")
        // A topic that is not there is told before clients give up, instead of after librdkafka's 30 s.
        .set("topic.metadata.propagation.max.ms", "2000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "262144");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_known_by_their_own_names_and_owned_ones_are_refused_with_the_reason() {
        assert_eq!(check_property(Role::Consumer, "fetch.wait.max.ms", "5"), Ok(()));
        assert_eq!(check_property(Role::Producer, "sasl.mechanism", "SCRAM-SHA-512"), Ok(()));
        assert_eq!(check_property(Role::Consumer, "security.protocol", "SASL_SSL"), Ok(()));
        assert_eq!(check_property(Role::Consumer, "auto.offset.reset", "error"), Ok(()));
        for (role, name, value, part) in [
            (Role::Consumer, "fetch.wait.max.msx", "5", "no such property"),
            (Role::Consumer, "fetch.wait.max.ms", "soon", "fetch.wait.max.ms"),
            (Role::Consumer, "auto.offset.reset", "latest", "starts every partition at a number"),
            (Role::Producer, "enable.idempotence", "false", "written twice"),
            (Role::Consumer, "acks", "all", "[kafka.producer]"),
            (Role::Producer, "isolation.level", "read_committed", "[kafka.consumer]"),
            (Role::Consumer, "ssl.truststore.location", "/x", "ssl.ca.location"),
            (Role::Consumer, "max.poll.records", "1", "queued.min.messages"),
        ] {
            let reason = check_property(role, name, value).expect_err(name);
            assert!(reason.contains(part), "{name}: {reason}");
        }
    }

    #[test]
    fn no_other_name_is_a_way_around_what_the_bridge_needs() {
        for (role, name, value, part) in [
            (Role::Consumer, "topic.auto.offset.reset", "latest", "without its prefix: auto.offset.reset"),
            (Role::Producer, "topic.acks", "0", "without its prefix: acks"),
            (Role::Producer, "request.required.acks", "1", "only \"all\""),
            (Role::Producer, "acks", "0", "only \"all\""),
            (Role::Producer, "max.in.flight.requests.per.connection", "6", "1 to 5"),
            (Role::Producer, "message.send.max.retries", "0", "1 or more"),
            (Role::Producer, "delivery.timeout.ms", "29999", "30000 or more"),
            (Role::Producer, "transaction.timeout.ms", "1000", "transaction"),
        ] {
            let reason = check_property(role, name, value).expect_err(name);
            assert!(reason.contains(part), "{name}: {reason}");
        }
        assert_eq!(check_property(Role::Producer, "acks", "-1"), Ok(()));
        assert_eq!(check_property(Role::Consumer, "enable.auto.commit", "False"), Ok(()));
        let mut options = KafkaOptions::for_tests("127.0.0.1:1");
        options.producer.set("queue.buffering.max.ms", "7");
        let config = producer_config(&options);
        assert_eq!((config.get("linger.ms"), config.get("queue.buffering.max.ms")), (Some("7"), None));
    }

    #[test]
    fn every_listed_name_is_librdkafkas_and_no_java_name_is() {
        let known = |name: &str| !matches!(raw::check_property(name, ""), PropertyVerdict::Unknown(_));
        for name in CONSUMER_ONLY.iter().chain(PRODUCER_ONLY).chain(OWNED.iter().map(|(name, ..)| name)) {
            assert!(known(name), "{name}");
        }
        for (used, alias) in ALIASES {
            assert!(known(used) && known(alias), "{used} {alias}");
        }
        assert!(JAVA.iter().all(|(name, _)| !CONSUMER_ONLY.contains(name) && !PRODUCER_ONLY.contains(name)));
    }

    #[test]
    fn what_does_not_fit_together_is_found_without_kafka() {
        let with = |given: &[(&str, &str)]| {
            let mut properties = Properties::default();
            properties.set("bootstrap.servers", "127.0.0.1:1");
            for (name, value) in given {
                properties.set(*name, *value);
            }
            properties
        };
        for role in [Role::Consumer, Role::Producer] {
            assert_eq!(check_together(role, &with(&[])), Ok(()));
            let reason =
                check_together(role, &with(&[("security.protocol", "ssl"), ("ssl.ca.location", "/nowhere/ca.pem")])).expect_err("no file");
            assert!(reason.contains("/nowhere/ca.pem"), "{reason}");
            check_together(role, &with(&[("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "PLAIN")])).expect_err("no user");
        }
        check_together(Role::Consumer, &with(&[("fetch.max.bytes", "1000"), ("message.max.bytes", "2000")])).expect_err("too small");
    }

    #[test]
    fn sasl_without_a_mechanism_is_refused_by_the_name_that_is_missing() {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", "127.0.0.1:1");
        properties.set("security.protocol", "SASL_SSL");
        let reason = check_together(Role::Producer, &properties).expect_err("there is no Kerberos");
        assert!(reason.contains("SASL_SSL") && reason.contains("sasl.mechanism") && reason.contains("SCRAM-SHA-512"), "{reason}");
    }

    #[test]
    fn tokens_without_a_source_are_refused_in_plain_words() {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", "127.0.0.1:1");
        properties.set("security.protocol", "sasl_plaintext");
        for name in ["sasl.mechanism", "sasl.mechanisms"] {
            let mut properties = properties.clone();
            properties.set(name, "OAUTHBEARER");
            for role in [Role::Consumer, Role::Producer] {
                let reason = check_together(role, &properties).expect_err(name);
                assert!(reason.contains("OAUTHBEARER") && reason.contains("SCRAM-SHA-512"), "{reason}");
                assert!(reason.contains("sasl.oauthbearer.config = \"token.path="), "{reason}");
            }
            let mut from_file = properties.clone();
            from_file.set("sasl.oauthbearer.config", "token.path=/nowhere/yet");
            assert_eq!(check_together(Role::Consumer, &from_file), Ok(()), "it may be written later");
            assert_eq!(check_together(Role::Producer, &from_file), Ok(()), "it may be written later");
            from_file.set("enable.sasl.oauthbearer.unsecure.jwt", "true");
            let reason = check_together(Role::Consumer, &from_file).expect_err("two sources");
            assert!(reason.contains("take one of them out"), "{reason}");
            let mut other = properties.clone();
            other.set("sasl.oauthbearer.config", "principal=hunter2");
            let reason = check_together(Role::Consumer, &other).expect_err("another form");
            assert!(reason.contains("token.path=/") && !reason.contains("hunter2"), "{reason}");
            properties.set("enable.sasl.oauthbearer.unsecure.jwt", "true");
            assert_eq!(check_together(Role::Consumer, &properties), Ok(()));
        }
    }

    #[test]
    fn a_provider_of_tokens_is_the_only_source_and_is_named_in_full() {
        let mut properties = Properties::default();
        for (name, value) in [
            ("bootstrap.servers", "127.0.0.1:1"),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "corespan"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
        ] {
            properties.set(name, value);
        }
        for role in [Role::Consumer, Role::Producer] {
            let reason = check_together(role, &properties).expect_err("no address");
            assert!(reason.contains("sasl.oauthbearer.token.endpoint.url") && !reason.contains("hunter2"), "{reason}");
            let mut whole = properties.clone();
            whole.set("sasl.oauthbearer.token.endpoint.url", "http://127.0.0.1:1/token");
            assert_eq!(check_together(role, &whole), Ok(()), "the provider may come later");
            whole.set("sasl.oauthbearer.config", "token.path=/nowhere");
            let reason = check_together(role, &whole).expect_err("two sources");
            assert!(reason.contains("take one of them out"), "{reason}");
        }
    }

    #[test]
    fn sasl_and_tls_are_compiled_in() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
            assert_eq!(check_property(Role::Consumer, "sasl.mechanism", mechanism), Ok(()), "{mechanism}");
        }
        assert_eq!(check_property(Role::Producer, "ssl.ca.location", "/etc/ssl/ca.pem"), Ok(()));
        assert_eq!(check_property(Role::Producer, "compression.type", "zstd"), Ok(()));
    }
}
