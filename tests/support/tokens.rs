//! Signed tokens, and the key sets that verify them.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Signs by one key of P-256 and one of RSA.
pub struct Issuer {
    pub name: String,
    p256: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    /// `name` begins the names of its keys.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
        }
    }

    pub fn key_set(&self) -> Value {
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        // RSAPublicKey (RFC 8017 appendix A.1.1) ends with the modulus, a tag and a length, and three bytes of exponent.
        let rsa = self.rsa.public_key().as_ref();
        let (modulus, exponent) = (&rsa[rsa.len() - 261..rsa.len() - 5], &rsa[rsa.len() - 3..]);
        json!({"keys": [
            {"kid": self.kid("p256"), "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)},
            {"kid": self.kid("rsa"), "kty": "RSA", "n": encode(modulus), "e": encode(exponent)},
        ]})
    }

    pub fn kid(&self, key: &str) -> String {
        format!("{}-{key}", self.name)
    }

    /// Of ES256, by its name.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.kid("p256")}), claims)
    }

    /// As `alg` says; HS256 is by the public RSA key, and what is unknown is not signed.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let bytes = message.as_bytes();
        let random = SystemRandom::new();
        let signature = match header["alg"].as_str() {
            Some("ES256") => self.p256.sign(&random, bytes).expect("signs").as_ref().to_vec(),
            Some("RS256") => {
                let mut signed = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signed)
                    .expect("signs");
                signed
            }
            Some("HS256") => {
                let public = self.rsa.public_key();
                let key = hmac::Key::new(hmac::HMAC_SHA256, public.as_ref());
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{message}.{}", encode(signature))
    }
}

/// A ConfigMap whose key set a rule may refer to.
pub fn config_map(name: &str, key_set: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "labels": {"postern.dev/use": "jwks"}},
        "data": {"jwks.json": key_set.to_string()},
    })
}

/// Seconds from now, as claims have it.
pub fn at(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    now as i64 + seconds
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// What a token claims, verified or not.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
