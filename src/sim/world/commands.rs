//! What clients say.

use super::{World, name};
use crate::handoff::Protocol;
use crate::shard::Event;
use crate::sim::client::Open;
use crate::sim::codec;
use crate::sim::kafka::value_text;
use crate::sim::names::{Epoch, Subject};
use crate::sim::oracle::{Asked, Kept, Page};
use crate::sim::paths;
use crate::sim::wire;
use bytes::Bytes;
use std::collections::BTreeSet;

impl World {
    pub(super) fn channel(&mut self) -> String {
        let topic = self.kafka.topics[self.random.usize(0..self.kafka.topics.len())].name.clone();
        let is_keyless = self.keyless.as_mut().is_some_and(|dice| dice.bool());
        match self.random.u8(0..40) {
            _ if is_keyless => format!("/{topic}"),
            0 => "/nowhere/k".to_owned(),
            1 => "no slash".to_owned(),
            2..=3 => format!("/{topic}"),
            _ => format!("/{topic}/k{}", self.random.u8(0..9)),
        }
    }

    /// What a client calls one.
    fn name(&mut self) -> String {
        let channel = self.channel();
        let seen = self.paths.as_mut().is_some_and(|dice| dice.u8(0..3) == 0).then(|| paths::seen(&channel)).flatten();
        self.coverage.note_if(seen.is_some(), "a subject under another name");
        seen.unwrap_or(channel)
    }

    /// Where a client publishes to.
    fn published_to(&mut self) -> String {
        let channel = self.channel();
        let both = channel.starts_with('/') && self.paths.as_mut().is_some_and(|dice| dice.u8(0..3) == 0);
        if both { format!("/both{channel}") } else { channel }
    }

