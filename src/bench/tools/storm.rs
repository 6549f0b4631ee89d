//! `storm`: connections that come all together, are cut, and come back with what they remember; nothing may be lost or doubled over it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::agenda::Deed;
use super::books::Faults;
use super::crowd::Crowd;
use super::failed::ToolFailed;
use super::flows::Flows;
use super::opening::{crowd_plan, dialect, settings, tokens};
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::stamp::now_us;
use super::storm_clients::StormClients;
use super::storm_options::StormOptions;
use crate::bench::report::Worker;
use crate::kafka::load::thread_cpu_seconds;

/// How long after the last of them was due all must be there, or back; and, with --expect, must have all.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long after the last record one too many would still be seen.
const AFTERMATH: Duration = Duration::from_millis(300);
/// The longest wait for events.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Connections begun or cut between two looks at the others.
const DEEDS_MAX: usize = 32;
/// Bytes of a connection that may wait for its socket.
const OUT_BYTES_MAX: usize = 1 << 20;
const TOLD_MAX: usize = 8;

struct Storm<'a> {
    options: &'a StormOptions,
    crowd: Crowd,
    clients: StormClients<'a>,
    worker: Worker,
    progress: Progress,
}

impl Storm<'_> {
    /// Does what is due and hears what comes, until the condition holds or time is over.
    fn go(&mut self, until: Instant, is_over: impl Fn(&StormClients<'_>) -> bool) -> Result<(), ToolFailed> {
        while !is_over(&self.clients) && Instant::now() < until {
            for _ in 0..DEEDS_MAX {
                let now = now_us();
                let Some((due_us, number, deed)) = self.clients.agenda.due(now) else { break };
                self.worker.lagged_by(Duration::from_micros(now - due_us));
                self.deed(due_us, number, deed);
            }
            let left = until.saturating_duration_since(Instant::now()).min(TURN_MAX);
            let next = self.clients.agenda.wait_us(now_us()).map_or(left, |wait| left.min(Duration::from_micros(wait)));
            // epoll counts milliseconds.
            let is_short = next < Duration::from_millis(1);
            if is_short {
                thread::sleep(next);
            }
            if let Some(took) = self.crowd.turn(if is_short { Duration::ZERO } else { next }, &mut self.clients)? {
                self.worker.lagged_by(took);
            }
            if let Some(second) = self.clients.recorder.as_mut().and_then(Recorder::tick) {
                self.progress.show("storm", second);
            }
        }
        Ok(())
    }

    fn deed(&mut self, due_us: u64, number: usize, deed: Deed) {
        match deed {
            Deed::Begin => {
                self.clients.comes(number, due_us);
                self.crowd.begin(number, &mut self.clients);
            }
            Deed::Subscribe => {
                if let Some(message) = self.clients.subscribes_again(number) {
                    self.crowd.say(number, &message, OUT_BYTES_MAX, &mut self.clients);
                }
            }
            Deed::Cut => {
                if self.clients.cut(number, due_us + self.options.away_ms * 1_000) {
                    self.crowd.cut(number);
                }
            }
        }
    }

    /// A cut, and the time until all are back.
    fn round(&mut self, round: u64) -> Result<(), ToolFailed> {
        let (options, count) = (self.options, self.options.connect.connections);
        let (cuts, now) = ((count * options.cut).div_ceil(100), now_us());
        for place in 0..cuts {
            let number = (round * cuts + place) % count;
            let due_us = now + options.cut_rate.map_or(0, |rate| place * 1_000_000 / rate);
            self.clients.agenda.put(due_us, number as usize, Deed::Cut);
        }
        let cutting = Duration::from_secs(options.cut_rate.map_or(0, |rate| cuts.div_ceil(rate)));
        let all_back = Instant::now() + cutting + Duration::from_millis(options.away_ms);
        let end = (Instant::now() + Duration::from_secs(options.run.seconds)).max(all_back);
        self.go(end, |_| false)?;
        self.go(all_back + ANSWER_TIME, |clients| clients.is_settled())?;
        self.progress.end();
        let (subscribed, tally) = (self.clients.subscribed(), self.clients.tally);
        self.progress.note(&format!(
            "round {}: {cuts} to cut, {subscribed} of {count} subscribed, {} recovered so far, {} not",
            round + 1,
            tally.recovered,
            tally.unrecovered
        ));
        Ok(())
    }
}

