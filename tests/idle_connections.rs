//! What an idle connection costs in memory, below the session: the socket's slot, its task, glommio's sources.

use std::cell::{Cell, RefCell, RefMut};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use corespan::executor::Alone;
use corespan::handoff::ConnectionKey;
use corespan::http::{Site, SiteSettings};
use corespan::net::{self, Host, NetSettings, Poller, Sockets};
use corespan::shard::Event;

/// Both ends are in this process, so twice as many descriptors.
const CONNECTIONS: usize = 5_000;
const BYTES_MAX: usize = 1_500;

/// A shard that takes everything and says nothing.
struct Silent {
    sockets: RefCell<Sockets>,
    read_buffer: RefCell<Box<[u8]>>,
    opened: Cell<usize>,
    since: Instant,
}

impl Host for Silent {
    fn sockets(&self) -> RefMut<'_, Sockets> {
        self.sockets.borrow_mut()
    }
    fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }
    fn handle(&self, event: Event<'_>) {
        if let Event::Opened { .. } = event {
            self.opened.set(self.opened.get() + 1);
        }
    }
    fn reads(&self, _connection: ConnectionKey) -> bool {
        true
    }
    fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }
}

/// Lets the tasks run, or waits for something to do, as a shard's turn task does.
async fn turn(host: &impl Host) {
    let steps = host.sockets().steps();
    futures_lite::future::yield_now().await;
    if host.sockets().steps() == steps {
        host.sockets().look(Duration::from_millis(5));
    }
    let now_ms = host.now_ms();
    host.sockets().sweep(now_ms);
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells the size of a process");
    pages.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("statm has a resident size") * 4096
}

fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the listener accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    stream
        .write_all(
            b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .expect("a request head fits a socket");
    let mut answer = [0; 512];
    let count = stream.read(&mut answer).expect("the upgrade is answered");
    assert!(answer[..count].starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer[..count]));
    stream
}

#[test]
fn idle_connection_costs_at_most_one_and_a_half_kilobytes_below_the_session() {
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limits can be read");
    let wanted = (2 * CONNECTIONS + 200) as u64;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, wanted.max(files.0).min(files.1), files.1)
        .expect("the soft limit may be raised to the hard one");
    assert!(files.1 >= wanted, "this test needs {wanted} open files; raise the hard limit (ulimit -Hn)");

    let settings = NetSettings::default();
    let mut listening = net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1, &settings).expect("a loopback port can be had");
    let address = listening.address;
    let listener = listening.listeners.remove(0);
    let (stop, stopped) = mpsc::channel::<()>();
    let (tell, outcome) = mpsc::channel();
    let cpu = core_affinity::get_core_ids().expect("the CPUs of this process can be read")[0].id;
    let server = Alone::start(cpu, move || {
        async move {
            let host = Rc::new(Silent {
                sockets: RefCell::new(Sockets::new(settings, Poller::new().expect("an epoll instance can be made"))),
                read_buffer: RefCell::new(vec![0; 64 << 10].into_boxed_slice()),
                opened: Cell::new(0),
                since: Instant::now(),
            });
            let site = Site::new(&SiteSettings { demo: false, allowed_origins: Vec::new() });
            let accepting = glommio::spawn_local(net::accept(host.clone(), listener.into(), site));
            while stopped.try_recv().is_err() {
                turn(&*host).await;
            }
            host.sockets().stop_accepting();
            accepting.await;
            // The clients are gone by now: every task ends and frees its slot.
            let deadline = Instant::now() + Duration::from_secs(10);
            while !host.sockets().is_empty() && Instant::now() < deadline {
                turn(&*host).await;
            }
            let _ = tell.send((host.opened.get(), host.sockets().len()));
        }
    })
    .expect("io_uring can be used here");

    let mut clients: Vec<TcpStream> = (0..200).map(|_| upgrade(address)).collect();
    let before = resident_bytes();
    clients.extend((200..CONNECTIONS).map(|_| upgrade(address)));
    let each = (resident_bytes() - before) / (CONNECTIONS - 200);
    println!("{each} bytes for each of {CONNECTIONS} idle connections");
    drop(clients);
    stop.send(()).expect("the server runs");
    assert_eq!(outcome.recv_timeout(Duration::from_secs(30)), Ok((CONNECTIONS, 0)));
    assert!(server.join(Duration::from_secs(10)), "the server ends well");
    assert!(each <= BYTES_MAX, "{each} bytes, more than {BYTES_MAX}");
}
