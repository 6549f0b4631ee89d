//! Offsets as Kafka says them: where partitions start, and where their logs begin and end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::known::{Place, StartAt};
use super::reader::Reader;
use crate::kafka::raw;

/// One request to Kafka.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);
/// One partition's ends, when they could not be had together.
const ALONE_TIME: Duration = Duration::from_millis(500);

/// A partition's start as a number, and where its log begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    pub(super) low: i64,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Leader epoch of the end; -1 if unknown.
    pub(super) leader_epoch: i32,
}

/// An offset as Kafka gave it, with its leader epoch (-1 if unknown).
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) offset: KafkaOffset,
    pub(super) leader_epoch: i32,
}

impl Reader {
    /// Asks Kafka for numbers. A partition that it says nothing about now is left out.
    pub(super) fn resolve(&self, wanted: &[(Place, StartAt)]) -> HashMap<Place, Resolved> {
        let places: Vec<&Place> = wanted.iter().map(|(place, _)| place).filter(|place| !self.leaderless.contains(*place)).collect();
        let ends = self.ends(&places);
        let by_time = self.offsets(wanted.iter().filter(|(place, _)| ends.contains_key(place)).filter_map(|(place, start)| {
            if let StartAt::Time(time_ms) = start { Some((place, KafkaOffset::Offset(*time_ms))) } else { None }
        }));
        let resolve = |(place, start): &(Place, StartAt)| {
            let (low, high, leader_epoch) = *ends.get(place)?;
            let start = match start {
                StartAt::Beginning => low,
                StartAt::End => high,
                StartAt::Position(position) => *position,
                StartAt::Time(_) => match by_time.as_ref()?.get(place)?.offset {
                    KafkaOffset::Offset(offset) => offset,
                    // No record is as young: the end.
                    _ => high,
                },
            };
            Some((place.clone(), Resolved { low, start: start.min(high).max(low), end: high, leader_epoch }))
        };
        wanted.iter().filter_map(resolve).collect()
    }

    /// Log starts, last stable offsets and their leader epochs: of all partitions in two rounds of requests, or of each alone if one of them spoils
    /// the round.
    fn ends(&self, places: &[&Place]) -> HashMap<Place, (i64, i64, i32)> {
        let round = |offset: KafkaOffset| self.offsets(places.iter().map(move |place| (*place, offset)));
        if let (Some(lows), Some(highs)) = (round(KafkaOffset::Beginning), round(KafkaOffset::End)) {
            let both = |(place, low): (Place, Found)| match (low.offset, highs.get(&place)) {
                (KafkaOffset::Offset(low), Some(Found { offset: KafkaOffset::Offset(high), leader_epoch })) => {
                    Some((place, (low, *high, *leader_epoch)))
                }
                _ => None,
            };
            return lows.into_iter().filter_map(both).collect();
        }
        let deadline = Instant::now() + REQUEST_TIME;
        let ask = |place: &&Place| {
            let time = deadline.saturating_duration_since(Instant::now()).min(ALONE_TIME);
            let ends = if time.is_zero() { None } else { self.consumer.fetch_watermarks(&place.0, place.1 as i32, time).ok() };
            ends.map(|(low, high)| ((*place).clone(), (low, high, -1)))
        };
        places.iter().filter_map(ask).collect()
    }

    /// The offsets of times, or of `Beginning` and `End`, as librdkafka's list takes them, and what it answers them with. A partition that it
    /// cannot say now is left out; `None` if the request as a whole failed.
    pub(super) fn offsets<'p>(&self, wanted: impl Iterator<Item = (&'p Place, KafkaOffset)>) -> Option<HashMap<Place, Found>> {
        let mut list = TopicPartitionList::new();
        for ((name, number), offset) in wanted {
            // Any number is taken as an offset.
            let _ = list.add_partition_offset(name, *number as i32, offset);
        }
        if list.count() == 0 {
            return Some(HashMap::new());
        }
        let found = match self.consumer.offsets_for_times(list, REQUEST_TIME) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "offsets");
                return None;
            }
        };
        let epochs = raw::leader_epochs(&found);
        let elements = found.elements();
        let answered = elements.iter().zip(epochs).filter(|(element, _)| element.error().is_ok());
        let found = answered.map(|(element, leader_epoch)| {
            ((element.topic().to_owned(), element.partition() as u32), Found { offset: element.offset(), leader_epoch })
        });
        Some(found.collect())
    }
}
