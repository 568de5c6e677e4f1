//! What rules have said of one request by the time that it passes, or is refused: who it is from, what the app is told and
//! not told, and what goes with the answer.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

use super::connection_limit::Lease;
use super::cors::Grant;
use super::credentials::{Authenticated, Credential, echo};
use super::edits::{Edits, remove_folded};
use super::forward_auth::Allowed;
use super::principal::Principal;
use super::rate_limit::{LIMIT, Standing};
use super::signer::Signer;
use super::{Policy, RuleKind, unix_seconds};

/// The principal in JSON, to the app; from a client it is dropped.
pub const X_POSTERN_PRINCIPAL: HeaderName = HeaderName::from_static("x-postern-principal");
/// The principal as a JWT, to the app; from a client it is dropped.
pub const X_POSTERN_PRINCIPAL_TOKEN: HeaderName = HeaderName::from_static("x-postern-principal-token");

/// Starts empty, and goes with the request to the app and with the answer to the client.
#[derive(Default)]
pub struct Passed {
    /// The principal of the first rule that authenticated.
    pub principal: Option<Arc<Principal>>,
    /// The principal, signed.
    pub token: Option<HeaderValue>,
    credentials: Vec<Credential>,
    /// The only subprotocol that was offered, if it was a credential.
    offered: OnceLock<HeaderValue>,
    /// Rules with edits, by the policy and their place in it.
    edits: Vec<(Arc<Policy>, usize)>,
    /// What another service's answer says to the app; an empty value: nothing may stand under this name.
    told: HeaderMap,
    /// What browsers are told of the answer; None: no `cors` rule applies, or the request is a preflight.
    pub grant: Option<Grant>,
    /// The strictest limit's.
    standing: Option<Standing>,
    /// Held by the socket, once there is one.
    leases: Vec<Lease>,
    /// Rules that want a record of this request.
    pub logged: Vec<(Arc<Policy>, usize)>,
}

impl Passed {
    /// The first principal stays; every credential is kept from the app.
    pub fn authenticate(&mut self, who: Authenticated) {
        self.principal.get_or_insert(who.principal);
        self.credentials.push(who.credential);
    }

    /// Where no rule has said who it is.
    pub fn fall_back(&mut self, principal: &Arc<Principal>) {
        self.principal.get_or_insert_with(|| principal.clone());
    }

    /// The last answer's word on a header counts; the first principal stays.
    pub fn allow(&mut self, allowed: Allowed) {
        if let Some(principal) = allowed.principal {
            self.principal.get_or_insert(principal);
        }
        for name in allowed.told.keys() {
            self.told.remove(name);
        }
        self.told.extend(allowed.told);
    }

    /// Signs the principal, if there is one, for this audience.
    pub fn sign(&mut self, signer: &Signer, audience: &str) {
        if let Some(principal) = &self.principal {
            self.token = signer.sign(principal, audience, unix_seconds());
        }
    }

    /// Of `policy`, the rule at this place edits the request or its answer.
    pub fn edit(&mut self, policy: &Arc<Policy>, rule: usize) {
        self.edits.push((policy.clone(), rule));
    }

    /// Keeps the stricter of two.
    pub fn stand(&mut self, standing: Standing) {
        self.standing = Some(match self.standing.take() {
            Some(other) => other.stricter(standing),
            None => standing,
        });
    }

    /// Keeps a lease until the request is refused, or its socket ends.
    pub fn hold(&mut self, lease: Lease) {
        self.leases.push(lease);
    }

    /// For the socket that the request has become.
    pub fn take_leases(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.leases)
    }

    /// What the app gets, after all that Postern says of itself.
    pub fn complete<B>(&self, request: &mut Request<B>) {
        for credential in &self.credentials {
            if let Some(stripped) = credential.strip_target(request.uri()) {
                *request.uri_mut() = stripped;
            }
            if let Some(offered) = credential.strip_headers(request.headers_mut()) {
                // The same for every attempt.
                let _ = self.offered.set(offered);
            }
        }
        let headers = request.headers_mut();
        for name in self.told.keys() {
            remove_folded(headers, name);
        }
        for (name, value) in self.told.iter().filter(|(_, value)| !value.is_empty()) {
            headers.append(name, value.clone());
        }
        for edits in self.edits(|kind| match kind {
            RuleKind::RequestHeaders(edits) => Some(edits),
            _ => None,
        }) {
            edits.apply(headers);
        }
        if let Some(principal) = &self.principal {
            headers.insert(X_POSTERN_PRINCIPAL, principal.header().clone());
        }
        if let Some(token) = &self.token {
            headers.insert(X_POSTERN_PRINCIPAL_TOKEN, token.clone());
        }
    }

    /// What the client gets. `own`: the answer is Postern's, which the app's rules on headers do not touch.
    pub fn finish(&self, status: StatusCode, headers: &mut HeaderMap, own: bool) {
        if status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(offered) = self.offered.get()
        {
            echo(headers, offered);
        }
        if !own {
            for edits in self.edits(|kind| match kind {
                RuleKind::ResponseHeaders(edits) => Some(edits),
                _ => None,
            }) {
                edits.apply(headers);
            }
        }
        // A refusal by a limit tells of that limit.
        if let Some(standing) = self.standing.as_ref().filter(|_| !(own && headers.contains_key(LIMIT))) {
            standing.write(headers);
        }
        if let Some(grant) = &self.grant {
            grant.apply(headers);
        }
    }

    fn edits<'a>(&'a self, of: impl Fn(&'a RuleKind) -> Option<&'a Edits> + 'a) -> impl Iterator<Item = &'a Edits> {
        let kinds = self
            .edits
            .iter()
            .filter_map(|(policy, rule)| Some(&policy.rules.get(*rule)?.kind));
        kinds.filter_map(of)
    }
}

// By hand: tokens and subprotocols are credentials.
impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passed({:?})", self.principal)
    }
}
