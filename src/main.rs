//! The binary: command line in, exit code out. Every failure is one line per mistake on standard error, never a backtrace.

mod check;
mod cli;

use std::io::Write;
use std::panic;
use std::process::{self, ExitCode};

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command};
use corespan::config::{Config, ConfigError};
use corespan::lifecycle::{self, DemoOptions};
use corespan::manual;
use corespan::telemetry::{self, Reloaded};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        say(&format!("internal error: {panic}; please report it"));
        process::abort();
    }));
    let outcome = match Cli::parse().command {
        Command::Serve(file) => load(&file).and_then(|config| {
            telemetry::start_logs(&config.log);
            Ok(lifecycle::serve(config, file.config)?)
        }),
        Command::Check(arguments) => load(&arguments.file).and_then(|config| check::check(&config, arguments.elsewhere, arguments.quiet)),
        Command::Reload(file) => load(&file).and_then(|config| reload(&config)),
        Command::Man { folder } => manual::write_pages(Cli::command(), &folder).map_err(Into::into),
        Command::Completions { shell } => {
            let _ = std::io::stdout().lock().write_all(&manual::completions(Cli::command(), shell));
            Ok(())
        }
        Command::Demo(options) => {
            let options = DemoOptions { host: options.host, port: options.port, admin_port: options.admin_port, shards: options.shards };
            lifecycle::demo(options).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<ConfigError>() {
                Some(config) => config.lines().iter().for_each(|line| say(line)),
                None => match error.downcast_ref::<check::Lacking>() {
                    Some(lacking) => lacking.0.iter().for_each(|line| say(line)),
                    None => say(&format!("{error:#}")),
                },
            }
            ExitCode::FAILURE
        }
    }
}

/// What became of it is on standard output, or standard error if the node refused.
fn reload(config: &Config) -> anyhow::Result<()> {
    let Reloaded { refused, lines, .. } = lifecycle::ask_to_reload(config.listen.admin)?;
    if refused {
        return Err(check::Lacking(lines).into());
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn load(file: &cli::ConfigFile) -> anyhow::Result<Config> {
    Ok(Config::load(&file.config)?)
}

/// One line on standard error; whether anybody reads it is not our concern.
fn say(text: &str) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr().lock(), "corespan: error: {line}");
}
