//! `corespan check`: what the configuration was understood to say, and what would run where.

use std::fmt::Write as _;
use std::io::Write;

use corespan::config::{Config, EXTRA_OPTIONS, Effective, Origin, size_text};
use corespan::cores::{Machine, Plan, cpu_ranges, locked_memory_needed, probe_io_uring, raise_locked_memory, raise_open_files};

/// What this machine lacks, a line each.
#[derive(Debug, thiserror::Error)]
#[error("this machine lacks what a node needs")]
pub struct Lacking(pub Vec<String>);

/// Prints it. Errors are what would keep a node from starting: the configuration, or what this machine lacks, unless the node is meant for another
/// (`elsewhere`).
/// `quiet`: nothing is printed if nothing is wrong.
pub fn check(config: &Config, elsewhere: bool, quiet: bool) -> anyhow::Result<()> {
    let machine = Machine::probe()?;
    let plan = Plan::new(&config.cores, &machine)?;
    config.check_shards(plan.shards.len())?;
    let lacking: Vec<String> = [probe_io_uring().err(), raise_locked_memory(plan.shards.len()).err()]
        .into_iter()
        .flatten()
        .map(|error| format!("`corespan serve` would not start on this machine: {error}"))
        .collect();
    let text = describe(config, &machine, &plan, &lacking)?;
    // A closed pipe (`| head`) is no failure of the configuration.
    if !quiet {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    if lacking.is_empty() || elsewhere { Ok(()) } else { Err(Lacking(lacking).into()) }
}

fn describe(config: &Config, machine: &Machine, plan: &Plan, lacking: &[String]) -> anyhow::Result<String> {
    let mut out = String::new();
    writeln!(out, "# {}: nothing wrong. Every key with its value:", config.file)?;
    let written = |one: &Effective| quoted_where_needed(&one.key, if one.is_file { ".file" } else { "" });
    let keys: Vec<_> = config.effective.iter().map(|effective| format!("{} = {}", written(effective), effective.value)).collect();
    let width = keys.iter().map(|line| line.chars().count()).filter(|width| *width <= 72).max().unwrap_or(0);
    for (line, effective) in keys.iter().zip(&config.effective) {
        let origin = match effective.origin {
            None => "default".to_owned(),
            Some(Origin::Line(line)) => format!("line {line}"),
            Some(Origin::ExtraOptions) => EXTRA_OPTIONS.to_owned(),
        };
        writeln!(out, "{line:width$}  # {origin}")?;
    }
    writeln!(out, "\n# This machine:")?;
    writeln!(out, "# CPUs: {} online, {} usable by this process", cpu_ranges(&machine.online), cpu_ranges(&machine.allowed))?;
    for (shard, cpu) in plan.shards.iter().enumerate() {
        writeln!(out, "# shard {shard}: CPU {cpu}{}", neighbours(machine, *cpu))?;
    }
    writeln!(out, "# housekeeping: CPUs {}", cpu_ranges(&plan.housekeeping))?;
    let shards = plan.shards.len() as u64;
    let cache = size_text(config.cache.bytes_max as u64 * shards);
    let outboxes = size_text(config.outbox.shard_bytes_max as u64 * shards);
    writeln!(out, "# memory bounds of all shards: cache {cache}, outboxes {outboxes}")?;
    writeln!(out, "# locked memory needed: {}", size_text(locked_memory_needed(plan.shards.len())))?;
    match raise_open_files() {
        Ok(files) => {
            let connections = config.connections_within(files.soft, plan.shards.len());
            writeln!(out, "# open files: {}; connections: {} on each shard", files.soft, connections.shard_max)?;
            if let Some(note) = connections.note {
                writeln!(out, "# note: {note}")?;
            }
        }
        Err(error) => writeln!(out, "# warning: {error}")?,
    }
    for line in config.open_to() {
        writeln!(out, "# open: {line}")?;
    }
    for note in plan.notes.iter().chain(&config.notes()) {
        writeln!(out, "# note: {note}")?;
    }
    for line in lacking {
        writeln!(out, "# warning: {line}")?;
    }
    Ok(out)
}

fn neighbours(machine: &Machine, number: usize) -> String {
    let Some(cpu) = machine.cpu(number) else { return String::new() };
    let mut text = String::new();
    let others: Vec<usize> = cpu.siblings.iter().copied().filter(|sibling| *sibling != number).collect();
    if !others.is_empty() {
        text.push_str(&format!(", shares its core with CPU {}", cpu_ranges(&others)));
    }
    if let Some(node) = cpu.node {
        text.push_str(&format!(", NUMA node {node}"));
    }
    text
}

/// A key as TOML takes it at the top of a file. Kafka's and the topics' names are quoted, for `topics` may be a value and a table of its own.
fn quoted_where_needed(key: &str, end: &str) -> String {
    for table in ["kafka.consumer.", "kafka.producer."] {
        if let Some(name) = key.strip_prefix(table) {
            return format!("{table}{:?}", format!("{name}{end}"));
        }
    }
    match key.strip_prefix("topic.").and_then(|rest| rest.rsplit_once('.')) {
        Some((topic, last)) => format!("topic.{topic:?}.{last}{end}"),
        None => format!("{key}{end}"),
    }
}
