//! librdkafka properties as the user gave them. Secrets never show in logs or in `corespan check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What stands in the place of a secret.
pub const MASK: &str = "********";

/// Properties by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: BTreeMap<String, String>,
    /// What is shown in place of values that came from elsewhere.
    stand_ins: BTreeMap<String, String>,
    /// What files held that values name, as a digest.
    contents: BTreeMap<String, u64>,
}

impl Properties {
    /// Sets one; gives the value that it replaces.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.values.insert(name.into(), value.into())
    }

    /// Has this shown in place of a value.
    pub fn show_as(&mut self, name: impl Into<String>, stand_in: impl Into<String>) {
        self.stand_ins.insert(name.into(), stand_in.into());
    }

    /// Notes what the file holds that a value names, as a digest.
    pub fn set_content(&mut self, name: impl Into<String>, digest: u64) {
        self.contents.insert(name.into(), digest);
    }

    /// These with what newer ones change of them while clients live.
    #[must_use]
    pub fn with_live_of(&self, newer: &Properties) -> Properties {
        let mut now = self.clone();
        let names: BTreeSet<&String> = self.values.keys().chain(newer.values.keys()).filter(|name| is_live(name)).collect();
        for name in names {
            // Clients with a user and those without are different clients.
            if is_credential(name) && (self.get(name).is_none() || newer.get(name).is_none()) {
                continue;
            }
            put(&mut now.values, name, newer.values.get(name).cloned());
            put(&mut now.stand_ins, name, newer.stand_ins.get(name).cloned());
            put(&mut now.contents, name, newer.contents.get(name).copied());
        }
        now
    }

    /// Names whose values differ, or what the files hold that they name.
    pub fn changed_from<'p>(&'p self, older: &'p Properties) -> Vec<&'p str> {
        let names: BTreeSet<&String> = self.values.keys().chain(older.values.keys()).collect();
        let differs = |name: &&String| self.get(name) != older.get(name) || self.contents.get(*name) != older.contents.get(*name);
        names.into_iter().filter(differs).map(String::as_str).collect()
    }

    /// A property's value as it may be shown, in quotes.
    pub fn shown(&self, name: &str) -> String {
        match self.stand_ins.get(name) {
            Some(stand_in) => stand_in.clone(),
            None => format!("{:?}", masked(name, self.get(name).unwrap_or_default())),
        }
    }

    /// A text of librdkafka's without the values that must not be shown.
    pub fn without_secrets(&self, text: &str) -> String {
        let is_hidden = |name: &str| is_secret(name) || self.stand_ins.contains_key(name);
        let mut hidden: Vec<(&str, &str)> = self.iter().filter(|(name, value)| is_hidden(name) && !value.is_empty()).collect();
        // The longest first: one may be a part of another.
        hidden.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        hidden.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value, &self.shown(name)))
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = out.debug_map();
        for (name, _) in self.iter() {
            map.entry(&name, &format_args!("{}", self.shown(name)));
        }
        map.finish()
    }
}

fn put<V>(map: &mut BTreeMap<String, V>, name: &str, value: Option<V>) {
    match value {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
}

/// Whether a client that lives takes another value of it.
pub fn is_credential(name: &str) -> bool {
    ["sasl.username", "sasl.password"].contains(&name)
}

/// Whether it names a file, or a folder, that a client reads when it is made.
pub fn is_tls_file(name: &str) -> bool {
    const FILES: [&str; 6] = [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.crl.location",
        "https.ca.location",
    ];
    FILES.contains(&name)
}

/// Whether it may change while the node runs: credentials, certificates, keys, and who a provider of tokens takes the node for.
pub fn is_live(name: &str) -> bool {
    const OTHERS: [&str; 10] = [
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.ca.pem",
        "ssl.certificate.pem",
        "ssl.key.pem",
        "https.ca.pem",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.credentials.client.secret",
    ];
    is_credential(name) || is_tls_file(name) || OTHERS.contains(&name)
}

/// Whether a property's value must not be shown.
pub fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 6] = ["pas", "jaas", "secret", "token", "key.pem", "oauthbearer.config"];
    // Misspelt, or in Java's way, it may be a secret all the same; an address or a file's name is none.
    let name = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let harmless = [".url", ".file", ".path", ".location"].iter().any(|end| name.ends_with(end));
    !harmless && PARTS.iter().any(|part| name.contains(part))
}

/// A property's value as it may be shown.
pub fn masked<'v>(name: &str, value: &'v str) -> &'v str {
    if is_secret(name) { MASK } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for name in
            ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "sasl.pasword", "sasl.jaas.config"]
        {
            assert_eq!(masked(name, "x"), MASK, "{name}");
        }
        for name in ["bootstrap.servers", "sasl.username", "ssl.key.location", "ssl.ca.pem", "sasl.oauthbearer.token.endpoint.url"] {
            assert_eq!(masked(name, "x"), "x", "{name}");
        }
        let mut properties = Properties::default();
        properties.set("sasl.password", "hunter2");
        assert!(!format!("{properties:?}").contains("hunter2"));
    }
}
