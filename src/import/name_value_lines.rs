//! `migratorydata.conf`: `name = value` lines, `#` before comments, and a `\` at the end of a line that goes on in the next.

use super::setting::{BadLine, Setting};

/// Reads the text.
///
/// # Errors
/// Every line that is neither.
pub fn parse(text: &str) -> Result<Vec<Setting>, Vec<BadLine>> {
    let (mut settings, mut bad) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate();
    while let Some((place, first)) = lines.next() {
        let first = first.trim();
        if first.is_empty() || first.starts_with('#') {
            continue;
        }
        let mut whole = first.to_owned();
        while let Some(before) = whole.strip_suffix('\\').map(str::to_owned) {
            whole = before;
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim());
        }
        let line = place + 1;
        match whole.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if is_name(name) => settings.push(Setting { line, name: name.to_owned(), value: value.to_owned() }),
            // What it holds may be a secret.
            _ => bad.push(BadLine { line, what: "it is no `name = value` and no comment; correct it, or put a # before it".to_owned() }),
        }
    }
    if bad.is_empty() { Ok(settings) } else { Err(bad) }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_comments_and_lines_that_go_on_are_read() {
        let settings = parse("# a comment\n\n  LicenseKey = aa\\\n   bb\\\ncc\r\nListen=*:8800\nEmpty =\nX = a = b # c\n").unwrap();
        let read: Vec<_> = settings.iter().map(|setting| (setting.line, setting.name.as_str(), setting.value.as_str())).collect();
        assert_eq!(read, [(3, "LicenseKey", "aabbcc"), (6, "Listen", "*:8800"), (7, "Empty", ""), (8, "X", "a = b # c")]);
        assert_eq!(parse("Last = a\\").unwrap()[0].value, "a");
    }

    #[test]
    fn every_line_that_is_not_understood_is_named_and_its_secret_is_not() {
        let bad = parse("Good = 1\nhunter2\n= 3\nbad name = 4\n").unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(bad.iter().all(|bad| !bad.what.contains("hunter2")));
    }
}
