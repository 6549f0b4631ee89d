//! Which librdkafka this binary was built with.

use rdkafka::ClientConfig;

/// Version and built-in features, in one line.
pub fn library() -> String {
    let version = rdkafka::util::get_rdkafka_version().1;
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features")).unwrap_or_default();
    format!("librdkafka {version} ({features})")
}
