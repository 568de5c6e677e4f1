//! A client connection before hyper has it. It waits here for its first byte and, if it asks for a socket, for its permit, at
//! the price of a small task: hyper's buffers, twenty times that, come after. The first bytes are only peeked at, to learn
//! which Deployment's permit to wait for; hyper and the exchange decide what the request is.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::Bounds;
use super::connections::{Admitted, InLine};
use super::permit::UpgradePermit;
use super::transport::{self, Opened};
use super::{Proxy, h1, h2, linger};
use crate::body::clock::HEAD_TIMEOUT;
use crate::hostname::normalize;
use crate::matching::Head;
use crate::net::stream::Stream;
use crate::snapshot::{Deployment, ListenerKey};

/// A head that is longer is hyper's affair alone; so is one with more headers.
const PEEKED: usize = 8 * 1024;
const HEADERS: usize = 64;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PEEKED].into_boxed_slice());
}

/// From the first moment of a connection to its last, or until it becomes a tunnel.
pub async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    port: HeaderValue,
    listener: ListenerKey,
    proxy: Arc<Proxy>,
    admitted: Admitted,
) {
    let open = proxy.unfinished.token();
    let Some(Opened {
        mut stream,
        peer,
        http2,
    }) = transport::take(stream, from, port, listener, &proxy, &admitted).await
    else {
        return;
    };
    let tick = pin!(tokio::time::sleep(HEAD_TIMEOUT));
    let draining = pin!(proxy.draining.cancelled());
    let mut bounds = Bounds { tick, draining };
    let asked = match http2 {
        true => FirstBytes::Http2,
        false => poll_fn(|cx| poll_first_bytes(&mut bounds, cx, &mut stream, listener, &proxy, &admitted)).await,
    };
    let permit = match asked {
        FirstBytes::Nothing => return,
        FirstBytes::Http2 => {
            // It counts itself: not while it carries sockets alone.
            drop(open);
            return Box::pin(h2::serve(stream, peer, proxy.clone(), admitted)).await;
        }
        FirstBytes::Foreign => {
            drop(open);
            return linger::linger(stream).await;
        }
        FirstBytes::Bytes => None,
        FirstBytes::Upgrade(deployment) => {
            admitted.serves(Arc::new(InLine));
            let permit = UpgradePermit::of(&deployment, &proxy.state).await;
            bounds.tick.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
            permit
        }
    };
    // Boxed, so that until now it cost nothing, and no more from the moment that it ends.
    let ended = Box::pin(h1::serve(stream, peer, proxy.clone(), bounds, permit, admitted)).await;
    drop(open);
    ended.finish().await;
}

enum FirstBytes {
    /// The time is up, Postern drains, or another needs the place.
    Nothing,
    Bytes,
    /// The first bytes name a protocol that is not HTTP, whose client would not understand an answer.
    Foreign,
    /// Agreed on over TLS, or by prior knowledge (RFC 9113 section 3.3).
    Http2,
    Upgrade(Arc<Deployment>),
}

fn poll_first_bytes(
    bounds: &mut Bounds<'_, '_>,
    cx: &mut Context<'_>,
    stream: &mut Stream,
    listener: ListenerKey,
    proxy: &Proxy,
    admitted: &Admitted,
) -> Poll<FirstBytes> {
    let peeked = BUFFER.with_borrow_mut(|buffer| {
        let plain = stream.is_plain();
        let look = |bytes: &[u8]| match asks_for_socket(bytes, listener, proxy) {
            Some(deployment) => FirstBytes::Upgrade(deployment),
            None if plain && h2::is_preface(bytes) && speaks_http2(proxy) => FirstBytes::Http2,
            None if plain && names_another_protocol(bytes) => FirstBytes::Foreign,
            None => FirstBytes::Bytes,
        };
        stream
            .poll_peek(cx, buffer, look)
            .map(|first| first.unwrap_or(FirstBytes::Bytes))
    });
    let mut is_over = |cx: &mut Context<'_>| {
        bounds.tick.as_mut().poll(cx).is_ready()
            || bounds.draining.as_mut().poll(cx).is_ready()
            || admitted.poll_told(cx).is_ready()
    };
    match peeked {
        Poll::Pending if is_over(cx) => Poll::Ready(FirstBytes::Nothing),
        peeked => peeked,
    }
}

/// A first line with the three parts of a request line (RFC 9112 section 3), the last of which is no version of HTTP: what
/// SIP and RTSP begin with, and an invalid preface of HTTP/2, which RFC 9113 section 3.4 wants no more than hung up on.
fn names_another_protocol(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(line), Some(_)) = (lines.next(), lines.next()) else {
        return false;
    };
    let mut parts = line.split(|byte| *byte == b' ');
    let version = parts.nth(2).filter(|_| parts.next().is_none());
    version.is_some_and(|version| !version.to_ascii_uppercase().starts_with(b"HTTP/"))
}

fn speaks_http2(proxy: &Proxy) -> bool {
    let live = proxy.live.look();
    live.as_ref().is_none_or(|live| live.snapshot.listener.http2)
}

/// Whose socket, if these bytes are the whole head of a WebSocket handshake that finds its Deployment. What can be seen without
/// a table of the fields is looked at; the exchange does the rest.
fn asks_for_socket(bytes: &[u8], listener: ListenerKey, proxy: &Proxy) -> Option<Arc<Deployment>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    if !head.parse(bytes).ok()?.is_complete() {
        return None;
    }
    let value = |name: HeaderName| {
        let found = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name.as_str()));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let is_handshake = head.method == Some(Method::GET.as_str())
        && head.version == Some(1)
        && value(header::UPGRADE)?.eq_ignore_ascii_case("websocket")
        && value(header::SEC_WEBSOCKET_VERSION) == Some("13")
        && value(header::SEC_WEBSOCKET_KEY).is_some()
        && value(header::TRANSFER_ENCODING).is_none()
        && matches!(value(header::CONTENT_LENGTH), None | Some("0"));
    if !is_handshake {
        return None;
    }
    let target = head.path?;
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let live = proxy.live.look();
    let hosts = live.as_ref()?.snapshot.hosts(listener);
    let host = hosts.find(&normalize(value(header::HOST)?))?;
    let headers = if host.is_by_path() {
        HeaderMap::new()
    } else {
        copied(head.headers)?
    };
    let head = Head {
        method: &Method::GET,
        path,
        query,
        headers: &headers,
    };
    Some(host.find(&head)?.deployment.clone())
}

fn copied(lines: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let lines = lines.iter().map(|line| {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(line.value).ok()?))
    });
    lines.collect()
}
