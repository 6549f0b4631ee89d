//! Runs one `ShardCore` on one pinned glommio executor.
//!
//! One task, the turn, takes in everything that comes from elsewhere: lanes from home always, lanes toward home and Kafka as long as the core wants
//! them, letters of housekeeping, the tick; then it flushes. The sockets have a task each, which give their events to the core at once and leave the
//! flush to the next turn, so that the frames of one turn share a write. When there was nothing, and no other task has anything to do, the turn task
//! waits itself (`rest`), and the executor with it: nobody else can be woken meanwhile, for whatever wakes a task comes through `Sockets`.
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
use super::pulse::Pulse;
use super::rest::Rest;
use super::slice::Slice;
use super::thread::{self, ExecutorFailed};
use crate::cores::Poll;
use crate::entitlement::Entitlement;
use crate::handoff::{ConnectionKey, LaneEnds, MailboxReceiver, ShardId, Wake};
use crate::http::Site;
use crate::limits::{CLOSE_LINGER_MS, TICK_MS};
use crate::net::{self, Host, NetSettings, Poller, ShardListener, Sockets};
use crate::shard::{Broker, Event, Letter, MissedPublishes, ShardCore, ShardCounters, ShardSettings, ShardStages, Stage};

/// Lane messages of one direction and shard that a turn takes: more than a lane holds would only delay the flush.
const LANE_MESSAGES_PER_TURN: usize = 64;
/// Letters that a turn takes.
const LETTERS_PER_TURN: usize = 4096;
/// Bytes of records that a turn takes from Kafka, a slice at a time: small enough that sockets and lanes wait less than a millisecond.
const KAFKA_BYTES_PER_TURN: usize = 256 << 10;
/// How often a shard is told what the wall clock says, for it may be set.
const CLOCK_MS: u64 = 1_000;
/// How long a busy shard does not look at its sockets: a look is a system call.
const LOOK: Duration = Duration::from_micros(50);
/// How long a shard sleeps at most while there was work in the last second, and after that. Nothing needs it but what nobody foresaw.
const SLEEP_MAX: Duration = Duration::from_millis(TICK_MS);
const IDLE_SLEEP_MAX: Duration = Duration::from_millis(50);
const IDLE_MS: u64 = 1_000;
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
    /// Takes what was recorded of latencies, and clears it, ten times a second at most. If it cannot now, the next time has it all.
    pub store_stages: Box<dyn FnMut(&mut ShardStages) + Send>,
    /// Milliseconds are counted from here, the same instant for all shards.
    pub epoch: Instant,
}

async fn live<B: Broker>(plan: ShardPlan<B>, poller: Poller) {
    let host = Rc::new(ShardHost {
        core: RefCell::new(ShardCore::new(plan.id, plan.shards, plan.settings)),
        hands: RefCell::new(Hands {
            sockets: Sockets::new(plan.net, poller),
            lanes: plan.lanes,
            broker: plan.broker,
            store_counters: plan.store_counters,
            store_missed: plan.store_missed,
            store_stages: plan.store_stages,
            epoch: plan.epoch,
        }),
        mailbox: plan.mailbox,
        read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
        slice: RefCell::default(),
        wake: plan.wake.clone(),
        epoch: plan.epoch,
        ticked_ms: Cell::new(0),
        worked_ms: Cell::new(0),
        looked: Cell::new(Duration::ZERO),
        clock_due_ms: Cell::new(0),
        epoch_unix: Cell::new(Duration::ZERO),
        stopping: Cell::new(false),
    });
    host.handle(host.clock(host.now_ms()));
    host.handle(Event::Entitlement(plan.entitlement));
    for listener in plan.listeners {
        glommio::spawn_local(net::accept(host.clone(), listener, plan.site.clone())).detach();
    }

    let mut rest = Rest::new(plan.poll);
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
        let steps = host.sockets().steps();
        yield_once().await;
        // Whoever could run stood before this task in the executor's line.
        if !worked && host.sockets().steps() == steps {
            let has_looked = rest.wait(&plan.wake, host.patience(), &mut host.sockets());
            if has_looked {
                host.looked.set(host.epoch.elapsed());
            }
        }
    }
    plan.wake.forget();
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
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
    slice: RefCell<Slice>,
    wake: Arc<Wake>,
    epoch: Instant,
    ticked_ms: Cell<u64>,
    worked_ms: Cell<u64>,
    /// When the sockets were looked at, since `epoch`.
    looked: Cell<Duration>,
    /// When the shard is told next what the wall clock says.
    clock_due_ms: Cell<u64>,
    /// What it said when the shard's own clock began, by the last look at both.
    epoch_unix: Cell<Duration>,
    stopping: Cell<bool>,
}

