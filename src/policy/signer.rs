//! X-Postern-Principal-Token: the principal as a signed JWT, so that an app can tell that it came by Postern, and for whom it
//! was meant. Apps verify it by the key set that the admin port serves, and by its audience: `namespace/deployment-id`, since
//! an id is a tenant's to choose, who would have tokens signed for another's app by taking the same.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::principal::Principal;

/// One private key, and the tokens that were signed with it of late.
pub struct Signer {
    key: Key,
    /// As each token begins.
    header: Box<str>,
    /// Its public half (RFC 7517).
    key_set: Bytes,
    signed: Mutex<HashMap<(usize, Box<str>), Signed>>,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

struct Signed {
    /// Whose address stands in the map's key: it lives as long as that.
    principal: Arc<Principal>,
    token: HeaderValue,
    at: i64,
}

/// Why a key cannot sign. It quotes nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error("cannot read the principal's signing key {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("the principal's signing key is not a private key in PEM")]
    NoKey,
    #[error("the principal's signing key is neither Ed25519 nor P-256")]
    OtherKind,
}

/// `iss` of every token.
pub const ISSUER: &str = "postern";
/// Seconds that a token holds, and that one is given again for.
const LIFETIME: i64 = 60;
const REUSED: i64 = 30;
const MAX_SIGNED: usize = 4096;

impl Signer {
    /// Fails if the file cannot be read or holds no key that can sign.
    pub fn open(path: &Path) -> Result<Self, Invalid> {
        let text = std::fs::read(path).map_err(|cause| Invalid::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        Self::read(&text)
    }

    /// Fails if the text is no private key in PEM, or is one of another kind than Ed25519 and P-256.
    pub fn read(pem: &[u8]) -> Result<Self, Invalid> {
        let key = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| Invalid::NoKey)? {
            PrivateKeyDer::Pkcs8(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                .map(Key::Ed25519)
                .or_else(|_| p256(EcdsaKeyPair::from_pkcs8, der.secret_pkcs8_der())),
            PrivateKeyDer::Sec1(der) => p256(EcdsaKeyPair::from_private_key_der, der.secret_sec1_der()),
            _ => Err(Invalid::OtherKind),
        }?;
        let mut jwk = key.public();
        let id = thumbprint(&jwk);
        let header = json!({"alg": key.algorithm(), "kid": id, "typ": "JWT"});
        for (name, value) in [("alg", key.algorithm()), ("kid", &*id), ("use", "sig")] {
            jwk[name] = value.into();
        }
        Ok(Self {
            key,
            header: encode(header.to_string()).into(),
            key_set: json!({"keys": [jwk]}).to_string().into(),
            signed: Mutex::default(),
        })
    }

    /// The public half as a JSON Web Key Set.
    pub fn key_set(&self) -> &Bytes {
        &self.key_set
    }

    /// None: the key failed, and the app had better be told nothing.
    pub fn sign(&self, principal: &Arc<Principal>, audience: &str, now: i64) -> Option<HeaderValue> {
        let key = (Arc::as_ptr(principal) as usize, audience.into());
        let same = |signed: &&Signed| Arc::ptr_eq(&signed.principal, principal) && signed.is_fresh(now);
        if let Some(signed) = self.lock().get(&key).filter(same) {
            return Some(signed.token.clone());
        }
        let token = self.token(principal, audience, now)?;
        let mut signed = self.lock();
        if signed.len() >= MAX_SIGNED {
            signed.retain(|_, signed| signed.is_fresh(now));
            if signed.len() >= MAX_SIGNED {
                signed.clear();
            }
        }
        let entry = Signed {
            principal: principal.clone(),
            token: token.clone(),
            at: now,
        };
        signed.insert(key, entry);
        Some(token)
    }

    fn token(&self, principal: &Principal, audience: &str, now: i64) -> Option<HeaderValue> {
        // The header is the principal in JSON, bounded and in ASCII.
        let whole = principal.header().to_str().ok()?;
        let subject = Value::from(principal.subject());
        let audience = Value::from(audience);
        let end = now + LIFETIME;
        let claims = format!(
            r#"{{"iss":"{ISSUER}","sub":{subject},"aud":{audience},"iat":{now},"exp":{end},"principal":{whole}}}"#
        );
        let mut token = format!("{}.{}", self.header, encode(claims));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        HeaderValue::try_from(token).ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, Box<str>), Signed>> {
        self.signed.lock()
    }
}

impl Signed {
    fn is_fresh(&self, now: i64) -> bool {
        (self.at..self.at + REUSED).contains(&now)
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
        }
    }

    /// The members that its thumbprint is of (RFC 7638 section 3.2).
    fn public(&self) -> Value {
        match self {
            Self::Ed25519(key) => json!({"crv": "Ed25519", "kty": "OKP", "x": encode(key.public_key())}),
            Self::P256(key) => {
                // Uncompressed: 4, then both coordinates.
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y)})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
            Self::P256(key) => Some(key.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
        }
    }
}

