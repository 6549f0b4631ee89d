//! The ports for clients: `[listen]`, or any number of `[[listen]]` with an address and TLS each.
//!
//! The second and later blocks are known by their numbers, as in `listen.2.address`; so are they named in messages, and may so be written.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use super::document::Origin;
use super::reader::Reader;
use crate::tls::{CertificateFiles, Certificates, Tickets, TlsSettings};

/// More than a node has addresses.
const LISTENERS_MAX: usize = 16;

/// One port for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// `address`
    pub address: SocketAddr,
    /// `tls.*`
    pub tls: Option<TlsSettings>,
}

/// Reads the tables, and the files that they name: what cannot be used is a problem of the configuration, what soon cannot a note.
pub(super) fn read(reader: &mut Reader, notes: &mut Vec<String>) -> Vec<ListenerSettings> {
    let mut listeners = vec![ListenerSettings {
        address: reader.address("listen.address", SocketAddr::from((Ipv4Addr::LOCALHOST, 8800))),
        tls: read_tls(reader, "listen", notes),
    }];
    for number in 2..=LISTENERS_MAX {
        let table = format!("listen.{number}");
        if !reader.has_below(&table) {
            continue;
        }
        let key = format!("{table}.address");
        if reader.origin(&key).is_none() {
            let text = format!("{key} is missing: each [[listen]] has an address of its own");
            reader.problem(reader.origin_below(&table), text);
        }
        let address = reader.address(&key, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let tls = read_tls(reader, &table, notes);
        listeners.push(ListenerSettings { address, tls });
    }
    listeners
}

/// TLS of the admin port.
pub(super) fn read_admin(reader: &mut Reader, notes: &mut Vec<String>) -> Option<CertificateFiles> {
    let one = |key: &str, reader: &mut Reader| reader.text(key, "", |_| Ok(()));
    let origin = reader.origin("admin.tls.cert").or_else(|| reader.origin("admin.tls.key"));
    let (cert, key) = (one("admin.tls.cert", reader), one("admin.tls.key", reader));
    if cert.is_empty() && key.is_empty() {
        return None;
    }
    if cert.is_empty() || key.is_empty() {
        reader.problem(origin, "admin.tls.cert and admin.tls.key belong together: give both, or neither");
        return None;
    }
    let files = CertificateFiles { cert: PathBuf::from(cert), key: PathBuf::from(key) };
    let settings = TlsSettings { certificates: vec![files.clone()], ..TlsSettings::default() };
    check(reader, "admin", origin, &settings, notes);
    Some(files)
}

fn check(reader: &mut Reader, table: &str, origin: Option<Origin>, settings: &TlsSettings, notes: &mut Vec<String>) {
    let Ok(tickets) = Tickets::new() else { return };
    match Certificates::open(settings, &tickets) {
        Ok(certificates) => notes.extend(certificates.notes(SystemTime::now())),
        Err(error) => reader.problem(origin, format!("{table}.tls cannot be used: {error}")),
    }
}

fn read_tls(reader: &mut Reader, table: &str, notes: &mut Vec<String>) -> Option<TlsSettings> {
    let key = |name: &str| format!("{table}.tls.{name}");
    let is_path = |text: &str| if text.is_empty() { Err("give the path of a PEM file".to_owned()) } else { Ok(()) };
    let (cert_key, key_key, ca_key) = (key("cert"), key("key"), key("client.ca"));
    let origin = reader.origin(&cert_key).or_else(|| reader.origin(&key_key)).or_else(|| reader.origin(&ca_key));
    let certs = reader.texts(&cert_key, is_path);
    let keys = reader.texts(&key_key, is_path);
    let client_ca = reader.text(&ca_key, "", |_| Ok(()));
    let client_required = reader.flag(&key("client.required"), false);
    if certs.is_empty() && keys.is_empty() {
        if !client_ca.is_empty() || client_required {
            reader.problem(origin, format!("{ca_key} needs {cert_key} and {key_key}: without them there is no TLS"));
        }
        return None;
    }
    if certs.len() != keys.len() {
        let text = format!(
            "{cert_key} names {} files and {key_key} {}; give each certificate its key, in the same order",
            certs.len(),
            keys.len()
        );
        reader.problem(origin, text);
    }
    if client_required && client_ca.is_empty() {
        let text =
            format!("{} = true needs {ca_key}, the authorities that clients' certificates are checked against", key("client.required"));
        reader.problem(origin, text);
    }
    let certificates =
        certs.into_iter().zip(keys).map(|(cert, key)| CertificateFiles { cert: PathBuf::from(cert), key: PathBuf::from(key) }).collect();
    let settings = TlsSettings { certificates, client_ca: (!client_ca.is_empty()).then(|| PathBuf::from(client_ca)), client_required };
    if !settings.certificates.is_empty() {
        check(reader, table, origin, &settings, notes);
    }
    Some(settings)
}
