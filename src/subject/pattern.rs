//! Patterns of subjects, with variables, and what is made of them: `/orders/{region}/new` and the topic `orders-{region}`.
//!
//! A variable is one whole segment (`{name}`), or, as the last one, all that is left (`{*name}`: one segment or more). Nothing else is special, so a
//! pattern is matched segment by segment, in the time that reading the subject takes.

use std::fmt;

/// Segments of a pattern at most.
const SEGMENTS_MAX: usize = 32;

/// A pattern of subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One(String),
    Rest(String),
}

/// A text with variables of a pattern in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The place of the variable among the pattern's.
    Variable(usize),
}

/// Why a text is no pattern, or no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a subject starts with `/`, as in /orders/{{region}}/new")]
    NoLeadingSlash,
    #[error("a subject has no empty segment and no trailing `/`")]
    EmptySegment,
    #[error("{0:?}: braces stand around a whole segment, a name between them: {{region}}, or as the last segment {{*rest}}")]
    BadVariable(String),
    #[error("the variable {{{0}}} stands in it twice")]
    Twice(String),
    #[error("{{{0}}} is no variable of subject = {1:?}")]
    Unknown(String, String),
    #[error("a `{{` without its `}}`, or the other way round")]
    Unbalanced,
    #[error("it has more than {SEGMENTS_MAX} segments")]
    TooLong,
}

impl SubjectPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<SubjectPattern, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        let mut segments: Vec<Segment> = Vec::new();
        let count = rest.split('/').count();
        if count > SEGMENTS_MAX {
            return Err(PatternError::TooLong);
        }
        for (place, segment) in rest.split('/').enumerate() {
            if segment.is_empty() {
                return Err(PatternError::EmptySegment);
            }
            let bad = || PatternError::BadVariable(segment.to_owned());
            let segment = match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                Some(inner) => {
                    let (name, is_rest) = inner.strip_prefix('*').map_or((inner, false), |name| (name, true));
                    if !is_name(name) || is_rest && place + 1 != count {
                        return Err(bad());
                    }
                    if segments.iter().any(|other| other.variable() == Some(name)) {
                        return Err(PatternError::Twice(name.to_owned()));
                    }
                    if is_rest { Segment::Rest(name.to_owned()) } else { Segment::One(name.to_owned()) }
                }
                None if segment.contains(['{', '}']) => return Err(bad()),
                None => Segment::Literal(segment.to_owned()),
            };
            segments.push(segment);
        }
        Ok(SubjectPattern { text: text.to_owned(), segments })
    }

    /// What the variables are in a subject, in their order; `None` if it does not match.
    pub fn matches<'s>(&self, subject: &'s str) -> Option<Vec<&'s str>> {
        let mut rest = Some(subject.strip_prefix('/')?);
        let mut values = Vec::new();
        for segment in &self.segments {
            let left = rest?;
            let (first, others) = left.split_once('/').map_or((left, None), |(first, others)| (first, Some(others)));
            match segment {
                Segment::Literal(literal) if literal == first => rest = others,
                Segment::Literal(_) => return None,
                Segment::One(_) => {
                    values.push(first);
                    rest = others;
                }
                Segment::Rest(_) => {
                    values.push(left);
                    rest = None;
                }
            }
        }
        rest.is_none().then_some(values)
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.segments.iter().filter_map(Segment::variable).position(|variable| variable == name)
    }
}

impl Segment {
    fn variable(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name),
        }
    }
}

impl Template {
    /// Reads a template whose variables are those of a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, pattern: &SubjectPattern) -> Result<Template, PatternError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            let inner = tail.strip_prefix('{').ok_or(PatternError::Unbalanced)?;
            let (name, after) = inner.split_once('}').ok_or(PatternError::Unbalanced)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let place = pattern.place_of(name).ok_or_else(|| PatternError::Unknown(name.to_owned(), pattern.text.clone()))?;
            parts.push(Part::Variable(place));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Template { text: text.to_owned(), parts })
    }

    /// The text, if it has no variable.
    pub fn literal(&self) -> Option<&str> {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_))).then_some(self.text.as_str())
    }

    /// What it begins with whatever the variables are.
    pub fn literal_start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// The text with the values of the variables in it.
    pub fn fill(&self, values: &[&str]) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(place) => text.push_str(values[*place]),
            }
        }
        text
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn values(pattern: &str, subject: &str) -> Option<Vec<String>> {
        let pattern = SubjectPattern::parse(pattern).expect("a pattern");
        pattern.matches(subject).map(|values| values.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn a_variable_is_one_whole_segment_and_the_last_may_be_all_that_is_left() {
        for (pattern, subject, expected) in [
            ("/server/status2", "/server/status2", Some(vec![])),
            ("/server/status2", "/server/status22", None),
            ("/server/status2", "/server", None),
            ("/server/status2", "/server/status2/x", None),
            ("/orders/{region}/new", "/orders/eu/new", Some(vec!["eu"])),
            ("/orders/{region}/new", "/orders/eu/old", None),
            ("/orders/{region}/new", "/orders/eu/x/new", None),
            ("/{a}/{b}", "/x/y", Some(vec!["x", "y"])),
            ("/{a}/{b}", "/x", None),
            ("/v/{*key}", "/v/1/speed", Some(vec!["1/speed"])),
            ("/v/{*key}", "/v/1", Some(vec!["1"])),
            ("/v/{*key}", "/v", None),
        ] {
            let expected = expected.map(|values: Vec<&str>| values.into_iter().map(str::to_owned).collect());
            assert_eq!(values(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        for (text, part) in [
            ("orders", "starts with `/`"),
            ("/orders//x", "empty segment"),
            ("/orders/", "empty segment"),
            ("/", "empty segment"),
            ("/a{b}", "whole segment"),
            ("/{b", "whole segment"),
            ("/{}", "whole segment"),
            ("/{a-b}", "whole segment"),
            ("/{*a}/b", "whole segment"),
            ("/{a}/{a}", "twice"),
            (&"/a".repeat(33), "32 segments"),
        ] {
            let error = SubjectPattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_template_takes_the_variables_of_its_pattern_and_no_other() {
        let pattern = SubjectPattern::parse("/orders/{region}/{*id}").expect("a pattern");
        let values = pattern.matches("/orders/eu/7/x").expect("it matches");
        let template = Template::parse("orders-{region}.{id}", &pattern).expect("a template");
        assert_eq!((template.fill(&values).as_str(), template.literal(), template.literal_start()), ("orders-eu.7/x", None, "orders-"));
        let template = Template::parse("orders", &pattern).expect("a template");
        assert_eq!((template.fill(&values).as_str(), template.literal()), ("orders", Some("orders")));
        for (text, part) in
            [("{nobody}", "no variable of subject = \"/orders/{region}/{*id}\""), ("{region", "without"), ("region}", "without")]
        {
            let error = Template::parse(text, &pattern).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(Template::parse("", &pattern).expect("a template").fill(&values), "");
        let mut shown = String::new();
        write!(shown, "{pattern} {template}").expect("a text");
        assert_eq!(shown, "/orders/{region}/{*id} orders");
    }
}
