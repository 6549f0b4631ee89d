//! `corespan serve`: from a configuration to a running node, until it is asked to stop.

use anyhow::bail;

use crate::config::Config;
use crate::cores;

/// Runs a node until a signal asks it to stop. Errors are start-up failures, each one readable line.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let machine = cores::Machine::probe()?;
    let plan = cores::Plan::new(&config.cores, &machine)?;
    config.check_shards(plan.shards.len())?;
    cores::raise_locked_memory(plan.shards.len())?;
    cores::raise_open_files()?;
    cores::probe_io_uring()?;
    cores::pin_current_thread_to(&plan.housekeeping)?;
    bail!("`corespan serve` is not built yet in this version; `corespan check` works")
}
