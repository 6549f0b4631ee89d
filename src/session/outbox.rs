//! Outboxes: what waits for a client that does not take it at once.
//!
//! All outboxes of a shard share one pool of nodes, so an idle connection holds none and a delivery allocates nothing per subscriber. A node holds
//! a reference to bytes that other outboxes share. Frames leave in the order they came; a frame whose first byte is written is never dropped.
//!
//! Two sums: an outbox counts all that waits for its client, the pool counts memory, and there bytes that several outboxes share count once.

use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;

use crate::ids::{Offset, SubscriptionKey};

const NONE: u32 = u32::MAX;

/// What a queued frame takes beside its bytes: its node in the pool.
const NODE_BYTES: usize = size_of::<Node>();

/// What a frame takes beside its bytes, however many outboxes share it: reference counts, the `Bytes`, and what the allocator and `Bytes` add.
const FRAME_BYTES: usize = 2 * size_of::<usize>() + size_of::<Frame>() + 48;

/// The pool gives memory back from so many nodes on.
const NODES_KEPT: usize = 4_096;

/// A frame that outboxes share.
#[derive(Debug)]
pub struct Frame {
    bytes: Bytes,
    /// The position of its record. `None`: the record has none, dropping it is a loss; or it is no record.
    offset: Option<Offset>,
}

#[derive(Debug)]
struct Node {
    frame: Option<Rc<Frame>>,
    /// Whose record it is.
    subscription: Option<SubscriptionKey>,
    next: u32,
    /// No other outbox has the frame.
    own: bool,
}

/// The nodes of all outboxes of a shard.
#[derive(Debug, Default)]
pub struct OutboxPool {
    nodes: Vec<Node>,
    free: Vec<u32>,
    bytes: usize,
}

/// One connection's queue.
#[derive(Debug)]
pub struct Outbox {
    head: u32,
    tail: u32,
    /// Bytes queued and not written.
    bytes: usize,
    /// Bytes of the first frame that are written.
    written: u32,
    /// Frames queued.
    frames: u32,
    /// Of them, those that no other outbox has.
    own: u32,
    /// Bytes promised to answers that are still to come.
    pub reserved: u32,
}

/// What `Outbox::drop_subscription` took out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Offset of the first dropped record.
    pub first: Option<Offset>,
    /// A record without a position was among them.
    pub unpositioned: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { head: NONE, tail: NONE, bytes: 0, written: 0, frames: 0, own: 0, reserved: 0 }
    }
}

impl OutboxPool {
    /// Bytes that all outboxes hold, bookkeeping included. A frame that several share is counted once.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nodes there is room for: what a burst has left behind.
    pub fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// Makes a frame that outboxes can share. It counts until the last of them, and whoever made it, let go of it.
    pub fn share(&mut self, bytes: Bytes, offset: Option<Offset>) -> Rc<Frame> {
        self.bytes += FRAME_BYTES + bytes.len();
        Rc::new(Frame { bytes, offset })
    }

    /// Lets go of a frame.
    pub fn release(&mut self, frame: Rc<Frame>) {
        if Rc::strong_count(&frame) == 1 {
            self.bytes -= FRAME_BYTES + frame.bytes.len();
        }
    }

    /// Gives back what a burst has left behind, if most of it is not used any more. Walks the unused nodes, so not in every turn.
    pub fn shrink(&mut self) {
        let used = self.nodes.len() - self.free.len();
        if self.nodes.len() < NODES_KEPT || used > self.nodes.len() / 4 {
            return;
        }
        while self.nodes.last().is_some_and(|node| node.frame.is_none()) {
            self.nodes.pop();
        }
        // The lowest places are used first from now on, so that the rest can go too, later.
        self.free.retain(|place| (*place as usize) < self.nodes.len());
        self.free.sort_unstable_by(|one, two| two.cmp(one));
        self.nodes.shrink_to(NODES_KEPT);
        self.free.shrink_to(NODES_KEPT);
    }

    /// # Panics
    /// If these outboxes are not all there are, or what is counted is not what they hold. For tests and the simulator: walks everything.
    pub fn check<'a>(&self, outboxes: impl Iterator<Item = &'a Outbox>) {
        let (mut nodes, mut shared) = (0, std::collections::HashMap::new());
        for outbox in outboxes {
            let (mut place, mut bytes, mut frames, mut own) = (outbox.head, 0, 0, 0);
            while place != NONE {
                let node = &self.nodes[place as usize];
                if let Some(frame) = &node.frame {
                    bytes += frame.bytes.len();
                    shared.insert(Rc::as_ptr(frame), FRAME_BYTES + frame.bytes.len());
                }
                own += u32::from(node.own);
                (frames, place) = (frames + 1, node.next);
            }
            let held = (bytes - outbox.written as usize, frames, own);
            assert_eq!(held, (outbox.bytes, outbox.frames, outbox.own), "an outbox counts what it holds");
            nodes += frames as usize;
        }
        assert_eq!(
            nodes * NODE_BYTES + shared.values().sum::<usize>(),
            self.bytes,
            "the pool counts what outboxes hold, shared bytes once"
        );
    }

    fn take(&mut self, node: Node) -> u32 {
        self.bytes += NODE_BYTES;
        match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    /// Bytes of its frame, whether it was an outbox's own, and the place after it.
    fn give_back(&mut self, place: u32) -> (usize, bool, u32) {
        self.bytes -= NODE_BYTES;
        let node = &mut self.nodes[place as usize];
        let (frame, own, next) = (node.frame.take(), node.own, node.next);
        self.free.push(place);
        let len = frame.as_ref().map_or(0, |frame| frame.bytes.len());
        if let Some(frame) = frame {
            self.release(frame);
        }
        (len, own, next)
    }
}

