//! `slow`: subscribers that read few bytes a second, to run beside others that shall not notice. What a server tells who lags is counted; what it
//! delivers must have no gaps all the same.

use super::failed::ToolFailed;
use super::options::SubOptions;
use super::report::Report;
use super::slow_options::SlowOptions;
use super::subscribers::{Manner, gather};

/// Runs `slow`.
///
/// # Errors
/// It could not begin, or could not write what it found.
pub fn run(options: &SlowOptions) -> Result<Report, ToolFailed> {
    let sub = SubOptions { connect: options.connect.clone(), run: options.run.clone(), subscribe_message: None, expect: None };
    let manner = Manner {
        tool: "slow",
        read_bytes_per_second: Some(options.read_bytes_per_second),
        receive_buffer_bytes: Some(options.receive_buffer_bytes as usize),
        may_be_told: !options.strict,
    };
    gather(&sub, &manner)
}
