//! One shard per core. `ShardCore` is its synchronous state machine and the sole owner of the core's state; `driver` runs it on glommio.

pub mod core;
pub mod counters;
pub mod effects;
pub mod event;
pub mod executor;
pub mod pacemaker;
pub mod settings;

pub use core::{ShardCore, TICK_MS};
pub use counters::ShardCounters;
pub use effects::{Assignment, Effects, ProduceRecord, ProduceStatus, WriteStatus};
pub use event::{Event, PublishFailure, PublishResult};
pub use executor::{Poll, executor_builder};
pub use pacemaker::{Pacemaker, Pulse};
pub use settings::ShardSettings;
