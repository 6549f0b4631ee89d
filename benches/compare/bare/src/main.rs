//! The floor: a librdkafka consumer whose thread writes each record to its clients itself, with one `send()` each, and no queue, no history, no
//! limits. A second thread accepts, answers connect and subscribe, and hears the end. A socket that does not take a whole frame is closed.
//!
//! Of Centrifuge's protocol in JSON it knows the opening of `corespan-bench sub`, connect and subscribe, and publications.
//!
//! `bare HOST:PORT BROKERS TOPIC`. A plain GET is answered with 200 once the consumer has its partitions.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use tungstenite::handshake::derive_accept_key;

/// Sockets by subject.
type Room = HashMap<String, Vec<RawFd>>;

/// A client, while this thread has anything to do with it.
struct Client {
    socket: TcpStream,
    inbox: Vec<u8>,
    is_open: bool,
    subject: Option<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, brokers, topic] = arguments.as_slice() else {
        eprintln!("usage: bare HOST:PORT BROKERS TOPIC");
        std::process::exit(2);
    };
    let consumer = consumer(brokers, topic);
    let room = Arc::new(Mutex::new(Room::new()));
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let (shared, topic) = (Arc::clone(&room), topic.clone());
    std::thread::spawn(move || deliver(&consumer, &topic, &shared));
    welcome(&listener, &room);
}

/// From what is there now: a comparison brings a topic of its own, without a record.
fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    // As corespan sets them: a fetch waits no longer than it must, and asks for more before all is used.
    settings.set("bootstrap.servers", brokers).set("group.id", "bare").set("enable.auto.commit", "false");
    settings.set("fetch.wait.max.ms", "500").set("fetch.min.bytes", "1");
    let consumer: BaseConsumer = settings.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("the topic's partitions");
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("the partitions");
    consumer
}

fn lock(room: &Mutex<Room>) -> MutexGuard<'_, Room> {
    room.lock().expect("no thread panics with the room")
}

fn deliver(consumer: &BaseConsumer, topic: &str, room: &Mutex<Room>) {
    let (mut subject, mut frame) = (String::new(), Vec::new());
    loop {
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let (Some(Ok(key)), Some(value)) = (record.key().map(std::str::from_utf8), record.payload()) else { continue };
        subject.clear();
        subject.extend(["/", topic, "/", key]);
        let room = lock(room);
        let Some(sockets) = room.get(&subject) else { continue };
        publication(&mut frame, &subject, value);
        for &socket in sockets {
            // SAFETY: the buffer lives through the call. A descriptor in the room is open: `welcome` takes it out, under the lock, before it closes it.
            let sent = unsafe { libc::send(socket, frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
            if sent != frame.len() as isize {
                // The other thread hears it as the end of the connection.
                unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
            }
        }
    }
}

fn publication(frame: &mut Vec<u8>, subject: &str, value: &[u8]) {
    let parts = [b"{\"push\":{\"channel\":\"", subject.as_bytes(), b"\",\"pub\":{\"data\":", value, b"}}}"];
    header(frame, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
}

/// Of a text message, in place of what is in the buffer.
fn header(frame: &mut Vec<u8>, length: usize) {
    frame.clear();
    frame.push(0x81);
    match length {
        0..=125 => frame.push(length as u8),
        126..=65_535 => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Accepts, answers and hears, by epoll.
fn welcome(listener: &TcpListener, room: &Mutex<Room>) {
    // SAFETY: a call without pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0, "epoll: {}", std::io::Error::last_os_error());
    let watch = |socket: RawFd| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: socket as u64 };
        // SAFETY: the event lives through the call.
        assert!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) } == 0);
    };
    watch(listener.as_raw_fd());
    let mut clients: HashMap<RawFd, Client> = HashMap::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        // SAFETY: the list lives through the call, and its length is given.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let socket = event.u64 as RawFd;
            if socket == listener.as_raw_fd() {
                let Ok((accepted, _)) = listener.accept() else { continue };
                let _ = accepted.set_nodelay(true);
                let _ = accepted.set_nonblocking(true);
                let number = accepted.as_raw_fd();
                clients.insert(number, Client { socket: accepted, inbox: Vec::new(), is_open: false, subject: None });
                watch(number);
            } else if clients.get_mut(&socket).is_some_and(|client| !hear(client, room)) {
                let client = clients.remove(&socket).expect("it was just there");
                let mut room = lock(room);
                if let Some(sockets) = client.subject.as_ref().and_then(|subject| room.get_mut(subject)) {
                    sockets.retain(|other| *other != socket);
                }
                drop(client);
            }
        }
    }
}

/// Whether the connection stays.
fn hear(client: &mut Client, room: &Mutex<Room>) -> bool {
    let mut bytes = [0; 4_096];
    match client.socket.read(&mut bytes) {
        Ok(0) => return false,
        Ok(count) => client.inbox.extend_from_slice(&bytes[..count]),
        Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
    }
    if !client.is_open {
        if !client.inbox.ends_with(b"\r\n\r\n") {
            return client.inbox.len() < 8_192;
        }
        let head = String::from_utf8_lossy(&client.inbox).into_owned();
        let header = |line: &str| {
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, key)| key.trim().to_owned())
        };
        client.inbox.clear();
        let Some(key) = head.lines().find_map(header) else {
            let _ = client.socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return false;
        };
        let key = derive_accept_key(key.as_bytes());
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\r\n");
        client.is_open = true;
        return client.socket.write_all(answer.as_bytes()).is_ok();
    }
    while let Some((opcode, payload, length)) = frame(&client.inbox) {
        client.inbox.drain(..length);
        if opcode == 8 {
            return false;
        }
        let text = String::from_utf8_lossy(&payload).into_owned();
        if let (Some((_, rest)), None) = (text.split_once("\"channel\":\""), &client.subject) {
            let subject = rest.split('"').next().unwrap_or_default().to_owned();
            let reply = b"{\"id\":1,\"connect\":{\"client\":\"bare\",\"version\":\"bare\"}}\n{\"id\":2,\"subscribe\":{}}";
            let mut answer = Vec::new();
            header(&mut answer, reply.len());
            answer.extend_from_slice(reply);
            if client.socket.write_all(&answer).is_err() {
                return false;
            }
            lock(room).entry(subject.clone()).or_default().push(client.socket.as_raw_fd());
            client.subject = Some(subject);
        }
    }
    client.inbox.len() < 65_536
}

/// A client's whole frame, if it has come: its opcode, what it says, and its length.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, at) = match second & 0x7f {
        126 => (u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]) as usize, 4),
        127 => return Some((8, Vec::new(), bytes.len())),
        length => (length as usize, 2),
    };
    let mask: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let masked = bytes.get(at + 4..at + 4 + length)?;
    Some((first & 0x0f, masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(), at + 4 + length))
}
