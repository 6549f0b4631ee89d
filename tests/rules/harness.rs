//! A node of some shards by hand: events in, frames out, no threads and no time but what a test gives. The simulator tries what nobody thought of;
//! here each rule has its plain example.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use corespan::handoff::{
    ConnectionKey, FromHomeBatch, Generation, LaneFull, LogEndQuestion, Offset, PartitionRef, Protocol, PublishKey, Record, RecordBatch,
    ShardId, TopicIndex, TowardHomeBatch,
};
use corespan::shard::{
    Assignment, Effects, Event, MissedPublishes, ProduceRecord, ProduceStatus, ShardCore, ShardCounters, ShardSettings, WriteStatus,
};
use corespan::sim::codec::frame_at;
use corespan::subject::{Partition, Partitioner, Topic, TopicMap, ValueKind};
use serde_json::{Value, json};
use slotmap::SlotMap;

/// What a shard did.
#[derive(Default)]
pub struct Hands {
    pub sockets: HashMap<ConnectionKey, Socket>,
    pub toward_home: VecDeque<(ShardId, TowardHomeBatch)>,
    pub from_home: VecDeque<(ShardId, FromHomeBatch)>,
    /// Lane messages taken before a lane is full.
    pub lane_room: usize,
    pub assigned: Vec<Assignment>,
    pub unassigned: Vec<PartitionRef>,
    pub ends_asked: Vec<LogEndQuestion>,
    pub lookups: Vec<String>,
    pub produced: Vec<(PublishKey, ProduceRecord)>,
    pub producer_full: bool,
    /// How many records the producer takes before it is full; `None`: as many as come.
    pub producer_takes: Option<usize>,
    /// How often each topic has missed a publish.
    pub missed: MissedPublishes,
    pub acknowledged: u64,
    pub misfits: Vec<TopicIndex>,
    pub ready: Vec<PartitionRef>,
    pub resumed: Vec<ConnectionKey>,
}

/// A client's socket.
pub struct Socket {
    pub bytes: Vec<u8>,
    /// Bytes it takes before it is full.
    pub room: usize,
    pub closed: bool,
}

impl Effects for Hands {
    fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        let Some(socket) = self.sockets.get_mut(&connection) else {
            return WriteStatus::Broken;
        };
        let mut written = 0;
        for slice in slices {
            let takes = slice.len().min(socket.room);
            socket.bytes.extend_from_slice(&slice[..takes]);
            socket.room -= takes;
            written += takes;
            if takes < slice.len() {
                return WriteStatus::Short(written);
            }
        }
        WriteStatus::Done
    }

    fn close(&mut self, connection: ConnectionKey) {
        if let Some(socket) = self.sockets.get_mut(&connection) {
            socket.closed = true;
        }
    }

    fn resume_reading(&mut self, connection: ConnectionKey) {
        self.resumed.push(connection);
    }

    fn send_toward_home(&mut self, to: ShardId, batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>> {
        if self.lane_room == 0 {
            return Err(LaneFull(batch));
        }
        self.lane_room -= 1;
        self.toward_home.push_back((to, batch));
        Ok(())
    }

    fn send_from_home(&mut self, to: ShardId, batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>> {
        if self.lane_room == 0 {
            return Err(LaneFull(batch));
        }
        self.lane_room -= 1;
        self.from_home.push_back((to, batch));
        Ok(())
    }

    fn produce(&mut self, publish: PublishKey, record: &ProduceRecord) -> ProduceStatus {
        if self.producer_full || self.producer_takes == Some(0) {
            return ProduceStatus::Full;
        }
        self.producer_takes = self.producer_takes.map(|left| left - 1);
        self.produced.push((publish, record.clone()));
        ProduceStatus::Queued
    }

    fn assign(&mut self, assignment: Assignment) {
        self.assigned.push(assignment);
    }

    fn unassign(&mut self, partition: PartitionRef) {
        self.unassigned.push(partition);
    }

    fn query_log_end(&mut self, question: LogEndQuestion) {
        self.ends_asked.push(question);
    }

    fn lookup_topic(&mut self, topic: &str) {
        self.lookups.push(topic.to_owned());
    }

    fn acknowledge_map(&mut self, version: u64) {
        self.acknowledged = version;
    }

    fn report_misfit(&mut self, topic: TopicIndex) {
        self.misfits.push(topic);
    }

    fn partition_ready(&mut self, partition: PartitionRef, _generation: Generation) {
        self.ready.push(partition);
    }

    fn publish_counters(&mut self, _counters: impl FnOnce() -> ShardCounters) {}

    fn publish_missed(&mut self, missed: &MissedPublishes) {
        self.missed.clone_from(missed);
    }
}

/// Some shards and their clients.
pub struct Node {
    pub cores: Vec<ShardCore>,
    pub hands: Vec<Hands>,
    pub now_ms: u64,
    keys: SlotMap<ConnectionKey, usize>,
    command: u32,
}

/// A client of a node.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub shard: usize,
    pub key: ConnectionKey,
}

