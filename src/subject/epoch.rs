//! The epoch text of a position: which log the offset counts in.
//!
//! `1.TOPIC_ID.PARTITION.LEADER_EPOCH`: a version digit, the topic id, the partition, the leader epoch of the position (-1 if unknown). Two epochs
//! name the same log if topic id and partition agree; the leader epoch is for the truncation check only.

/// A parsed epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch<'a> {
    pub topic_id: &'a str,
    pub partition: u32,
    pub leader_epoch: i32,
}

impl<'a> Epoch<'a> {
    /// Reads an epoch; `None` if the text is not one of ours.
    pub fn parse(text: &'a str) -> Option<Epoch<'a>> {
        let rest = text.strip_prefix("1.")?;
        let (rest, leader_epoch) = rest.rsplit_once('.')?;
        let (topic_id, partition) = rest.rsplit_once('.')?;
        if topic_id.is_empty() {
            return None;
        }
        Some(Epoch { topic_id, partition: partition.parse().ok()?, leader_epoch: leader_epoch.parse().ok()? })
    }

    /// Whether both count in the same log.
    pub fn same_log(&self, topic_id: &str, partition: u32) -> bool {
        self.topic_id == topic_id && self.partition == partition
    }
}

impl std::fmt::Display for Epoch<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "1.{}.{}.{}", self.topic_id, self.partition, self.leader_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_survives_its_text() {
        let epoch = Epoch { topic_id: "demo.cluster.vehicles", partition: 7, leader_epoch: -1 };
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        for nonsense in ["", "_", "1", "1.a", "1.a.b.c", "2.a.1.1", "1..1.1"] {
            assert_eq!(Epoch::parse(nonsense), None, "{nonsense}");
        }
    }
}
