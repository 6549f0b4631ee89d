//! Whether the ports can be listened on.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::finding::Finding;
use crate::config::ListenSettings;
use crate::lifecycle::running_node;

/// Each port is listened on for a moment, and given back.
pub(super) fn examine(listen: &ListenSettings) -> Vec<Finding> {
    let mut ports: Vec<(&str, SocketAddr)> = listen.listeners.iter().map(|listener| ("listen.address", listener.address)).collect();
    ports.push(("listen.admin", listen.admin));
    let mut node = None;
    let mut findings = Vec::new();
    for (key, address) in ports {
        let error = match TcpListener::bind(address) {
            Ok(_) => {
                findings.push(Finding::fine("ports", format!("{key} = \"{address}\" is free")));
                continue;
            }
            Err(error) => error,
        };
        let what = format!("{key} = \"{address}\"");
        findings.push(match error.kind() {
            ErrorKind::AddrInUse => match *node.get_or_insert_with(|| running_node(listen)) {
                Some(process) => Finding::fine("ports", format!("{what} is in use, and a node runs here (process {process})")),
                None => Finding::failure(
                    "ports",
                    format!("{what} is in use by another process"),
                    "`ss -ltnp` says by which: stop it, or give another port",
                ),
            },
            ErrorKind::PermissionDenied => Finding::warning(
                "ports",
                format!("{what} may not be opened by this user"),
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port from 1024 on",
            ),
            _ => Finding::failure("ports", format!("{what} cannot be listened on: {error}"), "give an address of this machine"),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_port_that_another_process_has_is_a_failure() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let kafka = "bootstrap.servers = \"127.0.0.1:1\"";
        let text = format!(
            "[listen]\naddress = \"{address}\"\nadmin = \"127.0.0.1:0\"\n[kafka.consumer]\n{kafka}\ntopics = [\"t\"]\n[kafka.producer]\n{kafka}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("corespan.toml");
        std::fs::write(&file, text).unwrap();
        let findings = examine(&Config::load(&file).unwrap().listen);
        assert_eq!(findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Failure, Verdict::Fine]);
        assert!(findings[0].finding.contains(&address.to_string()) && findings[0].remedy.as_ref().unwrap().contains("ss -ltnp"));
    }
}
