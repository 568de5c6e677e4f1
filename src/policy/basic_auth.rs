//! `basicAuth`: users and passwords of an htpasswd file (RFC 7617). Passwords are hashed off the data plane's threads, and what
//! came of it is remembered for a while: see `state::passwords`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier, Version};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bcrypt::HashParts;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use serde::{Serialize, Serializer};
use serde_json::json;

use super::credentials::{self, Authenticated, Credential};
use super::principal::{Kind, Parts};
use super::{Principal, Refusal, Request};
use crate::reason::Reason;
use crate::snapshot::Fingerprint;
use crate::state::Passwords;

#[derive(Debug, PartialEq, Serialize)]
pub struct BasicAuth {
    users: Arc<Users>,
    /// WWW-Authenticate.
    #[serde(serialize_with = "text")]
    challenge: HeaderValue,
    /// Whether the app is to see user and password.
    forward: bool,
}

/// One htpasswd file.
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    /// Whose password is hashed for a user who does not exist, so that it takes as long: the one that takes longest.
    decoy: Option<Stored>,
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
    /// About how many microseconds it takes: to compare by.
    weight: u64,
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
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not a user name and a hash with a colon between")]
    Malformed,
    #[error("the user stands on an earlier line")]
    Repeated,
    #[error("neither bcrypt ($2a$, $2b$, $2y$) nor argon2 ($argon2id$, $argon2i$, $argon2d$)")]
    Scheme,
    #[error("bcrypt with a cost beyond {MAX_COST}")]
    BcryptCost,
    #[error(
        "argon2 with more than {} MiB of memory, {MAX_PASSES} passes or {MAX_LANES} lanes",
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

    /// To be bounded by the caller: passwords are hashed one after the other.
    pub async fn check(&self, request: &Request<'_>, passwords: &Passwords) -> Result<Authenticated, Refusal> {
        let shown =
            credentials::authorization(request, "basic").map_err(|_| self.refusal(Reason::InvalidCredentials))?;
        let shown = shown.ok_or_else(|| self.refusal(Reason::MissingCredentials))?;
        let Shown { user, password } = Shown::read(shown).ok_or_else(|| self.refusal(Reason::InvalidCredentials))?;
        let known = self.users.by_name.get(user.as_str());
        let stored = known.map(|user| &user.stored).or(self.users.decoy.as_ref());
        let stored = stored.ok_or_else(|| self.refusal(Reason::InvalidCredentials))?.clone();
        let tag = passwords.tag(&[user.as_bytes(), stored.text.as_bytes(), &password]);
        let exists = known.is_some();
        let hashing = passwords.verify(tag, move || stored.is_of(&password) && exists);
        match (hashing.await, known) {
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
        let stored = by_name.values().map(|user: &User| &user.stored);
        let decoy = stored
            .max_by(|a, b| (a.weight, &a.text).cmp(&(b.weight, &b.text)))
            .cloned();
        let mut fingerprint = Fingerprint([0; 32]);
        fingerprint.0.copy_from_slice(digest(&SHA256, htpasswd).as_ref());
        let users = Self {
            by_name,
            decoy,
            fingerprint,
        };
        (users, unusable)
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
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
        let (scheme, weight) = if is(&["$2a$", "$2b$", "$2y$"]) {
            let cost = HashParts::from_str(text).map_err(|_| Problem::Malformed)?.get_cost();
            match cost {
                4..=MAX_COST => (Scheme::Bcrypt, 60 << cost),
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
            let (memory, passes) = (params.m_cost(), params.t_cost());
            if memory > MAX_MEMORY || passes > MAX_PASSES || params.p_cost() > MAX_LANES {
                return Err(Problem::Argon2Cost);
            }
            (Scheme::Argon2, u64::from(memory) * u64::from(passes))
        } else {
            return Err(Problem::Scheme);
        };
        let text = text.into();
        Ok(Self { scheme, text, weight })
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

fn text<S: Serializer>(value: &HeaderValue, to: S) -> Result<S::Ok, S::Error> {
    value.to_str().unwrap_or_default().serialize(to)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::CustomizedPasswordHasher;
    use base64::prelude::BASE64_STANDARD;

    use super::super::credentials::tests::Head;
    use super::*;

    fn bcrypt(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn argon2(password: &str, algorithm: &str) -> String {
        let params = Params::new(64, 1, 1, None).unwrap();
        let hash = Argon2::default().hash_password_customized(
            password.as_bytes(),
            b"0123456789abcdef",
            Some(algorithm),
            Some(19),
            params,
        );
        hash.unwrap().to_string()
    }

    fn rule(htpasswd: &str) -> BasicAuth {
        let (users, unusable) = Users::read(htpasswd.as_bytes());
        assert_eq!(unusable, []);
        BasicAuth::new(Arc::new(users), "staff", true)
    }

    async fn check(rule: &BasicAuth, passwords: &Passwords, authorization: &[&str]) -> Result<String, Reason> {
        let lines: Vec<_> = authorization.iter().map(|line| ("authorization", *line)).collect();
        let head = Head::new("/", &lines);
        let checked = rule.check(&head.request(), passwords).await;
        match checked {
            Ok(authenticated) => Ok(authenticated.principal.subject().to_owned()),
            Err(refusal) => {
                let challenge = refusal.headers.get(WWW_AUTHENTICATE).unwrap();
                assert_eq!(challenge, r#"Basic realm="staff", charset="UTF-8""#);
                Err(refusal.reason)
            }
        }
    }

    fn basic(pair: &[u8]) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    #[tokio::test]
    async fn bcrypt_and_argon2_are_verified() {
        let mut htpasswd = "# staff\r\n\n".to_owned();
        for (name, prefix) in [("a", "$2a$"), ("b", "$2b$"), ("y", "$2y$")] {
            htpasswd += &format!("{name}:{}\r\n", bcrypt("se:cret").replacen("$2b$", prefix, 1));
        }
        for (name, algorithm) in [("id", "argon2id"), ("i", "argon2i"), ("d", "argon2d")] {
            htpasswd += &format!("{name}:{}:a comment\n", argon2("se:cret", algorithm));
        }
        let (rule, passwords) = (rule(&htpasswd), Passwords::default());
        for name in ["a", "b", "y", "id", "i", "d"] {
            let right = check(&rule, &passwords, &[&basic(format!("{name}:se:cret").as_bytes())]).await;
            assert_eq!(right.as_deref(), Ok(name));
            for wrong in [":se:cre", ":", ":se:crett", ":SE:CRET", ":se"] {
                let wrong = check(&rule, &passwords, &[&basic(format!("{name}{wrong}").as_bytes())]).await;
                assert_eq!(wrong, Err(Reason::InvalidCredentials), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn known_hashes_of_other_tools_are_understood() {
        // Published vectors: of crypt_blowfish, and of the reference implementation of argon2.
        let htpasswd = "ann:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
            bob:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let (rule, passwords) = (rule(htpasswd), Passwords::default());
        assert_eq!(
            check(&rule, &passwords, &[&basic(b"ann:U*U")]).await.as_deref(),
            Ok("ann")
        );
        assert_eq!(
            check(&rule, &passwords, &[&basic(b"bob:password")]).await.as_deref(),
            Ok("bob")
        );
    }

    #[tokio::test]
    async fn what_is_no_pair_is_missing_or_invalid() {
        let (rule, passwords) = (rule(&format!("ann:{}", bcrypt("a"))), Passwords::default());
        let right = basic(b"ann:a");
        for missing in [&[][..], &["Bearer abc"], &["Basicabc"]] {
            assert_eq!(
                check(&rule, &passwords, missing).await,
                Err(Reason::MissingCredentials),
                "{missing:?}"
            );
        }
        let (no_colon, control, not_utf8) = (basic(b"ann"), basic(b"ann:a\0"), basic(b"\xff:a"));
        let long = basic(&[b'a'; credentials::MAX_LENGTH]);
        for invalid in [
            &["Basic"][..],
            &["Basic !"],
            &["Basic \u{e9}"],
            &[&no_colon],
            &[&control],
            &[&not_utf8],
            &[&long],
            &[&right, "Bearer abc"],
            &[&right, &no_colon],
        ] {
            assert_eq!(
                check(&rule, &passwords, invalid).await,
                Err(Reason::InvalidCredentials),
                "{invalid:?}"
            );
        }
        let unpadded = right.trim_end_matches('=').replacen("Basic", "bAsIc", 1);
        assert_eq!(check(&rule, &passwords, &[&unpadded]).await.as_deref(), Ok("ann"));
    }

    #[tokio::test]
    async fn a_user_who_is_unknown_is_nobody_even_with_the_decoys_password() {
        let (rule, passwords) = (rule(&format!("ann:{}", bcrypt("a"))), Passwords::default());
        for _ in 0..2 {
            assert_eq!(
                check(&rule, &passwords, &[&basic(b"bob:a")]).await,
                Err(Reason::InvalidCredentials)
            );
        }
        assert_eq!(
            check(&rule, &passwords, &[&basic(b"ann:a")]).await.as_deref(),
            Ok("ann")
        );
        let nobody = BasicAuth::new(Arc::new(Users::read(b"").0), "staff", true);
        assert_eq!(
            check(&nobody, &passwords, &[&basic(b"ann:a")]).await,
            Err(Reason::InvalidCredentials)
        );
    }

    #[tokio::test]
    async fn a_changed_password_counts_at_once() {
        let passwords = Passwords::default();
        let (before, after) = (
            rule(&format!("ann:{}", bcrypt("a"))),
            rule(&format!("ann:{}", bcrypt("b"))),
        );
        assert!(check(&before, &passwords, &[&basic(b"ann:a")]).await.is_ok());
        assert!(check(&before, &passwords, &[&basic(b"ann:b")]).await.is_err());
        assert!(check(&after, &passwords, &[&basic(b"ann:a")]).await.is_err());
        assert!(check(&after, &passwords, &[&basic(b"ann:b")]).await.is_ok());
    }

    #[test]
    fn a_line_that_is_of_no_use_costs_its_user_alone() {
        let good = bcrypt("a");
        let costly = good.replacen("$04$", "$15$", 1);
        let cheap = good.replacen("$04$", "$03$", 1);
        let argon2 =
            |params: &str| format!("$argon2id$v=19${params}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
        let lines = [
            (format!("ann:{good}"), None),
            ("no-colon".to_owned(), Some(Problem::Malformed)),
            (format!(":{good}"), Some(Problem::Malformed)),
            (format!("ann:{good}"), Some(Problem::Repeated)),
            (
                "md5:$apr1$abcdefgh$0123456789abcdefghijkl".to_owned(),
                Some(Problem::Scheme),
            ),
            (
                "sha1:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
                Some(Problem::Scheme),
            ),
            ("crypt:rqXexS6ZhobKA".to_owned(), Some(Problem::Scheme)),
            ("plain:secret".to_owned(), Some(Problem::Scheme)),
            ("none:".to_owned(), Some(Problem::Scheme)),
            (format!("x:{}", good.replacen("$2b$", "$2x$", 1)), Some(Problem::Scheme)),
            ("cut:$2b$04$abc".to_owned(), Some(Problem::Malformed)),
            (format!("costly:{costly}"), Some(Problem::BcryptCost)),
            (format!("cheap:{cheap}"), Some(Problem::Malformed)),
            (
                format!("memory:{}", argon2("m=65537,t=1,p=1")),
                Some(Problem::Argon2Cost),
            ),
            (format!("passes:{}", argon2("m=64,t=11,p=1")), Some(Problem::Argon2Cost)),
            (format!("lanes:{}", argon2("m=256,t=1,p=17")), Some(Problem::Argon2Cost)),
            (format!("little:{}", argon2("m=1,t=1,p=1")), Some(Problem::Malformed)),
            (
                format!("old:{}", argon2("m=64,t=1,p=1").replacen("v=19$", "", 1)),
                Some(Problem::Malformed),
            ),
            ("salt:$argon2id$v=19$m=64,t=1,p=1".to_owned(), Some(Problem::Malformed)),
            (format!("bob:{}", argon2("m=65536,t=10,p=4")), None),
        ];
        let text: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
        let (users, unusable) = Users::read(text.join("\n").as_bytes());
        let expected = lines.iter().zip(1..).filter_map(|((_, problem), number)| {
            let problem = (*problem)?;
            Some(UnusableLine { number, problem })
        });
        assert_eq!(unusable, Vec::from_iter(expected));
        let mut names: Vec<_> = users.by_name.keys().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["ann", "bob"]);
        // The costlier of the two stands in for users who do not exist.
        assert_eq!(users.decoy.unwrap().text, users.by_name["bob"].stored.text);
        let told: Vec<_> = unusable.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "line 2: not a user name and a hash with a colon between");
        assert!(!told.join("").contains(&good[10..]) && !told.join("").contains("secret"));
    }

    #[test]
    fn no_user_and_no_hash_is_printed() {
        let hash = bcrypt("a");
        let rule = rule(&format!("ann:{hash}"));
        let shown = format!("{rule:?}{}", serde_json::to_string(&rule).unwrap());
        assert!(!shown.contains("ann") && !shown.contains(&hash[8..]), "{shown}");
        assert!(shown.contains(r#""count":1"#));
    }

    #[tokio::test]
    async fn the_app_sees_no_password_where_it_is_not_forwarded() {
        let (users, _) = Users::read(format!("ann:{}", bcrypt("a")).as_bytes());
        let users = Arc::new(users);
        for (forward, left) in [(true, 2), (false, 1)] {
            let rule = BasicAuth::new(users.clone(), "staff", forward);
            let head = Head::new("/", &[("authorization", &basic(b"ann:a")), ("a", "b")]);
            let found = rule.check(&head.request(), &Passwords::default()).await.unwrap();
            let mut headers = head.request().headers.clone();
            found.credential.strip_headers(&mut headers);
            assert_eq!(headers.len(), left);
        }
    }
}
