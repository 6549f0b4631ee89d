//! Whether io_uring can be used. Without it the executors panic, so it is asked first.

use std::fs;
use std::io;

use super::error::CoresError;

/// The first kernel with all that the executors use: its version's first two numbers.
pub const KERNEL_LEAST: (u32, u32) = (5, 8);

/// Sets up the smallest ring and drops it again.
pub fn probe_io_uring() -> Result<(), CoresError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if let Some(error) = too_old(release.trim()) {
        return Err(error);
    }
    match io_uring::IoUring::new(2) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error, disabled().as_deref())),
    }
}

/// `/proc/sys/kernel/io_uring_disabled`: `0` on, `1` for a group only, `2` off; absent before Linux 6.6.
fn disabled() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned())
}

fn too_old(release: &str) -> Option<CoresError> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    (version < KERNEL_LEAST).then(|| CoresError::NoIoUring {
        reason: format!("Linux {release} is too old"),
        remedy: format!("run Linux {}.{} or newer", KERNEL_LEAST.0, KERNEL_LEAST.1),
    })
}

fn explain(error: &io::Error, disabled: Option<&str>) -> CoresError {
    use nix::errno::Errno;
    let errno = Errno::from_i32(error.raw_os_error().unwrap_or(0));
    let (reason, remedy) = match (errno, disabled) {
        (Errno::ENOSYS, _) => (
            "this kernel has none, or a seccomp filter hides it".to_owned(),
            "run Linux 5.8 or newer with CONFIG_IO_URING; in a container allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile",
        ),
        (_, Some("2")) => {
            ("it is switched off (kernel.io_uring_disabled = 2)".to_owned(), "switch it on: sysctl -w kernel.io_uring_disabled=0")
        }
        (_, Some("1")) => (
            "it is kept to a group (kernel.io_uring_disabled = 1)".to_owned(),
            "add the user to the group of kernel.io_uring_group, or sysctl -w kernel.io_uring_disabled=0",
        ),
        (Errno::EPERM | Errno::EACCES, _) => (
            format!("the system forbids it ({error})"),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (SystemCallFilter= of the unit, --security-opt of the container)",
        ),
        (Errno::ENOMEM, _) => (
            format!("too little memory may be locked ({error})"),
            "raise RLIMIT_MEMLOCK: LimitMEMLOCK=infinity in the systemd unit, or --ulimit memlock=-1",
        ),
        (Errno::EMFILE | Errno::ENFILE, _) => {
            (format!("too many open files ({error})"), "raise RLIMIT_NOFILE: LimitNOFILE= in the systemd unit")
        }
        _ => (error.to_string(), "see io_uring_setup(2) for this error"),
    };
    CoresError::NoIoUring { reason, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_remedy_in_one_line() {
        for (errno, disabled, parts) in [
            (nix::libc::ENOSYS, None, ["seccomp", "Linux 5.8"]),
            (nix::libc::EPERM, Some("2"), ["switched off", "sysctl"]),
            (nix::libc::EPERM, Some("1"), ["group", "io_uring_group"]),
            (nix::libc::EPERM, Some("0"), ["forbids", "SystemCallFilter"]),
            (nix::libc::ENOMEM, None, ["locked", "LimitMEMLOCK"]),
            (nix::libc::EINVAL, None, ["Invalid argument", "io_uring_setup(2)"]),
        ] {
            let text = explain(&io::Error::from_raw_os_error(errno), disabled).to_string();
            assert_eq!(text.lines().count(), 1);
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }

    #[test]
    fn old_kernels_are_named() {
        assert!(too_old("5.4.0-42-generic").is_some());
        for fine in ["5.8.0", "6.1.0-18-amd64", "10.0", "unreadable"] {
            assert!(too_old(fine).is_none(), "{fine}");
        }
    }
}
