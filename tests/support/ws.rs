//! WebSocket handshakes and frames by hand, and a client that is not ours.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::head::Head;
use super::link::Link;
use super::wire::Wire;
use super::within;

/// The key of RFC 6455 section 1.3, and the Accept that belongs to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A client's handshake, with more header lines (each with its CRLF) if wanted.
pub fn handshake(host: &str, target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// An app's 101 to that request.
pub fn accepted(request: &Head) -> String {
    let key = request.get("sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Opens a socket by hand: what follows the 101 is the test's.
pub async fn open(to: SocketAddr, host: &str, target: &str) -> Wire {
    let mut wire = Wire::connect(to).await;
    wire.send(handshake(host, target, "")).await;
    let head = wire.head().await;
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.get("sec-websocket-accept"), Some(ACCEPT));
    wire
}

/// tokio-tungstenite's client.
pub async fn connect(to: SocketAddr, host: &str, target: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(to).await.expect("connects");
    let opened = tokio_tungstenite::client_async(format!("ws://{host}{target}"), stream);
    within("open a socket", opened).await.expect("opens a socket").0
}

/// tokio-tungstenite's client on a socket that was opened by hand.
pub async fn client_on(socket: Wire) -> WebSocketStream<Link> {
    let (link, early) = socket.into_parts();
    WebSocketStream::from_partially_read(link, early, Role::Client, None).await
}

/// One frame on the wire (RFC 6455 section 5.2). A client's are masked.
pub fn frame(fin: bool, opcode: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(masked | length as u8),
        length @ 126..=65535 => {
            frame.push(masked | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend(mask)).unwrap_or_default();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
