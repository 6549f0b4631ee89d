//! A JSON Web Token whose signature and times have been checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Deserializer};

use super::denial::Denial;
use super::keys::KeySet;
use super::permissions::{Claim, Permissions};
use crate::limits::TOKEN_BYTES_MAX;

/// Bytes of a token's header, encoded.
const HEADER_BYTES_MAX: usize = 2 << 10;

/// How deep the JSON of a token may be. Ours needs 3; other claims of identity providers have a few more.
const DEPTH_MAX: usize = 16;

/// Bytes of a user's name and of a `jti`: they are kept with each connection.
const NAME_BYTES_MAX: usize = 256;

/// What times a token may have, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far the clocks of issuer and node may differ: `nbf` and `exp` are stretched by it. 0 to 300.
    pub leeway_s: u64,
    /// Whether a token without `exp` is refused.
    pub expiry_required: bool,
    /// How far ahead `exp` may be; further is refused, for it is as good as none.
    pub ahead_s_max: u64,
}

impl Default for Limits {
    /// 5 s; `exp` is required, and at most 366 days ahead.
    fn default() -> Limits {
        Limits { leeway_s: 5, expiry_required: true, ahead_s_max: 366 * 86_400 }
    }
}

/// A token that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    user: Box<str>,
    jti: Option<Box<str>>,
    channel: Option<Box<str>>,
    exp_s: Option<u64>,
    nbf_s: Option<u64>,
    iat_s: Option<u64>,
    expires_s: Option<u64>,
    permissions: Permissions,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "some")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "some")]
    crit: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "some")]
    b64: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "some")]
    zip: Option<serde::de::IgnoredAny>,
}

/// What is not named is passed over. A claim that is there twice, or null, or of another type, spoils the token.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default, deserialize_with = "some")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "some")]
    channel: Option<String>,
    #[serde(default, deserialize_with = "some")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "some")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "some")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "object")]
    permissions: Claim,
}

/// A member that is there has a value: null is none of its type.
fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object: serde would read an array for one, its members in the order of ours.
fn object<'de, T: serde::de::DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
    if !raw.get().starts_with('{') {
        return Err(serde::de::Error::custom("not an object"));
    }
    serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)
}

impl Token {
    /// Checks the text at the time `now_s`. The signature is checked before any claim is read.
    ///
    /// # Errors
    /// Larger than 16 KiB, not three parts of canonical base64url, JSON deeper than 16, an algorithm or key that does not fit, a wrong signature, a
    /// claim that is twice there or of another type, times out of `limits`, or bad permissions.
    pub fn verify(text: &str, keys: &KeySet, limits: &Limits, now_s: u64) -> Result<Token, Denial> {
        if text.is_empty() {
            return Err(Denial::NoToken);
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Denial::Malformed("it is larger than 16 KiB"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Denial::Malformed("it has not three parts"))?;
        let (header, claims) = message.split_once('.').ok_or(Denial::Malformed("it has not three parts"))?;
        if claims.contains('.') {
            return Err(Denial::Malformed("it has not three parts"));
        }
        if header.len() > HEADER_BYTES_MAX {
            return Err(Denial::Malformed("its header is larger than 2 KiB"));
        }
        let header: Header = json(header)?;
        let algorithm = algorithm(&header.alg)?;
        if header.crit.is_some() || header.b64.is_some() || header.zip.is_some() {
            return Err(Denial::Malformed("its header has `crit`, `b64` or `zip`"));
        }
        keys.verify(algorithm, header.kid.as_deref(), message.as_bytes(), signature)?;
        Self::of_claims(json(claims)?, limits, now_s)
    }

    fn of_claims(claims: Claims, limits: &Limits, now_s: u64) -> Result<Token, Denial> {
        let fits = |name: &str| name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
        if !fits(&claims.sub) || !claims.jti.as_deref().is_none_or(fits) {
            return Err(Denial::Malformed("`sub` or `jti` has more than 256 bytes or control characters"));
        }
        // A fraction of a second never makes a token longer valid. Casts saturate.
        let (exp_s, nbf_s) = (claims.exp.map(|exp| exp.floor() as u64), claims.nbf.map(|nbf| nbf.ceil() as u64));
        match exp_s {
            Some(exp_s) if now_s >= exp_s.saturating_add(limits.leeway_s) => return Err(Denial::Expired { exp_s, now_s }),
            Some(exp_s) if exp_s.saturating_sub(now_s) > limits.ahead_s_max => {
                return Err(Denial::FarFuture { exp_s, ahead_s_max: limits.ahead_s_max });
            }
            None if limits.expiry_required => return Err(Denial::NoExpiry),
            _ => {}
        }
        if let Some(nbf_s) = nbf_s
            && now_s.saturating_add(limits.leeway_s) < nbf_s
        {
            return Err(Denial::NotYet { nbf_s, now_s });
        }
        Ok(Token {
            user: claims.sub.into(),
            jti: claims.jti.map(String::into_boxed_str),
            channel: claims.channel.map(String::into_boxed_str),
            exp_s,
            nbf_s,
            iat_s: claims.iat.map(|iat| iat as u64),
            expires_s: exp_s.map(|exp_s| exp_s.saturating_add(limits.leeway_s)),
            permissions: Permissions::of_claim(&claims.permissions)?,
        })
    }

    /// The claim `sub`; empty if there is none.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The claim `jti`.
    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// The claim `channel`: only tokens for one subscription have it.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// The claim `exp`, in seconds since 1970, rounded down.
    pub fn exp_s(&self) -> Option<u64> {
        self.exp_s
    }

    /// The claim `nbf`, in seconds since 1970, rounded up.
    pub fn nbf_s(&self) -> Option<u64> {
        self.nbf_s
    }

    /// The claim `iat`, in seconds since 1970. Nothing follows from it.
    pub fn iat_s(&self) -> Option<u64> {
        self.iat_s
    }

    /// From when on the token is not valid: `exp` and the leeway, in seconds since 1970.
    pub fn expires_s(&self) -> Option<u64> {
        self.expires_s
    }

    /// The claim `permissions`; without it nothing is allowed.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    pub(super) fn into_permissions(self) -> Permissions {
        self.permissions
    }
}

/// By exact name: neither `none` in any letters nor what the library knows beside these.
fn algorithm(name: &str) -> Result<Algorithm, Denial> {
    Ok(match name {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "ES256" => Algorithm::ES256,
        "EdDSA" => Algorithm::EdDSA,
        _ => return Err(Denial::Algorithm),
    })
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Denial> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::Malformed("a part of it is no base64url"))?;
    if depth(&bytes) > DEPTH_MAX {
        return Err(Denial::Malformed("its JSON is deeper than 16"));
    }
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Denial::Malformed("its JSON is no object"));
    }
    serde_json::from_slice(&bytes).map_err(|_| Denial::Malformed("its JSON has not the members that it should, each once"))
}

/// How deep arrays and objects are, texts left out.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
