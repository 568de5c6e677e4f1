//! `postern echo`: the sample app. A WebSocket message gets `echo: <message>`, a GET gets the head of the request as
//! text, a request with another method gets its body back.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::signals::Signals;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    address: SocketAddr,
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// After a failed accept, lest running out of descriptors spins.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until a signal comes. Fails if the address cannot be listened on.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(args.address)
        .await
        .with_context(|| format!("cannot listen on {}", args.address))?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    tokio::select! {
        never = serve(listener) => match never {},
        _ = signals.next() => Ok(ExitCode::SUCCESS),
    }
}

/// Serves until it is dropped. Open sockets last as long as the runtime.
pub async fn serve(listener: TcpListener) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        connections.spawn(async move {
            // A connection that fails is its client's matter.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(|request| async { answer(request) }))
                .with_upgrades()
                .await;
        });
    }
}

fn answer(mut request: Request<Incoming>) -> Result<Answer, http::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        return upgrade(&mut request);
    }
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return text(StatusCode::OK, describe(&request));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .body(request.into_body().boxed())
}

fn upgrade(request: &mut Request<Incoming>) -> Result<Answer, http::Error> {
    let upgraded = hyper::upgrade::on(&mut *request);
    let head = match create_response(&without_body(request)) {
        Ok(response) => response.into_parts().0,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE))
                .max_frame_size(Some(MAX_MESSAGE));
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
            // A socket that fails is its client's matter.
            let _ = echo(socket).await;
        }
    });
    Ok(Response::from_parts(head, empty()))
}

async fn echo(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => socket.send(format!("echo: {text}").into()).await?,
            Message::Binary(bytes) => socket.send([b"echo: ", &*bytes].concat().into()).await?,
            // Pings and the Close are answered by the library.
            _ => {}
        }
    }
    Ok(())
}

fn without_body(request: &Request<Incoming>) -> Request<()> {
    let mut bare = Request::new(());
    *bare.method_mut() = request.method().clone();
    *bare.uri_mut() = request.uri().clone();
    *bare.version_mut() = request.version();
    *bare.headers_mut() = request.headers().clone();
    bare
}

/// The request's head as it arrived.
fn describe(request: &Request<Incoming>) -> String {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

fn text(status: StatusCode, body: String) -> Result<Answer, http::Error> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(body)
}

fn empty() -> BoxBody<Bytes, hyper::Error> {
    Full::default().map_err(|never| match never {}).boxed()
}
