//! `echo`: connections that publish to subjects of their own and hear themselves; a latency runs from the time when a publish was due until it is back.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::books::{Books, Faults};
use super::connection::{Ended, Happened};
use super::crowd::{Crowd, Owner};
use super::dialect::{CONNECT_ID, Dialect, SUBSCRIBE_ID, Said};
use super::echo_options::EchoOptions;
use super::failed::ToolFailed;
use super::flows::Flows;
use super::message::put;
use super::opening::{crowd_plan, dialect, settings, tokens};
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::schedule::{Schedule, hopeless};
use super::stamp::{Stamp, find, now_us, write};
use crate::bench::report::Worker;
use crate::kafka::load::{latencies, thread_cpu_seconds};

/// How long a server has to answer the last connection, and to send the last publish back.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long after the last record one too many would still be seen.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Bytes of a connection that may wait for its socket: more means that the server has stopped.
const OUT_BYTES_MAX: usize = 64 << 20;
const TOLD_MAX: usize = 5;

#[derive(Default)]
struct Speaker {
    subject: String,
    from: String,
    /// When each publish was due, by its number less 1; cleared with the speaker.
    due_us: Vec<u64>,
    books: Books,
    is_subscribed: bool,
    is_ended: bool,
}

/// All that speak and hear themselves.
struct Speakers<'a> {
    dialect: &'a Dialect,
    tokens: Vec<String>,
    speakers: Vec<Speaker>,
    /// What is due from here on is measured; nothing is before it is known.
    measured_from_us: u64,
    recorder: Option<Recorder>,
    replies: Histogram<u64>,
    settled: usize,
    subscribed: usize,
    acknowledged: u64,
    refused: u64,
    echoed: u64,
    /// Records of others on the same subjects.
    foreign: u64,
    closes: u64,
    unsubscribes: u64,
    not_understood: u64,
    errors: BTreeMap<u64, u64>,
    told: Vec<String>,
}

impl Speakers<'_> {
    fn tell(&mut self, line: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }

    fn reply(&mut self, number: usize, id: u64, error: Option<u64>) {
        let speaker = &mut self.speakers[number];
        let is_settled = speaker.is_subscribed || speaker.is_ended;
        if let Some(code) = error {
            *self.errors.entry(code).or_default() += 1;
            self.refused += 1;
            if id <= SUBSCRIBE_ID && !is_settled {
                speaker.is_ended = true;
                self.settled += 1;
            }
            self.tell(format!("client {number}: error {code}"));
            return;
        }
        match id {
            CONNECT_ID => {}
            SUBSCRIBE_ID if !is_settled => {
                speaker.is_subscribed = true;
                self.settled += 1;
                self.subscribed += 1;
            }
            SUBSCRIBE_ID => {}
            id => {
                self.acknowledged += 1;
                let due = speaker.due_us.get((id - SUBSCRIBE_ID - 1) as usize);
                if let Some(&due) = due.filter(|&&due| due >= self.measured_from_us) {
                    self.replies.saturating_record(now_us().saturating_sub(due));
                }
            }
        }
    }

    fn record(&mut self, number: usize, record: &[u8]) {
        let speaker = &mut self.speakers[number];
        let Some(stamp) = find(record).filter(|stamp| stamp.from == speaker.from.as_bytes()) else {
            self.foreign += 1;
            return;
        };
        speaker.books.record(Some(&stamp), false);
        self.echoed += 1;
        if stamp.due_us >= self.measured_from_us
            && let Some(recorder) = &mut self.recorder
        {
            recorder.record(now_us().saturating_sub(stamp.due_us));
        }
    }

    /// Whether something that was sent may still come back.
    fn awaits(&self) -> bool {
        let open = |speaker: &Speaker| !speaker.is_ended && speaker.books.received() < speaker.due_us.len() as u64;
        self.acknowledged + self.refused < self.sent() && self.subscribed > 0 && self.closes < self.speakers.len() as u64
            || self.speakers.iter().any(open)
    }

    fn sent(&self) -> u64 {
        self.speakers.iter().map(|speaker| speaker.due_us.len() as u64).sum()
    }
}

