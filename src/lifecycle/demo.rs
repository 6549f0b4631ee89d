//! `corespan demo`: a node on an embedded Kafka with a live feed.

use std::net::IpAddr;

use anyhow::bail;

/// What the command line says about the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Address to listen on, for both ports.
    pub host: IpAddr,
    /// Pages and WebSocket; 0 takes any free port.
    pub port: u16,
    /// Metrics and health; 0 takes any free port.
    pub admin_port: u16,
    /// Shards; `None` is `"auto"`.
    pub shards: Option<u16>,
}

/// Runs the demo until a signal asks it to stop. Errors are start-up failures, each one readable line.
pub fn demo(_options: DemoOptions) -> anyhow::Result<()> {
    bail!("`corespan demo` is not built yet in this version; `corespan check` works")
}
