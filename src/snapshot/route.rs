//! One route of a host: which path, which Deployment's rules, which upstreams.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Serialize, Serializer};

use super::certificate::ClientTls;
use crate::matching::Matches;
use crate::object::ObjectId;
use crate::policy::Policy;
use crate::policy::path::AmbiguousPaths;
use crate::reason::Reason;
use crate::runtime::Slot;
use crate::text::printed;
use crate::upstream::Upstream;
use crate::upstream::balance::Strategy;
use crate::upstream::tls::UpstreamTls;
use crate::websocket::deployment_state::DeploymentState;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    #[serde(flatten)]
    pub matches: Matches,
    /// Printed by its key: the snapshot's own table has all of it.
    #[serde(serialize_with = "key")]
    pub deployment: Arc<Deployment>,
    pub action: Action,
    /// What a client's handshake must have gone by; None: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<Arc<ClientTls>>,
    /// For upstreams that speak TLS.
    #[serde(skip_serializing_if = "plain")]
    pub upstream_tls: Arc<UpstreamTls>,
    /// What stands before the app, in the order in which it is asked. Printed by its keys.
    #[serde(serialize_with = "keys", skip_serializing_if = "Option::is_none")]
    pub policies: Option<Arc<[Arc<Policy>]>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// By weight, over the backends that have an endpoint. All empty: 503 no_ready_endpoint.
    Forward(Arc<[Backend]>),
    /// The answer to every request of this route: deployment_offline, deployment_invalid, backend_not_found.
    Refuse(Reason),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    pub weight: u32,
    /// None: the Service or its port does not exist. Its share then answers 503 backend_not_found.
    pub upstream: Option<Arc<Upstream>>,
}

/// What the routes of one object share; it outlives each of them in open sockets.
#[derive(Debug, PartialEq, Serialize)]
pub struct Deployment {
    #[serde(rename = "key")]
    pub id: ObjectId,
    pub uid: Arc<str>,
    /// X-Deployment-Id.
    #[serde(rename = "id", serialize_with = "printed::value")]
    pub deployment_id: HeaderValue,
    pub state: RunState,
    pub timeouts: Timeouts,
    pub strategy: Strategy,
    pub ambiguous_paths: AmbiguousPaths,
    #[serde(skip)]
    pub runtime: Slot<DeploymentState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RunState {
    Running,
    Stopped,
    /// Its object cannot be decoded: all that is known is which requests it is about.
    Undecodable,
}

/// None: no limit ("0s").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    #[serde(serialize_with = "printed::option_seconds")]
    pub connect: Option<Duration>,
    #[serde(serialize_with = "printed::option_seconds")]
    pub dial_budget: Option<Duration>,
    #[serde(serialize_with = "printed::option_seconds")]
    pub response: Option<Duration>,
    #[serde(serialize_with = "printed::option_seconds")]
    pub idle: Option<Duration>,
    #[serde(serialize_with = "printed::option_seconds")]
    pub total: Option<Duration>,
    #[serde(serialize_with = "printed::option_seconds")]
    pub handshake: Option<Duration>,
}

impl Route {
    /// Whether anything is asked of a client before this route's app is.
    pub(super) fn is_guarded(&self) -> bool {
        self.policies.is_some() || self.client_tls.is_some()
    }

    pub(super) fn has_rules_of(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.policies == other.policies && self.client_tls == other.client_tls
    }
}

fn keys<S: Serializer>(policies: &Option<Arc<[Arc<Policy>]>>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(policies.iter().flat_map(|all| all.iter()).map(|policy| &policy.key))
}

fn plain(tls: &Arc<UpstreamTls>) -> bool {
    tls.is_plain()
}

fn key<S: Serializer>(deployment: &Arc<Deployment>, to: S) -> Result<S::Ok, S::Error> {
    deployment.id.serialize(to)
}
