//! Whether bytes are one JSON text (RFC 8259) that clients can parse. Every value of every record is looked at, in one pass; a parser that keeps
//! nothing, of a crate, takes four times as many instructions, and a second pass for what clients cannot stand.

/// Deepest JSON that is embedded: what recursive parsers of clients take.
const DEPTH_MAX: u32 = 128;
/// Longest row of digits in JSON that is embedded. Python takes no longer integer, and its SDK ends the connection for good over one frame that it
/// cannot parse: such a record would be poison.
const DIGITS_MAX: usize = 4_300;

/// Whether a text is one complete JSON text, neither too deep nor with too many digits in a row.
pub(super) fn is_json(text: &str) -> bool {
    Scan { text: text.as_bytes(), at: 0 }.is_one_text()
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn is_one_text(&mut self) -> bool {
        // Of each container that is open, the innermost in the lowest bit: whether it is an object.
        let (mut objects, mut depth) = (0_u128, 0_u32);
        loop {
            let opened = match self.next_token() {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                Some(b'"') if self.string() => None,
                Some(b'-') if self.digits_of(0, true) => None,
                Some(digit @ b'0'..=b'9') if self.digits_of(1, digit != b'0') => None,
                Some(b't') if self.literal(b"rue") => None,
                Some(b'f') if self.literal(b"alse") => None,
                Some(b'n') if self.literal(b"ull") => None,
                _ => return false,
            };
            if let Some(is_object) = opened {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
                objects = objects << 1 | u128::from(is_object);
                self.skip_space();
                if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                    if is_object && !self.name() {
                        return false;
                    }
                    continue;
                }
            }
            // A value has ended, and perhaps the containers that it is the last of.
            loop {
                if depth == 0 {
                    self.skip_space();
                    return self.at == self.text.len();
                }
                let is_object = objects & 1 == 1;
                match self.next_token() {
                    Some(b',') if !is_object || self.name() => break,
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ => return false,
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The first byte behind white space.
    fn next_token(&mut self) -> Option<u8> {
        self.skip_space();
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// A name of an object, and its colon.
    fn name(&mut self) -> bool {
        self.next_token() == Some(b'"') && self.string() && self.next_token() == Some(b':')
    }

    fn literal(&mut self, rest: &[u8]) -> bool {
        let is = self.text[self.at..].starts_with(rest);
        self.at += rest.len();
        is
    }

    /// The rest of a string, its end included.
    fn string(&mut self) -> bool {
        loop {
            while let Some(eight) = self.text.get(self.at..self.at + 8) {
                let eight = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
                let special = specials(eight);
                self.at += special.trailing_zeros() as usize / 8;
                if special != 0 {
                    break;
                }
            }
            // One of the specials, or one of the last bytes.
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return true;
                }
                Some(b'\\') => {
                    self.at += 1;
                    if !self.escape() {
                        return false;
                    }
                }
                Some(0x20..) => self.at += 1,
                _ => return false,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> bool {
        let kind = self.peek();
        self.at += 1;
        match kind {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => {
                let is_hex = self.text.get(self.at..self.at + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                self.at += 4;
                is_hex
            }
            _ => false,
        }
    }

    /// The rest of a number of which so many digits are read; `more`: its whole part may have more.
    fn digits_of(&mut self, before: usize, more: bool) -> bool {
        if before == 0 && self.peek() == Some(b'0') {
            self.at += 1;
        } else if more && !(1..=DIGITS_MAX).contains(&(self.digits() + before)) {
            return false;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !(1..=DIGITS_MAX).contains(&self.digits()) {
                return false;
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            return (1..=DIGITS_MAX).contains(&self.digits());
        }
        true
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }
}

const LOWEST: u64 = 0x0101_0101_0101_0101;
const HIGHEST: u64 = LOWEST << 7;

/// In the highest bit of each byte whether it is a quotation mark, a backslash or a control character; exact up to the first that is (the classic
/// test for a zero byte, Hacker's Delight, 6-1).
fn specials(eight: u64) -> u64 {
    let is_zero = |bytes: u64| bytes.wrapping_sub(LOWEST) & !bytes & HIGHEST;
    let control = eight.wrapping_sub(LOWEST * 0x20) & !eight & HIGHEST;
    control | is_zero(eight ^ (LOWEST * u64::from(b'"'))) | is_zero(eight ^ (LOWEST * u64::from(b'\\')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a parser of a crate says, and what clients can stand.
    fn is_json_to_others(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        for text in [
            "{}",
            "[]",
            " [ ] ",
            "0",
            "-0",
            "-0.5e+10",
            "12.25E-7",
            "\"\"",
            "true",
            "false",
            "null",
            "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"e\"}",
            "\t\r\n[1 , 2\n]\n",
            "\"\\u00e9\\uD800\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "\"éa longer text than eight bytes, with \\\" in it\"",
            "[[[[]]]]",
        ] {
            assert!(is_json(text) && is_json_to_others(text), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "-",
            "-a",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "\"a\nb\"",
            "\"a\u{1f}b is longer than eight\"",
            "tru",
            "truex",
            "nul",
            "[1 2]",
            "{} {}",
            "[}",
            "{]",
            "\"a\" b",
            "--1",
            "1-",
            "00",
            "-01",
            "[\"a\":1]",
            "{\"a\",1}",
        ] {
            assert!(!is_json(text) && !is_json_to_others(text), "{text}");
        }
    }

    #[test]
    fn too_deep_and_too_many_digits_are_not_for_clients() {
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&deep(128)) && !is_json(&deep(129)));
        assert!(is_json(&"9".repeat(4_300)) && !is_json(&"9".repeat(4_301)));
        assert!(!is_json(&format!("[0.{}]", "9".repeat(4_301))) && is_json(&format!("[\"{}\"]", "9".repeat(9_000))));
    }

    /// Texts that are nearly JSON, made of its pieces.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\\"",
            "\\u",
            "a",
            "0",
            "12",
            "-",
            ".",
            "e",
            "E+",
            "true",
            "null",
            "false",
            " ",
            "\n",
            "\u{1}",
            "é",
            "\"key\":",
            "\"a text of more bytes\"",
            "1.5e3",
            "[1,2]",
            "{\"a\":1}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn it_says_what_a_parser_says(text in pieces()) {
            prop_assert_eq!(is_json(&text), is_json_to_others(&text), "{}", text);
        }

        #[test]
        fn it_says_what_a_parser_says_of_any_text(text in "\\PC{0,40}", place in 0usize..40) {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert!(is_json(&quoted));
            // With a byte missing.
            if let Some((place, _)) = quoted.char_indices().nth(place) {
                let mut cut = quoted.clone();
                cut.remove(place);
                prop_assert_eq!(is_json(&cut), is_json_to_others(&cut), "{}", cut);
            }
        }
    }
}
