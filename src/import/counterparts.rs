//! What has no counterpart, or another name, and why: one line for each setting.

/// Of a setting that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counterpart {
    pub name: &'static str,
    /// Where the comment stands.
    pub table: &'static str,
    pub why: &'static str,
}

/// Of a property that librdkafka calls by another name, with the same values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    pub java: &'static str,
    pub ours: &'static str,
}

const fn gone(name: &'static str, table: &'static str, why: &'static str) -> Counterpart {
    Counterpart { name, table, why }
}

const NO_GROUP: &str = "There is no consumer group: every node reads every partition, and positions belong to the clients.";
const BYTES: &str = "Values are bytes here; [topic.\"T\"] value says how they appear in JSON.";
const NO_CLASSES: &str = "There are no Java classes here.";
const METRICS: &str = "See /metrics on the admin port.";
const TLS: &str = "Write [[listen]] once more with an address, tls.cert and tls.key in PEM: openssl pkcs12 -in KEYSTORE -nodes gives both.";

/// Of `migratorydata.conf`.
pub const SERVER: &[Counterpart] = &[
    gone("LicenseKey", "", "corespan needs none."),
    gone("RunAsUser", "", "The systemd unit runs it as the user corespan."),
    gone(
        "Memory",
        "cache",
        "There is no heap to size. What records take is bytes.max, for each shard; outbox.shard.bytes.max bounds what waits for slow clients.",
    ),
    gone("ListenEncrypted", "listen", TLS),
    gone("KeyStore", "listen", TLS),
    gone("KeyStorePassword", "listen", TLS),
    gone("Native.Ssl", "listen", TLS),
    gone("X.ConnectionOffload", "listen", "Connections are spread over all shards."),
    gone("DocumentRoot", "listen", "There are a welcome page and a demo page, no files are served."),
    gone("Rest.Enable", "listen", "This version has no REST interface; clients use the WebSocket."),
    gone("PublishAllowFromAddressList", "publish", "Addresses are not looked at: use [entitlement], or a firewall."),
    gone("Portal.Url", "entitlement", "No portal is asked."),
    gone("Portal.Password", "entitlement", "No portal is asked."),
    gone("ClusterMembers", "", "Nodes share nothing but Kafka and need not know each other; give clients the list of nodes."),
    gone("ClusterDeliveryMode", "", "Delivery is without loss or duplicate from the subscribe reply on."),
    gone("Extension.Presence", "", "Presence is not offered (error 108)."),
    gone("Extension.InteractivePublishing", "", "There are no extensions."),
    gone("LogFolder", "log", "The log goes to standard error, and under systemd to the journal."),
    gone("LogRotateLimit", "log", "The journal, or whoever takes standard error, rotates it."),
    gone("LogRotateTime", "log", "The journal, or whoever takes standard error, rotates it."),
    gone("LogRotateFileCount", "log", "The journal, or whoever takes standard error, rotates it."),
    gone("Stats.LogInterval", "log", METRICS),
];

/// Of the add-on for JSON Web Tokens.
pub const TOKENS: &[Counterpart] =
    &[gone("renewTokenBeforeSeconds", "entitlement", "The SDK asks your getToken shortly before a token ends, by itself.")];

