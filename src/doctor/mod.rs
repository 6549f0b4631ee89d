//! `corespan doctor` and `corespan plan`: whether host, configuration and Kafka are as `tuning/README.md` and the manual want them, and who runs where.
//!
//! Owns the findings: what is looked at, what it is worth, and what to do about it. Runs on the main thread of a process that serves nobody. Host
//! files are read, and written, below a [`Tree`] only, so tests have made-up machines. Invariants: what a host lacks (a virtual machine has no
//! cpufreq) is told and is no error; every wait has an end; nothing is written without `--apply`, and what was there is on the disk before.

mod finding;
mod tree;

mod host;

mod cpus;
mod interrupts;
mod limits;
mod sysctls;

mod certificates;
mod cluster;
mod ports;

mod apply;
mod placement;

mod error;
mod examination;

pub use apply::{apply, undo};
pub use error::DoctorError;
pub use examination::examine;
pub use finding::{Finding, Report, Verdict};
pub use placement::Placement;
pub use tree::Tree;
