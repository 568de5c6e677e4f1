//! What rules refer to by name: htpasswd files, sets of keys, OpenAPI documents, Services. One that is malformed is stood in
//! for by its last good version; one that is gone is gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use super::invalid::Invalid;
use crate::api::policy::{self, SentinelPolicySpec};
use crate::compile::references::{Found, References, Unusable, User, labelled};
use crate::compile::syntax::{PortRef, port_ref};
use crate::condition::ConditionReason;
use crate::object::{Data, ObjectId, ObjectKey, Purpose};
use crate::policy::basic_auth::Users;
use crate::policy::jwt::KeySet;
use crate::policy::openapi::Document;
use crate::store::{Changes, Holder, Store};
use crate::tls::Fingerprint;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    Users(ObjectId),
    Jwks(ObjectId),
    Document(ObjectId),
    Service(ObjectKey, PortRef),
}

/// What was found under the references to Secrets and ConfigMaps.
#[derive(Default)]
pub struct Sources {
    users: References<UsersFile>,
    jwks: References<Arc<KeySet>>,
    documents: References<Arc<Document>>,
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
    for rule in spec.rules.iter().filter(|rule| rule.enabled) {
        if let Some(basic) = &rule.basic_auth {
            all.insert(Reference::Users(ObjectId::secret(namespace, &basic.secret_ref.name)));
        }
        all.extend(
            rule.jwt
                .as_ref()
                .and_then(|jwt| holder(namespace, &jwt.jwks))
                .map(Reference::Jwks),
        );
        if let Some(openapi) = &rule.openapi {
            let map = ObjectId::config_map(namespace, &openapi.document_ref.name);
            all.insert(Reference::Document(map));
        }
        let service = rule.forward_auth.as_ref().and_then(|auth| auth.service.as_ref());
        if let Some((service, port)) = service.and_then(|service| Some((service, port_ref(&service.port).ok()?))) {
            all.insert(Reference::Service(ObjectKey::new(namespace, &service.name), port));
        }
    }
    all
}

/// Where a set of keys is held. None: at a URL.
pub fn holder(namespace: &str, jwks: &policy::Jwks) -> Option<ObjectId> {
    match (&jwks.secret_ref, &jwks.config_map_ref) {
        (Some(secret), _) => Some(ObjectId::secret(namespace, &secret.name)),
        (None, Some(map)) => Some(ObjectId::config_map(namespace, &map.name)),
        (None, None) => None,
    }
}

impl Sources {
    /// Services are looked up elsewhere.
    pub fn add_user(&mut self, reference: &Reference, user: User) {
        match reference {
            Reference::Users(id) => self.users.add_user(id, user),
            Reference::Jwks(id) => self.jwks.add_user(id, user),
            Reference::Document(id) => self.documents.add_user(id, user),
            Reference::Service(..) => {}
        }
    }

    /// What nobody refers to any more is forgotten by the next `resolve`.
    pub fn remove_user(&mut self, reference: &Reference, user: &User) {
        match reference {
            Reference::Users(id) => self.users.remove_user(id, user),
            Reference::Jwks(id) => self.jwks.remove_user(id, user),
            Reference::Document(id) => self.documents.remove_user(id, user),
            Reference::Service(..) => {}
        }
    }

    /// Looks up what changed or is newly referred to. Returns who sees something else than before.
    pub fn resolve(&mut self, changes: &Changes, store: &Store) -> BTreeSet<User> {
        let mut affected = BTreeSet::new();
        let users = |id: &ObjectId| labelled(store, id, Purpose::Htpasswd, users);
        self.users.resolve(changes, users, &mut affected);
        let jwks = |id: &ObjectId| labelled(store, id, Purpose::Jwks, key_set);
        self.jwks.resolve(changes, jwks, &mut affected);
        let documents = |id: &ObjectId| labelled(store, id, Purpose::Openapi, document);
        self.documents.resolve(changes, documents, &mut affected);
        affected
    }

