//! The file that is being written: tables of lines, each with the comments above it.

use std::fmt::Write as _;

/// Tables in the order of the manual. "" is the top of the file.
const TABLES: [&str; 9] = ["", "listen", "entitlement", "kafka", "kafka.consumer", "kafka.producer", "cache", "publish", "log"];
const WIDTH: usize = 140;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    table: &'static str,
    /// Above the line.
    comment: String,
    /// Below the comment, in one piece: what is to be copied.
    copy: String,
    /// Without it the comments stand alone.
    key: Option<String>,
    /// As TOML has it.
    value: String,
}

/// What was gathered so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    lines: Vec<Line>,
    /// What has to be added before a node starts, or is not what it was in a way that must not be overlooked.
    pub lacks: Vec<String>,
}

impl Draft {
    /// A key with a text.
    pub fn text(&mut self, table: &'static str, key: &str, value: &str, comment: &str) {
        self.toml(table, key, quoted(value), comment);
    }

    /// A key with a text, and a command or a file's content to copy.
    pub fn text_with_copy(&mut self, table: &'static str, key: &str, value: &str, comment: &str, copy: &str) {
        self.text(table, key, value, comment);
        if let Some(line) = self.lines.last_mut() {
            line.copy = copy.to_owned();
        }
    }

    /// A key with a value in TOML.
    pub fn toml(&mut self, table: &'static str, key: &str, value: String, comment: &str) {
        self.lines.push(Line { table, comment: comment.to_owned(), copy: String::new(), key: Some(key.to_owned()), value });
    }

    /// A comment alone.
    pub fn note(&mut self, table: &'static str, comment: impl Into<String>) {
        self.lines.push(Line { table, comment: comment.into(), copy: String::new(), key: None, value: String::new() });
    }

    /// Something that has no counterpart: a comment, and a line for whoever runs the import.
    pub fn lack(&mut self, table: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.note(table, format!("TO DO: {what}"));
        self.lacks.push(what);
    }

    /// What both Kafka clients say alike becomes one line of `[kafka]`.
    pub fn share(&mut self) {
        let is_same = |one: &Line, other: &Line| one.key == other.key && one.value == other.value && one.comment == other.comment;
        let shared: Vec<Line> = self
            .lines
            .iter()
            .filter(|line| line.table == "kafka.consumer")
            .filter(|line| self.lines.iter().any(|other| other.table == "kafka.producer" && is_same(line, other)))
            .cloned()
            .collect();
        for line in &mut self.lines {
            if line.table == "kafka.consumer" && shared.iter().any(|shared| is_same(shared, line)) {
                line.table = "kafka";
            }
        }
        self.lines.retain(|line| line.table != "kafka.producer" || !shared.iter().any(|shared| is_same(shared, line)));
        let mut seen = Vec::new();
        self.lacks.retain(|lack| {
            !seen.contains(lack) && {
                seen.push(lack.clone());
                true
            }
        });
    }

    /// The file.
    pub fn file(&self, head: &[String]) -> String {
        let mut out = String::new();
        head.iter().for_each(|comment| write_comment(&mut out, comment));
        for table in TABLES {
            let mut lines = self.lines.iter().filter(|line| line.table == table).peekable();
            if lines.peek().is_none() {
                continue;
            }
            if table.is_empty() {
                out.push('\n')
            } else {
                let _ = write!(out, "\n\n[{table}]\n");
            }
            for (place, line) in lines.enumerate() {
                if place > 0 && !line.comment.is_empty() {
                    out.push('\n');
                }
                if !line.comment.is_empty() {
                    write_comment(&mut out, &line.comment);
                }
                if !line.copy.is_empty() {
                    let _ = writeln!(out, "#   {}", line.copy.replace(char::is_control, " "));
                }
                if let Some(key) = &line.key {
                    // Kafka's names are quoted, for one may be the beginning of another.
                    let key = if table.starts_with("kafka") { format!("\"{key}\"") } else { key.clone() };
                    let _ = writeln!(out, "{key} = {}", line.value);
                }
            }
        }
        out
    }
}

/// A comment in lines of a readable width. What comes from elsewhere cannot end it.
fn write_comment(out: &mut String, comment: &str) {
    let mut line = String::from("#");
    for word in comment.split(|character: char| character.is_whitespace() || character.is_control()).filter(|word| !word.is_empty()) {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
            out.push_str(&line);
            out.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// Text in TOML's quotes. `${` would ask for a variable of the environment.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.replace("${", "$${").chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A line that a comment proposes.
pub fn proposed(key: &str, value: &str) -> String {
    format!("{key} = {}", quoted(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_and_no_comment_leaves_its_place() {
        let mut draft = Draft::default();
        draft.text("", "node.name", "a\"\n\\${HOME}\u{7f}", "evil\ninsecure = true\r\n[cache]");
        let text = draft.file(&[]);
        assert_eq!(text, "\n# evil insecure = true [cache]\nnode.name = \"a\\\"\\u000A\\\\$${HOME}\\u007F\"\n");
    }
}
