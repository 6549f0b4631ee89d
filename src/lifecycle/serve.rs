//! `corespan serve`: from a configuration to a running node, until it is asked to stop.

use super::error::LifecycleError;
use super::node::{Node, prepare};
use crate::config::Config;
use crate::kafka::ShardBroker;

/// Runs a node until a signal asks it to stop. Errors are start-up failures, each one readable line.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let plan = prepare(&config)?;
    let not_yet = "`corespan serve` is not built yet in this version; `corespan check` works";
    Node::start::<ShardBroker>(&config, &plan, false, |_, _, _| Err(LifecycleError::Kafka(not_yet.to_owned())))?;
    Ok(())
}
