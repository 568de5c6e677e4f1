//! HTTP/2 toward apps by prior knowledge (RFC 9113 section 3.3), with the h2 crate. A request is one stream of a connection
//! that others share.

pub mod shared;
mod upload;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use h2::RecvStream;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, header, request};
use tokio_util::task::AbortOnDropHandle;

use super::error::SendError;
use crate::body::incoming::Incoming;
use crate::body::replayable::ReplayableBody;
use crate::reason::Reason;
use shared::StreamSlot;
use upload::Upload;

/// Sends a request, and waits for the head of its answer.
pub async fn send(slot: &mut StreamSlot, request: Request<ReplayableBody>) -> Result<Response<Incoming>, SendError> {
    let (head, mut body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let head = pseudo_header_fields(head).map_err(SendError::Refused)?;
    let (mut opener, bodiless) = (body.opener.take(), body.is_empty());
    let (mut answer, stream) = match slot.sender.send_request(head, bodiless) {
        Ok(begun) => begun,
        Err(error) => {
            body.opener = opener;
            return Err(SendError::unsent(body, error));
        }
    };
    let mut upload = Upload::new(body, stream);
    let (mut uploading, mut open) = (!bodiless, false);
    let answered = poll_fn(|cx| {
        // The body waits until the stream is open: nothing of it is lost with a connection that never was one.
        open = open || slot.sender.poll_ready(cx).is_ready();
        if open && uploading {
            uploading = Pin::new(&mut upload).poll(cx).is_pending();
        }
        while opener.is_some()
            && let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx)
        {
            if interim.status() == StatusCode::CONTINUE
                && let Some(opener) = opener.take()
            {
                let _ = opener.send(());
            }
        }
        Pin::new(&mut answer).poll(cx)
    })
    .await;
    match answered {
        Ok(response) => {
            // Nobody waits for the rest of the body. It ends with the answer at the latest.
            slot.upload = uploading.then(|| AbortOnDropHandle::new(tokio::spawn(upload)));
            incoming(response, is_head)
        }
        Err(error) => {
            let mut body = upload.into_body();
            body.opener = opener;
            Err(failure(error, slot.is_unheard(), body))
        }
    }
}

/// RFC 9113 section 8.3.1: what HTTP/1.1 has in its first line and in Host stands in pseudo-header fields.
fn pseudo_header_fields(mut head: request::Parts) -> Result<Request<()>, Reason> {
    let host = head.headers.remove(header::HOST).ok_or(Reason::BadRequest)?;
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Reason::BadRequest)?);
    head.uri = Uri::from_parts(uri).map_err(|_| Reason::BadRequest)?;
    // Section 8.2.2: of the connection's own fields TE alone stays.
    head.headers.remove(header::CONNECTION);
    Ok(Request::from_parts(head, ()))
}

fn incoming(response: Response<RecvStream>, is_head: bool) -> Result<Response<Incoming>, SendError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9113 section 8.6: there is none in HTTP/2.
        return Err(SendError::Refused(Reason::BadGateway));
    }
    let length = match is_head {
        true => Some(0),
        false => response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok()),
    };
    Ok(response.map(|stream| Incoming::h2(stream, length)))
}

/// What became of the request (RFC 9113 section 8.7). `unheard`: the app's SETTINGS have not come.
fn failure(error: h2::Error, unheard: bool, body: ReplayableBody) -> SendError {
    let is_unprocessed = match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => error.is_reset() && error.is_remote(),
        // h2 fails by it only the streams past the last one that the app has taken.
        _ => error.is_go_away() && error.is_remote(),
    };
    if (is_unprocessed || unheard) && body.is_whole() {
        SendError::unsent(body, error)
    } else if error.is_io() {
        SendError::Unanswered(error.into())
    } else {
        SendError::Malformed(error.into())
    }
}
