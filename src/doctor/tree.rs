//! Where `/proc` and `/sys` are: below `/`, or below a folder with a made-up machine.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cores::{CoresError, Machine, parse_ranges};

/// More than any file has that is looked at; `/proc/interrupts` of a large machine has a megabyte.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A root folder. Paths are given without their first slash, as in `proc/sys/net/core/somaxconn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: PathBuf::from("/") }
    }
}

impl Tree {
    pub fn new(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// Whether it is this machine.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What a file holds, without the spaces around it; `None` if it is not there, cannot be read, or is no text.
    pub fn text(&self, path: &str) -> Option<String> {
        self.raw(path).map(|text| text.trim().to_owned())
    }

    /// What a file holds, every byte of it.
    pub(super) fn raw(&self, path: &str) -> Option<String> {
        use std::io::Read as _;
        let mut text = String::new();
        fs::File::open(self.path(path)).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A file's number.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, in order; none if it is not there.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// Replaces what a file holds, in one write, as the kernel wants it. It makes no file.
    pub(super) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        fs::OpenOptions::new().write(true).truncate(true).open(self.path(path))?.write_all(text.as_bytes())
    }

    /// The machine's CPUs, and those that this process may use; of a made-up machine, those of its `proc/self/status`, or all.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn machine(&self) -> Result<Machine, CoresError> {
        if self.is_real() {
            return Machine::probe();
        }
        let status = self.text("proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::to_owned);
        let allowed = allowed.or_else(|| self.text("sys/devices/system/cpu/online")).and_then(|text| parse_ranges(&text));
        match allowed {
            Some(allowed) if !allowed.is_empty() => Ok(Machine::of(&self.root, allowed)),
            _ => Err(CoresError::Affinity(io::Error::other("the made-up machine has no CPUs"))),
        }
    }
}

#[cfg(test)]
pub(super) mod made_up {
    //! Machines for tests.

    use super::*;

    /// A tree with these files, a line in each. It is removed with the folder.
    pub(in crate::doctor) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let tree = Tree::new(folder.path());
        (folder, tree)
    }
}
