//! Limits of the process: locked memory (io_uring's registered buffers) and open files (connections).

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::error::CoresError;

/// Locked memory of the process as a whole; the executors refuse to start with less.
const LOCKED_BASE_BYTES: u64 = 512 << 10;
/// Locked memory of one shard's rings and buffers, with room: 0.2 to 1.5 MiB were measured.
const LOCKED_SHARD_BYTES: u64 = 1_536 << 10;

/// A limit as it is now. `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// Bytes of locked memory that this many shards need.
pub fn locked_memory_needed(shards: usize) -> u64 {
    LOCKED_BASE_BYTES + LOCKED_SHARD_BYTES * shards as u64
}

/// Makes sure that this many shards can lock their memory: raises the soft limit, and the hard one where the process has the right to.
pub fn raise_locked_memory(shards: usize) -> Result<Limit, CoresError> {
    let failed = |error: nix::Error| CoresError::Limit { what: "locked memory (RLIMIT_MEMLOCK)", error: error.into() };
    let needed = locked_memory_needed(shards);
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(failed)?;
    if soft >= needed {
        return Ok(limit(soft, hard));
    }
    if hard >= needed {
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).map_err(failed)?;
        return Ok(limit(hard, hard));
    }
    // Root, or CAP_SYS_RESOURCE, may raise the hard limit.
    match setrlimit(Resource::RLIMIT_MEMLOCK, needed, needed) {
        Ok(()) => Ok(limit(needed, needed)),
        Err(_) => Err(CoresError::LockedMemory { hard, needed, shards }),
    }
}

/// Raises the soft limit of open files to the hard one. Gives what it is then.
pub fn raise_open_files() -> Result<Limit, CoresError> {
    let failed = |error: nix::Error| CoresError::Limit { what: "open files (RLIMIT_NOFILE)", error: error.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    }
    Ok(limit(hard, hard))
}

/// Open files that are not clients': Kafka's connections and wake-ups, for each shard and besides, rings, logs, the admin port.
const FILES_SHARD: u64 = 128;
const FILES_BASE: u64 = 512;

/// How many connections each shard can have with so many open files; at least one.
pub fn connections_within(files: u64, shards: usize) -> usize {
    let others = (FILES_BASE + FILES_SHARD * shards as u64).min(files / 2);
    usize::try_from((files - others) / shards.max(1) as u64).unwrap_or(usize::MAX).max(1)
}

fn limit(soft: u64, hard: u64) -> Limit {
    let plain = |value: u64| if value == RLIM_INFINITY { u64::MAX } else { value };
    Limit { soft: plain(soft), hard: plain(hard) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_end_up_at_the_hard_limit() {
        let limit = raise_open_files().unwrap();
        assert_eq!(limit.soft, limit.hard);
        assert_eq!(raise_open_files().unwrap(), limit);
    }

    #[test]
    fn connections_are_what_files_are_left_for() {
        assert_eq!(connections_within(1_024, 2), 256);
        assert_eq!(connections_within(100_768, 2), 50_000);
        assert_eq!(connections_within(0, 4), 1);
        assert_eq!(connections_within(u64::MAX, 1), usize::MAX - 640);
    }

    #[test]
    fn too_little_locked_memory_says_how_to_grant_it() {
        let error = CoresError::LockedMemory { hard: 64 << 10, needed: locked_memory_needed(2), shards: 2 }.to_string();
        assert_eq!(error.lines().count(), 1);
        for part in ["64 KiB", "3584 KiB", "LimitMEMLOCK", "limits.conf", "--ulimit"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
