//! Records as they go out, each made once for each variant. They have a budget of their own and go before records do.

use super::subject::Encoded;
use super::{ENCODINGS_PER, HomeKey, HomeTable};
use crate::handoff::{Protocol, Record, Variant};
use crate::session::{Publication, encode_publication, encode_push};
use crate::subject::SubjectName;
use bytes::Bytes;

impl HomeTable {
    /// Of them, what was encoded for those who catch up or ask for history.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    pub(super) fn trim_encodings(&mut self) {
        let budget = self.limits.bytes_max / ENCODINGS_PER;
        while self.encoded_bytes > budget || self.encoded_bytes > 0 && self.bytes > self.limits.bytes_max {
            let Some((key, sequence)) = self.encodings.pop_front() else {
                break;
            };
            self.forget_encodings(key, sequence);
        }
        // Those whose record went before leave entries that only the front sees.
        if self.encodings.len() > 64 + 2 * self.records {
            let subjects = &self.subjects;
            self.encodings.retain(|(key, sequence)| {
                subjects.get(*key).and_then(|subject| subject.records.first()).is_some_and(|first| first.sequence <= *sequence)
            });
        }
    }

    pub(super) fn forget_encodings(&mut self, key: HomeKey, sequence: u64) {
        let Some(subject) = self.subjects.get_mut(key) else {
            return;
        };
        let place = subject.records.partition_point(|cached| cached.sequence < sequence);
        if let Some(cached) = subject.records.get_mut(place).filter(|cached| cached.sequence == sequence)
            && let Some(encoded) = cached.encoded.take()
        {
            self.bytes -= encoded.weight();
            self.encoded_bytes -= encoded.weight();
        }
    }

    /// The push of the newest record for those who are live when it comes. It is not kept: who comes back for it later is rare, and it would more than
    /// double what a remembered record takes.
    pub fn live_frame(&mut self, key: HomeKey, variant: Variant, channel: Option<&SubjectName>) -> Bytes {
        let subject = &self.subjects[key];
        let cached = subject.records.newest().expect("a record was pushed");
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_push(variant, channel.unwrap_or(&subject.name).as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The push of a remembered record in one variant, made when first wanted by someone who catches up, and kept for the next.
    pub fn push_frame(&mut self, key: HomeKey, index: usize, variant: Variant, channel: Option<&SubjectName>) -> Bytes {
        let subject = &self.subjects[key];
        let cached = &subject.records[index];
        let made = cached
            .encoded
            .as_ref()
            .and_then(|encoded| encoded.pushes.iter().find(|(other, name, _)| *other == variant && name.as_ref() == channel));
        if let Some((_, _, frame)) = made {
            return frame.clone();
        }
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_push(variant, channel.unwrap_or(&subject.name).as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        self.keep_encoding(key, index, &frame, |encoded| encoded.pushes.push((variant, channel.cloned(), frame.clone())));
        frame
    }

    /// The push of a record that has no position and is not remembered.
    pub fn passing_frame(&mut self, key: HomeKey, record: &Record, variant: Variant, channel: Option<&SubjectName>) -> Bytes {
        let subject = &self.subjects[key];
        let publication = Publication {
            value: record.value.as_deref(),
            kind: subject.kind,
            offset: None,
            timestamp_ms: record.timestamp_ms,
            tags: &record.headers,
            oversize: false,
        };
        let (frame, oversize) = encode_within(self.limits.push_bytes_max, publication, |publication| {
            encode_push(variant, channel.unwrap_or(&subject.name).as_str(), subject.id.number(), publication)
        });
        self.encoded += 1;
        self.oversize += u64::from(oversize);
        frame
    }

    /// The publication of a remembered record in one encoding, made when first wanted, and kept for the next.
    pub fn publication(&mut self, key: HomeKey, index: usize, protocol: Protocol) -> Bytes {
        let subject = &self.subjects[key];
        let cached = &subject.records[index];
        let made = cached.encoded.as_ref().and_then(|encoded| encoded.publications.iter().find(|(other, _)| *other == protocol));
        if let Some((_, publication)) = made {
            return publication.clone();
        }
        let (encoded, oversize) = encode_within(self.limits.push_bytes_max, cached.publication(subject.kind), |publication| {
            encode_publication(protocol, publication)
        });
        self.oversize += u64::from(oversize);
        self.keep_encoding(key, index, &encoded, |kept| kept.publications.push((protocol, encoded.clone())));
        encoded
    }

    /// Keeps an encoding. Evicts older encodings for it, or this one, but no record: reading makes nobody miss anything.
    pub(super) fn keep_encoding(&mut self, key: HomeKey, index: usize, bytes: &Bytes, keep: impl FnOnce(&mut Encoded)) {
        let cached = &mut self.subjects[key].records[index];
        let before = cached.encoded.as_ref().map_or(0, |encoded| encoded.weight());
        if before == 0 {
            self.encodings.push_back((key, cached.sequence));
        }
        let encoded = cached.encoded.get_or_insert_default();
        keep(encoded);
        encoded.add(bytes);
        let added = encoded.weight() - before;
        self.bytes += added;
        self.encoded_bytes += added;
        self.trim_encodings();
    }
}

/// Encodes a record; if that is larger than an outbox may hold, announces it without its value.
fn encode_within(bytes_max: usize, mut publication: Publication<'_>, encode: impl Fn(&Publication<'_>) -> Bytes) -> (Bytes, bool) {
    let heavy =
        publication.value.map_or(0, <[u8]>::len) + publication.tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if heavy <= bytes_max {
        let encoded = encode(&publication);
        if encoded.len() <= bytes_max {
            return (encoded, false);
        }
    }
    publication.oversize = true;
    publication.value = Some(&[]);
    publication.tags = &[];
    (encode(&publication), true)
}
