//! Whole installations, in and out.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::migratorydata::translate;
use super::source::Source;
use super::*;
use crate::config::{Config, EntitlementSettings};
use crate::kafka::TopicChoice;

const SERVER: &str = "\
# main
LicenseKey = abcdef-license
Memory = 8192 MB
Listen = *:8800
Entitlement = Basic
EntitlementAllowToken = a-token-of-enough-bytes
ClusterEngine = kafka
CacheExpireTime = 600
MaxCachedMessagesPerSubject = 5000
LogLevel = INFO
NodeName = push1
SomethingNew = 7
";
const CONSUMER: &str = "\
bootstrap.servers=10.0.0.1:9092,10.0.0.2:9092
topics = vehicles, alerts
group.id=migratorydata
consumers.size=4
recovery.on.start=true
auto.offset.reset=latest
enable.auto.commit=false
key.deserializer=org.apache.kafka.common.serialization.StringDeserializer
fetch.max.wait.ms=50
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
    username=\"bridge\" password=\"hunter2${x}\\\\\"\";
";
const PRODUCER: &str = "\
bootstrap.servers=10.0.0.1:9092,10.0.0.2:9092
partitioner.class=com.example.KeyPartitioner
acks=1
linger.ms=2
buffer.memory=33554432
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"bridge\" password=\"hunter2${x}\\\\\"\";
";

struct Installation(TempDir);

