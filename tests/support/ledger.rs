//! A ledger of publishes: who sent what, what the answer was and when it came, what a subscriber was given meanwhile; at the end it is compared with
//! what Kafka has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Push, Refusal};
use super::{PATIENCE, eventually, kafka};

/// Numbers of one publisher; the next one begins behind them.
const NUMBERS: u64 = 100_000_000;
/// SDKs give up a call after 5 s. The bridge promises 4.5 s from its read; the rest is for a machine that is busy with the test itself.
const ANSWER_TIME: Duration = Duration::from_millis(5_500);

/// What is published, and how fast.
#[derive(Clone, Debug)]
pub struct Load {
    pub topic: String,
    pub partitions: i32,
    pub keys: usize,
    pub publishers: usize,
    /// Publishes of all publishers in a second.
    pub rate: u64,
    /// Bytes of a value, about.
    pub bytes: usize,
}

/// A publish.
struct Sent {
    id: u64,
    number: u64,
    key: usize,
    at: Instant,
}

/// A publish with its answer: `None` is the acknowledgement.
#[derive(Clone, Debug)]
pub struct Answered {
    pub number: u64,
    pub key: usize,
    pub code: Option<u64>,
    pub took: Duration,
    pub at: Instant,
}

/// How many publishes had which answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub sent: usize,
    pub acknowledged: usize,
    /// 401: nobody knows.
    pub unknown: usize,
    /// Of these, in the log.
    pub unknown_stored: usize,
    /// 100: nothing was written.
    pub put_off: usize,
    pub slowest: Duration,
}

pub struct Ledger {
    load: Load,
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Vec<Answered>>>,
    subscriber: JoinHandle<Vec<(String, u64)>>,
    subscriber_stop: Arc<AtomicBool>,
    port: u16,
}