impl Outbox {
    /// Bytes that wait for the client or are promised to it, bookkeeping included.
    pub fn load(&self) -> usize {
        self.bytes + self.frames as usize * NODE_BYTES + self.own as usize * FRAME_BYTES + self.reserved as usize
    }

    /// What a shared frame of that many bytes adds to the load.
    pub const fn load_of(bytes: usize) -> usize {
        bytes + NODE_BYTES
    }

    /// Bytes queued.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Queues a frame that other outboxes may have too.
    pub fn push(&mut self, pool: &mut OutboxPool, frame: Rc<Frame>, subscription: Option<SubscriptionKey>) {
        self.add(pool, Node { frame: Some(frame), subscription, next: NONE, own: false });
    }

    /// Queues a frame that is for this outbox alone.
    pub fn push_own(&mut self, pool: &mut OutboxPool, bytes: Bytes, offset: Option<Offset>, subscription: Option<SubscriptionKey>) {
        self.own += 1;
        let frame = pool.share(bytes, offset);
        self.add(pool, Node { frame: Some(frame), subscription, next: NONE, own: true });
    }

    fn add(&mut self, pool: &mut OutboxPool, node: Node) {
        self.bytes += node.frame.as_ref().map_or(0, |frame| frame.bytes.len());
        self.frames += 1;
        let place = pool.take(node);
        if self.tail == NONE {
            self.head = place;
        } else {
            pool.nodes[self.tail as usize].next = place;
        }
        self.tail = place;
    }

