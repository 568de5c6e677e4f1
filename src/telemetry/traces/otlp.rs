//! Spans as OTLP has them in JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): ids in hex, 64-bit numbers in
//! quotes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::{Event, Span, Value};

/// The body of one request.
pub fn request(spans: &[Span], resource: &Json) -> Vec<u8> {
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({"name": "postern", "version": env!("CARGO_PKG_VERSION")});
    let scopes = json!([{"scope": scope, "spans": spans}]);
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})
        .to_string()
        .into_bytes()
}

/// Who tells.
pub fn resource(instance: &str) -> Json {
    let attributes = [
        ("service.name", "postern"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    let attributes = attributes.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    json!({ "attributes": attributes })
}

fn span(span: &Span) -> Json {
    const SERVER: u8 = 2;
    const ERROR: u8 = 2;
    let mut json = json!({
        "traceId": span.context.trace.to_string(),
        "spanId": span.context.span.to_string(),
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": nanos(span.begun),
        "endTimeUnixNano": nanos(span.begun + span.took),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = parent.to_string().into();
    }
    if span.is_error {
        json["status"] = json!({"code": ERROR});
    }
    if !span.events.is_empty() {
        let events = span.events.iter().map(|event| self::event(span, event));
        json["events"] = events.collect();
    }
    json
}

fn event(span: &Span, event: &Event) -> Json {
    json!({
        "timeUnixNano": nanos(span.begun + event.after),
        "name": event.name,
        "attributes": attributes(&event.attributes),
    })
}

fn attributes(attributes: &[(&'static str, Value)]) -> Json {
    let values = attributes.iter().map(|(key, value)| {
        let value = match value {
            Value::Text(text) => json!({"stringValue": text}),
            Value::Number(number) => json!({"intValue": number.to_string()}),
        };
        json!({"key": key, "value": value})
    });
    values.collect()
}

fn nanos(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_nanos().to_string()
}
