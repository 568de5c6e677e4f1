//! What the watches have delivered: trimmed objects by key, and which keys changed since the last compile.
//! One task owns the store; nothing here blocks or looks at a clock.

mod bytes;
mod changes;
mod objects;
mod table;

pub use crate::object::Kind;
pub use changes::Changes;
pub use objects::{
    ConfigMap, Deployment, EndpointSlice, Holder, Labels, Policy, Resource, Secret, Service, ServicePort,
    SliceEndpoint, SlicePort, Targets, Undecoded, selects,
};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::object::{ObjectId, ObjectKey};
use table::{AnyTable, Slices, Stored, Table};

/// What a source (apiserver or folder) tells the store.
#[derive(Clone, Debug)]
pub enum Event {
    Apply(Object),
    Delete(ObjectId),
    /// A list of this kind is complete: what it does not hold has vanished, however many deletions were missed.
    Listed(Kind, BTreeSet<ObjectKey>),
}

/// What a source saw at one moment; applied as one.
#[derive(Clone, Debug)]
pub struct Batch {
    pub events: Vec<Event>,
    /// When the source saw it: the start of postern_propagation_seconds.
    pub seen: Instant,
}

/// All objects, sorted by key.
#[derive(Debug, Default)]
pub struct Store {
    tables: Tables,
    listed: BTreeSet<Kind>,
}

/// A kind costs one entry: its name in `Kind`, what is kept of an object, and the table that keeps it.
macro_rules! kinds {
    ($($kind:ident($object:ty) in $table:ident: $tables:ty,)*) => {
        /// One watched object.
        #[derive(Clone, Debug, Deserialize, PartialEq)]
        pub enum Object {
            $($kind($object),)*
        }

        /// One object as the store holds it. It is written as `Object` is read.
        #[derive(Clone, Debug, Serialize)]
        pub enum Shared {
            $($kind(Arc<$object>),)*
        }

        #[derive(Debug, Default)]
        struct Tables {
            $($table: $tables,)*
        }

        impl Object {
            /// The identity of the object.
            pub fn id(&self) -> ObjectId {
                match self {
                    $(Self::$kind(object) => ObjectId::new(Kind::$kind, object.key().clone()),)*
                }
            }

            /// Why the object could not be decoded. None: all of it is understood.
            pub fn undecodable(&self) -> Option<Arc<str>> {
                match self {
                    $(Self::$kind(object) => object.undecodable(),)*
                }
            }
        }

        impl Tables {
            fn objects(&self) -> impl Iterator<Item = Shared> {
                std::iter::empty()$(.chain(self.$table.objects().cloned().map(Shared::$kind)))*
            }

            fn put(&mut self, object: Object) {
                match object {
                    $(Object::$kind(object) => self.$table.put(object),)*
                }
            }

            fn of(&self, kind: Kind) -> &dyn AnyTable {
                match kind {
                    $(Kind::$kind => &self.$table,)*
                }
            }

            fn of_mut(&mut self, kind: Kind) -> &mut dyn AnyTable {
                match kind {
                    $(Kind::$kind => &mut self.$table,)*
                }
            }
        }
    };
}

kinds! {
    ConfigMap(ConfigMap) in config_maps: Table<ConfigMap>,
    Deployment(Deployment) in deployments: Table<Deployment>,
    EndpointSlice(EndpointSlice) in slices: Slices,
    Secret(Secret) in secrets: Table<Secret>,
    SentinelPolicy(Policy) in policies: Table<Policy>,
    Service(Service) in services: Table<Service>,
}

impl Store {
    /// Equal objects are no change: sources may repeat themselves.
    pub fn apply(&mut self, batch: Batch) {
        for event in batch.events {
            match event {
                Event::Apply(object) => self.tables.put(object),
                Event::Delete(id) => self.tables.of_mut(id.kind).remove(&id.key),
                Event::Listed(kind, keys) => {
                    let table = self.tables.of_mut(kind);
                    for key in table.missing(&keys) {
                        table.remove(&key);
                    }
                    self.listed.insert(kind);
                }
            }
        }
    }

    /// Every kind has been listed: what is here is the whole world, and may be compiled.
    pub fn is_complete(&self) -> bool {
        self.unlisted().next().is_none()
    }

    /// The kinds that have not been listed yet.
    pub fn unlisted(&self) -> impl Iterator<Item = Kind> {
        Kind::VARIANTS
            .iter()
            .copied()
            .filter(|kind| !self.listed.contains(kind))
    }

    /// What has changed since this was called last.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for &kind in Kind::VARIANTS {
            self.tables.of_mut(kind).report(kind, &mut changes);
        }
        changes
    }

    /// None: there is none under this key.
    pub fn deployment(&self, key: &ObjectKey) -> Option<&Arc<Deployment>> {
        self.tables.deployments.get(key)
    }

    /// None: there is none under this key.
    pub fn policy(&self, key: &ObjectKey) -> Option<&Arc<Policy>> {
        self.tables.policies.get(key)
    }

    /// None: there is none under this key.
    pub fn service(&self, key: &ObjectKey) -> Option<&Arc<Service>> {
        self.tables.services.get(key)
    }

    /// None: there is none under this key, or it is neither of type kubernetes.io/tls nor labelled.
    pub fn secret(&self, key: &ObjectKey) -> Option<&Arc<Secret>> {
        self.tables.secrets.get(key)
    }

    /// None: there is none under this key, or it is not labelled.
    pub fn config_map(&self, key: &ObjectKey) -> Option<&Arc<ConfigMap>> {
        self.tables.config_maps.get(key)
    }

    /// A Secret or a ConfigMap. None: there is no such object, or it is of another kind.
    pub fn holder(&self, id: &ObjectId) -> Option<Holder> {
        match id.kind {
            Kind::Secret => self.secret(&id.key).cloned().map(Holder::Secret),
            Kind::ConfigMap => self.config_map(&id.key).cloned().map(Holder::ConfigMap),
            _ => None,
        }
    }

    /// All of them, kind by kind.
    pub fn objects(&self) -> impl Iterator<Item = Shared> {
        self.tables.objects()
    }

    /// The keys of all objects of this kind, sorted.
    pub fn keys(&self, kind: Kind) -> BTreeSet<ObjectKey> {
        self.tables.of(kind).keys()
    }

    /// In the order of the slices' names.
    pub fn slices(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.tables.slices.of(service)
    }

    /// How many objects of this kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.tables.of(kind).len()
    }
}

impl From<Holder> for Shared {
    fn from(holder: Holder) -> Self {
        match holder {
            Holder::Secret(secret) => Self::Secret(secret),
            Holder::ConfigMap(map) => Self::ConfigMap(map),
        }
    }
}

#[cfg(test)]
mod tests;
