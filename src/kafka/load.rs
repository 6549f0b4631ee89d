//! Load for `corespan-bench`: a generator that keeps a schedule, and a bare consumer as the control of `latency`.
//!
//! A value begins with `{"t":"NANOSECONDS","s":"SEQUENCE",`, both of fixed width: when the record was *due* on the monotonic clock, and a number
//! that grows by one per key of a topic through the whole run. A generator that is late shows in the latencies (no coordinated omission), and
//! nothing that begins anew excuses a gap. Each runs on a thread of its own and takes orders; whoever asks waits with a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset as KafkaOffset, TopicPartitionList};

use crate::subject::Partitioner;

/// How long Kafka has to answer an administrative request.
const ADMIN_TIME: Duration = Duration::from_secs(10);
/// How long Kafka has to acknowledge what a slice produced.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(15);
/// A generator that is that late never keeps its schedule: it gives up at once.
pub const LAG_LIMIT: Duration = Duration::from_secs(1);
/// How long a generator sleeps between looks at its schedule, at most.
const TURN: Duration = Duration::from_micros(500);

const DIGITS: usize = 20;
const TIME_AT: usize = 6;
const SEQUENCE_AT: usize = TIME_AT + DIGITS + 7;
/// What stands before the padding of a value.
const HEAD: &[u8] = b"{\"t\":\"00000000000000000000\",\"s\":\"00000000000000000000\",\"pad\":\"";
/// The shortest value.
pub const VALUE_BYTES_MIN: usize = HEAD.len() + 2;

/// What to produce, and where.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    /// Topics of this run alone.
    pub topics: Vec<String>,
    pub partitions: u32,
    /// Keys `0..keys`, in turn.
    pub keys: u64,
    /// Records a second.
    pub rate: u64,
    /// Bytes of a value, `VALUE_BYTES_MIN` at least.
    pub value_bytes: usize,
    /// Milliseconds for which the producer gathers a batch.
    pub linger_ms: u64,
}

/// An empty histogram of latencies in microseconds, up to ten minutes; longer ones count as that.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("three digits are allowed")
}

/// Nanoseconds of the machine's monotonic clock: the same in every process.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Seconds that this thread has been on a CPU.
pub fn thread_cpu_seconds() -> f64 {
    nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID) as f64 / 1e9
}

