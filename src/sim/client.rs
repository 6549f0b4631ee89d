//! A fake client: speaks the protocol's bytes over a fake socket, keeps the positions that an SDK would keep, and judges every frame: each command
//! has one answer, an error has its reason, and what a subscription brings is for the oracle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::codec::{self, Publication, Said, frame_at};
use super::coverage::Coverage;
use super::kafka::FakeTopic;
use super::law::Pass;
use super::names::Subject;
use super::node::Moment;
use super::oracle::{Asked, Followed, Kept, Page, Verdict, Witness, judge_history};
use super::paths::is_seen;
use crate::handoff::{ConnectionKey, Protocol};
use crate::limits::HOLD_MS;
use crate::shard::{PublishFailure, PublishResult};
use crate::sim::wire;

/// A command that has no reply yet.
#[derive(Clone, Debug)]
pub enum Open {
    Connect,
    /// `left`: it was unsubscribed meanwhile, or follows one that was: it shares its fate.
    Subscribe {
        channel: String,
        asked: Asked,
        left: bool,
    },
    Unsubscribe {
        channel: String,
    },
    Publish {
        number: u64,
        channel: String,
        bytes: usize,
    },
    History {
        channel: String,
        page: Page,
    },
    Presence,
    Rpc,
    /// With another pass.
    Refresh(Pass),
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
    /// Close codes that this client has earned.
    pub earned: BTreeSet<u16>,
    pub open: BTreeMap<u32, Open>,
    /// What it was let in with, the newest last; none where nobody needs any.
    pub passes: Vec<Pass>,
    /// Its pass is revoked.
    pub is_revoked: bool,
    pub held: BTreeMap<String, Followed>,
    pub positions: BTreeMap<String, Kept>,
    /// Pongs that it owes for the server's pings.
    pub pongs_owed: u32,
    /// Frames that it took, but for the server's pings.
    pub taken: u64,
    /// WebSocket pings that it sent and that have no pong yet, the oldest first.
    pub pings: VecDeque<Vec<u8>>,
    /// What it heard, if somebody wants to know.
    pub heard: Vec<String>,
    /// The shard does not read its socket until it says so.
    pub stalled: bool,
    /// Reads nothing while set.
    pub asleep: bool,
    /// Now, for the next command.
    pub moment: Moment,
    /// When each open command was said.
    said: BTreeMap<u32, Moment>,
    ids: HashMap<i64, String>,
    next_id: u32,
    bytes: Vec<u8>,
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
            earned: BTreeSet::new(),
            open: BTreeMap::new(),
            passes: Vec::new(),
            is_revoked: false,
            held: BTreeMap::new(),
            positions: BTreeMap::new(),
            pongs_owed: 0,
            taken: 0,
            pings: VecDeque::new(),
            heard: Vec::new(),
            stalled: false,
            asleep: false,
            moment: Moment::default(),
            said: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            bytes: Vec::new(),
        }
    }

    /// Notes a command and gives its bytes.
    pub fn command(&mut self, open: Open, build: impl FnOnce(&mut wire::Command)) -> Vec<u8> {
        self.next_id += 1;
        let mut command = wire::Command { id: self.next_id, ..wire::Command::default() };
        build(&mut command);
        self.open.insert(self.next_id, open);
        self.said.insert(self.next_id, self.moment);
        codec::encode(self.protocol, &command)
    }

    /// Notes that it unsubscribes.
    pub fn unsubscribes(&mut self, channel: &str) {
        for open in self.open.values_mut() {
            if let Open::Subscribe { channel: other, left, .. } = open {
                *left |= *other == channel;
            }
        }
    }

    /// Whether a subscribe of the channel has no answer yet.
    pub fn subscribes(&self, channel: &str) -> bool {
        self.open.values().any(|open| matches!(open, Open::Subscribe { channel: other, .. } if *other == channel))
    }

    /// Takes bytes from the socket and judges whole frames.
    pub fn receive(&mut self, bytes: &[u8], witness: Witness<'_>, coverage: &mut Coverage) -> Verdict {
        if self.bytes.is_empty() {
            let taken = self.take_frames(bytes, witness, coverage)?;
            self.bytes.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.bytes);
        all.extend_from_slice(bytes);
        let taken = self.take_frames(&all, witness, coverage)?;
        all.drain(..taken);
        self.bytes = all;
        Ok(())
    }

    /// Judges whole frames; how many bytes they have.
    fn take_frames(&mut self, all: &[u8], witness: Witness<'_>, coverage: &mut Coverage) -> Result<usize, String> {
        let mut at = 0;
        while let Some((opcode, start, end)) = frame_at(all, at) {
            let payload = &all[start..end];
            let owed = self.pongs_owed;
            at = end;
            if self.closed.is_some() {
                return Err("nothing follows a close frame".to_owned());
            }
            match opcode {
                8 => self.closes(payload, witness, coverage)?,
                10 => {
                    // RFC 6455, 5.5.3: the newest ping may be answered for those before it.
                    let Some(place) = self.pings.iter().position(|ping| ping == payload) else {
                        return Err("a WebSocket pong answers a ping that has no answer yet".to_owned());
                    };
                    self.pings.drain(..=place);
                    coverage.note_if(place > 0, "one WebSocket pong for several pings");
                    coverage.note("WebSocket pong");
                }
                1 | 2 if (opcode == 1) == (self.protocol == Protocol::Json) => {
                    let said = codec::decode(self.protocol, payload)?;
                    self.takes(said, witness, coverage)?;
                }
                other => return Err(format!("an unexpected frame of opcode {other}")),
            }
            self.taken += u64::from(self.pongs_owed == owed);
        }
        Ok(at)
    }

    /// Whether a frame has come in part.
    pub fn is_amid_frame(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Whether its newest pass has ended.
    fn is_expired(&self, now_ms: u64) -> bool {
        self.passes.last().is_some_and(|pass| pass.ends_ms <= now_ms)
    }

    fn closes(&mut self, payload: &[u8], witness: Witness<'_>, coverage: &mut Coverage) -> Verdict {
        let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        self.closed = Some(code);
        coverage.note(match code {
            3008 => "disconnected as slow",
            3001 => "disconnected by a drain",
            3012 => "disconnected for a missing pong",
            3501 => "disconnected for a malformed message",
            1000 => "close echoed",
            1009 => "disconnected for a violation",
            3005 => "disconnected at the end of a token",
            3500 => "disconnected for a revoked token",
            _ => "disconnected",
        });
        let ended = code == 3005 && self.is_expired(witness.now_ms) || code == 3500 && self.is_revoked;
        if self.earned.contains(&code) || ended {
            Ok(())
        } else {
            Err(format!("closed with {code}, which client {:?} of shard {} has not earned", self.key, self.shard))
        }
    }

    fn takes(&mut self, said: Said, witness: Witness<'_>, coverage: &mut Coverage) -> Verdict {
        let Said { reply, publications } = said;
        if witness.tracing {
            self.heard.push(hears(&reply, &publications));
        }
        if let Some(push) = reply.push {
            let channel = if push.id != 0 {
                self.ids.get(&push.id).ok_or_else(|| format!("a push names the unknown id {}", push.id))?
            } else {
                &push.channel
            };
            let told = push.unsubscribe.map(|unsubscribe| unsubscribe.code);
            let held = self.held.get_mut(channel).ok_or_else(|| format!("a push for {channel}, which is not subscribed ({told:?})"))?;
            for publication in &publications {
                held.publication(publication, witness)?;
            }
            if let Some(code) = told {
                let channel = channel.clone();
                if code == 2501 {
                    coverage.note("unsubscribed for want of permission");
                    if self.passes.last().is_none_or(|pass| pass.permits(&channel)) {
                        return Err(format!("{channel} is unsubscribed with 2501, and its client may have it"));
                    }
                    self.leaves(&channel);
                    return Ok(());
                }
                if code != 2500 {
                    return Err(format!("{channel} is unsubscribed with {code}"));
                }
                coverage.note("told 2500");
                let name = Subject::called(&channel, 1024)?;
                if !witness.is_upset(&name) && !witness.may_have_forgotten(&name) {
                    return Err(format!("rule 11: {channel} is unsubscribed with 2500, and nothing happened to it"));
                }
                self.leaves(&channel);
            }
            return Ok(());
        }
        if reply.id == 0 {
            self.pongs_owed += 1;
            coverage.note("pinged");
            return if witness.settings.ping_interval_ms > 0 { Ok(()) } else { Err("a ping that nobody agreed on".to_owned()) };
        }
        let open =
            self.open.remove(&reply.id).ok_or_else(|| format!("rule 15: command {} is answered twice, or was never sent", reply.id))?;
        let said = self.said.remove(&reply.id).unwrap_or_default();
        if let Some(error) = &reply.error {
            return self.refused(&open, said, error, witness, coverage);
        }
        match open {
            Open::Connect => {
                self.connected = reply.connect.is_some();
                let is_late = self.passes.last().is_some_and(|pass| pass.ends_ms <= said.now_ms);
                if is_late { Err("a token that had ended was taken".to_owned()) } else { Ok(()) }
            }
            Open::Refresh(pass) => {
                coverage.note("a token was refreshed");
                self.passes.push(pass);
                reply.refresh.map(|_| ()).ok_or_else(|| "a refresh is answered with its result".to_owned())
            }
            Open::Subscribe { channel, asked, .. } => {
                let result = reply.subscribe.ok_or("a subscribe is answered with its result")?;
                if !self.passes.is_empty() && !self.passes.iter().any(|pass| pass.permits(&channel)) {
                    return Err(format!("{channel} is granted to who may not have it"));
                }
                if self.held.contains_key(&channel) {
                    return Err(format!("rule 7: {channel} is subscribed twice"));
                }
                if (result.id != 0) != (asked.numeric && !is_seen(&channel)) {
                    return Err("a numeric id is granted to who offers it".to_owned());
                }
                if result.id != 0 {
                    let other = self.ids.insert(result.id, channel.clone());
                    if other.as_ref().is_some_and(|other| *other != channel) {
                        return Err(format!("id {} was {other:?} and is {channel} now", result.id));
                    }
                }
                coverage.note_if(self.subscribes(&channel), "granted with another subscribe behind it");
                let followed = Followed::begin(&channel, &asked, &result, &publications, witness, coverage)?;
                self.held.insert(channel, followed);
                Ok(())
            }
            Open::Unsubscribe { channel } => {
                self.leaves(&channel);
                reply.unsubscribe.map(|_| ()).ok_or_else(|| "an unsubscribe is answered with its result".to_owned())
            }
            Open::Publish { number, channel, .. } => {
                coverage.note("publish acknowledged");
                if !self.passes.is_empty() && !self.passes.iter().any(|pass| pass.lets_publish(&channel)) {
                    return Err(format!("publish {number} is acknowledged to who may not publish"));
                }
                let fates = witness.fates_of(number, &channel);
                coverage.note_if(fates.len() > 1, "a publish to several topics acknowledged");
                if number > 0 && !fates.iter().all(|fate| matches!(fate, Some(PublishResult::Stored { .. }))) {
                    return Err(format!("rule 15: publish {number} is acknowledged, and Kafka said {fates:?}"));
                }
                reply.publish.map(|_| ()).ok_or_else(|| "a publish is answered with its result".to_owned())
            }
            Open::History { channel, page } => {
                let result = reply.history.ok_or("a history is answered with its result")?;
                if !self.passes.is_empty() && !self.passes.iter().any(|pass| pass.permits(&channel)) {
                    return Err(format!("history of {channel} is told to who may not have it"));
                }
                coverage.note_if(publications.len() > 1, "a page of history");
                judge_history(&channel, &page, &result, &publications, witness)
            }
            Open::Presence | Open::Rpc => Err("presence and rpc are not offered".to_owned()),
        }
    }

    fn leaves(&mut self, channel: &str) {
        if let Some(followed) = self.held.remove(channel)
            && followed.recoverable
        {
            self.positions.insert(channel.to_owned(), followed.kept);
        }
    }

    /// Whether an error has its reason.
    fn refused(&self, open: &Open, said: Moment, error: &wire::Error, witness: Witness<'_>, coverage: &mut Coverage) -> Verdict {
        let code = error.code;
        coverage.note(match code {
            100 => "error 100",
            102 => "error 102",
            103 => "error 103",
            104 => "error 104",
            105 => "error 105",
            106 => "error 106",
            107 => "error 107",
            108 => "error 108",
            109 => "error 109",
            112 => "error 112",
            400 => "error 400",
            401 => "error 401",
            _ => "another error",
        });
        // What was asked for was held for as long as may be, no map was there, or there was no room to hold it.
        let waited = witness.now_ms >= said.now_ms + HOLD_MS;
        let began = said.version <= 1 && said.maps_move;
        let held_full = witness.node.open_most >= witness.settings.held_max;
        let not_ready = waited || began || held_full;
        let moved = said.maps_move || witness.node.version() != said.version;
        let steady = |channel: &str| {
            Subject::called(channel, 1024).is_ok_and(|name| witness.kafka.topic(name.topic()).is_some_and(FakeTopic::is_steady))
        };
        let bad = |channel: &str| Subject::parse(channel, witness.settings.subject_bytes_max).is_err();
        let forbids = |channel: &str| self.passes.iter().any(|pass| !pass.permits(channel));
        let right = match open {
            // Its token ended while it was on its way.
            Open::Refresh(pass) if code == 109 => pass.ends_ms <= witness.now_ms || self.is_expired(witness.now_ms),
            _ if code == 109 => self.is_expired(witness.now_ms),
            Open::Connect | Open::Refresh(_) => code == 103 && self.is_revoked,
            Open::Subscribe { channel, asked, left } => match code {
                100 => !bad(channel) && (not_ready || *left),
                102 => !bad(channel) && !steady(channel),
                103 => forbids(channel),
                105 => self.held.contains_key(channel) || self.subscribes(channel),
                106 => {
                    let others = self.open.values().filter(|open| matches!(open, Open::Subscribe { .. })).count();
                    self.held.len() + others >= witness.settings.subscriptions_max
                }
                107 => bad(channel),
                112 => asked.strict,
                _ => false,
            },
            Open::Unsubscribe { .. } => false,
            Open::Publish { channel, bytes, number } => {
                // Tombstones carry no number.
                let fates = if *number > 0 { witness.fates_of(*number, channel) } else { vec![None] };
                coverage.note_if(fates.len() > 1 && code == 401, "a publish to several topics that some may lack");
                let is_failure = |fate: &Option<PublishResult>| matches!(fate, None | Some(PublishResult::Failed(_)));
                // A code but 401 says that no topic has it.
                code == 401 && !bad(channel)
                    || fates.iter().all(is_failure)
                        && fates.iter().any(|fate| match code {
                            106 => *bytes > witness.settings.publish_bytes_max && fate.is_none(),
                            107 => bad(channel) && fate.is_none(),
                            // Held for too long, whatever it is; never handed over.
                            100 => fate.is_none() && (waited || began) || fates.len() > 1 && waited,
                            // Kafka said so of the record, or of the topic when that was looked up.
                            102 => !bad(channel) && matches!(fate, None | Some(PublishResult::Failed(PublishFailure::NoSuchTopic))),
                            103 if fate.is_none() && self.passes.iter().any(|pass| !pass.lets_publish(channel)) => true,
                            103 => !bad(channel) && (*number == 0 || matches!(fate, Some(PublishResult::Failed(PublishFailure::Denied)))),
                            400 => !bad(channel) && matches!(fate, None | Some(PublishResult::Failed(PublishFailure::Unavailable))),
                            _ => false,
                        })
            }
            Open::History { channel, page } => match code {
                103 => forbids(channel),
                107 => bad(channel),
                112 => page.since.is_some(),
                100 => !bad(channel) && (not_ready || moved),
                102 => !bad(channel) && !steady(channel),
                _ => false,
            },
            Open::Presence => code == 108,
            Open::Rpc => code == 104,
        };
        if !right {
            return Err(format!("{open:?} is refused with {code}: {}", error.message));
        }
        if error.temporary == matches!(code, 100 | 400) { Ok(()) } else { Err(format!("error {code} says temporary: {}", error.temporary)) }
    }

    /// At the end, when all is quiet: every command has its answer, every subscription has everything.
    pub fn has_everything(&self, witness: Witness<'_>) -> Verdict {
        if let Some((id, open)) = self.open.iter().next() {
            return Err(format!("rule 15: command {id} has no answer: {open:?}"));
        }
        if let Some(pass) = self.passes.last().filter(|_| self.closed.is_none()) {
            if self.is_revoked || self.is_expired(witness.now_ms) {
                return Err(format!("a connection outlives its {pass:?}"));
            }
            if let Some(channel) = self.held.keys().find(|channel| !pass.permits(channel)) {
                return Err(format!("{channel} is held without permission by {pass:?}"));
            }
        }
        self.held.values().try_for_each(|followed| followed.has_everything(witness))
    }
}

/// A reply in short, for the trace.
fn hears(reply: &wire::Reply, publications: &[Publication]) -> String {
    let wire::Reply { id, error, push, subscribe, history, .. } = reply;
    match (error, push, subscribe, history) {
        (Some(error), ..) => format!("error {} to command {id}", error.code),
        (_, Some(push), ..) => {
            let told = push.unsubscribe.as_ref().map(|unsubscribe| unsubscribe.code);
            format!("push {}{}: {publications:?} {}", push.channel, push.id, told.map(|code| code.to_string()).unwrap_or_default())
        }
        (_, _, Some(result), _) => format!(
            "command {id}: subscribed at {} of {:?}, recovered {}, recoverable {}, id {}: {publications:?}",
            result.offset, result.epoch, result.recovered, result.recoverable, result.id
        ),
        (.., Some(result)) => format!("command {id}: history at {} of {:?}: {publications:?}", result.offset, result.epoch),
        _ => format!("command {id}: done"),
    }
}
