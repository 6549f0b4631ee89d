//! The home's side of a shard: records of its partitions, requests of subscribers' shards, and the changes of the log under them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::core::ShardCore;
use super::{Assignment, Effects};
use crate::handoff::message::{CatchUpRequest, ClientPosition, PieceState, Refusal, Subscribed};
use crate::handoff::{
    Form, FromHome, Generation, HistoryPage, HistoryRequest, LocalSubjectKey, Offset, PartitionRef, Piece, Protocol, Record, RecordBatch,
    ShardId, Start, SubscribeRequest, TopicIndex, TowardHome,
};
use crate::limits::STRAY_SAY_MS;
use crate::subject::home_table::{HomeKey, HomePartition};
use crate::subject::name::record_key;
use crate::subject::{Epoch, Home, Partition, Partitioner, SubjectName, Topic, TopicMap};

/// A request that waits for its partition.
#[derive(Debug)]
pub(super) struct Held {
    pub from: ShardId,
    pub request: HeldRequest,
    pub deadline_ms: u64,
    /// `None`: waits until the partition is ready. `Some(offset)`: until it has been read up to there.
    pub until: Option<Offset>,
    /// The log end that is being asked for was asked for after this came: only such an end says anything about it.
    pub end_asked: bool,
}

#[derive(Debug)]
pub(super) enum HeldRequest {
    Subscribe(Box<SubscribeRequest>),
    History(Box<HistoryRequest>),
}

/// The requests that wait for one partition, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct HeldQueue {
    pub requests: VecDeque<Held>,
    /// A log end was asked for and is not here yet.
    pub end_asked: bool,
}

/// What a position amounts to.
enum Standing {
    /// Complete from here on in memory.
    Complete(Offset),
    /// Not to be served.
    Lost,
    /// Beyond what has been read.
    Ahead(Offset),
}

