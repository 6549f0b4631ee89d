//! The subjects that connections of this shard want, and their subscriptions.
//!
//! Owned by the shard's thread. Invariants:
//! * a subscription is a member of exactly one local subject, at `place` of the member list of its variant;
//! * a local subject has a group for each variant that somebody has asked for, and keeps it until it goes itself;
//! * a local subject lives while it has members or open requests; `entered` says that its home may have an entry for it, and it is left with one
//!   `Withdraw` of everything;
//! * `live_at_home` says that the home may send deliveries of a variant.

use hashbrown::HashMap;
use slotmap::SlotMap;

use crate::handoff::{
    ConnectionKey, Generation, LocalSubjectKey, Offset, PartitionRef, ShardId, Start, SubscriptionKey, TopicIndex, Variant,
};
use crate::subject::SubjectName;

/// A subject that some connection of this shard wants.
#[derive(Debug)]
pub struct LocalSubject {
    /// What clients call it.
    pub name: SubjectName,
    /// Whose records it has, if that is another name (`[[expose]]`).
    pub exposed: Option<SubjectName>,
    pub topic: TopicIndex,
    pub home: ShardId,
    pub partition: PartitionRef,
    pub recoverable: bool,
    /// Live subscribers have been given everything below; what positions count in is the generation of their subscriptions.
    pub next: Offset,
    groups: Vec<Group>,
    pub entered: bool,
    /// The map has moved the subject since: nobody is added, answers are routed again.
    pub stale: bool,
}

/// The subscribers of one variant.
#[derive(Debug)]
pub struct Group {
    variant: Variant,
    members: Vec<Member>,
    live: u32,
    /// Requests under way that may make a subscription live.
    pub pending: u32,
    /// The home may send deliveries.
    pub live_at_home: bool,
}

/// A subscriber in a member list.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub subscription: SubscriptionKey,
    pub connection: ConnectionKey,
    pub live: bool,
}

/// A subscription of one connection.
#[derive(Debug)]
pub struct Subscription {
    pub connection: ConnectionKey,
    pub local: LocalSubjectKey,
    pub variant: Variant,
    pub generation: Generation,
    pub recoverable: bool,
    pub state: SubscriptionState,
    place: u32,
    /// Place in its connection's list.
    pub list_place: u32,
}

/// The cursor, and what moves it.
#[derive(Debug)]
pub enum SubscriptionState {
    /// The home has not answered yet (or will be asked again).
    Pending(Box<PendingSubscribe>),
    /// Takes the shard's stream of the subject.
    Live,
    /// Waits for the socket to drain; needs everything from `from` on.
    Parked { from: Offset },
    /// A piece is under way; needs everything from `from` on.
    CatchingUp { from: Offset, reserved: u32 },
}

/// A subscribe command that is not answered yet.
#[derive(Debug)]
pub struct PendingSubscribe {
    pub command: u32,
    pub start: Start,
    pub deadline_ms: u64,
    /// Bytes of the outbox that are kept free for the answer, and for those of the followers.
    pub reserved: u32,
    /// What the client said of the subject since, answered after the subscribe and in this order.
    pub followers: Vec<Follower>,
}

/// A command about a subject whose subscribe is not answered yet. Interfaces that mount a view twice subscribe, unsubscribe and subscribe in one
/// tick, and older SDKs take the answer to the first subscribe for that to the second: both are the same answer, and the subscription is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follower {
    Unsubscribe(u32),
    /// From the same start, in the same form.
    Subscribe(u32),
}

impl PendingSubscribe {
    /// Whether it was asked for with that start.
    pub fn asks_as(&self, start: &Start) -> bool {
        let resumes = matches!(self.start, Start::Resume { .. }) && *start == (Start::Live { history: 0 });
        resumes || self.start == *start
    }

    /// Whether the client has unsubscribed since, and not subscribed again.
    pub fn is_left(&self) -> bool {
        matches!(self.followers.last(), Some(Follower::Unsubscribe(_)))
    }
}

/// What a subject takes beside its name: its place in tables that are at most half empty, a group of one variant, the name's own count.
const SUBJECT_WEIGHT: usize = 2 * (size_of::<LocalSubject>() + size_of::<(SubjectName, LocalSubjectKey)>()) + size_of::<Group>() + 64;

/// What a subscription takes: its place in tables, in its subject's list and its connection's, and its start while it is not answered.
const SUBSCRIPTION_WEIGHT: usize = 2
    * (size_of::<Subscription>()
        + size_of::<((ConnectionKey, LocalSubjectKey), SubscriptionKey)>()
        + size_of::<Member>()
        + size_of::<SubscriptionKey>())
    + size_of::<PendingSubscribe>()
    + 32;

