//! Each room alone, in many random orders: a home with shards that are only lists, subscribers with a home that is only a log, connections with
//! sockets that take what they like. Together they are played by `sim`.

use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use slotmap::SlotMap;

use super::connections::Connections;
use super::home::{Home, Speech};
use super::outgoing::Outgoing;
use super::subscribers::Subscribers;
use super::{Assignment, Effects, ProduceRecord, ProduceStatus, ShardCounters, ShardSettings, WriteStatus};
use crate::handoff::message::{Piece, PieceState, Subscribed};
use crate::handoff::{
    ConnectionKey, FromHome, FromHomeBatch, Generation, LaneFull, LocalSubjectKey, LogEndQuestion, Offset, PartitionRef, Protocol,
    PublishKey, Record, RecordBatch, ShardId, Start, SubscribeRequest, SubscriptionKey, TopicIndex, TowardHome, TowardHomeBatch, Variant,
};
use crate::session::{self, Position};
use crate::subject::{Partition, Partitioner, SubjectName, Topic, TopicMap, ValueKind};

const WORLDS: u64 = 300;
const JSON: Variant = Variant { protocol: Protocol::Json, numeric: false };
const EPOCH: &str = "1.id.0.-1";

/// Sockets; everything else must not be asked for.
#[derive(Default)]
struct Sockets {
    random: Option<Rng>,
    written: HashMap<ConnectionKey, Vec<u8>>,
    blocked: Vec<ConnectionKey>,
    closed: Vec<ConnectionKey>,
}

impl Effects for Sockets {
    fn write(&mut self, connection: ConnectionKey, slices: &[IoSlice<'_>]) -> WriteStatus {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let takes = self.random.as_mut().map_or(all.len(), |random| random.usize(0..=2 * all.len())).min(all.len());
        self.written.entry(connection).or_default().extend(&all[..takes]);
        if takes == all.len() {
            return WriteStatus::Done;
        }
        self.blocked.push(connection);
        WriteStatus::Short(takes)
    }

    fn close(&mut self, connection: ConnectionKey) {
        self.closed.push(connection);
    }

    fn resume_reading(&mut self, _: ConnectionKey) {}

    fn send_toward_home(&mut self, _: ShardId, batch: TowardHomeBatch) -> Result<(), LaneFull<TowardHomeBatch>> {
        Err(LaneFull(batch))
    }

    fn send_from_home(&mut self, _: ShardId, batch: FromHomeBatch) -> Result<(), LaneFull<FromHomeBatch>> {
        Err(LaneFull(batch))
    }

    fn produce(&mut self, _: PublishKey, _: &ProduceRecord) -> ProduceStatus {
        ProduceStatus::Full
    }

    fn assign(&mut self, _: Assignment) {}

    fn unassign(&mut self, _: PartitionRef) {}

    fn query_log_end(&mut self, _: LogEndQuestion) {}

    fn lookup_topic(&mut self, _: &str) {}

    fn acknowledge_map(&mut self, _: u64) {}

    fn report_misfit(&mut self, _: TopicIndex) {}

    fn partition_ready(&mut self, _: PartitionRef, _: Generation) {}

    fn publish_counters(&mut self, _: impl FnOnce() -> ShardCounters) {}
}

/// Topic `t`, whose one partition is at home on shard 0.
fn map() -> Arc<TopicMap> {
    let partition = Partition { owner: ShardId(0), generation: Generation(1), start: Offset(0), ready_at: Offset(0), leader_epoch: -1 };
    let topic = Topic {
        index: TopicIndex(0),
        name: Arc::from("t"),
        id: Arc::from("id"),
        partitions: vec![partition],
        earlier_counts: Vec::new(),
        partitioner: Partitioner::Murmur2,
        partitioner_is_guess: false,
        null_key_partition: None,
        compacted: false,
        value: ValueKind::Auto,
        snapshot: false,
    };
    Arc::new(TopicMap::new(1, vec![Some(Arc::new(topic))], []))
}

fn subject(key: u8) -> SubjectName {
    SubjectName::parse(&format!("/t/k{key}"), 100).expect("a subject")
}

/// A WebSocket frame that says a number.
fn frame(number: u64) -> Bytes {
    let mut frame = vec![0x82, 8];
    frame.extend(number.to_be_bytes());
    Bytes::from(frame)
}

/// The numbers of the whole frames among bytes; replies are left out.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    while at + 2 <= bytes.len() {
        let (len, start) = match bytes[at + 1] {
            126 => (usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])), at + 4),
            len => (usize::from(len), at + 2),
        };
        if bytes[at] == 0x82
            && let Some(number) = bytes.get(start..start + 8)
        {
            numbers.push(u64::from_be_bytes(number.try_into().expect("eight bytes")));
        }
        at = start + len;
    }
    numbers
}

