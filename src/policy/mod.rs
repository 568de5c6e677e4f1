//! What stands before an app: rules that decide about a request before anything of it is forwarded. Compiled once, comparable,
//! printed without their secrets. What they count and remember lives in `state`.
//!
//! `engine` runs them in their order; each kind of rule has a file of its own.

pub mod cors;
pub mod edits;
pub mod engine;
pub mod logging;
pub mod matcher;
pub mod openapi;
pub mod origin;
pub mod passed;
pub mod path;
pub mod principal;
pub mod refusal;
pub mod request;
pub mod reserved;
pub mod trace;

use std::sync::Arc;

use serde::Serialize;

pub use cors::Cors;
pub use edits::Edits;
pub use logging::Logging;
pub use matcher::Match;
pub use origin::Origin;
pub use passed::Passed;
pub use principal::Principal;
pub use refusal::Refusal;
pub use request::Request;

use crate::snapshot::Slot;
use crate::state;
use crate::store::ObjectKey;

/// One object's rules.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub key: ObjectKey,
    pub mode: Mode,
    /// In their order; those that are not enabled are not here.
    pub rules: Box<[Rule]>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub name: Arc<str>,
    pub mode: Mode,
    /// All must hold.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub matches: Box<[Match]>,
    pub kind: Kind,
    #[serde(skip)]
    pub runtime: Slot<state::Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mode {
    Enforce,
    /// Decides, counts and tells, and lets through.
    Shadow,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Cors(Cors),
    Firewall(Action),
    Logging(Logging),
    Origin(Origin),
    RequestHeaders(Edits),
    ResponseHeaders(Edits),
}

impl Kind {
    /// As it is written in objects.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cors(_) => "cors",
            Self::Firewall(_) => "firewall",
            Self::Logging(_) => "logging",
            Self::Origin(_) => "origin",
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
    Deny,
}

/// What the network and the installation lend to rules.
#[derive(Debug, Default)]
pub struct Services {}

impl Mode {
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
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
        self.matches.iter().any(|one| matches!(one.on, matcher::On::Path(_)))
    }
}
