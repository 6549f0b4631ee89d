//! The token that Kafka's clients show by OAUTHBEARER, and the file it is in.
//!
//! Whoever issues tokens writes one to the file and a newer one before it ends; what is in the file is given to all clients (`token_keeper`). It is not
//! verified here: Kafka does that. What it says of its end and of whom it names is read for librdkafka, which wants to know both. No text of a token
//! is ever in a message.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::watched_file::WatchedFile;

/// Tokens with the groups of a large directory are some KiB; a broker takes requests of 512 KiB before it knows who asks
/// (`sasl.server.max.receive.size`).
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// How long a token is taken to live that does not say it: it is given again after half of it.
const LIFE_MS: i64 = 3_600_000;
/// The last second that four digits of a year can say. librdkafka counts in microseconds.
const END_SECONDS_MAX: f64 = 253_402_300_799.0;

/// The time now, in milliseconds since 1970.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The file that a value of `sasl.oauthbearer.config` names.
///
/// # Errors
/// What is wrong, without the value: it may be a secret.
pub(super) fn token_path(value: &str) -> Result<PathBuf, &'static str> {
    match value.trim().strip_prefix("token.path=").map(str::trim) {
        Some("") => Err("sasl.oauthbearer.config names no file: write \"token.path=/PATH/OF/THE/TOKEN\""),
        Some(path) => Ok(path.into()),
        None => Err("sasl.oauthbearer.config has another form than \"token.path=/PATH/OF/THE/TOKEN\", the only one that this build knows"),
    }
}

/// The file that the clients of a configuration have their token from, if they have one.
pub(super) fn token_path_of(config: &ClientConfig) -> Option<PathBuf> {
    let is_sasl = config.get("security.protocol")?.to_ascii_lowercase().starts_with("sasl_");
    let is_bearer = config.get("sasl.mechanism") == Some("OAUTHBEARER");
    let is_fetched = config.get("sasl.oauthbearer.method").is_some_and(|method| method.eq_ignore_ascii_case("oidc"));
    if is_sasl && is_bearer && !is_fetched { token_path(config.get("sasl.oauthbearer.config")?).ok() } else { None }
}

/// One token. It has no `Debug`: it is a secret.
pub(super) struct Token {
    text: String,
    principal: String,
    end_ms: Option<i64>,
}

/// What is read of a JWT's payload.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970, with a fraction if its issuer likes.
    exp: Option<f64>,
}

