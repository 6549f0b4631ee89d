//! Which producer takes a topic's records: Kafka refuses a batch that is larger than the topic's `max.message.bytes` as a whole, and every record in
//! it with the same words. So records of a topic with a small limit go to a producer with small batches.
//!
//! There are a few sizes, not one for each limit; a topic's records go to the largest that its limit holds. A record that is larger than the limit
//! goes alone, and is refused alone. The reader says what the limits are (`BatchLimits`, housekeeping); a shard keeps its own copy and looks at one
//! number per record to see whether it is the newest (`Routes`). When a topic changes its size, a shard waits until Kafka has answered what it has sent
//! by the old way: so its clients' records keep their order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;

/// Sizes of batches in bytes below the configured one (`batch.size`); behind them there is one more class, whose batches hold a single record. A
/// factor of four between them costs a topic three quarters of the batch that it might have, at most, and bounds the number of producers.
const SIZES: [u32; 5] = [256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10];

/// Classes of producers.
pub(super) const CLASSES: usize = SIZES.len() + 2;

/// For topics whose limit is not known (yet, or because the credentials lack the right DescribeConfigs): 16 KiB, the batches of Java's producer.
const UNKNOWN: u32 = 16 << 10;

/// Bytes of a batch without its records, and of a record without its key and value, at least (Kafka's record format, version 2).
const BATCH_BYTES: usize = 61;
const RECORD_BYTES: usize = 7;

/// Topics that a shard remembers its way for. Those without open records are forgotten first; there are no more of them than topics in the cluster.
const ROUTES_MAX: usize = 4_096;

/// A class of producers, by the size of their batches; 0 has the configured one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    pub(super) const WHOLE: Class = Class(0);

    /// The class whose batches fit a topic with this limit. `whole`: the configured size.
    fn of(limit: u32, whole: u32) -> Class {
        if whole <= limit {
            return Class::WHOLE;
        }
        let fits = |size: &u32| *size <= limit && *size < whole;
        Class(SIZES.iter().position(fits).unwrap_or(SIZES.len()) as u8 + 1)
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn from_index(index: usize) -> Class {
        Class(index as u8)
    }

    /// librdkafka's properties of this class beside the configured ones.
    pub(super) fn settings(self) -> Option<(&'static str, String)> {
        match self.index().checked_sub(1) {
            None => None,
            Some(place) => Some(SIZES.get(place).map_or(("batch.num.messages", "1".to_owned()), |size| ("batch.size", size.to_string()))),
        }
    }
}

/// `max.message.bytes` of the cluster's topics, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct BatchLimits {
    version: AtomicU64,
    topics: Mutex<Arc<HashMap<Arc<str>, u32>>>,
    /// Topics that have refused a record for its size, here or in Kafka, since the reader looked last: their setting may be another one by now. Clients
    /// choose among topics that exist, so there are no more of them.
    doubted: Mutex<HashSet<Arc<str>>>,
}

impl BatchLimits {
    /// Sets the limits of some topics, and forgets those of topics that `exists` does not know.
    pub(super) fn set(&self, found: impl IntoIterator<Item = (Arc<str>, u32)>, exists: impl Fn(&str) -> bool) {
        let mut topics = lock(&self.topics);
        let mut next = (**topics).clone();
        next.retain(|topic, _| exists(topic));
        next.extend(found);
        if **topics != next {
            *topics = Arc::new(next);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// A record was too large for a topic: its setting is read again with the next metadata.
    pub(super) fn doubt(&self, topic: &str) {
        let mut doubted = lock(&self.doubted);
        if !doubted.contains(topic) {
            doubted.insert(Arc::from(topic));
        }
    }

    /// What was doubted since this was asked last.
    pub(super) fn take_doubted(&self) -> HashSet<Arc<str>> {
        std::mem::take(&mut *lock(&self.doubted))
    }

    fn topics(&self) -> Arc<HashMap<Arc<str>, u32>> {
        lock(&self.topics).clone()
    }
}

/// What a record needs to know before it goes to a producer.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// To a producer of this class. The number counts this shard's records of the topic that Kafka has not answered.
    Through(Class, Arc<AtomicUsize>),
    /// The topic's limit has changed and Kafka still has records that went by the old way: a little later.
    NotYet,
    /// The topic takes nothing as large.
    TooLarge,
}

/// A shard's ways.
#[derive(Debug)]
pub(super) struct Routes {
    limits: Arc<BatchLimits>,
    version: u64,
    topics: Arc<HashMap<Arc<str>, u32>>,
    routes: HashMap<Arc<str>, (Class, Arc<AtomicUsize>)>,
    whole: u32,
    /// Records are not compressed: their size is what Kafka compares.
    plain: bool,
    /// The class of topics whose limit is not known.
    unknown: Class,
}

impl Routes {
    /// `whole`: the configured `batch.size`. `embedded`: the embedded cluster has no limits.
    pub(super) fn new(limits: Arc<BatchLimits>, whole: u32, plain: bool, embedded: bool) -> Routes {
        let unknown = if embedded { Class::WHOLE } else { Class::of(UNKNOWN, whole) };
        Routes { limits, version: u64::MAX, topics: Arc::default(), routes: HashMap::new(), whole, plain, unknown }
    }

