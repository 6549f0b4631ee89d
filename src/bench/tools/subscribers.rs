//! `sub`: connections that subscribe, and the books of what each of them got.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use super::connection::{Ended, Happened};
use super::crowd::{Crowd, Owner};
use super::dialect::{CONNECT_ID, Dialect, SUBSCRIBE_ID, Said};
use super::failed::ToolFailed;
use super::message::put;
use super::opening::{crowd_plan, dialect, settings, tokens};
use super::options::SubOptions;
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::stamp::{find, now_us};
use crate::bench::account::Ledger;
use crate::bench::report::Worker;
use crate::kafka::load::thread_cpu_seconds;

/// How long a server has to answer the last connection.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long after the last record that was expected one too many would still be seen.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Failures that are told by name; all are counted.
const TOLD_MAX: usize = 5;

#[derive(Default)]
struct Subscriber {
    /// One for each sender, by the hash of its name; there are few.
    ledgers: Vec<(u64, Ledger)>,
    received: u64,
    is_subscribed: bool,
    is_ended: bool,
}

/// All subscribers.
struct Subscribers<'a> {
    dialect: &'a Dialect,
    subscribers: Vec<Subscriber>,
    opening: Box<dyn Fn(usize) -> Vec<u8> + 'a>,
    expect: Option<u64>,
    hasher: FixedState,
    /// While it measures.
    recorder: Option<Recorder>,
    received: u64,
    measured: u64,
    /// How many have got all that was expected, and how many are subscribed or will never be.
    satisfied: usize,
    settled: usize,
    subscribed: usize,
    /// How many that were subscribed have ended.
    gone: usize,
    closes: u64,
    refused: u64,
    unsubscribes: u64,
    unstamped: u64,
    not_understood: u64,
    errors: BTreeMap<u64, u64>,
    told: Vec<String>,
}

impl Subscribers<'_> {
    fn tell(&mut self, line: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }

    fn subscribed(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if !subscriber.is_subscribed && !subscriber.is_ended {
            subscriber.is_subscribed = true;
            self.subscribed += 1;
            self.settled += 1;
        }
    }

    /// A record: into the books of its connection.
    fn record(&mut self, number: usize, record: &[u8], now_us: u64) {
        let subscriber = &mut self.subscribers[number];
        subscriber.received += 1;
        self.received += 1;
        if let Some(stamp) = find(record) {
            let from = self.hasher.hash_one(stamp.from);
            let place = subscriber.ledgers.iter().position(|(sender, _)| *sender == from);
            let place = place.unwrap_or_else(|| {
                let ledger = if self.expect.is_some() { Ledger::default() } else { Ledger::joining(stamp.number) };
                subscriber.ledgers.push((from, ledger));
                subscriber.ledgers.len() - 1
            });
            subscriber.ledgers[place].1.record(stamp.number);
            if let Some(recorder) = &mut self.recorder {
                recorder.record(now_us.saturating_sub(stamp.due_us));
            }
        } else {
            self.unstamped += 1;
        }
        self.measured += u64::from(self.recorder.is_some());
        self.satisfied += usize::from(self.expect == Some(subscriber.received));
    }

    /// Whether something is still to come: not if all have what was expected, or all are gone.
    fn awaits(&self) -> bool {
        self.subscribed > self.gone && (self.expect.is_none() || self.satisfied < self.subscribers.len())
    }
}