    /// None: no rule refers to it.
    pub fn jwks(&self, id: &ObjectId) -> Option<&Found<Arc<KeySet>>> {
        self.jwks.find(id)
    }

    /// None: no rule refers to it.
    pub fn document(&self, id: &ObjectId) -> Option<&Found<Arc<Document>>> {
        self.documents.find(id)
    }

    /// None: no rule refers to it.
    pub fn users(&self, id: &ObjectId) -> Option<&Found<UsersFile>> {
        self.users.find(id)
    }

    /// The Secrets and the ConfigMaps that are referred to.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        let labelled = self.users.ids().chain(self.jwks.ids());
        labelled.chain(self.documents.ids())
    }

    /// Nothing but the last good versions.
    pub fn last_good(&self) -> Self {
        Self {
            users: self.users.last_good(),
            jwks: self.jwks.last_good(),
            documents: self.documents.last_good(),
        }
    }

    /// The last good versions that stand in for what is broken at present.
    pub fn stand_ins(&self) -> impl Iterator<Item = &Holder> {
        let labelled = self.users.stand_ins().chain(self.jwks.stand_ins());
        labelled.chain(self.documents.stand_ins())
    }

    /// Drops last good versions of what nobody refers to: after a compile of everything.
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

fn malformed(text: impl Into<Arc<str>>) -> Unusable {
    Unusable::Invalid {
        reason: ConditionReason::InvalidReference,
        text: text.into(),
    }
}

fn users(data: &Data) -> Result<UsersFile, Unusable> {
    let file = data.get("auth").ok_or_else(|| malformed("has no auth"))?;
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

fn key_set(data: &Data) -> Result<Arc<KeySet>, Unusable> {
    const KEY: &str = "jwks.json";
    let text = data.get(KEY).ok_or_else(|| malformed(format!("has no {KEY}")))?;
    let set = KeySet::read(text).map_err(|why| malformed(format!("is not usable: {KEY}: {why}")))?;
    Ok(Arc::new(set))
}

/// Whether an object of this purpose holds a document.
pub fn is_document(purpose: &str) -> bool {
    purpose == Purpose::Openapi.label()
}

pub fn document(data: &Data) -> Result<Arc<Document>, Unusable> {
    let keys = ["openapi.yaml", "openapi.json"];
    let texts: Vec<_> = keys.into_iter().filter_map(|key| Some((key, data.get(key)?))).collect();
    let [(key, text)] = texts[..] else {
        return Err(malformed("needs exactly one of openapi.yaml and openapi.json"));
    };
    read(text).map_err(|why| malformed(format!("is not usable: {key}: {why}")))
}

/// Documents that are in use, by their text: equal ones are read once, and one that was read aside is found here.
static DOCUMENTS: LazyLock<Mutex<HashMap<[u8; 32], Weak<Document>>>> = LazyLock::new(Mutex::default);

fn read(text: &[u8]) -> Result<Arc<Document>, String> {
    let fingerprint: Fingerprint = digest(&SHA256, text).into();
    if let Some(document) = DOCUMENTS.lock().get(&fingerprint.0).and_then(Weak::upgrade) {
        return Ok(document);
    }
    let document = Arc::new(Document::read(text)?);
    let mut documents = DOCUMENTS.lock();
    documents.retain(|_, document| document.strong_count() > 0);
    documents.insert(fingerprint.0, Arc::downgrade(&document));
    Ok(document)
}

/// The part that was found, or why there is none. Where it is a last good version, a note says so.
pub fn taken<T: Clone>(
    field: &str,
    id: &ObjectId,
    found: Option<&Found<T>>,
    notes: &mut Vec<Invalid>,
) -> Result<T, Invalid> {
    let problem = found.and_then(|found| found.problem.as_ref());
    let told = problem.map(|problem| (problem.reason(id.kind), format!("{id} {problem}")));
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
            let text = format!("{id} was not looked up");
            Err(Invalid::of(ConditionReason::InvalidReference, text).within(field))
        }
    }
}
