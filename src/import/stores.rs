//! Java's key stores and trust stores: librdkafka reads PEM, and PKCS#12 for its own key.

use super::draft::Draft;
use super::setting::{Setting, value_of};

const CA: &str = "/etc/corespan/kafka-ca.pem";
const KEYS: &str = "/etc/corespan/kafka-client.p12";

/// Properties that are read here.
pub const NAMES: [&str; 6] = [
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pem,
    Pkcs12,
    Jks,
}

/// Writes what they mean.
pub fn write(table: &'static str, properties: &[Setting], draft: &mut Draft) {
    if let Some(path) = value_of(properties, "ssl.truststore.location") {
        if kind(value_of(properties, "ssl.truststore.type"), path) == Kind::Pem {
            draft.text(table, "ssl.ca.location", path, "");
        } else {
            let comment = format!(
                "ssl.truststore.location = {path} is a store of Java's; a PEM file is wanted, which needs no password. This makes it:"
            );
            let command = format!("keytool -list -rfc -keystore {} | sed -n '/BEGIN CERT/,/END CERT/p' > {CA}", shell(path));
            draft.text_with_copy(table, "ssl.ca.location", CA, &comment, &command);
        }
    }
    let Some(path) = value_of(properties, "ssl.keystore.location") else { return };
    let password = value_of(properties, "ssl.keystore.password");
    match kind(value_of(properties, "ssl.keystore.type"), path) {
        Kind::Pem => {
            draft.text(table, "ssl.certificate.location", path, "ssl.keystore.location was one PEM file with both.");
            draft.text(table, "ssl.key.location", path, "");
        }
        kind => {
            if kind == Kind::Pkcs12 {
                draft.text(table, "ssl.keystore.location", path, "");
            } else {
                let comment = format!(
                    "ssl.keystore.location = {path} is a store of Java's; PKCS#12 is wanted. This makes it (give it the same password):"
                );
                let command = format!("keytool -importkeystore -srckeystore {} -destkeystore {KEYS} -deststoretype PKCS12", shell(path));
                draft.text_with_copy(table, "ssl.keystore.location", KEYS, &comment, &command);
            }
            if let Some(password) = password {
                draft.text(
                    table,
                    "ssl.keystore.password",
                    password,
                    "A secret: better in a file of its own, \"ssl.keystore.password.file\" = \"/etc/corespan/keystore-password\".",
                );
            }
        }
    }
}

/// Java's default is JKS; its newer releases read PKCS#12 under that name too, so the file's name decides.
fn kind(given: Option<&str>, path: &str) -> Kind {
    let path = path.to_ascii_lowercase();
    let is_named = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
    match given.map(str::to_ascii_uppercase).as_deref() {
        Some("PEM") => Kind::Pem,
        Some("PKCS12") => Kind::Pkcs12,
        Some(_) => Kind::Jks,
        None if is_named(&[".p12", ".pfx"]) => Kind::Pkcs12,
        None if is_named(&[".pem", ".crt"]) => Kind::Pem,
        None => Kind::Jks,
    }
}

/// A path as a shell takes it.
fn shell(path: &str) -> String {
    let is_plain = path.chars().all(|character| character.is_ascii_alphanumeric() || "/._-+:@".contains(character));
    if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
