//! What housekeeping threads write to a shard; the driver makes events of it.

use std::sync::Arc;

use super::event::{Event, PublishFailure, PublishResult};
use super::settings::ShardSettings;
use crate::entitlement::Entitlement;
use crate::handoff::{Generation, LogEndQuestion, Offset, PartitionRef, PublishKey};
use crate::subject::TopicMap;

/// See the events of the same names.
#[derive(Debug)]
pub enum Letter {
    Map(Arc<TopicMap>),
    MapActive {
        version: u64,
    },
    LogEnd {
        question: LogEndQuestion,
        end: Option<Offset>,
    },
    LogStart {
        partition: PartitionRef,
        generation: Generation,
        start: Offset,
    },
    Published {
        publish: PublishKey,
        result: PublishResult,
    },
    TopicFound {
        topic: String,
        partitions: Result<u32, PublishFailure>,
    },
    Settings(Arc<ShardSettings>),
    Entitlement(Entitlement),
    Drain {
        over_ms: u64,
    },
    /// The shard ends: every shard has drained, so nobody needs it any more.
    Stop,
}

impl Letter {
    /// The event in it; `None` for `Stop`, which is for the driver alone.
    pub fn event(&self) -> Option<Event<'_>> {
        Some(match self {
            Letter::Map(map) => Event::Map(map.clone()),
            Letter::MapActive { version } => Event::MapActive { version: *version },
            Letter::LogEnd { question, end } => Event::LogEnd { question: *question, end: *end },
            Letter::LogStart { partition, generation, start } => {
                Event::LogStart { partition: *partition, generation: *generation, start: *start }
            }
            Letter::Published { publish, result } => Event::Published { publish: *publish, result: *result },
            Letter::TopicFound { topic, partitions } => Event::TopicFound { topic, partitions: *partitions },
            Letter::Settings(settings) => Event::Settings(settings.clone()),
            Letter::Entitlement(entitlement) => Event::Entitlement(entitlement.clone()),
            Letter::Drain { over_ms } => Event::Drain { over_ms: *over_ms },
            Letter::Stop => return None,
        })
    }
}
