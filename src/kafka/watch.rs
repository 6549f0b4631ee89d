//! The watch: where the logs end, as a client of its own sees it, and how far this node has read them.
//!
//! It trusts no client, its own included. Every two seconds it asks where the logs end and tells each shard: a shard's consumer that stands still
//! meanwhile is stuck (`ShardConsumer::look_at_ends`). Each shard answers how far it has read, and from both comes a partition's *staleness*: everything
//! that its log had so many seconds ago has been read. It grows when records are not read fast enough, when nothing is read, and when nobody can say
//! where the log ends, for its leader is away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::clients::{Clients, QuietContext, close};
use super::consumer::{LogEnd, Progress};
use super::librdkafka::adjust_for_reading;
use super::lock;
use crate::handoff::{Generation, Offset, PartitionRef, ShardId};

/// How often the watch looks where the logs end.
const WATCH_TIME: Duration = Duration::from_secs(2);
/// How long one request for ends may take.
const ROUND_TIME: Duration = Duration::from_secs(2);
/// Looks without an answer before the watch makes another client.
const FAILURES_MAX: u32 = 3;
/// How long a shard has to say how far it has read: several of its ticks.
const PROGRESS_TIME: Duration = Duration::from_millis(100);
/// From this staleness on a node is not ready: longer than it takes another broker to answer in a dead one's place.
pub(super) const STALE_TIME: Duration = Duration::from_secs(10);

/// A partition that some shard reads.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) topic: Arc<str>,
    pub(super) partition: PartitionRef,
    pub(super) generation: Generation,
    pub(super) owner: ShardId,
}

/// How a partition stands.
#[derive(Clone, Debug)]
struct Standing {
    generation: Generation,
    next: Option<Offset>,
    end: Option<Offset>,
    /// Everything that the log had then has been read.
    fresh_at: Instant,
    /// An end that has not been reached yet, and when it was seen.
    target: Option<(Instant, Offset)>,
}

impl Standing {
    fn new(generation: Generation, now: Instant) -> Standing {
        Standing { generation, next: None, end: None, fresh_at: now, target: None }
    }

    /// The log ended there.
    fn saw_end(&mut self, end: Offset, now: Instant) {
        self.end = Some(end);
        if self.next.is_some_and(|next| next >= end) {
            (self.fresh_at, self.target) = (now, None);
        } else {
            self.target.get_or_insert((now, end));
        }
    }

    /// It has been read up to there; `held`: on purpose no further.
    fn has_read(&mut self, next: Offset, held: bool, now: Instant) {
        self.next = Some(next);
        if held {
            (self.fresh_at, self.target) = (now, None);
        } else if let Some((at, _)) = self.target.filter(|(_, end)| next >= *end) {
            (self.fresh_at, self.target) = (at, None);
        }
    }
}

/// How a partition stands, for people and for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStanding {
    pub topic: Arc<str>,
    pub partition: u32,
    /// Offsets that the log has and the node has not read yet (records and control records); `None` as long as nobody could say where the log ends.
    pub lag: Option<u64>,
    /// Everything that the log had so long ago has been read.
    pub staleness: Duration,
    /// The broker that leads it; `None` if none does.
    pub leader: Option<i32>,
}

/// What the reader, the watch and the answering thread share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watched: Mutex<Vec<Watched>>,
    standings: Mutex<HashMap<PartitionRef, Standing>>,
    /// Negative: none.
    leaders: Mutex<HashMap<PartitionRef, i32>>,
}

impl Watch {
    /// What is read from now on.
    pub(super) fn set_watched(&self, watched: Vec<Watched>) {
        let now = Instant::now();
        let mut standings = lock(&self.standings);
        let mut old = std::mem::take(&mut *standings);
        for one in &watched {
            let known = old.remove(&one.partition).filter(|known| known.generation == one.generation);
            standings.insert(one.partition, known.unwrap_or_else(|| Standing::new(one.generation, now)));
        }
        drop(standings);
        *lock(&self.watched) = watched;
    }

    pub(super) fn set_leaders(&self, leaders: HashMap<PartitionRef, i32>) {
        *lock(&self.leaders) = leaders;
    }

    /// The broker that leads a partition as far as is known; negative if none does.
    pub(super) fn leader(&self, partition: PartitionRef) -> Option<i32> {
        lock(&self.leaders).get(&partition).copied()
    }

