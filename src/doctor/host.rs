//! What of the host concerns the node as a whole: kernel, clock, memory.

use super::finding::Finding;
use super::tree::Tree;
use crate::cores::{KERNEL_LEAST, probe_io_uring};

/// Clocks that are read without asking a device or a hypervisor.
const CLOCKS_FAST: [&str; 5] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

pub(super) fn examine(tree: &Tree) -> Vec<Finding> {
    let mut findings = vec![kernel(tree)];
    // A ring says more than files do, and is this machine's.
    if tree.is_real() {
        findings.push(match probe_io_uring() {
            Ok(()) => Finding::fine("io_uring", "this process may use it"),
            Err(error) => Finding::of_message("io_uring", &error.to_string()),
        });
    }
    findings.extend([clock_source(tree), huge_pages(tree)]);
    findings.extend(numa_balancing(tree));
    findings
}

fn kernel(tree: &Tree) -> Finding {
    let Some(release) = tree.text("proc/sys/kernel/osrelease") else {
        return Finding::warning("kernel", "the kernel does not tell its version", "let this process read /proc/sys/kernel/osrelease");
    };
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < KERNEL_LEAST => Finding::failure(
            "kernel",
            format!("Linux {release} is too old"),
            format!("run Linux {}.{} or newer", KERNEL_LEAST.0, KERNEL_LEAST.1),
        ),
        (Some(_), Some(_)) => Finding::fine("kernel", format!("Linux {release}")),
        _ => Finding::warning("kernel", format!("{release:?} is no version that is known"), "see whether it is Linux 5.8 or newer"),
    }
}

fn clock_source(tree: &Tree) -> Finding {
    let folder = "sys/devices/system/clocksource/clocksource0";
    let Some(clock) = tree.text(&format!("{folder}/current_clocksource")) else {
        return Finding::fine("clock-source", "not there on this host");
    };
    if CLOCKS_FAST.contains(&clock.as_str()) {
        return Finding::fine("clock-source", clock);
    }
    let available = tree.text(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let remedy = match available.split_whitespace().find(|name| CLOCKS_FAST.contains(name)) {
        Some(fast) => format!("echo {fast} > /{folder}/current_clocksource, unless the kernel's log says why it left it (\"unstable\")"),
        None => format!("this host offers {available:?} only: look in the kernel's log, and in the settings of firmware or hypervisor"),
    };
    Finding::warning("clock-source", format!("{clock}: each look at the time is a system call or asks a device"), remedy)
}

fn huge_pages(tree: &Tree) -> Finding {
    match tree.text("sys/kernel/mm/transparent_hugepage/enabled") {
        None => Finding::fine("huge-pages", "not there on this host"),
        Some(text) if text.contains("[always]") => Finding::advice(
            "huge-pages",
            "transparent huge pages for every program: memory is rounded up to 2 MiB, and allocations may wait for compaction",
            "corespan-tune hugepages apply",
        ),
        Some(text) => Finding::fine("huge-pages", text),
    }
}

fn numa_balancing(tree: &Tree) -> Option<Finding> {
    let nodes = tree.names("sys/devices/system/node");
    let nodes = nodes.iter().filter(|name| name.strip_prefix("node").is_some_and(|number| number.parse::<u16>().is_ok())).count();
    let balancing = tree.number("proc/sys/kernel/numa_balancing")?;
    Some(if nodes > 1 && balancing != 0 {
        Finding::advice(
            "numa-balancing",
            format!("kernel.numa_balancing = {balancing}: the kernel unmaps pages to learn who uses them, and shards are pinned"),
            "corespan-tune numa apply",
        )
    } else {
        Finding::fine("numa-balancing", format!("{nodes} nodes, kernel.numa_balancing = {balancing}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tree::made_up;
    use super::*;

    #[test]
    fn a_slow_clock_is_named_with_the_fast_one_that_is_there() {
        let clock = "sys/devices/system/clocksource/clocksource0";
        let (_folder, tree) = made_up::tree(&[
            (&format!("{clock}/current_clocksource"), "hpet"),
            (&format!("{clock}/available_clocksource"), "hpet tsc acpi_pm"),
        ]);
        let finding = clock_source(&tree);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.finding.starts_with("hpet") && finding.remedy.unwrap().starts_with("echo tsc > /sys/"));
    }

    #[test]
    fn an_old_kernel_is_a_failure_and_what_is_not_there_is_none() {
        let (_folder, tree) = made_up::tree(&[("proc/sys/kernel/osrelease", "5.4.0-42-generic")]);
        let findings = examine(&tree);
        assert_eq!((findings[0].verdict, findings[0].remedy.as_deref()), (Verdict::Failure, Some("run Linux 5.8 or newer")));
        assert!(findings[1..].iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
    }

    #[test]
    fn balancing_of_pages_is_of_interest_with_two_nodes_only() {
        for (nodes, verdict) in [(&["node0"][..], Verdict::Fine), (&["node0", "node1"], Verdict::Advice)] {
            let mut files = vec![("proc/sys/kernel/numa_balancing".to_owned(), "1")];
            files.extend(nodes.iter().map(|node| (format!("sys/devices/system/node/{node}/cpulist"), "0-1")));
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            let (_folder, tree) = made_up::tree(&files);
            assert_eq!(numa_balancing(&tree).unwrap().verdict, verdict);
        }
    }
}