/// The table.
#[derive(Debug, Default)]
pub struct LocalTable {
    /// Of subjects and subscriptions.
    bytes: usize,
    subjects: SlotMap<LocalSubjectKey, LocalSubject>,
    subscriptions: SlotMap<SubscriptionKey, Subscription>,
    by_name: HashMap<SubjectName, LocalSubjectKey>,
    /// Subjects that the map has moved, while subscribes that are not answered yet still belong to them.
    stale: Vec<LocalSubjectKey>,
    by_connection: HashMap<(ConnectionKey, LocalSubjectKey), SubscriptionKey>,
}

impl Group {
    /// Whether one of them is live.
    pub fn has_live(&self) -> bool {
        self.live > 0
    }
}

impl LocalSubject {
    /// The subject as its home knows it.
    pub fn subject(&self) -> &SubjectName {
        self.exposed.as_ref().unwrap_or(&self.name)
    }

    /// What its home is to name it by in pushes, if not as it knows it.
    pub fn channel(&self) -> Option<SubjectName> {
        self.exposed.is_some().then(|| self.name.clone())
    }

    /// The subscribers of a variant.
    pub fn group(&self, variant: Variant) -> Option<&Group> {
        self.groups.iter().find(|group| group.variant == variant)
    }

    /// The same, to change; made when first asked for.
    pub fn group_mut(&mut self, variant: Variant) -> &mut Group {
        let place = self.groups.iter().position(|group| group.variant == variant).unwrap_or_else(|| {
            self.groups.push(Group { variant, members: Vec::new(), live: 0, pending: 0, live_at_home: false });
            self.groups.len() - 1
        });
        &mut self.groups[place]
    }

    /// Subscribers of a variant, live or not.
    pub fn members(&self, variant: Variant) -> &[Member] {
        self.group(variant).map_or(&[], |group| &group.members)
    }

    /// Variants that somebody has asked for.
    pub fn variants(&self) -> Vec<Variant> {
        self.groups.iter().map(|group| group.variant).collect()
    }

    /// Whether the home may send deliveries.
    pub fn is_live_at_home(&self) -> bool {
        self.groups.iter().any(|group| group.live_at_home)
    }

    /// The home has forgotten this shard.
    pub fn forgotten_at_home(&mut self) {
        self.entered = false;
        self.groups.iter_mut().for_each(|group| group.live_at_home = false);
    }

    /// Whether nobody and nothing needs it.
    pub fn is_idle(&self) -> bool {
        self.groups.iter().all(|group| group.members.is_empty() && group.pending == 0)
    }

    /// All subscriptions of it, in the order of variants and places.
    pub fn subscriptions(&self) -> Vec<SubscriptionKey> {
        self.groups.iter().flat_map(|group| &group.members).map(|member| member.subscription).collect()
    }
}

impl Subscription {
    /// The subscribe that has no answer yet.
    pub fn pending(&self) -> Option<&PendingSubscribe> {
        match &self.state {
            SubscriptionState::Pending(pending) => Some(pending),
            _ => None,
        }
    }

    /// The same, to add a follower.
    pub fn pending_mut(&mut self) -> Option<&mut PendingSubscribe> {
        match &mut self.state {
            SubscriptionState::Pending(pending) => Some(pending),
            _ => None,
        }
    }
}

impl LocalTable {
    /// Subjects wanted now.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// Bytes that subjects and subscriptions take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What one more subscription takes at most.
    pub fn weight_of(name: &SubjectName, exposed: Option<&SubjectName>) -> usize {
        SUBJECT_WEIGHT + name.as_str().len() + exposed.map_or(0, |exposed| exposed.as_str().len()) + SUBSCRIPTION_WEIGHT
    }

    /// Subscriptions held now.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Keys of all subjects. Walks the table: for changes of the map only.
    pub fn keys(&self) -> Vec<LocalSubjectKey> {
        self.subjects.keys().collect()
    }

    /// A wanted subject.
    pub fn subject(&self, local: LocalSubjectKey) -> Option<&LocalSubject> {
        self.subjects.get(local)
    }

    /// A wanted subject, to change.
    pub fn subject_mut(&mut self, local: LocalSubjectKey) -> Option<&mut LocalSubject> {
        self.subjects.get_mut(local)
    }

    /// The subject of that name, unless the map has moved it since.
    pub fn find(&self, name: &SubjectName) -> Option<LocalSubjectKey> {
        self.by_name.get(name).copied()
    }

    /// The subscription that a connection has of a subject, also one that waits to be routed again.
    pub fn subscription_of(&self, connection: ConnectionKey, name: &SubjectName) -> Option<SubscriptionKey> {
        let moved = self.stale.iter().copied().filter(|local| self.subjects[*local].name == *name);
        self.find(name).into_iter().chain(moved).find_map(|local| self.by_connection.get(&(connection, local)).copied())
    }

