//! A Kafka record and a batch of them, copied out of librdkafka so that a cached record never pins a fetch buffer.

use bytes::Bytes;

use crate::ids::{Generation, Offset, PartitionRef};

/// One record. Key, headers and value share one allocation.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds since the Unix epoch; -1 if the record has none.
    pub timestamp_ms: i64,
    /// Leader epoch of the log that held it; -1 if the broker did not say.
    pub leader_epoch: i32,
    /// `None` is a null key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers whose name and value are UTF-8, in order. Others are left out.
    pub headers: Box<[(Bytes, Bytes)]>,
}

impl Record {
    /// Bytes that this record keeps alive, bookkeeping included (an estimate that never says less than key + value + headers).
    pub fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<Bytes>()).sum();
        size_of::<Record>() + self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// Records of one partition in the order of their offsets, and how far the partition has been read with them.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    pub partition: PartitionRef,
    pub generation: Generation,
    /// Ascending offsets; gaps are not losses (compaction, transaction markers). May be empty: then only `next` moves (end of partition reached).
    pub records: Vec<Record>,
    /// The offset that the next batch starts at or after: everything below has been read.
    pub next: Offset,
}
