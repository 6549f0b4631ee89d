//! A subject or key by pattern: `/bench/{n}`, `/bench/{n%100}`.

/// Text with the number of a connection or subject in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// What stands between the texts: a number, or its remainder.
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Number { modulus: Option<u64> },
}

impl Pattern {
    /// The text for a number.
    pub fn of(&self, number: u64) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Number { modulus } => text.push_str(&modulus.map_or(number, |modulus| number % modulus).to_string()),
            }
        }
        text
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (inner, behind) = behind.split_once('}').ok_or_else(|| format!("{text:?} has a {{ without a }}"))?;
            let wrong = || format!("{{{inner}}} in {text:?} is neither {{n}} nor {{n%NUMBER}} with a number of 1 or more");
            let modulus = match inner.strip_prefix('n').ok_or_else(wrong)? {
                "" => None,
                modulus => {
                    let modulus = modulus.strip_prefix('%').and_then(|modulus| modulus.parse().ok());
                    Some(modulus.filter(|&modulus| modulus > 0).ok_or_else(wrong)?)
                }
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Number { modulus });
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Pattern { text: text.to_owned(), pieces })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_its_remainder_stands_where_the_pattern_says() {
        let of = |pattern: &str, number| pattern.parse::<Pattern>().map(|pattern| pattern.of(number));
        assert_eq!(of("/bench/{n}", 12).as_deref(), Ok("/bench/12"));
        assert_eq!(of("/b{n}/{n%10}x", 12).as_deref(), Ok("/b12/2x"));
        assert_eq!(of("/bench/all", 12).as_deref(), Ok("/bench/all"));
        for wrong in ["/{m}", "/{n%0}", "/{n%x}", "/{n", "/{n/2}"] {
            assert!(of(wrong, 1).is_err(), "{wrong}");
        }
    }
}
