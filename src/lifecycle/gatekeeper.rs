//! Keys, revocations and certificates as they are on disk: looked at twice a second, and told to the shards when they say something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::ports::WatchedCertificates;
use crate::config::{EntitlementSettings, JwtSettings};
use crate::entitlement::{Entitlement, FileError, Keys, Revocations, TokenRules};
use crate::handoff::MailboxSender;
use crate::shard::Letter;

/// A revocation is in force within a second: this, and a moment for the shards.
const LOOK: Duration = Duration::from_millis(500);

/// What is on disk, and what it said when it was last read well.
#[derive(Debug)]
enum Sources {
    /// No files.
    Fixed(Entitlement),
    Jwt {
        keys: Keys,
        revocations: Revocations,
        settings: JwtSettings,
    },
}

impl Sources {
    fn open(settings: &EntitlementSettings) -> Result<Sources, FileError> {
        Ok(match settings {
            EntitlementSettings::None => Sources::Fixed(Entitlement::None),
            EntitlementSettings::Basic { token } => Sources::Fixed(Entitlement::Basic { token: token.clone() }),
            EntitlementSettings::Jwt(jwt) => Sources::Jwt {
                keys: Keys::open(jwt.keys.clone())?,
                revocations: jwt.revoked.clone().map_or_else(|| Ok(Revocations::none()), Revocations::open)?,
                settings: jwt.clone(),
            },
        })
    }

    fn entitlement(&self) -> Entitlement {
        match self {
            Sources::Fixed(entitlement) => entitlement.clone(),
            Sources::Jwt { keys, revocations, settings } => {
                Entitlement::Jwt(TokenRules::new(keys.set(), revocations.set(), settings.limits))
            }
        }
    }

    /// Looks at the files; whether they say something else now. What is bad is left as it was, and told once.
    fn look(&mut self, told: &mut [Option<String>; 2]) -> bool {
        let Sources::Jwt { keys, revocations, .. } = self else { return false };
        let [keys_told, revocations_told] = told;
        tell("keys", keys.reload(), keys_told) | tell("revocations", revocations.reload(), revocations_told)
    }
}

/// Says what a look has found, an error once; whether something changed.
fn tell(what: &str, found: Result<bool, FileError>, told: &mut Option<String>) -> bool {
    match found {
        Ok(true) => {
            tracing::info!("{what} read again");
            *told = None;
            true
        }
        Ok(false) => false,
        Err(error) => {
            let text = error.to_string();
            if told.as_deref() != Some(&text) {
                tracing::error!("{what} stay as they were: {text}");
                *told = Some(text);
            }
            false
        }
    }
}

/// The thread that looks, and what it was told to look at.
#[derive(Debug)]
pub struct Gatekeeper {
    /// What was reloaded, until the thread takes it.
    next: Arc<ArcSwap<Option<EntitlementSettings>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gatekeeper {
    /// Reads everything, and looks at it from now on. What the shards begin with comes back, too.
    ///
    /// # Errors
    /// As of [`Keys::open`] and [`Revocations::open`].
    pub fn start(
        settings: &EntitlementSettings,
        shards: Vec<MailboxSender<Letter>>,
        mut certificates: Vec<WatchedCertificates>,
    ) -> Result<(Gatekeeper, Entitlement), FileError> {
        let mut sources = Sources::open(settings)?;
        let entitlement = sources.entitlement();
        let next: Arc<ArcSwap<Option<EntitlementSettings>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (new, stopped) = (next.clone(), stop.clone());
        let watch = move || {
            let mut told = [None, None];
            let mut certificates_told = vec![None; certificates.len()];
            while !stopped.load(Ordering::Acquire) {
                let mut changed = false;
                if let Some(settings) = new.swap(Arc::new(None)).as_ref() {
                    match Sources::open(settings) {
                        Ok(newer) => (sources, changed) = (newer, true),
                        Err(error) => tracing::error!("entitlement stays as it was: {error}"),
                    }
                }
                if sources.look(&mut told) || changed {
                    for letters in &shards {
                        // A shard that has ended lets nobody in.
                        let _ = letters.post(Letter::Entitlement(sources.entitlement()));
                    }
                }
                for (one, told) in certificates.iter_mut().zip(&mut certificates_told) {
                    if tell("certificates", one.certificates.reload(), told) {
                        one.current.set(one.certificates.server());
                    }
                }
                std::thread::park_timeout(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("gatekeeper".to_owned()).spawn(watch);
        let thread = thread.map_err(|error| FileError { path: "gatekeeper".into(), what: format!("cannot start its thread: {error}") })?;
        Ok((Gatekeeper { next, stop, thread: Some(thread) }, entitlement))
    }

    /// Other settings of the same type, in force within a moment.
    pub fn take(&self, settings: EntitlementSettings) {
        self.next.store(Arc::new(Some(settings)));
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
