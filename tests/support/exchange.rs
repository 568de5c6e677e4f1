//! One exchange of which the test plays both sides: the client's, and the app's behind Postern.

use tokio::sync::mpsc;

use super::backend::{Backend, Visit, next};
use super::head::Head;
use super::postern::Postern;
use super::site::Site;
use super::wire::Wire;

pub const HOST: &str = "app.example.test";
pub const GET: &str = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n";

/// Postern before an app that has nothing but defaults.
pub async fn in_front_of(backend: &Backend) -> Postern {
    Postern::start(&[Site::new("app", HOST).to(backend.address)]).await
}

/// Sends a request, or its beginning, and waits until its head has reached the app over a new connection.
pub async fn exchange(
    client: &mut Wire,
    visits: &mut mpsc::Receiver<Visit>,
    request: impl AsRef<[u8]>,
) -> (Visit, Head) {
    client.send(request).await;
    let mut app = next(visits).await;
    let head = app.request_head().await;
    (app, head)
}
