//! Where the configuration goes. It may hold passwords: a new file is its owner's alone.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::problem::ImportError;

/// Writes to a file, or to standard output. A file that exists is replaced with `force` only; it keeps its owner and mode, but others lose their right.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write(text: &str, output: Option<&Path>, force: bool) -> Result<(), ImportError> {
    let Some(path) = output else {
        // A closed pipe (`| head`) is no failure.
        let _ = io::stdout().lock().write_all(text.as_bytes());
        return Ok(());
    };
    let unwritable = |error| ImportError::Unwritable { path: path.to_owned(), error };
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match new {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && force => {
            let file = OpenOptions::new().write(true).open(path).map_err(unwritable)?;
            let mode = file.metadata().map_err(unwritable)?.permissions().mode();
            file.set_permissions(Permissions::from_mode(mode & 0o770)).map_err(unwritable)?;
            file.set_len(0).map_err(unwritable)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(ImportError::Exists(path.to_owned())),
        new => new.map_err(unwritable)?,
    };
    file.write_all(text.as_bytes()).map_err(unwritable)
}
