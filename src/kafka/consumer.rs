//! A shard's consumer: its partitions, assigned by hand at numbers, and their records in batches.
//!
//! Polled by the shard's thread and never blocking. Assigning waits for librdkafka's main thread, so it is done by a helper thread; until an
//! assignment is made, records of the partition belong to an older one and are dropped. librdkafka's callback wakes the shard when the queue fills;
//! it is edge-triggered, so the shard also polls at every tick.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::clients::{Clients, QuietContext, close};
use super::line::Line;
use super::raw::{ConsumerQueue, RawEvent};
use super::settings::CorruptBatches;
use super::stall::{self, Renewals, Stall, Verdict};
use super::troubles;
use crate::handoff::{Generation, Offset, PartitionRef, RecordBatch};
use crate::shard::Assignment;

/// Orders that wait for the helper thread; a map of that many partitions at once would make the shard wait a moment.
const ORDERS_MAX: usize = 65_536;
/// Orders that are carried out together.
const ORDERS_AT_ONCE_MAX: usize = 4_096;
/// Topics of one round of orders whose metadata is looked at: at a start with more, the consumer has just read it anyway.
const REFRESHES_AT_ONCE_MAX: usize = 16;
/// How often the helper thread looks whether another client is to be made.
const REMADE_LOOK_TIME: Duration = Duration::from_secs(1);
/// How long a shard may take to take its new client: several of its ticks.
const HAND_OVER_TIME: Duration = Duration::from_secs(1);
const REFRESH_TIME: Duration = Duration::from_secs(2);
/// How often a queue that is not empty may come up with nothing before it is left to the next tick.
const EMPTY_POLLS_MAX: u32 = 8;
/// How often a batch that could not be read is tried again: the broker may have been mended, or another may lead the partition by then.
const CORRUPT_RETRY: Duration = Duration::from_secs(30);
/// How long a position is doubted before its log is another one: brokers hear of a new leader within a second or two.
const DOUBT_TIME: Duration = Duration::from_secs(3);
/// How long until the last record is asked for again.
const DOUBT_RETRY: Duration = Duration::from_millis(300);
/// Records of a batch: a turn's worth.
const BATCH_RECORDS_MAX: usize = 4_096;

/// What a poll gave.
pub enum Polled {
    /// Records of one partition, or only how far it has been read.
    Batch(RecordBatch),
    /// The partition's position is not in the log any more: it was truncated, or its start passed us.
    OutOfRange { partition: PartitionRef, generation: Generation, position: Offset },
    /// A topic or a partition is not there, or not any more.
    Missing,
    /// The partition is not read any further: a batch of it cannot be. Its first offset. Said once for each place.
    Corrupt { partition: PartitionRef, generation: Generation, base: Offset },
    /// It is read again.
    Mended { partition: PartitionRef, generation: Generation },
    /// The log goes on and the partition is not read, or is read again.
    Stuck { partition: PartitionRef, generation: Generation, is_stuck: bool },
    /// A corrupt batch is skipped.
    Skipped,
    /// Another client has taken the place of one that did not read.
    Renewed,
}

/// Where a partition's log ends, as another client sees it.
pub(super) type LogEnd = (PartitionRef, Generation, Offset);

/// How far a partition has been read.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub(super) partition: PartitionRef,
    pub(super) generation: Generation,
    pub(super) next: Offset,
    /// It stands before a corrupt batch.
    pub(super) held: bool,
}

/// Looks for the first offset behind a batch that cannot be read, of which only the first offset is known: librdkafka does not tell its length, and
/// the batch cannot be asked. Kafka answers a fetch at any offset of a batch with the whole of it, so trying offsets tells where it ends: with
/// doubled steps until one is behind it, then by halves. Two times the logarithm of the batch's records are tried, 62 at most.
#[derive(Clone, Copy, Debug)]
struct Search {
    base: i64,
    /// The highest offset known to be in the batch.
    inside: i64,
    /// The lowest offset known to be behind it.
    behind: Option<i64>,
}

impl Search {
    fn new(base: i64, position: i64) -> Search {
        Search { base, inside: base.max(position), behind: None }
    }

