//! The binary from outside: every start-up failure is one line for each mistake on standard error and a non-zero exit, never a backtrace.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tempfile::TempDir;

mod support;

const LEAST: &str = "[kafka.consumer]\nbootstrap.servers = \"127.0.0.1:1\"\ntopics = [\"vehicles\"]\n\
    [kafka.producer]\nbootstrap.servers = \"127.0.0.1:1\"\n";

struct Setup {
    folder: TempDir,
}

impl Setup {
    fn new() -> Setup {
        Setup { folder: TempDir::new().unwrap() }
    }

    fn write(&self, text: &str) -> PathBuf {
        let file = self.folder.path().join("corespan.toml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

fn corespan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corespan"));
    command.env_remove("CORESPAN_KAFKA_EXTRA_OPTS").env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = support::finish(command);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn with_config(word: &str, file: &Path) -> Command {
    let mut command = corespan();
    command.arg(word).arg("--config").arg(file);
    command
}

/// What `serve` and `check` both say of this text: one line, exit code 1.
fn complaint(text: &str) -> String {
    let setup = Setup::new();
    let file = setup.write(text);
    let lines: Vec<String> = ["serve", "check"]
        .map(|word| {
            let (code, out, err) = run(&mut with_config(word, &file));
            assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{word} with {text}: {err}");
            let place = format!("corespan: error: {}", file.display());
            err.trim_end().replace(&place, "corespan: error: FILE")
        })
        .into();
    assert_eq!(lines[0], lines[1]);
    lines[0].clone()
}

#[test]
fn help_says_what_can_be_done_with_examples_and_exit_codes() {
    let (code, out, _) = run(corespan().arg("--help"));
    assert_eq!(code, Some(0));
    for part in ["serve", "check", "demo", "Examples:", "Exit codes:", "CORESPAN_KAFKA_EXTRA_OPTS", "Apache Kafka"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for (word, parts) in [
        ("serve", ["--config", "/etc/corespan/corespan.toml"]),
        ("check", ["Never contacts Kafka", "Examples:"]),
        ("demo", ["--port", "8800"]),
    ] {
        let (code, out, _) = run(corespan().args([word, "--help"]));
        assert_eq!(code, Some(0));
        assert!(parts.iter().all(|part| out.contains(part)), "{out}");
    }
}

#[test]
fn import_writes_what_check_accepts_and_says_in_a_line_each_what_is_missing() {
    let setup = Setup::new();
    let clients = setup.folder.path().join("addons/kafka");
    std::fs::create_dir_all(&clients).unwrap();
    std::fs::write(setup.folder.path().join("migratorydata.conf"), "Listen = *:8800\nEntitlement = None\nMemory = 512 MB\n").unwrap();
    std::fs::write(clients.join("consumer.properties"), "bootstrap.servers=127.0.0.1:1\ntopics=vehicles\ngroup.id=old\n").unwrap();
    std::fs::write(clients.join("producer.properties"), "bootstrap.servers=127.0.0.1:1\n").unwrap();
    let output = setup.folder.path().join("new.toml");
    let import = || {
        let mut command = corespan();
        command.arg("import").arg("--migratorydata").arg(setup.folder.path());
        command
    };
    let (code, text, err) = run(&mut import());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(text.contains("address = \"0.0.0.0:8800\"") && text.contains("# group.id = old: no counterpart."), "{text}");
    assert_eq!(run(import().arg("--output").arg(&output)), (Some(0), String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), text);
    let (code, _, err) = run(with_config("check", &output).arg("--elsewhere"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    // A second time only if asked for.
    let (code, _, err) = run(import().arg("--output").arg(&output));
    assert!(code == Some(1) && err.lines().count() == 1 && err.contains("--force"), "{err}");
    assert_eq!(run(import().arg("--output").arg(&output).arg("--force")).0, Some(0));

    // What is missing is said, and all else is written.
    std::fs::write(clients.join("consumer.properties"), "bootstrap.servers=127.0.0.1:1\ntopics.regex=(?!x).*\n").unwrap();
    let (code, text, err) = run(&mut import());
    assert!(code == Some(1) && text.contains("0.0.0.0:8800"), "{text}");
    assert!(
        err.lines().count() == 2 && err.lines().all(|line| line.starts_with("corespan: error: ")) && err.contains("lookahead"),
        "{err}"
    );

    // Nothing is written of what is not understood.
    std::fs::write(setup.folder.path().join("migratorydata.conf"), "nonsense\n").unwrap();
    let (code, text, err) = run(&mut import());
    assert_eq!((code, text.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains("migratorydata.conf:1: "), "{err}");
}

#[test]
fn version_is_the_package_version() {
    let (code, out, _) = run(corespan().arg("--version"));
    let first = concat!("corespan ", env!("CARGO_PKG_VERSION"));
    assert_eq!((code, out.lines().next()), (Some(0), Some(first)));
    // What a report of a problem needs besides.
    for part in ["librdkafka 2.", "sasl_scram", "ssl", "demo page: "] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, short, _) = run(corespan().arg("-V"));
    assert_eq!((code, short.trim()), (Some(0), first));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["sreve"][..], &["serve", "--confg", "x"], &["demo", "--port", "99999"]] {
        let (code, _, err) = run(corespan().args(arguments));
        assert!(code == Some(2) && err.starts_with("error: "), "{arguments:?}: {err}");
    }
    assert!(run(corespan().arg("sreve")).2.contains("'serve'"), "did you mean");
}

#[test]
fn check_prints_what_it_understood_and_hides_secrets() {
    let setup = Setup::new();
    let text = LEAST.replace("topics =", "sasl.password = \"hunter2\"\nssl.ca.location = \"/ca.pem\"\ntopics =");
    let file = setup.write(&format!("[cores]\nshards = 1\n{text}"));
    let (code, out, err) = run(with_config("check", &file).env("CORESPAN_KAFKA_EXTRA_OPTS", "-Dbootstrap.servers=10.9.8.7:9092"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let find = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {out}"));
    assert!(find("cores.shards = 1 ").ends_with("# line 2"));
    assert!(find("cache.bytes.max = \"256MiB\"").ends_with("# default"));
    assert!(find("kafka.consumer.\"bootstrap.servers\" = \"10.9.8.7:9092\"").ends_with("# CORESPAN_KAFKA_EXTRA_OPTS"));
    assert!(find("kafka.producer.\"bootstrap.servers\" = \"10.9.8.7:9092\"").ends_with("# CORESPAN_KAFKA_EXTRA_OPTS"));
    find("kafka.consumer.\"sasl.password\" = \"********\"");
    find("# shard 0: CPU ");
    assert!(!out.contains("hunter2"));

    // What it prints is a configuration that means the same.
    let again = setup.write(&out);
    let (code, second, err) = run(&mut with_config("check", &again));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let keys = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once("  #")?.0.trim_end().to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&out), keys(&second));
}

#[test]
fn secrets_come_from_the_environment_and_from_files_and_are_printed_nowhere() {
    let setup = Setup::new();
    let password = setup.folder.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let path = password.display();
    let file = setup.write(&format!(
        "[kafka]\nbootstrap.servers = \"${{KAFKA_HOST}}:1\"\nsasl.username = \"${{KAFKA_USER}}\"\nsasl.password.file = \"{path}\"\n\
         [kafka.consumer]\ntopics = [\"vehicles\"]\n[kafka.producer]\nclient.id = \"a$${{b\"\n"
    ));
    let with = |word: &str, file: &Path| {
        let mut command = with_config(word, file);
        command.env("KAFKA_HOST", "hidden.example").env("KAFKA_USER", "hidden-user");
        command
    };
    let (code, out, err) = run(&mut with("check", &file));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in [
        "kafka.consumer.\"bootstrap.servers\" = \"${KAFKA_HOST}:1\"".to_owned(),
        "kafka.producer.\"sasl.username\" = \"${KAFKA_USER}\"".to_owned(),
        format!("kafka.producer.\"sasl.password.file\" = \"{path}\""),
        "kafka.producer.\"client.id\" = \"a$${b\"".to_owned(),
        format!("# note: kafka.sasl.password.file = \"{path}\" has mode 0644"),
    ] {
        assert!(out.lines().any(|printed| printed.starts_with(&line)), "{line}\n{out}");
    }
    assert!(!out.contains("hunter2") && !out.contains("hidden"), "{out}");
    // What it prints is a configuration that means the same.
    let again = setup.write(&out);
    let (code, _, err) = run(&mut with("check", &again));
    assert_eq!((code, err.as_str()), (Some(0), ""));

    // Without the variables, and with a password in the place of a number.
    let file = setup.write(&format!("cache.records.max.file = \"{path}\"\nnode.name = \"${{KAFKA_USER}}\"\n{LEAST}"));
    for word in ["serve", "check"] {
        let (code, out, err) = run(&mut with_config(word, &file));
        assert_eq!((code, err.lines().count()), (Some(1), 2), "{err}");
        assert!(
            err.contains(&format!("cache.records.max.file = \"{path}\" is not allowed; give a whole number from 1 to 1000000")),
            "{err}"
        );
        assert!(
            err.contains("node.name asks for ${KAFKA_USER}, and the environment has no KAFKA_USER") && !(out + &err).contains("hunter2")
        );
    }
}

#[test]
fn the_shipped_file_passes_check() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/corespan.toml");
    let (code, out, err) = run(&mut with_config("check", &file));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
}

#[test]
fn a_missing_file_names_the_file_and_the_option() {
    let (code, _, err) = run(&mut with_config("serve", Path::new("/nowhere/corespan.toml")));
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "corespan: error: cannot read the configuration /nowhere/corespan.toml: No such file or directory (os error 2); name another file with --config FILE\n"
    );
}

#[test]
fn mistakes_in_the_file_are_one_line_each() {
    for (text, line) in [
        (format!("[cache]\nbyte.max = 1\n{LEAST}"), "FILE:2: unknown key cache.byte.max; did you mean cache.bytes.max?"),
        (
            format!("[cache]\nrecords.max = \"x\"\n{LEAST}"),
            "FILE:2: cache.records.max = \"x\" is not allowed; give a whole number from 1 to 1000000",
        ),
        (
            LEAST.replace("topics = [\"vehicles\"]\n", ""),
            "FILE: kafka.consumer.topics and kafka.consumer.topics.regex are both missing; give exactly one in [kafka.consumer]: topics = [\"vehicles\"], or \"topics.regex\" = \"vehicles.*\"",
        ),
        (
            LEAST.replace("topics =", "\"topics.regex\" = \"v.*\"\ntopics ="),
            "FILE:3: kafka.consumer.topics and kafka.consumer.topics.regex are both given; exactly one is allowed, remove the other",
        ),
    ] {
        assert_eq!(complaint(&text), format!("corespan: error: {line}"));
    }
    let several = Setup::new();
    let file = several.write(&format!("nonsense = 1\n[cores]\nshards = 0\n{LEAST}"));
    let (code, _, err) = run(&mut with_config("check", &file));
    assert_eq!((code, err.lines().count()), (Some(1), 2), "{err}");
    assert!(err.lines().all(|line| line.starts_with("corespan: error: ")));
}

#[test]
fn a_wrong_extra_option_names_the_variable() {
    let setup = Setup::new();
    let file = setup.write(LEAST);
    let (code, _, err) = run(with_config("serve", &file).env("CORESPAN_KAFKA_EXTRA_OPTS", "-Dconsumers.size=none"));
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.starts_with("corespan: error: CORESPAN_KAFKA_EXTRA_OPTS: "), "{err}");
}

#[test]
fn a_cpu_that_does_not_exist_names_those_that_do() {
    let line = complaint(&format!("[cores]\nshards = [1023]\n{LEAST}"));
    assert!(line.starts_with("corespan: error: cores.shards names CPU 1023, which does not exist; this machine has 0"), "{line}");
    let line = complaint(&format!("[cores]\nhousekeeping = [1022]\n{LEAST}"));
    assert!(line.starts_with("corespan: error: cores.housekeeping names CPU 1022"), "{line}");
    let line = complaint(&format!("[cores]\nshards = 256\n{LEAST}"));
    assert!(line.contains("cores.shards = 256 is more than the "), "{line}");
}

#[test]
fn more_consumers_than_shards_are_one_line() {
    let line = complaint(&format!("[cores]\nshards = 1\n{}", LEAST.replace("topics =", "consumers.size = 2\ntopics =")));
    assert!(line.contains("kafka.consumer.consumers.size = 2 is not allowed; there are 1 shards"), "{line}");
}

#[test]
fn too_little_locked_memory_says_how_to_grant_it() {
    let setup = Setup::new();
    let file = setup.write(&format!("[listen]\nconnections.max = 100\n{LEAST}"));
    // Without the right to raise it: the capability is dropped along with the limit.
    let limited = |words: &str| {
        let script = format!("ulimit -l 64; exec \"$0\" {words} --config {}", file.display());
        let mut command = if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0 {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource", "bash"]);
            command
        } else {
            Command::new("bash")
        };
        run(command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_corespan")).env_remove("CORESPAN_KAFKA_EXTRA_OPTS"))
    };
    for word in ["serve", "check"] {
        let (code, _, err) = limited(word);
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{word}: {err}");
        assert!(err.contains("locked memory is limited to 64 KiB") && err.contains("LimitMEMLOCK"), "{word}: {err}");
    }
    let (code, out, err) = limited("check --elsewhere");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("# warning: `corespan serve` would not start on this machine: locked memory"), "{out}");
}

#[test]
fn an_io_uring_that_is_forbidden_says_how_to_allow_it() {
    let setup = Setup::new();
    let file = setup.write(&format!("[listen]\nconnections.max = 100\n{LEAST}"));
    // A filter holds for the thread that asks for it, and for what the thread starts.
    let refused = std::thread::spawn(move || {
        let forbidden = [(nix::libc::SYS_io_uring_setup, Vec::new())].into_iter().collect();
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(nix::libc::EPERM as u32));
        let filter = SeccompFilter::new(forbidden, allow, refuse, std::env::consts::ARCH.try_into().unwrap()).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        ["serve", "check"].map(|word| run(&mut with_config(word, &file)))
    });
    for (code, _, err) in refused.join().unwrap() {
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
        assert!(err.contains("io_uring") && err.contains("the system forbids it") && err.contains("SystemCallFilter"), "{err}");
    }
}

#[test]
fn a_port_in_use_of_the_demo_names_the_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (option, other) in [("--port", "--admin-port"), ("--admin-port", "--port")] {
        let (code, out, err) = run(corespan().args(["demo", "--shards", "1", option, &port, other, "0"]));
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.contains(&format!("127.0.0.1:{port} is in use")) && err.contains(&format!("with {option} ")), "{err}");
    }
}

