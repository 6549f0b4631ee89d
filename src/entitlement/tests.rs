//! Hostile tokens one by one, and permissions against a matcher that is too simple to be wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "a secret of the tests, of 32 bytes or more";
const RSA_PUBLIC: &str = include_str!("keys_for_tests/rsa_public.pem");
const RSA_PRIVATE: &str = include_str!("keys_for_tests/rsa_private.pem");
const EC_PUBLIC: &str = include_str!("keys_for_tests/ec_public.pem");
const EC_PRIVATE: &str = include_str!("keys_for_tests/ec_private.pem");
const ED_PUBLIC: &str = include_str!("keys_for_tests/ed_public.pem");
const ED_PRIVATE: &str = include_str!("keys_for_tests/ed_private.pem");
const NOW_S: u64 = 1_800_000_000;
const CLAIMS: &str = r#"{"sub":"ada","exp":1800000060,"jti":"j1","permissions":{"all":["/v/*"]}}"#;

fn signed_by(key: &EncodingKey, algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn signed(claims: &str) -> String {
    signed_by(&EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

fn keys(sources: &[KeySource]) -> Arc<KeySet> {
    Keys::open(sources.to_vec()).unwrap().set()
}

fn secret() -> Arc<KeySet> {
    keys(&[KeySource::Secret(SECRET.to_owned())])
}

fn verify(token: &str) -> Result<Token, Denial> {
    Token::verify(token, &secret(), &Limits::default(), NOW_S)
}

fn word(token: &str) -> &'static str {
    verify(token).map_or_else(|denial| denial.word(), |_| "valid")
}

fn jwt(revoked: Arc<RevokedSet>) -> Entitlement {
    Entitlement::Jwt(TokenRules::new(secret(), revoked, Limits::default()))
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn every_algorithm_that_is_promised_verifies() {
    let all = keys(&[
        KeySource::Secret(SECRET.to_owned()),
        KeySource::Pem(format!("{RSA_PUBLIC}{EC_PUBLIC}")),
        KeySource::Pem(ED_PUBLIC.to_owned()),
    ]);
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap();
    for (key, algorithm, name) in [
        (&secret, Algorithm::HS256, "HS256"),
        (&secret, Algorithm::HS384, "HS384"),
        (&secret, Algorithm::HS512, "HS512"),
        (&rsa, Algorithm::RS256, "RS256"),
        (&rsa, Algorithm::RS384, "RS384"),
        (&rsa, Algorithm::RS512, "RS512"),
        (&EncodingKey::from_ec_pem(EC_PRIVATE.as_bytes()).unwrap(), Algorithm::ES256, "ES256"),
        (&EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap(), Algorithm::EdDSA, "EdDSA"),
    ] {
        let token = signed_by(key, algorithm, &format!(r#"{{"alg":"{name}"}}"#), CLAIMS);
        let verified = Token::verify(&token, &all, &Limits::default(), NOW_S).unwrap();
        assert_eq!((verified.user(), verified.jti(), verified.exp_s()), ("ada", Some("j1"), Some(NOW_S + 60)), "{name}");
        let cut = token.rsplit_once('.').unwrap().0;
        assert!(Token::verify(&format!("{cut}.AAAA"), &all, &Limits::default(), NOW_S).is_err(), "{name}");
    }
}

#[test]
fn an_algorithm_none_is_refused_however_it_is_written() {
    for name in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "PS256", "ES384"] {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#)), URL_SAFE_NO_PAD.encode(CLAIMS));
        for signature in ["", "AAAA"] {
            assert_eq!(word(&format!("{message}.{signature}")), "algorithm", "{name:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret_for_signing() {
    let public = keys(&[KeySource::Pem(RSA_PUBLIC.to_owned())]);
    for text in [RSA_PUBLIC, RSA_PUBLIC.trim_end()] {
        let forged = signed_by(&EncodingKey::from_secret(text.as_bytes()), Algorithm::HS256, r#"{"alg":"HS256"}"#, CLAIMS);
        assert_eq!(Token::verify(&forged, &public, &Limits::default(), NOW_S), Err(Denial::NoKey));
    }
    for key in [RSA_PUBLIC, EC_PUBLIC, ED_PUBLIC, RSA_PRIVATE] {
        assert!(Keys::open(vec![KeySource::Secret(key.to_owned())]).unwrap_err().to_string().contains("no secret"));
    }
    // And a token of one family is not tried with another's key.
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap();
    assert_eq!(word(&signed_by(&rsa, Algorithm::RS256, r#"{"alg":"RS256"}"#, CLAIMS)), "no_key");
}

#[test]
fn keys_that_are_weak_private_or_of_another_kind_are_refused() {
    for (source, what) in [
        (KeySource::Secret("short".to_owned()), "32 bytes"),
        (KeySource::Pem(RSA_PRIVATE.to_owned()), "PUBLIC KEY"),
        (KeySource::Pem(EC_PRIVATE.to_owned()), "PUBLIC KEY"),
        (KeySource::Pem(include_str!("keys_for_tests/rsa_small_public.pem").to_owned()), "2,048"),
        (KeySource::Pem("rubbish".to_owned()), "no PEM"),
        (KeySource::Pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned()), "neither"),
    ] {
        let error = Keys::open(vec![source]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(Keys::open(Vec::new()).is_err());
    assert!(!format!("{:?}", KeySource::Secret(SECRET.to_owned())).contains(SECRET));
}

#[test]
fn a_wrong_signature_is_refused_and_a_changed_claim_too() {
    let token = signed(CLAIMS);
    assert_eq!(word(&token), "valid");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(CLAIMS.replace("ada", "eve"));
    assert_eq!(word(&format!("{header}.{other}.{signature}")), "signature");
    assert_eq!(word(&format!("{message}.")), "signature");
    assert_eq!(word(&format!("{token}=")), "signature");
    let other = EncodingKey::from_secret(b"another secret, which is of 32 bytes or more");
    assert_eq!(word(&signed_by(&other, Algorithm::HS256, r#"{"alg":"HS256"}"#, CLAIMS)), "signature");
}

#[test]
fn a_text_that_is_no_token_is_refused() {
    assert_eq!(word(""), "no_token");
    for text in ["a", ".", "..", "...", "a.b.c", "a.b.c.d", "é.é.é", "\0.\0.\0", &format!("{}.", signed(CLAIMS))] {
        assert_eq!(word(text), "malformed", "{text:?}");
    }
    for claims in ["", "[]", "null", "{", "\"x\"", r#"{"sub":1}"#, r#"{"sub":null}"#, r#"{"exp":"1800000060"}"#, r#"{"exp":null}"#] {
        assert_eq!(word(&signed(claims)), "malformed", "{claims}");
    }
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for header in
        [r#"{"alg":"HS256","crit":["x"]}"#, r#"{"alg":"HS256","alg":"none"}"#, r#"{"alg":"HS256","b64":false}"#, r#"{"alg":["HS256"]}"#]
    {
        assert_eq!(word(&signed_by(&secret, Algorithm::HS256, header, CLAIMS)), "malformed", "{header}");
    }
}

#[test]
fn a_huge_token_is_refused_before_it_is_read() {
    assert_eq!(word(&signed(&CLAIMS.replace("ada", &"a".repeat(20_000)))), "malformed");
    assert_eq!(word(&"a.".repeat(1 << 20)), "malformed");
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(4_000));
    assert_eq!(word(&signed_by(&secret, Algorithm::HS256, &header, CLAIMS)), "malformed");
    assert_eq!(word(&signed(&CLAIMS.replace("ada", &"a".repeat(257)))), "malformed");
    assert_eq!(word(&signed(&CLAIMS.replace("ada", "a\\u0000b"))), "malformed");
}

#[test]
fn a_deep_token_is_refused() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = |levels: usize| CLAIMS.replace(r#""sub""#, &format!(r#""x":{}1{},"sub""#, open.repeat(levels), close.repeat(levels)));
        assert_eq!(word(&signed(&deep(15))), "valid");
        assert_eq!(word(&signed(&deep(16))), "malformed");
        assert_eq!(word(&signed(&deep(1_500))), "malformed");
    }
    assert_eq!(word(&signed(&CLAIMS.replace("ada", r#"\"[[[[[[[[[[[[[[[[[[[[[[["#))), "valid");
}

#[test]
fn a_claim_that_is_there_twice_spoils_the_token() {
    for (claim, twice) in [
        (r#""sub":"ada""#, r#""sub":"ada","sub":"root""#),
        (r#""sub":"ada""#, r#""sub":"ada","s\u0075b":"root""#),
        (r#""exp":1800000060"#, r#""exp":1800000060,"exp":1900000000"#),
        (r#""all":["/v/*"]"#, r#""all":["/v/*"],"all":["/*"]"#),
        (r#""jti":"j1""#, r#""jti":"j1","permissions":{}"#),
    ] {
        assert_eq!(word(&signed(&CLAIMS.replace(claim, twice))), "malformed", "{twice}");
    }
}

#[test]
fn a_token_that_ends_in_the_far_future_or_never_is_refused() {
    let with = |exp: &str| signed(&CLAIMS.replace("1800000060", exp));
    for exp in ["1900000000", "9007199254740993", "18446744073709551615", "1e18", "1e300"] {
        assert_eq!(word(&with(exp)), "far_future", "{exp}");
    }
    assert_eq!(word(&with("1e999")), "malformed");
    assert_eq!(word(&signed(r#"{"sub":"ada"}"#)), "no_expiry");
    let limits = Limits { expiry_required: false, ..Limits::default() };
    assert_eq!(Token::verify(&signed(r#"{"sub":"ada"}"#), &secret(), &limits, NOW_S).unwrap().expires_s(), None);
    // No number makes the arithmetic run over.
    let limits = Limits { leeway_s: 300, expiry_required: true, ahead_s_max: u64::MAX };
    assert_eq!(Token::verify(&with("1e300"), &secret(), &limits, NOW_S).unwrap().expires_s(), Some(u64::MAX));
}

#[test]
fn clocks_may_differ_by_the_leeway_and_not_by_more() {
    let at = |now_s| Token::verify(&signed(&CLAIMS.replace("\"jti\"", "\"nbf\":1800000000,\"jti\"")), &secret(), &Limits::default(), now_s);
    assert!(at(NOW_S - 5).is_ok() && at(NOW_S + 64).is_ok());
    assert_eq!(at(NOW_S - 6).unwrap_err().word(), "not_yet");
    assert_eq!(at(NOW_S + 65).unwrap_err(), Denial::Expired { exp_s: NOW_S + 60, now_s: NOW_S + 65 });
    assert_eq!(at(NOW_S).unwrap().expires_s(), Some(NOW_S + 65));
    for exp in ["-1", "0", "1799999995", "1799999995.9", "-1e300"] {
        assert_eq!(word(&signed(&CLAIMS.replace("1800000060", exp))), "expired", "{exp}");
    }
}

#[test]
fn a_subject_is_compared_byte_by_byte_and_nothing_in_it_is_decoded() {
    let permissions = Permissions::compile(&["/a/b", "/u/{id}/in", "/w/x/*"], &[], &[]).unwrap();
    for allowed in ["/a/b", "/u/1/in", "/u/../in", "/u/%2f/in", "/w/x/y", "/w/x/y/z", "/w/x/../y"] {
        assert!(permissions.may_subscribe(allowed), "{allowed}");
        assert!(!permissions.may_publish(allowed), "{allowed}");
    }
    for denied in [
        "",
        "/",
        "a/b",
        "/a",
        "/a/",
        "/a//b",
        "//a/b",
        "/a/b/",
        "/A/b",
        "/a/B",
        "/a/../a/b",
        "/a/./b",
        "/a%2fb",
        "/a%2Fb",
        "/a/b\0",
        "/a/b\0c",
        "/a\0/b",
        "/a/b/c",
        "/u/in",
        "/u//in",
        "/u/1/2/in",
        "/u/1/in/x",
        "/w/x",
        "/w/x/",
        "/w/x//y",
        "/w/y/../x/y",
        "/w/x/y\n",
    ] {
        assert!(!permissions.may_subscribe(denied), "{denied:?}");
    }
    assert!(!permissions.may_subscribe(&format!("/a/b{}", "/c".repeat(100_000))));
}

#[test]
fn an_entry_with_dots_or_escapes_is_a_text_and_one_that_is_no_subject_is_refused() {
    let permissions = Permissions::compile(&["/a/../b", "/a/%2f"], &[], &[]).unwrap();
    assert!(permissions.may_subscribe("/a/../b") && permissions.may_subscribe("/a/%2f"));
    assert!(!permissions.may_subscribe("/b") && !permissions.may_subscribe("/a/%2F") && !permissions.may_subscribe("/a//"));
    for (pattern, error) in [
        ("", PermissionsError::NoLeadingSlash),
        ("*", PermissionsError::NoLeadingSlash),
        ("/", PermissionsError::EmptySegment),
        ("/a//b", PermissionsError::EmptySegment),
        ("/a/", PermissionsError::EmptySegment),
        ("/a/b\0", PermissionsError::ControlCharacter),
        ("/../a", PermissionsError::BadTopic),
        ("/a%2fb", PermissionsError::BadTopic),
        ("/a*", PermissionsError::BadTopic),
        ("/a/*/b", PermissionsError::StarInside),
        ("/a/{}", PermissionsError::BadName),
        ("/a/{b c}", PermissionsError::BadName),
    ] {
        assert_eq!(Permissions::compile(&[pattern], &[], &[]), Err(error), "{pattern:?}");
    }
    assert_eq!(word(&signed(&CLAIMS.replace("/v/*", "/v//1"))), "bad_permissions");
    assert_eq!(word(&signed(&CLAIMS.replace("\"all\"", "\"everything\""))), "malformed");
}

#[test]
fn patterns_that_are_long_or_many_are_refused_and_longer_ones_than_the_subject_do_not_match() {
    let long = format!("/{}", "a/".repeat(600));
    assert_eq!(Permissions::compile(&[long.as_str()], &[], &[]), Err(PermissionsError::TooLong));
    assert_eq!(Permissions::compile(&vec!["/a"; 1_001], &[], &[]), Err(PermissionsError::TooMany));
    assert!(Permissions::compile(&[&long[..1_000]; 16], &[], &[]).is_ok());
    assert_eq!(Permissions::compile(&[&long[..1_000]; 17], &[], &[]), Err(PermissionsError::TooLong));
    let permissions = Permissions::compile(&["/a/b/c/{d}/e", "/a/b/*"], &[], &[]).unwrap();
    assert!(!permissions.may_subscribe("/a/b") && permissions.may_subscribe("/a/b/c"));
}

#[test]
fn the_more_exact_entry_wins() {
    let permissions = Permissions::compile(&["/a/b", "/a/{x}/c"], &["/a/{y}/c"], &["/a/*"]).unwrap();
    assert!(permissions.may_subscribe("/a/b") && !permissions.may_publish("/a/b"));
    assert!(permissions.may_publish("/a/c") && permissions.may_publish("/a/b/d"));
    assert!(permissions.may_subscribe("/a/b/c") && permissions.may_publish("/a/b/c"), "the same pattern adds up");
}

#[test]
fn connect_without_entitlement_or_with_a_basic_token_allows_what_it_says() {
    let grant = Entitlement::None.connect("whatever", NOW_S).unwrap();
    assert!(grant.permissions().may_publish("/v/1"));
    let basic = Entitlement::Basic { token: Arc::from("open sesame") };
    let reader = basic.connect("", NOW_S).unwrap();
    assert_eq!(basic.publish(&reader, "/v/1", NOW_S), Err(Denial::Permission));
    assert!(basic.subscribe(&reader, "/v/1", "", NOW_S).is_ok());
    assert!(basic.publish(&basic.connect("open sesame", NOW_S).unwrap(), "/v/1", NOW_S).is_ok());
    for wrong in ["open", "open sesame ", "Open sesame", "open sesameopen sesame", "x"] {
        assert_eq!(basic.connect(wrong, NOW_S), Err(Denial::WrongToken));
    }
    assert!(Entitlement::Basic { token: Arc::from("") }.connect("x", NOW_S).is_err());
    assert!(!format!("{basic:?}").contains("sesame"));
}

#[test]
fn a_subscription_token_is_for_its_channel_its_user_and_its_time() {
    let rules = jwt(Arc::default());
    let grant = rules.connect(&signed(CLAIMS), NOW_S).unwrap();
    let of = |user: &str, exp: u64| signed(&format!(r#"{{"sub":"{user}","exp":{exp},"channel":"/w/1"}}"#));
    assert_eq!(rules.subscribe(&grant, "/w/1", "", NOW_S), Err(Denial::Permission));
    assert_eq!(rules.subscribe(&grant, "/w/1", &of("ada", NOW_S + 9), NOW_S).unwrap().expires_s(), Some(NOW_S + 14));
    assert_eq!(rules.subscribe(&grant, "/w/2", &of("ada", NOW_S + 9), NOW_S), Err(Denial::OtherChannel));
    assert_eq!(rules.subscribe(&grant, "/w/1", &of("eve", NOW_S + 9), NOW_S), Err(Denial::OtherUser));
    assert_eq!(rules.subscribe(&grant, "/w/1", &of("ada", NOW_S - 9), NOW_S).unwrap_err().code(), 109);
    assert_eq!(rules.subscribe(&grant, "/v/1", &signed(CLAIMS), NOW_S), Err(Denial::WrongKind), "a bad token is not passed over");
    assert_eq!(rules.connect(&of("ada", NOW_S + 9), NOW_S), Err(Denial::WrongKind));
    assert_eq!(rules.connect("", NOW_S), Err(Denial::NoToken));
}

#[test]
fn an_expired_sub_refresh_does_not_make_the_subscription_eternal() {
    let rules = jwt(Arc::default());
    let grant = rules.connect(&signed(CLAIMS), NOW_S).unwrap();
    let of = |exp: u64| signed(&format!(r#"{{"sub":"ada","exp":{exp},"channel":"/w/1"}}"#));
    let mut subscription = rules.subscribe(&grant, "/w/1", &of(NOW_S + 9), NOW_S).unwrap();
    for bad in [of(NOW_S - 9), String::new(), "x".to_owned(), signed(r#"{"sub":"ada","channel":"/w/1"}"#)] {
        assert!(rules.sub_refresh(&grant, "/w/1", &mut subscription, &bad, NOW_S).is_err());
        assert_eq!(subscription.expires_s(), Some(NOW_S + 14));
    }
    assert!(rules.holds(&grant, "/w/1", &subscription, NOW_S + 13).is_ok());
    assert_eq!(rules.holds(&grant, "/w/1", &subscription, NOW_S + 14).unwrap_err().word(), "expired");
    rules.sub_refresh(&grant, "/w/1", &mut subscription, &of(NOW_S + 30), NOW_S).unwrap();
    assert_eq!(subscription.expires_s(), Some(NOW_S + 35));
}

#[test]
fn a_refresh_is_of_the_same_user_and_narrows_what_is_live() {
    let rules = jwt(Arc::default());
    let grant = rules.connect(&signed(CLAIMS), NOW_S).unwrap();
    let subscription = rules.subscribe(&grant, "/v/1", "", NOW_S).unwrap();
    assert_eq!(rules.refresh(&grant, &signed(&CLAIMS.replace("ada", "eve")), NOW_S), Err(Denial::OtherUser));
    let narrowed = rules.refresh(&grant, &signed(&CLAIMS.replace("/v/*", "/w/*")), NOW_S).unwrap();
    assert_eq!(rules.holds(&narrowed, "/v/1", &subscription, NOW_S), Err(Denial::Permission));
    assert_eq!(rules.publish(&grant, "/v/1", NOW_S + 65).unwrap_err().word(), "expired");
}

#[test]
fn what_is_revoked_ends_at_the_next_look_and_a_bad_file_changes_nothing() {
    let (_folder, path) = written("revoked", "# nobody\n\n");
    let mut revocations = Revocations::open(path.clone()).unwrap();
    let rules = jwt(revocations.set());
    let grant = rules.connect(&signed(CLAIMS), NOW_S).unwrap();
    for line in ["jti j1", "user ada"] {
        fs::write(&path, format!("{line}\n")).unwrap();
        assert!(revocations.reload().unwrap());
        let rules = jwt(revocations.set());
        assert_eq!(rules.alive(&grant, NOW_S), Err(Denial::Revoked));
        assert_eq!(rules.connect(&signed(CLAIMS), NOW_S), Err(Denial::Revoked));
    }
    fs::write(&path, "user eve\nusr ada\n").unwrap();
    assert!(revocations.reload().unwrap_err().to_string().contains("line 2"));
    assert!(revocations.set().is_revoked(None, "ada"));
    fs::remove_file(&path).unwrap();
    assert!(revocations.reload().is_err() && revocations.set().is_revoked(None, "ada"));
}

#[test]
fn keys_are_read_again_when_their_file_changes_and_a_bad_file_keeps_the_old() {
    let jwks = |kid: &str, secret: &str| {
        format!(r#"{{"keys":[{{"kty":"oct","kid":"{kid}","alg":"HS256","k":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(secret))
    };
    let (_folder, path) = written("jwks.json", &jwks("k1", SECRET));
    let mut keys = Keys::open(vec![KeySource::JwksFile(path.clone())]).unwrap();
    let by = |kid: &str, name: &str, algorithm| {
        let header = format!(r#"{{"alg":"{name}","kid":"{kid}"}}"#);
        signed_by(&EncodingKey::from_secret(SECRET.as_bytes()), algorithm, &header, CLAIMS)
    };
    let verify = |token: &str, keys: &Keys| Token::verify(token, &keys.set(), &Limits::default(), NOW_S).map(|_| ());
    assert_eq!(verify(&by("k1", "HS256", Algorithm::HS256), &keys), Ok(()));
    assert_eq!(verify(&by("k2", "HS256", Algorithm::HS256), &keys), Err(Denial::NoKey));
    assert_eq!(verify(&by("k1", "HS512", Algorithm::HS512), &keys), Err(Denial::NoKey), "its `alg` is another");
    for bad in ["{", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","alg":"RS256","k":"AAAA"}]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
        fs::write(&path, bad).unwrap();
        let error = keys.reload().unwrap_err().to_string();
        assert!(error.contains("jwks.json"), "{error}");
        assert_eq!(verify(&by("k1", "HS256", Algorithm::HS256), &keys), Ok(()));
    }
    fs::write(&path, jwks("k2", SECRET)).unwrap();
    assert!(keys.reload().unwrap());
    assert_eq!(verify(&by("k2", "HS256", Algorithm::HS256), &keys), Ok(()));
    assert_eq!(verify(&by("k1", "HS256", Algorithm::HS256), &keys), Err(Denial::NoKey));
}

#[test]
fn every_denial_has_a_word_of_its_own_and_a_code() {
    let words: std::collections::BTreeSet<_> = Denial::WORDS.into_iter().collect();
    assert_eq!(words.len(), Denial::WORDS.len());
    for (denial, word, code) in [
        (Denial::NoToken, "no_token", 101),
        (Denial::Expired { exp_s: 1, now_s: 2 }, "expired", 109),
        (Denial::Revoked, "revoked", 103),
        (Denial::Permission, "permission", 103),
        (Denial::Algorithm, "algorithm", 101),
    ] {
        assert_eq!((denial.word(), denial.code()), (word, code));
    }
}

/// How exact a pattern is, segment by segment, if it matches: 2 for a text, 1 for a name, 0 for the star.
fn naive(pattern: &str, subject: &str) -> Option<Vec<u8>> {
    let subject: Vec<&str> = subject.split('/').skip(1).collect();
    let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
    let mut rank = Vec::new();
    for (place, segment) in pattern.iter().enumerate() {
        let given = subject.get(place)?;
        let exactness = match *segment {
            "*" => {
                rank.push(0);
                return Some(rank);
            }
            name if name.starts_with('{') => 1,
            text if text == *given => 2,
            _ => return None,
        };
        rank.push(exactness);
    }
    (pattern.len() == subject.len()).then_some(rank)
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("{x}"), Just("{y}")];
    let pattern = (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, star)| {
        if star || segments.is_empty() {
            segments.push("*");
        }
        format!("/{}", segments.join("/"))
    });
    prop::collection::vec(pattern, 0..6)
}

proptest! {
    #[test]
    fn permissions_say_what_the_most_exact_pattern_says(
        lists in (patterns(), patterns(), patterns()),
        segments in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..5),
    ) {
        let (subscribe, publish, all) = lists;
        let subject = format!("/{}", segments.join("/"));
        let permissions = Permissions::compile(&subscribe, &publish, &all).unwrap();
        let ranks = |lists: &[&Vec<String>]| lists.iter().flat_map(|list| list.iter()).filter_map(|pattern| naive(pattern, &subject)).max();
        let best = ranks(&[&subscribe, &publish, &all]);
        prop_assert_eq!(permissions.may_subscribe(&subject), best.is_some() && ranks(&[&subscribe, &all]) == best);
        prop_assert_eq!(permissions.may_publish(&subject), best.is_some() && ranks(&[&publish, &all]) == best);
    }

    #[test]
    fn no_text_makes_the_reader_of_tokens_panic(text in "\\PC{0,80}", claims in "[\\[\\]{}\":,a-z0-9\\\\]{0,80}") {
        let _ = verify(&text);
        let _ = verify(&signed(&claims));
    }
}
