//! One JSON Web Token (RFC 7519) in JWS compact form: taken apart, and its claims held against a rule. By whose key it is
//! signed is `keys`'.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::keys::Algorithm;

/// Not yet verified.
pub struct Token<'a> {
    /// The header's, which is one of the rule's.
    pub algorithm: Algorithm,
    /// Names a key of the set; None: any key may have made the signature.
    pub key_id: Option<Box<str>>,
    /// What is signed.
    pub message: &'a [u8],
    /// Decoded; its length is not checked yet.
    pub signature: Vec<u8>,
    payload: &'a str,
}

/// Each name once (RFC 7519 section 4): with two, the app might read the other one.
#[derive(PartialEq)]
pub struct Claims(pub Map<String, Value>);

/// What is wrong with a token. It says nothing of what the token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("The token is not a well-formed JWT.")]
    Malformed,
    #[error("The token is signed with an algorithm that is not accepted.")]
    Algorithm,
    #[error("The token is not signed by any of the issuer's keys.")]
    Signature,
    #[error("The token has expired or has no expiry time.")]
    Expired,
    #[error("The token is not valid yet.")]
    NotYetValid,
    #[error("The token is from another issuer.")]
    Issuer,
    #[error("The token is for another audience.")]
    Audience,
    #[error("The token lacks a required claim.")]
    Claim,
}

#[derive(Deserialize)]
struct Header {
    alg: Box<str>,
    kid: Option<Box<str>>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11): none are.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl<'a> Token<'a> {
    /// `algorithms` are the rule's: what the token says is looked for among them.
    pub fn parse(text: &'a str, algorithms: &[Algorithm]) -> Result<Self, Flaw> {
        let (message, signature) = text.rsplit_once('.').ok_or(Flaw::Malformed)?;
        // A second dot in the payload (an encrypted token has four in all) is not in its alphabet.
        let (header, payload) = message.split_once('.').ok_or(Flaw::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Flaw::Malformed)?;
        if header.crit {
            return Err(Flaw::Malformed);
        }
        let algorithm = algorithms.iter().find(|own| own.is_named(&header.alg));
        Ok(Self {
            algorithm: *algorithm.ok_or(Flaw::Algorithm)?,
            key_id: header.kid,
            message: message.as_bytes(),
            signature: decode(signature)?,
            payload,
        })
    }

    /// To be asked of a token that is verified.
    pub fn claims(&self) -> Result<Claims, Flaw> {
        serde_json::from_slice(&decode(self.payload)?).map_err(|_| Flaw::Malformed)
    }
}

impl Claims {
    /// None: the token lacks the claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// None: the token lacks the claim, or it is no text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// A NumericDate (RFC 7519 section 2), which may have a fraction.
    pub fn time(&self, name: &str) -> Result<Option<f64>, Flaw> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Flaw::Malformed),
        }
    }

    /// Whether a claim is this text, or a list in which it is.
    pub fn holds(&self, name: &str, text: &str) -> bool {
        match self.get(name) {
            Some(Value::String(found)) => found == text,
            Some(Value::Array(found)) => found.iter().any(|one| one == text),
            _ => false,
        }
    }

    /// A list of texts, or one text with spaces between (RFC 8693 section 4.2).
    pub fn list(&self, name: &str) -> Vec<&str> {
        match self.get(name) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Flaw> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)
}

/// Whatever its value.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Unique)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a claim that stands there twice"));
            }
        }
        Ok(Claims(claims))
    }
}

// By hand: what a token claims is no log's to say.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({})", self.0.len())
    }
}
