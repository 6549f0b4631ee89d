//! What is set for one topic, consumed or only published to.

use super::partitioner::Partitioner;
use super::topic_map::ValueKind;

/// `[topic."T"]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    pub partitioner: PartitionerChoice,
    pub value: ValueKind,
    /// `snapshot = "latest"`: a subscribe without recovery gets the newest record unasked.
    pub snapshot: bool,
}

/// `partitioner` of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionerChoice {
    /// Detected at start on the newest records.
    #[default]
    Auto,
    Fixed(Partitioner),
}

impl PartitionerChoice {
    /// The rule of a topic without records to judge by.
    pub fn without_records(self) -> Partitioner {
        match self {
            PartitionerChoice::Auto => Partitioner::Murmur2,
            PartitionerChoice::Fixed(rule) => rule,
        }
    }
}
