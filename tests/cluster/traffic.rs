//! Clients outside the pod network: requests at a steady rate, and sockets that echo.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::support::wire::{End, Wire};
use crate::support::ws;
use crate::world::HOST;

const CLIENTS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients that keep their connection for as long as they may, and never try a request twice.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Seen>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub answered: usize,
    /// What went wrong, and how often.
    pub failed: BTreeMap<String, usize>,
    /// The longest time without an answer.
    pub gap: Duration,
}

impl Load {
    pub fn start(to: SocketAddr, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(ask_again_and_again(to, per_second, stop.clone()));
        }
        Self { stop, clients }
    }

    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Relaxed);
        let mut all = Seen::default();
        while let Some(seen) = self.clients.join_next().await {
            let seen = seen.expect("no client panics");
            all.answered += seen.answered;
            all.gap = all.gap.max(seen.gap);
            for (reason, count) in seen.failed {
                *all.failed.entry(reason).or_default() += count;
            }
        }
        all
    }
}

async fn ask_again_and_again(to: SocketAddr, per_second: u32, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut ticks = interval(Duration::from_secs(1) * CLIENTS / per_second);
    let mut connection = None;
    let mut last = Instant::now();
    while !stop.load(Relaxed) {
        ticks.tick().await;
        match timeout(PATIENCE, ask(to, &mut connection)).await {
            Ok(Ok(200)) => {
                seen.answered += 1;
                seen.gap = seen.gap.max(last.elapsed());
                last = Instant::now();
            }
            Ok(Ok(status)) => *seen.failed.entry(status.to_string()).or_default() += 1,
            Ok(Err(error)) => {
                connection = None;
                *seen.failed.entry(error).or_default() += 1;
            }
            Err(_) => {
                connection = None;
                *seen.failed.entry("no answer in time".to_owned()).or_default() += 1;
            }
        }
    }
    seen
}

/// One request, on the connection that is there unless its last answer was the last one.
async fn ask(to: SocketAddr, connection: &mut Option<TcpStream>) -> Result<u16, String> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => TcpStream::connect(to)
            .await
            .map_err(|error| format!("cannot connect: {error}"))?,
    };
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| format!("cannot send: {error}"))?;
    let mut answer = Vec::new();
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err(format!("ended after {} bytes", answer.len())),
            Ok(_) => {}
            Err(error) => return Err(format!("broke after {} bytes: {error}", answer.len())),
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = head.parse(&answer) else {
            continue;
        };
        let value = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        let body = value("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if answer.len() - length < body {
            continue;
        }
        let status = head.code.unwrap_or_default();
        if value("connection").as_deref() != Some("close") {
            *connection = Some(stream);
        }
        return Ok(status);
    }
}

/// Open sockets.
pub struct Sockets(Vec<Wire>);

/// A text frame, masked with zeros, and what the app makes of it.
const MESSAGE: &[u8] = b"\x81\x85\0\0\0\0hello";
const ECHO: &[u8] = b"\x81\x0becho: hello";

impl Sockets {
    pub async fn open(to: SocketAddr, count: usize) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..count {
            let mut socket = ws::open(to, HOST, "/").await;
            assert_eq!(socket.exchange(MESSAGE, ECHO.len()).await, ECHO);
            sockets.push(socket);
        }
        Self(sockets)
    }

    /// Fails unless all of them are open.
    pub async fn all_echo(&mut self) {
        for socket in &mut self.0 {
            assert_eq!(socket.exchange(MESSAGE, ECHO.len()).await, ECHO);
        }
    }

    /// How many still echo. The others are gone.
    pub async fn still_open(&mut self) -> usize {
        let mut open = Vec::new();
        for mut socket in self.0.drain(..) {
            if socket.try_send(MESSAGE).await && socket.try_exactly(ECHO.len()).await.as_deref() == Some(ECHO) {
                open.push(socket);
            }
        }
        self.0 = open;
        self.0.len()
    }

    /// How they end, and how long the first has lasted. Panics if one is still open in the end.
    pub async fn ends_within(self, limit: Duration) -> (BTreeMap<String, usize>, Duration) {
        let start = Instant::now();
        let mut all: JoinSet<End> = JoinSet::new();
        for socket in self.0 {
            all.spawn(async move { timeout(limit, socket.end()).await.expect("it ends") });
        }
        let (mut ends, mut first) = (BTreeMap::new(), None);
        while let Some(end) = all.join_next().await {
            first.get_or_insert_with(|| start.elapsed());
            *ends.entry(format!("{:?}", end.expect("no panic"))).or_default() += 1;
        }
        (ends, first.expect("there was one"))
    }
}
