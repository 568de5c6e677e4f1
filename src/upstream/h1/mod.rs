//! HTTP/1.1 toward apps, with hyper's client. A request has a connection to itself until its answer has ended.

pub mod pool;
pub mod upgrade;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::descriptor::Descriptor;
use super::dial;
use super::error::SendError;
use super::tls;
use crate::body::incoming::Incoming;
use crate::body::replayable::ReplayableBody;
use crate::body::request::ClientBody;
use crate::net::stream::Stream;
use crate::reason::Reason;
use crate::runtime::Traffic;
use crate::runtime::traffic::DialResult;
use pool::Lease;

/// What is read of an answer before the client has taken it, as toward clients: hyper's own bound is three times as much. A
/// head has to fit.
const MAX_BUFFER: usize = 128 * 1024;

/// The two halves of hyper's client: one takes requests, the other moves bytes while it is polled.
type Halves = (SendRequest<ClientBody>, Connection<TokioIo<Stream>, ClientBody>);

/// What opens the gate of a body that waits for the app's 100. It travels with the request, so that one which comes back
/// unsent still has it.
#[derive(Clone)]
struct Opener(Arc<Mutex<Option<oneshot::Sender<()>>>>);

/// A new connection to `address`, within `limit`.
pub async fn connect(
    address: SocketAddr,
    tls: Option<tls::Upstream<'_>>,
    limit: Duration,
    traffic: &Traffic,
    descriptor: Descriptor,
) -> Result<Halves, DialResult> {
    let stream = dial::connect(address, tls, limit, traffic, descriptor).await?;
    http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| DialResult::Failed)
}

/// Sends a request; the future waits for the head of its answer.
pub fn send(
    lease: &mut Lease,
    request: Request<ReplayableBody>,
) -> impl Future<Output = Result<Response<Incoming>, SendError>> {
    let (head, body) = request.into_parts();
    let (body, opener) = body.into_unsent();
    let sent = body.sent();
    let mut request = Request::from_parts(head, body);
    announce_body(&mut request);
    if let Some(opener) = opener {
        open_on_continue(&mut request, opener);
    }
    let answer = lease.sender(sent).map(|sender| sender.try_send_request(request));
    async move {
        let answer = answer.ok_or(SendError::Refused(Reason::InternalError))?.await;
        let response = answer.map_err(failure)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::Refused(Reason::BadUpstreamUpgrade));
        }
        check(&response, lease)?;
        Ok(response.map(Incoming::H1))
    }
}

fn failure(mut failed: TrySendError<Request<ClientBody>>) -> SendError {
    match failed.take_message() {
        Some(mut request) => {
            let opener = request.extensions_mut().remove::<Opener>();
            let opener = opener.and_then(|Opener(opener)| opener.lock().take());
            let body = ReplayableBody::new(request.into_body(), opener);
            SendError::unsent(body, failed.into_error())
        }
        None => broken(failed.into_error()),
    }
}

/// What a connection that failed after the request had left says of the app.
fn broken(error: hyper::Error) -> SendError {
    if error.is_parse() || error.is_parse_too_large() {
        SendError::Malformed(error.into())
    } else {
        SendError::Unanswered(error.into())
    }
}

/// Whether the answer's framing can be trusted, and for how long the connection may be kept.
fn check<B>(response: &Response<B>, lease: &mut Lease) -> Result<(), SendError> {
    let headers = response.headers();
    check_coding(headers)?;
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        // RFC 9112 section 6.3: perhaps an attempt at response splitting.
        lease.forbid_reuse();
    }
    if let Some(timeout) = keep_alive(headers) {
        lease.keep_alive(timeout);
    }
    Ok(())
}

/// The app's Transfer-Encoding, which hyper has taken off as if it were one `chunked`: any other coding would still be on
/// the body, and nothing would say so (RFC 9112 section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), SendError> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = |coding: &HeaderValue| {
        [&b"chunked"[..], b"identity"]
            .iter()
            .any(|plain| coding.as_bytes().eq_ignore_ascii_case(plain))
    };
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if plain(coding) => Ok(()),
        _ => Err(SendError::Refused(Reason::BadGateway)),
    }
}

/// `Keep-Alive: timeout=5`, as apps send it though it was never standardised (RFC 2068 section 19.7.1.1).
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let line = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = line.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Declares the body of a GET or a HEAD that came without a length: hyper sends none that is not declared, and HTTP/2
/// clients declare none.
fn announce_body(request: &mut Request<ClientBody>) {
    let seldom = matches!(*request.method(), Method::GET | Method::HEAD);
    if seldom && !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
}

/// hyper drops its callback with the final answer, and with it the opener: the gate then stays closed.
fn open_on_continue(request: &mut Request<ClientBody>, opener: oneshot::Sender<()>) {
    let opener = Opener(Arc::new(Mutex::new(Some(opener))));
    request.extensions_mut().insert(opener.clone());
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(opener) = opener.0.lock().take()
        {
            let _ = opener.send(());
        }
    });
}
