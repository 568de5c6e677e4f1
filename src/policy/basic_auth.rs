//! `basicAuth`: users and passwords of an htpasswd file (RFC 7617). Passwords are hashed off the data plane's threads, and what
//! came of it is remembered for a while: see `policy::passwords`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier, Version};
use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bcrypt::HashParts;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::credentials::{self, Authenticated, Credential};
use super::principal::{Kind, Parts, Principal};
use super::refusal::Refusal;
use super::request::Request;
use super::rule_state::RuleState;
use crate::reason::Reason;
use crate::text::printed;
use crate::tls::Fingerprint;

/// A rule that wants a user of the file with the right password.
#[derive(Debug, PartialEq, Serialize)]
pub struct BasicAuth {
    users: Arc<Users>,
    /// WWW-Authenticate.
    #[serde(serialize_with = "printed::value")]
    challenge: HeaderValue,
    /// Whether the app is to see user and password.
    forward: bool,
}

/// One htpasswd file.
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    /// What stands in for the hash of a user who does not exist: see `decoy`.
    decoys: Box<[Stored]>,
    fingerprint: Fingerprint,
}

struct User {
    stored: Stored,
    principal: Arc<Principal>,
}

/// A hash as it stands in the file; it was read once, so that it can be verified against.
#[derive(Clone)]
struct Stored {
    scheme: Scheme,
    text: Arc<str>,
}

#[derive(Clone, Copy)]
enum Scheme {
    Argon2,
    Bcrypt,
}

/// A line that is of no use, which costs its user alone. Nothing of it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct UnusableLine {
    /// From 1.
    pub number: usize,
    /// Why its user is refused.
    pub problem: Problem,
}

/// Why a line is of no use; an htpasswd file may hold other lines that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not of the form user:hash")]
    Malformed,
    #[error("the user is already defined on an earlier line")]
    Repeated,
    #[error("the hash is neither bcrypt ($2a$, $2b$, $2y$) nor argon2 ($argon2id$, $argon2i$, $argon2d$)")]
    Scheme,
    #[error("the bcrypt cost is above {MAX_COST}")]
    BcryptCost,
    #[error(
        "the argon2 hash uses more than {} MiB of memory, {MAX_PASSES} passes or {MAX_LANES} lanes",
        MAX_MEMORY / 1024
    )]
    Argon2Cost,
}

struct Shown {
    user: String,
    password: Vec<u8>,
}

const MAX_COST: u32 = 14;
/// In KiB.
const MAX_MEMORY: u32 = 64 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 16;

/// Clients are found to leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl BasicAuth {
    /// `realm`: what browsers show when they ask for the password.
    pub fn new(users: Arc<Users>, realm: &str, forward: bool) -> Self {
        // Within its quotes nothing needs an escape then.
        let is_plain = |char: &char| matches!(char, ' '..='~') && !matches!(char, '"' | '\\');
        let realm: String = realm.chars().filter(is_plain).collect();
        let challenge = HeaderValue::try_from(format!(r#"Basic realm="{realm}", charset="UTF-8""#));
        Self {
            users,
            challenge: challenge.unwrap_or(HeaderValue::from_static("Basic")),
            forward,
        }
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users.by_name.len()
    }

    /// To be bounded by the caller: passwords are hashed one after the other.
    pub async fn check(
        &self,
        request: &Request<'_>,
        namespace: &Arc<str>,
        state: &RuleState,
    ) -> Result<Authenticated, Refusal> {
        let passwords = &state.passwords;
        let shown =
            credentials::authorization(request, "basic").map_err(|_| self.refusal(Reason::InvalidCredentials))?;
        let shown = shown.ok_or_else(|| self.refusal(Reason::MissingCredentials))?;
        let Shown { user, password } = Shown::read(shown).ok_or_else(|| self.refusal(Reason::InvalidCredentials))?;
        let known = self.users.by_name.get(user.as_str());
        let stored = known.map(|user| &user.stored).or_else(|| self.users.decoy(&user));
        let stored = stored.ok_or_else(|| self.refusal(Reason::InvalidCredentials))?.clone();
        let tag = passwords.tag(&[user.as_bytes(), stored.text.as_bytes(), &password]);
        let exists = known.is_some();
        let holds = match passwords.recall(tag) {
            Some(holds) => Some(holds),
            None => {
                state.guesses.admit(request.client)?;
                let hash = move || stored.is_of(&password) && exists;
                let holds = passwords.verify(namespace, tag, hash).await;
                if holds == Some(false) {
                    state.guesses.note_wrong(request.client);
                }
                holds
            }
        };
        match (holds, known) {
            (Some(true), Some(user)) => Ok(Authenticated {
                principal: user.principal.clone(),
                credential: Credential::authorization(self.forward),
            }),
            (Some(_), _) => Err(self.refusal(Reason::InvalidCredentials)),
            (None, _) => Err(Reason::InternalError.into()),
        }
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        let mut refusal = Refusal::from(reason);
        refusal.headers.insert(WWW_AUTHENTICATE, self.challenge.clone());
        refusal
    }
}

impl Users {
    /// Blank lines and comments (`#`) aside, each line is `name:hash`, perhaps with more behind another colon.
    pub fn read(htpasswd: &[u8]) -> (Self, Vec<UnusableLine>) {
        let (mut by_name, mut unusable) = (HashMap::new(), Vec::new());
        let lines = htpasswd.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for (index, line) in lines
            .enumerate()
            .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
        {
            let read = User::read(line).and_then(|(name, user)| match by_name.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(user);
                    Ok(())
                }
                Entry::Occupied(_) => Err(Problem::Repeated),
            });
            let number = index + 1;
            unusable.extend(read.err().map(|problem| UnusableLine { number, problem }));
        }
        let mut decoys: Vec<_> = by_name.values().map(|user: &User| user.stored.clone()).collect();
        decoys.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        let users = Self {
            by_name,
            decoys: decoys.into(),
            fingerprint: digest(&SHA256, htpasswd).into(),
        };
        (users, unusable)
    }

    /// Whether no user can pass.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Hashed for a user who does not exist: that of some user, for the same name always the same. How long it takes tells
    /// nothing then, though it takes longer for some users than for others.
    fn decoy(&self, name: &str) -> Option<&Stored> {
        let mut context = Context::new(&SHA256);
        // Known to nobody who could tell by it which one it is.
        context.update(&self.fingerprint.0);
        context.update(name.as_bytes());
        let start = *context.finish().as_ref().first_chunk()?;
        let at = u64::from_be_bytes(start).checked_rem(self.decoys.len() as u64)?;
        self.decoys.get(usize::try_from(at).ok()?)
    }
}

