//! Interrupts that are served by shards' CPUs.

use super::finding::Finding;
use super::tree::Tree;
use crate::cores::{Plan, cpu_ranges, parse_ranges};

/// Named in the line; the others are counted.
const NAMED_MAX: usize = 6;

/// One line of `/proc/interrupts`.
struct Interrupt {
    number: u32,
    /// How often, on all CPUs together.
    count: u64,
    /// The device, as the kernel calls it.
    device: String,
}

pub(super) fn examine(tree: &Tree, plan: &Plan) -> Finding {
    let Some(text) = tree.text("proc/interrupts") else { return Finding::fine("interrupts", "not there on this host") };
    let spare: Vec<usize> = plan.housekeeping.iter().copied().filter(|cpu| !plan.shards.contains(cpu)).collect();
    if spare.is_empty() {
        return Finding::fine("interrupts", "every CPU has a shard: they have nowhere else to go");
    }
    let mut here: Vec<(Interrupt, Vec<usize>)> = Vec::new();
    for interrupt in read(&text).into_iter().filter(|interrupt| interrupt.count > 0) {
        let file = |name: &str| tree.text(&format!("proc/irq/{}/{name}", interrupt.number)).filter(|text| !text.is_empty());
        // Where it goes; older kernels tell only where it may go.
        let cpus = file("effective_affinity_list").or_else(|| file("smp_affinity_list")).and_then(|text| parse_ranges(&text));
        let cpus: Vec<usize> = cpus.unwrap_or_default().into_iter().filter(|cpu| plan.shards.contains(cpu)).collect();
        if !cpus.is_empty() {
            here.push((interrupt, cpus));
        }
    }
    if here.is_empty() {
        return Finding::fine("interrupts", "none that was in use goes to a shard's CPU");
    }
    here.sort_by_key(|(interrupt, _)| std::cmp::Reverse(interrupt.count));
    let named: Vec<String> = (here.iter().take(NAMED_MAX))
        .map(|(interrupt, cpus)| format!("{} ({}) on CPU {}", interrupt.number, interrupt.device, cpu_ranges(cpus)))
        .collect();
    let more = if here.len() > NAMED_MAX { format!(" and {} more", here.len() - NAMED_MAX) } else { String::new() };
    let (number, spare) = (here[0].0.number, cpu_ranges(&spare));
    Finding::advice(
        "interrupts",
        format!("interrupts stop shards: {}{more}", named.join(", ")),
        format!(
            "corespan-tune irq apply --nic NAME --cpus {spare} for a network card's, `echo {spare} > /proc/irq/{number}/smp_affinity_list` for \
             another's; stop irqbalance or exclude them there"
        ),
    )
}

/// Those with a number: the others belong to a CPU each.
fn read(text: &str) -> Vec<Interrupt> {
    let columns = text.lines().next().unwrap_or_default().split_whitespace().filter(|word| word.starts_with("CPU")).count();
    let one = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let number = number.trim().parse().ok()?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let count = words.iter().take(columns).map_while(|word| word.parse::<u64>().ok()).fold(0, u64::saturating_add);
        Some(Interrupt { number, count, device: words.last().copied().unwrap_or("nobody").to_owned() })
    };
    text.lines().skip(1).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tree::made_up;
    use super::*;

    const INTERRUPTS: &str = "           CPU0       CPU1       CPU2\n  24:          1          0        7  IO-APIC   5-edge      ttyS0\n  \
        41:       1853          0     9000  PCI-MSIX-0000:00:04.0   1-edge      eth0-rx-0\n  \
        42:       0          0     0  PCI-MSIX-0000:00:04.0   2-edge      eth0-tx-0\n NMI:  3  4  5   Non-maskable interrupts";

    fn plan(shards: &[usize], housekeeping: &[usize]) -> Plan {
        Plan { shards: shards.to_vec(), housekeeping: housekeeping.to_vec(), notes: Vec::new() }
    }

    #[test]
    fn an_interrupt_on_a_shards_cpu_is_named_with_its_remedy() {
        let (_folder, tree) = made_up::tree(&[
            ("proc/interrupts", INTERRUPTS),
            ("proc/irq/24/smp_affinity_list", "0-2"),
            ("proc/irq/24/effective_affinity_list", "0"),
            ("proc/irq/41/smp_affinity_list", "2"),
            ("proc/irq/42/smp_affinity_list", "2"),
        ]);
        let finding = examine(&tree, &plan(&[1, 2], &[0]));
        assert_eq!((finding.verdict, finding.finding.as_str()), (Verdict::Advice, "interrupts stop shards: 41 (eth0-rx-0) on CPU 2"));
        let remedy = finding.remedy.unwrap();
        assert!(remedy.contains("corespan-tune irq apply") && remedy.contains("echo 0 > /proc/irq/41/smp_affinity_list"), "{remedy}");
    }

    #[test]
    fn interrupts_are_no_matter_where_every_cpu_has_a_shard_or_none_is_told() {
        let (_folder, tree) = made_up::tree(&[("proc/interrupts", INTERRUPTS), ("proc/irq/41/smp_affinity_list", "2")]);
        assert_eq!(examine(&tree, &plan(&[0, 1, 2], &[0, 1, 2])).verdict, Verdict::Fine);
        assert_eq!(examine(&tree, &plan(&[1], &[0])).verdict, Verdict::Fine);
        let (_folder, empty) = made_up::tree(&[]);
        assert_eq!(examine(&empty, &plan(&[1], &[0])).verdict, Verdict::Fine);
    }
}
