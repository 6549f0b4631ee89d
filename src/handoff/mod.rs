//! The only place where data changes threads: record batches, the messages between shards and the bounded lanes that carry them.

pub mod lane;
pub mod lanes;
pub mod mailbox;
pub mod message;
pub mod record;
pub mod wake;

pub use crate::ids::{
    ConnectionKey, Generation, LocalSubjectKey, LogEndQuestion, Offset, PartitionRef, Protocol, PublishKey, ShardId, SubscriptionKey,
    TopicIndex, Variant,
};
pub use lane::{LaneFull, LaneReceiver, LaneSender, Weigh, lane};
pub use lanes::{LaneEnds, lanes};
pub use mailbox::{MailboxReceiver, MailboxSender, mailbox};
pub use message::{FromHome, FromHomeBatch, HistoryPage, HistoryRequest, Piece, Start, SubscribeRequest, TowardHome, TowardHomeBatch};
pub use record::{Record, RecordBatch};
pub use wake::Wake;
