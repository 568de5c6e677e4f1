//! HTTP/2 toward clients: what differs from HTTP/1.1, seen in plaintext, where every frame can be written by hand. Sockets
//! are in websocket_h2.rs, and what holds over every transport in the files of its subject.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, Version};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::backend::{Backend, Visit, echoing_bodies, next};
use crate::support::http2::Http2;
use crate::support::postern::Postern;
use crate::support::site::Site;
use crate::support::wire::{End, Wire, get};
use crate::support::{eventually, frames, noise, within, ws};

const HOST: &str = "app.example.test";
const URI: &str = "http://app.example.test/";
const MIB: usize = 1 << 20;

async fn start(backend: &Backend) -> Postern {
    Postern::start(&[Site::new("app", HOST).to(backend.address)]).await
}

/// A connection on which the test opens its streams itself.
struct Connection {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn open(postern: &Postern) -> Self {
        let tcp = TcpStream::connect(postern.http).await.expect("connects");
        let (send, connection) = within("a preface", h2::client::handshake(tcp))
            .await
            .expect("speaks h2");
        let ended = tokio::spawn(connection);
        Self { send, ended }
    }

    async fn request(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = within("a stream", self.send.clone().ready()).await.expect("is open");
        send.send_request(request, end).expect("sends")
    }

    async fn get(&mut self) -> Response<RecvStream> {
        let (response, _) = self.request(head(Method::GET, URI), true).await;
        within("an answer", response).await.expect("an answer")
    }
}

fn head(method: Method, uri: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
    request.body(()).expect("a request")
}

/// All of a body; its window is given back.
async fn whole(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within("a body", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test]
async fn request_by_prior_knowledge_reaches_the_app_as_http1() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let client = Http2::plain(postern.http).await;
    let request = client.request(Method::GET, HOST, "/path?query", "Accept: a/b\r\n");
    let answer = client.ask(request, b"").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    let request = backend.request().await;
    assert_eq!(request.line, "GET /path?query HTTP/1.1");
    assert_eq!(request.get("host"), Some(HOST));
    assert_eq!(request.get("accept"), Some("a/b"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-host"), Some(HOST));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    let id = answer.head.get("x-request-id").expect("an id");
    assert_eq!(request.get("x-request-id"), Some(id));
}

#[tokio::test]
async fn curl_speaks_it() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    let url = format!("http://{}/", postern.http);
    let curl = move || {
        Command::new("curl")
            .args([
                "--silent",
                "--http2-prior-knowledge",
                "--header",
                "Host: app.example.test",
            ])
            .args(["--write-out", " %{http_version} %{http_code}", &url])
            .output()
    };
    let output = within("curl", spawn_blocking(curl)).await.expect("no panic");
    let output = output.expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello 2 200", "{output:?}");
}

#[tokio::test]
async fn http1_is_served_on_the_same_port() {
    let backend = Backend::saying("hello").await;
    let postern = start(&backend).await;
    assert_eq!(Http2::plain(postern.http).await.get(HOST, "/").await.text(), "hello");
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}

#[tokio::test]
async fn switched_off_the_preface_is_no_request() {
    let backend = Backend::saying("hello").await;
    let site = Site::new("app", HOST).to(backend.address);
    let postern = Postern::start_with(&[site], &["--http2", "false"]).await;
    let mut wire = Wire::connect(postern.http).await;
    wire.send(frames::PREFACE).await;
    let (bytes, _) = wire.rest().await;
    assert!(!bytes.starts_with(&[0, 0]), "settings in {bytes:?}");
    assert_eq!(get(postern.http, HOST, "/").await.text(), "hello");
}