/// A topic of `partitions` partitions, spread over the shards in turn, read from 0, ready at once.
pub fn topic(index: u32, name: &str, partitions: u32, shards: u16) -> Topic {
    Topic {
        index: TopicIndex(index),
        name: Arc::from(name),
        id: Arc::from(format!("id-{name}")),
        partitions: (0..partitions)
            .map(|partition| Partition {
                owner: ShardId((partition % u32::from(shards)) as u16),
                generation: Generation(1),
                start: Offset(0),
                ready_at: Offset(0),
                leader_epoch: 0,
            })
            .collect(),
        earlier_counts: Vec::new(),
        partitioner: Partitioner::Murmur2,
        partitioner_is_guess: false,
        null_key_partition: None,
        compacted: false,
        value: ValueKind::Auto,
        snapshot: false,
    }
}

pub fn map(version: u64, topics: Vec<Topic>) -> Arc<TopicMap> {
    Arc::new(TopicMap::new(version, topics.into_iter().map(|topic| Some(Arc::new(topic))).collect(), []))
}

pub fn record(offset: i64, key: Option<&str>, value: Option<&str>) -> Record {
    Record {
        offset: Offset(offset),
        timestamp_ms: 1_000 + offset,
        leader_epoch: 0,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Box::default(),
    }
}

impl Node {
    pub fn new(shards: u16, settings: ShardSettings) -> Node {
        Node {
            cores: (0..shards).map(|shard| ShardCore::new(ShardId(shard), shards, settings.clone())).collect(),
            hands: (0..shards).map(|_| Hands { lane_room: usize::MAX, ..Hands::default() }).collect(),
            now_ms: 1,
            keys: SlotMap::with_key(),
            command: 100,
        }
    }

    /// A node that serves these topics.
    pub fn serving(shards: u16, settings: ShardSettings, topics: Vec<Topic>) -> Node {
        let mut node = Node::new(shards, settings);
        node.take_map(map(1, topics));
        node
    }

    pub fn handle(&mut self, shard: usize, event: Event<'_>) {
        self.cores[shard].handle(self.now_ms, event, &mut self.hands[shard]);
    }

    /// A map for all shards, acknowledged, then active.
    pub fn take_map(&mut self, map: Arc<TopicMap>) {
        for shard in 0..self.cores.len() {
            self.handle(shard, Event::Map(map.clone()));
        }
        self.settle();
        for shard in 0..self.cores.len() {
            assert_eq!(self.hands[shard].acknowledged, map.version);
            self.handle(shard, Event::MapActive { version: map.version });
        }
        self.settle();
    }