impl<B: Broker> ShardHost<B> {
    fn clock(&self, now_ms: u64) -> Event<'static> {
        self.clock_due_ms.set(now_ms + CLOCK_MS);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.epoch_unix.set(unix.saturating_sub(self.epoch.elapsed()));
        Event::Clock { unix_ms: unix.as_millis() as u64 }
    }

    /// How old a record of this timestamp is; `None` if it has none.
    fn lag(&self, timestamp_ms: i64, now: Duration) -> Option<Duration> {
        let written = Duration::from_millis(u64::try_from(timestamp_ms).ok()?);
        Some((self.epoch_unix.get() + now).saturating_sub(written))
    }

    /// How long the shard may sleep if nothing happens.
    fn patience(&self) -> Duration {
        let (now, core, hands) = (self.epoch.elapsed(), self.core.borrow(), self.hands.borrow());
        let due_ms = core.due_ms().min(hands.sockets.due_ms()).min(self.clock_due_ms.get()).max(self.ticked_ms.get() + TICK_MS);
        let is_idle = now.as_millis() as u64 > self.worked_ms.get() + IDLE_MS && !self.stopping.get();
        Duration::from_millis(due_ms).saturating_sub(now).min(if is_idle { IDLE_SLEEP_MAX } else { SLEEP_MAX })
    }

    /// One turn; whether there was anything to do.
    fn turn(&self) -> bool {
        let now = self.epoch.elapsed();
        let now_ms = now.as_millis() as u64;
        if now >= self.looked.get() + LOOK {
            self.looked.set(now);
            self.hands.borrow_mut().sockets.look(Duration::ZERO);
        }
        let (core, hands, slice) = (&mut *self.core.borrow_mut(), &mut *self.hands.borrow_mut(), &mut *self.slice.borrow_mut());
        slice.begin(now);
        core.set_clock(micros(now));
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
                let (count, said_us) = (batch.messages.len(), batch.said_us);
                core.handle(now_ms, Event::FromHome { from: ShardId(from as u16), batch }, hands);
                let now_us = micros(self.epoch.elapsed());
                core.set_clock(now_us);
                core.stages().record(Stage::Outbox, now_us.saturating_sub(said_us), count);
                if core.is_crowded() {
                    core.flush(now_ms, hands);
                } else if let Some(writes_max) = slice.takes(count, Duration::from_micros(now_us)) {
                    core.flush_part(now_ms, writes_max, hands);
                    slice.begin(self.epoch.elapsed());
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
        slice.begin(self.epoch.elapsed());
        while room > 0 && core.polls_kafka() {
            let Some(batch) = hands.broker.poll(room.min(core.part_bytes()).min(slice.bytes())) else { break };
            let bytes: usize = batch.records.iter().map(|record| record.weight()).sum();
            room = room.saturating_sub(bytes.max(1));
            let count = batch.records.len();
            let polled = self.epoch.elapsed();
            core.set_clock(micros(polled));
            if let Some(lag) = batch.records.first().and_then(|record| self.lag(record.timestamp_ms, polled)) {
                core.stages().record(Stage::Poll, micros(lag), count);
            }
            core.handle(now_ms, Event::Records(batch), hands);
            let dealt_with = self.epoch.elapsed();
            core.stages().record(Stage::Home, micros(dealt_with - polled), count);
            if core.is_crowded() {
                core.flush(now_ms, hands);
                slice.begin(self.epoch.elapsed());
            } else if let Some(writes_max) = slice.takes(count, dealt_with) {
                core.flush_part(now_ms, writes_max, hands);
                slice.begin(self.epoch.elapsed());
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
        if worked {
            self.worked_ms.set(now_ms);
        }
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
        let now = self.epoch.elapsed();
        let mut core = self.core.borrow_mut();
        core.set_clock(micros(now));
        core.handle(now.as_millis() as u64, event, &mut *self.hands.borrow_mut());
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
    let (shard, cpu) = (plan.id.0, plan.cpu);
    let failed = |error| ShardFailed { shard, cpu, error };
    let poller = Poller::new().map_err(|error| failed(ExecutorFailed::Poller(error)))?;
    thread::start(&format!("shard-{shard}"), cpu, move || live(plan, poller)).map_err(failed)
}

/// A shard that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} on CPU {cpu}: {error}")]
pub struct ShardFailed {
    pub shard: u16,
    pub cpu: usize,
    pub error: ExecutorFailed,
}
