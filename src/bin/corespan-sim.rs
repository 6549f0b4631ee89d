//! Plays seeds of the simulator, on all cores, and says which one breaks a promise.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use corespan::sim::{Broken, Coverage, Mix, Place, Sabotage, Way, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plays simulated worlds of shards, Kafka and clients, and checks every promise in each.
///
/// A seed decides a world completely: the same seed gives the same run on every machine.
#[derive(Parser)]
#[command(name = "corespan-sim", version)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Play this one alone and print the last steps if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Worlds without bursts, hostile clients, lost letters, reloads, tokens, crowds and small limits of a turn: to compare speeds with versions that have none of these.
    #[arg(long)]
    plain: bool,
    /// Break the router on purpose: drop, double or reorder, `@answer` or `@piece` for another place than live deliveries; or a word that is lost or false: `drop@passing`, `@reset`, `@recovered`, `@grant`, `@withdraw`, `@kick`. A run that finds
    /// nothing then fails.
    #[arg(long = "break", value_parser = parse_sabotage)]
    sabotage: Option<Sabotage>,
}

fn parse_sabotage(text: &str) -> Result<Sabotage, String> {
    let (way, place) = text.split_once('@').unwrap_or((text, "delivery"));
    let way = Way::ALL.into_iter().find(|known| format!("{known:?}").to_lowercase() == way);
    let place = Place::RECORDS.into_iter().chain(Place::WORDS).find(|known| format!("{known:?}").to_lowercase() == place);
    let (Some(way), Some(place)) = (way, place) else {
        return Err("give drop, double or reorder, and @delivery, @answer or @piece after it; or drop@passing, @reset, @recovered, @grant, @withdraw, @kick"
            .to_owned());
    };
    Ok(Sabotage { place, way })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, seeds) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let mix = if arguments.plain { Mix::Plain } else { Mix::Everything };
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let broken: Mutex<Vec<Broken>> = Mutex::new(Vec::new());
    let coverage: Mutex<Coverage> = Mutex::new(Coverage::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Coverage::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    match play(seed, mix, arguments.sabotage) {
                        Ok(reached) => own.add(&reached),
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            broken.lock().expect("no thread panics with it").push(failure);
                        }
                    }
                }
                coverage.lock().expect("no thread panics with it").add(&own);
            });
        }
    });
    let played = next.load(Ordering::Relaxed).min(from + seeds) - from;
    let seconds = began.elapsed().as_secs_f64();
    let broken = broken.into_inner().expect("no thread panics with it");
    for (state, count) in coverage.into_inner().expect("no thread panics with it").iter() {
        println!("{count:>8}  {state}");
    }
    for failure in &broken {
        let shown = if arguments.seed.is_some() { failure.trace.len() } else { failure.trace.len().min(60) };
        println!("\nseed {} breaks a promise: {}", failure.seed, failure.promise);
        for line in &failure.trace[failure.trace.len() - shown..] {
            println!("  {line}");
        }
        println!("again: corespan-sim --seed {}", failure.seed);
    }
    println!(
        "\n{played} seeds from {from} in {seconds:.1} s, {:.0} a second: {}",
        played as f64 / seconds,
        match (broken.len(), arguments.sabotage) {
            (0, None) => "every promise was kept".to_owned(),
            (0, Some(sabotage)) => format!("{sabotage:?} was NOT noticed"),
            (_, Some(sabotage)) => format!("{sabotage:?} was noticed"),
            (count, None) => format!("{count} broken"),
        }
    );
    if broken.is_empty() == arguments.sabotage.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays a seed; a failing one is played again for its trace. An assertion that fails is a broken promise too.
fn play(seed: u64, mix: Mix, sabotage: Option<Sabotage>) -> Result<Coverage, Broken> {
    let attempt = |tracing| {
        std::panic::catch_unwind(|| run(seed, mix, sabotage, tracing))
            .unwrap_or_else(|_| Err(Broken { seed, promise: "an assertion failed (see above)".to_owned(), trace: Vec::new() }))
    };
    attempt(false).map_err(|broken| attempt(true).err().unwrap_or(broken))
}