impl ShardCore {
    pub(super) fn take_records(&mut self, now_ms: u64, batch: RecordBatch, effects: &mut impl Effects) {
        let RecordBatch { partition: at, generation, records, next } = batch;
        let map = self.map.clone();
        let known = self.home.partitions.get(&at).is_some_and(|partition| partition.active && partition.generation == generation);
        let (Some(topic), true) = (map.at(at.topic), known) else {
            self.counters.records_stale += records.len() as u64;
            return;
        };
        let mut elsewhere: Vec<(ShardId, Vec<Record>)> = Vec::new();
        let (mut placed, mut misplaced) = (0, 0);
        for record in records {
            let Some(partition) = self.home.partitions.get_mut(&at) else {
                break;
            };
            if record.offset < partition.next {
                self.counters.records_stale += 1;
                continue;
            }
            partition.next = record.offset.next();
            if record.leader_epoch > partition.leader_epoch {
                partition.leader_epoch = record.leader_epoch;
                partition.epoch = epoch_text(topic, at.partition, record.leader_epoch);
            }
            self.counters.records_consumed += 1;
            self.counters.records_consumed_bytes +=
                (record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len)) as u64;
            if let Some(key) = &record.key
                && record_key(topic.name.len(), key, self.settings.subject_bytes_max).is_err()
            {
                self.counters.records_without_subject += 1;
                continue;
            }
            let home = topic.home(record.key.as_deref());
            placed += u64::from(record.key.is_some());
            if home.partition == at {
                let recoverable = home.recoverable && !self.home.is_stray(at.topic, record.key.as_deref());
                let offset = recoverable.then_some(record.offset);
                self.publish_here(now_ms, topic, record, offset);
                continue;
            }
            // Not where its key's rule puts it: live only, on its home.
            if home.recoverable {
                self.counters.records_elsewhere += 1;
                misplaced += u64::from(topic.is_misplaced(record.key.as_deref(), at.partition));
            }
            if home.shard == self.shard {
                self.publish_elsewhere(now_ms, topic, at.partition, record);
            } else {
                match elsewhere.iter_mut().find(|(shard, _)| *shard == home.shard) {
                    Some((_, records)) => records.push(record),
                    None => elsewhere.push((home.shard, vec![record])),
                }
            }
        }
        for (shard, records) in elsewhere {
            self.say_toward_home(shard, TowardHome::Records { partition: at, life: topic.id.clone(), records });
        }
        if topic.partitioner_is_guess
            && topic.partitioner != Partitioner::Any
            && self.misfits.entry(at.topic).or_default().count(placed, misplaced)
        {
            self.counters.misfits += 1;
            effects.report_misfit(at.topic);
        }
        self.advance(at, generation, next, effects);
        self.home.trim(now_ms);
    }

    /// Everything of a partition below `next` has been read.
    fn advance(&mut self, at: PartitionRef, generation: Generation, next: Offset, effects: &mut impl Effects) {
        let Some(partition) = self.home.partitions.get_mut(&at) else {
            return;
        };
        partition.next = partition.next.max(next);
        if !partition.ready && partition.next >= partition.ready_at {
            partition.ready = true;
            effects.partition_ready(at, generation);
        }
        self.release_held(at, effects);
    }

    /// A record of a subject that lives here: remember it, encode it once per form in use, and one message per interested shard.
    fn publish_here(&mut self, now_ms: u64, topic: &Topic, record: Record, offset: Option<Offset>) {
        let home = self.home_of(topic, record.key.as_deref());
        let known = self.home.find(topic.index, record.key.as_deref());
        if offset.is_none() && home.recoverable {
            // A record without a position in a subject that has positions is not remembered: what is remembered is complete and in order.
            if let Some(at) = known {
                self.pass_on(at, &record);
            }
            return;
        }
        let at = match known {
            Some(subject) => subject,
            None => {
                let Ok(name) = SubjectName::of_record(&topic.name, record.key.as_deref(), self.settings.subject_bytes_max) else {
                    return;
                };
                self.home.insert(name, home.partition, home.recoverable, topic.value)
            }
        };
        self.home.push(now_ms, at, record, offset);
        let newest = self.home.get(at).records().len() - 1;
        let mut frames: [Option<Bytes>; Form::COUNT] = Default::default();
        for place in 0..self.home.get(at).interest.len() {
            let interest = self.home.get(at).interest[place];
            for form in Form::ALL {
                if interest.forms & (1 << form.index()) != 0 {
                    let frame = frames[form.index()].get_or_insert_with(|| self.home.live_frame(at, newest, form)).clone();
                    self.say_from_home(interest.shard, FromHome::Delivery { local: interest.local, form, offset, frame });
                }
            }
        }
    }

    /// The home of a key by the topic's rule, and without positions if records of it have been found where that rule does not put them.
    fn home_of(&self, topic: &Topic, key: Option<&[u8]>) -> Home {
        let mut home = topic.home(key);
        home.recoverable = home.recoverable && !self.home.is_stray(topic.index, key);
        home
    }

    /// A record of a subject that lives here, found on another partition than its subject's. Nothing of the rule explains it: from now on the
    /// subject has no positions. Who is live has the record; everybody is told to come back (2500), and told then that nothing is recovered.
    fn publish_elsewhere(&mut self, now_ms: u64, topic: &Topic, partition: u32, record: Record) {
        let key = record.key.as_deref();
        if !self.home_of(topic, key).recoverable || !topic.is_misplaced(key, partition) {
            self.publish_here(now_ms, topic, record, None);
            return;
        }
        let Ok(name) = SubjectName::of_record(&topic.name, key, self.settings.subject_bytes_max) else {
            return;
        };
        let known = self.home.find(topic.index, key);
        if let Some(at) = known {
            self.pass_on(at, &record);
        }
        if !self.home.add_stray(topic.index, key) {
            self.counters.strays_over += 1;
            return;
        }
        self.counters.strays += 1;
        self.strays_unsaid += 1;
        if self.strays_said_ms.is_none_or(|said_ms| said_ms + STRAY_SAY_MS <= now_ms) {
            self.strays_said_ms = Some(now_ms);
            let subjects = std::mem::take(&mut self.strays_unsaid);
            tracing::warn!(
                subject = name.as_str(),
                partition,
                subjects,
                expected = topic.home(key).partition.partition,
                "a record is not on the partition that the topic's partitioner gives its key: its subject is live only from now on (subjects: so many since the last such line)"
            );
        }
        if let Some(at) = known {
            self.tell_reset(at);
            self.home.forget_stray(at);
        }
        self.publish_here(now_ms, topic, record, None);
    }

    /// A record without a position to the live subscribers of a subject that has positions; the others cannot have it later and are told.
    fn pass_on(&mut self, at: HomeKey, record: &Record) {
        for place in 0..self.home.get(at).interest.len() {
            let interest = self.home.get(at).interest[place];
            self.say_from_home(interest.shard, FromHome::Passing { local: interest.local });
        }
        for form in Form::ALL {
            let mut frame: Option<Bytes> = None;
            for place in 0..self.home.get(at).interest.len() {
                let interest = self.home.get(at).interest[place];
                if interest.forms & (1 << form.index()) != 0 {
                    let frame = frame.get_or_insert_with(|| self.home.passing_frame(at, record, form)).clone();
                    self.say_from_home(interest.shard, FromHome::Delivery { local: interest.local, form, offset: None, frame });
                }
            }
        }
    }

    pub(super) fn take_toward_home(&mut self, now_ms: u64, from: ShardId, message: TowardHome, effects: &mut impl Effects) {
        match message {
            TowardHome::Subscribe(request) => self.home_subscribe(now_ms + request.hold_ms, from, request, effects),
            TowardHome::CatchUp(request) => self.home_catch_up(from, *request),
            TowardHome::History(request) => self.home_history(now_ms + request.hold_ms, from, request, effects),
            TowardHome::Withdraw { topic, subject, local, form } => self.home_withdraw(from, topic, &subject, local, form),
            TowardHome::Records { partition: at, life, records } => {
                let map = self.map.clone();
                let topic = map.at(at.topic).filter(|topic| topic.id == life);
                if topic.is_none() {
                    self.counters.records_stale += records.len() as u64;
                }
                if let Some(topic) = topic {
                    for record in records {
                        // The maps of the two shards may differ for a moment; whoever subscribed by the other map is told 2500.
                        if topic.home(record.key.as_deref()).shard == self.shard {
                            self.publish_elsewhere(now_ms, topic, at.partition, record);
                        } else {
                            self.counters.records_stale += 1;
                        }
                    }
                    self.home.trim(now_ms);
                }
            }
        }
    }

    /// The topic of a request, if both sides route by the same map and this shard is the subject's home by it.
    fn topic_of(&self, map_version: u64, topic: TopicIndex) -> Option<Arc<Topic>> {
        if map_version != self.map.version {
            return None;
        }
        self.map.at(topic).cloned()
    }

    /// A known subject, without what Kafka has deleted since.
    fn find_undeleted(&mut self, topic: TopicIndex, key: Option<&[u8]>) -> Option<HomeKey> {
        let subject = self.home.find(topic, key)?;
        self.home.forget_deleted(subject);
        Some(subject)
    }

    fn home_subscribe(&mut self, deadline_ms: u64, from: ShardId, request: Box<SubscribeRequest>, effects: &mut impl Effects) {
        let refuse = |core: &mut ShardCore, request: &SubscribeRequest, refusal| {
            core.say_from_home(
                from,
                FromHome::Subscribed { local: request.local, form: request.form, subscription: request.subscription, answer: Err(refusal) },
            );
        };
        let Some(topic) = self.topic_of(request.map_version, request.topic) else {
            refuse(self, &request, Refusal::Moved);
            return;
        };
        let key = request.subject.key().map(str::as_bytes);
        let home = self.home_of(&topic, key);
        let Some(partition) = self.home.partitions.get(&home.partition) else {
            refuse(self, &request, Refusal::Moved);
            return;
        };
        // As long as another shard routes by an older map it may take a record for another home's, and this subscriber would miss it.
        if !partition.ready || self.unsettled.contains(&topic.index) {
            if !self.hold(from, HeldRequest::Subscribe(request), home.partition, deadline_ms, None) {
                return;
            }
            self.counters.requests_held += 1;
            return;
        }
        let subject = self.find_undeleted(topic.index, key);
        let Some(partition) = self.home.partitions.get(&home.partition) else {
            return;
        };
        let mut recovered = None;
        let mut resumed = None;
        let mut catch_up = None;
        let mut offset = partition.next;
        let mut history = 0;
        let mut records_from = None;
        match &request.start {
            Start::Live { history: wanted } => history = *wanted,
            Start::Resume { partition: at, generation, from } => {
                let floor = subject.map_or(partition.floor, |subject| self.home.get(subject).floor);
                let same = *at == home.partition && *generation == partition.generation;
                let there = same && home.recoverable && (floor..=partition.next).contains(from);
                resumed = there.then_some(*from);
            }
            Start::Position { position, strict } => match self.standing(&topic, home.partition, home.recoverable, subject, position) {
                Standing::Complete(position) => {
                    recovered = Some(true);
                    records_from = Some(position);
                }
                Standing::Ahead(position) => {
                    self.hold_until(from, HeldRequest::Subscribe(request), home.partition, deadline_ms, position, effects);
                    return;
                }
                Standing::Lost if *strict => {
                    refuse(self, &request, Refusal::Unrecoverable);
                    return;
                }
                Standing::Lost => {
                    recovered = Some(false);
                    history = 1;
                }
            },
        }
        let (generation, epoch, next) = (partition.generation, partition.epoch.clone(), partition.next);
        let subject = subject.unwrap_or_else(|| self.home.insert(request.subject.clone(), home.partition, home.recoverable, topic.value));
        let mut publications = Vec::new();
        if let Some(position) = records_from {
            let first = self.home.get(subject).index_from(position);
            let count = self.home.get(subject).records().len();
            let mut bytes = 0;
            for index in first..count {
                let publication = self.home.publication(subject, index, request.form.protocol);
                bytes += publication.len();
                if bytes > request.bytes_max {
                    break;
                }
                publications.push(publication);
            }
            if publications.len() < count - first {
                publications.clear();
                catch_up = Some(position);
            }
            if catch_up.is_some() || !publications.is_empty() {
                offset = position;
            }
        } else if let Some(position) = resumed {
            // As pushes: a client that does not look at this reply hears of them too.
            if self.home.get(subject).index_from(position) < self.home.get(subject).records().len() {
                offset = position;
                catch_up = Some(position);
            }
        } else if history > 0 {
            publications = self.newest_publications(subject, history as usize, request.form.protocol, request.bytes_max);
        }
        let id = if request.form.numeric { self.home.grant_id(subject) } else { 0 };
        self.home.get_mut(subject).want(from, request.local, request.form, catch_up.is_none());
        let answer = Subscribed { id, epoch, generation, recoverable: home.recoverable, offset, recovered, publications, catch_up, next };
        self.say_from_home(
            from,
            FromHome::Subscribed {
                local: request.local,
                form: request.form,
                subscription: request.subscription,
                answer: Ok(Box::new(answer)),
            },
        );
    }

    /// The newest remembered publications, oldest first, within a bound in bytes but at least one.
    fn newest_publications(&mut self, subject: HomeKey, count: usize, protocol: Protocol, bytes_max: usize) -> Vec<Bytes> {
        let len = self.home.get(subject).records().len();
        let mut publications = Vec::new();
        let mut bytes = 0;
        for index in (len.saturating_sub(count)..len).rev() {
            let publication = self.home.publication(subject, index, protocol);
            bytes += publication.len();
            if bytes > bytes_max && !publications.is_empty() {
                break;
            }
            publications.push(publication);
        }
        publications.reverse();
        publications
    }

    fn standing(
        &self,
        topic: &Topic,
        at: PartitionRef,
        recoverable: bool,
        subject: Option<HomeKey>,
        position: &ClientPosition,
    ) -> Standing {
        let Some(partition) = self.home.partitions.get(&at).filter(|_| recoverable) else {
            return Standing::Lost;
        };
        let lost = |epoch: &Epoch<'_>| partition.lost_up_to.is_some_and(|lost| epoch.leader_epoch <= lost);
        let same_log = position.epoch.is_empty()
            || Epoch::parse(&position.epoch).is_some_and(|epoch| epoch.same_log(&topic.id, at.partition) && !lost(&epoch));
        let Ok(offset) = i64::try_from(position.offset) else {
            return Standing::Lost;
        };
        let offset = Offset(offset);
        let floor = subject.map_or(partition.floor, |subject| self.home.get(subject).floor);
        if !same_log || offset < floor {
            Standing::Lost
        } else if offset > partition.next {
            Standing::Ahead(offset)
        } else {
            Standing::Complete(offset)
        }
    }

    fn home_catch_up(&mut self, from: ShardId, request: CatchUpRequest) {
        let CatchUpRequest { map_version, topic, subject, local, subscription, form, generation, from: position, bytes_max } = request;
        let mut piece = Piece { local, form, subscription, frames: Vec::new(), next: position, state: PieceState::More };
        if let Some(topic) = self.topic_of(map_version, topic) {
            let key = subject.key().map(str::as_bytes);
            let home = self.home_of(&topic, key);
            piece.state = PieceState::Lost;
            let known =
                self.home.partitions.get(&home.partition).filter(|partition| partition.generation == generation && home.recoverable);
            if let Some(partition) = known {
                let next = partition.next;
                let at = self.find_undeleted(topic.index, key);
                let partition = self.home.partitions.get(&home.partition).map_or(Offset(0), |partition| partition.floor);
                let floor = at.map_or(partition, |at| self.home.get(at).floor);
                if position >= floor {
                    let at = at.unwrap_or_else(|| self.home.insert(subject, home.partition, home.recoverable, topic.value));
                    let count = self.home.get(at).records().len();
                    let mut index = self.home.get(at).index_from(position);
                    let mut bytes = 0;
                    while index < count {
                        let frame = self.home.push_frame(at, index, form);
                        bytes += frame.len();
                        if bytes > bytes_max && !piece.frames.is_empty() {
                            break;
                        }
                        let Some(offset) = self.home.get(at).offset_at(index) else {
                            break;
                        };
                        piece.frames.push((offset, frame));
                        piece.next = offset.next();
                        index += 1;
                    }
                    piece.state = if index == count { PieceState::Live } else { PieceState::More };
                    if piece.state == PieceState::Live {
                        piece.next = next;
                    }
                    self.home.get_mut(at).want(from, local, form, piece.state == PieceState::Live);
                }
            }
        }
        self.say_from_home(from, FromHome::Piece(Box::new(piece)));
    }

    fn home_history(&mut self, deadline_ms: u64, from: ShardId, request: Box<HistoryRequest>, effects: &mut impl Effects) {
        let (connection, command) = (request.connection, request.command);
        let refuse =
            |core: &mut ShardCore, refusal| core.say_from_home(from, FromHome::History { connection, command, answer: Err(refusal) });
        let Some(topic) = self.topic_of(request.map_version, request.topic) else {
            // A page has no subscription that could be routed again: the client tries again.
            refuse(self, Refusal::NotReady);
            return;
        };
        let key = request.subject.key().map(str::as_bytes);
        let home = self.home_of(&topic, key);
        let Some(partition) = self.home.partitions.get(&home.partition) else {
            refuse(self, Refusal::NotReady);
            return;
        };
        if !partition.ready {
            if self.hold(from, HeldRequest::History(request), home.partition, deadline_ms, None) {
                self.counters.requests_held += 1;
            }
            return;
        }
        let (epoch, next, partition_floor) = (partition.epoch.clone(), partition.next, partition.floor);
        let subject = self.find_undeleted(topic.index, key);
        let since = match &request.since {
            None => None,
            Some(position) => match self.standing(&topic, home.partition, home.recoverable, subject, position) {
                Standing::Complete(offset) => Some(offset),
                Standing::Ahead(offset) => {
                    self.hold_until(from, HeldRequest::History(request), home.partition, deadline_ms, offset, effects);
                    return;
                }
                Standing::Lost => {
                    refuse(self, Refusal::Unrecoverable);
                    return;
                }
            },
        };
        let floor = subject.map_or(partition_floor, |subject| self.home.get(subject).floor);
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let mut publications = Vec::new();
        let mut bytes = 0;
        if let Some(subject) = subject {
            let count = self.home.get(subject).records().len();
            let indexes: Box<dyn Iterator<Item = usize>> = match (since, request.reverse) {
                (None, false) => Box::new(0..count),
                (None, true) => Box::new((0..count).rev()),
                (Some(since), false) => Box::new(self.home.get(subject).index_from(since)..count),
                // Older than the record that the position names: that one has the offset before the position.
                (Some(since), true) => Box::new((0..self.home.get(subject).index_from(Offset(since.0.saturating_sub(1)))).rev()),
            };
            for index in indexes.take(limit) {
                let publication = self.home.publication(subject, index, request.protocol);
                bytes += publication.len();
                if bytes > request.bytes_max && !publications.is_empty() {
                    break;
                }
                publications.push(publication);
            }
        }
        // Going back from a position, the page must not end where memory does, unless that is where the log does.
        if since.is_some() && request.reverse && publications.len() < limit && bytes <= request.bytes_max && floor > Offset(0) {
            refuse(self, Refusal::Unrecoverable);
            return;
        }
        let page = HistoryPage { epoch, offset: next, publications };
        self.say_from_home(from, FromHome::History { connection, command, answer: Ok(Box::new(page)) });
    }

    fn home_withdraw(&mut self, from: ShardId, topic: TopicIndex, subject: &SubjectName, local: LocalSubjectKey, form: Option<Form>) {
        let Some(at) = self.home.find(topic, subject.key().map(str::as_bytes)) else {
            return;
        };
        let subject = self.home.get_mut(at);
        match form {
            Some(form) => {
                if let Some(interest) = subject.interest_of(from).filter(|interest| interest.local == local) {
                    interest.forms &= !(1 << form.index());
                }
            }
            None => subject.interest.retain(|interest| interest.shard != from || interest.local != local),
        }
        self.home.forget_if_idle(at);
    }

    /// Holds a request; `false`: there was no room and it has its answer.
    fn hold(&mut self, from: ShardId, request: HeldRequest, at: PartitionRef, deadline_ms: u64, until: Option<Offset>) -> bool {
        if self.held_count >= self.settings.held_max {
            self.refuse_held(from, &request, Refusal::Busy);
            return false;
        }
        self.held_count += 1;
        self.held.entry(at).or_default().requests.push_back(Held { from, request, deadline_ms, until, end_asked: false });
        true
    }

    /// Holds a request whose position is ahead of what has been read, and asks where the log ends.
    fn hold_until(
        &mut self,
        from: ShardId,
        request: HeldRequest,
        at: PartitionRef,
        deadline_ms: u64,
        until: Offset,
        effects: &mut impl Effects,
    ) {
        if !self.hold(from, request, at, deadline_ms, Some(until)) {
            return;
        }
        self.counters.requests_held += 1;
        self.ask_log_end(at, effects);
    }

    /// Asks where a log ends, one question at a time, for all requests that wait for it and have not asked yet.
    fn ask_log_end(&mut self, at: PartitionRef, effects: &mut impl Effects) {
        let generation = self.home.partitions.get(&at).map_or(Generation::default(), |partition| partition.generation);
        let queue = self.held.entry(at).or_default();
        let mut asked = false;
        for held in queue.requests.iter_mut().filter(|held| !queue.end_asked && !held.end_asked && held.until.is_some()) {
            held.end_asked = true;
            asked = true;
        }
        if asked {
            queue.end_asked = true;
            effects.query_log_end(at, generation);
        }
    }

    fn refuse_held(&mut self, from: ShardId, request: &HeldRequest, refusal: Refusal) {
        let message = match request {
            HeldRequest::Subscribe(request) => {
                FromHome::Subscribed { local: request.local, form: request.form, subscription: request.subscription, answer: Err(refusal) }
            }
            HeldRequest::History(request) => {
                FromHome::History { connection: request.connection, command: request.command, answer: Err(refusal) }
            }
        };
        self.say_from_home(from, message);
    }

    fn retry_held(&mut self, held: Held, effects: &mut impl Effects) {
        self.held_count -= 1;
        match held.request {
            HeldRequest::Subscribe(request) => self.home_subscribe(held.deadline_ms, held.from, request, effects),
            HeldRequest::History(request) => self.home_history(held.deadline_ms, held.from, request, effects),
        }
    }

    /// Takes up the requests whose partition has been read far enough.
    fn release_held(&mut self, at: PartitionRef, effects: &mut impl Effects) {
        let Some(next) = self.home.partitions.get(&at).filter(|partition| partition.ready).map(|partition| partition.next) else {
            return;
        };
        if self.unsettled.contains(&at.topic) {
            return;
        }
        let Some(queue) = self.held.get_mut(&at) else {
            return;
        };
        let due = |held: &Held| held.until.is_none_or(|until| until <= next);
        if !queue.requests.iter().any(due) {
            return;
        }
        let (ready, waiting): (VecDeque<Held>, VecDeque<Held>) = std::mem::take(&mut queue.requests).into_iter().partition(due);
        queue.requests = waiting;
        for held in ready {
            self.retry_held(held, effects);
        }
    }

    /// Kafka says where a log ends: positions beyond it are lost at once.
    pub(super) fn take_log_end(&mut self, at: PartitionRef, generation: Generation, end: Option<Offset>, effects: &mut impl Effects) {
        let current = self.home.partitions.get(&at).is_some_and(|partition| partition.generation == generation);
        let Some(queue) = self.held.get_mut(&at) else {
            return;
        };
        queue.end_asked = false;
        let (Some(end), true) = (end, current) else {
            self.ask_log_end(at, effects);
            return;
        };
        let beyond = |held: &Held| held.end_asked && held.until.is_some_and(|until| until > end);
        let (lost, waiting): (VecDeque<Held>, VecDeque<Held>) = std::mem::take(&mut queue.requests).into_iter().partition(beyond);
        queue.requests = waiting;
        for mut held in lost {
            // Without a usable epoch the position is nonsense, and is answered as such.
            match &mut held.request {
                HeldRequest::Subscribe(request) => {
                    if let Start::Position { position, .. } = &mut request.start {
                        position.epoch = "_".to_owned();
                    }
                }
                HeldRequest::History(request) => {
                    if let Some(position) = &mut request.since {
                        position.epoch = "_".to_owned();
                    }
                }
            }
            self.retry_held(held, effects);
        }
        self.ask_log_end(at, effects);
    }

    /// Answers what was held too long.
    pub(super) fn expire_held(&mut self, now_ms: u64) {
        // Most ticks find nothing: a storm of held requests must not be moved about a hundred times a second.
        let due = |held: &Held| held.deadline_ms <= now_ms;
        let partitions: Vec<PartitionRef> =
            self.held.iter().filter(|(_, queue)| queue.requests.iter().any(due)).map(|(at, _)| *at).collect();
        for at in partitions {
            let Some(queue) = self.held.get_mut(&at) else {
                continue;
            };
            let (expired, waiting): (VecDeque<Held>, VecDeque<Held>) = std::mem::take(&mut queue.requests).into_iter().partition(due);
            queue.requests = waiting;
            for held in expired {
                self.held_count -= 1;
                self.counters.requests_held_expired += 1;
                self.refuse_held(held.from, &held.request, Refusal::NotReady);
            }
        }
    }

    /// Takes a new map: routes by it from now on, resets what changed under its subscribers, and tells that it did.
    pub(super) fn take_map(&mut self, now_ms: u64, map: Arc<TopicMap>, effects: &mut impl Effects) {
        if map.version <= self.map.version {
            return;
        }
        let old = std::mem::replace(&mut self.map, map.clone());
        for topic in map.topics() {
            let before = old.at(topic.index);
            if before.is_some_and(|before| Arc::ptr_eq(before, topic) || before == topic) {
                continue;
            }
            let log_changed = before.is_some_and(|before| {
                let changed = |(old, new): (&Partition, &Partition)| old.generation.0 > 0 && old.generation != new.generation;
                before.partitions.len() > topic.partitions.len() || before.partitions.iter().zip(&topic.partitions).any(changed)
            });
            // Another life, other homes or another rule: what did not fit before may fit now.
            if before.is_some_and(|before| {
                before.id != topic.id || before.partitions.len() != topic.partitions.len() || before.partitioner != topic.partitioner
            }) {
                self.home.forget_strays(topic.index);
                self.misfits.remove(&topic.index);
            }
            let renewed: Vec<u32> = self.renew_partitions(topic, before.is_some_and(|before| before.id == topic.id));
            if before.is_some_and(|before| before.partitions.len() != topic.partitions.len() || before.partitioner != topic.partitioner) {
                self.raise_floors(topic);
                self.unsettled.insert(topic.index);
            }
            for key in self.home.of_topic(topic.index) {
                let subject = self.home.get(key);
                let home = self.home_of(topic, subject.name.key().map(str::as_bytes));
                let moved = home.partition != subject.partition || home.recoverable != subject.recoverable;
                // Records of a subject without positions are on all partitions.
                if moved || renewed.contains(&subject.partition.partition) || !subject.recoverable && log_changed {
                    self.reset_subject(key);
                }
            }
            self.reset_floors(topic, &renewed);
            // A topic that was made again may have fewer.
            for number in topic.partitions.len()..before.map_or(0, |before| before.partitions.len()) {
                self.close_partition(PartitionRef { topic: topic.index, partition: number as u32 }, effects);
            }
        }
        for topic in old.topics().filter(|topic| map.at(topic.index).is_none()) {
            self.home.forget_strays(topic.index);
            self.misfits.remove(&topic.index);
            for key in self.home.of_topic(topic.index) {
                self.reset_subject(key);
            }
            for partition in 0..topic.partitions.len() as u32 {
                self.close_partition(PartitionRef { topic: topic.index, partition }, effects);
            }
        }
        // Held requests were routed by the old map.
        let held: Vec<Held> = self.held.values_mut().flat_map(|queue| std::mem::take(&mut queue.requests)).collect();
        for held in held {
            self.held_count -= 1;
            let refusal = if matches!(held.request, HeldRequest::Subscribe(_)) { Refusal::Moved } else { Refusal::NotReady };
            self.refuse_held(held.from, &held.request, refusal);
        }
        self.reroute_locals(now_ms);
        effects.acknowledge_map(map.version);
    }

    /// A partition that is not there any more is not read any more.
    fn close_partition(&mut self, at: PartitionRef, effects: &mut impl Effects) {
        if self.home.partitions.remove(&at).is_some_and(|partition| partition.active) {
            effects.unassign(at);
        }
    }

    /// Opens the partitions of a topic that are new here or have a new generation; says which ones those are. `same_topic`: it was not made again.
    fn renew_partitions(&mut self, topic: &Topic, same_topic: bool) -> Vec<u32> {
        let mut renewed = Vec::new();
        for (number, partition) in topic.partitions.iter().enumerate().filter(|(_, partition)| partition.owner == self.shard) {
            let at = PartitionRef { topic: topic.index, partition: number as u32 };
            if self.home.partitions.get(&at).is_some_and(|known| known.generation == partition.generation) {
                continue;
            }
            renewed.push(number as u32);
            let before =
                self.home.partitions.get(&at).filter(|before| same_topic && (before.generation.0 > 0 || before.lost_up_to.is_some()));
            let lost_up_to = before.map(|before| before.leader_epoch);
            let leader_epoch = lost_up_to.map_or(partition.leader_epoch, |lost| partition.leader_epoch.max(lost + 1));
            self.home.partitions.insert(
                at,
                HomePartition {
                    generation: partition.generation,
                    next: partition.start,
                    floor: partition.start,
                    ready_at: partition.ready_at,
                    log_start: Offset(0),
                    leader_epoch,
                    lost_up_to,
                    epoch: epoch_text(topic, number as u32, leader_epoch),
                    active: false,
                    ready: false,
                },
            );
        }
        renewed
    }

    /// Keys find other homes now: what this partition held of them before was not remembered as theirs, so subjects that come are complete from here
    /// on only. Subjects that stay keep their own floors.
    fn raise_floors(&mut self, topic: &Topic) {
        for number in 0..topic.partitions.len() as u32 {
            if let Some(partition) = self.home.partitions.get_mut(&PartitionRef { topic: topic.index, partition: number }) {
                partition.floor = partition.floor.max(partition.next);
            }
        }
    }

    /// A subject of a log that was replaced must not raise the floor of the new one.
    fn reset_floors(&mut self, topic: &Topic, renewed: &[u32]) {
        for number in renewed {
            let start = &topic.partitions[*number as usize];
            if let Some(partition) = self.home.partitions.get_mut(&PartitionRef { topic: topic.index, partition: *number }) {
                // What a compacted log held before this reading began may be incomplete already.
                partition.floor = if topic.compacted { start.start.max(start.ready_at) } else { start.start };
            }
        }
    }

    /// The log under a subject changed: its subscribers are told, its records are forgotten.
    fn reset_subject(&mut self, key: HomeKey) {
        self.tell_reset(key);
        self.home.forget(key);
    }

    fn tell_reset(&mut self, key: HomeKey) {
        for interest in std::mem::take(&mut self.home.get_mut(key).interest) {
            self.say_from_home(interest.shard, FromHome::Reset { local: interest.local });
        }
    }

    /// Every shard routes by the map: reading may begin.
    pub(super) fn take_map_active(&mut self, version: u64, effects: &mut impl Effects) {
        if version < self.map.version {
            return;
        }
        let map = self.map.clone();
        for topic in map.topics() {
            for number in 0..topic.partitions.len() as u32 {
                let at = PartitionRef { topic: topic.index, partition: number };
                let Some(partition) = self.home.partitions.get_mut(&at).filter(|partition| !partition.active && partition.generation.0 > 0)
                else {
                    continue;
                };
                partition.active = true;
                let (generation, start) = (partition.generation, partition.next);
                effects.assign(Assignment { partition: at, topic: topic.name.clone(), generation, start });
                self.advance(at, generation, start, effects);
            }
        }
        for topic in std::mem::take(&mut self.unsettled) {
            let waiting: Vec<PartitionRef> = self.held.keys().copied().filter(|at| at.topic == topic).collect();
            for at in waiting {
                self.release_held(at, effects);
            }
        }
    }
}

fn epoch_text(topic: &Topic, partition: u32, leader_epoch: i32) -> Arc<str> {
    Arc::from(Epoch { topic_id: &topic.id, partition, leader_epoch }.to_string())
}
