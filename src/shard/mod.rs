//! One shard per core. `ShardCore` is its synchronous state machine and the sole owner of the core's state, in three rooms: `home`, `subscribers`,
//! `connections`. `executor` runs it on glommio.

mod commands;
mod connections;
pub mod counters;
pub mod effects;
mod errors;
pub mod event;
mod home;
mod outgoing;
pub mod settings;
pub mod stages;
mod subscribers;

#[cfg(test)]
mod rooms_tests;

mod broker;
pub mod core;
pub mod letter;

pub use broker::Broker;
pub use core::{Bounds, ShardCore};
pub use counters::ShardCounters;
pub use effects::{Assignment, Effects, MissedPublishes, ProduceRecord, ProduceStatus, WriteStatus};
pub use event::{Event, PublishFailure, PublishResult};
pub use letter::Letter;
pub use settings::ShardSettings;
pub use stages::{ShardStages, Stage, Stages};
