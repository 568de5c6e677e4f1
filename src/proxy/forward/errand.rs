//! One request on its way to an endpoint, and the next attempt where one may be made.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, response};
use http_body::Body as _;
use hyper::body::Incoming as H1Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::clock::COARSE;
use crate::body::incoming::Incoming;
use crate::body::request::{ClientBody, Hold, Sent};
use crate::fields::list::has_token;
use crate::net::stream::Stream;
use crate::policy::Passed;
use crate::proxy::body::{Account, AppBody, Body, Held};
use crate::proxy::client::Client;
use crate::proxy::headers::{self, Told};
use crate::proxy::origin::Origin;
use crate::proxy::target::Target;
use crate::proxy::telling::Trail;
use crate::reason::Reason;
use crate::runtime::traffic::DialResult;
use crate::snapshot::Deployment;
use crate::telemetry::traces::Scope;
use crate::upstream::dial::{self, KERNEL_LIMIT};
use crate::upstream::endpoint::Open;
use crate::upstream::pool::Lease;
use crate::upstream::tls::UpstreamTls;
use crate::upstream::{self, Upstream, balance};
use crate::websocket::handshake::Handshake;

/// How long an app's 100 is waited for before a client's body is sent all the same (RFC 9110 section 10.1.1).
const EXPECT_LIMIT: Duration = Duration::from_secs(1);

/// One request on its way to the app.
#[derive(Clone, Copy)]
pub struct Errand<'a> {
    pub client: &'a Arc<Client>,
    pub deployment: &'a Arc<Deployment>,
    pub upstream: &'a Arc<Upstream>,
    /// Where the upstream speaks TLS.
    pub upstream_tls: Option<&'a Arc<UpstreamTls>>,
    pub head: &'a Parts,
    pub target: &'a Target,
    pub origin: &'a Origin<'a>,
    pub request_id: &'a HeaderValue,
    pub scope: Option<&'a Scope>,
    /// What the rules before the app say to it.
    pub passed: Option<&'a Passed>,
    pub started: std::time::Instant,
}

/// The dials of one request.
pub(super) struct Attempts<'t> {
    trail: &'t mut Trail,
    end: Instant,
    pub(super) tried: Vec<usize>,
    /// To be dialled next, whatever the balance says by then.
    chosen: Option<(usize, Open)>,
    /// What to answer when none is left.
    pub(super) worst: Reason,
}

/// One endpoint's turn.
pub(super) struct Attempt {
    pub(super) address: SocketAddr,
    pub(super) open: Open,
    pub(super) limit: Duration,
}

/// `R` is the request as it was handed over.
pub(super) enum Failed<R> {
    /// The app has not acted on the request, and all of it is still there.
    Unsent(Box<R>),
    /// The connection ended before a byte of an answer.
    Unanswered,
    Refused(Reason),
}

