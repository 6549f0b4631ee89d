//! Tokens and users that are not let in any more, whatever their tokens say.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::watched_file::{FileError, WatchedFile};

/// Bytes of the file; its memory is some five times that.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Lines of the file that revoke something.
const ENTRIES_MAX: usize = 200_000;

/// What has been revoked, at one time. Immutable: shards share it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RevokedSet {
    jtis: HashSet<Box<str>>,
    users: HashSet<Box<str>>,
}

impl RevokedSet {
    /// Whether the `jti` or the user is revoked. A token without a `jti` can be revoked by its user only; the empty user cannot be revoked.
    pub fn is_revoked(&self, jti: Option<&str>, user: &str) -> bool {
        jti.is_some_and(|jti| self.jtis.contains(jti)) || self.users.contains(user)
    }

    /// Reads lines `jti X` and `user Y`; what follows the word and one space is taken as it is, up to the end of the line, so a user may have spaces.
    /// Empty lines and those that start with `#` say nothing.
    ///
    /// # Errors
    /// A line says something else, or there are more than 200,000.
    pub fn parse(text: &str) -> Result<RevokedSet, String> {
        let mut set = RevokedSet::default();
        for (place, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(' ') {
                Some(("jti", jti)) if !jti.trim().is_empty() => set.jtis.insert(Box::from(jti)),
                Some(("user", user)) if !user.trim().is_empty() => set.users.insert(Box::from(user)),
                _ => return Err(format!("line {} is neither `jti X` nor `user Y`", place + 1)),
            };
            if set.jtis.len() + set.users.len() > ENTRIES_MAX {
                return Err(format!("it has more than {ENTRIES_MAX} entries"));
            }
        }
        Ok(set)
    }
}

/// The file of revocations, and what it held when it was last read well. It reads the file: housekeeping threads only.
#[derive(Debug)]
pub struct Revocations {
    file: Option<WatchedFile>,
    set: Arc<RevokedSet>,
}

impl Revocations {
    /// Nothing is revoked, ever.
    pub fn none() -> Revocations {
        Revocations { file: None, set: Arc::default() }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, has a line that says nothing, more than 200,000 entries or more than 16 MiB.
    pub fn open(path: PathBuf) -> Result<Revocations, FileError> {
        let mut revocations = Revocations { file: Some(WatchedFile::new(path, FILE_BYTES_MAX)), set: Arc::default() };
        revocations.reload()?;
        Ok(revocations)
    }

    /// What is revoked now.
    pub fn set(&self) -> Arc<RevokedSet> {
        self.set.clone()
    }

    /// Looks at the file once; whether it says something else now. A revocation is in force within a second if this is called that often.
    ///
    /// # Errors
    /// The file is bad or gone: what was revoked stays so. A file that is bad in its contents is told of once or twice.
    pub fn reload(&mut self) -> Result<bool, FileError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let Some(text) = file.changed()? else { return Ok(false) };
        let set = RevokedSet::parse(&text).map_err(|what| file.error(what))?;
        let changed = *self.set != set;
        if changed {
            self.set = Arc::new(set);
        }
        Ok(changed)
    }
}
