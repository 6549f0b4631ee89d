//! What goes wrong: Kafka's clients get stuck, letters get lost, clusters change, nodes die, crowds come.

use bytes::Bytes;
use std::sync::Arc;

use super::{STUCK_PRODUCER_MS, WATCH_MS, World, name, number_of};
use crate::limits::TICK_MS;
use crate::shard::{Event, ProduceRecord, PublishResult};
use crate::sim::client::Open;
use crate::sim::law::BEGAN_MS;
use crate::sim::names::Rule;
use crate::sim::node::Node;
use crate::sim::oracle::Asked;
use crate::sim::wire;

impl World {
    /// More than a thousand clients subscribe to one subject, hear some records, and most of them leave.
    pub(super) fn crowd(&mut self) -> Result<(), String> {
        const SUBSCRIBERS: usize = 1_100;
        self.coverage.note("more than a thousand subscribers of one subject");
        // Everything moves at once here; chaos comes later.
        self.healed_ms = Some(self.now_ms);
        self.settle(true)?;
        let channel = format!("/{}/k1", self.kafka.topics[0].name);
        for _ in 0..SUBSCRIBERS {
            self.connect();
        }
        self.settle(true)?;
        for place in 0..self.clients.len() {
            if self.can_send(place) {
                self.clients[place].moment = self.nodes[self.clients[place].node].moment(self.now_ms);
                let asked = Asked { position: None, history: 0, numeric: false, strict: false, end: None, stray: None };
                let request = wire::SubscribeRequest { channel: channel.clone().into(), ..Default::default() };
                let open = Open::Subscribe { channel: channel.clone(), asked, left: false };
                let message = self.clients[place].command(open, |command| command.subscribe = Some(request));
                self.send(place, &message);
            }
        }
        for round in 0..3 {
            for _ in 0..round * 4 {
                self.kafka.write(&mut self.random, 0, Some(Bytes::from_static(b"k1")), 30, false);
            }
            self.settle(true)?;
            self.pass(20 * TICK_MS)?;
        }
        self.settle(true)?;
        for _ in 0..SUBSCRIBERS - 20 {
            let (node, shard, key) = (self.clients[0].node, self.clients[0].shard, self.clients[0].key);
            self.close_socket(node, shard, key);
        }
        self.healed_ms = None;
        Ok(())
    }

    /// One of Kafka's clients gets stuck, without a word. What was on its way in one that was replaced arrives.
    pub(super) fn trouble_clients(&mut self, node: usize, shard: usize) {
        let Some(dice) = &mut self.trouble else { return };
        match dice.u32(0..400) {
            0..=2 => {
                let partitions: Vec<_> = self.nodes[node].hands[shard].reading.keys().copied().collect();
                if !partitions.is_empty() {
                    let at = partitions[dice.usize(0..partitions.len())];
                    let only_another_client_helps = dice.u8(0..4) == 0;
                    self.nodes[node].hands[shard].deaf.insert(at, only_another_client_helps);
                    self.coverage.note("a consumer went deaf");
                    self.say(|| format!("node {node} shard {shard}: topic {} partition {} is not read any more", at.topic.0, at.partition));
                }
            }
            3 => {
                let now_ms = self.now_ms;
                self.nodes[node].hands[shard].stuck_since_ms.get_or_insert(now_ms);
                self.say(|| format!("node {node} shard {shard}: the producer answers nothing any more"));
            }
            4..=40 if !self.late.is_empty() => {
                let (record, number) = self.late.swap_remove(dice.usize(0..self.late.len()));
                self.write_late(record, number);
            }
            _ => {}
        }
    }

    pub(super) fn write_late(&mut self, record: ProduceRecord, number: u64) {
        let key = record.key.clone();
        self.kafka.write_published(&record.topic, record.partition.unwrap_or(0), key, record.value, number);
        self.coverage.note("a record came from a producer that was replaced");
        self.say(|| format!("publish {number} comes late"));
    }

    /// What the node does about its own clients as time passes.
    pub(super) fn look_after_clients(&mut self, node: usize, shard: usize) {
        if self.trouble.is_none() {
            return;
        }
        let now_ms = self.now_ms;
        if now_ms % WATCH_MS < TICK_MS {
            for done in self.nodes[node].look_at_ends(&self.kafka, shard, now_ms) {
                self.coverage.note(done);
                self.say(|| format!("node {node} shard {shard}: {done}"));
            }
        }
        if self.nodes[node].hands[shard].stuck_since_ms.is_some_and(|since_ms| now_ms >= since_ms + STUCK_PRODUCER_MS) {
            self.nodes[node].hands[shard].stuck_since_ms = None;
            self.coverage.note("a producer that answered nothing was replaced");
            while let Some((publish, record)) = self.nodes[node].hands[shard].produced.pop_front() {
                let number = number_of(record.value.as_deref());
                *self.published.entry((number, self.kafka.place(&record.topic))).or_default() += 1;
                match self.trouble.as_mut().map_or(0, |dice| dice.u8(0..3)) {
                    0 => {}
                    1 => self.write_late(record, number),
                    _ => self.late.push((record, number)),
                }
                self.nodes[node].handle(now_ms, shard, Event::Published { publish, result: PublishResult::Unknown });
            }
        }
    }

    pub(super) fn loses_letter(&mut self) -> bool {
        let lost = self.healed_ms.is_none() && self.losses.as_mut().is_some_and(|dice| dice.u8(0..3) == 0);
        self.coverage.note_if(lost, "a letter was lost");
        lost
    }

