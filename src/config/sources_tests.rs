//! Values from the environment and from files: taken wherever a value may stand, and shown nowhere.

use std::env::VarError;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::cores::ShardChoice;
use crate::kafka::TopicChoice;

const SECRET: &str = "hunter2";

fn variable(name: &str) -> Result<String, VarError> {
    let value = match name {
        "KAFKA_SECRET" => SECRET,
        "SERVERS" => "10.0.0.1:9092,10.0.0.2:9092",
        "HOST" => "10.0.0.3",
        "TOPICS" => "vehicles, alerts",
        "NUMBER" => "7",
        "SIZE" => "64MiB",
        "TIME" => "90s",
        "YES" => "true",
        "LEVEL" => "debug",
        "ORIGINS" => "https://a.example,https://b.example",
        "CPUS" => "2,3",
        "ADDRESS" => "0.0.0.0:8800",
        "NESTED" => "${HOST}",
        "NUL" => "a\0b",
        "BYTES" => return Err(VarError::NotUnicode(OsString::from_vec(vec![0xff]))),
        _ => return Err(VarError::NotPresent),
    };
    Ok(value.to_owned())
}

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse_in(text, "f.toml", "", &variable).map_err(|error| error.lines())
}

/// The least configuration, with more for the consumer and at the top.
fn with(top: &str, consumer: &str) -> String {
    format!("{top}\n[kafka]\nbootstrap.servers = 'a:1'\n[kafka.consumer]\ntopics = ['vehicles']\n{consumer}\n")
}

fn complaint(text: &str) -> String {
    let lines = parse(text).expect_err(text);
    assert_eq!(lines.len(), 1, "{text}: {lines:#?}");
    lines[0].clone()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn variables_of_the_environment_stand_in_any_value() {
    let config = parse(
        "cache.bytes.max = '${SIZE}'\nslow.client.timeout = '${TIME}'\ncache.records.max = '${NUMBER}'\ndrain.seconds = '${NUMBER}'\nlog.level = '${LEVEL}'\n\
         [listen]\nallowed.origins = '${ORIGINS}'\n[cores]\nshards = '${CPUS}'\nhousekeeping = '${CPUS}'\n[publish]\ntopics = '${TOPICS}'\n\
         [kafka]\nbootstrap.servers = ['${SERVERS}', '${HOST}:9092']\nsasl.password = '${KAFKA_SECRET}'\nsasl.username = 'a-${HOST}-b'\n\
         [kafka.consumer]\ntopics = '${TOPICS}'\nrecovery.on.start = '${YES}'\nfetch.wait.max.ms = '${NUMBER}'\n\
         [kafka.producer]\nnull.key.partition = '${NUMBER}'\n",
    )
    .unwrap();
    assert_eq!((config.cache.bytes_max, config.cache.records_max), (64 << 20, 7));
    assert_eq!((config.slow_client_timeout, config.drain_time), (Duration::from_secs(90), Duration::from_secs(7)));
    assert_eq!(config.log.level, tracing::Level::DEBUG);
    assert_eq!(config.listen.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.cores.shards, ShardChoice::Cpus(vec![2, 3]));
    assert!(config.publish.topics.allows("alerts"));
    let kafka = &config.kafka;
    assert!(matches!(&kafka.consumer.topics, TopicChoice::Listed(topics) if topics == &["vehicles", "alerts"]));
    assert!(kafka.consumer.recovery_on_start && kafka.producer.null_key_partition == Some(7));
    let properties = &kafka.consumer.properties;
    assert_eq!(properties.get("bootstrap.servers"), Some("10.0.0.1:9092,10.0.0.2:9092,10.0.0.3:9092"));
    assert_eq!((properties.get("sasl.username"), properties.get("fetch.wait.max.ms")), (Some("a-10.0.0.3-b"), Some("7")));
    assert_eq!((properties.get("sasl.password"), kafka.producer.properties.get("sasl.password")), (Some(SECRET), Some(SECRET)));
    let one = parse("cores.shards = '${NUMBER}'\nkafka.bootstrap.servers = 'a:1'\nkafka.consumer.topics = ['a', '${HOST}']").unwrap();
    assert_eq!(one.cores.shards, ShardChoice::Count(7));
    assert!(matches!(&one.kafka.consumer.topics, TopicChoice::Listed(topics) if topics == &["a", "10.0.0.3"]));
}

#[test]
fn two_dollars_are_the_characters_themselves_and_a_variables_value_is_not_expanded_again() {
    let name = |value: &str| parse(&with(&format!("node.name = '{value}'"), "")).unwrap().node_name;
    assert_eq!(name("$${HOST}"), "${HOST}");
    assert_eq!(name("$$${HOST}"), "$${HOST}");
    assert_eq!(name("a$b}{$"), "a$b}{$");
    assert_eq!(name("${NESTED}"), "${HOST}");
    let config = parse(&with("node.name = 'x$${HOST}'", "")).unwrap();
    let name = config.effective.iter().find(|one| one.key == "node.name").unwrap();
    assert_eq!(name.value, "\"x$${HOST}\"", "as it is written");
}

#[test]
fn keys_and_comments_are_left_alone() {
    parse(&with("# ${MISSING}\nnode.name = 'x' # ${MISSING}", "")).unwrap();
    assert!(complaint(&with("'${HOST}' = 1", "")).contains("unknown key ${HOST}"));
}

#[test]
fn missing_variables_are_all_told_by_key_and_name_and_nothing_else_is() {
    let text = "node.name = '${NO_NAME}'\n[cache]\nbytes.max = '${NO_SIZE}'\n[kafka]\nbootstrap.servers = '${NO_HOST}:${NO_PORT}'\n\
        [kafka.consumer]\ntopics = ['${NO_TOPIC}']\nsasl.password = 'hunter2${BYTES}'\nclient.id = '${not closed'\n";
    let lines = parse(text).unwrap_err();
    let starts = [
        "f.toml:1: node.name asks for ${NO_NAME}, and the environment has no NO_NAME; set it",
        "f.toml:3: cache.bytes.max asks for ${NO_SIZE}",
        "f.toml:5: kafka.bootstrap.servers asks for ${NO_HOST}",
        "f.toml:5: kafka.bootstrap.servers asks for ${NO_PORT}",
        "f.toml:7: kafka.consumer.topics asks for ${NO_TOPIC}",
        "f.toml:8: kafka.consumer.sasl.password asks for ${BYTES}, whose value is not UTF-8 text",
        "f.toml:9: kafka.consumer.client.id has a ${ without a variable's name",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start) && !line.contains(SECRET), "{line}");
    }
    for malformed in ["${}", "${1A}", "${A-B}", "${", "${A B}"] {
        assert!(complaint(&with(&format!("node.name = '{malformed}'"), "")).contains("$${ for the characters themselves"), "{malformed}");
    }
}

