//! One shard per core. `ShardCore` is its synchronous state machine and the sole owner of the core's state; `driver` runs it on glommio.

mod commands;
mod connection;
pub mod core;
pub mod counters;
pub mod driver;
pub mod effects;
mod errors;
pub mod event;
pub mod executor;
mod hands;
mod home;
mod left;
pub mod letter;
mod misfits;
pub mod pacemaker;
mod publish;
pub mod settings;
mod subscriber;

pub use core::ShardCore;
pub use counters::ShardCounters;
pub use driver::{ShardFailed, ShardPlan, spawn};
pub use effects::{Assignment, Effects, ProduceRecord, ProduceStatus, WriteStatus};
pub use event::{Event, PublishFailure, PublishResult};
pub use executor::{Alone, ExecutorFailed, Poll};
pub use hands::{Broker, LaneEnds, lanes};
pub use letter::Letter;
pub use pacemaker::{Pacemaker, Pulse};
pub use settings::ShardSettings;

pub use crate::limits::TICK_MS;
