//! The machine's CPUs and limits: what there is, who runs where, and what is missing, in words that say how to get it.
//!
//! Owns the plan (which CPUs carry shards, which do the housekeeping), the probes for io_uring and locked memory, and the raising of soft limits.
//! Runs at start, on the main thread, before any other thread exists: threads inherit their CPUs from the one that starts them. Invariant: a shard
//! has a CPU that no other shard has. It never changes anything outside this process.

mod affinity;
mod error;
mod io_uring;
mod limits;
mod machine;
mod plan;
mod ranges;
mod settings;

pub use affinity::pin_current_thread_to;
pub use error::CoresError;
pub use io_uring::{KERNEL_LEAST, probe_io_uring};
pub use limits::{Limit, connections_within, locked_memory_needed, raise_locked_memory, raise_open_files};
pub use machine::{Cpu, Machine};
pub use plan::Plan;
pub use ranges::{cpu_ranges, parse_ranges};
pub use settings::{CoreSettings, HousekeepingChoice, Poll, ShardChoice};
