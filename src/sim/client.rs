//! A fake client: speaks the protocol's bytes over a fake socket, keeps the positions that an SDK would keep, and judges every frame.
//!
//! The oracle is here, for a promise is a promise to somebody: from the subscribe reply on, the publications of a subscription are exactly the
//! log's records of that subject, in order, none missing, none twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message as _;
use serde_json::Value;

use super::coverage::Coverage;
use super::kafka::FakeKafka;
use crate::handoff::{ConnectionKey, Protocol};
use crate::session::wire;
use crate::subject::{Epoch, SubjectName};

/// A broken promise.
pub type Verdict = Result<(), String>;

/// A position as an SDK keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub epoch: String,
    pub offset: u64,
}

/// A command that has no reply yet.
#[derive(Clone, Debug)]
pub enum Open {
    Connect,
    Subscribe { channel: String, asked: Option<Kept>, history: u32, numeric: bool },
    Unsubscribe { channel: String },
    Publish { number: u64 },
    History { channel: String },
    Other,
}

/// A subscription as the client sees it.
#[derive(Clone, Debug)]
pub struct Held {
    pub recoverable: bool,
    /// Life of the topic, and partition, that the position counts in.
    pub id: String,
    pub partition: u32,
    /// The next Kafka offset that the client needs.
    pub from: i64,
    /// What an SDK would recover from.
    pub kept: Kept,
    /// Without positions: the last record seen, by life and partition.
    seen: BTreeMap<(String, usize), i64>,
    unpositioned: BTreeSet<u64>,
}

/// One publication in either encoding.
#[derive(Debug)]
struct Publication {
    offset: u64,
    number: Option<u64>,
    removed: bool,
    oversize: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Client {
    pub node: usize,
    pub shard: usize,
    pub key: ConnectionKey,
    pub protocol: Protocol,
    pub connected: bool,
    /// The close code, once the server has said it.
    pub closed: Option<u16>,
    pub open: BTreeMap<u32, Open>,
    pub held: BTreeMap<String, Held>,
    pub positions: BTreeMap<String, Kept>,
    ids: HashMap<i64, String>,
    next_id: u32,
    bytes: Vec<u8>,
    /// Reads nothing while set.
    pub asleep: bool,
}

/// Where a publication came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Push,
    Reply,
}

impl Client {
    pub fn new(node: usize, shard: usize, key: ConnectionKey, protocol: Protocol) -> Client {
        Client {
            node,
            shard,
            key,
            protocol,
            connected: false,
            closed: None,
            open: BTreeMap::new(),
            held: BTreeMap::new(),
            positions: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            bytes: Vec::new(),
            asleep: false,
        }
    }

    /// Notes a command and gives its bytes.
    pub fn command(&mut self, open: Open, build: impl FnOnce(&mut wire::Command)) -> Vec<u8> {
        self.next_id += 1;
        let mut command = wire::Command { id: self.next_id, ..wire::Command::default() };
        build(&mut command);
        self.open.insert(self.next_id, open);
        encode(self.protocol, &command)
    }

