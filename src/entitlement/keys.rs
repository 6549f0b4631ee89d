//! The keys that tokens are signed with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};

use super::denial::Denial;
use crate::watched_file::{FileError, WatchedFile};

/// Bytes of a file of keys: a JWKS has 1 or 2 KiB for each.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Keys of all sources.
const KEYS_MAX: usize = 32;

/// Keys that are tried for one token. Each costs some 100 µs of a shard, and anybody may send tokens: more keys of one family need a `kid`.
const TRIES_MAX: usize = 4;

/// Bytes of a secret, at least: the output of HS256, as RFC 7518 (3.2) demands. A shorter one can be guessed from any token.
const SECRET_BYTES_MIN: usize = 32;

/// Bytes of an RSA modulus: RFC 7518 (3.3) demands 2,048 bits, and the library reads 4,096.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Where keys are. Each key belongs to one family of algorithms, by what it is: no token can choose another use of it.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The secret of HS256, HS384 and HS512, as it is.
    Secret(String),
    /// Public keys (`PUBLIC KEY`, `RSA PUBLIC KEY`), one or several: RS256, RS384, RS512; ES256 (P-256); EdDSA (Ed25519).
    Pem(String),
    /// A file with a secret; one line break at its end is not part of it.
    SecretFile(PathBuf),
    /// A file of public keys.
    PemFile(PathBuf),
    /// A JSON Web Key Set. Keys of other kinds, or for encryption, are passed over.
    JwksFile(PathBuf),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Secret(_) => formatter.write_str("Secret(..)"),
            KeySource::Pem(_) => formatter.write_str("Pem(..)"),
            KeySource::SecretFile(path) => formatter.debug_tuple("SecretFile").field(path).finish(),
            KeySource::PemFile(path) => formatter.debug_tuple("PemFile").field(path).finish(),
            KeySource::JwksFile(path) => formatter.debug_tuple("JwksFile").field(path).finish(),
        }
    }
}

#[derive(Clone)]
struct Key {
    /// From a JWKS.
    kid: Option<Box<str>>,
    /// The only algorithm, if a JWKS names one.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// Keys as they were at one time. Immutable: shards share it.
#[derive(Clone, Default)]
pub struct KeySet(Vec<Key>);

impl fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} keys", self.0.len())
    }
}

impl KeySet {
    /// Checks the signature of `message`. Keys with the token's `kid` are tried; if there are none, those without a `kid`; if the token has no `kid`,
    /// all; of its algorithm's family only, and `TRIES_MAX` at most.
    pub(super) fn verify(&self, algorithm: Algorithm, kid: Option<&str>, message: &[u8], signature: &str) -> Result<(), Denial> {
        let fits = |key: &&Key| key.key.family() == algorithm.family() && key.algorithm.is_none_or(|only| only == algorithm);
        let named = |key: &Key| kid.is_some() && key.kid.as_deref() == kid;
        let by_name = self.0.iter().any(|key| fits(&key) && named(key));
        let candidates = self.0.iter().filter(fits).filter(|key| if by_name { named(key) } else { kid.is_none() || key.kid.is_none() });
        let mut denial = Denial::NoKey;
        for key in candidates.take(TRIES_MAX) {
            match crypto::verify(signature, message, &key.key, algorithm) {
                Ok(true) => return Ok(()),
                _ => denial = Denial::Signature,
            }
        }
        Err(denial)
    }
}

/// The sources of keys, and what they held when they were last read well. It reads files: housekeeping threads only.
#[derive(Debug)]
pub struct Keys {
    sources: Vec<Source>,
    set: Arc<KeySet>,
}

struct Source {
    file: Option<WatchedFile>,
    parse: fn(&str) -> Result<Vec<Key>, String>,
    keys: Vec<Key>,
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} keys of {:?}", self.keys.len(), self.file.as_ref().map(WatchedFile::path))
    }
}

impl Keys {
    /// Reads all sources.
    ///
    /// # Errors
    /// A source cannot be read, or holds a key that is none, is too weak or too large; there is no key, or more than 32. A source that is no file is
    /// named `configuration`. No error repeats a key.
    pub fn open(sources: Vec<KeySource>) -> Result<Keys, FileError> {
        let in_configuration = |what: String| FileError { path: PathBuf::from("configuration"), what };
        let mut keys = Keys { sources: Vec::new(), set: Arc::default() };
        for source in sources {
            let (parse, file): (fn(&str) -> _, _) = match source {
                KeySource::Secret(text) => {
                    keys.sources.push(Source { file: None, parse: secret, keys: secret(&text).map_err(in_configuration)? });
                    continue;
                }
                KeySource::Pem(text) => {
                    keys.sources.push(Source { file: None, parse: pems, keys: pems(&text).map_err(in_configuration)? });
                    continue;
                }
                KeySource::SecretFile(path) => (secret_line, path),
                KeySource::PemFile(path) => (pems, path),
                KeySource::JwksFile(path) => (jwks, path),
            };
            let mut file = WatchedFile::new(file, FILE_BYTES_MAX);
            let text = file.changed()?.unwrap_or_default();
            let read = parse(&text).map_err(|what| file.error(what))?;
            keys.sources.push(Source { file: Some(file), parse, keys: read });
        }
        let all = keys.all();
        if !(1..=KEYS_MAX).contains(&all.len()) {
            return Err(in_configuration(format!("there are {} keys for tokens: 1 to {KEYS_MAX} are possible", all.len())));
        }
        keys.set = Arc::new(KeySet(all));
        Ok(keys)
    }

    /// The keys as they are now.
    pub fn set(&self) -> Arc<KeySet> {
        self.set.clone()
    }

