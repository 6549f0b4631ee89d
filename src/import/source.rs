//! The files of an installation, as settings.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::problem::ImportError;
use super::setting::{BadLine, Setting};
use super::{java_properties, name_value_lines};

/// Such files have some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
const SERVER: &str = "migratorydata.conf";
/// Where releases have had the add-on's files.
const CLIENT_FOLDERS: [&str; 2] = ["addons/kafka", "integrations/kafka"];
const TOKEN_FOLDERS: [&str; 2] = ["addons/authorization-jwt", "integrations/authorization-jwt"];

/// Everything that was found. Of a name that is given twice the last one counts, as it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub server: Vec<Setting>,
    pub consumer: Vec<Setting>,
    pub producer: Vec<Setting>,
    /// Of the add-on for JSON Web Tokens; empty if there is no such file.
    pub tokens: Vec<Setting>,
}

type Parse = fn(&str) -> Result<Vec<Setting>, Vec<BadLine>>;

impl Source {
    /// Reads a folder.
    ///
    /// # Errors
    /// A line for each file that cannot be read, and for each line of one that is not understood.
    pub fn read(folder: &Path) -> Result<Source, ImportError> {
        let mut problems = Vec::new();
        let mut read = |path: &Path, parse: Parse| match read_file(path, parse) {
            Ok(settings) => settings,
            Err(lines) => {
                problems.extend(lines);
                Vec::new()
            }
        };
        let source = Source {
            server: read(&folder.join(SERVER), name_value_lines::parse),
            consumer: read(&first_of(folder, CLIENT_FOLDERS, "consumer.properties"), java_properties::parse),
            producer: read(&first_of(folder, CLIENT_FOLDERS, "producer.properties"), java_properties::parse),
            tokens: match first_of(folder, TOKEN_FOLDERS, "configuration.properties") {
                path if path.exists() => read(&path, java_properties::parse),
                _ => Vec::new(),
            },
        };
        if problems.is_empty() { Ok(source) } else { Err(ImportError::NotUnderstood(problems)) }
    }
}

/// The first that there is, or the first at all, for the message.
fn first_of(folder: &Path, folders: [&str; 2], name: &str) -> PathBuf {
    let mut paths = folders.map(|below| folder.join(below).join(name)).into_iter();
    let first = paths.next().unwrap_or_default();
    if first.exists() { first } else { paths.find(|path| path.exists()).unwrap_or(first) }
}

fn read_file(path: &Path, parse: Parse) -> Result<Vec<Setting>, Vec<String>> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run this as a user who may read it",
            io::ErrorKind::NotFound => {
                "--migratorydata wants the folder that has migratorydata.conf and addons/kafka/ with consumer.properties and producer.properties, \
                 most often /etc/migratorydata; make an empty file if there were no such settings"
            }
            _ => "is it the right file?",
        };
        vec![format!("cannot read {shown}: {error}; {remedy}")]
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(vec![format!("{shown} has more than {FILE_BYTES_MAX} bytes; is it the right file?")]);
    }
    let settings = parse(&java_properties::text(&bytes))
        .map_err(|lines| lines.into_iter().map(|bad| format!("{shown}:{}: {}", bad.line, bad.what)).collect::<Vec<_>>())?;
    Ok(last_of_each(settings))
}

fn last_of_each(settings: Vec<Setting>) -> Vec<Setting> {
    let is_last = |place: usize| !settings[place + 1..].iter().any(|later| later.name == settings[place].name);
    let last: Vec<bool> = (0..settings.len()).map(is_last).collect();
    settings.into_iter().zip(last).filter(|(_, is_last)| *is_last).map(|(setting, _)| setting).collect()
}