#[test]
fn a_home_alone_gives_each_shard_every_record_of_what_it_wants_once_and_in_order() {
    for world in 0..WORLDS {
        let mut random = Rng::with_seed(world);
        let settings = ShardSettings { cache_records_max: random.usize(1..20), ..ShardSettings::default() };
        let mut home = Home::new(ShardId(0), 3, Arc::new(settings));
        let mut speech = Speech {
            toward_home: Outgoing::new(ShardId(0), 3, usize::MAX, |_| 1),
            from_home: Outgoing::new(ShardId(0), 3, usize::MAX, |_| 1),
        };
        let mut effects = Sockets::default();
        assert!(home.take_map(map(), &mut speech, &mut effects));
        home.take_map_active(0, 1, &mut speech, &mut effects);
        // Offsets of each key's records; who wants what, and the next offset that it needs once it is answered.
        let mut log: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        let mut wants: HashMap<(ShardId, LocalSubjectKey), (u8, Option<i64>)> = HashMap::new();
        let mut locals = SlotMap::<LocalSubjectKey, ()>::with_key();
        let mut subscriptions = SlotMap::<SubscriptionKey, ()>::with_key();
        let mut end = 0;
        for _ in 0..200 {
            match random.u8(0..10) {
                0..=4 => {
                    let mut records = Vec::new();
                    for _ in 0..random.usize(1..5) {
                        let key = random.u8(0..4);
                        end += random.i64(0..2);
                        log.entry(key).or_default().push(end);
                        let (offset, value) = (Offset(end), Some(Bytes::from_static(b"1")));
                        let key = Some(Bytes::from(format!("k{key}")));
                        records.push(Record { offset, timestamp_ms: 0, leader_epoch: -1, key, value, headers: Box::default() });
                        end += 1;
                    }
                    let partition = PartitionRef { topic: TopicIndex(0), partition: 0 };
                    let batch = RecordBatch { partition, generation: Generation(1), records, next: Offset(end) };
                    home.take_records(0, batch, &mut speech, &mut effects);
                }
                5..=7 => {
                    let (from, key, local) = (ShardId(random.u16(1..3)), random.u8(0..4), locals.insert(()));
                    if wants.iter().any(|((shard, _), (other, _))| *shard == from && *other == key) {
                        continue;
                    }
                    wants.insert((from, local), (key, None));
                    let request = SubscribeRequest {
                        map_version: 1,
                        topic: TopicIndex(0),
                        subject: subject(key),
                        channel: None,
                        local,
                        subscription: subscriptions.insert(()),
                        variant: JSON,
                        start: Start::Live { history: random.u32(0..4) },
                        hold_ms: 1_000,
                        bytes_max: 10_000,
                    };
                    home.take(0, from, TowardHome::Subscribe(Box::new(request)), &mut speech, &mut effects);
                }
                _ => {
                    let Some((shard, local)) = random.choice(wants.keys().copied().collect::<Vec<_>>()) else { continue };
                    let (key, _) = wants[&(shard, local)];
                    hear(&mut speech, &mut wants, &log);
                    wants.remove(&(shard, local));
                    let withdraw = TowardHome::Withdraw { topic: TopicIndex(0), subject: subject(key), local, variant: None };
                    home.take(0, shard, withdraw, &mut speech, &mut effects);
                }
            }
            if random.bool() {
                hear(&mut speech, &mut wants, &log);
            }
            home.check();
        }
        hear(&mut speech, &mut wants, &log);
        for (key, next) in wants.values() {
            let next = next.expect("every subscribe is answered");
            assert!(
                log.get(key).is_none_or(|offsets| offsets.iter().all(|offset| *offset < next)),
                "world {world}: key {key} lacks records"
            );
        }
        assert_eq!(home.wanted(), wants.values().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len());
    }
}

