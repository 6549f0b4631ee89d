//! The deterministic simulator: N shards, a fake Kafka, fake clients, virtual time, one seed. No thread, no clock, no I/O.
//!
//! `world::run(seed)` plays one world: random events in random order (records, lane messages, slow readers, reconnects to another node with
//! positions from here and there, topics that appear, grow, vanish and are made again), then everything heals, comes to rest, and every promise is
//! checked. The judge is `oracle`: what a subscriber saw must be exactly the log from its subscribe reply on.

pub mod client;
pub mod codec;
pub mod coverage;
pub mod hands;
pub mod kafka;
mod law;
pub mod names;
mod node;
pub mod oracle;
mod paths;
pub mod sabotage;
mod wire;
pub mod world;

pub use coverage::Coverage;
pub use sabotage::{Place, Sabotage, Way};
pub use world::{Broken, Mix, run, whole_trace};