type Read<E> = fn(&'static aws_lc_rs::signature::EcdsaSigningAlgorithm, &[u8]) -> Result<EcdsaKeyPair, E>;

fn p256<E>(read: Read<E>, der: &[u8]) -> Result<Key, Invalid> {
    let read = read(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
    read.map(Key::P256).map_err(|_| Invalid::OtherKind)
}

/// Its members stand in order, and nothing between them: as maps are printed here.
fn thumbprint(jwk: &Value) -> String {
    encode(digest(&SHA256, jwk.to_string().as_bytes()))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

// By hand, so that no key is ever printed.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.key.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::jwt::{Algorithm, KeySet, Verdict};
    use crate::policy::principal::{Kind, Parts};

    const NOW: i64 = 1_800_000_000;

    fn principal(subject: &str) -> Arc<Principal> {
        let parts = Parts {
            kind: Kind::ApiKey,
            subject,
            identity: None,
            source: json!({"name": "k1"}),
        };
        Arc::new(Principal::new(parts).unwrap())
    }

    fn signers() -> [(Signer, Algorithm, String); 2] {
        let pem = |key: &'static rcgen::SignatureAlgorithm| rcgen::KeyPair::generate_for(key).unwrap().serialize_pem();
        let kinds = [
            (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
        ];
        kinds.map(|(kind, algorithm)| {
            let pem = pem(kind);
            (Signer::read(pem.as_bytes()).unwrap(), algorithm, pem)
        })
    }

    fn parts(token: &HeaderValue) -> (String, Value, Value, Vec<u8>) {
        let text = token.to_str().unwrap();
        let (message, signature) = text.rsplit_once('.').unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part| serde_json::from_slice(&decode(part)).unwrap();
        (message.to_owned(), json(header), json(claims), decode(signature))
    }

    #[test]
    fn a_token_says_whom_and_is_verified_by_the_set_that_is_served() {
        for (signer, algorithm, _) in signers() {
            let ann = principal("J\u{fc}rg \"x\"");
            let token = signer.sign(&ann, "acme/chat", NOW).unwrap();
            let (message, header, claims, signature) = parts(&token);
            assert_eq!(
                claims,
                json!({"iss": "postern", "sub": "J\u{fc}rg \"x\"", "aud": "acme/chat", "iat": NOW, "exp": NOW + 60,
                    "principal": serde_json::from_str::<Value>(ann.header().to_str().unwrap()).unwrap()})
            );
            let keys = KeySet::read(signer.key_set()).unwrap();
            let id = header["kid"].as_str();
            assert_eq!(
                keys.verify(algorithm, id, message.as_bytes(), &signature),
                Verdict::Verified
            );
            assert_eq!(
                keys.verify(algorithm, Some("other"), message.as_bytes(), &signature),
                Verdict::UnknownKey
            );
        }
    }

    #[test]
    fn a_token_is_given_again_for_half_its_life_to_the_same_app_and_principal_alone() {
        let [(signer, ..), _] = signers();
        let (ann, bob) = (principal("ann"), principal("bob"));
        let (chat, files) = ("acme/chat", "acme/files");
        let first = signer.sign(&ann, chat, NOW).unwrap();
        assert_eq!(signer.sign(&ann, chat, NOW + 29).unwrap(), first);
        for other in [
            signer.sign(&ann, chat, NOW + 30),
            signer.sign(&ann, chat, NOW - 1),
            signer.sign(&ann, files, NOW),
            signer.sign(&bob, chat, NOW),
        ] {
            assert_ne!(other.unwrap(), first);
        }
    }

    #[test]
    fn no_more_tokens_are_kept_than_there_is_room_for() {
        let [(signer, ..), _] = signers();
        for number in 0..MAX_SIGNED + 10 {
            signer.sign(&principal(&number.to_string()), "acme/chat", NOW).unwrap();
        }
        assert!((1..=MAX_SIGNED).contains(&signer.lock().len()));
    }

    /// RFC 8037 appendix A.3.
    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert_eq!(thumbprint(&jwk), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn keys_of_openssl_are_read() {
        // openssl genpkey -algorithm ed25519; openssl ecparam -genkey -name prime256v1 -noout
        let ed25519 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let signer = Signer::read(ed25519.as_bytes()).unwrap();
        let set: Value = serde_json::from_slice(signer.key_set()).unwrap();
        assert_eq!(set["keys"][0]["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn what_is_no_such_key_is_refused_and_nothing_prints_one() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)
            .unwrap()
            .serialize_pem();
        assert!(matches!(Signer::read(p384.as_bytes()), Err(Invalid::OtherKind)));
        for text in [
            "",
            "hush",
            "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
        ] {
            let error = Signer::read(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hush"));
        }
        for (signer, algorithm, _) in signers() {
            assert_eq!(format!("{signer:?}"), format!("Signer({})", algorithm.name()));
            assert!(!String::from_utf8_lossy(signer.key_set()).contains("\"d\""));
        }
    }
}
