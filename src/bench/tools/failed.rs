//! Why a tool could not run, or not to its end.

use std::io;

/// What a tool's options or the world made impossible.
#[derive(Debug, thiserror::Error)]
pub enum ToolFailed {
    /// A mistake in an option that clap cannot know of: it names the option.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("Kafka: {0}")]
    Kafka(String),
    #[error("a mistake of this tool: {0}")]
    Internal(String),
}
