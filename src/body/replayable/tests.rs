//! Bodies of clients in HTTP/2, whose frames and errors the tests choose, over pipes in memory.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::{FutureExt as _, poll};
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::duplex;

use super::*;
use crate::body::incoming::{Incoming, ReadBody};
use crate::body::request::{Fault, Hold};

/// The client's end of a body, and the body as Postern has it.
async fn body() -> (SendStream<Bytes>, ReplayableBody) {
    let (client, server) = duplex(1 << 20);
    let (client, server) = tokio::join!(h2::client::handshake(client), h2::server::handshake(server));
    let ((mut sender, connection), mut server) = (client.unwrap(), server.unwrap());
    tokio::spawn(connection);
    let (_answer, stream) = sender.send_request(Request::new(()), false).unwrap();
    let (request, respond) = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move {
        // Both live as long as the connection.
        let _open = (sender, respond);
        while server.accept().await.is_some() {}
    });
    let incoming = Incoming::h2(request.into_body(), None);
    let body = ClientBody::new(incoming, None, None, Hold::Free);
    (stream, ReplayableBody::new(body, None))
}

type Next = Option<Result<Frame<Bytes>, BodyError>>;

async fn next(body: &mut ReplayableBody) -> Next {
    poll_fn(|cx| body.poll_next(cx)).await
}

async fn data(body: &mut ReplayableBody) -> Bytes {
    let frame = next(body).await.expect("a frame").expect("no error");
    frame.into_data().expect("data")
}

/// Sends the body as an attempt does: what is kept first, then what comes. Ends with the trailers or the error, if any.
async fn attempt(body: &mut ReplayableBody) -> (Vec<u8>, Next) {
    let mut sent = Vec::new();
    if let Some((data, last)) = body.kept() {
        sent.extend_from_slice(&data);
        if last {
            return (sent, None);
        }
    }
    loop {
        match next(body).await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => sent.extend_from_slice(&data),
                Err(trailers) => return (sent, Some(Ok(trailers))),
            },
            end => return (sent, end),
        }
    }
}

#[tokio::test]
async fn nothing_has_left_at_first() {
    let (_client, mut body) = body().await;
    // However often it is asked in vain.
    for _ in 0..3 {
        assert!(poll!(poll_fn(|cx| body.poll_next(cx))).is_pending());
        assert_eq!((body.kept(), body.is_whole(), body.is_empty()), (None, true, false));
    }
}

#[tokio::test]
async fn a_body_is_sent_whole_again_after_a_part_of_it_has_left() {
    let (mut client, mut body) = body().await;
    client.send_data("one ".into(), false).unwrap();
    assert_eq!(data(&mut body).await, "one ");
    // The attempt is given up here, and so are any number of others.
    for _ in 0..3 {
        assert_eq!((body.kept(), body.is_whole()), (Some(("one ".into(), false)), true));
    }
    client.send_data("two ".into(), false).unwrap();
    client.send_data("three".into(), true).unwrap();
    let (sent, end) = attempt(&mut body).await;
    assert_eq!(sent, b"one two three");
    assert!(end.is_none());
    assert_eq!(
        (body.kept(), body.is_whole()),
        (None, false),
        "more has left than is kept"
    );
}

#[tokio::test]
async fn a_body_of_one_frame_can_be_sent_again_and_again() {
    let (mut client, mut body) = body().await;
    client.send_data("all".into(), true).unwrap();
    assert_eq!(data(&mut body).await, "all");
    for _ in 0..3 {
        assert_eq!(body.kept(), Some(("all".into(), true)));
        let (sent, end) = attempt(&mut body).await;
        assert_eq!(sent, b"all");
        assert!(end.is_none());
        assert!(body.is_whole() && !body.is_empty());
    }
}

