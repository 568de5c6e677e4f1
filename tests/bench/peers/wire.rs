//! The bytes that client and app exchange, built once. Not a WebSocket library: data frames echoed as they are, and Close.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::link::Link;

/// The one hostname that every proxy is set to serve.
pub const HOST: &str = "bench.example";

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;

pub fn get(host: &str) -> Vec<u8> {
    format!("GET /some/path?query=1 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

pub fn upgrade() -> Vec<u8> {
    format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// A client's binary message of `size` bytes. Its masking key is zero, so that the payload goes as it is.
pub fn message(size: usize) -> Vec<u8> {
    let mut frame = vec![BINARY];
    push_length(&mut frame, size, MASKED);
    frame.extend([0; 4]);
    frame.extend((0..size).map(|i| i as u8));
    frame
}

/// What the app sends back for `message(size)`.
pub fn echoed(size: usize) -> Vec<u8> {
    let mut frame = vec![BINARY];
    push_length(&mut frame, size, 0);
    frame.extend((0..size).map(|i| i as u8));
    frame
}

/// A client's Close 1000.
pub fn close() -> Vec<u8> {
    vec![CLOSE, MASKED | 2, 0, 0, 0, 0, 0x03, 0xe8]
}

fn push_length(frame: &mut Vec<u8>, size: usize, mask: u8) {
    if size < 126 {
        frame.push(mask | size as u8);
    } else if let Ok(short) = u16::try_from(size) {
        frame.push(mask | 126);
        frame.extend(short.to_be_bytes());
    } else {
        frame.push(mask | 127);
        frame.extend((size as u64).to_be_bytes());
    }
}

/// One connection with what was read past the last exchange. The buffer is reused and starts small: thousands wait idle.
pub struct Connection {
    pub stream: Link,
    pub buffer: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::on(Link::Tcp(stream)))
    }

    pub fn on(stream: Link) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(512),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads on until `length` bytes are there.
    pub async fn fill(&mut self, length: usize) -> io::Result<()> {
        self.buffer.reserve(length.saturating_sub(self.buffer.len()) + 1);
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads a head whole and returns its length with the empty line, or None if the peer ended before its first byte.
    pub async fn head(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(Some(end + 4));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    pub fn consume(&mut self, length: usize) {
        self.buffer.drain(..length);
    }
}

/// The value of a header, by its name in any case.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&b| b == b'\n').find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}
