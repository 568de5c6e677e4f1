//! One HTTP request to a known server: `why` asks the admin port, `try` the proxy. Bounded in time and size.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

const TIME: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 16 * 1024 * 1024;

/// `authority` is what the Host header says.
pub async fn get(address: impl ToSocketAddrs, authority: &str, target: &str) -> anyhow::Result<Response<Bytes>> {
    match timeout(TIME, exchange(address, authority, target)).await {
        Ok(answer) => answer.with_context(|| format!("no answer from {authority}")),
        Err(_) => bail!("no answer from {authority} within {TIME:?}"),
    }
}

async fn exchange(address: impl ToSocketAddrs, authority: &str, target: &str) -> anyhow::Result<Response<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "postern")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        // The error type of Limited is a box that anyhow cannot take as it is.
        let body = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(anyhow::Error::from_boxed)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            // The connection may be over before its last answer was picked up.
            ended?;
            exchange.await
        }
    }
}
