//! What rules refer to by name: htpasswd files, sets of keys, OpenAPI documents, Services. One that is malformed is stood in
//! for by its last good version; one that is gone is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::api::policy::SentinelPolicySpec;
use crate::compile::backend::{PortRef, port_ref};
use crate::compile::references::{Found, Read, References, Unusable, User};
use crate::policy::basic_auth::Users;
use crate::store::{Changes, Data, ObjectKey, Store};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Users(ObjectKey),
    Service(ObjectKey, PortRef),
}

/// What was found under the references to Secrets and ConfigMaps.
#[derive(Default)]
pub struct Sources {
    users: References<ObjectKey, UsersFile>,
}

/// One htpasswd file.
#[derive(Clone, Debug, PartialEq)]
pub struct UsersFile {
    pub users: Arc<Users>,
    /// What is wrong with some of its lines.
    pub note: Option<Arc<str>>,
}

/// The label of a Secret that holds an htpasswd file.
const HTPASSWD: &str = "htpasswd";

/// Of all rules that are enabled. What is no reference at all is told where the rule is compiled.
pub fn references(namespace: &str, spec: &SentinelPolicySpec) -> BTreeSet<Reference> {
    let mut all = BTreeSet::new();
    let key = |name: &str| ObjectKey::new(namespace, name);
    for rule in spec.rules.iter().filter(|rule| rule.enabled) {
        if let Some(basic) = &rule.basic_auth {
            all.insert(Reference::Users(key(&basic.secret_ref.name)));
        }
        let service = rule.forward_auth.as_ref().and_then(|auth| auth.service.as_ref());
        if let Some((service, port)) = service.and_then(|service| Some((service, port_ref(&service.port).ok()?))) {
            all.insert(Reference::Service(key(&service.name), port));
        }
    }
    all
}

impl Sources {
    /// Services are looked up elsewhere.
    pub fn add_user(&mut self, reference: &Reference, user: User) {
        match reference {
            Reference::Users(key) => self.users.add_user(key, user),
            Reference::Service(..) => {}
        }
    }

    pub fn remove_user(&mut self, reference: &Reference, user: &User) {
        match reference {
            Reference::Users(key) => self.users.remove_user(key, user),
            Reference::Service(..) => {}
        }
    }

    /// Looks up what changed or is newly referred to. Returns who sees something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = BTreeSet::new();
        let users = |key: &ObjectKey| secret(store, key, HTPASSWD, users);
        self.users.resolve(changes.secrets.iter(), users, &mut affected);
        affected
    }

    pub fn users(&self, key: &ObjectKey) -> Option<&Found<UsersFile>> {
        self.users.find(key)
    }

    /// The Secrets and the ConfigMaps that are referred to.
    pub fn keys(&self) -> (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) {
        (self.users.keys().cloned().collect(), BTreeSet::new())
    }

    pub fn last_good(&self) -> Self {
        Self {
            users: self.users.last_good(),
        }
    }

    pub fn sweep(&mut self) {
        self.users.sweep();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.users.len()
    }
}

/// A Secret of this purpose, read.
fn secret<T>(
    store: &Store,
    key: &ObjectKey,
    purpose: &'static str,
    read: impl Fn(&Data) -> Result<T, String>,
) -> Read<T> {
    let secret = store.secret(key).ok_or(Unusable::NotFound(purpose))?;
    let read = match secret.purpose.as_deref() {
        Some(found) if found == purpose => read(&secret.data).map_err(malformed),
        _ => Err(Unusable::NotLabelled(purpose)),
    };
    Ok((secret.uid.clone(), read))
}

fn malformed(text: String) -> Unusable {
    Unusable::Invalid {
        reason: ConditionReason::InvalidReference,
        text: text.into(),
    }
}

fn users(data: &Data) -> Result<UsersFile, String> {
    let file = data.get("auth").ok_or("has no auth")?;
    let (users, unusable) = Users::read(file);
    let note = unusable.first().map(|first| {
        let more = match unusable.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        format!("line {} under auth cannot be used: {}{more}", first.number, first.problem)
    });
    if users.is_empty() {
        let why = note.map_or(String::new(), |note| format!("; {note}"));
        return Err(format!("holds no user under auth{why}"));
    }
    Ok(UsersFile {
        users: Arc::new(users),
        note: note.map(Into::into),
    })
}

/// Of what was found: what stands for it, or why nothing does; and what is to be told all the same.
pub fn taken<T: Clone>(
    kind: CaKind,
    key: &ObjectKey,
    found: Option<&Found<T>>,
) -> Result<(T, Option<(ConditionReason, String)>), (ConditionReason, String)> {
    let problem = found.and_then(|found| found.problem.as_ref());
    let told = problem.map(|problem| (problem.reason(kind), format!("{kind:?} {key} {problem}")));
    match (found.and_then(|found| found.part.clone()), told) {
        (Some(part), told) => {
            let stale = told.map(|(_, text)| {
                let text = format!("{text}; its last good version is in force");
                (ConditionReason::ServingLastGood, text)
            });
            Ok((part, stale))
        }
        (None, Some(told)) => Err(told),
        // Every reference is looked up before rules are compiled.
        (None, None) => Err((ConditionReason::InvalidReference, format!("{kind:?} {key} was not looked up"))),
    }
}
