//! A client of the Centrifuge protocol in JSON, blocking and small, for tests that look at single replies and pushes.
//!
//! A thread of its own reads the socket and answers pings, as SDKs do, whatever the test is busy with.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;

/// One connection. Replies and pushes that arrive while something else is awaited are kept.
pub struct Client {
    /// For commands and pongs, whole messages at a time.
    writer: Arc<Mutex<WebSocket<TcpStream>>>,
    stream: TcpStream,
    heard: mpsc::Receiver<Heard>,
    paused: Arc<AtomicBool>,
    next_id: u64,
    replies: HashMap<u64, Value>,
    /// When each reply was read.
    answered: HashMap<u64, Instant>,
    pushes: VecDeque<Push>,
    /// Numeric ids that the server granted, by number.
    channels: HashMap<u64, String>,
    closed: bool,
}

/// What the reading thread passes on.
enum Heard {
    Line(String, Instant),
    Closed { code: u64 },
}

/// How long the reading thread is deaf to its test at most.
const LOOK: Duration = Duration::from_millis(50);

/// A push of the server, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    Publication { channel: String, publication: Publication },
    Unsubscribe { channel: String, code: u64 },
    Disconnect { code: u64 },
    Other(Value),
}

/// A record as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Publication {
    pub data: Value,
    pub offset: u64,
    pub tags: HashMap<String, String>,
    pub time: i64,
    pub removed: bool,
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Refusal {
    pub code: u64,
    pub message: String,
    #[serde(default)]
    pub temporary: bool,
}

/// A granted subscription.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subscribed {
    pub recoverable: bool,
    pub recovered: bool,
    pub was_recovering: bool,
    pub epoch: String,
    pub offset: u64,
    pub id: u64,
    pub publications: Vec<Publication>,
}

impl Client {
    /// Opens the WebSocket and sends the connect command.
    pub fn connect(port: u16) -> Client {
        let mut client = Client::open(port).expect("the WebSocket opens");
        client.request("connect", json!({})).expect("connect is granted");
        client
    }