    pub(super) fn client_acts(&mut self) {
        if self.clients.len() < 3 || (self.clients.len() < 9 && self.random.u8(0..12) == 0) {
            self.connect();
            return;
        }
        let place = self.random.usize(0..self.clients.len());
        if !self.can_send(place) {
            return;
        }
        let count = if self.random.u8(0..4) == 0 { self.random.usize(2..5) } else { 1 };
        let client = &mut self.clients[place];
        client.moment = self.nodes[client.node].moment(self.now_ms);
        let mut message = Vec::new();
        let mut words = Vec::new();
        for _ in 0..count {
            let (word, bytes) = self.command_of(place);
            if self.clients[place].protocol == Protocol::Json && !message.is_empty() {
                message.push(b'\n');
            }
            message.extend(bytes);
            words.push(word);
        }
        if let Some(more) = self.hostile_commands(place) {
            if self.clients[place].protocol == Protocol::Json {
                message.push(b'\n');
            }
            message.extend(more);
        }
        let (node, shard) = (self.clients[place].node, self.clients[place].shard);
        let key = self.clients[place].key;
        self.say(|| format!("{} says {}", name(node, key), words.join(", ")));
        let connection = self.clients[place].key;
        match self.random.u16(0..300) {
            0 => {
                self.clients[place].earned.insert(3501);
                message = b"\x7fnonsense".to_vec();
            }
            1..=3 => {
                // The connection breaks, whatever was on its way.
                self.say(|| "and is gone".to_owned());
                self.close_socket(node, shard, connection);
                return;
            }
            4 => {
                self.say(|| "and its next write breaks".to_owned());
                if let Some(socket) = self.nodes[node].hands[shard].sockets.get_mut(&connection) {
                    socket.broken = true;
                }
            }
            5 => {
                self.clients[place].earned.insert(1000);
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::CloseReceived { connection, code: 1000 });
                return;
            }
            6 => {
                self.clients[place].earned.insert(1009);
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::Violated { connection, code: 1009, reason: "too large" });
                return;
            }
            7..=12 => {
                self.pings += 1;
                let mut payload = self.pings.to_string().into_bytes();
                payload.resize(payload.len() + self.random.usize(0..100), b' ');
                self.clients[place].pings.push_back(payload.clone());
                let now_ms = self.now_ms;
                self.nodes[node].handle(now_ms, shard, Event::PingReceived { connection, payload: &payload });
            }
            _ => {}
        }
        self.send(place, &message);
    }

    /// What a hostile client adds to what it says: a flood of pings that it sends at once, or one of commands, or positions that nobody keeps.
    pub(super) fn hostile_commands(&mut self, place: usize) -> Option<Vec<u8>> {
        let kind = self.hostility.as_mut()?.u8(0..12);
        let protocol = self.clients[place].protocol;
        match kind {
            0 => {
                let (node, shard, connection) = (self.clients[place].node, self.clients[place].shard, self.clients[place].key);
                for _ in 0..100 {
                    self.pings += 1;
                    let mut payload = self.pings.to_string().into_bytes();
                    payload.resize(125, b' ');
                    self.clients[place].pings.push_back(payload.clone());
                    self.nodes[node].handle(self.now_ms, shard, Event::PingReceived { connection, payload: &payload });
                }
                self.clients[place].asleep = true;
                self.coverage.note("a flood of pings");
                None
            }
            1 => {
                // Pongs that nobody asked for: empty commands, which have no answer.
                self.coverage.note("a flood of commands");
                let one = codec::pong(protocol);
                let commands = vec![one; 40];
                Some(if protocol == Protocol::Json { commands.join(&b'\n') } else { commands.concat() })
            }
            2 => {
                self.coverage.note("an epoch that nobody keeps");
                let position = Some(Kept { epoch: "e".repeat(3_000), offset: 5, eras: BTreeSet::new() });
                let channel = self.name();
                let asked = Asked { end: None, numeric: false, strict: false, history: 0, stray: None, position: position.clone() };
                let asked = Asked { stray: self.stray(self.clients[place].node, &channel), ..asked };
                let request = wire::SubscribeRequest {
                    channel: channel.clone().into(),
                    recover: true,
                    epoch: position.map(|position| position.epoch).unwrap_or_default().into(),
                    offset: 5,
                    ..wire::SubscribeRequest::default()
                };
                let left = self.clients[place].subscribes(&channel);
                let open = Open::Subscribe { channel, asked, left };
                Some(self.clients[place].command(open, |command| command.subscribe = Some(request)))
            }
            _ => None,
        }
    }

    /// Words for the trace.
    pub(super) fn word(&self, word: impl FnOnce() -> String) -> String {
        if self.tracing { word() } else { String::new() }
    }

    pub(super) fn command_of(&mut self, place: usize) -> (String, Vec<u8>) {
        match self.random.u8(0..20) {
            0..=9 => self.subscribe_command(place),
            10..=11 => self.unsubscribe_command(place),
            12..=16 => self.publish_command(place),
            17..=18 => self.history_command(place),
            _ if self.random.bool() => {
                let request = wire::RpcRequest { method: "m".into() };
                ("rpc".to_owned(), self.clients[place].command(Open::Rpc, |command| command.rpc = Some(request)))
            }
            _ => {
                let request = wire::ChannelRequest { channel: self.name().into() };
                ("presence".to_owned(), self.clients[place].command(Open::Presence, |command| command.presence = Some(request)))
            }
        }
    }

    pub(super) fn unsubscribe_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let client = &self.clients[place];
        let mut channels: Vec<String> = client.held.keys().cloned().collect();
        channels.extend(client.open.values().filter_map(|open| match open {
            Open::Subscribe { channel, .. } => Some(channel.clone()),
            _ => None,
        }));
        let channel = if channels.is_empty() { self.name() } else { channels.swap_remove(self.random.usize(0..channels.len())) };
        let request = wire::ChannelRequest { channel: channel.clone().into() };
        self.clients[place].unsubscribes(&channel);
        let word = self.word(|| format!("unsubscribe {channel}"));
        (word, self.clients[place].command(Open::Unsubscribe { channel }, |command| command.unsubscribe = Some(request)))
    }

    pub(super) fn history_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let channel = self.name();
        let known = self.kept.iter().find(|(other, _)| *other == channel).map(|(_, kept)| kept.clone());
        let known = known.filter(|_| self.random.bool());
        let page = Page { limit: self.random.i32(-1..10), since: known.as_ref().map(|kept| kept.offset), reverse: self.random.bool() };
        let request = wire::HistoryRequest {
            channel: channel.clone().into(),
            limit: page.limit,
            since: known.map(|kept| wire::Position { offset: kept.offset, epoch: kept.epoch.into() }),
            reverse: page.reverse,
        };
        let word = self.word(|| format!("history {channel} {page:?}"));
        (word, self.clients[place].command(Open::History { channel, page }, |command| command.history = Some(request)))
    }

    pub(super) fn subscribe_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let mut channel = self.name();
        let mut position = None;
        let nowhere = |epoch: &str, offset| Some(Kept { epoch: epoch.to_owned(), offset, eras: BTreeSet::new() });
        match self.random.u8(0..12) {
            0..=5 if !self.kept.is_empty() => {
                let (other, kept) = self.kept[self.random.usize(0..self.kept.len())].clone();
                (channel, position) = (other, Some(kept));
            }
            6 if self.random.bool() => position = self.newest_position(&channel),
            6 => position = nowhere("_", 0),
            7 => position = nowhere("", self.random.u64(0..60)),
            8 => {
                let epoch = ["1.id1.0.0", "1.id2.1.5", "nonsense", "1.id1.9.0"][self.random.usize(0..4)];
                position = nowhere(epoch, if self.random.bool() { self.random.u64(0..80) } else { u64::MAX - 3 });
            }
            _ => {}
        }
        let client = &self.clients[place];
        let again = client.held.contains_key(&channel) || client.subscribes(&channel);
        if again && self.random.u8(0..4) > 0 {
            return self.unsubscribe_command(place);
        }
        if position.is_none() && self.random.u8(0..3) > 0 {
            position = client.positions.get(&channel).cloned();
        }
        let (mut history, mut data) = (0, Bytes::new());
        if position.is_none() && self.random.bool() {
            history = self.random.u32(1..8);
            data =
                if history == 1 { Bytes::from_static(br#"{"snapshot":true}"#) } else { Bytes::from(format!("{{\"history\":{history}}}")) };
        }
        let offers = self.random.bool();
        let asked = Asked {
            end: position.as_ref().and_then(|position| self.log_end(&channel, &position.epoch)),
            // Ids are granted in JSON only.
            numeric: offers && client.protocol == Protocol::Json,
            strict: position.is_some() && self.random.u8(0..6) == 0,
            position,
            history,
            stray: self.stray(self.clients[place].node, &channel),
        };
        let request = wire::SubscribeRequest {
            channel: channel.clone().into(),
            recover: asked.position.is_some(),
            epoch: asked.position.as_ref().map(|position| position.epoch.clone()).unwrap_or_default().into(),
            offset: asked.position.as_ref().map_or(0, |position| position.offset),
            flag: i64::from(offers) | if asked.strict { 2 } else { 0 },
            data,
        };
        let word = self.word(|| format!("subscribe {channel} {asked:?}"));
        let left = self.clients[place].subscribes(&channel);
        (word, self.clients[place].command(Open::Subscribe { channel, asked, left }, |command| command.subscribe = Some(request)))
    }

    /// A position that a node could have given which reads faster than all.
    pub(super) fn newest_position(&mut self, channel: &str) -> Option<Kept> {
        let name = Subject::called(channel, 1024).ok()?;
        let life = self.kafka.topic(name.topic())?.life();
        let partition = life.rule.partition(name.key()?.as_bytes(), life.logs.len() as u32);
        let log = &life.logs[partition as usize];
        let leader_epoch = log.now().leader_epoch();
        let epoch = Epoch { topic_id: &life.id, partition, leader_epoch }.text();
        let offset = (log.now().end - self.random.i64(0..4)).max(log.now().forks_at).max(0) as u64;
        Some(Kept { epoch, offset, eras: BTreeSet::from([log.eras.len() - 1]) })
    }

    /// Where the log that an epoch names ends now.
    pub(super) fn log_end(&self, channel: &str, epoch: &str) -> Option<i64> {
        let name = Subject::called(channel, 1024).ok()?;
        let epoch = Epoch::parse(epoch)?;
        let life = self.kafka.topic(name.topic())?.life();
        (*life.id == *epoch.topic_id).then(|| life.logs.get(epoch.partition as usize).map(|log| log.now().end)).flatten()
    }

    pub(super) fn publish_command(&mut self, place: usize) -> (String, Vec<u8>) {
        let channel = self.published_to();
        // Tombstones carry no number.
        let removed = self.random.u8(0..12) == 0;
        let number = if removed { 0 } else { self.kafka.number() };
        let pad = match self.random.u8(0..60) {
            // More than an outbox holds, and much more than may be published.
            0 => self.settings.outbox_bytes_max.min(64 << 10),
            1..=4 => 3_000,
            _ => self.random.usize(0..300),
        };
        let data = if removed { Bytes::new() } else { Bytes::from(value_text(number, pad)) };
        let bytes = data.len();
        let request = wire::PublishRequest { channel: channel.clone().into(), data: data.clone(), removed };
        if number > 0 {
            self.said.insert(number, (channel.clone(), data.clone()));
        }
        let word = self.word(|| format!("publish {number} to {channel}"));
        (word, self.clients[place].command(Open::Publish { number, channel, bytes }, |command| command.publish = Some(request)))
    }
}
