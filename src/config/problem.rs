//! What can be wrong with a configuration: every problem is one line that names the key, the value, what is allowed and the remedy.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, or `CORESPAN_KAFKA_EXTRA_OPTS`.
    pub origin: String,
    /// Line of the file, from 1.
    pub line: Option<usize>,
    /// Key, value, what is allowed, remedy: one line.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}: {}", self.origin, self.text),
            None => write!(out, "{}: {}", self.origin, self.text),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {error}; {}", path.display(), remedy(error))]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("the configuration {} has {bytes} bytes, the most is {most}; is it the right file?", path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    /// Never empty, in the order of the lines.
    #[error("{}", lines(problems))]
    Invalid { problems: Vec<Problem> },
}

impl ConfigError {
    /// The error as lines, one for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "let the user that runs corespan read it, or name another file with --config FILE",
        _ => "name another file with --config FILE",
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The candidate that was probably meant: near in spelling, or the same but for its separators.
pub fn did_you_mean<'c>(given: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], ".");
    let wanted = plain(given);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(given.len()) / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_far_ones_are_not() {
        let keys = ["cache.bytes.max", "cache.records.max", "listen.address", "topics"];
        assert_eq!(did_you_mean("cache.byte.max", keys), Some("cache.bytes.max"));
        assert_eq!(did_you_mean("cache_bytes_max", keys), Some("cache.bytes.max"));
        assert_eq!(did_you_mean("listen.adress", keys), Some("listen.address"));
        assert_eq!(did_you_mean("topic", keys), Some("topics"));
        assert_eq!(did_you_mean("entirely.other", keys), None);
    }
}
