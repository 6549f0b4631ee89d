//! Runs one `ShardCore` on one pinned glommio executor.
//!
//! One task, the turn, takes in everything that comes from elsewhere: lanes from home always, lanes toward home and Kafka as long as the core wants
//! them, letters of housekeeping, the tick; then it flushes, and parks when there was nothing. The sockets have a task each, which give their
//! events to the core at once and leave the flush to the next turn, so that the frames of one turn share a write.
//! Core and hands are borrowed for one synchronous call at a time, never across an await. Nothing here decides anything.

use std::cell::{Cell, RefCell, RefMut};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll as TaskPoll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::hands::Hands;
use super::pacemaker::Pulse;
use super::thread::{self, ExecutorFailed};
use crate::cores::Poll;
use crate::entitlement::Entitlement;
use crate::handoff::{ConnectionKey, LaneEnds, MailboxReceiver, ShardId, Wake};
use crate::http::Site;
use crate::limits::{CLOSE_LINGER_MS, TICK_MS};
use crate::net::{self, Host, NetSettings, ShardListener, Sockets};
use crate::shard::{Broker, Event, Letter, MissedPublishes, ShardCore, ShardCounters, ShardSettings};

/// Lane messages of one direction and shard that a turn takes: more than a lane holds would only delay the flush.
const LANE_MESSAGES_PER_TURN: usize = 64;
/// Letters that a turn takes.
const LETTERS_PER_TURN: usize = 4096;
/// Bytes of records that a turn takes from Kafka: large enough to share writes, small enough that sockets and lanes wait less than a millisecond.
const KAFKA_BYTES_PER_TURN: usize = 256 << 10;
/// How often a shard is told what the wall clock says, for it may be set.
const CLOCK_MS: u64 = 1_000;
/// The buffer that all connections of a shard read into: one read takes most of what a socket holds.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// All that a shard is made of.
pub struct ShardPlan<B> {
    pub id: ShardId,
    pub shards: u16,
    pub cpu: usize,
    pub poll: Poll,
    pub settings: ShardSettings,
    /// Who may do what from the first connection on.
    pub entitlement: Entitlement,
    pub net: NetSettings,
    pub site: Site,
    /// One or more.
    pub listeners: Vec<ShardListener>,
    pub lanes: LaneEnds,
    pub mailbox: MailboxReceiver<Letter>,
    pub wake: Arc<Wake>,
    pub pulse: Arc<Pulse>,
    /// Set when a drain has come to its end.
    pub drained: Arc<AtomicBool>,
    pub broker: B,
    /// Takes a copy of the counters, on the shard's thread, once a tick.
    pub store_counters: Box<dyn FnMut(&ShardCounters) + Send>,
    /// Takes a copy of how often each topic has missed a publish, when that has changed.
    pub store_missed: Box<dyn FnMut(&MissedPublishes) + Send>,
    /// Milliseconds are counted from here, the same instant for all shards.
    pub epoch: Instant,
}

async fn live<B: Broker>(plan: ShardPlan<B>) {
    let host = Rc::new(ShardHost {
        core: RefCell::new(ShardCore::new(plan.id, plan.shards, plan.settings)),
        hands: RefCell::new(Hands {
            sockets: Sockets::new(plan.net),
            lanes: plan.lanes,
            broker: plan.broker,
            store_counters: plan.store_counters,
            store_missed: plan.store_missed,
        }),
        mailbox: plan.mailbox,
        read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
        wake: plan.wake.clone(),
        epoch: plan.epoch,
        ticked_ms: Cell::new(0),
        clock_due_ms: Cell::new(0),
        stopping: Cell::new(false),
    });
    host.handle(host.clock(host.now_ms()));
    host.handle(Event::Entitlement(plan.entitlement));
    let wake = plan.wake.clone();
    let ticker = glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(Duration::from_millis(TICK_MS)).await;
            wake.notify();
        }
    });
    for listener in plan.listeners {
        glommio::spawn_local(net::accept(host.clone(), listener, plan.site.clone())).detach();
    }

    let mut leave_ms = None;
    loop {
        plan.pulse.beat();
        plan.wake.start_turn();
        let worked = host.turn();
        if host.core.borrow().drained() {
            plan.drained.store(true, Ordering::Release);
        }
        if host.stopping.get() {
            // Closed connections may still be reading their last bytes.
            let now_ms = host.now_ms();
            let leave_ms = *leave_ms.get_or_insert(now_ms + CLOSE_LINGER_MS);
            if host.sockets().is_empty() || now_ms >= leave_ms {
                break;
            }
        }
        if worked {
            yield_once().await;
        } else {
            plan.wake.park().await;
        }
    }
    ticker.cancel().await;
    plan.wake.forget();
}

/// Lets the other tasks of the executor run.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return TaskPoll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        TaskPoll::Pending
    })
    .await;
}

