//! Clients' sockets: who connects, reads, and is gone.

use super::{World, name};
use crate::handoff::{ConnectionKey, Protocol};
use crate::shard::Event;
use crate::sim::client::{Client, Open};
use crate::sim::codec;
use crate::sim::hands::FakeSocket;
use crate::sim::oracle::{Witness, topics_of};
use crate::sim::wire;

impl World {
    pub(super) fn see_closed_sockets(&mut self, node: usize, shard: usize) -> Result<(), String> {
        if self.nodes[node].hands[shard].closing == 0 {
            return Ok(());
        }
        let closing: Vec<_> =
            self.nodes[node].hands[shard].sockets.iter().filter(|(_, socket)| socket.closing).map(|(key, _)| *key).collect();
        for key in closing {
            // The shard learns of it some time later.
            if self.healed_ms.is_none() && self.random.bool() {
                continue;
            }
            self.take_bytes(node, shard, key, usize::MAX)?;
            if let Some(client) = self.clients.iter().find(|client| client.node == node && client.key == key && client.closed == Some(3001))
            {
                let answered = |open: &&Open| match open {
                    Open::Publish { number, channel, .. } if *number > 0 => topics_of(self.paths.is_some(), channel, &self.kafka)
                        .into_iter()
                        .all(|topic| self.published.contains_key(&(*number, topic))),
                    _ => false,
                };
                if let Some(open) = client.open.values().find(answered) {
                    return Err(format!("rule 15: a drain closed a connection before Kafka's answer was passed on: {open:?}"));
                }
            }
            self.close_socket(node, shard, key);
        }
        Ok(())
    }

    pub(super) fn close_socket(&mut self, node: usize, shard: usize, key: ConnectionKey) {
        let now_ms = self.now_ms;
        let hands = &mut self.nodes[node].hands[shard];
        hands.closing -= usize::from(hands.sockets.remove(&key).is_some_and(|socket| socket.closing));
        self.nodes[node].sockets.remove(key);
        self.nodes[node].handle(now_ms, shard, Event::Closed { connection: key });
        if let Some(place) = self.clients.iter().position(|client| client.node == node && client.key == key) {
            let client = self.clients.swap_remove(place);
            self.nodes[node].open_left += client.open.len();
            self.remember_positions(client);
        }
    }

    /// What a client knew when it lost its connection is what it comes back with.
    pub(super) fn remember_positions(&mut self, client: Client) {
        for (channel, held) in client.held {
            if held.recoverable {
                self.kept.push((channel, held.kept));
            }
        }
        self.kept.extend(client.positions);
        while self.kept.len() > 60 {
            self.kept.swap_remove(0);
        }
    }

    /// A client takes bytes from its socket.
    pub(super) fn take_bytes(&mut self, node: usize, shard: usize, key: ConnectionKey, bytes_max: usize) -> Result<(), String> {
        let Some(socket) = self.nodes[node].hands[shard].sockets.get_mut(&key) else { return Ok(()) };
        let take = socket.buffer.len().min(bytes_max);
        // The socket goes on with the bytes of the one before.
        let mut bytes = std::mem::take(&mut self.spare);
        if take == socket.buffer.len() {
            std::mem::swap(&mut bytes, &mut socket.buffer);
        } else {
            bytes.extend(socket.buffer.drain(..take));
        }
        let writable = socket.wants_room && socket.buffer.len() < socket.capacity;
        if writable {
            socket.wants_room = false;
        }
        if let Some(client) = self.clients.iter_mut().find(|client| client.node == node && client.key == key) {
            let witness = Witness {
                kafka: &self.kafka,
                node: &self.nodes[node],
                settings: &self.settings,
                now_ms: self.now_ms,
                tracing: self.tracing,
                fates: &self.fates,
                is_routed: self.paths.is_some(),
            };
            let verdict = client.receive(&bytes, witness, &mut self.coverage);
            let heard = std::mem::take(&mut client.heard);
            for words in heard {
                self.say(|| format!("{} hears {words}", name(node, key)));
            }
            verdict?;
        }
        bytes.clear();
        self.spare = bytes;
        if writable {
            let now_ms = self.now_ms;
            self.nodes[node].handle(now_ms, shard, Event::Writable { connection: key });
        }
        Ok(())
    }

