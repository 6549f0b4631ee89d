//! Typed reading of flat keys. It collects every problem in place of stopping at the first, notes which keys exist (the ones that were asked for),
//! and what each turned out to be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{Document, Entry, Origin, Value};
use super::problem::{Problem, did_you_mean};
use super::units;
use crate::kafka::MASK;

/// The name of the environment variable, in messages.
pub const EXTRA_OPTIONS: &str = "CORESPAN_KAFKA_EXTRA_OPTS";

/// What a key turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub key: String,
    /// As the file would have it; secrets are masked, values from elsewhere are as the file has them.
    pub value: String,
    /// The file has it as `KEY.file`, and `value` is the path.
    pub is_file: bool,
    /// What is not shown, to notice that it has changed.
    pub(super) hidden: Hidden,
    /// `None`: the default.
    pub origin: Option<Origin>,
}

impl Effective {
    /// The key as the file has it.
    pub fn shown_key(&self) -> String {
        if self.is_file { format!("{}.file", self.key) } else { self.key.clone() }
    }
}

/// A value that is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) Option<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.0.is_some() { "hidden" } else { "nothing hidden" })
    }
}

/// Said of a value that is wrong and must not be shown, when nothing else can be said without it.
const NOT_SHOWN: &str = "its value (which is not shown) is not what this key takes; see the manual, config/corespan.toml";

/// Reads keys.
pub struct Reader {
    file: String,
    entries: BTreeMap<String, Entry>,
    tables: Vec<super::document::Table>,
    known: Vec<String>,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
}

impl Reader {
    /// A reader of a file, with entries that replace those of the file.
    pub fn new(document: Document, file: &str) -> Reader {
        let entries = document.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Reader { file: file.to_owned(), entries, tables: document.tables, known: Vec::new(), problems: Vec::new(), effective: Vec::new() }
    }

    /// Puts an entry in place of the file's.
    pub fn set(&mut self, entry: Entry) {
        self.entries.insert(entry.key.clone(), entry);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Notes a problem.
    pub fn problem(&mut self, origin: Option<Origin>, text: impl Into<String>) {
        let (origin, line) = match origin {
            Some(Origin::Line(line)) => (self.file.clone(), Some(line)),
            Some(Origin::ExtraOptions) => (EXTRA_OPTIONS.to_owned(), None),
            None => (self.file.clone(), None),
        };
        self.problems.push(Problem { origin, line, text: text.into() });
    }

    /// Whether a key is given, without reading it.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        self.entries.get(key).map(|entry| entry.origin)
    }

    /// Where a key was given that has been read.
    pub fn origin_read(&self, key: &str) -> Option<Origin> {
        self.effective.iter().find(|one| one.key == key).and_then(|one| one.origin)
    }

    /// Whether any key of a table is given.
    pub fn has_below(&self, table: &str) -> bool {
        self.first_below(table).is_some()
    }

    /// Where the first key of a table is given.
    pub fn origin_below(&self, table: &str) -> Option<Origin> {
        self.first_below(table).map(|entry| entry.origin)
    }