/// Of Kafka's consumer and producer.
pub const CLIENTS: &[Counterpart] = &[
    gone("group.id", "", NO_GROUP),
    gone("group.instance.id", "", NO_GROUP),
    gone("group.protocol", "", NO_GROUP),
    gone("group.remote.assignor", "", NO_GROUP),
    gone("partition.assignment.strategy", "", NO_GROUP),
    gone("session.timeout.ms", "", NO_GROUP),
    gone("heartbeat.interval.ms", "", NO_GROUP),
    gone("max.poll.interval.ms", "", NO_GROUP),
    gone("enable.auto.commit", "", NO_GROUP),
    gone("auto.commit.interval.ms", "", NO_GROUP),
    gone(
        "auto.offset.reset",
        "",
        "corespan starts every partition at a number, so that no record is skipped in silence; see recovery.on.start.",
    ),
    gone(
        "max.poll.records",
        "",
        "librdkafka reads ahead by itself (queued.min.messages), and each turn of a shard takes what it has time for.",
    ),
    gone("key.deserializer", "", "Keys are text: a key that is not UTF-8 has no subject, is counted and skipped."),
    gone("value.deserializer", "", BYTES),
    gone("key.serializer", "", "Keys are text."),
    gone("value.serializer", "", BYTES),
    gone("exclude.internal.topics", "", "topics.regex never matches internal topics."),
    gone("allow.auto.create.topics", "", "A topic that does not exist is an error of the client that asked for it."),
    gone("max.block.ms", "", "A client's socket is not read while Kafka is slow (publish.open.max)."),
    gone("enable.idempotence", "", "The producer is always idempotent."),
    gone("transactional.id", "", "Publishes of many clients share a producer, they cannot share a transaction."),
    gone("transaction.timeout.ms", "", "Publishes of many clients share a producer, they cannot share a transaction."),
    gone("partitioner.ignore.keys", "", "The key decides where a subject is at home."),
    gone("partitioner.availability.timeout.ms", "", "The key decides where a subject is at home."),
    gone("partitioner.adaptive.partitioning.enable", "", "The key decides where a subject is at home."),
    gone("metadata.max.idle.ms", "", "Topics are asked for every kafka.metadata.interval."),
    gone("interceptor.classes", "", NO_CLASSES),
    gone("metric.reporters", "", METRICS),
    gone("metrics.num.samples", "", METRICS),
    gone("metrics.recording.level", "", METRICS),
    gone("metrics.sample.window.ms", "", METRICS),
    gone("auto.include.jmx.reporter", "", METRICS),
    gone("sasl.login.class", "", NO_CLASSES),
    gone("sasl.login.callback.handler.class", "", NO_CLASSES),
    gone("sasl.client.callback.handler.class", "", NO_CLASSES),
    gone("ssl.protocol", "", "OpenSSL chooses it."),
    gone("ssl.enabled.protocols", "", "OpenSSL chooses it."),
    gone("ssl.provider", "", NO_CLASSES),
    gone("ssl.engine.factory.class", "", NO_CLASSES),
    gone("ssl.keymanager.algorithm", "", NO_CLASSES),
    gone("ssl.trustmanager.algorithm", "", NO_CLASSES),
    gone("ssl.secure.random.implementation", "", NO_CLASSES),
    gone("security.providers", "", NO_CLASSES),
];

/// Of both clients, the same value under librdkafka's name.
pub const RENAMED: &[Renamed] = &[
    Renamed { java: "fetch.max.wait.ms", ours: "fetch.wait.max.ms" },
    Renamed { java: "default.api.timeout.ms", ours: "socket.timeout.ms" },
    Renamed { java: "delivery.timeout.ms", ours: "message.timeout.ms" },
    Renamed { java: "max.request.size", ours: "message.max.bytes" },
    Renamed { java: "max.in.flight.requests.per.connection", ours: "max.in.flight" },
    Renamed { java: "socket.connection.setup.timeout.max.ms", ours: "socket.connection.setup.timeout.ms" },
    Renamed { java: "ssl.keystore.key", ours: "ssl.key.pem" },
    Renamed { java: "ssl.keystore.certificate.chain", ours: "ssl.certificate.pem" },
    Renamed { java: "ssl.truststore.certificates", ours: "ssl.ca.pem" },
];

/// The entry of a name.
pub fn find(table: &[Counterpart], name: &str) -> Option<Counterpart> {
    table.iter().find(|counterpart| counterpart.name == name).copied()
}

/// librdkafka's name of a property.
pub fn name_here(java: &str) -> &str {
    RENAMED.iter().find(|renamed| renamed.java == java).map_or(java, |renamed| renamed.ours)
}
