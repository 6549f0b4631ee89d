//! The safe changes of a running host, and their undo: bounds that are too low, and the governor of the shards' CPUs.
//!
//! What is there is kept, and on the disk, before the first write. A second `apply` keeps what the first has kept. The kernel forgets all of it at a
//! restart; the file stays, and `undo` gives back what it says all the same.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cpus::slow_governors;
use super::error::DoctorError;
use super::finding::Finding;
use super::sysctls::raisable;
use super::tree::Tree;
use crate::cores::Plan;

/// Files that may be given back are below these: a root that reads a file writes nowhere else.
const PLACES: [&str; 2] = ["proc/sys/", "sys/devices/system/cpu/"];
/// More than any host has of them.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// What a file held before the first `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    path: String,
    /// Every byte.
    before: String,
}

struct Change {
    path: String,
    value: String,
}

/// Makes the safe changes, and keeps in `undo_file` what was there. A change that the kernel refuses is a failure among the findings; the others stay.
///
/// # Errors
/// Nothing was written: it needs root on the real host, and a file to keep what was there.
pub fn apply(tree: &Tree, plan: &Plan, undo_file: &Path) -> Result<Vec<Finding>, DoctorError> {
    check_root(tree, "apply")?;
    let mut changes: Vec<Change> = raisable(tree).into_iter().map(|wanted| Change { path: wanted.path(), value: wanted.value }).collect();
    changes.extend(slow_governors(tree, plan).into_iter().map(|(_, path)| Change { path, value: "performance".to_owned() }));
    if changes.is_empty() {
        return Ok(vec![Finding::fine("applied", "nothing to change")]);
    }
    let mut kept = match read_kept(undo_file) {
        Ok(kept) => kept,
        Err(DoctorError::NothingKept { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    // One whose bytes cannot be kept is not changed.
    changes.retain(|change| {
        let known = kept.iter().any(|kept| kept.path == change.path);
        known || tree.raw(&change.path).map(|before| kept.push(Kept { path: change.path.clone(), before })).is_some()
    });
    keep(undo_file, &kept).map_err(|error| DoctorError::Keep { path: undo_file.to_owned(), error })?;
    Ok(changes.iter().map(|change| make(tree, change, undo_file)).collect())
}

fn make(tree: &Tree, Change { path, value }: &Change, undo_file: &Path) -> Finding {
    let shown = tree.path(path);
    let shown = shown.display();
    let before = tree.text(path).unwrap_or_default();
    match tree.write(path, &format!("{value}\n")) {
        Err(error) => Finding::failure("applied", format!("cannot write {value} to {shown}: {error}"), "see the kernel's log"),
        // The kernel may take another value than it is given.
        Ok(()) if tree.text(path).as_deref() != Some(value) => {
            let now = tree.text(path).unwrap_or_default();
            Finding::failure(
                "applied",
                format!("{shown} is {now} after {value} was written"),
                "corespan doctor --undo gives back what was there",
            )
        }
        Ok(()) => Finding::fine("applied", format!("{shown}: {value} (before: {before}; kept in {})", undo_file.display())),
    }
}

/// Gives back every byte that `apply` has kept, the newest first. What cannot be given back stays kept, and is a failure among the findings.
///
/// # Errors
/// Nothing was written: it needs root on the real host, and a file that `apply` has written.
pub fn undo(tree: &Tree, undo_file: &Path) -> Result<Vec<Finding>, DoctorError> {
    check_root(tree, "undo")?;
    let kept = read_kept(undo_file)?;
    let (mut findings, mut left) = (Vec::new(), Vec::new());
    for one in kept.into_iter().rev() {
        let shown = tree.path(&one.path);
        let shown = shown.display();
        if tree.raw(&one.path).as_ref() == Some(&one.before) {
            findings.push(Finding::fine("undone", format!("{shown} is as it was")));
            continue;
        }
        match tree.write(&one.path, &one.before) {
            Ok(()) => findings.push(Finding::fine("undone", format!("{shown}: {}", one.before.trim()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => findings.push(Finding::fine("undone", format!("{shown} is gone"))),
            Err(error) => {
                let finding = format!("cannot write {} to {shown}: {error}", one.before.trim());
                findings.push(Finding::failure("undone", finding, format!("it stays in {}", undo_file.display())));
                left.insert(0, one);
            }
        }
    }
    let settled = if left.is_empty() { fs::remove_file(undo_file) } else { keep(undo_file, &left) };
    if let Err(error) = settled {
        findings.push(Finding::warning("undone", format!("{} stays as it was: {error}", undo_file.display()), "remove it"));
    }
    Ok(findings)
}

fn check_root(tree: &Tree, what: &'static str) -> Result<(), DoctorError> {
    let status = tree.text("proc/self/status").unwrap_or_default();
    // Real, effective, saved, of files.
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    if tree.is_real() && user != Some("0") { Err(DoctorError::NotRoot(what)) } else { Ok(()) }
}

/// Replaces the file as a whole, and has it on the disk.
fn keep(path: &Path, kept: &[Kept]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().ok_or_else(|| io::Error::other("it is no file's name"))?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Never through a link that somebody has put there.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let text = serde_json::to_string_pretty(kept).map_err(io::Error::other)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()
}

fn read_kept(path: &Path) -> Result<Vec<Kept>, DoctorError> {
    use std::io::Read as _;
    let owned = || path.to_owned();
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DoctorError::NothingKept { path: owned() },
        _ => DoctorError::Unreadable { path: owned(), error },
    })?;
    let mut text = String::new();
    file.take(KEPT_BYTES_MAX).read_to_string(&mut text).map_err(|error| DoctorError::Unreadable { path: owned(), error })?;
    let not_ours = |what: String| DoctorError::NotOurs { path: owned(), what };
    let kept: Vec<Kept> = serde_json::from_str(&text).map_err(|error| not_ours(error.to_string()))?;
    let is_strange = |kept: &&Kept| {
        let is_inside = PLACES.iter().any(|place| kept.path.starts_with(place));
        !is_inside || kept.path.split('/').any(|part| part == "..")
    };
    match kept.iter().find(is_strange) {
        Some(strange) => Err(not_ours(format!("it names {:?}", strange.path))),
        None => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tree::made_up;
    use super::*;

    const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
    const GOVERNOR: &str = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";

    fn plan() -> Plan {
        Plan { shards: vec![1], housekeeping: vec![0], notes: Vec::new() }
    }

    fn host() -> (tempfile::TempDir, Tree) {
        made_up::tree(&[
            (SOMAXCONN, "128"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
            (GOVERNOR, "powersave"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
        ])
    }

    #[test]
    fn only_what_is_safe_is_changed_and_undo_gives_back_every_byte() {
        let (folder, tree) = host();
        // Bytes that are not as we would write them.
        fs::write(tree.path(SOMAXCONN), " 128 \n\n").unwrap();
        let undo_file = folder.path().join("deep/doctor-undo");
        let findings = apply(&tree, &plan(), &undo_file).unwrap();
        assert!(findings.len() == 2 && findings.iter().all(|finding| finding.verdict == Verdict::Fine), "{findings:#?}");
        let text = |path: &str| tree.text(path).unwrap();
        assert_eq!((text(SOMAXCONN).as_str(), text(GOVERNOR).as_str()), ("4096", "performance"));
        assert_eq!(text("proc/sys/net/ipv4/tcp_max_syn_backlog"), "65536", "a higher bound stays");
        assert_eq!(text("proc/sys/net/ipv4/tcp_slow_start_after_idle"), "1", "how connections behave is the operator's");
        assert_eq!(text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "powersave", "housekeeping's CPUs stay");
        assert_eq!(apply(&tree, &plan(), &undo_file).unwrap()[0].finding, "nothing to change");
        // Lowered by somebody in between: the first value is what undo knows.
        tree.write(SOMAXCONN, "256\n").unwrap();
        apply(&tree, &plan(), &undo_file).unwrap();
        undo(&tree, &undo_file).unwrap();
        assert_eq!((tree.raw(SOMAXCONN).unwrap().as_str(), tree.raw(GOVERNOR).unwrap().as_str()), (" 128 \n\n", "powersave\n"));
        assert!(matches!(undo(&tree, &undo_file), Err(DoctorError::NothingKept { .. })));
    }

    #[test]
    fn nothing_is_changed_where_nothing_can_be_kept() {
        let (folder, tree) = host();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = apply(&tree, &plan(), &folder.path().join("file/doctor-undo")).unwrap_err().to_string();
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(tree.text(SOMAXCONN).unwrap(), "128");
    }

    #[test]
    fn an_undo_file_that_names_other_files_is_refused_as_a_whole() {
        let (folder, tree) = host();
        let undo_file = folder.path().join("doctor-undo");
        for strange in ["etc/passwd", "proc/sys/../../etc/passwd", "/etc/passwd"] {
            let kept =
                [Kept { path: SOMAXCONN.to_owned(), before: "1\n".to_owned() }, Kept { path: strange.to_owned(), before: String::new() }];
            keep(&undo_file, &kept).unwrap();
            let error = undo(&tree, &undo_file).unwrap_err();
            assert!(matches!(error, DoctorError::NotOurs { .. }), "{strange}: {error}");
            assert_eq!(tree.text(SOMAXCONN).unwrap(), "128");
        }
        fs::write(&undo_file, "no JSON").unwrap();
        assert!(matches!(apply(&tree, &plan(), &undo_file), Err(DoctorError::NotOurs { .. })));
    }

    #[test]
    fn what_is_gone_meanwhile_is_told_and_the_rest_given_back() {
        let (folder, tree) = host();
        let undo_file = folder.path().join("doctor-undo");
        apply(&tree, &plan(), &undo_file).unwrap();
        fs::remove_file(tree.path(GOVERNOR)).unwrap();
        let findings = undo(&tree, &undo_file).unwrap();
        assert!(findings[0].finding.ends_with("is gone") && !undo_file.exists(), "{findings:#?}");
        assert_eq!(tree.text(SOMAXCONN).unwrap(), "128");
    }
}
