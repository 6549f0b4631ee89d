//! How a world ends: it heals and rests, or drains; then every promise must have been kept.

use super::World;
use crate::handoff::ConnectionKey;
use crate::kafka::stall::RENEW_PAUSES_MS;
use crate::limits::{HOLD_MS, TICK_MS};
use crate::shard::{Event, ShardCore};
use crate::sim::client::Client;
use crate::sim::kafka::Era;
use crate::sim::node::Node;
use crate::sim::oracle::Witness;
use hashbrown::HashMap;

/// Virtual time within which a healed world must come to rest.
const REST_MS: u64 = 30_000;
/// Ticks in which nothing moves, after which a world rests.
const QUIET_TICKS: u64 = 21;

impl World {
    /// Chaos ends; the world comes to rest, and then every promise must have been kept.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.say(|| "the world heals".to_owned());
        self.healed_ms = Some(self.now_ms);
        for (record, number) in std::mem::take(&mut self.late) {
            self.write_late(record, number);
        }
        // Those who read are not kept waiting by those who do not.
        self.rest()?;
        self.judge()?;
        self.say(|| "the sleepers wake".to_owned());
        for client in &mut self.clients {
            client.asleep = false;
        }
        self.rest()?;
        self.judge()?;
        if self.random.u8(0..8) == 0 {
            // Nobody who reads is taken for slow, or for dead, later.
            self.coverage.note("stayed on");
            for client in &mut self.clients {
                client.earned.retain(|code| !matches!(code, 3008 | 3012));
            }
            let until_ms = self.now_ms + self.settings.slow_client_timeout_ms + 1_000;
            while self.now_ms < until_ms {
                self.settle(true)?;
                self.pass(10 * TICK_MS)?;
            }
            self.rest()?;
            self.judge()?;
        }
        self.check_publishes()?;
        self.everybody_leaves()
    }

    /// Lets the world run until nothing moves any more.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        let mut began_ms = self.now_ms;
        let latest_ms = began_ms + RENEW_PAUSES_MS.1 + REST_MS;
        let mut asked_ms = HashMap::new();
        let mut quiet = 0;
        while quiet < 600 {
            let shards = |node: &Node| 0..node.cores.len();
            let stuck = self.nodes.iter().any(|node| shards(node).any(|shard| node.waits_for_clients(&self.kafka, shard)));
            if stuck && self.now_ms < latest_ms {
                // They are found by the node itself, which takes its time. Its clients wait no longer than ever.
                self.settle(true)?;
                // The end of a log is all that the watch sees. The next record makes it another one.
                for (topic, partition) in self.nodes.iter().flat_map(|node| node.unseen_elections(&self.kafka)).collect::<Vec<_>>() {
                    self.coverage.note("an election behind a deaf consumer's back");
                    self.kafka.write_published(&topic, partition, None, None, 0);
                }
                self.pass_some(10)?;
                self.check_patience(&mut asked_ms)?;
                (began_ms, quiet) = (self.now_ms, 0);
                continue;
            }
            if self.now_ms > began_ms + REST_MS {
                return Err("the world does not come to rest: something stalls or spins".to_owned());
            }
            let moved = self.settle(true)?;
            // Never beyond the moment at which the world is seen to rest.
            let passed = self.pass_some(if moved { 1 } else { QUIET_TICKS.saturating_sub(quiet).clamp(1, 10) })?;
            quiet = if moved { 0 } else { quiet + passed };
            let awake = || self.clients.iter().filter(|client| !client.asleep && client.closed.is_none());
            let open = awake().flat_map(|client| client.open.values()).next();
            match open {
                // Held requests live 4 s, positions ahead of a log are asked about: time must pass, not only turns.
                Some(open) if self.now_ms > began_ms + HOLD_MS + 1_000 => {
                    return Err(format!("rule 10: nothing hinders it, and a command waits longer than a request may be held: {open:?}"));
                }
                // Somebody asleep may hold so much that nobody is read, until the answer that it waits for is given up.
                None if self.is_read_no_more() && self.now_ms <= began_ms + HOLD_MS + 1_000 => {}
                None if quiet >= QUIET_TICKS => return Ok(()),
                _ => {}
            }
            if self.now_ms > began_ms + self.settings.pong_timeout_ms + 1_000 {
                for client in self.clients.iter_mut().filter(|client| !client.asleep) {
                    client.earned.retain(|code| !matches!(code, 3008 | 3012));
                }
            }
        }
        Ok(())
    }

    /// No command of a client that reads waits longer than it may be held; `asked_ms`: when each was first seen to wait.
    pub(super) fn check_patience(&self, asked_ms: &mut HashMap<(usize, ConnectionKey, u32), u64>) -> Result<(), String> {
        let awake = self.clients.iter().filter(|client| !client.asleep && client.closed.is_none());
        let waiting = awake.flat_map(|client| client.open.iter().map(|(id, open)| ((client.node, client.key, *id), open)));
        let waiting: HashMap<_, _> = waiting.collect();
        asked_ms.retain(|command, _| waiting.contains_key(command));
        for (command, open) in waiting {
            let since_ms = *asked_ms.entry(command).or_insert(self.now_ms);
            if self.now_ms > since_ms + HOLD_MS + 1_000 {
                return Err(format!("rule 10: a command waits longer than a request may be held: {open:?}"));
            }
        }
        Ok(())
    }

    fn waits_to_be_read(&self, client: &Client) -> bool {
        client.stalled && !self.nodes[client.node].hands[client.shard].resumed.contains(&client.key)
    }

    /// Whether a client that reads is not read itself.
    fn is_read_no_more(&self) -> bool {
        self.clients.iter().any(|client| client.closed.is_none() && !client.asleep && self.waits_to_be_read(client))
    }

    /// Every client that reads has everything.
    pub(super) fn judge(&self) -> Result<(), String> {
        for node in &self.nodes {
            node.reads_its_partitions()?;
            node.cores.iter().for_each(ShardCore::check);
        }
        for client in self.clients.iter().filter(|client| client.closed.is_none() && !client.asleep) {
            if self.waits_to_be_read(client) {
                let waits = self.nodes[client.node].cores[client.shard].waits();
                return Err(format!("rule 6: nothing hinders it, and the socket of client {:?} is read no more: {waits}", client.key));
            }
            let witness = Witness {
                kafka: &self.kafka,
                node: &self.nodes[client.node],
                settings: &self.settings,
                now_ms: self.now_ms,
                tracing: false,
                fates: &self.fates,
                is_routed: self.paths.is_some(),
            };
            if !client.pings.is_empty() {
                return Err(format!("client {:?} reads everything and has no pong for its newest ping", client.key));
            }
            client
                .has_everything(witness)
                .map_err(|broken| format!("{broken} [client of node {} shard {} {:?}]", client.node, client.shard, client.protocol))?;
        }
        Ok(())
    }

    pub(super) fn check_publishes(&self) -> Result<(), String> {
        let mut stands: HashMap<(u64, usize), u32> = HashMap::new();
        let topics = self.kafka.topics.iter().enumerate();
        let logs = topics.flat_map(|(place, topic)| topic.lives.iter().flat_map(|life| &life.logs).map(move |log| (place, log)));
        for (place, log) in logs {
            // What an election lost was there: each record counts once, in the era that it came in.
            let new = |era: &Era| {
                era.records.iter().filter(|record| record.offset >= era.forks_at).map(|record| record.publish).collect::<Vec<_>>()
            };
            for number in log.eras.iter().flat_map(new).filter(|number| *number > 0) {
                *stands.entry((number, place)).or_default() += 1;
            }
        }
        for (at, times) in self.published.iter().filter(|((number, _), _)| *number > 0) {
            if *times > 1 {
                return Err(format!("rule 15: publish {at:?} was handed to a producer {times} times"));
            }
            let stands = stands.get(at).copied().unwrap_or(0);
            if self.acknowledged.contains(at) && stands != 1 {
                return Err(format!("rule 15: acknowledged publish {at:?} stands {stands} times in the log"));
            }
        }
        Ok(())
    }

    pub(super) fn everybody_leaves(&mut self) -> Result<(), String> {
        while let Some(client) = self.clients.first() {
            let (node, shard, key) = (client.node, client.shard, client.key);
            self.close_socket(node, shard, key);
        }
        self.settle(true)?;
        // A request of a client that left may still be held.
        self.pass(HOLD_MS + 20 * TICK_MS)?;
        self.settle(true)?;
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].cores.len() {
                let core = &mut self.nodes[node].cores[shard];
                core.check();
                if core.interests() != (0, 0) {
                    return Err(format!(
                        "rule 7: node {node} shard {shard} still has interests {:?} with every client gone: {}",
                        core.interests(),
                        core.wanted_subjects()
                    ));
                }
                let counters = core.counters().clone();
                // A drain does not wait for a producer that answers nothing: those clients have their 401.
                let unanswered = self.nodes[node].hands[shard].produced.len() as u64;
                if counters.publishes_open > unanswered {
                    return Err(format!("{} publishes are open, {unanswered} are with the producer", counters.publishes_open));
                }
                if counters.outbox_bytes + counters.subscriptions + counters.connections + counters.spill_bytes + counters.requests_held_now
                    > 0
                {
                    return Err(format!("something is left with every client gone: {counters:?}"));
                }
                if counters.cache_bytes > self.settings.cache_bytes_max as u64 {
                    return Err(format!("rule 17: the cache has {} bytes of {}", counters.cache_bytes, self.settings.cache_bytes_max));
                }
                let replaced = self.nodes[node].rules_replaced;
                let coverage = &mut self.coverage;
                coverage.note_if(replaced > 0, "a topic was given another rule");
                coverage.note_if(counters.subscriptions_parked > 0, "parked");
                coverage.note_if(counters.lanes_full > 0, "lane full");
                coverage.note_if(counters.records_elsewhere > 0, "record found elsewhere");
                coverage.note_if(counters.strays > 0, "a subject is live only from now on");
                coverage.note_if(counters.misfits > 0, "a record is not where its topic's rule puts it");
                coverage.note_if(counters.requests_held > 0, "request held");
                coverage.note_if(counters.requests_held_expired > 0, "held too long");
                coverage.note_if(counters.records_without_subject > 0, "record without a subject");
                coverage.note_if(counters.records_oversize > 0, "oversize");
                coverage.note_if(counters.subscriptions_passed > 0, "told that a record without a position passed by");
                coverage.note_if(counters.publishes_late > 0, "stored or refused after it was answered as unknown");
                coverage.note_if(counters.publishes_expired > 0, "a publish waited too long");
                coverage.note_if(counters.records_stale > 0, "stale record");
                coverage.note_if(counters.cache_evicted > 0, "evicted");
                coverage.note_if(counters.producer_full > 0, "producer full");
                coverage.note_if(counters.publishes_unknown > 0, "fate unknown");
            }
        }
        Ok(())
    }

    /// A graceful stop: every open publish is answered, every client is told, nothing is left.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        self.say(|| "the nodes drain".to_owned());
        self.healed_ms = Some(self.now_ms);
        for client in &mut self.clients {
            client.asleep = false;
            client.earned.insert(3001);
        }
        let now_ms = self.now_ms;
        for node in 0..self.nodes.len() {
            for shard in 0..self.nodes[node].cores.len() {
                self.nodes[node].handle(now_ms, shard, Event::Drain { over_ms: 500 });
            }
        }
        for _ in 0..1_500 {
            self.settle(true)?;
            self.pass(TICK_MS)?;
            if self.nodes.iter().all(|node| node.cores.iter().all(|core| core.drained())) {
                self.coverage.note("drained");
                self.check_publishes()?;
                return self.everybody_leaves();
            }
        }
        Err("a drain does not end".to_owned())
    }
}