    /// How every partition that is read stands.
    pub(super) fn standings(&self) -> Vec<PartitionStanding> {
        let watched = lock(&self.watched).clone();
        let (standings, leaders) = (lock(&self.standings), lock(&self.leaders));
        let standing = |one: &Watched| {
            let known = standings.get(&one.partition)?;
            let lag = known.end.zip(known.next).map(|(end, next)| (end.0 - next.0).max(0) as u64);
            let leader = leaders.get(&one.partition).copied().filter(|leader| *leader >= 0);
            let (topic, partition) = (one.topic.clone(), one.partition.partition);
            Some(PartitionStanding { topic, partition, lag, staleness: known.fresh_at.elapsed(), leader })
        };
        watched.iter().filter_map(standing).collect()
    }

    /// Partitions that are stale, each in one line.
    pub(super) fn stale(&self) -> Vec<String> {
        let stale = self.standings().into_iter().filter(|standing| standing.staleness >= STALE_TIME);
        let mut lines: Vec<String> = stale
            .map(|PartitionStanding { topic, partition, lag, staleness, leader }| {
                let seconds = staleness.as_secs();
                let what = match (leader, lag) {
                    (None, _) => format!("no broker leads it, not read for {seconds} s"),
                    (_, Some(lag)) if lag > 0 => format!("read {lag} offsets and {seconds} s behind its log"),
                    (Some(leader), _) => format!("not read for {seconds} s, and broker {leader} does not say where its log ends"),
                };
                format!("topic {topic} partition {partition}: {what}")
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    /// The thread. `watchers`: each shard's line for ends; `progress`: and the one for how far it has read.
    pub(super) fn run(
        &self,
        clients: &Clients,
        watchers: &[Sender<Vec<LogEnd>>],
        progress: &[Receiver<Vec<Progress>>],
        ended: &Receiver<()>,
    ) {
        let mut client = None;
        let mut remade = clients.remade();
        let mut failures = 0;
        while ended.recv_timeout(WATCH_TIME) == Err(RecvTimeoutError::Timeout) {
            let watched = lock(&self.watched).clone();
            if watched.is_empty() {
                continue;
            }
            let make = || clients.make(QuietContext, adjust_for_reading, |_: &mut BaseConsumer<QuietContext>| {}).ok();
            if remade != clients.remade() {
                remade = clients.remade();
                close(client.take());
            }
            if client.is_none() {
                client = make();
            }
            let Some(asked) = &client else { continue };
            while asked.poll(Duration::ZERO).is_some() {}
            let now = Instant::now();
            let ends = self.ends(asked, &watched);
            if ends.is_empty() {
                failures += 1;
                if failures >= FAILURES_MAX {
                    failures = 0;
                    close(client.take());
                }
                continue;
            }
            failures = 0;
            {
                let mut standings = lock(&self.standings);
                for (partition, generation, end) in &ends {
                    if let Some(known) = standings.get_mut(partition).filter(|known| known.generation == *generation) {
                        known.saw_end(*end, now);
                    }
                }
            }
            for (shard, watcher) in watchers.iter().enumerate() {
                // What it has said too late for the last look.
                while progress[shard].try_recv().is_ok() {}
                let mine =
                    |(partition, _, _): &&LogEnd| watched.iter().any(|one| one.partition == *partition && one.owner.index() == shard);
                // A shard that has not taken the last look yet takes that.
                let _ = watcher.try_send(ends.iter().filter(mine).copied().collect());
            }
            let until = Instant::now() + PROGRESS_TIME;
            for said in progress {
                let Ok(said) = said.recv_deadline(until) else { continue };
                let mut standings = lock(&self.standings);
                for Progress { partition, generation, next, held } in said {
                    if let Some(known) = standings.get_mut(&partition).filter(|known| known.generation == generation) {
                        known.has_read(next, held, now);
                    }
                }
            }
        }
    }

    /// Where the logs end. All are asked for together; those that had no answer once more, with what the cluster says now of their leaders and each
    /// leader alone, so that a dead one costs the others nothing. librdkafka itself would not look: it asks a broker that has been away by its old
    /// leader epoch, is refused, and asks again in the same way.
    fn ends(&self, client: &BaseConsumer<QuietContext>, watched: &[Watched]) -> Vec<LogEnd> {
        let mut ends = round(client, watched.iter());
        let answered: HashSet<PartitionRef> = ends.iter().map(|(partition, _, _)| *partition).collect();
        let mut missing = watched.iter().filter(|one| !answered.contains(&one.partition)).peekable();
        if missing.peek().is_none() || !self.look_for_leaders(client, watched) {
            return ends;
        }
        let mut groups: HashMap<i32, Vec<&Watched>> = HashMap::new();
        for one in missing {
            groups.entry(self.leader(one.partition).unwrap_or(-1)).or_default().push(one);
        }
        groups.remove(&-1);
        ends.extend(groups.into_values().flat_map(|group| round(client, group.into_iter())));
        ends
    }

    /// Whether the cluster has said who leads the partitions.
    fn look_for_leaders(&self, client: &BaseConsumer<QuietContext>, watched: &[Watched]) -> bool {
        let Ok(metadata) = client.fetch_metadata(None, ROUND_TIME) else { return false };
        let leaders: HashMap<(&str, i32), i32> = (metadata.topics().iter())
            .flat_map(|topic| topic.partitions().iter().map(move |partition| ((topic.name(), partition.id()), partition.leader())))
            .collect();
        let leader = |one: &Watched| leaders.get(&(&*one.topic, one.partition.partition as i32)).copied().unwrap_or(-1);
        self.set_leaders(watched.iter().map(|one| (one.partition, leader(one))).collect());
        true
    }
}

/// One request for the ends of some logs: those that it could find.
fn round<'w>(client: &BaseConsumer<QuietContext>, watched: impl Iterator<Item = &'w Watched> + Clone) -> Vec<LogEnd> {
    let mut list = TopicPartitionList::new();
    for one in watched.clone() {
        // Any number is taken as an offset.
        let _ = list.add_partition_offset(&one.topic, one.partition.partition as i32, KafkaOffset::End);
    }
    let Ok(found) = client.offsets_for_times(list, ROUND_TIME) else {
        return Vec::new();
    };
    let elements = found.elements();
    let ends: HashMap<(&str, i32), i64> = (elements.iter())
        .filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), KafkaOffset::Offset(end)) => Some(((element.topic(), element.partition()), end)),
            _ => None,
        })
        .collect();
    let end = |one: &Watched| {
        let end = ends.get(&(&*one.topic, one.partition.partition as i32))?;
        Some((one.partition, one.generation, Offset(*end)))
    };
    watched.filter_map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::TopicIndex;

    fn at(seconds: u64) -> Instant {
        static BEGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *BEGIN + Duration::from_secs(seconds)
    }

    #[test]
    fn a_partition_is_as_fresh_as_the_newest_end_that_has_been_read() {
        let mut standing = Standing::new(Generation(1), at(0));
        standing.saw_end(Offset(10), at(2));
        assert_eq!(standing.fresh_at, at(0), "nobody has said how far it is read");
        standing.has_read(Offset(10), false, at(2));
        assert_eq!(standing.fresh_at, at(2));
        // Nothing new: it is fresh without being read.
        standing.saw_end(Offset(10), at(4));
        assert_eq!(standing.fresh_at, at(4));
        // Read slower than written: as old as the end that was reached last.
        standing.saw_end(Offset(100), at(6));
        standing.has_read(Offset(50), false, at(6));
        standing.saw_end(Offset(200), at(8));
        standing.has_read(Offset(99), false, at(8));
        assert_eq!(standing.fresh_at, at(4));
        standing.saw_end(Offset(300), at(10));
        standing.has_read(Offset(150), false, at(10));
        assert_eq!(standing.fresh_at, at(6), "all that the log had at 6 s");
        // It stands before a corrupt batch: that is said elsewhere.
        standing.has_read(Offset(150), true, at(12));
        assert_eq!(standing.fresh_at, at(12));
    }

    #[test]
    fn another_generation_begins_fresh_and_what_is_not_read_is_forgotten() {
        let watch = Watch::default();
        let partition = PartitionRef { topic: TopicIndex(0), partition: 3 };
        let watched = |generation| Watched { topic: Arc::from("t"), partition, generation: Generation(generation), owner: ShardId(0) };
        watch.set_watched(vec![watched(1)]);
        lock(&watch.standings).get_mut(&partition).unwrap().fresh_at -= STALE_TIME;
        watch.set_leaders(HashMap::from([(partition, -1)]));
        assert_eq!(watch.stale(), ["topic t partition 3: no broker leads it, not read for 10 s"]);
        watch.set_leaders(HashMap::from([(partition, 2)]));
        assert_eq!(watch.stale(), ["topic t partition 3: not read for 10 s, and broker 2 does not say where its log ends"]);
        lock(&watch.standings).get_mut(&partition).unwrap().saw_end(Offset(7), Instant::now());
        lock(&watch.standings).get_mut(&partition).unwrap().has_read(Offset(5), false, Instant::now());
        assert_eq!(watch.stale(), ["topic t partition 3: read 2 offsets and 10 s behind its log"]);
        watch.set_watched(vec![watched(1)]);
        assert_eq!(watch.stale().len(), 1, "the same generation is the same reading");
        watch.set_watched(vec![watched(2)]);
        assert_eq!(watch.stale(), Vec::<String>::new());
        watch.set_watched(Vec::new());
        assert_eq!(watch.standings(), []);
    }
}
