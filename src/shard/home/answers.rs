//! The requests of subscribers' shards: subscribes, pieces of catch-ups, pages of history.

use std::sync::Arc;

use bytes::Bytes;

use super::held::{Held, HeldRequest};
use super::room::{Home, Speech};
use super::table::HomeKey;
use crate::handoff::message::{CatchUpRequest, ClientPosition, PieceState, Refusal, Subscribed};
use crate::handoff::{
    FromHome, Generation, HistoryPage, HistoryRequest, LocalSubjectKey, LogEndQuestion, Offset, PartitionRef, Piece, Protocol, ShardId,
    Start, SubscribeRequest, TopicIndex, Variant,
};
use crate::shard::effects::Effects;
use crate::subject::{Epoch, Home as Place, SubjectName, Topic};

/// What a position amounts to.
enum Standing {
    /// Complete from here on in memory.
    Complete(Offset),
    /// Not to be served.
    Lost,
    /// Beyond what has been read.
    Ahead(Offset),
}

impl Home {
    /// The topic of a request, if both sides route by the same map and this shard is the subject's home by it.
    fn topic_of(&self, map_version: u64, topic: TopicIndex) -> Option<Arc<Topic>> {
        if map_version != self.map.version {
            return None;
        }
        self.map.at(topic).cloned()
    }

    /// The topic of a request and the subject's home, if both sides route by the same map and this shard is the subject's home by it.
    fn routed_here(&self, map_version: u64, topic: TopicIndex, subject: &SubjectName) -> Option<(Arc<Topic>, Place)> {
        let topic = self.topic_of(map_version, topic)?;
        let home = self.home_of(&topic, subject.key().map(str::as_bytes));
        self.table.partition(home.partition)?;
        Some((topic, home))
    }

    /// A known subject, without what Kafka has deleted since.
    fn find_undeleted(&mut self, topic: TopicIndex, key: Option<&[u8]>) -> Option<HomeKey> {
        let subject = self.table.find(topic, key)?;
        self.table.forget_deleted(subject);
        Some(subject)
    }

