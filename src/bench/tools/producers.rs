//! `produce`: records to Kafka itself on a schedule; a latency runs from the time when a record was due to Kafka's acknowledgement.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cues::{Cue, Cues};
use super::failed::ToolFailed;
use super::flows::Flows;
use super::opening::run_settings;
use super::options::ProduceOptions;
use super::progress::Progress;
use super::recorder::Recorder;
use super::report::Report;
use super::schedule::{Schedule, hopeless};
use super::stamp::{Stamp, now_us, write};
use crate::bench::report::Worker;
use crate::kafka::feed::Feed;
use crate::kafka::load::{create_topics, thread_cpu_seconds};

/// What Kafka has said so far.
#[derive(Default)]
struct Answers {
    acknowledged: u64,
    refused: BTreeMap<i64, u64>,
}

impl Answers {
    /// Takes what is new; what was due before the measured time is not recorded.
    fn take(&mut self, feed: &Feed, measured_from_us: u64, recorder: Option<&mut Recorder>) {
        let new = feed.acknowledged();
        self.acknowledged += new.times_us.len() as u64;
        for (code, count) in new.refused {
            *self.refused.entry(code).or_default() += count;
        }
        if let Some(recorder) = recorder {
            for (due_us, acknowledged_us) in new.times_us {
                if due_us >= measured_from_us {
                    recorder.record(acknowledged_us.saturating_sub(due_us));
                }
            }
        }
    }
}

/// What stands around a value in Kafka. The value itself stays what a client gets.
struct Envelope<'a> {
    before: &'a str,
    behind: &'a str,
}

impl Envelope<'_> {
    fn of(text: &str) -> Result<Envelope<'_>, ToolFailed> {
        let parts = text.split_once("{value}").filter(|(_, behind)| !behind.contains("{value}"));
        let (before, behind) = parts.ok_or_else(|| ToolFailed::Usage(format!("--envelope {text}: must have {{value}} in it, once")))?;
        Ok(Envelope { before, behind })
    }

    /// Puts it around.
    fn wrap(&self, value: &mut Vec<u8>, topic: &str, key: &str) {
        if self.before.is_empty() && self.behind.is_empty() {
            return;
        }
        let subject = format!("/{topic}/{key}");
        value.splice(..0, self.before.replace("{subject}", &subject).into_bytes());
        value.extend_from_slice(self.behind.replace("{subject}", &subject).as_bytes());
    }
}

