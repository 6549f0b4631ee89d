//! What this process may have: locked memory and open files. A service has other limits than a shell: its unit says them.

use super::finding::Finding;
use crate::config::{Config, size_text};
use crate::cores::{locked_memory_needed, raise_locked_memory, raise_open_files};

/// It raises the soft limits of this process, as a node does; of nobody else.
pub(super) fn examine(config: &Config, shards: usize) -> Vec<Finding> {
    let memory = match raise_locked_memory(shards) {
        Ok(_) => Finding::fine("locked-memory", format!("{} are needed and allowed", size_text(locked_memory_needed(shards)))),
        Err(error) => Finding::of_message("locked-memory", &error.to_string()),
    };
    let files = match raise_open_files() {
        Err(error) => Finding::of_message("open-files", &error.to_string()),
        Ok(files) => {
            let connections = config.connections_within(files.soft, shards);
            match connections.note {
                None => Finding::fine("open-files", format!("{}: {} connections on each shard", files.soft, connections.shard_max)),
                Some(note) => {
                    let (finding, remedy) = note.split_once("; ").unwrap_or((&note, ""));
                    if connections.is_asked_for {
                        Finding::warning("open-files", finding, remedy)
                    } else {
                        Finding::advice("open-files", finding, remedy)
                    }
                }
            }
        }
    };
    vec![memory, files]
}
