//! One request of an HTTP/2 connection, from its head to its answer's last byte, in a task of its own. Where it becomes a
//! socket, a smaller task takes over.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::place::Place;
use super::send::Sending;
use super::socket::Socket;
use crate::body::clock::{COARSE, Clock, Phase};
use crate::body::incoming::Incoming;
use crate::fields::list::has_token;
use crate::proxy::body::Body;
use crate::proxy::client::Client;
use crate::proxy::exchange;
use crate::websocket::tunnel::{self, Opening};

/// Answers one stream, to the end of its answer; a WebSocket goes on in a task of its own.
pub async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, place: Place) {
    let client = Arc::new(Client::new(place.proxy().clone(), place.peer().clone(), None));
    client.clock.busy();
    let mut tick = pin!(tokio::time::sleep(COARSE));
    let (mut head, stream) = request.into_parts();
    join_crumbs(&mut head.headers);
    let is_head = head.method == Method::HEAD;
    let (mut wanted, mut socket) = (None, None);
    let incoming = if head.method == Method::CONNECT {
        // RFC 9113 section 8.5: what follows is no body.
        socket = Some(stream);
        Incoming::Empty
    } else {
        let told = expects(&head.headers).then(oneshot::channel);
        let (told, hears) = told.unzip();
        wanted = hears;
        Incoming::h2_request(stream, length(&head.headers), client.clock.clone(), told)
    };
    let answer = Box::pin(exchange::answer(&client, Request::from_parts(head, incoming)));
    let Some(response) = wait(answer, &mut respond, &mut wanted, &client.clock, tick.as_mut()).await else {
        return;
    };
    match (client.take_opening(), socket) {
        (Some(opening), Some(stream)) => open(response, opening, stream, respond, place),
        (Some(_), None) => respond.send_reset(Reason::INTERNAL_ERROR),
        // A refused socket's stream stays until here: its end would go before the answer.
        (None, _refused) => {
            place.is_answered_now();
            send(response, is_head, respond, &client.clock, tick).await;
        }
    }
}

/// The answer; none when the client has gone, or taken its request back.
async fn wait<A>(
    mut answer: Pin<Box<A>>,
    respond: &mut SendResponse<Bytes>,
    wanted: &mut Option<oneshot::Receiver<()>>,
    clock: &Clock,
    mut tick: Pin<&mut Sleep>,
) -> Option<Response<Body>>
where
    A: Future<Output = Response<Body>>,
{
    let mut first = true;
    poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let mut look = std::mem::take(&mut first) || tick.is_elapsed();
        loop {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            if let Some(hears) = wanted
                && let Poll::Ready(told) = Pin::new(hears).poll(cx)
            {
                *wanted = None;
                if told.is_ok() {
                    let _ = respond.send_informational(bare(StatusCode::CONTINUE));
                }
            }
            // Once more around after a look, as the exchange may find that its time is up.
            if !look {
                return Poll::Pending;
            }
            match poll_look(clock, tick.as_mut(), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => look = true,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
            }
        }
    })
    .await
}

async fn send(
    response: Response<Body>,
    is_head: bool,
    mut respond: SendResponse<Bytes>,
    clock: &Clock,
    mut tick: Pin<&mut Sleep>,
) {
    let (mut head, body) = response.into_parts();
    remove_connection_headers(&mut head.headers);
    if let (Body::Own(own), false) = (&body, head.headers.contains_key(header::CONTENT_LENGTH))
        && let Some(length) = own.size_hint().exact()
    {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let ended = is_head || body.is_end_stream();
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), ended) else {
        return;
    };
    if ended {
        return;
    }
    let mut sending = Sending::new(stream, body, clock);
    poll_fn(|cx| {
        loop {
            if sending.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if ready!(poll_look(clock, tick.as_mut(), cx)).is_err() {
                sending.cancel();
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// RFC 8441 section 5.1: 200 for 101, and what belongs to the app's leg alone goes.
fn open(
    response: Response<Body>,
    opening: Opening,
    from: RecvStream,
    mut respond: SendResponse<Bytes>,
    mut place: Place,
) {
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::OK;
    remove_connection_headers(&mut head.headers);
    head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    if let Ok(to) = respond.send_response(Response::from_parts(head, ()), false) {
        place.is_answered_now();
        place.is_socket_now();
        tokio::spawn(tunnel::run(Socket::new(from, to, place), Bytes::new(), opening));
    }
}

/// A look at the clock when the tick is due; the tick then wants its waker anew.
fn poll_look(clock: &Clock, mut tick: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Result<(), Phase>> {
    ready!(tick.as_mut().poll(cx));
    Poll::Ready(clock.check().map(|next| tick.reset(next.into())))
}

/// RFC 9113 section 8.2.3: in HTTP/1.1 a Cookie is one line.
fn join_crumbs(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        whole.extend(b"; ");
        whole.extend(crumb.as_bytes());
    }
    // Never fails: made of header values.
    if let Ok(whole) = HeaderValue::try_from(whole) {
        headers.insert(header::COOKIE, whole);
    }
}

/// RFC 9113 section 8.2.2. Answers of HTTP/1.1 have them, Postern's own too.
fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

/// h2 has checked that there is one at most, and holds the frames against it.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn expects(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT) && has_token(headers, header::EXPECT, "100-continue")
}

fn bare(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}
