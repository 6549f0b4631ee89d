//! What became of reloads, for `corespan reload` and `/reload`.

use std::sync::{Mutex, PoisonError};

/// The reloads of this process.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<Reloaded>);

/// The newest reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reloaded {
    /// The process, to be sent SIGHUP.
    pub process: u32,
    /// Reloads so far.
    pub count: u64,
    /// The file was refused as a whole; the settings before are in force.
    pub refused: bool,
    /// What is in force now, what needs a restart, or what is wrong: a line each.
    pub lines: Vec<String>,
}

impl Reloads {
    /// A reload is over.
    pub fn add(&self, refused: bool, lines: Vec<String>) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Reloaded { process: 0, count: newest.count + 1, refused, lines };
    }

    /// The newest one.
    pub fn newest(&self) -> Reloaded {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Reloaded { process: std::process::id(), ..newest }
    }
}