    /// Something that happens to a cluster once a month.
    pub(super) fn upheaval(&mut self) {
        self.reload();
        if self.random.u8(0..4) > 0 {
            return;
        }
        let topic = self.random.usize(0..self.kafka.topics.len());
        match self.random.u8(0..9) {
            0 if self.kafka.topics.len() < 5 => {
                let name = format!("late{}", self.kafka.topics.len());
                self.kafka.create(&name, self.random.u32(1..4), Rule::Murmur2, false);
                self.coverage.note("a topic appeared");
                self.say(|| format!("topic {name} appears"));
            }
            1 | 2 if self.kafka.topics[topic].exists && self.kafka.topics[topic].life().logs.len() < 8 => {
                self.kafka.grow(topic, 1);
                self.coverage.note("partitions were added");
                self.say(|| format!("topic {topic} grows"));
            }
            3 | 4 => {
                let name = self.kafka.topics[topic].name.to_string();
                self.kafka.create(&name, self.random.u32(1..4), Rule::Murmur2, false);
                self.coverage.note("a topic was made again");
                self.say(|| format!("topic {name} is made again"));
            }
            5 if self.kafka.topics.iter().filter(|topic| topic.exists).count() > 1 => {
                self.kafka.delete(topic);
                self.coverage.note("a topic was deleted");
                self.say(|| format!("topic {topic} is deleted"));
            }
            6 if self.kafka.topics[topic].exists => {
                self.kafka.truncate(&mut self.random, topic);
                self.coverage.note("an unclean election");
                self.say(|| format!("topic {topic} loses records in an unclean election"));
            }
            7 if self.kafka.topics[topic].exists => {
                self.kafka.retain(&mut self.random, topic);
                self.coverage.note("retention");
                self.say(|| format!("topic {topic} forgets old records"));
            }
            8 => self.restart(),
            _ => {}
        }
    }

    /// A node hears what time it is, and who may do what.
    pub(super) fn tell_the_law(&mut self, node: usize) {
        let Some(law) = &self.law else { return };
        let (entitlement, now_ms) = (law.entitlement(), self.now_ms);
        let node = &mut self.nodes[node];
        for shard in 0..node.cores.len() {
            node.handle(now_ms, shard, Event::Clock { unix_ms: BEGAN_MS + now_ms });
            node.handle(now_ms, shard, Event::Entitlement(entitlement.clone()));
        }
    }

    /// Now and then somebody's pass is revoked, or a client comes with another.
    pub(super) fn enforce(&mut self) {
        let Some(law) = &mut self.law else { return };
        if self.clients.is_empty() {
            return;
        }
        let place = law.dice.usize(0..self.clients.len());
        let Some(user) = self.clients[place].passes.last().map(|pass| pass.user) else { return };
        match law.dice.u16(0..400) {
            0 if law.revoked.len() < 4 => {
                law.revoked.insert(user);
                self.coverage.note("a pass was revoked");
                self.say(|| format!("user {user} is revoked"));
                for client in self.clients.iter_mut().filter(|client| client.passes.iter().any(|pass| pass.user == user)) {
                    client.is_revoked = true;
                }
                for node in 0..self.nodes.len() {
                    self.tell_the_law(node);
                }
            }
            1..=12 => self.refresh(place, user),
            _ => {}
        }
    }

    fn refresh(&mut self, place: usize, user: u32) {
        // One at a time: an answer is the newest pass.
        let refreshes = self.clients[place].open.values().any(|open| matches!(open, Open::Refresh(_)));
        if refreshes || !self.can_send(place) {
            return;
        }
        let Some(law) = &mut self.law else { return };
        let pass = law.pass(self.now_ms, user);
        let token = law.token(&pass);
        let (node, key) = (self.clients[place].node, self.clients[place].key);
        self.say(|| format!("{} comes with {pass:?}", name(node, key)));
        self.clients[place].moment = self.nodes[self.clients[place].node].moment(self.now_ms);
        let message = self.clients[place].command(Open::Refresh(pass), |command| command.refresh = Some(wire::ConnectRequest { token }));
        self.send(place, &message);
    }

    /// Every node reads its configuration again.
    fn reload(&mut self) {
        let Some(dice) = &mut self.reloads else { return };
        let mut newer = self.settings.clone();
        match dice.u8(0..6) {
            0 => newer.cache_bytes_max -= newer.cache_bytes_max / 4,
            1 => newer.cache_records_max = (newer.cache_records_max / 2).max(1),
            2 => newer.cache_expire_ms -= newer.cache_expire_ms / 4,
            3 => newer.subscriptions_max = newer.subscriptions_max.saturating_sub(1).max(2),
            4 => newer.publishes_open_max = dice.usize(1..6),
            _ => newer.slow_client_timeout_ms = dice.u64(1_000..8_000),
        }
        self.coverage.note("settings were reloaded");
        self.settings = self.settings.with_live_of(&newer);
        let (settings, now_ms) = (Arc::new(self.settings.clone()), self.now_ms);
        self.say(|| format!("settings are reloaded: {newer:?}"));
        for node in &mut self.nodes {
            for shard in 0..node.cores.len() {
                node.handle(now_ms, shard, Event::Settings(settings.clone()));
            }
        }
    }

    /// A node dies and is started again: it knows nothing, and its clients come back with what they have.
    pub(super) fn restart(&mut self) {
        let node = self.random.usize(0..self.nodes.len());
        self.say(|| format!("node {node} is started again"));
        self.coverage.note("a node was started again");
        for place in (0..self.clients.len()).rev().filter(|place| self.clients[*place].node == node).collect::<Vec<_>>() {
            let client = self.clients.swap_remove(place);
            self.remember_positions(client);
        }
        self.nodes[node] = Node::new(&mut self.random, &self.settings, self.sabotage, self.shards);
        self.tell_the_law(node);
        self.nodes[node].read_metadata(&mut self.random, &self.kafka);
    }
}
