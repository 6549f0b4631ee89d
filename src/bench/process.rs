//! What a process uses, as the kernel counts it.

use std::fs;

/// CPU seconds and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of threads whose name begins with `shard-`.
    pub shards_cpu_seconds: f64,
    /// Of all threads.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads `/proc`.
    pub fn of(pid: u32) -> Usage {
        let mut usage = Usage::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let path = task.path();
            // Nanoseconds on the CPU; `stat` counts in ticks of 10 ms.
            let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let seconds = text.split(' ').next().and_then(|time| time.parse::<f64>().ok()).unwrap_or(0.0) / 1e9;
            usage.cpu_seconds += seconds;
            if fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("shard-")) {
                usage.shards_cpu_seconds += seconds;
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        usage.resident_bytes = resident.unwrap_or(0) * 1_024;
        usage
    }

    /// What was used since.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            shards_cpu_seconds: self.shards_cpu_seconds - before.shards_cpu_seconds,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            resident_bytes: self.resident_bytes.saturating_sub(before.resident_bytes),
        }
    }
}