/// Runs `produce`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &ProduceOptions) -> Result<Report, ToolFailed> {
    let mut properties = vec![
        ("bootstrap.servers".to_owned(), options.brokers.clone()),
        ("linger.ms".to_owned(), options.linger_ms.to_string()),
        ("partitioner".to_owned(), options.partitioner.clone()),
    ];
    for property in &options.property {
        let (name, value) = property.split_once('=').ok_or_else(|| ToolFailed::Usage(format!("--property {property}: not name=value")))?;
        properties.push((name.to_owned(), value.to_owned()));
    }
    if let Some(partitions) = options.partitions {
        create_topics(&options.brokers, std::slice::from_ref(&options.topic), partitions as u32).map_err(ToolFailed::Kafka)?;
    }
    let envelope = Envelope::of(&options.envelope)?;
    let feed = Feed::open(&options.topic, &properties, now_us).map_err(ToolFailed::Kafka)?;
    let keys: Vec<String> = (0..options.subjects).map(|number| options.keys.of(number)).collect();
    let mut sequences = vec![0_u64; keys.len()];
    // Patterns may give several numbers one key: the sequence is the key's.
    let mut first = BTreeMap::new();
    let places: Vec<usize> = keys.iter().enumerate().map(|(place, key)| *first.entry(key.as_str()).or_insert(place)).collect();
    let from = format!("{:x}{:x}", std::process::id(), now_us() & 0xff_ffff);
    let mut worker = Worker::new("this tool's producing thread");
    let progress = Progress::new(options.run.progress);
    let cues = Cues::new(options.run.cued)?;
    cues.ready();
    let mut waiting = cues.phase(&[Cue::Start], Duration::ZERO);
    while waiting.goes_on(0)? {
        std::thread::sleep(Duration::from_millis(1));
    }
    let schedule = Schedule::begin(options.rate);
    let warm = options.run.warm_up_seconds * options.rate;
    let (all, measured_from_us) = (warm + options.run.seconds * options.rate, schedule.due_us(warm));
    let begin = || Recorder::begin(options.run.log.as_deref(), "corespan-bench produce, latencies in microseconds");
    let (mut recorder, mut answers, mut value, mut next) = (None, Answers::default(), Vec::new(), 0);
    let (mut began, mut cpu) = (Instant::now(), thread_cpu_seconds());
    let (mut stuck_since, mut gave_up) = (None, None);
    while next < all {
        if next == warm && recorder.is_none() && schedule.late(next).is_some() {
            recorder = Some(begin()?);
            (began, cpu) = (Instant::now(), thread_cpu_seconds());
        }
        if let Some(late) = schedule.late(next) {
            gave_up = hopeless(late, options.run.lag_max_ms);
            if gave_up.is_some() {
                worker.lagged_by(late);
                break;
            }
            let (place, due_us) = (places[(next % options.subjects) as usize], schedule.due_us(next));
            write(&mut value, &Stamp { due_us, number: sequences[place] + 1, from: from.as_bytes() }, options.bytes as usize);
            envelope.wrap(&mut value, &options.topic, &keys[place]);
            if feed.send(&keys[place], &value, due_us).map_err(ToolFailed::Kafka)? {
                sequences[place] += 1;
                if next >= warm {
                    worker.lagged_by(late);
                }
                next += 1;
                stuck_since = None;
                if !next.is_multiple_of(256) {
                    continue;
                }
            } else {
                // It stays due: that it waits counts as lag. Whatever is refused in the end makes room, so this ends.
                let since = *stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(30) {
                    return Err(ToolFailed::Kafka("it has taken nothing for 30 s".to_owned()));
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        } else {
            schedule.sleep(next);
        }
        answers.take(&feed, measured_from_us, recorder.as_mut());
        if let Some(second) = recorder.as_mut().and_then(Recorder::tick) {
            progress.show("produce", second);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    worker.worked(thread_cpu_seconds() - cpu, seconds);
    feed.flush().map_err(ToolFailed::Kafka)?;
    let mut recorder = recorder.map_or_else(begin, Ok)?;
    answers.take(&feed, measured_from_us, Some(&mut recorder));
    progress.end();
    recorder.end()?;
    let refused: u64 = answers.refused.values().sum();
    let mut failures: Vec<String> =
        answers.refused.iter().map(|(code, count)| format!("{count} refused with librdkafka's code {code}")).collect();
    let unanswered = next - answers.acknowledged - refused;
    if unanswered > 0 {
        failures.push(format!("{unanswered} without an answer"));
    }
    let mut flows = Flows::default();
    for (key, sent) in keys.iter().zip(&sequences).filter(|(_, sent)| **sent > 0) {
        flows.add(&from, &format!("/{}/{key}", options.topic), *sent);
    }
    Ok(Report {
        tool: "produce",
        settings: serde_json::json!({
            "brokers": options.brokers,
            "topic": options.topic,
            "keys": options.keys.to_string(),
            "subjects": options.subjects,
            "rate": options.rate,
            "bytes": options.bytes,
            "linger_ms": options.linger_ms,
            "partitioner": options.partitioner,
            "envelope": options.envelope,
            "run": run_settings(&options.run),
        }),
        recorder,
        flows,
        also: BTreeMap::new(),
        seconds,
        counts: BTreeMap::from([("sent", next), ("acknowledged", answers.acknowledged), ("refused", refused), ("unanswered", unanswered)]),
        errors: BTreeMap::new(),
        worker,
        lag_max_ms: options.run.lag_max_ms as f64,
        gave_up,
        failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_stands_around_the_value_and_names_the_subject() {
        let mut value = b"{\"n\":1}".to_vec();
        Envelope::of("{value}").expect("nothing around").wrap(&mut value, "t", "k");
        assert_eq!(value, b"{\"n\":1}");
        let envelope = Envelope::of("{\"to\":\"{subject}\",\"data\":{value}}").expect("an envelope");
        envelope.wrap(&mut value, "t", "k");
        assert_eq!(value, b"{\"to\":\"/t/k\",\"data\":{\"n\":1}}");
        for wrong in ["", "{subject}", "{value}{value}"] {
            assert!(Envelope::of(wrong).is_err(), "{wrong}");
        }
    }
}
