//! `[kafka]` is for both clients, and each client's own table replaces what it says.

use super::*;
use crate::kafka::Properties;

fn parse_with(text: &str, options: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, "f.toml", options).map_err(|error| error.lines())
}

/// Both clients' properties.
fn clients(shared: &str, consumer: &str, producer: &str, options: &str) -> [Properties; 2] {
    let text = format!("[kafka]\n{shared}\n[kafka.consumer]\ntopics = ['vehicles']\n{consumer}\n[kafka.producer]\n{producer}\n");
    let kafka = parse_with(&text, options).unwrap_or_else(|lines| panic!("{lines:#?}")).kafka;
    [kafka.consumer.properties, kafka.producer.properties]
}

fn complaint(shared: &str) -> String {
    let text = format!("[kafka]\n{shared}\nbootstrap.servers = 'a:1'\n[kafka.consumer]\ntopics = ['vehicles']\n");
    let lines = parse_with(&text, "").expect_err(shared);
    assert_eq!(lines.len(), 1, "{shared}: {lines:#?}");
    lines[0].clone()
}

#[test]
fn the_shared_block_is_for_both_clients_and_their_own_replaces_it() {
    let shared = "bootstrap.servers = 'a:1'\nclient.id = 'both'\nmetadata.interval = '3s'";
    let [consumer, producer] = clients(shared, "", "client.id = 'mine'", "");
    assert_eq!((consumer.get("bootstrap.servers"), producer.get("bootstrap.servers")), (Some("a:1"), Some("a:1")));
    assert_eq!((consumer.get("client.id"), producer.get("client.id")), (Some("both"), Some("mine")));
    assert_eq!(consumer.get("metadata.interval"), None);
    // Without tables of their own.
    let config = parse_with("kafka.bootstrap.servers = 'a:1'\nkafka.consumer.topics = 'vehicles'", "").unwrap();
    assert_eq!(config.kafka.producer.properties.get("bootstrap.servers"), Some("a:1"));
}

#[test]
fn what_only_one_client_knows_reaches_only_that_one() {
    let [consumer, producer] = clients("bootstrap.servers = 'a:1'\nlinger.ms = 5\nfetch.wait.max.ms = 7", "", "", "");
    assert_eq!((consumer.get("linger.ms"), producer.get("linger.ms")), (None, Some("5")));
    assert_eq!((consumer.get("fetch.wait.max.ms"), producer.get("fetch.wait.max.ms")), (Some("7"), None));
}

#[test]
fn a_clients_own_and_the_environment_win_under_whatever_name() {
    let shared = "metadata.broker.list = 'a:1'\nsasl.mechanism = 'PLAIN'\nlinger.ms = 5";
    let [consumer, producer] =
        clients(shared, "bootstrap.servers = 'b:1'\nsasl.mechanisms = 'SCRAM-SHA-512'", "queue.buffering.max.ms = 6", "");
    assert_eq!((consumer.get("bootstrap.servers"), consumer.get("metadata.broker.list")), (Some("b:1"), None));
    assert_eq!((consumer.get("sasl.mechanisms"), consumer.get("sasl.mechanism")), (Some("SCRAM-SHA-512"), None));
    assert_eq!((producer.get("metadata.broker.list"), producer.get("linger.ms")), (Some("a:1"), None));
    for client in clients(shared, "", "", "-Dbootstrap.servers=c:1") {
        assert_eq!((client.get("bootstrap.servers"), client.get("metadata.broker.list")), (Some("c:1"), None));
    }
}

#[test]
fn what_is_wrong_in_the_shared_block_is_said_once() {
    for (line, expected) in [
        ("fetch.wait.max.ms = 'soon'", "f.toml:2: kafka.fetch.wait.max.ms = \"soon\": "),
        ("security.protocol = 'TLS'", "f.toml:2: kafka.security.protocol = \"TLS\": "),
        ("allow.auto.create.topics = true", "f.toml:2: kafka.allow.auto.create.topics = \"true\": the bridge decides it"),
        ("security.protocl = 'SSL'", "f.toml:2: kafka.security.protocl = \"SSL\": unknown property; did you mean security.protocol?"),
        ("sasl.pasword = 'hunter2'", "f.toml:2: kafka.sasl.pasword = \"********\": unknown property; did you mean sasl.password?"),
        ("metadata.intervall = '3s'", "f.toml:2: kafka.metadata.intervall = \"3s\": unknown property; did you mean metadata.interval?"),
        ("max.poll.records = 1", "f.toml:2: kafka.max.poll.records = \"1\": it is a property of the Java client"),
        ("topics = ['a']", "f.toml:2: kafka.topics: it belongs to [kafka.consumer]; move it there"),
        ("producers.size = 2", "f.toml:2: kafka.producers.size: it belongs to [kafka.producer]; move it there"),
        ("client.id = 2020-01-01", "f.toml:2: kafka.client.id = 2020-01-01 is not allowed; give text in quotes"),
        ("metadata.broker.list = 'b:1'", "f.toml:2: kafka.metadata.broker.list = \"b:1\": it is another name of bootstrap.servers"),
        ("security.protocol = 'ssl'\nssl.ca.location = '/nowhere/ca.pem'", "f.toml: [kafka]: "),
    ] {
        let said = complaint(line);
        assert!(said.starts_with(expected) && !said.contains("hunter2"), "{said}\nshould start\n{expected}");
    }
}

#[test]
fn a_misspelt_table_is_named_by_its_header() {
    let text = "[kafka.consumr]\ntopics = ['a']\n[kafka]\nbootstrap.servers = 'a:1'\n[kafka.consumer]\ntopics = ['a']\n";
    let lines = parse_with(text, "").unwrap_err();
    assert_eq!(lines, ["f.toml:1: unknown table [kafka.consumr]; did you mean kafka.consumer?"]);
    let config =
        parse_with("[kafka.sasl]\nusername = 'u'\n[kafka.consumer]\ntopics = 'a'\n[kafka]\nbootstrap.servers = 'a:1'", "").unwrap();
    assert_eq!(config.kafka.producer.properties.get("sasl.username"), Some("u"));
}
