//! An HTTP/2 client on a connection of its own: plain requests, and WebSockets by extended CONNECT (RFC 8441).

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::ext::Protocol;
use http::{Method, Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::head::{Head, fields};
use super::link::Http2Stream;
use super::tls::Client;
use super::wire::{Answer, Wire};
use super::within;

/// Clones share the connection.
#[derive(Clone)]
pub struct Http2 {
    send: SendRequest<Bytes>,
    scheme: &'static str,
}

impl Http2 {
    /// Over TLS: the client must offer h2, and the server take it.
    pub async fn connect(client: &Client, to: SocketAddr, name: &str) -> Self {
        let tcp = within("connect", TcpStream::connect(to)).await.expect("connects");
        Self::over(client, tcp, name).await
    }

    pub async fn over(client: &Client, tcp: TcpStream, name: &str) -> Self {
        tcp.set_nodelay(true).expect("sets TCP_NODELAY");
        let stream = client.handshake(tcp, name).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::on(stream, "https").await
    }

    /// In plaintext, by prior knowledge.
    pub async fn plain(to: SocketAddr) -> Self {
        let tcp = within("connect", TcpStream::connect(to)).await.expect("connects");
        Self::on(tcp, "http").await
    }

    async fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, scheme: &'static str) -> Self {
        let (send, connection) = within("a preface", client::handshake(stream)).await.expect("speaks h2");
        // Ends when both sides are done with it; how, the streams tell.
        tokio::spawn(connection);
        Self { send, scheme }
    }

    /// Whether the server offers extended CONNECT; known once its settings are here, so ask after a first answer.
    pub fn offers_sockets(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    pub async fn get(&self, host: &str, target: &str) -> Answer {
        self.ask(self.request(Method::GET, host, target, ""), b"").await
    }

    /// A request with more header lines (each with its CRLF).
    pub fn request(&self, method: Method, host: &str, target: &str, more: &str) -> Request<()> {
        let mut request = Request::builder().method(method).version(Version::HTTP_2);
        request = request.uri(format!("{}://{host}{target}", self.scheme));
        for (name, value) in fields(more.split("\r\n")) {
            request = request.header(name.to_ascii_lowercase(), value);
        }
        request.body(()).expect("a request")
    }

    /// The whole answer; a request with that body.
    pub async fn ask(&self, request: Request<()>, body: &[u8]) -> Answer {
        let mut send = within("a stream", self.send.clone().ready()).await.expect("is open");
        let (response, mut stream) = send.send_request(request, body.is_empty()).expect("sends");
        if !body.is_empty() {
            let body = Bytes::copy_from_slice(body);
            stream.send_data(body, true).expect("sends");
        }
        let response = within("an answer", response).await.expect("an answer");
        whole(response).await
    }

    /// Extended CONNECT with the header lines of a browser: the socket, or the refusal.
    pub async fn upgrade(&self, host: &str, target: &str, more: &str) -> Result<(Head, Wire), Answer> {
        let mut send = within("a stream", self.send.clone().ready()).await.expect("is open");
        let version = "Sec-WebSocket-Version: 13\r\n";
        let mut request = self.request(Method::CONNECT, host, target, &format!("{version}{more}"));
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let (response, stream) = send.send_request(request, false).expect("sends");
        let response = within("an answer", response).await.expect("an answer");
        if response.status() != 200 {
            return Err(whole(response).await);
        }
        let (head, receive) = parts(response);
        Ok((head, Wire::http2(Http2Stream::new(stream, receive))))
    }
}

async fn whole(response: Response<h2::RecvStream>) -> Answer {
    let (head, mut stream) = parts(response);
    let mut body = Vec::new();
    while let Some(data) = within("a body", stream.data()).await {
        let data = data.expect("a body");
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = within("trailers", stream.trailers()).await.expect("an end");
    let trailers = trailers.iter().flatten().map(field).collect();
    Answer { head, body, trailers }
}

/// The head as if it had stood on the wire of HTTP/1.1.
fn parts(response: Response<h2::RecvStream>) -> (Head, h2::RecvStream) {
    let (parts, stream) = response.into_parts();
    let mut raw = format!("HTTP/2 {}\r\n", parts.status.as_u16());
    for (name, value) in parts.headers.iter().map(field) {
        raw.push_str(&format!("{name}: {value}\r\n"));
    }
    raw.push_str("\r\n");
    (Head::parse(raw.as_bytes()), stream)
}

fn field((name, value): (&http::HeaderName, &http::HeaderValue)) -> (String, String) {
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    (name.to_string(), value)
}
