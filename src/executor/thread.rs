//! The glommio executors that shards run on: their settings, and their beginning.
//!
//! An executor runs tasks and does nothing else: its first task never lets it park, and waits for sockets and other threads itself (`driver`). So its
//! rings carry nothing, no timer preempts a task, and what glommio does when it parks (eight system calls; now and then it sleeps through a wake-up)
//! is never reached.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

/// How often the end of an executor is looked for.
const END_LOOK: Duration = Duration::from_millis(5);
/// Registered I/O memory. glommio's default of 10 MiB is for files; sockets use none of it, and 64 KiB is the least that it takes.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Entries of each io_uring: nobody uses them.
const RING_DEPTH: usize = 64;
/// Longer than any process lives: an executor neither interrupts its tasks nor parks.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An executor that did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorFailed {
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
    #[error("no epoll instance can be made: {0}; it needs enough open files (LimitNOFILE, ulimit -n)")]
    Poller(io::Error),
    #[error(
        "{0}; it needs io_uring (kernel 5.8 or newer, not forbidden by a container's seccomp profile), enough open files (LimitNOFILE, ulimit -n) and 2 MiB of locked memory a shard (LimitMEMLOCK, ulimit -l)"
    )]
    Executor(String),
}

/// Runs `main` on an executor pinned to `cpu`, on a thread of its own; returns once it runs. Whenever nothing is left to do, `main` must wait by
/// blocking (`net::Sockets::sleep`), not by returning `Pending`: nothing would wake the executor.
///
/// # Errors
/// What io_uring, the limits or the system lack.
pub fn start<F>(name: &str, cpu: usize, main: impl FnOnce() -> F + Send + 'static) -> Result<JoinHandle<()>, ExecutorFailed>
where
    F: Future<Output = ()> + 'static,
{
    let (report, outcome) = crossbeam_channel::bounded(1);
    let executor_name = name.to_owned();
    let run = move || match builder(cpu).name(&executor_name).make() {
        Ok(executor) => executor.run(async {
            let _ = report.send(Ok(()));
            main().await;
        }),
        Err(error) => drop(report.send(Err(error.to_string()))),
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ExecutorFailed::Thread)?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(reason)) => Err(ExecutorFailed::Executor(reason)),
        Err(_) => Err(ExecutorFailed::Executor("its thread ended before it began".to_owned())),
    }
}

/// An executor for who wants to see its end: tests and tools.
pub struct Alone(JoinHandle<()>);

impl Alone {
    /// As [`start`].
    pub fn start<F>(cpu: usize, main: impl FnOnce() -> F + Send + 'static) -> Result<Alone, ExecutorFailed>
    where
        F: Future<Output = ()> + 'static,
    {
        start("alone", cpu, main).map(Alone)
    }

    /// Waits for its end, `patience` at most. Whether it has ended, and without a panic.
    pub fn join(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.0.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(END_LOOK);
        }
        self.0.join().is_ok()
    }
}

/// A builder for an executor pinned to `cpu`. `make` is called on the thread that is to run it: it reports what io_uring lacks.
fn builder(cpu: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(NEVER)
        .spin_before_park(NEVER)
}
