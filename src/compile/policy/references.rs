//! What rules refer to by name: htpasswd files, sets of keys, OpenAPI documents, Services. One that is malformed is stood in
//! for by its last good version; one that is gone is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::invalid::Invalid;
use crate::api::condition::ConditionReason;
use crate::api::deployment::CaKind;
use crate::api::policy::{self, SentinelPolicySpec};
use crate::compile::references::{Found, Read, References, Unusable, User};
use crate::compile::syntax::{PortRef, port_ref};
use crate::object::{Data, Kind, ObjectKey, Purpose};
use crate::policy::basic_auth::Users;
use crate::policy::jwt::KeySet;
use crate::policy::openapi::Document;
use crate::store::{Changes, Store};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Users(ObjectKey),
    Jwks(Holder),
    Document(ObjectKey),
    Service(ObjectKey, PortRef),
}

/// A Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    pub kind: CaKind,
    pub key: ObjectKey,
}

/// What was found under the references to Secrets and ConfigMaps.
#[derive(Default)]
pub struct Sources {
    users: References<ObjectKey, UsersFile>,
    jwks: References<Holder, Arc<KeySet>>,
    documents: References<ObjectKey, Arc<Document>>,
}

/// One htpasswd file.
#[derive(Clone, Debug, PartialEq)]
pub struct UsersFile {
    pub users: Arc<Users>,
    /// What is wrong with some of its lines.
    pub note: Option<Arc<str>>,
}

/// The references of all rules that are enabled. What is not a valid reference is reported where the rule is compiled.
pub fn references(namespace: &str, spec: &SentinelPolicySpec) -> BTreeSet<Reference> {
    let mut all = BTreeSet::new();
    let key = |name: &str| ObjectKey::new(namespace, name);
    for rule in spec.rules.iter().filter(|rule| rule.enabled) {
        if let Some(basic) = &rule.basic_auth {
            all.insert(Reference::Users(key(&basic.secret_ref.name)));
        }
        all.extend(
            rule.jwt
                .as_ref()
                .and_then(|jwt| holder(namespace, &jwt.jwks))
                .map(Reference::Jwks),
        );
        if let Some(openapi) = &rule.openapi {
            all.insert(Reference::Document(key(&openapi.document_ref.name)));
        }
        let service = rule.forward_auth.as_ref().and_then(|auth| auth.service.as_ref());
        if let Some((service, port)) = service.and_then(|service| Some((service, port_ref(&service.port).ok()?))) {
            all.insert(Reference::Service(key(&service.name), port));
        }
    }
    all
}

/// Where a set of keys is held. None: at a URL.
pub fn holder(namespace: &str, jwks: &policy::Jwks) -> Option<Holder> {
    let (kind, name) = match (&jwks.secret_ref, &jwks.config_map_ref) {
        (Some(secret), _) => (CaKind::Secret, secret),
        (None, Some(map)) => (CaKind::ConfigMap, map),
        (None, None) => return None,
    };
    Some(Holder {
        kind,
        key: ObjectKey::new(namespace, &name.name),
    })
}

impl Sources {
    /// Services are looked up elsewhere.
    pub fn add_user(&mut self, reference: &Reference, user: User) {
        match reference {
            Reference::Users(key) => self.users.add_user(key, user),
            Reference::Jwks(holder) => self.jwks.add_user(holder, user),
            Reference::Document(key) => self.documents.add_user(key, user),
            Reference::Service(..) => {}
        }
    }

    pub fn remove_user(&mut self, reference: &Reference, user: &User) {
        match reference {
            Reference::Users(key) => self.users.remove_user(key, user),
            Reference::Jwks(holder) => self.jwks.remove_user(holder, user),
            Reference::Document(key) => self.documents.remove_user(key, user),
            Reference::Service(..) => {}
        }
    }

    /// Looks up what changed or is newly referred to. Returns who sees something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = BTreeSet::new();
        let users = |key: &ObjectKey| secret(store, key, Purpose::Htpasswd, users);
        self.users
            .resolve(changes.of(Kind::Secret).iter(), users, &mut affected);

        let of = |kind, keys: &BTreeSet<ObjectKey>| -> Vec<Holder> {
            let holder = |key: &ObjectKey| Holder { kind, key: key.clone() };
            keys.iter().map(holder).collect()
        };
        let mut changed = of(CaKind::Secret, changes.of(Kind::Secret));
        changed.extend(of(CaKind::ConfigMap, changes.of(Kind::ConfigMap)));
        let jwks = |Holder { kind, key }: &Holder| match kind {
            CaKind::Secret => secret(store, key, Purpose::Jwks, key_set),
            CaKind::ConfigMap => config_map(store, key, Purpose::Jwks, key_set),
        };
        self.jwks.resolve(changed.iter(), jwks, &mut affected);

