//! A connection with nothing in between: tests say which bytes go out and see which come in. One type for both ends, in
//! plaintext, over TLS or as a stream of HTTP/2.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::ClientConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsStream;

use super::head::{Head, fields};
use super::link::{Http2Stream, Link};
use super::within;

/// One end of a connection, with what was read past the last answer.
pub struct Wire {
    link: Link,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// How the peer ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Over TLS after its close_notify, so that nothing can have been cut off.
    Fin,
    Reset,
    /// A FIN without TLS's close_notify: whether more was said, nobody knows.
    Cut,
    /// By an alert.
    Alert,
}

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::new(within("connect", TcpStream::connect(to)).await.expect("connects"))
    }

    /// With receive and send buffers so small that backpressure shows at once.
    pub async fn connect_narrow(to: SocketAddr) -> Self {
        Self::new(narrow(to).await)
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("sets TCP_NODELAY");
        Self::on(Link::Tcp(stream))
    }

    pub fn tls(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self::on(Link::Tls(Box::new(stream.into())))
    }

    pub fn http2(stream: Http2Stream) -> Self {
        Self::on(Link::Http2(stream))
    }

    fn on(link: Link) -> Self {
        let buffer = Vec::new();
        Self { link, buffer }
    }

    pub fn local(&self) -> SocketAddr {
        let tcp = self.link.tcp().expect("is a connection of its own");
        tcp.local_addr().expect("is bound")
    }

    /// What a client's TLS handshake came to.
    pub fn session(&self) -> &ClientConnection {
        match &self.link {
            Link::Tls(stream) => match &**stream {
                TlsStream::Client(stream) => stream.get_ref().1,
                TlsStream::Server(_) => panic!("is the server's end"),
            },
            Link::Tcp(_) | Link::Http2(_) => panic!("is not over TLS"),
        }
    }

    /// The connection and what was read of it already.
    pub fn into_parts(self) -> (Link, Vec<u8>) {
        (self.link, self.buffer)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the peer takes nothing");
    }

    /// False if the peer is gone: it may have answered before it read all.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("send", self.write(bytes.as_ref())).await.is_ok()
    }

    /// Whether the peer takes the bytes before the time is up.
    pub async fn sends_within(&mut self, limit: Duration, bytes: &[u8]) -> bool {
        tokio::time::timeout(limit, self.write(bytes)).await.is_ok()
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.link.write_all(bytes).await?;
        self.link.flush().await
    }

    /// FIN: nothing more will come from here; the other direction stays open.
    pub async fn finish(&mut self) {
        self.link.shutdown().await.expect("sends a FIN");
    }

    /// RST: what a vanished process or a dropped NAT entry looks like.
    pub fn reset(self) {
        self.link.reset();
    }

    /// The next head; the connection must not end before it.
    pub async fn head(&mut self) -> Head {
        match within("head", self.try_head()).await {
            Ok(head) => head,
            Err(end) => panic!(
                "{end:?} before a whole head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            ),
        }
    }

    /// Without a bound: for an app that waits for the next request.
    pub async fn try_head(&mut self) -> Result<Head, End> {
        let raw = self.try_through(b"\r\n\r\n").await?;
        Ok(Head::parse(&raw))
    }

    /// The next answer to a GET, whole. Informational ones are not skipped.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let (body, trailers) = self.body(&head).await;
        Answer { head, body, trailers }
    }

    /// The next answer to a HEAD.
    pub async fn answer_to_head(&mut self) -> Answer {
        let head = self.head().await;
        let (body, trailers) = (Vec::new(), Vec::new());
        Answer { head, body, trailers }
    }

    /// The body that a head announces, de-chunked, with its trailers; without a length that of an answer goes to the end.
    pub async fn body(&mut self, head: &Head) -> (Vec<u8>, Vec<(String, String)>) {
        let answer = head.line.starts_with("HTTP/");
        if answer && matches!(head.status(), 100..200 | 204 | 304) {
            return (Vec::new(), Vec::new());
        }
        if head.has("transfer-encoding") {
            let mut body = Vec::new();
            loop {
                match self.chunk().await {
                    Chunk::Data(data) => body.extend(data),
                    Chunk::Last(trailers) => return (body, trailers),
                }
            }
        }
        let body = match head.all("content-length").first() {
            Some(length) => self.exactly(length.parse().expect("a length")).await,
            None if answer => self.rest().await.0,
            None => Vec::new(),
        };
        (body, Vec::new())
    }

    /// The next chunk of a chunked body.
    pub async fn chunk(&mut self) -> Chunk {
        let line = self.through(b"\r\n").await;
        let line = String::from_utf8(line).expect("a chunk size");
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        if size > 0 {
            let mut data = self.exactly(size + 2).await;
            assert_eq!(data.split_off(size), b"\r\n", "a chunk ends with CRLF");
            return Chunk::Data(data);
        }
        let mut lines = Vec::new();
        loop {
            let line = String::from_utf8(self.through(b"\r\n").await).expect("a trailer");
            if line == "\r\n" {
                return Chunk::Last(fields(lines.iter().map(String::as_str)));
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    /// That much of a chunked body, in chunks of any size.
    pub async fn chunks(&mut self, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            match self.chunk().await {
                Chunk::Data(part) => data.extend(part),
                Chunk::Last(_) => panic!("ended after {} of {length} bytes", data.len()),
            }
        }
        data
    }

    /// None if the connection ends before.
    pub async fn try_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            within("bytes", self.fill()).await.ok()?;
        }
        let rest = self.buffer.split_off(length);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            if let Err(end) = within("bytes", self.fill()).await {
                panic!("{end:?} after {} of {length} bytes", self.buffer.len());
            }
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Up to and with the mark.
    pub async fn through(&mut self, mark: &[u8]) -> Vec<u8> {
        match within("a mark", self.try_through(mark)).await {
            Ok(bytes) => bytes,
            Err(end) => panic!("{end:?} in {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Everything to the end of the connection.
    pub async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = within("end", self.fill()).await {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// How it ends, whenever that is.
    pub async fn end(mut self) -> End {
        loop {
            if let Err(end) = self.fill().await {
                return end;
            }
        }
    }

    /// True if nothing comes, and no end either, for that long.
    pub async fn quiet_for(&mut self, time: Duration) -> bool {
        self.buffer.is_empty() && tokio::time::timeout(time, self.fill()).await.is_err()
    }

    /// Sends and receives at once, neither waiting for the other.
    pub async fn exchange(&mut self, bytes: &[u8], expected: usize) -> Vec<u8> {
        let mut received = std::mem::take(&mut self.buffer);
        let (mut read, mut write) = tokio::io::split(&mut self.link);
        let receive = async {
            while received.len() < expected {
                received.reserve(64 * 1024);
                let count = within("bytes", read.read_buf(&mut received)).await.expect("reads");
                assert!(count > 0, "FIN after {} of {expected} bytes", received.len());
            }
        };
        let send = async {
            write.write_all(bytes).await.expect("sends");
            write.flush().await.expect("sends");
        };
        within("exchange", async { tokio::join!(send, receive) }).await;
        self.buffer = received.split_off(expected);
        received
    }

    /// Sends back what comes, to the end.
    pub async fn echo(&mut self) {
        let (mut read, mut write) = tokio::io::split(&mut self.link);
        let early = std::mem::take(&mut self.buffer);
        if write.write_all(&early).await.is_ok() {
            // A reset is the peer's choice.
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    }

    async fn try_through(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let rest = self.buffer.split_off(at + mark.len());
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        self.buffer.reserve(64 * 1024);
        match self.link.read_buf(&mut self.buffer).await {
            Ok(0) => Err(End::Fin),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(End::Cut),
            Err(error) if super::tls::alert(&error).is_some() => Err(End::Alert),
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}

/// A connection with buffers so small that backpressure shows at once.
pub async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("opens a socket");
    socket.set_recv_buffer_size(4096).expect("sets SO_RCVBUF");
    within("connect", socket.connect(to)).await.expect("connects")
}

/// A part of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    Data(Vec<u8>),
    /// With the trailers.
    Last(Vec<(String, String)>),
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a text")
    }

    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// One request on a connection of its own.
pub async fn ask(to: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::connect(to).await;
    wire.try_send(request).await;
    wire.answer().await
}

pub async fn get(to: SocketAddr, host: &str, target: &str) -> Answer {
    ask(to, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}
