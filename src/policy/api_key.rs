//! `apiKey`: keys are Secrets, known here by their hashes alone. How a key is presented is `credentials`'.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{self, Hasher};
use std::iter::once;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, digest};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::credentials::{self, Authenticated, Source, bearer_refusal, is_printable};
use super::permissions::{Permissions, is_permission};
use super::principal::{Kind, Parts, Principal};
use super::refusal::Refusal;
use super::request::Request;
use crate::object::{Data, Purpose};
use crate::reason::Reason;
use crate::tls::Fingerprint;

/// A rule that wants one of its keys, unless it is optional.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The keys of all Secrets that the rule selects.
    pub keys: KeySet,
    /// Where a key may stand, the first place that holds one first.
    pub from: Arc<[Source]>,
    /// What a key's own permissions must meet; None: any key will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Whether who shows no key goes on as nobody in particular.
    pub optional: bool,
}

/// One Secret's key.
pub struct Key {
    name: Arc<str>,
    hash: Hash,
    enabled: bool,
    /// In Unix seconds.
    expires: Option<i64>,
    permissions: Box<[Box<str>]>,
    principal: Arc<Principal>,
    fingerprint: Fingerprint,
}

/// The keys of a rule.
pub struct KeySet {
    by_hash: HashMap<Hash, Arc<Key>>,
    fingerprint: Fingerprint,
}

/// SHA-256 of a key. Compared in constant time, by the table too.
#[derive(Clone, Copy, Eq)]
struct Hash([u8; 32]);

/// What is wrong with a Secret, which costs this key alone. No value is told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("exactly one of `key` and `sha256` is required")]
    NotOneKey,
    #[error("`key` is empty, longer than {MAX_KEY} characters, or not printable ASCII")]
    Key,
    #[error("`sha256` is not 64 hexadecimal digits")]
    Sha256,
    #[error("`{0}` is not UTF-8")]
    NotText(&'static str),
    #[error("`subject` is empty or too long")]
    Subject,
    #[error("`expiresAt` is not a time such as 2030-01-31T12:00:00Z")]
    ExpiresAt,
    #[error("`enabled` is neither true nor false")]
    Enabled,
    #[error("`permissions` may contain only letters, digits and . _ - : * /, separated by spaces or commas")]
    Permissions,
    #[error("`{0}` has more than {MAX_LIST} entries")]
    TooMany(&'static str),
    #[error("`meta` is not a JSON object")]
    Meta,
}

const MAX_KEY: usize = credentials::MAX_LENGTH;
/// The most permissions, and the most roles, of a key: each request may look through them.
const MAX_LIST: usize = 256;

impl ApiKey {
    /// `now`: in Unix seconds. None: nothing was shown, and need not be.
    pub fn check(&self, request: &Request<'_>, now: i64) -> Result<Option<Authenticated>, Refusal> {
        let found = credentials::find(&self.from, request);
        let Some(found) = found.map_err(|_| bearer_refusal(Reason::InvalidKey))? else {
            return match self.optional {
                true => Ok(None),
                false => Err(bearer_refusal(Reason::MissingCredentials)),
            };
        };
        let key = self.keys.find(&found.value).filter(|key| key.is_valid(now));
        let key = key.ok_or_else(|| bearer_refusal(Reason::InvalidKey))?;
        let permissions = self.permissions.as_ref();
        if permissions.is_some_and(|needed| !needed.allow(&key.permissions)) {
            return Err(Reason::InsufficientPermissions.into());
        }
        Ok(Some(Authenticated {
            principal: key.principal.clone(),
            credential: found.credential,
        }))
    }
}

impl Key {
    /// `name`: the Secret's, which is the subject where it names none.
    pub fn read(name: &str, secret: &Data) -> Result<Self, Unusable> {
        let text = |key: &'static str| {
            let bytes = secret.get(key);
            let text = bytes.map(|bytes| str::from_utf8(bytes).map_err(|_| Unusable::NotText(key)));
            text.map(|text| text.map(str::trim)).transpose()
        };
        let hash = match (text("key")?, text("sha256")?) {
            (Some(key), None) if key.len() > MAX_KEY || key.is_empty() || !key.bytes().all(is_printable) => {
                return Err(Unusable::Key);
            }
            (Some(key), None) => Hash::of(key),
            (None, Some(hex)) => Hash::from_hex(hex).ok_or(Unusable::Sha256)?,
            _ => return Err(Unusable::NotOneKey),
        };
        let enabled = match text("enabled")? {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(Unusable::Enabled),
        };
        let expires = text("expiresAt")?.map(|time| time.parse::<Timestamp>().map_err(|_| Unusable::ExpiresAt));
        let expires = expires.transpose()?;
        let permissions = list("permissions", text("permissions")?)?;
        if !permissions.iter().all(|permission| is_permission(permission)) {
            return Err(Unusable::Permissions);
        }
        let roles = list("roles", text("roles")?)?;
        let meta = text("meta")?.map(serde_json::from_str::<Map<String, Value>>);
        let meta = meta.transpose().map_err(|_| Unusable::Meta)?.unwrap_or_default();
        let mut source = Map::from_iter([("name".to_owned(), name.into()), ("meta".to_owned(), meta.into())]);
        source.extend(expires.map(|time| ("expiresAt".to_owned(), time.to_string().into())));
        for (key, list) in [("roles", &roles), ("permissions", &permissions)] {
            if !list.is_empty() {
                source.insert(key.to_owned(), json!(list));
            }
        }
        let principal = Principal::new(Parts {
            kind: Kind::ApiKey,
            subject: text("subject")?.unwrap_or(name),
            identity: None,
            source: source.into(),
        });
        Ok(Self {
            name: name.into(),
            hash,
            enabled,
            expires: expires.map(Timestamp::as_second),
            permissions,
            principal: Arc::new(principal.map_err(|_| Unusable::Subject)?),
            fingerprint: fingerprint(name, secret),
        })
    }

    fn is_valid(&self, now: i64) -> bool {
        self.enabled && self.expires.is_none_or(|expires| now < expires)
    }
}

