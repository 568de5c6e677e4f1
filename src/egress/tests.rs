use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    body: 100,
};

/// Answers every request of every connection with the same bytes, and counts connections and requests.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (server.connections.clone(), server.requests.clone());
        let answer: Arc<[u8]> = answer.into().into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone(), requests.clone()));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<[u8]>, requests: Arc<AtomicUsize>) {
    let mut read = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(count) = stream.read(&mut chunk).await
        && count > 0
    {
        read.extend_from_slice(&chunk[..count]);
        if read.ends_with(b"\r\n\r\n") {
            read.clear();
            requests.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

fn egress(allowed: &[&str]) -> Egress {
    let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
    Egress::new(BTreeSet::new(), allowed)
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

#[tokio::test]
async fn what_is_allowed_answers_and_the_connection_is_kept_for_the_next_request() {
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkeys").await;
    let egress = egress(&["127.0.0.0/8"]);
    for _ in 0..3 {
        let answer = egress
            .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().unwrap(), "keys");
    }
    assert_eq!((server.connections(), server.requests.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn loopback_is_refused_by_default_however_it_is_written() {
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.address.port();
    let egress = egress(&[]);
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ] {
        let failure = egress
            .send(
                Reach::Tenant(&"acme".into()),
                get(&format!("http://{host}:{port}/")),
                LIMITS,
            )
            .await
            .unwrap_err();
        assert!(
            matches!(failure, Failure::Refused(_) | Failure::Unresolved),
            "{host}: {failure:?}"
        );
    }
    let failure = egress
        .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::Refused(server.address));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_the_operator_allows_later_is_allowed_from_then_on() {
    let server = Server::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let egress = egress(&[]);
    assert!(
        egress
            .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
            .await
            .is_err()
    );
    egress.allow(&["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()]);
    assert!(
        egress
            .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_endpoint_that_compile_allowed_is_not_checked_again() {
    let server = Server::start("HTTP/1.1 204 No Content\r\n\r\n").await;
    let answer = egress(&[]).send(Reach::Operator, get(&server.url()), LIMITS).await;
    assert_eq!(answer.unwrap().status(), 204);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let target = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let location = target.url();
    let server = Server::start(format!(
        "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let answer = egress(&["127.0.0.0/8"])
        .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), target.connections()), (302, 0));
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let limits = |body| Limits { body, ..LIMITS };
    let long = "x".repeat(100);
    let sized = Server::start(format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{long}")).await;
    let chunked = Server::start(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{long}\r\n0\r\n\r\n"
    ))
    .await;
    let egress = egress(&["127.0.0.0/8"]);
    for server in [sized, chunked] {
        let body = async |limit| {
            egress
                .send(Reach::Tenant(&"acme".into()), get(&server.url()), limits(limit))
                .await
                .unwrap()
                .into_body()
        };
        assert!(body(100).await.is_ok());
        assert_eq!(body(99).await, Err(Failure::TooLong(99)));
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let server = Server::start(format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_HEAD * 2))).await;
    let failure = egress(&["127.0.0.0/8"])
        .send(Reach::Tenant(&"acme".into()), get(&server.url()), LIMITS)
        .await
        .unwrap_err();
    assert!(matches!(failure, Failure::Broken(_)), "{failure:?}");
}

#[tokio::test]
async fn what_does_not_come_in_time_is_not_waited_for() {
    let silent = Server::start("").await;
    let unfinished = Server::start("HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nx").await;
    let egress = egress(&["127.0.0.0/8"]);
    let limits = Limits {
        time: Duration::from_millis(50),
        ..LIMITS
    };
    let failure = egress
        .send(Reach::Tenant(&"acme".into()), get(&silent.url()), limits)
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::TimedOut);
    // What was said until then stays said.
    let answer = egress
        .send(Reach::Tenant(&"acme".into()), get(&unfinished.url()), limits)
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.into_body()),
        (401, Err(Failure::TimedOut))
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_from_what_is_refused() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let egress = egress(&["127.0.0.0/8"]);
    let failure = egress
        .send(Reach::Tenant(&"acme".into()), get(&format!("http://{closed}/")), LIMITS)
        .await
        .unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure:?}");
    let failure = egress
        .send(Reach::Tenant(&"acme".into()), get("ftp://127.0.0.1/"), LIMITS)
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::Url);
    let failure = egress
        .send(Reach::Tenant(&"acme".into()), get("http://nowhere.invalid/"), LIMITS)
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::Unresolved);
}

#[tokio::test]
async fn https_is_no_plaintext_and_no_certificate_of_an_unknown_authority() {
    let egress = egress(&["127.0.0.0/8"]);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure_address = secure.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = secure.accept().await.unwrap();
        let _ = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    });
    for port in [plain_address.port(), secure_address.port()] {
        let url = format!("https://localhost:{port}/");
        let failure = egress
            .send(Reach::Tenant(&"acme".into()), get(&url), LIMITS)
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::Tls(_)), "{failure:?}");
    }
}
