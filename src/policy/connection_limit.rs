//! So many open sockets for each key: whether one more may open. Plain requests pass. With the scope Shared it holds for all
//! replicas together as long as the store answers; while it does not, each goes by those that it has open itself, which are
//! never more than the limit.

use std::sync::Arc;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use serde::Serialize;

use super::by::Keys;
use super::mode::Scope;
use super::principal::Principal;
use super::refusal::Refusal;
use super::request::Request;
use super::rule_state;
use crate::limits::shared::{self, Full, Visit};
use crate::limits::sockets::Counted;
use crate::reason::Reason;

/// A rule on sockets alone.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimit {
    /// Whom it counts.
    pub keys: Keys,
    /// Sockets of one key at once.
    pub max: u32,
    /// Among whom `max` holds.
    pub scope: Scope,
}

/// A socket's place, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    _counted: Counted,
    _shared: Option<shared::Lease>,
    /// A rule that goes and comes again finds those that are still open.
    _rule: Arc<rule_state::RuleState>,
}

impl ConnectionLimit {
    /// None: it is no handshake of a socket.
    pub async fn take(
        &self,
        request: &Request<'_>,
        principal: Option<&Principal>,
        rule: &Arc<rule_state::RuleState>,
        shared: &Visit<'_>,
    ) -> Result<Option<Lease>, Refusal> {
        if !request.web_socket {
            return Ok(None);
        }
        let counted = rule
            .sockets
            .open(self.keys.local(request, principal), self.max)
            .ok_or_else(refusal)?;
        let shared = match self.scope {
            Scope::Replica => None,
            Scope::Shared => {
                let opened = shared.open(self.keys.shared(request, principal), self.max).await;
                opened.map_err(|Full| refusal())?
            }
        };
        Ok(Some(Lease {
            _counted: counted,
            _shared: shared,
            _rule: rule.clone(),
        }))
    }
}

/// When a socket will close nobody knows: they who were refused together do not come back together.
fn refusal() -> Refusal {
    let mut refusal = Refusal::from(Reason::TooManyConnections);
    let seconds = HeaderValue::from(fastrand::u32(1..=5));
    refusal.headers.insert(RETRY_AFTER, seconds);
    refusal
}
