//! A setting of a file, and what is said of a line that is none.

/// A setting as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// From 1: the line that it begins on.
    pub line: usize,
    pub name: String,
    pub value: String,
}

/// A line that no parser understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    pub line: usize,
    pub what: String,
}

/// The value of a setting, if it is given and not empty.
pub fn value_of<'s>(settings: &'s [Setting], name: &str) -> Option<&'s str> {
    settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.trim()).filter(|value| !value.is_empty())
}