        let documents = |key: &ObjectKey| config_map(store, key, Purpose::Openapi, document);
        self.documents
            .resolve(changes.of(Kind::ConfigMap).iter(), documents, &mut affected);
        affected
    }

    pub fn jwks(&self, holder: &Holder) -> Option<&Found<Arc<KeySet>>> {
        self.jwks.find(holder)
    }

    pub fn document(&self, key: &ObjectKey) -> Option<&Found<Arc<Document>>> {
        self.documents.find(key)
    }

    pub fn users(&self, key: &ObjectKey) -> Option<&Found<UsersFile>> {
        self.users.find(key)
    }

    /// The Secrets and the ConfigMaps that are referred to.
    pub fn keys(&self) -> (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) {
        let held = |kind| {
            let holders = self.jwks.keys().filter(move |holder| holder.kind == kind);
            holders.map(|holder| &holder.key)
        };
        let secrets = self.users.keys().chain(held(CaKind::Secret));
        let config_maps = self.documents.keys().chain(held(CaKind::ConfigMap));
        (secrets.cloned().collect(), config_maps.cloned().collect())
    }

    pub fn last_good(&self) -> Self {
        Self {
            users: self.users.last_good(),
            jwks: self.jwks.last_good(),
            documents: self.documents.last_good(),
        }
    }

    pub fn sweep(&mut self) {
        self.users.sweep();
        self.jwks.sweep();
        self.documents.sweep();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.users.len().max(self.jwks.len()).max(self.documents.len())
    }
}

/// A Secret of this purpose, read.
fn secret<T>(store: &Store, key: &ObjectKey, purpose: Purpose, read: impl Fn(&Data) -> Result<T, String>) -> Read<T> {
    let secret = store.secret(key).ok_or(Unusable::NotFound(purpose))?;
    let read = match secret.purpose.as_deref() {
        Some(found) if found == purpose.label() => read(&secret.data).map_err(malformed),
        _ => Err(Unusable::NotLabelled(purpose)),
    };
    Ok((secret.uid.clone(), read))
}

fn config_map<T>(
    store: &Store,
    key: &ObjectKey,
    purpose: Purpose,
    read: impl Fn(&Data) -> Result<T, String>,
) -> Read<T> {
    let map = store.config_map(key).ok_or(Unusable::NotFound(purpose))?;
    let read = match &*map.purpose {
        found if found == purpose.label() => read(&map.data).map_err(malformed),
        _ => Err(Unusable::NotLabelled(purpose)),
    };
    Ok((map.uid.clone(), read))
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
    let mut notes = Vec::new();
    if users.is_empty() {
        // No last good version stands in: whoever takes the last user away, or locks him, means it.
        notes.push("contains no user under auth, so every request is refused".to_owned());
    }
    notes.extend(unusable.first().map(|first| {
        let more = match unusable.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        format!(
            "line {} under auth is not usable: {}{more}",
            first.number, first.problem
        )
    }));
    Ok(UsersFile {
        users: Arc::new(users),
        note: (!notes.is_empty()).then(|| notes.join("; ").into()),
    })
}

fn key_set(data: &Data) -> Result<Arc<KeySet>, String> {
    const KEY: &str = "jwks.json";
    let text = data.get(KEY).ok_or_else(|| format!("has no {KEY}"))?;
    let set = KeySet::read(text).map_err(|why| format!("is not usable: {KEY}: {why}"))?;
    Ok(Arc::new(set))
}

fn document(data: &Data) -> Result<Arc<Document>, String> {
    let keys = ["openapi.yaml", "openapi.json"];
    let texts: Vec<_> = keys.into_iter().filter_map(|key| Some((key, data.get(key)?))).collect();
    let [(key, text)] = texts[..] else {
        return Err("needs exactly one of openapi.yaml and openapi.json".to_owned());
    };
    let document = Document::read(text).map_err(|why| format!("is not usable: {key}: {why}"))?;
    Ok(Arc::new(document))
}

/// What stands for what was found, or why nothing does; where that is a last good version, a note says so.
pub fn taken<T: Clone>(
    field: &str,
    kind: CaKind,
    key: &ObjectKey,
    found: Option<&Found<T>>,
    notes: &mut Vec<Invalid>,
) -> Result<T, Invalid> {
    let problem = found.and_then(|found| found.problem.as_ref());
    let told = problem.map(|problem| (problem.reason(kind), format!("{kind:?} {key} {problem}")));
    match (found.and_then(|found| found.part.clone()), told) {
        (Some(part), told) => {
            notes.extend(told.map(|(_, text)| {
                let text = format!("{text}; its last good version stays in force");
                Invalid::of(ConditionReason::ServingLastGood, text).within(field)
            }));
            Ok(part)
        }
        (None, Some((reason, text))) => Err(Invalid::of(reason, text).within(field)),
        // Every reference is looked up before rules are compiled.
        (None, None) => {
            let text = format!("{kind:?} {key} was not looked up");
            Err(Invalid::of(ConditionReason::InvalidReference, text).within(field))
        }
    }
}