impl KeySet {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// If several Secrets hold the same key, the strictest counts: a key that is revoked in one is revoked.
    pub fn new(keys: impl IntoIterator<Item = Arc<Key>>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by(|a, b| a.strictness().cmp(&b.strictness()));
        let mut context = Context::new(&SHA256);
        let mut by_hash = HashMap::with_capacity(keys.len());
        for key in keys {
            context.update(&key.fingerprint.0);
            if let Entry::Vacant(entry) = by_hash.entry(key.hash) {
                entry.insert(key);
            }
        }
        Self {
            by_hash,
            fingerprint: context.finish().into(),
        }
    }

    fn find(&self, presented: &str) -> Option<&Key> {
        self.by_hash.get(&Hash::of(presented)).map(AsRef::as_ref)
    }
}

impl Key {
    fn strictness(&self) -> (bool, i64, &str) {
        (self.enabled, self.expires.unwrap_or(i64::MAX), &self.name)
    }
}

impl Hash {
    fn of(key: &str) -> Self {
        Self(Fingerprint::from(digest(&SHA256, key.as_bytes())).0)
    }

    fn from_hex(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        Some(Self(hash))
    }
}

fn list(key: &'static str, text: Option<&str>) -> Result<Box<[Box<str>]>, Unusable> {
    let entries = text
        .unwrap_or_default()
        .split(|char: char| char.is_whitespace() || char == ',');
    let entries = entries.filter(|entry| !entry.is_empty()).map(Into::into);
    let entries: Box<[Box<str>]> = entries.take(MAX_LIST + 1).collect();
    match entries.len() > MAX_LIST {
        true => Err(Unusable::TooMany(key)),
        false => Ok(entries),
    }
}

/// Over all that a key is made of.
fn fingerprint(name: &str, secret: &Data) -> Fingerprint {
    let fields = Purpose::ApiKey.kept().iter().flat_map(|field| {
        let value = secret.get(field);
        // What is not there is not what is empty.
        let there = value.map_or("", |_| field);
        [there.as_bytes(), value.unwrap_or_default()]
    });
    Fingerprint::of(once(name.as_bytes()).chain(fields))
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl hash::Hash for Hash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

// By hand: no key, no hash of one and nothing of its owner is printed.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({}, {})", self.by_hash.len(), self.fingerprint)
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([
            ("count", json!(self.by_hash.len())),
            ("fingerprint", json!(self.fingerprint)),
        ])
    }
}

#[cfg(test)]
mod tests;
