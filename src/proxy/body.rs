//! Bodies on their way through: never buffered or re-encoded, only watched for pauses, and stripped of trailers that would
//! pass for something else.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::Instant;

use super::client::Client;
use super::request_log::RequestLog;
use crate::body::incoming::Incoming;
use crate::body::request::{BodyError, Pause, length};
use crate::upstream::connection::Connection;
use crate::websocket::deployment_state::DeploymentState;

/// What a client is answered with.
#[derive(Debug)]
pub enum Body {
    /// Postern's own words.
    Own(Full<Bytes>),
    /// An app's; boxed, since Postern's own are many in a flood.
    App(Box<AppBody>),
}

/// The app's answer as it comes, with what is held until it ends.
#[derive(Debug)]
pub struct AppBody {
    incoming: Incoming,
    pause: Pause,
    /// None once it was released.
    connection: Option<Connection>,
    /// Told when it is dropped.
    account: ResponseGuard,
}

/// Who is told how the exchange ended.
#[derive(Debug)]
pub struct ResponseGuard {
    /// Its clock hears of the end.
    pub client: Arc<Client>,
    /// Its traffic counts the answer.
    pub deployment: Arc<DeploymentState>,
    /// What the app answered with.
    pub status: StatusCode,
    /// When the request's head had come.
    pub started: std::time::Instant,
    /// Of the body, passed on so far.
    pub bytes: u64,
    /// Whether the body came to its end.
    pub complete: bool,
    /// Written at the end; None: nobody asked for it, or it was not told of yet.
    pub log: Option<Box<RequestLog>>,
}

impl AppBody {
    /// `idle` bounds each pause of the app, `end` all of the answer; None: without a bound.
    pub fn new(
        incoming: Incoming,
        connection: Connection,
        account: ResponseGuard,
        idle: Option<Duration>,
        end: Option<Instant>,
    ) -> Self {
        let mut body = Self {
            incoming,
            pause: Pause::new(idle, end),
            connection: Some(connection),
            account,
        };
        body.release_if_ended();
        body
    }

    /// What is to be said at its end.
    pub fn tell(&mut self, log: Box<RequestLog>) {
        self.account.log = Some(log);
    }

    /// At once when the last frame is out, so that the next request finds the connection in the pool.
    fn release_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.account.complete = true;
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
    }
}

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.deployment
            .traffic
            .count_answer(self.status, self.started.elapsed());
        self.client.clock.idle();
        if let Some(log) = self.log.take() {
            log.end(&self.client.proxy.telemetry, self.bytes, self.complete);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            // Infallible.
            Self::Own(full) => pin!(full).poll_frame(cx).map_err(|never| match never {}),
            Self::App(body) => {
                let polled = body.pause.poll(cx, &mut body.incoming);
                if let Poll::Ready(frame) = &polled {
                    match frame {
                        None => body.ended(),
                        Some(Ok(frame)) => {
                            body.account.bytes += length(frame);
                            body.release_if_ended();
                        }
                        Some(Err(_)) => body.connection = None,
                    }
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(full) => full.is_end_stream(),
            Self::App(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(full) => full.size_hint(),
            Self::App(body) => body.incoming.size_hint(),
        }
    }
}
