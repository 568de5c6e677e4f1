//! What stands before an app: rules that decide about a request before anything of it is forwarded. Compiled once, comparable,
//! printed without their secrets. What they count and remember lives in `state`.
//!
//! `engine` runs them in their order; each kind of rule has a file of its own.

pub mod api_key;
pub mod basic_auth;
pub mod by;
pub mod connection_limit;
pub mod cors;
pub mod credentials;
pub mod edits;
pub mod effort;
pub mod engine;
pub mod forward_auth;
pub mod guesses;
pub mod jwt;
pub mod logging;
pub mod matcher;
pub mod memory;
pub mod mode;
pub mod openapi;
pub mod origin;
pub mod passed;
pub mod passwords;
pub mod path;
pub mod permissions;
pub mod principal;
pub mod rate_limit;
pub mod refusal;
pub mod request;
pub mod rule_state;
pub mod signer;
pub mod trace;

pub use api_key::ApiKey;
pub use basic_auth::BasicAuth;
pub use by::{By, Keys};
pub use connection_limit::ConnectionLimit;
pub use cors::Cors;
pub use credentials::{Authenticated, Credential};
pub use edits::Edits;
pub use forward_auth::ForwardAuth;
pub use jwt::Jwt;
pub use logging::Logging;
pub use matcher::Match;
pub use mode::Scope;
pub use openapi::OpenApi;
pub use origin::Origin;
pub use passed::Passed;
pub use permissions::Permissions;
pub use principal::Principal;
pub use rate_limit::{OnStoreFailure, RateLimit};
pub use refusal::Refusal;
pub use request::Request;
pub use signer::Signer;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::egress::Egress;
use crate::limits::shared::Shared;
use crate::object::ObjectKey;
use crate::runtime::Slot;
use mode::Mode;

/// One object's rules.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The object's namespace and name.
    pub key: ObjectKey,
    /// The mode of rules that have none of their own.
    pub mode: Mode,
    /// In their order; those that are not enabled are not here.
    pub rules: Box<[Rule]>,
}

/// One rule, compiled.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Unique in its policy; metrics, records and counts go by it.
    pub name: Arc<str>,
    /// The rule's own or, without one, its policy's.
    pub mode: Mode,
    /// All must hold.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub matches: Box<[Match]>,
    /// What it does where it applies.
    pub kind: RuleKind,
    /// Counts and limits, which outlive an edit of the rule.
    #[serde(skip)]
    pub runtime: Slot<rule_state::RuleState>,
}

/// What a rule does, one variant for each kind of object's field.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleKind {
    ApiKey(ApiKey),
    BasicAuth(BasicAuth),
    ConnectionLimit(ConnectionLimit),
    Cors(Cors),
    Firewall(Action),
    ForwardAuth(ForwardAuth),
    Jwt(Jwt),
    Logging(Logging),
    #[serde(rename = "openapi")]
    OpenApi(OpenApi),
    Origin(Origin),
    RateLimit(RateLimit),
    RequestHeaders(Edits),
    ResponseHeaders(Edits),
}

impl RuleKind {
    /// As it is written in objects.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "apiKey",
            Self::BasicAuth(_) => "basicAuth",
            Self::ConnectionLimit(_) => "connectionLimit",
            Self::Cors(_) => "cors",
            Self::Firewall(_) => "firewall",
            Self::ForwardAuth(_) => "forwardAuth",
            Self::Jwt(_) => "jwt",
            Self::Logging(_) => "logging",
            Self::OpenApi(_) => "openapi",
            Self::Origin(_) => "origin",
            Self::RateLimit(_) => "rateLimit",
            Self::RequestHeaders(_) => "requestHeaders",
            Self::ResponseHeaders(_) => "responseHeaders",
        }
    }
}

/// A firewall's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Ends this policy's rules, not those of others.
    Allow,
    /// Refuses.
    Deny,
}

/// What the network and the installation lend to rules.
#[derive(Debug, Default)]
pub struct Services {
    /// Counts for all replicas.
    pub shared: Shared,
    /// Asks other services.
    pub egress: Arc<Egress>,
    /// Signs what apps are told of principals.
    pub signer: Option<Signer>,
}

impl Policy {
    /// Whether a path that can be read in several ways must not pass it.
    pub fn reads_path(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.mode == Mode::Enforce && rule.reads_path())
    }
}

impl Rule {
    fn reads_path(&self) -> bool {
        let keys = match &self.kind {
            RuleKind::RateLimit(limit) => Some(&limit.keys),
            RuleKind::ConnectionLimit(limit) => Some(&limit.keys),
            _ => None,
        };
        // The service of a forwardAuth decides by X-Forwarded-Uri.
        matches!(self.kind, RuleKind::OpenApi(_) | RuleKind::ForwardAuth(_))
            || keys.is_some_and(Keys::read_path)
            || self.matches.iter().any(|one| matches!(one.on, matcher::On::Path(_)))
    }

    /// Whether there is a request that it would refuse.
    pub fn can_refuse(&self) -> bool {
        match self.kind {
            RuleKind::ApiKey(_)
            | RuleKind::BasicAuth(_)
            | RuleKind::ConnectionLimit(_)
            | RuleKind::Firewall(Action::Deny)
            | RuleKind::ForwardAuth(_)
            | RuleKind::Jwt(_)
            | RuleKind::OpenApi(_)
            | RuleKind::Origin(_)
            | RuleKind::RateLimit(_) => true,
            RuleKind::Cors(_)
            | RuleKind::Firewall(Action::Allow)
            | RuleKind::Logging(_)
            | RuleKind::RequestHeaders(_)
            | RuleKind::ResponseHeaders(_) => false,
        }
    }

    /// Whether it authenticates, or validates the request. Such rules are skipped for CORS preflights, which carry neither
    /// credentials nor a body.
    fn is_skipped_for_preflights(&self) -> bool {
        matches!(
            self.kind,
            RuleKind::ApiKey(_)
                | RuleKind::BasicAuth(_)
                | RuleKind::ForwardAuth(_)
                | RuleKind::Jwt(_)
                | RuleKind::OpenApi(_)
        )
    }

    /// Whether deciding has a side effect (it consumes quota or opens a lease) or asks another service. `postern why` skips such
    /// rules.
    fn has_side_effects(&self) -> bool {
        matches!(
            self.kind,
            RuleKind::ConnectionLimit(_) | RuleKind::ForwardAuth(_) | RuleKind::OpenApi(_) | RuleKind::RateLimit(_)
        )
    }

    /// Whether it may have to wait for another service, another thread or its turn.
    fn may_wait(&self) -> bool {
        match &self.kind {
            RuleKind::BasicAuth(_) | RuleKind::ForwardAuth(_) | RuleKind::Jwt(_) | RuleKind::OpenApi(_) => true,
            RuleKind::ConnectionLimit(limit) => limit.scope == Scope::Shared,
            RuleKind::RateLimit(limit) => limit.scope == Scope::Shared,
            _ => false,
        }
    }

    /// Where a credential may stand that this rule looks for.
    pub fn sources(&self) -> &[credentials::Source] {
        match &self.kind {
            RuleKind::ApiKey(key) => &key.from,
            RuleKind::Jwt(jwt) => &jwt.from,
            _ => &[],
        }
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
