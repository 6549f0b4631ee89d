//! A file that is read again when it has changed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is wrong with a file, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct FileError {
    pub path: PathBuf,
    pub what: String,
}

/// A file with a bound. It blocks: housekeeping threads only.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    bytes_max: u64,
    /// What the newest look saw.
    stamp: Option<Stamp>,
    /// The stamp was the same at two looks. Two changes within the grain of the file system's clock leave one stamp, so a changed file is read
    /// at the look after it too.
    settled: bool,
}

/// Differs when a file was written or replaced. The time of change cannot be set by hand, as `mtime` can.
type Stamp = (u64, u64, u64, i64, i64);

impl WatchedFile {
    pub(crate) fn new(path: PathBuf, bytes_max: u64) -> WatchedFile {
        WatchedFile { path, bytes_max, stamp: None, settled: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The text, if it may have changed since the last look. Look once in a second or so.
    ///
    /// # Errors
    /// It cannot be read, is larger than its bound, is no regular file or not UTF-8. All but the first are told once per change.
    pub(crate) fn changed(&mut self) -> Result<Option<String>, FileError> {
        let attributes = fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?;
        let stamp = (attributes.dev(), attributes.ino(), attributes.len(), attributes.ctime(), attributes.ctime_nsec());
        let same = self.stamp == Some(stamp);
        if same && self.settled {
            return Ok(None);
        }
        (self.stamp, self.settled) = (Some(stamp), same);
        if !attributes.is_file() {
            return Err(self.error("it is not a regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(self.bytes_max + 1).read_to_end(&mut bytes))
            .map_err(|error| self.unreadable(&error))?;
        if bytes.len() as u64 > self.bytes_max {
            return Err(self.error(format!("it is larger than {} bytes", self.bytes_max)));
        }
        String::from_utf8(bytes).map(Some).map_err(|_| self.error("it is not UTF-8".to_owned()))
    }

    fn unreadable(&self, error: &io::Error) -> FileError {
        self.error(match error.kind() {
            io::ErrorKind::NotFound => "there is no such file; make it, or correct the path".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "it may not be read; let the user or the group that the node runs as read it, and enter its folders".to_owned()
            }
            _ => format!("it cannot be read: {error}"),
        })
    }

    pub(crate) fn error(&self, what: String) -> FileError {
        FileError { path: self.path.clone(), what }
    }
}