    /// Takes bytes from the socket and judges whole frames.
    pub fn receive(&mut self, bytes: &[u8], kafka: &FakeKafka, coverage: &mut Coverage) -> Verdict {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((opcode, start, end)) = frame_at(&self.bytes, at) {
            let payload = self.bytes[start..end].to_vec();
            at = end;
            if self.closed.is_some() {
                return Err("nothing follows a close frame".to_owned());
            }
            match opcode {
                8 => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    self.closed = Some(code);
                    coverage.note(match code {
                        3008 => "disconnected as slow",
                        3001 => "disconnected by a drain",
                        3501 => "disconnected for a malformed message",
                        _ => "disconnected",
                    });
                }
                1 | 2 => {
                    if (opcode == 1) != (self.protocol == Protocol::Json) {
                        return Err(format!("a frame of opcode {opcode} for {:?}", self.protocol));
                    }
                    self.message(&payload, kafka, coverage)?;
                }
                other => return Err(format!("an unexpected frame of opcode {other}")),
            }
        }
        self.bytes.drain(..at);
        Ok(())
    }

    fn message(&mut self, payload: &[u8], kafka: &FakeKafka, coverage: &mut Coverage) -> Verdict {
        match self.protocol {
            Protocol::Json => {
                let reply: Value = serde_json::from_slice(payload).map_err(|error| format!("a frame is one line of JSON: {error}"))?;
                if payload.contains(&b'\n') {
                    return Err("a JSON frame has no line feed".to_owned());
                }
                let (reply, publications) = from_json(&reply);
                self.reply(reply, publications, kafka, coverage)
            }
            Protocol::Protobuf => {
                let reply = wire::Reply::decode_length_delimited(payload).map_err(|error| error.to_string())?;
                let publications = match (&reply.subscribe, &reply.history) {
                    (Some(result), _) => &result.publications[..],
                    (_, Some(result)) => &result.publications[..],
                    _ => &[],
                };
                let publications =
                    publications.iter().map(|bytes| wire::Publication::decode(bytes.clone()).map_err(|error| error.to_string()));
                let publications = publications.collect::<Result<Vec<_>, _>>()?;
                self.reply(reply, publications, kafka, coverage)
            }
        }
    }

    fn reply(&mut self, reply: wire::Reply, publications: Vec<wire::Publication>, kafka: &FakeKafka, coverage: &mut Coverage) -> Verdict {
        if let Some(push) = reply.push {
            let channel = if push.id != 0 {
                self.ids.get(&push.id).cloned().ok_or_else(|| format!("a push names the unknown id {}", push.id))?
            } else {
                push.channel
            };
            if let Some(publication) = push.publication {
                return self.publication(&channel, &read(&publication), Way::Push, kafka);
            }
            if let Some(unsubscribe) = push.unsubscribe {
                coverage.note(if unsubscribe.code == 2500 { "told 2500" } else { "unsubscribed by the server" });
                let held = self.held.remove(&channel).ok_or_else(|| format!("2500 for {channel}, which is not subscribed"))?;
                if held.recoverable {
                    self.positions.insert(channel, held.kept);
                }
            }
            return Ok(());
        }
        if reply.id == 0 {
            return Ok(());
        }
        let open =
            self.open.remove(&reply.id).ok_or_else(|| format!("rule 15: command {} is answered twice, or was never sent", reply.id))?;
        if let Some(error) = reply.error {
            coverage.note(match error.code {
                100 => "error 100",
                102 => "error 102",
                105 => "error 105",
                106 => "error 106",
                107 => "error 107",
                112 => "error 112",
                400 => "error 400",
                401 => "error 401",
                _ => "another error",
            });
            return match (&open, error.code) {
                (Open::Connect, code) => Err(format!("connect is refused with {code}")),
                (Open::Subscribe { channel, .. }, 105) if self.held.contains_key(channel) => Ok(()),
                // A subscribe of the same channel may be under way.
                (Open::Subscribe { .. }, 100 | 102 | 105 | 106 | 107 | 112) => Ok(()),
                (Open::Publish { .. }, 100 | 102 | 103 | 106 | 107 | 400 | 401) => Ok(()),
                (Open::History { .. }, 100 | 102 | 107 | 112) => Ok(()),
                (Open::Other, _) => Ok(()),
                (open, code) => Err(format!("{open:?} is refused with {code}: {}", error.message)),
            };
        }
        match open {
            Open::Connect => {
                self.connected = reply.connect.is_some();
                Ok(())
            }
            Open::Subscribe { channel, asked, history, numeric } => {
                let result = reply.subscribe.ok_or("a subscribe is answered with its result")?;
                self.subscribed(&channel, asked.as_ref(), history, numeric, &result, &publications, kafka, coverage)
            }
            Open::Unsubscribe { channel } => {
                if let Some(held) = self.held.remove(&channel)
                    && held.recoverable
                {
                    self.positions.insert(channel, held.kept);
                }
                Ok(())
            }
            Open::Publish { .. } => {
                coverage.note("publish acknowledged");
                reply.publish.map(|_| ()).ok_or_else(|| "a publish is answered with its result".to_owned())
            }
            Open::History { channel } => {
                let result = reply.history.ok_or("a history is answered with its result")?;
                history_is_of_one_log(&channel, &result.epoch, &publications, kafka)
            }
            Open::Other => Ok(()),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn subscribed(
        &mut self,
        channel: &str,
        asked: Option<&Kept>,
        history: u32,
        numeric: bool,
        result: &wire::SubscribeResult,
        publications: &[wire::Publication],
        kafka: &FakeKafka,
        coverage: &mut Coverage,
    ) -> Verdict {
        let epoch = Epoch::parse(&result.epoch).ok_or_else(|| format!("an epoch is ours: {:?}", result.epoch))?;
        if result.was_recovering != asked.is_some() {
            return Err("was_recovering says whether the client asked".to_owned());
        }
        if (result.id != 0) != numeric {
            return Err("a numeric id is granted to who offers it".to_owned());
        }
        if numeric {
            self.ids.insert(result.id, channel.to_owned());
        }
        let mut held = Held {
            recoverable: result.recoverable,
            id: epoch.topic_id.to_owned(),
            partition: epoch.partition,
            from: result.offset as i64,
            kept: Kept { epoch: result.epoch.clone(), offset: result.offset },
            seen: BTreeMap::new(),
            unpositioned: BTreeSet::new(),
        };
        if result.recovered {
            coverage.note("recovered: true");
            let asked = asked.ok_or("recovered: true without a position")?;
            if !result.recoverable {
                return Err("recovered: true without recoverable".to_owned());
            }
            let same = asked.epoch.is_empty() || Epoch::parse(&asked.epoch).is_some_and(|asked| asked.same_log(&held.id, held.partition));
            if !same {
                return Err(format!("rule 4: recovered: true from {:?} in {:?}", asked.epoch, result.epoch));
            }
            held.from = asked.offset as i64;
            if !publications.is_empty() && result.offset != asked.offset {
                return Err("the reply carries the offset that the client asked from, as the publications move it on".to_owned());
            }
        } else if asked.is_some() {
            coverage.note("recovered: false");
        }
        let from = held.from;
        let recovered = result.recovered;
        self.held.insert(channel.to_owned(), held);
        if recovered {
            if !publications.is_empty() {
                coverage.note("recovered in the reply");
            }
            for publication in publications {
                self.publication(channel, &read(publication), Way::Reply, kafka)?;
            }
            return Ok(());
        }
        // A snapshot or a history: the newest records below the position, in order.
        if result.recoverable && !publications.is_empty() {
            coverage.note("snapshot or history");
            let wanted = if asked.is_some() { 1 } else { history as usize };
            if publications.len() > wanted {
                return Err(format!("{} records for a history of {wanted}", publications.len()));
            }
            let (name, log) = log_of(channel, epoch, kafka)?;
            let truth = log.before(name.key().map(str::as_bytes), from).take(publications.len());
            for (publication, truth) in publications.iter().rev().zip(truth) {
                let publication = read(publication);
                if publication.offset as i64 != truth.offset + 1 || publication.number.is_some_and(|number| number != truth.number) {
                    return Err(format!("a history of {channel} is the newest records: {publication:?} in place of {truth:?}"));
                }
            }
        }
        Ok(())
    }

    /// The heart: a publication is the next record of the subject, and no other.
    fn publication(&mut self, channel: &str, publication: &Publication, way: Way, kafka: &FakeKafka) -> Verdict {
        let held =
            self.held.get_mut(channel).ok_or_else(|| format!("a publication of {channel}, which is not subscribed: {publication:?}"))?;
        let name = SubjectName::parse(channel, 1024).map_err(|error| error.to_string())?;
        let key = name.key().map(str::as_bytes);
        let topic = kafka.topic_ever(name.topic()).ok_or("a publication of a topic that never was")?;
        if publication.offset == 0 {
            let number = match publication.number {
                Some(number) => number,
                // A tombstone without a position cannot be told from another.
                None => return Ok(()),
            };
            if !held.unpositioned.insert(number) {
                return Err(format!("record {number} of {channel} came twice"));
            }
            let found = topic.lives.iter().find_map(|life| {
                life.logs.iter().enumerate().find_map(|(partition, log)| {
                    let record = log.records.iter().find(|record| record.number == number && record.key.as_deref() == key)?;
                    Some((life.id.to_string(), partition, record))
                })
            });
            let (id, partition, record) = found.ok_or_else(|| format!("record {number} is none of {channel}"))?;
            let before = held.seen.insert((id, partition), record.offset);
            if before.is_some_and(|before| before >= record.offset) {
                return Err(format!("record {number} of {channel} came out of its partition's order"));
            }
            if held.recoverable && !record.misplaced && key.is_some() && topic.lives.iter().all(|life| life.earlier_counts.is_empty()) {
                return Err(format!("record {number} of {channel} has a position, and came without"));
            }
            return Ok(());
        }
        if !held.recoverable {
            return Err(format!("a publication of the live-only {channel} has an offset"));
        }
        let life = topic.life_of(&held.id).ok_or("an epoch names a life of the topic")?;
        let log = life.logs.get(held.partition as usize).ok_or("an epoch names a partition")?;
        let offset = publication.offset as i64 - 1;
        let Some(truth) = log.next_of(key, held.from) else {
            let where_it_is = life.logs.iter().enumerate().find_map(|(partition, log)| {
                log.records.iter().find(|record| Some(record.number) == publication.number).map(|record| (partition, record))
            });
            return Err(format!(
                "{channel} has no record from {} of partition {} on, and {publication:?} came ({where_it_is:?})",
                held.from, held.partition
            ));
        };
        if truth.offset != offset {
            let what = if offset < held.from { "twice or out of order" } else { "after a gap" };
            return Err(format!(
                "{channel}: offset {offset} came {what}; the next is {} (position {}, {})",
                truth.offset,
                held.from,
                match way {
                    Way::Push => "push",
                    Way::Reply => "reply",
                }
            ));
        }
        let matches = match publication.number {
            Some(number) => truth.number == number && !publication.removed,
            None => publication.oversize || (publication.removed && truth.value.is_none()),
        };
        if !matches {
            return Err(format!("{channel}: offset {offset} has another value: {publication:?} for record {}", truth.number));
        }
        held.from = offset + 1;
        held.kept.offset = publication.offset;
        Ok(())
    }

    /// At the end, when all is quiet: a live subscription has everything.
    pub fn has_everything(&self, kafka: &FakeKafka) -> Verdict {
        if let Some((id, open)) = self.open.iter().next() {
            return Err(format!("rule 15: command {id} has no answer: {open:?}"));
        }
        for (channel, held) in &self.held {
            let name = SubjectName::parse(channel, 1024).map_err(|error| error.to_string())?;
            let Some(topic) = kafka.topic(name.topic()) else {
                return Err(format!("{channel} is still subscribed, and its topic is gone"));
            };
            if *topic.life().id != *held.id {
                return Err(format!(
                    "rule 4: {channel} was subscribed in {}, its topic is {} now, and nobody told the client",
                    held.id,
                    topic.life().id
                ));
            }
            if !held.recoverable {
                continue;
            }
            let log = &topic.life().logs[held.partition as usize];
            if let Some(record) = log.next_of(name.key().map(str::as_bytes), held.from) {
                return Err(format!("{channel} lacks offset {} of partition {} (position {})", record.offset, held.partition, held.from));
            }
        }
        Ok(())
    }
}

fn log_of<'k>(channel: &str, epoch: Epoch<'_>, kafka: &'k FakeKafka) -> Result<(SubjectName, &'k super::kafka::Log), String> {
    let name = SubjectName::parse(channel, 1024).map_err(|error| error.to_string())?;
    let topic = kafka.topic_ever(name.topic()).ok_or("a reply for a topic that never was")?;
    let life = topic.life_of(epoch.topic_id).ok_or("an epoch names a life of the topic")?;
    let log = life.logs.get(epoch.partition as usize).ok_or("an epoch names a partition")?;
    Ok((name, log))
}

