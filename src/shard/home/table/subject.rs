//! A subject at its home: what is remembered of it, in which encodings, and who wants it.

use super::recent::Recent;
use super::slots::HomeKey;
use crate::handoff::{LocalSubjectKey, Offset, PartitionRef, Protocol, ShardId, TopicIndex, Variant};
use crate::session::Publication;
use crate::subject::{ChannelId, SubjectName, ValueKind};
use bytes::Bytes;

/// What an allocation of bytes that slices share takes beside them: the counter of `Bytes`, and the allocator's own.
pub(super) const SHARED_WEIGHT: usize = 48;
/// What a record takes in the queues of its table, which grow by doubling.
pub(super) const QUEUE_WEIGHT: usize = 2 * size_of::<(HomeKey, u64)>();

/// A remembered record. Its key is its subject's.
#[derive(Debug)]
pub struct CachedRecord {
    pub(super) value: Option<Bytes>,
    pub(super) headers: Box<[(Bytes, Bytes)]>,
    pub(super) timestamp_ms: i64,
    /// The position it has; `None` in a live-only subject.
    pub(super) offset: Option<Offset>,
    pub(super) sequence: u64,
    pub(super) arrived_ms: u64,
    pub(super) encoded: Option<Box<Encoded>>,
}

/// A push of a record: of which variant, under which name if not the subject's own.
pub type Push = (Variant, Option<SubjectName>, Bytes);

/// What somebody wanted of a record: each made once.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) pushes: Vec<Push>,
    pub(super) publications: Vec<(Protocol, Bytes)>,
    pub(super) bytes: usize,
}

/// What a home knows of one subject.
#[derive(Debug)]
pub struct HomeSubject {
    pub topic: TopicIndex,
    /// The partition that its positions count in.
    pub partition: PartitionRef,
    pub name: SubjectName,
    pub id: ChannelId,
    pub recoverable: bool,
    pub kind: ValueKind,
    /// Complete from here on.
    pub floor: Offset,
    pub(super) records: Recent<CachedRecord>,
    /// What they weigh, without encodings and without the queue itself.
    pub(super) bytes: usize,
    pub(super) interest: Vec<Interest>,
}

/// A shard that has subscribers of the subject under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    pub shard: ShardId,
    /// What pushes call the subject, if that is not its name.
    pub channel: Option<SubjectName>,
    pub local: LocalSubjectKey,
    /// Those with live subscribers. None while all of them are catching up.
    pub variants: Vec<Variant>,
}

impl CachedRecord {
    pub(super) fn publication(&self, kind: ValueKind) -> Publication<'_> {
        Publication {
            value: self.value.as_deref(),
            kind,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            tags: &self.headers,
            oversize: false,
        }
    }

    /// What it takes beside its place in its subject's queue, without what was encoded of it.
    pub(super) fn weight(&self, key: usize) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<Bytes>()).sum();
        let value = self.value.as_ref().map_or(0, Bytes::len);
        let shared = if key + value + headers > 0 { SHARED_WEIGHT } else { 0 };
        QUEUE_WEIGHT + shared + key + value + headers
    }
}

impl Encoded {
    pub(super) fn weight(&self) -> usize {
        size_of::<Encoded>() + QUEUE_WEIGHT + self.bytes
    }

    pub(super) fn add(&mut self, bytes: &Bytes) {
        // A list of one that may become one of two.
        self.bytes += 4 * size_of::<Push>() + SHARED_WEIGHT + bytes.len();
    }
}

impl HomeSubject {
    /// Remembered records in order.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &CachedRecord> + ExactSizeIterator {
        self.records.iter()
    }

    /// The offset of a remembered record.
    pub fn offset_at(&self, index: usize) -> Option<Offset> {
        self.records.get(index).and_then(|cached| cached.offset)
    }

    /// Index of the first remembered record at or above an offset.
    pub fn index_from(&self, from: Offset) -> usize {
        self.records.partition_point(|cached| cached.offset.is_some_and(|offset| offset < from))
    }

    /// Who has subscribers.
    pub fn interest(&self) -> &[Interest] {
        &self.interest
    }

    /// Nobody has any more.
    pub fn take_interest(&mut self) -> Vec<Interest> {
        std::mem::take(&mut self.interest)
    }

    /// Notes that a shard has subscribers under a name; `live` of that variant or catching up.
    pub fn want(&mut self, shard: ShardId, local: LocalSubjectKey, channel: Option<SubjectName>, variant: Variant, live: bool) {
        let same = |interest: &Interest| interest.shard == shard && interest.channel == channel;
        let place = self.interest.iter().position(same).unwrap_or_else(|| {
            self.interest.push(Interest { shard, channel, local, variants: Vec::new() });
            self.interest.len() - 1
        });
        let interest = &mut self.interest[place];
        if interest.local != local {
            (interest.local, interest.variants) = (local, Vec::new());
        }
        if live && !interest.variants.contains(&variant) {
            interest.variants.push(variant);
        }
    }

    /// A shard has no live subscriber of that variant any more; `None`: it has no subscriber at all.
    pub fn withdraw(&mut self, shard: ShardId, local: LocalSubjectKey, variant: Option<Variant>) {
        let same = |interest: &Interest| interest.shard == shard && interest.local == local;
        match variant {
            Some(variant) => {
                if let Some(interest) = self.interest.iter_mut().find(|interest| same(interest)) {
                    interest.variants.retain(|other| *other != variant);
                }
            }
            None => self.interest.retain(|interest| !same(interest)),
        }
    }

    pub(super) fn key_len(&self) -> usize {
        self.name.key().map_or(0, str::len)
    }
}

impl HomeSubject {
    pub(super) fn is(&self, topic: TopicIndex, key: Option<&[u8]>) -> bool {
        self.topic == topic && self.name.key().map(str::as_bytes) == key
    }
}
