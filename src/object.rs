//! The kinds and identities of objects, and the trimmed data that the store keeps of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// The stable identity of an upstream: counts and pools follow it through every change of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamKey {
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    /// The Service port's number.
    pub port: u16,
}

impl fmt::Display for UpstreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

impl Serialize for UpstreamKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Namespace and name of an object, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    /// Copies both.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// As it is printed: neither half contains a slash.
impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <Box<str>>::deserialize(from)?;
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self::new(namespace, name)),
            None => Err(de::Error::custom("not <namespace>/<name>")),
        }
    }
}

/// A kind of object that is watched, under its name in the API.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Hash, VariantArray)]
pub enum Kind {
    ConfigMap,
    Deployment,
    EndpointSlice,
    Secret,
    SentinelPolicy,
    Service,
}

/// The identity of an object among those of all kinds: an Ingress and a Deployment may have one name. Identities are
/// ordered by namespace and name, so that the kind decides only between objects of one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    pub key: ObjectKey,
    pub kind: Kind,
}

impl ObjectId {
    /// An object of this kind, whether it exists or not.
    pub fn new(kind: Kind, key: ObjectKey) -> Self {
        Self { key, kind }
    }

    /// A Secret's identity.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self::new(Kind::Secret, ObjectKey::new(namespace, name))
    }

    /// A ConfigMap's identity.
    pub fn config_map(namespace: &str, name: &str) -> Self {
        Self::new(Kind::ConfigMap, ObjectKey::new(namespace, name))
    }

    /// The namespace that the object is in.
    pub fn namespace(&self) -> &Arc<str> {
        &self.key.namespace
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// A Deployment is printed by its key alone: most objects are such. Others are printed with their kind.
impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            Kind::Deployment => to.collect_str(&self.key),
            _ => to.collect_str(self),
        }
    }
}

/// By key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(BTreeMap<Arc<str>, Arc<[u8]>>);

/// What a Secret or ConfigMap is for, as its label `postern.dev/use` says.
#[derive(Clone, Copy, Debug, Display, EnumString, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum Purpose {
    /// A certificate that ACME orders, its account, or the answer to one of its challenges.
    Acme,
    ApiKey,
    /// Certificates of authorities.
    Ca,
    Htpasswd,
    Jwks,
    Openapi,
}

impl Purpose {
    /// The label's value.
    pub const fn label(self) -> &'static str {
        self.into_str()
    }

    /// The keys of such an object that are read.
    pub fn kept(self) -> &'static [&'static str] {
        match self {
            Self::Acme => &["hostname", "token", "keyAuthorization"],
            Self::ApiKey => &[
                "key",
                "sha256",
                "subject",
                "expiresAt",
                "permissions",
                "roles",
                "meta",
                "enabled",
            ],
            Self::Ca => &["ca.crt"],
            Self::Htpasswd => &["auth"],
            Self::Jwks => &["jwks.json"],
            Self::Openapi => &["openapi.yaml", "openapi.json"],
        }
    }
}

impl Data {
    /// None: there is no such key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// Bytes of all values.
    pub fn size(&self) -> usize {
        self.lengths().map(|(_, length)| length).sum()
    }

    /// Every key with its bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<[u8]>)> {
        self.0.iter()
    }

    fn lengths(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.0.iter().map(|(key, bytes)| (key, bytes.len()))
    }
}

impl<K: Into<Arc<str>>, V: Into<Arc<[u8]>>> FromIterator<(K, V)> for Data {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let items = items.into_iter();
        Self(items.map(|(key, bytes)| (key.into(), bytes.into())).collect())
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lengths()).finish()
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.lengths())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_are_printed() {
        let data = Data::from_iter([("tls.key", &b"hush"[..])]);
        assert_eq!(format!("{data:?}"), r#"{"tls.key": 4}"#);
        assert_eq!(serde_json::to_string(&data).unwrap(), r#"{"tls.key":4}"#);
    }
}