/// The shards hear what a home has to say: answers, and then each record that is next.
fn hear(speech: &mut Speech, wants: &mut HashMap<(ShardId, LocalSubjectKey), (u8, Option<i64>)>, log: &BTreeMap<u8, Vec<i64>>) {
    speech.from_home.send(|to, messages, _| {
        for message in messages {
            match message {
                FromHome::Subscribed { local, answer, .. } => {
                    let answer = answer.expect("nothing hinders it");
                    assert_eq!((answer.catch_up, &*answer.epoch), (None, EPOCH));
                    wants.get_mut(&(to, local)).expect("it is wanted").1 = Some(answer.offset.0);
                }
                FromHome::Delivery { local, offset, .. } => {
                    let (key, next) = wants.get_mut(&(to, local)).expect("it is wanted");
                    let (needs, offset) = (next.expect("it was answered"), offset.expect("it has a position").0);
                    let right = log[key].iter().find(|other| **other >= needs);
                    assert_eq!(right, Some(&offset), "the next record of key {key}");
                    *next = Some(offset + 1);
                }
                other => panic!("nothing else is said: {other:?}"),
            }
        }
        Ok(())
    });
}

#[test]
fn subscribers_alone_bring_every_record_once_and_in_order_however_slow_the_socket_is() {
    let mut parked = 0;
    for world in 0..WORLDS {
        let mut random = Rng::with_seed(world);
        let outbox_bytes_max = random.usize(2_000..4_000);
        let settings = Arc::new(ShardSettings { outbox_bytes_max, ping_interval_ms: 0, ..ShardSettings::default() });
        let mut connections = Connections::new(ShardId(1), settings.clone());
        let mut subscribers = Subscribers::new(settings);
        let mut toward_home: Outgoing<TowardHome> = Outgoing::new(ShardId(1), 2, usize::MAX, |_| 1);
        connections.take_map(map());
        subscribers.take_map(map(), &mut connections, &mut toward_home);
        let mut sockets = Sockets { random: Some(Rng::with_seed(world)), ..Sockets::default() };
        let client = SlotMap::<ConnectionKey, ()>::with_key().insert(());
        connections.opened(1, client, Protocol::Json);
        connections.connect(1, client, 1, "");
        let command = session::SubscribeCommand { channel: "/t/k1".to_owned(), position: Position::default(), ..Default::default() };
        subscribers.subscribe(1, client, 2, 1, &command, &mut connections, &mut toward_home);
        // A home that is only a log: how many records there are, and whether it delivers to this shard.
        let (mut end, mut live, mut first) = (random.u64(0..50), None, None);
        let mut asked: Vec<TowardHome> = Vec::new();
        let mut now_ms = 1;
        for step in 0..400 {
            now_ms += 10;
            for _ in 0..if step < 300 { random.u64(0..12) } else { 0 } {
                if let Some(local) = live {
                    let delivery = FromHome::Delivery { local, variant: JSON, offset: Some(Offset(end as i64)), frame: frame(end) };
                    subscribers.take(now_ms, delivery, &mut connections, &mut toward_home);
                }
                end += 1;
            }
            toward_home.send(|_, messages, _| {
                asked.extend(messages);
                Ok(())
            });
            for message in std::mem::take(&mut asked) {
                let answer = match message {
                    TowardHome::Subscribe(request) => {
                        (live, first) = (Some(request.local), Some(end));
                        let answer = Subscribed {
                            id: 0,
                            epoch: Arc::from(EPOCH),
                            generation: Generation(1),
                            recoverable: true,
                            offset: Offset(end as i64),
                            recovered: None,
                            publications: Vec::new(),
                            catch_up: None,
                            next: Offset(end as i64),
                        };
                        let SubscribeRequest { local, variant, subscription, .. } = *request;
                        FromHome::Subscribed { local, variant, subscription, answer: Ok(Box::new(answer)) }
                    }
                    TowardHome::CatchUp(request) => {
                        parked += 1;
                        let from = request.from.0 as u64;
                        let next = end.min(from + random.u64(1..30)).min(from + (request.bytes_max as u64 / 10).max(1));
                        let state = if next == end { PieceState::Live } else { PieceState::More };
                        if state == PieceState::Live {
                            live = Some(request.local);
                        }
                        let frames = (from..next).map(|number| (Offset(number as i64), frame(number))).collect();
                        let (local, variant, subscription) = (request.local, request.variant, request.subscription);
                        FromHome::Piece(Box::new(Piece { local, variant, subscription, frames, next: Offset(next as i64), state }))
                    }
                    TowardHome::Withdraw { .. } => {
                        live = None;
                        continue;
                    }
                    other => panic!("nothing else is asked: {other:?}"),
                };
                subscribers.take(now_ms, answer, &mut connections, &mut toward_home);
            }
            if random.u8(0..3) == 0 || step >= 300 {
                for connection in std::mem::take(&mut sockets.blocked) {
                    connections.writable(connection);
                }
            }
            subscribers.tick();
            while let Some(connection) = connections.next_roomy() {
                subscribers.room_made(now_ms, connection, &mut connections);
            }
            subscribers.run_turns(now_ms, &mut connections, &mut toward_home);
            connections.write(now_ms, 10, &mut sockets);
            connections.relieve(now_ms, &mut sockets);
            subscribers.check();
            connections.check();
        }
        let heard = numbers(&sockets.written[&client]);
        let first = first.expect("it is subscribed");
        assert_eq!(heard, (first..end).collect::<Vec<_>>(), "world {world}: outbox of {outbox_bytes_max} bytes");
        connections.closed(client);
        while let Some(ended) = connections.next_ended() {
            subscribers.end_connection(ended, &mut connections, &mut toward_home);
        }
        assert_eq!((subscribers.wanted(), connections.outbox_bytes()), (0, 0), "nothing is left");
    }
    assert!(parked > WORLDS, "subscriptions were parked and caught up: {parked} pieces");
}

