//! Tokens of an issuer with a key of each kind.

mod claims;
mod set;
mod signature;

use std::sync::{LazyLock, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method, header};
use strum::VariantArray;

use super::keys::MAX_TRIED;
use super::*;
use crate::policy::credentials::Place;
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;

/// The issuer's private keys, one of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

impl Issuer {
    /// Their public halves.
    fn keys(&self) -> Value {
        let public: aws_lc_rs::rsa::PublicKey = self.rsa.public_key().clone();
        let (n, e) = rsa_components(public.as_ref());
        let point = |bytes: &[u8]| {
            let (x, y) = bytes[1..].split_at((bytes.len() - 1) / 2);
            (encode(x), encode(y))
        };
        let (x, y) = point(self.p256.public_key().as_ref());
        let (x384, y384) = point(self.p384.public_key().as_ref());
        json!({"keys": [
            {"kid": "rsa", "kty": "RSA", "n": n, "e": e},
            {"kid": "p256", "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256"},
            {"kid": "p384", "kty": "EC", "crv": "P-384", "x": x384, "y": y384, "key_ops": ["verify"]},
            {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref())},
        ]})
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" | "Ed25519" => self.ed25519.sign(message).as_ref().to_vec(),
            // With the public key for a secret, as who hopes that the algorithm is the token's choice.
            "HS256" => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, self.rsa.public_key().as_ref());
                aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let parsed: Value = serde_json::from_str(header).unwrap_or_default();
        let signature = self.sign(parsed["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }
}

/// Out of RSAPublicKey (RFC 8017 appendix A.1.1): two INTEGERs in a SEQUENCE, of which the second has few bytes.
fn rsa_components(der: &[u8]) -> (String, String) {
    let e = &der[der.len() - 3..];
    let n = &der[der.len() - 5 - 256..der.len() - 5];
    (encode(n), encode(e))
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: &Value) -> Arc<KeySet> {
    Arc::new(KeySet::read(keys.to_string().as_bytes()).unwrap())
}

fn rule() -> Jwt {
    Jwt {
        issuer: "https://issuer.example".into(),
        audiences: Box::new(["chat".into(), "files".into()]),
        keys: Keys::Set(set(&ISSUER.keys())),
        algorithms: Box::new([
            Algorithm::RS256,
            Algorithm::RS512,
            Algorithm::PS384,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ]),
        clock_skew: 30,
        subject_claim: "sub".into(),
        required_claims: Box::default(),
        permissions: None,
        permissions_claim: "permissions".into(),
        from: Arc::new([Source {
            place: Place::Bearer,
            forward: true,
        }]),
        optional: false,
        verified: Lazy::default(),
    }
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "chat", "sub": "ann", "exp": NOW + 600})
}

/// The claims above with others on top; null takes one away.
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

async fn check(rule: &Jwt, token: &str) -> Result<Option<Arc<Principal>>, Refusal> {
    check_at(rule, token, NOW).await
}

async fn check_at(rule: &Jwt, token: &str, now: i64) -> Result<Option<Arc<Principal>>, Refusal> {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    let request = Request {
        method: &Method::GET,
        headers: &headers,
        authority: &HeaderValue::from_static("app.example"),
        host: "app.example",
        uri: &Uri::from_static("/"),
        client: Some([192, 0, 2, 1].into()),
        trusted: false,
        https: true,
        web_socket: false,
        certificate: None,
        readings: OnceLock::new(),
    };
    let authenticated = rule.check(&request, now, &"acme".into(), &Guesses::default()).await?;
    Ok(authenticated.map(|authenticated| authenticated.principal))
}

/// Why a token is refused.
async fn flaw(rule: &Jwt, token: &str) -> Option<String> {
    match check(rule, token).await {
        Ok(_) => None,
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::InvalidToken);
            assert!(
                refusal.headers[header::WWW_AUTHENTICATE]
                    .to_str()
                    .unwrap()
                    .contains("invalid_token")
            );
            refusal.detail
        }
    }
}

async fn claims_flaw(claims: &Value) -> Option<String> {
    flaw(&rule(), &ISSUER.token(&json!({"alg": "ES256"}), claims)).await
}

fn is(flaw: Flaw) -> Option<String> {
    Some(flaw.to_string())
}