impl Owner for Speakers<'_> {
    fn happened(&mut self, number: usize, what: Happened<'_>, out: &mut Vec<u8>) {
        let dialect = self.dialect;
        let payload = match what {
            Happened::Open => {
                let token = self.tokens.get(number % self.tokens.len().max(1)).map_or("", String::as_str);
                put(out, dialect.opcode(), &dialect.opening(token, Some(&self.speakers[number].subject), number as u64));
                return;
            }
            Happened::Message(payload) => payload,
        };
        let understood = dialect.each(payload, |said| match said {
            Said::Ping => put(out, dialect.opcode(), dialect.pong()),
            Said::Reply { id, error, .. } => self.reply(number, id, error),
            Said::Record(record) => self.record(number, record),
            Said::Unsubscribed { code } => {
                self.unsubscribes += 1;
                self.tell(format!("client {number} was unsubscribed, code {code}"));
            }
            Said::Disconnected | Said::Other => {}
        });
        self.not_understood += u64::from(!understood);
    }

    fn ended(&mut self, number: usize, why: &Ended) {
        self.closes += 1;
        self.tell(format!("client {number}: {why}"));
        let speaker = &mut self.speakers[number];
        self.settled += usize::from(!speaker.is_subscribed && !speaker.is_ended);
        speaker.is_ended = true;
    }
}

