//! Who runs where.

use super::error::CoresError;
use super::machine::Machine;
use super::ranges::cpu_ranges;
use super::settings::{CoreSettings, HousekeepingChoice, Poll, ShardChoice};

/// From this many CPUs on, `"auto"` leaves one to housekeeping. With fewer it would cost more than it gives.
const SPARE_FROM: usize = 4;

/// Which CPUs carry shards and which everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `shards[i]` is the CPU of shard `i`; never empty, none twice.
    pub shards: Vec<usize>,
    /// CPUs of all other threads; never empty, may overlap with the shards'.
    pub housekeeping: Vec<usize>,
    /// What an operator should know about it, one line each.
    pub notes: Vec<String>,
}

impl Plan {
    /// Plans the configured choice on a machine.
    pub fn new(settings: &CoreSettings, machine: &Machine) -> Result<Plan, CoresError> {
        let allowed = &machine.allowed;
        // The lowest CPUs are left to housekeeping: interrupts and the system's own work usually are there too.
        let last = |count: usize| allowed[allowed.len() - count..].to_vec();
        let shards = match &settings.shards {
            ShardChoice::Auto if allowed.len() >= SPARE_FROM => last(allowed.len() - 1),
            ShardChoice::Auto => allowed.clone(),
            ShardChoice::Count(count) if usize::from(*count) <= allowed.len() => last(usize::from(*count)),
            ShardChoice::Count(count) => {
                return Err(CoresError::TooManyShards { shards: usize::from(*count), allowed: allowed.clone() });
            }
            ShardChoice::Cpus(cpus) => checked("cores.shards", cpus, machine)?,
        };
        let housekeeping = match &settings.housekeeping {
            HousekeepingChoice::Auto => {
                let rest: Vec<usize> = allowed.iter().copied().filter(|cpu| !shards.contains(cpu)).collect();
                if rest.is_empty() { allowed.clone() } else { rest }
            }
            HousekeepingChoice::Cpus(cpus) => checked("cores.housekeeping", cpus, machine)?,
        };
        let notes = notes(&shards, &housekeeping, settings.poll, machine);
        Ok(Plan { shards, housekeeping, notes })
    }
}

fn checked(key: &'static str, cpus: &[usize], machine: &Machine) -> Result<Vec<usize>, CoresError> {
    for cpu in cpus {
        if machine.allowed.contains(cpu) {
            continue;
        }
        return Err(if machine.online.contains(cpu) {
            CoresError::CpuNotAllowed { key, cpu: *cpu, allowed: machine.allowed.clone() }
        } else {
            CoresError::NoSuchCpu { key, cpu: *cpu, online: machine.online.clone() }
        });
    }
    Ok(cpus.to_vec())
}

fn notes(shards: &[usize], housekeeping: &[usize], poll: Poll, machine: &Machine) -> Vec<String> {
    let mut notes = Vec::new();
    let shared: Vec<usize> = shards.iter().copied().filter(|cpu| housekeeping.contains(cpu)).collect();
    if !shared.is_empty() && poll == Poll::Busy {
        notes.push(format!(
            "cores.poll = \"busy\" spins on CPUs {} that housekeeping (Kafka's threads) needs too; leave it a CPU of its own with cores.housekeeping",
            cpu_ranges(&shared)
        ));
    }
    for (place, cpu) in shards.iter().enumerate() {
        let siblings = machine.cpu(*cpu).map(|cpu| cpu.siblings.as_slice()).unwrap_or_default();
        if let Some(other) = shards[place + 1..].iter().find(|other| siblings.contains(other)) {
            notes.push(format!("shards on CPUs {cpu} and {other} share one core (SMT): together they do 1.2 to 1.4 times the work of one"));
        }
    }
    let mut nodes: Vec<usize> = shards.iter().filter_map(|cpu| machine.cpu(*cpu)?.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > 1 {
        notes.push(format!("shards are on NUMA nodes {}; one node each is faster: run one corespan per node", cpu_ranges(&nodes)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cpu;

    fn machine(online: usize, allowed: &[usize]) -> Machine {
        let cpus = allowed.iter().map(|number| Cpu { number: *number, siblings: vec![*number], node: Some(0) }).collect();
        Machine { online: (0..online).collect(), allowed: allowed.to_vec(), cpus }
    }

    fn plan(shards: ShardChoice, housekeeping: HousekeepingChoice, machine: &Machine) -> Result<Plan, String> {
        Plan::new(&CoreSettings { shards, housekeeping, poll: Poll::Park }, machine).map_err(|error| error.to_string())
    }

    #[test]
    fn auto_uses_every_cpu_and_spares_one_from_four_on() {
        let auto = |machine: &Machine| plan(ShardChoice::Auto, HousekeepingChoice::Auto, machine).unwrap();
        let small = auto(&machine(2, &[0, 1]));
        assert_eq!((small.shards, small.housekeeping), (vec![0, 1], vec![0, 1]));
        let large = auto(&machine(8, &[2, 3, 4, 5]));
        assert_eq!((large.shards, large.housekeeping), (vec![3, 4, 5], vec![2]));
    }

    #[test]
    fn count_leaves_the_lowest_cpus_to_housekeeping() {
        let some = plan(ShardChoice::Count(2), HousekeepingChoice::Auto, &machine(4, &[0, 1, 2, 3])).unwrap();
        assert_eq!((some.shards, some.housekeeping), (vec![2, 3], vec![0, 1]));
        let error = plan(ShardChoice::Count(3), HousekeepingChoice::Auto, &machine(2, &[0, 1])).unwrap_err();
        assert_eq!(
            error,
            "cores.shards = 3 is more than the 2 CPUs that this process may use (0-1); give a number from 1 to 2, or \"auto\""
        );
    }

    #[test]
    fn a_cpu_that_does_not_exist_names_those_that_do() {
        let machine = machine(4, &[0, 1]);
        let error = plan(ShardChoice::Cpus(vec![0, 7]), HousekeepingChoice::Auto, &machine).unwrap_err();
        assert_eq!(error, "cores.shards names CPU 7, which does not exist; this machine has 0-3, name one of them");
        let error = plan(ShardChoice::Cpus(vec![1]), HousekeepingChoice::Cpus(vec![3]), &machine).unwrap_err();
        assert!(
            error.starts_with("cores.housekeeping names CPU 3, which this process may not use") && error.contains("allowed are 0-1"),
            "{error}"
        );
    }

    #[test]
    fn listed_cpus_keep_their_order_and_shared_cores_are_noted() {
        let mut machine = machine(4, &[0, 1, 2, 3]);
        machine.cpus[1].siblings = vec![1, 3];
        machine.cpus[3].node = Some(1);
        let settings =
            CoreSettings { shards: ShardChoice::Cpus(vec![3, 1]), housekeeping: HousekeepingChoice::Cpus(vec![0, 1]), poll: Poll::Busy };
        machine.cpus[3].siblings = vec![1, 3];
        let plan = Plan::new(&settings, &machine).unwrap();
        assert_eq!(plan.shards, [3, 1]);
        assert_eq!(plan.notes.len(), 3, "{:#?}", plan.notes);
        assert!(
            plan.notes[0].contains("spins on CPUs 1 ")
                && plan.notes[1].contains("CPUs 3 and 1 share one core")
                && plan.notes[2].contains("NUMA nodes 0-1")
        );
    }
}
