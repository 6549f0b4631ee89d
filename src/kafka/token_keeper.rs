//! The thread that gives Kafka's clients the token of their file: looked at twice a second, for the clients of both roles.
//!
//! librdkafka would ask for tokens by a callback of a client that is polled; several of ours never are. It never says a token's text.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::clients::Clients;
use super::tokens::{TokenFile, unix_ms};

/// A newer token is in use within a second.
const LOOK: Duration = Duration::from_millis(500);

/// A file, and whose token is in it.
struct Kept {
    file: TokenFile,
    clients: Vec<Arc<Clients>>,
}

impl Kept {
    fn look(&mut self) {
        if let Some(now) = self.file.look(unix_ms()) {
            self.clients.iter().for_each(|clients| clients.give_token(&now));
        }
    }
}

/// See the module's documentation. Its thread ends with it.
pub(super) struct TokenKeeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TokenKeeper {
    /// Looks once, so that the clients that are made next have a token, and from then on; `None` where no client has its token from a file.
    pub(super) fn start(roles: &[Arc<Clients>]) -> io::Result<Option<TokenKeeper>> {
        let mut kept: Vec<Kept> = Vec::new();
        for clients in roles {
            let Some(path): Option<PathBuf> = clients.token_path() else { continue };
            // Both roles have the same file mostly: it is read, and spoken of, once.
            match kept.iter_mut().find(|kept| kept.file.path() == path) {
                Some(kept) => kept.clients.push(clients.clone()),
                None => kept.push(Kept { file: TokenFile::new(path), clients: vec![clients.clone()] }),
            }
        }
        if kept.is_empty() {
            return Ok(None);
        }
        kept.iter_mut().for_each(Kept::look);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("kafka-tokens".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                thread::park_timeout(LOOK);
                kept.iter_mut().for_each(Kept::look);
            }
        })?;
        Ok(Some(TokenKeeper { stop, thread: Some(thread) }))
    }
}

impl Drop for TokenKeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
