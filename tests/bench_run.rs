//! `corespan-bench run`, `compare` and `page` from outside: scenarios on a node and an embedded Kafka, with and without a network that loses records.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use corespan::bench::Server;
use corespan::bench::server::ServerPlan;
use corespan::kafka::EmbeddedCluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const RUN_TIME: Duration = Duration::from_secs(60);
const TOPIC: &str = "bench";

/// One at a time: each wants the same two CPUs.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The tool; killed when dropped.
struct Tool(Child);

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> Tool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corespan-bench"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Tool(command.spawn().unwrap())
}

/// Waits for it: its exit code and what it said.
fn finish(mut tool: Tool) -> (Option<i32>, String) {
    let deadline = Instant::now() + RUN_TIME;
    let status = loop {
        if let Some(status) = tool.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end within {RUN_TIME:?}");
        thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    tool.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    tool.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    finish(start(arguments))
}

struct World {
    kafka: EmbeddedCluster,
    node: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> World {
        let kafka = EmbeddedCluster::start(1).unwrap();
        kafka.create_topic(TOPIC, 4).unwrap();
        let node = Server::start(&ServerPlan {
            binary: Path::new(env!("CARGO_BIN_EXE_corespan-bench")),
            subcommand: "node",
            bootstrap: kafka.bootstrap(),
            topic: TOPIC,
            connections_max: 1_000,
            cpu: 0,
            poll: "park",
            consumer: "\"fetch.wait.max.ms\" = 5\n[publish]\npattern = \".*\"\n",
        })
        .unwrap();
        World { kafka, node, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A file with these two subscribing roles, where they connect to, and a producer: 100 records a second to five subjects.
    fn scenario(&self, address: SocketAddr, head: &str) -> String {
        let url = format!("ws://{address}/connection/websocket");
        let text = format!(
            "{head}\n[server]\npid = {}\n[roles.many]\ntool = \"sub\"\nurl = \"{url}\"\nconnections = 10\nsubject = \"/bench/{{n%5}}\"\nlag_max_ms = 10000\n\
             [roles.few]\ntool = \"sub\"\nurl = \"{url}\"\nconnections = 4\nsubject = \"/bench/{{n%5}}\"\nprotocol = \"protobuf\"\nlag_max_ms = 10000\n\
             [roles.writer]\ntool = \"produce\"\nbrokers = \"{}\"\ntopic = \"{TOPIC}\"\nsubjects = 5\nrate = 100\nlag_max_ms = 10000\n",
            self.node.pid(),
            self.kafka.bootstrap()
        );
        let file = self.path("scenario.toml");
        fs::write(&file, text).unwrap();
        file
    }
}

fn json(file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// 100/s for 1 + 2 seconds are 60 records for each of five subjects; 10 and 4 connections.
#[test]
fn a_scenario_is_counted_to_the_last_record_and_two_of_it_are_compared() {
    let _machine = machine();
    let world = World::start();
    let file = world.scenario(world.node.address, "warm_up_seconds = 1\nseconds = 2\nrounds = 1");
    let (a, b) = (world.path("a"), world.path("b"));
    for out in [&a, &b] {
        let (code, said) = run(&["run", &file, "--out", out]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("deliveries") && said.contains("verdict"), "{said}");
    }
    let summary = json(&format!("{a}/summary.json"));
    let round = &summary["rounds"][0];
    assert_eq!((&summary["verdict"], &summary["reasons"]), (&Value::from("good"), &serde_json::json!([])), "{summary:#}");
    assert_eq!(round["balance"], serde_json::json!({ "sent": 300, "owed": 840, "received": 840, "unheard": 0 }), "{summary:#}");
    assert_eq!((&round["roles"]["many"]["counts"]["received"], &round["roles"]["few"]["counts"]["received"]), (&600.into(), &240.into()));
    let server = &round["servers"]["server"];
    // The steady phase has no more than all, and the node had to work for it.
    let deliveries = server["deliveries"].as_u64().unwrap();
    assert!(deliveries > 0 && deliveries <= 840, "{server:#}");
    assert!(server["cpu_us_per_delivery"].as_f64().unwrap() > 0.0 && server["seconds"].as_f64().unwrap() >= 1.9, "{server:#}");
    assert!(!server["series"].as_array().unwrap().is_empty() && !server["curve"].as_array().unwrap().is_empty(), "{server:#}");
    assert!(Path::new(&a).join("round-1/many.hlog").exists() && json(&format!("{a}/round-1/writer.json"))["flows"]["records"].is_object());

    let (code, said) = run(&["compare", &a, &b]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("p99.9 us") && said.contains("CPU us each") && said.contains("bootstrap") && said.contains("95 %"), "{said}");
    let (code, said) = run(&["compare", "--json", "--a", &a, &a, &a, "--b", &b, &b, &b]);
    let compared: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &compared["samples_are"], &compared["samples"]), (Some(0), &"runs".into(), &serde_json::json!([3, 3])), "{said}");
    let mut edited = json(&format!("{b}/summary.json"));
    edited["host"]["kernel"] = "another".into();
    fs::write(format!("{b}/summary.json"), edited.to_string()).unwrap();
    let (code, said) = run(&["compare", &a, &b]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("host.kernel: ") && said.contains("another") && said.contains("--anyway"), "{said}");
    let (code, said) = run(&["compare", &a, &b, "--anyway"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("differs: host.kernel"), "{said}");

    let (page, svg, log) = (world.path("page.html"), world.path("plot.svg"), format!("{a}/round-1/many.hlog"));
    let (code, said) = run(&["page", &a, &b, &log, &format!("{a}/round-1/few.json"), "--out", &page, "--svg", &svg]);
    assert_eq!(code, Some(0), "{said}");
    for page in [&page, &format!("{a}/page.html")] {
        let html = fs::read_to_string(page).unwrap();
        for outside in ["<script", "<link", "<img", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside} in {page}");
        }
        assert!(html.contains("<svg") && html.contains("account.received") && html.contains("kernel"), "{page}");
    }
    assert!(fs::read_to_string(svg).unwrap().contains("many.hlog"));
}

/// Passes everything on, but of what the server says to a client only the first messages.
fn lossy(server: SocketAddr, messages: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process; each pair of pipes ends with its sockets.
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = pass(server, &client, messages);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// The answer to the upgrade, then so many frames; the rest is read and forgotten.
fn pass(mut server: TcpStream, mut client: &TcpStream, messages: usize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(byte(&mut server)?);
    }
    client.write_all(&head)?;
    for number in 0.. {
        let mut frame = vec![byte(&mut server)?, byte(&mut server)?];
        let length = match frame[1] {
            126 => {
                frame.extend([byte(&mut server)?, byte(&mut server)?]);
                usize::from(u16::from_be_bytes([frame[2], frame[3]]))
            }
            length => usize::from(length),
        };
        let head = frame.len();
        frame.resize(head + length, 0);
        server.read_exact(&mut frame[head..])?;
        if number < messages {
            client.write_all(&frame)?;
        }
    }
    Ok(())
}

fn byte(socket: &mut TcpStream) -> std::io::Result<u8> {
    let mut byte = [0];
    socket.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// No subscriber sees a gap: what is missing came after the last that it got. Only the account of both sides finds it.
#[test]
fn a_scenario_whose_subscribers_miss_the_last_records_fails() {
    let _machine = machine();
    let world = World::start();
    let file = world.scenario(lossy(world.node.address, 12), "warm_up_seconds = 0\nseconds = 2");
    let out = world.path("out");
    let (code, said) = run(&["run", &file, "--out", &out]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("received is not sent x subscribers in 5 of the subjects"), "{said}");
    let summary = json(&format!("{out}/summary.json"));
    assert_eq!(summary["verdict"], "failed");
    let (round, roles) = (&summary["rounds"][0], &summary["rounds"][0]["roles"]);
    assert_eq!(
        (&round["balance"]["sent"], &round["balance"]["owed"], &roles["many"]["counts"]["lost"]),
        (&200.into(), &560.into(), &0.into())
    );
    assert!(round["balance"]["received"].as_u64() < Some(560), "{round:#}");
    let (code, said) = run(&["compare", &out, &out, "--anyway"]);
    assert_eq!((code, said.contains("is failed")), (Some(1), true), "{said}");
}

/// The server is a shell with a child that is one with a child of its own: all of them end, and the roles, when the run is told to.
#[test]
fn what_a_scenario_started_ends_with_it_also_when_it_is_interrupted() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (pids, out) = (path("pids"), path("out"));
    let text = format!(
        "seconds = 600\n[server]\ncommand = [\"sh\", \"-c\", \"echo $$ > {pids}; sh -c 'echo $$ >> {pids}; sleep 1000' & wait\"]\n\
         version = [\"echo\", \"1.2.3\"]\n[roles.waits]\ntool = \"sub\"\nurl = \"ws://{}/\"\nsubject = \"/a/b\"\n",
        silent()
    );
    let file = path("scenario.toml");
    fs::write(&file, text).unwrap();
    let tool = start(&["run", &file, "--out", &out]);
    let deadline = Instant::now() + RUN_TIME;
    let errors = Path::new(&out).join("round-1/waits.err");
    let started = loop {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        if errors.exists() && text.ends_with('\n') && text.lines().count() == 2 {
            break text;
        }
        assert!(Instant::now() < deadline, "nothing was started: {text}");
        thread::sleep(Duration::from_millis(20));
    };
    kill(Pid::from_raw(i32::try_from(tool.0.id()).unwrap()), Signal::SIGINT).unwrap();
    let (code, said) = finish(tool);
    assert_eq!((code, said.contains("interrupted")), (Some(1), true), "{said}");
    for pid in started.lines() {
        let runs = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            assert!(Instant::now() < deadline, "{pid} of the server still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server that accepts and says nothing.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    address
}

#[test]
fn a_mistake_in_a_scenario_or_an_option_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, out) = (path("scenario.toml"), path("out"));
    let role = "[roles.a]\ntool = \"sub\"\nurl = \"ws://127.0.0.1:1/\"\nsubject = \"/a/b\"\n";
    for (text, words) in [
        (format!("{role}conections = 5"), &["scenario.toml", "roles.a.conections = 5", "no such key", "connections"][..]),
        (format!("rounds = 0\n{role}"), &["rounds = 0", "1 to 1000"]),
        (format!("{role}connect_rate = \"many\""), &["roles.a", "many", "connect-rate"]),
        ("[roles.a]\ntool = \"run\"".to_owned(), &["roles.a.tool = \"run\"", "sub, pub, produce"]),
    ] {
        fs::write(&file, text).unwrap();
        let (code, said) = run(&["run", &file, "--out", &out]);
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{word} in {said}"));
    }
    assert!(!Path::new(&out).exists());
    for (arguments, words) in [
        (&["run", &file][..], "--out"),
        (&["run", "/nowhere.toml", "--out", &out], "/nowhere.toml"),
        (&["compare", "/nowhere.json", "/nowhere.json"], "/nowhere.json"),
        (&["compare", &file], "B_RUN"),
        (&["compare", "--a", &file], "--b"),
        (&["page", &file, "--out", &out], "no JSON"),
        (&["page", "--out", &out], "RUNS"),
    ] {
        let (code, said) = run(arguments);
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_server_that_ends_or_never_becomes_ready_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, out) = (path("scenario.toml"), path("out"));
    let role = "[roles.a]\ntool = \"sub\"\nurl = \"ws://127.0.0.1:1/\"\nsubject = \"/a/b\"\n";
    for (server, words) in [
        ("command = [\"false\"]\nready = \"http://127.0.0.1:1/\"", "the server has ended (exit status: 1)"),
        ("command = [\"sleep\", \"100\"]\nready = \"http://127.0.0.1:1/\"\nseconds = 1", "not ready within 1 s (server.seconds)"),
        ("pid = 4194304", "no process 4194304"),
    ] {
        fs::write(&file, format!("[server]\n{server}\n{role}")).unwrap();
        let (code, said) = run(&["run", &file, "--out", &out]);
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}
