//! `corespan plan`: what each CPU is for, and why.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cores::{CoreSettings, HousekeepingChoice, Machine, Plan, ShardChoice, cpu_ranges};

/// One CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuPlace {
    pub cpu: usize,
    /// Its shard's number.
    pub shard: Option<usize>,
    pub housekeeping: bool,
    /// Other CPUs of its core.
    pub shares_core_with: Vec<usize>,
    pub numa_node: Option<usize>,
    pub why: String,
}

/// Every CPU that runs, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    pub cpus: Vec<CpuPlace>,
    /// What an operator should know about it, one line each.
    pub notes: Vec<String>,
}

impl Placement {
    pub fn new(settings: &CoreSettings, machine: &Machine, plan: &Plan) -> Placement {
        let mut all: Vec<usize> = machine.online.iter().chain(&machine.allowed).copied().collect();
        all.sort_unstable();
        all.dedup();
        let place = |cpu: usize| {
            let shard = plan.shards.iter().position(|shard| *shard == cpu);
            let housekeeping = plan.housekeeping.contains(&cpu);
            let known = machine.cpu(cpu);
            let siblings = known.map(|known| known.siblings.as_slice()).unwrap_or_default();
            CpuPlace {
                cpu,
                shard,
                housekeeping,
                shares_core_with: siblings.iter().copied().filter(|sibling| *sibling != cpu).collect(),
                numa_node: known.and_then(|known| known.node),
                why: why(settings, machine, plan, cpu, shard.is_some(), housekeeping),
            }
        };
        Placement { cpus: all.into_iter().map(place).collect(), notes: plan.notes.clone() }
    }

    /// A line for each CPU, then the notes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for place in &self.cpus {
            let mut what: Vec<String> = place.shard.map(|shard| format!("shard {shard}")).into_iter().collect();
            what.extend(place.housekeeping.then(|| "housekeeping".to_owned()));
            let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
            let mut more = String::new();
            if !place.shares_core_with.is_empty() {
                more.push_str(&format!("; shares its core with CPU {}", cpu_ranges(&place.shares_core_with)));
            }
            if let Some(node) = place.numa_node {
                more.push_str(&format!("; NUMA node {node}"));
            }
            // A String takes whatever is written.
            let _ = writeln!(out, "CPU {}: {what}: {}{more}", place.cpu, place.why);
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }

    /// The same as JSON, with a line's end.
    pub fn json(&self) -> String {
        format!("{:#}\n", serde_json::json!({"cpus": self.cpus, "notes": self.notes}))
    }
}

fn why(settings: &CoreSettings, machine: &Machine, plan: &Plan, cpu: usize, is_shards: bool, is_housekeeping: bool) -> String {
    if !machine.allowed.contains(&cpu) {
        return "this process may not use it (affinity mask, cgroup, isolcpus)".to_owned();
    }
    let shard = match &settings.shards {
        ShardChoice::Auto if plan.shards.len() == machine.allowed.len() => {
            "cores.shards = \"auto\" takes all of fewer than four".to_owned()
        }
        ShardChoice::Auto => "cores.shards = \"auto\" takes all but the lowest".to_owned(),
        ShardChoice::Count(count) => format!("cores.shards = {count} takes the highest"),
        ShardChoice::Cpus(_) => "cores.shards names it".to_owned(),
    };
    let no_shard = match &settings.shards {
        ShardChoice::Auto => "cores.shards = \"auto\" spares the lowest, where interrupts mostly are".to_owned(),
        ShardChoice::Count(count) => format!("cores.shards = {count} has no shard for it"),
        ShardChoice::Cpus(_) => "cores.shards does not name it".to_owned(),
    };
    let housekeeping = match &settings.housekeeping {
        HousekeepingChoice::Auto if is_shards => "no CPU is without a shard, so Kafka's threads have all",
        HousekeepingChoice::Auto => "cores.housekeeping = \"auto\" has those without a shard",
        HousekeepingChoice::Cpus(_) => "cores.housekeeping names it",
    };
    match (is_shards, is_housekeeping) {
        (true, true) => format!("{shard}, {housekeeping}"),
        (true, false) => shard,
        (false, true) => format!("{no_shard}, {housekeeping}"),
        (false, false) => format!("{no_shard}, cores.housekeeping neither"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::{Cpu, Poll};

    #[test]
    fn every_cpu_has_a_line_that_says_what_it_is_for_and_why() {
        let cpus = (1..5).map(|number| Cpu { number, siblings: vec![number, (number + 2) % 4], node: Some(0) }).collect();
        let machine = Machine { online: (0..6).collect(), allowed: vec![1, 2, 3, 4], cpus };
        let settings = CoreSettings { shards: ShardChoice::Auto, housekeeping: HousekeepingChoice::Auto, poll: Poll::Park };
        let plan = Plan::new(&settings, &machine).unwrap();
        let placement = Placement::new(&settings, &machine, &plan);
        let text = placement.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("CPU 0: nothing: this process may not use it"), "{text}");
        assert!(lines[1].starts_with("CPU 1: housekeeping: cores.shards = \"auto\" spares the lowest"), "{text}");
        assert!(
            lines[2].starts_with("CPU 2: shard 0: cores.shards = \"auto\" takes all but the lowest; shares its core with CPU 0; NUMA"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&placement.json()).unwrap();
        assert_eq!((&json["cpus"][3]["shard"], &json["cpus"][1]["housekeeping"]), (&1.into(), &true.into()));
    }
}