    /// Looks at the files once; whether the keys are other ones now. Call it once in a second or so.
    ///
    /// # Errors
    /// The first file that is bad. Its old keys stay in force, whatever happened to the file; the other files are taken up. A file that is bad in its
    /// contents is told of once (or twice: a changed file is looked at again), one that cannot be opened at each call.
    pub fn reload(&mut self) -> Result<bool, FileError> {
        let (mut changed, mut bad) = (false, None);
        for place in 0..self.sources.len() {
            match self.reload_source(place) {
                Ok(new) => changed |= new,
                Err(error) => bad = bad.or(Some(error)),
            }
        }
        if changed {
            self.set = Arc::new(KeySet(self.all()));
        }
        bad.map_or(Ok(changed), Err)
    }

    fn reload_source(&mut self, place: usize) -> Result<bool, FileError> {
        let others = self.all().len() - self.sources[place].keys.len();
        let source = &mut self.sources[place];
        let Some(file) = &mut source.file else { return Ok(false) };
        let Some(text) = file.changed()? else { return Ok(false) };
        let keys = (source.parse)(&text).map_err(|what| file.error(what))?;
        if others + keys.len() > KEYS_MAX {
            return Err(file.error(format!("there are more than {KEYS_MAX} keys with it")));
        }
        source.keys = keys;
        Ok(true)
    }

    fn all(&self) -> Vec<Key> {
        self.sources.iter().flat_map(|source| source.keys.iter().cloned()).collect()
    }
}

fn secret_line(text: &str) -> Result<Vec<Key>, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    secret(text.strip_suffix('\r').unwrap_or(text))
}

/// A public key as a secret would let everybody sign who knows it.
fn secret(text: &str) -> Result<Vec<Key>, String> {
    if text.contains("-----BEGIN") || text.contains("\"kty\"") {
        return Err("a PEM or JSON key is no secret: name it as what it is".to_owned());
    }
    let key = DecodingKey::from_secret(text.as_bytes());
    Ok(vec![checked(Key { kid: None, algorithm: None, key })?])
}

fn pems(text: &str) -> Result<Vec<Key>, String> {
    let starts: Vec<usize> = text.match_indices("-----BEGIN ").map(|(place, _)| place).collect();
    if starts.is_empty() {
        return Err("there is no PEM key: it starts with -----BEGIN PUBLIC KEY-----".to_owned());
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| pem(&text[*start..end])).collect()
}

fn pem(block: &str) -> Result<Key, String> {
    if !block.starts_with("-----BEGIN PUBLIC KEY-----") && !block.starts_with("-----BEGIN RSA PUBLIC KEY-----") {
        return Err(
            "only PUBLIC KEY and RSA PUBLIC KEY are taken; `openssl pkey -pubout` and `openssl x509 -pubkey -noout` make one".to_owned()
        );
    }
    let bytes = block.as_bytes();
    // The label of PKCS#1 says RSA, which the library believes of any key: the others are asked first, and they refuse it.
    let key = DecodingKey::from_ec_pem(bytes)
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .or_else(|_| DecodingKey::from_rsa_pem(bytes))
        .map_err(|_| "the PEM key is neither of RSA nor of P-256 nor of Ed25519".to_owned())?;
    checked(Key { kid: None, algorithm: None, key })
}

fn jwks(text: &str) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(text).map_err(|error| format!("it is no JWKS, {{\"keys\": [..]}}: line {}", error.line()))?;
    let mut keys = Vec::new();
    for value in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
        let curve = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) => key.curve == EllipticCurve::P256,
            AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
            _ => true,
        };
        let algorithm = match jwk.common.key_algorithm {
            Some(algorithm) => match algorithm.to_string().parse() {
                Ok(algorithm) => Some(algorithm),
                Err(_) => continue,
            },
            None => None,
        };
        let signs = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        let Ok(key) = DecodingKey::from_jwk(&jwk) else { continue };
        if !curve || !signs {
            continue;
        }
        if algorithm.is_some_and(|algorithm: Algorithm| algorithm.family() != key.family()) {
            return Err("a key's `alg` does not fit its `kty`".to_owned());
        }
        keys.push(checked(Key { kid: jwk.common.key_id.map(String::into_boxed_str), algorithm, key })?);
    }
    if keys.is_empty() { Err("it has no key that tokens can be checked with".to_owned()) } else { Ok(keys) }
}

/// A key that is what it says, and strong enough.
fn checked(key: Key) -> Result<Key, String> {
    let bad = |what: &str| Err(what.to_owned());
    let bytes = key.key.try_get_as_bytes().unwrap_or_default();
    match key.key.family() {
        AlgorithmFamily::Hmac if bytes.len() < SECRET_BYTES_MIN => {
            bad("a secret has 32 bytes or more: `openssl rand -base64 48` makes one")
        }
        AlgorithmFamily::Ec if bytes.len() != 65 || bytes[0] != 4 => bad("a key for ES256 is an uncompressed point of P-256"),
        AlgorithmFamily::Ed if bytes.len() != 32 => bad("a key for EdDSA has 32 bytes, of Ed25519"),
        AlgorithmFamily::Rsa => match Jwk::from_decoding_key(&key.key, None).map(|jwk| jwk.algorithm) {
            Ok(AlgorithmParameters::RSA(rsa)) if MODULUS_BYTES.contains(&modulus_bytes(&rsa.n)) && rsa.e.len() <= 6 => Ok(key),
            Ok(_) => bad("an RSA key has 2,048 to 4,096 bits, and an exponent of 32 bits at most"),
            Err(_) => bad("the RSA key cannot be read"),
        },
        _ => Ok(key),
    }
}

fn modulus_bytes(base64: &str) -> usize {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(base64).unwrap_or_default();
    bytes.iter().skip_while(|byte| **byte == 0).count()
}
