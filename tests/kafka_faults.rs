//! Kafka's bad days, from a client's side: publishes are stored once, in the order of their key, and answered in time; subscribers have every record
//! once; and nobody has to restart anything.
//!
//! The tests are ignored by plain `cargo test`; `./dev test kafka` starts the clusters and runs them, `./dev test --long` runs them at length.

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::client::Client;
use support::eventually;
use support::kafka::{self, Cluster};
use support::kafka_moves::Mover;
use support::ledger::{self, Answered, Ledger, Load, Totals};
use support::node::{Node, config};
use support::token_provider::{TokenProvider, token};

fn is_long() -> bool {
    std::env::var_os("CORESPAN_TEST_LONG").is_some()
}

/// How long faults are played: so many seconds in the short form; `CORESPAN_TEST_SECONDS` overrides the long one.
fn seconds(short: u64, long: u64) -> Duration {
    let given = std::env::var("CORESPAN_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(if is_long() { given.unwrap_or(long) } else { short })
}

/// A node's configuration; `more` are properties of both of Kafka's clients.
fn sections(bootstrap: &str, topic: &str, more: &str) -> String {
    let verbose = if std::env::var_os("CORESPAN_TEST_VERBOSE").is_some() { "\n[log]\nlevel = \"debug\"\n" } else { "" };
    config(bootstrap, &[topic]).replace("\"bootstrap.servers\"", &format!("{more}\"bootstrap.servers\"")) + verbose
}

/// Plays `faults` under a load on a cluster of the test's own with so many brokers; `settings` are those of the topic.
fn under_load(brokers: u16, load: &Load, settings: &[(&str, &str)], faults: impl FnOnce(&Cluster, &Node)) -> Totals {
    let cluster = Cluster::start_with(brokers, &[]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, i32::from(brokers), settings);
    let text = sections(&cluster.bootstrap, &load.topic, "");
    on(&cluster, &text, load, faults)
}

/// The same on a cluster, with a node of this configuration.
fn on(cluster: &Cluster, text: &str, load: &Load, faults: impl FnOnce(&Cluster, &Node)) -> Totals {
    on_node(cluster, Node::start_ready(text), load, faults)
}

/// The same with a node that is ready.
fn on_node(cluster: &Cluster, mut node: Node, load: &Load, faults: impl FnOnce(&Cluster, &Node)) -> Totals {
    // A Kafka that has just begun is slow: its first records are none of the load.
    let mut client = Client::connect(node.port);
    for key in 0..load.keys {
        eventually("Kafka stores", || client.publish(&format!("/{}/k{key}", load.topic), "-2").ok());
    }
    let ledger = Ledger::start(node.port, load);
    pass(1_000);
    faults(cluster, &node);
    let totals = ledger.settle(&cluster.bootstrap);
    node.await_ready();
    if std::env::var_os("CORESPAN_TEST_VERBOSE").is_some() {
        eprintln!("{}", node.log());
    }
    totals
}

/// Time is what these tests give Kafka and the node: how long a broker is away, and how long all is well in between.
fn pass(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

fn pause(cluster: &Cluster, broker: &str, milliseconds: u64) {
    cluster.signal(broker, Signal::SIGSTOP);
    pass(milliseconds);
    cluster.signal(broker, Signal::SIGCONT);
}

#[test]
fn the_ledger_sees_whatever_is_wrong() {
    let load = Load { topic: "t".to_owned(), partitions: 1, keys: 1, publishers: 1, rate: 1, bytes: 0 };
    let answers = |codes: &[Option<u64>], took_ms: u64| -> Vec<Answered> {
        let answer = |(number, code): (usize, &Option<u64>)| Answered {
            number: number as u64,
            key: 0,
            code: *code,
            took: Duration::from_millis(took_ms),
            at: Instant::now(),
        };
        codes.iter().enumerate().map(answer).collect()
    };
    let wrong = |answers: &[Answered], log: &[u64], delivered: &[u64]| {
        let log: Vec<_> = log.iter().map(|number| (0, "k0".to_owned(), format!("[{number},\"\"]"))).collect();
        let delivered: Vec<_> = delivered.iter().map(|number| ("/t/k0".to_owned(), *number)).collect();
        ledger::compare(&load, answers, &log, &delivered).1
    };
    let stored = answers(&[None, None, Some(401), Some(401), Some(100)], 4_000);
    assert_eq!(wrong(&stored, &[0, 1, 3], &[0, 1, 3]), Vec::<String>::new());
    for (log, delivered, what) in [
        (&[0, 3][..], &[0, 3][..], "acknowledged, and 0 times in the log"),
        (&[0, 1, 1], &[0, 1, 1], "acknowledged, and 2 times in the log"),
        (&[1, 0], &[1, 0], "k0: 0 stands behind 1"),
        (&[0, 1, 2, 2], &[0, 1, 2, 2], "unknown, and 2 times in the log"),
        (&[0, 1, 4], &[0, 1, 4], "put off, and 1 times in the log"),
        (&[0, 1, 3], &[0, 3], "k0, record 1: delivered 3 .., in the log 1 3 .."),
        (&[0, 1], &[0, 1, 1], "k0, record 2: delivered 1 .., in the log  .."),
        (&[0, 1], &[1, 0], "k0, record 0: delivered 1 0 .., in the log 0 1 .."),
    ] {
        let found = wrong(&stored, log, delivered);
        assert!(found.iter().any(|line| line.contains(what)), "{what}: {found:?}");
    }
    assert!(wrong(&answers(&[None], 6_000), &[0], &[0])[0].contains("answered after 6s"));
    assert!(wrong(&answers(&[Some(400)], 10), &[], &[])[0].contains("no answer of a bad day"));
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_are_stored_once_and_in_order_while_the_only_broker_stands_still_or_is_killed() {
    let load = Load { topic: "orders".to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 50, bytes: 20 };
    let totals = under_load(1, &load, &[], |cluster, _| {
        let until = Instant::now() + seconds(0, 900);
        let mut round = 0;
        while round == 0 || Instant::now() < until {
            match if is_long() { round % 4 } else { 3 } {
                // Shorter and longer than clients wait, and longer than librdkafka's time-out of a request (10 s).
                0 => pause(cluster, "1", 5_000 + fastrand::u64(0..3_000)),
                1 => pause(cluster, "1", 9_000 + fastrand::u64(0..4_000)),
                2 => {
                    pause(cluster, "1", 7_000);
                    pass(300);
                    pause(cluster, "1", 6_000);
                }
                _ => {
                    cluster.kill("1");
                    pass(fastrand::u64(0..1_000));
                    cluster.start_again("1");
                }
            }
            pass(5_000 + fastrand::u64(0..3_000));
            round += 1;
        }
        eprintln!("{round} faults");
    });
    assert!(totals.acknowledged > 0);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn leaders_that_move_all_the_time_lose_double_and_reorder_nothing() {
    let load = Load { topic: "moving".to_owned(), partitions: 60, keys: 120, publishers: 4, rate: 40, bytes: 200 };
    let totals = under_load(3, &load, &[("min.insync.replicas", "2")], |cluster, _| {
        let address = cluster.bootstrap.split(',').next().expect("an address").to_owned();
        let mut mover = Mover::connect(&address);
        let until = Instant::now() + seconds(10, 600);
        let (mut round, mut due) = (0, Instant::now());
        while Instant::now() < until {
            // Back and forth, and sometimes there and back at once.
            let there_and_back = round % 8 == 7;
            for step in 0..if there_and_back { 3 } else { 1 } {
                mover.move_leaders("moving", 60, |partition| (0..3).map(|place| (partition + round + step % 2 + place) % 3 + 1).collect());
            }
            round += 1;
            due += Duration::from_millis(500);
            pass(due.saturating_duration_since(Instant::now()).as_millis() as u64);
        }
        eprintln!("{round} moves");
    });
    assert!(totals.acknowledged > 0);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn brokers_that_stand_still_or_restart_in_turn_lose_double_and_reorder_nothing() {
    let load = Load { topic: "rolling".to_owned(), partitions: 12, keys: 60, publishers: 10, rate: 500, bytes: 200 };
    let totals = under_load(3, &load, &[("min.insync.replicas", "2")], |cluster, _| {
        let until = Instant::now() + seconds(0, 600);
        let mut round = 0;
        while round == 0 || Instant::now() < until {
            for (place, broker) in ["1", "2", "3"].into_iter().enumerate() {
                // In the short form one of each kind, else each kind for all of them in turn.
                let began = Instant::now();
                match if is_long() { round % 3 } else { place } {
                    0 => pause(cluster, broker, if is_long() { 12_000 } else { 5_000 }),
                    1 => {
                        cluster.kill(broker);
                        pass(fastrand::u64(0..3_000));
                        cluster.start_again(broker);
                    }
                    // As an operator does it: the broker hands its partitions over, ends, and comes back.
                    _ => cluster.restart(broker),
                }
                eprintln!("broker {broker}: {:?}", began.elapsed());
                pass(if is_long() { 6_000 } else { 1_500 });
            }
            round += 1;
        }
        eprintln!("{round} rounds over all brokers");
    });
    assert!(totals.acknowledged > 0);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn publishes_below_min_insync_replicas_go_on_within_ten_seconds_of_a_whole_isr() {
    let load = Load { topic: "strict".to_owned(), partitions: 6, keys: 12, publishers: 4, rate: 100, bytes: 50 };
    under_load(3, &load, &[("min.insync.replicas", "3")], |cluster, node| {
        for away_s in if is_long() { &[10, 30, 120][..] } else { &[6] } {
            cluster.kill("2");
            pass(away_s * 1_000);
            cluster.start_again("2");
            eventually("the replicas are in sync again", || kafka::all_in_sync(&cluster.bootstrap, "strict", 3).then_some(()));
            let whole = Instant::now();
            let mut client = Client::connect(node.port);
            for key in 0..load.keys {
                eventually("publishes are acknowledged", || client.publish(&format!("/strict/k{key}"), "-2").ok());
            }
            eprintln!("acknowledged {:?} after the ISR was whole again, {away_s} s without it", whole.elapsed());
            assert!(whole.elapsed() < Duration::from_secs(20), "10 s, and as many for a busy machine: {:?}", whole.elapsed());
        }
    });
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_node_that_reads_from_the_replica_of_its_rack_survives_that_replicas_lag_and_death() {
    let load = Load { topic: "near".to_owned(), partitions: 6, keys: 12, publishers: 4, rate: 100, bytes: 100 };
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let cluster = Cluster::start_with(3, &[("broker.rack", "rack-{id}"), ("replica.selector.class", selector)]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 3, &[("min.insync.replicas", "2")]);
    let text = sections(&cluster.bootstrap, &load.topic, "").replacen("topics =", "\"client.rack\" = \"rack-2\"\ntopics =", 1);
    let totals = on(&cluster, &text, &load, |cluster, _| {
        for round in 0..if is_long() { 6 } else { 1 } {
            // It lags, stands still for longer than Kafka keeps it in sync, and dies.
            pause(cluster, "2", 2_000);
            pass(2_000);
            pause(cluster, "2", 5_000 + 1_000 * round);
            pass(2_000);
            cluster.kill("2");
            pass(1_000 * round);
            cluster.start_again("2");
            pass(3_000);
        }
    });
    assert!(totals.acknowledged > 0);
}

/// A node's configuration with alice on the SASL_SSL listener; `password` is the line that gives hers.
fn secure_sections(cluster: &Cluster, topic: &str, password: &str) -> String {
    sasl_sections(cluster, topic, &format!("\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\"sasl.username\" = \"alice\"\n{password}"))
}

/// A node's configuration on the SASL_SSL listener; `login` are the lines that say how it authenticates.
fn sasl_sections(cluster: &Cluster, topic: &str, login: &str) -> String {
    let (host, port) = cluster.bootstrap.rsplit_once(':').expect("host and port");
    let secure = format!("{host}:{}", port.parse::<u16>().expect("a port") + 20);
    let keys =
        format!("\"security.protocol\" = \"SASL_SSL\"\n{login}\n\"ssl.ca.location\" = \"{}\"\n", cluster.folder().join("ca.pem").display());
    sections(&secure, topic, &keys)
}

/// Gives alice another password in Kafka.
fn set_password(cluster: &Cluster, password: &str) {
    let change = format!("SCRAM-SHA-512=[password={password}]");
    let whom = ["--alter", "--entity-type", "users", "--entity-name", "alice", "--add-config", &change];
    kafka::dev_kafka(&[&["ConfigCommand", "--bootstrap-server", &cluster.bootstrap][..], &whom].concat(), "", &[]);
}

/// What `corespan reload` says.
fn reload(node: &Node) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corespan"));
    let told = support::finish(command.arg("reload").arg("--config").arg(node.config_file()));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).expect("it writes text")
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_password_that_is_rotated_is_taken_up_by_a_reload_and_nothing_is_lost() {
    let load = Load { topic: "rotated".to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 50, bytes: 50 };
    let cluster = Cluster::start_sasl(&[]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 1, &[]);
    let file = cluster.folder().join("password");
    let write = |password: &str| std::fs::write(&file, password).expect("the password is written");
    write("alice-secret");
    let text = secure_sections(&cluster, &load.topic, &format!("\"sasl.password.file\" = \"{}\"", file.display()));
    let mut calm = String::new();
    let totals = on(&cluster, &text, &load, |cluster, node| {
        set_password(cluster, "second-secret");
        write("second-secret");
        let told = reload(node);
        for table in ["consumer", "producer"] {
            assert!(told.contains(&format!("kafka.{table}.\"sasl.password\" (a secret) has changed")), "{told}");
        }
        assert!(!told.contains("restart") && !told.contains("second-secret"), "{told}");
        // Every connection is made anew, by every client, with what it has now.
        cluster.kill("1");
        cluster.start_again("1");
        eventually("the node is well again", || node.readiness().filter(|(status, _)| *status == 200));
        pass(5_000);
        calm = node.log();
        // Without the reload the same ends the node's service, and the reload mends clients that were refused already.
        set_password(cluster, "third-secret");
        write("third-secret");
        cluster.restart("1");
        let refused = |why: &str| why.to_lowercase().contains("authentication");
        eventually("Kafka refuses the old password", || node.readiness().filter(|(status, why)| *status == 503 && refused(why)));
        reload(node);
        eventually("the node is well again", || node.readiness().filter(|(status, _)| *status == 200));
        assert!(!node.log().contains("-secret"), "the log names no password");
        pass(5_000);
    });
    assert!(!calm.to_lowercase().contains("authentication failed"), "{calm}");
    assert!(totals.acknowledged > 0, "{totals:?}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn certificates_that_are_rotated_are_taken_up_by_a_reload_and_nothing_is_lost() {
    let load = |topic: &str| Load { topic: topic.to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 200, bytes: 50 };
    let loads = [load("calm"), load("rotated")];
    let cluster = Cluster::start_sasl(&[]);
    for load in &loads {
        kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 1, &[]);
    }
    let text = |load: &Load| secure_sections(&cluster, &load.topic, "\"sasl.password\" = \"alice-secret\"");
    let (ca, keystore) = (cluster.folder().join("ca.pem"), cluster.folder().join("keystore.pem"));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("it is there");
    let changed = |told: &str| told.contains("kafka.consumer.\"ssl.ca.location\" (its file) has changed") && !told.contains("restart");
    // All is well meanwhile: clients that are made anew cost no publish its answer.
    let calm = on(&cluster, &text(&loads[0]), &loads[0], |_, node| {
        assert!(reload(node).contains("nothing has changed"));
        for round in 0..3 {
            std::fs::write(&ca, format!("{}\n# {round}\n", read(&ca))).expect("it is written");
            let told = reload(node);
            assert!(changed(&told), "{told}");
            pass(4_000);
        }
        let made = "other producers take the places of all";
        assert_eq!(node.log().lines().filter(|line| line.contains(made)).count(), 3, "{}", node.log());
    });
    assert_eq!((calm.acknowledged, calm.unknown, calm.put_off), (calm.sent, 0, 0), "{calm:?}");

    // A broker with another certificate, which the node trusts beside the first before it comes.
    let totals = on(&cluster, &text(&loads[1]), &loads[1], |cluster, node| {
        let (new, key) = (cluster.folder().join("new.pem"), cluster.folder().join("new-key.pem"));
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let mut command = std::process::Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "365", "-subj", "/CN=new", "-addext", names]);
        let made = support::finish(command.arg("-keyout").arg(&key).arg("-out").arg(&new));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(&ca, read(&ca) + &read(&new)).expect("it is written");
        let told = reload(node);
        assert!(changed(&told), "{told}");
        pass(3_000);
        std::fs::write(&keystore, read(&key) + &read(&new)).expect("it is written");
        cluster.restart("1");
        eventually("the node is well again", || node.readiness().filter(|(status, _)| *status == 200));
        pass(5_000);
    });
    assert!(totals.acknowledged > 0, "{totals:?}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn sasl_sessions_that_end_every_five_seconds_and_a_password_that_is_changed_and_set_back_lose_nothing() {
    let load = Load { topic: "secret".to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 50, bytes: 50 };
    let cluster = Cluster::start_sasl(&[("connections.max.reauth.ms", "5000")]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 1, &[]);
    let text = secure_sections(&cluster, &load.topic, "\"sasl.password\" = \"alice-secret\"");
    let mut at_rest = 0;
    let totals = on(&cluster, &text, &load, |cluster, node| {
        // Three sessions without a change.
        pass(if is_long() { 120_000 } else { 16_000 });
        at_rest = node.log().lines().filter(|line| line.contains("WARN")).count();
        set_password(cluster, "another");
        let why = eventually("the node says what is wrong", || node.readiness().filter(|(status, _)| *status == 503)).1;
        eprintln!("{why}");
        set_password(cluster, "alice-secret");
        eventually("the node is well again", || node.readiness().filter(|(status, _)| *status == 200));
        pass(6_000);
    });
    assert_eq!(at_rest, 0, "sessions that end are no news");
    assert!(totals.acknowledged > 0);
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn a_token_is_awaited_and_a_newer_one_in_its_file_is_taken_up_and_nothing_is_lost() {
    let load = Load { topic: "bearer".to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 50, bytes: 50 };
    let cluster = Cluster::start_sasl(&[]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 1, &[]);
    let file = cluster.folder().join("kafka-token");
    let write = |token: &str| {
        // As whoever renews tokens should do it: never half a token.
        let new = cluster.folder().join("kafka-token.new");
        std::fs::write(&new, format!("{token}\n")).expect("the token is written");
        std::fs::rename(&new, &file).expect("it takes its place");
    };
    let login = format!("\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"sasl.oauthbearer.config\" = \"token.path={}\"", file.display());
    let mut node = Node::start(&sasl_sections(&cluster, &load.topic, &login));
    let says = |why: &str| why.contains("kafka-token") && why.contains("there is no such file");
    eventually("the node says what it waits for", || node.readiness().filter(|(status, why)| *status == 503 && says(why)));
    pass(2_000);
    let errors = node.log().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect::<Vec<_>>();
    assert!(errors.len() == 1 && says(&errors[0]), "one line, though looked at twice a second: {errors:?}");

    let (first, second) = (token(20), token(600));
    let ends = Instant::now() + Duration::from_secs(20);
    write(&first);
    node.await_ready();
    let totals = on_node(&cluster, node, &load, |cluster, node| {
        pass(4_000);
        assert!(Instant::now() < ends, "the first token is to be replaced while it lives");
        write(&second);
        // Sessions end with their token: all of them go on with the second.
        std::thread::sleep((ends + Duration::from_secs(1)).saturating_duration_since(Instant::now()));
        let (status, why) = node.readiness().expect("it answers");
        assert_eq!(status, 200, "{why}");
        // And every connection is made anew.
        cluster.kill("1");
        cluster.start_again("1");
        eventually("the node is well again", || node.readiness().filter(|(status, _)| *status == 200));
        pass(4_000);
        let log = node.log();
        assert!(!log.contains(&first) && !log.contains(&second), "the log names no token");
        assert!(!log.to_lowercase().contains("authentication failed"), "{log}");
    });
    assert!(totals.acknowledged > 0, "{totals:?}");
}

#[test]
#[ignore = "needs Apache Kafka: run ./dev test kafka"]
fn tokens_come_from_a_provider_and_are_renewed_and_its_secret_is_rotated_by_a_reload_and_nothing_is_lost() {
    /// Of a token. librdkafka asks for the next one after four fifths of it.
    const LIFE_SECONDS: u64 = 10;
    let load = Load { topic: "oidc".to_owned(), partitions: 4, keys: 8, publishers: 4, rate: 50, bytes: 50 };
    let cluster = Cluster::start_sasl(&[]);
    kafka::create_topic(&cluster.bootstrap, &load.topic, load.partitions, 1, &[]);
    let provider = TokenProvider::start("corespan", LIFE_SECONDS);
    let file = cluster.folder().join("client-secret");
    let write = |secret: &str| std::fs::write(&file, secret).expect("the secret is written");
    write("first-secret");
    let login = format!(
        "\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"sasl.oauthbearer.method\" = \"oidc\"\n\"sasl.oauthbearer.client.id\" = \"corespan\"\n\
         \"sasl.oauthbearer.client.secret.file\" = \"{}\"\n\"sasl.oauthbearer.token.endpoint.url\" = \"{}\"",
        file.display(),
        provider.url
    );
    let mut node = Node::start(&sasl_sections(&cluster, &load.topic, &login));
    let says = |why: &str| why.contains("OAUTHBEARER") && why.contains("invalid_client");
    eventually("the node says what it waits for", || node.readiness().filter(|(status, why)| *status == 503 && says(why)));
    provider.take("first-secret");
    node.await_ready();
    let totals = on_node(&cluster, node, &load, |_, node| {
        let before = provider.issued().len();
        // Two lives of a token, without a change: sessions end with theirs and go on with the next.
        pass(2 * LIFE_SECONDS * 1_000);
        assert!(provider.issued().len() > before, "tokens are renewed");
        let (status, why) = node.readiness().expect("it answers");
        assert_eq!(status, 200, "{why}");
        // Another secret at the provider, then here.
        provider.take("second-secret");
        write("second-secret");
        let told = reload(node);
        assert!(told.contains("sasl.oauthbearer.client.secret\" (a secret) has changed") && !told.contains("restart"), "{told}");
        assert!(!told.contains("second-secret"), "{told}");
        // Every client is made anew by then, and none of those that were asks again.
        pass(LIFE_SECONDS * 1_000);
        let refused = provider.refused();
        pass(LIFE_SECONDS * 1_000);
        assert_eq!(provider.refused(), refused, "nobody shows the old secret any more");
        let (status, why) = node.readiness().expect("it answers");
        assert_eq!(status, 200, "{why}");
        let log = node.log();
        assert!(!log.contains("first-secret") && !log.contains("second-secret"), "the log names no secret");
        assert!(provider.issued().iter().all(|token| !log.contains(token)), "the log names no token");
        assert!(!log.to_lowercase().contains("authentication failed"), "{log}");
    });
    assert!(totals.acknowledged > 0, "{totals:?}");
}
