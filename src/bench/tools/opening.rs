//! Options into what a crowd of connections begins with.

use serde_json::{Value, json};

use super::crowd::CrowdPlan;
use super::dialect::Dialect;
use super::failed::ToolFailed;
use super::options::{ConnectOptions, Protocol, RunOptions};
use super::target::Target;
use crate::cores::raise_open_files;
use crate::tls::client::Client;

/// Open files of the process that are not connections.
const FILES_BASE: u64 = 64;

/// How the connections speak.
pub fn dialect(protocol: Protocol, template: Option<&str>) -> Dialect {
    match (template, protocol) {
        (Some(template), _) => Dialect::Template(template.to_owned()),
        (None, Protocol::Json) => Dialect::Json,
        (None, Protocol::Protobuf) => Dialect::Protobuf,
    }
}

/// Tokens to take in turn; none if there is none.
///
/// # Errors
/// The file cannot be read, or has none.
pub fn tokens(options: &ConnectOptions) -> Result<Vec<String>, ToolFailed> {
    let Some(file) = &options.token_file else { return Ok(options.token.iter().cloned().collect()) };
    let text = std::fs::read_to_string(file).map_err(|error| ToolFailed::Usage(format!("--token-file {}: {error}", file.display())))?;
    let tokens: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(ToolFailed::Usage(format!("--token-file {}: no token in it", file.display())));
    }
    Ok(tokens)
}

/// Resolves URLs, reads certificates, raises the limit of open files.
///
/// # Errors
/// An option that cannot be.
pub fn crowd_plan(options: &ConnectOptions, dialect: Dialect) -> Result<CrowdPlan, ToolFailed> {
    let usage = ToolFailed::Usage;
    let targets = options.url.iter().map(|url| url.parse::<Target>().map_err(|error| usage(format!("--url: {error}"))));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let tls = match &options.tls_ca {
        Some(file) => Some(Client::open(file).map_err(|error| usage(format!("--tls-ca: {error}")))?),
        None if options.insecure => Some(Client::insecure()?),
        None => None,
    };
    if tls.is_none() && targets.iter().any(|target| target.is_tls) {
        return Err(usage(
            "--url wss://...: name the certificates to check it against with --tls-ca, or check nothing with --insecure".to_owned(),
        ));
    }
    if let Some(source) = options.source.iter().find(|source| targets.iter().any(|target| target.address.is_ipv4() != source.is_ipv4())) {
        return Err(usage(format!("--source {source}: not of the same kind, IPv4 or IPv6, as every --url")));
    }
    let files = raise_open_files().map_err(|error| usage(error.to_string()))?.soft;
    let wanted = options.connections + FILES_BASE;
    if wanted > files {
        return Err(usage(format!(
            "--connections {} needs {wanted} open files, the limit is {files}: raise it (ulimit -Hn)",
            options.connections
        )));
    }
    Ok(CrowdPlan {
        connections: options.connections as usize,
        targets,
        sources: options.source.clone(),
        tls,
        dialect,
        connect_rate: options.connect_rate,
        receive_buffer_bytes: None,
    })
}

/// The settings of a run for its report, and those of the tool alone.
pub fn settings(connect: &ConnectOptions, run: &RunOptions, own: Value) -> Value {
    json!({
        "url": connect.url,
        "connections": connect.connections,
        "subject": connect.subject.to_string(),
        "source": connect.source,
        "protocol": if connect.protocol == Protocol::Json { "json" } else { "protobuf" },
        "has_token": connect.token.is_some() || connect.token_file.is_some(),
        "connect_rate": connect.connect_rate,
        "run": run_settings(run),
        "own": own,
    })
}

/// Those of every tool.
pub fn run_settings(run: &RunOptions) -> Value {
    json!({ "warm_up_seconds": run.warm_up_seconds, "seconds": run.seconds, "lag_max_ms": run.lag_max_ms })
}
