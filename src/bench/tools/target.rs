//! Where a server is: a WebSocket URL, resolved once.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// A server's address, and what its upgrade is asked with.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: String,
    pub address: SocketAddr,
    /// As in the `Host` header.
    pub authority: String,
    /// Without the port, as in a certificate.
    pub host: String,
    pub path: String,
    pub is_tls: bool,
}

impl std::str::FromStr for Target {
    type Err = String;

    /// Resolves the host: the first address counts.
    fn from_str(url: &str) -> Result<Target, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url:?} is no ws://HOST:PORT/PATH or wss://HOST:PORT/PATH"))?;
        let is_tls = match scheme {
            "ws" => false,
            "wss" => true,
            _ => return Err(format!("{url:?} begins with neither ws:// nor wss://")),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let place = if has_port { authority.to_owned() } else { format!("{authority}:{}", if is_tls { 443 } else { 80 }) };
        let addresses = place.to_socket_addrs().map_err(|error| format!("{url:?}: {place}: {error}"))?;
        let address = addresses.into_iter().next().ok_or_else(|| format!("{url:?}: {place} has no address"))?;
        let host = place.rsplit_once(':').map_or(place.as_str(), |(host, _)| host).trim_matches(['[', ']']).to_owned();
        Ok(Target { url: url.to_owned(), address, authority: authority.to_owned(), host, path: path.to_owned(), is_tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_address_host_and_path() {
        let target: Target = "ws://127.0.0.1:8000/connection/websocket?x=1".parse().expect("a target");
        assert_eq!((target.address.to_string().as_str(), target.path.as_str()), ("127.0.0.1:8000", "/connection/websocket?x=1"));
        assert!(!target.is_tls);
        let target: Target = "wss://[::1]".parse().expect("a target");
        assert_eq!((target.address.to_string().as_str(), target.host.as_str(), target.path.as_str()), ("[::1]:443", "::1", "/"));
        for wrong in ["127.0.0.1:8000", "http://127.0.0.1:1/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