/// A page of history is a run of the subject's records, without a hole.
fn history_is_of_one_log(channel: &str, epoch: &str, publications: &[wire::Publication], kafka: &FakeKafka) -> Verdict {
    let epoch = Epoch::parse(epoch).ok_or("an epoch is ours")?;
    let mut page: Vec<Publication> = publications.iter().map(read).collect();
    if page.len() > 1 && page[0].offset > page[1].offset {
        page.reverse();
    }
    if page.iter().any(|publication| publication.offset == 0) {
        return Ok(());
    }
    let (name, log) = log_of(channel, epoch, kafka)?;
    for pair in page.windows(2) {
        let next = log.next_of(name.key().map(str::as_bytes), pair[0].offset as i64);
        if next.map(|next| next.offset as u64 + 1) != Some(pair[1].offset) {
            return Err(format!("a page of {channel} has a hole between {} and {}", pair[0].offset, pair[1].offset));
        }
    }
    Ok(())
}

fn read(publication: &wire::Publication) -> Publication {
    let number = serde_json::from_slice::<Value>(&publication.data).ok().and_then(|value| value["n"].as_u64());
    let oversize = publication.tags.get("corespan.dropped").is_some_and(|tag| tag == "oversize");
    Publication { offset: publication.offset, number, removed: publication.removed, oversize }
}

