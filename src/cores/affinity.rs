//! Keeping threads on their CPUs. Shards pin themselves through glommio; everything else goes through here.

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::error::CoresError;

/// Keeps the calling thread, and every thread that it starts from now on, on these CPUs.
pub fn pin_current_thread_to(cpus: &[usize]) -> Result<(), CoresError> {
    // core_affinity knows single CPUs only, and panics over those of a mask that it does not check.
    if let [cpu] = cpus
        && *cpu < CpuSet::count()
    {
        if core_affinity::set_for_current(core_affinity::CoreId { id: *cpu }) {
            return Ok(());
        }
        return Err(CoresError::Pin { cpus: cpus.to_vec(), error: io::Error::last_os_error() });
    }
    let failed = |error: nix::Error| CoresError::Pin { cpus: cpus.to_vec(), error: error.into() };
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).map_err(failed)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Machine;

    #[test]
    fn threads_stay_on_their_cpus_and_hand_them_on() {
        let cpu = Machine::probe().unwrap().allowed[0];
        let seen = std::thread::spawn(move || {
            pin_current_thread_to(&[cpu]).unwrap();
            std::thread::spawn(|| Machine::probe().unwrap().allowed).join().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [cpu]);
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error() {
        let error = std::thread::spawn(|| pin_current_thread_to(&[1_023]).unwrap_err().to_string()).join().unwrap();
        assert!(error.starts_with("cannot run on CPUs 1023: "), "{error}");
        assert!(pin_current_thread_to(&[1 << 20]).is_err());
    }
}