    /// What is to be written, if it is a single frame.
    pub fn only<'a>(&self, pool: &'a OutboxPool) -> Option<&'a [u8]> {
        if self.frames != 1 {
            return None;
        }
        let frame = pool.nodes[self.head as usize].frame.as_ref()?;
        Some(&frame.bytes[self.written as usize..])
    }

    /// The first bytes to write, about `bytes_max` at most, into `slices`. Gives how many slices and bytes.
    pub fn gather<'a>(&self, pool: &'a OutboxPool, slices: &mut [IoSlice<'a>], bytes_max: usize) -> (usize, usize) {
        let (mut place, mut skip, mut count, mut bytes) = (self.head, self.written as usize, 0, 0);
        while place != NONE && count < slices.len() && bytes < bytes_max {
            let node = &pool.nodes[place as usize];
            let frame = node.frame.as_ref().map_or(&[][..], |frame| &frame.bytes[skip..]);
            slices[count] = IoSlice::new(frame);
            count += 1;
            bytes += frame.len();
            skip = 0;
            place = node.next;
        }
        (count, bytes)
    }

    /// Lets go of the node at `place`; its bytes and the place after it.
    fn take_out(&mut self, pool: &mut OutboxPool, place: u32) -> (usize, u32) {
        let (len, own, next) = pool.give_back(place);
        self.frames -= 1;
        self.own -= u32::from(own);
        (len, next)
    }

    /// Notes that so many bytes were written and lets go of whole frames.
    pub fn advance(&mut self, pool: &mut OutboxPool, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let len = pool.nodes[self.head as usize].frame.as_ref().map_or(0, |frame| frame.bytes.len()) - self.written as usize;
            if written < len {
                self.written += written as u32;
                return;
            }
            written -= len;
            self.written = 0;
            self.head = self.take_out(pool, self.head).1;
            if self.head == NONE {
                self.tail = NONE;
            }
        }
    }

    /// Takes out the queued records of one subscription, but for one that is partly written.
    pub fn drop_subscription(&mut self, pool: &mut OutboxPool, subscription: SubscriptionKey) -> Dropped {
        let mut dropped = Dropped::default();
        self.retain(pool, |other, offset| match other {
            Some(other) if other == subscription => {
                match offset {
                    Some(offset) => dropped.first = dropped.first.or(Some(offset)),
                    None => dropped.unpositioned = true,
                }
                false
            }
            _ => true,
        });
        dropped
    }

    /// Takes out the queued records with a position of the subscriptions that `parks` names, in one walk, but for one that is partly written; says
    /// which those are, in their order.
    pub fn drop_positioned(
        &mut self,
        pool: &mut OutboxPool,
        mut parks: impl FnMut(SubscriptionKey) -> bool,
        mut dropped: impl FnMut(SubscriptionKey, Offset),
    ) {
        self.retain(pool, |subscription, offset| match (subscription, offset) {
            (Some(subscription), Some(offset)) if parks(subscription) => {
                dropped(subscription, offset);
                false
            }
            _ => true,
        });
    }

    /// Takes out everything, but for a frame that is partly written.
    pub fn drop_all(&mut self, pool: &mut OutboxPool) {
        self.retain(pool, |_, _| false);
    }

    fn retain(&mut self, pool: &mut OutboxPool, mut keep: impl FnMut(Option<SubscriptionKey>, Option<Offset>) -> bool) {
        let (mut place, mut before) = (self.head, NONE);
        let mut started = self.written > 0;
        while place != NONE {
            let node = &pool.nodes[place as usize];
            if started || keep(node.subscription, node.frame.as_ref().and_then(|frame| frame.offset)) {
                started = false;
                before = place;
                place = pool.nodes[place as usize].next;
                continue;
            }
            let (len, next) = self.take_out(pool, place);
            self.bytes -= len;
            if before == NONE {
                self.head = next;
            } else {
                pool.nodes[before as usize].next = next;
            }
            place = next;
        }
        self.tail = before;
    }

    /// Lets go of everything queued: the socket is gone. What is promised stays promised until its answers have come.
    pub fn clear(&mut self, pool: &mut OutboxPool) {
        while self.head != NONE {
            self.head = self.take_out(pool, self.head).1;
        }
        *self = Outbox { reserved: self.reserved, ..Outbox::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues a frame of its own.
    fn push(outbox: &mut Outbox, pool: &mut OutboxPool, text: &'static str, tag: Option<(SubscriptionKey, i64)>) {
        let (subscription, offset) = tag.unzip();
        outbox.push_own(pool, Bytes::from_static(text.as_bytes()), offset.map(Offset), subscription);
    }

    fn text(outbox: &Outbox, pool: &OutboxPool) -> String {
        let mut slices = [IoSlice::new(&[]); 100];
        let (count, _) = outbox.gather(pool, &mut slices, 10_000);
        slices[..count].iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
    }

    #[test]
    fn frames_leave_in_order_whatever_the_writes_take() {
        let (mut pool, mut outbox) = (OutboxPool::default(), Outbox::default());
        for word in ["alpha", "beta", "gamma"] {
            push(&mut outbox, &mut pool, word, None);
        }
        let mut left = "alphabetagamma".to_owned();
        for step in [3, 2, 1, 6, 2] {
            assert_eq!(text(&outbox, &pool), left);
            outbox.advance(&mut pool, step);
            left.drain(..step);
        }
        assert!(outbox.is_empty() && pool.bytes() == 0 && outbox.bytes() == 0);
    }

    #[test]
    fn dropping_a_subscription_keeps_others_and_a_frame_that_has_begun() {
        let (mut pool, mut outbox) = (OutboxPool::default(), Outbox::default());
        let mut keys = slotmap::SlotMap::<SubscriptionKey, ()>::with_key();
        let (one, two) = (keys.insert(()), keys.insert(()));
        let tag = |subscription, offset| Some((subscription, offset));
        push(&mut outbox, &mut pool, "1a", tag(one, 1));
        push(&mut outbox, &mut pool, "2a", tag(two, 7));
        push(&mut outbox, &mut pool, "1b", tag(one, 2));
        push(&mut outbox, &mut pool, "1c", tag(one, 3));
        outbox.advance(&mut pool, 1);
        let dropped = outbox.drop_subscription(&mut pool, one);
        assert_eq!(dropped, Dropped { first: Some(Offset(2)), unpositioned: false });
        assert_eq!(text(&outbox, &pool), "a2a");
        push(&mut outbox, &mut pool, "2b", tag(two, 8));
        assert_eq!(text(&outbox, &pool), "a2a2b");
        outbox.drop_all(&mut pool);
        assert_eq!(text(&outbox, &pool), "a");
        outbox.advance(&mut pool, 1);
        assert!(outbox.is_empty() && pool.bytes() == 0);
        push(&mut outbox, &mut pool, "x", None);
        outbox.clear(&mut pool);
        assert_eq!(pool.bytes(), 0);
    }

    #[test]
    fn bytes_that_outboxes_share_count_once_and_a_burst_leaves_no_memory_behind() {
        let mut pool = OutboxPool::default();
        let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::default()).collect();
        for _ in 0..100 {
            let frame = pool.share(Bytes::from(vec![7; 1_000]), None);
            outboxes.iter_mut().for_each(|outbox| outbox.push(&mut pool, frame.clone(), None));
            pool.release(frame);
        }
        assert_eq!(pool.bytes(), 100 * (1_000 + FRAME_BYTES) + 10_000 * NODE_BYTES);
        assert_eq!(outboxes[0].load(), 100 * Outbox::load_of(1_000));
        for outbox in &mut outboxes[1..] {
            outbox.clear(&mut pool);
        }
        assert_eq!(pool.bytes(), 100 * (1_000 + FRAME_BYTES + NODE_BYTES));
        outboxes[0].advance(&mut pool, 100_000);
        assert_eq!((pool.bytes(), outboxes[0].load()), (0, 0));
        pool.shrink();
        assert!(pool.capacity() <= NODES_KEPT);
    }
}
