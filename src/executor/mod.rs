//! A shard on its core: `driver` runs the state machine in turns on a glommio executor, `hands` does what it asks for, `pacemaker` sees that no
//! executor sleeps through a wake-up.

mod driver;
mod hands;
mod pacemaker;
mod thread;

pub use driver::{ShardFailed, ShardPlan, spawn};
pub use pacemaker::{Pacemaker, Pulse};
pub use thread::{Alone, ExecutorFailed, start};