    fn first_below(&self, table: &str) -> Option<&Entry> {
        let prefix = format!("{table}.");
        self.entries.range(prefix.clone()..).next().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, entry)| entry)
    }

    /// Whether the key is given with a value that cannot be had, which is a problem already.
    pub fn is_unresolved(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.value == Value::Unresolved)
    }

    /// Takes all entries below a table whose keys are free.
    pub fn take_below(&mut self, table: &str) -> Vec<Entry> {
        self.known.push(format!("{table}.*"));
        self.take_those_below(table)
    }

    /// Takes all entries below a table. That makes none of them known.
    pub fn take_those_below(&mut self, table: &str) -> Vec<Entry> {
        let prefix = format!("{table}.");
        let keys: Vec<_> =
            self.entries.range(prefix.clone()..).map(|(key, _)| key.clone()).take_while(|key| key.starts_with(&prefix)).collect();
        keys.iter().filter_map(|key| self.entries.remove(key)).collect()
    }

    /// Has a key exist.
    pub fn know(&mut self, key: &str) {
        self.known.push(key.to_owned());
    }

    /// Takes a key. What is asked for exists.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        self.know(key);
        self.entries.remove(key)
    }

    /// Notes what an entry turned out to be: `shown`, and `hidden` if that is not all.
    pub fn note(&mut self, entry: &Entry, shown: String, hidden: Option<String>) {
        let (key, origin) = (entry.key.clone(), Some(entry.origin));
        // As it is written where `${` has a meaning.
        let shown = if entry.source.is_none() { shown.replace("${", "$${") } else { shown };
        self.effective.push(Effective { key, value: shown, is_file: entry.is_file(), hidden: Hidden(hidden), origin });
    }

    /// A key with its value, as a message may show them.
    pub fn shown(&self, key: &str, value: impl Display) -> String {
        match self.effective.iter().find(|one| one.key == key && one.hidden.0.is_some()) {
            Some(one) => format!("{} = {}", one.shown_key(), one.value),
            None => format!("{key} = {value}"),
        }
    }

    /// Whether a table of the file, other than `below` itself, holds an entry.
    pub fn is_in_table(&self, key: &str, below: &str) -> bool {
        let is_above = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.tables.iter().any(|table| table.key.len() > below.len() && is_above(&table.key))
    }

    fn read<T>(&mut self, key: &str, default: T, parse: impl Fn(&Entry) -> Result<T, String>, show: impl Fn(&T) -> String) -> T {
        let entry = self.take(key).filter(|entry| entry.value != Value::Unresolved);
        let Some(entry) = entry else {
            let value = show(&default);
            self.effective.push(Effective { key: key.to_owned(), value, is_file: false, hidden: Hidden(None), origin: None });
            return default;
        };
        let value = parse(&entry).unwrap_or_else(|allowed| {
            let allowed = match entry.stand_in() {
                None => allowed,
                Some(stand_in) => parse(&stand_in).err().unwrap_or_else(|| NOT_SHOWN.to_owned()),
            };
            self.problem(Some(entry.origin), format!("{} = {} is not allowed; {allowed}", entry.shown_key(), entry.shown()));
            default
        });
        match entry.source {
            None => self.note(&entry, show(&value), None),
            Some(_) => self.note(&entry, entry.shown(), Some(show(&value))),
        }
        value
    }

    /// A whole number.
    pub fn whole(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let allowed = format!("give a whole number from {} to {}", range.start(), range.end());
        self.read(
            key,
            default,
            |entry| whole_of(entry).filter(|number| range.contains(number)).ok_or_else(|| allowed.clone()),
            u64::to_string,
        )
    }

    /// A whole number, or nothing when the key is not given or `off`.
    pub fn whole_or_off(&mut self, key: &str, range: RangeInclusive<u64>, off: &str) -> Option<u64> {
        let allowed = format!("give a whole number from {} to {}, or {off:?}", range.start(), range.end());
        let parse = |entry: &Entry| match &entry.value {
            Value::Text(text) if text == off => Ok(None),
            _ => whole_of(entry).filter(|number| range.contains(number)).map(Some).ok_or_else(|| allowed.clone()),
        };
        self.read(key, None, parse, |value| value.map_or(format!("{off:?}"), |number| number.to_string()))
    }

    /// A size in bytes.
    pub fn size(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let allowed = format!("give {}, from {} to {}", units::SIZE_HELP, units::size_text(*range.start()), units::size_text(*range.end()));
        let parse = |entry: &Entry| {
            let bytes = match &entry.value {
                Value::Text(text) => units::parse_size(text),
                _ => whole_of(entry),
            };
            bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| allowed.clone())
        };
        let show = |bytes: &u64| match units::size_text(*bytes) {
            text if text.ends_with('B') => format!("{text:?}"),
            text => text,
        };
        self.read(key, default, parse, show)
    }

    /// A time.
    pub fn time(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let allowed = format!("give {}, from {} to {}", units::TIME_HELP, units::time_text(*range.start()), units::time_text(*range.end()));
        let parse = |entry: &Entry| {
            let time = match &entry.value {
                Value::Text(text) => units::parse_time(text),
                Value::Whole(seconds) => units::from_seconds(*seconds as f64),
                Value::Float(seconds) => units::from_seconds(*seconds),
                _ => None,
            };
            time.filter(|time| range.contains(time)).ok_or_else(|| allowed.clone())
        };
        self.read(key, default, parse, |time| format!("{:?}", units::time_text(*time)))
    }

    /// True or false.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let parse = |entry: &Entry| match (&entry.value, entry.is_always_text()) {
            (Value::Flag(flag), _) => Ok(*flag),
            (Value::Text(text), true) if text == "true" => Ok(true),
            (Value::Text(text), true) if text == "false" => Ok(false),
            _ => Err("give true or false, without quotes".to_owned()),
        };
        self.read(key, default, parse, bool::to_string)
    }

    /// One of a few words.
    pub fn choice<T: Copy + PartialEq>(&mut self, key: &str, default: T, words: &[(&'static str, T)]) -> T {
        let parse = |entry: &Entry| {
            let given = match &entry.value {
                Value::Text(text) => text.as_str(),
                _ => "",
            };
            words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
                let all = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
                match did_you_mean(given, words.iter().map(|(word, _)| *word)) {
                    Some(near) if !given.is_empty() => format!("did you mean {near:?}? allowed are {all}"),
                    _ => format!("allowed are {all}"),
                }
            })
        };
        let show = |value: &T| words.iter().find(|(_, known)| known == value).map_or(String::new(), |(word, _)| format!("{word:?}"));
        self.read(key, default, parse, show)
    }

    /// Text that passes a check; the check's error says what is allowed.
    pub fn text(&mut self, key: &str, default: &str, check: impl Fn(&str) -> Result<(), String>) -> String {
        let parse = |entry: &Entry| match &entry.value {
            Value::Text(text) => check(text).map(|()| text.clone()),
            _ => Err("give text in quotes".to_owned()),
        };
        self.read(key, default.to_owned(), parse, |text| format!("{text:?}"))
    }

    /// Text that is never shown; without the key none.
    pub fn secret(&mut self, key: &str) -> String {
        let Some(entry) = self.take(key).filter(|entry| entry.value != Value::Unresolved) else {
            self.effective.push(Effective {
                key: key.to_owned(),
                value: "\"\"".to_owned(),
                is_file: false,
                hidden: Hidden(None),
                origin: None,
            });
            return String::new();
        };
        let Value::Text(text) = &entry.value else {
            self.problem(Some(entry.origin), format!("{key} = (not shown) is not allowed; give text in quotes"));
            return String::new();
        };
        // Nothing is no secret: what is shown of it can be read again.
        let shown = match &entry.source {
            Some(_) => entry.shown(),
            None if text.is_empty() => "\"\"".to_owned(),
            None => format!("{MASK:?}"),
        };
        self.note(&entry, shown, Some(text.clone()));
        text.clone()
    }

    /// A list of texts (one text is a list of one); each passes a check.
    pub fn texts(&mut self, key: &str, check: impl Fn(&str) -> Result<(), String>) -> Vec<String> {
        let parse = |entry: &Entry| {
            let list = match &entry.value {
                Value::List(values) => {
                    values.iter().map(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None }).collect()
                }
                Value::Text(text) if entry.source.is_some() => Some(items(text).map(str::to_owned).collect()),
                Value::Text(text) => Some(vec![text.clone()]),
                _ => None,
            };
            let list: Vec<String> = list.ok_or_else(|| "give a list of texts in quotes, as in [\"a\", \"b\"]".to_owned())?;
            list.iter().try_for_each(|text| check(text))?;
            Ok(list)
        };
        self.read(key, Vec::new(), parse, |list| format!("{list:?}"))
    }

    /// An address with its port.
    pub fn address(&mut self, key: &str, default: SocketAddr) -> SocketAddr {
        let parse = |entry: &Entry| match &entry.value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        let parse = |entry: &Entry| {
            parse(entry).ok_or_else(|| {
                "give an IP address of this machine and a port, as in \"0.0.0.0:8800\", \"127.0.0.1:8800\" or \"[::]:8800\"".to_owned()
            })
        };
        self.read(key, default, parse, |address| format!("\"{address}\""))
    }

    /// Anything else. `parse` says what is allowed.
    pub fn special<T>(&mut self, key: &str, default: T, parse: impl Fn(&Value) -> Result<T, String>, show: impl Fn(&T) -> String) -> T {
        self.read(
            key,
            default,
            |entry| parse(&entry.value).or_else(|error| meant(entry).iter().find_map(|value| parse(value).ok()).ok_or(error)),
            show,
        )
    }

    /// Ends reading: whatever is left is unknown. Gives what each key turned out to be, in the order of reading, and every problem in the order of
    /// the lines.
    pub fn finish(mut self) -> (Vec<Effective>, Vec<Problem>) {
        let mut skipped: Vec<String> = Vec::new();
        for table in std::mem::take(&mut self.tables) {
            let below = format!("{}.", table.key);
            let known = self.known.iter().any(|key| key.starts_with(&below) || is_below(&table.key, key));
            if known || skipped.iter().any(|above| table.key.starts_with(above)) {
                continue;
            }
            // A key one level up that should be a value, not a table (`[listen.address]`), or a table that does not exist.
            let text = if self.known.contains(&table.key) {
                let (above, last) = table.key.rsplit_once('.').unwrap_or(("", &table.key));
                format!("{} is one value, not a table; write it as {last} = ... in [{above}]", table.key)
            } else {
                unknown(&table.key, &format!("unknown table [{}]", table.key), self.known_tables().iter().map(String::as_str))
            };
            self.problem(Some(Origin::Line(table.line)), text);
            skipped.push(below);
        }
        for entry in std::mem::take(&mut self.entries).into_values() {
            if skipped.iter().any(|above| entry.key.starts_with(above)) {
                continue;
            }
            let text = if self.known.iter().any(|key| key.starts_with(&format!("{}.", entry.key))) {
                format!("{} is a table of keys, not one value; write [{}] and its keys below", entry.key, entry.key)
            } else {
                unknown(&entry.key, &format!("unknown key {}", entry.key), self.known.iter().map(String::as_str))
            };
            self.problem(Some(entry.origin), text);
        }
        self.problems.sort_by_key(|problem| (problem.line.is_none(), problem.line));
        (self.effective, self.problems)
    }

    fn known_tables(&self) -> Vec<String> {
        let tables = self.known.iter().flat_map(|key| key.match_indices('.').map(|(end, _)| key[..end].to_owned()));
        tables.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Whether a table is below a table whose keys are free (`topic.*`).
fn is_below(table: &str, known: &str) -> bool {
    known.strip_suffix(".*").is_some_and(|free| table == free || table.strip_prefix(free).is_some_and(|rest| rest.starts_with('.')))
}

fn last_segment(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}

fn unknown<'c>(key: &str, what: &str, candidates: impl Iterator<Item = &'c str> + Clone) -> String {
    if let Some(near) = did_you_mean(key, candidates.clone().filter(|candidate| !candidate.ends_with('*'))) {
        return format!("{what}; did you mean {near}?");
    }
    let table = key.rsplit_once('.').map_or("", |(table, _)| table);
    // The same key in another table is the next most common mistake.
    let elsewhere = candidates
        .clone()
        .find(|candidate| candidate.rsplit_once('.').is_some_and(|(_, last)| last == last_segment(key)) && last_segment(key) != "max");
    let beside: Vec<&str> = candidates
        .filter(|candidate| !table.is_empty() && candidate.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
        .collect();
    match (elsewhere, beside.is_empty()) {
        (Some(near), _) => format!("{what}; did you mean {near}?"),
        (None, false) => format!("{what}; known here are {}", beside.join(", ")),
        (None, true) => format!("{what}; remove it, or see the manual config/corespan.toml for the keys that there are"),
    }
}

/// The items of a list that is written as text.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// What a text from elsewhere may mean, for it has no other kinds of values: a number, a list of texts or numbers with commas.
fn meant(entry: &Entry) -> Vec<Value> {
    let (Value::Text(text), true) = (&entry.value, entry.source.is_some()) else { return Vec::new() };
    let numbers: Option<Vec<Value>> = items(text).map(|item| item.parse().ok().map(Value::Whole)).collect();
    let mut values: Vec<Value> = text.trim().parse().ok().map(Value::Whole).into_iter().collect();
    values.push(Value::List(items(text).map(|item| Value::Text(item.to_owned())).collect()));
    values.extend(numbers.map(Value::List));
    values
}

fn whole_of(entry: &Entry) -> Option<u64> {
    match (&entry.value, entry.is_always_text()) {
        (Value::Whole(number), _) => u64::try_from(*number).ok(),
        (Value::Text(text), true) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A list as the file would have it.
pub fn show_list<T: Display>(list: &[T]) -> String {
    format!("[{}]", list.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}
