//! `apiKey`: keys are Secrets, known here by their hashes alone. How a key is presented is `credentials`'.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{self, Hasher};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, digest};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::credentials::{self, Authenticated, Source, bearer_refusal, is_printable};
use super::permissions::is_permission;
use super::principal::{Kind, Parts};
use super::{Permissions, Principal, Refusal, Request};
use crate::reason::Reason;
use crate::snapshot::Fingerprint;
use crate::store::Data;

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    pub keys: KeySet,
    pub from: Arc<[Source]>,
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
    #[error("one of `key` and `sha256` is needed, and not both")]
    NotOneKey,
    #[error("`key` is empty, longer than {MAX_KEY} characters, or not printable ASCII")]
    Key,
    #[error("`sha256` is not 64 hexadecimal digits")]
    Sha256,
    #[error("`{0}` is not UTF-8")]
    NotText(&'static str),
    #[error("`subject` is empty or too long")]
    Subject,
    #[error("`expiresAt` is not a time as in 2030-01-31T12:00:00Z")]
    ExpiresAt,
    #[error("`enabled` is neither true nor false")]
    Enabled,
    #[error("`permissions` holds something other than letters, digits and . _ - : * /, between spaces or commas")]
    Permissions,
    #[error("`{0}` holds more than {MAX_LIST} entries")]
    TooMany(&'static str),
    #[error("`meta` is not a JSON object")]
    Meta,
}

const MAX_KEY: usize = credentials::MAX_LENGTH;
/// Of permissions and of roles: each request may look through them.
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
    /// Of Secrets that hold the same key the strictest counts: one that was revoked is, whatever its copies say.
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
            fingerprint: finish(context),
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
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(hash)
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
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&bytes.len().to_be_bytes());
        context.update(bytes);
    };
    add(name.as_bytes());
    for field in [
        "key",
        "sha256",
        "subject",
        "expiresAt",
        "permissions",
        "roles",
        "meta",
        "enabled",
    ] {
        // What is not there is not what is empty.
        add(if secret.get(field).is_some() {
            field.as_bytes()
        } else {
            b""
        });
        add(secret.get(field).unwrap_or_default());
    }
    finish(context)
}

