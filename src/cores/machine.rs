//! Which CPUs there are, which of them this process may use, and how they hang together.

use std::fs;
use std::io;
use std::path::Path;

use super::error::CoresError;

/// One CPU (a hardware thread).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub number: usize,
    /// The hardware threads of its core, itself among them; empty if unknown.
    pub siblings: Vec<usize>,
    /// Its NUMA node, if known.
    pub node: Option<usize>,
}

/// The machine as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that run, ascending.
    pub online: Vec<usize>,
    /// CPUs that this process may use (affinity mask and cgroup cpuset), ascending; never empty.
    pub allowed: Vec<usize>,
    /// The allowed ones in more detail.
    pub cpus: Vec<Cpu>,
}

impl Machine {
    /// Asks the kernel.
    pub fn probe() -> Result<Machine, CoresError> {
        let ids = core_affinity::get_core_ids().ok_or_else(|| CoresError::Affinity(io::Error::last_os_error()))?;
        let mut allowed: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
        allowed.sort_unstable();
        if allowed.is_empty() {
            return Err(CoresError::Affinity(io::Error::other("the mask is empty")));
        }
        let system = Path::new("/sys/devices/system");
        let online = fs::read_to_string(system.join("cpu/online")).ok().and_then(|text| parse_ranges(&text));
        let online = online.filter(|online| !online.is_empty()).unwrap_or_else(|| allowed.clone());
        let cpus = allowed.iter().map(|number| probe_cpu(system, *number)).collect();
        Ok(Machine { online, allowed, cpus })
    }

    /// A CPU that this process may use.
    pub fn cpu(&self, number: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.number == number)
    }
}

fn probe_cpu(system: &Path, number: usize) -> Cpu {
    let folder = system.join(format!("cpu/cpu{number}"));
    let siblings = fs::read_to_string(folder.join("topology/thread_siblings_list")).ok().and_then(|text| parse_ranges(&text));
    let node = fs::read_dir(&folder)
        .ok()
        .and_then(|entries| entries.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()));
    Cpu { number, siblings: siblings.unwrap_or_default(), node }
}

/// `0-3,8` as numbers.
fn parse_ranges(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 65_535 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Numbers as `0-3,8`.
pub fn cpu_ranges(cpus: &[usize]) -> String {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let texts: Vec<_> =
        parts.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_as_the_kernel_does() {
        assert_eq!(parse_ranges("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_ranges(""), Some(Vec::new()));
        for wrong in ["x", "3-1", "0-99999999"] {
            assert_eq!(parse_ranges(wrong), None, "{wrong}");
        }
        assert_eq!(cpu_ranges(&[8, 0, 1, 2, 3]), "0-3,8");
        assert_eq!(cpu_ranges(&[5]), "5");
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let machine = Machine::probe().unwrap();
        assert!(!machine.allowed.is_empty());
        assert!(machine.allowed.iter().all(|cpu| machine.cpu(*cpu).is_some()));
    }
}
