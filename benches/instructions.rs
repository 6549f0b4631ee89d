//! What a delivery costs the core, in instructions: `valgrind --tool=callgrind --toggle-collect='*measured*'` counts what happens in `measured`, and
//! nothing of the kernel or of the machine's mood is in it. `scripts/instructions.py` runs it and compares with `benches/instructions.txt`.
//!
//! By itself it prints how often memory was allocated in `measured`, which no optimisation level changes much.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use corespan::allocator::Allocator;
use corespan::handoff::Protocol;
use corespan::shard::{Effects, Event, ShardSettings, Stage};
use corespan::subject::ValueKind;
use support::Shard;

/// Counts allocations of the whole process; one thread runs.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: as the allocator below, which does everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { Allocator.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { Allocator.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { Allocator.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Rounds before those that are counted: what grows has grown, and the core's memory of records is as full as it gets.
const WARM: usize = 300;
/// Rounds that are counted.
const ROUNDS: usize = 20;
/// What a round of `looks` does, for one number that divides well.
const LOOKS: usize = 100;

/// A load: who listens, and what comes in a round.
struct Case {
    clients: usize,
    protocol: Protocol,
    value: ValueKind,
    /// Keys of the records of a round.
    keys: Vec<String>,
    /// All clients want the first key, or each its own.
    shared: bool,
    /// Their sockets take nothing while the records come; what is counted is what they then catch up with.
    slow: bool,
}

impl Case {
    fn of(name: &str) -> Option<Case> {
        let keys = |count: usize, step: usize| (0..count).map(|nth| format!("k{}", nth * step)).collect::<Vec<_>>();
        let unique =
            Case { clients: 1_000, protocol: Protocol::Json, value: ValueKind::Json, keys: keys(100, 7), shared: false, slow: false };
        let fan_out = |protocol| Case { protocol, keys: keys(1, 0), shared: true, ..Case::of("unique").expect("the first case") };
        Some(match name {
            "unique" => unique,
            "fan-out" => fan_out(Protocol::Json),
            "fan-out-protobuf" => fan_out(Protocol::Protobuf),
            "nobody" => Case { clients: 0, keys: keys(100, 1), ..unique },
            "coalesced" => Case { clients: 1, keys: keys(100, 0), ..unique },
            "binary" => Case { value: ValueKind::Binary, ..unique },
            "catch-up" => Case { clients: 10, keys: keys(1_000, 0), shared: true, slow: true, ..unique },
            _ => return None,
        })
    }
}

/// What is counted: a turn.
#[inline(never)]
fn measured(shard: &mut Shard, events: &mut Vec<Event<'static>>) {
    turn(shard, events);
    // Without a difference the compiler makes one function of this and `warm`.
    black_box(true);
}

/// As `measured`, not counted.
#[inline(never)]
fn warm(shard: &mut Shard, events: &mut Vec<Event<'static>>) {
    turn(shard, events);
}

/// What the driver does with a batch, and then with what is left to write.
#[inline(always)]
fn turn(shard: &mut Shard, events: &mut Vec<Event<'static>>) {
    for event in events.drain(..) {
        shard.take(event);
    }
    shard.flush();
    black_box(&shard.sink.bytes);
}

/// What a look at the clock costs, with what is recorded then: `LOOKS` of them.
#[inline(never)]
fn measured_looks(shard: &mut Shard) {
    looks(shard);
}

#[inline(always)]
fn looks(shard: &mut Shard) {
    for _ in 0..LOOKS {
        let now_us = black_box(&shard.sink).clock_us();
        shard.core.set_clock(now_us);
        shard.core.stages().record(black_box(Stage::Socket), black_box(now_us & 1023), black_box(8));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    if name == "looks" {
        let mut shard = Shard::new(ValueKind::Json, ShardSettings::default());
        looks(&mut shard);
        measured_looks(&mut shard);
        return println!("case=looks records=0 deliveries=0 looks={LOOKS} allocations=0");
    }
    let Some(mut case) = Case::of(&name) else {
        // cargo runs benches with its own arguments.
        return println!("instructions (unique | fan-out | fan-out-protobuf | nobody | coalesced | binary | catch-up) [CLIENTS] | looks");
    };
    if let Some(clients) = arguments.next() {
        case.clients = clients.parse().expect("a number of clients");
    }
    let mut settings = ShardSettings::default();
    if case.slow {
        // What is missed does not fit: everybody is parked in every round.
        settings.outbox_bytes_max = 64 << 10;
    }
    let mut shard = Shard::new(case.value, settings);
    for client in 0..case.clients {
        let subject = if case.shared { "/quotes/k0".to_owned() } else { format!("/quotes/k{client}") };
        shard.subscribe(case.protocol, &subject);
    }
    let mut events = Vec::with_capacity(case.clients.max(1));
    let (mut deliveries, mut allocations, mut looks) = (0, 0, 0);
    for round in 0..WARM + ROUNDS {
        let batch = shard.batch(case.keys.iter().cloned());
        events.push(Event::Records(batch));
        if case.slow {
            shard.sink.full = true;
            warm(&mut shard, &mut events);
            shard.sink.full = false;
            events.extend(shard.keys.keys().map(|connection| Event::Writable { connection }));
        }
        let delivered = shard.core.counters().deliveries;
        let before = (ALLOCATIONS.load(Ordering::Relaxed), shard.sink.looks.get());
        if round < WARM {
            warm(&mut shard, &mut events);
            continue;
        }
        measured(&mut shard, &mut events);
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before.0;
        looks += shard.sink.looks.get() - before.1;
        deliveries += shard.core.counters().deliveries - delivered;
    }
    let records = case.keys.len() * ROUNDS;
    println!("case={name} records={records} deliveries={deliveries} looks={looks} allocations={allocations}");
}