fn finish(context: Context) -> Fingerprint {
    let mut fingerprint = Fingerprint([0; 32]);
    fingerprint.0.copy_from_slice(context.finish().as_ref());
    fingerprint
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
mod tests {
    use super::super::credentials::Place;
    use super::super::credentials::tests::Head;
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const LATER: &str = "2027-06-01T00:00:00Z";
    const EARLIER: &str = "2027-01-01T00:00:00Z";

    fn read(fields: &[(&str, &str)]) -> Result<Key, Unusable> {
        let data = fields.iter().map(|(key, value)| (*key, value.as_bytes()));
        Key::read("ann-key", &Data::from_iter(data))
    }

    fn rule(keys: impl IntoIterator<Item = Key>) -> ApiKey {
        ApiKey {
            keys: KeySet::new(keys.into_iter().map(Arc::new)),
            from: Arc::new([Source {
                place: Place::Bearer,
                forward: true,
            }]),
            permissions: None,
            optional: false,
        }
    }

    fn check(rule: &ApiKey, authorization: &str) -> Result<Option<Authenticated>, Refusal> {
        let lines = [("authorization", authorization)];
        let lines = if authorization.is_empty() { &[][..] } else { &lines };
        rule.check(&Head::new("/", lines).request(), NOW)
    }

    fn refused(rule: &ApiKey, authorization: &str) -> (Reason, Option<String>) {
        let refusal = check(rule, authorization).unwrap_err();
        let challenge = refusal.headers.get("www-authenticate");
        let challenge = challenge.map(|challenge| challenge.to_str().unwrap().to_owned());
        (refusal.reason, challenge)
    }

    fn hex(key: &str) -> String {
        digest(&SHA256, key.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    }

    #[test]
    fn a_key_is_known_by_its_text_or_its_hash() {
        for fields in [
            ("key", "k1\n".to_owned()),
            ("sha256", hex("k1")),
            ("sha256", hex("k1").to_lowercase() + "\n"),
        ] {
            let rule = rule([read(&[(fields.0, &fields.1)]).unwrap()]);
            let found = check(&rule, "Bearer k1").unwrap().unwrap();
            assert_eq!(found.principal.subject(), "ann-key");
            for other in [
                "Bearer k2",
                "Bearer K1",
                "Bearer k",
                "Bearer k11",
                &format!("Bearer {}", hex("k1")),
            ] {
                assert_eq!(refused(&rule, other).0, Reason::InvalidKey, "{other}");
            }
        }
    }

    #[test]
    fn the_principal_says_what_the_secret_does() {
        let key = read(&[
            ("key", "k1"),
            ("subject", "ann"),
            ("expiresAt", LATER),
            ("permissions", "chat.read, chat.write\nadmin"),
            ("roles", "owner"),
            ("meta", r#"{"plan": "pro"}"#),
            ("enabled", "true"),
        ]);
        let principal = key.unwrap().principal;
        assert_eq!(
            principal.header(),
            concat!(
                r#"{"version":"v1","subject":"ann","type":"ApiKey","source":{"key":{"expiresAt":"2027-06-01T00:00:00Z","#,
                r#""meta":{"plan":"pro"},"name":"ann-key","permissions":["chat.read","chat.write","admin"],"roles":["owner"]}}}"#
            )
        );
        assert_eq!(principal.field("source.key.meta.plan").as_deref(), Some("pro"));
    }

    #[test]
    fn no_key_is_missing_and_a_wrong_one_is_invalid() {
        let rule = rule([read(&[("key", "k1")]).unwrap()]);
        let missing = Some(r#"Bearer realm="postern""#.to_owned());
        assert_eq!(refused(&rule, ""), (Reason::MissingCredentials, missing));
        let invalid = Some(r#"Bearer realm="postern", error="invalid_token""#.to_owned());
        assert_eq!(refused(&rule, "Bearer k2"), (Reason::InvalidKey, invalid.clone()));
        assert_eq!(refused(&rule, "Bearer \u{e9}"), (Reason::InvalidKey, invalid));
    }

    #[test]
    fn an_optional_key_may_be_missing_but_not_wrong() {
        let rule = ApiKey {
            optional: true,
            ..rule([read(&[("key", "k1")]).unwrap()])
        };
        assert!(check(&rule, "").unwrap().is_none());
        assert!(check(&rule, "Basic abc").unwrap().is_none());
        assert!(check(&rule, "Bearer k1").unwrap().is_some());
        assert_eq!(refused(&rule, "Bearer k2").0, Reason::InvalidKey);
    }

    #[test]
    fn a_key_that_is_disabled_or_expired_is_invalid_like_an_unknown_one() {
        let of = |field, value| rule([read(&[("key", "k1"), (field, value)]).unwrap()]);
        let unknown = refused(&rule([]), "Bearer k1");
        assert_eq!(refused(&of("enabled", "false"), "Bearer k1"), unknown);
        assert_eq!(refused(&of("expiresAt", EARLIER), "Bearer k1"), unknown);
        assert!(check(&of("expiresAt", LATER), "Bearer k1").is_ok());
        // In its last second, and not in the next.
        let last = Timestamp::from_second(NOW + 1).unwrap().to_string();
        assert!(check(&of("expiresAt", &last), "Bearer k1").is_ok());
        let past = Timestamp::from_second(NOW).unwrap().to_string();
        assert_eq!(refused(&of("expiresAt", &past), "Bearer k1"), unknown);
    }

    #[test]
    fn a_key_that_permits_too_little_is_refused_without_a_challenge() {
        let key = || read(&[("key", "k1"), ("permissions", "chat.read")]).unwrap();
        let needing = |text| ApiKey {
            permissions: Some(Permissions::parse(text).unwrap()),
            ..rule([key()])
        };
        assert!(check(&needing("chat.read OR admin"), "Bearer k1").is_ok());
        assert_eq!(
            refused(&needing("chat.write"), "Bearer k1"),
            (Reason::InsufficientPermissions, None)
        );
    }

    #[test]
    fn of_copies_of_a_key_the_strictest_counts() {
        let copy = |name, field, value: &str| {
            let data = Data::from_iter([("key", &b"k1"[..]), (field, value.as_bytes())]);
            Key::read(name, &data).unwrap()
        };
        let subject = |keys| check(&rule(keys), "Bearer k1").map(|found| found.unwrap().principal.subject().to_owned());
        assert!(subject(vec![copy("a", "enabled", "true"), copy("b", "enabled", "false")]).is_err());
        assert!(subject(vec![copy("a", "enabled", "true"), copy("b", "expiresAt", EARLIER)]).is_err());
        assert_eq!(
            subject(vec![copy("b", "enabled", "true"), copy("a", "enabled", "true")]).unwrap(),
            "a"
        );
    }

    #[test]
    fn a_malformed_secret_is_refused_and_not_quoted() {
        let long = "k".repeat(MAX_KEY + 1);
        let many = "p ".repeat(MAX_LIST + 1);
        let refused: [(&[(&str, &str)], Unusable); 22] = [
            (&[], Unusable::NotOneKey),
            (&[("key", "hush"), ("sha256", "hush")], Unusable::NotOneKey),
            (&[("key", " \n")], Unusable::Key),
            (&[("key", "hush\u{e9}")], Unusable::Key),
            (&[("key", "hu\nsh")], Unusable::Key),
            (&[("key", &long)], Unusable::Key),
            (&[("sha256", "hush")], Unusable::Sha256),
            (&[("sha256", &"g".repeat(64))], Unusable::Sha256),
            (&[("sha256", &"a".repeat(63))], Unusable::Sha256),
            (&[("sha256", &"a".repeat(66))], Unusable::Sha256),
            (&[("sha256", &"\u{e9}".repeat(32))], Unusable::Sha256),
            (&[("key", "k"), ("enabled", "hush")], Unusable::Enabled),
            (&[("key", "k"), ("enabled", "")], Unusable::Enabled),
            (&[("key", "k"), ("expiresAt", "hush")], Unusable::ExpiresAt),
            (&[("key", "k"), ("expiresAt", "")], Unusable::ExpiresAt),
            (
                &[("key", "k"), ("expiresAt", "2027-06-01T00:00:00")],
                Unusable::ExpiresAt,
            ),
            (&[("key", "k"), ("permissions", "hush!")], Unusable::Permissions),
            (
                &[("key", "k"), ("permissions", &many)],
                Unusable::TooMany("permissions"),
            ),
            (&[("key", "k"), ("roles", &many)], Unusable::TooMany("roles")),
            (&[("key", "k"), ("meta", "hush")], Unusable::Meta),
            (&[("key", "k"), ("meta", "[1]")], Unusable::Meta),
            (&[("key", "k"), ("subject", " ")], Unusable::Subject),
        ];
        for (fields, problem) in refused {
            let found = read(fields).unwrap_err();
            assert_eq!(found, problem, "{fields:?}");
            assert!(!found.to_string().contains("hush"));
        }
        let data = Data::from_iter([("key", &b"k\xff"[..])]);
        assert_eq!(Key::read("a", &data).unwrap_err(), Unusable::NotText("key"));
    }

    #[test]
    fn keys_are_equal_by_all_that_they_are_made_of() {
        let set = |fields: &[(&str, &str)]| KeySet::new([Arc::new(read(fields).unwrap())]);
        let key = || set(&[("key", "k1")]);
        assert_eq!(key(), key());
        for other in [
            set(&[("key", "k2")]),
            set(&[("key", "k1"), ("enabled", "false")]),
            set(&[("key", "k1"), ("meta", "{}")]),
            set(&[("key", "k1"), ("permissions", "")]),
            KeySet::new([]),
        ] {
            assert_ne!(key(), other);
        }
        let two = |names: [&str; 2]| {
            KeySet::new(
                names.map(|name| Arc::new(Key::read(name, &Data::from_iter([("key", name.as_bytes())])).unwrap())),
            )
        };
        assert_eq!(two(["a", "b"]), two(["b", "a"]));
    }

    #[test]
    fn no_key_no_hash_and_no_owner_is_printed() {
        let key = read(&[("key", "hush"), ("subject", "owner"), ("meta", r#"{"plan":"pro"}"#)]).unwrap();
        let shown = format!("{key:?}");
        let rule = rule([key]);
        let shown =
            shown + &format!("{rule:?}{:?}", check(&rule, "Bearer hush")) + &serde_json::to_string(&rule).unwrap();
        for secret in ["hush", "owner", "pro\"", &hex("hush"), &hex("hush").to_lowercase()] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(shown.contains(r#""count":1"#));
    }
}
