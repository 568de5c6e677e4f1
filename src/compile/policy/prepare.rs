//! What takes long in a compile, done beforehand and elsewhere: regular expressions and OpenAPI documents. Those that are in use
//! are known by their text, so that the compile finds what was prepared for it, and is the same without it.

use std::sync::Arc;

use super::matching::{self, RegexBudget};
use super::references::{self, is_document};
use crate::api::policy::{Mode, SentinelPolicySpec};
use crate::object::{Kind, ObjectId};
use crate::policy::Match;
use crate::policy::openapi::Document;
use crate::store::{self, Store};

/// Keeps what was prepared until the compile has found it.
#[derive(Debug, Default)]
pub struct Prepared {
    _matches: Vec<Box<[Match]>>,
    _document: Option<Arc<Document>>,
}

/// An object of which something takes long.
#[derive(Debug)]
pub enum Slow {
    Policy(Arc<store::Policy>),
    Document(Arc<store::ConfigMap>),
    /// It takes long enough to wait for its turn, and nothing of it can be prepared.
    Other,
}

/// A text of more bytes takes a while to read.
const LARGE: usize = 16 * 1024;

impl Slow {
    /// None: it is compiled in a moment, or there is no such object.
    pub fn of(id: &ObjectId, store: &Store) -> Option<Self> {
        match id.kind {
            Kind::SentinelPolicy => {
                let policy = store.policy(&id.key)?;
                let is_slow = policy.spec.as_ref().is_ok_and(|spec| has_regex(spec));
                is_slow.then(|| Self::Policy(policy.clone()))
            }
            Kind::ConfigMap => {
                let map = store.config_map(&id.key)?;
                (map.data.size() > LARGE).then(|| Self::Document(map.clone()))
            }
            Kind::Secret => {
                let secret = store.secret(&id.key)?;
                (secret.data.size() > LARGE).then_some(Self::Other)
            }
            _ => None,
        }
    }

    /// Takes long.
    pub fn prepare(&self) -> Prepared {
        match self {
            Self::Policy(policy) => Prepared {
                _matches: policy
                    .spec
                    .as_ref()
                    .map(|spec| matches(spec, policy.mode))
                    .unwrap_or_default(),
                ..Prepared::default()
            },
            Self::Document(map) if is_document(&map.purpose) => Prepared {
                _document: references::document(&map.data).ok(),
                ..Prepared::default()
            },
            Self::Document(_) | Self::Other => Prepared::default(),
        }
    }
}

/// As `rule::rules` has them, within the same bounds.
fn matches(spec: &SentinelPolicySpec, mode: Option<Mode>) -> Vec<Box<[Match]>> {
    let (mut enforced, mut shadow) = (RegexBudget::default(), RegexBudget::default());
    let enabled = spec.rules.iter().filter(|rule| rule.enabled);
    let built = enabled.filter_map(|rule| {
        let budget = match rule.mode.or(mode).unwrap_or_default() {
            Mode::Enforce => &mut enforced,
            Mode::Shadow => &mut shadow,
        };
        matching::matches(&rule.matches, budget).ok()
    });
    built.collect()
}

fn has_regex(spec: &SentinelPolicySpec) -> bool {
    let mut matches = spec.rules.iter().flat_map(|rule| &rule.matches);
    matches.any(|one| {
        let path = one.path.as_ref().is_some_and(|path| path.regex.is_some());
        let header = one.header.as_ref().and_then(|header| header.value.as_ref());
        let parameters = [&one.query, &one.cookie].into_iter().flatten();
        let mut values = header
            .into_iter()
            .chain(parameters.filter_map(|parameter| parameter.value.as_ref()));
        path || values.any(|value| value.regex.is_some())
    })
}