impl User {
    fn read(line: &[u8]) -> Result<(Box<str>, Self), Problem> {
        let line = str::from_utf8(line).map_err(|_| Problem::Malformed)?;
        let mut fields = line.split(':');
        let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
            return Err(Problem::Malformed);
        };
        let stored = Stored::read(hash.trim())?;
        let principal = Principal::new(Parts {
            kind: Kind::Basic,
            subject: name,
            identity: None,
            source: json!({"user": name}),
        });
        let principal = Arc::new(principal.map_err(|_| Problem::Malformed)?);
        Ok((name.into(), Self { stored, principal }))
    }
}

impl Stored {
    fn read(text: &str) -> Result<Self, Problem> {
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        let scheme = if is(&["$2a$", "$2b$", "$2y$"]) {
            let cost = HashParts::from_str(text).map_err(|_| Problem::Malformed)?.get_cost();
            match cost {
                4..=MAX_COST => Scheme::Bcrypt,
                0..4 => return Err(Problem::Malformed),
                _ => return Err(Problem::BcryptCost),
            }
        } else if is(&["$argon2id$", "$argon2i$", "$argon2d$"]) {
            let hash = PasswordHash::new(text).map_err(|_| Problem::Malformed)?;
            let whole = hash.salt.is_some() && hash.hash.is_some();
            // Without its version it is of the oldest, which the library does not take it for.
            let version = hash.version.and_then(|version| Version::try_from(version).ok());
            let params = Params::try_from(&hash).ok().filter(|_| whole && version.is_some());
            let params = params.ok_or(Problem::Malformed)?;
            if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
                return Err(Problem::Argon2Cost);
            }
            Scheme::Argon2
        } else {
            return Err(Problem::Scheme);
        };
        let text = text.into();
        Ok(Self { scheme, text })
    }

    /// Takes its time. bcrypt looks at the first 72 bytes alone, as those who made the hashes did.
    fn is_of(&self, password: &[u8]) -> bool {
        match self.scheme {
            Scheme::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Argon2 => Argon2::default().verify_password(password, &*self.text).is_ok(),
        }
    }
}

impl Shown {
    /// RFC 7617 section 2. Control characters stand in neither part: to bcrypt a NUL would be the password's end.
    fn read(token: &str) -> Option<Self> {
        if token.len() > credentials::MAX_LENGTH {
            return None;
        }
        let mut pair = BASE64
            .decode(token)
            .ok()
            .filter(|pair| !pair.iter().any(u8::is_ascii_control))?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let password = pair.split_off(colon + 1);
        pair.truncate(colon);
        let user = String::from_utf8(pair).ok()?;
        Some(Self { user, password })
    }
}

impl fmt::Display for UnusableLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.problem)
    }
}

impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

// By hand: no user and no hash is printed.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({}, {})", self.by_name.len(), self.fingerprint)
    }
}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([
            ("count", json!(self.by_name.len())),
            ("fingerprint", json!(self.fingerprint)),
        ])
    }
}

#[cfg(test)]
mod tests;
