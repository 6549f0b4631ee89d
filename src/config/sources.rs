//! Values that the file does not hold itself: `${NAME}` in a text is a variable of the environment, and `KEY.file = "/path"` gives KEY what that file
//! holds. Both count as secrets: what is shown in their place is what the file has. Nothing else of the configuration reads the environment's
//! variables or other files.

use std::env::VarError;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::document::{Document, Entry, Origin, Source, Value};
use crate::kafka::is_secret;
use crate::kafka::librdkafka::scope;

/// A password has some bytes, a chain of certificates some thousands; librdkafka takes no longer value well.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// What ends a key whose value is the name of a file.
const FILE: &str = ".file";

/// Gives a variable of the environment.
pub type Environment<'e> = &'e dyn Fn(&str) -> Result<String, VarError>;

/// What was found beside the values.
#[derive(Default)]
pub struct Findings {
    pub problems: Vec<(Origin, String)>,
    /// Files with secrets that everybody on the machine can read.
    pub notes: Vec<String>,
}

/// Puts the values in their places. A value that cannot be had is `Unresolved`, so that its key is not called missing as well.
pub fn resolve(document: &mut Document, variable: Environment<'_>) -> Findings {
    let mut findings = Findings::default();
    for entry in &mut document.entries {
        expand_entry(entry, variable, &mut findings);
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(document.entries.len());
    let direct: Vec<(String, Origin)> = document.entries.iter().map(|entry| (entry.key.clone(), entry.origin)).collect();
    for entry in std::mem::take(&mut document.entries) {
        let Some(key) = entry.key.strip_suffix(FILE).filter(|key| !key.is_empty() && !is_property(&entry.key)).map(str::to_owned) else {
            entries.push(entry);
            continue;
        };
        if let Some((_, given)) = direct.iter().find(|(other, _)| *other == key) {
            let place = if let Origin::Line(line) = given { format!(" (line {line})") } else { String::new() };
            findings.problems.push((entry.origin, format!("{key}{place} and {key}{FILE} are both given; remove one of them")));
            continue;
        }
        entries.push(read_entry(key, entry, &mut findings));
    }
    document.entries = entries;
    findings
}

/// Some of librdkafka's own properties end in `.file`, and their value is a path.
fn is_property(key: &str) -> bool {
    let name = ["kafka.consumer.", "kafka.producer.", "kafka."].iter().find_map(|table| key.strip_prefix(table));
    name.is_some_and(|name| scope(name).is_ok())
}

fn expand_entry(entry: &mut Entry, variable: Environment<'_>, findings: &mut Findings) {
    let mut wrong = Vec::new();
    let mut has_variables = false;
    let value = expand_value(&entry.value, variable, &mut has_variables, &mut wrong);
    let is_wrong = !wrong.is_empty();
    findings.problems.extend(wrong.into_iter().map(|wrong| (entry.origin, format!("{} {wrong}", entry.key))));
    let written = std::mem::replace(&mut entry.value, if is_wrong { Value::Unresolved } else { value });
    if has_variables {
        entry.source = Some(Source::Environment(written));
    }
}

fn expand_value(value: &Value, variable: Environment<'_>, has_variables: &mut bool, wrong: &mut Vec<Wrong>) -> Value {
    match value {
        Value::Text(text) => Value::Text(expand(text, variable, has_variables, wrong)),
        Value::List(values) => Value::List(values.iter().map(|value| expand_value(value, variable, has_variables, wrong)).collect()),
        other => other.clone(),
    }
}

/// Why a text cannot be expanded. Only names of variables are shown: what stands around them may be half a password.
#[derive(Debug, PartialEq)]
enum Wrong {
    Missing(String),
    NotText(String),
    NoName,
    TooLong,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Missing(name) => write!(
                out,
                "asks for ${{{name}}}, and the environment has no {name}; set it (a service's in /etc/default/corespan or /etc/sysconfig/corespan), \
                 or write $${{{name}}} if no variable is meant"
            ),
            Wrong::NotText(name) => write!(out, "asks for ${{{name}}}, whose value is not UTF-8 text; set {name} to text"),
            Wrong::NoName => out.write_str(
                "has a ${ without a variable's name (A-Z a-z 0-9 _, no digit first) and a } behind it; write ${NAME} for a variable of the environment, \
                 $${ for the characters themselves",
            ),
            Wrong::TooLong => write!(out, "becomes longer than {VALUE_BYTES_MAX} bytes by its variables; is it the right variable?"),
        }
    }
}

/// `${NAME}` becomes the variable, `$${` becomes `${`. What a variable holds is not looked at again.
fn expand(text: &str, variable: Environment<'_>, has_variables: &mut bool, wrong: &mut Vec<Wrong>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(place) = rest.find("${") {
        let (before, after) = (&rest[..place], &rest[place + 2..]);
        if let Some(literal) = before.strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let Some((name, behind)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
            wrong.push(Wrong::NoName);
            return expanded;
        };
        *has_variables = true;
        match variable(name) {
            Ok(value) => expanded.push_str(&value),
            Err(VarError::NotPresent) => wrong.push(Wrong::Missing(name.to_owned())),
            Err(VarError::NotUnicode(_)) => wrong.push(Wrong::NotText(name.to_owned())),
        }
        if expanded.len() > VALUE_BYTES_MAX {
            wrong.push(Wrong::TooLong);
            return expanded;
        }
        rest = behind;
    }
    expanded.push_str(rest);
    expanded
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// The entry of `key` from the one of `key.file`.
fn read_entry(key: String, entry: Entry, findings: &mut Findings) -> Entry {
    let written = match &entry.source {
        Some(Source::Environment(written)) => written.show(),
        _ => entry.value.show(),
    };
    let value = match &entry.value {
        // What is wrong with it has been said.
        Value::Unresolved => Value::Unresolved,
        Value::Text(path) => match read_file(path) {
            Ok((text, mode)) => {
                if mode & 0o004 != 0 && is_secret(&key) {
                    findings.notes.push(format!(
                        "{key}{FILE} = {written} has mode {:04o}, everybody on this machine can read it; `chmod o-r` it, and let corespan's group read it",
                        mode & 0o7777
                    ));
                }
                Value::Text(text)
            }
            Err(reason) => {
                findings.problems.push((entry.origin, format!("{key}{FILE} = {written}: {reason}")));
                Value::Unresolved
            }
        },
        _ => {
            findings.problems.push((entry.origin, format!("{key}{FILE} = {written} is not allowed; give the path of a file in quotes")));
            Value::Unresolved
        }
    };
    Entry { key, value, origin: entry.origin, source: Some(Source::File(written)) }
}

/// A file's text without its last line's end, and the file's mode.
fn read_file(path: &str) -> Result<(String, u32), String> {
    let unreadable = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "let the user that runs corespan read it",
            io::ErrorKind::NotFound => "make it, with the value in it, or correct the path",
            _ => "correct the path",
        };
        format!("it cannot be read: {error}; {remedy}")
    };
    // A pipe that nobody writes to must not hold up the start, nor the node at a reload.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err("it is no regular file; give the path of a file that holds the value alone".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(format!("it has more than {VALUE_BYTES_MAX} bytes; is it the right file?"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text; write the value into it as text".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("it is empty; write the value into it".to_owned());
    }
    Ok((text, about.mode()))
}
