//! Spans on their way to a collector, a batch at a time: OTLP over HTTP. A collector that is away or slow costs spans, and
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::{Counts, Message, Span, otlp};
use crate::egress::{Egress, Failure, Limits, Reach};

const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    body: 64 * 1024,
};
/// Before each further attempt with a batch.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The task that sends spans to the collector.
pub struct Exporter {
    /// Ends when the tracer is gone.
    pub spans: mpsc::Receiver<Message>,
    /// Goes wherever the operator's setting says.
    pub egress: Arc<Egress>,
    /// Whole, with its path.
    pub endpoint: Uri,
    /// Names this replica.
    pub instance: String,
    /// What came of each span.
    pub counts: Arc<Counts>,
}

/// Why a collector has not taken a batch.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("the collector answered {0}")]
    Status(StatusCode),
}

impl Exporter {
    /// Until the tracer is gone.
    pub async fn run(mut self) {
        let resource = otlp::resource(&self.instance);
        let mut away = false;
        loop {
            let mut batch = Vec::new();
            let flushed = self.gather(&mut batch).await;
            if batch.is_empty() && flushed.is_none() {
                return;
            }
            if !batch.is_empty() {
                let body = Bytes::from(otlp::request(&batch, &resource));
                away = self.send(batch.len() as u64, body, flushed.is_some(), away).await;
            }
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
        }
    }

    /// What comes within the time that the first span may wait. Returns who waits for it.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> Option<oneshot::Sender<()>> {
        let mut end = None;
        while batch.len() < BATCH {
            let next = match end {
                None => self.spans.recv().await,
                Some(end) => timeout_at(end, self.spans.recv()).await.unwrap_or(None),
            };
            match next {
                Some(Message::Span(span)) => batch.push(*span),
                Some(Message::Flush(flushed)) => return Some(flushed),
                None => break,
            }
            end.get_or_insert_with(|| Instant::now() + GATHER);
        }
        None
    }

    /// Whether the collector is away: said once when it goes, and once when it is back.
    async fn send(&self, spans: u64, body: Bytes, hurry: bool, away: bool) -> bool {
        let pauses = if hurry { &[][..] } else { &PAUSES };
        let mut pauses = pauses.iter();
        let refusal = loop {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(spans);
                    self.counts.exported.fetch_add(spans - rejected, Relaxed);
                    self.counts.failed.fetch_add(rejected, Relaxed);
                    if away {
                        info!(endpoint = %self.endpoint, "the collector accepts spans again");
                    }
                    return false;
                }
                Err(refusal) => match pauses.next().filter(|_| refusal.may_pass()) {
                    Some(pause) => sleep(*pause).await,
                    None => break refusal,
                },
            }
        };
        self.counts.failed.fetch_add(spans, Relaxed);
        if !away {
            warn!(endpoint = %self.endpoint, error = %refusal, "the collector does not accept spans");
        }
        true
    }

    /// How many of them it has rejected.
    async fn post(&self, body: Bytes) -> Result<u64, Refusal> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.egress.send(Reach::Operator, request, LIMITS).await?;
        if !answer.status().is_success() {
            return Err(Refusal::Status(answer.status()));
        }
        // One that cannot be read says nothing of any rejection.
        let said = serde_json::from_slice::<serde_json::Value>(&answer.into_body().unwrap_or_default());
        let rejected = said.unwrap_or_default()["partialSuccess"]["rejectedSpans"].clone();
        let number = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok());
        Ok(number.unwrap_or(0))
    }
}

impl Refusal {
    /// Whether another attempt is worth it ("Failures" in OTLP's specification).
    fn may_pass(&self) -> bool {
        match self {
            Self::Failure(failure) => *failure != Failure::Url,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}
