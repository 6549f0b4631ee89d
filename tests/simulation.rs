//! The simulator's fixed part: a set of seeds that always plays, the seeds that once broke something, and the proof that the oracle can see.
//!
//! `cargo run --bin corespan-sim -- --seeds 100000 --from N` plays others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use corespan::sim::{Broken, Coverage, Mix, Place, Sabotage, Way, run, whole_trace};

/// Seeds of the fixed set.
const SEEDS: u64 = 2_000;

/// States that the fixed set must reach: a simulator that never reaches a state proves nothing about it.
const REACHED: &[&str] = &[
    "a burst",
    "a pass was revoked",
    "a token was refreshed",
    "disconnected at the end of a token",
    "disconnected for a revoked token",
    "unsubscribed for want of permission",
    "a consumer that read nothing was made anew",
    "a consumer went deaf",
    "a flood of commands",
    "a flood of pings",
    "a letter was lost",
    "a node was started again",
    "a page of history",
    "a partition that stood still was assigned anew",
    "a producer that answered nothing was replaced",
    "a publish to several topics acknowledged",
    "a publish to several topics that some may lack",
    "a publish waited too long",
    "a record came from a producer that was replaced",
    "a topic appeared",
    "a topic was deleted",
    "a topic was made again",
    "an epoch that nobody keeps",
    "an unclean election",
    "close echoed",
    "disconnected as slow",
    "disconnected by a drain",
    "disconnected for a malformed message",
    "disconnected for a missing pong",
    "disconnected for a violation",
    "drained",
    "error 100",
    "error 102",
    "error 103",
    "error 104",
    "error 105",
    "error 106",
    "error 107",
    "error 108",
    "error 112",
    "error 400",
    "error 401",
    "evicted",
    "granted with another subscribe behind it",
    "held too long",
    "lane full",
    "more than a thousand subscribers of one subject",
    "oversize",
    "parked",
    "partitions were added",
    "pinged",
    "producer full",
    "publish acknowledged",
    "record found elsewhere",
    "record without a subject",
    "recovered in the reply",
    "recovered: false",
    "recovered: true",
    "request held",
    "retention",
    "settings were reloaded",
    "snapshot or history",
    "stale batch",
    "stale record",
    "stayed on",
    "stored or refused after it was answered as unknown",
    "told 2500",
    "too many messages wait",
    "a subject is live only from now on",
    "a subject under another name",
    "no positions any more",
    "a record is not where its topic's rule puts it",
    "a topic was given another rule",
    "WebSocket pong",
];

fn expect(broken: &Broken) -> String {
    let last = broken.trace.len().saturating_sub(20);
    format!("seed {}: {}\n  {}\nagain: corespan-sim --seed {}", broken.seed, broken.promise, broken.trace[last..].join("\n  "), broken.seed)
}

/// Plays seeds on all cores; the first broken promise fails the test.
fn play_all(seeds: std::ops::Range<u64>) -> Coverage {
    let next = AtomicU64::new(seeds.start);
    let coverage = Mutex::new(Coverage::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed, Mix::Everything, None, false) {
                        Ok(reached) => coverage.lock().unwrap().add(&reached),
                        Err(broken) => panic!("{}", expect(&broken)),
                    }
                }
            });
        }
    });
    coverage.into_inner().unwrap()
}

#[test]
fn every_promise_is_kept_in_the_fixed_worlds_and_they_reach_every_state() {
    let coverage = play_all(0..SEEDS);
    let missed: Vec<_> = REACHED.iter().filter(|state| coverage.of(state) == 0).collect();
    assert!(missed.is_empty(), "no world of {SEEDS} reached {missed:?}: {coverage:?}");
}

#[test]
fn worlds_that_once_broke_a_promise_keep_it() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let seed = line.split_whitespace().next().and_then(|word| word.parse().ok());
        let seed = seed.unwrap_or_else(|| panic!("tests/seeds.txt: {line:?} starts with a seed"));
        if let Err(broken) = run(seed, Mix::Everything, None, false) {
            panic!("{}", expect(&broken));
        }
    }
}

#[test]
fn a_seed_decides_a_world_completely() {
    for seed in 0..20 {
        let (one, two) = (whole_trace(seed, false), whole_trace(seed, true));
        assert!(one.len() > 100, "seed {seed} plays");
        for (place, (one, two)) in one.iter().zip(&two).enumerate() {
            assert_eq!(one, two, "seed {seed}, step {place}");
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}

/// Plays a broken router until the oracle sees it; gives how many seeds that took.
fn seeds_until_seen(sabotage: Sabotage) -> u64 {
    const PATIENCE: u64 = 3_000;
    (0..PATIENCE)
        .find(|seed| run(*seed, Mix::Everything, Some(sabotage), false).is_err())
        .unwrap_or_else(|| panic!("{sabotage:?} was not seen in {PATIENCE} seeds"))
}

#[test]
fn the_oracle_sees_a_record_that_is_lost_doubled_or_out_of_order_wherever_that_happens() {
    for place in Place::RECORDS {
        for way in Way::ALL {
            let seeds = seeds_until_seen(Sabotage { place, way });
            println!("{way:?} in {place:?}: seen after {} seeds", seeds + 1);
        }
    }
}

#[test]
fn the_oracle_sees_a_word_that_is_lost_or_false() {
    for place in Place::WORDS {
        let seeds = seeds_until_seen(Sabotage { place, way: Way::Drop });
        println!("{place:?}: seen after {} seeds", seeds + 1);
    }
}
