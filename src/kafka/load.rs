//! Load for `corespan-bench`: a producer at a rate, and a bare consumer as the control.
//!
//! A value begins with `{"t":NANOSECONDS,"s":SEQUENCE,`: the monotonic time of its making, and a number that grows by one per key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset as KafkaOffset, TopicPartitionList};

use crate::subject::Partitioner;

/// What to produce.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: u32,
    /// Keys `0..keys`, in turn.
    pub keys: u64,
    /// Records a second.
    pub rate: u64,
    /// Bytes of a value.
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
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The time and sequence that a value was made with.
pub fn stamp(value: &[u8]) -> Option<(u64, u64)> {
    let rest = value.strip_prefix(b"{\"t\":")?;
    let (time, rest) = number(rest)?;
    let (sequence, _) = number(rest.strip_prefix(b",\"s\":")?)?;
    Some((time, sequence))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let value = bytes[..len].iter().fold(0_u64, |value, byte| value * 10 + u64::from(byte - b'0'));
    (len > 0).then_some((value, &bytes[len..]))
}

/// Produces at the rate until told to stop. Gives how many were queued.
///
/// # Errors
/// librdkafka's word.
pub fn produce(load: &Load, stop: &AtomicBool, sent: &AtomicU64) -> Result<u64, String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &load.bootstrap)
        .set("linger.ms", load.linger_ms.to_string())
        .set("acks", "1")
        .set("queue.buffering.max.messages", "1000000")
        .set("socket.nagle.disable", "true");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().map_err(|error| error.to_string())?;
    let pad = "x".repeat(load.value_bytes);
    let mut sequences = vec![0_u64; load.keys as usize];
    let (began, mut count) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * load.rate as f64) as u64;
        while count < due {
            let key = count % load.keys;
            sequences[key as usize] += 1;
            let head = format!("{{\"t\":{},\"s\":{},\"pad\":\"", monotonic_ns(), sequences[key as usize]);
            let rest = load.value_bytes.saturating_sub(head.len() + 2);
            let value = format!("{head}{}\"}}", &pad[..rest]);
            let key = key.to_string();
            let partition = Partitioner::Murmur2.partition(key.as_bytes(), load.partitions) as i32;
            let record = BaseRecord::to(&load.topic).key(key.as_bytes()).payload(value.as_bytes()).partition(partition);
            if producer.send(record).is_err() {
                break;
            }
            count += 1;
        }
        sent.store(count, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    let _ = producer.flush(Duration::from_secs(10));
    Ok(count)
}

/// Consumes from the end with a bare librdkafka consumer until told to stop: latencies from making to poll, in microseconds.
///
/// # Errors
/// librdkafka's word.
pub fn consume_bare(load: &Load, stop: &AtomicBool, settings: &[(&str, &str)]) -> Result<Histogram<u64>, String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &load.bootstrap)
        .set("group.id", "corespan-bench")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "1")
        .set("socket.nagle.disable", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..load.partitions as i32 {
        list.add_partition_offset(&load.topic, partition, KafkaOffset::End).map_err(|error| error.to_string())?;
    }
    consumer.assign(&list).map_err(|error| error.to_string())?;
    let mut latencies = latencies();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20))
            && let Some((time, _)) = message.payload().and_then(stamp)
        {
            latencies.saturating_record(monotonic_ns().saturating_sub(time) / 1_000);
        }
    }
    Ok(latencies)
}

/// Makes a topic on a real cluster, if it is not there.
///
/// # Errors
/// librdkafka's word.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32) -> Result<(), String> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().map_err(|error: rdkafka::error::KafkaError| error.to_string())?;
    let wanted = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(1));
    let answer = futures_lite::future::block_on(admin.create_topics([&wanted], &AdminOptions::new()));
    match answer.map_err(|error| error.to_string())?.into_iter().next() {
        Some(Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => Ok(()),
        Some(Err((topic, error))) => Err(format!("{topic}: {error}")),
    }
}
