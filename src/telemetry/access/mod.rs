//! The access log: a line of JSON on stdout for every request, and for a socket one when it opens and one when it closes. What
//! stands in a record is here; how it is found out is `proxy::request_log`'s.

mod queue;

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::text::escape_unseen;
use queue::Queue;

/// Which requests are told of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    #[default]
    All,
    /// Those that a `logging` rule is for.
    Rules,
    Off,
}

/// Lines of JSON, one for each request and two for each socket.
#[derive(Debug)]
pub struct AccessLog {
    mode: AtomicU8,
    queue: Arc<Queue>,
}

/// Which request it was. This much is kept of a socket while it is open: there are many of them, for long.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity<'a> {
    /// X-Request-Id, as the app gets it.
    pub request_id: &'a str,
    /// In hexadecimal; None: the request is in no trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The client's; None: a trusted proxy says something of it that cannot be read.
    pub remote_ip: Option<IpAddr>,
    /// The Deployment's; None: no route was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// The Deployment's name; None: no route was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<&'a str>,
}

/// What else is known of it when its answer begins.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head<'a> {
    /// Not repeated: a line begins with it.
    #[serde(skip)]
    pub identity: Identity<'a>,
    /// As in `HTTP/1.1`.
    pub protocol: &'static str,
    /// `http` or `https`, as the client came.
    pub scheme: &'static str,
    /// As it was sent.
    pub method: &'a str,
    /// Verbatim; None: the request has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    /// Without the query, cut to 2 KiB.
    pub path: &'a str,
    /// Less credentials; None: there is none, or no rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// 499: the client left before an answer.
    pub status: u16,
    /// None: by the app, or as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The endpoint that was tried last; None: none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<SocketAddr>,
    /// The principal's subject; None: nobody was authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a str>,
    /// Redacted, and cut to 1 KiB; None: the client sent none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// Those that rules ask for, redacted.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub request_headers: Map<String, Value>,
    /// Those that rules ask for, redacted.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub response_headers: Map<String, Value>,
}

#[derive(Serialize)]
struct Stamp {
    /// When it was written: a request's end.
    time: String,
    event: Event,
}

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// A request's end.
    Request,
    /// A socket's beginning, with its request's record.
    SocketOpened,
    /// A socket's end, by its identity alone.
    SocketClosed,
}

/// What is known once it has ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tail {
    /// Of the request; of a socket that closes, its own. Milliseconds in the line.
    #[serde(rename = "durationMs", serialize_with = "millis")]
    pub duration: Duration,
    /// Of the request's body, or from the socket's client; None: a socket has just opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Of the answer's body, or to the socket's client; None: a socket has just opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// False: the answer broke off.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub complete: bool,
    /// Who ended the socket first; None: it is no socket's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<&'static str>,
}

/// A head, written down at once: what it tells of is gone by the end. A line begins with `Stamp`, and ends with `Tail`.
#[derive(Debug)]
pub struct Record {
    /// An object, `Identity` first.
    json: Box<[u8]>,
    /// How much of it that is, without its end.
    identity: u32,
}

impl AccessLog {
    /// A thread of its own writes to `out`; what it cannot keep up with is dropped, and counted.
    pub fn start(mode: Mode, out: impl io::Write + Send + 'static, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(dropped));
        let writer = queue.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.write_to(out))?;
        Ok(Self {
            mode: AtomicU8::new(mode as u8),
            queue,
        })
    }

    /// From the next request on.
    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// Whether a request is to be told of. `asked`: a rule wants it.
    pub fn wants(&self, asked: bool) -> bool {
        let mode = self.mode.load(Relaxed);
        mode == Mode::All as u8 || asked && mode == Mode::Rules as u8
    }

    /// Never waits: a line that has no room is dropped, and counted.
    pub fn write(&self, event: Event, record: &Record, tail: &Tail) {
        let time = format!("{:.3}", jiff::Timestamp::now());
        let mut line = Vec::with_capacity(record.json.len() + 256);
        // Joins three JSON objects into one line. Serializing to memory cannot fail.
        let _ = serde_json::to_writer(&mut line, &Stamp { time, event });
        append(&mut line, &record.json);
        let end = serde_json::to_vec(tail).unwrap_or_default();
        append(&mut line, &end);
        line.push(b'\n');
        self.queue.push(&line);
    }

    /// Waits until all that was told so far is written, for a while.
    pub fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}

impl Record {
    /// None: it cannot be written down.
    pub fn of(head: &Head<'_>) -> Option<Self> {
        let mut json = escape_unseen(&serde_json::to_vec(&head.identity).ok()?).into_owned();
        let identity = u32::try_from(json.len() - 1).ok()?;
        append(&mut json, &escape_unseen(&serde_json::to_vec(head).ok()?));
        let json = json.into();
        Some(Self { json, identity })
    }

    /// Which request it was, and nothing else.
    pub fn identity(self) -> Self {
        let json = [&self.json[..self.identity as usize], b"}"].concat().into();
        Self { json, ..self }
    }
}

/// The fields of another object.
fn append(line: &mut Vec<u8>, object: &[u8]) {
    if let Some(fields) = object.strip_prefix(b"{") {
        line.pop();
        line.push(b',');
        line.extend_from_slice(fields);
    }
}

fn millis<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    // To the microsecond: more would be noise.
    to.serialize_f64(duration.as_micros() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_line_holds_nothing_that_a_terminal_obeys() {
        let head = Head {
            identity: Identity {
                request_id: "1",
                trace_id: None,
                remote_ip: Some(Ipv4Addr::LOCALHOST.into()),
                namespace: None,
                deployment: None,
            },
            protocol: "HTTP/1.1",
            scheme: "http",
            method: "GET",
            host: None,
            path: "/",
            query: None,
            status: 200,
            code: None,
            upstream: None,
            principal: Some("\u{202e}nimda"),
            user_agent: Some("\u{9b}2J\u{1b}[2J\u{2028}".into()),
            request_headers: Map::new(),
            response_headers: Map::new(),
        };
        let json = String::from_utf8(Record::of(&head).unwrap().json.into()).unwrap();
        assert!(json.is_ascii(), "{json}");
        assert!(json.contains(r"\u009b2J\u001b[2J\u2028"), "{json}");
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["principal"], "\u{202e}nimda");
    }
}
