//! `[entitlement]`: who may do what.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::reader::Reader;
use crate::entitlement::{KeySource, Keys, Limits, Revocations};

/// Bytes of `entitlement.token`, at least: anybody may try tokens.
const TOKEN_BYTES_MIN: usize = 16;

/// Who may do what.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum EntitlementSettings {
    /// Everybody may do everything.
    #[default]
    None,
    /// Everybody may subscribe; who has the token may publish.
    Basic { token: Arc<str> },
    /// Everybody needs a JSON Web Token.
    Jwt(JwtSettings),
}

/// Of `type = "jwt"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    pub keys: Vec<KeySource>,
    pub revoked: Option<PathBuf>,
    pub limits: Limits,
}

impl EntitlementSettings {
    /// As the file has it.
    pub fn name(&self) -> &'static str {
        match self {
            EntitlementSettings::None => "none",
            EntitlementSettings::Basic { .. } => "basic",
            EntitlementSettings::Jwt(_) => "jwt",
        }
    }
}

impl fmt::Debug for EntitlementSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntitlementSettings::Jwt(jwt) => fmt::Debug::fmt(jwt, formatter),
            other => formatter.write_str(other.name()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    None,
    Basic,
    Jwt,
}

/// Reads the table, and the files that it names: what cannot be used is a problem of the configuration.
pub(super) fn read(reader: &mut Reader) -> EntitlementSettings {
    let origin = reader.origin("entitlement.type");
    let wanted = reader.choice("entitlement.type", Type::None, &[("none", Type::None), ("basic", Type::Basic), ("jwt", Type::Jwt)]);
    let token_origin = reader.origin("entitlement.token");
    let lacks = ["entitlement.token", "entitlement.jwt.hmac.secret"].map(|key| reader.is_unresolved(key));
    let token = reader.secret("entitlement.token");
    let secret = reader.secret("entitlement.jwt.hmac.secret");
    let mut path = |key: &str| {
        let text = reader.text(key, "", |_| Ok(()));
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let (secret_path, pem, jwks) = (path("entitlement.jwt.hmac.path"), path("entitlement.jwt.pem.path"), path("entitlement.jwt.jwks.path"));
    let revoked = path("entitlement.revoked.path");
    let defaults = Limits::default();
    let seconds = Duration::from_secs;
    let limits = Limits {
        leeway_s: reader.time("entitlement.jwt.leeway", seconds(defaults.leeway_s), seconds(0)..=seconds(300)).as_secs(),
        expiry_required: reader.flag("entitlement.jwt.expiry.required", defaults.expiry_required),
        ahead_s_max: reader
            .time("entitlement.jwt.expiry.max", seconds(defaults.ahead_s_max), seconds(1)..=seconds(3_660 * 86_400))
            .as_secs(),
    };
    let keys: Vec<KeySource> = [
        (!secret.is_empty()).then_some(KeySource::Secret(secret)),
        secret_path.map(KeySource::SecretFile),
        pem.map(KeySource::PemFile),
        jwks.map(KeySource::JwksFile),
    ]
    .into_iter()
    .flatten()
    .collect();
    if wanted != Type::Jwt && (!keys.is_empty() || revoked.is_some()) {
        let text = "keys for tokens, or revocations, are given although entitlement.type is not \"jwt\"; write entitlement.type = \"jwt\", or remove them";
        reader.problem(origin, text.to_owned());
    }
    if wanted != Type::Basic && !token.is_empty() {
        let text =
            "entitlement.token is given although entitlement.type is not \"basic\"; write entitlement.type = \"basic\", or remove it";
        reader.problem(token_origin, text.to_owned());
    }
    match wanted {
        Type::None => EntitlementSettings::None,
        Type::Basic => {
            if token.len() < TOKEN_BYTES_MIN && !lacks[0] {
                let text = format!(
                    "entitlement.token is missing or shorter than {TOKEN_BYTES_MIN} bytes, and entitlement.type = \"basic\" needs it; make one with: openssl rand -base64 24"
                );
                reader.problem(token_origin.or(origin), text);
            }
            EntitlementSettings::Basic { token: Arc::from(token) }
        }
        Type::Jwt => {
            if keys.is_empty() && !lacks[1] {
                let text = "entitlement.type = \"jwt\" needs a key: give entitlement.jwt.hmac.secret, entitlement.jwt.hmac.path, entitlement.jwt.pem.path or entitlement.jwt.jwks.path";
                reader.problem(origin, text.to_owned());
            }
            let bad: Vec<String> = keys.iter().filter_map(bad_source).collect();
            match Keys::open(keys.clone()) {
                // Each by itself would do.
                Err(error) if bad.is_empty() && !keys.is_empty() => {
                    reader.problem(origin, format!("the keys of [entitlement] do not go together: {}", error.what))
                }
                _ => bad.into_iter().for_each(|text| reader.problem(origin, text)),
            }
            if let Some(Err(error)) = revoked.clone().map(Revocations::open) {
                reader.problem(origin, format!("entitlement.revoked.path cannot be used: {error}"));
            }
            EntitlementSettings::Jwt(JwtSettings { keys, revoked, limits })
        }
    }
}

/// What is wrong with a source of keys, in words that name its setting.
fn bad_source(source: &KeySource) -> Option<String> {
    let error = Keys::open(vec![source.clone()]).err()?;
    Some(match source {
        KeySource::Secret(_) | KeySource::Pem(_) => format!("entitlement.jwt.hmac.secret cannot be used: {}", error.what),
        KeySource::SecretFile(_) => format!("entitlement.jwt.hmac.path cannot be used: {error}"),
        KeySource::PemFile(_) => format!("entitlement.jwt.pem.path cannot be used: {error}"),
        KeySource::JwksFile(_) => format!("entitlement.jwt.jwks.path cannot be used: {error}"),
    })
}
