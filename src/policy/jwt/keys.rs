//! The public keys of a JSON Web Key Set (RFC 7517), each parsed once for every algorithm that it may verify by. What of a set
//! is private, or for something else, is not kept.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use strum::{IntoStaticStr, VariantArray};

use crate::tls::Fingerprint;

/// Those of RFC 7518 and RFC 8037 that verify by a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, IntoStaticStr, VariantArray)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// At least one key.
pub struct KeySet {
    keys: Box<[Key]>,
    /// Keys that cannot be used though they are meant to be, and why.
    unusable: Box<[String]>,
    fingerprint: Fingerprint,
}

struct Key {
    id: Option<Box<str>>,
    /// What one signature takes to verify, in about microseconds.
    cost: u32,
    /// By algorithm.
    parsed: Box<[(Algorithm, ParsedPublicKey)]>,
}

/// What a set says of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of the keys has made it.
    Verified,
    /// None of the keys that it may be from has made it.
    Forged,
    /// No key of this set is the token's: a newer set may have it.
    UnknownKey,
}

/// Why a text is no key set that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("not a JSON Web Key Set")]
    NoSet,
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
    #[error("no usable key{}", first(.0))]
    NoKey(Box<[String]>),
}

/// Keys of a set.
const MAX_KEYS: usize = 256;
/// What a token may take where it is: one signature by the largest keys in common use, or four by RSA-2048.
const MAX_COST: u32 = 250;
/// Keys that a token is tried with, where it names none or several have its name.
pub(super) const MAX_TRIED: usize = 8;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<Box<str>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

struct PublicKey {
    cost: u32,
    /// As the primitives take it.
    bytes: Vec<u8>,
    /// That it may verify by.
    algorithms: &'static [Algorithm],
}

impl KeySet {
    /// A key that cannot be used costs itself.
    pub fn read(text: &[u8]) -> Result<Self, Invalid> {
        let Set { keys: listed } = serde_json::from_slice(text).map_err(|_| Invalid::NoSet)?;
        if listed.len() > MAX_KEYS {
            return Err(Invalid::TooMany);
        }
        let mut keys = Vec::new();
        let mut unusable = Vec::new();
        let mut content = Context::new(&SHA256);
        for (index, value) in listed.into_iter().enumerate() {
            let read = serde_json::from_value::<Jwk>(value).map_err(|_| "is malformed");
            match read.and_then(|jwk| Key::of(jwk, &mut content)) {
                Ok(key) => keys.extend(key),
                Err(cause) => unusable.push(format!("keys[{index}] {cause}")),
            }
        }
        if keys.is_empty() {
            return Err(Invalid::NoKey(unusable.into()));
        }
        Ok(Self {
            keys: keys.into(),
            unusable: unusable.into(),
            fingerprint: content.finish().into(),
        })
    }

    /// How many keys there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// A sentence for each of them.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// By the key that the token names; by those that may be it where it names none, or the set has no names.
    pub fn verify(&self, algorithm: Algorithm, id: Option<&str>, message: &[u8], signature: &[u8]) -> Verdict {
        let named = self.name(id);
        let mut tried = self.tried(algorithm, named);
        match (tried.any(|(_, key)| key.verify_sig(message, signature).is_ok()), named) {
            (true, _) => Verdict::Verified,
            (false, Some(id)) if self.keys.iter().any(|key| key.id.as_deref() == Some(id)) => Verdict::Forged,
            (false, _) => Verdict::UnknownKey,
        }
    }

    /// Whether there is a key by which such a token would be verified.
    pub fn tries(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.tried(algorithm, self.name(id)).next().is_some()
    }

    /// Whether to verify by this set may take longer than others should wait.
    pub fn is_slow(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.tried(algorithm, self.name(id))
            .map(|(key, _)| key.cost)
            .sum::<u32>()
            > MAX_COST
    }

    /// The name that counts: none, where the set has no names.
    fn name<'i>(&self, id: Option<&'i str>) -> Option<&'i str> {
        id.filter(|_| self.keys.iter().any(|key| key.id.is_some()))
    }

    fn tried(&self, algorithm: Algorithm, named: Option<&str>) -> impl Iterator<Item = (&Key, &ParsedPublicKey)> {
        let fitting = self
            .keys
            .iter()
            .filter(move |key| named.is_none() || key.id.as_deref() == named);
        let fitting = fitting.filter_map(move |key| Some((key, key.by(algorithm)?)));
        fitting.take(MAX_TRIED)
    }
}