#[test]
fn what_is_wrong_with_a_value_from_elsewhere_is_told_without_it() {
    let folder = Folder::new();
    let file = folder.write("value", SECRET.as_bytes(), 0o600);
    let file = file.display();
    for (text, start) in [
        (
            with("cache.bytes.max = '${KAFKA_SECRET}'", ""),
            "f.toml:1: cache.bytes.max = \"${KAFKA_SECRET}\" is not allowed; give a whole".to_owned(),
        ),
        (with("log.level = '${KAFKA_SECRET}'", ""), "f.toml:1: log.level = \"${KAFKA_SECRET}\" is not allowed; allowed are".to_owned()),
        (
            with("listen.admin = '${KAFKA_SECRET}'", ""),
            "f.toml:1: listen.admin = \"${KAFKA_SECRET}\" is not allowed; give an IP".to_owned(),
        ),
        (with("listen.allowed.origins = ['${KAFKA_SECRET}']", ""), "f.toml:1: listen.allowed.origins = [\"${KAFKA_SECRET}\"]".to_owned()),
        (with("insecure = '${KAFKA_SECRET}'", ""), "f.toml:1: insecure = \"${KAFKA_SECRET}\" is not allowed; give true".to_owned()),
        (
            with("", "fetch.wait.max.ms = '${KAFKA_SECRET}'"),
            "f.toml:6: kafka.consumer.fetch.wait.max.ms = \"${KAFKA_SECRET}\": ".to_owned(),
        ),
        (with("", "client.id = '${NUL}'"), "f.toml:6: kafka.consumer.client.id = \"${NUL}\": its value (which is not shown)".to_owned()),
        (
            with("", "auto.offset.reset = '${KAFKA_SECRET}'"),
            "f.toml:6: kafka.consumer.auto.offset.reset = \"${KAFKA_SECRET}\": the".to_owned(),
        ),
        (
            with("", "sasl.pasword = '${KAFKA_SECRET}'"),
            "f.toml:6: kafka.consumer.sasl.pasword = \"${KAFKA_SECRET}\": unknown property; did".to_owned(),
        ),
        (
            with("", "sasl.pasword = 'hunter2${HOST}'"),
            "f.toml:6: kafka.consumer.sasl.pasword = \"********\": unknown property; did".to_owned(),
        ),
        (
            with(&format!("cache.bytes.max.file = '{file}'"), ""),
            format!("f.toml:1: cache.bytes.max.file = \"{file}\" is not allowed; give"),
        ),
        (
            with("", &format!("fetch.wait.max.ms.file = '{file}'")),
            format!("f.toml:6: kafka.consumer.fetch.wait.max.ms.file = \"{file}\": "),
        ),
        (with("listen.address = '${ADDRESS}'", ""), "f.toml:1: listen.address = \"${ADDRESS}\" lets others in".to_owned()),
        (with("", "ssl.ca.location = '/${KAFKA_SECRET}'\nsecurity.protocol = 'ssl'"), "f.toml: [kafka.consumer]: ".to_owned()),
    ] {
        let line = complaint(&text);
        assert!(line.starts_with(&start), "{line}\nshould start\n{start}");
        for secret in [SECRET, "0.0.0.0:8800\" lets"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_file_gives_the_value_of_any_key_without_its_last_lines_end() {
    let folder = Folder::new();
    let write = |name: &str, text: &str| folder.write(name, text.as_bytes(), 0o600).display().to_string();
    let (password, size, level) = (write("password", "hunter2 \n"), write("size", "64MiB\r\n"), write("level", "warn"));
    let (topics, lines) = (write("topics", "a,b\n"), write("lines", "x\n\n"));
    let config = parse(&format!(
        "cache.bytes.max.file = '{size}'\n'log.level.file' = '{level}'\n[kafka]\n'bootstrap.servers' = 'a:1'\n'sasl.password.file' = '{password}'\n\
         client.id = {{ file = '{lines}' }}\n[kafka.consumer]\ntopics.file = '{topics}'\n"
    ))
    .unwrap();
    assert_eq!((config.cache.bytes_max, config.log.level), (64 << 20, tracing::Level::WARN));
    assert!(matches!(&config.kafka.consumer.topics, TopicChoice::Listed(topics) if topics == &["a", "b"]));
    assert_eq!(config.kafka.producer.properties.get("sasl.password"), Some("hunter2 "));
    assert_eq!(config.kafka.consumer.properties.get("client.id"), Some("x\n"));
    assert!(config.notes().iter().all(|note| !note.contains("mode")));
}

#[test]
fn a_file_that_cannot_be_had_is_one_line_with_key_path_and_remedy() {
    let folder = Folder::new();
    let write = |name: &str, bytes: &[u8]| folder.write(name, bytes, 0o600).display().to_string();
    let (empty, line) = (write("empty", b""), write("line", b"\n"));
    let (large, largest) = (write("large", &vec![b'x'; (1 << 20) + 1]), write("largest", &vec![b'x'; 1 << 20]));
    let (binary, folder_itself) = (write("binary", b"\xff\xfe"), folder.0.path().display().to_string());
    let pipe = folder.0.path().join("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, part) in [
        (
            "/nowhere/password",
            "it cannot be read: No such file or directory (os error 2); make it, with the value in it, or correct the path",
        ),
        (&empty, "it is empty; write the value into it"),
        (&line, "it is empty; write the value into it"),
        (&large, "it has more than 1048576 bytes; is it the right file?"),
        (&binary, "it is not UTF-8 text; write the value into it as text"),
        (&folder_itself, "it is no regular file; give the path of a file that holds the value alone"),
        (&pipe, "it is no regular file; give the path of a file that holds the value alone"),
    ] {
        let text = with("", &format!("'sasl.password.file' = '{path}'"));
        assert_eq!(complaint(&text), format!("f.toml:6: kafka.consumer.sasl.password.file = \"{path}\": {part}"));
    }
    parse(&with("", &format!("'sasl.password.file' = '{largest}'"))).unwrap();
    assert!(complaint(&with("", "'sasl.password.file' = 5")).ends_with("file = 5 is not allowed; give the path of a file in quotes"));
    // It is not called missing as well.
    assert!(complaint("kafka.bootstrap.servers.file = '/nowhere'\nkafka.consumer.topics = 'a'").contains("/nowhere"));
    assert!(complaint("kafka.bootstrap.servers = 'a:1'\nkafka.consumer.topics.file = '/nowhere'").contains("/nowhere"));
}

#[test]
fn a_key_and_its_file_are_not_both_given() {
    let line = complaint(&with("", "'sasl.password' = 'hunter2'\n'sasl.password.file' = '/nowhere'"));
    assert_eq!(
        line,
        "f.toml:7: kafka.consumer.sasl.password (line 6) and kafka.consumer.sasl.password.file are both given; remove one of them"
    );
}

#[test]
fn a_files_path_may_hold_a_variable() {
    let folder = Folder::new();
    folder.write("password", b"other", 0o600);
    let path = folder.0.path().display().to_string();
    let variable = |name: &str| if name == "CREDENTIALS_DIRECTORY" { Ok(path.clone()) } else { Err(VarError::NotPresent) };
    let text = with("", "'sasl.password.file' = '${CREDENTIALS_DIRECTORY}/password'");
    let config = Config::parse_in(&text, "f.toml", "", &variable).unwrap();
    assert_eq!(config.kafka.consumer.properties.get("sasl.password"), Some("other"));
    let error = Config::parse_in(&text.replace("/password", "/none"), "f.toml", "", &variable).unwrap_err().to_string();
    assert!(error.contains("sasl.password.file = \"${CREDENTIALS_DIRECTORY}/none\": it cannot be read"), "{error}");
}

#[test]
fn a_secrets_file_that_everybody_can_read_is_noted() {
    let folder = Folder::new();
    let path = folder.write("password", SECRET.as_bytes(), 0o644).display().to_string();
    let notes = parse(&with(
        &format!("log.level.file = '{}'", folder.write("level", b"info", 0o644).display()),
        &format!("'sasl.password.file' = '{path}'"),
    ))
    .unwrap()
    .notes();
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].starts_with(&format!("kafka.consumer.sasl.password.file = \"{path}\" has mode 0644, everybody")), "{}", notes[0]);
}

#[test]
fn no_value_from_elsewhere_shows_in_what_is_printed() {
    let folder = Folder::new();
    let path = folder.write("value", SECRET.as_bytes(), 0o600).display().to_string();
    let config = parse(&format!(
        "node.name = 'x'\n[kafka]\nbootstrap.servers = 'a:1'\nclient.id = '${{KAFKA_SECRET}}'\nsasl.username.file = '{path}'\nsasl.password = 'a${{KAFKA_SECRET}}'\n\
         [kafka.consumer]\ntopics = ['vehicles']\nssl.key.password.file = '{path}'\ngroup.id = '${{KAFKA_SECRET}}'\n"
    ))
    .unwrap();
    let value = |key: &str| config.effective.iter().find(|one| one.key == key).map(|one| (one.value.as_str(), one.is_file)).unwrap();
    let quoted = format!("{path:?}");
    assert_eq!(value("kafka.consumer.client.id"), ("\"${KAFKA_SECRET}\"", false));
    assert_eq!(value("kafka.producer.sasl.username"), (quoted.as_str(), true));
    assert_eq!(value("kafka.consumer.ssl.key.password"), (quoted.as_str(), true));
    assert_eq!(value("kafka.producer.sasl.password"), ("\"********\"", false));
    let debug = format!("{config:?}");
    assert!(!debug.contains(SECRET), "{debug}");
}

#[test]
fn a_value_that_changes_in_its_file_is_noticed_and_not_told() {
    let folder = Folder::new();
    let of = |password: &str, level: &str| {
        let password = folder.write("password", password.as_bytes(), 0o600).display().to_string();
        let level = folder.write("level", level.as_bytes(), 0o600).display().to_string();
        parse(&with(&format!("log.level.file = '{level}'"), &format!("'sasl.password.file' = '{password}'\n"))).unwrap()
    };
    let before = of("hunter2", "info");
    assert_eq!(before.changes(&of("hunter2\n", "info")), Changes::default());
    let after = of("hunter3", "warn");
    let changes = before.changes(&after);
    assert_eq!(changes.live, ["kafka.consumer.\"sasl.password\" (a secret) has changed", "log.level (a secret) has changed"]);
    let now = before.with_live_of(&after);
    assert_eq!((now.log.level, now.changes(&after).live), (tracing::Level::WARN, Vec::new()));
    // Where it comes from is no secret.
    let literal = parse(&with("log.level = 'info'", "'sasl.password' = 'hunter2'")).unwrap();
    let changes = before.changes(&literal);
    assert!(changes.live.iter().any(|line| line.starts_with("log.level = \"info\", was log.level.file = ")), "{changes:?}");
    assert!(!format!("{changes:?}").contains(SECRET));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[$A-Z{}_a ]{0,40}") {
        let _ = parse(&with(&format!("node.name = '{text}'\nlog.level.file = '{text}'"), &format!("sasl.password = '{text}'")));
    }
}

#[test]
fn a_property_of_librdkafkas_that_ends_in_file_is_a_path_and_not_read() {
    let kafka = "[kafka]\n\"bootstrap.servers\" = \"h:1\"\n\"sasl.oauthbearer.assertion.file\" = \"/nowhere/assertion\"\n[kafka.consumer]\ntopics = [\"t\"]\n";
    let config = Config::parse(kafka, "f", "").expect("it is right");
    assert_eq!(config.kafka.consumer.properties.get("sasl.oauthbearer.assertion.file"), Some("/nowhere/assertion"));
}
