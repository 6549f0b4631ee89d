//! `sub`: connections that subscribe, and the books of what each of them got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::books::{Books, Faults};
use super::connection::{Ended, Happened};
use super::crowd::{Crowd, CrowdPlan, Owner};
use super::cues::{Cue, Cues};
use super::dialect::{CONNECT_ID, Dialect, SUBSCRIBE_ID, Said};
use super::failed::ToolFailed;
use super::flows::{Flows, Senders};
use super::message::put;
use super::opening::{crowd_plan, dialect, settings, tokens};
use super::options::SubOptions;
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::stamp::{find, now_us};
use crate::bench::report::Worker;
use crate::kafka::load::thread_cpu_seconds;

/// How long a server has to answer the last connection.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long after the last record that was expected one too many would still be seen.
const AFTERMATH: Duration = Duration::from_millis(300);
/// How long slow readers are given at the end to hear what they were told, and how fast they read then.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LAST_BYTES_PER_SECOND: u64 = 100_000_000;
/// Failures that are told by name; all are counted.
const TOLD_MAX: usize = 5;

#[derive(Default)]
struct Subscriber {
    books: Books,
    is_subscribed: bool,
    is_ended: bool,
}

/// All subscribers.
struct Subscribers<'a> {
    dialect: &'a Dialect,
    subscribers: Vec<Subscriber>,
    opening: Box<dyn Fn(usize) -> Vec<u8> + 'a>,
    expect: Option<u64>,
    senders: Senders,
    /// Everybody was there before the first record.
    from_the_first: bool,
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
    /// Of the unsubscribes and closes, those that say that a client lags.
    told_2500: u64,
    told_3008: u64,
    /// Closes without a word: a server cannot tell a reason to whom it cannot write.
    gone_unsaid: u64,
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
        let stamp = find(record);
        let books = &mut self.subscribers[number].books;
        if let (Some(new), Some(stamp)) = (books.record(stamp.as_ref(), !self.from_the_first), &stamp) {
            self.senders.note(new, stamp.from);
        }
        self.received += 1;
        self.satisfied += usize::from(self.expect == Some(books.received()));
        match (stamp, &mut self.recorder) {
            (Some(stamp), Some(recorder)) => recorder.record(now_us.saturating_sub(stamp.due_us)),
            (Some(_), None) => {}
            (None, _) => self.unstamped += 1,
        }
        self.measured += u64::from(self.recorder.is_some());
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
            Said::Reply { id: SUBSCRIBE_ID, error: None, .. } => self.subscribed(number),
            Said::Reply { id, error: Some(code), .. } => {
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
            Said::Unsubscribed { code } => {
                self.unsubscribes += 1;
                self.told_2500 += u64::from(code == 2_500);
                self.tell(format!("client {number} was unsubscribed, code {code}"));
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
        match why {
            Ended::Closed { code: 3_008, .. } => self.told_3008 += 1,
            Ended::Gone | Ended::Socket(_) => self.gone_unsaid += 1,
            _ => {}
        }
        self.tell(format!("client {number}: {why}"));
        let subscriber = &mut self.subscribers[number];
        if !subscriber.is_subscribed && !subscriber.is_ended {
            self.settled += 1;
        }
        self.gone += usize::from(subscriber.is_subscribed);
        subscriber.is_ended = true;
    }
}

/// How subscribers behave.
pub struct Manner {
    /// As in the report.
    pub tool: &'static str,
    /// Of each connection, once all have subscribed; as they come if there is none.
    pub read_bytes_per_second: Option<u64>,
    pub receive_buffer_bytes: Option<usize>,
    /// Whether it is no failure to be told that one lags.
    pub may_be_told: bool,
}

/// Runs `sub`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &SubOptions) -> Result<Report, ToolFailed> {
    gather(options, &Manner { tool: "sub", read_bytes_per_second: None, receive_buffer_bytes: None, may_be_told: false })
}

