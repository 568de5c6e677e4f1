//! Tokens: none is taken but what the issuer's key has signed, as it was signed. An input is a JOSE header, its claims and a
//! number that says which byte of the signed token is changed, each on a line; or a whole token, alone; or `set`, a JSON Web
//! Key Set, and a token on the next line.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use libfuzzer_sys::fuzz_target;
use postern::policy::credentials::{Place, Source};
use postern::policy::jwt::{Algorithm, Jwt, KeySet, Keys};
use postern::policy::request::Request;
use postern_fuzz::{cut, ready};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
static HOST: HeaderValue = HeaderValue::from_static("app.example");

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn set(pairs: &[(&str, &Ed25519KeyPair)]) -> Arc<KeySet> {
    let keys = pairs.iter().map(|(id, pair)| {
        let x = encode(pair.public_key().as_ref());
        json!({"kid": id, "kty": "OKP", "crv": "Ed25519", "x": x})
    });
    let text = json!({"keys": keys.collect::<Vec<_>>()}).to_string();
    Arc::new(KeySet::read(text.as_bytes()).unwrap())
}

static ISSUER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| pair(1));
static OWN: LazyLock<Arc<KeySet>> = LazyLock::new(|| set(&[("other", &pair(2)), ("own", &ISSUER)]));
static FOREIGN: LazyLock<Arc<KeySet>> = LazyLock::new(|| set(&[("own", &pair(3))]));

/// Whom a rule with these keys takes a token's holder for.
fn check(keys: Arc<KeySet>, token: &str) -> Option<String> {
    let rule = Jwt {
        issuer: "https://issuer.example".into(),
        audiences: Box::default(),
        keys: Keys::Set(keys),
        algorithms: [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256].into(),
        clock_skew: 0,
        subject_claim: "sub".into(),
        required_claims: Box::default(),
        permissions: None,
        permissions_claim: "scope".into(),
        from: Arc::new([Source {
            place: Place::Bearer,
            forward: false,
        }]),
        optional: false,
        verified: Default::default(),
    };
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    let uri = Uri::from_static("/");
    let request = Request {
        method: &Method::GET,
        headers: &headers,
        authority: &HOST,
        host: "app.example",
        uri: &uri,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        trusted: false,
        https: true,
        web_socket: false,
        certificate: None,
        readings: Default::default(),
    };
    let first = ready(rule.check(&request, NOW)).ok()??;
    // The second time it is remembered, and later it has expired.
    let second = ready(rule.check(&request, NOW)).unwrap().unwrap();
    assert_eq!(first.principal.subject(), second.principal.subject());
    Some(first.principal.subject().to_owned())
}

/// What a naive reader makes of claims that were taken.
fn confirm(claims: &[u8], subject: &str) {
    let claims: Value = serde_json::from_slice(claims).unwrap();
    assert_eq!(claims["iss"], "https://issuer.example");
    assert!(claims["exp"].as_f64().unwrap() > NOW as f64);
    for begin in ["nbf", "iat"] {
        assert!(claims[begin].as_f64().is_none_or(|begin| begin <= NOW as f64));
    }
    match &claims["sub"] {
        Value::String(text) => assert_eq!(text, subject),
        Value::Number(number) => assert_eq!(number.to_string(), subject),
        other => panic!("a subject that is {other}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let (first, rest) = cut(input);
    if let Some(keys) = first.strip_prefix(b"set ") {
        if let Ok(keys) = KeySet::read(keys) {
            assert_eq!(KeySet::read(&first[4..]).as_ref(), Ok(&keys));
            if let Ok(token) = std::str::from_utf8(rest) {
                check(Arc::new(keys), token);
            }
        }
        return;
    }
    let (claims, rest) = cut(rest);
    if claims.is_empty() {
        let Ok(token) = std::str::from_utf8(first) else { return };
        assert_eq!(check(OWN.clone(), token), None, "nobody has signed it");
        return;
    }
    let message = format!("{}.{}", encode(first), encode(claims));
    let signature = ISSUER.sign(message.as_bytes());
    let token = format!("{message}.{}", encode(signature.as_ref()));
    let Some(subject) = check(OWN.clone(), &token) else {
        return;
    };
    confirm(claims, &subject);
    assert_eq!(check(FOREIGN.clone(), &token), None, "with another issuer's key");
    // One byte is another one.
    let digits = rest.iter().take(4).map(|byte| usize::from(*byte));
    let at = digits.fold(0, |at, digit| at * 10 + digit) % token.len();
    for other in [b'A', b'B', b'.', b'=', b'-'] {
        let mut changed = token.clone().into_bytes();
        if std::mem::replace(&mut changed[at], other) != other {
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(check(OWN.clone(), &changed), None, "changed at {at}");
        }
    }
    assert_eq!(check(OWN.clone(), &token[..token.len() - 1]), None);
    assert_eq!(check(OWN.clone(), &format!("{token}A")), None);
});