    /// The way of a record of so many bytes, key and value.
    pub(super) fn way(&mut self, topic: &Arc<str>, bytes: usize) -> Way {
        let version = self.limits.version.load(Ordering::Acquire);
        if version != self.version {
            (self.version, self.topics) = (version, self.limits.topics());
        }
        let limit = self.topics.get(topic).copied();
        if self.plain && limit.is_some_and(|limit| BATCH_BYTES + RECORD_BYTES + bytes > limit as usize) {
            self.limits.doubt(topic);
            return Way::TooLarge;
        }
        let class = limit.map_or(self.unknown, |limit| Class::of(limit, self.whole));
        if let Some((current, open)) = self.routes.get_mut(topic) {
            if *current != class {
                // Counted down after Kafka's answer was posted, and up by this shard only.
                if open.load(Ordering::Acquire) > 0 {
                    return Way::NotYet;
                }
                *current = class;
            }
            return Way::Through(class, open.clone());
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.retain(|_, (_, open)| open.load(Ordering::Acquire) > 0);
        }
        let open = Arc::new(AtomicUsize::new(0));
        self.routes.insert(topic.clone(), (class, open.clone()));
        Way::Through(class, open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(limits: &[(&str, u32)]) -> (Arc<BatchLimits>, Routes) {
        let all = Arc::new(BatchLimits::default());
        all.set(limits.iter().map(|(topic, limit)| (Arc::from(*topic), *limit)), |_| true);
        (all.clone(), Routes::new(all, 1_000_000, true, false))
    }

    fn class(way: &Way) -> usize {
        let Way::Through(class, _) = way else { panic!("{way:?}") };
        class.index()
    }

    #[test]
    fn batches_are_never_larger_than_the_topics_limit() {
        for (limit, settings) in [
            (1_048_588, None),
            (1_000_000, None),
            (999_999, Some(("batch.size", "262144"))),
            (262_144, Some(("batch.size", "262144"))),
            (20_000, Some(("batch.size", "16384"))),
            (16_383, Some(("batch.size", "4096"))),
            (1_024, Some(("batch.size", "1024"))),
            (1_023, Some(("batch.num.messages", "1"))),
            (0, Some(("batch.num.messages", "1"))),
        ] {
            let found = Class::of(limit, 1_000_000).settings();
            assert_eq!(found.as_ref().map(|(name, value)| (*name, value.as_str())), settings, "{limit}");
        }
        assert_eq!(Class::of(50_000, 40_000), Class::WHOLE, "a configured size that fits is taken");
        assert_eq!(Class::of(30_000, 40_000).settings(), Some(("batch.size", "16384".to_owned())));
        assert!((0..2_000_000).step_by(997).all(|limit| Class::of(limit, 1_000_000).index() < CLASSES));
    }

    #[test]
    fn a_record_that_cannot_fit_is_refused_before_it_is_sent_unless_it_may_be_compressed() {
        let topic = Arc::from("small");
        let (limits, mut plain) = routes(&[("small", 2_000)]);
        assert!(matches!(plain.way(&topic, 2_000 - 68), Way::Through(..)));
        assert_eq!(limits.take_doubted(), HashSet::new());
        assert!(matches!(plain.way(&topic, 2_000 - 67), Way::TooLarge));
        assert_eq!(limits.take_doubted(), HashSet::from([topic.clone()]), "the setting may have changed: it is read again");
        assert_eq!(limits.take_doubted(), HashSet::new());
        assert!(matches!(Routes::new(limits, 1_000_000, false, false).way(&topic, 5_000), Way::Through(..)));
    }

    #[test]
    fn a_topic_that_changes_its_limit_changes_its_producer_when_nothing_is_open() {
        let topic: Arc<str> = Arc::from("changing");
        let (limits, mut routes) = routes(&[]);
        let unknown = routes.way(&topic, 10);
        assert_eq!(class(&unknown), 3, "16 KiB");
        let Way::Through(_, open) = unknown else { unreachable!() };
        open.fetch_add(1, Ordering::Relaxed);
        limits.set([(topic.clone(), 1_048_588)], |_| true);
        assert!(matches!(routes.way(&topic, 10), Way::NotYet));
        open.fetch_sub(1, Ordering::Release);
        assert_eq!(class(&routes.way(&topic, 10)), 0);
        limits.set([], |_| false);
        assert_eq!(class(&routes.way(&topic, 10)), 3, "what is gone has no limit that is known");
    }

    #[test]
    fn a_shard_remembers_a_bounded_number_of_topics_and_none_with_open_records_is_forgotten() {
        let (_, mut routes) = routes(&[]);
        let Way::Through(_, open) = routes.way(&Arc::from("open"), 1) else { panic!("a way") };
        open.fetch_add(1, Ordering::Relaxed);
        for number in 0..3 * ROUTES_MAX {
            routes.way(&Arc::from(number.to_string()), 1);
            assert!(routes.routes.len() <= ROUTES_MAX + 1);
        }
        assert!(routes.routes.contains_key("open"));
    }
}
