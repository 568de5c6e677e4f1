//! What rules have said of one request by the time that it passes, or is refused: who it is from, what the app is told and
//! not told, and what goes with the answer.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::cors::Grant;
use super::edits::{Edits, remove_folded};
use super::{Kind, Policy, Principal};

pub const X_POSTERN_PRINCIPAL: HeaderName = HeaderName::from_static("x-postern-principal");

#[derive(Debug, Default)]
pub struct Passed {
    /// Of the first rule that authenticated.
    pub principal: Option<Arc<Principal>>,
    /// Rules with edits, by the policy and their place in it.
    edits: Vec<(Arc<Policy>, usize)>,
    /// What another service's answer says to the app; an empty value: nothing may stand under this name.
    pub told: HeaderMap,
    pub grant: Option<Grant>,
    /// Rules that want a record of this request.
    pub logged: Vec<(Arc<Policy>, usize)>,
    /// All that stand before the app, where a record is wanted: what it may not hold is theirs to say.
    pub policies: Vec<Arc<Policy>>,
}

impl Passed {
    pub fn edit(&mut self, policy: &Arc<Policy>, rule: usize) {
        self.edits.push((policy.clone(), rule));
    }

    /// What the app gets, after all that Postern says of itself.
    pub fn complete<B>(&self, request: &mut http::Request<B>) {
        let headers = request.headers_mut();
        for name in self.told.keys() {
            remove_folded(headers, name);
        }
        for (name, value) in self.told.iter().filter(|(_, value)| !value.is_empty()) {
            headers.append(name, value.clone());
        }
        for edits in self.edits(|kind| match kind {
            Kind::RequestHeaders(edits) => Some(edits),
            _ => None,
        }) {
            edits.apply(headers);
        }
        if let Some(principal) = &self.principal {
            headers.insert(X_POSTERN_PRINCIPAL, principal.header().clone());
        }
    }

    /// What the client gets. `own`: the answer is Postern's, which the app's rules on headers do not touch.
    pub fn finish(&self, headers: &mut HeaderMap, own: bool) {
        if !own {
            for edits in self.edits(|kind| match kind {
                Kind::ResponseHeaders(edits) => Some(edits),
                _ => None,
            }) {
                edits.apply(headers);
            }
        }
        if let Some(grant) = &self.grant {
            grant.apply(headers);
        }
    }

    fn edits<'a>(&'a self, of: impl Fn(&'a Kind) -> Option<&'a Edits> + 'a) -> impl Iterator<Item = &'a Edits> {
        let kinds = self
            .edits
            .iter()
            .filter_map(|(policy, rule)| Some(&policy.rules.get(*rule)?.kind));
        kinds.filter_map(of)
    }
}
