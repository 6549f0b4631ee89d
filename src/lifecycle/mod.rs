//! From a configuration to a running node, and back: start order, readiness, signals, drain.
//!
//! Runs on housekeeping threads only; whatever it starts besides the shards inherits the housekeeping CPUs. Start order: limits and the housekeeping
//! mask, the port, Kafka's clients, the shards, the admin port. Stop order: accepting ends, clients are sent away over
//! `drain.seconds`, open publishes are answered, producers flush, shards end.

mod demo;
mod error;
mod feed;
mod gatekeeper;
mod kafka_metrics;
mod node;
mod ports;
mod reload;
mod serve;
mod shards;
mod signals;
mod supervisor;

pub use demo::{DemoOptions, demo};
pub use error::LifecycleError;
pub use feed::{Fleet, TOPIC as DEMO_TOPIC};
pub use node::{Node, prepare};
pub use reload::{ReloadFailed, ask_to_reload, running_node};
pub use serve::{serve, serve_embedded};
pub use shards::{Desks, Shards};
pub use signals::{Signal, Signals};
