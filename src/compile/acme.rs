//! What ACME needs of the objects: the names of its Secrets, which certificates are to be ordered, and the answers to
//! challenges. Ordering itself is `crate::acme`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::host::Names;
use crate::hostname::HostName;
use crate::object::{ObjectKey, Purpose};
use crate::snapshot::Challenges;
use crate::store::{Secret, Store};
use crate::tls::Fingerprint;

/// A certificate that a Deployment wants ordered for a hostname that is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub hostname: HostName,
    /// Where the certificate is kept.
    pub secret: ObjectKey,
    /// What is there and can be served.
    pub current: Option<Current>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// In Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
    pub fingerprint: Fingerprint,
}

/// The Secrets that answer challenges, as far as they are understood.
#[derive(Default)]
pub struct Answers(BTreeMap<ObjectKey, Answer>);

#[derive(PartialEq)]
struct Answer {
    hostname: HostName,
    token: Arc<str>,
    key_authorization: Arc<str>,
}

impl Answers {
    /// Looks at Secrets that changed. Returns whether an answer did.
    pub fn read(&mut self, changed: &BTreeSet<ObjectKey>, store: &Store) -> bool {
        let mut differs = false;
        for key in changed {
            let new = store.secret(key).and_then(|secret| answer(secret));
            let old = self.0.remove(key);
            differs |= old != new;
            if let Some(new) = new {
                self.0.insert(key.clone(), new);
            }
        }
        differs
    }

    /// Whether no challenge is answered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The Secrets that hold answers.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }

    /// Only for hostnames of the Secret's own namespace: nobody answers for another's.
    pub fn challenges(&self, names: &Names) -> Challenges {
        let mut challenges = Challenges::new();
        for (secret, answer) in &self.0 {
            let owner = names.owner(&answer.hostname);
            if let HostName::Exact(name) = &answer.hostname
                && owner.is_some_and(|owner| owner.key.namespace == secret.namespace)
            {
                let of_name = challenges.entry(name.clone()).or_default();
                of_name.insert(answer.token.clone(), answer.key_authorization.clone());
            }
        }
        challenges
    }
}

/// RFC 8555 section 8.1: token and thumbprint, both base64url.
fn answer(secret: &Secret) -> Option<Answer> {
    const MAX: usize = 512;
    if secret.tls || secret.purpose.as_deref() != Some(Purpose::Acme.label()) {
        return None;
    }
    let text = |key: &str| {
        let text = std::str::from_utf8(secret.data.get(key)?).ok()?;
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        ((1..=MAX).contains(&text.len()) && text.bytes().all(valid)).then_some(text)
    };
    Some(Answer {
        hostname: text("hostname")?.parse().ok()?,
        token: text("token")?.into(),
        key_authorization: text("keyAuthorization")?.into(),
    })
}

#[cfg(test)]
mod tests {

    use crate::compile::syntax::secret_name;

    fn name(text: &str) -> String {
        secret_name(&text.parse().unwrap())
    }

    #[test]
    fn a_hostnames_secret_bears_its_name() {
        assert_eq!(name("App.Example.com."), "postern-acme-app.example.com");
    }

    #[test]
    fn long_hostnames_get_names_of_their_own_that_fit() {
        let long = |first: &str| [first, &"a".repeat(63), &"b".repeat(62), &"c".repeat(60), "com"].join(".");
        let (one, other) = (
            name(&long(&"x".repeat(58))),
            name(&long(&format!("{}y", "x".repeat(57)))),
        );
        assert_ne!(one, other);
        assert!(one.len() <= 253 && one.len() > 240, "{one}");
    }
}
