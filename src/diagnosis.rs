//! `corespan doctor` and `corespan plan`: what the command line asks of `corespan::doctor`, and what is printed.

use std::io::Write;
use std::path::PathBuf;

use corespan::config::Config;
use corespan::cores::Plan;
use corespan::doctor::{self, Placement, Report, Tree};

use crate::cli::{DoctorArguments, PlanArguments};

/// Below the root.
const UNDO_FILE: &str = "var/lib/corespan/doctor-undo";

/// Prints the findings; gives the exit code.
///
/// # Errors
/// Nothing could be applied or undone, and nothing was written.
pub fn doctor(arguments: &DoctorArguments) -> anyhow::Result<u8> {
    let tree = Tree::new(&arguments.root);
    let undo_file: PathBuf = arguments.undo_file.clone().unwrap_or_else(|| tree.path(UNDO_FILE));
    let report = if arguments.undo {
        Report { findings: doctor::undo(&tree, &undo_file)? }
    } else if arguments.apply {
        let config = Config::load(&arguments.file.config)?;
        let plan = Plan::new(&config.cores, &tree.machine()?)?;
        Report { findings: doctor::apply(&tree, &plan, &undo_file)? }
    } else {
        doctor::examine(&tree, &Config::load(&arguments.file.config), !arguments.no_kafka)
    };
    print(&if arguments.json { report.json() } else { report.text() });
    Ok(report.exit_code())
}

/// Prints who runs where.
///
/// # Errors
/// The configuration asks for CPUs that are not there.
pub fn plan(config: &Config, arguments: &PlanArguments) -> anyhow::Result<()> {
    let machine = Tree::new(&arguments.root).machine()?;
    let plan = Plan::new(&config.cores, &machine)?;
    let placement = Placement::new(&config.cores, &machine, &plan);
    print(&if arguments.json { placement.json() } else { placement.text() });
    Ok(())
}

/// A closed pipe (`| head`) is nobody's failure.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
