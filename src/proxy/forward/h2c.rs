//! A plain request to an app that speaks HTTP/2 by prior knowledge: a stream of a connection that others share. The next
//! endpoint, or the next connection, is tried where the app is known not to have acted on the request (RFC 9113
//! section 8.7).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::errand::{Attempts, Errand, Failed, hold};
use crate::body::incoming::Incoming;
use crate::body::request::{ClientBody, Sent};
use crate::proxy::body::{Body, Held};
use crate::proxy::telling::Trail;
use crate::reason::Reason;
use crate::upstream::dial::KERNEL_LIMIT;
use crate::upstream::h2c::{self, Content, Place, Upload};

/// How often a request is sent again over a connection that turns out to have been on its way out.
const MAX_RESENDS: usize = 3;

/// A request that may still be sent.
struct Unsent {
    content: Content,
    /// What lets the body go once the app says 100.
    opener: Option<oneshot::Sender<()>>,
}

type Answered = (Response<h2::RecvStream>, Held);

pub async fn plain(errand: Errand<'_>, incoming: Incoming, trail: &mut Trail) -> Result<Response<Body>, Reason> {
    let timeouts = &errand.deployment.timeouts;
    let end = timeouts.total.map(|total| Instant::from_std(errand.started) + total);
    let (opener, hold) = hold(errand.head, &incoming);
    let body = ClientBody::new(incoming, timeouts.idle, end, hold);
    trail.sent = Some(body.sent());
    // RFC 9110 section 9.2.2.
    let mut repeatable = errand.head.method.is_idempotent() && body.is_end_stream();
    let content = Content::new(body);
    let mut unsent = Unsent { content, opener };
    let mut attempts = errand.attempts(Instant::now() + KERNEL_LIMIT, trail);
    for _ in 0..=MAX_RESENDS {
        let place = errand.place(&mut attempts).await?;
        let reused = place.reused;
        if !reused {
            // An endpoint that takes nothing on a fresh connection is tried no more.
            attempts.worst = Reason::BadGateway;
        }
        unsent = match errand.exchange(place, unsent, end).await {
            Ok((response, held)) => return errand.hand_over_stream(response, held, end),
            Err(Failed::Unsent(unsent)) => *unsent,
            Err(Failed::Unanswered) if reused && std::mem::take(&mut repeatable) => Unsent {
                content: Content::new(ClientBody::none()),
                opener: None,
            },
            Err(Failed::Unanswered) => return Err(Reason::BadGateway),
            Err(Failed::Refused(reason)) => return Err(reason),
        };
    }
    Err(Reason::BadGateway)
}

impl Errand<'_> {
    /// Endpoint after endpoint; one whose connection was open before may come again.
    async fn place(&self, attempts: &mut Attempts<'_>) -> Result<Place, Reason> {
        loop {
            let attempt = self.next_attempt(attempts)?;
            let (address, limit) = (attempt.address, attempt.limit);
            match h2c::place(attempt.open, address, limit, &self.deployment.runtime.get().traffic).await {
                Ok(place) => {
                    if place.reused {
                        attempts.tried.pop();
                    }
                    return Ok(place);
                }
                Err(result) => self.note_failure(attempts, address, result)?,
            }
        }
    }

    async fn exchange(
        &self,
        mut place: Place,
        unsent: Unsent,
        end: Option<Instant>,
    ) -> Result<Answered, Failed<Unsent>> {
        let Unsent { content, mut opener } = unsent;
        let head = self.h2_head(opener.is_some()).map_err(Failed::Refused)?;
        let (sent, bodiless) = (content.body.sent(), content.is_empty());
        let (mut answer, stream) = match place.sender.send_request(head, bodiless) {
            Ok(begun) => begun,
            Err(error) => {
                tracing::debug!(deployment = %self.deployment.key, %error, "an HTTP/2 connection takes no more requests");
                return Err(Failed::Unsent(Box::new(Unsent { content, opener })));
            }
        };
        let mut upload = Upload::new(content, stream);
        let (mut uploading, mut open) = (!bodiless, false);
        let answering = poll_fn(|cx| {
            // The body waits until the stream is open: nothing of it is lost with a connection that never was one.
            open = open || place.sender.poll_ready(cx).is_ready();
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
        });
        match self.in_time(answering, &sent, end).await {
            Some(Ok(response)) => {
                // Nobody waits for the rest of the body. It ends with the answer at the latest.
                let upload = uploading.then(|| AbortOnDropHandle::new(tokio::spawn(upload)));
                Ok((response, Held::Stream { place, upload }))
            }
            Some(Err(error)) => {
                let unsent = Unsent {
                    content: upload.into_content(),
                    opener,
                };
                Err(self.blame_stream(&error, &place, unsent, &sent))
            }
            None => Err(Failed::Refused(Reason::UpstreamTimeout)),
        }
    }

    fn blame_stream(&self, error: &h2::Error, place: &Place, unsent: Unsent, sent: &Sent) -> Failed<Unsent> {
        if let Some(fault) = sent.fault() {
            return Failed::Refused(fault.reason());
        }
        tracing::debug!(deployment = %self.deployment.key, %error, "no answer from the app");
        let is_unprocessed = match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => error.is_reset() && error.is_remote(),
            // h2 fails by it only the streams past the last one that the app has taken.
            _ => error.is_go_away() && error.is_remote(),
        };
        if (is_unprocessed || place.is_unheard()) && unsent.content.is_whole() {
            Failed::Unsent(Box::new(unsent))
        } else if error.is_io() {
            Failed::Unanswered
        } else {
            Failed::Refused(Reason::BadGateway)
        }
    }

    /// RFC 9113 section 8.3.1: what HTTP/1.1 has in its first line and in Host stands in pseudo-header fields.
    fn h2_head(&self, expect: bool) -> Result<Request<()>, Reason> {
        let mut request = self.request((), None, expect);
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        let authority = Authority::try_from(self.target.host.as_bytes());
        parts.authority = Some(authority.map_err(|_| Reason::BadRequest)?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadRequest)?;
        // Section 8.2.2: of the connection's own fields TE alone stays.
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::CONNECTION);
        Ok(request)
    }

    fn hand_over_stream(
        &self,
        response: Response<h2::RecvStream>,
        held: Held,
        end: Option<Instant>,
    ) -> Result<Response<Body>, Reason> {
        let (head, stream) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // Section 8.6: there is none in HTTP/2.
            return Err(Reason::BadGateway);
        }
        let length = match self.head.method {
            Method::HEAD => Some(0),
            _ => head
                .headers
                .get(header::CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        Ok(self.hand_over(head, Incoming::h2(stream, length), held, end))
    }
}
