//! Processes of this tool's own: orders in, answers out, a line each. No wait without a deadline, and none outlives the tool.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A child that takes orders; killed when dropped.
pub struct Helper {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Helper {
    /// Starts it.
    ///
    /// # Errors
    /// Those of the start.
    pub fn start(name: &str, command: &mut Command) -> io::Result<Helper> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let (sender, answers) = channel();
        // It ends with the child's output.
        thread::Builder::new().name("answers".to_owned()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Helper { name: name.to_owned(), child, orders, answers })
    }

    /// Gives an order.
    ///
    /// # Errors
    /// It has ended.
    pub fn order(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.orders, "{line}").map_err(|error| io::Error::other(format!("{} takes no orders: {error}", self.name)))
    }

    /// Its next answer, without the word that it must begin with. Meanwhile something else is done, in short pieces.
    ///
    /// # Errors
    /// It ended, answered something else, or nothing in time; or what `meanwhile` says.
    pub fn answer(&mut self, word: &str, within: Duration, mut meanwhile: impl FnMut() -> io::Result<()>) -> io::Result<String> {
        let deadline = Instant::now() + within;
        loop {
            match self.answers.recv_timeout(Duration::from_millis(5)) {
                Ok(line) => {
                    return match line.split_once(' ').unwrap_or((&line, "")) {
                        (first, rest) if first == word => Ok(rest.to_owned()),
                        _ => Err(io::Error::other(format!("{}: {line}", self.name))),
                    };
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = ended(&mut self.child)?.map_or("its output".to_owned(), |status| status.to_string());
                    return Err(io::Error::other(format!("{} ended ({status})", self.name)));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(io::Error::other(format!("{} does not answer within {} s", self.name, within.as_secs())));
                }
                Err(RecvTimeoutError::Timeout) => meanwhile()?,
            }
        }
    }

    /// Waits for its end. Meanwhile something else is done, in short pieces.
    ///
    /// # Errors
    /// It does not end in time; or what `meanwhile` says.
    pub fn finish(&mut self, within: Duration, mut meanwhile: impl FnMut() -> io::Result<()>) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} does not end within {} s", self.name, within.as_secs())));
            }
            thread::sleep(Duration::from_millis(10));
            meanwhile()?;
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child and takes it away.
pub fn end(child: &mut Child) {
    // Its end is of no interest any more.
    let _ = child.kill();
    let _ = child.wait();
}

/// How a child ended, if it is about to.
fn ended(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            status => return Ok(status),
        }
    }
}

/// The orders of a helper, in the helper. At their end, however the tool ended, the process ends.
///
/// # Errors
/// The system has no thread for it.
pub fn orders() -> io::Result<Receiver<String>> {
    let (sender, orders) = channel();
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            // Nobody takes orders any more: the process is about to end by itself.
            let _ = sender.send(line);
        }
        std::process::exit(0);
    })?;
    Ok(orders)
}

/// A command whose process the kernel kills with the thread that starts it, where `setpriv` can arrange that.
pub fn tied(program: &std::path::Path) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let can = *SETPRIV.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    });
    if !can {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
