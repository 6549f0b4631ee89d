//! The file as a flat list of dotted keys with their lines: in TOML `a.b = 1`, `"a.b" = 1` and `[a] b = 1` are different trees, here they are the
//! same key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Whole(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Value>),
    /// A kind that no key takes (a date, a table in a list, a number out of range), as the file has it.
    Other(String),
    /// Its variable or its file cannot be had, which has been said.
    Unresolved,
}

impl Value {
    /// The value as the file would have it.
    pub fn show(&self) -> String {
        match self {
            Value::Text(text) => format!("{text:?}"),
            Value::Whole(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(values) => format!("[{}]", values.iter().map(Value::show).collect::<Vec<_>>().join(", ")),
            Value::Other(text) => text.clone(),
            Value::Unresolved => "nothing".to_owned(),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file.
    Line(usize),
    /// `CORESPAN_KAFKA_EXTRA_OPTS`.
    ExtraOptions,
}

/// Where a value is that the file does not hold itself. It counts as a secret, and this is shown in its place.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In the environment; the value with `${NAME}`, as the file has it.
    Environment(Value),
    /// In a file; its path in quotes, as our file has it.
    File(String),
}

/// A key with its value. Not `Debug`, for the value may be a secret.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// All its segments, joined by dots.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
    /// `None`: the value is in the file itself.
    pub source: Option<Source>,
}

impl Entry {
    /// The key as the file has it: with `.file` where it names one.
    pub fn shown_key(&self) -> String {
        if self.is_file() { format!("{}.file", self.key) } else { self.key.clone() }
    }

    /// The value as the file has it.
    pub fn shown(&self) -> String {
        match &self.source {
            None => self.value.show(),
            Some(Source::Environment(written)) => written.show(),
            Some(Source::File(path)) => path.clone(),
        }
    }

    /// Whether the value comes from a file of its own.
    pub fn is_file(&self) -> bool {
        matches!(self.source, Some(Source::File(_)))
    }

    /// Whether the value was text before anybody could know what the key takes: `"4"` may be meant as a number.
    pub fn is_always_text(&self) -> bool {
        self.origin == Origin::ExtraOptions || self.source.is_some()
    }

    /// The same with a value that may be shown. What is wrong with a secret is told of this in its place, in the hope that it is as wrong.
    pub fn stand_in(&self) -> Option<Entry> {
        let value = match self.source.as_ref()? {
            Source::Environment(written) => written.clone(),
            Source::File(path) => Value::Text(format!("what is in {}", path.trim_matches('"'))),
        };
        Some(Entry { value, ..self.clone() })
    }
}

/// A table of the file, by its header or empty in braces: a key too, that may be misspelt.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub key: String,
    pub line: usize,
}

/// A file.
#[derive(Clone, Default)]
pub struct Document {
    pub entries: Vec<Entry>,
    pub tables: Vec<Table>,
}

impl Document {
    /// Reads TOML text. `Err` holds every syntax error.
    pub fn parse(text: &str, origin: &str) -> Result<Document, Vec<Problem>> {
        let lines = Lines::new(text);
        let (tree, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut problems = Vec::new();
            for error in errors {
                let line = error.span().map(|span| lines.at(span.start));
                // One mistake often makes several errors on its line; the first names it.
                if problems.iter().any(|known: &Problem| known.line == line) {
                    continue;
                }
                let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
                let text = match line {
                    Some(number) => format!("not valid TOML: {message}, near `{}`", lines.shortened(text, number)),
                    None => format!("not valid TOML: {message}"),
                };
                problems.push(Problem { origin: origin.to_owned(), line, text });
            }
            return Err(problems);
        }
        let mut document = Document::default();
        document.flatten(tree.get_ref(), "", text, &lines);
        let mut problems = Vec::new();
        for (place, entry) in document.entries.iter().enumerate() {
            if let Some(first) = document.entries[..place].iter().find(|earlier| earlier.key == entry.key) {
                let (Origin::Line(line), Origin::Line(earlier)) = (entry.origin, first.origin) else { continue };
                let text = format!(
                    "{} is given twice, here and in line {earlier} (dotted and quoted forms are the same key); remove one",
                    entry.key
                );
                problems.push(Problem { origin: origin.to_owned(), line: Some(line), text });
            }
        }
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }

