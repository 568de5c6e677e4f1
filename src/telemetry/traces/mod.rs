//! Traces: which requests are followed, and the one span that Postern adds to each of them. Sending them to a collector is
//! `export`'s, what one looks like on its way `otlp`'s; what a span says of a request is found out by `proxy::request_log`.

pub mod context;
pub mod export;
mod otlp;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use tokio::sync::{mpsc, oneshot};

use context::{Context, SpanId, TraceId};

/// Spans that the collector may be behind. One that has no room is dropped.
const QUEUE: usize = 2048;

/// Begins and ends spans, and never waits for the collector.
#[derive(Debug)]
pub struct Tracer {
    /// The share of traces begun here that is sampled, from 0 to 1, as the bits of an f64.
    sample: AtomicU64,
    queue: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

/// What came of spans.
#[derive(Debug, Default)]
pub struct Counts {
    /// The collector took them.
    pub exported: AtomicU64,
    /// The queue was full.
    pub dropped: AtomicU64,
    /// The collector could not be reached, or did not take them.
    pub failed: AtomicU64,
}

/// What the exporter gets.
pub enum Message {
    /// One that has ended.
    Span(Box<Span>),
    /// All before it is to be sent at once; tells when it was.
    Flush(oneshot::Sender<()>),
}

/// A request's place in its trace.
#[derive(Debug)]
pub struct Scope {
    /// Whether the client has said a place that could be read.
    pub continued: bool,
    parent: Option<SpanId>,
    /// What the app is told.
    pub context: Context,
}

/// One request, from its head to its end; of a socket to its close.
#[derive(Debug)]
pub struct Span {
    context: Context,
    parent: Option<SpanId>,
    /// The method if it is a usual one, else `HTTP`; of a socket `WebSocket`.
    pub name: &'static str,
    /// Whether the status is a 5xx.
    pub is_error: bool,
    /// Named by OpenTelemetry's semantic conventions.
    pub attributes: Vec<(&'static str, Value)>,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    begun: SystemTime,
    started: Instant,
    took: Duration,
}

/// A moment within a span.
#[derive(Debug)]
pub struct Event {
    /// As in `socket.open`.
    pub name: &'static str,
    /// What is told of the moment.
    pub attributes: Vec<(&'static str, Value)>,
    after: Duration,
}

/// An attribute's.
#[derive(Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl Tracer {
    /// And where its spans arrive.
    pub fn new(sample: f64, counts: Arc<Counts>) -> (Self, mpsc::Receiver<Message>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let sample = AtomicU64::new(sample.to_bits());
        (Self { sample, queue, counts }, spans)
    }

    /// From the next request on.
    pub fn set(&self, sample: f64) {
        self.sample.store(sample.to_bits(), Relaxed);
    }

    /// Whoever began the trace has decided whether it is followed.
    pub fn begin(&self, parent: Option<Context>) -> Scope {
        let context = match parent {
            // Nobody is to look for a span that does not exist.
            Some(parent) if !parent.sampled => parent,
            Some(parent) => Context {
                span: SpanId(fastrand::u64(1..)),
                ..parent
            },
            None => Context {
                trace: TraceId(fastrand::u128(1..)),
                span: SpanId(fastrand::u64(1..)),
                sampled: fastrand::f64() < f64::from_bits(self.sample.load(Relaxed)),
            },
        };
        Scope {
            continued: parent.is_some(),
            parent: parent.map(|parent| parent.span),
            context,
        }
    }

    /// Never waits.
    pub fn end(&self, mut span: Box<Span>) {
        span.took = span.started.elapsed();
        if self.queue.try_send(Message::Span(span)).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Resolves when all spans so far were sent, or could not be.
    pub async fn flush(&self) {
        let (sent, told) = oneshot::channel();
        if self.queue.send(Message::Flush(sent)).await.is_ok() {
            let _ = told.await;
        }
    }
}

impl Scope {
    /// None: the trace is not followed.
    pub fn span(&self, name: &'static str, started: Instant) -> Option<Box<Span>> {
        let now = SystemTime::now();
        self.context.sampled.then(|| {
            Box::new(Span {
                context: self.context,
                parent: self.parent,
                name,
                is_error: false,
                attributes: Vec::with_capacity(16),
                events: Vec::new(),
                begun: now.checked_sub(started.elapsed()).unwrap_or(now),
                started,
                took: Duration::ZERO,
            })
        })
    }

    /// `traceparent`, toward the app.
    pub fn header(&self) -> HeaderValue {
        self.context.header()
    }
}

impl Span {
    /// Adds an attribute, without a look at whether it is there.
    pub fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.attributes.push((name, Value::Text(value.into())));
    }

    /// Adds an attribute; what is more than an i64 holds is the most that it holds.
    pub fn number(&mut self, name: &'static str, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.attributes.push((name, Value::Number(value)));
    }

    /// Now.
    pub fn event(&mut self, name: &'static str, attributes: Vec<(&'static str, Value)>) {
        let after = self.started.elapsed();
        self.events.push(Event {
            name,
            attributes,
            after,
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::context::TRACEPARENT;
    use super::*;

    fn parent(flags: &str) -> Option<Context> {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        Context::of(&HeaderMap::from_iter([(
            TRACEPARENT,
            HeaderValue::try_from(parent).unwrap(),
        )]))
    }

    #[test]
    fn who_began_a_trace_decides_and_otherwise_the_ratio() {
        for (sample, followed) in [(0.0, 0), (1.0, 1000)] {
            let (tracer, _spans) = Tracer::new(sample, Arc::default());
            assert!(tracer.begin(parent("01")).context.sampled);
            assert!(!tracer.begin(parent("00")).context.sampled);
            let own = (0..1000).filter(|_| tracer.begin(None).context.sampled);
            assert_eq!(own.count(), followed);
        }
        let (tracer, _spans) = Tracer::new(0.5, Arc::default());
        let own = (0..1000).filter(|_| tracer.begin(None).context.sampled);
        assert!((300..700).contains(&own.count()));
    }

    #[test]
    fn a_trace_that_is_not_followed_passes_as_it_is() {
        let (tracer, _spans) = Tracer::new(1.0, Arc::default());
        let unsampled = parent("00");
        assert_eq!(Some(tracer.begin(unsampled).context), unsampled);
        let sampled = tracer.begin(parent("01"));
        assert_eq!(sampled.context.trace, TraceId(0x0af7651916cd43dd8448eb211c80319c));
        assert_ne!(sampled.context.span, SpanId(0xb7ad6b7169203331));
    }

    #[test]
    fn a_full_queue_costs_spans_and_nobody_waits() {
        let counts = Arc::<Counts>::default();
        let (tracer, _spans) = Tracer::new(1.0, counts.clone());
        for _ in 0..QUEUE + 10 {
            let scope = tracer.begin(None);
            tracer.end(scope.span("GET", Instant::now()).unwrap());
        }
        assert_eq!(counts.dropped.load(Relaxed), 10);
    }
}