/// Encodes a command in either protocol.
pub fn encode(protocol: Protocol, command: &wire::Command) -> Vec<u8> {
    if protocol == Protocol::Protobuf {
        return command.encode_length_delimited_to_vec();
    }
    let mut json = serde_json::json!({"id": command.id});
    let text = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
    if command.connect.is_some() {
        json["connect"] = serde_json::json!({});
    }
    if let Some(request) = &command.subscribe {
        json["subscribe"] = serde_json::json!({"channel": request.channel, "recover": request.recover, "epoch": request.epoch, "offset": request.offset, "flag": request.flag});
        if !request.data.is_empty() {
            json["subscribe"]["data"] = text(&request.data);
        }
    }
    if let Some(request) = &command.unsubscribe {
        json["unsubscribe"] = serde_json::json!({"channel": request.channel});
    }
    if let Some(request) = &command.publish {
        json["publish"] = serde_json::json!({"channel": request.channel, "data": text(&request.data), "removed": request.removed});
    }
    if let Some(request) = &command.history {
        json["history"] = serde_json::json!({"channel": request.channel, "limit": request.limit, "reverse": request.reverse});
        if let Some(since) = &request.since {
            json["history"]["since"] = serde_json::json!({"offset": since.offset, "epoch": since.epoch});
        }
    }
    if let Some(request) = &command.rpc {
        json["rpc"] = serde_json::json!({"method": request.method});
    }
    json.to_string().into_bytes()
}

