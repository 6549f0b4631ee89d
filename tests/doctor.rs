//! `corespan doctor` and `corespan plan` from outside: on this host, where they only look, and on a made-up one, where they also change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod support;

fn corespan(words: &[&str], config: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corespan"));
    command.env_remove("CORESPAN_KAFKA_EXTRA_OPTS").stdin(Stdio::null()).args(words).arg("--config").arg(config);
    let Output { status, stdout, stderr } = support::finish(&mut command);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn config(folder: &Path) -> PathBuf {
    let file = folder.join("corespan.toml");
    let kafka = "bootstrap.servers = \"127.0.0.1:1\"";
    let listen = "[listen]\naddress = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"";
    fs::write(&file, format!("{listen}\n[kafka.consumer]\n{kafka}\ntopics = [\"vehicles\"]\n[kafka.producer]\n{kafka}\n")).unwrap();
    file
}

/// A host with four CPUs, the last three of which have shards; its cards, clock and bounds are as they should not be.
fn made_up_host() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut files = vec![
        ("proc/sys/kernel/osrelease".to_owned(), "6.1.0-18-amd64\n"),
        ("proc/sys/net/core/somaxconn".to_owned(), "128\n"),
        ("proc/sys/fs/file-max".to_owned(), "9223372036854775807\n"),
        ("proc/sys/net/ipv4/tcp_rmem".to_owned(), "4096\t131072\t6291456\n"),
        ("proc/interrupts".to_owned(), " CPU0 CPU1 CPU2 CPU3\n 41: 0 0 0 90 PCI-MSIX 1-edge eth0-rx-0\n"),
        ("proc/irq/41/smp_affinity_list".to_owned(), "3\n"),
        ("sys/devices/system/cpu/online".to_owned(), "0-3\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(), "hpet\n"),
        ("sys/devices/system/clocksource/clocksource0/available_clocksource".to_owned(), "tsc hpet\n"),
    ];
    for cpu in 0..4 {
        files.push((format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), if cpu < 2 { "0-1\n" } else { "2-3\n" }));
        files.push((format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "powersave\n"));
    }
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

/// The verdict and the finding of a check.
fn of<'f>(report: &'f Value, check: &str) -> Vec<(&'f str, &'f str)> {
    let all = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    all.map(|finding| (finding["verdict"].as_str().unwrap(), finding["finding"].as_str().unwrap())).collect()
}

#[test]
fn this_host_is_looked_at_and_the_exit_code_is_that_of_the_worst() {
    let folder = TempDir::new().unwrap();
    let (code, out, err) = corespan(&["doctor", "--json", "--no-kafka"], &config(folder.path()));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let expected = match report["verdict"].as_str().unwrap() {
        "fine" | "advice" => 0,
        "warning" => 3,
        _ => 1,
    };
    assert_eq!((code, err.as_str()), (Some(expected), ""));
    for check in ["config", "kernel", "io_uring", "clock-source", "cpu-plan", "smt-siblings", "numa-nic", "governor", "idle-states"] {
        assert!(!of(&report, check).is_empty(), "{check}: {out}");
    }
    for check in ["interrupts", "locked-memory", "open-files", "ports", "certificates"] {
        assert!(!of(&report, check).is_empty(), "{check}: {out}");
    }
    assert!(of(&report, "kafka").is_empty(), "{out}");
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(finding["verdict"] == "fine", finding["remedy"].is_null(), "whatever is not fine has a remedy: {finding}");
    }
    let (again, text, _) = corespan(&["doctor", "--no-kafka"], &config(folder.path()));
    assert_eq!((again, text.lines().count()), (code, report["findings"].as_array().unwrap().len()), "a line each: {text}");
}

#[test]
fn kafka_that_cannot_be_reached_is_a_failure_with_librdkafkas_reason() {
    let folder = TempDir::new().unwrap();
    let (code, out, _) = corespan(&["doctor", "--json"], &config(folder.path()));
    let report: Value = serde_json::from_str(&out).unwrap();
    let kafka = of(&report, "kafka");
    assert!(code == Some(1) && kafka.len() == 2, "{out}");
    assert!(kafka.iter().all(|(verdict, finding)| *verdict == "failure" && finding.contains("refused")), "{kafka:?}");
}

