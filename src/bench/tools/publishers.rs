//! `pub`: connections that publish through the server on a schedule; a latency runs from the time when a publish was due to its reply.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::connection::{Ended, Happened};
use super::crowd::{Crowd, Owner};
use super::cues::{Cue, Cues};
use super::dialect::{CONNECT_ID, Dialect, SUBSCRIBE_ID, Said};
use super::failed::ToolFailed;
use super::flows::Flows;
use super::message::put;
use super::opening::{crowd_plan, dialect, settings, tokens};
use super::options::PubOptions;
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::schedule::{Schedule, hopeless};
use super::stamp::{Stamp, now_us, write};
use crate::bench::report::Worker;
use crate::kafka::load::thread_cpu_seconds;

/// How long a server has to answer the last connection, and the last publish.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Publishes of a connection that may wait for their replies: more means that the server has stopped.
const OPEN_MAX: usize = 100_000;
/// Bytes of a connection that may wait for its socket: more means the same.
const OUT_BYTES_MAX: usize = 64 << 20;
const TOLD_MAX: usize = 5;

#[derive(Default)]
struct Publisher {
    subject: String,
    from: String,
    /// Identifiers of publishes without a reply, oldest first, with the time when each was due, if it counts.
    open: VecDeque<(u64, Option<u64>)>,
    sent: u64,
    acknowledged: u64,
    is_connected: bool,
    is_ended: bool,
}

/// All publishers.
struct Publishers<'a> {
    dialect: &'a Dialect,
    tokens: Vec<String>,
    publishers: Vec<Publisher>,
    recorder: Option<Recorder>,
    settled: usize,
    connected: usize,
    open: usize,
    acknowledged: u64,
    refused: u64,
    closes: u64,
    not_understood: u64,
    errors: BTreeMap<u64, u64>,
    told: Vec<String>,
}

impl Publishers<'_> {
    fn tell(&mut self, line: String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(line);
        }
    }

    fn reply(&mut self, number: usize, id: u64, error: Option<u64>) {
        if let Some(code) = error {
            *self.errors.entry(code).or_default() += 1;
            self.refused += 1;
            self.tell(format!("publisher {number}: error {code}"));
        }
        let publisher = &mut self.publishers[number];
        if id == CONNECT_ID {
            if !publisher.is_connected && !publisher.is_ended {
                self.settled += 1;
                self.connected += usize::from(error.is_none());
                publisher.is_connected = error.is_none();
                publisher.is_ended = error.is_some();
            }
            return;
        }
        // Replies come in the order of the publishes, or nearly.
        let Some(place) = publisher.open.iter().position(|&(open, _)| open == id) else { return };
        let Some((_, due)) = publisher.open.remove(place) else { return };
        self.open -= 1;
        if error.is_none() {
            self.acknowledged += 1;
            publisher.acknowledged += 1;
            if let (Some(due), Some(recorder)) = (due, &mut self.recorder) {
                recorder.record(now_us().saturating_sub(due));
            }
        }
    }
}

impl Owner for Publishers<'_> {
    fn happened(&mut self, number: usize, what: Happened<'_>, out: &mut Vec<u8>) {
        let dialect = self.dialect;
        let payload = match what {
            Happened::Open => {
                let token = self.tokens.get(number % self.tokens.len().max(1)).map_or("", String::as_str);
                put(out, dialect.opcode(), &dialect.opening(token, None, number as u64));
                return;
            }
            Happened::Message(payload) => payload,
        };
        let understood = dialect.each(payload, |said| match said {
            Said::Ping => put(out, dialect.opcode(), dialect.pong()),
            Said::Reply { id, error, .. } => self.reply(number, id, error),
            _ => {}
        });
        self.not_understood += u64::from(!understood);
    }

    fn ended(&mut self, number: usize, why: &Ended) {
        self.closes += 1;
        self.tell(format!("publisher {number}: {why}"));
        let publisher = &mut self.publishers[number];
        self.settled += usize::from(!publisher.is_connected && !publisher.is_ended);
        publisher.is_ended = true;
        // They get no reply any more, and stay counted as unanswered.
        self.open -= publisher.open.len();
    }
}