#[test]
fn addresses_in_use_are_one_line_that_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["address", "admin"] {
        let other = if key == "address" { "admin" } else { "address" };
        let setup = Setup::new();
        let file = setup.write(&format!("[listen]\n{key} = \"{address}\"\n{other} = \"127.0.0.1:0\"\n[cores]\nshards = 1\n{LEAST}"));
        let (code, _, err) = run(&mut with_config("serve", &file));
        assert_eq!(code, Some(1), "{err}");
        let errors: Vec<_> = err.lines().filter(|line| line.starts_with("corespan: error: ")).collect();
        assert_eq!(errors.len(), 1, "{err}");
        assert!(
            errors[0].contains(&format!("listen.{key}")) && errors[0].contains(&address.to_string()) && errors[0].contains("in use"),
            "{err}"
        );
    }
}

#[test]
fn each_program_writes_man_pages_under_its_own_name() {
    let folder = TempDir::new().unwrap();
    for program in [env!("CARGO_BIN_EXE_corespan"), env!("CARGO_BIN_EXE_corespan-bench")] {
        let (code, out, err) = run(Command::new(program).arg("man").arg(folder.path()).stdin(Stdio::null()));
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""), "{program}");
    }
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(page("corespan.1").contains("WebSocket clients"));
    assert!(page("corespan-bench.1").contains("Load tools"));
    assert!(page("corespan-reload.1").contains("needs a restart") && page("corespan-bench-deliver.1").contains("subject"));
}