impl Installation {
    fn new(server: &str, consumer: &str, producer: &str) -> Installation {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir_all(folder.path().join("addons/kafka")).unwrap();
        std::fs::create_dir_all(folder.path().join("addons/authorization-jwt")).unwrap();
        let installation = Installation(folder);
        installation.write("migratorydata.conf", server);
        installation.write("addons/kafka/consumer.properties", consumer);
        installation.write("addons/kafka/producer.properties", producer);
        installation
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn import(&self) -> Imported {
        migratorydata(self.path()).unwrap()
    }
}

fn import(server: &str, consumer: &str, producer: &str) -> Imported {
    Installation::new(server, consumer, producer).import()
}

fn config(imported: &Imported) -> Config {
    assert_eq!(imported.lacks, [""; 0], "{}", imported.text);
    Config::parse(&imported.text, "corespan.toml", "").unwrap()
}

#[test]
fn a_whole_installation_becomes_a_configuration_that_is_accepted_and_means_the_same() {
    let imported = import(SERVER, CONSUMER, PRODUCER);
    let config = config(&imported);
    assert_eq!(config.listen.listeners[0].address.to_string(), "0.0.0.0:8800");
    assert_eq!(config.node_name, "push1");
    assert_eq!(config.cache.expire_time.as_secs(), 600);
    assert_eq!(config.cache.records_max, 5_000);
    let EntitlementSettings::Basic { token } = &config.entitlement else { panic!("{:?}", config.entitlement) };
    assert_eq!(&**token, "a-token-of-enough-bytes");
    let TopicChoice::Listed(topics) = &config.kafka.consumer.topics else { panic!("a list") };
    assert_eq!(topics, &["vehicles", "alerts"]);
    assert!(config.kafka.consumer.recovery_on_start);
    assert_eq!(config.kafka.consumer.consumers_size, None);
    assert_eq!(config.kafka.producer.null_key_partition, Some(0));
    for properties in [&config.kafka.consumer.properties, &config.kafka.producer.properties] {
        assert_eq!(properties.get("bootstrap.servers"), Some("10.0.0.1:9092,10.0.0.2:9092"));
        assert_eq!(properties.get("sasl.username"), Some("bridge"));
        assert_eq!(properties.get("sasl.password"), Some("hunter2${x}\""));
        assert_eq!(properties.get("group.id"), None);
    }
    assert_eq!(config.kafka.consumer.properties.get("fetch.wait.max.ms"), Some("50"));
    assert_eq!(config.kafka.producer.properties.get("queue.buffering.max.kbytes"), Some("32768"));
    assert_eq!(config.kafka.producer.properties.get("linger.ms"), Some("2"));
    assert_eq!(config.kafka.producer.properties.get("acks"), None);
}

#[test]
fn every_setting_without_a_counterpart_is_a_comment_that_says_why() {
    let text = import(SERVER, CONSUMER, PRODUCER).text;
    for (setting, why) in [
        ("# Memory = 8192 MB: no counterpart.", "heap"),
        ("# group.id = migratorydata: no counterpart.", "consumer group"),
        ("# auto.offset.reset = latest: no counterpart.", "in silence"),
        ("# enable.auto.commit = false: no counterpart.", "positions belong to the clients"),
        ("# key.deserializer = ", "UTF-8"),
        ("# consumers.size = 4 was", "shards"),
        ("# acks = 1: no counterpart.", "cannot lose it"),
        ("# SomethingNew = 7: no counterpart", "this import knows of"),
        ("# There was no isolation.level.", "read_committed"),
    ] {
        let start = text.find(setting).unwrap_or_else(|| panic!("{setting}: {text}"));
        let comment: Vec<&str> = text[start..].lines().take_while(|line| line.starts_with('#')).collect();
        let comment = comment.join(" ").replace(" # ", " ");
        assert!(comment.contains(why), "{setting}: {comment}");
    }
    assert!(text.contains("# LicenseKey = ********: no counterpart.") && !text.contains("abcdef-license"));
    // What both clients say stands once.
    assert_eq!(text.matches("\"sasl.password\" = ").count(), 1);
    assert!(text.contains("\n[kafka]\n"));
    // The default that was another is told of.
    assert!(import(SERVER, "bootstrap.servers=a:1\ntopics=t", "bootstrap.servers=a:1").text.contains("whose default was 1"));
}

#[test]
fn what_is_missing_is_one_line_each_with_what_to_add() {
    let lacks = import("Entitlement = Custom\nListen = push.example.com:443, *:8800", "", "").lacks;
    for part in [
        "entitlement.type: Entitlement = custom",
        "listen.address: Listen = push",
        "more addresses, *:8800",
        "kafka.consumer.topics",
        "bootstrap.servers",
    ] {
        let of_it: Vec<_> = lacks.iter().filter(|line| line.contains(part)).collect();
        assert!(!of_it.is_empty() && of_it.iter().all(|line| !line.contains('\n')), "{part}: {lacks:?}");
    }
    let short = import("EntitlementAllowToken = short", "bootstrap.servers=a:1\ntopics=t", "bootstrap.servers=a:1").lacks;
    assert!(short.len() == 1 && short[0].contains("entitlement.token") && !short[0].contains("\"short\""), "{short:?}");
}

#[test]
fn a_regular_expression_that_rust_lacks_is_refused_by_its_construct() {
    let with =
        |pattern: &str| import("Entitlement=None", &format!("bootstrap.servers=a:1\ntopics.regex={pattern}"), "bootstrap.servers=a:1");
    let refused = with("(?!test)vehicles.*");
    assert!(refused.lacks[0].contains("lookahead, (?!") && refused.lacks[0].contains("list the topics"), "{:?}", refused.lacks);
    assert!(!refused.text.contains("\n\"topics.regex\""), "{}", refused.text);
    let taken = with("vehicles\\\\..*");
    let TopicChoice::Matching(regex) = &config(&taken).kafka.consumer.topics else { panic!("a regex") };
    assert!(regex.is_match("vehicles.eu") && !regex.is_match("vehicles_eu"));
}

#[test]
fn nobody_gets_in_who_did_not_before() {
    let rest = ("bootstrap.servers=a:1\ntopics=t", "bootstrap.servers=a:1");
    // Open stays open, and says so; what clients may publish to is left to say.
    let open = import("Entitlement = None\nListen=*:8800", rest.0, rest.1);
    assert!(config(&open).insecure && open.text.contains("as before") && config(&open).publish.topics.allows_nothing());
    // What cannot be carried over is closed.
    for server in
        ["Entitlement = Custom\nListen=*:8800", "Entitlement = Portal\nListen=*:8800", "Listen=*:8800", "Entitlement=JWT\nListen=*:8800"]
    {
        let closed = import(server, rest.0, rest.1);
        assert!(!closed.lacks.is_empty() && !closed.text.contains("\ninsecure = true"), "{server}: {}", closed.text);
        Config::parse(&closed.text, "corespan.toml", "").expect_err(server);
    }
}

#[test]
fn tokens_keep_their_key() {
    let installation = Installation::new("Entitlement=JWT", "bootstrap.servers=a:1\ntopics=t", "bootstrap.servers=a:1");
    let tokens = "addons/authorization-jwt/configuration.properties";
    // The text of 40 bytes.
    installation.write(
        tokens,
        "signature.type=hmac\nsignature.hmac.secret=YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU2Nzg5YWJjZA==\nrenewTokenBeforeSeconds=60\n",
    );
    let text = installation.import();
    assert!(matches!(config(&text).entitlement, EntitlementSettings::Jwt(_)), "{}", text.text);
    assert!(text.text.contains("jwt.hmac.secret = \"abcdefghijklmnopqrstuvwxyz0123456789abcd\""));
    assert!(text.text.contains("# renewTokenBeforeSeconds: no counterpart."));
    // Bytes that are no text: a key set, with what to write into it.
    installation.write(tokens, "signature.hmac.secret=He39zDQW7RdkOcxe3L9qvoSQ/ef40BG6Ro4hrHDjE+U=\n");
    let bytes = installation.import();
    assert!(bytes.text.contains("{\"keys\":[{\"kty\":\"oct\",\"k\":\"He39zDQW7RdkOcxe3L9qvoSQ_ef40BG6Ro4hrHDjE-U\"}]}"), "{}", bytes.text);
    assert!(bytes.lacks.iter().any(|line| line.contains("/etc/corespan/jwks.json")), "{:?}", bytes.lacks);
}

#[test]
fn stores_of_java_become_pem_and_pkcs12_with_the_command_that_makes_them() {
    let consumer = "bootstrap.servers=a:1\ntopics=t\nsecurity.protocol=SSL\nssl.truststore.location=/etc/my certs/trust.jks\nssl.truststore.password=hunter2\n\
        ssl.keystore.location=/etc/certs/key.jks\nssl.keystore.password=hunter3\nssl.endpoint.identification.algorithm=\n";
    let imported = import("", consumer, "bootstrap.servers=a:1");
    let text = &imported.text;
    assert!(
        text.contains("keytool -list -rfc -keystore '/etc/my certs/trust.jks'")
            && text.contains("\"ssl.ca.location\" = \"/etc/corespan/kafka-ca.pem\"")
    );
    assert!(text.contains("-importkeystore") && text.contains("\"ssl.keystore.location\" = \"/etc/corespan/kafka-client.p12\""), "{text}");
    assert!(!text.contains("hunter2"), "the certificates need no password");
    assert!(text.contains("\"ssl.endpoint.identification.algorithm\" = \"none\""));
    // Until they are made a node would not start.
    assert!(imported.lacks.iter().any(|line| line.contains("/etc/corespan/kafka-")), "{:?}", imported.lacks);
}

#[test]
fn other_logins_are_named_and_no_secret_is_in_a_message() {
    let consumer = "bootstrap.servers=a:1\ntopics=t\nsecurity.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
        sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientSecret=\"hunter2\";\nsasl.oauthbearer.token.endpoint.url=https://x\n\
        ssl.key.password=hunter3\nssl.nonsense.password=hunter4\n";
    let imported = import("KeyStorePassword = hunter5\nEntitlement=None", consumer, "bootstrap.servers=a:1");
    assert!(
        imported.lacks.iter().any(|line| line.contains("OAuthBearerLoginModule") && line.contains("SCRAM-SHA-512")),
        "{:?}",
        imported.lacks
    );
    assert!(imported.lacks.iter().all(|line| !line.contains("hunter")), "{:?}", imported.lacks);
    let in_file: Vec<_> = imported.text.lines().filter(|line| line.contains("hunter")).collect();
    assert_eq!(in_file, ["\"ssl.key.password\" = \"hunter3\""]);
}

#[test]
fn files_that_cannot_be_read_and_lines_that_are_not_understood_are_one_line_each() {
    let installation = Installation::new("Good = 1\nnonsense\n", "a=\\u12", "");
    std::fs::remove_file(installation.path().join("addons/kafka/producer.properties")).unwrap();
    let lines = migratorydata(installation.path()).unwrap_err().lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("migratorydata.conf:2: ") && lines[1].contains("consumer.properties:1: "), "{lines:?}");
    assert!(lines[2].contains("cannot read") && lines[2].contains("producer.properties"), "{lines:?}");
}

