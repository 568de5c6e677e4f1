//! Signed tokens: whose they are is told by their claims, whether they are genuine by the issuer's keys. Those come with the
//! rule, or from a URL by way of `policy::jwt::fetched`.

pub mod fetched;
mod keys;
mod token;
mod verified;

pub use keys::{Algorithm, Invalid, KeySet, Verdict};
pub use token::{Claims, Flaw};

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::credentials::{self, Authenticated, Source, bearer_refusal};
use super::guesses::Guesses;
use super::permissions::Permissions;
use super::principal::{self, Principal};
use super::refusal::Refusal;
use super::request::Request;
use crate::reason::Reason;
use crate::runtime::{Lazy, Slot, work};
use crate::text::printed;
use token::Token;
use verified::{Digest, Verified};

/// A rule that wants a token of one issuer, unless it is optional.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// The only `iss` that is accepted.
    pub issuer: Arc<str>,
    /// One of them has to be the token's. Empty: whomever it is for.
    pub audiences: Box<[Box<str>]>,
    /// What verifies tokens.
    pub keys: Keys,
    /// Those that a token may name; others are refused before any key is tried.
    pub algorithms: Box<[Algorithm]>,
    /// Seconds.
    pub clock_skew: u32,
    /// The claim that holds the principal's subject.
    pub subject_claim: Box<str>,
    /// All must be there.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub required_claims: Box<[RequiredClaim]>,
    /// What the token's permissions must meet; None: any token will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// The claim that holds the permissions.
    pub permissions_claim: Box<str>,
    /// Where a token may stand, the first place that holds one first.
    pub from: Arc<[Source]>,
    /// Whether a request without a token goes on as anonymous.
    pub optional: bool,
    /// Tokens that need no second verification.
    #[serde(skip)]
    pub verified: Lazy<Verified>,
}

/// Where the keys are.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Keys {
    /// At the issuer; fetched in the background.
    Url {
        #[serde(serialize_with = "printed::text")]
        url: Uri,
        #[serde(skip)]
        fetched: Slot<fetched::Jwks>,
    },
    /// In a Secret or ConfigMap.
    Set(Arc<KeySet>),
}

/// A claim that a token must have.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct RequiredClaim {
    /// Its name at the top of the payload.
    pub claim: Box<str>,
    /// This text, or a list that holds it. None: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<str>>,
}

/// How long a request waits for keys.
const KEYS_TIMEOUT: Duration = Duration::from_secs(1);

impl Jwt {
    /// `now` is in Unix seconds. None: there is no token, and the rule is optional. Refuses what is no single, valid token
    /// of this rule, and every token while no keys are known.
    pub async fn check(
        &self,
        request: &Request<'_>,
        now: i64,
        namespace: &Arc<str>,
        guesses: &Guesses,
    ) -> Result<Option<Authenticated>, Refusal> {
        let found = credentials::find(&self.from, request);
        let Some(found) = found.map_err(|_| invalid(Flaw::Malformed))? else {
            return match self.optional {
                true => Ok(None),
                false => Err(bearer_refusal(Reason::MissingCredentials)),
            };
        };
        let keys = self.keys.current().await.ok_or(Reason::AuthUnavailable)?;
        let digest = Digest::of(&found.value);
        let remembered = self.verified.get().find(&digest, &keys, now);
        let principal = match remembered {
            Some(principal) => principal,
            None => {
                guesses.admit(request.client)?;
                let token = Token::parse(&found.value, &self.algorithms).map_err(invalid)?;
                let is_tried = keys.tries(token.algorithm, token.key_id.as_deref());
                let Some(keys) = self.keys.of(&token, keys, namespace).await else {
                    // One by a key that is not known costs nothing, and may be known in a moment.
                    if is_tried {
                        guesses.note_wrong(request.client);
                    }
                    return Err(invalid(Flaw::Signature));
                };
                self.believe(&token, &keys, digest, now)?
            }
        };
        Ok(Some(Authenticated {
            principal,
            credential: found.credential,
        }))
    }

