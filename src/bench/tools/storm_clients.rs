//! The clients of a storm: each remembers where its subscription stands, and takes it up there when it comes back.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::agenda::{Agenda, Deed};
use super::books::Books;
use super::connection::{Ended, Happened};
use super::crowd::Owner;
use super::dialect::{CONNECT_ID, Dialect, SUBSCRIBE_ID, Said};
use super::message::put;
use super::position::{Position, granted, offset, subscribe};
use super::recorder::Recorder;
use super::stamp::{find, now_us};
use crate::kafka::load::latencies;

/// After what a client tries again that was given no time for it, as SDKs do after their first waits.
const AGAIN_US: u64 = 500_000;
/// The longest that a server may send a client away for: a run does not take days.
const RETRY_AFTER_SECONDS_MAX: u64 = 60;
const TOLD_MAX: usize = 5;

/// One of them.
#[derive(Default)]
struct Client {
    subject: String,
    books: Books,
    position: Option<Position>,
    /// When its present coming was due.
    due_us: u64,
    was_here: bool,
    is_subscribed: bool,
    /// On a connection that is there.
    is_to_subscribe_again: bool,
    /// Refused for good.
    is_refused: bool,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub cuts: u64,
    /// Due to be cut when it was not there.
    pub cuts_skipped: u64,
    pub recovered: u64,
    pub unrecovered: u64,
    pub busy: u64,
    pub refused: u64,
    pub closes: u64,
    pub unsubscribes: u64,
    pub tried_again: u64,
    pub not_understood: u64,
    pub received: u64,
    pub unstamped: u64,
}

/// All of them.
pub struct StormClients<'a> {
    dialect: &'a Dialect,
    tokens: Vec<String>,
    clients: Vec<Client>,
    expect: Option<u64>,
    pub agenda: Agenda,
    pub tally: Tally,
    pub errors: BTreeMap<u64, u64>,
    pub told: Vec<String>,
    /// Until subscribed or recovered, from the time when it was due, as the next two; since the recorder is there.
    pub recorder: Option<Recorder>,
    pub connects: Histogram<u64>,
    pub subscribes: Histogram<u64>,
    pub recoveries: Histogram<u64>,
    pub records: Histogram<u64>,
    subscribed: usize,
    refused: usize,
    satisfied: usize,
}

impl<'a> StormClients<'a> {
    /// None has begun.
    pub fn new(dialect: &'a Dialect, tokens: Vec<String>, subjects: Vec<String>, expect: Option<u64>) -> StormClients<'a> {
        let client = |subject| Client { subject, ..Client::default() };
        StormClients {
            dialect,
            tokens,
            clients: subjects.into_iter().map(client).collect(),
            expect,
            agenda: Agenda::default(),
            tally: Tally::default(),
            errors: BTreeMap::new(),
            told: Vec::new(),
            recorder: None,
            connects: latencies(),
            subscribes: latencies(),
            recoveries: latencies(),
            records: latencies(),
            subscribed: 0,
            refused: 0,
            satisfied: 0,
        }
    }

    /// How many are subscribed now.
    pub fn subscribed(&self) -> usize {
        self.subscribed
    }

    /// Whether everybody who will ever be subscribed is.
    pub fn is_settled(&self) -> bool {
        self.subscribed + self.refused == self.clients.len()
    }

    /// Whether everybody has got as many records as were expected.
    pub fn is_satisfied(&self) -> bool {
        self.expect.is_none() || self.satisfied == self.clients.len()
    }

    /// Subjects and books of all.
    pub fn books(&self) -> impl Iterator<Item = (&str, &Books)> {
        self.clients.iter().map(|client| (client.subject.as_str(), &client.books))
    }

    /// It was to come at that time, for the first time since it was here or not.
    pub fn comes(&mut self, number: usize, due_us: u64) {
        let client = &mut self.clients[number];
        if client.due_us == 0 {
            client.due_us = due_us;
        }
    }

    /// Whether it is there to be cut. It is to come back at that time.
    pub fn cut(&mut self, number: usize, back_us: u64) -> bool {
        if !self.clients[number].is_subscribed {
            self.tally.cuts_skipped += 1;
            return false;
        }
        self.tally.cuts += 1;
        self.leave(number);
        self.agenda.put(back_us, number, Deed::Begin);
        true
    }

    /// The subscribe that it sends on the same connection again; none if another has come between, whose first words had it.
    pub fn subscribes_again(&mut self, number: usize) -> Option<Vec<u8>> {
        let is_to = std::mem::take(&mut self.clients[number].is_to_subscribe_again);
        is_to.then(|| self.subscribe(number))
    }

    fn subscribe(&self, number: usize) -> Vec<u8> {
        let client = &self.clients[number];
        subscribe(self.dialect, SUBSCRIBE_ID, &client.subject, client.position.as_ref())
    }

    fn leave(&mut self, number: usize) {
        let client = &mut self.clients[number];
        self.subscribed -= usize::from(client.is_subscribed);
        client.is_subscribed = false;
        client.is_to_subscribe_again = false;
        client.due_us = 0;
    }

    fn tell(&mut self, line: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }

    fn reply(&mut self, number: usize, id: u64, error: Option<u64>, body: &[u8]) {
        let now = now_us();
        if let Some(code) = error {
            *self.errors.entry(code).or_default() += 1;
            // Temporary errors are tried again, as SDKs do.
            if matches!(code, 100 | 400) && id == SUBSCRIBE_ID {
                self.tally.tried_again += 1;
                self.clients[number].is_to_subscribe_again = true;
                self.agenda.put(now + AGAIN_US, number, Deed::Subscribe);
            } else if !self.clients[number].is_refused {
                self.clients[number].is_refused = true;
                self.leave(number);
                self.refused += 1;
                self.tally.refused += 1;
                self.tell(format!("client {number}: error {code}"));
            }
            return;
        }
        let took = now.saturating_sub(self.clients[number].due_us);
        match id {
            CONNECT_ID if self.recorder.is_some() => self.connects.saturating_record(took),
            SUBSCRIBE_ID => self.granted(number, took, body),
            _ => {}
        }
    }

    fn granted(&mut self, number: usize, took: u64, body: &[u8]) {
        let Some(granted) = granted(self.dialect, body) else {
            self.tally.not_understood += 1;
            return;
        };
        let client = &mut self.clients[number];
        if client.is_subscribed || client.is_refused {
            return;
        }
        client.is_subscribed = true;
        self.subscribed += 1;
        let was_here = std::mem::replace(&mut client.was_here, true);
        client.position = granted.position;
        if was_here && !granted.is_recovered {
            client.books.close();
            self.tally.unrecovered += 1;
            self.tell(format!("client {number} came back, and was told that nothing is recovered"));
        }
        self.tally.recovered += u64::from(was_here && granted.is_recovered);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(took);
            let own = if was_here { &mut self.recoveries } else { &mut self.subscribes };
            own.saturating_record(took);
        }
        for record in &granted.records {
            self.record(number, record);
        }
    }

