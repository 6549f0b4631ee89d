//! Subjects: their names, the partition and the shard they live on (the home), the topic map, and the texts that clients know a log and a subject
//! by: epochs and numeric channel ids.

pub mod channel_ids;
pub mod epoch;
pub mod name;
pub mod partitioner;
pub mod pattern;
pub mod publish_rule;
pub mod routes;
pub mod topic_map;
pub mod topic_settings;

pub use channel_ids::{ChannelId, ChannelIds};
pub use epoch::Epoch;
pub use name::{SubjectError, SubjectName};
pub use partitioner::Partitioner;
pub use pattern::{PatternError, SubjectPattern, Template};
pub use publish_rule::PublishRule;
pub use routes::{Destination, Exposures, Route, RouteError, Routes};
pub use topic_map::{Home, Partition, Topic, TopicId, TopicMap, ValueKind};
pub use topic_settings::{PartitionerChoice, TopicSettings};
