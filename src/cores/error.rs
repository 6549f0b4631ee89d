//! What the machine can lack.

use super::ranges::cpu_ranges;

/// Why shards cannot run here as they should.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    #[error("{key} names CPU {cpu}, which does not exist; this machine has {}, name one of them", cpu_ranges(online))]
    NoSuchCpu { key: &'static str, cpu: usize, online: Vec<usize> },
    #[error(
        "{key} names CPU {cpu}, which this process may not use (affinity mask or cgroup cpuset); allowed are {}, \
         name one of them, or widen CPUAffinity= and AllowedCPUs= of the service, or the container's cpuset",
        cpu_ranges(allowed)
    )]
    CpuNotAllowed { key: &'static str, cpu: usize, allowed: Vec<usize> },
    #[error(
        "cores.shards = {shards} is more than the {} CPUs that this process may use ({}); give a number from 1 to {}, or \"auto\"",
        allowed.len(),
        cpu_ranges(allowed),
        allowed.len()
    )]
    TooManyShards { shards: usize, allowed: Vec<usize> },
    #[error("cannot ask which CPUs this process may use: {0}; give cores.shards on a machine with at most 1024 CPUs")]
    Affinity(std::io::Error),
    #[error("cannot run on CPUs {}: {error}; they may have been taken away since the start", cpu_ranges(cpus))]
    Pin { cpus: Vec<usize>, error: std::io::Error },
    #[error("io_uring is not usable: {reason}; {remedy}")]
    NoIoUring { reason: String, remedy: String },
    #[error(
        "locked memory is limited to {} KiB (hard limit), {} KiB are needed for {shards} shards; raise it: LimitMEMLOCK=infinity in the systemd unit, \
         `corespan - memlock unlimited` in /etc/security/limits.conf, or --ulimit memlock=-1 for a container",
        hard >> 10,
        needed >> 10
    )]
    LockedMemory { hard: u64, needed: u64, shards: usize },
    #[error("cannot read or raise the limit of {what}: {error}")]
    Limit { what: &'static str, error: std::io::Error },
}
