//! `corespan-bench`: loads a node and tells what it costs, beside a control in the same seconds.
//!
//! One thread drives all clients with epoll and parses as little as it can, so that the node, not the tool, is what is measured. `account` keeps the
//! books: a figure with a missing, doubled or misplaced record in it is no figure. `report` knows when the tool was the bottleneck.

pub mod account;
pub mod child;
pub mod clients;
pub mod process;
pub mod report;
pub mod sender;
pub mod server;
pub mod stages;
pub mod study;
pub mod tools;
pub mod wire;

pub use clients::{Clients, Seen};
pub use process::Usage;
pub use server::Server;