/// A JSON reply as the Protobuf message that says the same, with the publications of its result.
fn from_json(reply: &Value) -> (wire::Reply, Vec<wire::Publication>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let flag = |value: &Value| value.as_bool().unwrap_or(false);
    let publication = |value: &Value| wire::Publication {
        data: if value["data"].is_null() { bytes::Bytes::new() } else { value["data"].to_string().into() },
        offset: number(&value["offset"]),
        tags: value["tags"]
            .as_object()
            .map(|tags| tags.iter().map(|(name, value)| (name.clone(), text(value))).collect())
            .unwrap_or_default(),
        time: value["time"].as_i64().unwrap_or(0),
        removed: flag(&value["removed"]),
    };
    let mut message = wire::Reply { id: number(&reply["id"]) as u32, ..wire::Reply::default() };
    let mut publications = Vec::new();
    let list = |value: &Value| value["publications"].as_array().map(|list| list.iter().map(publication).collect()).unwrap_or_default();
    if let Some(error) = reply.get("error") {
        message.error = Some(wire::Error {
            code: number(&error["code"]) as u32,
            message: text(&error["message"]),
            temporary: flag(&error["temporary"]),
        });
    }
    if let Some(push) = reply.get("push") {
        message.push = Some(wire::Push {
            id: number(&push["id"]) as i64,
            channel: text(&push["channel"]),
            publication: push.get("pub").map(publication),
            unsubscribe: push
                .get("unsubscribe")
                .map(|unsubscribe| wire::Unsubscribe { code: number(&unsubscribe["code"]) as u32, reason: text(&unsubscribe["reason"]) }),
        });
    }
    if reply.get("connect").is_some() {
        message.connect = Some(wire::ConnectResult::default());
    }
    if let Some(result) = reply.get("subscribe") {
        message.subscribe = Some(wire::SubscribeResult {
            recoverable: flag(&result["recoverable"]),
            epoch: text(&result["epoch"]),
            publications: Vec::new(),
            recovered: flag(&result["recovered"]),
            offset: number(&result["offset"]),
            positioned: flag(&result["positioned"]),
            was_recovering: flag(&result["was_recovering"]),
            id: number(&result["id"]) as i64,
        });
        publications = list(result);
    }
    if let Some(result) = reply.get("history") {
        message.history =
            Some(wire::HistoryResult { publications: Vec::new(), epoch: text(&result["epoch"]), offset: number(&result["offset"]) });
        publications = list(result);
    }
    message.unsubscribe = reply.get("unsubscribe").map(|_| wire::Empty {});
    message.publish = reply.get("publish").map(|_| wire::Empty {});
    (message, publications)
}

/// A whole unmasked frame at `at`: opcode, start and end of its payload.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    let (len, start) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?) as usize, at + 4),
        127 => (u64::from_be_bytes(bytes.get(at + 2..at + 10)?.try_into().ok()?) as usize, at + 10),
        len => (len as usize, at + 2),
    };
    (bytes.len() >= start + len).then_some((first & 0x0f, start, start + len))
}
