//! From a folder to a file.

use std::path::Path;

use super::client_properties::{write_consumer, write_producer};
use super::draft::Draft;
use super::problem::ImportError;
use super::server_settings;
use super::source::Source;
use crate::config::{Config, ConfigError};

/// What is to be written, and what has to be added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub text: String,
    /// A line each; without one `corespan check` accepts the text.
    pub lacks: Vec<String>,
}

/// Reads `migratorydata.conf` and the properties of the Kafka add-on in a folder.
///
/// # Errors
/// A file that cannot be read, or a line that is not understood.
pub fn migratorydata(folder: &Path) -> Result<Imported, ImportError> {
    Ok(translate(&Source::read(folder)?, &folder.display().to_string()))
}

/// `folder` is its name in the file's head.
pub fn translate(source: &Source, folder: &str) -> Imported {
    let mut draft = Draft::default();
    server_settings::write(&source.server, &source.tokens, &mut draft);
    write_consumer(&source.consumer, &mut draft);
    write_producer(&source.producer, &mut draft);
    draft.share();
    let mut head = vec![
        format!("The configuration of corespan, made by `corespan import` from {folder}."),
        "config/corespan.toml (/usr/share/corespan/corespan.toml) is the manual of all keys, docs/migrating.md that of moving in. Comments say what changed its meaning and \
         what has no counterpart; TO DO is what a node does not start without, or must not be overlooked."
            .to_owned(),
        "It may hold passwords. The node's user must be able to read it: chgrp corespan FILE, chmod 0640 FILE.".to_owned(),
    ];
    let text = draft.file(&head);
    let mut lacks = draft.lacks.clone();
    // What is wrong is the same without the line numbers, which the head moves.
    let problems = match Config::parse(&text, "corespan.toml", "") {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { problems }) => problems.into_iter().map(|problem| problem.text).collect(),
        Err(other) => other.lines(),
    };
    head.extend(problems.iter().map(|problem| format!("TO DO: {problem}")));
    lacks.extend(problems);
    Imported { text: draft.file(&head), lacks }
}
