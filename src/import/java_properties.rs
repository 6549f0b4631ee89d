//! Java's `.properties`, as `java.util.Properties.load` reads them: `=`, `:` or white space after the name, `#` and `!` before comments, `\` at the
//! end of a line that goes on, and escapes. UTF-8, or Latin-1 where it is none.

use super::setting::{BadLine, Setting};

/// Java reads Latin-1; editors write UTF-8.
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Reads the text.
///
/// # Errors
/// Every line with an escape that is none.
pub fn parse(text: &str) -> Result<Vec<Setting>, Vec<BadLine>> {
    let (mut settings, mut bad) = (Vec::new(), Vec::new());
    // A carriage return alone ends a line too.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').enumerate();
    while let Some((place, first)) = lines.next() {
        let first = first.trim_start_matches(is_space);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while goes_on(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches(is_space));
        }
        let (name, value) = split(&whole);
        match (unescape(name), unescape(value)) {
            (Some(name), Some(value)) => settings.push(Setting { line: place + 1, name, value }),
            _ => {
                bad.push(BadLine { line: place + 1, what: "it has a \\u without four hexadecimal digits behind it; correct it".to_owned() })
            }
        }
    }
    if bad.is_empty() { Ok(settings) } else { Err(bad) }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes ends the line: the last is no escaped one.
fn goes_on(line: &str) -> bool {
    line.chars().rev().take_while(|character| *character == '\\').count() % 2 == 1
}

/// The name ends at the first separator that is not escaped; one `=` or `:` may have white space around it.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    for (place, character) in line.char_indices() {
        if !is_escaped && (is_space(character) || matches!(character, '=' | ':')) {
            let rest = line[place..].trim_start_matches(is_space);
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..place], rest.trim_start_matches(is_space));
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    (line, "")
}

/// `None` for a `\u` that names no character.
fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::new();
    let mut buffer = [0; 2];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let meant = match character {
            '\\' => match characters.next() {
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    let is_hexadecimal = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    units.push(is_hexadecimal.then(|| u16::from_str_radix(&digits, 16).ok())??);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(meant.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|setting| (setting.name, setting.value)).collect()
    }

    #[test]
    fn separators_comments_continuations_and_escapes_are_those_of_java() {
        for (text, name, value) in [
            ("a=b", "a", "b"),
            ("a = b", "a", "b"),
            ("a:b", "a", "b"),
            ("a b", "a", "b"),
            ("a\t : b ", "a", "b "),
            ("  a  =  = b", "a", "= b"),
            ("a", "a", ""),
            ("a\\=b=c", "a=b", "c"),
            ("a\\ b c", "a b", "c"),
            ("a=b\\\n   c\\\r\n  d", "a", "bcd"),
            ("a=b\\\\\n", "a", "b\\"),
            ("a=\\u00e9\\ud83d\\ude00\\t\\q", "a", "\u{e9}\u{1f600}\tq"),
            ("a=b # no comment", "a", "b # no comment"),
            ("a=b\\", "a", "b"),
        ] {
            assert_eq!(read(text), [(name.to_owned(), value.to_owned())], "{text:?}");
        }
        assert_eq!(read("# a=1\n ! b=2\n\n\t\n"), []);
        // A comment does not go on.
        assert_eq!(read("# a\\\nb=1"), [("b".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_broken_escape_is_named_by_its_line() {
        let bad = parse("a=1\nb=x\\\ny\nc=\\u12g4\nd=\\ud800").unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn latin_1_is_read_where_it_is_no_utf_8() {
        assert_eq!(text(b"a=\xe9"), "a=\u{e9}");
        assert_eq!(text("\u{feff}a=\u{e9}".as_bytes()), "a=\u{e9}");
    }
}
