//! An app whose every byte the test decides: it records the heads that reach it and plays a script per connection.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::certs::Leaf;
use super::head::Head;
use super::wire::Wire;
use super::{eventually, tls, within, ws};

/// A listening app on loopback. Dropping it closes its listener and all its connections, as a killed process does.
pub struct Backend {
    pub address: SocketAddr,
    record: Arc<Record>,
    accepting: AbortHandle,
}

/// One connection to the app.
pub struct Visit {
    pub wire: Wire,
    record: Arc<Record>,
}

/// An upgraded connection that the test plays the app on.
pub struct Socket {
    pub request: Head,
    pub wire: Wire,
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    heads: Mutex<Vec<Head>>,
}

impl Backend {
    /// Plays the script once per connection.
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), script).await
    }

    pub async fn start_at<F, R>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(address, None, script).await
    }

    /// Plays the script once per connection over TLS whose handshake has succeeded.
    pub async fn start_tls<F, R>(leaf: &Leaf, script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let address = "127.0.0.1:0".parse().expect("an address");
        Self::start_on(address, Some(tls::acceptor(leaf)), script).await
    }

    async fn start_on<F, R>(address: SocketAddr, tls: Option<TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("binds");
        Self::serve(listener, tls, script)
    }

    /// On a socket that is bound already: nobody else can take its port in between.
    pub fn start_bound<F, R>(socket: socket2::Socket, script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        socket.listen(64).expect("listens");
        socket.set_nonblocking(true).expect("is set");
        Self::serve(
            TcpListener::from_std(socket.into()).expect("is registered"),
            None,
            script,
        )
    }

    fn serve<F, R>(listener: TcpListener, tls: Option<TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Visit) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("is bound");
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let task = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let visit = |wire| Visit {
                    wire,
                    record: Arc::clone(&shared),
                };
                match &tls {
                    None => {
                        visits.spawn(script(visit(Wire::new(stream))));
                    }
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            visits.spawn(script(visit(Wire::tls(stream))));
                        }
                    }
                }
                while visits.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            record,
            accepting: task.abort_handle(),
        }
    }

    /// Hands every connection to the test.
    pub async fn visits() -> (Self, mpsc::Receiver<Visit>) {
        let (sender, visits) = mpsc::channel(1024);
        let backend = Self::start(move |visit| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(visit).await;
            }
        })
        .await;
        (backend, visits)
    }

    /// The same bytes to every request, on connections that stay open.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut visit| {
            let answer = Arc::clone(&answer);
            async move {
                while visit.request().await.is_some() {
                    visit.wire.send(&answer).await;
                }
            }
        })
        .await
    }

    /// 200 with that text.
    pub async fn saying(text: &str) -> Self {
        Self::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ))
        .await
    }

    /// Accepts every upgrade and hands the upgraded connections to the test. A plain request gets 200.
    pub async fn sockets() -> (Self, mpsc::Receiver<Socket>) {
        let (sender, receiver) = mpsc::channel(1024);
        let backend = Self::start(move |mut visit| {
            let sender = sender.clone();
            async move {
                while let Some(request) = visit.head().await {
                    if !request.has("upgrade") {
                        visit.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                        continue;
                    }
                    visit.wire.send(ws::accepted(&request)).await;
                    let wire = visit.wire;
                    let _ = sender.send(Socket { request, wire }).await;
                    return;
                }
            }
        })
        .await;
        (backend, receiver)
    }

    /// Accepts every upgrade and sends back what comes, byte for byte, to the end.
    pub async fn echoing() -> Self {
        Self::start(|mut visit| async move {
            let Some(request) = visit.head().await else { return };
            visit.wire.send(ws::accepted(&request)).await;
            visit.wire.echo().await;
        })
        .await
    }

    /// Requests whose head has arrived.
    pub fn hits(&self) -> usize {
        self.heads().len()
    }

    pub fn heads(&self) -> Vec<Head> {
        self.record.heads.lock().expect("no test thread panicked").clone()
    }

    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// The head of the only request.
    pub async fn request(&self) -> Head {
        eventually("a request reaches the app", async || self.hits() > 0).await;
        let mut heads = self.heads();
        assert_eq!(heads.len(), 1, "one request was expected: {heads:?}");
        heads.remove(0)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Visit {
    /// The next request's head; none once the peer has ended.
    pub async fn head(&mut self) -> Option<Head> {
        let head = self.wire.try_head().await.ok()?;
        self.record
            .heads
            .lock()
            .expect("no test thread panicked")
            .push(head.clone());
        Some(head)
    }

    /// The next request's head, which must come.
    pub async fn request_head(&mut self) -> Head {
        within("a request reaches the app", self.head())
            .await
            .expect("a request")
    }

    /// The next request, its body read.
    pub async fn request(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head().await?;
        let (body, _) = self.wire.body(&head).await;
        Some((head, body))
    }
}

/// The next connection or socket that reaches the app.
pub async fn next<T>(arriving: &mut mpsc::Receiver<T>) -> T {
    within("a connection reaches the app", arriving.recv())
        .await
        .expect("the app is there")
}

/// An app that sends every body back.
pub async fn echoing_bodies() -> Backend {
    Backend::start(|mut visit| async move {
        while let Some((_, body)) = visit.request().await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            visit.wire.send([head.into_bytes(), body].concat()).await;
        }
    })
    .await
}