    /// One of several `[[listen]]`: what belongs to one port has the block's number in its key, from the second on; all else is the node's.
    fn flatten_block(&mut self, block: &DeTable<'_>, number: usize, text: &str, lines: &Lines) {
        let from = self.entries.len();
        self.flatten(block, BLOCKS, text, lines);
        for entry in &mut self.entries[from..] {
            let rest = &entry.key[BLOCKS.len() + 1..];
            if number > 1 && (rest == "address" || rest.starts_with("tls.")) {
                entry.key = format!("{BLOCKS}.{number}.{rest}");
            }
        }
    }

    // The parser bounds the depth of a tree, so recursion is safe.
    fn flatten(&mut self, table: &DeTable<'_>, above: &str, text: &str, lines: &Lines) {
        for (name, value) in table {
            let key = if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
            let line = lines.at(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if NUMBERED.contains(&key.as_str()) && inner.values().any(|value| !is_table(value)) => {
                    self.tables.push(Table { key: key.clone(), line });
                    self.flatten(inner, &format!("{key}.1"), text, lines);
                }
                DeValue::Array(values) if NUMBERED.contains(&key.as_str()) && values.iter().all(is_table) => {
                    self.tables.push(Table { key: key.clone(), line });
                    for (place, value) in values.iter().enumerate() {
                        if let DeValue::Table(inner) = value.get_ref() {
                            self.flatten(inner, &format!("{key}.{}", place + 1), text, lines);
                        }
                    }
                }
                DeValue::Table(inner) => {
                    // A table made by a dotted key of something else is judged by its keys.
                    if inner.is_empty() || lines.text(text, line).starts_with('[') {
                        self.tables.push(Table { key: key.clone(), line });
                    }
                    self.flatten(inner, &key, text, lines);
                }
                DeValue::Array(values) if key == BLOCKS && values.iter().all(is_table) => {
                    self.tables.push(Table { key: key.clone(), line });
                    for (place, value) in values.iter().enumerate() {
                        if let DeValue::Table(inner) = value.get_ref() {
                            self.flatten_block(inner, place + 1, text, lines);
                        }
                    }
                }
                _ => self.entries.push(Entry { key, value: convert(value, text), origin: Origin::Line(line), source: None }),
            }
        }
    }
}

/// The table that there may be several of.
const BLOCKS: &str = "listen";

/// Tables that there are any number of, each known by its number, from 1 on.
const NUMBERED: [&str; 2] = ["route", "expose"];

fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}

fn convert(value: &Spanned<DeValue<'_>>, text: &str) -> Value {
    let as_written = || {
        let written = text.get(value.span()).unwrap_or_default();
        shorten(&written.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| Value::Other(as_written()), Value::Whole)
        }
        DeValue::Float(number) => number.as_str().parse().map_or_else(|_| Value::Other(as_written()), Value::Float),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Array(values) => Value::List(values.iter().map(|value| convert(value, text)).collect()),
        DeValue::Datetime(_) | DeValue::Table(_) => Value::Other(as_written()),
    }
}

/// Byte offsets of line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        Lines(std::iter::once(0).chain(text.match_indices('\n').map(|(place, _)| place + 1)).collect())
    }

    /// The line of a byte offset, from 1.
    fn at(&self, place: usize) -> usize {
        self.0.partition_point(|start| *start <= place)
    }

    fn text<'t>(&self, text: &'t str, line: usize) -> &'t str {
        let start = self.0.get(line - 1).copied().unwrap_or_default();
        text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim()
    }

    fn shortened(&self, text: &str, line: usize) -> String {
        let line = self.text(text, line);
        // What follows the equals sign may be a password.
        shorten(line.split_once('=').map_or(line, |(key, _)| key.trim_end()))
    }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("...".chars()).collect() }
}
