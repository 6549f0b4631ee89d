//! One shard per core. `ShardCore` is its synchronous state machine and the sole owner of the core's state, in three rooms: `home`, `subscribers`,
//! `connections`. `driver` runs it on glommio.

mod commands;
mod connections;
pub mod counters;
pub mod effects;
mod errors;
pub mod event;
mod home;
mod outgoing;
pub mod settings;
mod subscribers;

mod broker;
pub mod core;
pub mod driver;
pub mod executor;
mod hands;
pub mod letter;
pub mod pacemaker;

pub use crate::handoff::{LaneEnds, lanes};
pub use broker::Broker;
pub use core::{Bounds, ShardCore};
pub use counters::ShardCounters;
pub use driver::{ShardFailed, ShardPlan, spawn};
pub use effects::{Assignment, Effects, ProduceRecord, ProduceStatus, WriteStatus};
pub use event::{Event, PublishFailure, PublishResult};
pub use executor::{Alone, ExecutorFailed, Poll};
pub use letter::Letter;
pub use pacemaker::{Pacemaker, Pulse};
pub use settings::ShardSettings;

pub use crate::limits::TICK_MS;
