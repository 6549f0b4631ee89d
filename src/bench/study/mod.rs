//! Studies: several tools in one run on one server (`run`), two such runs side by side (`compare`), runs as a page (`page`).
//!
//! `scenario` reads the file; `tested` is the server, `actor` a role's process, `round` lets them play; `balance` checks what was received against
//! what was sent, and `summary` writes it down. `finding` reads reports and summaries back, for `sameness` and `comparison` with `bootstrap`, and for
//! `plot` and `page`. Every wait has a limit, and no process that was started here outlives the run.

mod actor;
pub mod balance;
pub mod bootstrap;
mod command;
pub mod comparison;
pub mod finding;
mod interrupt;
pub mod options;
pub mod page;
pub mod plot;
mod round;
pub mod sameness;
pub mod scenario;
mod summary;
mod tested;

pub use command::Study;