    /// The offset to try next.
    fn probe(&self) -> i64 {
        match self.behind {
            Some(behind) => self.inside + (behind - self.inside) / 2,
            None => self.inside.saturating_add((self.inside - self.base).max(1)),
        }
    }

    /// What the fetch at `probe()` has shown. Gives the first offset behind the batch once it is known.
    fn tell(&mut self, is_inside: bool) -> Option<i64> {
        let probe = self.probe();
        if is_inside {
            self.inside = probe;
        } else {
            self.behind = Some(probe);
        }
        self.behind.filter(|behind| *behind <= self.inside + 1)
    }
}

/// A partition that met a batch that cannot be read.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// It stands before the batch; tried again then.
    Stopped {
        base: i64,
        retry_at: Option<Instant>,
    },
    Searching(Search),
}

/// A position that the log may not hold.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Until then whoever answers may be a broker that has not heard of the newest leader.
    until: Instant,
    /// When the last record is asked for again.
    again_at: Option<Instant>,
}

struct Reading {
    partition: PartitionRef,
    generation: Generation,
    next: Offset,
    /// Of the last record; -1 before the first.
    leader_epoch: i32,
    /// The last record that was read.
    last: Option<Offset>,
    /// The partition is being read from its last record on, to see whether the log still has that one.
    doubt: Option<Doubt>,
    /// Set by the helper once no older assignment can give records.
    current: Arc<AtomicBool>,
    trouble: Option<Trouble>,
    stall: Option<Stall>,
}

/// Where an assignment starts, and the flag of its reading.
struct StartFrom {
    start: Offset,
    current: Arc<AtomicBool>,
}

enum Order {
    Assign {
        topic: Arc<str>,
        partition: i32,
        from: StartFrom,
    },
    Unassign {
        topic: Arc<str>,
        partition: i32,
    },
    /// Make another client in place of the one that is stuck.
    Renew,
}

type Client = BaseConsumer<QuietContext>;
type OnRecords = Arc<dyn Fn() + Send + Sync>;

fn make(clients: &Clients, wake: &OnRecords) -> Result<Arc<Client>, rdkafka::error::KafkaError> {
    let wake = wake.clone();
    clients.make(QuietContext, |_| {}, |consumer: &mut Client| consumer.set_nonempty_callback(move || wake()))
}

/// See the module's documentation.
pub struct ShardConsumer {
    queue: ConsumerQueue,
    orders: Line<Order>,
    /// Places in `readings`; a partition keeps its place.
    places: HashMap<String, HashMap<i32, usize>>,
    readings: Vec<Option<Reading>>,
    /// A record that began the next batch.
    ahead: Option<(PartitionRef, RecordBatch)>,
    /// What is to be said beside records.
    told: VecDeque<Polled>,
    corrupt: CorruptBatches,
    /// When the next of the stopped partitions is tried again.
    retry_at: Option<Instant>,
    /// When something is to be done about a doubt.
    doubts_at: Option<Instant>,
    /// Where logs end, now and then.
    ends: Receiver<Vec<LogEnd>>,
    /// And how far they have been read, in answer to that.
    progress: Sender<Vec<Progress>>,
    /// The client that the helper has made in place of a stuck one.
    renewed: Receiver<Arc<Client>>,
    renewals: Renewals,
    /// Times of `stall` count from here.
    begun: Instant,
    /// When everything that had been fetched was taken last, as far as a look at ends wants to know.
    drained_ms: u64,
    // Dropped after `queue`, off this thread.
    consumer: Option<Arc<BaseConsumer<QuietContext>>>,
}