/// Runs `storm`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &StormOptions) -> Result<Report, ToolFailed> {
    let dialect = dialect(options.connect.protocol, None);
    let count = options.connect.connections;
    let subjects = (0..count).map(|number| options.connect.subject.of(number)).collect();
    let tokens = tokens(&options.connect)?;
    let crowd = Crowd::new(crowd_plan(&options.connect, dialect.clone())?)?;
    let mut storm = Storm {
        options,
        crowd,
        clients: StormClients::new(&dialect, tokens, subjects, options.expect),
        worker: Worker::new("this tool's thread"),
        progress: Progress::new(options.run.progress),
    };
    // Connecting is a part of what is measured.
    storm.clients.recorder = Some(Recorder::begin(options.run.log.as_deref(), "corespan-bench storm, latencies in microseconds")?);
    let (began, cpu, now) = (Instant::now(), thread_cpu_seconds(), now_us());
    for number in 0..count {
        storm.clients.agenda.put(now + number * 1_000_000 / options.connect.connect_rate, number as usize, Deed::Begin);
    }
    storm.go(began + Duration::from_secs(count / options.connect.connect_rate) + ANSWER_TIME, |clients| clients.is_settled())?;
    storm.progress.note(&format!("subscribed: {} of {count} connections", storm.clients.subscribed()));
    if storm.clients.subscribed() > 0 {
        storm.go(Instant::now() + Duration::from_secs(options.run.warm_up_seconds), |_| false)?;
        for round in 0..options.rounds {
            storm.round(round)?;
        }
        if options.expect.is_some() {
            storm.go(Instant::now() + ANSWER_TIME, |clients| clients.is_satisfied())?;
            storm.go(Instant::now() + AFTERMATH, |_| false)?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    storm.worker.worked(thread_cpu_seconds() - cpu, seconds);
    storm.progress.end();
    settle(options, storm.clients, seconds, storm.worker)
}

/// Adds up the books.
fn settle(options: &StormOptions, clients: StormClients<'_>, seconds: f64, worker: Worker) -> Result<Report, ToolFailed> {
    let (mut all, mut silent, mut extra, mut told) = (Faults::default(), 0, 0, clients.told.clone());
    for (number, (subject, books)) in clients.books().enumerate() {
        let mut faults = books.faults();
        if let Some(expect) = options.expect {
            // What is beyond the last that came has left no gap.
            faults.lost += expect.saturating_sub(books.reached());
            extra += books.reached().saturating_sub(expect);
            silent += u64::from(books.received() == 0);
        }
        if faults.any() && told.len() < TOLD_MAX {
            let Faults { lost, doubled, out_of_order } = faults;
            told.push(format!(
                "client {number} ({subject}): {} received, {lost} lost, {doubled} doubled, {out_of_order} out of order",
                books.received()
            ));
        }
        all.add(faults);
    }
    let (tally, count) = (clients.tally, options.connect.connections);
    let counts = BTreeMap::from([
        ("connections", count),
        ("subscribed", clients.subscribed() as u64),
        ("not_subscribed", count - clients.subscribed() as u64),
        ("cuts", tally.cuts),
        ("cuts_skipped", tally.cuts_skipped),
        ("recovered", tally.recovered),
        ("unrecovered", tally.unrecovered),
        ("busy_503", tally.busy),
        ("tried_again", tally.tried_again),
        ("received", tally.received),
        ("lost", all.lost),
        ("doubled", all.doubled),
        ("out_of_order", all.out_of_order),
        ("unexpected", extra),
        ("silent_clients", silent),
        ("closes", tally.closes),
        ("unsubscribes", tally.unsubscribes),
        ("refused", tally.refused),
        ("not_understood", tally.not_understood),
        ("without_stamp", tally.unstamped),
    ]);
    let faults = [
        "not_subscribed",
        "unrecovered",
        "lost",
        "doubled",
        "out_of_order",
        "unexpected",
        "silent_clients",
        "closes",
        "unsubscribes",
        "refused",
        "not_understood",
        "without_stamp",
    ];
    let counts_as_fault = |name: &&str| counts[name] > 0 && !(options.allow_unrecovered && *name == "unrecovered");
    let faults = faults.into_iter().filter(counts_as_fault);
    let mut failures: Vec<String> = faults.map(|name| format!("{} {}", counts[name], name.replace('_', " "))).collect();
    if !failures.is_empty() {
        failures.extend(told);
    }
    let mut recorder = clients.recorder.ok_or_else(|| ToolFailed::Internal("the recorder is gone".to_owned()))?;
    recorder.end()?;
    Ok(Report {
        tool: "storm",
        settings: settings(
            &options.connect,
            &options.run,
            serde_json::json!({
                "rounds": options.rounds,
                "cut": options.cut,
                "cut_rate": options.cut_rate,
                "away_ms": options.away_ms,
                "allow_unrecovered": options.allow_unrecovered,
                "expect": options.expect,
            }),
        ),
        recorder,
        flows: Flows::default(),
        also: BTreeMap::from([
            ("connect", clients.connects),
            ("subscribe", clients.subscribes),
            ("recover", clients.recoveries),
            ("record", clients.records),
        ]),
        seconds,
        counts,
        errors: clients.errors,
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up: None,
        failures,
    })
}
