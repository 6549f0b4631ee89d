//! The shards' CPUs: who shares a core, whose node the network card is on, how fast they run and how deeply they sleep.

use super::finding::Finding;
use super::tree::Tree;
use crate::cores::{Machine, Plan, Poll, cpu_ranges};

/// As `corespan-tune cstates` has it: deeper states take longer than this to wake from, in microseconds.
const WAKE_US_MAX: i64 = 10;

pub(super) fn examine(tree: &Tree, machine: &Machine, plan: &Plan, poll: Poll) -> Vec<Finding> {
    let mut findings = vec![placed(plan)];
    for note in &plan.notes {
        // Shared cores and nodes have lines of their own.
        if note.contains("spins") {
            findings.push(Finding::warning("cpu-plan", note.clone(), "set cores.housekeeping to CPUs without shards"));
        }
    }
    findings.push(siblings(machine, plan));
    findings.push(nodes(machine, plan));
    findings.extend(network_cards(tree, machine, plan));
    findings.extend([governor(tree, plan), idle_states(tree, plan, poll)]);
    findings
}

fn placed(plan: &Plan) -> Finding {
    let (shards, housekeeping) = (cpu_ranges(&plan.shards), cpu_ranges(&plan.housekeeping));
    Finding::fine("cpu-plan", format!("shards on CPUs {shards}, housekeeping on {housekeeping} (`corespan plan` says why)"))
}

fn siblings(machine: &Machine, plan: &Plan) -> Finding {
    let of = |cpu: usize| machine.cpu(cpu).map(|cpu| cpu.siblings.as_slice()).unwrap_or_default();
    if plan.shards.iter().all(|cpu| of(*cpu).is_empty()) {
        return Finding::fine("smt-siblings", "this host does not tell which CPUs share a core");
    }
    let shares = |cpu: &&usize| of(**cpu).iter().any(|other| other != *cpu && plan.shards.contains(other));
    let sharing: Vec<usize> = plan.shards.iter().filter(shares).copied().collect();
    if sharing.is_empty() {
        return Finding::fine("smt-siblings", "no two shards share a core");
    }
    let mut alone: Vec<usize> = Vec::new();
    for cpu in &plan.shards {
        if !of(*cpu).iter().any(|other| alone.contains(other)) {
            alone.push(*cpu);
        }
    }
    alone.sort_unstable();
    Finding::advice(
        "smt-siblings",
        format!("shards on CPUs {} share cores: two of a core do 1.2 to 1.4 times the work of one, and answer later", cpu_ranges(&sharing)),
        format!("cores.shards = {alone:?} has one shard a core, where p99 counts more than throughput"),
    )
}

