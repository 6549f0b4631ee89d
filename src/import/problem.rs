//! Why there is no configuration, or only an incomplete one.

use std::io;
use std::path::PathBuf;

/// What went wrong, a line each.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Files that cannot be read and lines that are not understood: nothing was written.
    #[error("{}", .0.join("\n"))]
    NotUnderstood(Vec<String>),
    /// It was written, and these have to be added before a node starts with it.
    #[error("{}", .0.join("\n"))]
    Incomplete(Vec<String>),
    #[error("{} exists; name another file with --output, or replace it with --force", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {error}; name another file with --output", path.display())]
    Unwritable { path: PathBuf, error: io::Error },
}

impl ImportError {
    /// The error as lines, one for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}
