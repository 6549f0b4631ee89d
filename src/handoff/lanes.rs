//! The lanes between all shards of a node: two for each ordered pair.

use std::sync::Arc;

use super::lane::{LaneReceiver, LaneSender, lane};
use super::message::{FromHomeBatch, TowardHomeBatch};
use super::wake::Wake;

/// Messages in one lane: a few turns' worth, for a message is what one turn had to say. The bound in bytes is the one that counts.
const LANE_MESSAGES_MAX: usize = 256;

/// One shard's ends of all lanes; its own place in each list is empty.
#[derive(Debug, Default)]
pub struct LaneEnds {
    pub(crate) toward_home_to: Vec<Option<LaneSender<TowardHomeBatch>>>,
    pub(crate) from_home_to: Vec<Option<LaneSender<FromHomeBatch>>>,
    pub(crate) toward_home_of: Vec<Option<LaneReceiver<TowardHomeBatch>>>,
    pub(crate) from_home_of: Vec<Option<LaneReceiver<FromHomeBatch>>>,
}

/// Makes the lanes between all shards, each of at most `bytes_max` bytes: two for each ordered pair. `wakes` are the shards' own, in their order.
pub fn lanes(wakes: &[Arc<Wake>], bytes_max: usize) -> Vec<LaneEnds> {
    let mut ends: Vec<LaneEnds> = wakes.iter().map(|_| LaneEnds::default()).collect();
    for from in 0..wakes.len() {
        for to in 0..wakes.len() {
            let (toward_home, from_home) = if from == to {
                ((None, None), (None, None))
            } else {
                let (sender, receiver) = lane(LANE_MESSAGES_MAX, bytes_max, wakes[to].clone(), wakes[from].clone());
                let toward_home = (Some(sender), Some(receiver));
                let (sender, receiver) = lane(LANE_MESSAGES_MAX, bytes_max, wakes[to].clone(), wakes[from].clone());
                (toward_home, (Some(sender), Some(receiver)))
            };
            ends[from].toward_home_to.push(toward_home.0);
            ends[to].toward_home_of.push(toward_home.1);
            ends[from].from_home_to.push(from_home.0);
            ends[to].from_home_of.push(from_home.1);
        }
    }
    ends
}