impl Errand<'_> {
    /// Dials until `deadline`, and within the budget.
    pub(super) fn attempts<'t>(&self, deadline: Instant, trail: &'t mut Trail) -> Attempts<'t> {
        let budget = self.deployment.timeouts.dial_budget.unwrap_or(KERNEL_LIMIT);
        Attempts {
            trail,
            end: deadline.min(Instant::now() + budget),
            tried: Vec::new(),
            chosen: None,
            worst: Reason::Unreachable,
        }
    }

    /// A pooled connection (`reuse`), or a fresh one.
    pub(super) async fn lease(&self, attempts: &mut Attempts<'_>, reuse: bool) -> Result<Lease, Reason> {
        let runtime = self.deployment.runtime.get();
        if reuse && let Some(index) = balance::choose_endpoint(self.deployment.strategy, self.upstream, &[]) {
            let chosen = &self.upstream.endpoints[index];
            attempts.trail.endpoint = Some(chosen.address);
            let endpoint = chosen.runtime.get();
            match endpoint
                .pool
                .take(Open::at(endpoint), self.upstream_tls, &runtime.traffic)
            {
                Ok(lease) => return Ok(lease),
                // The balance holds: the one that was chosen is dialled first.
                Err(open) => attempts.chosen = Some((index, open)),
            }
        }
        // Boxed, since most requests find a connection in the pool.
        let (stream, open) = Box::pin(self.dial(attempts)).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|_| Reason::BadGateway)?;
        Ok(Lease::of(sender, connection, open, self.upstream_tls, &runtime.traffic))
    }

    /// Endpoint after endpoint, each at most once.
    pub(super) async fn dial(&self, attempts: &mut Attempts<'_>) -> Result<(Stream, Open), Reason> {
        loop {
            let Attempt { address, open, limit } = self.next_attempt(attempts)?;
            let tls = self.upstream_tls.map(|tls| upstream::tls::Upstream {
                tls,
                service: &self.upstream.key,
            });
            match dial::connect(address, tls, limit, &self.deployment.runtime.get().traffic).await {
                Ok(stream) => return Ok((stream, open)),
                Err(result) => self.note_failure(attempts, address, result)?,
            }
        }
    }

    pub(super) fn next_attempt(&self, attempts: &mut Attempts<'_>) -> Result<Attempt, Reason> {
        let (index, open) = match attempts.chosen.take() {
            Some(chosen) => chosen,
            None => {
                let index = balance::choose_endpoint(self.deployment.strategy, self.upstream, &attempts.tried);
                let index = index.ok_or(attempts.worst)?;
                (index, Open::at(self.upstream.endpoints[index].runtime.get()))
            }
        };
        let left = attempts.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(attempts.worst);
        }
        attempts.tried.push(index);
        let address = self.upstream.endpoints[index].address;
        attempts.trail.endpoint = Some(address);
        Ok(Attempt {
            address,
            open,
            limit: left.min(self.deployment.timeouts.connect.unwrap_or(KERNEL_LIMIT)),
        })
    }

    pub(super) fn note_failure(
        &self,
        attempts: &mut Attempts<'_>,
        address: SocketAddr,
        result: DialResult,
    ) -> Result<(), Reason> {
        match result {
            DialResult::NoDescriptors => return Err(Reason::Overloaded),
            // Of this endpoint's address alone: another one may have ports left.
            DialResult::NoPorts => attempts.worst = Reason::Overloaded,
            // There is somebody, but nobody to be trusted with a request.
            DialResult::TlsFailed => attempts.worst = Reason::BadGateway,
            _ => {}
        }
        let (deployment, result) = (&self.deployment.key, result.label());
        tracing::debug!(%deployment, %address, result, "cannot reach endpoint");
        Ok(())
    }

    pub(super) fn request<B>(&self, body: B, upgrade: Option<&Handshake>, expect: bool) -> Request<B> {
        let told = Told {
            host: &self.target.host,
            origin: self.origin,
            request_id: self.request_id,
            scope: self.scope,
            deployment_id: &self.deployment.id,
            upgrade: upgrade.is_some(),
            expect,
        };
        let mut request = Request::new(body);
        // An upgrade in HTTP/2 is a CONNECT (RFC 8441 section 5), in HTTP/1.1 a GET.
        *request.method_mut() = match upgrade {
            Some(_) => Method::GET,
            None => self.head.method.clone(),
        };
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = headers::to_app(&self.head.headers, told);
        if let Some(passed) = self.passed {
            passed.complete(&mut request);
        }
        if let Some(handshake) = upgrade {
            handshake.complete(request.headers_mut());
        }
        request
    }

    pub(super) async fn send(
        &self,
        lease: &mut Lease,
        mut request: Request<ClientBody>,
        end: Option<Instant>,
    ) -> Result<Response<H1Incoming>, Failed<Request<ClientBody>>> {
        announce_body(&mut request);
        let sent = request.body().sent();
        let Some(sender) = lease.sender(sent.clone()) else {
            return Err(Failed::Refused(Reason::InternalError));
        };
        match self.in_time(sender.try_send_request(request), &sent, end).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failed)) => Err(match failed.take_message() {
                Some(request) => Failed::Unsent(Box::new(request)),
                None => self.blame(failed.into_error(), &sent),
            }),
            None => Err(Failed::Refused(Reason::UpstreamTimeout)),
        }
    }

    /// Waits for an answer's head as long as `timeouts` allow.
    pub(super) async fn in_time<F: Future>(&self, answer: F, sent: &Sent, end: Option<Instant>) -> Option<F::Output> {
        let mut answer = pin!(answer);
        let limit = self.deployment.timeouts.response;
        let mut frames = sent.frames.load(Relaxed);
        loop {
            let due = [limit.map(|limit| Instant::now() + limit), end]
                .into_iter()
                .flatten()
                .min();
            let answered = match due {
                Some(due) if due < Instant::now() + COARSE => timeout_at(due, answer.as_mut()).await.ok(),
                Some(due) => self.client.clock.until(due.into_std(), answer.as_mut()).await,
                None => Some(answer.as_mut().await),
            };
            // The answer is due once the whole request is there; an upload that moves may go on.
            let moves = end.is_none_or(|end| end > Instant::now()) && sent.frames.load(Relaxed) > frames;
            if answered.is_some() || !moves {
                return answered;
            }
            frames = sent.frames.load(Relaxed);
        }
    }

    fn blame<R>(&self, error: hyper::Error, sent: &Sent) -> Failed<R> {
        if let Some(fault) = sent.fault() {
            return Failed::Refused(fault.reason());
        }
        tracing::debug!(deployment = %self.deployment.key, %error, "no answer from the app");
        if error.is_parse() || error.is_parse_too_large() {
            Failed::Refused(Reason::BadGateway)
        } else {
            Failed::Unanswered
        }
    }

    /// The app's answer toward the client.
    pub(super) fn pass(
        &self,
        response: Response<H1Incoming>,
        mut lease: Lease,
        end: Option<Instant>,
    ) -> Result<Response<Body>, Reason> {
        headers::check_coding(response.headers())?;
        let (head, incoming) = response.into_parts();
        if head.headers.contains_key(header::TRANSFER_ENCODING) && head.headers.contains_key(header::CONTENT_LENGTH) {
            // RFC 9112 section 6.3: perhaps an attempt at response splitting.
            lease.forbid_reuse();
        }
        if let Some(timeout) = keep_alive(&head.headers) {
            lease.keep_alive(timeout);
        }
        Ok(self.hand_over(head, Incoming::H1(incoming), Held::Connection(lease), end))
    }

    pub(super) fn hand_over(
        &self,
        mut head: response::Parts,
        incoming: Incoming,
        held: Held,
        end: Option<Instant>,
    ) -> Response<Body> {
        let timeouts = &self.deployment.timeouts;
        headers::to_client(&mut head, self.request_id);
        // The client's hop has a version of its own; hyper knows it.
        head.version = Version::HTTP_11;
        self.client.clock.sending(timeouts.idle);
        let account = Account {
            client: self.client.clone(),
            deployment: self.deployment.runtime.get().clone(),
            status: head.status,
            started: self.started,
            bytes: 0,
            complete: false,
            telling: None,
        };
        // A long pause is the connection's clock's to notice: while the app is silent, nothing moves to the client.
        let idle = timeouts.idle.filter(|idle| *idle < COARSE);
        let body = AppBody::new(incoming, held, account, idle, end);
        Response::from_parts(head, Body::App(Box::new(body)))
    }
}

/// Of methods that seldom have a body hyper sends none that is not announced, and HTTP/2 announces none.
fn announce_body(request: &mut Request<ClientBody>) {
    let seldom = matches!(*request.method(), Method::GET | Method::HEAD);
    if seldom && !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
}

/// With `Expect: 100-continue`, what holds the client's body back and what lets it go.
pub(super) fn hold(head: &Parts, incoming: &Incoming) -> (Option<oneshot::Sender<()>>, Hold) {
    if incoming.is_end_stream() || !has_token(&head.headers, header::EXPECT, "100-continue") {
        return (None, Hold::Free);
    }
    let (opener, gate) = oneshot::channel();
    (Some(opener), Hold::Waiting(Box::pin(timeout(EXPECT_LIMIT, gate))))
}

pub fn open_on_continue(request: &mut Request<ClientBody>, opener: oneshot::Sender<()>) {
    let opener = Mutex::new(Some(opener));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(opener) = opener.lock().take()
        {
            let _ = opener.send(());
        }
    });
}

/// `Keep-Alive: timeout=5`, as apps send it though it was never standardised (RFC 2068 section 19.7.1.1).
fn keep_alive(headers: &http::HeaderMap) -> Option<Duration> {
    let line = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = line.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
