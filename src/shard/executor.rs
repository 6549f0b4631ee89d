//! The glommio executor that a shard runs on, with the settings that were measured to suit sockets and cross-core messages.

use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

/// Registered I/O memory. glommio's default of 10 MiB is for files; sockets use none of it, and 64 KiB is the least that it takes.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Entries of each io_uring. The kernel's table of waiting polls has a bucket for 32 completions (two for each entry), 256 at most, and glommio
/// cancels a timer in every loop, which walks a bucket: with 1,024 entries and 10,000 connections that was a quarter of the shard's time, with
/// 4,096 it is a fiftieth. More buckets there are not, and more entries cost memory (100 bytes each, three rings).
const RING_DEPTH: usize = 4096;
/// How long a task may run before others are looked at. The default of 100 ms delays messages of other cores by as much; below 200 us the timer
/// itself costs.
const PREEMPT: Duration = Duration::from_micros(500);
/// `poll = "busy"`: longer than any process lives, so the executor never parks.
const SPIN_FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a shard waits when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// It sleeps: an idle shard costs next to nothing, a wake-up some 20 to 50 us.
    #[default]
    Park,
    /// It spins: lowest latency, a whole core each, always.
    Busy,
}

/// A builder for the executor of a shard pinned to `cpu`. Call `make` on the thread that is to run it: it reports what io_uring lacks.
pub fn executor_builder(cpu: usize, poll: Poll) -> LocalExecutorBuilder {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu)).io_memory(IO_MEMORY_BYTES).ring_depth(RING_DEPTH).preempt_timer(PREEMPT);
    match poll {
        Poll::Park => builder,
        Poll::Busy => builder.spin_before_park(SPIN_FOREVER),
    }
}