/// Subscribes, receives, and adds up.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn gather(options: &SubOptions, manner: &Manner) -> Result<Report, ToolFailed> {
    let dialect = dialect(options.connect.protocol, options.subscribe_message.as_deref());
    let tokens = tokens(&options.connect)?;
    let count = options.connect.connections as usize;
    let plan = CrowdPlan { receive_buffer_bytes: manner.receive_buffer_bytes, ..crowd_plan(&options.connect, dialect.clone())? };
    let mut crowd = Crowd::new(plan)?;
    let opening = |number: usize| {
        let subject = options.connect.subject.of(number as u64);
        dialect.opening(tokens.get(number % tokens.len().max(1)).map_or("", String::as_str), Some(&subject), number as u64)
    };
    let mut subscribers = Subscribers {
        dialect: &dialect,
        subscribers: (0..count).map(|_| Subscriber::default()).collect(),
        opening: Box::new(opening),
        expect: options.expect,
        senders: Senders::default(),
        from_the_first: options.expect.is_some() || options.run.cued,
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
        told_2500: 0,
        told_3008: 0,
        gone_unsaid: 0,
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
    let cues = Cues::new(options.run.cued)?;
    cues.ready();
    if manner.read_bytes_per_second.is_some() {
        crowd.read_slowly(manner.read_bytes_per_second)?;
    }
    let mut warm_up = cues.phase(&[Cue::Measure], Duration::from_secs(options.run.warm_up_seconds));
    while warm_up.goes_on(subscribers.received)? && subscribers.awaits() {
        crowd.turn(Duration::from_millis(20), &mut subscribers)?;
    }
    let (began, cpu) = (Instant::now(), thread_cpu_seconds());
    subscribers.recorder =
        Some(Recorder::begin(options.run.log.as_deref(), &format!("corespan-bench {}, latencies in microseconds", manner.tool))?);
    let mut steady = cues.phase(&[Cue::Rest, Cue::End], Duration::from_secs(options.run.seconds));
    while steady.goes_on(subscribers.received)? && subscribers.awaits() {
        let left = steady.left().min(Duration::from_millis(20));
        if let Some(took) = crowd.turn(left, &mut subscribers)? {
            worker.lagged_by(took);
        }
        if let Some(second) = subscribers.recorder.as_mut().and_then(Recorder::tick) {
            progress.show(manner.tool, second);
        }
    }
    progress.end();
    let seconds = began.elapsed().as_secs_f64();
    worker.worked(thread_cpu_seconds() - cpu, seconds);
    // What was sent until now may still be on its way.
    let mut rest = cues.phase(&[Cue::End], Duration::ZERO);
    while !steady.ended_by(Cue::End) && rest.goes_on(subscribers.received)? && subscribers.awaits() {
        crowd.turn(Duration::from_millis(20), &mut subscribers)?;
    }
    let mut recorder = subscribers.recorder.take().ok_or_else(|| ToolFailed::Internal("the recorder is gone".to_owned()))?;
    recorder.end()?;
    let aftermath = Instant::now() + AFTERMATH;
    while subscribers.from_the_first && Instant::now() < aftermath {
        crowd.turn(Duration::from_millis(20), &mut subscribers)?;
    }
    if manner.read_bytes_per_second.is_some() {
        hear_last_words(&mut crowd, &mut subscribers)?;
    }
    Ok(settle(options, manner, subscribers, recorder, seconds, worker))
}

/// What slow readers were told stands behind all that they have not read: they read it now as fast as it comes, until nothing more does.
fn hear_last_words(crowd: &mut Crowd, subscribers: &mut Subscribers<'_>) -> Result<(), ToolFailed> {
    crowd.read_slowly(Some(LAST_BYTES_PER_SECOND))?;
    let (mut heard, mut quiet, deadline) = (0, Instant::now(), Instant::now() + LAST_WORDS);
    while quiet.elapsed() < AFTERMATH && Instant::now() < deadline {
        crowd.turn(Duration::from_millis(10), subscribers)?;
        let now = subscribers.received + subscribers.closes + subscribers.unsubscribes;
        if now > heard {
            (heard, quiet) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Adds up the books.
fn settle(options: &SubOptions, manner: &Manner, subscribers: Subscribers<'_>, recorder: Recorder, seconds: f64, worker: Worker) -> Report {
    let count = subscribers.subscribers.len() as u64;
    let (mut all, mut silent, mut extra) = (Faults::default(), 0, 0);
    let mut told = subscribers.told;
    let mut flows = Flows::default();
    for (number, subscriber) in subscribers.subscribers.iter().enumerate() {
        let mut faults = subscriber.books.faults();
        let (received, reached) = (subscriber.books.received(), subscriber.books.reached());
        if let Some(expect) = options.expect {
            // What is beyond the last that came has left no gap.
            faults.lost += expect.saturating_sub(reached);
            extra += reached.saturating_sub(expect);
        }
        if told.len() < TOLD_MAX && faults.any() {
            let Faults { lost, doubled, out_of_order } = faults;
            let subject = options.connect.subject.of(number as u64);
            told.push(format!(
                "client {number} ({subject}): {received} received, {lost} lost, {doubled} doubled, {out_of_order} out of order"
            ));
        }
        all.add(faults);
        silent += u64::from(received == 0);
        let subject = options.connect.subject.of(number as u64);
        for (sender, records) in subscriber.books.senders() {
            flows.add(subscribers.senders.name(sender), &subject, records);
        }
        if subscriber.is_subscribed {
            flows.add_subscriber(&subject);
        }
    }
    let counts = BTreeMap::from([
        ("connections", count),
        ("subscribed", subscribers.subscribed as u64),
        ("received", subscribers.received),
        ("received_measured", subscribers.measured),
        ("lost", all.lost),
        ("doubled", all.doubled),
        ("out_of_order", all.out_of_order),
        ("unexpected", extra),
        ("silent_clients", silent),
        ("closes", subscribers.closes),
        ("unsubscribes", subscribers.unsubscribes),
        ("told_2500", subscribers.told_2500),
        ("told_3008", subscribers.told_3008),
        ("gone_unsaid", subscribers.gone_unsaid),
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
    let excused = |name: &str| match name {
        "closes" if manner.may_be_told => subscribers.told_3008 + subscribers.gone_unsaid,
        "unsubscribes" if manner.may_be_told => subscribers.told_2500,
        // Who reads slowly enough gets nothing whole.
        "silent_clients" if manner.read_bytes_per_second.is_some() => silent,
        _ => 0,
    };
    let faults = faults.into_iter().filter(|name| seen.insert(*name)).map(|name| (name, counts[name] - excused(name)));
    let mut failures: Vec<String> =
        faults.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {}", name.replace('_', " "))).collect();
    if !failures.is_empty() {
        failures.extend(told);
    }
    Report {
        tool: manner.tool,
        settings: settings(
            &options.connect,
            &options.run,
            serde_json::json!({
                "expect": options.expect,
                "subscribe_message": options.subscribe_message,
                "read_bytes_per_second": manner.read_bytes_per_second,
            }),
        ),
        recorder,
        flows,
        also: BTreeMap::new(),
        seconds,
        counts,
        errors: subscribers.errors,
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up: None,
        failures,
    }
}
