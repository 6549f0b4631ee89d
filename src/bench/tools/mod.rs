//! The tools of `corespan-bench` that load any server: `sub`, `pub`, `produce`, `echo`, `storm`, `slow`. They speak the Centrifuge protocol, or send a template's text.
//!
//! A record carries the time when it was due and a number (`stamp`); latencies run from due times, so a sender that is late shows in them. One thread
//! drives all connections with epoll (`crowd`, `connection`, `message`, `dialect`); another writes the interval log. Every wait has a limit. A run is
//! `good`, `failed` (what was tested did wrong) or `void` (the tool was the bottleneck), and `report` says which.

pub mod agenda;
pub mod books;
pub mod budget;
pub mod connection;
pub mod crowd;
pub mod cues;
pub mod dialect;
mod echo;
pub mod echo_options;
pub mod failed;
pub mod flows;
pub mod host;
pub mod interval_log;
pub mod message;
mod opening;
pub mod options;
pub mod pattern;
pub mod position;
mod producers;
pub mod progress;
mod publishers;
pub mod recorder;
pub mod report;
pub mod schedule;
mod slow;
pub mod slow_options;
pub mod stamp;
mod storm;
mod storm_clients;
pub mod storm_options;
mod subscribers;
pub mod target;
mod tool;

pub use failed::ToolFailed;
pub use report::Verdict;
pub use tool::Tool;