impl Ledger {
    /// Publishers with keys of their own on the node at `port`, and a subscriber of all keys.
    pub fn start(port: u16, load: &Load) -> Ledger {
        let (stop, subscriber_stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut client = Client::connect(port);
        for key in 0..load.keys {
            let subscribed = client.subscribe(&subject(load, key)).expect("the subscribe is granted");
            assert!(subscribed.recoverable);
        }
        let (stopped, keys) = (subscriber_stop.clone(), load.keys);
        let subscriber = std::thread::spawn(move || subscribe(client, keys, &stopped));
        let publish = |publisher: usize| {
            let (load, stop) = (load.clone(), stop.clone());
            let client = Client::connect(port);
            std::thread::spawn(move || publish(client, &load, publisher, &stop))
        };
        let publishers = (0..load.publishers).map(publish).collect();
        Ledger { load: load.clone(), stop, publishers, subscriber, subscriber_stop, port }
    }

    /// Ends the load and compares. `bootstrap`: where the log can be read.
    pub fn settle(self, bootstrap: &str) -> Totals {
        self.stop.store(true, Ordering::Relaxed);
        let answers: Vec<Answered> =
            self.publishers.into_iter().flat_map(|publisher| publisher.join().expect("every publish has its answer")).collect();
        let load = &self.load;
        // One more of every key, which everything else is before.
        let mut last = Client::connect(self.port);
        for key in 0..load.keys {
            eventually("publishing works again", || last.publish(&subject(load, key), "-1").ok());
        }
        let log = kafka::read_all(bootstrap, &load.topic, load.partitions);
        let deadline = Instant::now() + PATIENCE;
        while !self.subscriber.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.subscriber_stop.store(true, Ordering::Relaxed);
        let delivered = self.subscriber.join().expect("the subscriber is served throughout");
        let (totals, wrong) = compare(load, &answers, &log, &delivered);
        eprintln!("{totals:?}");
        assert!(wrong.is_empty(), "{} wrong, {totals:?}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
        totals
    }
}

fn subject(load: &Load, key: usize) -> String {
    format!("/{}/k{key}", load.topic)
}

fn publish(mut client: Client, load: &Load, publisher: usize, stop: &AtomicBool) -> Vec<Answered> {
    let keys: Vec<usize> = (0..load.keys).filter(|key| key % load.publishers == publisher).collect();
    let every = Duration::from_secs(1) * load.publishers as u32 / load.rate as u32;
    let pad = "x".repeat(load.bytes);
    let (mut open, mut answered): (Vec<Sent>, Vec<Answered>) = (Vec::new(), Vec::new());
    let mut due = Instant::now();
    let mut number = publisher as u64 * NUMBERS;
    let take = |client: &mut Client, sent: &Sent, answer: Result<Value, Refusal>| Answered {
        number: sent.number,
        key: sent.key,
        code: answer.err().map(|refusal| refusal.code),
        took: client.answered(sent.id).saturating_duration_since(sent.at),
        at: sent.at,
    };
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < due {
            std::thread::sleep(due - now);
        }
        due += every;
        let key = keys[(number % keys.len() as u64) as usize];
        let at = Instant::now();
        let id = client.send_publish(&subject(load, key), &format!("[{number},\"{pad}\"]"));
        open.push(Sent { id, number, key, at });
        number += 1;
        // What has been answered is taken out now and then: a long run keeps little.
        if open.len() >= 4_096 {
            for sent in open.drain(..2_048) {
                let answer = client.reply(sent.id);
                answered.push(take(&mut client, &sent, answer));
            }
        }
    }
    for sent in open {
        let answer = client.reply(sent.id);
        answered.push(take(&mut client, &sent, answer));
    }
    answered
}

fn number_of(value: &Value) -> Option<u64> {
    value.get(0)?.as_u64()
}

/// Everything that is delivered, until every key has had its last record (-1).
fn subscribe(mut client: Client, keys: usize, stop: &AtomicBool) -> Vec<(String, u64)> {
    let (mut delivered, mut offsets, mut ended) = (Vec::new(), HashMap::new(), HashSet::new());
    loop {
        match client.next_push(Duration::from_millis(100)) {
            Some(Push::Publication { channel, publication }) => {
                let before: Option<u64> = offsets.insert(channel.clone(), publication.offset);
                assert!(before.is_none_or(|before| before < publication.offset), "{channel}: {before:?}, then {}", publication.offset);
                match number_of(&publication.data) {
                    Some(number) => delivered.push((channel, number)),
                    None if publication.data == -1 => {
                        ended.insert(channel);
                    }
                    // The test's own.
                    None => {}
                }
            }
            Some(other) => panic!("the subscriber is told {other:?}"),
            None if stop.load(Ordering::Relaxed) => panic!("the last records are not delivered: {} of {keys} are", ended.len()),
            None => {}
        }
        if ended.len() == keys {
            return delivered;
        }
    }
}

/// What was answered, what stands in the log (partition, key, value) and what was delivered (subject, number): how many of each, and whatever is wrong.
pub fn compare(load: &Load, answers: &[Answered], log: &[(i32, String, String)], delivered: &[(String, u64)]) -> (Totals, Vec<String>) {
    let began = answers.iter().map(|answer| answer.at).min().unwrap_or_else(Instant::now);
    // Numbers of each key, in the order of the log.
    let mut stored: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (_, key, value) in log {
        let value: Value = serde_json::from_str(value).expect("what was published is JSON");
        if let Some(number) = number_of(&value) {
            stored.entry(key[1..].parse().expect("a key of the load")).or_default().push(number);
        }
    }
    let mut times: HashMap<u64, u32> = HashMap::new();
    for number in stored.values().flatten() {
        *times.entry(*number).or_default() += 1;
    }
    let mut wrong: Vec<String> = Vec::new();
    let mut totals = Totals { sent: answers.len(), ..Totals::default() };
    for answer in answers {
        let times = times.get(&answer.number).copied().unwrap_or(0);
        let mut say = |what: &str| {
            let at = (answer.at - began).as_secs_f32();
            wrong.push(format!("publish {} of k{} at {at:.2} s ({:?}): {what}", answer.number, answer.key, answer.code));
        };
        match answer.code {
            None => {
                totals.acknowledged += 1;
                if times != 1 {
                    say(&format!("acknowledged, and {times} times in the log"));
                }
            }
            Some(401) => {
                totals.unknown += 1;
                totals.unknown_stored += usize::from(times > 0);
                if times > 1 {
                    say(&format!("unknown, and {times} times in the log"));
                }
            }
            Some(100) => {
                totals.put_off += 1;
                if times > 0 {
                    say(&format!("put off, and {times} times in the log"));
                }
            }
            Some(_) => say("no answer of a bad day"),
        }
        totals.slowest = totals.slowest.max(answer.took);
        if answer.took > ANSWER_TIME {
            say(&format!("answered after {:?}", answer.took));
        }
    }
    // What was acknowledged stands in the order in which it was sent.
    let acknowledged: HashMap<u64, bool> = answers.iter().map(|answer| (answer.number, answer.code.is_none())).collect();
    for (key, numbers) in &stored {
        let acknowledged: Vec<u64> = numbers.iter().copied().filter(|number| acknowledged.get(number) == Some(&true)).collect();
        for pair in acknowledged.windows(2).filter(|pair| pair[0] > pair[1]) {
            wrong.push(format!("k{key}: {} stands behind {}", pair[1], pair[0]));
        }
    }
    // The subscriber has the log, each record once, in its order.
    for key in 0..load.keys {
        let channel = subject(load, key);
        let given: Vec<u64> = delivered.iter().filter(|(other, _)| *other == channel).map(|(_, number)| *number).collect();
        let stored = stored.get(&key).map_or(&[][..], Vec::as_slice);
        if given != stored {
            let place = given.iter().zip(stored).take_while(|(given, stored)| given == stored).count();
            let (given, stored) = (given.get(place..).unwrap_or(&[]), stored.get(place..).unwrap_or(&[]));
            let some = |numbers: &[u64]| numbers.iter().take(5).map(u64::to_string).collect::<Vec<_>>().join(" ");
            wrong.push(format!("k{key}, record {place}: delivered {} .., in the log {} ..", some(given), some(stored)));
        }
    }
    (totals, wrong)
}
