//! Which CPUs there are, which of them this process may use, and how they hang together.

use std::fs;
use std::io;
use std::path::Path;

use super::error::CoresError;
use super::ranges::parse_ranges;

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
        Ok(Machine::of(Path::new("/"), allowed))
    }

    /// What the files below `root` (`/` for this machine) say, for a process that may use these CPUs.
    pub fn of(root: &Path, allowed: Vec<usize>) -> Machine {
        let system = root.join("sys/devices/system");
        let online = fs::read_to_string(system.join("cpu/online")).ok().and_then(|text| parse_ranges(&text));
        let online = online.filter(|online| !online.is_empty()).unwrap_or_else(|| allowed.clone());
        let cpus = allowed.iter().map(|number| probe_cpu(&system, *number)).collect();
        Machine { online, allowed, cpus }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu() {
        let machine = Machine::probe().unwrap();
        assert!(!machine.allowed.is_empty());
        assert!(machine.allowed.iter().all(|cpu| machine.cpu(*cpu).is_some()));
    }
}