fn nodes(machine: &Machine, plan: &Plan) -> Finding {
    let mut nodes: Vec<usize> = plan.shards.iter().filter_map(|cpu| machine.cpu(*cpu)?.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    match nodes.as_slice() {
        [] => Finding::fine("numa-shards", "this host does not tell its NUMA nodes"),
        [node] => Finding::fine("numa-shards", format!("all shards are on NUMA node {node}")),
        nodes => Finding::advice(
            "numa-shards",
            format!("shards are on NUMA nodes {}", cpu_ranges(nodes)),
            "run one corespan for each node, with cores.shards and cores.housekeeping of that node",
        ),
    }
}

/// Cards of real hardware that are up. One without a node (a virtual machine) is passed over.
fn network_cards(tree: &Tree, machine: &Machine, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.names("sys/class/net") {
        let Some(node) = tree.number(&format!("sys/class/net/{name}/device/numa_node")).and_then(|node| usize::try_from(node).ok()) else {
            continue;
        };
        if tree.text(&format!("sys/class/net/{name}/operstate")).is_some_and(|state| state == "down") {
            continue;
        }
        let is_far = |cpu: &usize| machine.cpu(*cpu).and_then(|cpu| cpu.node).is_some_and(|own| own != node);
        let far: Vec<usize> = plan.shards.iter().copied().filter(is_far).collect();
        findings.push(if far.is_empty() {
            Finding::fine("numa-nic", format!("{name} is on NUMA node {node}, as the shards are"))
        } else {
            let near: Vec<usize> = machine.cpus.iter().filter(|cpu| cpu.node == Some(node)).map(|cpu| cpu.number).collect();
            let remedy = if near.is_empty() {
                format!("let corespan use CPUs of node {node} (CPUAffinity=, AllowedCPUs=)")
            } else {
                format!("choose cores.shards among CPUs {}, if clients come by {name}", cpu_ranges(&near))
            };
            Finding::advice("numa-nic", format!("{name} is on NUMA node {node}, and shards on CPUs {} are not", cpu_ranges(&far)), remedy)
        });
    }
    if findings.is_empty() {
        findings.push(Finding::fine("numa-nic", "no network card here tells its NUMA node"));
    }
    findings
}

/// CPUs with shards whose governor is another than `performance` although they offer that, with the file of each. For `--apply` too.
pub(super) fn slow_governors(tree: &Tree, plan: &Plan) -> Vec<(usize, String)> {
    let path = |cpu: usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let is_slow = |cpu: &usize| {
        let offered = tree.text(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_available_governors"));
        let can = offered.is_none_or(|offered| offered.split_whitespace().any(|name| name == "performance"));
        can && tree.text(&path(*cpu)).is_some_and(|governor| governor != "performance")
    };
    plan.shards.iter().copied().filter(is_slow).map(|cpu| (cpu, path(cpu))).collect()
}

fn governor(tree: &Tree, plan: &Plan) -> Finding {
    let there = plan.shards.iter().filter_map(|cpu| tree.text(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")));
    let mut there: Vec<String> = there.collect();
    there.sort_unstable();
    there.dedup();
    if there.is_empty() {
        return Finding::fine("governor", "not there on this host: firmware or hypervisor set the frequency");
    }
    let slow: Vec<usize> = slow_governors(tree, plan).into_iter().map(|(cpu, _)| cpu).collect();
    if slow.is_empty() {
        return Finding::fine("governor", format!("{} on the shards' CPUs", there.join(", ")));
    }
    let cpus = cpu_ranges(&slow);
    Finding::advice(
        "governor",
        format!("CPUs {cpus} have shards and another governor than performance ({})", there.join(", ")),
        format!("corespan doctor --apply, or corespan-tune governor apply --cpus {cpus}"),
    )
}

fn idle_states(tree: &Tree, plan: &Plan, poll: Poll) -> Finding {
    let (mut deep, mut slowest, mut is_there) = (Vec::new(), 0, false);
    for cpu in &plan.shards {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpuidle");
        for state in tree.names(&folder).iter().filter(|name| name.starts_with("state")) {
            let Some(wake_us) = tree.number(&format!("{folder}/{state}/latency")) else { continue };
            is_there = true;
            if wake_us > WAKE_US_MAX && tree.number(&format!("{folder}/{state}/disable")) == Some(0) {
                deep.push(*cpu);
                slowest = slowest.max(wake_us);
            }
        }
    }
    let cpus = cpu_ranges(&deep);
    match (is_there, deep.is_empty(), poll) {
        (false, _, _) => Finding::fine("idle-states", "not there on this host: the hypervisor chooses them"),
        (true, true, _) => Finding::fine("idle-states", format!("the shards' CPUs wake within {WAKE_US_MAX} us")),
        (true, false, Poll::Busy) => Finding::fine("idle-states", "of no interest: cores.poll = \"busy\" never idles"),
        (true, false, Poll::Park | Poll::Adaptive) => Finding::advice(
            "idle-states",
            format!("CPUs {cpus} have shards and take up to {slowest} us to wake"),
            format!("corespan-tune cstates apply --cpus {cpus}, or cores.poll = \"busy\""),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tree::made_up;
    use super::*;
    use crate::cores::Cpu;

    fn machine(nodes: &[usize], cores: &[&[usize]]) -> Machine {
        let cpus = nodes.iter().enumerate().map(|(number, node)| Cpu {
            number,
            siblings: cores.iter().find(|core| core.contains(&number)).map(|core| core.to_vec()).unwrap_or_default(),
            node: Some(*node),
        });
        let all: Vec<usize> = (0..nodes.len()).collect();
        Machine { online: all.clone(), allowed: all, cpus: cpus.collect() }
    }

    fn plan(shards: &[usize]) -> Plan {
        Plan { shards: shards.to_vec(), housekeeping: vec![0], notes: Vec::new() }
    }

    #[test]
    fn shards_that_share_a_core_are_told_which_cpus_have_one_of_their_own() {
        let machine = machine(&[0; 4], &[&[0, 2], &[1, 3]]);
        let finding = siblings(&machine, &plan(&[1, 2, 3]));
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(finding.finding.contains("CPUs 1,3 ") && finding.remedy.unwrap().starts_with("cores.shards = [1, 2] "));
        assert_eq!(siblings(&machine, &plan(&[2, 3])).verdict, Verdict::Fine);
    }

    #[test]
    fn a_network_card_on_another_node_than_the_shards_is_named_with_the_cpus_beside_it() {
        let (_folder, tree) = made_up::tree(&[
            ("sys/class/net/eth0/device/numa_node", "1"),
            ("sys/class/net/eth0/operstate", "up"),
            ("sys/class/net/virtual0/device/numa_node", "-1"),
        ]);
        let machine = machine(&[0, 0, 1, 1], &[]);
        let findings = network_cards(&tree, &machine, &plan(&[1, 2]));
        assert_eq!((findings.len(), findings[0].verdict), (1, Verdict::Advice));
        assert!(findings[0].finding.contains("shards on CPUs 1 are not") && findings[0].remedy.as_ref().unwrap().contains("CPUs 2-3,"));
        assert_eq!(network_cards(&tree, &machine, &plan(&[2, 3]))[0].verdict, Verdict::Fine);
        assert_eq!(nodes(&machine, &plan(&[1, 2])).verdict, Verdict::Advice);
    }

    #[test]
    fn a_governor_that_saves_power_counts_on_shards_cpus_only() {
        let file = |cpu: usize| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let (_folder, tree) = made_up::tree(&[(&file(0), "powersave"), (&file(1), "performance"), (&file(2), "schedutil")]);
        assert_eq!(governor(&tree, &plan(&[1])).verdict, Verdict::Fine);
        let finding = governor(&tree, &plan(&[1, 2]));
        assert!(finding.verdict == Verdict::Advice && finding.remedy.unwrap().ends_with("--cpus 2"));
    }

    #[test]
    fn deep_idle_states_are_of_no_interest_to_a_shard_that_spins() {
        let state = "sys/devices/system/cpu/cpu1/cpuidle/state";
        let (_folder, tree) = made_up::tree(&[
            (&format!("{state}1/latency"), "2"),
            (&format!("{state}1/disable"), "0"),
            (&format!("{state}2/latency"), "133"),
            (&format!("{state}2/disable"), "0"),
        ]);
        let finding = idle_states(&tree, &plan(&[1]), Poll::Park);
        assert!(finding.verdict == Verdict::Advice && finding.finding.contains("133 us"), "{finding:?}");
        assert_eq!(idle_states(&tree, &plan(&[1]), Poll::Busy).verdict, Verdict::Fine);
        tree.write(&format!("{state}2/disable"), "1\n").unwrap();
        assert_eq!(idle_states(&tree, &plan(&[1]), Poll::Park).verdict, Verdict::Fine);
        assert_eq!(idle_states(&tree, &plan(&[7]), Poll::Park).verdict, Verdict::Fine);
    }
}
