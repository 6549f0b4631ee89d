//! The studies as subcommands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};

use super::super::tools::{Tool, ToolFailed, Verdict};
use super::comparison::Comparison;
use super::finding::Finding;
use super::interrupt::Interrupt;
use super::options::{CompareOptions, PageOptions, ScenarioOptions};
use super::page::page;
use super::round::play;
use super::scenario::Scenario;
use super::summary::Summary;
use super::tested::Tested;

/// A study and its options.
#[derive(Subcommand, Clone, Debug)]
pub enum Study {
    /// Play a scenario: tools by role and the server that they load, with what was received checked against what was sent.
    Run(ScenarioOptions),
    /// Divide the figures of run B by those of run A, with 95 % confidence intervals.
    Compare(CompareOptions),
    /// Lay runs over one another on a page of HTML that asks for nothing from outside.
    Page(PageOptions),
}

impl Study {
    /// Does it. Gives the verdict and its reasons.
    ///
    /// # Errors
    /// It could not begin, or not to its end; runs that are not to be compared.
    pub fn run(&self) -> Result<(Verdict, Vec<String>), ToolFailed> {
        match self {
            Study::Run(options) => scenario(options),
            Study::Compare(options) => compare(options),
            Study::Page(options) => {
                let (html, svg) = page(&findings(&options.runs)?)?;
                write(&options.out, &html)?;
                if let Some(file) = &options.svg {
                    write(file, &svg)?;
                }
                Ok((Verdict::Good, Vec::new()))
            }
        }
    }
}

fn scenario(options: &ScenarioOptions) -> Result<(Verdict, Vec<String>), ToolFailed> {
    let place = options.file.display();
    let text = fs::read_to_string(&options.file).map_err(|error| ToolFailed::Usage(format!("{place}: {error}")))?;
    let tools = Tool::augment_subcommands(Command::new("corespan-bench"));
    let scenario = Scenario::parse(&text, &tools).map_err(|error| ToolFailed::Usage(format!("{place}: {error}")))?;
    let interrupt = Interrupt::watch()?;
    let made = |folder: &Path| fs::create_dir_all(folder).map_err(|error| told(folder, &error));
    made(&options.out)?;
    // What an earlier run left must not be taken for this one's.
    let _ = fs::remove_file(options.out.join("summary.json"));
    let start = |plan| Tested::start(plan, &options.out, &interrupt);
    let mut servers = scenario.servers.iter().map(start).collect::<io::Result<Vec<_>>>()?;
    let (mut rounds, mut folders) = (Vec::new(), Vec::new());
    for number in 1..=scenario.rounds {
        let folder = options.out.join(format!("round-{number}"));
        made(&folder)?;
        let played = play(&scenario, &folder, &mut servers, &interrupt);
        rounds.push(played.map_err(|error| io::Error::new(error.kind(), format!("round {number}: {error}")))?);
        folders.push(folder);
    }
    let summary = Summary::of(&scenario, &servers, &rounds, &folders)?;
    drop(servers);
    let file = options.out.join("summary.json");
    summary.write(&file)?;
    write(&options.out.join("page.html"), &page(&findings(&[file])?)?.0)?;
    println!("{}", summary.table());
    Ok((summary.verdict, summary.reasons))
}

fn compare(options: &CompareOptions) -> Result<(Verdict, Vec<String>), ToolFailed> {
    let side = |one: &Option<PathBuf>, several: &[PathBuf]| findings(&one.iter().chain(several).cloned().collect::<Vec<_>>());
    let (a, b) = (side(&options.a_run, &options.first)?, side(&options.b_run, &options.second)?);
    let comparison = Comparison::of(&a, &b, options.anyway)?;
    if options.json {
        println!("{:#}", comparison.json());
    } else {
        println!("{}", comparison.table());
    }
    Ok((Verdict::Good, Vec::new()))
}

/// A file that is named on the command line and is no run is a mistake of the options.
fn findings(paths: &[PathBuf]) -> Result<Vec<Finding>, ToolFailed> {
    Finding::read(paths).map_err(|error| ToolFailed::Usage(error.to_string()))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text).map_err(|error| told(file, &error))
}

fn told(place: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", place.display()))
}