impl Token {
    /// Reads what a file holds.
    fn read(text: &str) -> Result<Token, &'static str> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err("it is empty, and should hold a token");
        }
        // Nothing else can stand in the header that it is sent in (RFC 6750, 2.1).
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it holds something beside one token: a space, a second line, or a letter that no token has");
        }
        let claims = claims(text);
        let end = claims.as_ref().and_then(|claims| claims.exp).map(|seconds| seconds.clamp(0.0, END_SECONDS_MAX));
        Ok(Token {
            text: text.to_owned(),
            // For librdkafka alone, which wants one: Kafka looks into the token.
            principal: claims.and_then(|claims| claims.sub).filter(|sub| !sub.contains('\0')).unwrap_or_else(|| "corespan".to_owned()),
            end_ms: end.map(|seconds| (seconds * 1_000.0) as i64),
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// When it ends, in milliseconds since 1970: its own word, or an hour from now.
    pub(super) fn end_ms(&self, now_ms: i64) -> i64 {
        self.end_ms.unwrap_or_else(|| now_ms.saturating_add(LIFE_MS))
    }

    fn has_expired(&self, now_ms: i64) -> bool {
        self.end_ms.is_some_and(|end| end <= now_ms)
    }
}

/// What a token says of itself, if it is a JWT (RFC 7519) that is signed or unsecured.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return None };
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// What clients are given now: a token, or why there is none.
pub(super) type TokenNow = Result<Arc<Token>, String>;

/// The file, and what clients have of it.
pub(super) struct TokenFile {
    file: WatchedFile,
    /// The newest that was good.
    token: Option<Arc<Token>>,
    /// What is wrong with what is in the file now.
    trouble: Option<String>,
    /// What clients were given last, and when.
    given: Option<TokenNow>,
    given_ms: i64,
    /// What the log said last of a trouble that lasts.
    said: Option<String>,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> TokenFile {
        let file = WatchedFile::new(path, TOKEN_BYTES_MAX);
        TokenFile { file, token: None, trouble: None, given: None, given_ms: 0, said: None }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Looks at the file; what clients are to be given, if it is something else than at the last look, or is to be given again. A token that lives
    /// stays while the file is bad.
    pub(super) fn look(&mut self, now_ms: i64) -> Option<TokenNow> {
        self.read();
        let now = match self.token.as_ref().filter(|token| !token.has_expired(now_ms)) {
            Some(token) => Ok(token.clone()),
            None => Err(self.trouble.clone().unwrap_or_else(|| self.file.error("its token has expired".to_owned()).to_string())),
        };
        self.say(&now);
        let is_other = match (&self.given, &now) {
            (Some(Ok(before)), Ok(token)) => !Arc::ptr_eq(before, token),
            (Some(Err(before)), Err(why)) => before != why,
            _ => true,
        };
        let is_due = now.as_ref().is_ok_and(|token| token.end_ms.is_none()) && (now_ms - self.given_ms).abs() >= LIFE_MS / 2;
        if !is_other && !is_due {
            return None;
        }
        if is_other && let Ok(token) = &now {
            let seconds = token.end_ms.map(|end| (end - now_ms) / 1_000);
            tracing::info!(principal = token.principal, seconds, "Kafka's clients are given the token of {}", self.path().display());
        }
        (self.given, self.given_ms) = (Some(now.clone()), now_ms);
        Some(now)
    }

    fn read(&mut self) {
        match self.file.changed() {
            Ok(None) => {}
            Ok(Some(text)) => match Token::read(&text) {
                Ok(token) => {
                    self.trouble = None;
                    if self.token.as_ref().is_none_or(|before| before.text != token.text) {
                        self.token = Some(Arc::new(token));
                    }
                }
                Err(what) => self.trouble = Some(self.file.error(what.to_owned()).to_string()),
            },
            Err(error) => {
                self.trouble = Some(error.to_string());
                // It may come back as it was, and is to be read then.
                self.file = WatchedFile::new(error.path, TOKEN_BYTES_MAX);
            }
        }
    }

    /// Says what is wrong, each thing once.
    fn say(&mut self, now: &TokenNow) {
        let wrong = match (now, &self.trouble) {
            (Ok(_), None) => None,
            (Ok(_), Some(trouble)) => Some(format!("Kafka's clients keep the token that they have: {trouble}")),
            (Err(why), _) => Some(format!("Kafka's clients have no token (sasl.oauthbearer.config), and cannot connect: {why}")),
        };
        if let Some(wrong) = &wrong
            && self.said.as_ref() != Some(wrong)
        {
            tracing::error!("{wrong}");
        }
        self.said = wrong;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn jwt(payload: &str) -> String {
        format!("{}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(payload))
    }

    fn ending(seconds: i64) -> String {
        jwt(&format!(r#"{{"sub":"alice","exp":{}}}"#, NOW_MS / 1_000 + seconds))
    }

    fn is_given(now: Option<TokenNow>, text: &str) -> bool {
        now.is_some_and(|now| now.is_ok_and(|token| token.text() == text))
    }

    fn refusal(now: Option<TokenNow>) -> String {
        now.and_then(Result::err).expect("clients are told why there is none")
    }

    #[test]
    fn a_jwt_says_its_end_and_its_principal_and_another_token_lives_an_hour() {
        let read = |text: &str| Token::read(text).ok().map(|token| (token.text.clone(), token.principal.clone(), token.end_ms(NOW_MS)));
        let known = |text: &str, principal: &str, end| Some((text.to_owned(), principal.to_owned(), end));
        let whole = jwt(r#"{"sub":"alice","exp":1800000020,"aud":["kafka"]}"#);
        for end in ["", "\n", "\r\n"] {
            assert_eq!(read(&format!("{whole}{end}")), known(&whole, "alice", 1_800_000_020_000));
        }
        let unsecured = jwt(r#"{"sub":"alice","exp":1800000020.5}"#).replace("c2lnbmF0dXJl", "");
        assert_eq!(read(&unsecured), known(&unsecured, "alice", 1_800_000_020_500));
        let hour = NOW_MS + 3_600_000;
        for other in ["opaque-token", "a.b.c", "a.b.c.d.e", &jwt("[]"), &jwt("{}"), &jwt(r#"{"exp":"soon"}"#), "..", "."] {
            assert_eq!(read(other), known(other, "corespan", hour), "{other}");
        }
        let far = jwt(r#"{"exp":1e300}"#);
        assert_eq!(read(&far), known(&far, "corespan", 253_402_300_799_000));
        let past = jwt(r#"{"exp":-5}"#);
        assert_eq!(read(&past), known(&past, "corespan", 0));
        for bad in ["", "\n", "\r\n", "a\nb", "a\n\n", "a b", " a", "\u{fc}ber", "a\0b"] {
            assert!(Token::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_of_another_form_is_refused_and_not_shown() {
        assert_eq!(token_path("token.path=/run/secrets/kafka-token"), Ok("/run/secrets/kafka-token".into()));
        assert_eq!(token_path(" token.path=/with a space/token "), Ok("/with a space/token".into()));
        for bad in ["", "token.path", "token.path=", "token.path= ", "principal=hunter2", "/run/hunter2", "token.file=/hunter2"] {
            let reason = token_path(bad).expect_err(bad);
            assert!(reason.contains("token.path=/") && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn only_clients_that_authenticate_by_tokens_have_a_file() {
        let path = |protocol: &str, mechanism: &str, value: &str| {
            let mut config = ClientConfig::new();
            config.set("security.protocol", protocol).set("sasl.mechanism", mechanism).set("sasl.oauthbearer.config", value);
            token_path_of(&config)
        };
        assert_eq!(path("SASL_SSL", "OAUTHBEARER", "token.path=/t"), Some("/t".into()));
        assert_eq!(path("sasl_plaintext", "OAUTHBEARER", "token.path=/t"), Some("/t".into()));
        assert_eq!(path("ssl", "OAUTHBEARER", "token.path=/t"), None);
        assert_eq!(path("SASL_SSL", "PLAIN", "token.path=/t"), None);
        assert_eq!(path("SASL_SSL", "OAUTHBEARER", "principal=x"), None);
        assert_eq!(token_path_of(&ClientConfig::new()), None);
    }

    #[test]
    fn clients_are_given_each_token_once_and_one_that_lives_stays_while_its_file_is_bad() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let mut file = TokenFile::new(path.clone());
        assert!(refusal(file.look(NOW_MS)).contains("there is no such file"));
        assert!(file.look(NOW_MS).is_none(), "told once");
        let (first, second) = (ending(20), ending(600));
        fs::write(&path, format!("{first}\n")).expect("written");
        assert!(is_given(file.look(NOW_MS), &first));
        for _ in 0..3 {
            assert!(file.look(NOW_MS + 1_000).is_none(), "given once");
        }
        fs::remove_file(&path).expect("removed");
        assert!(file.look(NOW_MS + 2_000).is_none(), "it lives on");
        assert!(file.said.as_ref().is_some_and(|said| said.contains("keep the token") && said.contains("there is no such file")));
        fs::write(&path, "").expect("written");
        assert!(file.look(NOW_MS + 3_000).is_none(), "it lives on");
        assert!(file.said.as_ref().is_some_and(|said| said.contains("empty")));
        fs::write(&path, &second).expect("written");
        assert!(is_given(file.look(NOW_MS + 4_000), &second));
        assert_eq!(file.said, None);
    }

    #[test]
    fn a_token_that_has_expired_is_told_once_and_a_newer_one_is_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let (first, second) = (ending(20), ending(600));
        fs::write(&path, &first).expect("written");
        let mut file = TokenFile::new(path.clone());
        assert!(is_given(file.look(NOW_MS), &first));
        let reason = refusal(file.look(NOW_MS + 20_000));
        assert!(reason.contains("has expired") && !reason.contains(&first), "{reason}");
        assert!(file.look(NOW_MS + 21_000).is_none() && file.look(NOW_MS + 22_000).is_none());
        fs::write(&path, &second).expect("written");
        assert!(is_given(file.look(NOW_MS + 23_000), &second));
        // One that had expired before it was written is none.
        fs::write(&path, &first).expect("written");
        assert!(refusal(file.look(NOW_MS + 24_000)).contains("has expired"));
    }

    #[test]
    fn a_token_that_does_not_say_its_end_is_given_again_before_the_hour_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "opaque").expect("written");
        let mut file = TokenFile::new(path);
        assert!(is_given(file.look(NOW_MS), "opaque"));
        assert!(file.look(NOW_MS + LIFE_MS / 2 - 1).is_none());
        assert!(is_given(file.look(NOW_MS + LIFE_MS / 2), "opaque"));
        assert!(file.look(NOW_MS + LIFE_MS / 2 + 1).is_none());
    }

    #[test]
    fn a_file_larger_than_64_kib_is_refused_until_it_is_smaller() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "x".repeat(TOKEN_BYTES_MAX as usize + 1)).expect("written");
        let mut file = TokenFile::new(path.clone());
        assert!(refusal(file.look(NOW_MS)).contains("larger than 65536 bytes"));
        assert!(file.look(NOW_MS).is_none());
        let largest = "x".repeat(TOKEN_BYTES_MAX as usize);
        fs::write(&path, &largest).expect("written");
        assert!(is_given(file.look(NOW_MS), &largest));
    }
}
