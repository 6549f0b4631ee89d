//! Why a session has ended before its time.

/// What a peer did that ends its session, or that it said of ours. It is for the log: the peer is told by an alert.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsViolation {
    /// The commonest mistake there is.
    #[error("it speaks plain HTTP where TLS is spoken: its address begins with https:// or wss://")]
    PlainHttp,
    /// Messages of a handshake are held until they are whole.
    #[error("its handshake does not fit in 64 KiB")]
    HandshakeTooLarge,
    /// Anything else.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
}