    /// Makes a subject wanted.
    pub fn insert(
        &mut self,
        name: SubjectName,
        exposed: Option<SubjectName>,
        partition: PartitionRef,
        home: ShardId,
        recoverable: bool,
    ) -> LocalSubjectKey {
        self.bytes += SUBJECT_WEIGHT + name.as_str().len() + exposed.as_ref().map_or(0, |exposed| exposed.as_str().len());
        let local = self.subjects.insert(LocalSubject {
            name: name.clone(),
            exposed,
            topic: partition.topic,
            home,
            partition,
            recoverable,
            next: Offset(0),
            groups: Vec::new(),
            entered: false,
            stale: false,
        });
        self.by_name.insert(name, local);
        local
    }

    /// The map has moved the subject: a later subscribe makes a new one.
    pub fn make_stale(&mut self, local: LocalSubjectKey) {
        if let Some(subject) = self.subjects.get_mut(local).filter(|subject| !subject.stale) {
            subject.stale = true;
            self.by_name.remove(&subject.name);
            self.stale.push(local);
        }
    }

    /// Removes a subject that is idle.
    pub fn remove(&mut self, local: LocalSubjectKey) {
        let Some(subject) = self.subjects.remove(local) else {
            return;
        };
        self.bytes -= SUBJECT_WEIGHT + subject.name.as_str().len() + subject.exposed.as_ref().map_or(0, |exposed| exposed.as_str().len());
        if subject.stale {
            self.stale.retain(|other| *other != local);
        } else {
            self.by_name.remove(&subject.name);
        }
    }

    /// Adds a subscription, not live.
    pub fn subscribe(
        &mut self,
        connection: ConnectionKey,
        local: LocalSubjectKey,
        variant: Variant,
        pending: PendingSubscribe,
    ) -> SubscriptionKey {
        self.bytes += SUBSCRIPTION_WEIGHT;
        let subject = &mut self.subjects[local];
        let recoverable = subject.recoverable;
        let members = &mut subject.group_mut(variant).members;
        let subscription = self.subscriptions.insert(Subscription {
            connection,
            local,
            variant,
            generation: Generation::default(),
            recoverable,
            state: SubscriptionState::Pending(Box::new(pending)),
            place: members.len() as u32,
            list_place: 0,
        });
        members.push(Member { subscription, connection, live: false });
        self.by_connection.insert((connection, local), subscription);
        subscription
    }

    /// Moves a subscription that is not live to another subject (the same name, routed again).
    pub fn move_to(&mut self, key: SubscriptionKey, local: LocalSubjectKey) {
        let Some(subscription) = self.subscriptions.get(key) else {
            return;
        };
        let (connection, old, variant, place) = (subscription.connection, subscription.local, subscription.variant, subscription.place);
        self.take_member(old, variant, place);
        self.by_connection.remove(&(connection, old));
        let members = &mut self.subjects[local].group_mut(variant).members;
        let place = members.len() as u32;
        members.push(Member { subscription: key, connection, live: false });
        self.by_connection.insert((connection, local), key);
        let recoverable = self.subjects[local].recoverable;
        let subscription = &mut self.subscriptions[key];
        (subscription.local, subscription.place, subscription.recoverable) = (local, place, recoverable);
    }

    /// A subscription.
    pub fn get(&self, subscription: SubscriptionKey) -> Option<&Subscription> {
        self.subscriptions.get(subscription)
    }

    /// A subscription, to change. Its state is changed through `set_state` only.
    pub fn get_mut(&mut self, subscription: SubscriptionKey) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(subscription)
    }

    /// Moves the cursor to another state; keeps the member's `live` in step.
    pub fn set_state(&mut self, key: SubscriptionKey, state: SubscriptionState) -> Option<SubscriptionState> {
        let subscription = self.subscriptions.get_mut(key)?;
        let live = matches!(state, SubscriptionState::Live);
        let old = std::mem::replace(&mut subscription.state, state);
        let group = self.subjects[subscription.local].group_mut(subscription.variant);
        let member = &mut group.members[subscription.place as usize];
        let before = std::mem::replace(&mut member.live, live);
        group.live = group.live + u32::from(live) - u32::from(before);
        Some(old)
    }

    /// Ends a subscription and hands it out. The subject stays, even if it is idle now.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) -> Option<Subscription> {
        let subscription = self.subscriptions.remove(key)?;
        self.bytes -= SUBSCRIPTION_WEIGHT;
        self.take_member(subscription.local, subscription.variant, subscription.place);
        self.by_connection.remove(&(subscription.connection, subscription.local));
        Some(subscription)
    }

    fn take_member(&mut self, local: LocalSubjectKey, variant: Variant, place: u32) {
        let group = self.subjects[local].group_mut(variant);
        let taken = group.members.swap_remove(place as usize);
        group.live -= u32::from(taken.live);
        if group.members.is_empty() {
            group.members.shrink_to_fit();
        }
        if let Some(moved) = group.members.get(place as usize).copied() {
            self.subscriptions[moved.subscription].place = place;
        }
    }
}