#[tokio::test]
async fn an_end_that_comes_after_its_only_frame_is_kept_with_it() {
    let (mut client, mut body) = body().await;
    client.send_data("all".into(), false).unwrap();
    assert_eq!(data(&mut body).await, "all");
    assert_eq!((body.kept(), body.is_whole()), (Some(("all".into(), false)), true));
    // The reader of a stream may also end without a frame: RFC 9113 section 8.1, when the answer is complete.
    client.send_reset(Reason::NO_ERROR);
    assert!(next(&mut body).await.is_none());
    assert_eq!((body.kept(), body.is_whole()), (Some(("all".into(), true)), true));
}

#[tokio::test]
async fn a_frame_is_kept_up_to_the_bound() {
    for (length, kept) in [(MAX_KEPT, true), (MAX_KEPT + 1, false)] {
        // One that a rule has read: a frame of HTTP/2 has a bound of its own.
        let read = ReadBody {
            data: vec![7; length].into(),
            rest: Incoming::Empty,
            trailers: None,
        };
        let body = ClientBody::new(Incoming::Read(Box::new(read)), None, None, Hold::Free);
        let mut body = ReplayableBody::new(body, None);
        assert_eq!(data(&mut body).await.len(), length);
        assert_eq!((body.is_whole(), body.kept().is_some()), (kept, kept), "{length} bytes");
    }
}

#[tokio::test]
async fn trailers_are_not_kept() {
    for first in [None, Some("data")] {
        let (mut client, mut body) = body().await;
        if let Some(first) = first {
            client.send_data(first.into(), false).unwrap();
            assert_eq!(data(&mut body).await, first);
            assert!(body.is_whole());
        }
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]);
        client.send_trailers(trailers).unwrap();
        let (sent, end) = attempt(&mut body).await;
        assert_eq!(sent, first.unwrap_or_default().as_bytes());
        assert_eq!(end.unwrap().unwrap().into_trailers().unwrap()["x-sum"], "1");
        assert_eq!((body.kept(), body.is_whole()), (None, false));
    }
}

#[tokio::test]
async fn a_body_that_has_failed_is_not_whole() {
    for first in [None, Some("data")] {
        let (mut client, mut body) = body().await;
        let sent = body.sent();
        if let Some(first) = first {
            client.send_data(first.into(), false).unwrap();
            assert_eq!(data(&mut body).await, first);
        }
        client.send_reset(Reason::CANCEL);
        assert!(next(&mut body).await.unwrap().is_err());
        assert_eq!((body.kept(), body.is_whole()), (None, false));
        assert_eq!(sent.fault(), Some(Fault::Broken));
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_on_its_way_has_not_left_whole() {
    for (last, whole) in [(false, false), (true, true)] {
        let (mut client, mut body) = body().await;
        let sent = body.sent();
        client.send_data("part".into(), last).unwrap();
        assert_eq!(data(&mut body).await, "part");
        drop(body);
        // What the connection may be used for afterwards hangs on it.
        assert_eq!((sent.whole.load(Relaxed), sent.bytes.load(Relaxed)), (whole, 4));
        assert_eq!(sent.fault(), None, "that is not the client's fault");
    }
}

#[tokio::test]
async fn no_body_is_whole_and_stays_so() {
    let mut body = ReplayableBody::none();
    assert!(body.is_empty() && body.is_whole() && body.is_end_stream());
    for _ in 0..3 {
        assert!(next(&mut body).await.is_none());
        assert_eq!((body.kept(), body.is_whole()), (Some((Bytes::new(), true)), true));
    }
}

#[tokio::test]
async fn what_has_not_begun_is_given_back_with_its_opener() {
    let (mut client, body) = body().await;
    client.send_data("all".into(), true).unwrap();
    let (opener, open) = oneshot::channel();
    let (body, _) = body.into_unsent();
    let (body, opener) = ReplayableBody::new(body, Some(opener)).into_unsent();
    opener.unwrap().send(()).unwrap();
    assert_eq!(open.now_or_never(), Some(Ok(())));
    assert_eq!(attempt(&mut ReplayableBody::new(body, None)).await.0, b"all");
}
