//! corespan.toml, validated, typed and immutable. `config/corespan.toml` is the manual of its keys.
//!
//! Owns the file's format, every default and range, values from the environment and from files, and `CORESPAN_KAFKA_EXTRA_OPTS`. Runs once, on the main thread, before anything else starts.
//! Every mistake is reported at once, each in one line. It never contacts Kafka and never looks at the machine (that is `cores`).

mod changes;
mod document;
mod entitlement;
mod extra_options;
mod kafka_settings;
mod listeners;
mod load;
mod problem;
mod reader;
mod routes;
mod settings;
mod sources;
mod units;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod manual_tests;
#[cfg(test)]
mod shared_kafka_tests;
#[cfg(test)]
mod sources_tests;
#[cfg(test)]
mod tests;

pub use changes::Changes;
pub use document::Origin;
pub use entitlement::{EntitlementSettings, JwtSettings};
pub use listeners::ListenerSettings;
pub use problem::{ConfigError, Problem, did_you_mean};
pub use reader::{EXTRA_OPTIONS, Effective};
pub use settings::{
    CacheSettings, ClientSettings, Config, Connections, ListenSettings, LogFormat, LogSettings, OutboxSettings, PublishSettings,
};
pub use units::{size_text, time_text};
