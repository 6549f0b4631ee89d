//! The binary: command line in, exit code out. Every failure is one line per mistake on standard error, never a backtrace.

mod check;
mod cli;
mod diagnosis;

use std::io::Write;
use std::panic;
use std::process::{self, ExitCode};

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command};
use corespan::allocator::Allocator;
use corespan::config::{Config, ConfigError};
use corespan::import::{self, ImportError, Imported};
use corespan::lifecycle::{self, DemoOptions};
use corespan::manual;
use corespan::telemetry::{self, Reloaded};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

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
        Command::Doctor(arguments) => match diagnosis::doctor(&arguments) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Plan(arguments) => load(&arguments.file).and_then(|config| diagnosis::plan(&config, &arguments)),
        Command::Reload(file) => load(&file).and_then(|config| reload(&config)),
        Command::Import(arguments) => import(&arguments).map_err(Into::into),
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
            lines(&error).iter().for_each(|line| say(line));
            ExitCode::FAILURE
        }
    }
}

/// One for each thing that is wrong.
fn lines(error: &anyhow::Error) -> Vec<String> {
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        config.lines()
    } else if let Some(lacking) = error.downcast_ref::<check::Lacking>() {
        lacking.0.clone()
    } else if let Some(import) = error.downcast_ref::<ImportError>() {
        import.lines()
    } else {
        vec![format!("{error:#}")]
    }
}

/// Written first, whatever it lacks: it is easier to complete than to begin.
fn import(arguments: &cli::ImportArguments) -> Result<(), ImportError> {
    let Imported { text, lacks } = import::migratorydata(&arguments.migratorydata)?;
    import::write(&text, arguments.output.as_deref(), arguments.force)?;
    if lacks.is_empty() { Ok(()) } else { Err(ImportError::Incomplete(lacks)) }
}

/// What became of it is on standard output, or standard error if the node refused.
fn reload(config: &Config) -> anyhow::Result<()> {
    let Reloaded { refused, lines, .. } = lifecycle::ask_to_reload(&config.listen)?;
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