    /// Opens the WebSocket only.
    pub fn open(port: u16) -> Result<Client, String> {
        let text = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
        let address = format!("ws://127.0.0.1:{port}/connection/websocket");
        let (socket, _) = tungstenite::client(address, stream.try_clone().map_err(text)?).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(LOOK)).map_err(text)?;
        let writer = WebSocket::from_raw_socket(stream.try_clone().map_err(text)?, Role::Client, None);
        let (writer, paused) = (Arc::new(Mutex::new(writer)), Arc::new(AtomicBool::new(false)));
        let (tell, heard) = mpsc::channel();
        let (pongs, halted) = (writer.clone(), paused.clone());
        std::thread::spawn(move || listen(socket, &pongs, &halted, &tell));
        let (replies, answered, pushes, channels) = (HashMap::new(), HashMap::new(), VecDeque::new(), HashMap::new());
        Ok(Client { writer, stream, heard, paused, next_id: 1, replies, answered, pushes, channels, closed: false })
    }

    /// From now on the client reads nothing, until [`Client::resume`]: a phone in a tunnel.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }

    /// Sends `method` and waits for its reply.
    pub fn request(&mut self, method: &str, parameters: Value) -> Result<Value, Refusal> {
        let id = self.send(method, &parameters.to_string());
        self.reply(id)
    }

    /// Sends a command, parameters as raw JSON, and returns its id.
    pub fn send(&mut self, method: &str, parameters: &str) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let command = format!("{{\"id\":{id},\"{method}\":{parameters}}}");
        write(&self.writer, command).expect("the command is sent");
        id
    }

    /// The reply to the command `id`.
    pub fn reply(&mut self, id: u64) -> Result<Value, Refusal> {
        self.reply_or_end(id).unwrap_or_else(|| panic!("the connection ended before the reply to command {id}"))
    }

    /// When the reply to the command `id`, which has been taken, was read.
    pub fn answered(&self, id: u64) -> Instant {
        self.answered[&id]
    }

    /// The reply to the command `id`, `None` if the connection ends first.
    pub fn reply_or_end(&mut self, id: u64) -> Option<Result<Value, Refusal>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mut reply) = self.replies.remove(&id) {
                if let Some(error) = reply.get_mut("error") {
                    return Some(Err(serde_json::from_value(error.take()).expect("an error has code and message")));
                }
                let fields = reply.as_object_mut().expect("a reply is an object");
                fields.remove("id");
                return Some(Ok(fields.values_mut().next().map(Value::take).unwrap_or(Value::Null)));
            }
            if self.closed {
                return None;
            }
            assert!(self.read(deadline), "no reply to command {id} within {PATIENCE:?}");
        }
    }

    /// Subscribes, with more fields of the command if need be (`{"recover": true, ...}`).
    pub fn subscribe_with(&mut self, subject: &str, more: Value) -> Result<Subscribed, Refusal> {
        let mut parameters = json!({ "channel": subject });
        if let (Value::Object(all), Value::Object(more)) = (&mut parameters, more) {
            all.extend(more);
        }
        let subscribed: Subscribed =
            serde_json::from_value(self.request("subscribe", parameters)?).expect("a subscribe reply of the protocol's form");
        if subscribed.id > 0 {
            self.channels.insert(subscribed.id, subject.to_owned());
        }
        Ok(subscribed)
    }

    pub fn subscribe(&mut self, subject: &str) -> Result<Subscribed, Refusal> {
        self.subscribe_with(subject, json!({}))
    }

    /// Subscribes and recovers from a position.
    pub fn recover(&mut self, subject: &str, epoch: &str, offset: u64) -> Result<Subscribed, Refusal> {
        self.subscribe_with(subject, json!({ "recover": true, "epoch": epoch, "offset": offset }))
    }

    /// Publishes raw JSON and waits for the acknowledgement.
    pub fn publish(&mut self, subject: &str, data: &str) -> Result<Value, Refusal> {
        let id = self.send_publish(subject, data);
        self.reply(id)
    }

    /// Publishes raw JSON and waits for the acknowledgement; `None` if the connection ends first.
    pub fn try_publish(&mut self, subject: &str, data: &str) -> Option<Result<Value, Refusal>> {
        let id = self.next_id;
        self.next_id += 1;
        let command = format!("{{\"id\":{id},\"publish\":{{\"channel\":{},\"data\":{data}}}}}", Value::from(subject));
        write(&self.writer, command).ok()?;
        self.reply_or_end(id)
    }

    /// Publishes raw JSON; the answer comes with [`Client::reply`].
    pub fn send_publish(&mut self, subject: &str, data: &str) -> u64 {
        self.send("publish", &format!("{{\"channel\":{},\"data\":{data}}}", Value::from(subject)))
    }

    /// The next push, or `None` after `patience` or the end of the connection.
    pub fn next_push(&mut self, patience: Duration) -> Option<Push> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return Some(push);
            }
            if self.closed || !self.read(deadline) {
                return None;
            }
        }
    }

    /// The next publication, whatever its subject; panics if something else comes or nothing does.
    pub fn next_publication(&mut self) -> Publication {
        match self.next_push(PATIENCE) {
            Some(Push::Publication { publication, .. }) => publication,
            Some(other) => panic!("a publication was expected, not {other:?}"),
            None => panic!("no publication within {PATIENCE:?}"),
        }
    }

    /// The next `count` publications' data.
    pub fn next_values(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next_publication().data).collect()
    }

    /// Every push that was on its way when this was called: the answer of each subject's home comes behind all that the home had to say.
    pub fn pushes_until_now(&mut self, subjects: &[String]) -> Vec<Push> {
        for subject in subjects {
            super::eventually("the subject's home answers", || self.request("history", json!({ "channel": subject, "limit": 0 })).ok());
        }
        self.pushes.drain(..).collect()
    }

    /// Asserts that no push comes before the answer to another command does.
    pub fn assert_quiet(&mut self) {
        let id = self.send("rpc", "{\"method\":\"none\"}");
        let _ = self.reply(id);
        assert_eq!(self.pushes.front(), None);
    }

    /// Takes what the thread has read; false if nothing came before the deadline.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.heard.recv_timeout(left) {
            Ok(Heard::Line(line, at)) => self.take(&line, at),
            Ok(Heard::Closed { code }) => {
                self.closed = true;
                self.pushes.push_back(Push::Disconnect { code });
            }
            Err(mpsc::RecvTimeoutError::Timeout) => return false,
            Err(mpsc::RecvTimeoutError::Disconnected) => self.closed = true,
        }
        true
    }

    fn take(&mut self, line: &str, at: Instant) {
        let mut reply: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        if let Some(id) = reply.get("id").and_then(Value::as_u64) {
            self.replies.insert(id, reply);
            self.answered.insert(id, at);
        } else if let Some(push) = reply.get_mut("push") {
            let push = self.push(push.take());
            self.pushes.push_back(push);
        } else {
            panic!("neither a reply nor a push: {line}");
        }
    }

    fn push(&self, mut push: Value) -> Push {
        let channel = match push.get("id").and_then(Value::as_u64) {
            Some(id) if id > 0 => self.channels.get(&id).cloned().unwrap_or_default(),
            _ => push["channel"].as_str().unwrap_or_default().to_owned(),
        };
        if let Some(publication) = push.get_mut("pub") {
            let publication = serde_json::from_value(publication.take()).expect("a publication of the protocol's form");
            Push::Publication { channel, publication }
        } else if let Some(code) = push.pointer("/unsubscribe/code").and_then(Value::as_u64) {
            Push::Unsubscribe { channel, code }
        } else if let Some(code) = push.pointer("/disconnect/code").and_then(Value::as_u64) {
            Push::Disconnect { code }
        } else {
            Push::Other(push)
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Ends the thread too.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.paused.store(false, Ordering::Relaxed);
    }
}

fn write(writer: &Mutex<WebSocket<TcpStream>>, text: String) -> Result<(), tungstenite::Error> {
    writer.lock().unwrap_or_else(PoisonError::into_inner).send(Message::text(text))
}

/// The reading thread: until the connection ends or nobody listens any more.
fn listen(mut socket: WebSocket<TcpStream>, writer: &Mutex<WebSocket<TcpStream>>, paused: &AtomicBool, tell: &mpsc::Sender<Heard>) {
    loop {
        while paused.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let heard = match socket.read() {
            Ok(Message::Text(text)) => text.lines().try_for_each(|line| {
                // An empty command is the ping, and its pong. Whether the server still wants it is its affair.
                if line == "{}" {
                    let _ = write(writer, line.to_owned());
                    return Ok(());
                }
                tell.send(Heard::Line(line.to_owned(), Instant::now()))
            }),
            Ok(Message::Close(frame)) => tell.send(Heard::Closed { code: frame.map_or(0, |frame| u64::from(u16::from(frame.code))) }),
            Ok(_) => Ok(()),
            Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(_) => return,
        };
        if heard.is_err() {
            return;
        }
    }
}
