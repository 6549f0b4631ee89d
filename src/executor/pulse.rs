//! A shard's sign of life: how many turns it has made, for who watches over it.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pulse {
    turns: AtomicU64,
}

impl Pulse {
    /// A pulse that nobody runs yet.
    pub fn new() -> Pulse {
        Pulse::default()
    }

    /// The shard ran a turn. Only the shard's thread calls it.
    pub fn beat(&self) {
        // One writer, so no read-modify-write is needed.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Turns so far.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}