#[test]
fn the_folder_that_older_releases_had_is_found() {
    let installation = Installation::new("", "bootstrap.servers=a:1\ntopics=t", "bootstrap.servers=a:1");
    std::fs::rename(installation.path().join("addons"), installation.path().join("integrations")).unwrap();
    assert!(installation.import().text.contains("topics\" = [\"t\"]"));
}

#[test]
fn of_a_setting_that_is_given_twice_the_last_counts() {
    let twice =
        import("NodeName = a\nNodeName = b\nEntitlement=None", "topics=x\nbootstrap.servers=a:1\ntopics=y", "bootstrap.servers=a:1");
    assert_eq!(config(&twice).node_name, "b");
    assert!(twice.text.contains("[\"y\"]") && !twice.text.contains("[\"x\"]"));
}

#[test]
fn an_output_is_its_owners_alone_and_never_replaced_unasked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("corespan.toml");
    let mode = || std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    write("first, and longer", Some(&file), false).unwrap();
    assert_eq!(mode(), 0o600);
    let refused = write("second", Some(&file), false).unwrap_err().lines();
    assert!(refused.len() == 1 && refused[0].contains("--force"), "{refused:?}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    write("second", Some(&file), true).unwrap();
    assert_eq!((std::fs::read_to_string(&file).unwrap().as_str(), mode()), ("second", 0o640));
}

#[test]
fn nothing_at_all_is_an_honest_list_of_what_to_add() {
    let imported = translate(&Source::default(), "nowhere");
    assert!(imported.lacks.len() >= 3 && imported.text.contains("# TO DO: "), "{:?}", imported.lacks);
}