impl Owner for Subscribers<'_> {
    fn happened(&mut self, number: usize, what: Happened<'_>, out: &mut Vec<u8>) {
        let payload = match what {
            Happened::Open => {
                put(out, self.dialect.opcode(), &(self.opening)(number));
                if matches!(self.dialect, Dialect::Template(_)) {
                    self.subscribed(number);
                }
                return;
            }
            Happened::Message(payload) => payload,
        };
        let (dialect, now_us) = (self.dialect, now_us());
        let understood = dialect.each(payload, |said| match said {
            Said::Ping => put(out, dialect.opcode(), dialect.pong()),
            Said::Record(record) => self.record(number, record, now_us),
            Said::Reply { id: SUBSCRIBE_ID, error: None } => self.subscribed(number),
            Said::Reply { id, error: Some(code) } => {
                *self.errors.entry(code).or_default() += 1;
                let what = if id == CONNECT_ID { "the connect" } else { "the subscribe" };
                self.tell(format!("client {number}: {what} was refused with error {code}"));
                let subscriber = &mut self.subscribers[number];
                if !subscriber.is_subscribed && !subscriber.is_ended {
                    subscriber.is_ended = true;
                    self.refused += 1;
                    self.settled += 1;
                }
            }
            Said::Reply { .. } | Said::Other => {}
            Said::Unsubscribed => {
                self.unsubscribes += 1;
                self.tell(format!("client {number} was unsubscribed"));
            }
            // The close that follows is what is counted.
            Said::Disconnected => {}
        });
        if !understood {
            self.not_understood += 1;
            let head = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
            self.tell(format!("client {number} got what is not understood: {head}"));
        }
    }

    fn ended(&mut self, number: usize, why: &Ended) {
        self.closes += 1;
        self.tell(format!("client {number}: {why}"));
        let subscriber = &mut self.subscribers[number];
        if !subscriber.is_subscribed && !subscriber.is_ended {
            self.settled += 1;
        }
        self.gone += usize::from(subscriber.is_subscribed);
        subscriber.is_ended = true;
    }
}

/// Runs `sub`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &SubOptions) -> Result<Report, ToolFailed> {
    let dialect = dialect(options.connect.protocol, options.subscribe_message.as_deref());
    let tokens = tokens(&options.connect)?;
    let count = options.connect.connections as usize;
    let mut crowd = Crowd::new(crowd_plan(&options.connect, dialect.clone())?)?;
    let opening = |number: usize| {
        let subject = options.connect.subject.of(number as u64);
        dialect.opening(tokens.get(number % tokens.len().max(1)).map_or("", String::as_str), Some(&subject), number as u64)
    };
    let mut subscribers = Subscribers {
        dialect: &dialect,
        subscribers: (0..count).map(|_| Subscriber::default()).collect(),
        opening: Box::new(opening),
        expect: options.expect,
        hasher: FixedState::default(),
        recorder: None,
        received: 0,
        measured: 0,
        satisfied: 0,
        settled: 0,
        subscribed: 0,
        gone: 0,
        closes: 0,
        refused: 0,
        unsubscribes: 0,
        unstamped: 0,
        not_understood: 0,
        errors: BTreeMap::new(),
        told: Vec::new(),
    };
    let mut worker = Worker::new("this tool's receiving thread");
    let deadline = Instant::now() + Duration::from_secs(options.connect.connections / options.connect.connect_rate) + ANSWER_TIME;
    while subscribers.settled < count && Instant::now() < deadline {
        crowd.begin_due(&mut subscribers);
        let wait = if crowd.is_complete() { 20 } else { 1 };
        crowd.turn(Duration::from_millis(wait), &mut subscribers)?;
    }
    let progress = Progress::new(options.run.progress);
    progress.note(&format!("subscribed: {} of {count} connections", subscribers.subscribed));
    let warm = Instant::now() + Duration::from_secs(options.run.warm_up_seconds);
    while Instant::now() < warm && subscribers.awaits() {
        crowd.turn(Duration::from_millis(20), &mut subscribers)?;
    }
    let (began, cpu) = (Instant::now(), thread_cpu_seconds());
    subscribers.recorder = Some(Recorder::begin(options.run.log.as_deref(), "corespan-bench sub, latencies in microseconds")?);
    let time = Duration::from_secs(options.run.seconds);
    while began.elapsed() < time && subscribers.awaits() {
        let left = time.saturating_sub(began.elapsed()).min(Duration::from_millis(20));
        if let Some(took) = crowd.turn(left, &mut subscribers)? {
            worker.lagged_by(took);
        }
        if let Some(second) = subscribers.recorder.as_mut().and_then(Recorder::tick) {
            progress.show("sub", second);
        }
    }
    progress.end();
    let seconds = began.elapsed().as_secs_f64();
    worker.worked(thread_cpu_seconds() - cpu, seconds);
    let mut recorder = subscribers.recorder.take().ok_or_else(|| ToolFailed::Internal("the recorder is gone".to_owned()))?;
    recorder.end()?;
    let aftermath = Instant::now() + AFTERMATH;
    while options.expect.is_some() && Instant::now() < aftermath {
        crowd.turn(Duration::from_millis(20), &mut subscribers)?;
    }
    Ok(settle(options, subscribers, recorder, seconds, worker))
}

