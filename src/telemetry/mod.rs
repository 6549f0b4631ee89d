//! What an operator sees: counters and latencies of every shard, the health of the node, and logs.
//!
//! Shards write plain relaxed stores into memory of their own (`ShardTelemetry`), once a tick; the rest runs on housekeeping threads: the admin
//! port answers `/metrics` (Prometheus text), `/ready` and `/live`. Nothing here takes a lock on the data path, and nothing here decides anything.

mod admin;
mod error;
mod exposition;
mod health;
mod journal;
mod logs;
mod process;
mod registry;
mod reloads;

pub use admin::AdminServer;
pub use error::TelemetryError;
pub use health::Health;
pub use logs::{change_log_level, start_logs};
pub use registry::{Registry, ShardTelemetry};
pub use reloads::{Reloaded, Reloads};
