//! A report on an object of any kind.

use std::sync::Arc;

use super::policy::report::PolicyReport;
use super::problem::Finding;
use super::report::Report;

#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    Deployment(Arc<Report>),
    SentinelPolicy(Arc<PolicyReport>),
}

impl Subject {
    pub fn uid(&self) -> &Arc<str> {
        match self {
            Self::Deployment(report) => &report.uid,
            Self::SentinelPolicy(report) => &report.uid,
        }
    }

    pub fn generation(&self) -> i64 {
        match self {
            Self::Deployment(report) => report.generation,
            Self::SentinelPolicy(report) => report.generation,
        }
    }

    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Deployment(report) => &report.conditions,
            Self::SentinelPolicy(report) => &report.conditions,
        }
    }

    /// Whether this installation writes the object's status.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Deployment(_) => true,
            Self::SentinelPolicy(report) => report.ours,
        }
    }
}