#[test]
fn connections_alone_write_what_is_queued_whole_and_in_order_whatever_sockets_take() {
    for world in 0..WORLDS {
        let mut random = Rng::with_seed(world);
        let mut connections = Connections::new(ShardId(0), Arc::new(ShardSettings { ping_interval_ms: 0, ..ShardSettings::default() }));
        let mut sockets = Sockets { random: Some(Rng::with_seed(world)), ..Sockets::default() };
        let mut keys = SlotMap::<ConnectionKey, ()>::with_key();
        let clients: Vec<ConnectionKey> = (0..5).map(|_| keys.insert(())).collect();
        let mut queued: HashMap<ConnectionKey, Vec<u64>> = HashMap::new();
        for client in &clients {
            connections.opened(1, *client, Protocol::Json);
            connections.connect(1, *client, 1, "");
        }
        for number in 0..300 {
            let client = clients[random.usize(0..clients.len())];
            if random.u8(0..5) > 0 {
                connections.queue(client, frame(number));
                queued.entry(client).or_default().push(number);
            }
            if random.bool() {
                for connection in std::mem::take(&mut sockets.blocked) {
                    connections.writable(connection);
                }
            }
            connections.write(number, random.usize(1..4), &mut sockets);
            connections.check();
        }
        while connections.has_writes() || !sockets.blocked.is_empty() {
            for connection in std::mem::take(&mut sockets.blocked) {
                connections.writable(connection);
            }
            connections.write(400, 10, &mut sockets);
        }
        for client in clients {
            assert_eq!(numbers(&sockets.written[&client]), queued.remove(&client).unwrap_or_default(), "world {world}");
            connections.closed(client);
        }
        assert_eq!(connections.outbox_bytes(), 0, "nothing is left");
    }
}
