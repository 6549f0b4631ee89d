//! Shards from start to stop, without Kafka.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corespan::cores::Poll;
use corespan::executor::{self, ShardPlan};
use corespan::handoff::{self, Generation, LogEndQuestion, PartitionRef, PublishKey, RecordBatch, TopicIndex};
use corespan::http::{Site, SiteSettings};
use corespan::lifecycle::{Desks, Shards};
use corespan::net::{self, NetSettings};
use corespan::shard::{Assignment, Broker, Letter, ProduceRecord, ProduceStatus, PublishFailure, ShardSettings};
use corespan::subject::TopicMap;

/// A Kafka that has nothing and remembers which map it was told of.
struct Nothing {
    acknowledged: Arc<AtomicU64>,
}

impl Broker for Nothing {
    fn poll(&mut self, _bytes_max: usize) -> Option<RecordBatch> {
        None
    }
    fn produce(&mut self, _publish: PublishKey, _record: &ProduceRecord) -> ProduceStatus {
        ProduceStatus::Refused(PublishFailure::Unavailable)
    }
    fn assign(&mut self, _assignment: Assignment) {}
    fn unassign(&mut self, _partition: PartitionRef) {}
    fn query_log_end(&mut self, _question: LogEndQuestion) {}
    fn lookup_topic(&mut self, _topic: &str) {}
    fn acknowledge_map(&mut self, version: u64) {
        self.acknowledged.fetch_add(version, Ordering::SeqCst);
    }
    fn report_misfit(&mut self, _topic: TopicIndex) {}
    fn partition_ready(&mut self, _partition: PartitionRef, _generation: Generation) {}
}

struct Node {
    address: SocketAddr,
    desks: Vec<corespan::handoff::MailboxSender<Letter>>,
    acknowledged: Arc<AtomicU64>,
    shards: Shards,
}

fn start(poll: Poll) -> Node {
    const SHARDS: u16 = 2;
    let cpus: Vec<usize> = core_affinity::get_core_ids().expect("the CPUs of this process can be read").iter().map(|cpu| cpu.id).collect();
    let settings = NetSettings::default();
    let listening = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), SHARDS.into(), &settings).expect("a loopback port can be had");
    let desks = Desks::new(SHARDS, 1_000);
    let letters = desks.letters();
    let mut lanes = handoff::lanes(&desks.wakes(), 1 << 20).into_iter();
    let mut listeners = listening.listeners.into_iter();
    let site = Site::new(&SiteSettings { demo: false, allowed_origins: Vec::new() });
    let acknowledged = Arc::new(AtomicU64::new(0));
    let epoch = Instant::now();
    let shards = Shards::start(desks, |id, desk| {
        executor::spawn(ShardPlan {
            id,
            shards: SHARDS,
            cpu: cpus[id.index() % cpus.len()],
            poll,
            settings: ShardSettings::default(),
            entitlement: corespan::entitlement::Entitlement::None,
            net: settings.clone(),
            site: site.clone(),
            listeners: vec![listeners.next().expect("one for each shard").into()],
            lanes: lanes.next().expect("one for each shard"),
            mailbox: desk.mailbox,
            wake: desk.wake,
            pulse: desk.pulse,
            drained: desk.drained,
            broker: Nothing { acknowledged: acknowledged.clone() },
            store_counters: Box::new(|_| {}),
            store_missed: Box::new(|_| {}),
            store_stages: Box::new(|stages| stages.clear()),
            epoch,
        })
    })
    .expect("shards can be started here");
    Node { address: listening.address, desks: letters, acknowledged, shards }
}

impl Node {
    /// Every shard has taken a letter.
    fn await_map(&self) {
        for letters in &self.desks {
            letters.post(Letter::Map(Arc::new(TopicMap::new(7, Vec::new(), [])))).expect("the shard runs");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.acknowledged.load(Ordering::SeqCst) != 14 {
            assert!(Instant::now() < deadline, "both shards acknowledge the map");
            std::thread::yield_now();
        }
    }
}

fn serves_and_ends(poll: Poll) {
    let node = start(poll);
    node.await_map();
    for _ in 0..20 {
        let mut client = TcpStream::connect(node.address).expect("some shard accepts");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("a request fits");
        let mut page = String::new();
        client.read_to_string(&mut page).expect("the page comes whole");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(node.shards.ended(), None);
    // A connection that speaks no WebSocket is no reason to wait.
    let idle = TcpStream::connect(node.address).expect("some shard accepts");
    let began = Instant::now();
    assert!(node.shards.drain(Duration::ZERO, Duration::from_secs(10)));
    while TcpStream::connect(node.address).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(5), "the listeners close");
    }
    drop(idle);
    assert!(node.shards.stop(Duration::from_secs(10)));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn shards_that_park_take_letters_serve_pages_and_end_after_a_drain() {
    serves_and_ends(Poll::Park);
}

#[test]
fn shards_that_spin_before_they_park_take_letters_serve_pages_and_end_after_a_drain() {
    serves_and_ends(Poll::Adaptive);
}

#[test]
fn shards_that_spin_take_letters_serve_pages_and_end_after_a_drain() {
    serves_and_ends(Poll::Busy);
}

#[test]
fn shards_begin_every_time_however_busy_their_cores_are() {
    // Without a second attempt one start in some five hundred never took a letter.
    const STARTS: usize = 300;
    let over = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = core_affinity::get_core_ids()
        .expect("the CPUs of this process can be read")
        .into_iter()
        .flat_map(|cpu| [cpu; 4])
        .map(|cpu| {
            let over = over.clone();
            std::thread::spawn(move || {
                core_affinity::set_for_current(cpu);
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for _ in 0..STARTS {
        let node = start(Poll::Park);
        node.await_map();
        assert!(node.shards.stop(Duration::from_secs(10)));
    }
    over.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().expect("it only spins");
    }
}
