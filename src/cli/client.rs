//! One HTTP request to a known server: `why` asks the admin port, `try` the proxy. Bounded in time and size.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

const TIME: Duration = Duration::from_secs(10);
const MAX_BODY: usize = 16 * 1024 * 1024;

/// `authority` is what the Host header says.
pub async fn get(address: impl Display, authority: &str, target: &str) -> anyhow::Result<Response<Bytes>> {
    match timeout(TIME, exchange(address, authority, target)).await {
        Ok(answer) => answer.with_context(|| format!("no answer from {authority}")),
        Err(_) => bail!("no answer from {authority} within {TIME:?}"),
    }
}

async fn exchange(address: impl Display, authority: &str, target: &str) -> anyhow::Result<Response<Bytes>> {
    let request = Request::get(format!("http://{address}{target}"))
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "postern")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await?.into_parts();
    // The error type of Limited is a box that anyhow cannot take as it is.
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
