//! All that is looked at, in order: the configuration, the host, the ports, Kafka.

use std::time::SystemTime;

use super::finding::{Finding, Report};
use super::tree::Tree;
use super::{certificates, cluster, cpus, host, interrupts, limits, ports, sysctls};
use crate::config::{Config, ConfigError};
use crate::cores::Plan;

/// Looks at everything that can be looked at. A configuration that is wrong is a failure a line, and what depends on it is left out.
/// `with_kafka`: Kafka is asked, which takes 10 s where it does not answer, and some 30 s where it answers slowly.
pub fn examine(tree: &Tree, config: &Result<Config, ConfigError>, with_kafka: bool) -> Report {
    let mut findings = host::examine(tree);
    findings.extend(sysctls::examine(tree));
    match config {
        Err(error) => {
            let lines = error.lines();
            let failures = lines.iter().map(|line| {
                Finding::failure(
                    "config",
                    line.clone(),
                    "`corespan check` says the same; the CPUs, ports and Kafka are looked at when it is right",
                )
            });
            findings.splice(0..0, failures);
        }
        Ok(config) => {
            findings.splice(0..0, of_config(config));
            findings.extend(configured(tree, config, with_kafka));
        }
    }
    Report { findings }
}

fn of_config(config: &Config) -> Vec<Finding> {
    let notes = config.notes();
    if notes.is_empty() {
        return vec![Finding::fine("config", format!("{}: nothing wrong", config.file))];
    }
    let one = |note: &String| {
        let (finding, remedy) = note.split_once("; ").unwrap_or((note, "see what config/corespan.toml says of it"));
        Finding::warning("config", finding, remedy)
    };
    notes.iter().map(one).collect()
}

fn configured(tree: &Tree, config: &Config, with_kafka: bool) -> Vec<Finding> {
    let machine = match tree.machine() {
        Ok(machine) => machine,
        Err(error) => return vec![Finding::of_message("cpu-plan", &error.to_string())],
    };
    let plan = match Plan::new(&config.cores, &machine) {
        Ok(plan) => plan,
        Err(error) => return vec![Finding::of_message("cpu-plan", &error.to_string())],
    };
    let shards = plan.shards.len();
    let mut findings = cpus::examine(tree, &machine, &plan, config.cores.poll);
    if let Err(error) = config.check_shards(shards) {
        findings.extend(error.lines().iter().map(|line| Finding::of_message("cpu-plan", line)));
    }
    findings.push(interrupts::examine(tree, &plan));
    findings.extend(limits::examine(config, shards));
    findings.extend(ports::examine(&config.listen));
    findings.extend(certificates::examine(config, SystemTime::now()));
    if with_kafka {
        findings.extend(cluster::examine(config, shards));
    }
    findings
}