    fn record(&mut self, number: usize, record: &[u8]) {
        self.tally.received += 1;
        let (stamp, client) = (find(record), &mut self.clients[number]);
        client.books.record(stamp.as_ref(), self.expect.is_none());
        self.satisfied += usize::from(self.expect == Some(client.books.received()));
        match stamp {
            Some(stamp) => self.records.saturating_record(now_us().saturating_sub(stamp.due_us)),
            None => self.tally.unstamped += 1,
        }
    }

    fn moved(&mut self, number: usize, record: &[u8]) {
        if let Some(position) = &mut self.clients[number].position {
            position.offset = position.offset.max(offset(self.dialect, record));
        }
    }
}

impl Owner for StormClients<'_> {
    fn happened(&mut self, number: usize, what: Happened<'_>, out: &mut Vec<u8>) {
        let dialect = self.dialect;
        let payload = match what {
            Happened::Open => {
                let token = self.tokens.get(number % self.tokens.len().max(1)).map_or("", String::as_str);
                put(out, dialect.opcode(), &dialect.opening(token, None, number as u64));
                put(out, dialect.opcode(), &self.subscribe(number));
                return;
            }
            Happened::Message(payload) => payload,
        };
        let understood = dialect.each(payload, |said| match said {
            Said::Ping => put(out, dialect.opcode(), dialect.pong()),
            Said::Reply { id, error, body } => self.reply(number, id, error, body),
            Said::Record(record) => {
                self.record(number, record);
                self.moved(number, record);
            }
            Said::Unsubscribed { code } => {
                self.tally.unsubscribes += 1;
                self.tell(format!("client {number} was unsubscribed, code {code}"));
                self.leave(number);
                let now = now_us();
                self.comes(number, now);
                self.clients[number].is_to_subscribe_again = true;
                self.agenda.put(now, number, Deed::Subscribe);
            }
            Said::Disconnected | Said::Other => {}
        });
        self.tally.not_understood += u64::from(!understood);
    }

    /// Only the server ends connections here: what this tool cuts is not told.
    fn ended(&mut self, number: usize, why: &Ended) {
        let now = now_us();
        let due_us = std::mem::take(&mut self.clients[number].due_us);
        let was_subscribed = self.clients[number].is_subscribed;
        self.leave(number);
        if self.clients[number].is_refused {
            return;
        }
        // Who was on its way is still late.
        if !was_subscribed {
            self.clients[number].due_us = due_us;
        }
        let again_us = match why {
            Ended::Refused { status: 503, retry_after_seconds, .. } => {
                self.tally.busy += 1;
                retry_after_seconds.map_or(AGAIN_US, |seconds| seconds.min(RETRY_AFTER_SECONDS_MAX) * 1_000_000)
            }
            why => {
                self.tally.closes += 1;
                self.tell(format!("client {number}: {why}"));
                AGAIN_US
            }
        };
        self.tally.tried_again += 1;
        self.agenda.put(now + again_us, number, Deed::Begin);
    }
}