/// Seconds that all threads of this process have been on a CPU.
pub fn process_cpu_seconds() -> f64 {
    nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID) as f64 / 1e9
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).expect("every Linux has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// A value of that many bytes whose stamp is to be set.
pub fn value(bytes: usize) -> Vec<u8> {
    let mut value = HEAD.to_vec();
    value.resize(bytes.max(VALUE_BYTES_MIN) - 2, b'x');
    value.extend_from_slice(b"\"}");
    value
}

/// Writes the stamp into a value in place: digits only, nothing is allocated.
pub fn set_stamp(value: &mut [u8], due_ns: u64, sequence: u64) {
    digits(&mut value[TIME_AT..TIME_AT + DIGITS], due_ns);
    digits(&mut value[SEQUENCE_AT..SEQUENCE_AT + DIGITS], sequence);
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The due time and the sequence of a value.
pub fn stamp(value: &[u8]) -> Option<(u64, u64)> {
    let fixed = |from: usize, to: usize| value.get(from..to) == HEAD.get(from..to);
    if !fixed(0, TIME_AT) || !fixed(TIME_AT + DIGITS, SEQUENCE_AT) || value.get(SEQUENCE_AT + DIGITS) != Some(&b'"') {
        return None;
    }
    Some((number(&value[TIME_AT..TIME_AT + DIGITS])?, number(&value[SEQUENCE_AT..SEQUENCE_AT + DIGITS])?))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, &digit| {
        digit.is_ascii_digit().then_some(())?;
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// When record `number` of a schedule is due.
pub fn due_ns(began_ns: u64, rate: u64, number: u64) -> u64 {
    began_ns + (u128::from(number) * 1_000_000_000 / u128::from(rate.max(1))) as u64
}

/// One slice of a generator's work.
pub struct Produced {
    /// How late records were handed to librdkafka, microseconds.
    pub lag: Histogram<u64>,
    /// Of the generator's thread, and how long it worked at the slice.
    pub cpu_seconds: f64,
    pub seconds: f64,
    /// Acknowledged by Kafka, for each key, since the beginning of the run.
    pub acknowledged: Vec<u64>,
    /// It was late by more than `LAG_LIMIT` and stopped.
    pub gave_up: bool,
}

struct Order {
    topic: usize,
    records: u64,
}

/// A producer on a thread of its own. Dropped, it ends by itself; nobody waits for it.
pub struct Generator {
    orders: Sender<Order>,
    answers: Receiver<Result<Produced, String>>,
    stop: Arc<AtomicBool>,
}

impl Generator {
    /// Starts it on the CPUs of the caller.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(load: Load) -> std::io::Result<Generator> {
        let (orders, inbox) = channel::<Order>();
        let (outbox, answers) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        thread::Builder::new().name("generator".to_owned()).spawn(move || {
            let mut work = match Work::new(load) {
                Ok(work) => work,
                Err(error) => {
                    let _ = outbox.send(Err(error));
                    return;
                }
            };
            for order in inbox {
                if outbox.send(work.slice(&order, &stopped)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Generator { orders, answers, stop })
    }

    /// Orders one slice: that many records to that topic, from now on at the rate.
    pub fn order(&self, topic: usize, records: u64) {
        // A thread that has ended says why in `answer`.
        let _ = self.orders.send(Order { topic, records });
    }

    /// The answer to an order, once it is there. The slice's records are acknowledged then.
    ///
    /// # Errors
    /// Kafka refused records, or librdkafka's word.
    pub fn answer(&self, within: Duration) -> Result<Option<Produced>, String> {
        answer(&self.answers, within, "the generator")
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer<T>(answers: &Receiver<Result<T, String>>, within: Duration, who: &str) -> Result<Option<T>, String> {
    match answers.recv_timeout(within) {
        Ok(answer) => answer.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(format!("{who} ended")),
    }
}

/// Kafka's answers, counted for each topic and key.
struct Acknowledged {
    counts: Vec<AtomicU64>,
    refused: AtomicU64,
}

struct Counting(Arc<Acknowledged>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        match result {
            Ok(_) => self.0.counts[place].fetch_add(1, Ordering::Relaxed),
            Err(_) => self.0.refused.fetch_add(1, Ordering::Relaxed),
        };
    }
}

struct Work {
    load: Load,
    producer: ThreadedProducer<Counting>,
    acknowledged: Arc<Acknowledged>,
    /// The last one for each topic and key.
    sequences: Vec<u64>,
    /// How a key is written, and its partition.
    keys: Vec<(String, i32)>,
    /// Records so far, for each topic: a slice goes on with the key after the last one's.
    produced: Vec<u64>,
    value: Vec<u8>,
}

impl Work {
    fn new(load: Load) -> Result<Work, String> {
        let places = load.topics.len() * load.keys as usize;
        let acknowledged = Arc::new(Acknowledged { counts: (0..places).map(|_| AtomicU64::new(0)).collect(), refused: AtomicU64::new(0) });
        // Idempotent: a producer's retries would else look like duplicates of the node's.
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &load.bootstrap)
            .set("linger.ms", load.linger_ms.to_string())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "200000")
            .set("message.timeout.ms", ACKNOWLEDGE_TIME.as_millis().to_string())
            .set("socket.nagle.disable", "true")
            .create_with_context(Counting(acknowledged.clone()))
            .map_err(|error: KafkaError| error.to_string())?;
        let keys = (0..load.keys).map(|key| key.to_string());
        let keys = keys.map(|key| (key.clone(), Partitioner::Murmur2.partition(key.as_bytes(), load.partitions) as i32)).collect();
        let value = value(load.value_bytes);
        let produced = vec![0; load.topics.len()];
        Ok(Work { load, producer, acknowledged, sequences: vec![0; places], keys, produced, value })
    }

    fn slice(&mut self, order: &Order, stop: &AtomicBool) -> Result<Produced, String> {
        let (began_ns, cpu) = (monotonic_ns(), thread_cpu_seconds());
        let mut lag = latencies();
        let (mut next, mut gave_up) = (0, false);
        let base = order.topic * self.keys.len();
        while next < order.records && !stop.load(Ordering::Relaxed) {
            let now = monotonic_ns();
            let due = due_ns(began_ns, self.load.rate, next);
            if due > now {
                thread::sleep(Duration::from_nanos(due - now).max(TURN));
                continue;
            }
            let late_us = (now - due) / 1_000;
            if late_us > LAG_LIMIT.as_micros() as u64 {
                lag.saturating_record(late_us);
                gave_up = true;
                break;
            }
            let key = (self.produced[order.topic] % self.load.keys) as usize;
            let (text, partition) = &self.keys[key];
            set_stamp(&mut self.value, due, self.sequences[base + key] + 1);
            let record = BaseRecord::with_opaque_to(&self.load.topics[order.topic], base + key)
                .key(text.as_str())
                .payload(&self.value[..])
                .partition(*partition);
            match self.producer.send(record) {
                Ok(()) => {}
                // It stays due: that it waits counts as lag.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    thread::sleep(TURN);
                    continue;
                }
                Err((error, _)) => return Err(error.to_string()),
            }
            lag.saturating_record(late_us);
            self.sequences[base + key] += 1;
            self.produced[order.topic] += 1;
            next += 1;
        }
        let (seconds, cpu_seconds) = ((monotonic_ns() - began_ns) as f64 / 1e9, thread_cpu_seconds() - cpu);
        if !gave_up && !stop.load(Ordering::Relaxed) {
            self.producer.flush(ACKNOWLEDGE_TIME).map_err(|error| format!("Kafka did not acknowledge what was produced: {error}"))?;
        }
        let counts: Vec<u64> =
            self.acknowledged.counts[base..base + self.keys.len()].iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let refused = self.acknowledged.refused.load(Ordering::Relaxed);
        if refused > 0 {
            return Err(format!("Kafka refused {refused} records"));
        }
        if !gave_up && counts[..] != self.sequences[base..base + self.keys.len()] {
            return Err("Kafka acknowledged another number of records than were produced".to_owned());
        }
        Ok(Produced { lag, cpu_seconds, seconds, acknowledged: counts, gave_up })
    }
}

/// What a bare consumer got in a slice.
pub struct Consumed {
    /// From due time to poll, microseconds.
    pub latencies: Histogram<u64>,
    /// Records since the beginning of the run.
    pub records: u64,
    /// Of the polling thread.
    pub cpu_seconds: f64,
}

/// The control of `latency`: a librdkafka consumer with a node's settings, whose polling thread has a shard's CPU.
pub struct BareConsumer {
    orders: Sender<()>,
    answers: Receiver<Result<Consumed, String>>,
    records: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl BareConsumer {
    /// Starts it on the topic's beginning. librdkafka's threads keep to the CPUs of the caller, as they keep off a shard's.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(load: &Load, topic: usize, cpu: usize, settings: &[(&str, &str)]) -> std::io::Result<BareConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &load.bootstrap)
            .set("group.id", "corespan-bench")
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "1")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .set("socket.nagle.disable", "true");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let (load, topic) = (load.clone(), load.topics[topic].clone());
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let (records, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (records.clone(), stop.clone());
        thread::Builder::new().name("bare-consumer".to_owned()).spawn(move || {
            if let Err(error) = consume(&load, &topic, cpu, &config, (&inbox, &outbox), &count, &stopped) {
                let _ = outbox.send(Err(error));
            }
        })?;
        Ok(BareConsumer { orders, answers, records, stop })
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// What came since it was asked last.
    ///
    /// # Errors
    /// librdkafka's word, a sequence that was skipped or came again, or it does not answer in time.
    pub fn take(&self, within: Duration) -> Result<Consumed, String> {
        let _ = self.orders.send(());
        answer(&self.answers, within, "the bare consumer")?.ok_or_else(|| "the bare consumer does not answer".to_owned())
    }
}

impl Drop for BareConsumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn consume(
    load: &Load,
    topic: &str,
    cpu: usize,
    config: &ClientConfig,
    (inbox, outbox): (&Receiver<()>, &Sender<Result<Consumed, String>>),
    records: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), String> {
    let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..load.partitions as i32 {
        list.add_partition_offset(topic, partition, KafkaOffset::Beginning).map_err(|error| error.to_string())?;
    }
    consumer.assign(&list).map_err(|error| error.to_string())?;
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    let (mut seen, mut cpu_before) = (latencies(), thread_cpu_seconds());
    let mut sequences = vec![0_u64; load.keys as usize];
    while !stop.load(Ordering::Relaxed) {
        // An error is a broker that comes or goes; a record that is lost by it shows in the numbers.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let (due, sequence) = message.payload().and_then(stamp).ok_or("a record that is not of this run")?;
            seen.saturating_record(monotonic_ns().saturating_sub(due) / 1_000);
            let key = message.key().and_then(|key| std::str::from_utf8(key).ok()?.parse::<usize>().ok());
            let last = key.and_then(|key| sequences.get_mut(key)).ok_or("a record that is not of this run")?;
            if sequence != *last + 1 {
                return Err(format!("the bare consumer got record {sequence} of a key after {last}"));
            }
            *last = sequence;
            records.fetch_add(1, Ordering::Relaxed);
        }
        if inbox.try_recv().is_ok() {
            let now = thread_cpu_seconds();
            let taken = std::mem::replace(&mut seen, latencies());
            let records = records.load(Ordering::Relaxed);
            let _ = outbox.send(Ok(Consumed { latencies: taken, records, cpu_seconds: now - cpu_before }));
            cpu_before = now;
        }
    }
    Ok(())
}

/// Makes topics on a real cluster.
///
/// # Errors
/// No Kafka answers there, or librdkafka's word.
pub fn create_topics(bootstrap: &str, topics: &[String], partitions: u32) -> Result<(), String> {
    let admin = admin(bootstrap)?;
    admin.inner().fetch_metadata(None, ADMIN_TIME).map_err(|error| format!("no Kafka answers at {bootstrap}: {error}"))?;
    let wanted: Vec<_> = topics.iter().map(|topic| NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(1))).collect();
    let answer = futures_lite::future::block_on(admin.create_topics(&wanted, &admin_options())).map_err(|error| error.to_string())?;
    answer.into_iter().try_for_each(|topic| topic.map(drop).map_err(|(topic, error)| format!("topic {topic}: {error}")))
}

/// Takes the run's topics away again.
///
/// # Errors
/// librdkafka's word.
pub fn delete_topics(bootstrap: &str, topics: &[String]) -> Result<(), String> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let admin = admin(bootstrap)?;
    futures_lite::future::block_on(admin.delete_topics(&names, &admin_options())).map(drop).map_err(|error| error.to_string())
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().map_err(|error: KafkaError| error.to_string())
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_TIME)).operation_timeout(Some(ADMIN_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_set_and_the_value_is_json_of_the_wanted_length() {
        for (bytes, due, sequence) in [(0, 0, 1), (200, 123_456_789, 42), (1_000, u64::MAX, u64::MAX)] {
            let mut value = value(bytes);
            set_stamp(&mut value, due, sequence);
            assert_eq!(stamp(&value), Some((due, sequence)));
            assert_eq!(value.len(), bytes.max(VALUE_BYTES_MIN));
            serde_json::from_slice::<serde_json::Value>(&value).expect("it is JSON");
        }
        assert_eq!((stamp(b""), stamp(b"{\"t\":1}"), stamp(HEAD).is_some()), (None, None, true));
        let mut broken = value(100);
        broken[TIME_AT] = b'x';
        assert_eq!(stamp(&broken), None);
    }

    #[test]
    fn due_times_keep_the_rate_without_drift() {
        assert_eq!(due_ns(7, 3, 0), 7);
        assert_eq!(due_ns(7, 3, 3), 1_000_000_007);
        assert_eq!(due_ns(0, 1_000, 1), 1_000_000);
        assert_eq!(due_ns(0, 3, 3_000_000_000), 1_000_000_000_000_000_000);
    }
}
