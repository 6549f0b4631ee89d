//! Requests that wait at a home: until their partition is ready, or has been read up to their position. Ordered by offset and by deadline, so that
//! neither a batch nor a tick looks at one that stays.
//!
//! Bounded in number (`held.max`) and in bytes ([`HELD_BYTES_MAX`]): one more is refused, and its client tries again.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::handoff::message::ClientPosition;
use crate::handoff::{HistoryRequest, Offset, PartitionRef, ShardId, Start, SubscribeRequest};
use crate::limits::{HELD_BYTES_MAX, LOG_END_MS};

/// A request that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub from: ShardId,
    pub request: HeldRequest,
    pub deadline_ms: u64,
}

#[derive(Debug)]
pub(super) enum HeldRequest {
    Subscribe(Box<SubscribeRequest>),
    History(Box<HistoryRequest>),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct HeldRequests {
    count_max: usize,
    /// By the order in which they came.
    requests: HashMap<u64, (PartitionRef, Option<Offset>, Held)>,
    /// Of each partition by the offset that they wait for, and by their order; those that wait until it is ready have none.
    partitions: BTreeMap<PartitionRef, Queue>,
    deadlines: BTreeSet<(u64, u64)>,
    bytes: usize,
    last: u64,
}

#[derive(Debug, Default)]
struct Queue {
    by_offset: BTreeSet<(Option<Offset>, u64)>,
    /// Where the log ends was asked for: when, and on behalf of requests up to which. That is the question's number.
    asked: Option<(u64, u64)>,
    /// The newest request that wants to know.
    wants: u64,
    /// The newest that has been asked for.
    asked_for: u64,
}

impl HeldRequest {
    fn weight(&self) -> usize {
        match self {
            HeldRequest::Subscribe(request) => request.weight(),
            HeldRequest::History(request) => request.weight(),
        }
    }

    /// Beyond the end of the log a position is nonsense, and is answered as such.
    pub fn spoil_position(&mut self) {
        match self {
            HeldRequest::Subscribe(request) => {
                if let Start::Position { position, .. } = &mut request.start {
                    *position = ClientPosition::nonsense();
                }
            }
            HeldRequest::History(request) => {
                if let Some(position) = &mut request.since {
                    *position = ClientPosition::nonsense();
                }
            }
        }
    }
}

impl HeldRequests {
    pub fn new(count_max: usize) -> HeldRequests {
        HeldRequests { count_max, ..HeldRequests::default() }
    }

    /// Requests held now.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Bytes that they hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds a request until its partition is ready (`None`), or has been read up to an offset.
    ///
    /// # Errors
    /// There is no room: the request is handed back.
    pub fn hold(&mut self, at: PartitionRef, until: Option<Offset>, held: Held) -> Result<(), Held> {
        let weight = held.request.weight();
        if self.requests.len() >= self.count_max || self.bytes + weight > HELD_BYTES_MAX {
            return Err(held);
        }
        self.bytes += weight;
        self.last += 1;
        let queue = self.partitions.entry(at).or_default();
        queue.by_offset.insert((until, self.last));
        if until.is_some() {
            queue.wants = self.last;
        }
        self.deadlines.insert((held.deadline_ms, self.last));
        self.requests.insert(self.last, (at, until, held));
        Ok(())
    }

    /// Whether the end of a log is to be asked for now: somebody wants to know who came after the last question, and no question is under way (or it
    /// was for so long that its answer must be lost). Gives its number, and notes that it is asked.
    pub fn asks_log_end(&mut self, now_ms: u64, at: PartitionRef) -> Option<u64> {
        let queue = self.partitions.get_mut(&at)?;
        let lost = queue.asked.is_some_and(|(asked_ms, _)| asked_ms + LOG_END_MS <= now_ms);
        let asks = lost || queue.asked.is_none() && queue.wants > queue.asked_for;
        if asks {
            queue.asked = Some((now_ms, queue.wants));
            queue.asked_for = queue.wants;
        }
        asks.then_some(queue.asked_for)
    }

    /// Partitions whose log's end was asked for so long ago that the answer must be lost, and somebody still wants it.
    pub fn unanswered(&self, now_ms: u64) -> Vec<PartitionRef> {
        let lost = |queue: &Queue| {
            queue.asked.is_some_and(|(asked_ms, _)| asked_ms + LOG_END_MS <= now_ms)
                && queue.by_offset.last().is_some_and(|(until, _)| until.is_some())
        };
        self.partitions.iter().filter(|(_, queue)| lost(queue)).map(|(at, _)| *at).collect()
    }

    /// The answer has come. `None`: it says nothing.
    pub fn take_log_end(&mut self, at: PartitionRef, asked_for: u64, end: Option<Offset>) -> Vec<Held> {
        let Some(queue) = self.partitions.get_mut(&at) else {
            return Vec::new();
        };
        // Without an answer the question stays where it is, and is asked again when its time is over.
        let Some(end) = end else {
            return Vec::new();
        };
        queue.asked = queue.asked.filter(|(_, newest)| *newest > asked_for);
        // Only an end that was asked for after a request came says anything about it.
        let beyond = queue.by_offset.range((Some(end.next()), 0)..).filter(|(_, number)| *number <= asked_for);
        let beyond: Vec<u64> = beyond.map(|(_, number)| *number).collect();
        if queue.by_offset.is_empty() {
            self.partitions.remove(&at);
        }
        beyond.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// The next request whose partition has been read far enough.
    pub fn next_due(&mut self, at: PartitionRef, next: Offset) -> Option<Held> {
        let (until, number) = *self.partitions.get(&at)?.by_offset.first()?;
        if until.is_none_or(|until| until <= next) { self.take(number) } else { None }
    }

    /// When a request will have been held for too long.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The next request that has been held for too long.
    pub fn next_expired(&mut self, now_ms: u64) -> Option<Held> {
        let (deadline_ms, number) = *self.deadlines.first()?;
        if deadline_ms <= now_ms { self.take(number) } else { None }
    }

    /// All of them, in the order in which they came.
    pub fn take_all(&mut self) -> Vec<Held> {
        let mut numbers: Vec<u64> = self.requests.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// Partitions of a topic that somebody waits for.
    pub fn partitions_of(&self, topic: crate::handoff::TopicIndex) -> Vec<PartitionRef> {
        self.partitions.keys().copied().filter(|at| at.topic == topic).collect()
    }

    fn take(&mut self, number: u64) -> Option<Held> {
        let (at, until, held) = self.requests.remove(&number)?;
        self.bytes -= held.request.weight();
        self.deadlines.remove(&(held.deadline_ms, number));
        if let Some(queue) = self.partitions.get_mut(&at) {
            queue.by_offset.remove(&(until, number));
            // A question that is under way is remembered until its answer comes or is lost.
            if queue.by_offset.is_empty() && queue.asked.is_none() {
                self.partitions.remove(&at);
            }
        }
        if self.requests.is_empty() {
            self.requests.shrink_to_fit();
        }
        Some(held)
    }

    /// # Panics
    /// If its tables do not agree. For tests and the simulator: walks everything.
    pub fn check(&self) {
        assert!(self.requests.len() <= self.count_max && self.bytes <= HELD_BYTES_MAX, "held requests are bounded");
        assert_eq!(self.requests.values().map(|(.., held)| held.request.weight()).sum::<usize>(), self.bytes, "their bytes are counted");
        assert_eq!(self.deadlines.len(), self.requests.len(), "each has its deadline");
        assert_eq!(self.partitions.values().map(|queue| queue.by_offset.len()).sum::<usize>(), self.requests.len(), "each is in one queue");
    }
}
