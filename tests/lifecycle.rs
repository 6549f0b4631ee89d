//! A node as a process, from start to end: what it prints, when it is ready, how it stops. The Kafka is the demo's own, or none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corespan::kafka::EmbeddedCluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

mod support;
use support::client::{Client, Push};
use support::node::Node;
use support::{PATIENCE, eventually, finish, free_port};

/// `corespan demo` on free ports; killed when dropped.
struct Demo {
    process: Child,
    port: u16,
    /// Its lines, read by a thread, so that a silent one is noticed.
    output: mpsc::Receiver<String>,
}

impl Demo {
    fn start() -> Demo {
        let (port, admin_port) = (free_port(), free_port());
        let mut process = Command::new(env!("CARGO_BIN_EXE_corespan"))
            .args(["demo", "--port", &port.to_string(), "--admin-port", &admin_port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("corespan starts");
        let (tell, output) = mpsc::channel();
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        std::thread::spawn(move || lines.try_for_each(|line| tell.send(line.expect("it writes text"))));
        Demo { process, port, output }
    }

    fn first_line(&mut self) -> String {
        self.output.recv_timeout(PATIENCE).expect("it says where it is")
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("the process is there");
    }

    /// Waits for its end; what it still wrote to standard output and all that it wrote to standard error.
    fn end(&mut self) -> (ExitStatus, String) {
        let status = eventually("the demo ends", || self.process.try_wait().expect("the process can be asked"));
        let mut rest: String = self.output.iter().collect();
        self.process.stderr.take().expect("its errors are piped").read_to_string(&mut rest).expect("it writes text");
        (status, rest)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn demo_prints_one_address_feeds_clients_and_ends_well() {
    let mut demo = Demo::start();
    assert_eq!(demo.first_line(), format!("http://127.0.0.1:{}/demo", demo.port));
    let mut client = Client::connect(demo.port);
    assert!(client.subscribe("/vehicles/1").expect("the feed's topic is served").recoverable);
    assert!(client.next_publication().data["lat"].is_number());
    client.publish("/vehicles/nobody", &json!({"n": 1}).to_string()).expect("the embedded Kafka takes it");

    demo.signal(Signal::SIGTERM);
    loop {
        match client.next_push(PATIENCE) {
            Some(Push::Publication { .. }) => {}
            Some(Push::Disconnect { code: 3001 }) => break,
            None => panic!("nothing was said"),
            Some(other) => panic!("{other:?}"),
        }
    }
    let (status, rest) = demo.end();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""), "nothing is said besides the address");
}

#[test]
fn demo_on_a_taken_port_says_so_in_one_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port can be had");
    let port = listener.local_addr().expect("it is bound").port();
    let output = finish(Command::new(env!("CARGO_BIN_EXE_corespan")).args(["demo", "--port", &port.to_string(), "--admin-port", "0"]));
    let said = String::from_utf8(output.stderr).expect("it writes text");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.lines().count() == 1 && said.contains(&format!("127.0.0.1:{port}")) && said.contains("in use"), "{said}");
}

const NOBODY: &str = "[kafka.consumer]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\ntopics = \"vehicles\"\n[kafka.producer]\n\"bootstrap.servers\" = \"127.0.0.1:1\"\n";

#[test]
fn without_kafka_a_node_listens_is_not_ready_says_why_and_ends_when_asked() {
    let mut node = Node::start(NOBODY);
    let why = eventually("the node says that Kafka cannot be reached", || node.readiness().filter(|(_, why)| why.contains("127.0.0.1:1")));
    assert_eq!(why.0, 503, "{why:?}");
    let mut client = Client::connect(node.port);
    let refusal = client.subscribe("/vehicles/1").expect_err("nobody knows the topic yet");
    assert!(matches!(refusal.code, 100 | 102), "{refusal:?}");
    kill(Pid::from_raw(node.pid() as i32), Signal::SIGTERM).expect("the process is there");
    assert_eq!(node.await_exit().code(), Some(0), "{}", node.log());
    assert!(node.log().contains("trying again"), "{}", node.log());
}

