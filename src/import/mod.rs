//! Moving in: another product's configuration becomes a `corespan.toml`, with a comment on every line that changed its meaning or has no
//! counterpart. `docs/migrating.md` is the manual.
//!
//! Owns what is known of the other product's settings; corespan's own are `config`'s, which has the last word on what is written. Runs once, on the
//! main thread. It never contacts Kafka, writes nothing but the one file that it is told to, and never shows a secret in a message.

mod client_properties;
mod counterparts;
mod draft;
mod jaas;
mod java_properties;
mod java_regex;
mod migratorydata;
mod name_value_lines;
mod output;
mod problem;
mod server_settings;
mod setting;
mod source;
mod stores;
mod token_settings;

#[cfg(test)]
mod tests;

pub use migratorydata::{Imported, migratorydata};
pub use output::write;
pub use problem::ImportError;