impl ShardConsumer {
    /// Makes the client (with its threads: call it under the housekeeping mask). `wake` is called by librdkafka's threads when records arrive.
    ///
    /// # Errors
    /// librdkafka's word when it does not take the configuration.
    pub(super) fn new(
        clients: Arc<Clients>,
        corrupt: CorruptBatches,
        ends: Receiver<Vec<LogEnd>>,
        progress: Sender<Vec<Progress>>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<ShardConsumer, rdkafka::error::KafkaError> {
        let wake: OnRecords = Arc::new(wake);
        let remade = clients.remade();
        let consumer = make(&clients, &wake)?;
        let queue = ConsumerQueue::of(consumer.client().native_ptr());
        let (orders, inbox) = bounded::<Order>(ORDERS_MAX);
        let (hand_over, renewed) = bounded(1);
        let assigner = consumer.clone();
        thread::Builder::new()
            .name("assign".to_owned())
            .spawn(move || {
                carry_out(assigner, &inbox, &clients, remade, || {
                    let made = make(&clients, &wake)?;
                    // The shard takes one with its next poll.
                    let taken = hand_over.send_timeout(made.clone(), HAND_OVER_TIME);
                    taken.map_err(|_| rdkafka::error::KafkaError::ClientCreation("the one before is not taken yet".to_owned()))?;
                    wake();
                    Ok(made)
                });
            })
            .map_err(|error| rdkafka::error::KafkaError::ClientCreation(error.to_string()))?;
        Ok(ShardConsumer {
            queue,
            orders: Line::new(orders),
            places: HashMap::new(),
            readings: Vec::new(),
            ahead: None,
            told: VecDeque::new(),
            corrupt,
            retry_at: None,
            doubts_at: None,
            ends,
            progress,
            renewed,
            renewals: Renewals::new(),
            begun: Instant::now(),
            drained_ms: 0,
            consumer: Some(consumer),
        })
    }

    /// Reads a partition from a number on, in place of an older reading of it.
    pub fn assign(&mut self, assignment: Assignment) {
        let Assignment { partition, topic, generation, start } = assignment;
        let number = partition.partition as i32;
        let current = Arc::new(AtomicBool::new(false));
        let reading = Reading {
            partition,
            generation,
            next: start,
            leader_epoch: -1,
            last: None,
            doubt: None,
            current: current.clone(),
            trouble: None,
            stall: None,
        };
        let places = self.places.entry(topic.to_string()).or_default();
        let place = *places.entry(number).or_insert(self.readings.len());
        if place == self.readings.len() {
            self.readings.push(None);
        }
        self.readings[place] = Some(reading);
        self.orders.say(Order::Assign { topic, partition: number, from: StartFrom { start, current } });
    }

    /// Reads a partition no longer.
    pub fn unassign(&mut self, partition: PartitionRef) {
        let number = partition.partition as i32;
        for (topic, places) in &self.places {
            if let Some(place) = places.get(&number)
                && self.readings[*place].as_ref().is_some_and(|reading| reading.partition == partition)
            {
                self.readings[*place] = None;
                self.orders.say(Order::Unassign { topic: Arc::from(topic.as_str()), partition: number });
                return;
            }
        }
    }

    /// Every partition that has a place: topic, number, place.
    fn all_places(&self) -> Vec<(String, i32, usize)> {
        self.places.iter().flat_map(|(topic, places)| places.iter().map(|(number, place)| (topic.clone(), *number, *place))).collect()
    }

    /// The reading of a partition, once no older one can give records.
    fn current(&mut self, topic: &str, partition: i32) -> Option<&mut Reading> {
        let place = *self.places.get(topic)?.get(&partition)?;
        self.readings[place].as_mut().filter(|reading| reading.current.load(Ordering::Acquire))
    }

    /// Reads on from `start` with a new assignment of the same reading.
    fn reassign(&mut self, topic: &str, number: i32, start: Offset) {
        let place = self.places.get(topic).and_then(|places| places.get(&number));
        let Some(reading) = place.and_then(|place| self.readings[*place].as_mut()) else { return };
        let current = Arc::new(AtomicBool::new(false));
        reading.current = current.clone();
        self.orders.say(Order::Assign { topic: Arc::from(topic), partition: number, from: StartFrom { start, current } });
    }

    /// librdkafka says that the log does not hold the partition's position. It says so of logs that do, while leaders move: a broker that has not heard
    /// of the newest epoch yet does not know its records. An offset and its leader epoch are one record in all of a log's life, so the last record that
    /// was read is read again: if it is there, the log is the same up to it, and reading goes on behind it. If not within [`DOUBT_TIME`], the log is
    /// another one. What is to be said then.
    fn doubt(&mut self, topic: &str, number: i32) -> Option<Polled> {
        let now = Instant::now();
        let reading = self.current(topic, number)?;
        let (partition, generation, position) = (reading.partition, reading.generation, reading.next);
        let last = reading.last.filter(|_| reading.leader_epoch >= 0);
        match (last, &mut reading.doubt) {
            (Some(_), Some(doubt)) if now < doubt.until => {
                doubt.again_at = Some(now + DOUBT_RETRY);
                self.doubts_at = Some(self.doubts_at.map_or(now + DOUBT_RETRY, |at| at.min(now + DOUBT_RETRY)));
                None
            }
            (Some(last), doubt @ None) => {
                let until = now + DOUBT_TIME;
                *doubt = Some(Doubt { until, again_at: None });
                self.doubts_at = Some(self.doubts_at.map_or(until, |at| at.min(until)));
                tracing::info!(
                    topic,
                    partition = number,
                    position = position.0,
                    "the log is said not to hold this position: its last record is read again"
                );
                self.reassign(topic, number, last);
                None
            }
            _ => {
                // It is read no further as if it were the same log.
                reading.current = Arc::default();
                Some(Polled::OutOfRange { partition, generation, position })
            }
        }
    }

    /// Ends the doubts whose time is over, and asks again for last records.
    fn look_at_doubts(&mut self) {
        let now = Instant::now();
        if self.doubts_at.is_none_or(|at| now < at) {
            return;
        }
        self.doubts_at = None;
        for (topic, number, place) in self.all_places() {
            let Some(reading) = self.readings[place].as_mut() else { continue };
            let (Some(doubt), Some(last)) = (&mut reading.doubt, reading.last) else { continue };
            let due = doubt.again_at.filter(|at| *at <= now).is_some();
            if due {
                doubt.again_at = None;
            }
            let next = doubt.again_at.unwrap_or(doubt.until);
            if doubt.until <= now {
                match self.doubt(&topic, number) {
                    Some(told) => self.told.push_back(told),
                    // Its last assignment is not made yet.
                    None => self.doubts_at = Some(self.doubts_at.map_or(now + DOUBT_RETRY, |at| at.min(now + DOUBT_RETRY))),
                }
                continue;
            }
            self.doubts_at = Some(self.doubts_at.map_or(next, |at| at.min(next)));
            if due {
                self.reassign(&topic, number, last);
            }
        }
    }

    /// A batch of the partition cannot be read, or could be after all (`None`), as a record or the end of the log shows. Whether it is to be read on
    /// with what came.
    fn met(&mut self, topic: &str, number: i32, base: Option<i64>) -> bool {
        let corrupt = self.corrupt;
        let Some(reading) = self.current(topic, number) else {
            return false;
        };
        let (partition, generation, next) = (reading.partition, reading.generation, reading.next);
        if base.is_some() {
            // What cannot be read says nothing of the log's end.
            reading.doubt = None;
        }
        match (reading.trouble, base) {
            (None, None) => return true,
            (Some(Trouble::Stopped { .. }), None) => {
                reading.trouble = None;
                tracing::info!(topic, partition = number, "the partition is read again: its corrupt batch has become readable");
                self.told.push_back(Polled::Mended { partition, generation });
                return true;
            }
            (Some(Trouble::Searching(mut search)), base) => {
                let found = search.tell(base == Some(search.base));
                reading.trouble = if found.is_some() { None } else { Some(Trouble::Searching(search)) };
                let start = found.unwrap_or_else(|| search.probe());
                if let Some(behind) = found {
                    // A way back to it leads through the batch.
                    reading.last = None;
                    reading.next = reading.next.max(Offset(behind));
                    tracing::error!(
                        topic,
                        partition = number,
                        from = search.base,
                        to = behind - 1,
                        "the records of a corrupt batch are skipped, as kafka.consumer.corrupt.batches = \"skip\" says: clients never get them"
                    );
                    self.told.push_back(Polled::Skipped);
                }
                self.reassign(topic, number, Offset(start));
            }
            (trouble, Some(base)) => {
                // What librdkafka makes of the rest of such a batch is chance: nothing more of this assignment is taken.
                if corrupt == CorruptBatches::Skip {
                    tracing::error!(
                        topic,
                        partition = number,
                        offset = base,
                        "a batch cannot be read: its bytes are corrupt; looking for its end"
                    );
                    let search = Search::new(base, next.0);
                    reading.trouble = Some(Trouble::Searching(search));
                    self.reassign(topic, number, Offset(search.probe()));
                    return false;
                }
                let is_known = matches!(trouble, Some(Trouble::Stopped { base: known, .. }) if known == base);
                let retry_at = Instant::now() + CORRUPT_RETRY;
                reading.trouble = Some(Trouble::Stopped { base, retry_at: Some(retry_at) });
                reading.current = Arc::default();
                self.retry_at = Some(self.retry_at.map_or(retry_at, |earlier| earlier.min(retry_at)));
                self.orders.say(Order::Unassign { topic: Arc::from(topic), partition: number });
                if !is_known {
                    tracing::error!(
                        topic,
                        partition = number,
                        offset = base,
                        "a batch cannot be read: its bytes are corrupt. The partition is read no further until it can be; mend the log, or skip the \
                         batch with kafka.consumer.\"corrupt.batches\" = \"skip\""
                    );
                    self.told.push_back(Polled::Corrupt { partition, generation, base: Offset(base) });
                }
            }
        }
        false
    }

    /// Tries the stopped partitions again whose time has come.
    fn retry_stopped(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_none_or(|retry_at| now < retry_at) {
            return;
        }
        self.retry_at = None;
        for (topic, number, place) in self.all_places() {
            let Some(reading) = self.readings[place].as_mut() else { continue };
            let Some(Trouble::Stopped { retry_at: retry, .. }) = &mut reading.trouble else { continue };
            match *retry {
                Some(due) if due > now => self.retry_at = Some(self.retry_at.map_or(due, |earlier| earlier.min(due))),
                Some(_) => {
                    *retry = None;
                    let next = reading.next;
                    self.reassign(&topic, number, next);
                }
                None => {}
            }
        }
    }

    /// Another client says where the logs end: a partition that has not moved since, although its log has, is assigned anew; then the client is made
    /// anew. What was read before stays: positions go on where they were.
    fn look_at_ends(&mut self, ends: Vec<LogEnd>) {
        let now_ms = self.begun.elapsed().as_millis() as u64;
        let drained_ms = if self.queue.len() == 0 { now_ms } else { self.drained_ms };
        let ends: HashMap<(PartitionRef, Generation), Offset> =
            ends.into_iter().map(|(partition, generation, end)| ((partition, generation), end)).collect();
        let mut renew = false;
        for (topic, number, place) in self.all_places() {
            // A doubt ends by itself.
            let quiet = |reading: &&mut Reading| reading.trouble.is_none() && reading.doubt.is_none();
            let Some(reading) = self.readings[place].as_mut().filter(quiet) else { continue };
            let (partition, generation, next) = (reading.partition, reading.generation, reading.next);
            let Some(end) = ends.get(&(partition, generation)).copied() else { continue };
            match stall::look(&mut reading.stall, next, end, drained_ms, now_ms) {
                Verdict::Quiet => {}
                Verdict::ReadAgain => {
                    tracing::info!(topic, partition = number, position = next.0, "the partition is read again");
                    self.renewals.reads_again();
                    self.told.push_back(Polled::Stuck { partition, generation, is_stuck: false });
                }
                Verdict::Assign => {
                    tracing::warn!(
                        topic,
                        partition = number,
                        position = next.0,
                        end = end.0,
                        "the log goes on, or is cut short, and the partition is not read: it is assigned anew"
                    );
                    self.told.push_back(Polled::Stuck { partition, generation, is_stuck: true });
                    self.reassign(&topic, number, next);
                }
                Verdict::Renew => renew = true,
            }
        }
        if renew && self.renewals.may_renew(now_ms) {
            tracing::warn!("a consumer reads nothing although its partitions' logs go on: another takes its place");
            self.orders.say(Order::Renew);
        }
    }

    /// Takes the client that was made in place of a stuck one, and has it read everything from where it stood.
    fn take_renewed(&mut self, consumer: Arc<Client>) {
        let queue = ConsumerQueue::of(consumer.client().native_ptr());
        drop(std::mem::replace(&mut self.queue, queue));
        close(self.consumer.replace(consumer));
        self.told.push_back(Polled::Renewed);
        for (topic, number, place) in self.all_places() {
            let stopped = |reading: &&Reading| !matches!(reading.trouble, Some(Trouble::Stopped { .. }));
            let start = |reading: &Reading| reading.doubt.and(reading.last).unwrap_or(reading.next);
            if let Some(start) = self.readings[place].as_ref().filter(stopped).map(start) {
                self.reassign(&topic, number, start);
            }
        }
    }

    /// What waits: consecutive records of one partition, about `bytes_max` bytes of them.
    pub fn poll(&mut self, bytes_max: usize) -> Option<Polled> {
        self.orders.catch_up();
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        self.retry_stopped();
        self.look_at_doubts();
        if let Ok(consumer) = self.renewed.try_recv() {
            self.take_renewed(consumer);
        }
        if let Ok(ends) = self.ends.try_recv() {
            let reading = |reading: &Reading| {
                let Reading { partition, generation, next, trouble, .. } = *reading;
                Progress { partition, generation, next, held: trouble.is_some() }
            };
            // An answer that finds no room is followed by another.
            let _ = self.progress.try_send(self.readings.iter().flatten().map(reading).collect());
            self.look_at_ends(ends);
        }
        let mut batch = self.ahead.take();
        let mut bytes = batch.as_ref().map_or(0, |(_, batch)| batch.records.iter().map(|record| record.weight()).sum());
        let mut empty_polls = 0;
        loop {
            if let Some((_, full)) = &batch
                && (bytes >= bytes_max || full.records.len() >= BATCH_RECORDS_MAX)
            {
                break;
            }
            let (places, readings) = (&self.places, &self.readings);
            let mut found = None;
            let event = self.queue.poll(|topic, partition| {
                let place = std::str::from_utf8(topic).ok().and_then(|topic| places.get(topic)).and_then(|places| places.get(&partition));
                found =
                    place.copied().filter(|place| readings[*place].as_ref().is_some_and(|reading| reading.current.load(Ordering::Acquire)));
                found.is_some()
            });
            match event {
                None => {
                    // An empty poll does not prove an empty queue. If it goes on, the tick polls again.
                    empty_polls += 1;
                    let is_empty = self.queue.len() == 0;
                    if is_empty {
                        self.drained_ms = self.begun.elapsed().as_millis() as u64;
                    }
                    if is_empty || empty_polls >= EMPTY_POLLS_MAX {
                        break;
                    }
                }
                Some(RawEvent::Record { record }) => {
                    let in_trouble = found.and_then(|place| self.readings[place].as_ref()).is_some_and(|reading| reading.trouble.is_some());
                    if in_trouble
                        && let Some((topic, number)) = found.and_then(|place| self.name_of(place))
                        && !self.met(&topic, number, None)
                    {
                        continue;
                    }
                    let Some(reading) = found.and_then(|place| self.readings[place].as_mut()) else { continue };
                    let is_doubted = reading.doubt.take().is_some();
                    let is_last = (Some(record.offset), record.leader_epoch) == (reading.last, reading.leader_epoch);
                    if is_doubted && is_last {
                        continue;
                    }
                    if is_doubted || record.leader_epoch >= 0 && record.leader_epoch < reading.leader_epoch {
                        // Leader epochs never go back in a log: this is another one, under the old name. It is read no further as if it were.
                        reading.current = Arc::default();
                        let (partition, generation, position) = (reading.partition, reading.generation, reading.next);
                        self.ahead = batch;
                        return Some(Polled::OutOfRange { partition, generation, position });
                    }
                    reading.leader_epoch = reading.leader_epoch.max(record.leader_epoch);
                    (reading.last, reading.next) = (Some(record.offset), record.offset.next());
                    let (at, generation, next) = (reading.partition, reading.generation, reading.next);
                    bytes += record.weight();
                    match &mut batch {
                        Some((current, batch)) if *current == at && batch.generation == generation => {
                            batch.records.push(record);
                            batch.next = next;
                        }
                        Some(_) => {
                            self.ahead = Some((at, RecordBatch { partition: at, generation, records: vec![record], next }));
                            break;
                        }
                        None => batch = Some((at, RecordBatch { partition: at, generation, records: vec![record], next })),
                    }
                }
                Some(RawEvent::EndOfPartition { topic, partition, offset }) => {
                    if !self.met(&topic, partition, None) {
                        continue;
                    }
                    let Some(reading) = self.current(&topic, partition) else { continue };
                    let (at, generation, next) = (reading.partition, reading.generation, Offset(offset));
                    if reading.doubt.is_some() {
                        // Whoever says so may not have heard of the newest leader.
                        continue;
                    }
                    if next < reading.next {
                        continue;
                    }
                    reading.next = next;
                    match &mut batch {
                        Some((current, batch)) if *current == at && batch.generation == generation => batch.next = next,
                        Some(_) => {
                            self.ahead = Some((at, RecordBatch { partition: at, generation, records: Vec::new(), next }));
                            break;
                        }
                        None => return Some(Polled::Batch(RecordBatch { partition: at, generation, records: Vec::new(), next })),
                    }
                }
                Some(RawEvent::Error { code, place, offset, text }) => {
                    use rdkafka::bindings::rd_kafka_resp_err_t as Code;
                    let lost = matches!(code, Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
                    let corrupt = matches!(
                        code,
                        Code::RD_KAFKA_RESP_ERR__BAD_MSG
                            | Code::RD_KAFKA_RESP_ERR__BAD_COMPRESSION
                            | Code::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
                    );
                    // After a corrupt batch librdkafka takes what follows for another one, with an offset beyond all logs, asks for that, and says so
                    // when there is a new assignment already. No batch is longer than this.
                    if let (true, Some((topic, partition))) = (corrupt || lost, &place)
                        && let Some(reading) = self.current(topic, *partition)
                        && offset > reading.next.0.saturating_add(i64::from(i32::MAX))
                    {
                        tracing::debug!(?place, offset, "consumer, of no such offset: {text}");
                        continue;
                    }
                    if let (true, Some((topic, partition))) = (corrupt && offset >= 0, &place) {
                        tracing::debug!(?place, offset, "consumer: {text}");
                        self.met(topic, *partition, Some(offset));
                        continue;
                    }
                    // A search that has gone past the end of the log is behind the batch, too.
                    if let (true, Some((topic, partition))) = (lost, &place)
                        && self.current(topic, *partition).is_some_and(|reading| matches!(reading.trouble, Some(Trouble::Searching(_))))
                    {
                        self.met(topic, *partition, None);
                        continue;
                    }
                    if let (true, Some((topic, partition))) = (lost, &place)
                        && self.current(topic, *partition).is_some()
                    {
                        tracing::debug!(topic, partition, "consumer: {text}");
                        // The topic may have been made again: its id tells.
                        let told = self.doubt(topic, *partition).unwrap_or(Polled::Missing);
                        self.ahead = batch;
                        return Some(told);
                    }
                    if place.is_none() {
                        troubles::say(&text);
                    } else {
                        tracing::debug!(?place, "consumer: {text}");
                    }
                    let missing = matches!(
                        code,
                        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
                            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
                            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
                            // Another cluster may come up at the same address.
                            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
                    );
                    if missing {
                        self.ahead = batch;
                        return Some(Polled::Missing);
                    }
                }
                Some(RawEvent::Log { level, text }) => tracing::debug!(level, "librdkafka: {text}"),
                Some(RawEvent::Other) => {}
            }
        }
        match batch {
            Some((_, batch)) => Some(Polled::Batch(batch)),
            None => self.told.pop_front(),
        }
    }

    /// Has every position doubted, as librdkafka does for no reason. For tests.
    pub(super) fn doubt_all(&mut self) {
        for (topic, number, _) in self.all_places() {
            let told = self.doubt(&topic, number);
            self.told.extend(told);
        }
    }

    /// Stops fetching without a word, as librdkafka does when it is stuck. For tests.
    pub(super) fn go_deaf(&self) {
        if let Some(consumer) = &self.consumer
            && let Ok(assigned) = consumer.assignment()
        {
            let _ = consumer.pause(&assigned);
        }
    }

    /// The topic and the number of a place.
    fn name_of(&self, place: usize) -> Option<(String, i32)> {
        self.places
            .iter()
            .find_map(|(topic, places)| places.iter().find(|(_, other)| **other == place).map(|(number, _)| (topic.clone(), *number)))
    }
}

impl Drop for ShardConsumer {
    fn drop(&mut self) {
        // Never on a shard's thread.
        close(self.consumer.take());
    }
}

/// The helper thread: carries out orders, all that wait at once, for each call waits for librdkafka's main thread; and has another client made when
/// those of its kind are to be (`remade` is that of the first).
fn carry_out(
    mut consumer: Arc<Client>,
    inbox: &Receiver<Order>,
    clients: &Clients,
    mut remade: u64,
    renew: impl Fn() -> Result<Arc<Client>, rdkafka::error::KafkaError>,
) {
    let mut assigned: HashSet<(Arc<str>, i32)> = HashSet::new();
    loop {
        let mut waiting = match inbox.recv_timeout(REMADE_LOOK_TIME) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if remade != clients.remade() {
            remade = clients.remade();
            tracing::debug!("another consumer is made, for certificates or keys have changed");
            waiting.push(Order::Renew);
        }
        if waiting.is_empty() {
            continue;
        }
        // The last order for a partition is the one that counts.
        let mut orders: HashMap<(Arc<str>, i32), Option<StartFrom>> = HashMap::new();
        for order in waiting.into_iter().chain(inbox.try_iter().take(ORDERS_AT_ONCE_MAX)) {
            match order {
                Order::Assign { topic, partition, from } => orders.insert((topic, partition), Some(from)),
                Order::Unassign { topic, partition } => orders.insert((topic, partition), None),
                Order::Renew => {
                    match renew() {
                        // What comes for it from now on are the assignments that its shard makes once it has it.
                        Ok(made) => {
                            close(Some(std::mem::replace(&mut consumer, made)));
                            assigned.clear();
                        }
                        Err(error) => tracing::error!(%error, "another consumer cannot be made"),
                    }
                    None
                }
            };
        }
        let mut removed = TopicPartitionList::new();
        let mut added = TopicPartitionList::new();
        let mut topics: HashSet<Arc<str>> = HashSet::new();
        for (place, order) in &orders {
            if assigned.remove(place) {
                removed.add_partition(&place.0, place.1);
            }
            if let Some(from) = order {
                // A list takes any number as its offset.
                let _ = added.add_partition_offset(&place.0, place.1, KafkaOffset::Offset(from.start.0));
                topics.insert(place.0.clone());
                assigned.insert(place.clone());
            }
        }
        if removed.count() > 0
            && let Err(error) = consumer.incremental_unassign(&removed)
        {
            tracing::error!(?removed, %error, "partitions cannot be let go");
        }
        // From here on an older assignment gives no more records.
        for from in orders.into_values().flatten() {
            from.current.store(true, Ordering::Release);
        }
        if added.count() > 0 {
            // Before the first fetch: librdkafka fetches by the topic id that it knows, and a broker that lags may have the log of the old one still.
            refresh(&consumer, &topics);
            if let Err(error) = consumer.incremental_assign(&added) {
                tracing::error!(?added, %error, "partitions cannot be read");
            }
        }
    }
}

/// Has the consumer look at the topics' metadata if what it knows is older than the map: it would find a new partition, or a new leader, only at its
/// own next look (`topic.metadata.refresh.interval.ms`).
fn refresh(consumer: &BaseConsumer<QuietContext>, topics: &HashSet<Arc<str>>) {
    for topic in topics.iter().take(REFRESHES_AT_ONCE_MAX) {
        if let Err(error) = consumer.fetch_metadata(Some(topic), REFRESH_TIME) {
            tracing::debug!(%topic, %error, "metadata for an assignment");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Search;

    #[test]
    fn the_end_of_a_batch_is_found_by_trying_offsets() {
        for (base, position) in [(0, 0), (7, 7), (7, 9)] {
            for end in (position + 1..position + 70).chain([position + 1_000_000, position + i64::from(i32::MAX)]) {
                let mut search = Search::new(base, position);
                let mut tries = 1;
                let mut found = search.tell(search.probe() < end);
                while found.is_none() {
                    tries += 1;
                    found = search.tell(search.probe() < end);
                }
                assert_eq!(found, Some(end));
                assert!(tries <= 64, "{tries}");
            }
        }
    }
}
