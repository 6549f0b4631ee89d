//! Listening sockets: one per shard on the same address, spread by the kernel (`SO_REUSEPORT`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::NetSettings;
use crate::tls::CurrentServer;

/// Connections that wait for an accept; a storm of reconnects fills 1024 in a moment.
const BACKLOG: i32 = 4096;

/// The sockets of all shards, bound to one address.
#[derive(Debug)]
pub struct Listening {
    /// As bound: with the port that the system chose, if 0 was asked for.
    pub address: SocketAddr,
    /// One for each shard.
    pub listeners: Vec<TcpListener>,
}

/// What one shard accepts connections from.
#[derive(Debug)]
pub struct ShardListener {
    pub listener: TcpListener,
    /// With TLS, by the certificates of the moment.
    pub tls: Option<CurrentServer>,
}

impl From<TcpListener> for ShardListener {
    /// Without TLS.
    fn from(listener: TcpListener) -> ShardListener {
        ShardListener { listener, tls: None }
    }
}

/// Binds `shards` sockets to `address`. Options that accepted sockets inherit are set here, once: `TCP_NODELAY`, the send buffer, the low-water mark.
pub fn listen(address: SocketAddr, shards: usize, settings: &NetSettings) -> io::Result<Listening> {
    // With SO_REUSEPORT alone a second server of the same user would quietly share the port; without it the kernel says that it is taken.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    probe.listen(1)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);

    let mut listeners = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(settings.send_buffer_bytes)?;
        socket.set_tcp_notsent_lowat(settings.not_sent_bytes)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(Listening { address, listeners })
}

/// A socket that listens on `address` alone, for ports without shards.
///
/// # Errors
/// What the kernel says: the port is taken, the address is not of this machine.
pub fn listen_once(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = address.ip()
        && ip.is_unspecified()
    {
        // IPv4 too, whatever net.ipv6.bindv6only says: if somebody else has the port there, the kernel says so.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_and_shards_share_theirs() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = listen(loopback, 3, &NetSettings::default()).unwrap();
        assert_eq!(first.listeners.len(), 3);
        assert!(first.listeners.iter().all(|listener| listener.local_addr().unwrap() == first.address));
        assert_eq!(listen(first.address, 1, &NetSettings::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let address = first.address;
        drop(first);
        listen(address, 1, &NetSettings::default()).unwrap();
    }

    #[test]
    fn the_unspecified_address_of_ipv6_is_every_address_of_both_families_or_an_error() {
        let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        let listening = listen(everywhere, 2, &NetSettings::default()).unwrap();
        let port = listening.address.port();
        for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))] {
            std::net::TcpStream::connect(address).unwrap();
        }
        drop(listening);
        // The port is somebody's in one of the families.
        let other = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let taken = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, other.local_addr().unwrap().port()));
        assert_eq!(listen(taken, 1, &NetSettings::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(listen_once(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