/// Adds up the books.
fn settle(options: &SubOptions, subscribers: Subscribers<'_>, recorder: Recorder, seconds: f64, worker: Worker) -> Report {
    let count = subscribers.subscribers.len() as u64;
    let (mut lost, mut doubled, mut out_of_order, mut silent, mut extra) = (0, 0, 0, 0, 0);
    let mut told = subscribers.told;
    for (number, subscriber) in subscribers.subscribers.iter().enumerate() {
        let sum = |of: fn(&Ledger) -> u64| subscriber.ledgers.iter().map(|(_, ledger)| of(ledger)).sum::<u64>();
        let mut missing = sum(Ledger::lost);
        if let Some(expect) = options.expect {
            // What is beyond the last that came has left no gap.
            let seen = if subscriber.ledgers.is_empty() { subscriber.received } else { sum(Ledger::last) };
            missing += expect.saturating_sub(seen);
            extra += seen.saturating_sub(expect);
        }
        if told.len() < TOLD_MAX && missing + sum(Ledger::doubled) + sum(Ledger::out_of_order) > 0 {
            let (doubled, out_of_order) = (sum(Ledger::doubled), sum(Ledger::out_of_order));
            told.push(format!(
                "client {number} ({}): {} received, {missing} lost, {doubled} doubled, {out_of_order} out of order",
                options.connect.subject.of(number as u64),
                subscriber.received
            ));
        }
        lost += missing;
        doubled += sum(Ledger::doubled);
        out_of_order += sum(Ledger::out_of_order);
        silent += u64::from(subscriber.received == 0);
    }
    let counts = BTreeMap::from([
        ("connections", count),
        ("subscribed", subscribers.subscribed as u64),
        ("received", subscribers.received),
        ("received_measured", subscribers.measured),
        ("lost", lost),
        ("doubled", doubled),
        ("out_of_order", out_of_order),
        ("unexpected", extra),
        ("silent_clients", silent),
        ("closes", subscribers.closes),
        ("unsubscribes", subscribers.unsubscribes),
        ("refused", subscribers.refused),
        ("not_subscribed", count - subscribers.subscribed as u64),
        ("not_understood", subscribers.not_understood),
        ("without_stamp", subscribers.unstamped),
    ]);
    // A template's messages need no stamp.
    let unstamped = if options.subscribe_message.is_none() { "without_stamp" } else { "lost" };
    let faults = [
        "lost",
        "doubled",
        "out_of_order",
        "unexpected",
        "silent_clients",
        "closes",
        "unsubscribes",
        "refused",
        "not_subscribed",
        "not_understood",
        unstamped,
    ];
    let mut seen = std::collections::BTreeSet::new();
    let faults = faults.into_iter().filter(|name| counts[name] > 0 && seen.insert(*name));
    let mut failures: Vec<String> = faults.map(|name| format!("{} {}", counts[name], name.replace('_', " "))).collect();
    if !failures.is_empty() {
        failures.extend(told);
    }
    Report {
        tool: "sub",
        settings: settings(
            &options.connect,
            &options.run,
            serde_json::json!({ "expect": options.expect, "subscribe_message": options.subscribe_message }),
        ),
        recorder,
        seconds,
        counts,
        errors: subscribers.errors,
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up: None,
        failures,
    }
}
