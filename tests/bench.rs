//! `corespan-bench` from outside, small and on an embedded Kafka: an honest run prints its tables, and every other one ends with one line and an
//! exit code of its own, in bounded time, with no process left behind.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One at a time: each wants the same two CPUs.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const RUN_TIME: Duration = Duration::from_secs(50);
/// A second of each in short slices. Test machines are busy: lag is not what is tested here.
const SMALL: &[&str] = &[
    "--connections",
    "50",
    "--rate",
    "200",
    "--rounds",
    "1",
    "--seconds",
    "1",
    "--slice-ms",
    "500",
    "--warm-up-seconds",
    "0",
    "--lag-max-ms",
    "1000",
];

struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

fn start(arguments: &[&[&str]]) -> Tool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corespan-bench"));
    command.args(arguments.concat()).env_remove("CORESPAN_KAFKA_EXTRA_OPTS").stdin(Stdio::null());
    Tool(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for it, and reads what it said: little enough for a pipe.
fn finish(mut tool: Tool, within: Duration) -> Outcome {
    let deadline = Instant::now() + within;
    let status = loop {
        if let Some(status) = tool.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end within {within:?}");
        thread::sleep(Duration::from_millis(20));
    };
    let (mut out, mut err) = (String::new(), String::new());
    tool.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    tool.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Outcome { code: status.code(), out, err }
}

fn small(task: &str) -> String {
    let _machine = machine();
    let Outcome { code, out, err } = finish(start(&[&[task], SMALL]), RUN_TIME);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    out
}

/// Cells of the row that begins with these.
fn row<'a>(out: &'a str, begins: &str) -> Vec<&'a str> {
    let line = out.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no row {begins} in {out}"));
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// One line on standard error that begins so, and nothing that could be taken for figures.
fn one_line(outcome: &Outcome, code: i32, begins: &str) {
    let Outcome { code: actual, out, err } = outcome;
    assert_eq!((*actual, err.lines().count(), out.as_str()), (Some(code), 1, ""), "{err}");
    assert!(err.starts_with(&format!("corespan-bench: {begins}")), "{err}");
}

fn children(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

fn runs(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Waits until the node of a run of 50 clients has them all. Gives it, and all children of the tool.
fn loaded_node(tool: &mut Tool) -> (u32, Vec<u32>) {
    let deadline = Instant::now() + RUN_TIME;
    let is_node =
        |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == b"node"));
    let sockets = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))).count()
    };
    loop {
        let all = children(tool.0.id());
        if let Some(node) = all.iter().copied().find(is_node)
            && sockets(node) > 50
        {
            thread::sleep(Duration::from_secs(1));
            return (node, all);
        }
        assert!(Instant::now() < deadline, "the node does not get its clients");
        assert_eq!(tool.0.try_wait().unwrap(), None, "the run ended early");
        thread::sleep(Duration::from_millis(20));
    }
}

fn all_end(pids: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|&pid| runs(pid)) {
        assert!(Instant::now() < deadline, "of {pids:?} some still run");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn deliver_prints_node_and_control_with_exactly_what_was_sent() {
    let out = small("deliver");
    for side in ["node", "bare send()"] {
        let cells = row(&out, &format!("| all | {side} "));
        assert_eq!((cells.len(), cells[2]), (10, "200"), "{out}");
    }
    assert!(out.contains("| the generator |") && out.contains("CPU, bare / node = "), "{out}");
}

#[test]
fn fan_out_prints_node_and_control_with_what_was_sent_times_the_subscribers() {
    let out = small("fan-out");
    for side in ["node", "bare send()"] {
        assert_eq!(row(&out, &format!("| all | {side} "))[2], "10000", "{out}");
    }
}

#[test]
fn latency_prints_node_and_bare_consumer() {
    let out = small("latency");
    for side in ["node", "bare consumer"] {
        assert_eq!(row(&out, &format!("| all | {side} "))[2], "200", "{out}");
    }
    assert!(out.contains("The node adds "), "{out}");
}

#[test]
fn idle_prints_what_a_connection_costs() {
    let out = small("idle");
    let bytes: f64 = row(&out, "| node ")[1].parse().unwrap();
    assert!(bytes > 0.0, "{out}");
    assert!(out.contains("Every client got its record afterwards."), "{out}");
}

#[test]
fn a_node_that_is_killed_in_the_middle_fails_the_run_in_one_line() {
    let _machine = machine();
    let mut tool = start(&[&["deliver"], SMALL, &["--seconds", "100"]]);
    let (node, all) = loaded_node(&mut tool);
    kill(Pid::from_raw(node as i32), Signal::SIGKILL).unwrap();
    let outcome = finish(tool, Duration::from_secs(15));
    one_line(&outcome, 1, "error: the node ended (signal: 9 (SIGKILL)) in the middle of the run");
    all_end(&all);
}

#[test]
fn a_tool_that_is_killed_leaves_no_process_behind() {
    let _machine = machine();
    let mut tool = start(&[&["deliver"], SMALL, &["--seconds", "100"]]);
    let (_, all) = loaded_node(&mut tool);
    assert_eq!(all.len(), 3, "the node, the bare sender and its clients");
    tool.0.kill().unwrap();
    tool.0.wait().unwrap();
    all_end(&all);
}

#[test]
fn a_generator_that_cannot_keep_its_schedule_voids_the_run() {
    let _machine = machine();
    let outcome = finish(start(&[&["latency"], SMALL, &["--rate", "100000000"]]), RUN_TIME);
    one_line(&outcome, 3, "void: the generator was the bottleneck: ");
}

#[test]
fn a_kafka_that_is_not_there_is_one_line() {
    let outcome = finish(start(&[&["latency", "--brokers", "127.0.0.1:1"]]), RUN_TIME);
    one_line(&outcome, 1, "error: --brokers: no Kafka answers at 127.0.0.1:1: ");
}

#[test]
fn every_mistake_in_the_options_is_one_line_that_names_it() {
    for (arguments, words) in [
        (&[][..], "subcommand"),
        (&["delivers"], "'delivers'"),
        (&["deliver", "--rate", "0"], "--rate"),
        (&["deliver", "--rate", "1", "--slice-ms", "500"], "--rate 1 has less than one record in --slice-ms 500"),
        (&["deliver", "--connections", "0"], "--connections"),
        (&["deliver", "--connections", "many"], "--connections"),
        (&["deliver", "--bytes", "3"], "--bytes"),
        (&["deliver", "--seconds", "0"], "--seconds"),
        (&["deliver", "--rounds", "0"], "--rounds"),
        (&["deliver", "--poll", "sleep"], "--poll"),
        (&["deliver", "--cpu", "9999"], "--cpu 9999"),
        (&["deliver", "--cpu", "0", "--tool-cpu", "0"], "--cpu and --tool-cpu are both 0"),
        (&["deliver", "--server", "/no/such/file"], "--server /no/such/file: there is no such file"),
        (&["deliver", "--speed", "5"], "--speed"),
    ] {
        let outcome = finish(start(&[arguments]), RUN_TIME);
        one_line(&outcome, 2, "error: ");
        assert!(outcome.err.contains(words), "{arguments:?}: {}", outcome.err);
    }
}
