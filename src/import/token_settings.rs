//! The add-on for JSON Web Tokens in our terms.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::counterparts::{self, TOKENS};
use super::draft::{Draft, proposed};
use super::setting::{Setting, value_of};

const TABLE: &str = "entitlement";
const KEYS: &str = "/etc/corespan/jwks.json";

/// Writes what the settings mean, with `Entitlement = JWT`.
pub fn write(settings: &[Setting], draft: &mut Draft) {
    draft.text(
        TABLE,
        "type",
        "jwt",
        "The same tokens are taken: exp, and permissions with sub, pub and all. Clients are asked for a new one (SDKs: getToken) without losing the connection.",
    );
    match value_of(settings, "signature.type").unwrap_or("hmac").to_ascii_lowercase().as_str() {
        "rsa" => match value_of(settings, "signature.rsa.publicKeyPath") {
            Some(path) => draft.text(
                TABLE,
                "jwt.pem.path",
                path,
                "A path that is not absolute is one from where the node is started: write it in full.",
            ),
            None => draft.lack(
                TABLE,
                format!(
                    "entitlement.jwt.pem.path: there was no signature.rsa.publicKeyPath; write {}",
                    proposed("jwt.pem.path", "/etc/corespan/public.pem")
                ),
            ),
        },
        "hmac" => hmac(value_of(settings, "signature.hmac.secret"), draft),
        other => draft.lack(TABLE, format!("entitlement: signature.type = {other} is not known; give a key, see jwt.* in the manual")),
    }
    for setting in settings {
        if let Some(counterpart) = counterparts::find(TOKENS, &setting.name) {
            draft.note(TABLE, format!("{}: no counterpart. {}", setting.name, counterpart.why));
        } else if !setting.name.starts_with("signature.") {
            draft.note(TABLE, format!("{}: no counterpart that this import knows of.", setting.name));
        }
    }
}

/// Their secret is Base64 of the bytes, ours is the bytes as text. What is no text is a key of a JWKS.
fn hmac(secret: Option<&str>, draft: &mut Draft) {
    let Some(secret) = secret else {
        draft.lack(TABLE, "entitlement.jwt.hmac.secret: there was no signature.hmac.secret, and corespan has no default");
        return;
    };
    match STANDARD.decode(secret).map(String::from_utf8) {
        Ok(Ok(text)) if !text.chars().any(char::is_control) => draft.text(
            TABLE,
            "jwt.hmac.secret",
            &text,
            "signature.hmac.secret was Base64 of this. A secret: better in a file of its own, jwt.hmac.path = \"/etc/corespan/jwt-secret\".",
        ),
        Ok(bytes) => {
            let bytes = bytes.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
            draft.text_with_copy(
                TABLE,
                "jwt.jwks.path",
                KEYS,
                "signature.hmac.secret was Base64 of bytes that are no text, which a JSON Web Key Set can hold. Make this file, mode 0640 and group corespan, with:",
                &format!("{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{}\"}}]}}", URL_SAFE_NO_PAD.encode(bytes)),
            );
        }
        Err(_) => draft.lack(TABLE, "entitlement.jwt.hmac.secret: signature.hmac.secret was no Base64; give the secret itself, or jwt.hmac.path"),
    }
}
