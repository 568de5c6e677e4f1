//! What one compile leaves to the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::acme::Answers;
use super::backend::Services;
use super::host::{Names, Offer};
use super::policy::{Guard, Policies};
use super::report::Report;
use super::subject::Subject;
use super::tls::{Client, Materials, Terms};
use super::wanted::Wanted;
use crate::compile::policy::report::PolicyReport;
use crate::config::Routing;
use crate::hostname::HostName;
use crate::object::{Kind, ObjectId, ObjectKey};
use crate::snapshot::{Route, Snapshot};
use crate::store::{Changes, Store};

/// Memory for unchanged parts. With and without it the result is equal; with it the cost of a change grows with the change.
/// And the last good versions of what is broken at present, which no object tells any more.
#[derive(Default)]
pub struct Previous {
    /// What the memory was made with. None: there is none yet.
    pub(super) routing: Option<Routing>,
    pub(super) deployments: HashMap<ObjectId, Known>,
    pub(super) services: Services,
    pub(super) materials: Materials,
    pub(super) policies: Policies,
    /// As they were looked up last.
    pub(super) default_secrets: Box<[ObjectKey]>,
    pub(super) default_problems: Vec<String>,
    pub(super) answers: Answers,
    pub(super) names: Names,
    pub(super) reports: BTreeMap<ObjectId, Subject>,
    /// Objects to which sockets may belong, with the uid: also those that cannot be decoded at present.
    pub(super) alive: HashMap<ObjectId, Arc<str>>,
    pub(super) snapshot: Snapshot,
}

/// A Deployment that decodes, and the routes that it would have where nobody is in its way.
pub(super) struct Known {
    pub(super) wanted: Wanted,
    pub(super) terms: Terms,
    pub(super) guard: Guard,
    pub(super) routes: Box<[Route]>,
}

impl Previous {
    pub fn report(&self, id: &ObjectId) -> Option<&Subject> {
        self.reports.get(id)
    }

    /// The reports on all objects of our class and on all policies, sorted by namespace and name.
    pub fn reports(&self) -> impl Iterator<Item = &Subject> {
        self.reports.values()
    }

    pub fn deployment_reports(&self) -> impl Iterator<Item = &Arc<Report>> {
        self.reports().filter_map(|subject| match subject {
            Subject::Deployment(report) => Some(report),
            Subject::SentinelPolicy(_) => None,
        })
    }

    pub fn policy_reports(&self) -> impl Iterator<Item = &Arc<PolicyReport>> {
        self.reports().filter_map(|subject| match subject {
            Subject::SentinelPolicy(report) => Some(report),
            Subject::Deployment(_) => None,
        })
    }

    /// Nothing but what the objects do not tell any more: the last good versions of what is broken.
    pub fn last_good(&self) -> Self {
        Self {
            policies: self.policies.last_good(),
            materials: self.materials.last_good(),
            ..Self::default()
        }
    }

    /// Every object there is and every object there was.
    pub(super) fn everything(&self, store: &Store) -> Changes {
        let (mut secrets, mut config_maps) = self.materials.keys();
        let (of_policies, maps_of_policies) = self.policies.objects();
        secrets.extend(of_policies);
        config_maps.extend(maps_of_policies);
        secrets.extend(store.secrets().map(|secret| secret.key.clone()));
        secrets.extend(self.answers.keys().cloned());
        let known = self
            .reports
            .keys()
            .chain(self.alive.keys())
            .chain(self.policies.deployments())
            .filter(|id| id.kind == Kind::Deployment)
            .map(|id| &id.key);
        let deployments = store.deployments().map(|object| &object.key).chain(known);
        let policies = store.policies().map(|policy| &policy.key).chain(self.policies.keys());
        let mut changes = Changes::default();
        changes.add(Kind::Deployment, deployments.cloned().collect());
        changes.add(Kind::SentinelPolicy, policies.cloned().collect());
        changes.add(Kind::Service, self.services.keys().cloned().collect());
        changes.add(Kind::Secret, secrets);
        changes.add(Kind::ConfigMap, config_maps);
        changes
    }
}

impl Known {
    pub(super) fn offer(&self, name: &HostName) -> Offer<'_> {
        let place = self.wanted.names.iter().position(|claimed| claimed.name == *name);
        let certificates = place.and_then(|place| self.terms.certificates.get(place));
        Offer {
            routes: &self.routes,
            certificates: certificates.map_or(&[][..], |certificates| certificates),
            client: match &self.terms.client {
                Client::Rule(rule) => Some(rule),
                Client::Anyone | Client::Unresolved => None,
            },
        }
    }
}
