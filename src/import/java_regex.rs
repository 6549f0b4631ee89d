//! What a regular expression of Java's may hold that means nothing, or something else, to Rust's `regex`.

use regex::Regex;

/// Why a pattern is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The construct by its name, as in "lookahead, (?!".
    pub construct: String,
    pub advice: &'static str,
}

const LOOKAROUND: &str = "write what shall match without looking around, or list the topics";
const ATOMIC: &str =
    "Rust's engine never goes back, so leave that mark out: a whole name then matches whenever any reading of the pattern does";

/// The first construct that Rust's `regex` lacks or reads otherwise, if there is one.
pub fn refusal(pattern: &str) -> Option<Refusal> {
    let refuse = |construct: &str, advice| Some(Refusal { construct: construct.to_owned(), advice });
    let (mut rest, mut classes, mut after_quantifier) = (pattern, 0_usize, false);
    while let Some(character) = rest.chars().next() {
        let step;
        let mut is_quantifier = false;
        if character == '\\' {
            let named = rest.chars().nth(1);
            if let Some((construct, advice)) = named.and_then(|named| escape(named, rest)) {
                return refuse(construct, advice);
            }
            step = 1 + named.map_or(0, char::len_utf8);
        } else if classes > 0 {
            if rest.starts_with("--") || rest.starts_with("~~") {
                return refuse("-- or ~~ within [ ]", "Rust reads it as an operation on sets; write the second character as \\- or \\~");
            }
            classes = match character {
                '[' => classes + 1,
                ']' => classes - 1,
                _ => classes,
            };
            step = character.len_utf8();
        } else {
            if let Some((construct, advice)) = group(rest) {
                return refuse(&construct, advice);
            }
            if character == '+' && after_quantifier {
                return refuse("possessive quantifier, a + behind *, +, ? or }", ATOMIC);
            }
            // `a+?+` is no Java: the `?` that makes a quantifier reluctant is none itself.
            is_quantifier = matches!(character, '*' | '+' | '}') || (character == '?' && !after_quantifier && !rest.starts_with("?<"));
            let opens = character == '[';
            step = if rest.starts_with("(?") { 2 } else { character.len_utf8() };
            classes += usize::from(opens);
            // A bracket right behind the opening one belongs to the class.
            if opens {
                let inner = rest[1..].strip_prefix('^').unwrap_or(&rest[1..]);
                if inner.starts_with(']') {
                    return refuse("] as the first of [ ]", "write it as \\]");
                }
            }
        }
        after_quantifier = is_quantifier;
        rest = &rest[step..];
    }
    let error = Regex::new(pattern).err()?.to_string();
    let reason = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
    Some(Refusal { construct: reason, advice: "write it in the syntax of Rust's regex crate, or list the topics" })
}

fn escape(named: char, rest: &str) -> Option<(&'static str, &'static str)> {
    Some(match named {
        'Q' | 'E' => ("quotation, \\Q..\\E", "put a \\ before each character of it that is not a letter, digit or _"),
        '1'..='9' => ("backreference, \\1", "list the topics"),
        'k' => ("backreference, \\k<name>", "list the topics"),
        '0' => ("octal escape, \\0", "write the character itself"),
        'c' => ("control character, \\c", "no topic has one; leave it out"),
        'e' => ("escape character, \\e", "no topic has one; leave it out"),
        'G' => ("end of the previous match, \\G", "the whole name is matched; leave it out"),
        'Z' => ("end before a line's end, \\Z", "the whole name is matched; leave it out"),
        'R' => ("any line's end, \\R", "no topic has one; leave it out"),
        'X' => ("grapheme, \\X", "write . in its place"),
        'h' | 'H' => ("horizontal space, \\h", "no topic has any; leave it out"),
        'v' | 'V' => ("vertical space, \\v", "no topic has any; leave it out"),
        'N' => ("named character, \\N{..}", "write the character itself"),
        'p' | 'P' if rest[1..].starts_with("p{java") || rest[1..].starts_with("P{java") => {
            ("class of Java's, \\p{java..}", "write the characters in [ ]; topics have a-z A-Z 0-9 . _ -")
        }
        _ => return None,
    })
}

fn group(rest: &str) -> Option<(String, &'static str)> {
    for (start, construct) in [("(?=", "lookahead"), ("(?!", "lookahead"), ("(?<=", "lookbehind"), ("(?<!", "lookbehind")] {
        if rest.starts_with(start) {
            return Some((format!("{construct}, {start}"), LOOKAROUND));
        }
    }
    if rest.starts_with("(?>") {
        return Some(("atomic group, (?>".to_owned(), ATOMIC));
    }
    let flags: String = rest.strip_prefix("(?")?.chars().take_while(|flag| flag.is_ascii_alphabetic() || *flag == '-').collect();
    // (?<name> has none. U is something else in Rust.
    let unknown = flags.chars().find(|flag| matches!(flag, 'd' | 'U'))?;
    rest[2 + flags.len()..].starts_with([')', ':']).then(|| (format!("flag {unknown}, (?{flags}"), "topics are ASCII; leave it out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rust_lacks_or_reads_otherwise_is_refused_by_its_name() {
        for (pattern, construct) in [
            ("(?!test)vehicles.*", "lookahead, (?!"),
            ("a(?=b)b", "lookahead, (?="),
            ("x(?<=x)y", "lookbehind, (?<="),
            ("(?<!x)y", "lookbehind, (?<!"),
            ("(?>a|ab)c", "atomic group, (?>"),
            ("a*+b", "possessive quantifier"),
            ("a++", "possessive quantifier"),
            ("a?+", "possessive quantifier"),
            ("a{2,3}+", "possessive quantifier"),
            ("\\Qa.b\\E.*", "quotation, \\Q"),
            ("(a)\\1", "backreference, \\1"),
            ("(?<n>a)\\k<n>", "backreference, \\k"),
            ("(?U)a", "flag U"),
            ("(?id:a)", "flag d"),
            ("\\p{javaLowerCase}+", "class of Java's"),
            ("a\\Z", "end before"),
            ("[a--b]", "-- or ~~"),
            ("a\\h", "horizontal"),
            ("a(b", "unclosed group"),
        ] {
            let refusal = refusal(pattern).unwrap_or_else(|| panic!("{pattern} is taken"));
            assert!(refusal.construct.contains(construct), "{pattern}: {refusal:?}");
        }
    }

    #[test]
    fn what_both_read_alike_is_taken() {
        for pattern in [
            "vehicles.*",
            "^(a|b)_[a-z0-9]+?$",
            "a+b+",
            "[a+*]+",
            "\\Aa\\.b\\z",
            "(?i)orders-\\d{2,4}",
            "(?<region>eu|us)\\.x",
            "[a-z&&[^bc]]+",
            "a\\++",
            "\\\\",
            "(?:a)+",
            "[\\]a]+",
            "a??b*?",
        ] {
            assert_eq!(refusal(pattern), None, "{pattern}");
        }
    }
}