/// Runs `echo`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &EchoOptions) -> Result<Report, ToolFailed> {
    let dialect = dialect(options.connect.protocol, None);
    let count = options.connect.connections as usize;
    let run = format!("{:x}{:x}", std::process::id(), now_us() & 0xff_ffff);
    let speaker = |number: usize| Speaker {
        subject: options.connect.subject.of(number as u64),
        from: format!("{run}-{number}"),
        ..Speaker::default()
    };
    let speakers: Vec<Speaker> = (0..count).map(speaker).collect();
    let mut subjects = HashSet::new();
    if let Some(twice) = speakers.iter().find(|speaker| !subjects.insert(speaker.subject.as_str())) {
        return Err(ToolFailed::Usage(format!(
            "--subject {}: {count} connections need a subject each, and {} is that of several; put {{n}} into it",
            options.connect.subject, twice.subject
        )));
    }
    let mut crowd = Crowd::new(crowd_plan(&options.connect, dialect.clone())?)?;
    let mut speakers = Speakers {
        dialect: &dialect,
        tokens: tokens(&options.connect)?,
        speakers,
        measured_from_us: u64::MAX,
        recorder: None,
        replies: latencies(),
        settled: 0,
        subscribed: 0,
        acknowledged: 0,
        refused: 0,
        echoed: 0,
        foreign: 0,
        closes: 0,
        unsubscribes: 0,
        not_understood: 0,
        errors: BTreeMap::new(),
        told: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(options.connect.connections / options.connect.connect_rate) + ANSWER_TIME;
    while speakers.settled < count && Instant::now() < deadline {
        crowd.begin_due(&mut speakers);
        crowd.turn(Duration::from_millis(1), &mut speakers)?;
    }
    let progress = Progress::new(options.run.progress);
    progress.note(&format!("subscribed: {} of {count} connections", speakers.subscribed));
    let mut worker = Worker::new("this tool's thread");
    let schedule = Schedule::begin(options.rate);
    let warm = options.run.warm_up_seconds * options.rate;
    let all = if speakers.subscribed > 0 { warm + options.run.seconds * options.rate } else { 0 };
    let (mut value, mut message) = (Vec::new(), Vec::new());
    let (mut next, mut unsent, mut gave_up) = (0, 0, None);
    let begin = || Recorder::begin(options.run.log.as_deref(), "corespan-bench echo, latencies in microseconds");
    let (mut began, mut cpu) = (Instant::now(), thread_cpu_seconds());
    while next < all {
        if next == warm && speakers.recorder.is_none() && schedule.late(next).is_some() {
            speakers.recorder = Some(begin()?);
            speakers.measured_from_us = schedule.due_us(warm);
            (began, cpu) = (Instant::now(), thread_cpu_seconds());
        }
        if let Some(late) = schedule.late(next) {
            gave_up = hopeless(late, options.run.lag_max_ms);
            if gave_up.is_some() {
                worker.lagged_by(late);
                break;
            }
            let (number, due) = ((next % count as u64) as usize, schedule.due_us(next));
            if next >= warm {
                worker.lagged_by(late);
            }
            next += 1;
            let speaker = &mut speakers.speakers[number];
            if !speaker.is_subscribed || speaker.is_ended {
                unsent += 1;
                continue;
            }
            speaker.due_us.push(due);
            let sent = speaker.due_us.len() as u64;
            write(&mut value, &Stamp { due_us: due, number: sent, from: speaker.from.as_bytes() }, options.bytes as usize);
            dialect.publish(&mut message, SUBSCRIBE_ID + sent, &speaker.subject, &value);
            if !crowd.say(number, &message, OUT_BYTES_MAX, &mut speakers) {
                unsent += 1;
            }
            // What comes is heard now and then also when the schedule is behind.
            if !next.is_multiple_of(16) {
                continue;
            }
        } else {
            schedule.sleep(next);
        }
        crowd.turn(Duration::ZERO, &mut speakers)?;
        if let Some(second) = speakers.recorder.as_mut().and_then(Recorder::tick) {
            progress.show("echo", second);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    worker.worked(thread_cpu_seconds() - cpu, seconds);
    let deadline = Instant::now() + ANSWER_TIME;
    while speakers.awaits() && Instant::now() < deadline {
        crowd.turn(Duration::from_millis(20), &mut speakers)?;
    }
    let aftermath = Instant::now() + AFTERMATH;
    while Instant::now() < aftermath {
        crowd.turn(Duration::from_millis(20), &mut speakers)?;
    }
    progress.end();
    let mut recorder = speakers.recorder.take().map_or_else(begin, Ok)?;
    recorder.end()?;
    Ok(settle(options, speakers, unsent, recorder, seconds, worker, gave_up))
}

/// Adds up the books: each publish has come back once, in order.
fn settle(
    options: &EchoOptions,
    speakers: Speakers<'_>,
    unsent: u64,
    recorder: Recorder,
    seconds: f64,
    worker: Worker,
    gave_up: Option<String>,
) -> Report {
    let (count, sent) = (speakers.speakers.len() as u64, speakers.sent());
    let (mut all, mut silent, mut told) = (Faults::default(), 0, speakers.told);
    for (number, speaker) in speakers.speakers.iter().enumerate() {
        let (mut faults, own) = (speaker.books.faults(), speaker.due_us.len() as u64);
        // What is beyond the last that came has left no gap.
        faults.lost += own.saturating_sub(speaker.books.reached());
        silent += u64::from(speaker.books.received() == 0 && own > 0);
        if faults.any() && told.len() < TOLD_MAX {
            let Faults { lost, doubled, out_of_order } = faults;
            told.push(format!(
                "client {number} ({}): {own} sent, {lost} not back, {doubled} doubled, {out_of_order} out of order",
                speaker.subject
            ));
        }
        all.add(faults);
    }
    let counts = BTreeMap::from([
        ("connections", count),
        ("subscribed", speakers.subscribed as u64),
        ("not_subscribed", count - speakers.subscribed as u64),
        ("sent", sent),
        ("acknowledged", speakers.acknowledged),
        ("refused", speakers.refused),
        ("unanswered", sent.saturating_sub(speakers.acknowledged + speakers.refused)),
        ("unsent", unsent),
        ("echoed", speakers.echoed),
        ("lost", all.lost),
        ("doubled", all.doubled),
        ("out_of_order", all.out_of_order),
        ("silent_clients", silent),
        ("foreign", speakers.foreign),
        ("closes", speakers.closes),
        ("unsubscribes", speakers.unsubscribes),
        ("not_understood", speakers.not_understood),
    ]);
    let faults = [
        "not_subscribed",
        "refused",
        "unanswered",
        "unsent",
        "lost",
        "doubled",
        "out_of_order",
        "silent_clients",
        "closes",
        "unsubscribes",
        "not_understood",
    ];
    let faults = faults.into_iter().filter(|name| counts[name] > 0);
    let mut failures: Vec<String> = faults.map(|name| format!("{} {}", counts[name], name.replace('_', " "))).collect();
    if !failures.is_empty() {
        failures.extend(told);
    }
    Report {
        tool: "echo",
        settings: settings(&options.connect, &options.run, serde_json::json!({ "rate": options.rate, "bytes": options.bytes })),
        recorder,
        flows: Flows::default(),
        also: BTreeMap::from([("publish_reply", speakers.replies)]),
        seconds,
        counts,
        errors: speakers.errors,
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up,
        failures,
    }
}
