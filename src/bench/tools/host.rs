//! The machine that a run was made on.

use serde_json::{Value, json};

/// Its name, kernel, CPUs and memory, and the tool's version, for a report.
pub fn host() -> Value {
    let first_line = |file: &str| std::fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    json!({
        "name": first_line("/proc/sys/kernel/hostname"),
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "cpu_model": field("/proc/cpuinfo", "model name"),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get),
        "memory": field("/proc/meminfo", "MemTotal"),
        "corespan_bench": env!("CARGO_PKG_VERSION"),
        "is_release_build": !cfg!(debug_assertions),
    })
}