#[test]
fn a_node_ends_in_time_whatever_its_clients_its_admin_port_and_kafka_do() {
    let mut node = Node::start(NOBODY);
    eventually("the node listens", || node.readiness());
    // Nobody of these ever goes by itself.
    let connect = |port| TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    let mut held: Vec<TcpStream> = (0..20).map(|_| connect(node.admin_port)).collect();
    for (number, stream) in held.iter_mut().enumerate() {
        let said: &[u8] = match number % 3 {
            0 => b"POST /ready HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\nx",
            1 => b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
            _ => b"GET /ready HT",
        };
        stream.write_all(said).expect("it fits");
    }
    held.extend((0..20).map(|_| connect(node.port)));
    let clients: Vec<Client> = (0..20).map(|_| Client::connect(node.port)).collect();
    clients.iter().for_each(Client::pause);
    let began = Instant::now();
    kill(Pid::from_raw(node.pid() as i32), Signal::SIGTERM).expect("the process is there");
    assert_eq!(node.await_exit().code(), Some(0), "{}", node.log());
    // `drain.seconds` is 1; the rest is for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(1 + 5 + 4), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut node = Node::start(NOBODY);
    eventually("the node listens", || node.readiness());
    // Sent away one after the other, so the drain takes its second.
    let _clients: Vec<Client> = (0..50).map(|_| Client::connect(node.port)).collect();
    let pid = Pid::from_raw(node.pid() as i32);
    kill(pid, Signal::SIGINT).expect("the process is there");
    eventually("the drain begins", || node.log().contains("SIGINT received").then_some(()));
    kill(pid, Signal::SIGTERM).expect("the process is there");
    assert_eq!(node.await_exit().code(), Some(1), "{}", node.log());
    assert!(node.log().contains("SIGTERM again"), "{}", node.log());
}

#[test]
fn a_listed_topic_that_does_not_exist_is_one_line_and_the_end() {
    let cluster = EmbeddedCluster::start(1).expect("the embedded cluster starts");
    let servers = format!("\"bootstrap.servers\" = \"{}\"", cluster.bootstrap());
    let mut node = Node::start(&format!("[kafka.consumer]\n{servers}\ntopics = \"no-such-topic\"\n[kafka.producer]\n{servers}\n"));
    assert_eq!(node.await_exit().code(), Some(1), "{}", node.log());
    let log = node.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("corespan: error: ") && last.contains("no-such-topic") && last.contains("topics"), "{log}");
}

/// What `corespan reload` says: its exit code, standard output and standard error.
fn reload(node: &Node) -> (Option<i32>, String, String) {
    let output = finish(Command::new(env!("CARGO_BIN_EXE_corespan")).arg("reload").arg("--config").arg(node.config_file()));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_reload_puts_in_force_what_it_can_names_what_needs_a_restart_and_disconnects_nobody() {
    let node = Node::start(NOBODY);
    eventually("the node listens", || node.readiness());
    let mut client = Client::connect(node.port);
    node.rewrite(|text| {
        format!(
            "subject.bytes.max = 512\nslow.client.timeout = \"9s\"\n{text}\n[log]\nlevel = \"debug\"\n[client]\nsubscriptions.max = 1\n"
        )
    });
    let (code, out, err) = reload(&node);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("subject.bytes.max = 512 needs a restart, still \"1KiB\""), "{out}");
    assert!(out.contains("slow.client.timeout = \"9s\", was \"60s\"") && out.contains("log.level = \"debug\""), "{out}");
    assert!(node.log().contains("reloaded: slow.client.timeout"), "{}", node.log());
    // The client from before is answered on the connection that it has.
    let refusal = client.subscribe("/vehicles/1").expect_err("nobody knows the topic yet");
    assert!(matches!(refusal.code, 100 | 102), "{refusal:?}");
    let (code, out, _) = reload(&node);
    assert_eq!(code, Some(0));
    assert_eq!(out.lines().collect::<Vec<_>>(), ["subject.bytes.max = 512 needs a restart, still \"1KiB\""], "said until it is in force");
}