    pub(super) fn subscribe(
        &mut self,
        now_ms: u64,
        deadline_ms: u64,
        from: ShardId,
        request: Box<SubscribeRequest>,
        speech: &mut Speech,
        effects: &mut impl Effects,
    ) {
        let Some((topic, home)) = self.routed_here(request.map_version, request.topic, &request.subject) else {
            speech.from_home.say(from, refuse_subscribe(&request, Refusal::Moved));
            return;
        };
        let key = request.subject.key().map(str::as_bytes);
        let ready = self.table.partition(home.partition).is_some_and(|partition| partition.ready);
        // As long as another shard routes by an older map it may take a record for another home's, and this subscriber would miss it.
        if !ready || self.unsettled.contains(&topic.index) {
            self.hold(now_ms, from, HeldRequest::Subscribe(request), home.partition, deadline_ms, None, speech, effects);
            return;
        }
        let subject = self.find_undeleted(topic.index, key);
        let Some(partition) = self.table.partition(home.partition) else {
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
                let floor = subject.map_or(partition.floor, |subject| self.table.get(subject).floor);
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
                    self.hold(now_ms, from, HeldRequest::Subscribe(request), home.partition, deadline_ms, Some(position), speech, effects);
                    return;
                }
                Standing::Lost if *strict => {
                    speech.from_home.say(from, refuse_subscribe(&request, Refusal::Unrecoverable));
                    return;
                }
                Standing::Lost => {
                    recovered = Some(false);
                    history = 1;
                }
            },
        }
        let (generation, epoch, next) = (partition.generation, partition.epoch.clone(), partition.next);
        let subject = subject.unwrap_or_else(|| self.table.insert(request.subject.clone(), home.partition, home.recoverable, topic.value));
        let mut publications = Vec::new();
        if let Some(position) = records_from {
            let first = self.table.get(subject).index_from(position);
            let count = self.table.get(subject).records().len();
            let mut bytes = 0;
            for index in first..count {
                let publication = self.table.publication(subject, index, request.variant.protocol);
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
            if self.table.get(subject).index_from(position) < self.table.get(subject).records().len() {
                offset = position;
                catch_up = Some(position);
            }
        } else if history > 0 {
            publications = self.newest_publications(subject, history as usize, request.variant.protocol, request.bytes_max);
        }
        let id = if request.variant.numeric { self.table.grant_id(subject) } else { 0 };
        self.table.get_mut(subject).want(from, request.local, request.channel.clone(), request.variant, catch_up.is_none());
        let answer = Subscribed { id, epoch, generation, recoverable: home.recoverable, offset, recovered, publications, catch_up, next };
        speech.from_home.say(
            from,
            FromHome::Subscribed {
                local: request.local,
                variant: request.variant,
                subscription: request.subscription,
                answer: Ok(Box::new(answer)),
            },
        );
    }

    /// The newest remembered publications, oldest first, within a bound in bytes but at least one.
    fn newest_publications(&mut self, subject: HomeKey, count: usize, protocol: Protocol, bytes_max: usize) -> Vec<Bytes> {
        let len = self.table.get(subject).records().len();
        let mut publications = Vec::new();
        let mut bytes = 0;
        for index in (len.saturating_sub(count)..len).rev() {
            let publication = self.table.publication(subject, index, protocol);
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
        let Some(partition) = self.table.partition(at).filter(|_| recoverable) else {
            return Standing::Lost;
        };
        let lost = |epoch: &Epoch<'_>| partition.lost_up_to.is_some_and(|lost| epoch.leader_epoch <= lost);
        let same_log = position.epoch.is_empty()
            || Epoch::parse(&position.epoch).is_some_and(|epoch| epoch.same_log(&topic.id, at.partition) && !lost(&epoch));
        let Ok(offset) = i64::try_from(position.offset) else {
            return Standing::Lost;
        };
        let offset = Offset(offset);
        let floor = subject.map_or(partition.floor, |subject| self.table.get(subject).floor);
        if !same_log || offset < floor {
            Standing::Lost
        } else if offset > partition.next {
            Standing::Ahead(offset)
        } else {
            Standing::Complete(offset)
        }
    }

    pub(super) fn catch_up(&mut self, from: ShardId, request: CatchUpRequest, speech: &mut Speech) {
        let CatchUpRequest { map_version, topic, subject, channel, local, subscription, variant, generation, from: position, bytes_max } =
            request;
        let mut piece = Piece { local, variant, subscription, frames: Vec::new(), next: position, state: PieceState::More };
        if let Some(topic) = self.topic_of(map_version, topic) {
            let key = subject.key().map(str::as_bytes);
            let home = self.home_of(&topic, key);
            piece.state = PieceState::Lost;
            let known = self.table.partition(home.partition).filter(|partition| partition.generation == generation && home.recoverable);
            if let Some(partition) = known {
                let next = partition.next;
                let at = self.find_undeleted(topic.index, key);
                let partition = self.table.partition(home.partition).map_or(Offset(0), |partition| partition.floor);
                let floor = at.map_or(partition, |at| self.table.get(at).floor);
                if position >= floor {
                    let at = at.unwrap_or_else(|| self.table.insert(subject, home.partition, home.recoverable, topic.value));
                    let count = self.table.get(at).records().len();
                    let mut index = self.table.get(at).index_from(position);
                    let mut bytes = 0;
                    while index < count {
                        let frame = self.table.push_frame(at, index, variant, channel.as_ref());
                        bytes += frame.len();
                        if bytes > bytes_max && !piece.frames.is_empty() {
                            break;
                        }
                        let Some(offset) = self.table.get(at).offset_at(index) else {
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
                    self.table.get_mut(at).want(from, local, channel, variant, piece.state == PieceState::Live);
                }
            }
        }
        speech.from_home.say(from, FromHome::Piece(Box::new(piece)));
    }

    pub(super) fn history(
        &mut self,
        now_ms: u64,
        deadline_ms: u64,
        from: ShardId,
        request: Box<HistoryRequest>,
        speech: &mut Speech,
        effects: &mut impl Effects,
    ) {
        let Some((topic, home)) = self.routed_here(request.map_version, request.topic, &request.subject) else {
            // A page has no subscription that could be routed again: the client tries again.
            speech.from_home.say(from, refuse_history(&request, Refusal::NotReady));
            return;
        };
        let key = request.subject.key().map(str::as_bytes);
        let Some(partition) = self.table.partition(home.partition).filter(|partition| partition.ready) else {
            self.hold(now_ms, from, HeldRequest::History(request), home.partition, deadline_ms, None, speech, effects);
            return;
        };
        let (epoch, next, partition_floor) = (partition.epoch.clone(), partition.next, partition.floor);
        let subject = self.find_undeleted(topic.index, key);
        let since = match &request.since {
            None => None,
            Some(position) => match self.standing(&topic, home.partition, home.recoverable, subject, position) {
                Standing::Complete(offset) => Some(offset),
                Standing::Ahead(offset) => {
                    self.hold(now_ms, from, HeldRequest::History(request), home.partition, deadline_ms, Some(offset), speech, effects);
                    return;
                }
                Standing::Lost => {
                    speech.from_home.say(from, refuse_history(&request, Refusal::Unrecoverable));
                    return;
                }
            },
        };
        let floor = subject.map_or(partition_floor, |subject| self.table.get(subject).floor);
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let mut publications = Vec::new();
        let mut bytes = 0;
        if let Some(subject) = subject {
            let count = self.table.get(subject).records().len();
            let indexes: Box<dyn Iterator<Item = usize>> = match (since, request.reverse) {
                (None, false) => Box::new(0..count),
                (None, true) => Box::new((0..count).rev()),
                (Some(since), false) => Box::new(self.table.get(subject).index_from(since)..count),
                // Older than the record that the position names: that one has the offset before the position.
                (Some(since), true) => Box::new((0..self.table.get(subject).index_from(Offset(since.0.saturating_sub(1)))).rev()),
            };
            for index in indexes.take(limit) {
                let publication = self.table.publication(subject, index, request.protocol);
                bytes += publication.len();
                if bytes > request.bytes_max && !publications.is_empty() {
                    break;
                }
                publications.push(publication);
            }
        }
        // Going back from a position, the page must not end where memory does, unless that is where the log does.
        if since.is_some() && request.reverse && publications.len() < limit && bytes <= request.bytes_max && floor > Offset(0) {
            speech.from_home.say(from, refuse_history(&request, Refusal::Unrecoverable));
            return;
        }
        let page = HistoryPage { epoch, offset: next, publications };
        let (connection, command) = (request.connection, request.command);
        speech.from_home.say(from, FromHome::History { connection, command, answer: Ok(Box::new(page)) });
    }

    pub(super) fn withdraw(
        &mut self,
        from: ShardId,
        topic: TopicIndex,
        subject: &SubjectName,
        local: LocalSubjectKey,
        variant: Option<Variant>,
    ) {
        if let Some(at) = self.table.find(topic, subject.key().map(str::as_bytes)) {
            self.table.get_mut(at).withdraw(from, local, variant);
            self.table.forget_if_idle(at);
        }
    }

    /// Holds a request until its partition is ready (`until`: has been read up to there), and asks where the log ends if that matters. Without room
    /// it has its answer.
    #[expect(clippy::too_many_arguments, reason = "a request, where and until when it waits")]
    fn hold(
        &mut self,
        now_ms: u64,
        from: ShardId,
        request: HeldRequest,
        at: PartitionRef,
        deadline_ms: u64,
        until: Option<Offset>,
        speech: &mut Speech,
        effects: &mut impl Effects,
    ) {
        match self.held.hold(at, until, Held { from, request, deadline_ms }) {
            Ok(()) => {
                self.counters.requests_held += 1;
                self.ask_log_end(now_ms, at, effects);
            }
            Err(held) => speech.from_home.say(from, refuse_held(&held.request, Refusal::Busy)),
        }
    }

    /// Asks where a log ends, one question at a time, for all requests that wait for it and have not asked yet.
    fn ask_log_end(&mut self, now_ms: u64, at: PartitionRef, effects: &mut impl Effects) {
        if let Some(number) = self.held.asks_log_end(now_ms, at) {
            let generation = self.table.partition(at).map_or(Generation::default(), |partition| partition.generation);
            effects.query_log_end(LogEndQuestion { partition: at, generation, number });
        }
    }

    fn retry_held(&mut self, now_ms: u64, held: Held, speech: &mut Speech, effects: &mut impl Effects) {
        match held.request {
            HeldRequest::Subscribe(request) => self.subscribe(now_ms, held.deadline_ms, held.from, request, speech, effects),
            HeldRequest::History(request) => self.history(now_ms, held.deadline_ms, held.from, request, speech, effects),
        }
    }

    /// Takes up the requests whose partition has been read far enough.
    pub(super) fn release_held(&mut self, now_ms: u64, at: PartitionRef, speech: &mut Speech, effects: &mut impl Effects) {
        let Some(next) = self.table.partition(at).filter(|partition| partition.ready).map(|partition| partition.next) else {
            return;
        };
        if self.unsettled.contains(&at.topic) {
            return;
        }
        while let Some(held) = self.held.next_due(at, next) {
            self.retry_held(now_ms, held, speech, effects);
        }
    }

    /// Kafka says where a log ends: positions beyond it are lost at once.
    pub fn take_log_end(
        &mut self,
        now_ms: u64,
        question: LogEndQuestion,
        end: Option<Offset>,
        speech: &mut Speech,
        effects: &mut impl Effects,
    ) {
        let at = question.partition;
        let current = self.table.partition(at).is_some_and(|partition| partition.generation == question.generation);
        for mut held in self.held.take_log_end(at, question.number, end.filter(|_| current)) {
            // Without a usable epoch the position is nonsense, and is answered as such.
            held.request.spoil_position();
            self.retry_held(now_ms, held, speech, effects);
        }
        self.ask_log_end(now_ms, at, effects);
    }

    /// Answers what was held too long.
    pub(super) fn expire_held(&mut self, now_ms: u64, speech: &mut Speech) {
        while let Some(held) = self.held.next_expired(now_ms) {
            self.counters.requests_held_expired += 1;
            speech.from_home.say(held.from, refuse_held(&held.request, Refusal::NotReady));
        }
    }

    /// Asks again where logs end, where the answer must be lost.
    pub(super) fn ask_again(&mut self, now_ms: u64, effects: &mut impl Effects) {
        for at in self.held.unanswered(now_ms) {
            self.ask_log_end(now_ms, at, effects);
        }
    }
}

pub(super) fn refuse_held(request: &HeldRequest, refusal: Refusal) -> FromHome {
    match request {
        HeldRequest::Subscribe(request) => refuse_subscribe(request, refusal),
        HeldRequest::History(request) => refuse_history(request, refusal),
    }
}

fn refuse_subscribe(request: &SubscribeRequest, refusal: Refusal) -> FromHome {
    FromHome::Subscribed { local: request.local, variant: request.variant, subscription: request.subscription, answer: Err(refusal) }
}

fn refuse_history(request: &HistoryRequest, refusal: Refusal) -> FromHome {
    FromHome::History { connection: request.connection, command: request.command, answer: Err(refusal) }
}