impl Key {
    /// What is kept of it goes into `content`. None: it is for something else.
    fn of(jwk: Jwk, content: &mut Context) -> Result<Option<Self>, &'static str> {
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures {
            return Ok(None);
        }
        let Some(PublicKey {
            cost,
            bytes,
            algorithms,
        }) = jwk.public_key()?
        else {
            return Ok(None);
        };
        let named = |algorithm: &&Algorithm| jwk.alg.as_deref().is_none_or(|name| algorithm.is_named(name));
        let parsed = algorithms
            .iter()
            .filter(named)
            .map(|algorithm| Ok((*algorithm, ParsedPublicKey::new(algorithm.primitive(), &bytes)?)))
            .collect::<Result<Box<[_]>, KeyRejected>>();
        let parsed = parsed.map_err(|_| "is not a valid public key")?;
        if parsed.is_empty() {
            return Ok(None);
        }
        let id = jwk.kid;
        for part in [id.as_deref().unwrap_or_default().as_bytes(), &bytes] {
            content.update(&(part.len() as u64).to_be_bytes());
            content.update(part);
        }
        content.update(&[u8::from(id.is_some()), parsed[0].0 as u8, parsed.len() as u8]);
        Ok(Some(Self { id, cost, parsed }))
    }

    fn by(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let found = self.parsed.iter().find(|(own, _)| *own == algorithm);
        found.map(|(_, key)| key)
    }
}

impl Jwk {
    /// None: of another kind.
    fn public_key(&self) -> Result<Option<PublicKey>, &'static str> {
        use Algorithm as A;
        let bytes = |field: &Option<String>| {
            let text = field.as_deref().ok_or("is malformed")?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "is malformed")
        };
        let (cost, bytes, algorithms): (_, _, &[Algorithm]) = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                let (n, e) = (without_leading_zeros(&n), without_leading_zeros(&e));
                // The primitives would say it of each token.
                if !(2048..=8192).contains(&bits(n)) {
                    return Err("does not have 2048 to 8192 bits");
                }
                let components = RsaPublicKeyComponents { n, e };
                let der: Result<PublicKeyX509Der<'_>, _> = components.as_der();
                let der = der.map_err(|_| "is not a valid public key")?;
                let algorithms = &[A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512];
                ((bits(n) / 400).pow(2) as u32, der.as_ref().to_vec(), algorithms)
            }
            ("EC", Some("P-256")) => (60, point(bytes(&self.x)?, bytes(&self.y)?, 32)?, &[A::ES256]),
            ("EC", Some("P-384")) => (200, point(bytes(&self.x)?, bytes(&self.y)?, 48)?, &[A::ES384]),
            ("OKP", Some("Ed25519")) => (60, bytes(&self.x)?, &[A::EdDSA]),
            _ => return Ok(None),
        };
        Ok(Some(PublicKey {
            cost,
            bytes,
            algorithms,
        }))
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |first| first.leading_zeros() as usize);
    number.len() * 8 - unused
}

/// Uncompressed (SEC 1 section 2.3.3); each coordinate as long as its curve's (RFC 7518 section 6.2.1.2).
fn point(x: Vec<u8>, y: Vec<u8>, length: usize) -> Result<Vec<u8>, &'static str> {
    if x.len() != length || y.len() != length {
        return Err("is not a valid public key");
    }
    Ok([vec![4], x, y].concat())
}

impl Algorithm {
    /// As `alg` has it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// RFC 9864 gives EdDSA over Ed25519 a name of its own.
    pub fn is_named(self, name: &str) -> bool {
        name == self.name() || (self == Self::EdDSA && name == "Ed25519")
    }

    fn primitive(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::EdDSA => &signature::ED25519,
        }
    }
}

fn first(causes: &[String]) -> String {
    causes.first().map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.unusable == other.unusable
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys, {})", self.keys.len(), self.fingerprint)
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut set = to.serialize_struct("KeySet", 2)?;
        set.serialize_field("keys", &self.keys.len())?;
        set.serialize_field("fingerprint", &self.fingerprint)?;
        set.end()
    }
}
