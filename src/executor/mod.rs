//! A shard on its core: `driver` runs the state machine in turns on a glommio executor, `hands` does what it asks for, `slice` says when
//! somebody is to be written to, `rest` waits when there is nothing to do, and `pulse` shows others that it lives.

mod driver;
mod hands;
mod pulse;
mod rest;
mod slice;
mod thread;

pub use driver::{ShardFailed, ShardPlan, spawn};
pub use pulse::Pulse;
pub use thread::{Alone, ExecutorFailed, start};
