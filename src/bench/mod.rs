//! `corespan-bench`: loads a node and tells what it costs, beside a control in the same run.
//!
//! One thread drives all clients with epoll and parses as little as it can, so that the node, not the tool, is what is measured. Every run checks
//! sequences: a figure with a gap or a duplicate in it is no figure.

pub mod clients;
pub mod process;
pub mod sender;
pub mod server;

pub use clients::{Clients, Seen};
pub use process::Usage;
pub use server::Server;