#[test]
fn a_made_up_host_is_found_out_and_undo_gives_back_every_byte() {
    let (folder, host) = (TempDir::new().unwrap(), made_up_host());
    let config = config(folder.path());
    let root = host.path().to_str().unwrap();
    let before = contents(host.path());
    let look = || {
        let (_, out, err) = corespan(&["doctor", "--json", "--no-kafka", "--root", root], &config);
        serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
    };
    let report = look();
    assert_eq!(contents(host.path()), before, "looking changes nothing");
    assert_eq!(of(&report, "kernel"), [("fine", "Linux 6.1.0-18-amd64")]);
    assert_eq!(of(&report, "clock-source")[0].0, "warning");
    assert_eq!(of(&report, "interrupts"), [("advice", "interrupts stop shards: 41 (eth0-rx-0) on CPU 3")]);
    for (check, part) in
        [("smt-siblings", "CPUs 2-3 "), ("governor", "CPUs 1-3 "), ("sysctl-bounds", "somaxconn = 128"), ("sysctls", "6291456")]
    {
        let found = of(&report, check);
        assert!(found.len() == 1 && found[0].0 == "advice" && found[0].1.contains(part), "{check}: {found:?}");
    }

    let (code, out, err) = corespan(&["doctor", "--apply", "--root", root], &config);
    assert_eq!((code, out.lines().count()), (Some(0), 4), "one bound and three governors: {out}{err}");
    let applied = look();
    assert_eq!(of(&applied, "sysctl-bounds"), []);
    assert_eq!(of(&applied, "governor")[0].0, "fine");
    assert_eq!(of(&applied, "sysctls")[0].0, "advice", "what is the operator's to choose is as it was");
    let text = |path: &str| fs::read_to_string(host.path().join(path)).unwrap();
    assert_eq!(text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "powersave\n", "housekeeping's CPU is left alone");

    let (code, out, err) = corespan(&["doctor", "--undo", "--root", root], &config);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(contents(host.path()), before);
    let (code, _, err) = corespan(&["doctor", "--undo", "--root", root], &config);
    assert!(code == Some(1) && err.lines().count() == 1 && err.contains("nothing to undo"), "{err}");
}

#[test]
fn a_configuration_that_is_wrong_is_a_failure_and_the_host_is_looked_at_all_the_same() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("corespan.toml");
    fs::write(&file, "[listen]\nadress = 1\n").unwrap();
    let (code, out, _) = corespan(&["doctor", "--json", "--no-kafka"], &file);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(
        code == Some(1) && of(&report, "config").iter().any(|(verdict, text)| *verdict == "failure" && text.contains("adress")),
        "{out}"
    );
    assert!(!of(&report, "clock-source").is_empty() && of(&report, "cpu-plan").is_empty(), "{out}");
}

#[test]
fn plan_says_what_each_cpu_is_for_and_why() {
    let (folder, host) = (TempDir::new().unwrap(), made_up_host());
    let config = config(folder.path());
    let root = host.path().to_str().unwrap();
    let (code, out, _) = corespan(&["plan", "--root", root], &config);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(code, Some(0));
    assert!(lines[0].starts_with("CPU 0: housekeeping: cores.shards = \"auto\" spares the lowest"), "{out}");
    assert!(lines[1].starts_with("CPU 1: shard 0: ") && lines[1].contains("shares its core with CPU 0"), "{out}");
    assert!(lines[4].starts_with("note: shards on CPUs 2 and 3 share one core"), "{out}");
    let (_, json, _) = corespan(&["plan", "--json", "--root", root], &config);
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&plan["cpus"][3]["shard"], &plan["cpus"][0]["shard"]), (&Value::from(2), &Value::Null));
    // And of this host.
    assert_eq!(corespan(&["plan"], &config).0, Some(0));
}
