//! Outboxes: what waits for a client that does not take it at once.
//!
//! All outboxes of a shard share one pool of nodes, so an idle connection holds none and a delivery allocates nothing per subscriber. A node holds
//! a reference to bytes that other outboxes share. Frames leave in the order they came; a frame whose first byte is written is never dropped.

use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;

use crate::handoff::{Offset, SubscriptionKey};

const NONE: u32 = u32::MAX;

/// What a node belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    pub subscription: SubscriptionKey,
    /// `None`: the record has no position, dropping it is a loss.
    pub offset: Option<Offset>,
}

#[derive(Debug)]
struct Node {
    frame: Option<Rc<Bytes>>,
    tag: Option<Tag>,
    next: u32,
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
        Outbox { head: NONE, tail: NONE, bytes: 0, written: 0, reserved: 0 }
    }
}

impl OutboxPool {
    /// Bytes in all outboxes. A frame that several share is counted for each.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, node: Node) -> u32 {
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

    fn give_back(&mut self, place: u32) -> (usize, u32) {
        let node = &mut self.nodes[place as usize];
        let len = node.frame.take().map_or(0, |frame| frame.len());
        node.tag = None;
        self.free.push(place);
        (len, node.next)
    }
}

impl Outbox {
    /// Bytes queued and promised.
    pub fn load(&self) -> usize {
        self.bytes + self.reserved as usize
    }

    /// Bytes queued.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Queues a frame.
    pub fn push(&mut self, pool: &mut OutboxPool, frame: Rc<Bytes>, tag: Option<Tag>) {
        self.bytes += frame.len();
        pool.bytes += frame.len();
        let place = pool.take(Node { frame: Some(frame), tag, next: NONE });
        if self.tail == NONE {
            self.head = place;
        } else {
            pool.nodes[self.tail as usize].next = place;
        }
        self.tail = place;
    }

    /// The first bytes to write, about `bytes_max` at most, into `slices`. Gives how many slices and bytes.
    pub fn gather<'a>(&self, pool: &'a OutboxPool, slices: &mut [IoSlice<'a>], bytes_max: usize) -> (usize, usize) {
        let (mut place, mut skip, mut count, mut bytes) = (self.head, self.written as usize, 0, 0);
        while place != NONE && count < slices.len() && bytes < bytes_max {
            let node = &pool.nodes[place as usize];
            let frame = node.frame.as_ref().map_or(&[][..], |frame| &frame[skip..]);
            slices[count] = IoSlice::new(frame);
            count += 1;
            bytes += frame.len();
            skip = 0;
            place = node.next;
        }
        (count, bytes)
    }

    /// Notes that so many bytes were written and lets go of whole frames.
    pub fn advance(&mut self, pool: &mut OutboxPool, mut written: usize) {
        self.bytes -= written;
        pool.bytes -= written;
        while written > 0 {
            let len = pool.nodes[self.head as usize].frame.as_ref().map_or(0, |frame| frame.len()) - self.written as usize;
            if written < len {
                self.written += written as u32;
                return;
            }
            written -= len;
            self.written = 0;
            self.head = pool.give_back(self.head).1;
            if self.head == NONE {
                self.tail = NONE;
            }
        }
    }

    /// Takes out the queued records of one subscription, but for one that is partly written.
    pub fn drop_subscription(&mut self, pool: &mut OutboxPool, subscription: SubscriptionKey) -> Dropped {
        let mut dropped = Dropped::default();
        self.retain(pool, |tag| match tag {
            Some(tag) if tag.subscription == subscription => {
                match tag.offset {
                    Some(offset) => dropped.first = dropped.first.or(Some(offset)),
                    None => dropped.unpositioned = true,
                }
                false
            }
            _ => true,
        });
        dropped
    }

    /// Takes out everything, but for a frame that is partly written.
    pub fn drop_all(&mut self, pool: &mut OutboxPool) {
        self.retain(pool, |_| false);
    }

    fn retain(&mut self, pool: &mut OutboxPool, mut keep: impl FnMut(Option<Tag>) -> bool) {
        let (mut place, mut before) = (self.head, NONE);
        let mut started = self.written > 0;
        while place != NONE {
            if started || keep(pool.nodes[place as usize].tag) {
                started = false;
                before = place;
                place = pool.nodes[place as usize].next;
                continue;
            }
            let (len, next) = pool.give_back(place);
            self.bytes -= len;
            pool.bytes -= len;
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
        pool.bytes -= self.bytes;
        while self.head != NONE {
            self.head = pool.give_back(self.head).1;
        }
        *self = Outbox { reserved: self.reserved, ..Outbox::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Rc<Bytes> {
        Rc::new(Bytes::from_static(text.as_bytes()))
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
            outbox.push(&mut pool, frame(word), None);
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
        let tag = |subscription, offset| Some(Tag { subscription, offset: Some(Offset(offset)) });
        outbox.push(&mut pool, frame("1a"), tag(one, 1));
        outbox.push(&mut pool, frame("2a"), tag(two, 7));
        outbox.push(&mut pool, frame("1b"), tag(one, 2));
        outbox.push(&mut pool, frame("1c"), tag(one, 3));
        outbox.advance(&mut pool, 1);
        let dropped = outbox.drop_subscription(&mut pool, one);
        assert_eq!(dropped, Dropped { first: Some(Offset(2)), unpositioned: false });
        assert_eq!(text(&outbox, &pool), "a2a");
        outbox.push(&mut pool, frame("2b"), tag(two, 8));
        assert_eq!(text(&outbox, &pool), "a2a2b");
        outbox.drop_all(&mut pool);
        assert_eq!(text(&outbox, &pool), "a");
        outbox.advance(&mut pool, 1);
        assert!(outbox.is_empty() && pool.bytes() == 0);
        outbox.push(&mut pool, frame("x"), None);
        outbox.clear(&mut pool);
        assert_eq!(pool.bytes(), 0);
    }
}
