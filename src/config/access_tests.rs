//! Ports, TLS and entitlement: what may stand in the file, and what is said of what may not.

use std::fs;

use super::*;

const KAFKA: &str = "[kafka]\nbootstrap.servers = 'h:1'\n[kafka.consumer]\ntopics = ['t']\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&format!("{text}\n{KAFKA}"), "f.toml", "")
}

fn problems(text: &str) -> Vec<String> {
    parse(text).map_or_else(|error| error.lines(), |_| Vec::new())
}

/// A certificate and its key, as files.
fn pair(folder: &std::path::Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
    let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    fs::write(path("pem"), made.cert.pem()).unwrap();
    fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    (path("pem"), path("key"))
}

#[test]
fn there_may_be_several_ports_each_with_tls_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (pair(folder.path(), "one"), pair(folder.path(), "two"));
    let text = format!(
        "[[listen]]\naddress = '127.0.0.1:1'\nadmin = '127.0.0.1:9'\n[[listen]]\naddress = '127.0.0.1:2'\ntls.cert = '{}'\ntls.key = '{}'\nidle.timeout = 5\n\
         [[listen]]\naddress = '127.0.0.1:3'\ntls = {{cert = ['{}', '{}'], key = ['{}', '{}'], client.ca = '{}', client.required = true}}",
        one.0, one.1, one.0, two.0, one.1, two.1, two.0
    );
    let config = parse(&text).unwrap();
    let ports: Vec<u16> = config.listen.listeners.iter().map(|listener| listener.address.port()).collect();
    assert_eq!(ports, [1, 2, 3]);
    let tls: Vec<usize> =
        config.listen.listeners.iter().map(|listener| listener.tls.as_ref().map_or(0, |tls| tls.certificates.len())).collect();
    assert_eq!(tls, [0, 1, 2]);
    assert!(config.listen.listeners[2].tls.as_ref().is_some_and(|tls| tls.client_required && tls.client_ca.is_some()));
    assert_eq!((config.listen.admin.port(), config.listen.idle_timeout.as_secs()), (9, 5), "what is the node's may stand in any block");
    let open = config.open_to().join("\n");
    assert!(open.contains("127.0.0.1:1, 127.0.0.1:2 (TLS), 127.0.0.1:3 (TLS, with a client certificate)"), "{open}");
}

#[test]
fn a_port_that_cannot_be_is_told_by_its_number() {
    for (text, problem) in [
        ("[[listen]]\n[[listen]]\ntls.client.ca = 'x'", "f.toml:3: listen.2.address is missing: each [[listen]] has an address of its own"),
        (
            "[[listen]]\naddress = '127.0.0.1:1'\n[[listen]]\naddress = '127.0.0.1:1'",
            "listen.2.address = \"127.0.0.1:1\" is taken by listen.address = \"127.0.0.1:1\"; give one of them another port",
        ),
        ("[[listen]]\n[[listen]]\naddress = '0.0.0.0:1'", "listen.2.address = \"0.0.0.0:1\" lets others in"),
        ("[listen]\ntls.cert = '/nowhere.pem'", "listen.tls.cert names 1 files and listen.tls.key 0"),
        (
            "[listen]\ntls.cert = '/nowhere.pem'\ntls.key = '/nowhere.key'",
            "listen.tls cannot be used: /nowhere.pem: there is no such file; make it, or correct the path",
        ),
        ("[listen]\ntls.client.required = true", "listen.tls.client.ca needs listen.tls.cert and listen.tls.key"),
        ("[[listen]]\nadress = '127.0.0.1:1'", "unknown key listen.adress; did you mean listen.address?"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|line| line.contains(problem)), "{text}\n{found:#?}");
    }
}

#[test]
fn entitlement_is_refused_with_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    fs::write(&short, "short").unwrap();
    let short = short.display();
    for (text, problem) in [
        ("entitlement.type = 'basic'".to_owned(), "entitlement.token is missing or shorter than 16 bytes"),
        ("entitlement.type = 'basic'\nentitlement.token = 'short'".to_owned(), "entitlement.token is missing or shorter than 16 bytes"),
        ("entitlement.token = '0123456789abcdef'".to_owned(), "entitlement.token is given although entitlement.type is not \"basic\""),
        ("entitlement.type = 'jwt'".to_owned(), "entitlement.type = \"jwt\" needs a key: give entitlement.jwt.hmac.secret"),
        (format!("entitlement.type = 'jwt'\nentitlement.jwt.hmac.path = '{short}'"), "entitlement.jwt.hmac.path cannot be used: "),
        (
            "entitlement.type = 'jwt'\nentitlement.jwt.hmac.secret = 'short'".to_owned(),
            "entitlement.jwt.hmac.secret cannot be used: a secret has 32 bytes or more",
        ),
        ("entitlement.revoked.path = '/x'".to_owned(), "although entitlement.type is not \"jwt\""),
        (
            format!("entitlement.type = 'jwt'\nentitlement.jwt.hmac.secret = '{}'\nentitlement.revoked.path = '/nowhere'", "s".repeat(32)),
            "entitlement.revoked.path cannot be used: /nowhere: there is no such file; make it, or correct the path",
        ),
        ("entitlement.type = 'token'".to_owned(), "allowed are \"none\", \"basic\", \"jwt\""),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|line| line.contains(problem)), "{text}\n{found:#?}");
        assert!(!found.iter().any(|line| line.contains("sss") || line.contains("'short'")), "no secret is shown: {found:?}");
    }
}

#[test]
fn a_type_of_entitlement_opens_other_addresses_and_decides_what_may_be_published_to() {
    let none = parse("insecure = true\nlisten.address = '0.0.0.0:1'").unwrap();
    assert!(none.publish.topics.allows_nothing(), "nobody is known, so nobody writes");
    let basic = parse("listen.address = '0.0.0.0:1'\nentitlement.type = 'basic'\nentitlement.token = '0123456789abcdef'").unwrap();
    assert!(basic.publish.topics.allows("t") && !basic.publish.topics.allows("elsewhere"));
    let jwt = |more: &str| {
        let secret = "s".repeat(32);
        parse(&format!("{more}\nlisten.address = '0.0.0.0:1'\nentitlement.type = 'jwt'\nentitlement.jwt.hmac.secret = '{secret}'")).unwrap()
    };
    assert!(jwt("").publish.topics.allows("elsewhere") && !jwt("").publish.topics.allows("__consumer_offsets"), "what tokens permit");
    let listed = jwt("publish.topics = ['t']");
    assert!(listed.publish.topics.allows("t") && !listed.publish.topics.allows("elsewhere"));
    assert!(!format!("{:?}", jwt("")).contains("ssss"), "no secret is in what is printed for us");
}
