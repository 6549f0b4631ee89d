//! Subjects: their names, the partition and the shard they live on (the home), and the two tables of a shard: the subjects that live here
//! (`home_table`) and those that its own connections want (`local_table`).

pub mod channel_ids;
pub mod epoch;
pub mod home_table;
pub mod local_table;
pub mod name;
pub mod partitioner;
pub mod topic_map;

pub use channel_ids::{ChannelId, ChannelIds};
pub use epoch::Epoch;
pub use name::{SubjectError, SubjectName};
pub use partitioner::Partitioner;
pub use topic_map::{Home, Partition, Topic, TopicId, TopicMap, ValueKind};
