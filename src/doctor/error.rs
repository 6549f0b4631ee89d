//! Why nothing could be applied or undone.

use std::io;
use std::path::PathBuf;

/// Nothing was written when one of these is given.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("`doctor --{0}` changes settings of the kernel: run it as root")]
    NotRoot(&'static str),
    #[error("what was there before cannot be kept in {}: {error}; name another file with --undo-file FILE; nothing was changed", path.display())]
    Keep { path: PathBuf, error: io::Error },
    #[error("there is nothing to undo: {} does not exist; --undo-file FILE names another", path.display())]
    NothingKept { path: PathBuf },
    #[error("cannot read {}: {error}; --undo-file FILE names another", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{} is not what `doctor --apply` writes: {what}; nothing was changed", path.display())]
    NotOurs { path: PathBuf, what: String },
}