    pub(super) fn client_reads(&mut self) -> Result<(), String> {
        if self.clients.is_empty() {
            return Ok(());
        }
        let place = self.random.usize(0..self.clients.len());
        let client = &mut self.clients[place];
        if client.asleep {
            client.asleep = self.random.u8(0..self.sleepiness.1) > 0;
            return Ok(());
        }
        client.asleep = self.random.u8(0..self.sleepiness.0) == 0;
        let (node, shard, key) = (client.node, client.shard, client.key);
        let bytes = if self.random.u8(0..4) == 0 { self.random.usize(1..500) } else { self.random.usize(500..100_000) };
        self.take_bytes(node, shard, key, bytes)?;
        if self.random.u8(0..8) > 0 {
            self.pay_pongs(place);
        }
        Ok(())
    }

    pub(super) fn connect(&mut self) {
        let node = self.random.usize(0..self.nodes.len());
        let shard = self.random.usize(0..self.nodes[node].cores.len());
        let key = self.nodes[node].sockets.insert(shard);
        let protocol = if self.random.bool() { Protocol::Json } else { Protocol::Protobuf };
        let capacity = self.random.usize(200..20_000);
        self.nodes[node].hands[shard]
            .sockets
            .insert(key, FakeSocket { buffer: Vec::new(), capacity, wants_room: false, closing: false, broken: false });
        let now_ms = self.now_ms;
        self.nodes[node].handle(now_ms, shard, Event::Opened { connection: key, protocol });
        let mut client = Client::new(node, shard, key, protocol);
        client.earned.extend([3008]);
        if self.settings.ping_interval_ms > 0 {
            client.earned.insert(3012);
        }
        client.moment = self.nodes[node].moment(now_ms);
        let mut token = String::new();
        if let Some(law) = &mut self.law {
            let user = law.dice.u32(0..12);
            let pass = law.pass(now_ms, user);
            token = law.token(&pass);
            client.is_revoked = law.revoked.contains(&user);
            client.earned.extend(client.is_revoked.then_some(3500));
            client.passes.push(pass);
        }
        let message = client.command(Open::Connect, |command| command.connect = Some(wire::ConnectRequest { token }));
        self.clients.push(client);
        self.say(|| format!("{} connects to shard {shard}, {protocol:?}", name(node, key)));
        let place = self.clients.len() - 1;
        self.send(place, &message);
    }

    /// Notes how many commands are open at a node.
    pub(super) fn count_open(&mut self, node: usize) {
        let open = self.clients.iter().filter(|client| client.node == node).map(|client| client.open.len()).sum::<usize>();
        let node = &mut self.nodes[node];
        node.open_most = node.open_most.max(node.open_left + open);
    }

    /// Hands a message to the shard, if it reads this socket now.
    pub(super) fn send(&mut self, place: usize, message: &[u8]) {
        self.count_open(self.clients[place].node);
        let (node, shard, connection) = (self.clients[place].node, self.clients[place].shard, self.clients[place].key);
        let now_ms = self.now_ms;
        self.nodes[node].handle(now_ms, shard, Event::Received { connection, payload: message });
    }

    /// Whether a client's socket is read now. One that was refused is not asked for again before the shard says so.
    pub(super) fn can_send(&mut self, place: usize) -> bool {
        let client = &self.clients[place];
        let (node, shard, key) = (client.node, client.shard, client.key);
        if !client.connected || client.closed.is_some() {
            return false;
        }
        if client.stalled && !self.nodes[node].hands[shard].resumed.remove(&key) {
            return false;
        }
        let reads = self.nodes[node].cores[shard].reads(key);
        self.clients[place].stalled = !reads;
        reads
    }

    /// Answers the server's pings.
    pub(super) fn pay_pongs(&mut self, place: usize) {
        while self.clients[place].pongs_owed > 0 && self.can_send(place) {
            self.clients[place].pongs_owed -= 1;
            let pong = codec::pong(self.clients[place].protocol);
            self.send(place, &pong);
        }
    }
}
