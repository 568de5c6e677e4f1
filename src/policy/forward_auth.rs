//! Asks another service whether a request may pass: a plain GET that tells of the request, whose answer's status decides.
//! The upgrade itself is never forwarded, nor is a body.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::edits::remove_folded;
use super::principal::{Kind, Parts, Principal};
use super::refusal::Refusal;
use super::request::Request;
use crate::egress::{Egress, Failure, Limits, Reach};
use crate::fields::reserved::is_framing;
use crate::fields::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, cdn_loop, node};
use crate::reason::Reason;
use crate::text::printed;
use crate::upstream::Upstream;
use crate::upstream::balance::{Strategy, choose_endpoint};

/// A rule that has a server decide.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardAuth {
    /// Whom it asks.
    pub target: Target,
    /// For one decision, over all tries of it.
    #[serde(serialize_with = "printed::seconds")]
    pub timeout: Duration,
    /// The client's, which the service gets.
    #[serde(serialize_with = "printed::texts")]
    pub request_headers: Box<[HeaderName]>,
    /// The service's, which the app gets in place of the client's. None that is not `edits::is_editable`.
    #[serde(serialize_with = "printed::texts")]
    pub response_headers: Box<[HeaderName]>,
    /// The header of an allowing answer that names the subject.
    #[serde(serialize_with = "printed::option_text", skip_serializing_if = "Option::is_none")]
    pub subject_header: Option<HeaderName>,
    /// Whether requests pass while the server gives no decision. A target that may not be reached at all lets nobody
    /// pass.
    pub fail_open: bool,
}

/// The server that decides.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Reached as a tenant's URL is: not inside, unless the operator allows it.
    #[serde(serialize_with = "printed::text")]
    Url(Uri),
    /// Spoken to in HTTP/1.1 and plaintext, whatever the port says.
    Service {
        upstream: Arc<Upstream>,
        #[serde(serialize_with = "printed::text")]
        path: PathAndQuery,
    },
}

/// What an allowing answer says.
#[derive(Default)]
pub struct Allowed {
    /// Whom the answer names by the subject's header; None: nobody.
    pub principal: Option<Arc<Principal>>,
    /// For the app. An empty value: nothing may stand under this name.
    pub told: HeaderMap,
}

type Answer = Response<Result<Bytes, Failure>>;

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// The largest body of a refusal that is passed to the client, in bytes.
const MAX_BODY: usize = 64 << 10;
/// Endpoints of a Service that are tried.
const MAX_TRIES: usize = 3;
/// What passes of a refusal: where to log in, as whom one was, when to ask again, and what its body is.
const PASSED: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::LOCATION,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
];

impl ForwardAuth {
    /// Asks about the request. A redirect or a 4xx refuses, and passes to the client; what is no decision refuses with
    /// `Reason::AuthUnavailable`, or lets pass by `fail_open`. `namespace` is the policy's.
    pub async fn check(
        &self,
        request: &Request<'_>,
        namespace: &Arc<str>,
        egress: &Egress,
    ) -> Result<Allowed, Refusal> {
        match self.ask(request, namespace, egress).await {
            Ok(answer) if answer.status().is_success() => self.allowed(&answer),
            Ok(answer) if answer.status().is_redirection() || answer.status().is_client_error() => Err(refused(answer)),
            Ok(answer) => {
                tracing::debug!(target = %self.target, status = %answer.status(), "no decision about a request");
                self.undecided()
            }
            Err(failure) => {
                tracing::debug!(target = %self.target, %failure, "no decision about a request");
                match failure {
                    // A misconfiguration (an address that the operator has not allowed), not an outage: `failOpen` does not apply.
                    Failure::Refused(_) | Failure::Url => Err(Reason::AuthUnavailable.into()),
                    _ => self.undecided(),
                }
            }
        }
    }

    async fn ask(&self, request: &Request<'_>, namespace: &Arc<str>, egress: &Egress) -> Result<Answer, Failure> {
        let headers = self.headers(request);
        match &self.target {
            Target::Url(url) => {
                let request = get(url.clone(), headers);
                let limits = self.limits(self.timeout);
                egress.send(Reach::Tenant(namespace), request, limits).await
            }
            Target::Service { upstream, path } => self.ask_service(upstream, path, headers, egress).await,
        }
    }

