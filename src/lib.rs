//! corespan: a thread-per-core bridge between Apache Kafka and WebSocket clients. `src/README.md` is the map.
#![deny(unsafe_code)]

pub mod allocator;
pub mod bench;
pub mod config;
pub mod cores;
pub mod doctor;
pub mod entitlement;
pub mod executor;
pub mod handoff;
pub mod http;
pub mod ids;
pub mod import;
pub mod kafka;
pub mod lifecycle;
pub mod limits;
pub mod manual;
pub mod net;
pub mod session;
pub mod shard;
pub mod sim;
pub mod subject;
pub mod telemetry;
pub mod tls;
pub mod watched_file;
