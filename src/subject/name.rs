//! Subject names: `/T/k` is topic `T` and key `k`, `/T` is topic `T` and a null key.

use std::sync::Arc;

/// A valid subject. Cheap to clone; ordered and hashed by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectName(Arc<str>);

/// Why a text is not a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("a subject starts with `/`, as in /topic/key")]
    NoLeadingSlash,
    #[error("a subject has no empty segment and no trailing `/`")]
    EmptySegment,
    #[error("the first segment of a subject is a Kafka topic: 1 to 249 characters of a-z A-Z 0-9 . _ -, and not `.` or `..`")]
    BadTopic,
    #[error("a subject has no control characters")]
    ControlCharacter,
    #[error("the subject is longer than {0} bytes (subject.bytes.max)")]
    TooLong(usize),
}

impl SubjectName {
    /// Checks a client's text. `bytes_max` is `subject.bytes.max`.
    pub fn parse(text: &str, bytes_max: usize) -> Result<SubjectName, SubjectError> {
        if text.len() > bytes_max {
            return Err(SubjectError::TooLong(bytes_max));
        }
        let rest = text.strip_prefix('/').ok_or(SubjectError::NoLeadingSlash)?;
        let (topic, key) = split(rest);
        if topic.is_empty() {
            return Err(SubjectError::EmptySegment);
        }
        if !is_topic(topic) {
            return Err(SubjectError::BadTopic);
        }
        if let Some(key) = key {
            check_key(key)?;
        }
        Ok(SubjectName(Arc::from(text)))
    }

    /// The subject of a record, if it has one: the key must be UTF-8 with no empty segment and no control character.
    pub fn of_record(topic: &str, key: Option<&[u8]>, bytes_max: usize) -> Result<SubjectName, SubjectError> {
        let Some(key) = key else {
            return Ok(SubjectName(Arc::from(format!("/{topic}"))));
        };
        let key = record_key(topic.len(), key, bytes_max)?;
        Ok(SubjectName(Arc::from(format!("/{topic}/{key}"))))
    }

    /// The whole subject, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Kafka topic.
    pub fn topic(&self) -> &str {
        split(&self.0[1..]).0
    }

    /// The record key; `None` is a null key.
    pub fn key(&self) -> Option<&str> {
        split(&self.0[1..]).1
    }
}

/// Topic and key of a subject without its leading slash. Topics are short: no search does better than looking at each byte.
fn split(rest: &str) -> (&str, Option<&str>) {
    match rest.bytes().position(|byte| byte == b'/') {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    }
}

/// Checks the key of a record of a topic whose name has `topic_bytes` bytes.
pub fn record_key(topic_bytes: usize, key: &[u8], bytes_max: usize) -> Result<&str, SubjectError> {
    if topic_bytes + key.len() + 2 > bytes_max {
        return Err(SubjectError::TooLong(bytes_max));
    }
    let key = std::str::from_utf8(key).map_err(|_| SubjectError::ControlCharacter)?;
    check_key(key)?;
    Ok(key)
}

fn check_key(key: &str) -> Result<(), SubjectError> {
    if key.chars().any(char::is_control) {
        return Err(SubjectError::ControlCharacter);
    }
    if key.is_empty() || key.starts_with('/') || key.ends_with('/') || key.contains("//") {
        return Err(SubjectError::EmptySegment);
    }
    Ok(())
}

/// Whether Kafka takes the text as a topic name.
pub fn is_topic(text: &str) -> bool {
    (1..=249).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_maps_to_topic_and_key_and_back() {
        for (subject, topic, key) in [
            ("/vehicles/1", "vehicles", Some("1")),
            ("/vehicles/1/speed", "vehicles", Some("1/speed")),
            ("/vehicles", "vehicles", None),
            ("/v/../%20 é", "v", Some("../%20 é")),
        ] {
            let name = SubjectName::parse(subject, 1024).unwrap();
            assert_eq!((name.topic(), name.key()), (topic, key));
            assert_eq!(SubjectName::of_record(topic, key.map(str::as_bytes), 1024).unwrap(), name);
        }
    }

    #[test]
    fn what_is_not_a_subject_is_refused_with_its_reason() {
        for (text, error) in [
            ("vehicles/1", SubjectError::NoLeadingSlash),
            ("", SubjectError::NoLeadingSlash),
            ("/", SubjectError::EmptySegment),
            ("/v/", SubjectError::EmptySegment),
            ("/v//1", SubjectError::EmptySegment),
            ("/v/1/", SubjectError::EmptySegment),
            ("/ü/1", SubjectError::BadTopic),
            ("/../1", SubjectError::BadTopic),
            ("/v/a\nb", SubjectError::ControlCharacter),
        ] {
            assert_eq!(SubjectName::parse(text, 1024), Err(error), "{text:?}");
        }
        assert_eq!(SubjectName::parse("/v/12345", 7), Err(SubjectError::TooLong(7)));
        assert!(SubjectName::of_record("v", Some(&[0xff]), 1024).is_err());
        assert!(SubjectName::of_record("v", Some(b""), 1024).is_err());
    }
}
