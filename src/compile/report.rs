//! What compile found out about one object: the only output besides the snapshot. It becomes status and Events in a
//! cluster, and lines on the terminal in `postern check`.

use std::sync::Arc;

use super::acme::Order;
use super::intent::Parent;
use super::problem::Finding;
use super::tls::report::Served;
use crate::condition::ConditionType;
use crate::object::ObjectId;

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub id: ObjectId,
    pub uid: Arc<str>,
    /// The generation that was compiled: every condition's observedGeneration.
    pub generation: i64,
    /// At least one.
    pub parents: Vec<ParentReport>,
    pub details: Details,
}

/// How an object fares with one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentReport {
    pub parent: Parent,
    /// Accepted first. Programmed is the writer's: it knows what is served. An object that cannot be decoded has Accepted
    /// alone.
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Details {
    Routes(RouteDetails),
    Policy(PolicyDetails),
}

/// What is told of an object that asks for routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteDetails {
    /// Over all its backends, each endpoint once.
    pub endpoints: Counts,
    /// The names that are served, sorted.
    pub hostnames: Vec<Arc<str>>,
    /// The certificates of its own that are served, sorted. Default ones are the installation's.
    pub certificates: Vec<Served>,
    /// Certificates to be had by ACME.
    pub orders: Vec<Order>,
}

/// What is told of a SentinelPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDetails {
    /// Objects that it applies to, of whatever class.
    pub targets: u32,
    /// Rules that are enabled.
    pub rules: u32,
    /// Whether this installation is the one to tell: policies have no class, their targets do.
    pub ours: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: u32,
    /// Every endpoint of the slices, ready or not.
    pub total: u32,
}

impl Report {
    /// The conditions toward the first parent: all that there is where an object can have but one.
    pub fn findings(&self) -> &[Finding] {
        self.parents.first().map_or(&[], |parent| &parent.findings)
    }

    /// None: the object does not ask for routes.
    pub fn routes(&self) -> Option<&RouteDetails> {
        match &self.details {
            Details::Routes(details) => Some(details),
            Details::Policy(_) => None,
        }
    }

    /// Whether a parent accepts the object, if only in part.
    pub fn is_accepted(&self) -> bool {
        let mut findings = self.parents.iter().flat_map(|parent| &parent.findings);
        findings.any(|finding| finding.r#type == ConditionType::Accepted && finding.status)
    }

    /// Whether this installation writes the object's status.
    pub fn is_ours(&self) -> bool {
        match &self.details {
            Details::Routes(_) => true,
            Details::Policy(details) => details.ours,
        }
    }
}
