//! What an operator chooses about cores.

/// `[cores]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSettings {
    pub shards: ShardChoice,
    pub housekeeping: HousekeepingChoice,
    pub poll: Poll,
}

/// `cores.shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardChoice {
    /// All allowed CPUs but one where there are four or more, else all.
    Auto,
    /// This many, on the last allowed CPUs; the lowest are left to housekeeping.
    Count(u16),
    /// One on each of these CPUs: not empty, none twice.
    Cpus(Vec<usize>),
}

/// `cores.housekeeping`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HousekeepingChoice {
    /// The CPUs without a shard; all if none is left.
    Auto,
    /// These CPUs: not empty, none twice.
    Cpus(Vec<usize>),
}

/// How a shard waits when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// It sleeps: an idle shard costs next to nothing, a wake-up some 20 to 50 us.
    #[default]
    Park,
    /// It spins where events come faster than it could fall asleep and wake up, and sleeps otherwise.
    Adaptive,
    /// It spins: lowest latency, a whole core each, always.
    Busy,
}