    /// Turns until nothing moves. Messages to a shard that does not drain wait.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            for shard in 0..self.cores.len() {
                self.cores[shard].flush(self.now_ms, &mut self.hands[shard]);
                moved |= self.cores[shard].wants_flush();
                while let Some((to, batch)) = self.hands[shard].from_home.pop_front() {
                    self.handle(to.index(), Event::FromHome { from: ShardId(shard as u16), batch });
                    moved = true;
                }
                let mut wait = VecDeque::new();
                while let Some((to, batch)) = self.hands[shard].toward_home.pop_front() {
                    if self.cores[to.index()].drains_toward_home() {
                        self.handle(to.index(), Event::TowardHome { from: ShardId(shard as u16), batch });
                        moved = true;
                    } else {
                        wait.push_back((to, batch));
                    }
                }
                self.hands[shard].toward_home = wait;
            }
            if !moved {
                return;
            }
        }
    }

    /// Lets time pass, tick by tick.
    pub fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 10 {
            self.now_ms += 10;
            for shard in 0..self.cores.len() {
                self.handle(shard, Event::Tick);
            }
            self.settle();
        }
    }

    /// Records of a partition, read by its owner.
    pub fn consume(&mut self, topic: &Topic, partition: u32, records: Vec<Record>) {
        let known = &topic.partitions[partition as usize];
        let next = records.last().map_or(known.start, |record| record.offset.next());
        let batch = RecordBatch { partition: PartitionRef { topic: topic.index, partition }, generation: known.generation, records, next };
        self.handle(known.owner.index(), Event::Records(batch));
        self.settle();
    }

    /// A record with its key, on the partition of its key.
    pub fn consume_keyed(&mut self, topic: &Topic, offset: i64, key: &str, value: &str) {
        let partition = topic.home(Some(key.as_bytes())).partition.partition;
        self.consume(topic, partition, vec![record(offset, Some(key), Some(value))]);
    }

    /// A client that has not said anything yet.
    pub fn open(&mut self, shard: usize, protocol: Protocol) -> Client {
        let key = self.keys.insert(shard);
        self.hands[shard].sockets.insert(key, Socket { bytes: Vec::new(), room: usize::MAX, closed: false });
        self.handle(shard, Event::Opened { connection: key, protocol });
        Client { shard, key }
    }

    /// The end of one turn.
    pub fn flush(&mut self, shard: usize) {
        self.cores[shard].flush(self.now_ms, &mut self.hands[shard]);
    }

    /// A connected client on a shard.
    pub fn connect(&mut self, shard: usize) -> Client {
        let client = self.open(shard, Protocol::Json);
        let reply = self.ask(client, json!({"connect": {}}));
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        client
    }

    /// Sends a command and gives the reply to it; other frames are left in the socket.
    pub fn ask(&mut self, client: Client, command: Value) -> Value {
        let id = self.send(client, command);
        self.settle();
        self.reply(client, id).unwrap_or_else(|| panic!("no reply to command {id}"))
    }

    /// Sends a command; gives its id.
    pub fn send(&mut self, client: Client, mut command: Value) -> u32 {
        self.command += 1;
        command["id"] = json!(self.command);
        let text = command.to_string();
        self.handle(client.shard, Event::Received { connection: client.key, payload: text.as_bytes() });
        self.command
    }

    /// All frames that the client has not looked at yet.
    pub fn frames(&mut self, client: Client) -> Vec<Value> {
        let Some(socket) = self.hands[client.shard].sockets.get_mut(&client.key) else {
            return Vec::new();
        };
        let (frames, used) = parse_frames(&socket.bytes);
        socket.bytes.drain(..used);
        frames
    }

    /// The reply to a command, if it is there; frames around it stay.
    pub fn reply(&mut self, client: Client, id: u32) -> Option<Value> {
        let socket = self.hands[client.shard].sockets.get_mut(&client.key)?;
        let mut at = 0;
        loop {
            let (opcode, start, end) = frame_at(&socket.bytes, at)?;
            let frame = read_frame(opcode, &socket.bytes[start..end]);
            if frame["id"] == json!(id) {
                socket.bytes.drain(at..end);
                return Some(frame);
            }
            at = end;
        }
    }

    /// Publications pushed since the last look, as `(client offset, data)`.
    pub fn pushes(&mut self, client: Client) -> Vec<(u64, Value)> {
        let frames = self.frames(client);
        frames.iter().filter(|frame| frame["push"]["pub"].is_object()).map(|frame| publication(&frame["push"]["pub"])).collect()
    }

    pub fn subscribe(&mut self, client: Client, channel: &str) -> Value {
        self.ask(client, json!({"subscribe": {"channel": channel}}))
    }

    pub fn recover(&mut self, client: Client, channel: &str, epoch: &str, offset: u64) -> Value {
        self.ask(client, json!({"subscribe": {"channel": channel, "recover": true, "epoch": epoch, "offset": offset}}))
    }

    pub fn set_room(&mut self, client: Client, room: usize) {
        if let Some(socket) = self.hands[client.shard].sockets.get_mut(&client.key) {
            socket.room = room;
        }
    }

    /// The socket takes that many bytes again.
    pub fn drain_socket(&mut self, client: Client, room: usize) {
        self.set_room(client, room);
        self.handle(client.shard, Event::Writable { connection: client.key });
        self.settle();
    }

    /// The client is gone.
    pub fn leave(&mut self, client: Client) {
        self.handle(client.shard, Event::Closed { connection: client.key });
        self.hands[client.shard].sockets.remove(&client.key);
        self.settle();
    }
}

/// Offset and data of a publication.
pub fn publication(publication: &Value) -> (u64, Value) {
    (publication["offset"].as_u64().unwrap_or(0), publication["data"].clone())
}

/// Publications of a subscribe or history reply.
pub fn publications(result: &Value) -> Vec<(u64, Value)> {
    result["publications"].as_array().map(|list| list.iter().map(publication).collect()).unwrap_or_default()
}

fn parse_frames(bytes: &[u8]) -> (Vec<Value>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((opcode, start, end)) = frame_at(bytes, at) {
        frames.push(read_frame(opcode, &bytes[start..end]));
        at = end;
    }
    (frames, at)
}

/// A text frame as JSON, a close frame as `{"close": code}`, others as `{"opcode": n}`.
fn read_frame(opcode: u8, payload: &[u8]) -> Value {
    match opcode {
        1 => serde_json::from_slice(payload).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(payload))),
        8 => json!({"close": payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]))}),
        opcode => json!({"opcode": opcode}),
    }
}