/// Runs `pub`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &PubOptions) -> Result<Report, ToolFailed> {
    let dialect = dialect(options.connect.protocol, None);
    let count = options.connect.connections as usize;
    let run = format!("{:x}{:x}", std::process::id(), now_us() & 0xff_ffff);
    let publisher = |number: usize| Publisher {
        subject: options.connect.subject.of(number as u64),
        from: format!("{run}-{number}"),
        ..Publisher::default()
    };
    let mut crowd = Crowd::new(crowd_plan(&options.connect, dialect.clone())?)?;
    let mut publishers = Publishers {
        dialect: &dialect,
        tokens: tokens(&options.connect)?,
        publishers: (0..count).map(publisher).collect(),
        recorder: None,
        settled: 0,
        connected: 0,
        open: 0,
        acknowledged: 0,
        refused: 0,
        closes: 0,
        not_understood: 0,
        errors: BTreeMap::new(),
        told: Vec::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(options.connect.connections / options.connect.connect_rate) + ANSWER_TIME;
    while publishers.settled < count && Instant::now() < deadline {
        crowd.begin_due(&mut publishers);
        crowd.turn(Duration::from_millis(1), &mut publishers)?;
    }
    let cues = Cues::new(options.run.cued)?;
    cues.ready();
    let mut waiting = cues.phase(&[Cue::Start], Duration::ZERO);
    while waiting.goes_on(0)? {
        crowd.turn(Duration::from_millis(1), &mut publishers)?;
    }
    let mut worker = Worker::new("this tool's publishing thread");
    let schedule = Schedule::begin(options.rate);
    let warm = options.run.warm_up_seconds * options.rate;
    let all = if publishers.connected > 0 { warm + options.run.seconds * options.rate } else { 0 };
    let (mut value, mut message) = (Vec::new(), Vec::new());
    let (mut next, mut unsent, mut gave_up) = (0, 0, None);
    let progress = Progress::new(options.run.progress);
    let begin = || Recorder::begin(options.run.log.as_deref(), "corespan-bench pub, latencies in microseconds");
    let (mut began, mut cpu) = (Instant::now(), thread_cpu_seconds());
    while next < all {
        if next == warm && publishers.recorder.is_none() && schedule.late(next).is_some() {
            publishers.recorder = Some(begin()?);
            (began, cpu) = (Instant::now(), thread_cpu_seconds());
        }
        if let Some(late) = schedule.late(next) {
            gave_up = hopeless(late, options.run.lag_max_ms);
            if gave_up.is_some() {
                worker.lagged_by(late);
                break;
            }
            let (number, due) = ((next % count as u64) as usize, schedule.due_us(next));
            let is_measured = next >= warm;
            next += 1;
            if is_measured {
                worker.lagged_by(late);
            }
            let publisher = &mut publishers.publishers[number];
            if !publisher.is_connected || publisher.is_ended || publisher.open.len() >= OPEN_MAX {
                unsent += 1;
                continue;
            }
            let id = SUBSCRIBE_ID + 1 + publisher.sent;
            write(&mut value, &Stamp { due_us: due, number: publisher.sent + 1, from: publisher.from.as_bytes() }, options.bytes as usize);
            dialect.publish(&mut message, id, &publisher.subject, &value);
            publisher.open.push_back((id, is_measured.then_some(due)));
            publisher.sent += 1;
            publishers.open += 1;
            if !crowd.say(number, &message, OUT_BYTES_MAX, &mut publishers) {
                unsent += 1;
            }
            // Replies are heard now and then also when the schedule is behind.
            if !next.is_multiple_of(64) {
                continue;
            }
        } else {
            schedule.sleep(next);
        }
        crowd.turn(Duration::ZERO, &mut publishers)?;
        if let Some(second) = publishers.recorder.as_mut().and_then(Recorder::tick) {
            progress.show("pub", second);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    worker.worked(thread_cpu_seconds() - cpu, seconds);
    let deadline = Instant::now() + ANSWER_TIME;
    while publishers.open > 0 && Instant::now() < deadline {
        crowd.turn(Duration::from_millis(20), &mut publishers)?;
    }
    progress.end();
    let mut recorder = publishers.recorder.take().map_or_else(begin, Ok)?;
    recorder.end()?;
    let sent: u64 = publishers.publishers.iter().map(|publisher| publisher.sent).sum();
    let unanswered: u64 = publishers.publishers.iter().map(|publisher| publisher.open.len() as u64).sum();
    let mut flows = Flows::default();
    for publisher in &publishers.publishers {
        flows.add(&publisher.from, &publisher.subject, publisher.acknowledged);
    }
    let counts = BTreeMap::from([
        ("connections", count as u64),
        ("connected", publishers.connected as u64),
        ("not_connected", count as u64 - publishers.connected as u64),
        ("sent", sent),
        ("acknowledged", publishers.acknowledged),
        ("refused", publishers.refused),
        ("unanswered", unanswered),
        ("unsent", unsent),
        ("closes", publishers.closes),
        ("not_understood", publishers.not_understood),
    ]);
    let faults = ["not_connected", "refused", "unanswered", "unsent", "closes", "not_understood"];
    let faults = faults.into_iter().filter(|name| counts[name] > 0);
    let mut failures: Vec<String> = faults.map(|name| format!("{} {}", counts[name], name.replace('_', " "))).collect();
    if !failures.is_empty() {
        failures.extend(publishers.told);
    }
    Ok(Report {
        tool: "pub",
        settings: settings(&options.connect, &options.run, serde_json::json!({ "rate": options.rate, "bytes": options.bytes })),
        recorder,
        flows,
        also: BTreeMap::new(),
        seconds,
        counts,
        errors: publishers.errors,
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up,
        failures,
    })
}