#[test]
fn a_bad_file_is_refused_as_a_whole_and_the_old_settings_stay() {
    let node = Node::start(NOBODY);
    eventually("the node listens", || node.readiness());
    node.rewrite(|text| format!("slow.client.timeout = \"9s\"\n{text}\n[log]\nlevel = \"loud\"\n"));
    let (code, out, err) = reload(&node);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("log.level") && err.contains("loud"), "{err}");
    // Whoever sends the signal by hand has it from the log.
    kill(Pid::from_raw(node.pid() as i32), Signal::SIGHUP).expect("the process is there");
    eventually("the node refuses", || node.log().contains("reload refused, the settings before stay in force").then_some(()));
    node.rewrite(|text| text.replace("loud", "info"));
    let (code, out, err) = reload(&node);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "slow.client.timeout = \"9s\", was \"60s\"\n");
}

#[test]
fn a_reload_without_a_node_says_where_it_looked() {
    let node = Node::start(NOBODY);
    eventually("the node listens", || node.readiness());
    let nobody = free_port();
    node.rewrite(|text| text.replace(&format!("127.0.0.1:{}", node.admin_port), &format!("127.0.0.1:{nobody}")));
    let (code, _, err) = reload(&node);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.contains(&format!("127.0.0.1:{nobody}")) && err.contains("listen.admin"), "{err}");
}

#[test]
fn a_supervisor_hears_that_the_node_listens_that_its_shards_move_and_that_it_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let mut node = Node::start_with(NOBODY, &[("NOTIFY_SOCKET", path.to_str().expect("a text")), ("WATCHDOG_USEC", "400000")]);
    let mut heard = String::new();
    let mut hear_until = |word: &str| {
        let mut piece = [0; 4096];
        while !heard.contains(word) {
            let count = socket.recv(&mut piece).unwrap_or_else(|error| panic!("{word} is said, not only {heard:?}: {error}"));
            heard += std::str::from_utf8(&piece[..count]).expect("text");
            heard.push('\n');
        }
        std::mem::take(&mut heard)
    };
    hear_until("READY=1");
    hear_until("STATUS=Kafka not reached");
    hear_until("WATCHDOG=1");
    hear_until("WATCHDOG=1");
    kill(Pid::from_raw(node.pid() as i32), Signal::SIGTERM).expect("the process is there");
    let last = hear_until("STOPPING=1");
    assert!(last.contains("EXTEND_TIMEOUT_USEC="), "{last}");
    assert_eq!(node.await_exit().code(), Some(0), "{}", node.log());
}

#[test]
fn the_admin_port_may_have_tls_and_a_reload_knows_the_node_by_its_certificate() {
    let folder = tempfile::tempdir().expect("a folder can be had");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate can be made");
        std::fs::write(path(&format!("{name}.pem")), made.cert.pem()).expect("it can be written");
        std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).expect("it can be written");
    };
    write("admin");
    write("other");
    let node = Node::start(&format!("{NOBODY}\n[admin]\ntls.cert = \"{}\"\ntls.key = \"{}\"\n", path("admin.pem"), path("admin.key")));
    eventually("the node listens", || node.log().contains("listening on").then_some(()));
    assert_eq!(node.admin("/ready"), None, "nobody is answered in the clear");
    node.rewrite(|text| format!("slow.client.timeout = \"9s\"\n{text}"));
    let (code, out, err) = reload(&node);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "slow.client.timeout = \"9s\", was \"60s\"\n", ""));
    // Whoever else listens there is not believed.
    node.rewrite(|text| text.replace("admin.pem", "other.pem").replace("admin.key", "other.key"));
    let (code, _, err) = reload(&node);
    assert_eq!(code, Some(1));
    assert!(err.contains("no node answers at listen.admin"), "{err}");
}