    /// Another endpoint only where the one before could not be reached.
    async fn ask_service(
        &self,
        upstream: &Upstream,
        path: &PathAndQuery,
        mut headers: HeaderMap,
        egress: &Egress,
    ) -> Result<Answer, Failure> {
        let key = &upstream.key;
        let host = format!("{}.{}.svc:{}", key.service, key.namespace, key.port);
        headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| Failure::Url)?);
        let end = Instant::now() + self.timeout;
        let mut last = Failure::Unreachable("no ready endpoint".to_owned());
        let mut tried = Vec::new();
        while tried.len() < MAX_TRIES
            && let Some(index) = choose_endpoint(Strategy::Random, upstream, &tried)
        {
            tried.push(index);
            let url = url(upstream.endpoints[index].address, path)?;
            let limits = self.limits(end.saturating_duration_since(Instant::now()));
            match egress.send(Reach::Operator, get(url, headers.clone()), limits).await {
                Err(Failure::Unreachable(cause)) => last = Failure::Unreachable(cause),
                result => return result,
            }
        }
        Err(last)
    }

    /// What the service is told of the request.
    fn headers(&self, request: &Request<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in self.request_headers.iter().filter(|name| !is_framing(name)) {
            for value in request.header(name) {
                headers.append(name, value.clone());
            }
        }
        let target = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let proto = if request.https { "https" } else { "http" };
        let values = [
            (X_FORWARDED_METHOD, HeaderValue::try_from(request.method.as_str())),
            (X_FORWARDED_URI, HeaderValue::try_from(target)),
            (X_FORWARDED_FOR, HeaderValue::try_from(node(request.client))),
            (X_FORWARDED_HOST, Ok(request.authority.clone())),
            (X_FORWARDED_PROTO, Ok(HeaderValue::from_static(proto))),
        ];
        for (name, value) in values {
            // In place of what a trusted proxy says, or lets a client say.
            remove_folded(&mut headers, &name);
            // A method, a target and an address are text that a header takes.
            headers.extend(value.map(|value| (name, value)));
        }
        // The service may lead back here, by a load balancer whose addresses nobody knows.
        cdn_loop::add_pass(request.headers, &mut headers);
        headers
    }

    fn allowed(&self, answer: &Answer) -> Result<Allowed, Refusal> {
        let told = answer.headers();
        let mut allowed = self.told(|name| told.get_all(name).iter().cloned().collect());
        if let Some(subject) = self.subject_header.as_ref().and_then(|name| told.get(name)) {
            let subject = std::str::from_utf8(subject.as_bytes()).unwrap_or_default();
            let principal = Principal::new(Parts {
                kind: Kind::Forwarded,
                subject,
                identity: None,
                source: json!({}),
            });
            // An answer that names somebody in a way that nobody can be named is none.
            allowed.principal = Some(Arc::new(principal.map_err(|_| Reason::AuthUnavailable)?));
        }
        Ok(allowed)
    }

    /// What the client says under the names of the service's own is gone, whatever the service says.
    fn told(&self, values: impl Fn(&HeaderName) -> Vec<HeaderValue>) -> Allowed {
        let mut allowed = Allowed::default();
        for name in &self.response_headers {
            allowed.told.insert(name, HeaderValue::from_static(""));
            for (index, value) in values(name).into_iter().enumerate() {
                match index {
                    0 => drop(allowed.told.insert(name, value)),
                    _ => drop(allowed.told.append(name, value)),
                }
            }
        }
        allowed
    }

    fn undecided(&self) -> Result<Allowed, Refusal> {
        match self.fail_open {
            true => Ok(self.told(|_| Vec::new())),
            false => Err(Reason::AuthUnavailable.into()),
        }
    }

    fn limits(&self, time: Duration) -> Limits {
        Limits { time, body: MAX_BODY }
    }
}

fn get(url: Uri, headers: HeaderMap) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::default());
    *request.uri_mut() = url;
    *request.headers_mut() = headers;
    request
}

fn url(address: SocketAddr, path: &PathAndQuery) -> Result<Uri, Failure> {
    let url = Uri::builder().scheme("http").authority(address.to_string());
    url.path_and_query(path.clone()).build().map_err(|_| Failure::Url)
}

/// The service's answer, in its own words as far as they are the client's to hear. One whose body breaks off, or is too long,
/// refuses all the same.
fn refused(answer: Answer) -> Refusal {
    let (head, body) = answer.into_parts();
    let mut response = Response::new(body.unwrap_or_default());
    *response.status_mut() = head.status;
    for name in PASSED {
        for value in head.headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    if head.status == StatusCode::NOT_MODIFIED {
        // The client asked nothing that this could answer.
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    Refusal {
        answer: Some(Box::new(response)),
        ..Reason::AuthRefused.into()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.host().unwrap_or_default()),
            Self::Service { upstream, .. } => upstream.key.fmt(f),
        }
    }
}

// By hand: what the app is told may be a credential.
impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allowed({:?})", self.principal)
    }
}

#[cfg(test)]
mod tests;