/// The shard as its tasks share it.
struct ShardHost<B> {
    core: RefCell<ShardCore>,
    hands: RefCell<Hands<B>>,
    mailbox: MailboxReceiver<Letter>,
    read_buffer: RefCell<Box<[u8]>>,
    wake: Arc<Wake>,
    epoch: Instant,
    ticked_ms: Cell<u64>,
    /// When the shard is told next what the wall clock says.
    clock_due_ms: Cell<u64>,
    stopping: Cell<bool>,
}

impl<B: Broker> ShardHost<B> {
    fn clock(&self, now_ms: u64) -> Event<'static> {
        self.clock_due_ms.set(now_ms + CLOCK_MS);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Event::Clock { unix_ms: unix.as_millis() as u64 }
    }

    /// One turn; whether there was anything to do.
    fn turn(&self) -> bool {
        let now_ms = self.now_ms();
        let (core, hands) = (&mut *self.core.borrow_mut(), &mut *self.hands.borrow_mut());
        let mut worked = false;
        // What is not taken in now nobody announces again.
        let mut refused = !core.polls_kafka();
        let mut held_back = !core.drains_from_home();
        for from in 0..hands.lanes.from_home_of.len() {
            for _ in 0..LANE_MESSAGES_PER_TURN {
                if !core.drains_from_home() {
                    held_back = true;
                    break;
                }
                let Some(batch) = hands.lanes.from_home_of[from].as_ref().and_then(|lane| lane.try_receive()) else { break };
                core.handle(now_ms, Event::FromHome { from: ShardId(from as u16), batch }, hands);
                if core.is_crowded() {
                    core.flush(now_ms, hands);
                }
                worked = true;
            }
        }
        for from in 0..hands.lanes.toward_home_of.len() {
            for _ in 0..LANE_MESSAGES_PER_TURN {
                if !core.drains_toward_home() {
                    break;
                }
                let Some(batch) = hands.lanes.toward_home_of[from].as_ref().and_then(|lane| lane.try_receive()) else { break };
                core.handle(now_ms, Event::TowardHome { from: ShardId(from as u16), batch }, hands);
                worked = true;
            }
        }
        for _ in 0..LETTERS_PER_TURN {
            let Some(letter) = self.mailbox.try_receive() else { break };
            if let Letter::Drain { .. } = letter {
                hands.sockets.stop_accepting();
            }
            match letter.event() {
                Some(event) => core.handle(now_ms, event, hands),
                None => self.stopping.set(true),
            }
            worked = true;
        }
        let mut room = KAFKA_BYTES_PER_TURN;
        while room > 0 && core.polls_kafka() {
            let Some(batch) = hands.broker.poll(room.min(core.part_bytes())) else { break };
            let bytes: usize = batch.records.iter().map(|record| record.weight()).sum();
            room = room.saturating_sub(bytes.max(1));
            core.handle(now_ms, Event::Records(batch), hands);
            if core.is_crowded() {
                core.flush(now_ms, hands);
            } else {
                core.send_part(hands);
            }
            worked = true;
        }
        refused |= !core.polls_kafka();
        if now_ms >= self.ticked_ms.get() + TICK_MS {
            self.ticked_ms.set(now_ms);
            if now_ms >= self.clock_due_ms.get() {
                core.handle(now_ms, self.clock(now_ms), hands);
            }
            if core.due_ms() <= now_ms {
                core.handle(now_ms, Event::Tick, hands);
            }
            hands.sockets.sweep(now_ms);
        }
        core.flush(now_ms, hands);
        worked || core.wants_flush() || refused && core.polls_kafka() || held_back && core.drains_from_home()
    }
}

impl<B: Broker> Host for ShardHost<B> {
    fn sockets(&self) -> RefMut<'_, Sockets> {
        RefMut::map(self.hands.borrow_mut(), |hands| &mut hands.sockets)
    }

    fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read_buffer.borrow_mut()
    }

    fn handle(&self, event: Event<'_>) {
        let now_ms = self.now_ms();
        self.core.borrow_mut().handle(now_ms, event, &mut *self.hands.borrow_mut());
        self.wake.notify();
    }

    fn reads(&self, connection: ConnectionKey) -> bool {
        self.core.borrow_mut().reads(connection)
    }

    fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

/// Runs a shard on a thread of its own; returns once its first task runs.
pub fn spawn<B: Broker>(plan: ShardPlan<B>) -> Result<JoinHandle<()>, ShardFailed> {
    let (shard, cpu, poll, pulse) = (plan.id.0, plan.cpu, plan.poll, plan.pulse.clone());
    thread::start(&format!("shard-{shard}"), cpu, poll, pulse, move || live(plan)).map_err(|error| ShardFailed { shard, cpu, error })
}

/// A shard that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} on CPU {cpu}: {error}")]
pub struct ShardFailed {
    pub shard: u16,
    pub cpu: usize,
    pub error: ExecutorFailed,
}