    /// Who a token with a good signature is of, if its claims hold.
    fn believe(
        &self,
        token: &Token<'_>,
        keys: &Arc<KeySet>,
        digest: Digest,
        now: i64,
    ) -> Result<Arc<Principal>, Refusal> {
        let claims = token.claims().map_err(invalid)?;
        let end = self.admit(&claims, now).map_err(invalid)?;
        if let Some(needed) = &self.permissions
            && !needed.allow(&claims.list(&self.permissions_claim))
        {
            return Err(Reason::InsufficientPermissions.into());
        }
        let principal = Arc::new(self.principal(claims).map_err(invalid)?);
        self.verified.get().remember(digest, keys, &principal, end);
        Ok(principal)
    }

    /// Until when the claims hold.
    fn admit(&self, claims: &Claims, now: i64) -> Result<f64, Flaw> {
        let skew = f64::from(self.clock_skew);
        let time = now as f64;
        let end = claims.time("exp")?.ok_or(Flaw::Expired)? + skew;
        // Section 4.1.4: on or after it.
        if time >= end {
            return Err(Flaw::Expired);
        }
        for begin in [claims.time("nbf")?, claims.time("iat")?].into_iter().flatten() {
            if time < begin - skew {
                return Err(Flaw::NotYetValid);
            }
        }
        if claims.text("iss") != Some(&self.issuer) {
            return Err(Flaw::Issuer);
        }
        if !self.audiences.is_empty() && !self.audiences.iter().any(|own| claims.holds("aud", own)) {
            return Err(Flaw::Audience);
        }
        let holds = |required: &RequiredClaim| match &required.value {
            Some(value) => claims.holds(&required.claim, value),
            None => claims.get(&required.claim).is_some_and(|found| !found.is_null()),
        };
        if !self.required_claims.iter().all(holds) {
            return Err(Flaw::Claim);
        }
        Ok(end)
    }

    fn principal(&self, claims: Claims) -> Result<Principal, Flaw> {
        let subject = match claims.get(&self.subject_claim) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(Flaw::Claim),
        };
        let parts = principal::Parts {
            kind: principal::Kind::Jwt,
            subject: &subject,
            identity: Some(json!({"issuer": self.issuer})),
            source: Value::Object(Map::from_iter([("claims".to_owned(), Value::Object(claims.0))])),
        };
        Principal::new(parts).map_err(|_| Flaw::Claim)
    }
}

impl Keys {
    async fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Set(set) => Some(set.clone()),
            Self::Url { fetched, .. } => fetched.get().current(KEYS_TIMEOUT).await,
        }
    }

    /// The set by which the token is verified: the one at hand or, where that does not know the token's key, a newer one.
    async fn of(&self, token: &Token<'_>, known: Arc<KeySet>, namespace: &Arc<str>) -> Option<Arc<KeySet>> {
        match (verdict(&known, token, namespace).await, self) {
            (Verdict::Verified, _) => Some(known),
            (Verdict::UnknownKey, Self::Url { fetched, .. }) => {
                let newer = fetched.get().newer(&known, KEYS_TIMEOUT).await?;
                let verdict = verdict(&newer, token, namespace).await;
                (verdict == Verdict::Verified).then_some(newer)
            }
            _ => None,
        }
    }
}

/// In the namespace's turn where the keys are large, or several have to be tried.
async fn verdict(keys: &KeySet, token: &Token<'_>, namespace: &Arc<str>) -> Verdict {
    let key_id = token.key_id.as_deref();
    let verify = || keys.verify(token.algorithm, key_id, token.message, &token.signature);
    match keys.is_slow(token.algorithm, key_id) {
        true => work::in_turn(namespace, verify).await,
        false => verify(),
    }
}

fn invalid(flaw: Flaw) -> Refusal {
    Refusal {
        detail: Some(flaw.to_string()),
        ..bearer_refusal(Reason::InvalidToken)
    }
}

#[cfg(test)]
mod tests;
